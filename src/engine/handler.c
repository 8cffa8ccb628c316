/* Handlers: a script, its VM, its registered process, and how often that may fail. */
#include <stdlib.h>
#include <string.h>

#include "engine/private.h"

/* {==== Compiling ========================================================================= */

/* A fresh environment, so that the script's globals are its own and go with it. [-0, +0, m] */
static void set_environment(lua_State *L, int chunk) {
    lua_newtable(L);
    lua_newtable(L);
    lua_pushglobaltable(L);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "_G");
    lua_setupvalue(L, chunk, 1);
}

/* Runs protected. Expects the handler as a light userdata. [-1, +0, e] */
static int compile(lua_State *L) {
    struct eng_handler *handler = lua_touserdata(L, 1);
    if (luaL_loadfile(L, handler->path) != LUA_OK) {
        return lua_error(L);
    }
    set_environment(L, lua_gettop(L));
    handler->chunk_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

/* Runs `f` protected with the handler as its argument. */
static bool protect(struct eng_handler *handler, lua_CFunction f, struct err *err) {
    lua_State *L = handler->L;
    lua_pushcfunction(L, f);
    lua_pushlightuserdata(L, handler);
    if (lua_pcall(L, 1, 0, 0) == LUA_OK) {
        return true;
    }
    err_set(err, "%s", luaL_tolstring(L, -1, NULL));
    lua_pop(L, 2);
    return false;
}

/* Whether the table on top has the function itself. [-0, +0, m] */
static bool has_function(lua_State *L, const char *name) {
    if (!lua_istable(L, -1)) {
        return false;
    }
    lua_pushstring(L, name);
    lua_rawget(L, -2);
    bool has = lua_isfunction(L, -1);
    lua_pop(L, 1);
    return has;
}

/* The metatable of every `self`. [-1, +0, m] */
static void keep_value(lua_State *L, struct eng_handler *handler) {
    lua_createtable(L, 0, 1);
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, "__index"); /* value, meta */
    handler->meta_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    handler->is_function = lua_isfunction(L, -1);
    handler->has_run = has_function(L, "run");
    handler->has_terminate = has_function(L, "terminate");
    handler->value_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

void eng_handler_accept(lua_State *L, struct eng_handler *handler) {
    if (!lua_istable(L, -1) && !lua_isfunction(L, -1)) {
        luaL_error(L, "%s: a handler returns a table of functions or one function, not %s",
                   handler->path, luaL_typename(L, -1));
    }
    keep_value(L, handler);
    for (struct eng_proc *proc = handler->procs; proc != NULL; proc = proc->next) {
        eng_sched_touch(proc); /* those that were spawned before it had loaded */
    }
}

/* }==== */

/* {==== Creating and destroying =========================================================== */

struct eng_handler *eng_handler_create(struct engine *engine, const struct eng_script *script,
                                       struct err *err) {
    struct eng_handler *handler = calloc(1, sizeof *handler);
    if (handler == NULL) {
        err_set(err, "no memory for a handler");
        return NULL;
    }
    handler->engine = engine;
    handler->name = strdup(script->name);
    handler->path = strdup(script->path);
    handler->stop_on_failure = script->stop_on_failure;
    handler->max_mailbox = script->max_mailbox;
    handler->chunk_ref = LUA_NOREF;
    handler->value_ref = LUA_NOREF;
    handler->meta_ref = LUA_NOREF;
    if (handler->name == NULL || handler->path == NULL) {
        err_set(err, "no memory for a handler");
    } else if (eng_vm_create(&handler->L, handler, err) && protect(handler, compile, err)) {
        return handler;
    }
    eng_reason_lua_error(&handler->failure, err->text);
    return handler;
}

void eng_handler_destroy(struct eng_handler *handler) {
    while (handler->procs != NULL) {
        eng_proc_destroy(handler->procs);
    }
    eng_vm_destroy(handler->L);
    eng_output_finish(handler);
    eng_pool_destroy(handler->pool);
    buf_finish(&handler->failure);
    free(handler->name);
    free(handler->path);
    free(handler);
}

/* }==== */

/* {==== The registered process ============================================================ */

bool eng_handler_start(struct eng_handler *handler) {
    static const struct eng_start start = {.purpose = ENG_LASTING};
    handler->proc = eng_proc_create(handler->engine, handler, &start);
    if (handler->proc == NULL) {
        return false;
    }
    eng_sched_touch(handler->proc);
    return true;
}

/* Notes a failure. Whether there were more than ENG_MAX_FAILURES within the span. */
static bool too_often(struct eng_handler *handler) {
    uint64_t now = uv_now(handler->engine->loop);
    uint64_t oldest = handler->failures[0];
    memmove(handler->failures, handler->failures + 1,
            sizeof handler->failures - sizeof *handler->failures);
    handler->failures[ENG_MAX_FAILURES - 1] = now;
    return oldest != 0 && now - oldest < ENG_FAILURE_SPAN_MS;
}

/* Without the script nothing of it can run. */
static void end_all(struct eng_handler *handler, struct span reason) {
    for (struct eng_proc *proc = handler->procs; proc != NULL; proc = proc->next) {
        eng_exit(proc, reason);
    }
}

static void stay_down(struct eng_handler *handler, struct span reason, const char *why) {
    log_line(handler->engine->log, LOG_LEVEL_ERROR, handler->name, "%s: it stays down", why);
    eng_reason_copy(&handler->failure, reason);
    if (handler->stop_on_failure) {
        handler->engine->events.failed(handler->engine->user, handler->name);
    }
}

void eng_handler_ended(struct eng_handler *handler, struct span reason) {
    char often[64];
    (void)snprintf(often, sizeof often, "failed more than %d times in %d s", ENG_MAX_FAILURES,
                   ENG_FAILURE_SPAN_MS / 1000);
    if (handler->engine->stopping) {
        return;
    }
    if (handler->value_ref == LUA_NOREF) {
        stay_down(handler, reason, "the script does not load");
        end_all(handler, reason);
    } else if (eng_reason_is_quiet(reason)) {
        return; /* as was wished */
    } else if (too_often(handler)) {
        stay_down(handler, reason, often);
    } else if (!eng_handler_start(handler)) {
        stay_down(handler, reason, "no memory for a process");
    }
}

/* }==== */

/* {==== Names ============================================================================= */

struct eng_handler *eng_handler_find(struct engine *engine, struct span name) {
    struct eng_handler *handler = engine->handlers;
    while (handler != NULL && !span_equal(span_str(handler->name), name)) {
        handler = handler->next;
    }
    return handler;
}

struct eng_handler *eng_handler_default(struct engine *engine) {
    struct eng_handler *handler = eng_handler_find(engine, span_str("any"));
    if (handler == NULL) {
        handler = eng_handler_find(engine, span_str("main"));
    }
    return handler == NULL ? engine->only : handler;
}

/* }==== */
