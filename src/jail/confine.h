/* The jail that a worker locks itself into before it runs any script.
 *
 * In this order: jail_prepare while the process has one thread; then the event loop, the channel,
 * the engine and its watchdog's thread; then jail_lock. What asks the system for more than memory,
 * time and the channel must have happened by then: opening a file, making a loop, a handle that
 * polls, a signal's handler, a thread, a first use of an allocator that looks at the machine.
 *
 * Untrusted scripts need both means; without one the operator has to allow it, and then what there
 * is is used. */
#ifndef LUNODE_JAIL_CONFINE_H
#define LUNODE_JAIL_CONFINE_H

#include <stdbool.h>

#include "base/err.h"

/* The exit status of a worker that tried a system call that it may not. */
enum { JAIL_DENIED = 31 };

struct jail_means {
    bool seccomp;  /* a process can give up system calls */
    bool landlock; /* ... files and the network */
};

/* What this system can do; changes nothing. False when something is missing, which `err` names. */
bool jail_probe(struct jail_means *means, struct err *err);

/* Wipes the environment except TZ; closes every descriptor after `last`, the last one of the
 * channel, with /dev/null as 0; gives up privileges, files and the network. A descriptor 1 or 2
 * that is a file takes no bytes any more once jail_lock is done. */
bool jail_prepare(int last, const struct jail_means *means, struct err *err);

/* Gives up every system call that a running engine doesn't need, for all threads. From then on one
 * that is not allowed ends the process with JAIL_DENIED, and its name is on standard error; with
 * SIGSYS and no words where that signal is blocked or the call is another architecture's. */
bool jail_lock(const struct jail_means *means, struct err *err);

/* What the two above do beside, where the system is Linux. For confine.c. */
bool jail_prepare_system(const struct jail_means *means, struct err *err);
bool jail_lock_system(const struct jail_means *means, struct err *err);

#endif
