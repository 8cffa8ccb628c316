/* The processes that are part of the node: net_kernel, which answers Node.ping, and the printer,
 * which is the group leader of what this node's scripts run on other nodes. */
#include "engine/private.h"

/* {==== net_kernel ======================================================================== */

/* Node.ping and Node.connect ask whether they may: {is_auth, Node} is answered by yes. */
static void serve_net_kernel(struct eng_proc *proc, struct eng_mail *mail) {
    uint32_t arity;
    struct span request = mail->body;
    struct span head;
    struct buf reason = {0};
    if (mail->caller.kind != ENG_CALL) {
        return;
    }
    if (ext_take_tuple(&request, &arity) && arity == 2 && ext_take(&request, &head) &&
        ext_is_atom(head, "is_auth")) {
        eng_reply_atom(proc->engine, proc, &mail->caller, "yes");
    } else {
        eng_reason_undef(&reason, mail->body);
        eng_reply_failure(proc->engine, proc, &mail->caller, buf_span(&reason));
    }
    buf_finish(&reason);
}

/* }==== */

/* {==== The printer ======================================================================= */

/* {put_chars, Encoding, Chars}; false for chars that are no binary, and for any other request. */
static bool take_chars(struct span request, struct span *chars) {
    uint32_t arity;
    struct span head;
    struct span encoding;
    if (!ext_take_tuple(&request, &arity) || arity != 3 || !ext_take(&request, &head) ||
        !ext_is_atom(head, "put_chars") || !ext_take(&request, &encoding) || request.len < 5 ||
        request.data[0] != EXT_BINARY) {
        return false;
    }
    *chars = span_of(request.data + 5, request.len - 5);
    return true;
}

/* {io_reply, ReplyAs, ok}, or an error: the caller waits for it without limit. */
static void answer(struct engine *engine, struct span to, struct span as, bool ok) {
    struct dist_control control = {.op = DIST_SEND, .to = to};
    struct err err;
    struct buf *out = eng_send_begin(engine, &control, (struct span){0}, &err);
    if (out == NULL) {
        return;
    }
    if (ext_put_tuple(out, 3) && ext_put_atom(out, span_str("io_reply")) &&
        buf_append(out, as.data, as.len) &&
        (ok ? ext_put_atom(out, span_str("ok"))
            : ext_put_tuple(out, 2) && ext_put_atom(out, span_str("error")) &&
                  ext_put_atom(out, span_str("enotsup")))) {
        eng_send_end(engine, &err);
    } else {
        eng_send_drop(engine);
    }
}

/* {io_request, From, ReplyAs, Request} of Erlang's I/O protocol: what is printed goes to the log.
 */
static void serve_printer(struct eng_proc *proc, struct eng_mail *mail) {
    uint32_t arity;
    struct span rest = mail->body;
    struct span head;
    struct span from;
    struct span as;
    struct span chars;
    if (!ext_take_tuple(&rest, &arity) || arity != 4 || !ext_take(&rest, &head) ||
        !ext_is_atom(head, "io_request") || !ext_take(&rest, &from) || !ext_is_pid(from) ||
        !ext_take(&rest, &as)) {
        return;
    }
    bool ok = take_chars(rest, &chars);
    if (ok) {
        chars.len -= chars.len > 0 && chars.data[chars.len - 1] == '\n';
        log_text(proc->engine->log, LOG_LEVEL_INFO, "lunode", chars);
    }
    answer(proc->engine, from, as, ok);
}

/* }==== */

bool eng_services_start(struct engine *engine) {
    engine->net_kernel = eng_proc_service(engine, serve_net_kernel);
    engine->printer = eng_proc_service(engine, serve_printer);
    return engine->net_kernel != NULL && engine->printer != NULL;
}

void eng_services_stop(struct engine *engine) {
    if (engine->net_kernel != NULL) {
        eng_proc_destroy(engine->net_kernel);
    }
    if (engine->printer != NULL) {
        eng_proc_destroy(engine->printer);
    }
}
