/* The engine on an event loop: see turns.h. */
#include "engine/turns.h"

#include "base/memory.h"

enum { LOOK_MS = 250, FEW = 25 /* turns until the next look */, MOST_LOOKS = 40 };

static void on_busy(uv_idle_t *idle) {
    (void)idle;
}

static void on_look(uv_timer_t *timer) {
    struct eng_turns *turns = timer->data;
    turns->is_due = true;
}

static void look_later(struct eng_turns *turns) {
    uv_timer_start(&turns->look, on_look, LOOK_MS, 0);
}

/* After a flood the allocator would keep what it took: it gives it back when there is little to do,
 * and now and then when there is always something. It looks after a turn, not before, since what
 * was read just then is still to be worked off, and may be the last. */
static void look(struct eng_turns *turns) {
    bool is_busy = turns->count > FEW && turns->looks < MOST_LOOKS;
    turns->is_due = false;
    turns->count = 0;
    turns->looks = is_busy ? turns->looks + 1 : 0;
    if (is_busy) {
        look_later(turns);
    } else {
        memory_release();
    }
}

static void on_turn(uv_prepare_t *prepare) {
    struct eng_turns *turns = prepare->data;
    if (eng_turn(turns->engine)) {
        uv_idle_start(&turns->busy, on_busy);
    } else {
        uv_idle_stop(&turns->busy);
    }
    turns->done(turns->user);
    turns->count++;
    if (turns->is_due) {
        look(turns);
    } else if (!uv_is_active((uv_handle_t *)&turns->look)) {
        look_later(turns);
    }
}

int eng_turns_start(struct eng_turns *turns, uv_loop_t *loop, struct engine *engine,
                    void (*done)(void *user), void *user) {
    memory_keep();
    turns->engine = engine;
    turns->done = done;
    turns->user = user;
    uv_prepare_init(loop, &turns->turn);
    uv_idle_init(loop, &turns->busy);
    uv_timer_init(loop, &turns->look);
    turns->turn.data = turns->look.data = turns;
    return uv_prepare_start(&turns->turn, on_turn);
}

void eng_turns_stop(struct eng_turns *turns) {
    uv_close((uv_handle_t *)&turns->turn, NULL);
    uv_close((uv_handle_t *)&turns->busy, NULL);
    uv_close((uv_handle_t *)&turns->look, NULL);
}
