/* What runs in a process's coroutine: the start, a message, the end. */
#include <limits.h>
#include <string.h>

#include "engine/private.h"

/* {==== Finding the function ============================================================== */

/* Not called from outside: callbacks, `start`, and what begins with an underscore. */
static bool is_private(struct span name) {
    const struct span names[] = {span_str("start"),       span_str("init"),
                                 span_str("terminate"),   span_str("upgrade"),
                                 span_str("run"),         span_str("handle_call"),
                                 span_str("handle_cast"), span_str("handle_info")};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (span_equal(name, names[i])) {
            return true;
        }
    }
    return name.len == 0 || name.data[0] == '_';
}

/* Pushes the function `name` of the handler's own table; false, with nothing pushed, when there is
 * none.
 * [-0, +1, m] */
static bool push_function(lua_State *L, const struct eng_proc *proc, struct span name) {
    if (proc->version->is_function) {
        return false;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, proc->version->value_ref);
    lua_pushlstring(L, (const char *)name.data, name.len);
    lua_rawget(L, -2);
    lua_remove(L, -2); /* the table */
    if (lua_isfunction(L, -1)) {
        return true;
    }
    lua_pop(L, 1);
    return false;
}

/* The name that a message carries: {:add, 5} and :get have one. `args` is left at the arguments. */
static bool name_of(struct span body, struct span *name, struct span *args, uint32_t *count) {
    bool latin1;
    *count = 1;
    ext_take_tuple(&body, count);
    if (*count == 0 || !ext_take_atom(&body, name, &latin1)) {
        return false;
    }
    *count -= 1;
    *args = body;
    return true;
}

/* }==== */

/* {==== Pushing the call ================================================================== */

enum push { PUSHED, UNMATCHED, UNREADABLE };

void eng_push_self(lua_State *L, struct eng_proc *proc) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, proc->self_ref);
}

/* Decodes `count` terms. [-0, +count, m] */
static enum push push_args(lua_State *L, struct span args, uint32_t count, struct err *err) {
    if (count > INT_MAX || !lua_checkstack(L, (int)count + 1)) {
        err_set(err, "%u arguments are more than a Lua function can take", count);
        return UNREADABLE;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!term_decode(L, &args, err)) {
            return UNREADABLE;
        }
    }
    return PUSHED;
}

/* The function that the message names, self, and the message's arguments. [-0, +n, m] */
static enum push push_named(lua_State *L, struct eng_proc *proc, struct err *err) {
    struct span name;
    struct span args;
    uint32_t count;
    if (!name_of(proc->current->body, &name, &args, &count) || is_private(name) ||
        !push_function(L, proc, name)) {
        return UNMATCHED;
    }
    eng_push_self(L, proc);
    return push_args(L, args, count, err);
}

/* handle_call(request, from), handle_cast(request), handle_info(message, from). [-0, +n, m] */
static enum push push_callback(lua_State *L, struct eng_proc *proc, struct err *err) {
    static const char *const names[] = {[ENG_CALL] = "handle_call",
                                        [ENG_CAST] = "handle_cast",
                                        [ENG_ANY] = "handle_info",
                                        [ENG_INFO] = "handle_info"};
    struct eng_mail *mail = proc->current;
    if (!push_function(L, proc, span_str(names[mail->caller.kind]))) {
        return UNMATCHED;
    }
    eng_push_self(L, proc);
    struct span body = mail->body;
    if (!term_decode(L, &body, err)) {
        return UNREADABLE;
    }
    if (mail->caller.kind != ENG_CAST) {
        eng_from_push(L, proc, mail);
    }
    return PUSHED;
}

/* A handler that is one function gets every message. [-0, +3, m] */
static enum push push_single(lua_State *L, struct eng_proc *proc, struct err *err) {
    struct span body = proc->current->body;
    lua_rawgeti(L, LUA_REGISTRYINDEX, proc->version->value_ref);
    if (!term_decode(L, &body, err)) {
        return UNREADABLE;
    }
    eng_from_push(L, proc, proc->current);
    return PUSHED;
}

/* [-0, +n, m] */
static enum push push_call(lua_State *L, struct eng_proc *proc, struct err *err) {
    if (proc->version->is_function) {
        return push_single(L, proc, err);
    }
    enum push pushed = push_named(L, proc, err);
    return pushed == UNMATCHED ? push_callback(L, proc, err) : pushed;
}

/* }==== */

/* {==== A message ========================================================================= */

static void warn(struct eng_proc *proc, const char *what) {
    if (eng_may_log(proc->handler, strlen(what))) {
        log_line(proc->engine->log, LOG_LEVEL_WARNING, proc->handler->name, "%s", what);
    }
}

/* Nothing in the script takes this message: its caller is told; the process lives. */
static void unmatched(struct eng_proc *proc) {
    struct eng_mail *mail = proc->current;
    struct buf reason = {0};
    eng_reason_undef(&reason, mail->body);
    if (mail->caller.kind == ENG_CALL) {
        eng_reply_failure(proc->engine, proc, &mail->caller, buf_span(&reason));
    } else if (eng_may_log(proc->handler, mail->body.len < 64 ? mail->body.len : 64)) {
        struct span name = span_str("a message without a name");
        struct span args;
        uint32_t count;
        name_of(mail->body, &name, &args, &count);
        log_line(proc->engine->log, LOG_LEVEL_WARNING, proc->handler->name,
                 "dropped a message that no function takes: %.*s", (int)name.len,
                 (const char *)name.data);
    }
    buf_finish(&reason);
}

/* The message's bytes are no term, or need more than there is. The process lives. */
static void unreadable(struct eng_proc *proc, const struct err *err) {
    struct buf reason = {0};
    eng_reason_text(&reason, "undecodable", span_str(err->text));
    if (eng_may_log(proc->handler, strlen(err->text))) {
        log_line(proc->engine->log, LOG_LEVEL_ERROR, proc->handler->name,
                 "dropped a message that cannot be read: %s", err->text);
    }
    eng_reply_failure(proc->engine, proc, &proc->current->caller, buf_span(&reason));
    buf_finish(&reason);
}

/* What the function returned, from index 2 on, answers the caller. [-0, +0, e] */
static void answer(lua_State *L, struct eng_proc *proc) {
    struct eng_mail *mail = proc->current;
    int n = lua_gettop(L) - 1;
    bool nothing_due = n == 0 && mail->caller.kind == ENG_ANY;
    if (eng_limit_is_met(proc)) {
        return;
    }
    if (mail->caller.kind == ENG_CAST || mail->caller.kind == ENG_INFO || nothing_due) {
        return;
    }
    if (n == 1 && eng_is_noreply(L, -1)) {
        if (mail->from == NULL) {
            warn(proc, "erl.noreply was returned, but nobody has asked for erl.from(): "
                       "this caller can't be answered");
        }
        return;
    }
    if (mail->from != NULL && mail->from->proc == NULL) {
        if (n > 0) {
            warn(proc, "a value was returned to a caller that erl.reply had answered: dropped");
        }
        return;
    }
    eng_reply_values(L, proc, &mail->caller, n, "reply");
    if (mail->from != NULL) {
        eng_from_done(mail->from);
    }
}

/* [-0, +0, e] */
static int finish_message(lua_State *L, int status, lua_KContext context) {
    (void)status;
    answer(L, (struct eng_proc *)context);
    return 0;
}

int eng_run_message(lua_State *L) {
    struct eng_proc *proc = lua_touserdata(L, 1);
    struct err err;
    lua_settop(L, 1); /* what the function returns comes from index 2 on */
    switch (push_call(L, proc, &err)) {
    case UNMATCHED:
        unmatched(proc);
        return 0;
    case UNREADABLE:
        unreadable(proc, &err);
        return 0;
    case PUSHED:
        break;
    }
    lua_callk(L, lua_gettop(L) - 2, LUA_MULTRET, (lua_KContext)proc, finish_message);
    return finish_message(L, LUA_OK, (lua_KContext)proc);
}

/* }==== */

/* {==== The start and the end ============================================================= */

/* `self`: a table that looks into the handler's. [-0, +0, m] */
static void make_self(lua_State *L, struct eng_proc *proc) {
    lua_newtable(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, proc->version->meta_ref);
    lua_setmetatable(L, -2);
    proc->self_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

/* Nothing follows what has returned. [-0, +0, -] */
static int finish(lua_State *L, int status, lua_KContext context) {
    (void)L;
    (void)status;
    (void)context;
    return 0;
}

/* init(...) with the arguments that the process was started with. [-0, +0, e] */
static int start_lasting(lua_State *L, struct eng_proc *proc) {
    const struct eng_start *start = proc->start;
    struct err err;
    if (!push_function(L, proc, span_str("init"))) {
        return 0;
    }
    eng_push_self(L, proc);
    if (push_args(L, start->args, start->count, &err) != PUSHED) {
        return luaL_error(L, "init: cannot read its arguments: %s", err.text);
    }
    lua_callk(L, (int)start->count + 1, 0, (lua_KContext)proc, finish);
    return finish(L, LUA_OK, 0);
}

/* The function has returned: to erpc its values are the result. [-0, +0, e] */
static int finish_once(lua_State *L, int status, lua_KContext context) {
    struct eng_proc *proc = (struct eng_proc *)context;
    struct buf value = {0};
    struct err err;
    (void)status;
    if (proc->start->result.len == 0 || eng_limit_is_met(proc)) {
        return 0;
    }
    if (!eng_put_values(L, lua_gettop(L), "result", &value, &err)) {
        buf_finish(&value);
        return luaL_error(L, "%s", err.text);
    }
    eng_erpc_result(&proc->reason, proc, "return", buf_span(&value));
    buf_finish(&value);
    return 0;
}

/* There is no such function that may be called from outside. */
static void end_undef(struct eng_proc *proc) {
    struct buf undef = {0};
    eng_reason_atom(&undef, "undef");
    eng_spawn_error(&proc->reason, span_str(proc->handler->name), proc->start, buf_span(&undef));
    buf_finish(&undef);
}

/* [-0, +0, e] */
static int start_once(lua_State *L, struct eng_proc *proc) {
    const struct eng_start *start = proc->start;
    struct err err;
    if (is_private(start->function) || !push_function(L, proc, start->function)) {
        end_undef(proc);
        return 0;
    }
    eng_push_self(L, proc);
    if (push_args(L, start->args, start->count, &err) != PUSHED) {
        return luaL_error(L, "cannot read the arguments: %s", err.text);
    }
    lua_callk(L, (int)start->count + 1, LUA_MULTRET, (lua_KContext)proc, finish_once);
    return finish_once(L, LUA_OK, (lua_KContext)proc);
}

/* The table of the closure holds the function and its arguments. [-0, +0, e] */
static int start_closure(lua_State *L, struct eng_proc *proc) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, proc->start->closure);
    int n = (int)proc->start->count;
    luaL_checkstack(L, n + 1, "too many arguments");
    for (int i = 0; i <= n; i++) {
        lua_rawgeti(L, 1, i + 1);
    }
    lua_callk(L, n, 0, 0, finish);
    return finish(L, LUA_OK, 0);
}

/* [-0, +0, e] */
static int start_process(lua_State *L, struct eng_proc *proc) {
    eng_version_use(proc, proc->handler->version);
    if (proc->start->purpose == ENG_CLOSURE) {
        return start_closure(L, proc);
    }
    make_self(L, proc);
    return proc->start->purpose == ENG_ONCE ? start_once(L, proc) : start_lasting(L, proc);
}

/* The script's top level has run. [-1, +0, e] */
static int finish_load(lua_State *L, int status, lua_KContext context) {
    (void)status;
    eng_version_accept(L, (struct eng_version *)context);
    return 0;
}

/* [-0, +0, e] */
static int start_load(lua_State *L, struct eng_version *version) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, version->chunk_ref);
    luaL_unref(L, LUA_REGISTRYINDEX, version->chunk_ref);
    version->chunk_ref = LUA_NOREF;
    lua_callk(L, 0, 1, (lua_KContext)version, finish_load);
    return finish_load(L, LUA_OK, (lua_KContext)version);
}

int eng_run_boot(lua_State *L) {
    struct eng_proc *proc = lua_touserdata(L, 1);
    if (proc->start->purpose == ENG_EVAL) {
        return eng_eval_run(L, proc);
    }
    lua_settop(L, 0);
    return proc->start->purpose == ENG_LOAD ? start_load(L, proc->version) : start_process(L, proc);
}

/* Another version has gone live: the process takes it, with what it has in `self`. */
int eng_run_upgrade(lua_State *L) {
    struct eng_proc *proc = lua_touserdata(L, 1);
    lua_Integer old = proc->version->number;
    eng_version_use(proc, proc->handler->version);
    eng_push_self(L, proc);
    lua_rawgeti(L, LUA_REGISTRYINDEX, proc->version->meta_ref);
    lua_setmetatable(L, -2);
    if (!push_function(L, proc, span_str("upgrade"))) {
        return 0;
    }
    lua_insert(L, -2); /* function, self */
    lua_pushinteger(L, old);
    lua_callk(L, 2, 0, 0, finish);
    return finish(L, LUA_OK, 0);
}

int eng_run_run(lua_State *L) {
    struct eng_proc *proc = lua_touserdata(L, 1);
    if (push_function(L, proc, span_str("run"))) {
        eng_push_self(L, proc);
        lua_callk(L, 1, 0, 0, finish);
    }
    return finish(L, LUA_OK, 0);
}

int eng_run_terminate(lua_State *L) {
    struct eng_proc *proc = lua_touserdata(L, 1);
    struct err err;
    if (!push_function(L, proc, span_str("terminate"))) {
        return 0;
    }
    eng_push_self(L, proc);
    /* a copy: a finalizer that ends the process meanwhile replaces the reason */
    struct span reason = buf_span(&proc->reason);
    reason.data = (const uint8_t *)lua_pushlstring(L, (const char *)reason.data, reason.len);
    lua_insert(L, 1);
    if (!term_decode(L, &reason, &err)) {
        return luaL_error(L, "%s", err.text);
    }
    lua_callk(L, 2, 0, 0, finish);
    return finish(L, LUA_OK, 0);
}

/* }==== */
