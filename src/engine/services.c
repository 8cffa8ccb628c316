/* The processes that are part of the node: net_kernel, which answers Node.ping, the printer, which
 * is the group leader of what this node's scripts run on other nodes, and `lunode`: see control.c.
 */
#include <utlist.h>

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

/* A character as UTF-8. */
static bool put_char(struct buf *out, uint32_t c) {
    uint8_t bytes[4] = {(uint8_t)c};
    size_t len = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint8_t first[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = len; len > 1 && i > 0; i--) {
        bytes[i - 1] = (uint8_t)(i > 1 ? 0x80 | (c & 0x3F) : first[len] | c);
        c >>= 6;
    }
    return buf_append(out, bytes, len);
}

/* Takes what is no list: a binary, a string or a character. */
static bool take_piece(struct span *in, struct buf *out) {
    struct span piece;
    struct span number;
    int64_t c;
    if (!ext_take(in, &piece)) {
        return false;
    }
    number = piece;
    if (ext_take_int(&number, &c)) {
        return c >= 0 && c < 0x110000 && put_char(out, (uint32_t)c);
    }
    if (piece.data[0] == EXT_BINARY) {
        return buf_append(out, piece.data + 5, piece.len - 5);
    }
    bool ok = piece.data[0] == EXT_STRING;
    for (size_t i = 3; ok && i < piece.len; i++) {
        ok = put_char(out, piece.data[i]);
    }
    return ok;
}

/* Characters in lists in lists, as they stand one behind the other. */
static bool flatten(struct span chars, struct buf *out) {
    uint64_t pending = 1;
    uint32_t count;
    while (pending > 0) {
        if (chars.len > 0 && chars.data[0] == EXT_LIST && ext_take_list(&chars, &count)) {
            pending += count; /* its elements and its tail, in place of it */
        } else if (ext_take_list(&chars, &count) || take_piece(&chars, out)) {
            pending--; /* an empty list, or what is none */
        } else {
            return false;
        }
    }
    return true;
}

/* {put_chars, Encoding, Chars}, and {put_chars, Encoding, io_lib, format, [Format, Arguments]}, of
 * which the format alone is printed. False for any other request. */
static bool take_chars(struct span request, struct buf *out) {
    uint32_t arity;
    uint32_t count;
    struct span part;
    if (!ext_take_tuple(&request, &arity) || (arity != 3 && arity != 5) ||
        !ext_take(&request, &part) || !ext_is_atom(part, "put_chars") ||
        !ext_take(&request, &part)) {
        return false;
    }
    if (arity == 3) {
        return flatten(request, out);
    }
    return ext_take(&request, &part) && ext_is_atom(part, "io_lib") && ext_take(&request, &part) &&
           ext_take_list(&request, &count) && count == 2 && ext_take(&request, &part) &&
           flatten(part, out);
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
    if (!ext_take_tuple(&rest, &arity) || arity != 4 || !ext_take(&rest, &head) ||
        !ext_is_atom(head, "io_request") || !ext_take(&rest, &from) || !ext_is_pid(from) ||
        !ext_take(&rest, &as)) {
        return;
    }
    struct buf chars = {0};
    bool ok = take_chars(rest, &chars);
    if (ok) {
        chars.len -= chars.len > 0 && chars.data[chars.len - 1] == '\n';
        log_text(proc->engine->log, LOG_LEVEL_INFO, "lunode", buf_span(&chars));
    }
    answer(proc->engine, from, as, ok);
    buf_finish(&chars);
}

/* }==== */

/* {==== Their messages ==================================================================== */

void eng_service_deliver(struct eng_proc *proc, struct eng_mail *mail) {
    if (proc->engine->running != NULL) {
        DL_APPEND(proc->mailbox.first, mail);
        return;
    }
    proc->service(proc, mail);
    eng_mail_drop(mail);
}

static void serve_waiting(struct eng_proc *proc) {
    while (proc->mailbox.first != NULL) {
        struct eng_mail *mail = proc->mailbox.first;
        DL_DELETE(proc->mailbox.first, mail);
        proc->service(proc, mail);
        eng_mail_drop(mail);
    }
}

void eng_services_turn(struct engine *engine) {
    serve_waiting(engine->net_kernel);
    serve_waiting(engine->printer);
    serve_waiting(engine->control);
}

/* }==== */

bool eng_services_start(struct engine *engine) {
    engine->net_kernel = eng_proc_service(engine, serve_net_kernel);
    engine->printer = eng_proc_service(engine, serve_printer);
    engine->control = eng_proc_service(engine, eng_control_serve);
    return engine->net_kernel != NULL && engine->printer != NULL && engine->control != NULL;
}

void eng_services_stop(struct engine *engine) {
    if (engine->net_kernel != NULL) {
        eng_proc_destroy(engine->net_kernel);
    }
    if (engine->printer != NULL) {
        eng_proc_destroy(engine->printer);
    }
    if (engine->control != NULL) {
        eng_clients_clear(engine);
        eng_proc_destroy(engine->control);
    }
}
