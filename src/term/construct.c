/* Containers that a script makes: tuple, list, map, amap, improper; and ipairs over them. */
#include <lauxlib.h>
#include <limits.h>

#include "term/private.h"

/* {==== Tuples and lists ================================================================== */

/* tuple(...) */
static int new_tuple(lua_State *L) {
    term_tuple(L, lua_gettop(L));
    return 1;
}

/* Marks the bare table at 1 and returns it. [-0, +1, e] */
static int mark_bare(lua_State *L, enum term_kind kind) {
    if (lua_getmetatable(L, 1)) {
        return luaL_argerror(L, 1, "the table has a metatable of its own");
    }
    lua_settop(L, 1);
    term_mark(L, term_state(L), kind, 0);
    return 1;
}

/* A list that grows, with the elements of the tuple or list at 1. [-0, +1, m] */
static int copy_to_list(lua_State *L, lua_Integer length) {
    lua_settop(L, 1);
    lua_createtable(L, length > INT_MAX ? INT_MAX : (int)length, 0);
    for (lua_Integer i = 1; i <= length; i++) {
        if (lua_rawgeti(L, 1, i) == LUA_TNIL) {
            lua_pop(L, 1);
            term_push_null(L);
        }
        lua_rawseti(L, 2, i);
    }
    term_mark(L, term_state(L), KIND_LIST, 0);
    return 1;
}

/* list(table): the table marked as a list, or a copy of a list or tuple. */
static int new_list(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    switch (term_kind(L, 1)) {
    case KIND_NONE:
        return mark_bare(L, KIND_LIST);
    case KIND_LIST:
        return copy_to_list(L, (lua_Integer)lua_rawlen(L, 1));
    case KIND_FIXED:
    case KIND_TUPLE:
        return copy_to_list(L, term_length(L, 1));
    default:
        return luaL_argerror(
            L, 1, lua_pushfstring(L, "cannot make a list of this %s", term_type_name(L, 1)));
    }
}

/* improper(table, tail) */
static int new_improper(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    enum term_kind kind = term_kind(L, 1);
    bool fixed = kind == KIND_FIXED || kind == KIND_TUPLE;
    lua_Integer length = fixed ? term_length(L, 1) : (lua_Integer)lua_rawlen(L, 1);
    enum term_type tail = term_type(L, 2);
    luaL_argcheck(L, length > 0, 1, "an improper list has an element at least");
    luaL_argcheck(L, tail != TERM_LIST && tail != TERM_TABLE, 2,
                  "the tail of an improper list is no list");
    lua_settop(L, 2);
    lua_createtable(L, length > INT_MAX ? INT_MAX : (int)length, 1);
    for (lua_Integer i = 1; i <= length; i++) {
        lua_rawgeti(L, 1, i);
        lua_rawseti(L, 3, i);
    }
    lua_pushliteral(L, "tail");
    lua_pushvalue(L, 2);
    lua_rawset(L, 3);
    term_mark(L, term_state(L), KIND_IMPROPER, length);
    return 1;
}

/* }==== */

/* {==== Maps ============================================================================== */

/* Checks that the argument 1 is a bare table or a map. [-0, +0, e] */
static enum term_kind check_map(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    enum term_kind kind = term_kind(L, 1);
    if (kind != KIND_NONE && kind != KIND_MAP && kind != KIND_EXOTIC) {
        luaL_argerror(L, 1,
                      lua_pushfstring(L, "cannot make a map of this %s", term_type_name(L, 1)));
    }
    return kind;
}

/* map(table): the table marked as a map. */
static int new_map(lua_State *L) {
    if (check_map(L) == KIND_NONE) {
        return mark_bare(L, KIND_MAP);
    }
    lua_settop(L, 1);
    return 1;
}

/* Turns the key at `idx` into the atom of that name, if it is a string. [-0, +0, e] */
static void atom_key(lua_State *L, int idx) {
    size_t len;
    if (lua_type(L, idx) != LUA_TSTRING) {
        return;
    }
    const char *name = lua_tolstring(L, idx, &len);
    term_make_atom(L, span_of(name, len));
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        term_push_null(L);
    }
    lua_replace(L, idx);
}

/* amap(table): a new map with the entries of the table, whose string keys become atoms. */
static int new_amap(lua_State *L) {
    enum { TABLE = 1, NEXT, KEY, MAP, NEW_KEY };
    struct term_state *state = term_state(L);
    enum map_extras extras = MAP_ORDINARY;
    check_map(L);
    lua_settop(L, TABLE);
    term_map_push_next(L, TABLE);
    lua_pushnil(L);
    lua_newtable(L);
    term_mark(L, state, KIND_MAP, 0);
    for (;;) {
        lua_pushvalue(L, NEXT);
        lua_pushvalue(L, TABLE);
        lua_pushvalue(L, KEY);
        lua_call(L, 2, 2); /* key, value */
        if (lua_isnil(L, NEW_KEY)) {
            lua_settop(L, MAP);
            return 1;
        }
        lua_copy(L, NEW_KEY, KEY);
        atom_key(L, NEW_KEY);
        if (!term_map_store(L, state, &extras)) {
            return luaL_error(L, "the table has a key both as a string and as an atom: %s",
                              term_tostring(L, KEY, NULL));
        }
    }
}

/* }==== */

/* {==== ipairs ============================================================================ */

/* The iterator of Lua's own ipairs: it wraps around, as Lua's integers do. [-0, +1 or 2, e] */
static int plain_next(lua_State *L) {
    lua_Integer i = (lua_Integer)((lua_Unsigned)luaL_checkinteger(L, 2) + 1U);
    lua_pushinteger(L, i);
    return lua_geti(L, 1, i) == LUA_TNIL ? 1 : 2;
}

/* ipairs(value): like Lua's, yet to the end of what has a fixed length. */
static int ipairs(lua_State *L) {
    luaL_checkany(L, 1);
    enum term_kind kind = lua_istable(L, 1) ? term_kind(L, 1) : KIND_NONE;
    bool fixed = kind == KIND_FIXED || kind == KIND_TUPLE || kind == KIND_IMPROPER;
    lua_pushcfunction(L, fixed ? term_fixed_next : plain_next);
    lua_pushvalue(L, 1);
    lua_pushinteger(L, 0);
    return 3;
}

/* }==== */

void term_construct_open(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"tuple", new_tuple}, {"list", new_list},         {"map", new_map},  {"amap", new_amap},
        {"ipairs", ipairs},   {"improper", new_improper}, {"get", term_get}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
