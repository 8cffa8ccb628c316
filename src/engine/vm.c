/* Lua states, one a handler, and the coroutines that their processes borrow. */
#include <stdlib.h>
#include <string.h>

#include "engine/private.h"

enum { POOL_SIZE = 64 };

/* Idle coroutines, kept alive by the registry. */
struct eng_pool {
    size_t count;
    struct {
        lua_State *co;
        int ref;
    } idle[POOL_SIZE];
};

/* {==== The allocator ===================================================================== */

static void *allocate(void *user, void *block, size_t old, size_t size) {
    (void)user;
    (void)old;
    if (size == 0) {
        free(block);
        return NULL;
    }
    return realloc(block, size);
}

static struct eng_vm *vm_of(lua_State *L) {
    void *vm;
    lua_getallocf(L, &vm);
    return vm;
}

struct eng_handler *eng_handler_of(lua_State *L) {
    return vm_of(L)->handler;
}

/* }==== */

/* {==== A new state ======================================================================= */

/* require "lunode.term" gives the table that the state has already. [-0, +1, -] */
static int load_term(lua_State *L) {
    lua_pushvalue(L, lua_upvalueindex(1));
    return 1;
}

/* The types go into the table `erl`; `atom` and `ipairs` are globals too. [-0, +0, m] */
static void open_erl(lua_State *L, struct eng_handler *handler) {
    term_open(L, handler->engine->atoms);
    term_set_fun_call(L, eng_call_fun);
    lua_getfield(L, -1, "atom");
    lua_setglobal(L, "atom");
    lua_getfield(L, -1, "ipairs");
    lua_setglobal(L, "ipairs");
    eng_erl_open(L);
    eng_output_open(L);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_pushvalue(L, -2);       /* erl, loaded, erl */
    lua_setfield(L, -2, "erl"); /* tracebacks find the functions' names here */
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushvalue(L, -3); /* erl, loaded, preload, erl */
    lua_pushcclosure(L, load_term, 1);
    lua_setfield(L, -2, "lunode.term");
    lua_pop(L, 2);
    lua_setglobal(L, "erl");
}

/* Runs protected. Expects the handler as a light userdata. [-1, +0, m] */
static int open_state(lua_State *L) {
    struct eng_handler *handler = lua_touserdata(L, 1);
    bool trusted = handler->policy.trusted;
    if (trusted) {
        luaL_openlibs(L);
    } else {
        eng_sandbox_open(L);
    }
    eng_from_open(L);
    open_erl(L, handler);
    eng_coroutines_open(L);
    if (trusted) {
        eng_os_exit_open(L);
    } else {
        eng_sandbox_seal(L);
    }
    return 0;
}

/* As in luaL_newstate: an error outside any protected call ends the process. There is none. */
static int on_panic(lua_State *L) {
    const char *why = lua_tostring(L, -1);
    (void)fprintf(stderr, "lunode: an error outside any function: %s\n", why ? why : "no text");
    return 0;
}

static lua_State *new_state(struct eng_handler *handler) {
    struct eng_vm *vm = malloc(sizeof *vm);
    if (vm == NULL) {
        return NULL;
    }
    *vm = (struct eng_vm){&handler->engine->slice, handler};
    lua_State *L = lua_newstate(allocate, vm);
    if (L == NULL) {
        free(vm);
        return NULL;
    }
    lua_atpanic(L, on_panic);
    *(void **)lua_getextraspace(L) = NULL;
    return L;
}

bool eng_vm_create(lua_State **out, struct eng_handler *handler, struct err *err) {
    lua_State *L = new_state(handler);
    handler->pool = calloc(1, sizeof *handler->pool);
    *out = L;
    if (L == NULL || handler->pool == NULL) {
        return err_set(err, "no memory for a Lua state");
    }
    lua_pushcfunction(L, open_state);
    lua_pushlightuserdata(L, handler);
    if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
        err_set(err, "%s", lua_tostring(L, -1));
        lua_pop(L, 1);
        return false;
    }
    return true;
}

void eng_vm_destroy(lua_State *L) {
    if (L != NULL) {
        struct eng_vm *vm = vm_of(L);
        lua_close(L);
        free(vm);
    }
}

/* }==== */

/* {==== Coroutines ======================================================================== */

/* Runs protected: a new coroutine, kept in the registry. [-0, +2, m] */
static int new_coroutine(lua_State *L) {
    lua_State *co = lua_newthread(L);
    int ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushlightuserdata(L, co);
    lua_pushinteger(L, ref);
    return 2;
}

lua_State *eng_pool_borrow(struct eng_handler *handler, int *ref) {
    struct eng_pool *pool = handler->pool;
    if (pool->count > 0) {
        pool->count--;
        *ref = pool->idle[pool->count].ref;
        return pool->idle[pool->count].co;
    }
    lua_State *L = handler->L;
    lua_pushcfunction(L, new_coroutine);
    if (lua_pcall(L, 0, 2, 0) != LUA_OK) {
        lua_pop(L, 1);
        return NULL;
    }
    lua_State *co = lua_touserdata(L, -2);
    *ref = (int)lua_tointeger(L, -1);
    lua_pop(L, 2);
    return co;
}

void eng_pool_return(struct eng_handler *handler, lua_State *co, int ref) {
    struct eng_pool *pool = handler->pool;
    lua_settop(co, 0);
    if (pool->count == POOL_SIZE) {
        luaL_unref(handler->L, LUA_REGISTRYINDEX, ref);
        return;
    }
    pool->idle[pool->count].co = co;
    pool->idle[pool->count].ref = ref;
    pool->count++;
}

void eng_pool_destroy(struct eng_pool *pool) {
    free(pool);
}

/* }==== */
