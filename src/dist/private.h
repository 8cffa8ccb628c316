/* What the files of the distribution layer share, grouped by the file that defines it. */
#ifndef LUNODE_DIST_PRIVATE_H
#define LUNODE_DIST_PRIVATE_H

#include <ei.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <uv.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "dist/peer.h"

/* {==== control.c ========================================================================= */

/* The operation's number of a control message that need not be readable; 0 when unknown. */
int dist_control_peek(struct span in);

/* }==== */

/* {==== peer.c ============================================================================ */

void dist_peer_send_tick(struct dist_peer *peer);

/* }==== */

/* {==== socket.c ========================================================================== */

/* Non-blocking, closed on exec, without delay. 0 or an errno. */
int dist_socket_prepare(int fd);

/* Resolves `host` to an IPv4 address. This machine's own name, when nobody resolves it, is the
 * loopback: so do Erlang and ei. */
bool dist_socket_resolve(const char *host, struct in_addr *address, struct err *err);

/* A socket that listens on `address` alone; `port` is set to the one that the system chose. */
bool dist_socket_listen(const char *host, struct in_addr address, int *fd, int *port,
                        struct err *err);

/* Waits until `fd` is ready for `events` (poll's), at most until `deadline` (uv_hrtime's). 0 or an
 * errno. */
int dist_socket_wait(int fd, short events, uint64_t deadline);

/* Lets at most one line a second through, and counts those it holds back. */
struct dist_quiet {
    uint64_t last; /* loop time in ms of the last line; 0: none yet */
    unsigned held;
};

/* Whether to write a line now; `held` is then how many were held back before it. */
bool dist_quiet_pass(struct dist_quiet *quiet, uint64_t now, unsigned *held);

/* Overwrites a secret. */
void dist_wipe(void *data, size_t len);

/* }==== */

/* {==== epmd.c ============================================================================ */

struct epmd_try;

/* The node's entry in epmd. */
struct dist_epmd {
    uv_loop_t *loop;
    struct log *log;
    const char *node; /* alive@host, for messages */
    const char *alive;
    int port;      /* where the node listens */
    int epmd_port; /* where epmd listens; 0 when ERL_EPMD_PORT makes no sense */
    /* `why` is NULL when the node is entered. Called once a dist_epmd_publish. */
    void (*published)(void *user, const char *why);
    void (*closed)(void *user); /* after dist_epmd_finish: the memory may go */
    void *user;

    uv_timer_t timer; /* until the next try, or the end of one that is not answered */
    struct epmd_try *current;
    uint64_t give_up; /* loop time in ms; 0 when `published` was called: then it tries for ever */
    bool told;        /* that the entry was lost */
    struct err why;
};

bool dist_epmd_init(struct dist_epmd *epmd, uv_loop_t *loop, struct err *err);
void dist_epmd_publish(struct dist_epmd *epmd);
/* Leaves epmd at once. */
void dist_epmd_unpublish(struct dist_epmd *epmd);
void dist_epmd_finish(struct dist_epmd *epmd);

/* }==== */

/* {==== handshake.c ======================================================================= */

/* How a handshake ended. The receiver owns `fd` (unless it is -1). */
struct dist_handshake_result {
    int fd; /* connected to `name`; -1: it failed */
    bool incoming;
    const char *name;           /* the peer's, or as much of it as is known; may be empty */
    struct sockaddr_in address; /* of an incoming one */
    bool refused;               /* it got as far as the cookies, and these differ */
    const char *why;
};

/* The handshakes under way, each on a thread of its own, since ei's functions wait. */
struct dist_handshakes {
    uv_loop_t *loop;
    ei_cnode ec;
    unsigned limit_ms; /* for a whole handshake */
    /* On the loop's thread, once for every handshake that was started. */
    void (*done)(void *user, const struct dist_handshake_result *result);
    void (*closed)(void *user); /* after dist_handshakes_finish: the memory may go */
    void *user;

    uv_async_t wake;
    uv_mutex_t lock;
    struct handshake *finished; /* under the lock */
    struct handshake *running;  /* the oldest first */
    unsigned threads;
    unsigned incoming; /* those of them that were not cancelled */
    bool closing;
};

/* Initialises ei for the node's name and copies the cookie. */
bool dist_handshakes_init(struct dist_handshakes *all, uv_loop_t *loop,
                          const struct dist_config *config, struct err *err);

/* Ends the oldest incoming handshake. */
void dist_handshakes_evict(struct dist_handshakes *all);

/* Whether there is room for one more incoming handshake, after ending the oldest if need be. */
bool dist_handshakes_room(struct dist_handshakes *all);

/* Starts a handshake on a socket just accepted. False, with `fd` closed, when no thread can be
 * started. */
bool dist_handshakes_accept(struct dist_handshakes *all, int fd, const struct sockaddr_in *address,
                            struct err *err);

/* Starts to connect to a node, unless that is under way. */
bool dist_handshakes_connect(struct dist_handshakes *all, const char *name, struct err *err);

/* Ends the incoming ones. */
void dist_handshakes_refuse(struct dist_handshakes *all);

/* Ends all; those that end from now on are not reported. */
void dist_handshakes_finish(struct dist_handshakes *all);

/* }==== */

#endif
