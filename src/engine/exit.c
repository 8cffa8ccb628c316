/* Exit signals, and how a process ends. */
#include <stdlib.h>
#include <utlist.h>

#include "engine/private.h"

/* {==== Signals =========================================================================== */

static bool put_exit(struct buf *out, struct span from, struct span reason) {
    return ext_put_tuple(out, 3) && ext_put_atom(out, span_str("EXIT")) &&
           buf_append(out, from.data, from.len) && buf_append(out, reason.data, reason.len);
}

static void trap(struct eng_proc *proc, struct span from, struct span reason) {
    struct buf message = {0};
    struct eng_mail *mail = NULL;
    if (put_exit(&message, from, reason)) {
        mail = eng_mail_create(NULL, (struct span){0}, buf_span(&message), false);
    }
    if (mail != NULL) {
        eng_mailbox_deliver(proc, mail);
    }
    buf_finish(&message);
}

void eng_exit_signal(struct eng_proc *proc, struct span from, struct span reason, bool by_link) {
    bool kill = !by_link && ext_is_atom(reason, "kill");
    bool itself = span_equal(from, buf_span(&proc->pid));
    if (proc->killed || proc->handler == NULL) {
        return;
    }
    if (kill) {
        struct buf killed = {0};
        eng_reason_atom(&killed, "killed");
        eng_exit(proc, buf_span(&killed));
        buf_finish(&killed);
    } else if (proc->trap_exit) {
        trap(proc, from, reason);
    } else if (itself || !ext_is_atom(reason, "normal")) {
        eng_exit(proc, reason);
    }
}

void eng_exit_received(struct engine *engine, const struct dist_control *control) {
    struct eng_proc *proc = eng_proc_of_pid(engine, control->to);
    bool by_link = control->op == DIST_EXIT;
    if (proc != NULL && (!by_link || eng_link_break(proc, control->from))) {
        eng_exit_signal(proc, control->from, control->reason, by_link);
    }
}

bool eng_exit_of_parent(const struct eng_proc *proc, const struct eng_mail *mail,
                        struct span *reason) {
    struct span rest = mail->body;
    struct span head;
    struct span from;
    uint32_t arity;
    bool is_exit = proc->start->is_child && mail->caller.kind == ENG_INFO &&
                   ext_take_tuple(&rest, &arity) && arity == 3 && ext_take(&rest, &head) &&
                   ext_is_atom(head, "EXIT") && ext_take(&rest, &from) && ext_take(&rest, reason);
    return is_exit && span_equal(from, proc->start->parent);
}

/* }==== */

/* {==== Ends ============================================================================== */

void eng_exit(struct eng_proc *proc, struct span reason) {
    struct engine *engine = proc->engine;
    if (proc->killed) {
        return;
    }
    if (reason.data != proc->reason.data) {
        eng_reason_copy(&proc->reason, reason);
    }
    proc->killed = true;
    eng_sched_leave(proc);
    if (proc == engine->running) {
        eng_slice_stop_soon(&engine->slice);
    }
    DL_APPEND2(engine->dying, proc, prev_ready, next_ready);
}

void eng_exit_begin(struct eng_proc *proc, struct span reason) {
    if (proc->killed) {
        return;
    }
    if (proc->stage == ENG_ENDING) { /* terminate itself wants the end, or one is under way */
        if (proc == proc->engine->running) {
            eng_exit(proc, buf_span(&proc->reason));
        }
        return;
    }
    if (proc->stage != ENG_LIVING || !proc->version->has_terminate) {
        eng_exit(proc, reason);
        return;
    }
    eng_reason_copy(&proc->reason, reason);
    proc->stage = ENG_ENDING;
    if (proc != proc->engine->running) {
        eng_proc_abandon(proc, true);
        eng_sched_touch(proc);
    }
}

static void keep_last(struct eng_handler *handler, struct buf *error) {
    struct buf old = handler->last_error;
    handler->last_error = *error;
    *error = old;
}

/* Every end that is neither wished for nor told to an erpc caller is one event of the log. */
static void tell(struct eng_proc *proc) {
    struct span reason = buf_span(&proc->reason);
    bool is_failure = proc->start->result.len == 0 && !eng_reason_is_quiet(reason);
    if (is_failure && !proc->logged) {
        struct eng_error error;
        eng_error_plain(&error, proc->handler, proc, reason);
        if (eng_may_log(proc->handler, error.text.len)) {
            log_text(proc->engine->log, LOG_LEVEL_ERROR, proc->handler->name,
                     buf_span(&error.text));
        }
        eng_error_keep(&proc->error, &error);
        eng_error_finish(&error);
    }
    if (proc->error.len > 0 && proc->eval == NULL) {
        keep_last(proc->handler, &proc->error);
        if (is_failure && proc->start->purpose != ENG_LOAD) {
            eng_event(proc->handler, "crashed", buf_span(&proc->handler->last_error));
        }
    }
}

static void bury(struct eng_proc *proc) {
    struct engine *engine = proc->engine;
    struct eng_handler *handler = proc->handler;
    struct buf reason = proc->reason;
    bool registered = handler->proc == proc;
    buf_init(&proc->reason);
    eng_proc_abandon(proc, false);
    eng_fail_waiting(engine, proc, buf_span(&reason));
    eng_monitors_fire(engine, proc, buf_span(&reason));
    eng_links_fire(proc, buf_span(&reason));
    if (proc->eval != NULL) {
        eng_eval_ended(proc, buf_span(&reason));
    }
    if (proc->start->purpose == ENG_LOAD) {
        eng_load_ended(handler, proc, buf_span(&reason));
    }
    eng_proc_destroy(proc);
    if (registered) {
        eng_handler_ended(handler, buf_span(&reason));
    }
    eng_handler_renew(handler);
    eng_handler_leave(handler);
    buf_finish(&reason);
}

void eng_exit_all(struct engine *engine) {
    while (engine->dying != NULL) {
        struct eng_proc *proc = engine->dying;
        DL_DELETE2(engine->dying, proc, prev_ready, next_ready);
        tell(proc);
        bury(proc);
    }
}

/* }==== */
