/* Standard output as whole lines: see log.h. */
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

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
    uv_timer_t retry;
};

static const char *const level_names[] = {"debug", "info", "warning", "error"};

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
    buf_consume(&log->waiting, write_waiting(log));
    note_dropped(log);
    if (log->waiting.len > 0) {
        uv_timer_start(&log->retry, on_retry, RETRY_MS, 0);
    }
    buf_relax(&log->waiting, KEEP);
}

static bool append_text(struct buf *out, const char *text) {
    return buf_append(out, text, strlen(text));
}

/* One line, whole or not at all. */
static void append_line(struct log *log, enum log_level level, const char *source, const char *mark,
                        struct span line) {
    size_t start = log->waiting.len;
    bool fits = start + line.len <= MAX_WAITING || start == 0;
    if (!fits || !append_text(&log->waiting, "[") ||
        !append_text(&log->waiting, level_names[level]) || !append_text(&log->waiting, "] ") ||
        !append_text(&log->waiting, source) || !append_text(&log->waiting, mark) ||
        !buf_append(&log->waiting, line.data, line.len) || !append_text(&log->waiting, "\n")) {
        log->waiting.len = start;
        log->dropped++;
    }
}

void log_text(struct log *log, enum log_level level, const char *source, struct span text) {
    const uint8_t *end;
    while (text.len > 0 && (end = memchr(text.data, '\n', text.len)) != NULL) {
        size_t len = (size_t)(end - text.data);
        append_line(log, level, source, "| ", span_of(text.data, len));
        text = span_of(end + 1, text.len - len - 1);
    }
    append_line(log, level, source, ": ", text);
    if (log->waiting.len > MAX_WAITING / 2) {
        log_flush(log);
    } else if (!uv_is_active((uv_handle_t *)&log->retry)) {
        uv_timer_start(&log->retry, on_retry, 0, 0); /* when no turn's end flushes it */
    }
}

void log_line(struct log *log, enum log_level level, const char *source, const char *format, ...) {
    char text[LINE];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (len < 0) {
        return;
    }
    size_t kept = (size_t)len < sizeof text ? (size_t)len : sizeof text - 1;
    log_text(log, level, source, span_of(text, kept));
}

void log_raw(struct log *log, const char *line) {
    if (append_text(&log->waiting, line)) {
        append_text(&log->waiting, "\n");
    }
    log_flush(log);
}
