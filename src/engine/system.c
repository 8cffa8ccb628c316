/* OTP's system messages: what `sys` and GenServer.stop ask of a process. */
#include "engine/private.h"

/* {==== Answers =========================================================================== */

static void answer_atom(struct eng_proc *proc, const struct eng_mail *mail, const char *name) {
    eng_reply_atom(proc->engine, proc, &mail->caller, name);
}

/* {error, {Kind, Term}} */
static void answer_error(struct eng_proc *proc, const struct eng_mail *mail, const char *kind,
                         struct span term) {
    struct buf value = {0};
    if (ext_put_tuple(&value, 2) && ext_put_atom(&value, span_str("error")) &&
        ext_put_tagged(&value, kind, term)) {
        eng_reply_term(proc->engine, proc, &mail->caller, buf_span(&value));
    }
    buf_finish(&value);
}

static void answer_text(struct eng_proc *proc, const struct eng_mail *mail, const char *kind,
                        const char *text) {
    struct buf term = {0};
    if (ext_put_binary(&term, span_str(text))) {
        answer_error(proc, mail, kind, buf_span(&term));
    }
    buf_finish(&term);
}

/* {error, {callback_failed, Handler, Text}}, as sys has it for a fun that fails */
static void answer_failed(struct eng_proc *proc, const struct eng_mail *mail, const char *text) {
    struct buf value = {0};
    if (ext_put_tuple(&value, 2) && ext_put_atom(&value, span_str("error")) &&
        ext_put_tuple(&value, 3) && ext_put_atom(&value, span_str("callback_failed")) &&
        ext_put_atom(&value, span_str(proc->handler->name)) &&
        ext_put_binary(&value, span_str(text))) {
        eng_reply_term(proc->engine, proc, &mail->caller, buf_span(&value));
    }
    buf_finish(&value);
}

/* Answers with the value on top, or with the reason why it can't be sent. [-1, +0, m] */
static void answer_value(lua_State *L, struct eng_proc *proc, const struct eng_mail *mail) {
    struct engine *engine = proc->engine;
    struct err err;
    engine->scratch.len = 0;
    if (term_encode(L, -1, "self", &engine->scratch, &err)) {
        eng_reply_term(engine, proc, &mail->caller, buf_span(&engine->scratch));
    } else {
        answer_text(proc, mail, "cannot_send", err.text);
    }
    lua_pop(L, 1);
}

/* }==== */

/* {==== The state ========================================================================= */

/* A map with the fields of `self`. [-0, +1, m] */
static void push_state(lua_State *L, struct eng_proc *proc) {
    lua_newtable(L);
    if (proc->self_ref != LUA_NOREF) {
        eng_push_self(L, proc);
        lua_pushnil(L);
        while (lua_next(L, -2) != 0) { /* state, self, key, value */
            lua_pushvalue(L, -2);
            lua_insert(L, -2);
            lua_rawset(L, -5);
        }
        lua_pop(L, 1);
    }
    term_map(L);
}

/* Gives `self` the fields of the table on top, and no others. [-0, +0, m] */
static void set_state(lua_State *L, struct eng_proc *proc) {
    eng_push_self(L, proc);
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) { /* new, self, key, value: clearing is allowed on the way */
        lua_pop(L, 1);
        lua_pushvalue(L, -1);
        lua_pushnil(L);
        lua_rawset(L, -4);
    }
    lua_pushnil(L);
    while (lua_next(L, -3) != 0) { /* new, self, key, value */
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, -4);
    }
    lua_pop(L, 1);
}

/* The fun has returned the new state, or failed. [-0, +0, e] */
static int replaced(lua_State *L, int status, lua_KContext context) {
    struct eng_proc *proc = (struct eng_proc *)context;
    const struct eng_mail *mail = lua_touserdata(L, 2);
    if (status != LUA_OK && status != LUA_YIELD) {
        answer_failed(proc, mail, term_tostring(L, -1, NULL));
    } else if (proc->self_ref == LUA_NOREF || term_type(L, -1) != TERM_MAP) {
        answer_text(proc, mail, "bad_state", "the new state must be a map");
    } else {
        set_state(L, proc);
        answer_value(L, proc, mail);
    }
    return 0;
}

/* {replace_state, Fun} [-0, +0, e] */
static int replace_state(lua_State *L, struct eng_proc *proc, struct eng_mail *mail,
                         struct span fun) {
    struct err err;
    if (!term_decode(L, &fun, &err)) {
        answer_text(proc, mail, "undecodable", err.text);
        return 0;
    }
    push_state(L, proc);
    return replaced(L, lua_pcallk(L, 1, 1, 0, (lua_KContext)proc, replaced), (lua_KContext)proc);
}

/* {status, Pid, {module, Handler}, [Dictionary, running | suspended, Parent, Debug, State]}
 * [-0, +0, m] */
static void answer_status(lua_State *L, struct eng_proc *proc, const struct eng_mail *mail) {
    struct span parent = proc->start->is_child ? proc->start->parent : buf_span(&proc->pid);
    term_push_atom(L, span_str("status"));
    term_push_id(L, buf_span(&proc->pid));
    term_push_atom(L, span_str("module"));
    term_push_atom(L, span_str(proc->handler->name));
    term_tuple(L, 2);
    lua_createtable(L, 5, 0);
    lua_newtable(L);
    term_list(L);
    lua_pushvalue(L, -1);
    lua_rawseti(L, -3, 4); /* debug */
    lua_rawseti(L, -2, 1); /* dictionary */
    term_push_atom(L, span_str(proc->suspended ? "suspended" : "running"));
    lua_rawseti(L, -2, 2);
    term_push_id(L, parent);
    lua_rawseti(L, -2, 3);
    push_state(L, proc);
    lua_rawseti(L, -2, 5);
    term_list(L);
    term_tuple(L, 4);
    answer_value(L, proc, mail);
}

/* }==== */

/* {==== The requests ====================================================================== */

/* {Name, Argument}; the argument is left. */
static bool is_pair(struct span request, const char *name, struct span *argument) {
    struct span head;
    uint32_t arity;
    if (!ext_take_tuple(&request, &arity) || arity != 2 || !ext_take(&request, &head) ||
        !ext_is_atom(head, name)) {
        return false;
    }
    *argument = request;
    return true;
}

/* A suspended process takes no messages but these. */
static void suspend(struct eng_proc *proc, const struct eng_mail *mail, bool on) {
    proc->suspended = on;
    answer_atom(proc, mail, "ok");
}

/* [-0, +0, e] */
static int terminate(lua_State *L, struct eng_proc *proc, const struct eng_mail *mail,
                     struct span reason) {
    answer_atom(proc, mail, "ok");
    eng_exit_begin(proc, reason);
    return eng_leave(L, proc);
}

int eng_run_system(lua_State *L) {
    struct eng_proc *proc = lua_touserdata(L, 1);
    struct eng_mail *mail = lua_isnone(L, 2) ? proc->current : lua_touserdata(L, 2);
    struct span rest = mail->body;
    struct span request;
    struct span argument;
    lua_settop(L, 1);
    lua_pushlightuserdata(L, mail);
    if (!ext_take(&rest, &request)) { /* parts of it go into answers and reasons */
        answer_text(proc, mail, "undecodable", "the request is no whole term");
    } else if (ext_is_atom(request, "get_state")) {
        push_state(L, proc);
        answer_value(L, proc, mail);
    } else if (is_pair(request, "replace_state", &argument)) {
        return replace_state(L, proc, mail, argument);
    } else if (ext_is_atom(request, "get_status")) {
        answer_status(L, proc, mail);
    } else if (ext_is_atom(request, "suspend") || ext_is_atom(request, "resume")) {
        suspend(proc, mail, ext_is_atom(request, "suspend"));
    } else if (is_pair(request, "terminate", &argument)) {
        return terminate(L, proc, mail, argument);
    } else {
        answer_error(proc, mail, "unknown_system_msg", request);
    }
    return 0;
}

/* }==== */
