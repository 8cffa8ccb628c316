/* The functions of `coroutine`, as Lua's own (lcorolib.c) are, but for what the scheduler needs:
 * they note which thread executes, a yield of the scheduler passes outward through them, and a
 * coroutine that is in use by one process is not resumed or closed by another. To a script, its
 * process's coroutine is the main one. */
#include <lauxlib.h>
#include <lualib.h>

#include "engine/slice.h"

static bool is_main(lua_State *co) {
    return *eng_busy(co) == co;
}

/* [-0, +0, v] */
static lua_State *check_thread(lua_State *L) {
    lua_State *co = lua_tothread(L, 1);
    luaL_argexpected(L, co != NULL, 1, "thread");
    return co;
}

/* {==== Status ============================================================================ */

enum status { RUNNING, DEAD, SUSPENDED, NORMAL };

static const char *const status_names[] = {"running", "dead", "suspended", "normal"};

static enum status status_of(lua_State *L, lua_State *co) {
    lua_Debug ar;
    if (co == L) {
        return RUNNING;
    }
    if (*eng_busy(co) != NULL) {
        return NORMAL;
    }
    switch (lua_status(co)) {
    case LUA_YIELD:
        return SUSPENDED;
    case LUA_OK:
        if (lua_getstack(co, 0, &ar)) {
            return NORMAL;
        }
        return lua_gettop(co) == 0 ? DEAD : SUSPENDED; /* a function: not started yet */
    default:
        return DEAD; /* by an error */
    }
}

/* coroutine.status(co) [-0, +1, v] */
static int co_status(lua_State *L) {
    lua_pushstring(L, status_names[status_of(L, check_thread(L))]);
    return 1;
}

/* coroutine.isyieldable([co]) [-0, +1, v] */
static int co_isyieldable(lua_State *L) {
    lua_State *co = lua_isnone(L, 1) ? L : check_thread(L);
    lua_pushboolean(L, !is_main(co) && lua_isyieldable(co));
    return 1;
}

/* coroutine.running() [-0, +2, -] */
static int co_running(lua_State *L) {
    bool main = lua_pushthread(L) || is_main(L);
    lua_pushboolean(L, main);
    return 2;
}

/* }==== */

/* {==== Resuming ========================================================================== */

static int continue_resume(lua_State *L, int status, lua_KContext ctx);
static int continue_wrap(lua_State *L, int status, lua_KContext ctx);

/* Starts or continues `co` with `nargs` arguments that are on its stack already; gives how many
 * results were pushed, or -1 with an error value pushed. Yields in the middle when the scheduler
 * wants so. [-0, +n or 1, e] */
static int drive(lua_State *L, lua_State *co, int nargs, lua_KFunction k) {
    int count;
    int status = eng_slice_resume(L, co, nargs, &count);
    if (status == LUA_YIELD && eng_slice_of(L)->why != ENG_YIELD_SCRIPT) {
        return lua_yieldk(L, 0, 0, k);
    }
    if (status != LUA_OK && status != LUA_YIELD) {
        lua_xmove(co, L, 1);
        return -1;
    }
    if (!lua_checkstack(L, count + 1)) {
        lua_pop(co, count);
        lua_pushliteral(L, "too many results to resume");
        return -1;
    }
    lua_xmove(co, L, count);
    return count;
}

/* Moves the `nargs` values on top over to `co` and runs it. [-nargs, +n or 1, e] */
static int start(lua_State *L, lua_State *co, int nargs, lua_KFunction k) {
    if (*eng_busy(co) != NULL) {
        lua_pushliteral(L, "cannot resume non-suspended coroutine");
        return -1;
    }
    if (!lua_checkstack(co, nargs)) {
        lua_pushliteral(L, "too many arguments to resume");
        return -1;
    }
    lua_xmove(L, co, nargs);
    return drive(L, co, nargs, k);
}

/* true and the results, or false and the error value. [-0, +1, -] */
static int resume_results(lua_State *L, int count) {
    int pushed = count < 0 ? 1 : count;
    lua_pushboolean(L, count >= 0);
    lua_insert(L, -(pushed + 1));
    return pushed + 1;
}

static int continue_resume(lua_State *L, int status, lua_KContext ctx) {
    (void)status;
    (void)ctx;
    return resume_results(L, drive(L, lua_tothread(L, 1), 0, continue_resume));
}

/* coroutine.resume(co, ...) [-n, +n, e] */
static int co_resume(lua_State *L) {
    lua_State *co = check_thread(L);
    return resume_results(L, start(L, co, lua_gettop(L) - 1, continue_resume));
}

/* }==== */

/* {==== Wrapping ========================================================================== */

/* Raises the error value on top, with the place in front if it is a text. What failed is closed;
 * that may end in another error. [-1, +0, e] */
static int wrap_error(lua_State *L, lua_State *co) {
    int status = lua_status(co);
    if (status != LUA_OK && status != LUA_YIELD) {
        status = eng_slice_reset(L, co);
        lua_xmove(co, L, 1);
    }
    if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

static lua_State *wrapped(lua_State *L) {
    return lua_tothread(L, lua_upvalueindex(1));
}

static int wrap_results(lua_State *L, int count) {
    return count < 0 ? wrap_error(L, wrapped(L)) : count;
}

static int continue_wrap(lua_State *L, int status, lua_KContext ctx) {
    (void)status;
    (void)ctx;
    return wrap_results(L, drive(L, wrapped(L), 0, continue_wrap));
}

/* What coroutine.wrap gives. [-n, +n, e] */
static int call_wrapped(lua_State *L) {
    return wrap_results(L, start(L, wrapped(L), lua_gettop(L), continue_wrap));
}

/* }==== */

/* {==== The others ======================================================================== */

/* coroutine.create(f) [-0, +1, e] */
static int co_create(lua_State *L) {
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_State *co = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    return 1;
}

/* coroutine.wrap(f) [-0, +1, e] */
static int co_wrap(lua_State *L) {
    co_create(L);
    lua_pushcclosure(L, call_wrapped, 1);
    return 1;
}

/* coroutine.yield(...) [-n, +n, e] */
static int co_yield (lua_State *L) {
    if (is_main(L)) {
        return luaL_error(L, "attempt to yield from outside a coroutine");
    }
    return lua_yield(L, lua_gettop(L));
}

/* coroutine.close(co) [-0, +1 or 2, e] */
static int co_close(lua_State *L) {
    lua_State *co = check_thread(L);
    enum status status = status_of(L, co);
    if (status != DEAD && status != SUSPENDED) {
        return luaL_error(L, "cannot close a %s coroutine", status_names[status]);
    }
    bool closed = eng_slice_reset(L, co) == LUA_OK;
    lua_pushboolean(L, closed);
    if (closed) {
        return 1;
    }
    lua_xmove(co, L, 1);
    return 2;
}

/* debug.sethook(...) [-0, +0, e] */
static int refuse_hook(lua_State *L) {
    return luaL_error(L,
                      "debug.sethook cannot be used: the scheduler needs the hook for itself, to "
                      "interrupt what runs long");
}

void eng_coroutines_open(lua_State *L) {
    static const luaL_Reg functions[] = {{"create", co_create},
                                         {"resume", co_resume},
                                         {"running", co_running},
                                         {"status", co_status},
                                         {"wrap", co_wrap},
                                         {"yield", co_yield },
                                         {"close", co_close},
                                         {"isyieldable", co_isyieldable},
                                         {NULL, NULL}};
    lua_getglobal(L, LUA_COLIBNAME);
    luaL_setfuncs(L, functions, 0);
    if (lua_getglobal(L, LUA_DBLIBNAME) == LUA_TTABLE) {
        lua_pushcfunction(L, refuse_hook);
        lua_setfield(L, -2, "sethook");
    }
    lua_pop(L, 2);
}

/* }==== */
