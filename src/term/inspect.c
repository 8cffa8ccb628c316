/* Values as text, as Elixir's inspect writes them, within bounds of depth, items and length. */
#include <ctype.h>
#include <lauxlib.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "term/private.h"

enum { MAX_DEPTH = 8, MAX_ITEMS = 50, MAX_TEXT = 4096 };

struct text {
    lua_State *L;
    struct term_state *state;
    char *data;
    size_t size;
    size_t len;
    bool full;
};

static void put_value(struct text *text, int idx, int depth);

/* {==== Text ============================================================================== */

static void put_bytes(struct text *text, const char *bytes, size_t len) {
    if (text->full || len >= text->size - text->len) {
        text->full = true;
        return;
    }
    memcpy(text->data + text->len, bytes, len);
    text->len += len;
}

static void put(struct text *text, const char *words) {
    put_bytes(text, words, strlen(words));
}

__attribute__((format(printf, 2, 3))) static void put_format(struct text *text, const char *format,
                                                             ...) {
    char part[64];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(part, sizeof part, format, args);
    va_end(args);
    put(text, part);
}

/* }==== */

/* {==== Leaves ============================================================================ */

/* A character inside quotes. */
static void put_character(struct text *text, const uint8_t *bytes, size_t len, uint32_t character) {
    static const char escapes[] = "abtnvfr"; /* characters 7 to 13 */
    if (character == '"' || character == '\\') {
        put_format(text, "\\%c", (int)character);
    } else if (character >= 7 && character <= 13) {
        put_format(text, "\\%c", escapes[character - 7]);
    } else if (character < 0x20 || character == 0x7F) {
        put_format(text, "\\x%02X", (unsigned)character);
    } else {
        put_bytes(text, (const char *)bytes, len);
    }
}

/* Bytes that are no text: <<1, 2, 3>>; the last may have a size in bits. */
static void put_raw(struct text *text, struct span bytes, size_t last_bits) {
    put(text, "<<");
    for (size_t i = 0; i < bytes.len && !text->full; i++) {
        if (i == MAX_ITEMS) {
            put(text, ", ...");
            break;
        }
        bool last = i + 1 == bytes.len && last_bits != 0;
        put_format(text, "%s%u", i == 0 ? "" : ", ",
                   last ? bytes.data[i] >> (8 - last_bits) : bytes.data[i]);
        if (last) {
            put_format(text, "::size(%zu)", last_bits);
        }
    }
    put(text, ">>");
}

static bool is_text(struct span bytes) {
    uint32_t character;
    while (bytes.len > 0) {
        if (!utf8_next(&bytes, &character)) {
            return false;
        }
    }
    return true;
}

static void put_quoted(struct text *text, struct span bytes) {
    uint32_t character;
    put(text, "\"");
    while (bytes.len > 0 && !text->full) {
        const uint8_t *start = bytes.data;
        if (!utf8_next(&bytes, &character)) {
            break;
        }
        put_character(text, start, (size_t)(bytes.data - start), character);
    }
    put(text, "\"");
}

/* The first bytes of a long text, cut between two characters; whole bytes when it is none. */
static struct span first_of(struct span bytes) {
    for (size_t cut = 0; bytes.len > MAX_TEXT && cut < 4; cut++) {
        struct span first = span_of(bytes.data, MAX_TEXT - cut);
        if (is_text(first)) {
            return first;
        }
    }
    return bytes.len > MAX_TEXT ? span_of(bytes.data, MAX_TEXT) : bytes;
}

static void put_string(struct text *text, int idx) {
    size_t len;
    const char *bytes = lua_tolstring(text->L, idx, &len);
    struct span span = first_of(span_of(bytes, len));
    if (is_text(span)) {
        put_quoted(text, span);
    } else {
        put_raw(text, span, 0);
    }
}

/* Whether an atom or key can do without quotes. */
static bool is_plain(struct span name) {
    if (name.len == 0 || !(isalpha(name.data[0]) || name.data[0] == '_')) {
        return false;
    }
    for (size_t i = 1; i < name.len; i++) {
        bool end = i + 1 == name.len && (name.data[i] == '?' || name.data[i] == '!');
        if (name.data[i] >= 0x80 || !(isalnum(name.data[i]) || strchr("_@", name.data[i]) || end)) {
            return false;
        }
    }
    return name.data[0] < 0x80;
}

static void put_name(struct text *text, struct span name) {
    if (is_plain(name)) {
        put_bytes(text, (const char *)name.data, name.len);
    } else {
        put_quoted(text, name);
    }
}

/* Whether the atom is a module's name, such as Elixir.Foo. */
static bool is_module(struct span name) {
    return name.len > 7 && memcmp(name.data, "Elixir.", 7) == 0 && isupper(name.data[7]);
}

static void put_atom(struct text *text, int idx) {
    uint32_t number = term_atom_number(text->L, text->state->atoms, idx);
    struct span name = term_atom_name(text->state->atoms, number);
    if (lua_touserdata(text->L, idx) == NULL) {
        put(text, "nil");
    } else if (number == 0) {
        put(text, "userdata");
    } else if (is_module(name)) {
        put_bytes(text, (const char *)name.data + 7, name.len - 7);
    } else {
        put(text, ":");
        put_name(text, name);
    }
}

static void put_number(struct text *text, int idx) {
    if (lua_isinteger(text->L, idx)) {
        put_format(text, "%lld", (long long)lua_tointeger(text->L, idx));
        return;
    }
    lua_Number number = lua_tonumber(text->L, idx);
    char digits[40];
    for (int precision = 15; precision <= 17; precision++) {
        (void)snprintf(digits, sizeof digits, "%.*g", precision, number);
        lua_pushstring(text->L, digits);
        bool exact = lua_tonumber(text->L, -1) == number;
        lua_pop(text->L, 1);
        if (exact) {
            break;
        }
    }
    put(text, digits);
    if (isfinite(number) && strpbrk(digits, ".e") == NULL) {
        put(text, ".0");
    }
}

/* A userdata by its __tostring. [-0, +0, e] */
static void put_other(struct text *text, int idx) {
    size_t len;
    const char *words = luaL_tolstring(text->L, idx, &len);
    if (len >= text->size - text->len) {
        put_bytes(text, words, text->size / 2 < len ? text->size / 2 : len);
        text->full = true;
    } else {
        put_bytes(text, words, len);
    }
    lua_pop(text->L, 1);
}

/* }==== */

/* {==== Containers ======================================================================== */

/* The elements of the table at `idx`, and an improper list's tail. */
static void put_elements(struct text *text, int idx, lua_Integer length, int depth) {
    for (lua_Integer i = 1; i <= length && !text->full; i++) {
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
        put_name(text, term_atom_name(text->state->atoms, number));
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
        if (text->full || map->items > MAX_ITEMS) {
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
        put_raw(text, bytes, nbits % 8);
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
    struct text text = {
        .L = L, .state = term_state(L), .data = buffer, .size = size - 3, /* room for the dots */
    };
    int top = lua_gettop(L);
    put_value(&text, lua_absindex(L, idx), 0);
    lua_settop(L, top);
    if (text.full) {
        memcpy(buffer + text.len, "...", 3);
        text.len += 3;
    }
    buffer[text.len] = '\0';
    return text.len;
}

int term_inspect_tostring(lua_State *L) {
    char text[MAX_TEXT];
    luaL_checkany(L, 1);
    size_t len = term_inspect(L, 1, text, sizeof text);
    lua_pushlstring(L, text, len);
    return 1;
}
