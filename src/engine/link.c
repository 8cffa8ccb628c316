/* Links, by the protocol of Erlang's "Distribution Protocol", section "New Link Protocol". Those
 * between two processes of this node go the same way. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "engine/private.h"

/* {==== The table: by a process's number and the other's pid ============================== */

enum { MAX_KEY = 8 + 3 + 4 * 255 + 16 };

static size_t make_key(uint8_t *key, const struct eng_proc *proc, struct span other) {
    ext_set_u64(key, proc->id);
    memcpy(key + 8, other.data, other.len);
    return 8 + other.len;
}

static struct eng_link *find(const struct eng_proc *proc, struct span other) {
    uint8_t key[MAX_KEY];
    struct eng_link *link = NULL;
    if (other.len <= MAX_KEY - 8) {
        size_t len = make_key(key, proc, other);
        HASH_FIND(hh, proc->engine->links, key, len, link);
    }
    return link;
}

static struct eng_link *create(struct eng_proc *proc, struct span other) {
    size_t size = sizeof(struct eng_link) + 8 + other.len;
    if (!eng_outside_take(proc->handler, size)) {
        return NULL;
    }
    struct eng_link *link = calloc(1, size);
    if (link == NULL) {
        eng_outside_give(proc->handler, size);
        return NULL;
    }
    link->size = size;
    link->proc = proc;
    link->key_len = make_key(link->key, proc, other);
    link->other = span_of(link->key + 8, other.len);
    HASH_ADD_KEYPTR(hh, proc->engine->links, link->key, link->key_len, link);
    DL_APPEND(proc->links, link);
    return link;
}

static void forget(struct eng_link *link) {
    HASH_DELETE(hh, link->proc->engine->links, link);
    DL_DELETE(link->proc->links, link);
    eng_outside_give(link->proc->handler, link->size);
    free(link);
}

/* }==== */

/* {==== By this side ====================================================================== */

/* The other is not there, as an exit signal through the link says. */
static void fail(struct eng_proc *proc, struct span other, const char *why) {
    struct buf reason = {0};
    struct buf from = {0}; /* the link's own copy goes with it */
    eng_reason_atom(&reason, why);
    eng_reason_copy(&from, other);
    if (eng_link_break(proc, buf_span(&from))) {
        eng_exit_signal(proc, buf_span(&from), buf_span(&reason), true);
    }
    buf_finish(&from);
    buf_finish(&reason);
}

bool eng_link(struct eng_proc *proc, struct span other) {
    struct eng_link *link = find(proc, other);
    if (link != NULL && link->unlinking == 0) {
        return true;
    }
    eng_reach(proc->engine, ext_node_of(other)); /* it may end links, if it fails at once */
    link = find(proc, other);
    link = link == NULL ? create(proc, other) : link;
    if (link == NULL) {
        return false;
    }
    link->unlinking = 0;
    struct dist_control control = {
        .op = DIST_LINK, .from = buf_span(&proc->pid), .to = link->other};
    if (!eng_send_control(proc->engine, &control, (struct span){0})) {
        fail(proc, other, "noconnection");
    }
    return true;
}

static int32_t next_id(struct engine *engine) {
    engine->last_unlink = engine->last_unlink == INT32_MAX ? 1 : engine->last_unlink + 1;
    return engine->last_unlink;
}

static bool put_id(struct buf *id, int32_t number) {
    id->len = 0;
    return ext_put_int(id, number);
}

void eng_unlink(struct eng_proc *proc, struct span other) {
    struct eng_link *link = find(proc, other);
    struct buf id = {0};
    if (link == NULL || link->unlinking != 0) {
        return;
    }
    link->unlinking = next_id(proc->engine);
    struct dist_control control = {
        .op = DIST_UNLINK_ID, .from = buf_span(&proc->pid), .to = link->other};
    if (put_id(&id, link->unlinking)) {
        control.ref = buf_span(&id);
        if (!eng_send_control(proc->engine, &control, (struct span){0})) {
            forget(link);
        }
    }
    buf_finish(&id);
}

bool eng_link_start(struct eng_proc *proc, struct span other) {
    return create(proc, other) != NULL;
}

bool eng_link_break(struct eng_proc *proc, struct span other) {
    struct eng_link *link = find(proc, other);
    bool active = link != NULL && link->unlinking == 0;
    if (link != NULL) {
        forget(link);
    }
    return active;
}

/* }==== */

/* {==== By the other side ================================================================= */

void eng_link_received(struct engine *engine, const struct dist_control *control) {
    struct eng_proc *proc = eng_proc_of_pid(engine, control->to);
    if (proc == NULL) {
        struct buf reason = {0};
        eng_reason_atom(&reason, "noproc");
        struct dist_control reply = {
            .op = DIST_EXIT, .from = control->to, .to = control->from, .reason = buf_span(&reason)};
        eng_send_control(engine, &reply, (struct span){0});
        buf_finish(&reason);
    } else if (find(proc, control->from) == NULL && create(proc, control->from) == NULL) {
        log_line(engine->log, LOG_LEVEL_ERROR, "lunode", "no memory: a link is lost");
    }
}

/* The old form, of nodes that know no other: nothing is acknowledged. */
void eng_unlinked(struct engine *engine, const struct dist_control *control) {
    struct eng_proc *proc = eng_proc_of_pid(engine, control->to);
    if (proc != NULL) {
        eng_link_break(proc, control->from);
    }
}

void eng_unlink_received(struct engine *engine, const struct dist_control *control) {
    struct eng_proc *proc = eng_proc_of_pid(engine, control->to);
    struct eng_link *link = proc == NULL ? NULL : find(proc, control->from);
    struct dist_control acknowledge = {
        .op = DIST_UNLINK_ID_ACK, .from = control->to, .to = control->from, .ref = control->ref};
    if (link != NULL && link->unlinking == 0) {
        forget(link);
    }
    eng_send_control(engine, &acknowledge, (struct span){0});
}

void eng_unlink_acknowledged(struct engine *engine, const struct dist_control *control) {
    struct eng_proc *proc = eng_proc_of_pid(engine, control->to);
    struct eng_link *link = proc == NULL ? NULL : find(proc, control->from);
    struct span id = control->ref;
    int64_t number;
    if (link != NULL && ext_take_int(&id, &number) && number == link->unlinking) {
        forget(link);
    }
}

/* }==== */

/* {==== Ends ============================================================================== */

void eng_links_fire(struct eng_proc *proc, struct span reason) {
    struct eng_link *first = proc->links;
    struct eng_link *link;
    struct eng_link *next;
    DL_FOREACH(first, link) {
        HASH_DELETE(hh, proc->engine->links, link);
    }
    proc->links = NULL; /* none is found any more: a peer can have linked the process to itself */
    DL_FOREACH_SAFE(first, link, next) {
        struct dist_control control = {
            .op = DIST_EXIT, .from = buf_span(&proc->pid), .to = link->other, .reason = reason};
        if (link->unlinking == 0) {
            eng_send_control(proc->engine, &control, (struct span){0});
        }
        eng_outside_give(proc->handler, link->size);
        free(link);
    }
}

void eng_links_clear(struct eng_proc *proc) {
    struct eng_link *link;
    struct eng_link *next;
    DL_FOREACH_SAFE(proc->links, link, next) {
        forget(link);
    }
}

void eng_links_of_node(struct engine *engine, struct span node) {
    struct eng_link *link;
    struct eng_link *next;
    HASH_ITER(hh, engine->links, link, next) {
        if (!span_equal(ext_node_of(link->other), node)) {
            continue;
        }
        if (link->unlinking != 0) {
            forget(link);
        } else {
            fail(link->proc, link->other, "noconnection");
        }
    }
}

/* }==== */
