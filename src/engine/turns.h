/* The engine on an event loop: in each turn processes run, then what they have sent leaves. */
#ifndef LUNODE_ENGINE_TURNS_H
#define LUNODE_ENGINE_TURNS_H

#include <uv.h>

#include "engine/engine.h"

struct eng_turns {
    struct engine *engine;
    void (*done)(void *user); /* the processes have run: what was gathered can leave */
    void *user;
    uv_prepare_t turn;
    uv_idle_t busy;  /* active while processes could still run: the loop does not wait then */
    uv_timer_t look; /* whether there is so little to do that memory can be given back */
    unsigned count;  /* turns since the last look */
    unsigned looks;  /* since memory was given back */
    bool is_due;     /* the next look: after this turn */
};

/* From now on the loop's turns are the engine's. The struct is the caller's. 0 or an error of
 * libuv's. */
int eng_turns_start(struct eng_turns *turns, uv_loop_t *loop, struct engine *engine,
                    void (*done)(void *user), void *user);

/* Closes what belongs to it; the loop must run once more. */
void eng_turns_stop(struct eng_turns *turns);

#endif
