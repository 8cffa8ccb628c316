/* Messages on their way out: to a peer, or to a process of this node. */
#include <utlist.h>

#include "engine/private.h"

/* A process that sends to a peer for which more than this waits goes on when half is read. */
enum { CROWDED = 8 << 20 };

enum { KEEP = 64 << 10 }; /* bytes of the buffer for local messages that are kept */

/* {==== Sending =========================================================================== */

bool eng_is_local(const struct engine *engine, struct span node) {
    return span_equal(node, eng_node_name(engine));
}

static struct span destination(const struct dist_control *control, struct span node) {
    if (node.len > 0) {
        return node;
    }
    return ext_node_of(control->op == DIST_ALIAS_SEND ? control->ref : control->to);
}

/* Whether the destination is in this process of the node. */
static bool is_here(struct engine *engine, const struct dist_control *control, struct span node) {
    struct span to = control->to;
    struct span name;
    struct span failure;
    bool latin1;
    if (!eng_is_local(engine, node) || engine->slot == 0) {
        return eng_is_local(engine, node);
    }
    return ext_take_atom(&to, &name, &latin1) ? eng_whereis(engine, name, &failure) != NULL
                                              : eng_slot_of(engine, control->to) == engine->slot;
}

/* Where the message goes: a frame for a peer; for this node, and for one whose connection is being
 * made, a buffer of our own. */
static struct buf *open_out(struct engine *engine, const struct dist_control *control,
                            struct span node, struct err *err) {
    engine->out_peer = NULL;
    engine->out_local.len = 0;
    if (node.len > sizeof engine->out_name) {
        err_set(err, "the name of the node is too long");
        return NULL;
    }
    if (is_here(engine, control, node) || eng_reach_waits(engine, node)) {
        memcpy(engine->out_name, node.data, node.len);
        engine->out_node = span_of(engine->out_name, node.len);
        return &engine->out_local;
    }
    engine->out_peer = engine->node == NULL ? NULL : dist_node_peer(engine->node, node);
    if (engine->out_peer == NULL) {
        err_set(err, "not connected to the node %.*s", (int)node.len, (const char *)node.data);
        return NULL;
    }
    struct buf *out = dist_frame_begin(engine->out_peer);
    if (out == NULL) {
        err_set(err, "no memory for a message");
    }
    return out;
}

static bool has_payload(enum dist_op op) {
    return op == DIST_SEND || op == DIST_REG_SEND || op == DIST_ALIAS_SEND ||
           op == DIST_SPAWN_REQUEST;
}

struct buf *eng_send_begin(struct engine *engine, const struct dist_control *control,
                           struct span node, struct err *err) {
    struct dist_control routed = *control;
    struct buf *out = open_out(engine, control, destination(control, node), err);
    if (engine->out_peer != NULL && dist_node_is_channel(engine->node)) {
        routed.node = destination(control, node);
    }
    if (out != NULL && (!dist_control_write(out, &routed) ||
                        (has_payload(control->op) && !ext_put_version(out)))) {
        eng_send_drop(engine);
        err_set(err, "no memory for a message");
        return NULL;
    }
    return out;
}

/* The same bytes as a peer would get. The buffer is taken out of the engine meanwhile: a delivery
 * may send in its turn. */
static void deliver_local(struct engine *engine) {
    struct buf taken = engine->out_local;
    buf_init(&engine->out_local);
    struct span rest = span_of(taken.data + 1, taken.len - 1);
    struct dist_control control;
    if (dist_control_read(&rest, &control)) {
        rest = rest.len == 0 ? rest : span_of(rest.data + 1, rest.len - 1);
        eng_route(engine, (struct span){0}, &control, rest);
    }
    taken.len = 0;
    if (engine->out_local.data == NULL && taken.cap <= KEEP) {
        engine->out_local = taken;
    } else {
        buf_finish(&taken);
    }
}

bool eng_send_end(struct engine *engine, struct err *err) {
    struct dist_peer *peer = engine->out_peer;
    engine->out_peer = NULL;
    if (peer == NULL && !eng_is_local(engine, engine->out_node)) {
        return eng_reach_add(engine, engine->out_node, buf_span(&engine->out_local), err);
    }
    if (peer == NULL) {
        deliver_local(engine);
        return true;
    }
    if (engine->running != NULL && dist_peer_waiting(peer) > CROWDED) {
        engine->crowded = peer;
    }
    return dist_frame_end(peer, err);
}

void eng_send_drop(struct engine *engine) {
    if (engine->out_peer != NULL) {
        dist_frame_drop(engine->out_peer);
        engine->out_peer = NULL;
    }
    engine->out_local.len = 0;
}

bool eng_send_control(struct engine *engine, const struct dist_control *control, struct span node) {
    struct err err;
    return eng_send_begin(engine, control, node, &err) != NULL && eng_send_end(engine, &err);
}

/* }==== */

/* {==== Peers that do not read ============================================================ */

struct dist_peer *eng_send_crowded(struct engine *engine) {
    struct dist_peer *peer = engine->crowded;
    engine->crowded = NULL;
    return peer;
}

void eng_send_block(struct eng_proc *proc, struct dist_peer *peer) {
    proc->blocked_on = peer;
    DL_APPEND2(proc->engine->blocked, proc, prev_blocked, next_blocked);
}

void eng_send_unblock(struct eng_proc *proc) {
    if (proc->blocked_on == NULL) {
        return;
    }
    proc->blocked_on = NULL;
    DL_DELETE2(proc->engine->blocked, proc, prev_blocked, next_blocked);
    eng_sched_touch(proc);
}

void eng_send_look(struct engine *engine, const struct dist_peer *gone) {
    struct eng_proc *proc;
    struct eng_proc *next;
    DL_FOREACH_SAFE2(engine->blocked, proc, next, next_blocked) {
        if (proc->blocked_on == gone || dist_peer_waiting(proc->blocked_on) < CROWDED / 2) {
            eng_send_unblock(proc);
        }
    }
}

/* }==== */
