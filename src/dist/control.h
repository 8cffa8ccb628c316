/* Control messages of the distribution protocol: reading and writing the first term of a frame.
 * Erlang's "Distribution Protocol", section "Protocol between Connected Nodes", rules. */
#ifndef LUNODE_DIST_CONTROL_H
#define LUNODE_DIST_CONTROL_H

#include "base/buf.h"

/* The traced variants (SEND_TT and so on) are read as their plain ones: the token is left out. */
enum dist_op {
    DIST_LINK = 1,
    DIST_SEND = 2,
    DIST_EXIT = 3,
    DIST_UNLINK = 4, /* in place of UNLINK_ID where a side has no DFLAG_UNLINK_ID: OTP 23 */
    DIST_REG_SEND = 6,
    DIST_GROUP_LEADER = 7,
    DIST_EXIT2 = 8,
    DIST_MONITOR_P = 19,
    DIST_DEMONITOR_P = 20,
    DIST_MONITOR_P_EXIT = 21,
    DIST_SPAWN_REQUEST = 29,
    DIST_SPAWN_REPLY = 31,
    DIST_ALIAS_SEND = 33,
    DIST_UNLINK_ID = 35,
    DIST_UNLINK_ID_ACK = 36,
    /* On a channel alone: */
    DIST_NODE_DOWN = 64, /* the connection to the node is lost */
    DIST_NODE_UP = 65,   /* ... is there */
    DIST_PING = 66,      /* is answered by the same */
};

/* The parts of a control message, each a whole external term without version byte. Which are there
 * depends on the op; the others are empty. */
struct dist_control {
    enum dist_op op;
    struct span from;    /* pid; in MONITOR_P_EXIT a pid or a name */
    struct span to;      /* pid; in REG_SEND a name; in MONITOR_P and DEMONITOR_P either */
    struct span ref;     /* monitor, alias, request id, or unlink id */
    struct span reason;  /* EXIT, EXIT2, MONITOR_P_EXIT; the result in SPAWN_REPLY */
    struct span group;   /* group leader in SPAWN_REQUEST */
    struct span mfa;     /* {Module, Function, Arity} in SPAWN_REQUEST */
    struct span options; /* SPAWN_REQUEST; the flags in SPAWN_REPLY */
    struct span node;    /* on a channel: the name of the node that it comes from, or goes to */
};

/* Cuts the control message off `in` (behind the frame's version byte). False when it is none that
 * is known, or no whole term. */
bool dist_control_read(struct span *in, struct dist_control *control);

/* The same for one that came through a channel. */
bool dist_control_read_channel(struct span *in, struct dist_control *control);

/* Appends the version byte and the control message; with a node, in the form for a channel. False,
 * with nothing appended, when there is no memory or a part is missing. */
bool dist_control_write(struct buf *out, const struct dist_control *control);

#endif
