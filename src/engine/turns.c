/* The engine on an event loop: see turns.h. */
#include "engine/turns.h"

#include "base/memory.h"

enum { QUIET_MS = 250 };

static void on_busy(uv_idle_t *idle) {
    (void)idle;
}

/* After a flood the allocator would keep what it took. */
static void on_quiet(uv_timer_t *timer) {
    struct eng_turns *turns = timer->data;
    turns->was_quiet = true;
    memory_release();
}

static void on_turn(uv_prepare_t *prepare) {
    struct eng_turns *turns = prepare->data;
    if (eng_turn(turns->engine)) {
        uv_idle_start(&turns->busy, on_busy);
    } else {
        uv_idle_stop(&turns->busy);
    }
    if (!turns->was_quiet) {
        uv_timer_start(&turns->quiet, on_quiet, QUIET_MS, 0);
    }
    turns->was_quiet = false;
    turns->done(turns->user);
}

int eng_turns_start(struct eng_turns *turns, uv_loop_t *loop, struct engine *engine,
                    void (*done)(void *user), void *user) {
    memory_keep();
    turns->engine = engine;
    turns->done = done;
    turns->user = user;
    uv_prepare_init(loop, &turns->turn);
    uv_idle_init(loop, &turns->busy);
    uv_timer_init(loop, &turns->quiet);
    turns->turn.data = turns->quiet.data = turns;
    return uv_prepare_start(&turns->turn, on_turn);
}

void eng_turns_stop(struct eng_turns *turns) {
    uv_close((uv_handle_t *)&turns->turn, NULL);
    uv_close((uv_handle_t *)&turns->busy, NULL);
    uv_close((uv_handle_t *)&turns->quiet, NULL);
}
