/* The handlers that run in workers: their names, what they run, and where. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "jail/private.h"

struct jail_tenant *jail_tenant_find(const struct jail *jail, struct span name) {
    struct jail_tenant *tenant;
    HASH_FIND(hh, jail->tenants, name.data, name.len, tenant);
    return tenant;
}

struct jail_tenant *jail_tenant_add(struct jail *jail, struct span name) {
    struct jail_tenant *tenant = calloc(1, sizeof *tenant);
    char *copy = strndup((const char *)name.data, name.len);
    if (tenant == NULL || copy == NULL) {
        free(tenant);
        free(copy);
        return NULL;
    }
    tenant->name = copy;
    eng_policy_init(&tenant->policy, false);
    HASH_ADD_KEYPTR(hh, jail->tenants, tenant->name, name.len, tenant);
    return tenant;
}

static void leave_worker(struct jail_tenant *tenant) {
    struct jail_worker *worker = tenant->worker;
    if (worker == NULL) {
        return;
    }
    tenant->worker = NULL;
    DL_DELETE(worker->tenants, tenant);
    if (--worker->tenant_count == 0) {
        worker->idle_since = uv_now(worker->jail->loop);
    }
}

void jail_tenant_drop(struct jail *jail, struct jail_tenant *tenant) {
    HASH_DEL(jail->tenants, tenant);
    leave_worker(tenant);
    eng_policy_finish(&tenant->policy);
    buf_finish(&tenant->source);
    buf_finish(&tenant->start);
    buf_finish(&tenant->modules);
    buf_finish(&tenant->failure);
    free(tenant->name);
    free(tenant);
}

/* The one of those that share handlers which has the fewest; NULL when another can be started. */
static struct jail_worker *shared_worker(const struct jail *jail) {
    struct jail_worker *best = NULL;
    unsigned count = 0;
    for (struct jail_worker *worker = jail->workers; worker != NULL; worker = worker->next) {
        if (worker->isolated || worker->down || worker->condemned) {
            continue;
        }
        count++;
        if (best == NULL || worker->tenant_count < best->tenant_count) {
            best = worker;
        }
    }
    return count < jail->config.workers ? NULL : best;
}

bool jail_tenant_place(struct jail *jail, struct jail_tenant *tenant, bool isolated,
                       struct err *err) {
    struct jail_worker *worker = isolated ? NULL : shared_worker(jail);
    if (worker == NULL) {
        worker = jail_worker_start(jail, isolated, err);
    }
    if (worker == NULL) {
        return false;
    }
    tenant->worker = worker;
    DL_APPEND(worker->tenants, tenant);
    worker->tenant_count++;
    jail_limit_frames(worker);
    return true;
}

bool jail_tenant_failed(struct jail *jail, struct jail_tenant *tenant) {
    uint64_t now = uv_now(jail->loop);
    uint64_t oldest = tenant->failures[0];
    memmove(tenant->failures, tenant->failures + 1,
            sizeof tenant->failures - sizeof *tenant->failures);
    tenant->failures[JAIL_MAX_FAILURES - 1] = now;
    return oldest != 0 && now - oldest < JAIL_FAILURE_SPAN_MS;
}

void jail_tenants_place(struct jail *jail) {
    struct jail_tenant *tenant;
    struct jail_tenant *next;
    struct err err;
    HASH_ITER(hh, jail->tenants, tenant, next) {
        if (tenant->worker != NULL || !tenant->live || tenant->failure.len > 0) {
            continue;
        }
        if (!jail_tenant_place(jail, tenant, tenant->policy.isolated, &err)) {
            log_line(jail->log, LOG_LEVEL_ERROR, tenant->name, "%s", err.text);
            return;
        }
        jail_restore(tenant->worker, tenant);
    }
}
