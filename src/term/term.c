/* A Lua state that knows terms, and single values: see term.h. */
#include "term/term.h"

#include <lauxlib.h>
#include <utlist.h>

#include "term/bigint.h"
#include "term/private.h"

static const char state_key; /* its address is the state's key in the registry */

/* {==== The state ========================================================================= */

struct term_state *term_state(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &state_key);
    struct term_state *state = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return state;
}

struct term_atoms *term_atoms_of(lua_State *L) {
    return term_state(L)->atoms;
}

static int free_scratch(lua_State *L) {
    struct scratch *scratch = lua_touserdata(L, 1);
    struct term_state *state = term_state(L);
    DL_DELETE(state->scratches, scratch);
    buf_finish(&scratch->buf);
    return 0;
}

void term_drop(lua_State *L) {
    struct term_state *state = term_state(L);
    struct scratch *scratch;
    DL_FOREACH(state == NULL ? NULL : state->scratches, scratch) {
        buf_finish(&scratch->buf);
    }
}

void term_set_max_size(lua_State *L, size_t bytes) {
    term_state(L)->max_size = bytes;
}

void term_set_allowance(lua_State *L, struct term_allowance *allowance) {
    term_state(L)->allowance = allowance;
}

/* Makes the metatable of scratch buffers. [-0, +0, m] */
static void open_scratch(lua_State *L, struct term_state *state) {
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, free_scratch);
    lua_setfield(L, -2, "__gc");
    state->scratch = luaL_ref(L, LUA_REGISTRYINDEX);
}

struct buf *term_scratch(lua_State *L) {
    struct term_state *state = term_state(L);
    struct scratch *scratch = lua_newuserdatauv(L, sizeof *scratch, 0);
    buf_init(&scratch->buf);
    DL_PREPEND(state->scratches, scratch);
    lua_rawgeti(L, LUA_REGISTRYINDEX, state->scratch);
    lua_setmetatable(L, -2);
    return &scratch->buf;
}

void term_open(lua_State *L, struct term_atoms *atoms) {
    struct term_state *state = lua_newuserdatauv(L, sizeof *state, 0);
    *state = (struct term_state){.atoms = atoms};
    lua_rawsetp(L, LUA_REGISTRYINDEX, &state_key);
    open_scratch(L, state);
    term_encode_open(L, state);
    term_metatables_open(L, state);
    term_map_open(L, state);
    term_ids_open(L, state);
    lua_newtable(L);
    term_atomtype_open(L);
    lua_setfield(L, -2, "atom");
    term_bigint_open(L);
    lua_setfield(L, -2, "bigint");
    term_bits_open(L, state);
    lua_setfield(L, -2, "bits");
    term_push_null(L);
    lua_setfield(L, -2, "null");
    term_construct_open(L);
    term_functions_open(L);
}

/* }==== */

/* {==== Types ============================================================================= */

static enum term_type type_of_kind(enum term_kind kind, enum term_type otherwise) {
    static const enum term_type types[KIND_COUNT] = {
        [KIND_LIST] = TERM_LIST,   [KIND_FIXED] = TERM_LIST, [KIND_IMPROPER] = TERM_IMPROPER,
        [KIND_TUPLE] = TERM_TUPLE, [KIND_MAP] = TERM_MAP,    [KIND_EXOTIC] = TERM_MAP,
        [KIND_PID] = TERM_PID,     [KIND_PORT] = TERM_PORT,  [KIND_REF] = TERM_REF,
        [KIND_FUN] = TERM_FUN,     [KIND_BITS] = TERM_BITS,
    };
    return kind == KIND_NONE ? otherwise : types[kind];
}

static enum term_type type_of_light(lua_State *L, int idx) {
    if (lua_touserdata(L, idx) == NULL) {
        return TERM_NIL;
    }
    return term_atom_number(L, term_atoms_of(L), idx) == 0 ? TERM_NONE : TERM_ATOM;
}

enum term_type term_type(lua_State *L, int idx) {
    switch (lua_type(L, idx)) {
    case LUA_TNIL:
        return TERM_NIL;
    case LUA_TBOOLEAN:
        return TERM_BOOLEAN;
    case LUA_TNUMBER:
        return lua_isinteger(L, idx) ? TERM_INTEGER : TERM_FLOAT;
    case LUA_TSTRING:
        return TERM_BINARY;
    case LUA_TLIGHTUSERDATA:
        return type_of_light(L, idx);
    case LUA_TTABLE:
        return type_of_kind(term_kind(L, idx), TERM_TABLE);
    case LUA_TUSERDATA:
        return type_of_kind(term_kind(L, idx), term_is_bigint(L, idx) ? TERM_BIGINT : TERM_NONE);
    default:
        return TERM_NONE;
    }
}

const char *term_type_name(lua_State *L, int idx) {
    static const char *const names[] = {
        [TERM_NIL] = "nil",       [TERM_BOOLEAN] = "boolean", [TERM_INTEGER] = "integer",
        [TERM_BIGINT] = "bigint", [TERM_FLOAT] = "float",     [TERM_ATOM] = "atom",
        [TERM_BINARY] = "binary", [TERM_BITS] = "bits",       [TERM_LIST] = "list",
        [TERM_TUPLE] = "tuple",   [TERM_MAP] = "map",         [TERM_IMPROPER] = "improper",
        [TERM_TABLE] = "table",   [TERM_PID] = "pid",         [TERM_PORT] = "port",
        [TERM_REF] = "reference", [TERM_FUN] = "fun",
    };
    enum term_type type = term_type(L, idx);
    return type == TERM_NONE ? lua_typename(L, lua_type(L, idx)) : names[type];
}

const char *term_tostring(lua_State *L, int idx, size_t *len) {
    int type = lua_type(L, idx);
    if (type < LUA_TTABLE && type != LUA_TLIGHTUSERDATA) {
        return luaL_tolstring(L, idx, len); /* a number, a string, ... */
    }
    if (luaL_callmeta(L, idx, "__tostring")) {
        if (!lua_isstring(L, -1)) {
            luaL_error(L, "'__tostring' must return a string");
        }
    } else {
        int name = luaL_getmetafield(L, idx, "__name");
        if (name != LUA_TSTRING) {
            lua_pushstring(L, lua_typename(L, type));
        }
        if (name != LUA_TSTRING && name != LUA_TNIL) {
            lua_remove(L, -2);
        }
    }
    return lua_tolstring(L, -1, len);
}

/* }==== */

/* {==== Tuples ============================================================================ */

lua_Integer term_tuple_arity(lua_State *L, int idx) {
    bool is_tuple = lua_istable(L, idx) && term_kind(L, idx) == KIND_TUPLE;
    return is_tuple ? term_length(L, idx) : -1;
}

void term_list(lua_State *L) {
    term_mark(L, term_state(L), KIND_LIST, 0);
}

void term_map(lua_State *L) {
    term_mark(L, term_state(L), KIND_MAP, 0);
}

void term_tuple(lua_State *L, int n) {
    luaL_checkstack(L, 4, "a tuple");
    lua_createtable(L, n, 0);
    lua_insert(L, -(n + 1)); /* table, elements */
    for (int i = n; i > 0; i--) {
        lua_rawseti(L, -(i + 1), i);
    }
    term_mark(L, term_state(L), KIND_TUPLE, n);
}

/* }==== */
