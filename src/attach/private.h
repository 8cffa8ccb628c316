/* What the files of the prompt share, grouped by the file that defines it. */
#ifndef LUNODE_ATTACH_PRIVATE_H
#define LUNODE_ATTACH_PRIVATE_H

#include <stdbool.h>
#include <uv.h>

#include "attach/attach.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "dist/node.h"

struct attach_editor;

enum { ATTACH_REF_MAX = 300 }; /* bytes of a reference of ours, as a term */

/* What became of a question to the node. */
enum attach_outcome {
    ATTACH_ASKING,
    ATTACH_ANSWERED, /* `answer` is the reply */
    ATTACH_FAILED,   /* `answer` is the reason, as of a call that exits */
};

struct attach {
    const struct attach_config *config;
    uv_loop_t loop;
    struct log *log;
    bool over; /* the prompt ends: the node is lost, or this process is told to end */
    int status;

    /* link.c */
    struct dist_node *node;
    struct dist_peer *peer; /* NULL before it is connected, and when it is lost */
    struct err why;         /* it can't be reached, or is lost */
    struct buf pid;         /* of the prompt, as a term */
    uint32_t asked;         /* numbers the questions */
    struct buf ref;         /* of the question under way */
    enum attach_outcome outcome;
    struct buf answer;

    /* signals.c */
    uv_signal_t signals[6];
    bool evaluating;
    bool interrupted;         /* by Ctrl-C: what is being typed, or the evaluation */
    uint64_t interrupt_asked; /* loop time in ms at which the evaluation was asked to end, or 0 */

    /* input.c, editor.c */
    uv_poll_t input;
    bool polled; /* false: a file, which never makes one wait */
    bool readable;
    struct buf typed;             /* what was read of standard input and not used yet */
    struct attach_editor *editor; /* NULL when nobody sits at a terminal */

    /* prompt.c */
    char handler[256]; /* whose environment; empty: a fresh one */
    struct buf source; /* of an unfinished chunk */
};

/* {==== link.c ============================================================================ */

/* Joins and connects. False when it can't, with `why`, or when it was interrupted. */
bool attach_link_open(struct attach *attach);
void attach_link_close(struct attach *attach);

/* Asks the process `lunode` and waits; the loop goes on meanwhile. ATTACH_ASKING: the prompt is
 * over, or it was interrupted. `request` is a term. */
enum attach_outcome attach_ask(struct attach *attach, struct span request);

/* Asks the node to end the evaluation, without waiting. */
void attach_link_interrupt(struct attach *attach);

/* }==== */

/* {==== signals.c ========================================================================= */

bool attach_signals_watch(struct attach *attach, struct err *err);
void attach_signals_close(struct attach *attach);

/* }==== */

/* {==== input.c =========================================================================== */

enum attach_read {
    ATTACH_LINE,
    ATTACH_END,         /* of the input, or of the prompt */
    ATTACH_INTERRUPTED, /* by Ctrl-C */
};

void attach_input_open(struct attach *attach);
void attach_input_close(struct attach *attach);

/* Waits for standard input and appends what is there to `typed`; the loop goes on meanwhile. False
 * at the end, and when it was interrupted. */
bool attach_input_more(struct attach *attach);

/* Puts bytes before those that were typed and not used yet. */
void attach_input_insert(struct attach *attach, struct span bytes);

/* One line, without its end, from whoever sits at the terminal or from a pipe. */
enum attach_read attach_read_line(struct attach *attach, const char *prompt, struct buf *line);

/* A line that the node sends while the prompt may be shown. */
void attach_print(struct attach *attach, struct span line);

/* }==== */

/* {==== editor.c ========================================================================== */

/* NULL when there is no memory, or no terminal that it knows. */
struct attach_editor *attach_editor_create(struct attach *attach);
void attach_editor_destroy(struct attach_editor *editor);

enum attach_read attach_editor_read(struct attach_editor *editor, const char *prompt,
                                    struct buf *line);

/* Keeps a chunk or command for the arrow keys, and in the file of the history. */
void attach_editor_remember(struct attach_editor *editor, struct span text);

/* Takes the prompt and what is typed off the screen, and puts them there again. */
void attach_editor_hide(struct attach_editor *editor);
void attach_editor_show(struct attach_editor *editor);

/* The terminal has another size. */
void attach_editor_resize(struct attach_editor *editor);

/* Leaves the terminal to the shell, and takes it again. */
void attach_editor_suspend(struct attach_editor *editor);
void attach_editor_resume(struct attach_editor *editor);

/* }==== */

/* {==== history.c ========================================================================= */

/* The path of the file, in `path`; its folder is made. False when there is none. */
bool attach_history_path(char *path, size_t size);

/* }==== */

/* {==== complete.c ======================================================================== */

/* What the last word of `text` (what stands before the cursor) may become. */
struct attach_names {
    struct buf bytes; /* each with its end of string */
    const char **names;
    size_t count;
    size_t word; /* bytes of the word that they complete */
};

bool attach_complete(struct attach *attach, struct span text, struct attach_names *names);
void attach_names_finish(struct attach_names *names);

/* How many bytes all of them begin with. */
size_t attach_names_common(const struct attach_names *names);

/* }==== */

/* {==== prompt.c ========================================================================== */

/* Reads, evaluates and prints until the input ends. */
void attach_prompt(struct attach *attach);

/* Asks, and says what is wrong when there is no answer. */
bool attach_asks(struct attach *attach, struct span request);

/* What follows `ok` in the answer {ok, Value}; otherwise says what is wrong. `handler` is whom it
 * was about. */
bool attach_take_ok(struct attach *attach, const char *handler, struct span *value);

/* }==== */

/* {==== commands.c ======================================================================== */

/* Whether a line is a command: `:name ...`. */
bool attach_is_command(struct span line);

/* Runs it. False when it failed. */
bool attach_command(struct attach *attach, struct span line);

/* The name of the i-th command, from 0 on; NULL when there are no more. */
const char *attach_command_name(size_t i);

/* Asks for the names of the handlers: atoms, one behind the other. */
bool attach_handler_names(struct attach *attach, struct buf *names);

/* }==== */

/* {==== show.c ============================================================================ */

/* Says on standard error why something failed: a reason that the node gave. */
void attach_show_reason(struct span reason);

/* What a call to the process `lunode` exited with. */
void attach_show_failure(const struct attach *attach, struct span reason);

/* }==== */

/* {==== table.c =========================================================================== */

/* A table as text: columns as wide as what stands in them. */
struct attach_table {
    struct buf cells; /* each with its end of string; the first row are the titles */
    size_t count;
    size_t columns;
};

void attach_table_put(struct attach_table *table, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Prints it, with the columns whose bit is set in `right` to the right, and frees it. */
void attach_table_print(struct attach_table *table, unsigned right);

/* }==== */

#endif
