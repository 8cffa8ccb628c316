/* What a script sees of its own coroutine: a process's function is the main function of its VM, as
 * far as `coroutine` can tell. */
#include "engine/private.h"

static bool is_process(lua_State *L, lua_State *co) {
    struct eng_proc *running = eng_handler_of(L)->engine->running;
    return running != NULL && running->co == co;
}

/* coroutine.yield(...) [-n, +0, e] */
static int co_yield (lua_State *L) {
    if (is_process(L, L)) {
        return luaL_error(L, "attempt to yield from outside a coroutine");
    }
    return lua_yield(L, lua_gettop(L));
}

/* coroutine.isyieldable([co]) [-0, +1, e] */
static int co_isyieldable(lua_State *L) {
    lua_State *co = lua_isthread(L, 1) ? lua_tothread(L, 1) : L;
    lua_pushboolean(L, !is_process(L, co) && lua_isyieldable(co));
    return 1;
}

/* coroutine.running() [-0, +2, -] */
static int co_running(lua_State *L) {
    lua_pushboolean(L, lua_pushthread(L) || is_process(L, L));
    return 2;
}

void eng_coroutines_open(lua_State *L) {
    static const luaL_Reg functions[] = {{"yield", co_yield },
                                         {"isyieldable", co_isyieldable},
                                         {"running", co_running},
                                         {NULL, NULL}};
    lua_getglobal(L, LUA_COLIBNAME);
    luaL_setfuncs(L, functions, 0);
    lua_pop(L, 1);
}
