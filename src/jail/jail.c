/* The jail as a whole: see jail.h. */
#include "jail/jail.h"

#include <stdlib.h>
#include <utlist.h>

#include "jail/confine.h"
#include "jail/private.h"

enum { LOOK_MS = 500 };

static bool has(void *user, struct span name) {
    return jail_tenant_find(user, name) != NULL;
}

static void on_look(uv_timer_t *timer) {
    struct jail *jail = timer->data;
    jail_workers_look(jail);
    if (jail->workers == NULL &&
        jail->tenants == NULL) { /* one that none could be started for waits */
        uv_timer_stop(timer);
    }
}

void jail_look_later(struct jail *jail) {
    if (!uv_is_active((uv_handle_t *)&jail->ticker)) {
        uv_timer_start(&jail->ticker, on_look, LOOK_MS, LOOK_MS);
        uv_unref((uv_handle_t *)&jail->ticker);
    }
}

/* Without all that a jail takes untrusted scripts run only if the operator says so. */
static void look_at_system(struct jail *jail) {
    struct jail_means means;
    struct err err;
    if (jail_probe(&means, &err)) {
        return;
    }
    if (jail->config.unjailed) {
        log_line(jail->log, LOG_LEVEL_WARNING, "lunode",
                 "scripts that are not trusted run without a full jail: %s", err.text);
        return;
    }
    err_set(&jail->refusal,
            "%s; untrusted = \"unjailed\" in the configuration lets them run all the same",
            err.text);
    log_line(jail->log, LOG_LEVEL_WARNING, "lunode", "scripts that are not trusted are refused: %s",
             jail->refusal.text);
}

bool jail_create(struct jail **out, uv_loop_t *loop, struct log *log, struct engine *engine,
                 struct dist_node *node, const struct jail_config *config, struct err *err) {
    struct jail *jail = calloc(1, sizeof *jail);
    if (jail == NULL) {
        return err_set(err, "no memory for the workers");
    }
    jail->loop = loop;
    jail->log = log;
    jail->engine = engine;
    jail->node = node;
    jail->config = *config;
    look_at_system(jail);
    uv_timer_init(loop, &jail->ticker);
    uv_timer_init(loop, &jail->pace);
    uv_timer_init(loop, &jail->soon);
    jail->open_timers = 3;
    jail->ticker.data = jail->pace.data = jail->soon.data = jail;
    struct eng_outside outside = {.user = jail,
                                  .route = jail_route,
                                  .has = has,
                                  .load = jail_load,
                                  .request = jail_ask,
                                  .interrupt = jail_interrupt,
                                  .report = jail_report,
                                  .given_up = jail_given_up};
    eng_set_outside(engine, &outside);
    *out = jail;
    return true;
}

void jail_free_if_over(struct jail *jail) {
    if (jail->open_timers == 0 && jail->workers == NULL) {
        free(jail);
    }
}

static void on_closed(uv_handle_t *handle) {
    struct jail *jail = handle->data;
    jail->open_timers--;
    jail_free_if_over(jail);
}

void jail_destroy(struct jail *jail) {
    static const struct eng_outside nothing;
    struct jail_worker *worker;
    struct jail_tenant *tenant;
    struct jail_tenant *next;
    if (jail == NULL) {
        return;
    }
    jail->stopping = true;
    eng_set_outside(jail->engine, &nothing);
    jail_reports_stop(jail);
    DL_FOREACH(jail->workers, worker) {
        worker->tenants = NULL;
        jail_worker_stop(worker);
    }
    HASH_ITER(hh, jail->tenants, tenant, next) {
        tenant->worker = NULL;
        jail_tenant_drop(jail, tenant);
    }
    uv_close((uv_handle_t *)&jail->pace, on_closed);
    uv_close((uv_handle_t *)&jail->soon, on_closed);
    uv_close((uv_handle_t *)&jail->ticker, on_closed);
}

void jail_node_up(struct jail *jail, struct span node) {
    struct jail_worker *worker;
    if (jail == NULL) {
        return;
    }
    DL_FOREACH(jail->workers, worker) {
        jail_worker_tell_node(worker, node);
    }
}

/* Debts to processes there are void. */
void jail_node_down(struct jail *jail, struct span node) {
    static const struct dist_control control = {.op = DIST_NODE_DOWN};
    struct jail_worker *worker;
    if (jail == NULL) {
        return;
    }
    DL_FOREACH(jail->workers, worker) {
        jail_ledger_node_down(&worker->ledger, node);
        if (!worker->down) {
            jail_send(worker, node, &control, (struct span){0});
        }
    }
}
