/* Answers to callers, and the Lua object `from` that stands for one. */
#include <utlist.h>

#include "engine/private.h"

static const char from_name[] = "from";

/* {==== The answer itself ================================================================= */

static bool is_call(const struct eng_caller *caller) {
    return caller->kind == ENG_CALL || caller->kind == ENG_SYSTEM;
}

/* How to address the caller: an alias is dropped by the BEAM when the caller has given up. */
static struct dist_control address(const struct eng_proc *proc, const struct eng_caller *caller) {
    struct dist_control control = {.op = DIST_SEND, .to = caller->pid};
    struct span ref;
    bool alias;
    if (is_call(caller) && eng_tag_ref(caller->tag, &ref, &alias) && alias) {
        control =
            (struct dist_control){.op = DIST_ALIAS_SEND, .from = buf_span(&proc->pid), .ref = ref};
    }
    return control;
}

/* What precedes the value: {Tag, value} to a call, {node, value} to a sender to `any`. */
static bool put_head(struct engine *engine, const struct eng_caller *caller, struct buf *out) {
    if (!ext_put_tuple(out, 2)) {
        return false;
    }
    if (is_call(caller)) {
        return buf_append(out, caller->tag.data, caller->tag.len);
    }
    return ext_put_atom(out, eng_node_name(engine));
}

static struct buf *begin(struct engine *engine, struct eng_proc *proc,
                         const struct eng_caller *caller, struct err *err) {
    struct dist_control control = address(proc, caller);
    struct buf *out = eng_send_begin(engine, &control, (struct span){0}, err);
    if (out != NULL && !put_head(engine, caller, out)) {
        eng_send_drop(engine);
        err_set(err, "no memory for a reply");
        return NULL;
    }
    return out;
}

/* Who serves everybody does not wait for the one caller that doesn't read his answers. */
static bool end(struct engine *engine, struct err *err) {
    struct dist_peer *crowded = engine->crowded;
    bool ok = eng_send_end(engine, err);
    engine->crowded = crowded;
    return ok;
}

bool eng_put_values(lua_State *L, int n, const char *root, struct buf *out, struct err *err) {
    if (n == 0) {
        return ext_put_atom(out, span_str("nil")) || err_set(err, "no memory for a reply");
    }
    if (n == 1) {
        return term_encode(L, -1, root, out, err);
    }
    if (!ext_put_tuple(out, (uint32_t)n)) {
        return err_set(err, "no memory for a reply");
    }
    size_t start = out->len;
    for (int i = -n; i < 0; i++) {
        char path[64];
        (void)snprintf(path, sizeof path, "%s %d", root, n + i + 1);
        if (!term_encode(L, i, path, out, err) || !eng_limit_fits(L, out->len - start, root, err)) {
            return false;
        }
    }
    return true;
}

void eng_reply_values(lua_State *L, struct eng_proc *proc, const struct eng_caller *caller, int n,
                      const char *root) {
    struct engine *engine = proc->engine;
    struct err err;
    struct buf *out = begin(engine, proc, caller, &err);
    if (out == NULL) {
        return; /* the caller's node has gone: nobody waits any more */
    }
    if (!eng_put_values(L, n, root, out, &err)) {
        eng_send_drop(engine);
        luaL_error(L, "%s", err.text);
    }
    if (!end(engine, &err)) {
        luaL_error(L, "%s: %s", root, err.text);
    }
}

void eng_reply_term(struct engine *engine, struct eng_proc *proc, const struct eng_caller *caller,
                    struct span value) {
    struct err err;
    struct buf *out = begin(engine, proc, caller, &err);
    if (out == NULL) {
        return;
    }
    if (!buf_append(out, value.data, value.len)) {
        eng_send_drop(engine);
        return;
    }
    end(engine, &err);
}

void eng_reply_atom(struct engine *engine, struct eng_proc *proc, const struct eng_caller *caller,
                    const char *name) {
    struct buf value = {0};
    eng_reason_atom(&value, name);
    eng_reply_term(engine, proc, caller, buf_span(&value));
    buf_finish(&value);
}

void eng_from_done(struct eng_from *from) {
    if (from->proc != NULL) {
        DL_DELETE(from->proc->owed, from);
        from->proc = NULL;
    }
}

/* }==== */

/* {==== Answers that say why there is none ================================================ */

static void reply_error(struct engine *engine, struct eng_proc *proc,
                        const struct eng_caller *caller, struct span reason) {
    struct buf value = {0};
    if (ext_put_tagged(&value, "error", reason)) {
        eng_reply_term(engine, proc, caller, buf_span(&value));
    }
    buf_finish(&value);
}

void eng_reply_failure(struct engine *engine, struct eng_proc *proc,
                       const struct eng_caller *caller, struct span reason) {
    struct span ref;
    bool alias;
    if (caller->kind == ENG_ANY) {
        reply_error(engine, proc, caller, reason);
    } else if (is_call(caller) && !(eng_tag_ref(caller->tag, &ref, &alias) &&
                                    eng_monitor_fire(engine, proc, ref, reason))) {
        log_line(engine->log, LOG_LEVEL_WARNING, proc->handler ? proc->handler->name : "lunode",
                 "a caller that does not monitor this process waits in vain: its call failed");
    }
}

void eng_fail_waiting(struct engine *engine, struct eng_proc *proc, struct span reason) {
    struct eng_from *from;
    struct eng_from *next;
    DL_FOREACH_SAFE(proc->owed, from, next) {
        if (from->caller.kind == ENG_ANY) {
            eng_reply_failure(engine, proc, &from->caller, reason);
        }
        eng_from_done(from);
    }
    if (proc->current != NULL && proc->current->from == NULL &&
        proc->current->caller.kind == ENG_ANY) {
        eng_reply_failure(engine, proc, &proc->current->caller, reason);
    }
    for (struct eng_mail *mail = proc->mailbox.first; mail != NULL; mail = mail->next) {
        if (mail->caller.kind == ENG_ANY && mail->from == NULL) {
            eng_reply_failure(engine, proc, &mail->caller, reason);
        }
    }
}

/* }==== */

/* {==== The object `from` ================================================================= */

/* [-0, +0, -] */
static int from_gc(lua_State *L) {
    eng_from_done(luaL_checkudata(L, 1, from_name));
    return 0;
}

/* [-1, +1, m] */
static int from_tostring(lua_State *L) {
    struct eng_from *from = luaL_checkudata(L, 1, from_name);
    lua_pushstring(L, from->proc == NULL ? "from (answered)" : "from");
    return 1;
}

void eng_from_open(lua_State *L) {
    static const luaL_Reg methods[] = {
        {"__gc", from_gc}, {"__tostring", from_tostring}, {NULL, NULL}};
    luaL_newmetatable(L, from_name);
    luaL_setfuncs(L, methods, 0);
    lua_pushliteral(L, "from");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

/* Copies the caller out of the message, which goes when it is handled. [-0, +1, m] */
static struct eng_from *new_from(lua_State *L, struct eng_proc *proc,
                                 const struct eng_caller *caller) {
    struct eng_from *from =
        lua_newuserdatauv(L, sizeof *from + caller->pid.len + caller->tag.len, 0);
    from->proc = NULL;
    memcpy(from->bytes, caller->pid.data, caller->pid.len);
    from->caller = (struct eng_caller){caller->kind, span_of(from->bytes, caller->pid.len), {0}};
    if (caller->tag.len > 0) {
        memcpy(from->bytes + caller->pid.len, caller->tag.data, caller->tag.len);
        from->caller.tag = span_of(from->bytes + caller->pid.len, caller->tag.len);
    }
    luaL_setmetatable(L, from_name);
    from->proc = proc;
    DL_APPEND(proc->owed, from);
    return from;
}

void eng_from_push(lua_State *L, struct eng_proc *proc, struct eng_mail *mail) {
    if (mail == NULL || (mail->caller.kind != ENG_CALL && mail->caller.kind != ENG_ANY)) {
        lua_pushnil(L);
        return;
    }
    if (mail->from == NULL) {
        struct eng_from *from = new_from(L, proc, &mail->caller);
        lua_pushvalue(L, -1);
        mail->from_ref = luaL_ref(L, LUA_REGISTRYINDEX);
        mail->from = from;
        return;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, mail->from_ref);
}

struct eng_from *eng_from_check(lua_State *L, int idx) {
    return luaL_checkudata(L, idx, from_name);
}

/* }==== */
