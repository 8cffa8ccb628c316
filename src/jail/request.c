/* What the node itself asks of a worker's process `lunode`: loads above all. Who asked the node
 * gets the worker's answer. */
#include <stdlib.h>
#include <string.h>

#include "jail/private.h"

/* {==== Requests ========================================================================== */

static struct jail_request *create(enum jail_request_kind kind, struct jail_tenant *tenant,
                                   const struct eng_caller *caller) {
    static const struct eng_caller nobody = {.kind = ENG_CALL};
    caller = caller == NULL ? &nobody : caller;
    struct jail_request *request = calloc(1, sizeof *request + caller->pid.len + caller->tag.len);
    if (request == NULL) {
        return NULL;
    }
    uint8_t *at = request->bytes;
    request->kind = kind;
    request->tenant = tenant;
    request->caller = *caller;
    request->caller.pid = span_keep(&at, caller->pid);
    request->caller.tag = span_keep(&at, caller->tag);
    eng_policy_init(&request->policy, false);
    return request;
}

void jail_request_drop(struct jail_request *request) {
    buf_finish(&request->source);
    buf_finish(&request->start);
    buf_finish(&request->modules);
    eng_policy_finish(&request->policy);
    free(request);
}

static bool make_ref(struct jail *jail, struct buf *ref) {
    uint64_t number = ++jail->last_ref;
    uint32_t words[3] = {(uint32_t)number, (uint32_t)(number >> 32), 2};
    return ext_put_ref(ref, eng_node_name(jail->engine), dist_node_creation(jail->node), words);
}

/* {'$gen_call', {Pid, Tag}, Body} */
static bool put_call(struct buf *out, struct span pid, struct span tag, struct span body) {
    return ext_put_tuple(out, 3) && ext_put_atom(out, span_str("$gen_call")) &&
           ext_put_tuple(out, 2) && buf_append(out, pid.data, pid.len) &&
           buf_append(out, tag.data, tag.len) && buf_append(out, body.data, body.len);
}

/* To the worker's process `lunode`. */
static bool send_to_control(struct jail_worker *worker, struct span from, struct span payload) {
    struct buf name = {0};
    struct dist_control control = {.op = DIST_REG_SEND, .from = from};
    bool ok = ext_put_atom(&name, span_str("lunode"));
    control.to = buf_span(&name);
    ok = ok && jail_send(worker, (struct span){0}, &control, payload);
    buf_finish(&name);
    return ok;
}

/* Sends the request, whose body is consumed. It is freed when that fails. To a worker that is about
 * to end it need not go: it is answered with the others then. */
static bool send_request(struct jail_worker *worker, struct jail_request *request, struct buf *body,
                         bool complete) {
    struct jail *jail = worker->jail;
    struct span self = eng_control_pid(jail->engine);
    struct buf ref = {0};
    struct buf payload = {0};
    bool ok = complete && make_ref(jail, &ref) &&
              put_call(&payload, self, buf_span(&ref), buf_span(body));
    struct jail_debt debt = {
        .kind = JAIL_CALL, .pid = self, .what = buf_span(&ref), .request = request};
    struct jail_debt *owed =
        ok ? jail_debt_add(&worker->ledger, &debt, buf_span(&ref), (struct span){0}) : NULL;
    ok = owed != NULL && (worker->down || send_to_control(worker, self, buf_span(&payload)));
    if (!ok && owed != NULL) {
        jail_debt_drop(&worker->ledger, owed);
    }
    if (!ok) {
        jail_request_drop(request);
    } else if (request->tenant != NULL) {
        request->tenant->asked++;
    }
    buf_finish(&ref);
    buf_finish(&payload);
    buf_finish(body);
    return ok;
}

static void answer(struct jail *jail, const struct eng_caller *caller, struct span value) {
    if (caller != NULL && caller->pid.len > 0) {
        eng_answer(jail->engine, caller, value);
    }
}

/* {error, Reason} */
static void answer_error(struct jail *jail, const struct eng_caller *caller, struct span reason) {
    struct buf value = {0};
    if (ext_put_tagged(&value, "error", reason)) {
        answer(jail, caller, buf_span(&value));
    }
    buf_finish(&value);
}

/* {error, {Kind, Text}} */
static void answer_text(struct jail *jail, const struct eng_caller *caller, const char *kind,
                        const char *text) {
    struct buf reason = {0};
    if (ext_put_tuple(&reason, 2) && ext_put_atom(&reason, span_str(kind)) &&
        ext_put_binary(&reason, span_str(text))) {
        answer_error(jail, caller, buf_span(&reason));
    }
    buf_finish(&reason);
}

/* }==== */

/* {==== Loads ============================================================================= */

static bool put_number(struct buf *out, const char *key, uint64_t value) {
    return ext_put_atom(out, span_str(key)) && ext_put_uint(out, value);
}

static bool put_limits(struct buf *out, const struct eng_policy *policy) {
    return ext_put_atom(out, span_str("limits")) && ext_put_map(out, 6) &&
           put_number(out, "memory", policy->memory) && put_number(out, "time", policy->time_ms) &&
           put_number(out, "deadline", policy->deadline_ms) &&
           put_number(out, "mailbox", policy->mailbox) &&
           put_number(out, "message", policy->message) && put_number(out, "atoms", policy->atoms);
}

/* The patterns as a list of binaries. */
static bool put_patterns(struct buf *out, const char *key, const struct buf *patterns) {
    uint32_t count = 0;
    for (size_t at = 0; at < patterns->len; at++) {
        count += patterns->data[at] == '\0';
    }
    bool ok = ext_put_atom(out, span_str(key)) && (count == 0 || ext_put_list(out, count));
    for (size_t at = 0; ok && at < patterns->len;) {
        struct span pattern = span_str((const char *)patterns->data + at);
        ok = ext_put_binary(out, pattern);
        at += pattern.len + 1;
    }
    return ok && ext_put_nil(out);
}

/* A term of the request's, if there is one. */
static bool put_term(struct buf *out, const char *key, const struct buf *term) {
    return term->len == 0 ||
           (ext_put_atom(out, span_str(key)) && buf_append(out, term->data, term->len));
}

static bool put_options(struct buf *out, const struct jail_request *request) {
    const struct eng_policy *policy = &request->policy;
    uint32_t terms = (request->start.len > 0) + (request->modules.len > 0);
    return ext_put_map(out, 2 + terms) && put_limits(out, policy) &&
           ext_put_atom(out, span_str("allow")) && ext_put_map(out, 2) &&
           put_patterns(out, "send", &policy->send) && put_patterns(out, "rpc", &policy->rpc) &&
           put_term(out, "start", &request->start) && put_term(out, "modules", &request->modules);
}

/* {load, Name, Source, Options} */
static bool send_load(struct jail_worker *worker, struct jail_request *request) {
    struct buf body = {0};
    bool ok = ext_put_tuple(&body, 4) && ext_put_atom(&body, span_str("load")) &&
              ext_put_atom(&body, span_str(request->tenant->name)) &&
              ext_put_binary(&body, buf_span(&request->source)) && put_options(&body, request);
    return send_request(worker, request, &body, ok);
}

static struct jail_request *make_load(struct jail_tenant *tenant,
                                      const struct eng_script_text *text,
                                      const struct eng_caller *caller) {
    struct jail_request *request = create(JAIL_LOAD, tenant, caller);
    if (request == NULL) {
        return NULL;
    }
    if (!buf_append(&request->source, text->source.data, text->source.len) ||
        !buf_append(&request->start, text->start.data, text->start.len) ||
        !buf_append(&request->modules, text->modules.data, text->modules.len) ||
        !eng_policy_copy(&request->policy, text->policy)) {
        jail_request_drop(request);
        return NULL;
    }
    return request;
}

/* What runs. */
static struct eng_script_text text_of(const struct jail_tenant *tenant) {
    return (struct eng_script_text){buf_span(&tenant->source), &tenant->policy,
                                    buf_span(&tenant->start), buf_span(&tenant->modules)};
}

/* A tenant that has nothing to run, and nothing under way, is none. */
static void drop_if_empty(struct jail *jail, struct jail_tenant *tenant) {
    if (!tenant->live && tenant->asked == 0) {
        jail_tenant_drop(jail, tenant);
    }
}

static void load(struct jail *jail, struct jail_tenant *tenant, const struct eng_script_text *text,
                 const struct eng_caller *caller) {
    struct err err;
    bool isolated = text->policy->isolated;
    if (tenant->worker == NULL && !jail_tenant_place(jail, tenant, isolated, &err)) {
        answer_text(jail, caller, "no_worker", err.text);
    } else if (tenant->worker->isolated != isolated) {
        answer_text(jail, caller, "bad_option",
                    "isolation: to change it, unload the handler first");
    } else {
        struct jail_request *request = make_load(tenant, text, caller);
        if (request == NULL || !send_load(tenant->worker, request)) {
            answer_text(jail, caller, "no_worker", "no memory for a script");
        }
    }
    drop_if_empty(jail, tenant);
}

void jail_load(void *user, struct span name, const struct eng_script_text *text,
               const struct eng_caller *caller) {
    struct jail *jail = user;
    struct jail_tenant *tenant = jail_tenant_find(jail, name);
    if (jail->refusal.text[0] != '\0') {
        answer_text(jail, caller, "untrusted", jail->refusal.text);
        return;
    }
    if (tenant == NULL) {
        tenant = jail_tenant_add(jail, name);
    }
    if (tenant == NULL) {
        answer_text(jail, caller, "no_worker", "no memory for a handler");
    } else {
        load(jail, tenant, text, caller);
    }
}

void jail_restore(struct jail_worker *worker, struct jail_tenant *tenant) {
    struct eng_script_text text = text_of(tenant);
    struct jail_request *request = make_load(tenant, &text, NULL);
    if (request == NULL || !send_load(worker, request)) {
        log_line(worker->jail->log, LOG_LEVEL_ERROR, tenant->name,
                 "no memory to load it again: it stays down");
    }
}

static bool is_ok(struct span value) {
    struct span head;
    uint32_t arity;
    return ext_is_atom(value, "ok") ||
           (ext_take_tuple(&value, &arity) && ext_take(&value, &head) && ext_is_atom(head, "ok"));
}

static void swap(struct buf *a, struct buf *b) {
    struct buf old = *a;
    *a = *b;
    *b = old;
}

/* What has loaded is what a new worker will be given. */
static void loaded(struct jail_request *request) {
    struct jail_tenant *tenant = request->tenant;
    struct eng_policy old = tenant->policy;
    tenant->live = true;
    tenant->failure.len = 0;
    swap(&tenant->source, &request->source);
    swap(&tenant->start, &request->start);
    swap(&tenant->modules, &request->modules);
    tenant->policy = request->policy;
    request->policy = old;
    jail_limit_frames(tenant->worker);
}

/* }==== */

/* {==== Answers =========================================================================== */

static void settle(struct jail *jail, struct jail_tenant *tenant, struct jail_request *request,
                   bool ok) {
    tenant->asked--;
    if (request->kind == JAIL_LOAD && ok) {
        loaded(request);
    }
    if (request->kind == JAIL_UNLOAD && ok) {
        tenant->live = false;
    }
    drop_if_empty(jail, tenant);
}

void jail_request_done(struct jail_worker *worker, struct jail_request *request,
                       struct span value) {
    struct jail *jail = worker->jail;
    if (request->kind == JAIL_REPORT) {
        jail_report_add(request->report, worker, value);
    }
    answer(jail, &request->caller, value);
    if (request->tenant != NULL) {
        settle(jail, request->tenant, request, is_ok(value));
    }
    jail_request_drop(request);
}

void jail_request_failed(struct jail_worker *worker, struct jail_request *request,
                         struct span reason) {
    struct jail *jail = worker->jail;
    if (request->kind == JAIL_REPORT) {
        jail_report_add(request->report, worker, (struct span){0});
    } else {
        answer_error(jail, &request->caller, reason);
    }
    if (request->tenant != NULL) {
        request->tenant->asked--;
    }
    jail_request_drop(request);
}

/* }==== */

/* {==== Other requests ==================================================================== */

static bool put_named(struct buf *body, const char *what, const char *name) {
    return ext_put_tuple(body, 2) && ext_put_atom(body, span_str(what)) &&
           ext_put_atom(body, span_str(name));
}

static void unload(struct jail *jail, struct jail_tenant *tenant, const struct eng_caller *caller) {
    struct buf body = {0};
    struct buf done = {0};
    if (tenant->worker != NULL) {
        struct jail_request *request = create(JAIL_UNLOAD, tenant, caller);
        if (request != NULL) {
            send_request(tenant->worker, request, &body, put_named(&body, "unload", tenant->name));
        }
        return;
    }
    if (ext_put_atom(&done, span_str("ok"))) {
        answer(jail, caller, buf_span(&done));
    }
    buf_finish(&done);
    jail_tenant_drop(jail, tenant);
}

/* The value of the option `prompt` of {eval, Handler, Source, Options}; empty without one. */
static struct span prompt_of(struct span body) {
    struct span key;
    struct span value;
    struct span skipped;
    uint32_t arity;
    uint32_t pairs;
    if (!ext_take_tuple(&body, &arity) || arity != 4 || !ext_take(&body, &skipped) ||
        !ext_take(&body, &skipped) || !ext_take(&body, &skipped) || !ext_take_map(&body, &pairs) ||
        pairs != 1 || !ext_take(&body, &key) || !ext_is_atom(key, "prompt") ||
        !ext_take(&body, &value)) {
        return (struct span){0};
    }
    return value;
}

/* The worker answers the caller itself, and knows by his monitor when he gives up. */
static void forward(struct jail_worker *worker, struct span body, const struct eng_caller *caller) {
    struct buf payload = {0};
    struct buf name = {0};
    struct span ref;
    struct span prompt = prompt_of(body);
    bool alias;
    bool by_ref = eng_tag_ref(caller->tag, &ref, &alias);
    struct jail_debt friend = {.kind = JAIL_FRIEND, .pid = prompt};
    struct jail_debt debt = {
        .kind = JAIL_CALL, .pid = caller->pid, .what = caller->tag, .to_control = true};
    if (prompt.len > 0) {
        jail_debt_add(&worker->ledger, &friend, prompt, (struct span){0});
    }
    if (by_ref && ext_put_atom(&name, span_str("lunode"))) {
        struct dist_control monitor = {
            .op = DIST_MONITOR_P, .from = caller->pid, .to = buf_span(&name), .ref = ref};
        jail_send(worker, ext_node_of(caller->pid), &monitor, (struct span){0});
    }
    if (jail_debt_add(&worker->ledger, &debt, by_ref ? ref : caller->tag,
                      by_ref ? (struct span){0} : caller->pid) != NULL &&
        put_call(&payload, caller->pid, caller->tag, body)) {
        send_to_control(worker, caller->pid, buf_span(&payload));
    }
    buf_finish(&payload);
    buf_finish(&name);
}

void jail_ask(void *user, enum eng_request what, struct span name, struct span body,
              const struct eng_caller *caller) {
    struct jail *jail = user;
    struct jail_tenant *tenant = jail_tenant_find(jail, name);
    if (what == ENG_RELOAD) {
        struct eng_script_text text = text_of(tenant);
        load(jail, tenant, &text, caller);
    } else if (what == ENG_UNLOAD) {
        unload(jail, tenant, caller);
    } else if (tenant->worker != NULL) {
        forward(tenant->worker, body, caller);
    } else {
        answer_error(jail, caller, buf_span(&tenant->failure));
    }
}

void jail_interrupt(void *user, struct span prompt) {
    const struct jail *jail = user;
    for (struct jail_worker *worker = jail->workers; worker != NULL; worker = worker->next) {
        struct buf body = {0};
        struct jail_request *request =
            jail_debt_find(&worker->ledger, JAIL_FRIEND, prompt, (struct span){0}) == NULL
                ? NULL
                : create(JAIL_TELL, NULL, NULL);
        if (request != NULL) {
            send_request(worker, request, &body, ext_put_tagged(&body, "interrupt", prompt));
        }
    }
}

void jail_given_up(void *user, struct span ref) {
    struct jail *jail = user;
    struct buf name = {0};
    for (struct jail_worker *worker = jail->workers; worker != NULL; worker = worker->next) {
        struct jail_debt *call = jail_debt_find(&worker->ledger, JAIL_CALL, ref, (struct span){0});
        if (call != NULL && call->to_control && ext_put_atom(&name, span_str("lunode"))) {
            struct dist_control control = {
                .op = DIST_DEMONITOR_P, .from = call->pid, .to = buf_span(&name), .ref = ref};
            jail_send(worker, ext_node_of(call->pid), &control, (struct span){0});
            jail_debt_give_up(&worker->ledger, call);
        }
    }
    buf_finish(&name);
}

void jail_subscribe(struct jail_worker *worker) {
    struct span self = eng_control_pid(worker->jail->engine);
    struct buf body = {0};
    struct jail_request *request = create(JAIL_TELL, NULL, NULL);
    if (request != NULL) {
        send_request(worker, request, &body, ext_put_tagged(&body, "subscribe", self));
    }
}

bool jail_request_report(struct jail_worker *worker, struct jail_report *report, bool stats) {
    struct buf body = {0};
    struct jail_request *request = create(JAIL_REPORT, NULL, NULL);
    if (request == NULL) {
        return false;
    }
    request->report = report;
    return send_request(worker, request, &body,
                        ext_put_atom(&body, span_str(stats ? "stats" : "handlers")));
}

/* }==== */
