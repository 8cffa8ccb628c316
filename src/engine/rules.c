/* What the configuration says about handlers by their names: see rules.h. */
#include "engine/rules.h"

#include <stdlib.h>
#include <string.h>

void eng_rules_finish(struct eng_rules *rules) {
    for (size_t i = 0; i < rules->count; i++) {
        free(rules->all[i].name);
        free(rules->all[i].file);
        eng_settings_finish(&rules->all[i].settings);
    }
    free(rules->all);
    *rules = (struct eng_rules){0};
}

struct eng_rule *eng_rules_add(struct eng_rules *rules, const char *name, const char *file) {
    for (size_t i = 0; i < rules->count; i++) {
        if (strcmp(rules->all[i].name, name) == 0) {
            return &rules->all[i];
        }
    }
    struct eng_rule *all = realloc(rules->all, (rules->count + 1) * sizeof *all);
    if (all == NULL) {
        return NULL;
    }
    rules->all = all;
    struct eng_rule *rule = &all[rules->count];
    *rule = (struct eng_rule){.name = strdup(name), .file = strdup(file)};
    eng_settings_init(&rule->settings);
    if (rule->name == NULL || rule->file == NULL) {
        free(rule->name);
        free(rule->file);
        return NULL;
    }
    rules->count++;
    return rule;
}

/* Whether it counts before the other one, where both fit. Of two patterns of one length that is the
 * first by the alphabet: any order will do, as long as it is the same each time. */
static bool is_closer(const char *name, const char *other) {
    bool is_pattern = strchr(name, '*') != NULL;
    if (is_pattern != (strchr(other, '*') != NULL)) {
        return !is_pattern;
    }
    size_t len = strlen(name);
    size_t other_len = strlen(other);
    return len != other_len ? len > other_len : strcmp(name, other) < 0;
}

const struct eng_rule *eng_rules_find(const struct eng_rules *rules, struct span name) {
    const struct eng_rule *found = NULL;
    for (size_t i = 0; i < rules->count; i++) {
        const struct eng_rule *rule = &rules->all[i];
        if (eng_policy_matches(rule->name, name) &&
            (found == NULL || is_closer(rule->name, found->name))) {
            found = rule;
        }
    }
    return found;
}

bool eng_rules_of_file(const struct eng_rules *rules, const char *name, struct eng_policy *out,
                       struct err *err) {
    const struct eng_rule *rule = eng_rules_find(rules, span_str(name));
    if (rule == NULL) {
        eng_policy_finish(out);
        eng_policy_init(out, true);
        return true;
    }
    bool trusted = !rule->settings.says_trust || rule->settings.trusted;
    return eng_settings_policy(&rule->settings, trusted, out, err) ||
           err_prefix(err, "%s: the file of the handler %s: handlers.%s.", rule->file, name,
                      rule->name);
}

bool eng_rules_of_untrusted(const struct eng_rules *rules, const char *name, struct eng_policy *out,
                            struct err *err) {
    const struct eng_rule *rule = eng_rules_find(rules, span_str(name));
    if (rule != NULL) {
        return eng_settings_policy(&rule->settings, false, out, err);
    }
    eng_policy_finish(out);
    eng_policy_init(out, false);
    return true;
}
