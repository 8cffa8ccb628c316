/* erl.get: entries found exactly, by the value of their key. */
#include <lauxlib.h>

#include "term/private.h"

/* Encodes the key at `idx` for comparing. False: it is no term. [-0, +0, m] */
static bool bytes_of_key(lua_State *L, int idx, struct buf *out) {
    struct err err;
    out->len = 0;
    return term_encode_canonical(L, idx, out, &err);
}

/* Whether only its bytes tell whether a key is the same: tables and userdata. [-0, +0, -] */
static bool is_complex(lua_State *L, int idx) {
    return lua_istable(L, idx) || lua_type(L, idx) == LUA_TUSERDATA;
}

/* Walks the table at `idx` for a key equal to `wanted`; pushes its value. False: there is none, and
 * nothing is pushed. `out` is used for the keys' bytes. [-0, +1, m] */
static bool search(lua_State *L, int idx, const struct buf *wanted, struct buf *out) {
    lua_pushnil(L);
    while (lua_next(L, idx)) {
        if (is_complex(L, -2) && bytes_of_key(L, lua_absindex(L, -2), out) &&
            span_equal(buf_span(wanted), buf_span(out))) {
            lua_remove(L, -2);
            return true;
        }
        lua_pop(L, 1);
    }
    return false;
}

/* get(map, key) for the table at 1 and a key at 2 that is found by its bytes. [-0, +1, m] */
static int get_complex(lua_State *L) {
    struct buf *wanted = term_scratch(L);
    struct buf *found = term_scratch(L);
    if (!bytes_of_key(L, 2, wanted) || !search(L, 1, wanted, found)) {
        lua_pushnil(L);
    }
    buf_finish(wanted);
    buf_finish(found);
    return 1;
}

/* get(map, key) for an integral float: only an exotic map has such keys. [-0, +1, -] */
static int get_float(lua_State *L, lua_Integer bits) {
    if (term_kind(L, 1) != KIND_EXOTIC) {
        lua_pushnil(L);
        return 1;
    }
    lua_getmetatable(L, 1);
    lua_rawgeti(L, -1, MT_FLOATS);
    lua_rawgeti(L, -1, bits);
    if (lua_islightuserdata(L, -1) && lua_touserdata(L, -1) == NULL) {
        lua_pushnil(L);
    }
    return 1;
}

int term_get(lua_State *L) {
    lua_Integer bits;
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checkany(L, 2);
    lua_settop(L, 2);
    if (lua_isnil(L, 2)) {
        term_push_null(L);
        lua_replace(L, 2);
    }
    if (term_folds(L, 2, &bits)) {
        return get_float(L, bits);
    }
    lua_pushvalue(L, 2);
    if (lua_rawget(L, 1) == LUA_TNIL && is_complex(L, 2)) {
        return get_complex(L);
    }
    return 1;
}
