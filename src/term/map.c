/* Maps: m.name finds "name" and :name; nil values and integral float keys are kept.
 *
 * An ordinary map is a table with the shared metatable. One that arrives with what a Lua table
 * can't hold is exotic: it has another metatable, where MT_NILS is the set of keys whose value is
 * nil, and MT_FLOATS the entries of float keys that Lua would take for integers, under the float's
 * bits, with erl.null for nil.
 *
 * Much of what arrives is alike: maps with the same few nils, as in decoded JSON. They share a
 * metatable, their shape: its MT_SHAPES leads from a key to the shape with that nil more, and its
 * MT_LENGTH counts the nils. Shapes are learned, one for a map, so that a peer that sends ever
 * other nils does not have many made. Any other exotic map has a metatable of its own, without
 * MT_SHAPES, and so has one from the moment on that it is changed. MT_PARENT is the shape that a
 * metatable was made from, which lasts as long though shapes are held weakly. */
#include <lauxlib.h>

#include "term/private.h"

enum { SHAPE_NILS = 8 /* of one shape at most: making one copies those of the one before */ };

/* {==== Float keys ======================================================================== */

bool term_folds(lua_State *L, int idx, lua_Integer *bits) {
    int integral = 0;
    if (lua_type(L, idx) != LUA_TNUMBER || lua_isinteger(L, idx)) {
        return false;
    }
    lua_Number number = lua_tonumber(L, idx);
    lua_tointegerx(L, idx, &integral);
    memcpy(bits, &number, sizeof *bits);
    return integral;
}

lua_Number term_float_of_bits(lua_Integer bits) {
    lua_Number number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

/* }==== */

/* {==== Which key is meant ================================================================ */

/* Pushes a table of the extras of the map at `idx`, to read. False, and nothing pushed, for an
 * ordinary map. [-0, +1, -] */
static bool push_extra(lua_State *L, int idx, int which) {
    if (!lua_getmetatable(L, idx)) {
        return false;
    }
    lua_rawgeti(L, -1, which);
    lua_remove(L, -2);
    if (!lua_istable(L, -1)) {
        lua_pop(L, 1);
        return false;
    }
    return true;
}

/* Whether the map at 1 has the key on the top with a nil value. [-0, +0, -] */
static bool is_nil(lua_State *L) {
    if (!push_extra(L, 1, MT_NILS)) {
        return false;
    }
    lua_pushvalue(L, -2);
    bool found = lua_rawget(L, -2) != LUA_TNIL;
    lua_pop(L, 2); /* nils, value */
    return found;
}

/* Whether the map at 1 has the key on the top, with a nil value too. [-0, +0, -] */
static bool has_key(lua_State *L) {
    lua_pushvalue(L, -1);
    bool found = lua_rawget(L, 1) != LUA_TNIL;
    lua_pop(L, 1);
    return found || is_nil(L);
}

/* Replaces the key at 2 by the one that it stands for: erl.null for nil, the atom for a string that
 * isn't there while the atom is. [-0, +0, -] */
static void resolve_key(lua_State *L) {
    int type = lua_type(L, 2);
    if (type == LUA_TNIL) {
        term_push_null(L);
        lua_replace(L, 2);
    } else if (type == LUA_TSTRING) {
        size_t len;
        const char *name = lua_tolstring(L, 2, &len);
        uint32_t number = term_atom_find(term_atoms_of(L), span_of(name, len));
        if (number == 0) {
            return;
        }
        lua_pushvalue(L, 2);
        bool found = has_key(L);
        lua_pop(L, 1);
        term_push_atom_key(L, number);
        if (!found && has_key(L)) {
            lua_replace(L, 2);
        } else {
            lua_pop(L, 1);
        }
    }
}

/* Whether the map at 1 has a float key at 2 among its extras; pushes their table and gives the
 * key's bits then. [-0, +1, -] */
static bool find_float(lua_State *L, lua_Integer *bits) {
    if (!term_folds(L, 2, bits) || !push_extra(L, 1, MT_FLOATS)) {
        return false;
    }
    bool found = lua_rawgeti(L, -1, *bits) != LUA_TNIL;
    lua_pop(L, found ? 1 : 2);
    return found;
}

/* }==== */

/* {==== Reading and assigning ============================================================= */

/* Turns erl.null on the top into nil. [-1, +1, -] */
static void null_to_nil(lua_State *L) {
    if (lua_islightuserdata(L, -1) && lua_touserdata(L, -1) == NULL) {
        lua_pop(L, 1);
        lua_pushnil(L);
    }
}

/* __index: the key isn't there as it is. [-0, +1, -] */
static int map_index(lua_State *L) {
    lua_Integer bits;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    if (find_float(L, &bits)) {
        lua_rawgeti(L, -1, bits);
        null_to_nil(L);
        return 1;
    }
    resolve_key(L);
    lua_rawget(L, 1);
    return 1;
}

/* Raises when the map at 1 is a struct: it takes no new string key. [-0, +0, e] */
static void check_no_struct(lua_State *L) {
    term_push_atom_key(L, ATOM_STRUCT);
    if (lua_rawget(L, 1) == LUA_TNIL) {
        lua_pop(L, 1);
        return;
    }
    char key[64];
    char name[128];
    term_inspect(L, 2, key, sizeof key);
    term_inspect(L, -1, name, sizeof name);
    luaL_error(L, "struct %s has no field %s", name, key);
}

/* m[key] = value for a float key among the extras. [-1, +0, m] */
static int assign_float(lua_State *L, lua_Integer bits) {
    lua_pushvalue(L, 3);
    lua_rawseti(L, -2, bits);
    return 0;
}

static void push_own_extra(lua_State *L, int idx, int which);

/* __newindex: the key isn't there as it is. [-0, +0, e] */
static int map_newindex(lua_State *L) {
    lua_Integer bits;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 3);
    if (find_float(L, &bits)) {
        return assign_float(L, bits);
    }
    resolve_key(L);
    lua_pushvalue(L, 2);
    if (lua_type(L, 2) == LUA_TSTRING && !lua_isnil(L, 3) && !has_key(L)) {
        check_no_struct(L);
    }
    if (is_nil(L)) {
        push_own_extra(L, 1, MT_NILS);
        lua_pushvalue(L, 2);
        lua_pushnil(L);
        lua_rawset(L, -3); /* it has a value now, or is deleted */
    }
    lua_settop(L, 3);
    lua_rawset(L, 1);
    return 0;
}

/* }==== */

/* {==== Walking an exotic map ============================================================= */

/* One step over the table on the top, whose key is at 2: leaves its next key and value, or nothing
 * at the end. [-1, +2, e] or [-1, +0, e] */
static bool step(lua_State *L) {
    lua_pushvalue(L, 2);
    if (!lua_next(L, -2)) {
        lua_pop(L, 1);
        return false;
    }
    lua_remove(L, -3); /* key, value */
    return true;
}

/* Steps to a key whose value is nil: over the set that there was, since the map has another one as
 * soon as it is changed. [-0, +1, e] */
static bool next_nil(lua_State *L) {
    for (;;) {
        lua_pushvalue(L, lua_upvalueindex(2));
        if (!step(L)) {
            return false;
        }
        lua_pop(L, 1);
        lua_pushvalue(L, -1);
        bool stale = lua_rawget(L, 1) != LUA_TNIL;
        lua_pop(L, 1);
        if (!stale && is_nil(L)) {
            return true;
        }
        lua_replace(L, 2);
    }
}

/* Steps to a float key. [-0, +2, e] */
static bool next_float(lua_State *L) {
    lua_Integer bits;
    if (term_folds(L, 2, &bits)) {
        lua_pushinteger(L, bits);
        lua_replace(L, 2);
    }
    if (!push_extra(L, 1, MT_FLOATS) || !step(L)) {
        return false;
    }
    lua_pushnumber(L, term_float_of_bits(lua_tointeger(L, -2)));
    lua_replace(L, -3);
    null_to_nil(L);
    return true;
}

/* Goes on with the next part: the extras after the table itself. [-0, +0, m] */
static void next_part(lua_State *L, lua_Integer part) {
    lua_pushinteger(L, part);
    lua_replace(L, lua_upvalueindex(1));
    if (!push_extra(L, 1, MT_NILS)) {
        lua_newtable(L);
    }
    lua_replace(L, lua_upvalueindex(2));
    lua_pushnil(L);
    lua_replace(L, 2);
}

/* The iterator; its upvalues are the part that it is in, and the set of nils. [-0, +2, e] */
static int exotic_next(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    if (lua_tointeger(L, lua_upvalueindex(1)) == 0) {
        lua_pushvalue(L, 2);
        if (lua_next(L, 1)) {
            return 2;
        }
        next_part(L, MT_NILS);
    }
    if (lua_tointeger(L, lua_upvalueindex(1)) == MT_NILS) {
        if (next_nil(L)) {
            return 1;
        }
        next_part(L, MT_FLOATS);
    }
    if (next_float(L)) {
        return 2;
    }
    lua_pushnil(L);
    return 1;
}

/* The iterator over what has no extras. [-0, +2, e] */
static int plain_next(lua_State *L) {
    lua_settop(L, 2);
    if (lua_next(L, 1)) {
        return 2;
    }
    lua_pushnil(L);
    return 1;
}

void term_map_push_next(lua_State *L, int idx) {
    if (term_kind(L, idx) == KIND_EXOTIC) {
        lua_pushinteger(L, 0);
        lua_pushnil(L);
        lua_pushcclosure(L, exotic_next, 2);
    } else {
        lua_pushcfunction(L, plain_next);
    }
}

/* [-0, +3, m] */
static int exotic_pairs(lua_State *L) {
    term_map_push_next(L, 1);
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}

/* }==== */

/* {==== Metatables ======================================================================== */

static const luaL_Reg methods[] = {{"__index", map_index},
                                   {"__newindex", map_newindex},
                                   {"__tostring", term_inspect_tostring},
                                   {NULL, NULL}};

/* Pushes a metatable for exotic maps, with the nils of the one at `from` (0: none), and gives their
 * number. [-0, +1, m] */
static lua_Integer new_exotic(lua_State *L, int from) {
    lua_Integer count = 0;
    term_new_metatable(L, KIND_EXOTIC);
    luaL_setfuncs(L, methods, 0);
    lua_pushcfunction(L, exotic_pairs);
    lua_setfield(L, -2, "__pairs");
    lua_newtable(L);
    lua_rawseti(L, -2, MT_FLOATS);
    lua_newtable(L);
    if (from != 0) {
        lua_rawgeti(L, from, MT_NILS);
        lua_pushnil(L);
        for (; lua_next(L, -2); count++) {
            lua_pushvalue(L, -2);
            lua_insert(L, -2);
            lua_rawset(L, -5); /* metatable, nils, old nils, key */
        }
        lua_pop(L, 1);
    }
    lua_rawseti(L, -2, MT_NILS);
    return count;
}

/* Whether the map at `idx` is exotic by a metatable of its own, which is then left on the stack; a
 * shape is left there, too, or nil. [-0, +1, -] */
static bool push_own(lua_State *L, int idx) {
    if (term_kind(L, idx) != KIND_EXOTIC) {
        lua_pushnil(L);
        return false;
    }
    lua_getmetatable(L, idx);
    bool is_shape = lua_rawgeti(L, -1, MT_SHAPES) != LUA_TNIL;
    lua_pop(L, 1);
    return !is_shape;
}

/* Gives the map at `idx` a metatable of its own, if it has none yet, and pushes the table MT_NILS
 * or MT_FLOATS of that, to change. [-0, +1, m] */
static void push_own_extra(lua_State *L, int idx, int which) {
    int top = lua_gettop(L);
    idx = lua_absindex(L, idx);
    if (!push_own(L, idx)) {
        new_exotic(L, lua_isnil(L, -1) ? 0 : top + 1);
        if (push_own(L, idx)) {
            lua_replace(L, -2); /* a finalizer has changed the map meanwhile */
        } else {
            lua_pop(L, 1);
            lua_pushvalue(L, top + 1);
            lua_rawseti(L, -2, MT_PARENT); /* for those that are alike */
            lua_pushvalue(L, -1);
            lua_setmetatable(L, idx);
        }
    }
    lua_rawgeti(L, -1, which);
    lua_replace(L, top + 1);
    lua_settop(L, top + 1);
}

/* }==== */

/* {==== Storing an entry ================================================================== */

/* Whether the table at `idx` has the key at `key`, both counted from the top. [-0, +0, -] */
static bool table_has(lua_State *L, int idx, int key) {
    lua_pushvalue(L, key);
    bool found = lua_rawget(L, idx - 1) != LUA_TNIL;
    lua_pop(L, 1);
    return found;
}

/* Whether the map on the stack (map, key, value) has the key already. [-0, +0, -] */
static bool is_double(lua_State *L, bool is_exotic) {
    bool found = table_has(L, -3, -2);
    if (!found && is_exotic && push_extra(L, -3, MT_NILS)) {
        found = table_has(L, -1, -3);
        lua_pop(L, 1);
    }
    return found;
}

/* Stores what a table can't hold among the map's own extras; false when it is there already.
 * [-2, +0, m] */
static bool store_extra(lua_State *L, int which) {
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        term_push_null(L);
    }
    push_own_extra(L, -3, which);
    lua_insert(L, -3); /* map, extras, key, value */
    bool found = table_has(L, -3, -2);
    lua_rawset(L, -3);
    lua_pop(L, 1);
    return !found;
}

/* Pushes what leads from the shape of the map on the stack (map, key, value) to those with one nil
 * more, below it its metatable. False, with nothing pushed, when it has no shape, or none is to be
 * made of so many nils. [-0, +2, -] */
static bool push_shapes(lua_State *L, const struct term_state *state, enum map_extras extras) {
    if (extras == MAP_ORDINARY) {
        lua_pushnil(L);
        lua_rawgeti(L, LUA_REGISTRYINDEX, state->shapes);
        return true;
    }
    if (push_own(L, -3)) {
        lua_pop(L, 1);
        return false;
    }
    lua_rawgeti(L, -1, MT_LENGTH);
    if (lua_tointeger(L, -1) >= SHAPE_NILS) {
        lua_pop(L, 2);
        return false;
    }
    lua_pop(L, 1);
    lua_rawgeti(L, -1, MT_SHAPES);
    return true;
}

/* Stack: map, key, value, metatable, shapes. Pushes a new shape with the nil of that key more, and
 * keeps it among the shapes. [-0, +1, m] */
static void new_shape(lua_State *L, const struct term_state *state) {
    int shapes = lua_gettop(L);
    lua_Integer count = new_exotic(L, lua_isnil(L, -2) ? 0 : shapes - 1);
    lua_pushinteger(L, count + 1);
    lua_rawseti(L, -2, MT_LENGTH);
    term_push_weak(L, state);
    lua_rawseti(L, -2, MT_SHAPES);
    lua_pushvalue(L, shapes - 1);
    lua_rawseti(L, -2, MT_PARENT);
    lua_rawgeti(L, -1, MT_NILS);
    lua_pushvalue(L, shapes - 3);
    lua_pushboolean(L, true);
    lua_rawset(L, -3);
    lua_pop(L, 1);
    lua_pushvalue(L, shapes - 3);
    lua_pushvalue(L, -2);
    lua_rawset(L, shapes);
}

/* Stores a nil: the map gets the shape that has it, or has it among its own extras. [-2, +0, m] */
static bool store_nil(lua_State *L, const struct term_state *state, enum map_extras *extras) {
    enum map_extras had = *extras;
    *extras = had == MAP_ORDINARY ? MAP_EXOTIC : had;
    if (had == MAP_NOVEL || !push_shapes(L, state, had)) {
        return store_extra(L, MT_NILS);
    }
    lua_pushvalue(L, -4);
    if (lua_rawget(L, -2) == LUA_TNIL) {
        lua_pop(L, 1);
        new_shape(L, state);
        *extras = MAP_NOVEL;
    }
    lua_setmetatable(L, -6); /* map, key, value, metatable, shapes */
    lua_pop(L, 4);
    return true;
}

bool term_map_store(lua_State *L, struct term_state *state, enum map_extras *extras) {
    lua_Integer bits;
    if (term_folds(L, -2, &bits)) {
        lua_pushinteger(L, bits);
        lua_replace(L, -3); /* map, bits, value */
        *extras = *extras == MAP_ORDINARY ? MAP_EXOTIC : *extras;
        return store_extra(L, MT_FLOATS);
    }
    if (is_double(L, *extras != MAP_ORDINARY)) {
        lua_pop(L, 2);
        return false;
    }
    if (lua_isnil(L, -1)) {
        return store_nil(L, state, extras);
    }
    lua_rawset(L, -3);
    return true;
}

/* }==== */

void term_map_open(lua_State *L, struct term_state *state) {
    term_new_metatable(L, KIND_MAP);
    luaL_setfuncs(L, methods, 0);
    state->metatable[KIND_MAP] = luaL_ref(L, LUA_REGISTRYINDEX);
}
