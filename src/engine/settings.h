/* What may be said about one handler's policy, in the configuration file and in the options of a
 * load: the names of the settings, their values, and the errors. */
#ifndef LUNODE_ENGINE_SETTINGS_H
#define LUNODE_ENGINE_SETTINGS_H

#include "engine/policy.h"
#include "engine/units.h"

struct eng_settings {
    struct eng_policy policy; /* that of a script which is not trusted */
    bool says_trust;          /* then: */
    bool trusted;             /* `trust` is "full", not "none" */
    unsigned mailbox;         /* of a trusted script as well; 0: it was not said */
    const char
        *untrusted_only; /* a setting that trusted scripts do not have; NULL: none was said */
};

void eng_settings_init(struct eng_settings *settings);
void eng_settings_finish(struct eng_settings *settings);

/* Each makes one setting. False when it is unknown or wrong; the error names it. */
bool eng_settings_limit(struct eng_settings *settings, struct span name,
                        const struct eng_amount *amount, struct err *err);
bool eng_settings_trust(struct eng_settings *settings, struct span word, struct err *err);
bool eng_settings_isolation(struct eng_settings *settings, struct span word, struct err *err);

/* `kind` is send or rpc. The first pattern that is said (`number` 1) takes the place of those that
 * were there; with `number` 0 there is none, and nothing is allowed. */
bool eng_settings_allow(struct eng_settings *settings, struct span kind, unsigned number,
                        struct span pattern, struct err *err);

/* The policy of a script that is trusted or not, in place of `out`, which was initialised. False
 * when a trusted one was given what only others have, or without memory. */
bool eng_settings_policy(const struct eng_settings *settings, bool trusted, struct eng_policy *out,
                         struct err *err);

#endif
