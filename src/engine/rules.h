/* What the configuration says about handlers by their names, of files and of scripts that will come
 * over the wire. A name with `*` is a pattern. Of several that fit the name itself counts, else the
 * longest pattern; what the others say does not. */
#ifndef LUNODE_ENGINE_RULES_H
#define LUNODE_ENGINE_RULES_H

#include "engine/settings.h"

struct eng_rule {
    char *name; /* a handler's, or a pattern */
    char *file; /* the configuration, as errors name it */
    struct eng_settings settings;
};

struct eng_rules {
    struct eng_rule *all;
    size_t count;
};

/* All zeros are no rules. */
void eng_rules_finish(struct eng_rules *rules);

/* The rule of exactly that name, a new one if need be. NULL: no memory. */
struct eng_rule *eng_rules_add(struct eng_rules *rules, const char *name, const char *file);

/* The rule for a handler; NULL when there is none. */
const struct eng_rule *eng_rules_find(const struct eng_rules *rules, struct span name);

/* Replaces `out`, which was initialised, by the policy of a handler of that name: of a file, which
 * is trusted unless its rule says otherwise; of a script that nobody has said to be trusted. False
 * when the rule says what can't be, or without memory. */
bool eng_rules_of_file(const struct eng_rules *rules, const char *name, struct eng_policy *out,
                       struct err *err);
bool eng_rules_of_untrusted(const struct eng_rules *rules, const char *name, struct eng_policy *out,
                            struct err *err);

#endif
