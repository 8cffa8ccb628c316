/* The functions of the module `erl` that deal with processes and messages; the types are
 * src/term's. */
#include <string.h>

#include "engine/private.h"

/* erl.noreply is the address of this. */
static const char noreply;

bool eng_is_noreply(lua_State *L, int idx) {
    return lua_islightuserdata(L, idx) && lua_touserdata(L, idx) == &noreply;
}

/* The process whose function runs; raises where none does. [-0, +0, e] */
static struct eng_proc *running(lua_State *L, const char *function) {
    struct eng_proc *proc = eng_handler_of(L)->engine->running;
    if (proc == NULL || proc->booting_chunk) {
        luaL_error(L, "erl.%s: no process runs at the top level of a script", function);
    }
    return proc;
}

/* erl.self() [-0, +1, e] */
static int erl_self(lua_State *L) {
    term_push_id(L, buf_span(&running(L, "self")->pid));
    return 1;
}

/* erl.node() [-0, +1, m] */
static int erl_node(lua_State *L) {
    term_push_atom(L, span_str(eng_node_name(eng_handler_of(L)->engine)));
    return 1;
}

/* erl.from() [-0, +1, e] */
static int erl_from(lua_State *L) {
    eng_from_push(L, running(L, "from"));
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

/* {==== erl.send ========================================================================== */

/* A message to a name: {name, node}, or a name of this node. [-0, +0, e] */
static struct span put_name(lua_State *L, int idx, struct buf *name) {
    struct span node = {0};
    struct span text = term_to_atom(L, idx);
    if (text.len == 0 && term_tuple_arity(L, idx) == 2) {
        lua_rawgeti(L, idx, 1);
        lua_rawgeti(L, idx, 2);
        text = term_to_atom(L, -2);
        node = term_to_atom(L, -1);
        lua_pop(L, 2);
        if (node.len == 0) {
            text.len = 0;
        }
    } else if (text.len > 0) {
        node = span_str(eng_node_name(eng_handler_of(L)->engine));
    }
    if (text.len == 0) {
        luaL_error(L, "erl.send: argument 1: a pid, an atom or {name, node} expected, got %s",
                   term_type_name(L, idx));
    }
    ext_put_atom(name, text);
    return node;
}

/* Encodes the message at 2 and sends it. Raises when it cannot be sent. [-0, +0, e] */
static int send_to(lua_State *L, struct engine *engine, const struct dist_control *control,
                   struct span node) {
    struct err err;
    struct buf *out = eng_send_begin(engine, control, node, &err);
    if (out == NULL) {
        return luaL_error(L, "erl.send: %s", err.text);
    }
    if (!term_encode(L, 2, "message", out, &err)) {
        eng_send_drop(engine);
        return luaL_error(L, "erl.send: %s", err.text);
    }
    if (!eng_send_end(engine, &err)) {
        return luaL_error(L, "erl.send: %s", err.text);
    }
    return 0;
}

/* erl.send(to, message) [-2, +0, e] */
static int erl_send(lua_State *L) {
    struct eng_proc *proc = running(L, "send");
    lua_settop(L, 2);
    struct span pid = term_to_id(L, 1);
    if (ext_is_pid(pid)) {
        struct dist_control control = {.op = DIST_SEND, .to = pid};
        return send_to(L, proc->engine, &control, (struct span){0});
    }
    /* the name fits: an atom has 255 characters at the most */
    uint8_t bytes[4 * 255 + 3];
    struct buf name = {bytes, 0, sizeof bytes};
    struct span node = put_name(L, 1, &name);
    struct dist_control control = {
        .op = DIST_REG_SEND, .from = buf_span(&proc->pid), .to = buf_span(&name)};
    return send_to(L, proc->engine, &control, node);
}

/* }==== */

void eng_erl_open(lua_State *L) {
    static const luaL_Reg functions[] = {{"self", erl_self}, {"node", erl_node},
                                         {"from", erl_from}, {"reply", erl_reply},
                                         {"send", erl_send}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
    lua_pushlightuserdata(L, (void *)&noreply);
    lua_setfield(L, -2, "noreply");
}
