/* Loading a handler's script as a new version: compile it, let it run apart, check what it
 * returned, and only then let it take the old one's place. Any failure leaves the old one where it
 * is. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "engine/private.h"

/* What a script's top level may take of the processor: it says what the handler is, no more. */
enum { LOAD_MS = 5000 };

/* {==== Those who wait for the outcome ==================================================== */

/* A request that is answered when the load is done. */
struct eng_asker {
    struct eng_asker *next;
    struct eng_caller caller;
    bool unloads; /* he wants the file back, and does not ask for its version */
    uint8_t bytes[];
};

static void note_asker(struct eng_handler *handler, const struct eng_caller *caller, bool unloads) {
    struct eng_asker *asker = malloc(sizeof *asker + caller->pid.len + caller->tag.len);
    if (asker == NULL) {
        return; /* his call ends by its time limit */
    }
    uint8_t *at = asker->bytes;
    asker->next = NULL;
    asker->unloads = unloads;
    asker->caller = *caller;
    asker->caller.pid = span_keep(&at, caller->pid);
    asker->caller.tag = span_keep(&at, caller->tag);
    LL_APPEND(handler->askers, asker);
}

/* The value to each; without memory for it (`complete` is false) the calls end by their limits. */
static void answer_askers(struct eng_handler *handler, bool live, struct buf *value,
                          bool complete) {
    struct engine *engine = handler->engine;
    while (handler->askers != NULL) {
        struct eng_asker *asker = handler->askers;
        LL_DELETE(handler->askers, asker);
        if (live && asker->unloads) {
            eng_reply_atom(engine, engine->control, &asker->caller, "ok");
        } else if (complete) {
            eng_reply_term(engine, engine->control, &asker->caller, buf_span(value));
        }
        free(asker);
    }
    buf_finish(value);
}

/* {ok, Version}, or ok to who unloads. */
static void answer_version(struct eng_handler *handler, const struct eng_version *version) {
    struct buf value = {0};
    bool ok = ext_put_tuple(&value, 2) && ext_put_atom(&value, span_str("ok")) &&
              ext_put_uint(&value, version->number);
    answer_askers(handler, true, &value, ok);
}

/* {error, Reason} */
static void answer_failure(struct eng_handler *handler, struct span reason) {
    struct buf value = {0};
    bool ok = ext_put_tagged(&value, "error", reason);
    answer_askers(handler, false, &value, ok);
}

/* }==== */

/* {==== The outcome ======================================================================= */

/* Processes that can swap now do it in their next turn, the others when they are done. */
static void wake_processes(struct eng_handler *handler) {
    for (struct eng_proc *proc = handler->procs; proc != NULL; proc = proc->next) {
        if (proc->job == ENG_RUN && proc->wait == ENG_WAIT_MAIL) {
            eng_sched_wake(proc);
        } else {
            eng_sched_touch(proc);
        }
    }
}

/* What a load wants of its handler lasts until the handler's file is back. */
static void take_options(struct eng_handler *handler, const struct eng_version *version) {
    const struct eng_policy *policy = version->has_policy ? &version->policy : &handler->own_policy;
    if (!version->is_text) {
        handler->start.len = 0;
    }
    if ((version->has_policy || !version->is_text) && !eng_policy_copy(&handler->policy, policy)) {
        log_line(handler->engine->log, LOG_LEVEL_ERROR, handler->name,
                 "no memory for its limits: it keeps those that it had");
    }
    handler->allowance.max = handler->policy.atoms;
    if (!handler->policy.trusted) {
        term_set_max_size(handler->L, handler->policy.message);
    }
    if (version->start.len > 0) {
        eng_reason_copy(&handler->start, buf_span(&version->start));
    }
}

/* It was live before, in another VM. */
static bool is_copy(const struct eng_version *version) {
    return version->number > 0;
}

static void go_live(struct eng_handler *handler, struct eng_version *version) {
    struct eng_version *old = handler->version;
    if (is_copy(version)) {
        handler->version = eng_version_take(version);
        wake_processes(handler);
        return;
    }
    eng_version_number(version);
    handler->version = eng_version_take(version);
    handler->failure.len = 0;
    take_options(handler, version);
    if (old != NULL) {
        log_line(handler->engine->log, LOG_LEVEL_INFO, handler->name, "version %u is live",
                 version->number);
        eng_event_numbers(handler, "reloaded", "version", version->number, "old", old->number);
    } else {
        eng_event_numbers(handler, "loaded", "version", version->number, NULL, 0);
    }
    wake_processes(handler);
    if (handler->proc == NULL) {
        memset(handler->failures, 0, sizeof handler->failures); /* those of another script */
        if (!eng_handler_start(handler)) {
            log_line(handler->engine->log, LOG_LEVEL_ERROR, handler->name,
                     "no memory for a process: it stays down");
        }
    }
    answer_version(handler, version);
    eng_version_drop(old);
}

/* The old version goes on, if there is one. */
static void load_failed(struct eng_handler *handler, struct span reason) {
    if (handler->last_error.len > 0) {
        eng_event(handler, "reload_failed", buf_span(&handler->last_error));
    }
    if (handler->version != NULL) {
        log_line(handler->engine->log, LOG_LEVEL_WARNING, handler->name,
                 "the new script does not load: version %u goes on", handler->version->number);
    } else if (handler->path != NULL || is_copy(handler->tried)) {
        eng_handler_fail(handler, reason);
    }
    answer_failure(handler, reason);
    if (handler->version == NULL && handler->path == NULL && !is_copy(handler->tried)) {
        eng_handler_unload(handler); /* nothing of it has ever been there */
    }
}

void eng_load_ended(struct eng_handler *handler, const struct eng_proc *loader,
                    struct span reason) {
    if (handler->loader != loader) {
        return; /* a newer load has taken its place */
    }
    struct eng_version *version = handler->tried;
    handler->loader = NULL;
    if (handler->engine->stopping) {
        return;
    }
    if (handler->leaving) {
        answer_failure(handler, reason);
        return;
    }
    if (version->value_ref != LUA_NOREF) {
        go_live(handler, version);
    } else {
        load_failed(handler, reason);
    }
}

/* }==== */

/* {==== The load ========================================================================== */

static void end_loader(struct eng_handler *handler) {
    struct eng_proc *loader = handler->loader;
    struct buf shutdown = {0};
    handler->loader = NULL;
    if (loader != NULL) {
        eng_reason_atom(&shutdown, "shutdown");
        eng_exit(loader, buf_span(&shutdown));
        buf_finish(&shutdown);
    }
}

/* Compiles what the handler is to try, and lets it run. */
static bool try_version(struct eng_handler *handler, struct eng_version *version, struct err *err) {
    static const struct eng_start start = {.purpose = ENG_LOAD};
    if (version == NULL) {
        return err_set(err, "no memory for a script");
    }
    end_loader(handler);
    eng_version_drop(handler->tried);
    handler->tried = version;
    if (handler->L == NULL && !eng_vm_create(handler, err)) {
        return false;
    }
    if (!eng_version_compile(version, err)) {
        return false;
    }
    handler->loader = eng_proc_create(handler->engine, handler, &start);
    if (handler->loader == NULL) {
        return err_set(err, "no memory for a process");
    }
    eng_version_use(handler->loader, version);
    eng_sched_touch(handler->loader);
    return true;
}

bool eng_load_begin(struct eng_handler *handler, const struct eng_text *text, struct err *err) {
    return try_version(handler, eng_version_create(handler, text), err);
}

static void fail_compile(struct eng_handler *handler, const char *why) {
    struct eng_error error;
    if (handler->vm != NULL && handler->vm->exceeded) {
        struct buf reason = {0};
        eng_reason_limit(&reason, "memory", handler->policy.memory, handler->vm->wanted);
        eng_error_plain(&error, handler, NULL, buf_span(&reason));
        buf_finish(&reason);
    } else {
        eng_error_compile(&error, handler, NULL, why);
    }
    log_text(handler->engine->log, LOG_LEVEL_ERROR, handler->name, buf_span(&error.text));
    eng_error_keep(&handler->last_error, &error);
    load_failed(handler, buf_span(&error.reason));
    eng_error_finish(&error);
}

void eng_load(struct eng_handler *handler, const struct eng_text *text,
              const struct eng_caller *caller) {
    struct err err;
    if (caller != NULL) {
        note_asker(handler, caller, false);
    }
    if (!eng_load_begin(handler, text, &err)) {
        fail_compile(handler, err.text);
    }
}

struct eng_version *eng_load_copy(struct eng_handler *handler) {
    const struct eng_version *version = handler->version;
    if (version == NULL) {
        return NULL;
    }
    struct eng_text text = {.source = buf_span(&version->source),
                            .policy = version->has_policy ? &version->policy : NULL,
                            .start = buf_span(&version->start),
                            .modules = buf_span(&version->modules)};
    struct eng_version *copy = eng_version_create(handler, &text);
    if (copy != NULL) {
        copy->is_text = version->is_text;
        copy->number = version->number;
        copy->since = version->since;
    }
    return copy;
}

void eng_load_again(struct eng_handler *handler, struct eng_version *copy) {
    struct err err;
    if (copy != NULL && !try_version(handler, copy, &err)) {
        fail_compile(handler, err.text);
    }
}

void eng_reload(struct eng_handler *handler, const struct eng_caller *caller) {
    const struct eng_version *version =
        handler->version == NULL ? handler->tried : handler->version;
    if (version == NULL || !version->is_text) {
        eng_load(handler, NULL, caller);
        return;
    }
    struct eng_text text = {.source = buf_span(&version->source),
                            .policy = version->has_policy ? &version->policy : NULL,
                            .start = buf_span(&version->start),
                            .modules = buf_span(&version->modules)};
    eng_load(handler, &text, caller);
}

void eng_unload(struct eng_handler *handler, const struct eng_caller *caller) {
    const struct eng_version *version = handler->version;
    if (handler->path != NULL && version != NULL && version->is_text) {
        note_asker(handler, caller, true);
        eng_load(handler, NULL, NULL); /* the file's comes back */
    } else {
        struct engine *engine = handler->engine;
        eng_handler_unload(handler);
        eng_reply_atom(engine, engine->control, caller, "ok");
    }
}

/* Pushes where the process is: the innermost function that has a line. [-0, +1, m] */
static void push_where(lua_State *L, lua_State *co) {
    lua_Debug frame;
    for (int level = 0; lua_getstack(co, level, &frame) != 0; level++) {
        lua_getinfo(co, "Sl", &frame);
        if (frame.currentline > 0) {
            lua_pushfstring(L, "%s:%d: ", frame.short_src, frame.currentline);
            return;
        }
    }
    lua_pushliteral(L, "");
}

/* Runs protected. Expects the loader's coroutine as a light userdata. [-1, +0, e] */
static int overrun(lua_State *L) {
    push_where(L, lua_touserdata(L, 1));
    return luaL_error(L, "%sthe script's top level has run for %d s without an end",
                      lua_tostring(L, -1), LOAD_MS / 1000);
}

bool eng_load_overran(struct eng_proc *proc) {
    lua_State *L = proc->handler->L;
    if (proc->start->purpose != ENG_LOAD || !proc->handler->policy.trusted ||
        proc->ran_ns < (uint64_t)LOAD_MS * 1000000 || !lua_checkstack(proc->co, 1)) {
        return false;
    }
    lua_pushcfunction(L, overrun);
    lua_pushlightuserdata(L, proc->co);
    lua_pcall(L, 1, 0, 0);
    lua_xmove(L, proc->co, 1);
    return true;
}

void eng_load_forget(struct eng_handler *handler) {
    handler->loader = NULL;
    eng_version_drop(handler->tried);
    eng_version_drop(handler->version);
    handler->tried = handler->version = NULL;
    while (handler->askers != NULL) {
        struct eng_asker *asker = handler->askers;
        LL_DELETE(handler->askers, asker);
        free(asker);
    }
}

/* }==== */
