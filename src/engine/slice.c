/* Running a process for a slice, and the signal and the hook that end it. The watchdog that sends
 * the signal is in watchdog.c. */
#include "engine/slice.h"

#include <errno.h>
#include <lauxlib.h>
#include <string.h>
#include <time.h>

enum {
    EVERY = LUNODE_PREEMPT_EVERY,
    STUCK_SAMPLES = 100, /* so often in a row one frame is found before it counts as stuck */
};

/* A signal's handler gets no argument. */
static struct eng_slice *volatile the_slice;

uint64_t eng_slice_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static unsigned long number_of(struct eng_slice *slice) {
    return atomic_load_explicit(&slice->number, memory_order_relaxed);
}

/* {==== Where a slice is stuck ============================================================ */

static bool is_asked(struct eng_slice *slice) {
    unsigned long number = number_of(slice);
    return atomic_load_explicit(&slice->asked, memory_order_acquire) == number &&
           atomic_load_explicit(&slice->told, memory_order_relaxed) != number;
}

/* Finds the innermost line of a script, from `level` of `L` outward, for the watchdog. */
static void tell_where(struct eng_slice *slice, lua_State *L, int level) {
    lua_Debug *ar = &slice->where;
    size_t len = slice->who == NULL ? 0 : strnlen(slice->who, ENG_SLICE_WHO - 1);
    memcpy(slice->told_who, slice->who == NULL ? "" : slice->who, len);
    slice->told_who[len] = '\0';
    ar->currentline = -1;
    for (;;) {
        while (ar->currentline < 0 && lua_getstack(L, level++, ar)) {
            lua_getinfo(L, "Sl", ar);
        }
        lua_State *outer = *eng_busy(L);
        if (ar->currentline >= 0 || outer == NULL || outer == L) {
            break;
        }
        L = outer;
        level = 0;
    }
    atomic_store_explicit(&slice->told, number_of(slice), memory_order_release);
}

/* The innermost frames of `L`. Only their addresses are taken: they may be in the making. */
static int get_frames(lua_State *L, const void **frames) {
    lua_Debug ar;
    int count = 0;
    while (count < ENG_SLICE_FRAMES && lua_getstack(L, count, &ar)) {
        frames[count++] = ar.i_ci;
    }
    return count;
}

static int find_frame(const void *frame, const void *const *frames, int count) {
    int level = 0;
    while (level < count && frames[level] != frame) {
        level++;
    }
    return level < count ? level : -1;
}

/* Called by the signal's handler, in the middle of anything. A frame may only be looked into when
 * it is complete, and the innermost one may be in the making. One that was there at each of many
 * signals is complete: look for the innermost such one. */
static void sample(struct eng_slice *slice, lua_State *L) {
    struct eng_slice_sample *old = &slice->sample;
    const void *frames[ENG_SLICE_FRAMES];
    int count = get_frames(L, frames);
    int gone = 0;
    int level = -1;
    if (old->slice == number_of(slice)) {
        while (gone < old->count && level < 0) {
            level = find_frame(old->frames[gone], frames, count);
            gone += level < 0;
        }
    }
    if (level >= 0 && gone == 0) {
        if (++old->times >= STUCK_SAMPLES) {
            tell_where(slice, L, level);
        }
        return;
    }
    old->slice = number_of(slice);
    old->times = 0;
    old->count = level < 0 ? count : old->count - gone;
    memmove(old->frames, level < 0 ? frames : old->frames + gone,
            (size_t)old->count * sizeof *frames);
}

/* }==== */

/* {==== The hook and the signal =========================================================== */

/* Ends the slice if it is still the one it was armed for. Lua hands hooks on to new threads, and a
 * slice may have ended before its hook came: then there is nothing to do but to go. Where the slice
 * cannot end the hook goes too, until the next signal; but one that must stop waits here for the
 * place where it can. */
static void hook(lua_State *L, lua_Debug *ar) {
    (void)ar;
    struct eng_slice *slice = eng_slice_of(L);
    bool mine = (EVERY > 0 || slice->armed == number_of(slice)) && L == slice->running;
    bool can = mine && slice->chain_yields && lua_isyieldable(L);
    if (EVERY == 0 && (can || !mine || !slice->stopping)) {
        lua_sethook(L, NULL, 0, 0);
    }
    if (can) {
        slice->why = ENG_YIELD_PREEMPTED;
        (void)lua_yield(L, 0); /* from a hook it returns */
    } else if (mine && is_asked(slice)) {
        tell_where(slice, L, 0);
    }
}

static void arm(struct eng_slice *slice, lua_State *L) {
    slice->armed = number_of(slice);
    lua_sethook(L, hook, LUA_MASKCOUNT, 1);
}

/* Runs on the thread that runs Lua. A signal that comes when its slice is over does nothing. The
 * time is told because arming a deep stack takes milliseconds: it walks every frame. */
static void on_signal(int signal) {
    (void)signal;
    struct eng_slice *slice = the_slice;
    if (slice == NULL || !pthread_equal(pthread_self(), slice->lua_thread)) {
        return;
    }
    int saved = errno;
    uint64_t begin = eng_slice_now();
    lua_State *L = slice->running;
    if (L != NULL &&
        atomic_load_explicit(&slice->aimed, memory_order_relaxed) == number_of(slice)) {
        arm(slice, L);
        if (is_asked(slice)) {
            sample(slice, L);
        }
    }
    atomic_store_explicit(&slice->took, eng_slice_now() - begin, memory_order_relaxed);
    atomic_fetch_add_explicit(&slice->handled, 1, memory_order_release);
    errno = saved;
}

/* }==== */

/* {==== Starting and ending =============================================================== */

bool eng_slice_init(struct eng_slice *slice, unsigned period_us, eng_stuck_cb stuck,
                    eng_held_cb held, void *user, struct err *err) {
    memset(slice, 0, sizeof *slice);
    slice->stuck = stuck;
    slice->held = held;
    slice->user = user;
    slice->period_us = period_us;
    slice->lua_thread = pthread_self();
    the_slice = slice;
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigfillset(&action.sa_mask);
    if (sigaction(SIGURG, &action, &slice->old_action) != 0) {
        the_slice = NULL;
        return err_set(err, "cannot handle the signal SIGURG: %s", strerror(errno));
    }
    if (eng_watchdog_start(slice, err)) {
        return true;
    }
    sigaction(SIGURG, &slice->old_action, NULL);
    the_slice = NULL;
    return false;
}

void eng_slice_finish(struct eng_slice *slice) {
    eng_watchdog_stop(slice);
    sigaction(SIGURG, &slice->old_action, NULL);
    the_slice = NULL;
}

/* }==== */

/* {==== A slice =========================================================================== */

void eng_slice_enter(struct eng_slice *slice, lua_State *L) {
    slice->running = L;
    if (L == NULL) {
        return;
    }
    if (slice->stopping) {
        arm(slice, L);
    } else if (EVERY > 0 && lua_gethook(L) != hook) {
        lua_sethook(L, hook, LUA_MASKCOUNT, EVERY);
    }
}

/* The store comes before the load, and the watchdog has it the other way round: one of the two sees
 * the other's. */
static void begin(struct eng_slice *slice, lua_State *co, bool yields) {
    *eng_busy(co) = co;
    slice->why = ENG_YIELD_SCRIPT;
    slice->chain_yields = yields;
    slice->stopping = false;
    eng_slice_enter(slice, co);
    atomic_store(&slice->number, number_of(slice) + 1);
    if (atomic_load(&slice->parked)) {
        eng_watchdog_wake(slice);
    }
}

static void end(struct eng_slice *slice, lua_State *co, bool over) {
    atomic_store_explicit(&slice->number, number_of(slice) + 1, memory_order_release);
    slice->running = NULL;
    slice->chain_yields = false;
    slice->stopping = false;
    if (over) {
        *eng_busy(co) = NULL;
    }
}

void eng_slice_for(struct eng_slice *slice, const char *who, unsigned deadline_ms) {
    slice->who = who;
    atomic_store_explicit(&slice->deadline_ms, deadline_ms, memory_order_relaxed);
    if (deadline_ms > 0) {
        size_t len = strnlen(who, ENG_SLICE_WHO - 1);
        memcpy(slice->held_who, who, len);
        slice->held_who[len] = '\0';
    }
}

int eng_slice_run(struct eng_slice *slice, lua_State *co, int nargs, int *nresults) {
    begin(slice, co, true);
    int status = lua_resume(co, NULL, nargs, nresults);
    end(slice, co, status != LUA_YIELD);
    return status;
}

static int reset(lua_State *co, lua_State *from) {
#if LUA_VERSION_RELEASE_NUM >= 50406
    return lua_closethread(co, from);
#else
    (void)from;
    return lua_resetthread(co);
#endif
}

int eng_slice_close(struct eng_slice *slice, lua_State *co) {
    begin(slice, co, false);
    int status = reset(co, NULL);
    end(slice, co, true);
    return status;
}

void eng_slice_stop_soon(struct eng_slice *slice) {
    slice->stopping = true;
    if (slice->running != NULL) {
        eng_slice_enter(slice, slice->running);
    }
}

/* }==== */

/* {==== Coroutines inside a slice ========================================================= */

int eng_slice_resume(lua_State *L, lua_State *co, int nargs, int *nresults) {
    struct eng_slice *slice = eng_slice_of(L);
    lua_State *outer = slice->running; /* L, or NULL in a finalizer between slices */
    bool yields = slice->chain_yields;
    *eng_busy(co) = L;
    slice->why = ENG_YIELD_SCRIPT;
    slice->chain_yields = yields && lua_isyieldable(L);
    eng_slice_enter(slice, co);
    int status = lua_resume(co, L, nargs, nresults);
    eng_slice_enter(slice, outer);
    slice->chain_yields = yields;
    if (status != LUA_YIELD || slice->why == ENG_YIELD_SCRIPT) {
        *eng_busy(co) = NULL;
    }
    return status;
}

int eng_slice_reset(lua_State *L, lua_State *co) {
    struct eng_slice *slice = eng_slice_of(L);
    lua_State *outer = slice->running;
    bool yields = slice->chain_yields;
    *eng_busy(co) = L;
    slice->chain_yields = false;
    eng_slice_enter(slice, co);
    int status = reset(co, L);
    eng_slice_enter(slice, outer);
    slice->chain_yields = yields;
    *eng_busy(co) = NULL;
    return status;
}

bool eng_slice_can_wait(lua_State *L) {
    struct eng_slice *slice = eng_slice_of(L);
    return slice->running == L && slice->chain_yields && lua_isyieldable(L);
}

int eng_slice_wait(lua_State *L, lua_KContext ctx, lua_KFunction k) {
    if (!eng_slice_can_wait(L)) {
        return luaL_error(L,
                          "cannot wait inside a function that C code calls, such as a comparator "
                          "of table.sort");
    }
    eng_slice_of(L)->why = ENG_YIELD_WAIT;
    return lua_yieldk(L, 0, ctx, k);
}

/* }==== */
