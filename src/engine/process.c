/* Processes: how they come into being, and what goes with them. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "engine/private.h"

/* {==== Birth ============================================================================= */

static bool make_pid(struct eng_proc *proc) {
    struct engine *engine = proc->engine;
    uint32_t creation = engine->node == NULL ? 0 : dist_node_creation(engine->node);
    proc->id = ++engine->last_id;
    return ext_put_pid(&proc->pid, eng_node_name(engine), (uint32_t)proc->id,
                       (uint32_t)(proc->id >> 32), creation);
}

static struct eng_start *copy_start(const struct eng_start *start) {
    struct eng_start *copy = malloc(sizeof *copy + start->function.len + start->args.len +
                                    start->parent.len + start->result.len);
    if (copy == NULL) {
        return NULL;
    }
    uint8_t *at = (uint8_t *)(copy + 1);
    *copy = *start;
    copy->function = span_keep(&at, start->function);
    copy->args = span_keep(&at, start->args);
    copy->parent = span_keep(&at, start->parent);
    copy->result = span_keep(&at, start->result);
    return copy;
}

static struct eng_proc *create(struct engine *engine) {
    struct eng_proc *proc = calloc(1, sizeof *proc);
    if (proc == NULL) {
        return NULL;
    }
    proc->engine = engine;
    proc->self_ref = LUA_NOREF;
    if (!make_pid(proc)) {
        free(proc);
        return NULL;
    }
    HASH_ADD(hh, engine->procs, id, sizeof proc->id, proc);
    return proc;
}

struct eng_proc *eng_proc_create(struct engine *engine, struct eng_handler *handler,
                                 const struct eng_start *start) {
    size_t size = sizeof(struct eng_proc) + sizeof *start + start->args.len;
    if (!eng_outside_take(handler, size)) {
        return NULL;
    }
    struct eng_start *copy = copy_start(start);
    struct eng_proc *proc = copy == NULL ? NULL : create(engine);
    if (proc == NULL) {
        eng_outside_give(handler, size);
        free(copy);
        return NULL;
    }
    proc->outside = size;
    proc->start = copy;
    proc->handler = handler;
    DL_APPEND(handler->procs, proc);
    return proc;
}

struct eng_proc *eng_proc_service(struct engine *engine,
                                  void (*service)(struct eng_proc *, struct eng_mail *)) {
    struct eng_proc *proc = create(engine);
    if (proc != NULL) {
        proc->service = service;
    }
    return proc;
}

/* The pid of a process of this node, and of this run of it: the creation tells. */
struct eng_proc *eng_proc_of_pid(struct engine *engine, struct span pid) {
    if (pid.len < 12) {
        return NULL;
    }
    struct eng_proc *proc;
    const uint8_t *numbers = pid.data + pid.len - 12;
    uint64_t id = (uint64_t)ext_u32(numbers + 4) << 32 | ext_u32(numbers);
    HASH_FIND(hh, engine->procs, &id, sizeof id, proc);
    return proc != NULL && span_equal(pid, buf_span(&proc->pid)) ? proc : NULL;
}

/* }==== */

/* {==== Death ============================================================================= */

void eng_proc_abandon(struct eng_proc *proc, bool tidy) {
    eng_timer_cancel(proc->timer);
    proc->timer = NULL;
    proc->wait = ENG_WAIT_NONE;
    proc->job = ENG_IDLE;
    if (proc->call != NULL) {
        eng_watch_remove(proc, proc->call->ref);
    }
    if (proc->co == NULL) {
        return;
    }
    if (tidy) {
        eng_slice_for(&proc->engine->slice, proc->handler->name, proc->handler->policy.deadline_ms);
        eng_slice_close(&proc->engine->slice, proc->co);
        eng_pool_return(proc->handler, proc->co, proc->co_ref);
    } else {
        luaL_unref(proc->handler->L, LUA_REGISTRYINDEX, proc->co_ref);
    }
    proc->co = NULL;
}

static void free_lua(struct eng_proc *proc) {
    lua_State *L = proc->handler->L;
    eng_mailbox_clear(proc);
    if (proc->current != NULL) {
        eng_mail_free(proc, proc->current);
    }
    if (proc->serving != NULL) {
        eng_mail_free(proc, proc->serving);
    }
    luaL_unref(L, LUA_REGISTRYINDEX, proc->self_ref);
    if (proc->start->purpose == ENG_CLOSURE || proc->start->purpose == ENG_EVAL) {
        luaL_unref(L, LUA_REGISTRYINDEX, proc->start->closure);
    }
    eng_version_use(proc, NULL);
    DL_DELETE(proc->handler->procs, proc);
}

void eng_proc_destroy(struct eng_proc *proc) {
    while (proc->owed != NULL) {
        eng_from_done(proc->owed);
    }
    eng_timer_cancel(proc->timer);
    eng_send_unblock(proc);
    eng_sched_leave(proc);
    eng_watches_clear(proc);
    eng_alarms_drop(proc);
    eng_monitors_clear(proc);
    eng_links_clear(proc);
    eng_names_clear(proc);
    HASH_DELETE(hh, proc->engine->procs, proc);
    eng_outside_give(proc->handler, proc->outside);
    if (proc->handler != NULL) {
        free_lua(proc);
        if (proc->handler->proc == proc) {
            proc->handler->proc = NULL;
        }
    }
    eng_eval_free(proc);
    free(proc->start);
    buf_finish(&proc->reason);
    buf_finish(&proc->error);
    buf_finish(&proc->answer);
    buf_finish(&proc->pid);
    free(proc);
}

/* }==== */
