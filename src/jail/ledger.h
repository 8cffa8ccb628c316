/* What a worker owes to others, and what it is owed: the calls that wait for its answer, the
 * monitors and links on its processes, what it watches itself. By it the node knows what the worker
 * may send, and whom to tell when it dies. */
#ifndef LUNODE_JAIL_LEDGER_H
#define LUNODE_JAIL_LEDGER_H

#include <uthash.h>

#include "base/buf.h"

struct jail_request;

enum jail_debt_kind {
    JAIL_CALL,    /* an answer: by the tag, or the reference in it */
    JAIL_MONITOR, /* a DOWN: by the reference */
    JAIL_LINK,    /* an exit signal: by the worker's pid and the other's */
    JAIL_UNLINK,  /* an acknowledgement: by its id and the other's pid */
    JAIL_SPAWN,   /* a process: by the request's reference */
    JAIL_WATCH,   /* the worker's own monitor, or call by rpc: by the reference */
    JAIL_FRIEND,  /* a prompt, which it may watch and write to: by its pid */
};

struct jail_debt {
    enum jail_debt_kind kind;
    struct span pid;               /* who waits */
    struct span what;              /* the tag; what is monitored or linked: a pid or a name */
    struct span node;              /* of what the worker watches */
    struct jail_request *request;  /* a call of the node's own */
    bool to_control;               /* a call to the worker's process `lunode` */
    bool links, monitors;          /* of a spawn */
    bool given_up;                 /* nobody waits any more, but an answer may come */
    struct jail_debt *prev, *next; /* of those given up */
    UT_hash_handle hh;
    uint8_t bytes[];
};

struct jail_ledger {
    struct jail_debt *debts;    /* uthash */
    struct jail_debt *given_up; /* the oldest first */
    unsigned given_up_count;
    size_t watches; /* debts of that kind */
};

enum { JAIL_MAX_GIVEN_UP = 10000, JAIL_MAX_WATCHES = 100000 };

/* Notes a debt like `debt`, by the key `a` and `b`, in place of an older one of that key. NULL: no
 * memory, or the key is too long. */
struct jail_debt *jail_debt_add(struct jail_ledger *ledger, const struct jail_debt *debt,
                                struct span a, struct span b);
struct jail_debt *jail_debt_find(struct jail_ledger *ledger, enum jail_debt_kind kind,
                                 struct span a, struct span b);

/* It is paid, or void. */
void jail_debt_drop(struct jail_ledger *ledger, struct jail_debt *debt);

/* Who waited waits no more. Only the last JAIL_MAX_GIVEN_UP such debts are remembered. */
void jail_debt_give_up(struct jail_ledger *ledger, struct jail_debt *debt);

/* The same for all who wait on the node, and for what the worker watches there. */
void jail_ledger_node_down(struct jail_ledger *ledger, struct span node);

void jail_ledger_clear(struct jail_ledger *ledger);

#endif
