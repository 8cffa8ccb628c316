/* Exit reasons as external terms. */
#include "engine/private.h"

static void start(struct buf *out) {
    out->len = 0;
}

static void give_up(struct buf *out) {
    start(out);
    ext_put_atom(out, span_str("system_limit"));
}

void eng_reason_atom(struct buf *out, const char *name) {
    start(out);
    ext_put_atom(out, span_str(name));
}

void eng_reason_text(struct buf *out, const char *kind, struct span text) {
    start(out);
    if (!ext_put_tuple(out, 2) || !ext_put_atom(out, span_str(kind)) ||
        !ext_put_binary(out, text)) {
        give_up(out);
    }
}

/* The name and the number of arguments of a request: {:add, 5} is add/1, :get is get/0, and what
 * has no name is the callback's, handle_call/2. */
void eng_reason_undef(struct buf *out, struct span body) {
    uint32_t arity = 1;
    struct span name;
    bool latin1;
    ext_take_tuple(&body, &arity);
    if (arity == 0 || !ext_take_atom(&body, &name, &latin1)) {
        name = span_str("handle_call");
        arity = 3;
    }
    start(out);
    if (!ext_put_tuple(out, 3) || !ext_put_atom(out, span_str("undef")) ||
        !ext_put_atom(out, name) || !ext_put_int(out, (int32_t)arity - 1)) {
        give_up(out);
    }
}

void eng_reason_limit(struct buf *out, const char *kind, size_t max, size_t used) {
    start(out);
    if (!ext_put_tuple(out, 4) || !ext_put_atom(out, span_str("limit")) ||
        !ext_put_atom(out, span_str(kind)) || !ext_put_uint(out, max) || !ext_put_uint(out, used)) {
        give_up(out);
    }
}

void eng_reason_copy(struct buf *out, struct span reason) {
    start(out);
    if (!buf_append(out, reason.data, reason.len)) {
        give_up(out);
    }
}

bool eng_reason_is_quiet(struct span reason) {
    struct span head;
    uint32_t arity;
    if (ext_take_tuple(&reason, &arity)) {
        return arity == 2 && ext_take(&reason, &head) && ext_is_atom(head, "shutdown");
    }
    return ext_is_atom(reason, "normal") || ext_is_atom(reason, "shutdown");
}
