/* Calls out: erl.call, erl.rpc, and Elixir funs that are called as Lua functions. The process waits
 * for the answer; what fails on the other side is raised as {class, reason}. */
#include <string.h>

#include "engine/private.h"

enum { DEFAULT_MS = 5000 };

/* {==== Raising what failed =============================================================== */

/* [-0, +0, e] */
static int raise_class(lua_State *L, const char *class, struct span reason) {
    struct err err;
    term_push_atom(L, span_str(class));
    if (!term_decode(L, &reason, &err)) {
        return luaL_error(L, "a failure that cannot be read: %s", err.text);
    }
    term_tuple(L, 2);
    return lua_error(L);
}

static int raise_atom(lua_State *L, const char *name) {
    term_push_atom(L, span_str("exit"));
    term_push_atom(L, span_str(name));
    term_tuple(L, 2);
    return lua_error(L);
}

/* [-0, +1, e] */
static int push_value(lua_State *L, struct span value) {
    struct err err;
    if (!term_decode(L, &value, &err)) {
        return luaL_error(L, "an answer that cannot be read: %s", err.text);
    }
    return 1;
}

/* }==== */

/* {==== Waiting for an answer ============================================================= */

/* Stops waiting. Raises when there was no answer in time. [-0, +0, e] */
static void let_go(lua_State *L, struct eng_proc *proc) {
    enum eng_outcome outcome = proc->outcome;
    if (proc->call != NULL) {
        eng_watch_remove(proc, proc->call->ref);
    }
    if (outcome == ENG_PENDING) {
        raise_atom(L, "timeout");
    }
}

static int await_answer(lua_State *L, struct eng_proc *proc, double ms, lua_KFunction k) {
    if (proc->outcome != ENG_PENDING) {
        return k(L, LUA_OK, (lua_KContext)proc);
    }
    return eng_wait(L, proc, ENG_WAIT_ANSWER, ms, (lua_KContext)proc, k);
}

/* The request could not be sent. [-0, +0, e] */
static int give_up(lua_State *L, struct eng_proc *proc, const char *function,
                   const struct err *err) {
    eng_send_drop(proc->engine);
    if (proc->call != NULL) {
        eng_watch_remove(proc, proc->call->ref);
    }
    return luaL_error(L, "erl.%s: %s", function, err->text);
}

/* }==== */

/* {==== erl.call ========================================================================== */

/* [-0, +1, e] */
static int called(lua_State *L, int status, lua_KContext context) {
    struct eng_proc *proc = (struct eng_proc *)context;
    (void)status;
    let_go(L, proc);
    if (proc->outcome == ENG_FAILED) {
        return raise_class(L, "exit", buf_span(&proc->answer));
    }
    return push_value(L, buf_span(&proc->answer));
}

static bool is_self(struct eng_proc *proc, const struct eng_dest *dest) {
    struct span failure;
    struct span rest = dest->to;
    struct span name;
    bool latin1;
    if (!eng_is_local(proc->engine, dest->node)) {
        return false;
    }
    if (!dest->is_name) {
        return span_equal(dest->to, buf_span(&proc->pid));
    }
    return ext_take_atom(&rest, &name, &latin1) &&
           eng_whereis(proc->engine, name, &failure) == proc;
}

/* {'$gen_call', {Self, Ref}, Request}, the request at 2. A plain reference as the tag: the answer
 * comes as a message, and one that comes too late is known by it. [-0, +0, m] */
static bool put_call(lua_State *L, struct eng_proc *proc, struct span ref, struct buf *out,
                     struct err *err) {
    bool ok = ext_put_tuple(out, 3) && ext_put_atom(out, span_str("$gen_call")) &&
              ext_put_tuple(out, 2) && buf_append(out, proc->pid.data, proc->pid.len) &&
              buf_append(out, ref.data, ref.len);
    return ok ? term_encode(L, 2, "request", out, err) : err_set(err, "no memory for a call");
}

/* erl.call(server, request [, ms]) [-3, +1, e] */
static int erl_call(lua_State *L) {
    struct eng_proc *proc = eng_may_wait(L, "call");
    uint8_t bytes[ENG_MAX_REF];
    struct buf ref = {bytes, 0, sizeof bytes};
    struct eng_dest dest;
    struct err err;
    lua_settop(L, 3);
    double ms = eng_check_ms(L, 3, DEFAULT_MS);
    eng_dest_check(L, 1, "call", &dest);
    eng_allow_dest(L, proc, &dest, "call");
    if (is_self(proc, &dest)) {
        return raise_atom(L, "calling_self");
    }
    eng_ref_make(proc->engine, true, &ref);
    if (!eng_watch_add(proc, ENG_WATCH_CALL, buf_span(&ref), dest.to, dest.node)) {
        return eng_limit_raise(L, "call", "a call");
    }
    if (proc->outcome == ENG_PENDING) {
        struct dist_control control = eng_dest_control(&dest, proc);
        struct buf *out = eng_send_begin(proc->engine, &control, dest.node, &err);
        if (out == NULL || !put_call(L, proc, buf_span(&ref), out, &err) ||
            !eng_send_end(proc->engine, &err)) {
            return give_up(L, proc, "call", &err);
        }
    }
    return await_answer(L, proc, ms, called);
}

/* }==== */

/* {==== erl.rpc, by erpc's protocol ======================================================= */

/* {Ref, return, Value}, {Ref, Class, Reason} or {Ref, error, Reason, Stack}; any other reason is
 * how the process over there ended. [-0, +1, e] */
static int push_result(lua_State *L, struct eng_proc *proc) {
    struct span rest = buf_span(&proc->answer);
    struct span ref;
    struct span class;
    struct span value;
    uint32_t arity;
    if (!ext_take_tuple(&rest, &arity) || arity < 3 || arity > 4 || !ext_take(&rest, &ref) ||
        !ext_is_ref(ref) || !eng_is_local(proc->engine, ext_node_of(ref)) ||
        !ext_take(&rest, &class) || !ext_take(&rest, &value)) {
        return raise_class(L, "exit", buf_span(&proc->answer));
    }
    if (ext_is_atom(class, "return")) {
        return push_value(L, value);
    }
    const char *name = ext_is_atom(class, "error")   ? "error"
                       : ext_is_atom(class, "throw") ? "throw"
                                                     : "exit";
    return raise_class(L, name, value);
}

/* [-0, +1, e] */
static int returned(lua_State *L, int status, lua_KContext context) {
    struct eng_proc *proc = (struct eng_proc *)context;
    (void)status;
    let_go(L, proc);
    return push_result(L, proc);
}

/* What is run: module, function, and what follows them, put by `put_args`. */
struct rpc {
    const char *name; /* of the Lua function, for messages */
    struct span node;
    struct span module;
    struct span function;
    bool (*put_args)(lua_State *L, struct buf *out, struct err *err);
};

/* [Ref, Module, Function, Args] [-0, +0, m] */
static bool put_request(lua_State *L, const struct rpc *rpc, struct span ref, struct buf *out,
                        struct err *err) {
    bool ok = ext_put_list(out, 4) && buf_append(out, ref.data, ref.len) &&
              ext_put_atom(out, rpc->module) && ext_put_atom(out, rpc->function);
    if (!ok) {
        return err_set(err, "no memory for a call");
    }
    return rpc->put_args(L, out, err) && (ext_put_nil(out) || err_set(err, "no memory for a call"));
}

/* SPAWN_REQUEST of erpc:execute_call/4 with the option `monitor`. [-0, +0, m] */
static bool send_request(lua_State *L, struct eng_proc *proc, const struct rpc *rpc,
                         struct span ref, struct err *err) {
    static const uint8_t mfa[] = {EXT_SMALL_TUPLE,
                                  3,
                                  EXT_SMALL_ATOM_UTF8,
                                  4,
                                  'e',
                                  'r',
                                  'p',
                                  'c',
                                  EXT_SMALL_ATOM_UTF8,
                                  12,
                                  'e',
                                  'x',
                                  'e',
                                  'c',
                                  'u',
                                  't',
                                  'e',
                                  '_',
                                  'c',
                                  'a',
                                  'l',
                                  'l',
                                  EXT_SMALL_INTEGER,
                                  4};
    static const uint8_t options[] = {
        EXT_LIST, 0, 0, 0, 1, EXT_SMALL_ATOM_UTF8, 7, 'm', 'o', 'n', 'i', 't', 'o', 'r', EXT_NIL};
    struct dist_control control = {.op = DIST_SPAWN_REQUEST,
                                   .ref = ref,
                                   .from = buf_span(&proc->pid),
                                   .group = buf_span(&proc->engine->printer->pid),
                                   .mfa = span_of(mfa, sizeof mfa),
                                   .options = span_of(options, sizeof options)};
    struct buf *out = eng_send_begin(proc->engine, &control, rpc->node, err);
    return out != NULL && put_request(L, rpc, ref, out, err) && eng_send_end(proc->engine, err);
}

static bool is_reachable(struct engine *engine, struct span node) {
    eng_reach(engine, node);
    return eng_is_local(engine, node) || eng_reach_waits(engine, node) ||
           (engine->node != NULL && dist_node_peer(engine->node, node) != NULL);
}

/* [-0, +1, e] */
static int run(lua_State *L, struct eng_proc *proc, const struct rpc *rpc, double ms) {
    uint8_t bytes[ENG_MAX_REF];
    struct buf ref = {bytes, 0, sizeof bytes};
    struct err err;
    eng_allow_rpc(L, proc, rpc->node, rpc->module, rpc->function);
    if (!is_reachable(proc->engine, rpc->node)) {
        return raise_atom(L, "noconnection");
    }
    eng_ref_make(proc->engine, true, &ref);
    if (!eng_watch_add(proc, ENG_WATCH_SPAWN, buf_span(&ref), (struct span){0}, rpc->node)) {
        return eng_limit_raise(L, rpc->name, "a call");
    }
    if (!send_request(L, proc, rpc, buf_span(&ref), &err)) {
        return give_up(L, proc, rpc->name, &err);
    }
    return await_answer(L, proc, ms, returned);
}

/* The list at 4. [-0, +0, m] */
static bool put_list(lua_State *L, struct buf *out, struct err *err) {
    size_t start = out->len;
    if (!term_encode(L, 4, "arguments", out, err)) {
        return false;
    }
    uint8_t tag = out->data[start];
    return tag == EXT_LIST || tag == EXT_NIL || tag == EXT_STRING ||
           err_set(err, "argument 4: a list of arguments expected, got %s", term_type_name(L, 4));
}

/* The name of the atom at `idx`, or an argument error. [-0, +0, e] */
static struct span check_atom(lua_State *L, int idx) {
    struct span name = term_to_atom(L, idx);
    if (name.len == 0) {
        luaL_error(L, "erl.rpc: argument %d: an atom expected, got %s", idx,
                   term_type_name(L, idx));
    }
    return name;
}

/* erl.rpc(node, module, function, arguments [, ms]) [-5, +1, e] */
static int erl_rpc(lua_State *L) {
    struct eng_proc *proc = eng_may_wait(L, "rpc");
    lua_settop(L, 5);
    struct rpc rpc = {"rpc", check_atom(L, 1), check_atom(L, 2), check_atom(L, 3), put_list};
    return run(L, proc, &rpc, eng_check_ms(L, 5, DEFAULT_MS));
}

/* }==== */

/* {==== Funs ============================================================================== */

/* The values from 2 on, as a list. [-0, +0, m] */
static bool put_values(lua_State *L, struct buf *out, struct err *err) {
    int top = lua_gettop(L);
    size_t start = out->len;
    if (!ext_put_list(out, (uint32_t)(top - 1))) {
        return err_set(err, "no memory for a call");
    }
    for (int i = 2; i <= top; i++) {
        char path[32];
        (void)snprintf(path, sizeof path, "argument %d", i - 1);
        if (!term_encode(L, i, path, out, err) ||
            !eng_limit_fits(L, out->len - start, "arguments", err)) {
            return false;
        }
    }
    return ext_put_nil(out) || err_set(err, "no memory for a call");
}

/* The arguments of erlang:apply: the fun, and the list of its own. [-0, +0, m] */
static bool put_apply(lua_State *L, struct buf *out, struct err *err) {
    struct span fun = term_to_id(L, 1);
    if (!ext_put_list(out, 2) || !buf_append(out, fun.data, fun.len)) {
        return err_set(err, "no memory for a call");
    }
    return put_values(L, out, err) && (ext_put_nil(out) || err_set(err, "no memory for a call"));
}

/* The node where `&Mod.fun/n` runs: that whose message is handled, else the owner. */
static struct span home_of(const struct eng_proc *proc) {
    const struct eng_mail *mail = proc->current;
    struct span node = {0};
    if (mail != NULL) {
        node = mail->origin != 0 ? term_atom_name(proc->engine->atoms, mail->origin)
                                 : ext_node_of(mail->caller.pid);
    } else if (proc->start->parent.len > 0) {
        node = ext_node_of(proc->start->parent);
    }
    if (node.len == 0 || eng_is_local(proc->engine, node)) {
        node = buf_span(&proc->engine->owner);
    }
    return node;
}

static struct rpc call_export(const struct eng_proc *proc, struct span fun) {
    struct rpc rpc = {.name = "call", .node = home_of(proc), .put_args = put_values};
    struct span rest = span_of(fun.data + 1, fun.len - 1);
    bool latin1;
    ext_take_atom(&rest, &rpc.module, &latin1);
    ext_take_atom(&rest, &rpc.function, &latin1);
    return rpc;
}

/* The node that made a fun: it stands in the pid, behind module, index and unique number. */
static struct span maker_of(struct span fun) {
    enum { MODULE_AT = 30 };
    struct span rest = span_of(fun.data + MODULE_AT, fun.len - MODULE_AT);
    struct span part = {0};
    for (int i = 0; i < 4; i++) {
        if (!ext_take(&rest, &part)) {
            return (struct span){0};
        }
    }
    return ext_node_of(part);
}

static struct rpc call_closure(struct span fun) {
    return (struct rpc){"call", maker_of(fun), span_str("erlang"), span_str("apply"), put_apply};
}

int eng_call_fun(lua_State *L) {
    struct eng_proc *proc = eng_may_wait(L, "call");
    struct span fun = term_to_id(L, 1);
    if (fun.len == 0) {
        return luaL_argerror(L, 1, "a fun expected");
    }
    struct rpc rpc = fun.data[0] == EXT_EXPORT ? call_export(proc, fun) : call_closure(fun);
    if (rpc.node.len == 0) {
        return luaL_error(L, "cannot call the fun: it carries no node, and this one has no owner");
    }
    return run(L, proc, &rpc, DEFAULT_MS);
}

/* }==== */

const luaL_Reg eng_call_functions[] = {{"call", erl_call}, {"rpc", erl_rpc}, {NULL, NULL}};
