/* How a worker ends: everybody who waits is told why, and what it ran runs elsewhere. */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "jail/private.h"

void jail_worker_free(struct jail_worker *worker) {
    jail_ledger_clear(&worker->ledger);
    term_atoms_destroy(worker->given.atoms);
    jail_ids_destroy(worker->given.ids);
    buf_finish(&worker->line);
    free(worker);
}

static void on_closed(uv_handle_t *handle) {
    struct jail_worker *worker = handle->data;
    if (--worker->parts > 0) {
        return;
    }
    jail_worker_free(worker);
}

/* Why it has ended, in words. */
static void tell_why(const struct jail_worker *worker, char *text, size_t size) {
    if (worker->culprit[0] != '\0') {
        (void)snprintf(text, size,
                       "the handler %s ran %lu ms without a place to interrupt it (limit %lu ms): "
                       "%s",
                       worker->culprit, worker->culprit_used, worker->culprit_max, worker->where);
    } else if (worker->why[0] != '\0') {
        (void)snprintf(text, size, "%s", worker->why);
    } else if (worker->exit_signal != 0) {
        (void)snprintf(text, size, "it was killed by signal %d", worker->exit_signal);
    } else {
        (void)snprintf(text, size, "it ended with status %lld", (long long)worker->exit_status);
    }
}

/* {limit, deadline, Max, Used}, empty without a culprit; {worker_exit, Why} for others. */
static void make_reasons(const struct jail_worker *worker, const char *why, struct buf *reason,
                         struct buf *other) {
    bool ok = ext_put_tuple(other, 2) && ext_put_atom(other, span_str("worker_exit")) &&
              ext_put_binary(other, span_str(why));
    if (worker->culprit[0] != '\0') {
        ok = ok && ext_put_tuple(reason, 4) && ext_put_atom(reason, span_str("limit")) &&
             ext_put_atom(reason, span_str("deadline")) &&
             ext_put_uint(reason, worker->culprit_max) &&
             ext_put_uint(reason, worker->culprit_used);
    }
    if (!ok) {
        reason->len = other->len = 0;
        ext_put_atom(other, span_str("killed"));
    }
}

/* {lunode, Node, limit, Handler, #{kind, max, used}} */
static void tell_limit(const struct jail_worker *worker) {
    struct buf event = {0};
    struct engine *engine = worker->jail->engine;
    if (ext_put_tuple(&event, 5) && ext_put_atom(&event, span_str("lunode")) &&
        ext_put_atom(&event, eng_node_name(engine)) && ext_put_atom(&event, span_str("limit")) &&
        ext_put_atom(&event, span_str(worker->culprit)) && ext_put_map(&event, 3) &&
        ext_put_atom(&event, span_str("kind")) && ext_put_atom(&event, span_str("deadline")) &&
        ext_put_atom(&event, span_str("max")) && ext_put_uint(&event, worker->culprit_max) &&
        ext_put_atom(&event, span_str("used")) && ext_put_uint(&event, worker->culprit_used)) {
        eng_pass_event(engine, buf_span(&event));
    }
    buf_finish(&event);
}

/* The handler that has ended it too often is not loaded again. */
static bool stays_down(struct jail_worker *worker, struct jail_tenant *tenant, struct span reason) {
    if (strcmp(tenant->name, worker->culprit) != 0) {
        return false;
    }
    tell_limit(worker);
    if (!jail_tenant_failed(worker->jail, tenant)) {
        return false;
    }
    log_line(worker->jail->log, LOG_LEVEL_ERROR, tenant->name,
             "has ended its worker more than %d times in %d s: it stays down", JAIL_MAX_FAILURES,
             JAIL_FAILURE_SPAN_MS / 1000);
    tenant->failure.len = 0;
    buf_append(&tenant->failure, reason.data, reason.len);
    return true;
}

/* Whether workers have died too often of late: then the next one starts at the next look. */
static bool too_often(struct jail *jail) {
    uint64_t now = uv_now(jail->loop);
    uint64_t oldest = jail->started[0];
    memmove(jail->started, jail->started + 1, sizeof jail->started - sizeof *jail->started);
    jail->started[JAIL_MAX_FAILURES - 1] = now;
    return oldest != 0 && now - oldest < JAIL_FAILURE_SPAN_MS;
}

static void leave_tenants(struct jail_worker *worker, struct span reason) {
    struct jail *jail = worker->jail;
    while (worker->tenants != NULL) {
        struct jail_tenant *tenant = worker->tenants;
        DL_DELETE(worker->tenants, tenant);
        tenant->worker = NULL;
        if (!tenant->live && tenant->asked == 0) {
            jail_tenant_drop(jail, tenant);
        } else {
            stays_down(worker, tenant, reason);
        }
    }
    worker->tenant_count = 0;
}

static void tell_end(const struct jail_worker *worker, const char *why) {
    size_t count = worker->tenant_count;
    if (count > 0) {
        log_line(worker->jail->log, LOG_LEVEL_ERROR, "lunode",
                 "the worker of %zu handler%s (%s%s) has ended: %s", count, count == 1 ? "" : "s",
                 worker->tenants->name, count == 1 ? "" : ", ...", why);
    }
}

/* Everybody is told, and what it ran runs elsewhere. */
static void hand_over(struct jail_worker *worker) {
    struct jail *jail = worker->jail;
    struct buf reason = {0};
    struct buf other = {0};
    char why[512];
    jail_output_finish(worker);
    tell_why(worker, why, sizeof why);
    make_reasons(worker, why, &reason, &other);
    tell_end(worker, why);
    jail_settle(worker, span_str(worker->culprit), buf_span(&reason), buf_span(&other));
    leave_tenants(worker, buf_span(&reason));
    if (worker->culprit[0] != '\0' || !too_often(jail)) {
        jail_tenants_place(jail);
    }
    buf_finish(&reason);
    buf_finish(&other);
}

/* The node ends. */
static void drop_requests(struct jail_worker *worker) {
    struct jail_debt *debt;
    struct jail_debt *next;
    HASH_ITER(hh, worker->ledger.debts, debt, next) {
        if (debt->request != NULL) {
            jail_request_drop(debt->request);
        }
    }
}

static void end(struct jail_worker *worker) {
    struct jail *jail = worker->jail;
    DL_DELETE(jail->workers, worker);
    if (jail->stopping) {
        drop_requests(worker);
    } else {
        hand_over(worker);
    }
    dist_peer_close(worker->channel);
    uv_close((uv_handle_t *)&worker->output, on_closed);
    uv_close((uv_handle_t *)&worker->process, on_closed);
    close(worker->output_fd);
    jail_free_if_over(jail);
}

static void end_if_over(struct jail_worker *worker) {
    if (worker->down && worker->exited) {
        end(worker);
    } else if (worker->down) {
        uv_process_kill(&worker->process, SIGKILL);
    }
}

void jail_worker_exited(uv_process_t *process, int64_t status, int number) {
    struct jail_worker *worker = process->data;
    worker->exited = true;
    worker->exit_status = status;
    worker->exit_signal = number;
    dist_peer_hold(worker->channel, false);
    end_if_over(worker);
}

/* Of what it has sent wrongly the channel says what it is: "it ...". */
void jail_worker_down(void *user, struct dist_peer *peer, const char *why) {
    struct jail_worker *worker = user;
    (void)peer;
    worker->down = true;
    if (strncmp(why, "it ", 3) == 0) {
        jail_worker_condemn(worker, "%s", why);
    }
    end_if_over(worker);
}

void jail_worker_condemn(struct jail_worker *worker, const char *format, ...) {
    va_list args;
    if (worker->condemned) {
        return;
    }
    va_start(args, format);
    (void)vsnprintf(worker->why, sizeof worker->why, format, args);
    va_end(args);
    worker->culprit[0] = '\0'; /* it has said so, and gone on */
    jail_worker_stop(worker);
}

void jail_worker_stop(struct jail_worker *worker) {
    worker->condemned = true;
    dist_peer_hold(worker->channel, false);
    uv_process_kill(&worker->process, SIGKILL);
}
