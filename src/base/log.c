/* Standard output as whole lines: see log.h. */
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/utf8.h"

enum {
    MAX_WAITING = 1 << 20, /* bytes that may wait for a slow reader */
    KEEP = 64 << 10,       /* size of the buffer that is kept when it is empty */
    CHUNK = 4096,          /* POSIX: a pipe that polls writable takes this much without blocking */
    RETRY_MS = 20,
    LINE = 2048, /* longest text that log_line formats on the stack */
};

struct log {
    int fd;
    struct buf waiting;
    unsigned long dropped;
    atomic_bool claimed; /* by the thread that writes; also between the parts of one line */
    bool in_line;        /* the descriptor has got the beginning of a line */
    uv_timer_t retry;
};

static const char *const level_names[] = {"debug", "info", "warning", "error"};

/* {==== Creating and destroying =========================================================== */

bool log_create(struct log **out, uv_loop_t *loop, int fd, struct err *err) {
    struct log *log = calloc(1, sizeof *log);
    if (log == NULL) {
        return err_set(err, "no memory for the log");
    }
    int status = uv_timer_init(loop, &log->retry);
    if (status != 0) {
        free(log);
        return err_set(err, "cannot make a timer: %s", uv_strerror(status));
    }
    uv_unref((uv_handle_t *)&log->retry);
    log->retry.data = log;
    log->fd = fd;
    buf_init(&log->waiting);
    *out = log;
    return true;
}

static void on_closed(uv_handle_t *handle) {
    struct log *log = handle->data;
    buf_finish(&log->waiting);
    free(log);
}

void log_destroy(struct log *log) {
    if (log == NULL) {
        return;
    }
    log_flush(log);
    uv_close((uv_handle_t *)&log->retry, on_closed);
}

/* }==== */

/* {==== Writing =========================================================================== */

static void on_retry(uv_timer_t *timer) {
    log_flush(timer->data);
}

static bool writable(int fd) {
    struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
    return poll(&poll_fd, 1, 0) == 1;
}

/* Writes pieces while the reader takes them; the number of bytes that left. */
static size_t write_waiting(struct log *log) {
    size_t done = 0;
    while (done < log->waiting.len && writable(log->fd)) {
        size_t piece = log->waiting.len - done;
        ssize_t n = write(log->fd, log->waiting.data + done, piece < CHUNK ? piece : CHUNK);
        if (n > 0) {
            done += (size_t)n;
        } else if (n < 0 && errno != EINTR && errno != EAGAIN) {
            return log->waiting.len; /* nobody will ever read it */
        }
    }
    return done;
}

/* The same, unless an urgent line is just being written. In the middle of a line none can be. */
static size_t claim_and_write(struct log *log) {
    if (!log->in_line && atomic_exchange(&log->claimed, true)) {
        return 0;
    }
    size_t done = write_waiting(log);
    if (done > 0) {
        log->in_line = log->waiting.data[done - 1] != '\n';
    }
    if (!log->in_line) {
        atomic_store(&log->claimed, false);
    }
    return done;
}

static void note_dropped(struct log *log) {
    unsigned long dropped = log->dropped;
    if (dropped == 0 || log->waiting.len > 0) {
        return;
    }
    log->dropped = 0;
    log_line(log, LOG_LEVEL_WARNING, "lunode",
             "%lu lines of output dropped: nobody read them in time", dropped);
}

void log_flush(struct log *log) {
    buf_consume(&log->waiting, claim_and_write(log));
    note_dropped(log);
    if (log->waiting.len > 0) {
        uv_timer_start(&log->retry, on_retry, RETRY_MS, 0);
    }
    buf_relax(&log->waiting, KEEP);
}

/* }==== */

/* {==== Lines ============================================================================= */

static bool append_text(struct buf *out, const char *text) {
    return buf_append(out, text, strlen(text));
}

/* Whether a terminal might obey it. */
static bool is_control(uint32_t character) {
    return (character < 0x20 && character != '\t') || (character >= 0x7F && character < 0xA0);
}

/* Takes one character off `text`; false for one that is shown as the escape of `code`. */
static bool take_plain(struct span *text, uint32_t *code) {
    if (!utf8_next(text, code)) {
        *code = text->data[0];
        *text = span_of(text->data + 1, text->len - 1);
        return false;
    }
    return !is_control(*code);
}

static size_t plain_len(struct span text) {
    struct span rest = text;
    struct span next = text;
    uint32_t code;
    while (next.len > 0 && take_plain(&next, &code)) {
        rest = next;
    }
    return text.len - rest.len;
}

/* Control characters and bytes that are no UTF-8 become \xNN. */
static bool append_shown(struct buf *out, struct span text) {
    char escape[8];
    uint32_t code;
    size_t len = plain_len(text);
    bool ok = buf_append(out, text.data, len);
    text = span_of(text.data + len, text.len - len);
    while (ok && text.len > 0) {
        (void)take_plain(&text, &code);
        (void)snprintf(escape, sizeof escape, "\\x%02X", (unsigned)(code & 0xFF));
        len = plain_len(text);
        ok = append_text(out, escape) && buf_append(out, text.data, len);
        text = span_of(text.data + len, text.len - len);
    }
    return ok;
}

/* One line, whole or not at all. */
static bool append_line(struct buf *out, enum log_level level, const char *source, const char *mark,
                        struct span line) {
    size_t start = out->len;
    bool ok = append_text(out, "[") && append_text(out, level_names[level]) &&
              append_text(out, "] ") && append_text(out, source) && append_text(out, mark) &&
              append_shown(out, line) && append_text(out, "\n");
    if (!ok) {
        out->len = start;
    }
    return ok;
}

static void add_line(struct log *log, enum log_level level, const char *source, const char *mark,
                     struct span line) {
    size_t start = log->waiting.len;
    bool fits = start + line.len <= MAX_WAITING || start == 0;
    if (!fits || !append_line(&log->waiting, level, source, mark, line)) {
        log->dropped++;
    }
}

static void flush_soon(struct log *log) {
    if (log->waiting.len > MAX_WAITING / 2) {
        log_flush(log);
    } else if (!uv_is_active((uv_handle_t *)&log->retry)) {
        uv_timer_start(&log->retry, on_retry, 0, 0); /* when no turn's end flushes it */
    }
}

void log_part(struct log *log, enum log_level level, const char *source, struct span line,
              bool more) {
    add_line(log, level, source, more ? "| " : ": ", line);
    flush_soon(log);
}

void log_text(struct log *log, enum log_level level, const char *source, struct span text) {
    const uint8_t *end;
    while (text.len > 0 && (end = memchr(text.data, '\n', text.len)) != NULL) {
        size_t len = (size_t)(end - text.data);
        add_line(log, level, source, "| ", span_of(text.data, len));
        text = span_of(end + 1, text.len - len - 1);
    }
    add_line(log, level, source, ": ", text);
    flush_soon(log);
}

/* Formats into `text`, which has room for LINE bytes, and cuts what is longer. */
static struct span format_text(char *text, const char *format, va_list args) {
    int len = vsnprintf(text, LINE, format, args);
    return span_of(text, len < 0 ? 0 : len < LINE ? (size_t)len : LINE - 1);
}

void log_line(struct log *log, enum log_level level, const char *source, const char *format, ...) {
    char text[LINE];
    va_list args;
    va_start(args, format);
    struct span formatted = format_text(text, format, args);
    va_end(args);
    log_text(log, level, source, formatted);
}

void log_urgent(struct log *log, enum log_level level, const char *source, const char *format,
                ...) {
    char text[LINE];
    struct buf line = {0};
    va_list args;
    va_start(args, format);
    struct span formatted = format_text(text, format, args);
    va_end(args);
    if (append_line(&line, level, source, ": ", formatted) &&
        !atomic_exchange(&log->claimed, true)) {
        if (line.len <= CHUNK && writable(log->fd)) {
            ssize_t ignored = write(log->fd, line.data, line.len);
            (void)ignored;
        }
        atomic_store(&log->claimed, false);
    }
    buf_finish(&line);
}

void log_raw(struct log *log, const char *line) {
    if (append_text(&log->waiting, line)) {
        append_text(&log->waiting, "\n");
    }
    log_flush(log);
}

/* }==== */
