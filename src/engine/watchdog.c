/* The thread that sees to it that a slice ends. It looks whether the same slice is still running,
 * and signals the thread that runs Lua until another is. With no slice for a while it parks. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "engine/slice.h"

enum {
    PARK_MS = 100, /* without a slice */
    BACKOFF = 4,   /* so many times what the last signal took passes until the next */
};

static const uint64_t MS = 1000000;

/* What it remembers of the slice it saw last. */
struct sight {
    unsigned long number;
    uint64_t since;         /* when it saw it first, */
    uint64_t processor;     /* and what the thread that runs Lua had had of the processor */
    bool waiting;           /* the last signal was not handled yet ... */
    unsigned before;        /* ... while so many are */
    uint64_t quiet;         /* no signal before */
    uint64_t held;          /* when it told of this slice last */
    unsigned long due;      /* the slice whose deadline it told of */
    bool early;             /* it asked where that is for the deadline's sake */
    uint64_t asked_since;   /* `since` of the slice that it asked about last */
    unsigned long reported; /* the slice that it reported last */
};

static bool runs(unsigned long number) {
    return (number & 1) != 0;
}

/* {==== Signals =========================================================================== */

/* Not before the last one was handled, and not at once after one that took long. */
static bool may_signal(struct eng_slice *slice, struct sight *sight, uint64_t now) {
    if (sight->waiting) {
        if (atomic_load_explicit(&slice->handled, memory_order_acquire) == sight->before) {
            return false;
        }
        sight->waiting = false;
        sight->quiet =
            now + BACKOFF * (uint64_t)atomic_load_explicit(&slice->took, memory_order_relaxed);
    }
    return now >= sight->quiet;
}

static void send_signal(struct eng_slice *slice, struct sight *sight) {
    atomic_store_explicit(&slice->aimed, sight->number, memory_order_relaxed);
    sight->before = atomic_load_explicit(&slice->handled, memory_order_relaxed);
    sight->waiting = pthread_kill(slice->lua_thread, SIGURG) == 0;
}

/* }==== */

/* {==== Telling where a slice is stuck ==================================================== */

/* The answer. */
static void write_where(const struct eng_slice *slice, char *where, size_t size) {
    if (slice->where.currentline >= 0) {
        (void)snprintf(where, size, "%s:%d", slice->where.short_src, slice->where.currentline);
    } else {
        (void)snprintf(where, size, "?");
    }
}

/* Passes an answer on, also one that came just before its slice ended. */
static void report(struct eng_slice *slice, struct sight *sight, uint64_t now) {
    unsigned long told = atomic_load_explicit(&slice->told, memory_order_acquire);
    if (told == sight->reported) {
        return;
    }
    sight->reported = told;
    char where[LUA_IDSIZE + 16];
    if (sight->early) {
        return; /* it is told with the deadline */
    }
    write_where(slice, where, sizeof where);
    slice->stuck(slice->user, slice->told_who, where, (unsigned)((now - sight->asked_since) / MS));
}

/* Asks the thread that runs Lua, which answers at one of the next signals; before the deadline, if
 * there is one. */
static void ask(struct eng_slice *slice, struct sight *sight, uint64_t now) {
    unsigned long asked = atomic_load_explicit(&slice->asked, memory_order_relaxed);
    unsigned deadline = atomic_load_explicit(&slice->deadline_ms, memory_order_relaxed);
    bool early = deadline > 0 && deadline / 2 < ENG_SLICE_STUCK_MS;
    uint64_t ms = early ? deadline / 2 : ENG_SLICE_STUCK_MS;
    if (asked != sight->number && now - sight->since >= ms * MS) {
        sight->asked_since = sight->since;
        sight->early = early;
        atomic_store_explicit(&slice->asked, sight->number, memory_order_release);
    }
}

/* What the thread that runs Lua has had of the processor. */
static uint64_t processor_ns(const struct eng_slice *slice) {
    clockid_t clock;
    struct timespec time = {0};
    if (pthread_getcpuclockid(slice->lua_thread, &clock) == 0) {
        clock_gettime(clock, &time);
    }
    return (uint64_t)time.tv_sec * 1000000000U + (uint64_t)time.tv_nsec;
}

/* False: the slice is over meanwhile. */
static bool describe(struct eng_slice *slice, const struct sight *sight, uint64_t now,
                     struct eng_held *held) {
    *held = (struct eng_held){.where = "?"};
    held->ms = (unsigned)((now - sight->since) / MS);
    held->processor_ms = (unsigned)((processor_ns(slice) - sight->processor) / MS);
    held->deadline_ms = atomic_load_explicit(&slice->deadline_ms, memory_order_relaxed);
    if (held->deadline_ms > 0) {
        memcpy(held->who, slice->held_who, sizeof held->who);
    }
    if (atomic_load_explicit(&slice->told, memory_order_acquire) == sight->number) {
        write_where(slice, held->where, sizeof held->where);
    }
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&slice->number, memory_order_relaxed) == sight->number;
}

static void tell_held(struct eng_slice *slice, struct sight *sight, uint64_t now) {
    unsigned deadline = atomic_load_explicit(&slice->deadline_ms, memory_order_relaxed);
    bool due = deadline > 0 && sight->due != sight->number && now - sight->since >= deadline * MS;
    struct eng_held held;
    if (!due && now - sight->held < ENG_SLICE_HELD_MS * MS) {
        return;
    }
    sight->held = now;
    sight->due = due ? sight->number : sight->due;
    if (describe(slice, sight, now, &held)) {
        slice->held(slice->user, &held);
    }
}

/* }==== */

/* {==== The thread ======================================================================== */

static void look(struct eng_slice *slice, struct sight *sight) {
    uint64_t now = eng_slice_now();
    report(slice, sight, now);
    unsigned long number = atomic_load_explicit(&slice->number, memory_order_relaxed);
    if (number != sight->number) {
        sight->number = number;
        sight->since = sight->held = now;
        sight->processor = processor_ns(slice);
    } else if (runs(number) && LUNODE_PREEMPT_EVERY == 0) {
        ask(slice, sight, now);
        tell_held(slice, sight, now);
        if (may_signal(slice, sight, now)) {
            send_signal(slice, sight);
        }
    }
}

static void nap(struct eng_slice *slice) {
    struct timespec time = {.tv_sec = 0, .tv_nsec = (long)slice->period_us * 1000};
    nanosleep(&time, NULL);
}

/* Says that it parks, then looks once more: a slice that began before did not wake it. */
static void park(struct eng_slice *slice, unsigned long number) {
    pthread_mutex_lock(&slice->lock);
    atomic_store(&slice->parked, true);
    if (atomic_load(&slice->number) != number) {
        atomic_store(&slice->parked, false);
    }
    while (atomic_load(&slice->parked) && !atomic_load(&slice->ending)) {
        pthread_cond_wait(&slice->wake, &slice->lock);
    }
    pthread_mutex_unlock(&slice->lock);
}

void eng_watchdog_wake(struct eng_slice *slice) {
    pthread_mutex_lock(&slice->lock);
    atomic_store(&slice->parked, false);
    pthread_cond_signal(&slice->wake);
    pthread_mutex_unlock(&slice->lock);
}

static void *watch(void *argument) {
    struct eng_slice *slice = argument;
    struct sight sight = {0};
    while (!atomic_load(&slice->ending)) {
        look(slice, &sight);
        if (!runs(sight.number) && eng_slice_now() - sight.since >= PARK_MS * MS) {
            park(slice, sight.number);
        } else {
            nap(slice);
        }
    }
    return NULL;
}

/* }==== */

/* {==== Starting and stopping ============================================================= */

/* A new thread has the signals of its maker blocked from its first instruction on. */
static int start_thread(struct eng_slice *slice) {
    sigset_t all;
    sigset_t old;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    int status = pthread_create(&slice->watchdog, NULL, watch, slice);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return status;
}

bool eng_watchdog_start(struct eng_slice *slice, struct err *err) {
    pthread_mutex_init(&slice->lock, NULL);
    pthread_cond_init(&slice->wake, NULL);
    int status = start_thread(slice);
    if (status != 0) {
        pthread_cond_destroy(&slice->wake);
        pthread_mutex_destroy(&slice->lock);
        return err_set(err, "cannot start the watchdog's thread: %s", strerror(status));
    }
#ifdef __linux__
    pthread_setname_np(slice->watchdog, "watchdog");
#endif
    return true;
}

void eng_watchdog_stop(struct eng_slice *slice) {
    atomic_store(&slice->ending, true);
    eng_watchdog_wake(slice);
    pthread_join(slice->watchdog, NULL);
    pthread_cond_destroy(&slice->wake);
    pthread_mutex_destroy(&slice->lock);
}

/* }==== */
