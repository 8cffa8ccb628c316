/* Handlers that nobody trusts: they run in workers, jailed processes of their own.
 *
 * A worker is this program executed afresh (worker.c starts it, inside.c is what it does), which
 * runs the same engine behind a channel. What goes in is noted in a ledger (in.c), what comes out
 * is checked by it (out.c). When a worker dies, everybody who waits is told, and another takes over
 * its handlers (end.c). */
#ifndef LUNODE_JAIL_JAIL_H
#define LUNODE_JAIL_JAIL_H

#include <uv.h>

#include "base/err.h"
#include "base/log.h"
#include "dist/node.h"
#include "engine/engine.h"

struct jail;

struct jail_config {
    unsigned workers; /* that share the handlers which have none of their own */
    size_t max_frame; /* bytes */
    bool unjailed;    /* they run also where the system can't confine a process */
};

/* Tells the engine that handlers can run outside from now on. Workers start when there is something
 * for them to run. */
bool jail_create(struct jail **jail, uv_loop_t *loop, struct log *log, struct engine *engine,
                 struct dist_node *node, const struct jail_config *config, struct err *err);

/* Ends the workers; the loop must run on until it has no handles left. NULL is fine. */
void jail_destroy(struct jail *jail);

/* At the end of a turn: writes what was gathered for the workers. */
void jail_flush(struct jail *jail);

/* There is a connection to a node, or it is lost. */
void jail_node_up(struct jail *jail, struct span node);
void jail_node_down(struct jail *jail, struct span node);

/* `lunode worker ...`: what a worker does. The arguments are those behind that word. */
int jail_worker(int argc, char **argv);

#endif
