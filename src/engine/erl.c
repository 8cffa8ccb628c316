/* The module `erl`: what its functions share, and those that deal with messages. The types are
 * src/term's; what waits, calls out or signals is in wait.c, call.c and signals.c. */
#include <sys/time.h>

#include "engine/private.h"

/* erl.noreply is the address of this. */
static const char noreply;

bool eng_is_noreply(lua_State *L, int idx) {
    return lua_islightuserdata(L, idx) && lua_touserdata(L, idx) == &noreply;
}

/* {==== The running process =============================================================== */

struct eng_proc *eng_running(lua_State *L, const char *function) {
    struct eng_proc *proc = eng_handler_of(L)->engine->running;
    if (proc == NULL || proc->start->purpose == ENG_LOAD) {
        luaL_error(L, "erl.%s: no process runs at the top level of a script", function);
    }
    if (eng_limit_is_met(proc)) {
        luaL_error(L, "erl.%s: the process ends", function);
    }
    return proc;
}

struct eng_proc *eng_may_wait(lua_State *L, const char *function) {
    struct eng_proc *proc = eng_running(L, function);
    if (!eng_slice_can_wait(L)) {
        luaL_error(L,
                   "erl.%s: cannot wait inside a C function that calls back (table.sort, "
                   "string.gsub, a metamethod of these, __gc, ...)",
                   function);
    }
    return proc;
}

/* }==== */

/* {==== Destinations ====================================================================== */

/* {name, node} [-0, +0, -] */
static bool read_pair(lua_State *L, int idx, struct span *name, struct span *node) {
    if (term_tuple_arity(L, idx) != 2) {
        return false;
    }
    lua_rawgeti(L, idx, 1);
    lua_rawgeti(L, idx, 2);
    *name = term_to_atom(L, -2);
    *node = term_to_atom(L, -1);
    lua_pop(L, 2);
    return name->len > 0 && node->len > 0;
}

void eng_dest_check(lua_State *L, int idx, const char *function, struct eng_dest *dest) {
    struct span name;
    dest->to = term_to_id(L, idx);
    dest->is_name = !ext_is_pid(dest->to);
    dest->node = ext_node_of(dest->to);
    if (!dest->is_name) {
        return;
    }
    dest->node = eng_node_name(eng_handler_of(L)->engine);
    name = term_to_atom(L, idx);
    if (name.len == 0 && !read_pair(L, idx, &name, &dest->node)) {
        luaL_error(L, "erl.%s: argument %d: a pid, an atom or {name, node} expected, got %s",
                   function, idx, term_type_name(L, idx));
    }
    struct buf text = {dest->bytes, 0, sizeof dest->bytes};
    ext_put_atom(&text, name);
    dest->to = buf_span(&text);
}

struct dist_control eng_dest_control(const struct eng_dest *dest, const struct eng_proc *from) {
    if (dest->is_name) {
        return (struct dist_control){
            .op = DIST_REG_SEND, .from = buf_span(&from->pid), .to = dest->to};
    }
    return (struct dist_control){.op = DIST_SEND, .to = dest->to};
}

/* }==== */

/* {==== Sending =========================================================================== */

/* A sender to a peer that does not read has no more turn until it does. [-0, +0, -] */
static int sent(lua_State *L, int status, lua_KContext context) {
    (void)L;
    (void)status;
    (void)context;
    return 0;
}

/* Sends the value at 2, with `head` before it in a tuple if there is one. [-0, +0, e] */
static int send_message(lua_State *L, const char *function, const char *head) {
    struct eng_proc *proc = eng_running(L, function);
    struct engine *engine = proc->engine;
    struct eng_dest dest;
    struct err err;
    lua_settop(L, 2);
    eng_dest_check(L, 1, function, &dest);
    eng_allow_dest(L, proc, &dest, function);
    struct dist_control control = eng_dest_control(&dest, proc);
    eng_reach(engine, dest.node);
    struct buf *out = eng_send_begin(engine, &control, dest.node, &err);
    bool ok = out != NULL;
    if (ok && head != NULL) {
        ok = (ext_put_tuple(out, 2) && ext_put_atom(out, span_str(head))) ||
             err_set(&err, "no memory for a message");
    }
    ok = ok && term_encode(L, 2, "message", out, &err);
    if (!ok) {
        eng_send_drop(engine);
    }
    if (!ok || !eng_send_end(engine, &err)) {
        return luaL_error(L, "erl.%s: %s", function, err.text);
    }
    return engine->crowded != NULL && eng_slice_can_wait(L) ? eng_slice_wait(L, 0, sent) : 0;
}

/* erl.send(dest, message) [-2, +0, e] */
static int erl_send(lua_State *L) {
    return send_message(L, "send", NULL);
}

/* erl.cast(server, request) [-2, +0, e] */
static int erl_cast(lua_State *L) {
    return send_message(L, "cast", "$gen_cast");
}

/* }==== */

/* {==== Who and where ===================================================================== */

/* erl.self() [-0, +1, e] */
static int erl_self(lua_State *L) {
    term_push_id(L, buf_span(&eng_running(L, "self")->pid));
    return 1;
}

/* erl.node() [-0, +1, m] */
static int erl_node(lua_State *L) {
    term_push_atom(L, eng_node_name(eng_handler_of(L)->engine));
    return 1;
}

/* Appends the peer's name to the table on top. [-0, +0, m] */
static void add_node(void *argument, struct dist_peer *peer) {
    lua_State *L = argument;
    term_push_atom(L, span_str(dist_peer_name(peer)));
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
}

/* erl.nodes() [-0, +1, m] */
static int erl_nodes(lua_State *L) {
    const struct eng_handler *handler = eng_handler_of(L);
    const struct engine *engine = handler->engine;
    lua_newtable(L);
    if (engine->node != NULL && handler->policy.trusted) {
        dist_node_peers(engine->node, add_node, L);
    }
    term_list(L);
    return 1;
}

/* erl.from() [-0, +1, e] */
static int erl_from(lua_State *L) {
    struct eng_proc *proc = eng_running(L, "from");
    eng_from_push(L, proc, proc->current);
    return 1;
}

/* erl.reply(from, value) [-2, +0, e] */
static int erl_reply(lua_State *L) {
    struct eng_from *from = eng_from_check(L, 1);
    lua_settop(L, 2);
    if (from->proc == NULL) {
        return luaL_error(L, "erl.reply: this caller has been answered already");
    }
    eng_reply_values(L, from->proc, &from->caller, 1, "reply");
    eng_from_done(from);
    return 0;
}

/* erl.ref() [-0, +1, e] */
static int erl_ref(lua_State *L) {
    uint8_t bytes[ENG_MAX_REF];
    struct buf ref = {bytes, 0, sizeof bytes};
    eng_ref_make(eng_handler_of(L)->engine, false, &ref);
    term_push_id(L, buf_span(&ref));
    return 1;
}

/* erl.now() [-0, +1, -] */
static int erl_now(lua_State *L) {
    struct timeval now;
    gettimeofday(&now, NULL);
    lua_pushnumber(L, (lua_Number)now.tv_sec * 1000 + (lua_Number)now.tv_usec / 1000);
    return 1;
}

/* }==== */

void eng_erl_open(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"self", erl_self},   {"node", erl_node}, {"nodes", erl_nodes}, {"from", erl_from},
        {"reply", erl_reply}, {"send", erl_send}, {"cast", erl_cast},   {"ref", erl_ref},
        {"now", erl_now},     {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
    luaL_setfuncs(L, eng_wait_functions, 0);
    luaL_setfuncs(L, eng_call_functions, 0);
    luaL_setfuncs(L, eng_signal_functions, 0);
    lua_pushlightuserdata(L, (void *)&noreply);
    lua_setfield(L, -2, "noreply");
}
