/* Where an incoming message goes: to a process of this node, or to the part that serves a signal.
 */
#include <stdlib.h>

#include "engine/private.h"

/* {==== Messages ========================================================================== */

/* The atom of the node that the message came from; 0 when it is this one. */
static uint32_t origin_of(struct engine *engine, struct span node) {
    struct err err;
    if (node.len == 0) {
        return 0;
    }
    if (!span_equal(node, term_atom_name(engine->atoms, engine->origin)) &&
        !term_atom_intern(engine->atoms, node, &engine->origin, &err)) {
        engine->origin = 0;
    }
    return engine->origin;
}

static void deliver(struct eng_proc *proc, struct span node, struct span sender,
                    struct span payload, bool to_any) {
    struct eng_mail *mail = eng_mail_create(proc->engine->in_peer, sender, payload, to_any);
    if (mail == NULL) {
        log_line(proc->engine->log, LOG_LEVEL_ERROR, "lunode", "no memory: a message is lost");
        return;
    }
    mail->origin = origin_of(proc->engine, node);
    eng_mailbox_deliver(proc, mail);
}

/* Nobody has the name `any`, or its handler is down: the sender waits for {node, value}. */
static void refuse_any(struct engine *engine, struct span sender, struct span failure) {
    struct eng_caller caller = {.kind = ENG_ANY, .pid = sender};
    struct buf noproc = {0};
    eng_reason_atom(&noproc, "noproc");
    eng_reply_failure(engine, engine->net_kernel, &caller,
                      failure.len > 0 ? failure : buf_span(&noproc));
    buf_finish(&noproc);
}

static bool is_plain(struct span payload) {
    struct eng_caller caller;
    eng_caller_read(&payload, &caller);
    return caller.kind == ENG_INFO;
}

static void to_name(struct engine *engine, struct span node, const struct dist_control *control,
                    struct span payload) {
    struct span to = control->to;
    struct span name;
    struct span failure;
    bool latin1;
    if (!ext_take_atom(&to, &name, &latin1)) {
        return;
    }
    bool to_any = span_equal(name, span_str("any"));
    struct eng_proc *proc = eng_whereis(engine, name, &failure);
    if (proc != NULL) {
        deliver(proc, node, control->from, payload, to_any);
    } else if (to_any && is_plain(payload)) {
        refuse_any(engine, control->from, failure);
    } else {
        log_line(engine->log, LOG_LEVEL_DEBUG, "lunode", "dropped a message to %.*s: no process",
                 (int)name.len, (const char *)name.data);
    }
}

static void to_pid(struct engine *engine, struct span node, const struct dist_control *control,
                   struct span payload) {
    struct eng_proc *proc = eng_proc_of_pid(engine, control->to);
    if (proc != NULL && !eng_watch_reply(proc, payload)) {
        deliver(proc, node, (struct span){0}, payload, false);
    }
}

/* }==== */

void eng_route(struct engine *engine, struct span node, const struct dist_control *control,
               struct span payload) {
    const struct eng_outside *outside = &engine->outside;
    if (outside->route != NULL && outside->route(outside->user, node, control, payload)) {
        return;
    }
    switch (control->op) {
    case DIST_SEND:
        to_pid(engine, node, control, payload);
        break;
    case DIST_REG_SEND:
        to_name(engine, node, control, payload);
        break;
    case DIST_MONITOR_P:
        eng_monitor_add(engine, control);
        break;
    case DIST_DEMONITOR_P:
        eng_monitor_remove(engine, control->ref);
        break;
    case DIST_MONITOR_P_EXIT:
        eng_watch_down(engine, control);
        break;
    case DIST_LINK:
        eng_link_received(engine, control);
        break;
    case DIST_UNLINK:
        eng_unlinked(engine, control);
        break;
    case DIST_UNLINK_ID:
        eng_unlink_received(engine, control);
        break;
    case DIST_UNLINK_ID_ACK:
        eng_unlink_acknowledged(engine, control);
        break;
    case DIST_EXIT:
    case DIST_EXIT2:
        eng_exit_received(engine, control);
        break;
    case DIST_SPAWN_REQUEST:
        eng_spawn_requested(engine, control, payload);
        break;
    case DIST_SPAWN_REPLY:
        eng_watch_spawned(engine, control);
        break;
    default: /* a group leader means nothing here */
        break;
    }
}
