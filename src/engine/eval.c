/* Evaluations: Lua source that somebody sends, run in the VM of a handler as a process of its own.
 */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "engine/private.h"

/* {==== The environment =================================================================== */

/* Pushes the globals that the source reads and writes: those of the handler's version, in the
 * scratchpad the prompt's own, else new ones. [-0, +1, m] */
static void push_globals(lua_State *L, struct eng_handler *handler, struct eng_client *client) {
    if (handler->version != NULL) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, handler->version->env_ref);
        return;
    }
    bool keeps = client != NULL && handler == handler->engine->scratchpad;
    if (keeps && client->env_ref != LUA_NOREF) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, client->env_ref);
        return;
    }
    if (handler->policy.trusted) {
        lua_newtable(L);
        lua_createtable(L, 0, 1);
        lua_pushglobaltable(L);
        lua_setfield(L, -2, "__index");
        lua_setmetatable(L, -2);
    } else {
        eng_sandbox_push_environment(L, (struct span){0});
    }
    if (keeps) {
        lua_pushvalue(L, -1);
        client->env_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    }
}

void eng_eval_push_environment(lua_State *L, struct eng_handler *handler,
                               struct eng_client *client) {
    lua_newtable(L);
    if (handler->version != NULL) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, handler->version->value_ref);
        lua_setfield(L, -2, "handler");
        if (handler->proc != NULL && handler->proc->self_ref != LUA_NOREF) {
            eng_push_self(L, handler->proc);
            lua_setfield(L, -2, "self");
        }
    }
    lua_createtable(L, 0, 2);
    push_globals(L, handler, client);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "__index");
    lua_setfield(L, -2, "__newindex");
    lua_setmetatable(L, -2);
}

/* }==== */

/* {==== Compiling ========================================================================= */

struct eval_request {
    struct eng_handler *handler;
    struct eng_client *client; /* NULL: no prompt */
    struct span source;
    int closure; /* the result */
};

/* The source ends before the chunk does: a prompt asks for more. */
static bool is_incomplete(const char *message) {
    static const char end[] = "<eof>";
    size_t len = message == NULL ? 0 : strlen(message);
    return len >= sizeof end - 1 && strcmp(message + len - (sizeof end - 1), end) == 0;
}

/* As an expression, else as it is. Of two errors that one counts that the source only ends too
 * early for. [-0, +1, m] */
static int load_source(lua_State *L, struct span source) {
    lua_pushliteral(L, "return ");
    lua_pushlstring(L, (const char *)source.data, source.len);
    lua_concat(L, 2);
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    int status = luaL_loadbufferx(L, text, len, "=eval", "t");
    if (status != LUA_OK && luaL_loadbufferx(L, text + 7, len - 7, "=eval", "t") == LUA_OK) {
        status = LUA_OK;
    } else if (status != LUA_OK && is_incomplete(lua_tostring(L, -2))) {
        lua_pop(L, 1);
    }
    return status;
}

/* Runs protected. Expects the request as a light userdata. [-1, +0, e] */
static int compile(lua_State *L) {
    struct eval_request *request = lua_touserdata(L, 1);
    if (load_source(L, request->source) != LUA_OK) {
        return lua_error(L); /* the value on top */
    }
    eng_eval_push_environment(L, request->handler, request->client);
    lua_setupvalue(L, -2, 1);
    lua_createtable(L, 1, 0);
    lua_insert(L, -2);
    lua_rawseti(L, -2, 1);
    request->closure = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

/* }==== */

/* {==== Answers =========================================================================== */

static void answer(struct engine *engine, const struct eng_caller *caller, const char *kind,
                   struct span value) {
    struct buf reply = {0};
    if (ext_put_tagged(&reply, kind, value)) {
        eng_reply_term(engine, engine->control, caller, buf_span(&reply));
    }
    buf_finish(&reply);
}

static void answer_atom(struct engine *engine, const struct eng_caller *caller, const char *why) {
    struct buf reason = {0};
    eng_reason_atom(&reason, why);
    answer(engine, caller, "error", buf_span(&reason));
    buf_finish(&reason);
}

/* The value at `idx`, or its text for a prompt. */
static bool put_value(lua_State *L, int idx, bool as_text, struct buf *out, struct err *err) {
    char path[32];
    char text[4096];
    if (as_text) {
        size_t len = term_inspect(L, idx, text, sizeof text);
        return ext_put_binary(out, span_of(text, len)) || err_set(err, "no memory for a reply");
    }
    (void)snprintf(path, sizeof path, "value %d", idx);
    return term_encode(L, idx, path, out, err);
}

/* The source has returned: {ok, [Value]}. [-0, +0, e] */
static int finish_eval(lua_State *L, int status, lua_KContext context) {
    struct eng_proc *proc = (struct eng_proc *)context;
    struct eng_eval *eval = proc->eval;
    struct buf *list = &eval->values;
    struct err err = {""};
    int n = lua_gettop(L);
    (void)status;
    luaL_checkstack(L, LUA_MINSTACK, "too many values");
    bool ok = n == 0 || ext_put_list(list, (uint32_t)n);
    for (int i = 1; ok && i <= n; i++) {
        ok = put_value(L, i, eval->prompt.len > 0, list, &err) &&
             eng_limit_fits(L, list->len, "values", &err);
    }
    eng_eval_flush(proc);
    if (ok && ext_put_nil(list)) {
        answer(proc->engine, &eval->caller, "ok", buf_span(list));
    } else {
        eng_reason_text(list, "cannot_send", span_str(err.text));
        answer(proc->engine, &eval->caller, "error", buf_span(list));
    }
    eval->answered = true;
    return 0;
}

int eng_eval_run(lua_State *L, struct eng_proc *proc) {
    lua_settop(L, 0);
    lua_rawgeti(L, LUA_REGISTRYINDEX, proc->start->closure);
    lua_rawgeti(L, 1, 1);
    lua_remove(L, 1);
    lua_callk(L, 0, LUA_MULTRET, (lua_KContext)proc, finish_eval);
    return finish_eval(L, LUA_OK, (lua_KContext)proc);
}

void eng_eval_ended(struct eng_proc *proc, struct span reason) {
    struct eng_eval *eval = proc->eval;
    eng_eval_flush(proc);
    if (!eval->answered) {
        answer(proc->engine, &eval->caller, "error", reason);
    }
}

void eng_eval_free(struct eng_proc *proc) {
    struct eng_eval *eval = proc->eval;
    if (eval != NULL) {
        DL_DELETE(proc->engine->evals, eval);
        buf_finish(&eval->values);
        buf_finish(&eval->unfinished);
        free(eval);
    }
}

static void end_eval(struct eng_eval *eval, const char *why) {
    struct buf reason = {0};
    eng_reason_atom(&reason, why);
    eng_exit(eval->proc, buf_span(&reason));
    buf_finish(&reason);
}

void eng_evals_end(struct engine *engine, struct span prompt, const char *why) {
    struct eng_eval *eval;
    DL_FOREACH(engine->evals, eval) {
        if (span_equal(eval->prompt, prompt)) {
            end_eval(eval, why);
        }
    }
}

void eng_evals_given_up(struct engine *engine, struct span given_up) {
    struct eng_eval *eval;
    struct span ref;
    bool alias;
    DL_FOREACH(engine->evals, eval) {
        if (!eval->answered && eng_tag_ref(eval->caller.tag, &ref, &alias) &&
            span_equal(ref, given_up)) {
            eval->answered = true;
            end_eval(eval, "killed");
        }
    }
}

/* }==== */

/* {==== What it prints ==================================================================== */

/* {lunode_output, Node, Line} to the prompt; like any message, it makes an evaluation wait whose
 * prompt does not read. */
static void send_line(struct eng_proc *proc, struct span line) {
    struct engine *engine = proc->engine;
    struct dist_control control = {.op = DIST_SEND, .to = proc->eval->prompt};
    struct err err;
    struct buf *out = eng_send_begin(engine, &control, (struct span){0}, &err);
    if (out == NULL) {
        return;
    }
    if (ext_put_tuple(out, 3) && ext_put_atom(out, span_str("lunode_output")) &&
        ext_put_atom(out, eng_node_name(engine)) && ext_put_binary(out, line)) {
        eng_send_end(engine, &err);
    } else {
        eng_send_drop(engine);
    }
}

bool eng_eval_print(struct engine *engine, struct span text, bool whole) {
    struct eng_proc *proc = engine->running;
    if (proc == NULL || proc->eval == NULL || proc->eval->prompt.len == 0) {
        return false;
    }
    struct buf *unfinished = &proc->eval->unfinished;
    if (buf_append(unfinished, text.data, text.len) && whole) {
        buf_append(unfinished, "\n", 1);
    }
    /* Only what is new can have a line's end: what was there before has none. */
    size_t fresh = text.len + (whole ? 1 : 0);
    fresh = fresh < unfinished->len ? fresh : unfinished->len;
    const uint8_t *end =
        fresh == 0 ? NULL : memrchr(unfinished->data + unfinished->len - fresh, '\n', fresh);
    if (end != NULL) {
        size_t len = (size_t)(end - unfinished->data);
        send_line(proc, span_of(unfinished->data, len));
        buf_consume(unfinished, len + 1);
    }
    if (unfinished->len >= ENG_MAX_UNFINISHED) {
        eng_eval_flush(proc);
    }
    buf_relax(unfinished, ENG_MAX_UNFINISHED);
    return true;
}

void eng_eval_flush(struct eng_proc *proc) {
    struct buf *unfinished = &proc->eval->unfinished;
    if (unfinished->len > 0) {
        send_line(proc, buf_span(unfinished));
        unfinished->len = 0;
    }
}

/* }==== */

/* {==== The request ======================================================================= */

/* A VM of its own for what belongs to no handler. */
struct eng_handler *eng_scratchpad(struct engine *engine) {
    static const struct eng_script script = {
        .name = (char *)"lunode", .policy = {.trusted = true, .mailbox = ENG_MAX_MAILBOX}};
    struct err err;
    if (engine->scratchpad == NULL) {
        engine->scratchpad = eng_handler_create(engine, &script, &err);
    }
    return engine->scratchpad;
}

static struct eng_eval *create(const struct eng_caller *caller, struct span prompt,
                               struct span source) {
    struct eng_eval *eval =
        calloc(1, sizeof *eval + caller->pid.len + caller->tag.len + prompt.len + source.len);
    if (eval != NULL) {
        uint8_t *at = eval->bytes;
        eval->caller = *caller;
        eval->caller.pid = span_keep(&at, caller->pid);
        eval->caller.tag = span_keep(&at, caller->tag);
        eval->prompt = span_keep(&at, prompt);
        eval->source = span_keep(&at, source);
    }
    return eval;
}

/* What does not compile: the message is on top of the VM's stack. [-1, +0, -] */
static void refuse(const struct eval_request *request, const struct eng_caller *caller) {
    struct engine *engine = request->handler->engine;
    lua_State *L = request->handler->L;
    const char *message = lua_tostring(L, -1);
    if (request->client != NULL && is_incomplete(message)) {
        answer_atom(engine, caller, "incomplete");
    } else {
        struct eng_error error;
        eng_error_compile(&error, request->handler, &request->source,
                          message == NULL ? "no memory" : message);
        answer(engine, caller, "error", buf_span(&error.reason));
        eng_error_finish(&error);
    }
    lua_pop(L, 1);
}

static void start(struct eval_request *request, const struct eng_caller *caller) {
    struct eng_handler *handler = request->handler;
    struct span prompt = request->client == NULL ? (struct span){0} : request->client->pid;
    struct eng_start start = {.purpose = ENG_EVAL, .closure = request->closure};
    struct eng_eval *eval = create(caller, prompt, request->source);
    struct eng_proc *proc = eval == NULL ? NULL : eng_proc_create(handler->engine, handler, &start);
    if (proc == NULL) {
        luaL_unref(handler->L, LUA_REGISTRYINDEX, request->closure);
        free(eval);
        answer_atom(handler->engine, caller, "system_limit");
        return;
    }
    proc->eval = eval;
    proc->logged = true; /* whoever evaluates is told of its end */
    eval->proc = proc;
    DL_APPEND(handler->engine->evals, eval);
    if (handler->version != NULL) {
        eng_version_use(proc, handler->version);
    }
    eng_sched_touch(proc);
}

void eng_eval(struct eng_handler *handler, struct eng_client *client, struct span source,
              const struct eng_caller *caller) {
    struct eval_request request = {handler, client, source, LUA_NOREF};
    lua_State *L = handler->L;
    lua_pushcfunction(L, compile);
    lua_pushlightuserdata(L, &request);
    if (lua_pcall(L, 1, 0, 0) == LUA_OK) {
        start(&request, caller);
    } else {
        refuse(&request, caller);
    }
}

/* }==== */
