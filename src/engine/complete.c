/* What the last word of a line may become: the names that a prompt offers. Nothing of a script runs
 * for it: fields are read raw, and of metatables only an `__index` that is a table is followed. */
#include <ctype.h>
#include <string.h>

#include "engine/private.h"

/* A table with more keys than MAX_KEYS is looked at in part: everything else waits meanwhile. */
enum { MAX_NAMES = 200, MAX_CHAIN = 8, MAX_KEYS = 20000 };

struct completion {
    struct eng_handler *handler;
    struct eng_client *client;
    struct span path; /* "a.b." of "a.b.c" */
    struct span word; /* "c" of it */
    struct buf names; /* as binaries, one behind the other */
    uint32_t count;
};

static bool is_word(uint8_t c) {
    return isalnum(c) || c == '_';
}

/* The last word of the text, and the path before it. */
static void split(struct span text, struct completion *completion) {
    size_t word = text.len;
    while (word > 0 && is_word(text.data[word - 1])) {
        word--;
    }
    size_t path = word;
    while (path > 0 && (is_word(text.data[path - 1]) || text.data[path - 1] == '.' ||
                        text.data[path - 1] == ':')) {
        path--;
    }
    completion->word = span_of(text.data + word, text.len - word);
    completion->path = span_of(text.data + path, word - path);
}

/* Replaces the value on top by its __index when that is a table; false otherwise. [-0, +0, m] */
static bool to_index(lua_State *L) {
    if (!lua_getmetatable(L, -1)) {
        return false;
    }
    lua_pushliteral(L, "__index");
    lua_rawget(L, -2);
    lua_remove(L, -2);
    if (!lua_istable(L, -1)) {
        lua_pop(L, 1);
        return false;
    }
    lua_replace(L, -2);
    return true;
}

/* Replaces the value on top by its field, or nil. [-0, +0, m] */
static void to_field(lua_State *L, struct span name) {
    bool more = true;
    for (int i = 0; more && i < MAX_CHAIN; i++) {
        if (lua_istable(L, -1)) {
            lua_pushlstring(L, (const char *)name.data, name.len);
            lua_rawget(L, -2);
            if (!lua_isnil(L, -1)) {
                lua_replace(L, -2);
                return;
            }
            lua_pop(L, 1);
        }
        more = to_index(L);
    }
    lua_pushnil(L);
    lua_replace(L, -2);
}

/* Whether the name was offered before. */
static bool is_new(const struct completion *completion, struct span name) {
    struct span rest = buf_span(&completion->names);
    struct span term;
    while (ext_take(&rest, &term)) {
        struct span word =
            span_of(term.data + 5 + completion->path.len, term.len - 5 - completion->path.len);
        if (span_equal(word, name)) {
            return false;
        }
    }
    return true;
}

static void offer(struct completion *completion, struct span name) {
    struct buf text = {0};
    bool fits = name.len > 0 && name.len >= completion->word.len &&
                memcmp(name.data, completion->word.data, completion->word.len) == 0 &&
                !isdigit(name.data[0]);
    for (size_t i = 0; fits && i < name.len; i++) {
        fits = is_word(name.data[i]);
    }
    if (!fits || completion->count == MAX_NAMES || !is_new(completion, name)) {
        return;
    }
    if (buf_append(&text, completion->path.data, completion->path.len) &&
        buf_append(&text, name.data, name.len) &&
        ext_put_binary(&completion->names, buf_span(&text))) {
        completion->count++;
    }
    buf_finish(&text);
}

/* The names in the table on top. [-0, +0, m] */
static void offer_keys(lua_State *L, struct completion *completion) {
    size_t len;
    lua_pushnil(L);
    for (int i = 0; i < MAX_KEYS && lua_next(L, -2) != 0; i++) {
        lua_pop(L, 1);
        if (lua_type(L, -1) == LUA_TSTRING) {
            const char *name = lua_tolstring(L, -1, &len);
            offer(completion, span_of(name, len));
        }
    }
}

/* The names in the table on top, and in those that it looks into. [-1, +0, m] */
static void offer_fields(lua_State *L, struct completion *completion) {
    bool more = true;
    for (int i = 0; more && i < MAX_CHAIN; i++) {
        if (lua_istable(L, -1)) {
            int top = lua_gettop(L);
            offer_keys(L, completion);
            lua_settop(L, top);
        }
        more = to_index(L);
    }
    lua_pop(L, 1);
}

static void offer_keywords(struct completion *completion) {
    static const char *const words[] = {"and",   "break", "do",       "else", "elseif", "end",
                                        "false", "for",   "function", "goto", "if",     "in",
                                        "local", "nil",   "not",      "or",   "repeat", "return",
                                        "then",  "true",  "until",    "while"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        offer(completion, span_str(words[i]));
    }
}

/* Runs protected. Expects the completion as a light userdata. [-1, +0, m] */
static int complete(lua_State *L) {
    struct completion *completion = lua_touserdata(L, 1);
    struct span path = completion->path;
    eng_eval_push_environment(L, completion->handler, completion->client);
    while (path.len > 0) {
        size_t len = 0;
        while (is_word(path.data[len])) {
            len++;
        }
        to_field(L, span_of(path.data, len));
        path = span_of(path.data + len + 1, path.len - len - 1);
    }
    if (completion->path.len == 0 && completion->word.len > 0) {
        offer_keywords(completion);
    }
    offer_fields(L, completion);
    return 0;
}

bool eng_complete(struct eng_handler *handler, struct eng_client *client, struct span text,
                  struct buf *out) {
    struct completion completion = {.handler = handler, .client = client};
    lua_State *L = handler->L;
    split(text, &completion);
    lua_pushcfunction(L, complete);
    lua_pushlightuserdata(L, &completion);
    if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
        lua_pop(L, 1);
    }
    bool ok = (completion.count == 0 || ext_put_list(out, completion.count)) &&
              buf_append(out, completion.names.data, completion.names.len) && ext_put_nil(out);
    buf_finish(&completion.names);
    return ok;
}
