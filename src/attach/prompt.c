/* The prompt: lines are gathered until they are a whole chunk, which the node evaluates. */
#include <ctype.h>
#include <signal.h>
#include <stdio.h>

#include "attach/private.h"
#include "base/ext.h"

/* {==== Answers =========================================================================== */

bool attach_asks(struct attach *attach, struct span request) {
    enum attach_outcome outcome = attach_ask(attach, request);
    if (outcome == ATTACH_FAILED) {
        attach_show_failure(attach, buf_span(&attach->answer));
    }
    return outcome == ATTACH_ANSWERED;
}

bool attach_take_ok(struct attach *attach, const char *handler, struct span *value) {
    struct span answer = buf_span(&attach->answer);
    struct span head;
    uint32_t arity;
    if (!ext_take_tuple(&answer, &arity) || arity != 2 || !ext_take(&answer, &head)) {
        (void)fprintf(stderr, "%s gave an answer that makes no sense\n", attach->config->node);
        return false;
    }
    *value = answer;
    if (ext_is_atom(head, "ok")) {
        return true;
    }
    if (ext_is_atom(answer, "noproc")) {
        (void)fprintf(stderr, "there is no handler %s\n", handler);
    } else {
        attach_show_reason(answer);
    }
    return false;
}

/* }==== */

/* {==== Evaluating ======================================================================== */

/* {eval, Handler, Source, #{prompt => Pid}} */
static bool put_eval(const struct attach *attach, struct buf *out) {
    const char *handler = attach->handler[0] == '\0' ? "nil" : attach->handler;
    return ext_put_tuple(out, 4) && ext_put_atom(out, span_str("eval")) &&
           ext_put_atom(out, span_str(handler)) && ext_put_binary(out, buf_span(&attach->source)) &&
           ext_put_map(out, 1) && ext_put_atom(out, span_str("prompt")) &&
           buf_append(out, attach->pid.data, attach->pid.len);
}

static void print_values(struct span values) {
    struct span text;
    uint32_t count = 0;
    ext_take_list(&values, &count);
    for (uint32_t i = 0; i < count && ext_take_binary(&values, &text); i++) {
        (void)fwrite(text.data, 1, text.len, stdout);
        (void)putchar('\n');
    }
    (void)fflush(stdout);
}

/* {error, incomplete}: more lines are needed. */
static bool is_incomplete(const struct attach *attach) {
    struct span answer = buf_span(&attach->answer);
    struct span head;
    uint32_t arity;
    return ext_take_tuple(&answer, &arity) && arity == 2 && ext_take(&answer, &head) &&
           ext_is_atom(head, "error") && ext_is_atom(answer, "incomplete");
}

/* The source is gone afterwards, unless it is incomplete. */
static void evaluate(struct attach *attach) {
    struct buf request = {0};
    struct span values;
    attach->interrupt_asked = 0;
    attach->evaluating = true;
    bool answered = put_eval(attach, &request) && attach_asks(attach, buf_span(&request));
    attach->evaluating = false;
    buf_finish(&request);
    if (answered && is_incomplete(attach)) {
        return;
    }
    if (attach->interrupted && attach->editor != NULL) {
        attach->typed.len = 0; /* what was pasted behind it */
        (void)putchar('\n');   /* behind the ^C of the terminal */
    }
    bool ok = answered && attach_take_ok(attach, attach->handler, &values);
    if (ok) {
        print_values(values);
    }
    if (!attach->over) {
        attach->status = ok ? 0 : 1;
    }
    attach_editor_remember(attach->editor, buf_span(&attach->source));
    attach->source.len = 0;
}

/* }==== */

/* {==== Reading =========================================================================== */

static bool is_blank(struct span text) {
    for (size_t i = 0; i < text.len; i++) {
        if (!isspace(text.data[i])) {
            return false;
        }
    }
    return true;
}

/* The handler whose environment it is; two signs in the lines that go on. */
static void make_prompt(const struct attach *attach, char *prompt, size_t size) {
    (void)snprintf(prompt, size, "%s%s ", attach->handler[0] == '\0' ? "lunode" : attach->handler,
                   attach->source.len == 0 ? ">" : ">>");
}

static void on_line(struct attach *attach, struct span line) {
    struct buf *source = &attach->source;
    if (source->len == 0 && is_blank(line)) {
        return;
    }
    if (source->len == 0 && attach_is_command(line)) {
        attach_editor_remember(attach->editor, line);
        bool ok = attach_command(attach, line);
        attach->status = ok || attach->over ? attach->status : 1;
        return;
    }
    bool ok = source->len == 0 || buf_append(source, "\n", 1);
    if (ok && buf_append(source, line.data, line.len)) {
        evaluate(attach);
    }
}

/* Input that ends in the middle of a chunk. */
static void on_end(struct attach *attach) {
    if (attach->source.len > 0 && !attach->over) {
        (void)fprintf(stderr, "the last chunk is not finished\n");
        attach->status = 1;
    }
}

void attach_prompt(struct attach *attach) {
    char prompt[sizeof attach->handler + 8];
    struct buf line = {0};
    enum attach_read read = ATTACH_LINE;
    while (read != ATTACH_END && !attach->over) {
        make_prompt(attach, prompt, sizeof prompt);
        read = attach_read_line(attach, prompt, &line);
        if (read == ATTACH_LINE) {
            on_line(attach, buf_span(&line));
        } else if (read == ATTACH_INTERRUPTED && attach->editor != NULL) {
            attach->source.len = 0;
        } else if (read == ATTACH_INTERRUPTED) {
            attach->over = true;
            attach->status = 128 + SIGINT;
        } else {
            on_end(attach);
        }
    }
    buf_finish(&line);
    buf_finish(&attach->source);
}

/* }==== */
