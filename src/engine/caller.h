/* Who has sent a message, as its first bytes tell, and how he is answered. */
#ifndef LUNODE_ENGINE_CALLER_H
#define LUNODE_ENGINE_CALLER_H

#include <stdbool.h>

#include "base/buf.h"

enum eng_mail_kind {
    ENG_CALL,   /* {'$gen_call', {Pid, Tag}, Request} */
    ENG_SYSTEM, /* {system, {Pid, Tag}, Request}: OTP's sys, answered like a call */
    ENG_CAST,   /* {'$gen_cast', Request} */
    ENG_ANY,    /* a plain message to the name `any`: answered by {node, value} */
    ENG_INFO,   /* any other message */
};

/* Who is answered, and how. The spans are external terms. */
struct eng_caller {
    enum eng_mail_kind kind;
    struct span pid; /* empty when nobody can be answered */
    struct span tag; /* of a call */
};

/* Sorts a message: ENG_CALL, ENG_SYSTEM, ENG_CAST or ENG_INFO, and who is to be answered. `body` is
 * left at what is asked for. */
void eng_caller_read(struct span *body, struct eng_caller *caller);

/* The reference inside a call's tag; `alias` tells that the tag holds it as an alias. False when
 * there is none. */
bool eng_tag_ref(struct span tag, struct span *ref, bool *alias);

#endif
