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
#include "engine/caller.h"
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

/* A script that is not trusted, and what is said of it. */
struct eng_script_text {
    struct span source;
    const struct eng_policy *policy;
    struct span start;   /* the argument of `init`; may be empty */
    struct span modules; /* what its `require` finds: a map of names and texts; may be empty */
};

/* What is asked of a handler that runs in another process of this node. */
enum eng_request { ENG_RELOAD, ENG_UNLOAD, ENG_EVALUATE, ENG_COMPLETE };

/* The part of the node that has such processes. The spans are good until a function returns. */
struct eng_outside {
    void *user;
    /* A message or signal from the node of that name (empty: from a process of this one). True when
     * it is for a process outside, and taken. */
    bool (*route)(void *user, struct span node, const struct dist_control *control,
                  struct span payload);
    /* Whether a handler of that name is outside. */
    bool (*has)(void *user, struct span name);
    /* Loads a script: the caller gets {ok, Version} or {error, Reason}. */
    void (*load)(void *user, struct span name, const struct eng_script_text *text,
                 const struct eng_caller *caller);
    /* The caller gets the answer to `body`, the whole request, which is about the handler `name`.
     */
    void (*request)(void *user, enum eng_request what, struct span name, struct span body,
                    const struct eng_caller *caller);
    /* Ends what a prompt runs there. */
    void (*interrupt)(void *user, struct span prompt);
    /* The answer to :handlers (or :stats), of which `own` is this process's part. */
    void (*report)(void *user, bool stats, struct span own, const struct eng_caller *caller);
    /* Who had called the process `lunode` waits no more: the reference of his monitor. */
    void (*given_up)(void *user, struct span ref);
};

bool eng_create(struct engine **engine, uv_loop_t *loop, struct log *log,
                const struct eng_events *events, void *user, struct err *err);

/* Frees everything; scripts do not run any more. NULL is fine. */
void eng_destroy(struct engine *engine);

/* The node through which messages leave. Without one (`lunode check`) nothing can be sent. */
void eng_set_node(struct engine *engine, struct dist_node *node);

/* The node that this one belongs to: `&Mod.fun/n` runs there when nothing tells another. */
bool eng_set_owner(struct engine *engine, const char *name);

/* Untrusted handlers run outside from now on. */
void eng_set_outside(struct engine *engine, const struct eng_outside *outside);

/* The engine is one outside: the pids and references it makes have this number, from 1 on, in
 * their topmost 16 bits; those of the node itself have 0. */
void eng_set_slot(struct engine *engine, uint16_t slot);

/* The number of the process of this node that the pid belongs to; -1 when it is no pid of this
 * node. */
int eng_slot_of(const struct engine *engine, struct span pid);

/* The pids of the processes `lunode` and of the one that prints. */
struct span eng_control_pid(const struct engine *engine);
struct span eng_printer_pid(const struct engine *engine);

struct span eng_node_name(const struct engine *engine);

/* The process `lunode` answers a call. */
void eng_answer(struct engine *engine, const struct eng_caller *caller, struct span value);

/* Passes an event, a whole message, on to those who have subscribed. */
void eng_pass_event(struct engine *engine, struct span message);

/* Makes a handler of each script and compiles it; nothing runs yet, but messages are kept for it.
 * False when a script that the user named by itself does not compile; one found in a folder is
 * logged and marked as failed instead. The rules of the configuration, which must be settled, are
 * the engine's from now on. */
bool eng_add(struct engine *engine, struct eng_config *config, struct err *err);

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
/* The same for a node whose connection another process of this node had. */
void eng_node_down(struct engine *engine, struct span node);
/* `node` is the name of the node that it comes from; empty: this one. `peer` is whose frame it is;
 * NULL: none that is being read. */
void eng_message(struct engine *engine, struct dist_peer *peer, struct span node,
                 const struct dist_control *control, struct span payload);

/* Loads a script apart from any node: compiles it, runs its top level, checks what it
 * returns. Writes what is wrong to standard error, as "file:line: message"; whether nothing is. */
bool eng_check(struct engine *engine, const struct eng_script *script);

/* Compiles the modules in the subfolders of `folder`, in the same way. */
bool eng_check_modules(struct engine *engine, const char *folder);

#endif
