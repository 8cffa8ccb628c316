/* Processes: their pids, their mailboxes, their turns, their ends. */
#include <stdlib.h>

#include "engine/private.h"

/* {==== Birth ============================================================================= */

static bool make_pid(struct eng_proc *proc) {
    struct engine *engine = proc->engine;
    uint32_t creation = engine->node == NULL ? 0 : dist_node_creation(engine->node);
    proc->id = ++engine->last_id;
    return ext_put_pid(&proc->pid, span_str(eng_node_name(engine)), proc->id, 0, creation);
}

struct eng_proc *eng_proc_create(struct engine *engine, struct eng_handler *handler) {
    struct eng_proc *proc = calloc(1, sizeof *proc);
    if (proc == NULL) {
        return NULL;
    }
    proc->engine = engine;
    proc->handler = handler;
    proc->self_ref = LUA_NOREF;
    if (!make_pid(proc)) {
        free(proc);
        return NULL;
    }
    HASH_ADD(hh, engine->procs, id, sizeof proc->id, proc);
    return proc;
}

/* The pid of a process of this node, and of this run of it: the creation tells. */
struct eng_proc *eng_proc_of_pid(struct engine *engine, struct span pid) {
    if (pid.len < 12) {
        return NULL;
    }
    struct eng_proc *proc;
    uint32_t id = ext_u32(pid.data + pid.len - 12);
    HASH_FIND(hh, engine->procs, &id, sizeof id, proc);
    return proc != NULL && span_equal(pid, buf_span(&proc->pid)) ? proc : NULL;
}

/* }==== */

/* {==== The mailbox and the run queue ===================================================== */

void eng_proc_ready(struct eng_proc *proc) {
    struct engine *engine = proc->engine;
    if (proc->ready || !engine->started) {
        return;
    }
    proc->ready = true;
    proc->next_ready = NULL;
    if (engine->ready_last == NULL) {
        engine->ready_first = proc;
    } else {
        engine->ready_last->next_ready = proc;
    }
    engine->ready_last = proc;
}

void eng_proc_deliver(struct eng_proc *proc, struct eng_mail *mail) {
    if (proc->last == NULL) {
        proc->first = mail;
    } else {
        proc->last->next = mail;
    }
    proc->last = mail;
    eng_proc_ready(proc);
}

static void leave_queue(struct eng_proc *proc) {
    struct engine *engine = proc->engine;
    struct eng_proc *before = NULL;
    struct eng_proc *at = engine->ready_first;
    while (at != NULL && at != proc) {
        before = at;
        at = at->next_ready;
    }
    if (at == NULL) {
        return;
    }
    if (before == NULL) {
        engine->ready_first = proc->next_ready;
    } else {
        before->next_ready = proc->next_ready;
    }
    if (engine->ready_last == proc) {
        engine->ready_last = before;
    }
}

static void free_mail(struct eng_proc *proc, struct eng_mail *mail) {
    if (proc->handler != NULL && mail->from_ref != LUA_NOREF) {
        luaL_unref(proc->handler->L, LUA_REGISTRYINDEX, mail->from_ref);
    }
    free(mail);
}

static void take_mail(struct eng_proc *proc) {
    proc->current = proc->first;
    proc->first = proc->current->next;
    if (proc->first == NULL) {
        proc->last = NULL;
    }
}

/* }==== */

/* {==== A turn ============================================================================ */

/* Runs `body` in a coroutine. The coroutine stays borrowed when it failed: its stack tells where.
 */
static int run(struct eng_proc *proc, lua_CFunction body, void *argument) {
    struct engine *engine = proc->engine;
    proc->co = eng_pool_borrow(proc->handler, &proc->co_ref);
    if (proc->co == NULL) {
        return LUA_ERRMEM;
    }
    lua_pushcfunction(proc->co, body);
    lua_pushlightuserdata(proc->co, proc);
    lua_pushlightuserdata(proc->co, argument);
    int results;
    engine->running = proc;
    int status = lua_resume(proc->co, NULL, 2, &results);
    engine->running = NULL;
    if (status == LUA_OK) {
        eng_pool_return(proc->handler, proc->co, proc->co_ref);
        proc->co = NULL;
    }
    return status;
}

/* Why the coroutine failed: as a reason, and as the text of one log event. */
static void explain(struct eng_proc *proc, struct buf *reason, struct buf *text) {
    if (proc->co == NULL) {
        eng_reason_lua_error(reason, "not enough memory");
        return;
    }
    eng_reason_error(reason, text, proc->handler->L, proc->co);
    lua_resetthread(proc->co);
    eng_pool_return(proc->handler, proc->co, proc->co_ref);
    proc->co = NULL;
}

/* A failed message ends the process; a failed `terminate` is only told. */
static void failed(struct eng_proc *proc) {
    struct eng_handler *handler = proc->handler;
    struct buf reason = {0};
    struct buf text = {0};
    eng_send_drop(proc->engine);
    explain(proc, &reason, &text);
    log_text(proc->engine->log, LOG_LEVEL_ERROR, handler->name, buf_span(&text));
    bool registered = handler->proc == proc;
    eng_proc_terminate(proc, buf_span(&reason));
    eng_proc_end(proc, buf_span(&reason));
    if (registered) {
        eng_handler_failed(handler, buf_span(&reason));
    }
    buf_finish(&reason);
    buf_finish(&text);
}

static bool run_one(struct eng_proc *proc) {
    if (!proc->booted) {
        return run(proc, eng_run_boot, NULL) == LUA_OK;
    }
    take_mail(proc);
    if (run(proc, eng_run_message, NULL) != LUA_OK) {
        return false;
    }
    free_mail(proc, proc->current);
    proc->current = NULL;
    return true;
}

void eng_proc_run(struct eng_proc *proc) {
    if (proc->booted && proc->first == NULL) {
        return;
    }
    if (!run_one(proc)) {
        failed(proc);
    } else if (proc->first != NULL) {
        eng_proc_ready(proc);
    }
}

/* }==== */

/* {==== The end =========================================================================== */

void eng_proc_terminate(struct eng_proc *proc, struct span reason) {
    if (!proc->booted || proc->handler->is_function) {
        return;
    }
    struct buf ignored = {0};
    struct buf text = {0};
    if (run(proc, eng_run_terminate, &reason) != LUA_OK) {
        eng_send_drop(proc->engine);
        explain(proc, &ignored, &text);
        log_line(proc->engine->log, LOG_LEVEL_ERROR, proc->handler->name, "terminate failed: %.*s",
                 (int)text.len, (const char *)text.data);
    }
    buf_finish(&ignored);
    buf_finish(&text);
}

void eng_proc_end(struct eng_proc *proc, struct span reason) {
    eng_fail_waiting(proc->engine, proc, reason);
    eng_monitors_fire(proc->engine, proc, reason);
    if (proc->handler != NULL && proc->handler->proc == proc) {
        proc->handler->proc = NULL;
    }
    eng_proc_destroy(proc);
}

void eng_proc_destroy(struct eng_proc *proc) {
    while (proc->owed != NULL) {
        eng_from_done(proc->owed);
    }
    leave_queue(proc);
    HASH_DELETE(hh, proc->engine->procs, proc);
    if (proc->current != NULL) {
        free_mail(proc, proc->current);
    }
    while (proc->first != NULL) {
        take_mail(proc);
        free_mail(proc, proc->current);
    }
    if (proc->handler != NULL && proc->self_ref != LUA_NOREF) {
        luaL_unref(proc->handler->L, LUA_REGISTRYINDEX, proc->self_ref);
    }
    buf_finish(&proc->pid);
    free(proc);
}

/* }==== */
