/* Slices: how long a process may run Lua before the next one has its turn.
 *
 * eng_slice_run lets a process run. When it takes longer than a millisecond or two, a watchdog
 * thread signals the thread that runs Lua; the signal's handler arms a count hook on the coroutine
 * that executes just then, and the hook yields. Nothing is armed, and nothing is paid, while nobody
 * overruns. A yield of the scheduler (by the hook, or by eng_slice_wait) inside a script's own
 * coroutines goes outward through each of them; the next slice goes inward again: the script sees
 * nothing of it.
 *
 * There is one eng_slice in an OS process (a signal's handler finds it by a static pointer), and
 * one thread that calls its functions: the one that called eng_slice_init.
 *
 * What a Lua state must bring: the user data of its allocator points to a struct whose first member
 * is the `struct eng_slice *`; the extra space of its main thread is zero before another thread is
 * made. */
#ifndef LUNODE_ENGINE_SLICE_H
#define LUNODE_ENGINE_SLICE_H

#include <lua.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* For tests: N > 0 leaves out the signals; instead a hook that is always on yields every N
 * instructions. */
#ifndef LUNODE_PREEMPT_EVERY
#define LUNODE_PREEMPT_EVERY 0
#endif

enum {
    ENG_SLICE_PERIOD_US = 1000, /* how often the watchdog looks */
    ENG_SLICE_HELD_MS = 200,    /* how often a slice that lasts is told of */
    ENG_SLICE_STUCK_MS = 1000,  /* a slice that could not be ended for so long is reported */
    ENG_SLICE_WHO = 256,        /* bytes of a name, with its end */
    ENG_SLICE_FRAMES = 50,      /* so far out the handler looks for what is stuck */
};

/* Why the innermost yield happened. */
enum eng_yield {
    ENG_YIELD_SCRIPT,    /* coroutine.yield, or a C module of the script */
    ENG_YIELD_PREEMPTED, /* the slice is used up */
    ENG_YIELD_WAIT,      /* eng_slice_wait */
};

/* Tells that a slice of `who` could not be ended for `ms` so far; `where` is the "file:line" it is
 * at, or "?". Called on the watchdog's thread, while Lua runs: once a slice at the most. */
typedef void (*eng_stuck_cb)(void *user, const char *who, const char *where, unsigned ms);

/* How the signal's handler finds out where Lua is stuck: the frames that it found at a signal and
 * at each of `times` signals since, innermost first. */
struct eng_slice_sample {
    unsigned long slice;
    int times;
    int count;
    const void *frames[ENG_SLICE_FRAMES];
};

/* A slice that can't be ended. */
struct eng_held {
    char who[ENG_SLICE_WHO];     /* whose it is, if it has a deadline */
    char where[LUA_IDSIZE + 16]; /* "file:line", or "?" */
    unsigned ms;                 /* for so long */
    unsigned processor_ms;       /* of which the thread that runs Lua has had the processor */
    unsigned deadline_ms;        /* 0: it may go on for ever */
};

/* Called every ENG_SLICE_HELD_MS of a slice that can't be ended, and once at its deadline, on the
 * watchdog's thread. */
typedef void (*eng_held_cb)(void *user, const struct eng_held *held);

/* A field is only used by the thread that runs Lua, unless it says otherwise. */
struct eng_slice {
    enum eng_yield why;
    const char *who;              /* whose slice it is: see eng_slice_for */
    bool chain_yields;            /* every thread outside of the running one can yield */
    bool stopping;                /* eng_slice_stop_soon was called in this slice */
    lua_State *volatile running;  /* the thread that executes Lua; NULL between slices */
    volatile unsigned long armed; /* the slice that the hook was armed for */
    atomic_ulong number;          /* odd while a slice runs; read by the watchdog */

    atomic_uint deadline_ms;      /* of the slice; 0: none; read by the watchdog, */
    char held_who[ENG_SLICE_WHO]; /* and `who` of one that has a deadline */

    struct eng_slice_sample sample;

    /* Between the watchdog and the signal's handler. */
    atomic_ulong aimed;           /* the slice that a signal is meant for */
    atomic_uint handled;          /* signals so far */
    atomic_ullong took;           /* nanoseconds that the last one took */
    atomic_ulong asked;           /* the slice of which the watchdog wants to know where it is */
    atomic_ulong told;            /* the slice that `where` is about */
    lua_Debug where;              /* written before `told` is, read after */
    char told_who[ENG_SLICE_WHO]; /* the same */

    /* The watchdog. */
    eng_stuck_cb stuck;
    eng_held_cb held;
    void *user;
    unsigned period_us;
    pthread_t lua_thread, watchdog;
    pthread_mutex_t lock; /* for parking alone */
    pthread_cond_t wake;
    atomic_bool parked, ending;
    struct sigaction old_action;
};

/* Starts the watchdog. It looks every `period_us`: ENG_SLICE_PERIOD_US but for tests. */
bool eng_slice_init(struct eng_slice *slice, unsigned period_us, eng_stuck_cb stuck,
                    eng_held_cb held, void *user, struct err *err);
void eng_slice_finish(struct eng_slice *slice);

/* Whose the next slices are, and how long one may last that can't be ended: 0 is for ever. */
void eng_slice_for(struct eng_slice *slice, const char *who, unsigned deadline_ms);

/* One slice of a process whose own coroutine is `co`: lua_resume with the `nargs` values on top of
 * it (and the function below them, the first time; none, after a slice that yielded). LUA_OK,
 * LUA_YIELD (slice->why tells why), or the status of an error. While it is yielded nobody else can
 * resume or close `co`. On co: [-(nargs + 1), +*nresults, -] */
int eng_slice_run(struct eng_slice *slice, lua_State *co, int nargs, int *nresults);

/* lua_resetthread of a process's coroutine, for after an error: what its `__close` variables do is
 * watched as a slice is, but cannot be preempted. LUA_OK, or an error's status with the error value
 * on top of `co`. On co: [-all, +0 or 1, -] */
int eng_slice_close(struct eng_slice *slice, lua_State *co);

/* Whether the C function that `L` runs can wait: every thread outward from it can yield. */
bool eng_slice_can_wait(lua_State *L);

/* Yields for the scheduler (ENG_YIELD_WAIT), as the last thing a C function does; `k` continues
 * with the same stack once the process has its next slice, with 0 arguments. An error where
 * waiting is impossible. [-0, +0, e] */
int eng_slice_wait(lua_State *L, lua_KContext ctx, lua_KFunction k);

/* Ends the running slice (ENG_YIELD_PREEMPTED) at the next place where it can yield: for a process
 * that ended itself in a place that cannot. */
void eng_slice_stop_soon(struct eng_slice *slice);

/* Replaces the functions of `coroutine`, and lets `debug.sethook` (where there is one) say why it
 * can't be used. [-0, +0, m] */
void eng_coroutines_open(lua_State *L);

static inline struct eng_slice *eng_slice_of(lua_State *L) {
    void *user;
    lua_getallocf(L, &user);
    return *(struct eng_slice **)user;
}

/* The busy mark of a thread, in its extra space: the thread that resumes it now (NULL: none does),
 * also while both are suspended by the scheduler. A process's own coroutine has itself. The thread
 * may be gone if its process was killed: follow the mark only outward from the running one. */
static inline lua_State **eng_busy(lua_State *co) {
    return lua_getextraspace(co);
}

/* {==== What slice.c, watchdog.c and coroutines.c share =================================== */

/* Notes that `L` executes from now on. */
void eng_slice_enter(struct eng_slice *slice, lua_State *L);

/* lua_resume(co, L, ...) as a part of the running slice. When it returns LUA_YIELD and slice->why
 * is not ENG_YIELD_SCRIPT, L must yield too, and call this again, with 0 arguments, once it
 * continues; `co` stays marked as busy till then. */
int eng_slice_resume(lua_State *L, lua_State *co, int nargs, int *nresults);

/* lua_resetthread(co), called by `L`. */
int eng_slice_reset(lua_State *L, lua_State *co);

bool eng_watchdog_start(struct eng_slice *slice, struct err *err);
void eng_watchdog_stop(struct eng_slice *slice);
void eng_watchdog_wake(struct eng_slice *slice); /* when it is parked */

uint64_t eng_slice_now(void); /* nanoseconds; safe in a signal's handler */

/* }==== */

#endif
