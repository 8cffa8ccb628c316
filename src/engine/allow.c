/* Whom an untrusted script may reach: the processes of its own handler, and what the policy names.
 * What it may not raises an error that names the function and the target. */
#include "engine/private.h"

static bool is_trusted(const struct eng_proc *proc) {
    return proc->handler->policy.trusted;
}

/* {==== Processes ========================================================================= */

/* The upper bits of a pid's number tell the OS process that it lives in. */
enum { WORKER_SHIFT = 48 };

/* Whether the pid is of the handler, or of a process that was in this OS process and has gone:
 * nobody gets what is sent there. */
static bool is_own_pid(const struct eng_proc *proc, struct span pid) {
    if (!eng_is_local(proc->engine, ext_node_of(pid)) || pid.len < 12) {
        return false;
    }
    const struct eng_proc *other = eng_proc_of_pid(proc->engine, pid);
    const uint8_t *numbers = pid.data + pid.len - 12;
    uint64_t id = (uint64_t)ext_u32(numbers + 4) << 32 | ext_u32(numbers);
    return other == NULL ? id >> WORKER_SHIFT == proc->id >> WORKER_SHIFT
                         : other->handler == proc->handler;
}

/* Whether a message to the pid is one to a process of the node's own. */
static bool is_service(const struct eng_proc *proc, struct span pid) {
    const struct eng_proc *other = eng_proc_of_pid(proc->engine, pid);
    return other != NULL && other->handler == NULL;
}

static bool is_own_name(const struct eng_proc *proc, struct span name) {
    struct span failure;
    const struct eng_proc *other = eng_whereis(proc->engine, name, &failure);
    return other == NULL ? span_equal(name, span_str(proc->handler->name))
                         : other->handler == proc->handler;
}

static void refuse_name(lua_State *L, const char *function, struct span name) {
    luaL_error(L, "erl.%s: not allowed to send to %s: allow.send does not name it", function,
               lua_pushlstring(L, (const char *)name.data, name.len));
}

void eng_allow_dest(lua_State *L, const struct eng_proc *proc, const struct eng_dest *dest,
                    const char *function) {
    const struct eng_policy *policy = &proc->handler->policy;
    struct span rest = dest->to;
    struct span name;
    bool latin1;
    if (is_trusted(proc)) {
        return;
    }
    if (!dest->is_name) {
        if (!is_own_pid(proc, dest->to) &&
            (is_service(proc, dest->to) || !eng_policy_may_send_pids(policy))) {
            luaL_error(L,
                       "erl.%s: not allowed to send to a process that is not of this handler: "
                       "allow.send does not name *",
                       function);
        }
        return;
    }
    if (!ext_take_atom(&rest, &name, &latin1)) {
        luaL_error(L, "erl.%s: no name", function);
    }
    bool is_own = eng_is_local(proc->engine, dest->node) && is_own_name(proc, name);
    if (!is_own && !eng_policy_may_send(policy, name)) {
        refuse_name(L, function, name);
    }
}

void eng_allow_pid(lua_State *L, const struct eng_proc *proc, struct span pid,
                   const char *function) {
    if (!is_trusted(proc) && !is_own_pid(proc, pid)) {
        luaL_error(L,
                   "erl.%s: not allowed to reach a process that is not of this handler: an "
                   "untrusted script has its own alone",
                   function);
    }
}

/* }==== */

/* {==== Functions ========================================================================= */

void eng_allow_rpc(lua_State *L, const struct eng_proc *proc, struct span node, struct span module,
                   struct span function) {
    bool is_own =
        eng_is_local(proc->engine, node) && span_equal(module, span_str(proc->handler->name));
    if (!is_trusted(proc) && !is_own &&
        !eng_policy_may_rpc(&proc->handler->policy, module, function)) {
        lua_pushlstring(L, (const char *)module.data, module.len);
        lua_pushlstring(L, (const char *)function.data, function.len);
        luaL_error(L, "erl.rpc: not allowed to call %s.%s: allow.rpc does not name it",
                   lua_tostring(L, -2), lua_tostring(L, -1));
    }
}

void eng_allow_nothing(lua_State *L, const struct eng_proc *proc, const char *function,
                       const char *target) {
    if (!is_trusted(proc)) {
        luaL_error(L, "erl.%s: not allowed to an untrusted script: %s", function, target);
    }
}

/* }==== */
