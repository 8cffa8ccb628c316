/* Lua states, one a handler, and the coroutines that their processes borrow. */
#include <stdlib.h>
#include <string.h>

#include "engine/private.h"

enum {
    POOL_SIZE = 64,
    MAX_REFUSALS = 100, /* of memory in one slice */
};

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

/* The VM ends as soon as nothing of it runs. */
static void exceed(struct eng_vm *vm, size_t more) {
    vm->exceeded = true;
    vm->wanted = vm->used + more;
    vm->handler->engine->over_memory = true;
    eng_slice_stop_soon(vm->slice);
}

/* There is no more. Lua collects garbage then and asks a second time for the same; its functions
 * that build strings do not, but raise an error. What these wanted is looked at when the slice is
 * over: see eng_vm_settle. */
static void *refuse(struct eng_vm *vm, const void *block, size_t more) {
    bool again = vm->refused_more == more && vm->refused == block;
    if (!vm->exceeded &&
        (again || more > vm->handler->policy.memory || ++vm->refusals > MAX_REFUSALS)) {
        exceed(vm, more);
    }
    vm->refused = block;
    vm->refused_more = more;
    vm->lacking = more > vm->lacking ? more : vm->lacking;
    return NULL;
}

/* Counts, and keeps to the limit. Lua relies on that making a block smaller never fails. */
static void *allocate_counted(void *user, void *block, size_t old, size_t size) {
    struct eng_vm *vm = user;
    size_t had = block == NULL ? 0 : old; /* without a block it is the kind of object */
    if (size == 0) {
        eng_heap_free(vm->heap, block);
        vm->used -= had;
        return NULL;
    }
    bool grows = size > had;
    size_t limit = vm->handler->policy.memory;
    if (grows && (vm->exceeded || vm->used > limit || size - had > limit - vm->used)) {
        return refuse(vm, block, size - had);
    }
    void *moved = eng_heap_resize(vm->heap, block, size);
    if (moved == NULL) {
        return grows ? refuse(vm, block, size - had) : block;
    }
    vm->used += size - had;
    vm->peak = vm->used > vm->peak ? vm->used : vm->peak;
    if (grows && vm->refused == block && vm->refused_more == size - had) {
        vm->lacking = vm->lacking == vm->refused_more ? 0 : vm->lacking;
        vm->refused_more = 0; /* the garbage has made room */
    }
    return moved;
}

void eng_vm_settle(struct eng_handler *handler, bool failed) {
    struct eng_vm *vm = handler->vm;
    size_t limit = handler->policy.memory;
    size_t more = vm->lacking;
    vm->refused_more = vm->lacking = vm->refusals = 0;
    if (vm->exceeded || (more == 0 && vm->used < vm->enough)) {
        return;
    }
    if (failed && more > 0) {
        exceed(vm, more); /* it is what failed */
        return;
    }
    lua_gc(handler->L, LUA_GCCOLLECT);
    vm->enough = vm->used < limit / 2 ? limit / 4 * 3 : vm->used + (limit - vm->used) / 2;
    if (vm->used > limit || more > limit - vm->used) {
        exceed(vm, more);
    }
}

size_t eng_vm_memory(const struct eng_handler *handler) {
    if (handler->vm == NULL || handler->vm->heap != NULL) {
        return handler->vm == NULL ? 0 : handler->vm->used;
    }
    return (size_t)lua_gc(handler->L, LUA_GCCOUNT) * 1024 +
           (size_t)lua_gc(handler->L, LUA_GCCOUNTB);
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
        term_set_allowance(L, &handler->allowance);
        term_set_max_size(L, handler->policy.message);
    }
    return 0;
}

/* As in luaL_newstate: an error outside any protected call ends the process. There is none. */
static int on_panic(lua_State *L) {
    const char *why = lua_tostring(L, -1);
    (void)fprintf(stderr, "lunode: an error outside any function: %s\n", why ? why : "no text");
    return 0;
}

/* Sets handler->vm and handler->L. */
static bool new_state(struct eng_handler *handler) {
    bool trusted = handler->policy.trusted;
    struct eng_vm *vm = calloc(1, sizeof *vm);
    if (vm == NULL) {
        return false;
    }
    handler->vm = vm;
    vm->slice = &handler->engine->slice;
    handler->engine->has_untrusted = handler->engine->has_untrusted || !trusted;
    vm->handler = handler;
    vm->enough = handler->policy.memory / 4 * 3;
    vm->heap = trusted ? NULL : eng_heap_create();
    if (vm->heap == NULL && !trusted) {
        return false;
    }
    handler->L = lua_newstate(trusted ? allocate : allocate_counted, vm);
    if (handler->L == NULL) {
        return false;
    }
    lua_atpanic(handler->L, on_panic);
    *(void **)lua_getextraspace(handler->L) = NULL;
    return true;
}

static bool fail(struct eng_handler *handler, struct err *err) {
    if (handler->vm != NULL && handler->vm->refused_more > 0) {
        return err_set(err, "the limit of %zu bytes of memory is too small for any script",
                       handler->policy.memory);
    }
    return err_set(err, "no memory for a Lua state");
}

bool eng_vm_create(struct eng_handler *handler, struct err *err) {
    handler->pool = calloc(1, sizeof *handler->pool);
    if (handler->pool == NULL || !new_state(handler)) {
        fail(handler, err);
        eng_vm_destroy(handler);
        return false;
    }
    lua_pushcfunction(handler->L, open_state);
    lua_pushlightuserdata(handler->L, handler);
    int status = lua_pcall(handler->L, 1, 0, 0);
    if (status != LUA_OK) {
        if (status == LUA_ERRMEM) {
            fail(handler, err);
        } else {
            err_set(err, "%s", lua_tostring(handler->L, -1));
        }
        eng_vm_destroy(handler);
        return false;
    }
    return true;
}

void eng_vm_destroy(struct eng_handler *handler) {
    struct eng_vm *vm = handler->vm;
    if (handler->L != NULL && vm->heap == NULL) {
        lua_close(handler->L);
    }
    if (handler->L != NULL && vm->heap != NULL) {
        term_drop(handler->L);
    }
    if (vm != NULL) {
        eng_heap_destroy(vm->heap);
    }
    free(vm);
    free(handler->pool);
    handler->L = NULL;
    handler->vm = NULL;
    handler->pool = NULL;
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

/* }==== */
