/* What a handler may use and reach: its limits, and whom it may send to and call. */
#ifndef LUNODE_ENGINE_POLICY_H
#define LUNODE_ENGINE_POLICY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

struct eng_policy {
    bool trusted;         /* then only `mailbox` counts */
    bool isolated;        /* untrusted: it has a worker of its own */
    size_t mailbox;       /* messages that may wait for one of its processes */
    size_t message;       /* bytes of a message that comes in, of a reply and of what it sends */
    size_t memory;        /* bytes of its VM */
    unsigned time_ms;     /* that it may run for one message */
    unsigned deadline_ms; /* that it may run without a place to interrupt it */
    unsigned atoms;       /* new ones that it may make */
    struct buf send;      /* patterns, each with a NUL behind it: see eng_policy_may_send */
    struct buf rpc;       /* the same: see eng_policy_may_rpc */
};

enum {
    ENG_MAX_MAILBOX = 1000000, /* of a trusted handler */
    ENG_UNTRUSTED_MAILBOX = 1000,
    ENG_UNTRUSTED_MESSAGE = 1 << 20,
    ENG_UNTRUSTED_MEMORY = 32 << 20,
    ENG_UNTRUSTED_TIME_MS = 1000,
    ENG_UNTRUSTED_DEADLINE_MS = 1000,
    ENG_UNTRUSTED_ATOMS = 100,
};

/* The defaults of a trusted handler, or of one that is not. Nothing is allocated. */
void eng_policy_init(struct eng_policy *policy, bool trusted);
void eng_policy_finish(struct eng_policy *policy);

/* Replaces `to`, which was initialised. False, with `to` as it was, when there is no memory. */
bool eng_policy_copy(struct eng_policy *to, const struct eng_policy *from);

/* Adds a pattern to policy->send or policy->rpc. A `*` stands for any characters. False when it is
 * none: it is empty or has a NUL; one of rpc has no dot. */
bool eng_policy_allow_send(struct eng_policy *policy, struct span pattern, struct err *err);
bool eng_policy_allow_rpc(struct eng_policy *policy, struct span pattern, struct err *err);

/* Whether text has the form of the pattern. */
bool eng_policy_matches(const char *pattern, struct span text);

/* Whether the policy lets through a message to the process registered as `name`, on this node or a
 * connected one. A pattern with `*` does not reach the processes by which a node is run: they must
 * be named as they are. */
bool eng_policy_may_send(const struct eng_policy *policy, struct span name);

/* Whether it lets through messages to any pid: the pattern `*` does. */
bool eng_policy_may_send_pids(const struct eng_policy *policy);

/* Whether it lets through a call of module.function. What precedes the last dot of a pattern is for
 * the module, the rest for the function: `Elixir.MyApp.Api.*` allows nothing of
 * Elixir.MyApp.Api.Admin. */
bool eng_policy_may_rpc(const struct eng_policy *policy, struct span module, struct span function);

#endif
