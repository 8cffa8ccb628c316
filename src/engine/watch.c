/* What this node's processes watch: monitors of theirs, and the answers they wait for. Both end by
 * MONITOR_P_EXIT, or when the connection is lost. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "engine/private.h"

/* {==== References ======================================================================== */

enum { REF_WORDS = 3 };

bool eng_ref_make(struct engine *engine, bool call, struct buf *out) {
    uint64_t number = ++engine->last_ref;
    uint32_t words[REF_WORDS] = {(uint32_t)number, (uint32_t)(number >> 32), call ? 1 : 0};
    uint32_t creation = engine->node == NULL ? 0 : dist_node_creation(engine->node);
    out->len = 0;
    return ext_put_ref(out, eng_node_name(engine), creation, words);
}

/* A reference that this node made for a call. */
static bool is_call_ref(const struct engine *engine, struct span ref) {
    return ext_is_ref(ref) && eng_is_local(engine, ext_node_of(ref)) &&
           ext_u32(ref.data + ref.len - 4) == 1;
}

/* }==== */

/* {==== The table ========================================================================= */

static struct eng_watch *find(struct engine *engine, struct span ref) {
    struct eng_watch *watch;
    HASH_FIND(hh, engine->watches, ref.data, ref.len, watch);
    return watch;
}

static struct eng_watch *create(struct eng_proc *proc, struct span ref, struct span target,
                                struct span node) {
    size_t size = sizeof(struct eng_watch) + ref.len + target.len + node.len;
    if (!eng_outside_take(proc->handler, 2 * size)) {
        return NULL;
    }
    struct eng_watch *watch = calloc(1, size);
    if (watch == NULL) {
        eng_outside_give(proc->handler, 2 * size);
        return NULL;
    }
    watch->size = 2 * size;
    uint8_t *at = watch->bytes;
    watch->proc = proc;
    watch->ref = span_keep(&at, ref);
    watch->target = span_keep(&at, target);
    watch->node = span_keep(&at, node);
    HASH_ADD_KEYPTR(hh, proc->engine->watches, watch->ref.data, watch->ref.len, watch);
    DL_APPEND(proc->watches, watch);
    return watch;
}

static void forget(struct eng_watch *watch) {
    struct eng_proc *proc = watch->proc;
    if (proc->call == watch) {
        proc->call = NULL;
    }
    HASH_DELETE(hh, proc->engine->watches, watch);
    DL_DELETE(proc->watches, watch);
    eng_outside_give(proc->handler, watch->size);
    free(watch);
}

/* Tells the node of the target that nobody watches any more. */
static void stop(struct eng_watch *watch) {
    struct dist_control control = {.op = DIST_DEMONITOR_P,
                                   .from = buf_span(&watch->proc->pid),
                                   .to = watch->target,
                                   .ref = watch->ref};
    if (watch->target.len > 0) {
        eng_send_control(watch->proc->engine, &control, watch->node);
    }
    forget(watch);
}

/* }==== */

/* {==== Ends ============================================================================== */

/* A call out has its answer. */
static void answer(struct eng_proc *proc, enum eng_outcome outcome, struct span term) {
    const struct eng_handler *handler = proc->handler;
    proc->outcome = outcome;
    if (handler != NULL && !handler->policy.trusted && term.len > handler->policy.message) {
        proc->outcome = ENG_FAILED;
        eng_reason_limit(&proc->answer, "message", handler->policy.message, term.len);
    } else {
        eng_reason_copy(&proc->answer, term);
    }
    if (proc->wait == ENG_WAIT_ANSWER) {
        eng_sched_wake(proc);
    }
}

/* {'DOWN', Ref, process, Pid | {Name, Node}, Reason} */
static bool put_down(const struct eng_watch *watch, struct span reason, struct buf *out) {
    bool by_name = !ext_is_pid(watch->target);
    return ext_put_tuple(out, 5) && ext_put_atom(out, span_str("DOWN")) &&
           buf_append(out, watch->ref.data, watch->ref.len) &&
           ext_put_atom(out, span_str("process")) && (!by_name || ext_put_tuple(out, 2)) &&
           buf_append(out, watch->target.data, watch->target.len) &&
           (!by_name || ext_put_atom(out, watch->node)) && buf_append(out, reason.data, reason.len);
}

static void fire(struct eng_watch *watch, struct span reason) {
    struct eng_proc *proc = watch->proc;
    if (watch->kind != ENG_WATCH_USER) {
        if (proc->call == watch) {
            answer(proc, ENG_FAILED, reason);
        }
        forget(watch);
        return;
    }
    struct buf message = {0};
    struct eng_mail *mail = NULL;
    if (put_down(watch, reason, &message)) {
        mail = eng_mail_create(NULL, (struct span){0}, buf_span(&message), false);
    }
    forget(watch);
    if (mail != NULL) {
        eng_mailbox_deliver(proc, mail);
    }
    buf_finish(&message);
}

static void fire_atom(struct eng_watch *watch, const char *name) {
    struct buf reason = {0};
    eng_reason_atom(&reason, name);
    fire(watch, buf_span(&reason));
    buf_finish(&reason);
}

void eng_watch_down(struct engine *engine, const struct dist_control *control) {
    struct eng_watch *watch = find(engine, control->ref);
    if (watch != NULL) {
        fire(watch, control->reason);
    }
}

void eng_watches_of_node(struct engine *engine, struct span node) {
    struct eng_watch *watch;
    struct eng_watch *next;
    HASH_ITER(hh, engine->watches, watch, next) {
        if (span_equal(watch->node, node)) {
            fire_atom(watch, "noconnection");
        }
    }
}

/* }==== */

/* {==== Beginnings ======================================================================== */

bool eng_watch_add(struct eng_proc *proc, enum eng_watch_kind kind, struct span ref,
                   struct span target, struct span node) {
    eng_reach(proc->engine, node);
    struct eng_watch *watch = create(proc, ref, target, node);
    if (watch == NULL) {
        return false;
    }
    watch->kind = kind;
    if (kind != ENG_WATCH_USER) {
        proc->call = watch;
        proc->outcome = ENG_PENDING;
    }
    if (kind == ENG_WATCH_SPAWN) {
        return true; /* the request itself asks for the monitor */
    }
    struct dist_control control = {
        .op = DIST_MONITOR_P, .from = buf_span(&proc->pid), .to = watch->target, .ref = watch->ref};
    if (!eng_send_control(proc->engine, &control, watch->node)) {
        fire_atom(watch, "noconnection");
    }
    return true;
}

bool eng_watch_remove(struct eng_proc *proc, struct span ref) {
    struct eng_watch *watch = find(proc->engine, ref);
    if (watch == NULL || watch->proc != proc) {
        return false;
    }
    stop(watch);
    return true;
}

void eng_watches_clear(struct eng_proc *proc) {
    while (proc->watches != NULL) {
        stop(proc->watches);
    }
}

/* }==== */

/* {==== Answers =========================================================================== */

/* The process that was asked for is there, or will never be: then the flags and the pid are an
 * atom that says why. */
void eng_watch_spawned(struct engine *engine, const struct dist_control *control) {
    struct eng_watch *watch = find(engine, control->ref);
    if (watch == NULL || watch->kind != ENG_WATCH_SPAWN) {
        return;
    }
    if (!ext_is_pid(control->reason)) {
        fire(watch, control->reason);
    }
}

bool eng_watch_reply(struct eng_proc *proc, struct span payload) {
    struct span ref;
    uint32_t arity;
    if (!ext_take_tuple(&payload, &arity) || arity != 2 || !ext_take(&payload, &ref) ||
        !is_call_ref(proc->engine, ref)) {
        return false;
    }
    struct eng_watch *watch = find(proc->engine, ref);
    if (watch != NULL && watch == proc->call && proc->outcome == ENG_PENDING) {
        answer(proc, ENG_REPLIED, payload);
    }
    return true;
}

/* }==== */
