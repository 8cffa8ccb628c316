/* What a worker does: it runs the engine behind the channel to the node, and nothing else. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/heap.h"
#include "engine/turns.h"
#include "jail/confine.h"
#include "jail/private.h"

enum { OUTPUT_FD = STDERR_FILENO };

struct inside {
    uv_loop_t loop;
    struct log *log;
    struct engine *engine;
    struct dist_node *node;
    struct eng_turns turns;
};

/* {==== What it is told =================================================================== */

static void on_published(void *user, const char *why) {
    (void)user;
    (void)why;
}

static void on_peer_up(void *user, struct dist_peer *peer) {
    (void)user;
    (void)peer;
}

/* Without the node there is nobody to run for. */
static void on_peer_down(void *user, struct dist_peer *peer, const char *why) {
    (void)peer;
    (void)why;
    uv_stop(&((struct inside *)user)->loop);
}

static void on_connect_failed(void *user, const char *node, const char *why) {
    (void)why;
    eng_connect_failed(((struct inside *)user)->engine, node);
}

static void answer_ping(struct inside *inside, struct dist_peer *peer) {
    struct err err;
    struct dist_control control = {.op = DIST_PING, .node = eng_node_name(inside->engine)};
    struct buf *out = dist_frame_begin(peer);
    if (out != NULL && dist_control_write(out, &control)) {
        dist_frame_end(peer, &err);
    }
}

static void on_message(void *user, struct dist_peer *peer, const struct dist_control *control,
                       struct span payload) {
    struct inside *inside = user;
    struct dist_control plain = *control;
    bool is_own = span_equal(control->node, eng_node_name(inside->engine));
    plain.node = (struct span){0};
    if (control->op == DIST_PING) {
        answer_ping(inside, peer);
    } else if (control->op == DIST_NODE_DOWN) {
        dist_node_channel_down(inside->node, control->node);
        eng_node_down(inside->engine, control->node);
    } else if (control->op == DIST_NODE_UP) {
        dist_node_channel_up(inside->node, control->node);
    } else {
        eng_message(inside->engine, peer, is_own ? plain.node : control->node, &plain, payload);
    }
}

static void on_failed(void *user, const char *handler) {
    (void)user;
    (void)handler;
}

/* The deadline of a handler is over, and nothing can end what it does: it ends with the process.
 * The node learns from these last words who it was. Time that others had the processor does not
 * count. On the watchdog's thread, with the other one anywhere: nothing but the text is used. */
static void on_held(void *user, const struct eng_held *held) {
    char words[512];
    unsigned deadline = held->deadline_ms;
    (void)user;
    if (deadline == 0 || held->ms < deadline || held->processor_ms < deadline - deadline / 10) {
        return;
    }
    int len =
        snprintf(words, sizeof words, "\n!deadline %s %u %s\n", held->who, held->ms, held->where);
    ssize_t ignored = write(OUTPUT_FD, words, len < (int)sizeof words ? (size_t)len : sizeof words);
    (void)ignored;
    _exit(1);
}

static void on_script_exit(void *user, int status) {
    (void)user;
    (void)status;
}

/* }==== */

/* {==== Its parts ========================================================================= */

static void on_turn_done(void *user) {
    struct inside *inside = user;
    log_flush(inside->log);
    dist_node_flush(inside->node);
}

static bool open_node(struct inside *inside, char **args, struct err *err) {
    static const struct dist_events events = {on_published, on_peer_up, on_peer_down, on_message,
                                              on_connect_failed};
    struct dist_channel channel = {.in = JAIL_CHANNEL_IN,
                                   .out = JAIL_CHANNEL_OUT,
                                   .name = args[1],
                                   .creation = (uint32_t)strtoul(args[2], NULL, 10),
                                   .max_frame = strtoull(args[3], NULL, 10)};
    return dist_node_create_channel(&inside->node, &inside->loop, inside->log, &channel, &events,
                                    inside, err);
}

static bool open_engine(struct inside *inside, char **args, struct err *err) {
    static const struct eng_events events = {on_failed, on_held, on_script_exit};
    struct eng_config nothing;
    if (!eng_create(&inside->engine, &inside->loop, inside->log, &events, inside, err)) {
        return false;
    }
    eng_set_node(inside->engine, inside->node);
    eng_set_slot(inside->engine, (uint16_t)strtoul(args[0], NULL, 10));
    eng_config_init(&nothing);
    nothing.watch = false;
    bool ok = eng_add(inside->engine, &nothing, err);
    eng_config_finish(&nothing);
    return ok;
}

/* The heaps' allocator looks at the machine when it is first used. */
static bool warm_up(struct err *err) {
    static const size_t sizes[] = {16, 64 << 10, 4 << 20};
    struct eng_heap *heap = eng_heap_create();
    bool ok = heap != NULL;
    for (size_t i = 0; ok && i < sizeof sizes / sizeof *sizes; i++) {
        ok = eng_heap_resize(heap, NULL, sizes[i]) != NULL;
    }
    eng_heap_destroy(heap);
    return ok || err_set(err, "no memory");
}

/* What this system lacks the operator has allowed to lack, or the node would not start workers. */
static bool open_all(struct inside *inside, char **args, struct err *err) {
    struct jail_means means;
    struct err ignored;
    jail_probe(&means, &ignored);
    if (!jail_prepare(JAIL_CHANNEL_OUT, &means, err)) {
        return false;
    }
    uv_loop_init(&inside->loop);
    if (!log_create(&inside->log, &inside->loop, OUTPUT_FD, err)) {
        return false;
    }
    uv_run(&inside->loop, UV_RUN_NOWAIT); /* the loop's first turn asks for more than the others */
    if (!open_node(inside, args, err) || !open_engine(inside, args, err)) {
        return false;
    }
    if (eng_turns_start(&inside->turns, &inside->loop, inside->engine, on_turn_done, inside) != 0) {
        return err_set(err, "cannot watch for events");
    }
    return warm_up(err) && jail_lock(&means, err);
}

/* }==== */

/* The node ends workers by SIGKILL, so that whatever stops it by a key stops them in its turn. */
int jail_worker(int argc, char **argv) {
    struct inside inside = {0};
    struct err err;
    if (argc != 4) {
        (void)fprintf(stderr, "lunode: a worker is started by a node\n");
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGTERM, SIG_IGN);
    if (!open_all(&inside, argv, &err)) {
        (void)fprintf(stderr, "[error] worker: %s\n", err.text);
        return 1;
    }
    eng_start(inside.engine);
    uv_run(&inside.loop, UV_RUN_DEFAULT);
    _exit(0); /* scripts may not run any more */
}
