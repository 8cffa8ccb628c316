/* What went wrong, in words. */
#include <stdio.h>

#include "attach/private.h"
#include "base/ext.h"
#include "term/term.h"

enum { MAX_TEXT = 4096 };

static void say(struct span text) {
    (void)fwrite(text.data, 1, text.len, stderr);
    if (text.len == 0 || text.data[text.len - 1] != '\n') {
        (void)fputc('\n', stderr);
    }
}

/* As Elixir would write it. */
static void say_term(struct span term) {
    char text[MAX_TEXT];
    say(span_of(text, term_inspect_ext(term, text, sizeof text)));
}

static void say_value(struct span term) {
    struct span rest = term;
    struct span text;
    if (ext_take_binary(&rest, &text)) {
        say(text);
    } else {
        say_term(term);
    }
}

/* {lua_error, Value, Traceback} */
static bool say_lua_error(struct span reason) {
    uint32_t arity;
    struct span kind;
    struct span value;
    struct span trace;
    if (!ext_take_tuple(&reason, &arity) || arity != 3 || !ext_take(&reason, &kind) ||
        !ext_is_atom(kind, "lua_error") || !ext_take(&reason, &value) ||
        !ext_take_binary(&reason, &trace)) {
        return false;
    }
    say_value(value);
    if (trace.len > 0) {
        say(trace);
    }
    return true;
}

/* {Kind, Text} */
static bool say_kind(struct span reason) {
    uint32_t arity;
    struct span kind;
    struct span text;
    bool latin1;
    if (!ext_take_tuple(&reason, &arity) || arity != 2 || !ext_take_atom(&reason, &kind, &latin1) ||
        !ext_take_binary(&reason, &text)) {
        return false;
    }
    (void)fprintf(stderr, "%.*s: ", (int)kind.len, (const char *)kind.data);
    say(text);
    return true;
}

void attach_show_reason(struct span reason) {
    struct span rest = reason;
    struct span name;
    bool latin1;
    (void)fflush(stdout);
    if (ext_take_atom(&rest, &name, &latin1)) {
        say(name);
    } else if (!say_lua_error(reason) && !say_kind(reason)) {
        say_value(reason);
    }
}

void attach_show_failure(const struct attach *attach, struct span reason) {
    (void)fflush(stdout);
    if (ext_is_atom(reason, "noproc")) {
        (void)fprintf(stderr, "%s has no process lunode: it is another kind of node\n",
                      attach->config->node);
        return;
    }
    (void)fprintf(stderr, "%s does not answer that: ", attach->config->node);
    say_term(reason);
}
