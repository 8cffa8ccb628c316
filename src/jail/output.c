/* What a worker says on its standard error: lines for the log, and last words. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "jail/private.h"

enum {
    OUTPUT_BUDGET = 256 << 10, /* bytes that are read between two looks */
    MAX_LINE = 64 << 10,       /* a longer line leaves in parts */
};

static const struct {
    const char *text;
    enum log_level level;
} levels[] = {{"[debug] ", LOG_LEVEL_DEBUG},
              {"[info] ", LOG_LEVEL_INFO},
              {"[warning] ", LOG_LEVEL_WARNING},
              {"[error] ", LOG_LEVEL_ERROR}};

static bool take_prefix(struct span *line, const char *text) {
    size_t len = strlen(text);
    if (line->len < len || memcmp(line->data, text, len) != 0) {
        return false;
    }
    *line = span_of(line->data + len, line->len - len);
    return true;
}

/* "name: " or "name| " of one of its own handlers. */
static struct jail_tenant *take_source(const struct jail_worker *worker, struct span *line,
                                       bool *more) {
    size_t len = 0;
    while (len < line->len && line->data[len] != ':' && line->data[len] != '|') {
        len++;
    }
    struct jail_tenant *tenant = jail_tenant_find(worker->jail, span_of(line->data, len));
    if (tenant == NULL || tenant->worker != worker || line->len < len + 2) {
        return NULL;
    }
    *more = line->data[len] == '|';
    *line = span_of(line->data + len + 2, line->len - len - 2);
    return tenant;
}

/* The next word of a line. */
static bool take_word(struct span *line, char *word, size_t size) {
    size_t len = 0;
    while (len < line->len && line->data[len] != ' ') {
        len++;
    }
    if (len == 0 || len >= size) {
        return false;
    }
    memcpy(word, line->data, len);
    word[len] = '\0';
    size_t cut = len < line->len ? len + 1 : len;
    *line = span_of(line->data + cut, line->len - cut);
    return true;
}

/* "!deadline NAME USED WHERE" */
static bool take_last_words(struct jail_worker *worker, struct span line) {
    char used[24];
    if (!take_prefix(&line, "!deadline ")) {
        return false;
    }
    if (worker->condemned) {
        return true;
    }
    const struct jail_tenant *tenant = NULL;
    if (take_word(&line, worker->culprit, sizeof worker->culprit) &&
        take_word(&line, used, sizeof used) &&
        take_word(&line, worker->where, sizeof worker->where)) {
        tenant = jail_tenant_find(worker->jail, span_str(worker->culprit));
    }
    if (tenant == NULL || tenant->worker != worker) {
        worker->culprit[0] = '\0';
    } else {
        worker->culprit_used = strtoul(used, NULL, 10);
        worker->culprit_max = tenant->policy.deadline_ms;
    }
    return true;
}

/* It is told under the name of the handler that it is from, and of no other. */
static void on_line(struct jail_worker *worker, struct span line) {
    enum log_level level = LOG_LEVEL_WARNING;
    bool more = false;
    if (line.len == 0 || take_last_words(worker, line)) {
        return;
    }
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        if (take_prefix(&line, levels[i].text)) {
            level = levels[i].level;
            break;
        }
    }
    const struct jail_tenant *tenant = take_source(worker, &line, &more);
    log_part(worker->jail->log, level, tenant == NULL ? "worker" : tenant->name, line, more);
}

static void take_lines(struct jail_worker *worker) {
    struct span rest = buf_span(&worker->line);
    const uint8_t *end;
    while (rest.len > 0 && (end = memchr(rest.data, '\n', rest.len)) != NULL) {
        size_t len = (size_t)(end - rest.data);
        on_line(worker, span_of(rest.data, len));
        rest = span_of(end + 1, rest.len - len - 1);
    }
    if (rest.len > MAX_LINE) {
        on_line(worker, rest);
        rest.len = 0;
    }
    buf_consume(&worker->line, worker->line.len - rest.len);
    buf_relax(&worker->line, MAX_LINE);
}

/* False at the end, or when there is nothing more now. */
static bool read_once(struct jail_worker *worker) {
    enum { PIECE = 16 << 10 };
    if (!buf_reserve(&worker->line, PIECE)) {
        return false;
    }
    ssize_t n = read(worker->output_fd, worker->line.data + worker->line.len, PIECE);
    if (n <= 0) {
        return n < 0 && errno == EINTR;
    }
    worker->line.len += (size_t)n;
    worker->output_budget -= (size_t)n < worker->output_budget ? (size_t)n : worker->output_budget;
    take_lines(worker);
    return true;
}

/* What is beyond its budget waits in the pipe, and the worker drops what has no room there. */
static void on_output(uv_poll_t *poll, int status, int events) {
    struct jail_worker *worker = poll->data;
    (void)events;
    if (worker->jail->stopping || status < 0 || !read_once(worker) || worker->output_budget == 0) {
        uv_poll_stop(poll);
    }
}

void jail_output_open(struct jail_worker *worker, int fd) {
    uv_poll_init(worker->jail->loop, &worker->output, fd);
    worker->output.data = worker;
    worker->output_fd = fd;
    jail_output_go_on(worker);
}

void jail_output_go_on(struct jail_worker *worker) {
    if (worker->output_budget < OUTPUT_BUDGET && !worker->exited) {
        worker->output_budget = OUTPUT_BUDGET;
        uv_poll_start(&worker->output, UV_READABLE, on_output);
    }
}

void jail_output_finish(struct jail_worker *worker) {
    while (read_once(worker)) {
    }
}
