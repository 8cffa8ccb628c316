/* The process `lunode`: what people and programs ask of the node itself. It answers also while
 * every handler is busy. */
#include <stdlib.h>
#include <string.h>

#include "engine/private.h"
#include "version.h"

enum { MAX_ARGS = 4 };

/* A request, taken apart. */
struct request {
    struct engine *engine;
    const struct eng_caller *caller;
    struct span body;           /* the whole of it */
    struct span name;           /* what is asked for */
    uint32_t count;             /* of arguments */
    struct span args[MAX_ARGS]; /* each a whole term */
};

/* {==== Reading =========================================================================== */

/* :name or {:name, argument...} */
static bool read_request(struct span body, struct request *request) {
    bool latin1;
    uint32_t arity = 1;
    ext_take_tuple(&body, &arity);
    if (arity == 0 || arity > MAX_ARGS + 1 || !ext_take_atom(&body, &request->name, &latin1)) {
        return false;
    }
    request->count = arity - 1;
    for (uint32_t i = 0; i < request->count; i++) {
        if (!ext_take(&body, &request->args[i])) {
            return false;
        }
    }
    return true;
}

static bool take_binary(struct span term, struct span *bytes) {
    return ext_take_binary(&term, bytes);
}

static bool take_name(struct span term, struct span *name) {
    bool latin1;
    return ext_take_atom(&term, name, &latin1);
}

/* }==== */

/* {==== Answering ========================================================================= */

static void reply(const struct request *request, struct span term) {
    eng_reply_term(request->engine, request->engine->control, request->caller, term);
}

static void reply_atom(const struct request *request, const char *name) {
    eng_reply_atom(request->engine, request->engine->control, request->caller, name);
}

/* {error, Reason} */
static void reply_error(const struct request *request, struct span reason) {
    struct buf term = {0};
    if (ext_put_tagged(&term, "error", reason)) {
        reply(request, buf_span(&term));
    }
    buf_finish(&term);
}

static void reply_noproc(const struct request *request) {
    struct buf reason = {0};
    eng_reason_atom(&reason, "noproc");
    reply_error(request, buf_span(&reason));
    buf_finish(&reason);
}

/* {error, {Kind, Text}} */
static void reply_text_error(const struct request *request, const char *kind, const char *text) {
    struct buf reason = {0};
    eng_reason_text(&reason, kind, span_str(text));
    reply_error(request, buf_span(&reason));
    buf_finish(&reason);
}

/* }==== */

/* {==== Handlers that run outside ========================================================= */

static bool is_outside(const struct request *request, struct span name) {
    const struct eng_outside *outside = &request->engine->outside;
    return outside->has != NULL && outside->has(outside->user, name);
}

/* Whether the handler is outside; then it is asked there. */
static bool ask_outside(const struct request *request, enum eng_request what, struct span name) {
    const struct eng_outside *outside = &request->engine->outside;
    if (!is_outside(request, name)) {
        return false;
    }
    outside->request(outside->user, what, name, request->body, request->caller);
    return true;
}

/* }==== */

/* {==== Looking =========================================================================== */

static bool serve_version(const struct request *request) {
    struct buf term = {0};
    if (ext_put_binary(&term, span_str(LUNODE_VERSION))) {
        reply(request, buf_span(&term));
    }
    buf_finish(&term);
    return true;
}

static bool serve_report(const struct request *request) {
    struct buf term = {0};
    bool ok = span_equal(request->name, span_str("stats"))
                  ? eng_report_stats(request->engine, &term)
                  : eng_report_handlers(request->engine, &term);
    const struct eng_outside *outside = &request->engine->outside;
    if (ok && outside->report != NULL) {
        outside->report(outside->user, span_equal(request->name, span_str("stats")),
                        buf_span(&term), request->caller);
    } else if (ok) {
        reply(request, buf_span(&term));
    }
    buf_finish(&term);
    return true;
}

/* {subscribe, Pid}, {unsubscribe, Pid} */
static bool serve_subscribe(const struct request *request) {
    bool on = span_equal(request->name, span_str("subscribe"));
    struct engine *engine = request->engine;
    if (!ext_is_pid(request->args[0])) {
        return false;
    }
    struct eng_client *client =
        on ? eng_client_add(engine, request->args[0]) : eng_client_find(engine, request->args[0]);
    if (client != NULL) {
        client->subscribed = on;
    }
    reply_atom(request, "ok");
    return true;
}

/* }==== */

/* {==== Evaluating ======================================================================== */

/* The value of the option `prompt`, the only one; empty without options. */
static bool take_prompt(struct span options, struct span *prompt) {
    uint32_t pairs;
    struct span key;
    *prompt = (struct span){0};
    if (!ext_take_map(&options, &pairs) || pairs > 1) {
        return false;
    }
    return pairs == 0 || (ext_take(&options, &key) && ext_is_atom(key, "prompt") &&
                          ext_take(&options, prompt) && ext_is_pid(*prompt));
}

/* The handler of that name; `nil` is the scratchpad. */
static struct eng_handler *find_vm(struct engine *engine, struct span name) {
    return span_equal(name, span_str("nil")) ? eng_scratchpad(engine)
                                             : eng_handler_find(engine, name);
}

/* {eval, Handler, Source}, {eval, Handler, Source, Options} */
static bool serve_eval(const struct request *request) {
    struct span name;
    struct span source;
    struct span prompt = {0};
    if (!take_name(request->args[0], &name) || !take_binary(request->args[1], &source) ||
        (request->count == 3 && !take_prompt(request->args[2], &prompt))) {
        return false;
    }
    if (ask_outside(request, ENG_EVALUATE, name)) {
        return true;
    }
    struct eng_handler *handler = find_vm(request->engine, name);
    struct eng_client *client = NULL;
    if (prompt.len > 0) {
        client = eng_client_add(request->engine, prompt);
        if (client == NULL) {
            reply_noproc(request);
            return true;
        }
    }
    if (handler == NULL || handler->L == NULL) {
        reply_noproc(request);
    } else {
        eng_eval(handler, client, source, request->caller);
    }
    return true;
}

/* {interrupt, Pid} */
static bool serve_interrupt(const struct request *request) {
    if (!ext_is_pid(request->args[0])) {
        return false;
    }
    const struct eng_outside *outside = &request->engine->outside;
    if (outside->interrupt != NULL) {
        outside->interrupt(outside->user, request->args[0]);
    }
    eng_evals_end(request->engine, request->args[0], "interrupted");
    reply_atom(request, "ok");
    return true;
}

/* {complete, Handler, Text, Pid} */
static bool serve_complete(const struct request *request) {
    struct span name;
    struct span text;
    struct buf term = {0};
    if (!take_name(request->args[0], &name) || !take_binary(request->args[1], &text) ||
        !ext_is_pid(request->args[2])) {
        return false;
    }
    if (ask_outside(request, ENG_COMPLETE, name)) {
        return true;
    }
    struct eng_handler *handler = find_vm(request->engine, name);
    struct eng_client *client = eng_client_find(request->engine, request->args[2]);
    if (handler != NULL && handler->L != NULL && eng_complete(handler, client, text, &term)) {
        reply(request, buf_span(&term));
    } else {
        term.len = 0;
        if (ext_put_nil(&term)) {
            reply(request, buf_span(&term));
        }
    }
    buf_finish(&term);
    return true;
}

/* }==== */

/* {==== Loading =========================================================================== */

/* A handler outside that has a file, or had one before a text replaced it. False: it has none, or
 * what is asked for is about the text. */
static bool serve_outsider(const struct request *request, struct span name, bool reload) {
    struct engine *engine = request->engine;
    struct eng_outsider *outsider = eng_outsider_find(engine, name);
    struct err err;
    if (outsider == NULL || (reload && outsider->replaced)) {
        return false;
    }
    if (reload) {
        if (!eng_outsider_load(engine, outsider, request->caller, &err)) {
            reply_text_error(request, "enoent", err.text);
        }
        return true;
    }
    if (is_outside(request, name)) {
        ask_outside(request, ENG_UNLOAD, name);
    } else {
        reply_atom(request, "ok"); /* it has not loaded */
    }
    if (!outsider->replaced) {
        eng_outsider_remove(engine, outsider);
    } else if (!eng_outsider_load(engine, outsider, NULL, &err)) {
        log_line(engine->log, LOG_LEVEL_ERROR, outsider->name, "%s", err.text);
    }
    return true;
}

/* {reload, Name}, {unload, Name} */
static bool serve_reload(const struct request *request) {
    struct span name;
    if (!take_name(request->args[0], &name)) {
        return false;
    }
    bool reload = span_equal(request->name, span_str("reload"));
    if (serve_outsider(request, name, reload) ||
        ask_outside(request, reload ? ENG_RELOAD : ENG_UNLOAD, name)) {
        return true;
    }
    struct eng_handler *handler = eng_handler_find(request->engine, name);
    if (handler == NULL) {
        reply_noproc(request);
    } else if (reload) {
        eng_reload(handler, request->caller);
    } else {
        eng_unload(handler, request->caller);
    }
    return true;
}

/* Whether a handler may get the name; `text` is it, as a C string. */
static bool check_name(struct span name, char text[256], struct err *err) {
    if (name.len >= 256 || memchr(name.data, '\0', name.len) != NULL) {
        return err_set(err, "a handler's name has at most 255 characters, none of them NUL");
    }
    memcpy(text, name.data, name.len);
    text[name.len] = '\0';
    if (strcmp(text, "any") == 0) {
        return err_set(err, "any is the default handler, which no load changes");
    }
    return eng_config_check_name(text, err);
}

/* One that is trusted does not take the place of one that is not, nor the other way round. */
static bool check_trust(const struct request *request, struct span name,
                        const struct eng_policy *policy, struct err *err) {
    const struct eng_handler *handler = eng_handler_find(request->engine, name);
    bool has_other = (handler != NULL && handler->policy.trusted != policy->trusted) ||
                     (policy->trusted && (is_outside(request, name) ||
                                          eng_outsider_find(request->engine, name) != NULL));
    return !has_other || err_set(err, "a handler that is %strusted has this name: unload it first",
                                 policy->trusted ? "not " : "");
}

/* The handler of that name, made if there is none. NULL when it can't be. */
static struct eng_handler *find_or_add(struct engine *engine, const char *name,
                                       const struct eng_policy *policy, struct err *err) {
    struct eng_script script = {.name = (char *)name, .policy = *policy};
    struct eng_handler *handler = eng_handler_find(engine, span_str(name));
    return handler != NULL ? handler : eng_handler_add(engine, &script, err);
}

static void load(const struct request *request, struct span name, const struct eng_text *text) {
    char known[256];
    struct err err;
    const struct eng_outside *outside = &request->engine->outside;
    bool ok = (eng_handler_find(request->engine, name) != NULL || check_name(name, known, &err)) &&
              check_trust(request, name, text->policy, &err);
    if (ok && !text->policy->trusted && outside->load != NULL) {
        struct eng_outsider *outsider = eng_outsider_find(request->engine, name);
        if (outsider != NULL) {
            outsider->replaced = true;
        }
        struct eng_script_text script = {text->source, text->policy, text->start, text->modules};
        outside->load(outside->user, name, &script, request->caller);
        return;
    }
    memcpy(known, name.data, name.len < sizeof known ? name.len : 0);
    known[name.len < sizeof known ? name.len : 0] = '\0';
    struct eng_handler *handler =
        ok ? find_or_add(request->engine, known, text->policy, &err) : NULL;
    if (handler == NULL) {
        reply_text_error(request, "bad_name", err.text);
        return;
    }
    if (request->engine->slot != 0 && handler->version == NULL && handler->proc == NULL) {
        eng_reason_copy(&handler->start, text->start);
        eng_handler_start(handler); /* what comes for it meanwhile is kept */
    }
    eng_load(handler, text, request->caller);
}

/* {load, Name, Source, Options} */
static bool serve_load(const struct request *request) {
    struct span name;
    struct eng_load_options options;
    struct eng_text text = {.policy = &options.policy};
    struct err err;
    if (!take_name(request->args[0], &name) || !take_binary(request->args[1], &text.source)) {
        return false;
    }
    bool ok =
        eng_load_options_read(&options, &request->engine->rules, name, request->args[2], &err);
    text.start = options.start;
    text.modules = options.modules;
    if (!ok) {
        reply_text_error(request, "bad_option", err.text);
    } else {
        load(request, name, &text);
    }
    eng_load_options_finish(&options);
    return true;
}

/* }==== */

static const struct {
    const char *name;
    uint32_t min, max; /* arguments */
    bool (*serve)(const struct request *);
} requests[] = {
    {"version", 0, 0, serve_version},     {"stats", 0, 0, serve_report},
    {"handlers", 0, 0, serve_report},     {"eval", 2, 3, serve_eval},
    {"complete", 3, 3, serve_complete},   {"interrupt", 1, 1, serve_interrupt},
    {"subscribe", 1, 1, serve_subscribe}, {"unsubscribe", 1, 1, serve_subscribe},
    {"load", 3, 3, serve_load},           {"reload", 1, 1, serve_reload},
    {"unload", 1, 1, serve_reload},
};

/* False when it is no request that is known. */
static bool serve_request(const struct request *request) {
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        if (span_equal(request->name, span_str(requests[i].name)) &&
            request->count >= requests[i].min && request->count <= requests[i].max) {
            return requests[i].serve(request);
        }
    }
    return false;
}

/* {'DOWN', Ref, process, Pid, Reason} of a client. */
static void serve_info(struct engine *engine, struct span body) {
    struct span head;
    struct span ref;
    uint32_t arity;
    if (ext_take_tuple(&body, &arity) && arity == 5 && ext_take(&body, &head) &&
        ext_is_atom(head, "DOWN") && ext_take(&body, &ref)) {
        eng_client_died(engine, ref);
    }
}

void eng_control_serve(struct eng_proc *proc, struct eng_mail *mail) {
    struct request request = {.engine = proc->engine, .caller = &mail->caller, .body = mail->body};
    struct buf reason = {0};
    if (mail->caller.kind == ENG_INFO) {
        serve_info(proc->engine, mail->body);
    } else if (mail->caller.kind == ENG_SYSTEM ||
               (mail->caller.kind == ENG_CALL &&
                !(read_request(mail->body, &request) && serve_request(&request)))) {
        eng_reason_undef(&reason, mail->body);
        eng_reply_failure(proc->engine, proc, &mail->caller, buf_span(&reason));
        buf_finish(&reason);
    }
}
