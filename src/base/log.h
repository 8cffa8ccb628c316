/* The node's standard output: whole lines, each with a level and a source.
 *
 * A line reads `[level] source: text`. A text of several lines becomes several such lines, all but
 * the last with `|` in place of the colon, so that a reader can put them together again and a
 * script cannot forge another's level. A control character other than a tab, and a byte that is no
 * UTF-8, are shown as \xNN. Writing never blocks and never closes the descriptor: what the reader
 * does not take waits in a bounded buffer; beyond it whole lines are dropped and counted. Only the
 * thread of the event loop may call this, but for log_urgent. */
#ifndef LUNODE_BASE_LOG_H
#define LUNODE_BASE_LOG_H

#include <stdbool.h>
#include <uv.h>

#include "base/buf.h"
#include "base/err.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR };

struct log;

/* Lines go to the descriptor `fd`, which stays the caller's. */
bool log_create(struct log **log, uv_loop_t *loop, int fd, struct err *err);

/* Writes what it still can without blocking and frees; the loop must run once more to close. NULL
 * is fine. */
void log_destroy(struct log *log);

/* Writes a line, or several when the text has several. `source` is a handler's name or "lunode". */
void log_line(struct log *log, enum log_level level, const char *source, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The same for a text that may hold any bytes and be of any length. */
void log_text(struct log *log, enum log_level level, const char *source, struct span text);

/* Writes one line of an event as another process has written it; `more` tells that others follow.
 */
void log_part(struct log *log, enum log_level level, const char *source, struct span line,
              bool more);

/* Writes one line at once, before those that wait, and from any thread: for what must be told while
 * the thread of the event loop is held up. In the middle of another line, or when the reader takes
 * nothing, the line is dropped. */
void log_urgent(struct log *log, enum log_level level, const char *source, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Writes one line as it is, without level and source: for the `ready` of Bundlex. */
void log_raw(struct log *log, const char *line);

/* Writes what is gathered, as far as the reader takes it. Called at the end of a turn. */
void log_flush(struct log *log);

#endif
