/* What a handler may use and reach: see policy.h. */
#include "engine/policy.h"

#include <string.h>

#include "base/ext.h"

void eng_policy_init(struct eng_policy *policy, bool trusted) {
    *policy = (struct eng_policy){.trusted = trusted, .mailbox = ENG_MAX_MAILBOX};
    if (!trusted) {
        policy->mailbox = ENG_UNTRUSTED_MAILBOX;
        policy->message = ENG_UNTRUSTED_MESSAGE;
        policy->memory = ENG_UNTRUSTED_MEMORY;
        policy->time_ms = ENG_UNTRUSTED_TIME_MS;
        policy->deadline_ms = ENG_UNTRUSTED_DEADLINE_MS;
        policy->atoms = ENG_UNTRUSTED_ATOMS;
    }
}

void eng_policy_finish(struct eng_policy *policy) {
    buf_finish(&policy->send);
    buf_finish(&policy->rpc);
}

bool eng_policy_copy(struct eng_policy *to, const struct eng_policy *from) {
    struct eng_policy copy = *from;
    buf_init(&copy.send);
    buf_init(&copy.rpc);
    if (!buf_append(&copy.send, from->send.data, from->send.len) ||
        !buf_append(&copy.rpc, from->rpc.data, from->rpc.len)) {
        eng_policy_finish(&copy);
        return false;
    }
    eng_policy_finish(to);
    *to = copy;
    return true;
}

/* {==== Patterns ========================================================================== */

static bool add(struct buf *patterns, struct span pattern, struct err *err) {
    if (pattern.len == 0 || memchr(pattern.data, '\0', pattern.len) != NULL) {
        return err_set(err, "a pattern has one character at least, and no NUL");
    }
    size_t before = patterns->len;
    if (!buf_append(patterns, pattern.data, pattern.len) || !buf_append(patterns, "", 1)) {
        patterns->len = before;
        return err_set(err, "no memory for a pattern");
    }
    return true;
}

bool eng_policy_allow_send(struct eng_policy *policy, struct span pattern, struct err *err) {
    return add(&policy->send, pattern, err);
}

bool eng_policy_allow_rpc(struct eng_policy *policy, struct span pattern, struct err *err) {
    if (pattern.len > 0 && memchr(pattern.data, '.', pattern.len) == NULL) {
        return err_set(err, "Module.function expected, as in \"Elixir.MyApp.Api.*\"");
    }
    return add(&policy->rpc, pattern, err);
}

/* The last `*` takes one character more whenever what follows it does not fit. */
static bool matches(struct span pattern, struct span text) {
    size_t p = 0;
    size_t t = 0;
    size_t star = SIZE_MAX;
    size_t taken = 0;
    while (t < text.len) {
        if (p < pattern.len && pattern.data[p] == '*') {
            star = p++;
            taken = t;
        } else if (p < pattern.len && pattern.data[p] == text.data[t]) {
            p++;
            t++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            t = ++taken;
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.data[p] == '*') {
        p++;
    }
    return p == pattern.len;
}

bool eng_policy_matches(const char *pattern, struct span text) {
    return matches(span_str(pattern), text);
}

/* Who runs a node: what they are told stops it, or runs anything on it. */
static bool runs_a_node(struct span name) {
    static const char *const names[] = {"lunode",
                                        "net_kernel",
                                        "init",
                                        "erlang",
                                        "erpc",
                                        "rpc",
                                        "rex",
                                        "kernel_sup",
                                        "erl_signal",
                                        "application_controller",
                                        "code_server",
                                        "file_server_2",
                                        "erl_prim_loader",
                                        "global_name_server",
                                        "erts_code_purger",
                                        "user",
                                        "logger",
                                        "auth",
                                        "inet_db"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (span_equal(name, span_str(names[i]))) {
            return true;
        }
    }
    return false;
}

/* Each pattern in turn; NULL behind the last. */
static const char *next_pattern(const struct buf *patterns, const char *pattern) {
    const char *next =
        pattern == NULL ? (const char *)patterns->data : pattern + strlen(pattern) + 1;
    return patterns->len == 0 || next == (const char *)patterns->data + patterns->len ? NULL : next;
}

bool eng_policy_may_send(const struct eng_policy *policy, struct span name) {
    const char *pattern = NULL;
    while ((pattern = next_pattern(&policy->send, pattern)) != NULL) {
        bool is_exact = span_equal(span_str(pattern), name);
        if (is_exact || (eng_policy_matches(pattern, name) && !runs_a_node(name))) {
            return true;
        }
    }
    return policy->trusted;
}

bool eng_policy_may_send_pids(const struct eng_policy *policy) {
    const char *pattern = NULL;
    while ((pattern = next_pattern(&policy->send, pattern)) != NULL) {
        if (strcmp(pattern, "*") == 0) {
            return true;
        }
    }
    return policy->trusted;
}

bool eng_policy_may_rpc(const struct eng_policy *policy, struct span module, struct span function) {
    const char *pattern = NULL;
    while ((pattern = next_pattern(&policy->rpc, pattern)) != NULL) {
        const char *dot = strrchr(pattern, '.');
        if (dot != NULL && matches(span_of(pattern, (size_t)(dot - pattern)), module) &&
            matches(span_str(dot + 1), function)) {
            return true;
        }
    }
    return policy->trusted;
}

/* }==== */
