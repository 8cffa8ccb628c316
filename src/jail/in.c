/* What goes into a worker: messages and signals for its processes. What it owes by them is noted.
 */
#include "engine/caller.h"
#include "jail/private.h"

/* Bytes that may wait for a worker that does not read. */
enum { MAX_WAITING = 32 << 20 };

/* {==== Whose it is ======================================================================= */

static struct jail_worker *worker_of_name(const struct jail *jail, struct span term,
                                          struct jail_tenant **tenant) {
    struct span name;
    bool latin1;
    *tenant = ext_take_atom(&term, &name, &latin1) ? jail_tenant_find(jail, name) : NULL;
    return *tenant == NULL ? NULL : (*tenant)->worker;
}

/* The module of a SPAWN_REQUEST; that of what erpc is to call stands behind its reference. */
static struct span module_of(const struct dist_control *control, struct span payload) {
    struct span mfa = control->mfa;
    struct span module = {0};
    struct span function = {0};
    struct span skipped;
    uint32_t arity;
    uint32_t count;
    if (!ext_take_tuple(&mfa, &arity) || arity != 3 || !ext_take(&mfa, &module) ||
        !ext_take(&mfa, &function) || !ext_is_atom(module, "erpc")) {
        return module;
    }
    if (!ext_take_list(&payload, &count) ||
        (ext_is_atom(function, "execute_call") && !ext_take(&payload, &skipped)) ||
        !ext_take(&payload, &module)) {
        return (struct span){0};
    }
    return module;
}

static struct jail_worker *worker_of(const struct jail *jail, const struct dist_control *control,
                                     struct span payload, struct jail_tenant **tenant) {
    *tenant = NULL;
    if (control->op == DIST_SPAWN_REQUEST) {
        return worker_of_name(jail, module_of(control, payload), tenant);
    }
    if (ext_is_pid(control->to)) {
        return jail_worker_of_slot(jail, eng_slot_of(jail->engine, control->to));
    }
    return worker_of_name(jail, control->to, tenant);
}

/* }==== */

/* {==== What is noted ===================================================================== */

struct entry {
    struct jail_worker *worker;
    struct span node;
    const struct dist_control *control;
    struct span payload;
};

static bool note(const struct entry *entry, const struct jail_debt *debt, struct span a,
                 struct span b) {
    return jail_debt_add(&entry->worker->ledger, debt, a, b) != NULL;
}

/* It is void, but what the worker has sent before it knows may be on its way. */
static void give_up(const struct entry *entry, enum jail_debt_kind kind, struct span a,
                    struct span b) {
    struct jail_debt *debt = jail_debt_find(&entry->worker->ledger, kind, a, b);
    if (debt != NULL) {
        jail_debt_give_up(&entry->worker->ledger, debt);
    }
}

static bool note_message(const struct entry *entry) {
    struct span body = entry->payload;
    struct eng_caller caller;
    struct span ref;
    bool alias;
    eng_caller_read(&body, &caller);
    if (caller.kind == ENG_CALL || caller.kind == ENG_SYSTEM) {
        struct jail_debt debt = {.kind = JAIL_CALL, .pid = caller.pid, .what = caller.tag};
        bool by_ref = eng_tag_ref(caller.tag, &ref, &alias);
        return note(entry, &debt, by_ref ? ref : caller.tag,
                    by_ref ? (struct span){0} : caller.pid);
    }
    return true;
}

static bool note_monitor(const struct entry *entry) {
    const struct dist_control *control = entry->control;
    struct jail_debt debt = {.kind = JAIL_MONITOR, .pid = control->from, .what = control->to};
    return note(entry, &debt, control->ref, (struct span){0});
}

/* Who had called with that reference gives up, too. */
static bool note_demonitor(const struct entry *entry) {
    give_up(entry, JAIL_MONITOR, entry->control->ref, (struct span){0});
    give_up(entry, JAIL_CALL, entry->control->ref, (struct span){0});
    return true;
}

static bool note_link(const struct entry *entry) {
    const struct dist_control *control = entry->control;
    struct jail_debt debt = {.kind = JAIL_LINK, .pid = control->from, .what = control->to};
    return note(entry, &debt, control->to, control->from);
}

static bool note_unlink(const struct entry *entry) {
    const struct dist_control *control = entry->control;
    struct jail_debt debt = {.kind = JAIL_UNLINK, .pid = control->from, .what = control->to};
    give_up(entry, JAIL_LINK, control->to, control->from);
    return control->op == DIST_UNLINK || note(entry, &debt, control->ref, control->from);
}

static bool note_exit(const struct entry *entry) {
    give_up(entry, JAIL_LINK, entry->control->to, entry->control->from);
    return true;
}

/* Whether the option is there, by itself or as the head of a tuple. */
static bool has_option(struct span options, const char *name) {
    uint32_t count;
    uint32_t arity;
    struct span option;
    if (!ext_take_list(&options, &count)) {
        return false;
    }
    for (uint32_t i = 0; i < count && ext_take(&options, &option); i++) {
        struct span head = option;
        if (ext_is_atom(option, name) || (ext_take_tuple(&head, &arity) &&
                                          ext_take(&head, &option) && ext_is_atom(option, name))) {
            return true;
        }
    }
    return false;
}

static bool note_spawn(const struct entry *entry) {
    const struct dist_control *control = entry->control;
    struct jail_debt debt = {.kind = JAIL_SPAWN,
                             .pid = control->from,
                             .what = control->ref,
                             .links = has_option(control->options, "link"),
                             .monitors = has_option(control->options, "monitor")};
    return note(entry, &debt, control->ref, (struct span){0});
}

/* What it watches has ended, or the process it has asked for will not be: once. */
static bool note_end(const struct entry *entry) {
    const struct dist_control *control = entry->control;
    struct jail_ledger *ledger = &entry->worker->ledger;
    struct jail_debt *watch = jail_debt_find(ledger, JAIL_WATCH, control->ref, (struct span){0});
    if (watch == NULL) {
        return false;
    }
    if (control->op == DIST_MONITOR_P_EXIT || !ext_is_pid(control->reason)) {
        jail_debt_drop(ledger, watch);
    }
    return true;
}

/* Whether it is to be passed on. */
static bool note_all(const struct entry *entry) {
    switch (entry->control->op) {
    case DIST_SEND:
    case DIST_REG_SEND:
        return note_message(entry);
    case DIST_MONITOR_P:
        return note_monitor(entry);
    case DIST_DEMONITOR_P:
        return note_demonitor(entry);
    case DIST_LINK:
        return note_link(entry);
    case DIST_UNLINK:
    case DIST_UNLINK_ID:
        return note_unlink(entry);
    case DIST_EXIT:
        return note_exit(entry);
    case DIST_EXIT2:
        return true;
    case DIST_SPAWN_REQUEST:
        return note_spawn(entry);
    case DIST_MONITOR_P_EXIT:
    case DIST_SPAWN_REPLY:
        return note_end(entry);
    default: /* it links nothing outside, and leads no group */
        return false;
    }
}

/* }==== */

/* {==== Passing it on ===================================================================== */

bool jail_send(struct jail_worker *worker, struct span node, const struct dist_control *control,
               struct span payload) {
    struct dist_control routed = *control;
    struct buf *out = worker->down ? NULL : dist_frame_begin(worker->channel);
    struct err err;
    routed.node = node.len > 0 ? node : eng_node_name(worker->jail->engine);
    if (out == NULL || !dist_control_write(out, &routed) ||
        (payload.len > 0 &&
         !(ext_put_version(out) && buf_append(out, payload.data, payload.len))) ||
        !dist_frame_end(worker->channel, &err)) {
        if (out != NULL) {
            dist_frame_drop(worker->channel);
        }
        return false;
    }
    /* Who calls monitors first and stops to when he has the answer: a worker is woken by the call.
     */
    if (control->op == DIST_MONITOR_P || control->op == DIST_DEMONITOR_P) {
        jail_flush_soon(worker->jail);
    } else {
        worker->urgent = true;
    }
    return true;
}

/* The caller whose message is not passed on is told so by the DOWN that he waits for. */
static void refuse(const struct entry *entry, const char *kind, size_t max, size_t used) {
    struct buf reason = {0};
    struct eng_caller caller;
    struct span body = entry->payload;
    struct span ref;
    bool alias;
    eng_caller_read(&body, &caller);
    struct jail_ledger *ledger = &entry->worker->ledger;
    struct jail_debt *monitor = caller.tag.len > 0 && eng_tag_ref(caller.tag, &ref, &alias)
                                    ? jail_debt_find(ledger, JAIL_MONITOR, ref, (struct span){0})
                                    : NULL;
    if (monitor != NULL && ext_put_tuple(&reason, 4) && ext_put_atom(&reason, span_str("limit")) &&
        ext_put_atom(&reason, span_str(kind)) && ext_put_uint(&reason, max) &&
        ext_put_uint(&reason, used)) {
        struct dist_control down = {.op = DIST_MONITOR_P_EXIT,
                                    .from = monitor->what,
                                    .to = monitor->pid,
                                    .ref = ref,
                                    .reason = buf_span(&reason),
                                    .node = ext_node_of(monitor->pid)};
        jail_pass(entry->worker->jail, &down, (struct span){0});
        jail_debt_drop(ledger, monitor);
    }
    buf_finish(&reason);
}

/* What the worker is given it may give back. */
static bool note_terms(const struct entry *entry) {
    const struct dist_control *control = entry->control;
    const struct span terms[] = {control->from,   control->to,    control->ref,
                                 control->reason, control->group, entry->payload};
    for (size_t i = 0; i < sizeof terms / sizeof *terms; i++) {
        if (terms[i].len > 0 && !jail_payload_note(terms[i], &entry->worker->given)) {
            return false;
        }
    }
    return true;
}

static bool is_crowded(const struct entry *entry) {
    enum dist_op op = entry->control->op;
    return (op == DIST_SEND || op == DIST_REG_SEND) &&
           dist_peer_waiting(entry->worker->channel) > MAX_WAITING;
}

void jail_enter(struct jail_worker *worker, struct span node, const struct dist_control *control,
                struct span payload) {
    struct entry entry = {worker, node, control, payload};
    if (worker->down && worker->exited) {
        return;
    }
    if (!note_terms(&entry)) {
        log_line(worker->jail->log, LOG_LEVEL_WARNING, "lunode",
                 "dropped a message to a worker: it holds a term that could not come back");
        refuse(&entry, "term", 0, 0);
        return;
    }
    if (is_crowded(&entry)) {
        refuse(&entry, "mailbox_bytes", MAX_WAITING, dist_peer_waiting(worker->channel));
    } else if (note_all(&entry)) {
        jail_send(worker, node, control, payload);
    }
}

/* One that stays down: who monitors or calls it is told why. */
static void tell_down(const struct jail *jail, const struct jail_tenant *tenant,
                      const struct dist_control *control) {
    struct buf noproc = {0};
    ext_put_atom(&noproc, span_str("noproc"));
    struct span reason = tenant->failure.len > 0 ? buf_span(&tenant->failure) : buf_span(&noproc);
    struct dist_control down = {.op = DIST_MONITOR_P_EXIT,
                                .from = control->to,
                                .to = control->from,
                                .ref = control->ref,
                                .reason = reason,
                                .node = ext_node_of(control->from)};
    struct dist_control reply = {.op = DIST_SPAWN_REPLY,
                                 .ref = control->ref,
                                 .to = control->from,
                                 .reason = buf_span(&noproc),
                                 .node = ext_node_of(control->from)};
    static const uint8_t no_flags[] = {EXT_SMALL_INTEGER, 0};
    reply.options = span_of(no_flags, sizeof no_flags);
    if (control->op == DIST_MONITOR_P) {
        jail_pass((struct jail *)jail, &down, (struct span){0});
    } else if (control->op == DIST_SPAWN_REQUEST) {
        jail_pass((struct jail *)jail, &reply, (struct span){0});
    }
    buf_finish(&noproc);
}

bool jail_route(void *user, struct span node, const struct dist_control *control,
                struct span payload) {
    struct jail *jail = user;
    struct jail_tenant *tenant;
    if (jail->tenants == NULL && jail->workers == NULL) {
        return false;
    }
    struct jail_worker *worker = worker_of(jail, control, payload, &tenant);
    if (worker != NULL) {
        jail_enter(worker, node, control, payload);
    } else if (tenant != NULL) {
        tell_down(jail, tenant, control);
    }
    return worker != NULL || tenant != NULL;
}

/* }==== */
