/* Handlers: a script, its VM, its registered process, and how often that may fail. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "engine/private.h"

/* {==== Creating and destroying =========================================================== */

struct eng_handler *eng_handler_create(struct engine *engine, const struct eng_script *script,
                                       struct err *err) {
    struct eng_handler *handler = calloc(1, sizeof *handler);
    if (handler == NULL) {
        err_set(err, "no memory for a handler");
        return NULL;
    }
    handler->engine = engine;
    handler->allowance = (struct term_allowance){
        .max = script->policy.atoms, .exceeded = eng_limit_atoms, .user = handler};
    handler->name = strdup(script->name);
    handler->path = script->path == NULL ? NULL : strdup(script->path);
    handler->found_in_folder = script->found_in_folder;
    handler->stop_on_failure = script->stop_on_failure;
    if (!eng_policy_copy(&handler->policy, &script->policy) ||
        !eng_policy_copy(&handler->own_policy, &script->policy) || handler->name == NULL ||
        (handler->path == NULL && script->path != NULL)) {
        err_set(err, "no memory for a handler");
    } else if (eng_vm_create(handler, err)) {
        return handler;
    }
    eng_handler_destroy(handler);
    return NULL;
}

void eng_handler_destroy(struct eng_handler *handler) {
    eng_timer_cancel(handler->leave_timer);
    eng_alarms_leave(handler);
    while (handler->procs != NULL) {
        eng_proc_destroy(handler->procs);
    }
    eng_load_forget(handler);
    eng_vm_destroy(handler);
    eng_output_finish(handler);
    buf_finish(&handler->failure);
    buf_finish(&handler->start);
    buf_finish(&handler->last_error);
    eng_policy_finish(&handler->policy);
    eng_policy_finish(&handler->own_policy);
    free(handler->name);
    free(handler->path);
    free(handler);
}

/* }==== */

/* {==== The registered process ============================================================ */

bool eng_handler_start(struct eng_handler *handler) {
    struct eng_start start = {.purpose = ENG_LASTING,
                              .count = handler->start.len > 0 ? 1 : 0,
                              .args = buf_span(&handler->start)};
    handler->proc = eng_proc_create(handler->engine, handler, &start);
    if (handler->proc == NULL) {
        return false;
    }
    eng_sched_touch(handler->proc);
    return true;
}

static const char does_not_load[] = "the script does not load";

/* Notes a failure. Whether there were more than ENG_MAX_FAILURES within the span. */
static bool too_often(struct eng_handler *handler) {
    uint64_t now = uv_now(handler->engine->loop);
    uint64_t oldest = handler->failures[0];
    memmove(handler->failures, handler->failures + 1,
            sizeof handler->failures - sizeof *handler->failures);
    handler->failures[ENG_MAX_FAILURES - 1] = now;
    return oldest != 0 && now - oldest < ENG_FAILURE_SPAN_MS;
}

static void stay_down(struct eng_handler *handler, struct span reason, const char *why) {
    log_line(handler->engine->log, LOG_LEVEL_ERROR, handler->name, "%s: it stays down", why);
    eng_reason_copy(&handler->failure, reason);
    eng_event_text(handler, "down", why);
    if (handler->stop_on_failure) {
        handler->engine->events.failed(handler->engine->user, handler->name);
    }
}

void eng_handler_fail(struct eng_handler *handler, struct span reason) {
    bool was_down = handler->proc == NULL;
    for (struct eng_proc *proc = handler->procs; proc != NULL; proc = proc->next) {
        proc->logged = true;
        eng_exit(proc, reason);
    }
    if (was_down) {
        stay_down(handler, reason, does_not_load);
    }
}

void eng_handler_ended(struct eng_handler *handler, struct span reason) {
    char often[64];
    (void)snprintf(often, sizeof often, "failed more than %d times in %d s", ENG_MAX_FAILURES,
                   ENG_FAILURE_SPAN_MS / 1000);
    if (handler->engine->stopping || handler->leaving) {
        return;
    }
    if (handler->version == NULL && handler->loader == NULL) {
        stay_down(handler, reason, does_not_load);
    } else if (eng_reason_is_quiet(reason)) {
        return; /* as was wished */
    } else if (too_often(handler)) {
        stay_down(handler, reason, often);
    } else if (handler->broken) {
        handler->restart = true;
    } else if (!eng_handler_start(handler)) {
        stay_down(handler, reason, "no memory for a process");
    } else {
        handler->counters.restarts++;
    }
}

/* Without a VM nothing runs any more. */
static void stay_without_vm(struct eng_handler *handler, struct eng_version *copy,
                            const struct err *err) {
    struct buf reason = {0};
    eng_reason_atom(&reason, "system_limit");
    stay_down(handler, buf_span(&reason), err->text);
    buf_finish(&reason);
    eng_version_drop(copy);
}

void eng_handler_renew(struct eng_handler *handler) {
    struct err err;
    bool restart = handler->restart;
    if (!handler->broken || handler->procs != NULL || handler->leaving ||
        handler->engine->stopping) {
        return;
    }
    struct eng_version *copy = eng_load_copy(handler);
    eng_load_forget(handler);
    eng_alarms_leave(handler);
    eng_vm_destroy(handler);
    handler->broken = handler->restart = false;
    if (!eng_vm_create(handler, &err)) {
        stay_without_vm(handler, copy, &err);
        return;
    }
    if (restart && eng_handler_start(handler)) {
        handler->counters.restarts++;
    }
    eng_load_again(handler, copy);
}

/* }==== */

/* {==== Leaving =========================================================================== */

/* What a supervisor gives its children, too. */
enum { LEAVE_MS = 5000 };

static void on_leave_time(void *user) {
    struct eng_handler *handler = user;
    struct buf killed = {0};
    handler->leave_timer = NULL;
    log_line(handler->engine->log, LOG_LEVEL_WARNING, handler->name,
             "unloaded, but not done after %d s: killed", LEAVE_MS / 1000);
    eng_reason_atom(&killed, "killed");
    for (struct eng_proc *proc = handler->procs; proc != NULL; proc = proc->next) {
        proc->logged = true;
        eng_exit(proc, buf_span(&killed));
    }
    buf_finish(&killed);
}

void eng_handler_unload(struct eng_handler *handler) {
    struct buf shutdown = {0};
    if (handler->version != NULL) {
        eng_event_numbers(handler, "unloaded", NULL, 0, NULL, 0);
    }
    eng_handler_hide(handler);
    handler->leaving = true;
    eng_reason_atom(&shutdown, "shutdown");
    for (struct eng_proc *proc = handler->procs; proc != NULL; proc = proc->next) {
        eng_exit_begin(proc, buf_span(&shutdown));
    }
    buf_finish(&shutdown);
    handler->leave_timer = eng_timer_start(handler->engine, LEAVE_MS, on_leave_time, handler);
    eng_handler_leave(handler);
}

void eng_handler_leave(struct eng_handler *handler) {
    if (handler->leaving && handler->procs == NULL) {
        LL_DELETE(handler->engine->handlers, handler);
        eng_handler_destroy(handler);
    }
}

/* }==== */

/* {==== Names ============================================================================= */

struct eng_handler *eng_handler_find(struct engine *engine, struct span name) {
    struct eng_handler *handler;
    HASH_FIND(hh, engine->handlers_by_name, name.data, name.len, handler);
    return handler;
}

void eng_handler_hide(struct eng_handler *handler) {
    if (!handler->leaving) {
        HASH_DELETE(hh, handler->engine->handlers_by_name, handler);
    }
}

/* One that a load over the wire has made does not count. */
static struct eng_handler *find_script(struct engine *engine, const char *name) {
    struct eng_handler *handler = eng_handler_find(engine, span_str(name));
    return handler == NULL || handler->path == NULL ? NULL : handler;
}

struct eng_handler *eng_handler_default(struct engine *engine) {
    struct eng_handler *handler = find_script(engine, "any");
    if (handler == NULL) {
        handler = find_script(engine, "main");
    }
    if (handler == NULL && engine->only != NULL) {
        handler = find_script(engine, engine->only);
    }
    return handler;
}

/* }==== */
