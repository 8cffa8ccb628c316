/* What the load of a script that comes over the wire says of it: the options, a map or a keyword
 * list. */
#include "engine/private.h"

/* {==== Terms ============================================================================= */

/* The pairs of a map, or of a list of {Key, Value}. */
struct pairs {
    struct span rest;
    uint32_t count; /* that are left */
    bool is_list;
};

static bool take_pairs(struct span term, struct pairs *pairs) {
    *pairs = (struct pairs){.rest = term};
    if (ext_take_map(&pairs->rest, &pairs->count)) {
        return true;
    }
    pairs->is_list = true;
    return ext_take_list(&pairs->rest, &pairs->count);
}

/* What follows the elements of a proper list, or of a map. */
static bool is_end(struct span rest) {
    return rest.len == 0 || (rest.len == 1 && rest.data[0] == EXT_NIL);
}

/* The next pair; false when there is none: see took_all. */
static bool take_pair(struct pairs *pairs, struct span *key, struct span *value) {
    uint32_t arity = 2;
    bool latin1;
    if (pairs->count == 0 ||
        (pairs->is_list && (!ext_take_tuple(&pairs->rest, &arity) || arity != 2)) ||
        !ext_take_atom(&pairs->rest, key, &latin1) || !ext_take(&pairs->rest, value)) {
        return false;
    }
    pairs->count--;
    return true;
}

static bool took_all(const struct pairs *pairs) {
    return pairs->count == 0 && is_end(pairs->rest);
}

static struct eng_amount amount_of(struct span term) {
    struct eng_amount amount = {.kind = ENG_AMOUNT_OTHER};
    if (ext_take_int(&term, &amount.number)) {
        amount.kind = ENG_AMOUNT_NUMBER;
    } else if (ext_take_binary(&term, &amount.text)) {
        amount.kind = ENG_AMOUNT_TEXT;
    }
    return amount;
}

/* The name of an atom; empty when the term is none. */
static struct span word_of(struct span term) {
    struct span word = {0};
    bool latin1;
    return ext_take_atom(&term, &word, &latin1) ? word : (struct span){0};
}

/* }==== */

/* {==== Options =========================================================================== */

/* What is said so far. */
struct said {
    struct eng_settings settings;
    struct span start;
    struct span modules;
};

static bool no_pairs(const char *option, struct err *err) {
    return err_set(err, "%s: a map or keyword list expected", option);
}

static bool read_trust(struct span value, struct said *said, struct err *err) {
    return eng_settings_trust(&said->settings, word_of(value), err);
}

static bool read_isolation(struct span value, struct said *said, struct err *err) {
    return eng_settings_isolation(&said->settings, word_of(value), err);
}

static bool read_start(struct span value, struct said *said, struct err *err) {
    (void)err;
    said->start = value;
    return true;
}

/* A map of binaries: names of modules, and their texts. */
static bool read_modules(struct span value, struct said *said, struct err *err) {
    struct span rest = value;
    struct span name;
    struct span text;
    uint32_t pairs = 0;
    bool ok = ext_take_map(&rest, &pairs);
    while (ok && pairs-- > 0) {
        ok = ext_take_binary(&rest, &name) && ext_take_binary(&rest, &text);
    }
    said->modules = value;
    return ok || err_set(err, "modules: a map of names and texts expected, all of them binaries");
}

static bool read_limits(struct span value, struct said *said, struct err *err) {
    struct pairs pairs;
    struct span key;
    bool ok = take_pairs(value, &pairs) || no_pairs("limits", err);
    while (ok && take_pair(&pairs, &key, &value)) {
        struct eng_amount amount = amount_of(value);
        ok = eng_settings_limit(&said->settings, key, &amount, err);
    }
    return ok && (took_all(&pairs) || no_pairs("limits", err));
}

/* The list of patterns of allow.send or allow.rpc. */
static bool read_patterns(struct span kind, struct span list, struct said *said, struct err *err) {
    uint32_t count;
    struct span pattern;
    if (!eng_settings_allow(&said->settings, kind, 0, (struct span){0}, err)) {
        return false;
    }
    bool ok = ext_take_list(&list, &count);
    for (uint32_t i = 1; ok && i <= count; i++) {
        ok = ext_take_binary(&list, &pattern);
        if (ok && !eng_settings_allow(&said->settings, kind, i, pattern, err)) {
            return false;
        }
    }
    return (ok && is_end(list)) || err_set(err, "allow.%.*s: a list of texts expected",
                                           (int)kind.len, (const char *)kind.data);
}

static bool read_allow(struct span value, struct said *said, struct err *err) {
    struct pairs pairs;
    struct span kind;
    bool ok = take_pairs(value, &pairs) || no_pairs("allow", err);
    while (ok && take_pair(&pairs, &kind, &value)) {
        ok = read_patterns(kind, value, said, err);
    }
    return ok && (took_all(&pairs) || no_pairs("allow", err));
}

static bool read_option(struct span key, struct span value, struct said *said, struct err *err) {
    static const struct {
        const char *name;
        bool (*read)(struct span, struct said *, struct err *);
    } options[] = {{"trust", read_trust}, {"limits", read_limits},
                   {"allow", read_allow}, {"isolation", read_isolation},
                   {"start", read_start}, {"modules", read_modules}};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        if (span_equal(key, span_str(options[i].name))) {
            return options[i].read(value, said, err);
        }
    }
    return err_set(err,
                   "%.*s: unknown option; known: trust, limits, allow, isolation, start, modules",
                   (int)(key.len < 100 ? key.len : 100), (const char *)key.data);
}

/* Begins with what the configuration says of the name. */
static bool begin(struct said *said, const struct eng_rules *rules, struct span name,
                  struct err *err) {
    const struct eng_rule *rule = eng_rules_find(rules, name);
    *said = (struct said){.start = {0}, .modules = {0}};
    eng_settings_init(&said->settings);
    if (rule == NULL) {
        return true;
    }
    said->settings.mailbox = rule->settings.mailbox;
    return eng_policy_copy(&said->settings.policy, &rule->settings.policy) ||
           err_set(err, "no memory for the options");
}

static bool read_all(struct said *said, struct span term, struct err *err) {
    struct pairs pairs;
    struct span key;
    struct span value;
    bool ok = take_pairs(term, &pairs) || no_pairs("the options", err);
    while (ok && take_pair(&pairs, &key, &value)) {
        ok = read_option(key, value, said, err);
    }
    return ok && (took_all(&pairs) || no_pairs("the options", err));
}

bool eng_load_options_read(struct eng_load_options *options, const struct eng_rules *rules,
                           struct span name, struct span term, struct err *err) {
    struct said said;
    eng_policy_init(&options->policy, false);
    bool ok = begin(&said, rules, name, err) && read_all(&said, term, err);
    bool trusted = ok && said.settings.says_trust && said.settings.trusted;
    ok = ok && eng_settings_policy(&said.settings, trusted, &options->policy, err);
    options->start = said.start;
    options->modules = said.modules;
    if (ok && trusted && said.modules.len > 0) {
        ok = err_set(err, "modules: only for a script that is not trusted");
    }
    eng_settings_finish(&said.settings);
    return ok;
}

void eng_load_options_finish(struct eng_load_options *options) {
    eng_policy_finish(&options->policy);
}

/* }==== */
