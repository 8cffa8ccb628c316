/* Values as text, as Elixir's inspect writes them, within bounds of depth, items and length. */
#include <lauxlib.h>

#include "term/private.h"

enum { MAX_DEPTH = 8, MAX_ITEMS = 50, MAX_TEXT = 4096 };

struct text {
    lua_State *L;
    struct term_state *state;
    struct term_text out;
};

static void put_value(struct text *text, int idx, int depth);

/* {==== Leaves ============================================================================ */

static void put(struct text *text, const char *words) {
    term_text_put(&text->out, words);
}

static void put_string(struct text *text, int idx) {
    size_t len;
    const char *bytes = lua_tolstring(text->L, idx, &len);
    term_text_binary(&text->out, span_of(bytes, len));
}

static void put_atom(struct text *text, int idx) {
    uint32_t number = term_atom_number(text->L, text->state->atoms, idx);
    struct span name = term_atom_name(text->state->atoms, number);
    if (lua_touserdata(text->L, idx) == NULL) {
        put(text, "nil");
    } else if (number == 0) {
        put(text, "userdata");
    } else {
        term_text_atom(&text->out, name);
    }
}

static void put_number(struct text *text, int idx) {
    if (lua_isinteger(text->L, idx)) {
        term_text_format(&text->out, "%lld", (long long)lua_tointeger(text->L, idx));
    } else {
        term_text_float(&text->out, lua_tonumber(text->L, idx));
    }
}

/* A userdata by its __tostring. [-0, +0, e] */
static void put_other(struct text *text, int idx) {
    size_t len;
    const char *words = term_tostring(text->L, idx, &len);
    size_t left = text->out.size - text->out.len;
    if (len >= left) {
        term_text_bytes(&text->out, utf8_cut(span_of(words, len), left - 1));
        text->out.full = true;
    } else {
        term_text_bytes(&text->out, span_of(words, len));
    }
    lua_pop(text->L, 1);
}

/* }==== */

/* {==== Containers ======================================================================== */

/* The elements of the table at `idx`, and an improper list's tail. */
static void put_elements(struct text *text, int idx, lua_Integer length, int depth) {
    for (lua_Integer i = 1; i <= length && !text->out.full; i++) {
        put(text, i == 1 ? "" : ", ");
        if (i > MAX_ITEMS) {
            put(text, "...");
            return;
        }
        lua_rawgeti(text->L, idx, i);
        put_value(text, lua_gettop(text->L), depth);
        lua_pop(text->L, 1);
    }
}

static void put_list(struct text *text, int idx, enum term_kind kind, int depth) {
    bool fixed = kind == KIND_FIXED || kind == KIND_IMPROPER;
    put(text, "[");
    put_elements(text, idx,
                 fixed ? term_length(text->L, idx) : (lua_Integer)lua_rawlen(text->L, idx), depth);
    if (kind == KIND_IMPROPER) {
        put(text, " | ");
        lua_pushliteral(text->L, "tail");
        lua_rawget(text->L, idx);
        put_value(text, lua_gettop(text->L), depth);
        lua_pop(text->L, 1);
    }
    put(text, "]");
}

/* Whether all keys of the table are atoms. [-0, +0, -] */
static bool all_atoms(struct text *text, int idx) {
    int seen = 0;
    lua_pushnil(text->L);
    while (lua_next(text->L, idx)) {
        lua_pop(text->L, 1);
        if (term_atom_number(text->L, text->state->atoms, -1) == 0 || ++seen > MAX_ITEMS) {
            lua_pop(text->L, 1);
            return false;
        }
    }
    return true;
}

/* A map on its way to text. */
struct map {
    int idx;
    int depth;
    int items;
    bool short_keys; /* `key: value` */
    bool is_struct;
};

/* Writes the entry whose key and value are on the top. [-0, +0, e] */
static void put_entry(struct text *text, struct map *map) {
    lua_State *L = text->L;
    int top = lua_gettop(L);
    uint32_t number = term_atom_number(L, text->state->atoms, top - 1);
    if (map->is_struct && number == ATOM_STRUCT) {
        return;
    }
    put(text, map->items++ == 0 ? "" : ", ");
    if (map->items > MAX_ITEMS) {
        put(text, map->items == MAX_ITEMS + 1 ? "..." : "");
        return;
    }
    if (map->short_keys) {
        term_text_name(&text->out, term_atom_name(text->state->atoms, number));
        put(text, ": ");
    } else {
        put_value(text, top - 1, map->depth);
        put(text, " => ");
    }
    put_value(text, top, map->depth);
}

/* Writes the entries of a table: the map's own, or extras. [-0, +0, e] */
static void put_entries(struct text *text, struct map *map, int idx, int which) {
    lua_State *L = text->L;
    lua_pushnil(L);
    while (lua_next(L, idx)) {
        if (text->out.full || map->items > MAX_ITEMS) {
            lua_pop(L, 2);
            return;
        }
        lua_pushvalue(L, -2);
        if (which == MT_FLOATS) {
            lua_pushnumber(L, term_float_of_bits(lua_tointeger(L, -1)));
            lua_replace(L, -2);
        }
        lua_pushvalue(L, -2); /* key, value, key, value */
        if (which == MT_NILS) {
            lua_pushnil(L);
            lua_replace(L, -2);
        }
        put_entry(text, map);
        lua_pop(L, 3);
    }
}

/* Pushes extras of the exotic map. [-0, +1, -] */
static int push_extra(struct text *text, int idx, int which) {
    lua_getmetatable(text->L, idx);
    lua_rawgeti(text->L, -1, which);
    lua_remove(text->L, -2);
    return lua_gettop(text->L);
}

/* Whether only atoms are keys, in the extras too. [-0, +0, -] */
static bool has_short_keys(struct text *text, int idx, bool exotic) {
    bool plain = all_atoms(text, idx);
    if (exotic) {
        plain = all_atoms(text, push_extra(text, idx, MT_NILS)) && plain;
        plain = all_atoms(text, push_extra(text, idx, MT_FLOATS)) && plain;
        lua_pop(text->L, 2);
    }
    return plain;
}

static void put_map(struct text *text, int idx, bool exotic, int depth) {
    lua_State *L = text->L;
    struct map map = {.idx = idx, .depth = depth};
    term_push_atom_key(L, ATOM_STRUCT);
    map.is_struct = lua_rawget(L, idx) == LUA_TLIGHTUSERDATA;
    map.short_keys = has_short_keys(text, idx, exotic);
    put(text, "%");
    if (map.is_struct) {
        put_atom(text, lua_gettop(L));
    }
    lua_pop(L, 1);
    put(text, "{");
    put_entries(text, &map, idx, 0);
    if (exotic) {
        put_entries(text, &map, push_extra(text, idx, MT_NILS), MT_NILS);
        put_entries(text, &map, push_extra(text, idx, MT_FLOATS), MT_FLOATS);
        lua_pop(L, 2);
    }
    put(text, "}");
}

/* Whether a bare table has keys, yet no key 1. [-0, +0, -] */
static bool looks_like_map(lua_State *L, int idx) {
    lua_pushnil(L);
    if (!lua_next(L, idx)) {
        return false;
    }
    bool is_map = lua_rawgeti(L, idx, 1) == LUA_TNIL;
    lua_pop(L, 3);
    return is_map;
}

static void put_table(struct text *text, int idx, int depth) {
    enum term_kind kind = term_kind(text->L, idx);
    if (depth >= MAX_DEPTH || !lua_checkstack(text->L, 16)) {
        put(text, "...");
        return;
    }
    if (kind == KIND_NONE && looks_like_map(text->L, idx)) {
        kind = KIND_MAP;
    }
    switch (kind) {
    case KIND_TUPLE:
        put(text, "{");
        put_elements(text, idx, term_length(text->L, idx), depth + 1);
        put(text, "}");
        break;
    case KIND_MAP:
    case KIND_EXOTIC:
        put_map(text, idx, kind == KIND_EXOTIC, depth + 1);
        break;
    default:
        put_list(text, idx, kind, depth + 1);
    }
}

/* }==== */

static void put_userdata(struct text *text, int idx) {
    size_t nbits;
    if (term_kind(text->L, idx) == KIND_BITS) {
        struct span bytes = term_to_bits(text->L, idx, &nbits);
        term_text_raw(&text->out, bytes, nbits % 8);
    } else {
        put_other(text, idx);
    }
}

static void put_value(struct text *text, int idx, int depth) {
    switch (lua_type(text->L, idx)) {
    case LUA_TNUMBER:
        put_number(text, idx);
        break;
    case LUA_TSTRING:
        put_string(text, idx);
        break;
    case LUA_TLIGHTUSERDATA:
        put_atom(text, idx);
        break;
    case LUA_TTABLE:
        put_table(text, idx, depth);
        break;
    case LUA_TUSERDATA:
        put_userdata(text, idx);
        break;
    case LUA_TNIL:
        put(text, "nil");
        break;
    case LUA_TBOOLEAN:
        put(text, lua_toboolean(text->L, idx) ? "true" : "false");
        break;
    default:
        put(text, lua_typename(text->L, lua_type(text->L, idx)));
    }
}

size_t term_inspect(lua_State *L, int idx, char *buffer, size_t size) {
    struct text text = {.L = L, .state = term_state(L)};
    int top = lua_gettop(L);
    term_text_begin(&text.out, buffer, size);
    put_value(&text, lua_absindex(L, idx), 0);
    lua_settop(L, top);
    return term_text_end(&text.out);
}

int term_inspect_tostring(lua_State *L) {
    char text[MAX_TEXT];
    luaL_checkany(L, 1);
    size_t len = term_inspect(L, 1, text, sizeof text);
    lua_pushlstring(L, text, len);
    return 1;
}
