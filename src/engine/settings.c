/* What may be said about one handler's policy: see settings.h. */
#include "engine/settings.h"

enum { MAX_COUNT = 1000000000 };

void eng_settings_init(struct eng_settings *settings) {
    *settings = (struct eng_settings){.says_trust = false};
    eng_policy_init(&settings->policy, false);
}

void eng_settings_finish(struct eng_settings *settings) {
    eng_policy_finish(&settings->policy);
}

/* {==== Limits ============================================================================ */

static bool set_mailbox(struct eng_settings *settings, const struct eng_amount *amount,
                        struct err *err) {
    if (!eng_units_count(amount, 1, MAX_COUNT, "messages", &settings->mailbox, err)) {
        return false;
    }
    settings->policy.mailbox = settings->mailbox;
    return true;
}

static bool set_message(struct eng_settings *settings, const struct eng_amount *amount,
                        struct err *err) {
    settings->untrusted_only = "limits.message";
    return eng_units_size(amount, &settings->policy.message, err);
}

static bool set_memory(struct eng_settings *settings, const struct eng_amount *amount,
                       struct err *err) {
    settings->untrusted_only = "limits.memory";
    return eng_units_size(amount, &settings->policy.memory, err);
}

static bool set_time(struct eng_settings *settings, const struct eng_amount *amount,
                     struct err *err) {
    settings->untrusted_only = "limits.time";
    return eng_units_time(amount, &settings->policy.time_ms, err);
}

static bool set_deadline(struct eng_settings *settings, const struct eng_amount *amount,
                         struct err *err) {
    settings->untrusted_only = "limits.deadline";
    return eng_units_time(amount, &settings->policy.deadline_ms, err);
}

static bool set_atoms(struct eng_settings *settings, const struct eng_amount *amount,
                      struct err *err) {
    settings->untrusted_only = "limits.atoms";
    return eng_units_count(amount, 0, MAX_COUNT, "atoms", &settings->policy.atoms, err);
}

bool eng_settings_limit(struct eng_settings *settings, struct span name,
                        const struct eng_amount *amount, struct err *err) {
    static const struct {
        const char *name;
        bool (*set)(struct eng_settings *, const struct eng_amount *, struct err *);
    } limits[] = {{"memory", set_memory},   {"time", set_time},       {"deadline", set_deadline},
                  {"mailbox", set_mailbox}, {"message", set_message}, {"atoms", set_atoms}};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        if (span_equal(name, span_str(limits[i].name))) {
            return limits[i].set(settings, amount, err) ||
                   err_prefix(err, "limits.%s: ", limits[i].name);
        }
    }
    return err_set(err,
                   "limits.%.*s: unknown option; known: memory, time, deadline, mailbox, message, "
                   "atoms",
                   (int)name.len, (const char *)name.data);
}

/* }==== */

/* {==== The rest ========================================================================== */

bool eng_settings_trust(struct eng_settings *settings, struct span word, struct err *err) {
    settings->says_trust = true;
    settings->trusted = span_equal(word, span_str("full"));
    return settings->trusted || span_equal(word, span_str("none")) ||
           err_set(err, "trust: full or none expected");
}

bool eng_settings_isolation(struct eng_settings *settings, struct span word, struct err *err) {
    settings->untrusted_only = "isolation";
    settings->policy.isolated = span_equal(word, span_str("own"));
    return settings->policy.isolated || span_equal(word, span_str("shared")) ||
           err_set(err, "isolation: own or shared expected");
}

bool eng_settings_allow(struct eng_settings *settings, struct span kind, unsigned number,
                        struct span pattern, struct err *err) {
    bool is_send = span_equal(kind, span_str("send"));
    if (!is_send && !span_equal(kind, span_str("rpc"))) {
        return err_set(err, "allow.%.*s: unknown option; known: send, rpc", (int)kind.len,
                       (const char *)kind.data);
    }
    struct eng_policy *policy = &settings->policy;
    if (number <= 1) {
        (is_send ? &policy->send : &policy->rpc)->len = 0;
    }
    settings->untrusted_only = "allow";
    if (number == 0) {
        return true;
    }
    bool ok = is_send ? eng_policy_allow_send(policy, pattern, err)
                      : eng_policy_allow_rpc(policy, pattern, err);
    return ok || err_prefix(err, "allow.%s[%u]: ", is_send ? "send" : "rpc", number);
}

bool eng_settings_policy(const struct eng_settings *settings, bool trusted, struct eng_policy *out,
                         struct err *err) {
    if (!trusted) {
        return eng_policy_copy(out, &settings->policy) || err_set(err, "no memory for the limits");
    }
    if (settings->untrusted_only != NULL) {
        return err_set(err,
                       "%s: only for a script that is not trusted (trust none); a trusted one "
                       "has limits.mailbox alone",
                       settings->untrusted_only);
    }
    eng_policy_finish(out);
    eng_policy_init(out, true);
    out->mailbox = settings->mailbox == 0 ? out->mailbox : settings->mailbox;
    return true;
}

/* }==== */
