/* The functions of `erl` by which processes deal with processes: spawn, link, monitor, exit, names,
 * and messages that are sent later. */
#include "engine/private.h"

/* {==== Arguments and results ============================================================= */

/* The pid at `idx`, or an argument error. [-0, +0, e] */
static struct span check_pid(lua_State *L, int idx) {
    struct span pid = term_to_id(L, idx);
    if (!ext_is_pid(pid)) {
        luaL_argerror(L, idx, lua_pushfstring(L, "a pid expected, got %s", term_type_name(L, idx)));
    }
    return pid;
}

static struct span check_ref(lua_State *L, int idx) {
    struct span ref = term_to_id(L, idx);
    if (!ext_is_ref(ref)) {
        luaL_argerror(L, idx,
                      lua_pushfstring(L, "a reference expected, got %s", term_type_name(L, idx)));
    }
    return ref;
}

static struct span check_atom(lua_State *L, int idx) {
    struct span name = term_to_atom(L, idx);
    if (name.len == 0) {
        luaL_argerror(L, idx,
                      lua_pushfstring(L, "an atom expected, got %s", term_type_name(L, idx)));
    }
    return name;
}

/* Encodes the value at `idx` into the engine's scratch buffer, or raises. [-0, +0, e] */
static struct span encode(lua_State *L, struct engine *engine, int idx, const char *function,
                          const char *root) {
    struct err err;
    engine->scratch.len = 0;
    if (!term_encode(L, idx, root, &engine->scratch, &err)) {
        luaL_error(L, "erl.%s: %s", function, err.text);
    }
    return buf_span(&engine->scratch);
}

/* }==== */

/* {==== spawn ============================================================================= */

/* A process of the same handler, for the function at 1 and the arguments behind it. [-n, +0, e] */
static struct eng_proc *spawn_closure(lua_State *L, struct eng_proc *parent) {
    int n = lua_gettop(L);
    lua_createtable(L, n, 0);
    lua_insert(L, 1);
    for (int i = n; i >= 1; i--) {
        lua_rawseti(L, 1, i);
    }
    struct eng_start start = {.purpose = ENG_CLOSURE,
                              .count = (uint32_t)n - 1,
                              .closure = luaL_ref(L, LUA_REGISTRYINDEX),
                              .parent = buf_span(&parent->pid)};
    struct eng_proc *proc = eng_proc_create(parent->engine, parent->handler, &start);
    if (proc == NULL) {
        luaL_unref(L, LUA_REGISTRYINDEX, start.closure);
    }
    return proc;
}

/* A lasting process of the handler named at 1. [-0, +0, e] */
static struct eng_proc *spawn_lasting(lua_State *L, struct eng_proc *parent) {
    struct engine *engine = parent->engine;
    struct span name = term_to_atom(L, 1);
    struct eng_handler *handler = eng_handler_find(engine, name);
    struct err err;
    int n = lua_gettop(L);
    if (handler != parent->handler) {
        eng_allow_nothing(L, parent, "spawn", "a process of another handler");
    }
    if (handler == NULL || (handler->version == NULL && handler->proc == NULL)) {
        luaL_error(L, "erl.spawn: %s %s", lua_pushlstring(L, (const char *)name.data, name.len),
                   handler == NULL ? "is no handler" : "did not load");
    }
    engine->scratch.len = 0;
    for (int i = 2; i <= n; i++) {
        char path[32];
        (void)snprintf(path, sizeof path, "argument %d", i);
        if (!term_encode(L, i, path, &engine->scratch, &err) ||
            !eng_limit_fits(L, engine->scratch.len, "arguments", &err)) {
            luaL_error(L, "erl.spawn: %s", err.text);
        }
    }
    struct eng_start start = {.purpose = ENG_LASTING,
                              .count = (uint32_t)n - 1,
                              .args = buf_span(&engine->scratch),
                              .parent = buf_span(&parent->pid)};
    return eng_proc_create(engine, handler, &start);
}

/* erl.spawn(f, ...) [-n, +1, e] */
static int erl_spawn(lua_State *L) {
    struct eng_proc *parent = eng_running(L, "spawn");
    struct eng_proc *proc;
    if (lua_isfunction(L, 1)) {
        proc = spawn_closure(L, parent);
    } else if (term_to_atom(L, 1).len > 0) {
        proc = spawn_lasting(L, parent);
    } else {
        return luaL_error(L,
                          "erl.spawn: argument 1: a function or a handler's name (an atom) "
                          "expected, got %s",
                          term_type_name(L, 1));
    }
    if (proc == NULL) {
        return eng_limit_raise(L, "spawn", "a process");
    }
    eng_sched_touch(proc);
    term_push_id(L, buf_span(&proc->pid));
    return 1;
}

/* }==== */

/* {==== link, monitor ===================================================================== */

/* erl.link(pid) [-1, +0, e] */
static int erl_link(lua_State *L) {
    struct eng_proc *proc = eng_running(L, "link");
    struct span other = check_pid(L, 1);
    eng_allow_pid(L, proc, other, "link");
    if (!span_equal(other, buf_span(&proc->pid)) && !eng_link(proc, other)) {
        return eng_limit_raise(L, "link", "a link");
    }
    return 0;
}

/* erl.unlink(pid) [-1, +0, e] */
static int erl_unlink(lua_State *L) {
    struct eng_proc *proc = eng_running(L, "unlink");
    eng_unlink(proc, check_pid(L, 1));
    return 0;
}

/* erl.monitor(server) [-1, +1, e] */
static int erl_monitor(lua_State *L) {
    struct eng_proc *proc = eng_running(L, "monitor");
    uint8_t bytes[ENG_MAX_REF];
    struct buf ref = {bytes, 0, sizeof bytes};
    struct eng_dest dest;
    lua_settop(L, 1);
    eng_dest_check(L, 1, "monitor", &dest);
    eng_allow_dest(L, proc, &dest, "monitor");
    eng_ref_make(proc->engine, false, &ref);
    term_push_id(L, buf_span(&ref));
    if (!eng_watch_add(proc, ENG_WATCH_USER, buf_span(&ref), dest.to, dest.node)) {
        return eng_limit_raise(L, "monitor", "a monitor");
    }
    return 1;
}

/* Whether the message is {'DOWN', Ref, ...}. */
static bool is_down(const struct eng_mail *mail, struct span ref) {
    struct span rest = mail->body;
    struct span head;
    struct span which;
    uint32_t arity;
    return mail->caller.kind == ENG_INFO && ext_take_tuple(&rest, &arity) && arity == 5 &&
           ext_take(&rest, &head) && ext_is_atom(head, "DOWN") && ext_take(&rest, &which) &&
           span_equal(which, ref);
}

/* erl.demonitor(ref): its DOWN does not come any more, also if it has come. [-1, +0, e] */
static int erl_demonitor(lua_State *L) {
    struct eng_proc *proc = eng_running(L, "demonitor");
    struct span ref = check_ref(L, 1);
    if (eng_watch_remove(proc, ref)) {
        return 0;
    }
    struct eng_mail *mail = proc->mailbox.first;
    while (mail != NULL && !is_down(mail, ref)) {
        mail = mail->next;
    }
    if (mail != NULL && mail->number != proc->mailbox.pinned) {
        eng_mailbox_take(proc, mail);
        eng_mail_free(proc, mail);
    }
    return 0;
}

/* }==== */

/* {==== exit ============================================================================== */

/* erl.trap_exit(on): whether it did before. [-1, +1, e] */
static int erl_trap_exit(lua_State *L) {
    struct eng_proc *proc = eng_running(L, "trap_exit");
    luaL_checktype(L, 1, LUA_TBOOLEAN);
    lua_pushboolean(L, proc->trap_exit);
    proc->trap_exit = lua_toboolean(L, 1);
    return 1;
}

/* [-0, +0, -] */
static int never(lua_State *L, int status, lua_KContext context) {
    (void)L;
    (void)status;
    (void)context;
    return 0;
}

/* The end of the running process has begun: it has no more turn. [-0, +0, e] */
int eng_leave(lua_State *L, struct eng_proc *proc) {
    if (eng_slice_can_wait(L)) {
        return eng_wait(L, proc, ENG_WAIT_EXIT, -1, 0, never);
    }
    eng_slice_stop_soon(&proc->engine->slice);
    return luaL_error(L, "the process ends");
}

/* erl.exit(pid, reason) [-2, +0, e] */
static int exit_other(lua_State *L, struct eng_proc *proc) {
    eng_allow_pid(L, proc, check_pid(L, 1), "exit");
    struct dist_control control = {.op = DIST_EXIT2,
                                   .from = buf_span(&proc->pid),
                                   .to = check_pid(L, 1),
                                   .reason = encode(L, proc->engine, 2, "exit", "reason")};
    eng_send_control(proc->engine, &control,
                     (struct span){0}); /* a node that has gone is no error */
    return proc->killed ? eng_leave(L, proc) : 0;
}

/* erl.exit(reason), erl.exit(pid, reason) [-2, +0, e] */
static int erl_exit(lua_State *L) {
    struct eng_proc *proc = eng_running(L, "exit");
    if (lua_gettop(L) >= 2) {
        return exit_other(L, proc);
    }
    lua_settop(L, 1);
    struct span reason = encode(L, proc->engine, 1, "exit", "reason");
    if (proc->start->result.len > 0) {
        struct buf wrapped = {0};
        eng_erpc_result(&wrapped, proc, "exit", reason);
        eng_exit(proc, buf_span(&wrapped));
        buf_finish(&wrapped);
    } else {
        eng_exit_begin(proc, reason);
    }
    return eng_leave(L, proc);
}

/* os.exit(status): the node ends as it does by SIGTERM, and the process that called it at once.
 * [-n, +0, e] */
static int os_exit(lua_State *L) {
    struct eng_proc *proc = eng_handler_of(L)->engine->running;
    struct buf reason = {0};
    lua_Integer status = lua_isboolean(L, 1) ? !lua_toboolean(L, 1) : luaL_optinteger(L, 1, 0);
    if (proc == NULL) {
        return luaL_error(L, "os.exit is called where there is no process");
    }
    proc->engine->stopping = true;
    proc->engine->events.exited(proc->engine->user, (int)status);
    eng_reason_atom(&reason, "shutdown");
    eng_exit_begin(proc, buf_span(&reason));
    buf_finish(&reason);
    return eng_leave(L, proc);
}

void eng_os_exit_open(lua_State *L) {
    lua_getglobal(L, LUA_OSLIBNAME);
    lua_pushcfunction(L, os_exit);
    lua_setfield(L, -2, "exit");
    lua_pop(L, 1);
}

/* }==== */

/* {==== Names ============================================================================= */

/* erl.register(name [, pid]) [-2, +0, e] */
static int erl_register(lua_State *L) {
    struct eng_proc *proc = eng_running(L, "register");
    eng_allow_nothing(L, proc, "register", "a name that others see");
    struct span name = check_atom(L, 1);
    struct err err;
    if (!lua_isnoneornil(L, 2)) {
        proc = eng_proc_of_pid(proc->engine, check_pid(L, 2));
    }
    if (proc == NULL || proc->killed || proc->handler == NULL) {
        return luaL_argerror(L, 2, "no such process on this node");
    }
    if (!eng_name_register(proc, name, &err)) {
        return luaL_error(L, "erl.register: %s", err.text);
    }
    return 0;
}

/* erl.whereis(name) [-1, +1, e] */
static int erl_whereis(lua_State *L) {
    struct span failure;
    const struct eng_proc *proc =
        eng_whereis(eng_handler_of(L)->engine, check_atom(L, 1), &failure);
    const struct eng_handler *handler = eng_handler_of(L);
    bool hidden = proc != NULL && proc->handler != handler && !handler->policy.trusted;
    if (proc == NULL || proc->killed || hidden) {
        lua_pushnil(L);
    } else {
        term_push_id(L, buf_span(&proc->pid));
    }
    return 1;
}

/* }==== */

/* {==== Messages that are sent later ====================================================== */

/* erl.send_after(dest, message, ms) [-3, +1, e] */
static int erl_send_after(lua_State *L) {
    struct eng_proc *proc = eng_running(L, "send_after");
    struct engine *engine = proc->engine;
    uint8_t bytes[ENG_MAX_REF];
    struct buf ref = {bytes, 0, sizeof bytes};
    struct eng_dest dest;
    lua_settop(L, 3);
    luaL_checknumber(L, 3);
    double ms = eng_check_ms(L, 3, 0);
    luaL_argcheck(L, ms >= 0, 3, "a finite number of milliseconds expected");
    eng_dest_check(L, 1, "send_after", &dest);
    eng_allow_dest(L, proc, &dest, "send_after");
    eng_ref_make(engine, false, &ref);
    term_push_id(L, buf_span(&ref));
    struct span payload = encode(L, engine, 2, "send_after", "message");
    struct dist_control control = eng_dest_control(&dest, proc);
    if (!eng_alarm_start(proc->handler, buf_span(&ref), ms, &control, dest.node, payload)) {
        return eng_limit_raise(L, "send_after", "a timer");
    }
    return 1;
}

/* erl.cancel(timer): the ms that were left, or false. [-1, +1, e] */
static int erl_cancel(lua_State *L) {
    double left = eng_alarm_cancel(eng_handler_of(L), check_ref(L, 1));
    if (left < 0) {
        lua_pushboolean(L, false);
    } else {
        lua_pushinteger(L, (lua_Integer)left);
    }
    return 1;
}

/* }==== */

const luaL_Reg eng_signal_functions[] = {
    {"spawn", erl_spawn},         {"link", erl_link},
    {"unlink", erl_unlink},       {"monitor", erl_monitor},
    {"demonitor", erl_demonitor}, {"trap_exit", erl_trap_exit},
    {"exit", erl_exit},           {"register", erl_register},
    {"whereis", erl_whereis},     {"send_after", erl_send_after},
    {"cancel", erl_cancel},       {NULL, NULL}};
