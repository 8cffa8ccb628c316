/* A message that waits for its process: taken out of the frame and sorted by what answers it. */
#include <stdlib.h>
#include <string.h>

#include "engine/private.h"

/* [alias | Ref]: a list of one element, the atom, whose tail is the reference. */
static bool take_alias(struct span tag, struct span *ref) {
    struct span head;
    if (tag.len < 5 || tag.data[0] != EXT_LIST || ext_u32(tag.data + 1) != 1) {
        return false;
    }
    struct span rest = span_of(tag.data + 5, tag.len - 5);
    return ext_take(&rest, &head) && ext_is_atom(head, "alias") && ext_take(&rest, ref);
}

/* gen's tags: Ref, [alias | Ref], or [[alias | Ref] | _]. */
bool eng_tag_ref(struct span tag, struct span *ref, bool *alias) {
    *alias = false;
    if (ext_is_ref(tag)) {
        *ref = tag;
        return true;
    }
    struct span head = tag;
    if (tag.len > 5 && tag.data[0] == EXT_LIST && tag.data[5] == EXT_LIST) {
        struct span rest = span_of(tag.data + 5, tag.len - 5);
        if (!ext_take(&rest, &head)) {
            return false;
        }
    }
    *alias = take_alias(head, ref) && ext_is_ref(*ref);
    return *alias;
}

/* Cuts {Pid, Tag} and leaves the request in `body`. */
static bool take_call(struct span body, enum eng_mail_kind kind, struct eng_caller *caller,
                      struct span *request) {
    uint32_t arity;
    struct span pid;
    struct span tag;
    if (!ext_take_tuple(&body, &arity) || arity != 2 || !ext_take(&body, &pid) ||
        !ext_is_pid(pid) || !ext_take(&body, &tag)) {
        return false;
    }
    *caller = (struct eng_caller){kind, pid, tag};
    *request = body;
    return true;
}

/* Calls and casts are tuples whose first element says so; the rest is not looked at yet. Without a
 * match both stay as they are. */
static void sort(struct span *body, struct eng_caller *caller) {
    struct span rest = *body;
    uint32_t arity;
    struct span head;
    if (!ext_take_tuple(&rest, &arity) || arity < 2 || arity > 3 || !ext_take(&rest, &head)) {
        return;
    }
    if (arity == 3 && ext_is_atom(head, "$gen_call")) {
        take_call(rest, ENG_CALL, caller, body);
    } else if (arity == 3 && ext_is_atom(head, "system")) {
        take_call(rest, ENG_SYSTEM, caller, body);
    } else if (arity == 2 && ext_is_atom(head, "$gen_cast")) {
        *caller = (struct eng_caller){.kind = ENG_CAST};
        *body = rest;
    }
}

void eng_caller_read(struct span *body, struct eng_caller *caller) {
    *caller = (struct eng_caller){.kind = ENG_INFO};
    sort(body, caller);
}

struct eng_mail *eng_mail_create(struct dist_peer *peer, struct span sender, struct span payload,
                                 bool to_any) {
    struct buf frame = {0};
    bool taken = peer != NULL && dist_peer_take(peer, payload, &frame);
    size_t size = sizeof(struct eng_mail) + sender.len + (taken ? 0 : payload.len);
    struct eng_mail *mail = malloc(size);
    if (mail == NULL) {
        buf_finish(&frame);
        return NULL;
    }
    *mail = (struct eng_mail){.from_ref = LUA_NOREF, .frame = frame};
    mail->size = sizeof *mail + sender.len + payload.len;
    uint8_t *at = mail->bytes;
    mail->caller.kind = to_any && sender.len > 0 ? ENG_ANY : ENG_INFO;
    mail->caller.pid = span_keep(&at, sender);
    mail->body = taken ? payload : span_keep(&at, payload);
    sort(&mail->body, &mail->caller);
    return mail;
}

void eng_mail_drop(struct eng_mail *mail) {
    buf_finish(&mail->frame);
    free(mail);
}
