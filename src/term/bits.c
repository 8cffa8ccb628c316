/* Bitstrings that are no whole bytes: the Lua type `bits`. */
#include <lauxlib.h>

#include "term/private.h"

struct bits {
    size_t nbits;
    uint8_t bytes[];
};

static size_t bytes_of(size_t nbits) {
    return (nbits + 7) / 8;
}

void term_push_bits(lua_State *L, struct term_state *state, struct span bytes, size_t nbits) {
    size_t len = bytes_of(nbits);
    if (nbits % 8 == 0) {
        lua_pushlstring(L, (const char *)bytes.data, len);
        return;
    }
    struct bits *bits = lua_newuserdatauv(L, sizeof *bits + len, 0);
    bits->nbits = nbits;
    memcpy(bits->bytes, bytes.data, len);
    bits->bytes[len - 1] &= (uint8_t)(0xFF << (8 - nbits % 8)); /* one form for equal bits */
    lua_rawgeti(L, LUA_REGISTRYINDEX, state->metatable[KIND_BITS]);
    lua_setmetatable(L, -2);
}

struct span term_to_bits(lua_State *L, int idx, size_t *nbits) {
    const struct bits *bits = lua_touserdata(L, idx);
    *nbits = bits->nbits;
    return span_of(bits->bytes, bytes_of(bits->nbits));
}

/* The bits that the argument `arg` is. [-0, +0, e] */
static struct span check_bits(lua_State *L, int arg, size_t *nbits) {
    luaL_argcheck(L, lua_type(L, arg) == LUA_TUSERDATA && term_kind(L, arg) == KIND_BITS, arg,
                  "bits expected");
    return term_to_bits(L, arg, nbits);
}

/* bits(string, nbits) */
static int new_bits(lua_State *L) {
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    lua_Integer nbits = luaL_checkinteger(L, 2);
    luaL_argcheck(L, nbits >= 0 && (lua_Unsigned)nbits <= (lua_Unsigned)len * 8, 2,
                  "more bits than the string has");
    term_push_bits(L, term_state(L), span_of(bytes, len), (size_t)nbits);
    return 1;
}

static int bits_len(lua_State *L) {
    size_t nbits;
    check_bits(L, 1, &nbits);
    lua_pushinteger(L, (lua_Integer)nbits);
    return 1;
}

/* b.bytes: the bytes, unused bits zero. */
static int bits_index(lua_State *L) {
    size_t nbits;
    struct span bytes = check_bits(L, 1, &nbits);
    const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    if (strcmp(key, "bytes") == 0) {
        lua_pushlstring(L, (const char *)bytes.data, bytes.len);
    } else {
        lua_pushnil(L);
    }
    return 1;
}

static bool is_bits(lua_State *L, int idx) {
    return lua_type(L, idx) == LUA_TUSERDATA && term_kind(L, idx) == KIND_BITS;
}

static int bits_eq(lua_State *L) {
    size_t nbits[2];
    bool equal = is_bits(L, 1) && is_bits(L, 2); /* either may be somebody else's userdata */
    if (equal) {
        struct span left = term_to_bits(L, 1, &nbits[0]);
        struct span right = term_to_bits(L, 2, &nbits[1]);
        equal = nbits[0] == nbits[1] && span_equal(left, right);
    }
    lua_pushboolean(L, equal);
    return 1;
}

void term_bits_open(lua_State *L, struct term_state *state) {
    static const luaL_Reg methods[] = {{"__len", bits_len},
                                       {"__index", bits_index},
                                       {"__eq", bits_eq},
                                       {"__tostring", term_inspect_tostring},
                                       {NULL, NULL}};
    term_new_metatable(L, KIND_BITS);
    luaL_setfuncs(L, methods, 0);
    state->metatable[KIND_BITS] = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushcfunction(L, new_bits);
}
