/* :handlers and :stats of all processes of the node together. A worker that does not answer in time
 * is left out. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <utlist.h>

#include "base/file.h"
#include "jail/private.h"

enum { WAIT_MS = 200 };

struct jail_report {
    struct jail *jail;
    uv_timer_t timer;
    struct eng_caller caller;
    uint64_t number;
    bool stats;
    unsigned waiting; /* workers that have not answered */
    bool answered;
    struct buf own;      /* this process's part */
    struct buf handlers; /* the elements of the list, or the pairs of the map `handlers` */
    uint32_t count;      /* of them */
    uint64_t memory;     /* the sums of stats */
    uint64_t processes;
    struct jail_report *prev, *next;
    uint8_t bytes[];
};

/* {==== Putting it together =============================================================== */

/* The value of a key of a map; empty without one. */
static struct span value_of(struct span map, const char *name) {
    struct span key;
    struct span value;
    uint32_t pairs;
    if (!ext_take_map(&map, &pairs)) {
        return (struct span){0};
    }
    while (pairs-- > 0 && ext_take(&map, &key) && ext_take(&map, &value)) {
        if (ext_is_atom(key, name)) {
            return value;
        }
    }
    return (struct span){0};
}

/* Whether a worker may speak of a handler: one of its own, once. */
static bool is_due(const struct jail_report *report, const struct jail_worker *worker,
                   struct span atom) {
    struct span name;
    bool latin1;
    struct jail_tenant *tenant =
        ext_take_atom(&atom, &name, &latin1) ? jail_tenant_find(report->jail, name) : NULL;
    if (tenant == NULL || tenant->worker != worker || tenant->reported == report->number) {
        return false;
    }
    tenant->reported = report->number;
    return true;
}

/* Adds the handlers of a part: a list, or the pairs of a map. */
static void add_handlers(struct jail_report *report, const struct jail_worker *worker,
                         struct span rest) {
    struct span term;
    struct span value;
    uint32_t count;
    if (report->stats ? !ext_take_map(&rest, &count) : !ext_take_list(&rest, &count)) {
        return;
    }
    while (count-- > 0) {
        struct span start = rest;
        if (!ext_take(&rest, &term) || (report->stats && !ext_take(&rest, &value))) {
            return;
        }
        struct span name = report->stats ? term : value_of(term, "name");
        if ((worker == NULL || is_due(report, worker, name)) &&
            buf_append(&report->handlers, start.data, start.len - rest.len)) {
            report->count++;
        }
    }
}

static void add_stats(struct jail_report *report, const struct jail_worker *worker,
                      struct span part) {
    uint32_t pairs;
    uint64_t number;
    struct span key;
    struct span value;
    if (!ext_take_map(&part, &pairs)) {
        return;
    }
    while (pairs-- > 0 && ext_take(&part, &key) && ext_take(&part, &value)) {
        struct span rest = value;
        if (ext_is_atom(key, "handlers")) {
            add_handlers(report, worker, value);
        } else if (ext_is_atom(key, "memory") && ext_take_uint(&rest, &number)) {
            report->memory += number;
        } else if (ext_is_atom(key, "processes") && ext_take_uint(&rest, &number)) {
            report->processes += number;
        }
    }
}

static void add(struct jail_report *report, const struct jail_worker *worker, struct span part) {
    if (report->stats) {
        add_stats(report, worker, part);
    } else {
        add_handlers(report, worker, part);
    }
}

static bool put_handlers(const struct jail_report *report, struct buf *out) {
    const struct buf *handlers = &report->handlers;
    if (report->stats) {
        return ext_put_map(out, report->count) && buf_append(out, handlers->data, handlers->len);
    }
    return (report->count == 0 || ext_put_list(out, report->count)) &&
           buf_append(out, handlers->data, handlers->len) && ext_put_nil(out);
}

/* The map of this process, with what is of all in place of its own. */
static bool put_stats(const struct jail_report *report, struct buf *out) {
    struct span rest = buf_span(&report->own);
    struct span key;
    struct span value;
    uint32_t pairs;
    bool ok = ext_take_map(&rest, &pairs) && ext_put_map(out, pairs);
    while (ok && pairs-- > 0 && ext_take(&rest, &key) && ext_take(&rest, &value)) {
        ok = buf_append(out, key.data, key.len);
        if (ext_is_atom(key, "handlers")) {
            ok = ok && put_handlers(report, out);
        } else if (ext_is_atom(key, "memory")) {
            ok = ok && ext_put_uint(out, report->memory);
        } else if (ext_is_atom(key, "processes")) {
            ok = ok && ext_put_uint(out, report->processes);
        } else {
            ok = ok && buf_append(out, value.data, value.len);
        }
    }
    return ok;
}

/* }==== */

/* {==== Waiting =========================================================================== */

static void on_closed(uv_handle_t *handle) {
    struct jail_report *report = handle->data;
    buf_finish(&report->own);
    buf_finish(&report->handlers);
    free(report);
}

/* It is freed when the last worker has answered, or died. */
static void close_if_done(struct jail_report *report) {
    if (report->waiting == 0 && report->answered) {
        DL_DELETE(report->jail->reports, report);
        uv_close((uv_handle_t *)&report->timer, on_closed);
    }
}

static void answer(struct jail_report *report) {
    struct buf value = {0};
    bool ok = report->stats ? put_stats(report, &value) : put_handlers(report, &value);
    report->answered = true;
    if (ok) {
        eng_answer(report->jail->engine, &report->caller, buf_span(&value));
    }
    buf_finish(&value);
}

static void on_time(uv_timer_t *timer) {
    struct jail_report *report = timer->data;
    answer(report);
    close_if_done(report);
}

void jail_report_add(struct jail_report *report, const struct jail_worker *worker,
                     struct span part) {
    report->waiting--;
    if (!report->answered) {
        add(report, worker, part);
        if (report->waiting == 0) {
            uv_timer_stop(&report->timer);
            answer(report);
        }
    }
    close_if_done(report);
}

static struct jail_report *create(struct jail *jail, bool stats, struct span own,
                                  const struct eng_caller *caller) {
    struct jail_report *report = calloc(1, sizeof *report + caller->pid.len + caller->tag.len);
    if (report == NULL) {
        return NULL;
    }
    uint8_t *at = report->bytes;
    report->jail = jail;
    report->number = ++jail->last_report;
    report->stats = stats;
    report->caller = *caller;
    report->caller.pid = span_keep(&at, caller->pid);
    report->caller.tag = span_keep(&at, caller->tag);
    if (!buf_append(&report->own, own.data, own.len)) {
        free(report);
        return NULL;
    }
    uv_timer_init(jail->loop, &report->timer);
    report->timer.data = report;
    DL_APPEND(jail->reports, report);
    return report;
}

/* Resident bytes of a worker, which may not look itself; 0 when the system does not tell. */
static uint64_t resident_bytes(const struct jail_worker *worker) {
    char path[64];
    char *resident;
    struct buf sizes = {0}; /* in pages: all of it, what is resident, ... */
    struct err err;
    uint64_t pages = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/statm", (int)worker->process.pid);
    if (file_read(path, &sizes, &err) && buf_append(&sizes, "", 1)) {
        (void)strtoull((const char *)sizes.data, &resident, 10);
        pages = strtoull(resident, NULL, 10);
    }
    buf_finish(&sizes);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

void jail_report(void *user, bool stats, struct span own, const struct eng_caller *caller) {
    struct jail *jail = user;
    struct jail_report *report = jail->workers == NULL ? NULL : create(jail, stats, own, caller);
    if (report == NULL) {
        eng_answer(jail->engine, caller, own);
        return;
    }
    add(report, NULL, own);
    report->waiting = 1; /* until all are asked */
    for (struct jail_worker *worker = jail->workers; worker != NULL; worker = worker->next) {
        report->waiting += !worker->down && jail_request_report(worker, report, stats);
        report->memory += resident_bytes(worker);
    }
    uv_timer_start(&report->timer, on_time, WAIT_MS, 0);
    jail_report_add(report, NULL, (struct span){0});
}

void jail_reports_stop(struct jail *jail) {
    while (jail->reports != NULL) {
        struct jail_report *report = jail->reports;
        report->waiting = 0;
        report->answered = true;
        close_if_done(report);
    }
}

/* }==== */
