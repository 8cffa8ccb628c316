/* Kinds of containers by their metatables, and the metamethods of those with a fixed length. */
#include <lauxlib.h>

#include "term/private.h"

static const char markers[KIND_COUNT]; /* their addresses tell the kinds */

static const char *const names[KIND_COUNT] = {
    [KIND_LIST] = "list",   [KIND_FIXED] = "list", [KIND_IMPROPER] = "improper",
    [KIND_TUPLE] = "tuple", [KIND_MAP] = "map",    [KIND_EXOTIC] = "map",
    [KIND_PID] = "pid",     [KIND_PORT] = "port",  [KIND_REF] = "reference",
    [KIND_FUN] = "fun",     [KIND_BITS] = "bits",
};

/* {==== Kind and length =================================================================== */

enum term_kind term_kind(lua_State *L, int idx) {
    if (!lua_getmetatable(L, idx)) {
        return KIND_NONE;
    }
    lua_rawgeti(L, -1, MT_KIND);
    uintptr_t marker = (uintptr_t)lua_touserdata(L, -1);
    uintptr_t first = (uintptr_t)markers;
    lua_pop(L, 2);
    return marker - first < KIND_COUNT ? (enum term_kind)(marker - first) : KIND_NONE;
}

lua_Integer term_length(lua_State *L, int idx) {
    lua_getmetatable(L, idx);
    lua_rawgeti(L, -1, MT_LENGTH);
    lua_Integer length = lua_tointeger(L, -1);
    lua_pop(L, 2);
    return length;
}

static bool has_fixed_length(enum term_kind kind) {
    return kind == KIND_TUPLE || kind == KIND_FIXED || kind == KIND_IMPROPER;
}

/* The length of the argument 1 of a metamethod. [-0, +0, e] */
static lua_Integer check_length(lua_State *L) {
    luaL_argcheck(L, has_fixed_length(term_kind(L, 1)), 1, "tuple expected");
    return term_length(L, 1);
}

/* }==== */

/* {==== Metamethods of a fixed length ===================================================== */

/* [-0, +1, e] */
static int fixed_len(lua_State *L) {
    lua_pushinteger(L, check_length(L));
    return 1;
}

/* Raises: there is no element of that key. [-0, +0, e] */
static int no_such_element(lua_State *L, enum term_kind kind, lua_Integer length) {
    if (kind == KIND_FIXED) {
        return luaL_error(L,
                          "a list that arrived with a nil in it keeps its %I elements: erl.list(l) "
                          "makes one that grows",
                          (LUAI_UACINT)length);
    }
    const char *key = term_tostring(L, 2, NULL);
    return luaL_error(L, "%s of %I elements has no element %s",
                      kind == KIND_TUPLE ? "a tuple" : "an improper list", (LUAI_UACINT)length,
                      key);
}

/* Fills a hole. [-0, +0, e] */
static int fixed_newindex(lua_State *L) {
    lua_Integer length = check_length(L);
    enum term_kind kind = term_kind(L, 1);
    int is_integer = 0;
    lua_Integer i = lua_type(L, 2) == LUA_TNUMBER ? lua_tointegerx(L, 2, &is_integer) : 0;
    bool is_tail = kind == KIND_IMPROPER && lua_type(L, 2) == LUA_TSTRING &&
                   span_equal(span_str(lua_tostring(L, 2)), span_str("tail"));
    if (!is_tail && (!is_integer || i < 1 || i > length)) {
        return no_such_element(L, kind, length);
    }
    lua_settop(L, 3);
    lua_rawset(L, 1);
    return 0;
}

int term_fixed_next(lua_State *L) {
    lua_Integer length = check_length(L);
    lua_Integer i = luaL_checkinteger(L, 2);
    if (i < 0 || i >= length) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushinteger(L, i + 1);
    lua_rawgeti(L, 1, i + 1);
    return 2;
}

/* [-0, +3, e] */
static int fixed_pairs(lua_State *L) {
    check_length(L);
    lua_pushcfunction(L, term_fixed_next);
    lua_pushvalue(L, 1);
    lua_pushinteger(L, 0);
    return 3;
}

/* }==== */

/* {==== Metatables ======================================================================== */

void term_new_metatable(lua_State *L, enum term_kind kind) {
    lua_createtable(L, MT_FLOATS, 8);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&markers[kind]);
    lua_rawseti(L, -2, MT_KIND);
    lua_pushstring(L, names[kind]);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "__name");
    lua_setfield(L, -2, "__metatable");
}

/* Pushes a new metatable for containers of that length. [-0, +1, m] */
static void new_fixed_metatable(lua_State *L, enum term_kind kind, lua_Integer length) {
    static const luaL_Reg methods[] = {{"__len", fixed_len},
                                       {"__newindex", fixed_newindex},
                                       {"__pairs", fixed_pairs},
                                       {"__tostring", term_inspect_tostring},
                                       {NULL, NULL}};
    term_new_metatable(L, kind);
    lua_pushinteger(L, length);
    lua_rawseti(L, -2, MT_LENGTH);
    luaL_setfuncs(L, methods, 0);
}

/* Pushes the metatable for containers of that length. The cache is weak, so that a peer who sends
 * every arity there is doesn't fill the state. [-0, +1, m] */
static void push_by_length(lua_State *L, const struct term_state *state, enum term_kind kind,
                           lua_Integer length) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, state->by_length[kind]);
    if (lua_rawgeti(L, -1, length) == LUA_TNIL) {
        lua_pop(L, 1);
        new_fixed_metatable(L, kind, length);
        lua_pushvalue(L, -1);
        lua_rawseti(L, -3, length); /* cache, metatable */
    }
    lua_remove(L, -2);
}

/* Pushes the metatable of small tuples. [-0, +1, m] */
static void push_small_tuple(lua_State *L, struct term_state *state, lua_Integer arity) {
    if (state->tuples[arity] == LUA_NOREF) {
        new_fixed_metatable(L, KIND_TUPLE, arity);
        state->tuples[arity] = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, state->tuples[arity]);
}

void term_mark(lua_State *L, struct term_state *state, enum term_kind kind, lua_Integer length) {
    if (kind == KIND_TUPLE && length <= SMALL_ARITY) {
        push_small_tuple(L, state, length);
    } else if (has_fixed_length(kind)) {
        push_by_length(L, state, kind, length);
    } else {
        lua_rawgeti(L, LUA_REGISTRYINDEX, state->metatable[kind]);
    }
    lua_setmetatable(L, -2);
}

void term_push_weak(lua_State *L, const struct term_state *state) {
    lua_newtable(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, state->weak);
    lua_setmetatable(L, -2);
}

/* A new table with weak values. [-0, +0, m] */
static int weak_table(lua_State *L, const struct term_state *state) {
    term_push_weak(L, state);
    return luaL_ref(L, LUA_REGISTRYINDEX);
}

void term_metatables_open(lua_State *L, struct term_state *state) {
    for (int i = 0; i <= SMALL_ARITY; i++) {
        state->tuples[i] = LUA_NOREF;
    }
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "v");
    lua_setfield(L, -2, "__mode");
    state->weak = luaL_ref(L, LUA_REGISTRYINDEX);
    state->by_length[KIND_TUPLE] = weak_table(L, state);
    state->by_length[KIND_FIXED] = weak_table(L, state);
    state->by_length[KIND_IMPROPER] = weak_table(L, state);
    state->identifiers = weak_table(L, state);
    state->shapes = weak_table(L, state);
    term_new_metatable(L, KIND_LIST);
    lua_pushcfunction(L, term_inspect_tostring);
    lua_setfield(L, -2, "__tostring");
    state->metatable[KIND_LIST] = luaL_ref(L, LUA_REGISTRYINDEX);
}

/* }==== */
