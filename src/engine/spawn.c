/* Processes on request: Node.spawn and :erpc, which the BEAM asks for by SPAWN_REQUEST. */
#include "engine/private.h"

/* {==== The request ======================================================================= */

struct request {
    struct engine *engine;
    const struct dist_control *control;
    struct span module;
    bool is_erpc;
    bool link;
    bool monitor;
    struct eng_start start;
};

/* The atoms among the options; {monitor, _} counts as monitor. */
static void read_options(struct request *request, struct span options) {
    uint32_t count;
    struct span option;
    if (!ext_take_list(&options, &count)) {
        return;
    }
    for (uint32_t i = 0; i < count && ext_take(&options, &option); i++) {
        uint32_t arity;
        struct span head = option;
        if (ext_take_tuple(&head, &arity) && !ext_take(&head, &option)) {
            return;
        }
        request->link = request->link || ext_is_atom(option, "link");
        request->monitor = request->monitor || ext_is_atom(option, "monitor");
    }
}

/* Arguments travel as a list; one of small integers as a string, which becomes a list in `own`.
 * `args` gets its elements without the tail. */
static bool read_args(struct span in, uint32_t *count, struct span *args, struct buf *own) {
    struct span list;
    struct span element;
    if (!ext_take(&in, &list)) {
        return false;
    }
    if (list.data[0] == EXT_STRING) {
        *count = ext_u16(list.data + 1);
        for (uint32_t i = 0; i < *count; i++) {
            if (!ext_put_int(own, list.data[3 + i])) {
                return false;
            }
        }
        *args = buf_span(own);
        return true;
    }
    if (!ext_take_list(&list, count)) {
        return false;
    }
    struct span rest = list;
    for (uint32_t i = 0; i < *count; i++) {
        ext_take(&rest, &element);
    }
    *args = span_of(list.data, list.len - rest.len);
    return true;
}

static bool read_mfa(struct request *request, struct span mfa) {
    uint32_t arity;
    bool latin1;
    return ext_take_tuple(&mfa, &arity) && arity == 3 &&
           ext_take_atom(&mfa, &request->module, &latin1) &&
           ext_take_atom(&mfa, &request->start.function, &latin1);
}

/* erpc:execute_call(Ref, M, F, Args) and execute_cast(M, F, Args) stand for what they call. */
static bool unwrap_erpc(struct request *request, struct buf *own) {
    struct eng_start *start = &request->start;
    bool latin1;
    bool call = span_equal(start->function, span_str("execute_call")) && start->count == 4;
    bool cast = span_equal(start->function, span_str("execute_cast")) && start->count == 3;
    if (!span_equal(request->module, span_str("erpc")) || (!call && !cast)) {
        return true;
    }
    struct span rest = start->args;
    request->is_erpc = true;
    return (!call || ext_take(&rest, &start->result)) &&
           ext_take_atom(&rest, &request->module, &latin1) &&
           ext_take_atom(&rest, &start->function, &latin1) &&
           read_args(rest, &start->count, &start->args, own);
}

/* }==== */

/* {==== The reply ========================================================================= */

enum { FLAG_LINK = 1, FLAG_MONITOR = 2 };

static void send_reply(struct request *request, int32_t flags, struct span result) {
    struct buf number = {0};
    struct dist_control reply = {.op = DIST_SPAWN_REPLY,
                                 .ref = request->control->ref,
                                 .to = request->control->from,
                                 .reason = result};
    if (ext_put_int(&number, flags)) {
        reply.options = buf_span(&number);
        eng_send_control(request->engine, &reply, (struct span){0});
    }
    buf_finish(&number);
}

static void refuse(struct request *request, const char *why) {
    struct buf atom = {0};
    eng_reason_atom(&atom, why);
    send_reply(request, 0, buf_span(&atom));
    buf_finish(&atom);
}

/* The new process is linked and monitored as was asked, and the asker learns its pid. Without
 * memory there is none. */
static bool announce(struct request *request, struct eng_proc *proc) {
    struct span from = request->control->from;
    bool ok = (!request->link || eng_link_start(proc, from)) &&
              (!request->monitor || eng_monitor_start(proc, from, request->control->ref));
    if (!ok) {
        eng_proc_destroy(proc);
        refuse(request, "system_limit");
        return false;
    }
    send_reply(request, (request->link ? FLAG_LINK : 0) | (request->monitor ? FLAG_MONITOR : 0),
               buf_span(&proc->pid));
    return true;
}

/* }==== */

/* {==== Results =========================================================================== */

/* [{Handler, Function, Arity, []}] */
static bool put_place(struct buf *out, const struct eng_proc *proc) {
    return ext_put_list(out, 1) && ext_put_tuple(out, 4) &&
           ext_put_atom(out, span_str(proc->handler->name)) &&
           ext_put_atom(out, proc->start->function) &&
           ext_put_int(out, (int32_t)proc->start->count) && ext_put_nil(out) && ext_put_nil(out);
}

void eng_erpc_result(struct buf *out, const struct eng_proc *proc, const char *kind,
                     struct span value) {
    bool with_stack = strcmp(kind, "error") == 0;
    out->len = 0;
    if (!ext_put_tuple(out, with_stack ? 4 : 3) ||
        !buf_append(out, proc->start->result.data, proc->start->result.len) ||
        !ext_put_atom(out, span_str(kind)) || !buf_append(out, value.data, value.len) ||
        (with_stack && !put_place(out, proc))) {
        eng_reason_atom(out, "system_limit");
    }
}

/* [{M, F, Args, []}] */
static bool put_call(struct buf *out, struct span module, const struct eng_start *start) {
    return ext_put_list(out, 1) && ext_put_tuple(out, 4) && ext_put_atom(out, module) &&
           ext_put_atom(out, start->function) && ext_put_list(out, start->count) &&
           buf_append(out, start->args.data, start->args.len) && ext_put_nil(out) &&
           ext_put_nil(out) && ext_put_nil(out);
}

void eng_spawn_error(struct buf *out, struct span module, const struct eng_start *start,
                     struct span reason) {
    bool to_erpc = start->result.len > 0;
    out->len = 0;
    if (!ext_put_tuple(out, to_erpc ? 4 : 2) ||
        (to_erpc && !(buf_append(out, start->result.data, start->result.len) &&
                      ext_put_atom(out, span_str("error")))) ||
        !buf_append(out, reason.data, reason.len) || !put_call(out, module, start)) {
        eng_reason_atom(out, "system_limit");
    }
}

/* }==== */

/* {==== What the node itself can do ======================================================= */

/* The one argument of the request. */
static struct span only_argument(const struct eng_start *start) {
    struct span rest = start->args;
    struct span argument = {0};
    if (start->count == 1) {
        ext_take(&rest, &argument);
    }
    return argument;
}

/* Of `erlang`: node/0, whereis/1, is_process_alive/1. False for any other. */
static bool run_erlang(struct engine *engine, const struct eng_start *start, struct buf *value) {
    struct span argument = only_argument(start);
    struct span name;
    struct span failure;
    bool latin1;
    if (span_equal(start->function, span_str("node")) && start->count == 0) {
        return ext_put_atom(value, eng_node_name(engine));
    }
    if (span_equal(start->function, span_str("is_process_alive")) && ext_is_pid(argument)) {
        const struct eng_proc *proc = eng_proc_of_pid(engine, argument);
        return ext_put_atom(value, span_str(proc != NULL && !proc->killed ? "true" : "false"));
    }
    if (span_equal(start->function, span_str("whereis")) &&
        ext_take_atom(&argument, &name, &latin1)) {
        const struct eng_proc *proc = eng_whereis(engine, name, &failure);
        return proc == NULL ? ext_put_atom(value, span_str("undefined"))
                            : buf_append(value, proc->pid.data, proc->pid.len);
    }
    return false;
}

/* {Ref, return, Value} to erpc, `normal` to others. */
static void put_return(struct buf *out, const struct eng_start *start, struct span value) {
    out->len = 0;
    if (start->result.len == 0) {
        eng_reason_atom(out, "normal");
    } else if (!ext_put_tuple(out, 3) || !buf_append(out, start->result.data, start->result.len) ||
               !ext_put_atom(out, span_str("return")) || !buf_append(out, value.data, value.len)) {
        eng_reason_atom(out, "system_limit");
    }
}

/* A process that has ended as soon as it is there, with this reason. */
static void end_at_once(struct request *request, struct span reason) {
    struct eng_proc *proc = eng_proc_service(request->engine, NULL);
    if (proc == NULL) {
        refuse(request, "system_limit");
    } else if (announce(request, proc)) {
        eng_monitors_fire(request->engine, proc, reason);
        eng_links_fire(proc, reason);
        eng_proc_destroy(proc);
    }
}

/* Nothing that this node runs has that name. */
static void fail(struct request *request, struct span why) {
    struct buf reason = {0};
    eng_spawn_error(&reason, request->module, &request->start, why);
    if (request->start.result.len == 0) {
        log_line(request->engine->log, LOG_LEVEL_ERROR, "lunode",
                 "cannot spawn %.*s.%.*s/%u: there is no such handler", (int)request->module.len,
                 (const char *)request->module.data, (int)request->start.function.len,
                 (const char *)request->start.function.data, request->start.count);
    }
    end_at_once(request, buf_span(&reason));
    buf_finish(&reason);
}

static void run_in_node(struct request *request) {
    struct buf value = {0};
    struct buf reason = {0};
    if (span_equal(request->module, span_str("erlang")) &&
        run_erlang(request->engine, &request->start, &value)) {
        put_return(&reason, &request->start, buf_span(&value));
        end_at_once(request, buf_span(&reason));
    } else {
        eng_reason_atom(&reason, "undef");
        fail(request, buf_span(&reason));
    }
    buf_finish(&value);
    buf_finish(&reason);
}

/* }==== */

/* {==== A process of a handler ============================================================ */

static void spawn(struct request *request, struct eng_handler *handler) {
    struct eng_proc *proc = eng_proc_create(request->engine, handler, &request->start);
    if (proc == NULL) {
        refuse(request, "system_limit");
    } else if (announce(request, proc)) {
        eng_sched_touch(proc);
    }
}

void eng_spawn_requested(struct engine *engine, const struct dist_control *control,
                         struct span payload) {
    struct request request = {.engine = engine, .control = control};
    struct eng_start *start = &request.start;
    struct buf outer = {0};
    struct buf inner = {0};
    read_options(&request, control->options);
    start->parent = control->from;
    start->is_child = request.link;
    if (!read_mfa(&request, control->mfa) ||
        !read_args(payload, &start->count, &start->args, &outer) ||
        !unwrap_erpc(&request, &inner)) {
        refuse(&request, "badarg");
    } else {
        struct eng_handler *handler = eng_handler_find(engine, request.module);
        bool lasting = !request.is_erpc && span_equal(start->function, span_str("start"));
        start->purpose = lasting ? ENG_LASTING : ENG_ONCE;
        if (handler == NULL) {
            run_in_node(&request);
        } else if (handler->version == NULL && handler->proc == NULL && handler->loader == NULL) {
            fail(&request, buf_span(&handler->failure)); /* it did not load */
        } else {
            spawn(&request, handler); /* and runs when it has loaded */
        }
    }
    buf_finish(&outer);
    buf_finish(&inner);
}

/* }==== */
