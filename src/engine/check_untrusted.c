/* `lunode check`: what a script that is not trusted uses, and will not get. It is looked for in the
 * source, also where nothing runs it: names of Lua's libraries that its environment has not, and
 * sends and calls that its policy forbids. Best effort: what a local stands for is not known. */
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>

#include "engine/private.h"
#include "engine/tokens.h"

struct look {
    struct eng_handler *handler;
    const struct eng_version *version;
    lua_State *plain; /* a Lua with all its libraries */
    struct eng_tokens tokens;
    size_t at;
    struct buf locals; /* spans: names that were declared so far */
};

/* {==== Tokens ============================================================================ */

/* That many tokens on, or back; beyond an end it is the end. */
static const struct eng_token *token(const struct look *look, int offset) {
    size_t last = look->tokens.count - 1;
    size_t at = offset < 0 && look->at < (size_t)-offset ? last : look->at + (size_t)offset;
    return &look->tokens.all[at > last ? last : at];
}

static bool is(const struct look *look, int offset, const char *text) {
    return eng_token_is(token(look, offset), text);
}

static __attribute__((format(printf, 2, 3))) void warn(const struct look *look, const char *format,
                                                       ...) {
    va_list arguments;
    (void)fprintf(stderr, "%s:%d: warning: ", look->handler->path, token(look, 0)->line);
    va_start(arguments, format);
    (void)vfprintf(stderr, format, arguments);
    va_end(arguments);
    (void)fputc('\n', stderr);
}

/* An atom as it is written: atom.name, atom "name" or atom("name"). Gives the number of its tokens;
 * 0 when there is none. */
static int atom_at(const struct look *look, int offset, struct span *name) {
    if (!is(look, offset, "atom")) {
        return 0;
    }
    bool bracket = is(look, offset + 1, "(");
    bool dot = is(look, offset + 1, ".");
    const struct eng_token *named = token(look, offset + 1 + (bracket || dot));
    *name = named->text;
    return named->kind != (dot ? ENG_TOKEN_NAME : ENG_TOKEN_STRING) ? 0 : bracket ? 4 : 2 + dot;
}

/* Where the next argument begins; 0 when there is none. */
static int next_argument(const struct look *look, int offset) {
    for (int depth = 0; token(look, offset)->kind != ENG_TOKEN_END; offset++) {
        if (is(look, offset, "(") || is(look, offset, "{") || is(look, offset, "[")) {
            depth++;
        } else if (is(look, offset, ")") || is(look, offset, "}") || is(look, offset, "]")) {
            if (--depth < 0) {
                return 0;
            }
        } else if (depth == 0 && is(look, offset, ",")) {
            return offset + 1;
        }
    }
    return 0;
}

/* }==== */

/* {==== Names ============================================================================= */

static bool is_local(const struct look *look, struct span name) {
    const struct span *all = (const struct span *)(const void *)look->locals.data;
    for (size_t i = 0; i < look->locals.len / sizeof *all; i++) {
        if (span_equal(all[i], name)) {
            return true;
        }
    }
    return false;
}

/* Names with commas between; without memory for them there is a warning too much. */
static void note_names(struct look *look, int offset) {
    for (; token(look, offset)->kind == ENG_TOKEN_NAME; offset += 2) {
        buf_append(&look->locals, &token(look, offset)->text, sizeof(struct span));
        if (is(look, offset + 1, "<")) {
            offset += 3; /* <const> */
        }
        if (!is(look, offset + 1, ",")) {
            return;
        }
    }
}

/* What is declared here is no library from now on. */
static void note_locals(struct look *look) {
    if (is(look, 0, "local")) {
        note_names(look, is(look, 1, "function") ? 2 : 1);
    } else if (is(look, 0, "for")) {
        note_names(look, 1);
    } else if (is(look, 0, "function")) {
        int offset = 1;
        while (!is(look, offset, "(") && token(look, offset)->kind != ENG_TOKEN_END) {
            offset++;
        }
        note_names(look, offset + 1);
    }
}

struct question {
    int table;
    struct span name, field; /* of the table in the registry; `field` may be empty */
    bool known;
};

/* Runs protected. Expects the question as a light userdata. [-1, +0, e] */
static int look_up(lua_State *L) {
    struct question *question = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, question->table);
    lua_pushlstring(L, (const char *)question->name.data, question->name.len);
    int type = lua_gettable(L, -2);
    if (question->field.len > 0 && type == LUA_TTABLE) {
        lua_pushlstring(L, (const char *)question->field.data, question->field.len);
        type = lua_gettable(L, -2);
    }
    question->known = type != LUA_TNIL;
    return 0;
}

/* [-0, +0, -] */
static bool has(lua_State *L, int table, struct span name, struct span field) {
    struct question question = {table, name, field, false};
    lua_pushcfunction(L, look_up);
    lua_pushlightuserdata(L, &question);
    if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
        lua_pop(L, 1);
    }
    return question.known;
}

/* Whether the script finds it. */
static bool gets(const struct look *look, struct span name, struct span field) {
    return has(look->handler->L, look->version->env_ref, name, field);
}

/* A global that is read here: `local io = io` reads it too. */
static bool reads_global(const struct look *look) {
    struct span name = token(look, 0)->text;
    bool is_read = token(look, 0)->kind == ENG_TOKEN_NAME && !is(look, -1, ".") &&
                   !is(look, -1, ":") && !is(look, 1, "=");
    bool is_own = is(look, -1, "=") && token(look, -2)->kind == ENG_TOKEN_NAME &&
                  span_equal(token(look, -2)->text, name) && is(look, -3, "local");
    return is_read && (is_own || !is_local(look, name));
}

static void look_at_name(const struct look *look) {
    struct span name = token(look, 0)->text;
    bool has_field = is(look, 1, ".") && token(look, 2)->kind == ENG_TOKEN_NAME;
    struct span field = has_field ? token(look, 2)->text : (struct span){0};
    if (has(look->plain, LUA_RIDX_GLOBALS, name, field) && !gets(look, name, field)) {
        warn(look, "%.*s%s%.*s: a script that is not trusted does not have it", (int)name.len,
             (const char *)name.data, has_field ? "." : "", (int)field.len,
             (const char *)field.data);
    }
}

/* require "name" */
static void look_at_require(const struct look *look) {
    const struct eng_token *name = token(look, is(look, 1, "(") ? 2 : 1);
    bool known =
        span_equal(name->text, span_str("lunode.term")) || gets(look, name->text, (struct span){0});
    if (name->kind == ENG_TOKEN_STRING && !known) {
        warn(look, "require: a script that is not trusted does not have the module %.*s",
             (int)name->text.len, (const char *)name->text.data);
    }
}

static void look_at_finalizer(const struct look *look) {
    if (token(look, 0)->kind != ENG_TOKEN_OTHER &&
        span_equal(token(look, 0)->text, span_str("__gc"))) {
        warn(look, "__gc: a script that is not trusted has no finalizers");
    }
}

/* }==== */

/* {==== erl =============================================================================== */

/* Each gets the function's name and where its arguments begin. */

static void look_at_send(const struct look *look, const char *function, int offset) {
    struct span name;
    int tokens = atom_at(look, offset, &name);
    bool is_all = tokens > 0 && (is(look, offset + tokens, ",") || is(look, offset + tokens, ")"));
    if (is_all && !span_equal(name, span_str(look->handler->name)) &&
        !eng_policy_may_send(&look->handler->policy, name)) {
        warn(look, "erl.%s: not allowed to send to %.*s: allow.send does not name it", function,
             (int)name.len, (const char *)name.data);
    }
}

static void look_at_rpc(const struct look *look, const char *function, int offset) {
    const struct eng_policy *policy = &look->handler->policy;
    struct span module;
    struct span name;
    int second = next_argument(look, offset);
    int third = second == 0 ? 0 : next_argument(look, second);
    if (policy->rpc.len == 0) {
        warn(look, "erl.%s: allow.rpc names nothing that may be called", function);
    } else if (third != 0 && atom_at(look, second, &module) > 0 &&
               atom_at(look, third, &name) > 0 && !eng_policy_may_rpc(policy, module, name)) {
        warn(look, "erl.%s: not allowed to call %.*s.%.*s: allow.rpc does not name it", function,
             (int)module.len, (const char *)module.data, (int)name.len, (const char *)name.data);
    }
}

static void look_at_spawn(const struct look *look, const char *function, int offset) {
    struct span name;
    if (atom_at(look, offset, &name) > 0 && !span_equal(name, span_str(look->handler->name))) {
        warn(look, "erl.%s: a script that is not trusted starts processes of its own handler alone",
             function);
    }
}

static void look_at_register(const struct look *look, const char *function, int offset) {
    (void)offset;
    warn(look, "erl.%s: a script that is not trusted cannot take names", function);
}

static void look_at_erl(const struct look *look) {
    static const struct {
        const char *name;
        void (*look)(const struct look *, const char *, int);
    } functions[] = {{"send", look_at_send},    {"cast", look_at_send},
                     {"call", look_at_send},    {"send_after", look_at_send},
                     {"monitor", look_at_send}, {"rpc", look_at_rpc},
                     {"spawn", look_at_spawn},  {"register", look_at_register}};
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        if (is(look, 1, ".") && is(look, 2, functions[i].name) && is(look, 3, "(")) {
            functions[i].look(look, functions[i].name, 4);
        }
    }
}

/* }==== */

static void look_at_all(struct look *look) {
    for (look->at = 0; look->at < look->tokens.count; look->at++) {
        note_locals(look);
        look_at_finalizer(look);
        if (reads_global(look)) {
            look_at_name(look);
            if (is(look, 0, "require")) {
                look_at_require(look);
            } else if (is(look, 0, "erl")) {
                look_at_erl(look);
            }
        }
    }
}

void eng_check_untrusted(struct eng_handler *handler) {
    const struct eng_version *version = handler->tried;
    struct look look = {.handler = handler, .version = version, .plain = luaL_newstate()};
    if (look.plain != NULL &&
        eng_tokens_read(&look.tokens, eng_skip_start(buf_span(&version->source)))) {
        luaL_openlibs(look.plain);
        look_at_all(&look);
        eng_tokens_finish(&look.tokens);
    }
    if (look.plain != NULL) {
        lua_close(look.plain);
    }
    buf_finish(&look.locals);
}
