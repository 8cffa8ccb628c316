/* Messages on their way out: to a peer, or to a process of this node. */
#include "engine/private.h"

static struct span destination(const struct dist_control *control, struct span node) {
    if (node.len > 0) {
        return node;
    }
    return ext_node_of(control->op == DIST_ALIAS_SEND ? control->ref : control->to);
}

/* Where the payload goes: behind the control message of a frame, or into a buffer of our own. */
static struct buf *open_out(struct engine *engine, struct span node, struct err *err) {
    if (span_equal(node, span_str(eng_node_name(engine)))) {
        engine->out_peer = NULL;
        engine->out_local.len = 0;
        return &engine->out_local;
    }
    engine->out_peer = engine->node == NULL ? NULL : dist_node_peer(engine->node, node);
    if (engine->out_peer == NULL) {
        err_set(err, "not connected to the node %.*s", (int)node.len, (const char *)node.data);
        return NULL;
    }
    struct buf *out = dist_frame_begin(engine->out_peer);
    if (out == NULL || !dist_control_write(out, &engine->out_control)) {
        err_set(err, "no memory for a message");
        return NULL;
    }
    return out;
}

static bool has_payload(enum dist_op op) {
    return op == DIST_SEND || op == DIST_REG_SEND || op == DIST_ALIAS_SEND;
}

struct buf *eng_send_begin(struct engine *engine, const struct dist_control *control,
                           struct span node, struct err *err) {
    engine->out_control = *control;
    struct buf *out = open_out(engine, destination(control, node), err);
    if (out != NULL && has_payload(control->op) && !ext_put_version(out)) {
        eng_send_drop(engine);
        err_set(err, "no memory for a message");
        return NULL;
    }
    return out;
}

/* The buffer is taken out of the engine: a delivery may send in its turn. */
static void deliver_local(struct engine *engine) {
    struct buf taken = engine->out_local;
    buf_init(&engine->out_local);
    struct span payload = span_of(taken.data + 1, taken.len > 0 ? taken.len - 1 : 0);
    struct dist_control control = engine->out_control;
    eng_route(engine, NULL, &control, payload);
    buf_finish(&taken);
}

bool eng_send_end(struct engine *engine, struct err *err) {
    struct dist_peer *peer = engine->out_peer;
    engine->out_peer = NULL;
    if (peer == NULL) {
        deliver_local(engine);
        return true;
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
