/* The messages that wait for one process, in the order in which they came, and their bound. */
#include <utlist.h>

#include "engine/private.h"

/* Beside the number of messages that a handler allows. */
enum { MAX_BYTES = 1 << 30 };

/* {==== A full mailbox ==================================================================== */

static void refuse(struct eng_proc *proc, struct eng_mail *mail, const char *kind, size_t max,
                   size_t used) {
    struct buf reason = {0};
    eng_reason_limit(&reason, kind, max, used);
    bool is_long = strcmp(kind, "message") == 0;
    if (is_long || !proc->mailbox.reported) {
        proc->mailbox.reported = proc->mailbox.reported || !is_long;
        eng_event_limit(proc->handler, kind, max, used);
    }
    if (mail->caller.kind == ENG_CALL || mail->caller.kind == ENG_ANY) {
        eng_reply_failure(proc->engine, proc, &mail->caller, buf_span(&reason));
    } else if (is_long) {
        log_line(proc->engine->log, LOG_LEVEL_WARNING, proc->handler->name,
                 "dropped a message of %zu bytes: the limit is %zu", used, max);
    } else if (!proc->mailbox.told_full) {
        proc->mailbox.told_full = true;
        log_line(proc->engine->log, LOG_LEVEL_WARNING, proc->handler->name,
                 "the mailbox is full: %zu %s wait and the limit is %zu: what comes now is dropped",
                 used, strcmp(kind, "mailbox") == 0 ? "messages" : "bytes", max);
    }
    buf_finish(&reason);
    eng_mail_free(proc, mail);
}

/* }==== */

/* A process that runs its own loop may never look into its mailbox; that it has started, and runs,
 * is all that `resume` asks. */
static bool is_answered(struct eng_proc *proc, struct eng_mail *mail) {
    if (mail->caller.kind != ENG_SYSTEM || proc->job != ENG_RUN || proc->suspended ||
        !ext_is_atom(mail->body, "resume")) {
        return false;
    }
    eng_reply_atom(proc->engine, proc, &mail->caller, "ok");
    eng_mail_free(proc, mail);
    return true;
}

void eng_mailbox_deliver(struct eng_proc *proc, struct eng_mail *mail) {
    if (proc->handler == NULL) {
        eng_service_deliver(proc, mail);
        return;
    }
    struct eng_mailbox *box = &proc->mailbox;
    bool is_system = mail->caller.kind == ENG_SYSTEM;
    if (is_answered(proc, mail)) {
        return;
    }
    const struct eng_policy *policy = &proc->handler->policy;
    if (!policy->trusted && mail->body.len > policy->message) {
        refuse(proc, mail, "message", policy->message, mail->body.len);
        return;
    }
    if (!is_system && box->count >= policy->mailbox) {
        refuse(proc, mail, "mailbox", policy->mailbox, box->count);
        return;
    }
    if (box->bytes > MAX_BYTES) {
        refuse(proc, mail, "mailbox_bytes", MAX_BYTES, box->bytes);
        return;
    }
    if (!eng_outside_take(proc->handler, mail->size)) {
        refuse(proc, mail, "mailbox_bytes", policy->memory, proc->handler->outside);
        return;
    }
    mail->number = ++box->number;
    DL_APPEND(box->first, mail);
    box->count++;
    box->bytes += mail->size;
    box->system += is_system;
    if (proc->wait == ENG_WAIT_MAIL) {
        eng_sched_wake(proc);
    } else {
        eng_sched_touch(proc);
    }
}

void eng_mailbox_take(struct eng_proc *proc, struct eng_mail *mail) {
    struct eng_mailbox *box = &proc->mailbox;
    DL_DELETE(box->first, mail);
    box->count--;
    box->bytes -= mail->size;
    eng_outside_give(proc->handler, mail->size);
    box->system -= mail->caller.kind == ENG_SYSTEM;
    box->taken++;
    box->told_full = box->told_full && box->count > 0;
    box->reported = box->reported && box->count > 0;
}

struct eng_mail *eng_mailbox_next(const struct eng_proc *proc) {
    struct eng_mail *mail = proc->mailbox.first;
    if (!proc->suspended && !proc->version->has_run) {
        return mail;
    }
    if (proc->mailbox.system == 0) {
        return NULL;
    }
    while (mail->caller.kind != ENG_SYSTEM) {
        mail = mail->next;
    }
    return mail;
}

void eng_mail_free(struct eng_proc *proc, struct eng_mail *mail) {
    if (mail->from_ref != LUA_NOREF) {
        luaL_unref(proc->handler->L, LUA_REGISTRYINDEX, mail->from_ref);
    }
    eng_mail_drop(mail);
}

void eng_mailbox_clear(struct eng_proc *proc) {
    while (proc->mailbox.first != NULL) {
        struct eng_mail *mail = proc->mailbox.first;
        eng_mailbox_take(proc, mail);
        eng_mail_free(proc, mail);
    }
}
