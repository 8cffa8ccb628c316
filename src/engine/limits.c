/* The limits of an untrusted handler: what happens when one is met. */
#include "engine/private.h"

void eng_limit_hit(struct eng_proc *proc, const char *kind, size_t max, size_t used) {
    struct buf reason = {0};
    if (proc->killed) {
        return;
    }
    eng_event_limit(proc->handler, kind, max, used);
    eng_reason_limit(&reason, kind, max, used);
    eng_exit(proc, buf_span(&reason));
    buf_finish(&reason);
}

/* {==== Sizes ============================================================================= */

static bool is_free(const struct eng_handler *handler) {
    return handler == NULL || handler->policy.trusted;
}

/* An eighth is for what comes from others: a script that takes all it can is still to be called. */
static size_t most_of(const struct eng_handler *handler) {
    const struct eng_proc *running = handler->engine->running;
    size_t most = handler->policy.memory;
    return running != NULL && running->handler == handler ? most - most / 8 : most;
}

bool eng_outside_take(struct eng_handler *handler, size_t bytes) {
    if (is_free(handler)) {
        return true;
    }
    if (handler->outside + bytes > most_of(handler)) {
        return false;
    }
    handler->outside += bytes;
    return true;
}

void eng_outside_give(struct eng_handler *handler, size_t bytes) {
    if (!is_free(handler)) {
        handler->outside -= bytes;
    }
}

int eng_limit_raise(lua_State *L, const char *function, const char *what) {
    const struct eng_policy *policy = &eng_handler_of(L)->policy;
    if (policy->trusted) {
        return luaL_error(L, "erl.%s: no memory for %s", function, what);
    }
    return luaL_error(L,
                      "erl.%s: no memory for %s: the processes of this handler, their messages, "
                      "timers, monitors and links may take %I bytes",
                      function, what, (LUAI_UACINT)policy->memory);
}

bool eng_limit_fits(lua_State *L, size_t len, const char *root, struct err *err) {
    const struct eng_policy *policy = &eng_handler_of(L)->policy;
    return policy->trusted || len <= policy->message ||
           err_set(err, "%s: more than %zu bytes, which is the limit of a message", root,
                   policy->message);
}

/* }==== */

void eng_limit_atoms(void *user) {
    struct eng_handler *handler = user;
    struct eng_proc *proc = handler->engine->running;
    if (proc != NULL && proc->handler == handler) {
        eng_limit_hit(proc, "atoms", handler->allowance.max, handler->allowance.used + 1);
    }
}

bool eng_limit_is_met(const struct eng_proc *proc) {
    const struct eng_handler *handler = proc->handler;
    return !handler->policy.trusted && (proc->killed || handler->vm->exceeded);
}

static bool take_reason(struct span reason, struct span *kind, int64_t *max, int64_t *used) {
    uint32_t arity;
    struct span head;
    bool latin1;
    return ext_take_tuple(&reason, &arity) && arity == 4 && ext_take(&reason, &head) &&
           ext_is_atom(head, "limit") && ext_take_atom(&reason, kind, &latin1) &&
           ext_take_int(&reason, max) && ext_take_int(&reason, used);
}

bool eng_limit_tell(struct span reason, char *text, size_t size) {
    static const char *const words[][2] = {
        {"memory", "wanted %lld bytes of memory: the limit is %lld"},
        {"time", "ran for %lld ms without an end: the limit is %lld"},
        {"deadline", "could not be interrupted for %lld ms: the limit is %lld"},
        {"atoms", "made %lld atoms that there were not before: the limit is %lld"},
    };
    struct span kind;
    int64_t max;
    int64_t used;
    if (!take_reason(reason, &kind, &max, &used)) {
        return false;
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (span_equal(kind, span_str(words[i][0]))) {
            (void)snprintf(text, size, words[i][1], (long long)used, (long long)max);
            return true;
        }
    }
    return false;
}

/* {==== Memory ============================================================================ */

/* All processes end that share the VM; the log has one line of it. */
static void end_processes(struct eng_handler *handler) {
    struct buf reason = {0};
    size_t max = handler->policy.memory;
    struct eng_proc *first = handler->engine->running != NULL ? handler->engine->running : NULL;
    if (first == NULL || first->handler != handler || first->killed) {
        first = handler->procs;
    }
    eng_event_limit(handler, "memory", max, handler->vm->wanted);
    eng_reason_limit(&reason, "memory", max, handler->vm->wanted);
    for (struct eng_proc *proc = handler->procs; proc != NULL; proc = proc->next) {
        proc->logged = proc->logged || proc != first;
        eng_exit(proc, buf_span(&reason));
    }
    buf_finish(&reason);
}

void eng_limits_look(struct engine *engine) {
    engine->over_memory = false;
    for (struct eng_handler *handler = engine->handlers; handler != NULL; handler = handler->next) {
        if (handler->vm != NULL && handler->vm->exceeded && !handler->broken) {
            handler->broken = true;
            end_processes(handler);
        }
    }
    eng_exit_all(engine);
}

/* }==== */
