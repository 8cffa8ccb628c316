/* The engine: handlers, their processes, and what happens when a message arrives.
 *
 * It is driven from outside: frames come in by eng_message, and eng_turn lets processes run. What
 * it sends goes out through the distribution node it was given. */
#ifndef LUNODE_ENGINE_ENGINE_H
#define LUNODE_ENGINE_ENGINE_H

#include <stdbool.h>
#include <uv.h>

#include "base/err.h"
#include "base/log.h"
#include "dist/node.h"
#include "engine/config.h"
#include "engine/slice.h"
#include "term/term.h"

struct engine;

struct eng_events {
    /* A handler with `on_failure = "stop"` failed for good: the node must end. */
    void (*failed)(void *user, const char *handler);
    /* A script is in a place where it can't be interrupted (one long call into C), so that the loop
     * stands still: told again and again meanwhile, and at its deadline, on another thread. */
    void (*held)(void *user, const struct eng_held *held);
    /* A script called os.exit: the node must end with this status. */
    void (*exited)(void *user, int status);
};

bool eng_create(struct engine **engine, uv_loop_t *loop, struct log *log,
                const struct eng_events *events, void *user, struct err *err);

/* Frees everything; scripts do not run any more. NULL is fine. */
void eng_destroy(struct engine *engine);

/* The node through which messages leave. Without one (`lunode check`) nothing can be sent. */
void eng_set_node(struct engine *engine, struct dist_node *node);

/* The node that this one belongs to: `&Mod.fun/n` runs there when nothing tells another. */
bool eng_set_owner(struct engine *engine, const char *name);

/* Makes a handler of each script and compiles it; nothing runs yet, but messages are kept for it.
 * False when a script that the user named by itself does not compile; one found in a folder is
 * logged and marked as failed instead. */
bool eng_add(struct engine *engine, const struct eng_config *config, struct err *err);

/* Lets the scripts run: first their top level, then `init`, then the messages kept so far. */
void eng_start(struct engine *engine);

/* Asks every process to end: one that is busy with a message is done with it first, and
 * `terminate` runs. eng_turn must go on until eng_stopped, or until there is no more time. */
void eng_stop(struct engine *engine);
bool eng_stopped(const struct engine *engine);

/* Lets processes run for a while: 1 ms, and then until the slice is over. True when some still
 * could. */
bool eng_turn(struct engine *engine);

/* What the distribution layer reports. */
void eng_peer_up(struct engine *engine, struct dist_peer *peer);
/* False when it was no script that wanted the connection. */
bool eng_connect_failed(struct engine *engine, const char *name);
void eng_peer_down(struct engine *engine, struct dist_peer *peer);
void eng_message(struct engine *engine, struct dist_peer *peer, const struct dist_control *control,
                 struct span payload);

/* Loads the script `path` apart from any node: compiles it, runs its top level, checks what it
 * returns. Writes what is wrong to standard error, as "file:line: message"; whether nothing is. */
bool eng_check(struct engine *engine, const char *path);

/* Compiles the modules in the subfolders of `folder`, in the same way. */
bool eng_check_modules(struct engine *engine, const char *folder);

#endif
