/* Nodes that are not connected yet: what a process sends to one waits while the connection is made,
 * as on a BEAM. */
#include <stdlib.h>
#include <string.h>

#include "engine/private.h"

enum { MAX_WAITING = 8 << 20 }; /* bytes for one node */

struct eng_unreached {
    struct buf frames; /* each a length and the bytes of a frame */
    UT_hash_handle hh; /* by name */
    char name[];
};

static struct eng_unreached *find(struct engine *engine, struct span node) {
    struct eng_unreached *unreached;
    HASH_FIND(hh, engine->unreached, node.data, node.len, unreached);
    return unreached;
}

static void forget(struct engine *engine, struct eng_unreached *unreached) {
    HASH_DELETE(hh, engine->unreached, unreached);
    buf_finish(&unreached->frames);
    free(unreached);
}

/* An untrusted script makes no connections. */
static bool may_reach(const struct engine *engine) {
    const struct eng_proc *proc = engine->running;
    return proc == NULL || proc->handler == NULL || proc->handler->policy.trusted;
}

void eng_reach(struct engine *engine, struct span node) {
    if (!may_reach(engine) || node.len == 0 || engine->node == NULL || eng_is_local(engine, node) ||
        dist_node_peer(engine->node, node) != NULL || find(engine, node) != NULL) {
        return;
    }
    char name[4 * 255 + 1];
    struct eng_unreached *unreached =
        node.len < sizeof name ? calloc(1, sizeof *unreached + node.len + 1) : NULL;
    if (unreached == NULL) {
        return; /* then it counts as not connected */
    }
    memcpy(unreached->name, node.data, node.len);
    HASH_ADD_KEYPTR(hh, engine->unreached, unreached->name, node.len, unreached);
    memcpy(name, unreached->name, node.len + 1); /* it may fail at once, and take that one along */
    dist_node_connect(engine->node, name);
}

bool eng_reach_waits(struct engine *engine, struct span node) {
    return find(engine, node) != NULL;
}

bool eng_reach_add(struct engine *engine, struct span node, struct span frame, struct err *err) {
    struct eng_unreached *unreached = find(engine, node);
    uint8_t head[4];
    if (unreached == NULL) {
        return err_set(err, "not connected to the node %.*s", (int)node.len,
                       (const char *)node.data);
    }
    if (unreached->frames.len + frame.len > MAX_WAITING) {
        return err_set(err, "more than %d bytes wait for the connection to %s", MAX_WAITING,
                       unreached->name);
    }
    ext_set_u32(head, (uint32_t)frame.len);
    if (!buf_append(&unreached->frames, head, sizeof head) ||
        !buf_append(&unreached->frames, frame.data, frame.len)) {
        return err_set(err, "no memory for a message");
    }
    return true;
}

/* Sends what waited, in its order. */
static void send_all(struct dist_peer *peer, struct span frames) {
    struct err err;
    while (frames.len > 0) {
        size_t len = ext_u32(frames.data);
        struct buf *out = dist_frame_begin(peer);
        if (out == NULL || !buf_append(out, frames.data + 4, len) || !dist_frame_end(peer, &err)) {
            dist_frame_drop(peer);
        }
        frames = span_of(frames.data + 4 + len, frames.len - 4 - len);
    }
}

void eng_peer_up(struct engine *engine, struct dist_peer *peer) {
    struct eng_unreached *unreached = find(engine, span_str(dist_peer_name(peer)));
    if (unreached != NULL) {
        send_all(peer, buf_span(&unreached->frames));
        forget(engine, unreached);
    }
}

bool eng_connect_failed(struct engine *engine, const char *name) {
    struct span node = span_str(name);
    struct eng_unreached *unreached = find(engine, node);
    if (unreached == NULL) {
        return false;
    }
    forget(engine, unreached);
    eng_watches_of_node(engine, node);
    eng_links_of_node(engine, node);
    return true;
}

void eng_reach_clear(struct engine *engine) {
    struct eng_unreached *unreached = engine->unreached;
    HASH_CLEAR(hh, engine->unreached);
    while (unreached != NULL) {
        struct eng_unreached *next = unreached->hh.next;
        buf_finish(&unreached->frames);
        free(unreached);
        unreached = next;
    }
}
