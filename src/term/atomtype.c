/* Atoms in Lua: light userdata that hold an atom's number, and the table `atom` that makes them.
 *
 * All light userdata of a state share one metatable, so others' pass through these functions too:
 * a number is checked against the table before it counts as an atom. */
#include <lauxlib.h>
#include <stdio.h>

#include "term/private.h"

static void *pointer_of(uint32_t number) {
    return (void *)(uintptr_t)number;
}

void term_push_null(lua_State *L) {
    lua_pushlightuserdata(L, NULL);
}

void term_push_atom_key(lua_State *L, uint32_t number) {
    if (number == ATOM_TRUE || number == ATOM_FALSE) {
        lua_pushboolean(L, number == ATOM_TRUE);
    } else {
        lua_pushlightuserdata(L, number == ATOM_NIL ? NULL : pointer_of(number));
    }
}

void term_push_atom_number(lua_State *L, uint32_t number) {
    if (number == ATOM_NIL) {
        lua_pushnil(L);
    } else {
        term_push_atom_key(L, number);
    }
}

uint32_t term_atom_number(lua_State *L, const struct term_atoms *atoms, int idx) {
    if (!lua_islightuserdata(L, idx)) {
        return 0;
    }
    uintptr_t number = (uintptr_t)lua_touserdata(L, idx);
    if (number > TERM_MAX_ATOMS) {
        return 0;
    }
    return term_atom_name(atoms, (uint32_t)number).data == NULL ? 0 : (uint32_t)number;
}

void term_push_atom(lua_State *L, struct span name) {
    struct err err;
    uint32_t number;
    if (!term_atom_intern(term_atoms_of(L), name, &number, &err)) {
        luaL_error(L, "%s", err.text);
    }
    term_push_atom_number(L, number);
}

void term_make_atom(lua_State *L, struct span name) {
    struct err err;
    uint32_t number;
    struct term_state *state = term_state(L);
    if (!term_atom_make(state->atoms, state->allowance, name, &number, &err)) {
        luaL_error(L, "%s", err.text);
    }
    term_push_atom_number(L, number);
}

struct span term_to_atom(lua_State *L, int idx) {
    const struct term_atoms *atoms = term_atoms_of(L);
    return term_atom_name(atoms, term_atom_number(L, atoms, idx));
}

/* Pushes the name of the light userdata at 1. [-0, +1, m] */
static int tostring(lua_State *L) {
    struct span name = term_to_atom(L, 1);
    if (lua_touserdata(L, 1) == NULL) {
        lua_pushliteral(L, "nil");
    } else if (name.data == NULL) {
        lua_pushliteral(L, "userdata");
    } else {
        lua_pushlstring(L, (const char *)name.data, name.len);
    }
    return 1;
}

/* atom "name", and the first atom.name: pushes the atom and remembers it among those known, the
 * upvalue. [-0, +1, e] */
static int make_atom(lua_State *L) {
    size_t len;
    if (lua_type(L, 2) != LUA_TSTRING) {
        return luaL_error(L, "an atom's name is a string, not a %s", term_type_name(L, 2));
    }
    const char *name = lua_tolstring(L, 2, &len);
    term_make_atom(L, span_of(name, len));
    lua_pushvalue(L, 2);
    lua_pushvalue(L, -2); /* atom, name, atom */
    lua_rawset(L, lua_upvalueindex(1));
    return 1;
}

static int assign_atom(lua_State *L) {
    return luaL_error(L, "atoms cannot be assigned to");
}

/* It stays empty, so that every assignment is refused, and looks into the table of those known, so
 * that reading one again calls nothing. */
void term_push_atom_table(lua_State *L) {
    lua_newtable(L);
    lua_createtable(L, 0, 4);
    lua_newtable(L); /* atom, its metatable, known */
    lua_createtable(L, 0, 1);
    lua_pushvalue(L, -2);
    lua_pushcclosure(L, make_atom, 1);
    lua_pushvalue(L, -1);
    lua_setfield(L, -5, "__call");
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, assign_atom);
    lua_setfield(L, -2, "__newindex");
    lua_pushliteral(L, "atom");
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
}

void term_atomtype_open(lua_State *L) {
    term_push_null(L);
    lua_createtable(L, 0, 3);
    lua_pushcfunction(L, tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, "atom");
    lua_setfield(L, -2, "__name");
    lua_pushliteral(L, "atom");
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2); /* counts for all light userdata */
    lua_pop(L, 1);
    term_push_atom_table(L);
}
