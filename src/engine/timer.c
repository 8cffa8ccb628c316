/* Timers: the waits of processes, and the messages of erl.send_after. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "engine/private.h"

/* {==== A timer =========================================================================== */

struct eng_timer {
    uv_timer_t uv;
    void (*fire)(void *user);
    void *user;
};

static void on_closed(uv_handle_t *handle) {
    free(handle->data);
}

static void on_fire(uv_timer_t *uv) {
    struct eng_timer *timer = uv->data;
    void (*fire)(void *) = timer->fire;
    void *user = timer->user;
    uv_close((uv_handle_t *)uv, on_closed);
    fire(user);
}

struct eng_timer *eng_timer_start(struct engine *engine, double ms, void (*fire)(void *user),
                                  void *user) {
    struct eng_timer *timer = malloc(sizeof *timer);
    if (timer == NULL) {
        return NULL;
    }
    *timer = (struct eng_timer){.fire = fire, .user = user};
    uv_timer_init(engine->loop, &timer->uv);
    timer->uv.data = timer;
    uv_update_time(engine->loop); /* Lua may have run for a while */
    /* the loop's time is cut to milliseconds: one more, so that no wait is shorter than asked */
    double whole = ms <= 0 ? 0 : ceil(ms) + 1;
    uv_timer_start(&timer->uv, on_fire, whole < 1e15 ? (uint64_t)whole : (uint64_t)1e15, 0);
    return timer;
}

void eng_timer_cancel(struct eng_timer *timer) {
    if (timer != NULL) {
        uv_close((uv_handle_t *)&timer->uv, on_closed);
    }
}

double eng_timer_left(const struct eng_timer *timer) {
    uint64_t left = uv_timer_get_due_in(&timer->uv);
    return left > 0 ? (double)(left - 1) : 0; /* without the millisecond that was added */
}

/* }==== */

/* {==== Messages that are sent later ====================================================== */

struct eng_alarm {
    struct engine *engine;
    struct eng_handler *handler; /* whose script started it; NULL: it has gone */
    size_t size;
    struct eng_timer *timer;
    struct eng_proc *dest; /* a process of this one that it is for: it goes with it; else NULL */
    struct eng_alarm *prev, *next; /* of the same dest */
    struct dist_control control;
    struct span ref;
    struct span node;
    struct span payload;
    UT_hash_handle hh; /* by ref */
    uint8_t bytes[];
};

static void forget(struct eng_alarm *alarm) {
    HASH_DELETE(hh, alarm->engine->alarms, alarm);
    if (alarm->dest != NULL) {
        DL_DELETE(alarm->dest->alarms, alarm);
    }
    eng_outside_give(alarm->handler, alarm->size);
    free(alarm);
}

static bool is_trusted(const struct eng_alarm *alarm) {
    return alarm->handler == NULL || alarm->handler->policy.trusted;
}

static void ring(void *user) {
    struct eng_alarm *alarm = user;
    struct engine *engine = alarm->engine;
    struct err err;
    if (is_trusted(alarm)) {
        eng_reach(engine, alarm->node);
    }
    struct buf *out = eng_send_begin(engine, &alarm->control, alarm->node, &err);
    if (out != NULL) { /* a node that has gone meanwhile gets no message, as everywhere */
        if (buf_append(out, alarm->payload.data, alarm->payload.len)) {
            eng_send_end(engine, &err);
        } else {
            eng_send_drop(engine);
        }
    }
    forget(alarm);
}

bool eng_alarm_start(struct eng_handler *handler, struct span ref, double ms,
                     const struct dist_control *control, struct span node, struct span payload) {
    struct engine *engine = handler->engine;
    size_t size = sizeof(struct eng_alarm) + ref.len + node.len + payload.len + control->from.len +
                  control->to.len;
    if (!eng_outside_take(handler, size)) {
        return false;
    }
    struct eng_alarm *alarm = malloc(size);
    if (alarm == NULL) {
        eng_outside_give(handler, size);
        return false;
    }
    *alarm = (struct eng_alarm){.engine = engine,
                                .handler = handler,
                                .size = size,
                                .control = *control,
                                .ref = ref,
                                .node = node,
                                .payload = payload};
    uint8_t *at = alarm->bytes;
    alarm->ref = span_keep(&at, alarm->ref);
    alarm->node = span_keep(&at, alarm->node);
    alarm->payload = span_keep(&at, alarm->payload);
    alarm->control.from = span_keep(&at, alarm->control.from);
    alarm->control.to = span_keep(&at, alarm->control.to);
    alarm->timer = eng_timer_start(engine, ms, ring, alarm);
    if (alarm->timer == NULL) {
        eng_outside_give(handler, size);
        free(alarm);
        return false;
    }
    HASH_ADD_KEYPTR(hh, engine->alarms, alarm->ref.data, alarm->ref.len, alarm);
    alarm->dest = ext_is_pid(control->to) ? eng_proc_of_pid(engine, control->to) : NULL;
    if (alarm->dest != NULL) {
        DL_APPEND(alarm->dest->alarms, alarm);
    }
    return true;
}

void eng_alarms_drop(struct eng_proc *proc) {
    while (proc->alarms != NULL) {
        struct eng_alarm *alarm = proc->alarms;
        eng_timer_cancel(alarm->timer);
        forget(alarm);
    }
}

double eng_alarm_cancel(struct eng_handler *handler, struct span ref) {
    struct eng_alarm *alarm;
    HASH_FIND(hh, handler->engine->alarms, ref.data, ref.len, alarm);
    if (alarm == NULL || (!handler->policy.trusted && alarm->handler != handler)) {
        return -1;
    }
    double left = eng_timer_left(alarm->timer);
    eng_timer_cancel(alarm->timer);
    forget(alarm);
    return left;
}

void eng_alarms_clear(struct engine *engine) {
    struct eng_alarm *alarm;
    struct eng_alarm *next;
    HASH_ITER(hh, engine->alarms, alarm, next) {
        eng_timer_cancel(alarm->timer);
        forget(alarm);
    }
}

void eng_alarms_leave(struct eng_handler *handler) {
    struct eng_alarm *alarm;
    struct eng_alarm *next;
    HASH_ITER(hh, handler->engine->alarms, alarm, next) {
        if (alarm->handler == handler && !handler->policy.trusted) {
            eng_timer_cancel(alarm->timer);
            forget(alarm);
        } else if (alarm->handler == handler) {
            alarm->handler = NULL;
        }
    }
}

/* }==== */
