/* Who watches this node's processes: MONITOR_P, DEMONITOR_P, and MONITOR_P_EXIT when one ends. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "engine/private.h"

/* To the watcher: the process that it named has ended. One whose node has gone knows already. */
static void send_down(struct engine *engine, struct span target, struct span watcher,
                      struct span ref, struct span reason) {
    struct dist_control control = {
        .op = DIST_MONITOR_P_EXIT, .from = target, .to = watcher, .ref = ref, .reason = reason};
    eng_send_control(engine, &control, (struct span){0});
}

static struct eng_monitor *copy(struct span watcher, struct span target, struct span ref) {
    struct eng_monitor *monitor = calloc(1, sizeof *monitor + watcher.len + target.len + ref.len);
    if (monitor == NULL) {
        return NULL;
    }
    uint8_t *p = monitor->bytes;
    monitor->watcher = span_keep(&p, watcher);
    monitor->target = span_keep(&p, target);
    monitor->ref = span_keep(&p, ref);
    return monitor;
}

static struct eng_monitor *find(struct engine *engine, struct span ref) {
    struct eng_monitor *monitor;
    HASH_FIND(hh, engine->monitors, ref.data, ref.len, monitor);
    return monitor;
}

/* Who calls the process `lunode` monitors it until he has the answer, or has given up. */
static void forget(struct engine *engine, struct eng_monitor *monitor) {
    if (monitor->proc == engine->control) {
        eng_evals_given_up(engine, monitor->ref);
        if (engine->outside.given_up != NULL) {
            engine->outside.given_up(engine->outside.user, monitor->ref);
        }
    }
    HASH_DELETE(hh, engine->monitors, monitor);
    DL_DELETE(monitor->proc->monitors, monitor);
    free(monitor);
}

/* The process that is named by pid or by name; without one, why not. */
static struct eng_proc *target_of(struct engine *engine, struct span target, struct span *failure) {
    struct span name;
    bool latin1;
    *failure = (struct span){0};
    if (ext_is_pid(target)) {
        return eng_proc_of_pid(engine, target);
    }
    return ext_take_atom(&target, &name, &latin1) ? eng_whereis(engine, name, failure) : NULL;
}

static void insert(struct eng_proc *proc, struct eng_monitor *monitor) {
    struct engine *engine = proc->engine;
    eng_monitor_remove(engine, monitor->ref); /* a reference is used once: the last one counts */
    monitor->proc = proc;
    HASH_ADD_KEYPTR(hh, engine->monitors, monitor->ref.data, monitor->ref.len, monitor);
    DL_APPEND(proc->monitors, monitor);
}

void eng_monitor_add(struct engine *engine, const struct dist_control *control) {
    struct span failure;
    struct eng_proc *proc = target_of(engine, control->to, &failure);
    struct eng_monitor *monitor =
        proc == NULL ? NULL : copy(control->from, control->to, control->ref);
    if (monitor == NULL) {
        struct buf reason = {0};
        eng_reason_atom(&reason, proc == NULL ? "noproc" : "system_limit");
        send_down(engine, control->to, control->from, control->ref,
                  failure.len > 0 ? failure : buf_span(&reason));
        buf_finish(&reason);
        return;
    }
    insert(proc, monitor);
}

bool eng_monitor_start(struct eng_proc *proc, struct span watcher, struct span ref) {
    struct eng_monitor *monitor = copy(watcher, buf_span(&proc->pid), ref);
    if (monitor != NULL) {
        insert(proc, monitor);
    }
    return monitor != NULL;
}

void eng_monitor_remove(struct engine *engine, struct span ref) {
    struct eng_monitor *monitor = find(engine, ref);
    if (monitor != NULL) {
        forget(engine, monitor);
    }
}

void eng_monitors_of_node(struct engine *engine, struct span node) {
    struct eng_monitor *monitor;
    struct eng_monitor *next;
    HASH_ITER(hh, engine->monitors, monitor, next) {
        if (span_equal(ext_node_of(monitor->watcher), node)) {
            forget(engine, monitor);
        }
    }
}

static void fire(struct engine *engine, struct eng_monitor *monitor, struct span reason) {
    send_down(engine, monitor->target, monitor->watcher, monitor->ref, reason);
    forget(engine, monitor);
}

void eng_monitors_fire(struct engine *engine, struct eng_proc *proc, struct span reason) {
    while (proc->monitors != NULL) {
        fire(engine, proc->monitors, reason);
    }
}

void eng_monitors_clear(struct eng_proc *proc) {
    while (proc->monitors != NULL) {
        forget(proc->engine, proc->monitors);
    }
}

bool eng_monitor_fire(struct engine *engine, struct eng_proc *proc, struct span ref,
                      struct span reason) {
    struct eng_monitor *monitor = find(engine, ref);
    if (monitor == NULL || monitor->proc != proc) {
        return false;
    }
    fire(engine, monitor, reason);
    return true;
}
