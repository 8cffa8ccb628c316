/* erl.sleep and erl.receive: a process waits, and the others go on. */
#include <math.h>

#include "engine/private.h"

int eng_wait(lua_State *L, struct eng_proc *proc, enum eng_wait wait, double ms,
             lua_KContext context, lua_KFunction k) {
    if (!eng_sched_wait(proc, wait, ms)) {
        return luaL_error(L, "no memory for a timer");
    }
    return eng_slice_wait(L, context, k);
}

double eng_check_ms(lua_State *L, int idx, double otherwise) {
    double ms = luaL_optnumber(L, idx, otherwise);
    luaL_argcheck(L, ms >= 0, idx, "milliseconds expected, 0 or more");
    return isinf(ms) ? -1 : ms;
}

/* {==== erl.sleep ========================================================================= */

/* [-0, +0, -] */
static int slept(lua_State *L, int status, lua_KContext context) {
    (void)L;
    (void)status;
    (void)context;
    return 0;
}

/* erl.sleep(ms) [-1, +0, e] */
static int erl_sleep(lua_State *L) {
    struct eng_proc *proc = eng_may_wait(L, "sleep");
    luaL_checknumber(L, 1);
    return eng_wait(L, proc, ENG_WAIT_TIME, eng_check_ms(L, 1, 0), 0, slept);
}

/* }==== */

/* {==== erl.receive ======================================================================= */

/* Its stack. The walk through the mailbox is at PLACE, a message tested already, which is there
 * still if as many were taken out as TAKEN says; else the first with a higher number comes next. */
enum { DEADLINE = 1, FILTER, NUMBER, PLACE, TAKEN, TOP = TAKEN };

static double now(void) {
    return (double)uv_hrtime() / 1e6;
}

static void set_place(lua_State *L, const struct eng_proc *proc, struct eng_mail *mail) {
    lua_pushinteger(L, mail == NULL ? 0 : (lua_Integer)mail->number);
    lua_replace(L, NUMBER);
    lua_pushlightuserdata(L, mail);
    lua_replace(L, PLACE);
    lua_pushinteger(L, (lua_Integer)proc->mailbox.taken);
    lua_replace(L, TAKEN);
}

/* The next message that was not tested yet. */
static struct eng_mail *next(lua_State *L, const struct eng_proc *proc) {
    struct eng_mail *mail = lua_touserdata(L, PLACE);
    if (mail != NULL && (lua_Integer)proc->mailbox.taken == lua_tointeger(L, TAKEN)) {
        return mail->next;
    }
    mail = proc->mailbox.first;
    while (mail != NULL && (lua_Integer)mail->number <= lua_tointeger(L, NUMBER)) {
        mail = mail->next;
    }
    return mail;
}

/* The one of that number, if it is there still. */
static struct eng_mail *numbered(const struct eng_proc *proc, lua_Integer number) {
    struct eng_mail *mail = proc->mailbox.first;
    while (mail != NULL && (lua_Integer)mail->number != number) {
        mail = mail->next;
    }
    return mail;
}

static int look(lua_State *L, struct eng_proc *proc);

/* The time is over, or there is more to look at. */
static int woken(lua_State *L, int status, lua_KContext context) {
    struct eng_proc *proc = (struct eng_proc *)context;
    (void)status;
    proc->job_ns = proc->job == ENG_RUN ? 0 : proc->job_ns;
    return look(L, proc);
}

/* Pushes the message and its caller. Making the values may run a script's `__gc`, which may call
 * erl.demonitor: the message stays where it is. [-0, +2, e] */
static void push_message(lua_State *L, struct eng_proc *proc, struct eng_mail *mail) {
    struct err err;
    struct span body = mail->body;
    proc->mailbox.pinned = mail->number;
    bool ok = term_decode(L, &body, &err);
    proc->mailbox.pinned = 0;
    if (!ok) {
        eng_mailbox_take(proc, mail);
        eng_mail_free(proc, mail);
        luaL_error(L, "erl.receive: a message that cannot be read: %s", err.text);
    }
    eng_from_push(L, proc, mail);
}

/* What a loop of the script's own has waited for, it may take its time over. */
static int take(lua_State *L, struct eng_proc *proc, struct eng_mail *mail) {
    push_message(L, proc, mail);
    eng_mailbox_take(proc, mail);
    eng_mail_free(proc, mail);
    proc->job_ns = proc->job == ENG_RUN ? 0 : proc->job_ns;
    proc->handler->counters.messages++;
    return 2;
}

/* The filter has answered. */
static int filtered(lua_State *L, int status, lua_KContext context) {
    struct eng_proc *proc = (struct eng_proc *)context;
    (void)status;
    bool wanted = lua_toboolean(L, -1);
    lua_settop(L, TOP);
    struct eng_mail *mail = wanted ? numbered(proc, lua_tointeger(L, NUMBER)) : NULL;
    return mail == NULL ? look(L, proc) : take(L, proc, mail);
}

static int test(lua_State *L, struct eng_proc *proc, struct eng_mail *mail) {
    lua_pushvalue(L, FILTER);
    push_message(L, proc, mail);
    lua_callk(L, 2, 1, (lua_KContext)proc, filtered);
    return filtered(L, LUA_OK, (lua_KContext)proc);
}

/* A system message was served. */
static int served(lua_State *L, int status, lua_KContext context) {
    struct eng_proc *proc = (struct eng_proc *)context;
    (void)status;
    eng_mail_free(proc, proc->serving);
    proc->serving = NULL;
    set_place(L, proc, NULL); /* a resumed process looks at all again */
    return look(L, proc);
}

static int serve(lua_State *L, struct eng_proc *proc, struct eng_mail *mail) {
    eng_mailbox_take(proc, mail);
    proc->serving = mail;
    lua_pushcfunction(L, eng_run_system);
    lua_pushlightuserdata(L, proc);
    lua_pushlightuserdata(L, mail);
    lua_callk(L, 2, 0, (lua_KContext)proc, served);
    return served(L, LUA_OK, (lua_KContext)proc);
}

static int wait_on(lua_State *L, struct eng_proc *proc) {
    if (proc->suspended) { /* by sys: it goes on when it is resumed, not when its time is over */
        return eng_wait(L, proc, ENG_WAIT_MAIL, -1, (lua_KContext)proc, woken);
    }
    double left = lua_isnil(L, DEADLINE) ? -1 : lua_tonumber(L, DEADLINE) - now();
    if (!lua_isnil(L, DEADLINE) && left <= 0) {
        lua_pushnil(L);
        lua_pushliteral(L, "timeout");
        return 2;
    }
    return eng_wait(L, proc, ENG_WAIT_MAIL, left, (lua_KContext)proc, woken);
}

/* run() takes a new version where it waits. What runs is the old function still; what it calls by
 * `self` is new. [-0, +2, e] */
static int upgrade(lua_State *L, struct eng_proc *proc) {
    lua_pushcfunction(L, eng_run_upgrade);
    lua_pushlightuserdata(L, proc);
    lua_callk(L, 1, 0, (lua_KContext)proc, woken);
    return woken(L, LUA_OK, (lua_KContext)proc);
}

static int look(lua_State *L, struct eng_proc *proc) {
    if (proc->job == ENG_RUN && eng_version_is_old(proc)) {
        return upgrade(L, proc);
    }
    struct eng_mail *mail = next(L, proc);
    while (mail != NULL && proc->suspended && mail->caller.kind != ENG_SYSTEM) {
        mail = mail->next;
    }
    if (mail == NULL) {
        return wait_on(L, proc);
    }
    if (mail->caller.kind == ENG_SYSTEM) {
        return serve(L, proc, mail);
    }
    if (lua_isnil(L, FILTER)) {
        return take(L, proc, mail);
    }
    set_place(L, proc, mail);
    return test(L, proc, mail);
}

/* erl.receive([ms [, filter]]) [-2, +2, e] */
static int erl_receive(lua_State *L) {
    struct eng_proc *proc = eng_may_wait(L, "receive");
    lua_settop(L, 2);
    double ms = eng_check_ms(L, 1, HUGE_VAL);
    if (!lua_isnil(L, FILTER)) {
        luaL_checktype(L, FILTER, LUA_TFUNCTION);
    }
    if (ms < 0) {
        lua_pushnil(L);
    } else {
        lua_pushnumber(L, now() + ms);
    }
    lua_replace(L, DEADLINE);
    lua_settop(L, TOP);
    set_place(L, proc, NULL);
    return look(L, proc);
}

/* }==== */

const luaL_Reg eng_wait_functions[] = {
    {"sleep", erl_sleep}, {"receive", erl_receive}, {NULL, NULL}};
