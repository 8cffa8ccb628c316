/* Exit reasons as external terms. */
#include "engine/private.h"

static void start(struct buf *out) {
    out->len = 0;
}

static void give_up(struct buf *out) {
    start(out);
    ext_put_atom(out, span_str("system_limit"));
}

void eng_reason_atom(struct buf *out, const char *name) {
    start(out);
    ext_put_atom(out, span_str(name));
}

void eng_reason_text(struct buf *out, const char *kind, struct span text) {
    start(out);
    if (!ext_put_tuple(out, 2) || !ext_put_atom(out, span_str(kind)) ||
        !ext_put_binary(out, text)) {
        give_up(out);
    }
}

void eng_reason_lua_error(struct buf *out, const char *message) {
    start(out);
    if (!ext_put_tuple(out, 3) || !ext_put_atom(out, span_str("lua_error")) ||
        !ext_put_binary(out, span_str(message)) || !ext_put_binary(out, span_str(""))) {
        give_up(out);
    }
}

/* The name and the number of arguments of a request: {:add, 5} is add/1, :get is get/0, and what
 * has no name is the callback's, handle_call/2. */
void eng_reason_undef(struct buf *out, struct span body) {
    uint32_t arity = 1;
    struct span name;
    bool latin1;
    ext_take_tuple(&body, &arity);
    if (arity == 0 || !ext_take_atom(&body, &name, &latin1)) {
        name = span_str("handle_call");
        arity = 3;
    }
    start(out);
    if (!ext_put_tuple(out, 3) || !ext_put_atom(out, span_str("undef")) ||
        !ext_put_atom(out, name) || !ext_put_int(out, (int32_t)arity - 1)) {
        give_up(out);
    }
}

void eng_reason_limit(struct buf *out, const char *kind, size_t max, size_t used) {
    int32_t numbers[] = {(int32_t)(max < INT32_MAX ? max : INT32_MAX),
                         (int32_t)(used < INT32_MAX ? used : INT32_MAX)};
    start(out);
    if (!ext_put_tuple(out, 4) || !ext_put_atom(out, span_str("limit")) ||
        !ext_put_atom(out, span_str(kind)) || !ext_put_int(out, numbers[0]) ||
        !ext_put_int(out, numbers[1])) {
        give_up(out);
    }
}

void eng_reason_copy(struct buf *out, struct span reason) {
    start(out);
    if (!buf_append(out, reason.data, reason.len)) {
        give_up(out);
    }
}

bool eng_reason_is_quiet(struct span reason) {
    struct span head;
    uint32_t arity;
    if (ext_take_tuple(&reason, &arity)) {
        return arity == 2 && ext_take(&reason, &head) && ext_is_atom(head, "shutdown");
    }
    return ext_is_atom(reason, "normal") || ext_is_atom(reason, "shutdown");
}

/* {==== In words ========================================================================== */

struct words {
    struct span reason;
    struct buf *text;
};

/* Runs protected. Expects the words as a light userdata. [-1, +0, e] */
static int tell(lua_State *L) {
    struct words *words = lua_touserdata(L, 1);
    struct err err;
    size_t len;
    if (!term_decode(L, &words->reason, &err)) {
        return luaL_error(L, "%s", err.text);
    }
    const char *text = luaL_tolstring(L, -1, &len);
    buf_append(words->text, text, len);
    return 0;
}

void eng_reason_tell(struct buf *text, lua_State *L, struct span reason) {
    struct words words = {reason, text};
    lua_pushcfunction(L, tell);
    lua_pushlightuserdata(L, &words);
    if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
        buf_append(text, "a reason that cannot be shown", 29);
        lua_pop(L, 1);
    }
}

/* }==== */

/* {==== Errors that Lua raised ============================================================ */

struct error_parts {
    struct buf *out;
    struct buf *text;
    lua_State *co;
};

static int to_text(lua_State *L) {
    luaL_tolstring(L, 1, NULL);
    return 1;
}

/* Pushes the value as text; its __tostring may fail. [-0, +1, m] */
static void push_text(lua_State *L, int value) {
    lua_pushcfunction(L, to_text);
    lua_pushvalue(L, value);
    if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
        lua_pop(L, 1);
        lua_pushfstring(L, "an error value (%s) whose __tostring fails", luaL_typename(L, value));
    }
}

/* The value itself when it can be sent, else its text. [-0, +0, m] */
static bool put_value(lua_State *L, int value, struct buf *out) {
    struct err err;
    if (term_encode(L, value, "error", out, &err)) {
        return true;
    }
    size_t len;
    push_text(L, value); /* +1 */
    const char *text = lua_tolstring(L, -1, &len);
    bool ok = ext_put_binary(out, span_of(text, len));
    lua_pop(L, 1);
    return ok;
}

/* Runs protected: memory may be short. Expects the parts as a light userdata and the error's value.
 * [-2, +0, e] */
static int build_error(lua_State *L) {
    struct error_parts *parts = lua_touserdata(L, 1);
    size_t len;
    luaL_traceback(L, parts->co, NULL, 0);
    const char *trace = lua_tolstring(L, 3, &len); /* parts, value, traceback */
    start(parts->out);
    if (!ext_put_tuple(parts->out, 3) || !ext_put_atom(parts->out, span_str("lua_error")) ||
        !put_value(L, 2, parts->out) || !ext_put_binary(parts->out, span_of(trace, len))) {
        return luaL_error(L, "not enough memory");
    }
    push_text(L, 2);
    size_t message_len;
    const char *message = lua_tolstring(L, -1, &message_len);
    buf_append(parts->text, message, message_len);
    buf_append(parts->text, "\n", 1);
    buf_append(parts->text, trace, len);
    return 0;
}

void eng_reason_error(struct buf *out, struct buf *text, lua_State *L, lua_State *co) {
    struct error_parts parts = {out, text, co};
    start(out);
    start(text);
    lua_pushcfunction(L, build_error);
    lua_pushlightuserdata(L, &parts);
    lua_pushvalue(co, -1);
    lua_xmove(co, L, 1);
    if (lua_pcall(L, 2, 0, 0) != LUA_OK) {
        size_t len;
        const char *why = lua_tolstring(L, -1, &len);
        struct span said = why == NULL ? span_str("an error without a text") : span_of(why, len);
        eng_reason_lua_error(out, why == NULL ? "an error without a text" : why);
        start(text);
        buf_append(text, said.data, said.len);
        lua_pop(L, 1);
    }
}

/* }==== */
