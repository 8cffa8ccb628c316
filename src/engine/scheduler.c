/* Whose turn it is. Handlers take turns, and within one its processes: each runs until it waits, is
 * done with a message, or has used its slice. */
#include <time.h>
#include <utlist.h>

#include "engine/private.h"

enum { TURN_NS = 1000000, ASK_NS = 10 * TURN_NS };

/* {==== The run queue ===================================================================== */

/* A process that runs the script's functions waits until there are some. */
static bool has_what_it_runs(const struct eng_proc *proc) {
    enum eng_purpose purpose = proc->start->purpose;
    return proc->handler->version != NULL || (purpose != ENG_LASTING && purpose != ENG_ONCE);
}

/* Whether there is something that the process can do now. */
static bool can_run(const struct eng_proc *proc) {
    if (!proc->engine->started || proc->killed || proc->queued || proc->blocked_on != NULL ||
        proc == proc->engine->running) {
        return false;
    }
    if (proc->co != NULL) {
        return proc->wait == ENG_WAIT_NONE;
    }
    switch (proc->stage) {
    case ENG_STARTING:
        return has_what_it_runs(proc);
    case ENG_LIVING:
        return eng_version_is_old(proc) || (proc->version->has_run && !proc->suspended) ||
               eng_mailbox_next(proc) != NULL;
    default:
        return true;
    }
}

void eng_sched_touch(struct eng_proc *proc) {
    struct eng_handler *handler = proc->handler;
    if (!can_run(proc)) {
        return;
    }
    proc->queued = true;
    if (handler->ready == NULL) {
        DL_APPEND2(proc->engine->ready, handler, prev_ready, next_ready);
    }
    DL_APPEND2(handler->ready, proc, prev_ready, next_ready);
}

void eng_sched_leave(struct eng_proc *proc) {
    struct eng_handler *handler = proc->handler;
    if (proc->engine->interrupted == proc) {
        proc->engine->interrupted = NULL;
    }
    if (!proc->queued) {
        return;
    }
    proc->queued = false;
    DL_DELETE2(handler->ready, proc, prev_ready, next_ready);
    if (handler->ready == NULL) {
        DL_DELETE2(proc->engine->ready, handler, prev_ready, next_ready);
    }
}

/* Takes the process whose turn it is; its handler goes to the end of the line. */
static struct eng_proc *take_next(struct engine *engine) {
    struct eng_handler *handler = engine->ready;
    if (handler == NULL) {
        return NULL;
    }
    struct eng_proc *proc = handler->ready;
    eng_sched_leave(proc);
    if (handler->ready != NULL) {
        DL_DELETE2(engine->ready, handler, prev_ready, next_ready);
        DL_APPEND2(engine->ready, handler, prev_ready, next_ready);
    }
    return proc;
}

/* }==== */

/* {==== Waiting =========================================================================== */

static void on_time(void *user) {
    struct eng_proc *proc = user;
    proc->timer = NULL;
    proc->timed_out = true;
    eng_sched_wake(proc);
}

bool eng_sched_wait(struct eng_proc *proc, enum eng_wait wait, double ms) {
    proc->timed_out = false;
    if (ms >= 0) {
        proc->timer = eng_timer_start(proc->engine, ms, on_time, proc);
        if (proc->timer == NULL) {
            return false;
        }
    }
    proc->wait = wait;
    return true;
}

void eng_sched_wake(struct eng_proc *proc) {
    proc->wait = ENG_WAIT_NONE;
    eng_timer_cancel(proc->timer);
    proc->timer = NULL;
    eng_sched_touch(proc);
}

/* }==== */

/* {==== A job ============================================================================= */

/* A process of a GenServer's manner ends when the one that started it does. */
static bool parent_ended(struct eng_proc *proc, struct eng_mail *mail) {
    struct span reason;
    if (!eng_exit_of_parent(proc, mail, &reason)) {
        return false;
    }
    eng_exit_begin(proc, reason);
    eng_mail_free(proc, mail);
    return true;
}

/* What the process does next; NULL when it has nothing to do. */
static lua_CFunction next_message(struct eng_proc *proc) {
    struct eng_mail *mail = eng_mailbox_next(proc);
    if (mail == NULL) {
        return NULL;
    }
    eng_mailbox_take(proc, mail);
    if (parent_ended(proc, mail)) {
        return NULL;
    }
    proc->current = mail;
    proc->job = ENG_MESSAGE;
    proc->handler->counters.messages++;
    return mail->caller.kind == ENG_SYSTEM ? eng_run_system : eng_run_message;
}

static lua_CFunction next_job(struct eng_proc *proc) {
    switch (proc->stage) {
    case ENG_STARTING:
        proc->job = ENG_BOOT;
        return eng_run_boot;
    case ENG_ENDING:
        proc->job = ENG_TERMINATE;
        return eng_run_terminate;
    default:
        break;
    }
    if (eng_version_is_old(proc)) {
        proc->job = ENG_UPGRADE;
        return eng_run_upgrade;
    }
    if (proc->version->has_run && !proc->suspended && proc->mailbox.system == 0) {
        proc->job = ENG_RUN;
        return eng_run_run;
    }
    return next_message(proc);
}

/* A coroutine with the job's function and its argument on the stack. */
static bool begin_job(struct eng_proc *proc, lua_CFunction body) {
    proc->job_ns = 0;
    proc->co = eng_pool_borrow(proc->handler, &proc->co_ref);
    if (proc->co == NULL) {
        return false;
    }
    lua_pushcfunction(proc->co, body);
    lua_pushlightuserdata(proc->co, proc);
    return true;
}

static void end_with(struct eng_proc *proc, const char *name) {
    struct buf reason = {0};
    eng_reason_atom(&reason, name);
    eng_exit_begin(proc, buf_span(&reason));
    buf_finish(&reason);
}

/* A process that was spawned for one function ends with its result. */
static void once_done(struct eng_proc *proc) {
    if (proc->reason.len > 0) {
        eng_exit(proc, buf_span(&proc->reason));
    } else {
        end_with(proc, "normal");
    }
}

static void job_done(struct eng_proc *proc) {
    enum eng_job job = proc->job;
    eng_pool_return(proc->handler, proc->co, proc->co_ref);
    proc->co = NULL;
    proc->job = ENG_IDLE;
    if (job == ENG_TERMINATE) {
        eng_exit(proc, buf_span(&proc->reason));
    } else if (job == ENG_RUN) {
        end_with(proc, "normal");
    } else if (job == ENG_BOOT && proc->start->purpose != ENG_LASTING) {
        once_done(proc);
    } else if (job == ENG_BOOT) {
        proc->stage = ENG_LIVING;
    } else if (job == ENG_MESSAGE) {
        eng_mail_free(proc, proc->current);
        proc->current = NULL;
    }
    if (proc->leaving) {
        end_with(proc, "shutdown");
    }
}

/* }==== */

/* {==== Failures ========================================================================== */

/* The caller by erpc gets the error, and nobody else. */
static void wrap_for_erpc(struct eng_proc *proc, struct buf *reason) {
    struct buf wrapped = {0};
    eng_erpc_result(&wrapped, proc, "error", buf_span(reason));
    buf_finish(reason);
    *reason = wrapped;
}

/* One event of the log. What went wrong first is what it ends with. */
static void tell(struct eng_proc *proc, struct eng_error *error) {
    if (eng_may_log(proc->handler, error->text.len)) {
        log_text(proc->engine->log, LOG_LEVEL_ERROR, proc->handler->name, buf_span(&error->text));
    }
    proc->logged = true;
    if (proc->error.len == 0) {
        eng_error_keep(&proc->error, error);
    }
}

static void job_failed(struct eng_proc *proc) {
    bool was_ending = proc->job == ENG_TERMINATE;
    struct eng_error error;
    proc->handler->counters.errors += proc->eval == NULL ? 1 : 0;
    eng_send_drop(proc->engine);
    eng_error_make(&error, proc->handler, proc, proc->co);
    eng_proc_abandon(proc, true);
    if (proc->start->result.len > 0) {
        wrap_for_erpc(proc, &error.reason);
    } else if (proc->eval != NULL) {
        proc->logged = true; /* whoever evaluates is told */
    } else {
        tell(proc, &error);
    }
    if (was_ending) {
        eng_exit(proc, buf_span(&proc->reason));
    } else {
        eng_exit_begin(proc, buf_span(&error.reason));
    }
    eng_error_finish(&error);
}

/* }==== */

/* {==== A slice =========================================================================== */

/* Whether the process ends by a limit of its handler's. */
static bool is_over_limit(struct eng_proc *proc, int status) {
    const struct eng_policy *policy = &proc->handler->policy;
    uint64_t ms = proc->job_ns / 1000000;
    if (policy->trusted) {
        return false;
    }
    eng_vm_settle(proc->handler, status != LUA_OK && status != LUA_YIELD);
    if (status == LUA_YIELD && !proc->handler->vm->exceeded && ms > policy->time_ms) {
        eng_limit_hit(proc, "time", policy->time_ms, ms);
    }
    return proc->killed || proc->handler->vm->exceeded;
}

static void after_slice(struct eng_proc *proc, int status) {
    struct dist_peer *crowded = eng_send_crowded(proc->engine);
    if (proc->killed || is_over_limit(proc, status)) {
        return;
    }
    if (proc->stage == ENG_ENDING && proc->job != ENG_TERMINATE) {
        eng_proc_abandon(proc, true); /* it has called for its own end */
    } else if (status == LUA_OK) {
        job_done(proc);
    } else if (status != LUA_YIELD || eng_load_overran(proc)) {
        job_failed(proc);
    }
    if (crowded != NULL && !proc->killed) {
        eng_send_block(proc, crowded);
    }
    proc->interrupted = status == LUA_YIELD && proc->engine->slice.why == ENG_YIELD_PREEMPTED;
    if (proc->interrupted && proc->wait == ENG_WAIT_NONE) {
        proc->engine->interrupted = proc;
    } else {
        eng_sched_touch(proc);
    }
}

/* What this thread has had of the processor. */
static uint64_t processor_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000U + (uint64_t)time.tv_nsec;
}

/* What the thread has had until now is asked for seldom: asking takes time. */
static void note_processor(struct engine *engine, uint64_t now) {
    if (engine->has_untrusted && now - engine->asked_ns >= ASK_NS) {
        engine->asked_ns = now;
        engine->processor_ns = processor_ns();
    }
}

/* A short slice counts as a whole; in a longer one others may have had the processor, and it has
 * not had more of it than the thread since it was asked for last. */
static void count_job(struct eng_proc *proc, uint64_t ns) {
    struct engine *engine = proc->engine;
    if (ns >= TURN_NS) {
        uint64_t before = engine->processor_ns;
        engine->processor_ns = processor_ns();
        uint64_t since = engine->processor_ns - before;
        ns = since < ns ? since : ns;
    }
    proc->job_ns += ns;
}

static void count_slice(struct eng_proc *proc, uint64_t ns) {
    struct eng_counters *counters = &proc->handler->counters;
    if (!proc->handler->policy.trusted) {
        count_job(proc, ns);
    }
    proc->ran_ns += ns;
    counters->run_ns += ns;
    if (ns > counters->longest_ns) {
        counters->longest_ns = ns;
    }
}

/* Runs the process whose turn it is for a slice, which begins now. */
static void step(struct engine *engine, uint64_t now) {
    struct eng_proc *proc = take_next(engine);
    int args = 0;
    if (proc->co == NULL) {
        lua_CFunction body = next_job(proc);
        if (body == NULL) {
            eng_sched_touch(proc);
            return;
        }
        if (!begin_job(proc, body)) {
            if (!proc->handler->vm->exceeded) {
                job_failed(proc);
            }
            return;
        }
        args = 1;
    }
    int results = 0;
    engine->running = proc;
    eng_slice_for(&engine->slice, proc->handler->name, proc->handler->policy.deadline_ms);
    int status = eng_slice_run(&engine->slice, proc->co, args, &results);
    count_slice(proc, uv_hrtime() - now);
    engine->running = NULL;
    if (status == LUA_YIELD) {
        lua_pop(proc->co, results);
    }
    after_slice(proc, status);
}

/* What the others have sent goes out before one that uses up its slices runs again. */
static bool is_long(const struct engine *engine) {
    return engine->ready->ready->interrupted;
}

void eng_sched_turn(struct engine *engine) {
    uint64_t now = uv_hrtime();
    uint64_t end = now + TURN_NS;
    bool ran = false;
    note_processor(engine, now);
    if (engine->interrupted != NULL) {
        struct eng_proc *proc = engine->interrupted;
        engine->interrupted = NULL;
        eng_sched_touch(proc);
    }
    while (engine->ready != NULL && engine->interrupted == NULL && !(ran && is_long(engine)) &&
           now < end) {
        step(engine, now);
        if (engine->over_memory) {
            eng_limits_look(engine);
        }
        eng_services_turn(engine);
        eng_exit_all(engine);
        ran = true;
        now = uv_hrtime();
    }
}

/* }==== */
