/* The functions encode, decode and type, and the Lua module `lunode.term`. */
#include <lauxlib.h>

#include "base/ext.h"
#include "term/private.h"

enum { COMPRESSED = 80 };

/* encode(value): the term as term_to_binary writes it. [-0, +1, e] */
static int encode(lua_State *L) {
    struct err err;
    luaL_checkany(L, 1);
    struct buf *out = term_scratch(L);
    if (!ext_put_version(out)) {
        return luaL_error(L, "no memory");
    }
    if (!term_encode(L, 1, "value", out, &err)) {
        return luaL_error(L, "%s", err.text);
    }
    lua_pushlstring(L, (const char *)out->data, out->len);
    buf_finish(out);
    return 1;
}

static bool decode_whole(lua_State *L, struct span in, struct err *err) {
    if (in.len == 0 || in.data[0] != EXT_VERSION) {
        return err_set(err, "no external term: it must begin with byte %d", (int)EXT_VERSION);
    }
    in = span_of(in.data + 1, in.len - 1);
    if (in.len > 0 && in.data[0] == COMPRESSED) {
        return err_set(err, "compressed terms are not supported");
    }
    if (!term_decode_counted(L, &in, err)) {
        return false;
    }
    if (in.len > 0) {
        return err_set(err, "%zu bytes behind the term", in.len);
    }
    return true;
}

/* decode(string): the value of what term_to_binary wrote. [-0, +1, e] */
static int decode(lua_State *L) {
    struct err err;
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    if (!decode_whole(L, span_of(bytes, len), &err)) {
        return luaL_error(L, "%s", err.text);
    }
    return 1;
}

/* type(value): the name of its type. [-0, +1, e] */
static int type_name(lua_State *L) {
    luaL_checkany(L, 1);
    lua_pushstring(L, term_type_name(L, 1));
    return 1;
}

void term_functions_open(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"encode", encode}, {"decode", decode}, {"type", type_name}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}

/* Finalizers that run after this one find a state without atoms. */
static int free_atoms(lua_State *L) {
    struct term_atoms **atoms = lua_touserdata(L, 1);
    term_state(L)->atoms = NULL;
    term_atoms_destroy(*atoms);
    *atoms = NULL;
    return 0;
}

int luaopen_lunode_term(lua_State *L);

int luaopen_lunode_term(lua_State *L) {
    struct term_atoms **atoms = lua_newuserdatauv(L, sizeof(struct term_atoms *), 0);
    *atoms = NULL;
    term_open(L, NULL);
    lua_createtable(L, 0, 1); /* atoms, types, metatable */
    lua_pushcfunction(L, free_atoms);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -3);
    *atoms = term_atoms_create();
    if (*atoms == NULL) {
        return luaL_error(L, "no memory for atoms");
    }
    term_state(L)->atoms = *atoms;
    lua_pushvalue(L, -2);
    luaL_ref(L, LUA_REGISTRYINDEX); /* as long as the state lives */
    return 1;
}
