/* What comes out of a worker. Its handlers can have taken it over: a frame leaves only when the
 * ledger says that it is owed, or when what they may do allows it. */
#include "engine/caller.h"
#include "jail/private.h"
#include "term/term.h"

/* Bytes beside what a handler's limit allows: head, reason, traceback; and what a report says of
 * each handler. */
enum { SLACK = 1 << 20, OF_HANDLER = 64 << 10 };

/* What a message costs beside its bytes. */
enum { FRAME = 512 };

/* Names that the engine itself sends: of reasons, events, keys of maps. */
enum { ENGINE_ATOMS = 1000 };

enum verdict {
    PASS,
    DROP,  /* too late: nobody waits any more */
    CRIME, /* no worker that runs as it should sends it */
};

struct exit_frame {
    struct jail_worker *worker;
    struct jail_ledger *ledger;
    struct dist_control control; /* as it is passed on */
    struct span payload;
    bool is_extra; /* nobody has asked for it: it is sent because that is allowed */
};

/* {==== What its handlers may do ========================================================== */

typedef bool (*may_cb)(const struct eng_policy *policy, struct span a, struct span b);

/* Whether one of its handlers may: which of them it was cannot be told. */
static bool may(const struct jail_worker *worker, may_cb allows, struct span a, struct span b) {
    for (const struct jail_tenant *tenant = worker->tenants; tenant != NULL;
         tenant = tenant->next) {
        if (allows(&tenant->policy, a, b)) {
            return true;
        }
    }
    return false;
}

static bool may_send(const struct eng_policy *policy, struct span name, struct span unused) {
    (void)unused;
    return eng_policy_may_send(policy, name);
}

static bool may_send_pids(const struct eng_policy *policy, struct span a, struct span b) {
    (void)a;
    (void)b;
    return eng_policy_may_send_pids(policy);
}

static size_t max_message(const struct jail_worker *worker) {
    size_t max = 0;
    for (const struct jail_tenant *tenant = worker->tenants; tenant != NULL;
         tenant = tenant->next) {
        max = tenant->policy.message > max ? tenant->policy.message : max;
    }
    return max;
}

/* Bytes of the longest payload that it may send. */
static size_t max_payload(const struct jail_worker *worker) {
    return max_message(worker) + SLACK + worker->tenant_count * OF_HANDLER;
}

void jail_limit_frames(struct jail_worker *worker) {
    dist_peer_limit(worker->channel, max_payload(worker) + SLACK);
}

static bool is_own(const struct exit_frame *frame, struct span pid) {
    return eng_slot_of(frame->worker->jail->engine, pid) == frame->worker->slot;
}

static bool is_control(const struct exit_frame *frame, struct span pid) {
    return span_equal(pid, eng_control_pid(frame->worker->jail->engine));
}

/* A process that it may watch and write to: any, or a prompt. */
static bool is_reachable_pid(const struct exit_frame *frame, struct span pid) {
    return jail_debt_find(frame->ledger, JAIL_FRIEND, pid, (struct span){0}) != NULL ||
           may(frame->worker, may_send_pids, (struct span){0}, (struct span){0});
}

/* }==== */

/* {==== Messages ========================================================================== */

/* The debt is paid. */
static enum verdict pay(const struct exit_frame *frame, struct jail_debt *debt) {
    enum verdict verdict = debt->given_up ? DROP : PASS;
    jail_debt_drop(frame->ledger, debt);
    return verdict;
}

/* {Tag, Value}: the call that it answers, and the value. */
static struct jail_debt *call_of(const struct exit_frame *frame, struct span *value) {
    struct span rest = frame->payload;
    struct span tag;
    struct span ref;
    uint32_t arity;
    bool alias;
    if (!ext_take_tuple(&rest, &arity) || arity != 2 || !ext_take(&rest, &tag) ||
        !ext_take(&rest, value)) {
        return NULL;
    }
    bool by_ref = eng_tag_ref(tag, &ref, &alias);
    struct jail_debt *debt = jail_debt_find(frame->ledger, JAIL_CALL, by_ref ? ref : tag,
                                            by_ref ? (struct span){0} : frame->control.to);
    return debt != NULL && span_equal(debt->what, tag) ? debt : NULL;
}

/* {lunode, Node, Event, Handler, Details} of one of its handlers, or one that it had until now:
 * that is no news any more. */
static bool is_event(const struct exit_frame *frame, bool *is_news) {
    struct span rest = frame->payload;
    struct span part[4];
    struct span name;
    uint32_t arity;
    bool latin1;
    if (!ext_take_tuple(&rest, &arity) || arity != 5) {
        return false;
    }
    for (size_t i = 0; i < 4; i++) {
        if (!ext_take(&rest, &part[i])) {
            return false;
        }
    }
    const struct jail *jail = frame->worker->jail;
    struct span node;
    if (!ext_is_atom(part[0], "lunode") || !ext_take_atom(&part[1], &node, &latin1) ||
        !span_equal(node, eng_node_name(jail->engine)) ||
        !ext_take_atom(&part[3], &name, &latin1)) {
        return false;
    }
    const struct jail_tenant *tenant = jail_tenant_find(jail, name);
    *is_news = tenant != NULL;
    return tenant == NULL || tenant->worker == frame->worker;
}

/* To the process `lunode` of the node: answers to its own requests, and events. */
static enum verdict to_control(const struct exit_frame *frame, struct jail_debt *call,
                               struct span value) {
    if (call != NULL && call->request != NULL && span_equal(call->pid, frame->control.to)) {
        struct jail_request *request = call->request;
        jail_debt_drop(frame->ledger, call);
        jail_request_done(frame->worker, request, value);
        return DROP;
    }
    bool is_news = false;
    if (!is_event(frame, &is_news)) {
        return CRIME;
    }
    if (is_news) {
        eng_pass_event(frame->worker->jail->engine, frame->payload);
    }
    jail_worker_hold(frame->worker, frame->payload.len);
    return DROP;
}

static enum verdict check_send(struct exit_frame *frame) {
    struct span value = {0};
    struct span to = frame->control.to;
    struct jail_debt *call = call_of(frame, &value);
    frame->control.node = ext_node_of(to);
    if (is_control(frame, to)) {
        return to_control(frame, call, value);
    }
    if (call != NULL && span_equal(call->pid, to)) {
        return pay(frame, call);
    }
    frame->is_extra = true;
    return is_reachable_pid(frame, to) ? PASS : CRIME;
}

/* What goes to an alias is the answer to the call with it in its tag, and nothing else. */
static enum verdict check_alias(struct exit_frame *frame) {
    struct span ref = frame->control.ref;
    struct span value;
    struct jail_debt *call = jail_debt_find(frame->ledger, JAIL_CALL, ref, (struct span){0});
    frame->control.node = ext_node_of(ref);
    if (call == NULL || call->request != NULL || call != call_of(frame, &value) ||
        !is_own(frame, frame->control.from)) {
        return CRIME;
    }
    return pay(frame, call);
}

/* A message to a name, or a monitor on one. */
static bool may_reach_name(const struct exit_frame *frame) {
    struct span to = frame->control.to;
    struct span name;
    bool latin1;
    return ext_take_atom(&to, &name, &latin1) &&
           may(frame->worker, may_send, name, (struct span){0});
}

static enum verdict check_named(struct exit_frame *frame) {
    frame->is_extra = true;
    return is_own(frame, frame->control.from) && may_reach_name(frame) ? PASS : CRIME;
}

/* }==== */

/* {==== Signals =========================================================================== */

/* By it the end of what is watched will be told: one of this node's, and for one thing alone. */
static bool is_new_ref(const struct exit_frame *frame) {
    struct span ref = frame->control.ref;
    return ext_is_ref(ref) &&
           span_equal(ext_node_of(ref), eng_node_name(frame->worker->jail->engine)) &&
           jail_debt_find(frame->ledger, JAIL_WATCH, ref, (struct span){0}) == NULL;
}

/* A worker's engine keeps its handlers from having so many. */
static enum verdict note_watch(struct exit_frame *frame, const struct jail_debt *watch) {
    if (frame->ledger->watches >= JAIL_MAX_WATCHES) {
        return CRIME;
    }
    bool noted = jail_debt_add(frame->ledger, watch, frame->control.ref, (struct span){0}) != NULL;
    return noted ? PASS : DROP;
}

static enum verdict check_monitor(struct exit_frame *frame) {
    struct dist_control *control = &frame->control;
    bool by_pid = ext_is_pid(control->to);
    if (!is_own(frame, control->from) || !is_new_ref(frame)) {
        return CRIME;
    }
    if (by_pid && is_control(frame, control->to)) {
        return DROP; /* the node's process ends with the node */
    }
    if (by_pid ? !is_reachable_pid(frame, control->to) : !may_reach_name(frame)) {
        return CRIME;
    }
    control->node = by_pid ? ext_node_of(control->to) : control->node;
    struct jail_debt debt = {
        .kind = JAIL_WATCH, .pid = control->from, .what = control->to, .node = control->node};
    return note_watch(frame, &debt);
}

static enum verdict check_demonitor(struct exit_frame *frame) {
    struct jail_debt *watch =
        jail_debt_find(frame->ledger, JAIL_WATCH, frame->control.ref, (struct span){0});
    if (watch == NULL || !is_own(frame, frame->control.from) ||
        !span_equal(watch->what, frame->control.to)) {
        return DROP; /* its end was told meanwhile */
    }
    frame->control.node =
        ext_is_pid(frame->control.to) ? ext_node_of(frame->control.to) : frame->control.node;
    return pay(frame, watch);
}

static enum verdict check_unlinked(struct exit_frame *frame) {
    struct dist_control *control = &frame->control;
    struct jail_debt *debt = jail_debt_find(frame->ledger, JAIL_UNLINK, control->ref, control->to);
    control->node = ext_node_of(control->to);
    return debt != NULL && span_equal(debt->what, control->from) ? pay(frame, debt) : CRIME;
}

static enum verdict check_exit(struct exit_frame *frame) {
    struct dist_control *control = &frame->control;
    struct jail_debt *link = jail_debt_find(frame->ledger, JAIL_LINK, control->from, control->to);
    control->node = ext_node_of(control->to);
    return link != NULL ? pay(frame, link) : CRIME;
}

static enum verdict check_down(struct exit_frame *frame) {
    struct dist_control *control = &frame->control;
    struct jail_debt *monitor =
        jail_debt_find(frame->ledger, JAIL_MONITOR, control->ref, (struct span){0});
    struct jail_debt *call =
        jail_debt_find(frame->ledger, JAIL_CALL, control->ref, (struct span){0});
    control->node = ext_node_of(control->to);
    if (monitor == NULL || !span_equal(monitor->pid, control->to) ||
        !span_equal(monitor->what, control->from)) {
        return CRIME;
    }
    if (call != NULL) {
        jail_debt_give_up(frame->ledger, call);
    }
    return pay(frame, monitor);
}

/* }==== */

/* {==== Processes that are asked for ====================================================== */

/* The result: a process of the worker, with what was asked for beside it, or why there is none. */
static bool is_spawn_result(const struct exit_frame *frame, const struct jail_debt *spawn) {
    enum { HAS_LINK = 1, HAS_MONITOR = 2 };
    struct span flags = frame->control.options;
    struct span reason = frame->control.reason;
    int64_t has;
    bool latin1;
    int64_t may_have = (spawn->links ? HAS_LINK : 0) | (spawn->monitors ? HAS_MONITOR : 0);
    if (!ext_take_int(&flags, &has) || has < 0 || (has & ~may_have) != 0) {
        return false;
    }
    return ext_is_pid(reason) ? is_own(frame, reason) : ext_take_atom(&reason, &flags, &latin1);
}

static enum verdict check_spawned(struct exit_frame *frame) {
    struct dist_control *control = &frame->control;
    struct jail_debt *spawn =
        jail_debt_find(frame->ledger, JAIL_SPAWN, control->ref, (struct span){0});
    control->node = ext_node_of(control->to);
    bool is_there = ext_is_pid(control->reason);
    if (spawn == NULL || !span_equal(spawn->pid, control->to) || !is_spawn_result(frame, spawn)) {
        return CRIME;
    }
    struct jail_debt owed = {.kind = JAIL_MONITOR, .pid = control->to, .what = control->reason};
    bool monitors = spawn->monitors && is_there;
    bool links = spawn->links && is_there;
    enum verdict verdict = pay(frame, spawn);
    if (monitors) {
        jail_debt_add(frame->ledger, &owed, control->ref, (struct span){0});
    }
    if (links) {
        owed.kind = JAIL_LINK;
        jail_debt_add(frame->ledger, &owed, control->reason, control->to);
    }
    return verdict;
}

/* [Ref, Module, Function, Arguments] */
static bool read_rpc(const struct exit_frame *frame, struct span *module, struct span *function) {
    struct span rest = frame->payload;
    struct span ref;
    uint32_t count;
    bool latin1;
    return ext_take_list(&rest, &count) && count == 4 && ext_take(&rest, &ref) &&
           span_equal(ref, frame->control.ref) && ext_take_atom(&rest, module, &latin1) &&
           ext_take_atom(&rest, function, &latin1);
}

/* {erpc, execute_call, 4} */
static bool is_erpc(struct span mfa) {
    uint32_t arity;
    struct span module;
    struct span function;
    int64_t count;
    return ext_take_tuple(&mfa, &arity) && arity == 3 && ext_take(&mfa, &module) &&
           ext_is_atom(module, "erpc") && ext_take(&mfa, &function) &&
           ext_is_atom(function, "execute_call") && ext_take_int(&mfa, &count) && count == 4;
}

/* [monitor] */
static bool only_monitors(struct span options) {
    uint32_t count;
    struct span option;
    return ext_take_list(&options, &count) && count == 1 && ext_take(&options, &option) &&
           ext_is_atom(option, "monitor");
}

/* A handler calls itself by its name: it can as well without a frame. */
static bool is_tenant(const struct exit_frame *frame, struct span module) {
    const struct jail *jail = frame->worker->jail;
    const struct jail_tenant *tenant = jail_tenant_find(jail, module);
    return tenant != NULL && tenant->worker == frame->worker &&
           span_equal(frame->control.node, eng_node_name(jail->engine));
}

/* What is printed over there goes to the node's log. */
static enum verdict check_rpc(struct exit_frame *frame) {
    struct dist_control *control = &frame->control;
    struct span module;
    struct span function;
    if (!is_own(frame, control->from) || !is_new_ref(frame) || !is_erpc(control->mfa) ||
        !only_monitors(control->options) || !read_rpc(frame, &module, &function) ||
        !(is_tenant(frame, module) || may(frame->worker, eng_policy_may_rpc, module, function))) {
        return CRIME;
    }
    control->group = eng_printer_pid(frame->worker->jail->engine);
    struct jail_debt debt = {.kind = JAIL_WATCH, .pid = control->from, .node = control->node};
    return note_watch(frame, &debt);
}

/* }==== */

/* {==== The check ========================================================================= */

static enum verdict check(struct exit_frame *frame) {
    switch (frame->control.op) {
    case DIST_SEND:
        return check_send(frame);
    case DIST_ALIAS_SEND:
        return check_alias(frame);
    case DIST_REG_SEND:
        return check_named(frame);
    case DIST_MONITOR_P:
        return check_monitor(frame);
    case DIST_DEMONITOR_P:
        return check_demonitor(frame);
    case DIST_MONITOR_P_EXIT:
        return check_down(frame);
    case DIST_UNLINK_ID_ACK:
        return check_unlinked(frame);
    case DIST_EXIT:
        return check_exit(frame);
    case DIST_SPAWN_REPLY:
        return check_spawned(frame);
    case DIST_SPAWN_REQUEST:
        return check_rpc(frame);
    case DIST_PING:
        frame->worker->pinged = 0;
        return DROP;
    default:
        return CRIME;
    }
}

/* In the field's words, for the log. */
static const char *name_of(enum dist_op op) {
    static const char *const names[] = {[DIST_LINK] = "a link",
                                        [DIST_SEND] = "a message to a pid",
                                        [DIST_EXIT] = "an exit signal through a link",
                                        [DIST_REG_SEND] = "a message to a name",
                                        [DIST_GROUP_LEADER] = "a change of the group leader",
                                        [DIST_EXIT2] = "an exit signal",
                                        [DIST_MONITOR_P] = "a monitor",
                                        [DIST_MONITOR_P_EXIT] = "a DOWN",
                                        [DIST_SPAWN_REQUEST] = "a call by rpc",
                                        [DIST_SPAWN_REPLY] = "an answer to a spawn",
                                        [DIST_ALIAS_SEND] = "an answer to a call",
                                        [DIST_UNLINK_ID] = "an unlink",
                                        [DIST_UNLINK_ID_ACK] = "an acknowledged unlink"};
    bool known = (size_t)op < sizeof names / sizeof *names && names[op] != NULL;
    return known ? names[op] : "a control message";
}

static void condemn(const struct exit_frame *frame) {
    char to[128];
    struct span dest = frame->control.to.len > 0 ? frame->control.to : frame->control.ref;
    term_inspect_ext(dest, to, sizeof to);
    jail_worker_condemn(frame->worker, "it tried to send %s that nothing allows, to %s at %.*s",
                        name_of(frame->control.op), to, (int)frame->control.node.len,
                        (const char *)frame->control.node.data);
}

/* So many new atoms, beside those of the engine itself. */
static uint32_t max_fresh(const struct jail_worker *worker) {
    uint64_t most = ENGINE_ATOMS;
    for (const struct jail_tenant *tenant = worker->tenants; tenant != NULL;
         tenant = tenant->next) {
        most += tenant->policy.atoms;
    }
    return most < UINT32_MAX ? (uint32_t)most : UINT32_MAX;
}

/* Whether every term in it is one that a BEAM takes, and makes nothing for ever of. */
static bool is_sound(struct exit_frame *frame, struct err *err) {
    struct jail_worker *worker = frame->worker;
    const struct dist_control *control = &frame->control;
    const struct span terms[] = {control->from,  control->to,  control->ref,     control->reason,
                                 control->group, control->mfa, control->options, frame->payload};
    uint32_t most = max_fresh(worker);
    for (size_t i = 0; i < sizeof terms / sizeof *terms; i++) {
        if (terms[i].len > 0 &&
            !jail_payload_check(terms[i], &worker->given, most, &worker->fresh, err)) {
            return false;
        }
    }
    return true;
}

/* Also of what the node itself reads: it tells others of it. */
static bool is_acceptable(struct exit_frame *frame) {
    struct jail_worker *worker = frame->worker;
    struct err err;
    if (frame->payload.len > max_payload(worker)) {
        jail_worker_condemn(worker, "it sent a message of %zu bytes; its handlers may send %zu",
                            frame->payload.len, max_message(worker));
        return false;
    }
    if (!is_sound(frame, &err)) {
        jail_worker_condemn(worker, "it sent %s that may not leave: %s", name_of(frame->control.op),
                            err.text);
        return false;
    }
    return true;
}

void jail_leave(struct jail_worker *worker, const struct dist_control *control,
                struct span payload) {
    struct exit_frame frame = {worker, &worker->ledger, *control, payload, false};
    if (worker->condemned || !is_acceptable(&frame)) {
        return;
    }
    switch (check(&frame)) {
    case PASS:
        jail_pass(worker->jail, &frame.control, frame.payload);
        jail_worker_hold(worker, frame.is_extra ? payload.len + FRAME : 0);
        break;
    case CRIME:
        condemn(&frame);
        break;
    case DROP:
        break;
    }
}

/* }==== */

/* {==== Passing it on ===================================================================== */

/* A node that is not connected: who asked is told. */
static void tell_unconnected(struct jail *jail, const struct dist_control *control) {
    static const uint8_t no_flags[] = {EXT_SMALL_INTEGER, 0};
    struct buf why = {0};
    struct dist_control answer = {.to = control->from, .ref = control->ref};
    if (!ext_put_atom(&why, span_str("noconnection"))) {
        return;
    }
    answer.reason = buf_span(&why);
    if (control->op == DIST_MONITOR_P) {
        answer.op = DIST_MONITOR_P_EXIT;
        answer.from = control->to;
        eng_message(jail->engine, NULL, control->node, &answer, (struct span){0});
    } else if (control->op == DIST_SPAWN_REQUEST) {
        answer.op = DIST_SPAWN_REPLY;
        answer.options = span_of(no_flags, sizeof no_flags);
        eng_message(jail->engine, NULL, control->node, &answer, (struct span){0});
    }
    buf_finish(&why);
}

void jail_pass(struct jail *jail, const struct dist_control *control, struct span payload) {
    struct dist_control plain = *control;
    struct err err;
    plain.node = (struct span){0};
    if (span_equal(control->node, eng_node_name(jail->engine))) {
        eng_message(jail->engine, NULL, (struct span){0}, &plain, payload);
        return;
    }
    struct dist_peer *peer = dist_node_peer(jail->node, control->node);
    if (peer == NULL) {
        tell_unconnected(jail, control);
        return;
    }
    struct buf *out = dist_frame_begin(peer);
    if (out == NULL || !dist_control_write(out, &plain) ||
        (payload.len > 0 &&
         !(ext_put_version(out) && buf_append(out, payload.data, payload.len))) ||
        !dist_frame_end(peer, &err)) {
        log_line(jail->log, LOG_LEVEL_ERROR, "lunode", "no memory: a worker's message is lost");
        dist_frame_drop(peer);
    }
}

/* }==== */

/* {==== The end of a worker =============================================================== */

struct settling {
    struct jail_worker *worker;
    struct span culprit;
    struct span reason; /* for those who wait for the culprit */
    struct span other;
};

/* By a pid it can't be told whose process it was, unless there is one handler. */
static struct span reason_of(const struct settling *settling, struct span what) {
    struct span name;
    bool latin1;
    bool is_culprit = ext_is_pid(what) ? settling->worker->tenant_count == 1
                                       : ext_take_atom(&what, &name, &latin1) &&
                                             span_equal(name, settling->culprit);
    return is_culprit && settling->reason.len > 0 ? settling->reason : settling->other;
}

static void settle_call(const struct settling *settling, struct jail_debt *debt) {
    struct buf error = {0};
    struct eng_caller caller = {ENG_CALL, debt->pid, debt->what};
    if (debt->request != NULL) {
        bool is_culprit = debt->request->tenant != NULL &&
                          span_equal(span_str(debt->request->tenant->name), settling->culprit);
        jail_request_failed(settling->worker, debt->request,
                            is_culprit && settling->reason.len > 0 ? settling->reason
                                                                   : settling->other);
        debt->request = NULL;
    } else if (debt->to_control && ext_put_tagged(&error, "error", settling->other)) {
        eng_answer(settling->worker->jail->engine, &caller, buf_span(&error));
    }
    buf_finish(&error);
}

/* Monitors, links, spawns and watches: a signal of the kind that is due. */
static void settle_signal(const struct settling *settling, const struct jail_debt *debt,
                          struct span ref) {
    static const uint8_t no_flags[] = {EXT_SMALL_INTEGER, 0};
    static const uint8_t killed[] = {EXT_SMALL_ATOM_UTF8, 6, 'k', 'i', 'l', 'l', 'e', 'd'};
    struct dist_control control = {.from = debt->what,
                                   .to = debt->pid,
                                   .ref = ref,
                                   .reason = reason_of(settling, debt->what),
                                   .node = ext_node_of(debt->pid)};
    if (debt->kind == JAIL_MONITOR) {
        control.op = DIST_MONITOR_P_EXIT;
    } else if (debt->kind == JAIL_LINK) {
        control.op = DIST_EXIT;
    } else if (debt->kind == JAIL_SPAWN) {
        control.op = DIST_SPAWN_REPLY;
        control.options = span_of(no_flags, sizeof no_flags);
        control.reason = span_of(killed, sizeof killed);
    } else if (debt->kind == JAIL_WATCH && debt->what.len > 0) {
        control.op = DIST_DEMONITOR_P;
        control.from = debt->pid;
        control.to = debt->what;
        control.node = debt->node;
    } else {
        return;
    }
    jail_pass(settling->worker->jail, &control, (struct span){0});
}

void jail_settle(struct jail_worker *worker, struct span culprit, struct span reason,
                 struct span other) {
    struct settling settling = {worker, culprit, reason, other};
    struct jail_debt *debt;
    struct jail_debt *next;
    HASH_ITER(hh, worker->ledger.debts, debt, next) {
        struct span ref = span_of((const uint8_t *)debt->hh.key + 1, debt->hh.keylen - 1);
        if (debt->kind == JAIL_CALL) {
            settle_call(&settling, debt);
        } else if (!debt->given_up) {
            settle_signal(&settling, debt, ref);
        }
    }
    jail_ledger_clear(&worker->ledger);
}

/* }==== */
