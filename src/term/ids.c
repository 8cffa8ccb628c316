/* Pids, ports, references and funs: userdata that hold the bytes of their external term.
 *
 * The bytes are in one form: old tags become new ones, node names UTF-8. So the same pid has the
 * same bytes, and a weak table from bytes to userdata makes it the same object. */
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/ext.h"
#include "term/private.h"

enum {
    MAX_NAME = 3 + 1020, /* an atom of 255 characters of four bytes, with its head */
    MAX_WORDS = 5,       /* words of a reference */
    MAX_ID = 3 + 3 * MAX_NAME + 4 + 4 * MAX_WORDS
};

/* {==== One form ========================================================================== */

/* How an identifier of an old or new tag is laid out: the head before the node's name counts the
 * tag; `body` bytes follow it besides a reference's words; the creation is old (1 byte) or new. */
struct layout {
    uint8_t tag;
    bool old;
    bool words; /* a length in the head tells the number of words */
    uint8_t body;
    enum term_kind kind;
};

static const struct layout *layout_of(uint8_t tag) {
    static const struct layout layouts[] = {
        {EXT_PID, true, false, 8, KIND_PID},
        {EXT_NEW_PID, false, false, 8, KIND_PID},
        {EXT_PORT, true, false, 4, KIND_PORT},
        {EXT_NEW_PORT, false, false, 4, KIND_PORT},
        {EXT_V4_PORT, false, false, 8, KIND_PORT},
        {EXT_REFERENCE, true, false, 4, KIND_REF},
        {EXT_NEW_REFERENCE, true, true, 0, KIND_REF},
        {EXT_NEWER_REFERENCE, false, true, 0, KIND_REF},
    };
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
        if (layouts[i].tag == tag) {
            return &layouts[i];
        }
    }
    return NULL;
}

static uint8_t new_tag_of(const struct layout *layout) {
    if (layout->kind == KIND_PID) {
        return EXT_NEW_PID;
    }
    if (layout->kind == KIND_REF) {
        return EXT_NEWER_REFERENCE;
    }
    return layout->tag == EXT_V4_PORT ? EXT_V4_PORT : EXT_NEW_PORT;
}

/* Bytes on their way into one form. */
struct form {
    uint8_t bytes[MAX_ID];
    size_t len;
};

static void put(struct form *form, const void *bytes, size_t len) {
    memcpy(form->bytes + form->len, bytes, len);
    form->len += len;
}

static void put_name(struct form *form, struct span name) {
    uint8_t head[3] = {EXT_SMALL_ATOM_UTF8, (uint8_t)name.len};
    if (name.len <= UINT8_MAX) {
        put(form, head, 2);
    } else {
        head[0] = EXT_ATOM_UTF8;
        ext_set_u16(head + 1, (uint16_t)name.len);
        put(form, head, 3);
    }
    if (name.len > 0) {
        put(form, name.data, name.len);
    }
}

/* Moves an atom from `in` to the form. */
static bool move_atom(struct term_atoms *atoms, struct term_allowance *allowance, struct span *in,
                      struct form *form, struct err *err) {
    uint32_t number;
    if (!term_atom_take(atoms, allowance, in, &number, err)) {
        return false;
    }
    put_name(form, term_atom_name(atoms, number));
    return true;
}

/* Moves what follows the node's name. A reference's creation comes before its words. */
static bool move_body(const struct layout *layout, uint16_t words, struct span *in,
                      struct form *form) {
    size_t creation = layout->old ? 1 : 4;
    size_t body = layout->words ? 4U * words : layout->body;
    uint8_t widened[4] = {0};
    if (in->len < creation + body) {
        return false;
    }
    const uint8_t *at_creation = layout->words ? in->data : in->data + body;
    memcpy(widened + 4 - creation, at_creation, creation);
    if (layout->kind == KIND_REF) {
        put(form, widened, 4);
        put(form, layout->words ? in->data + creation : in->data, body);
    } else {
        put(form, in->data, body);
        put(form, widened, 4);
    }
    *in = span_of(in->data + creation + body, in->len - creation - body);
    return true;
}

/* The number of words that a reference's head gives, 1 for what has none; 0: it is wrong. */
static uint16_t take_words(const struct layout *layout, struct span *in) {
    if (!layout->words) {
        return 1;
    }
    if (in->len < 2) {
        return 0;
    }
    uint16_t words = ext_u16(in->data);
    *in = span_of(in->data + 2, in->len - 2);
    return words > MAX_WORDS ? 0 : words;
}

/* Takes an identifier off `in` in its one form. */
static bool take_identifier(struct term_atoms *atoms, struct term_allowance *allowance,
                            const struct layout *layout, struct span *in, struct form *form,
                            struct err *err) {
    struct span rest = span_of(in->data + 1, in->len - 1);
    uint16_t words = take_words(layout, &rest);
    uint8_t head[3] = {new_tag_of(layout)};
    if (words == 0) {
        return err_set(err, "a reference of no such size");
    }
    ext_set_u16(head + 1, words);
    form->len = 0;
    put(form, head, layout->kind == KIND_REF ? 3 : 1);
    if (!move_atom(atoms, allowance, &rest, form, err)) {
        return false;
    }
    if (!move_body(layout, words, &rest, form)) {
        return err_set(err, "it is cut off");
    }
    *in = rest;
    return true;
}

/* Takes `&Mod.fun/n` off `in`. */
static bool take_export(struct term_atoms *atoms, struct term_allowance *allowance, struct span *in,
                        struct form *form, struct err *err) {
    struct span rest = span_of(in->data + 1, in->len - 1);
    uint8_t tag = EXT_EXPORT;
    form->len = 0;
    put(form, &tag, 1);
    for (int i = 0; i < 2; i++) { /* module and function */
        if (!move_atom(atoms, allowance, &rest, form, err)) {
            return false;
        }
    }
    if (rest.len < 2 || rest.data[0] != EXT_SMALL_INTEGER) {
        return err_set(err, "an arity was expected");
    }
    put(form, rest.data, 2);
    *in = span_of(rest.data + 2, rest.len - 2);
    return true;
}

/* }==== */

/* {==== Values ============================================================================ */

/* Pushes a userdata with these bytes. [-0, +1, m] */
static void push_new(lua_State *L, struct term_state *state, enum term_kind kind, struct span ext) {
    void *bytes = lua_newuserdatauv(L, ext.len, 0);
    memcpy(bytes, ext.data, ext.len);
    lua_rawgeti(L, LUA_REGISTRYINDEX, state->metatable[kind]);
    lua_setmetatable(L, -2);
}

/* Pushes the identifier with these bytes: the one that is there, else a new one. [-0, +1, m] */
static void push_interned(lua_State *L, struct term_state *state, enum term_kind kind,
                          struct span ext) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, state->identifiers);
    lua_pushlstring(L, (const char *)ext.data, ext.len);
    lua_pushvalue(L, -1);
    if (lua_rawget(L, -3) == LUA_TNIL) { /* table, bytes, nil */
        lua_pop(L, 1);
        push_new(L, state, kind, ext);
        lua_pushvalue(L, -1);
        lua_insert(L, -3);
        lua_rawset(L, -4); /* table, identifier */
    } else {
        lua_remove(L, -2);
    }
    lua_remove(L, -2);
}

void term_push_fun(lua_State *L, struct term_state *state, struct span ext) {
    push_new(L, state, KIND_FUN, ext);
}

bool term_id_take(lua_State *L, struct term_state *state, struct term_allowance *allowance,
                  struct span *in, struct err *err) {
    struct form form;
    form.len = 0;
    if (in->len > 0 && in->data[0] == EXT_EXPORT) {
        if (!take_export(state->atoms, allowance, in, &form, err)) {
            return false;
        }
        term_push_fun(L, state, span_of(form.bytes, form.len));
        return true;
    }
    const struct layout *layout = in->len == 0 ? NULL : layout_of(in->data[0]);
    if (layout == NULL) {
        return err_set(err, "no pid, port or reference");
    }
    if (!take_identifier(state->atoms, allowance, layout, in, &form, err)) {
        return false;
    }
    push_interned(L, state, layout->kind, span_of(form.bytes, form.len));
    return true;
}

void term_push_id(lua_State *L, struct span ext) {
    struct err err;
    if (!term_id_take(L, term_state(L), NULL, &ext, &err)) {
        luaL_error(L, "%s", err.text);
    }
}

struct span term_to_id(lua_State *L, int idx) {
    if (lua_type(L, idx) != LUA_TUSERDATA) {
        return (struct span){0};
    }
    enum term_kind kind = term_kind(L, idx);
    if (kind < KIND_PID || kind > KIND_FUN) {
        return (struct span){0};
    }
    return span_of(lua_touserdata(L, idx), lua_rawlen(L, idx));
}

/* }==== */

/* {==== Metamethods ======================================================================= */

/* The bytes of the argument 1. [-0, +0, e] */
static struct span check_id(lua_State *L) {
    struct span ext = term_to_id(L, 1);
    if (ext.len == 0) {
        luaL_argerror(L, 1, "pid, port, reference or fun expected");
        abort(); /* it doesn't return */
    }
    return ext;
}

static int id_eq(lua_State *L) {
    struct span left = term_to_id(L, 1); /* either may be somebody else's userdata */
    lua_pushboolean(L, left.len > 0 && span_equal(left, term_to_id(L, 2)));
    return 1;
}

/* id.node: the atom of its node. */
static int id_index(lua_State *L) {
    struct span node = ext_node_of(check_id(L));
    const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    if (node.data == NULL || strcmp(key, "node") != 0) {
        lua_pushnil(L);
    } else {
        term_push_atom(L, node);
    }
    return 1;
}

/* Adds `.number` for each 32-bit number of a pid, port or reference. [-0, +0, m] */
static void add_numbers(luaL_Buffer *buffer, struct span numbers) {
    char text[16];
    for (size_t i = 0; i + 4 <= numbers.len; i += 4) {
        int len = snprintf(text, sizeof text, ".%u", (unsigned)ext_u32(numbers.data + i));
        luaL_addlstring(buffer, text, (size_t)len);
    }
}

/* The numbers of an identifier that tell it apart on its node. */
static struct span numbers_of(struct span ext, struct span node) {
    const uint8_t *body = node.data + node.len;
    size_t len = ext.len - (size_t)(body - ext.data);
    if (ext.data[0] == EXT_NEWER_REFERENCE) {
        return span_of(body + 4, len - 4);
    }
    return span_of(body, len - 4);
}

/* pid<node.id.serial> */
static int id_tostring(lua_State *L) {
    luaL_Buffer buffer;
    struct span ext = check_id(L);
    struct span node = ext_node_of(ext);
    luaL_buffinit(L, &buffer);
    luaL_addstring(&buffer, term_type_name(L, 1));
    luaL_addchar(&buffer, '<');
    luaL_addlstring(&buffer, (const char *)node.data, node.len);
    add_numbers(&buffer, numbers_of(ext, node));
    luaL_addchar(&buffer, '>');
    luaL_pushresult(&buffer);
    return 1;
}

/* &Module.function/arity, or fun<Module.index/arity> */
static int fun_tostring(lua_State *L) {
    struct span ext = check_id(L);
    struct span rest = span_of(ext.data + 1, ext.len - 1);
    struct span module = {0};
    struct span function = {0};
    bool latin1;
    bool export = ext.data[0] == EXT_EXPORT;
    if (!export) {
        rest = span_of(ext.data + 30, ext.len - 30);
    }
    ext_take_atom(&rest, &module, &latin1);
    lua_pushstring(L, export ? "&" : "fun<");
    lua_pushlstring(L, (const char *)module.data, module.len);
    if (export) {
        ext_take_atom(&rest, &function, &latin1);
        lua_pushliteral(L, ".");
        lua_pushlstring(L, (const char *)function.data, function.len);
        lua_pushfstring(L, "/%d", (int)rest.data[1]);
    } else {
        lua_pushfstring(L, ".%I/", (LUAI_UACINT)ext_u32(ext.data + 22));
        lua_pushfstring(L, "%d", (int)ext.data[5]);
        lua_pushliteral(L, ">");
    }
    lua_concat(L, 5);
    return 1;
}

/* Makes the metatable of a kind. [-0, +0, m] */
static void open_kind(lua_State *L, struct term_state *state, enum term_kind kind,
                      lua_CFunction tostring) {
    static const luaL_Reg methods[] = {{"__eq", id_eq}, {"__index", id_index}, {NULL, NULL}};
    term_new_metatable(L, kind);
    luaL_setfuncs(L, methods, 0);
    lua_pushcfunction(L, tostring);
    lua_setfield(L, -2, "__tostring");
    state->metatable[kind] = luaL_ref(L, LUA_REGISTRYINDEX);
}

void term_ids_open(lua_State *L, struct term_state *state) {
    open_kind(L, state, KIND_PID, id_tostring);
    open_kind(L, state, KIND_PORT, id_tostring);
    open_kind(L, state, KIND_REF, id_tostring);
    open_kind(L, state, KIND_FUN, fun_tostring);
}

void term_set_fun_call(lua_State *L, lua_CFunction call) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, term_state(L)->metatable[KIND_FUN]);
    lua_pushcfunction(L, call);
    lua_setfield(L, -2, "__call");
    lua_pop(L, 1);
}

/* }==== */
