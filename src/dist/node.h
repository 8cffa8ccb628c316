/* The Erlang side of a node: its name, its listening socket, its place in epmd, and the peers that
 * are connected to it. Knows frames and control messages; what they mean is its user's business. */
#ifndef LUNODE_DIST_NODE_H
#define LUNODE_DIST_NODE_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "dist/control.h"

struct dist_node;
struct dist_peer;

struct dist_config {
    const char *host;   /* what follows @ : a name, long or short, or an IPv4 address */
    const char *alive;  /* what precedes it */
    const char *cookie; /* copied into ei; the caller overwrites its own afterwards */
    uint32_t creation;
    size_t max_frame; /* bytes; a peer that sends a longer frame is dropped */
    unsigned tick_ms; /* a peer silent this long is dropped; a tick is sent at a quarter of it */
    unsigned handshake_ms; /* a handshake that takes longer is dropped */
    bool connects_only; /* it does not listen: it can't be published, and nobody connects to it */
};

/* What the node tells its user, always on the thread of the event loop. */
struct dist_events {
    /* In epmd now, and accepting; or, with `why`, it will not be. */
    void (*published)(void *user, const char *why);
    void (*peer_up)(void *user, struct dist_peer *peer);
    /* The peer is freed when this returns. */
    void (*peer_down)(void *user, struct dist_peer *peer, const char *why);
    /* A frame; the spans are good until this returns. The payload is behind its version byte, or
     * empty. */
    void (*message)(void *user, struct dist_peer *peer, const struct dist_control *control,
                    struct span payload);
    /* An answer to dist_node_connect that did not become a peer. */
    void (*connect_failed)(void *user, const char *node, const char *why);
};

/* Resolves the host and listens on its address alone, unless it only connects. The node owns
 * nothing of `config` after this. When it fails, the loop must run until it has no handles left. */
bool dist_node_create(struct dist_node **node, uv_loop_t *loop, struct log *log,
                      const struct dist_config *config, const struct dist_events *events,
                      void *user, struct err *err);

/* The node as another process of it sees it, to which two pipes lead: every other node is reached
 * through that one peer, each frame with the name of a node. events.published is not called. Takes
 * over the descriptors when it succeeds. */
struct dist_channel {
    int in;           /* to read */
    int out;          /* to write */
    const char *name; /* alive@host */
    uint32_t creation;
    size_t max_frame; /* bytes */
};
bool dist_node_create_channel(struct dist_node **node, uv_loop_t *loop, struct log *log,
                              const struct dist_channel *channel, const struct dist_events *events,
                              void *user, struct err *err);
bool dist_node_is_channel(const struct dist_node *node);

/* That a node can be reached through the channel, or no longer. No connection is made for it. */
void dist_node_channel_up(struct dist_node *node, struct span name);
void dist_node_channel_down(struct dist_node *node, struct span name);

/* Enters the node into epmd. While the name is still taken, by a node just stopped, it tries again
 * every 20 ms for 4 s. Ends in events.published; from then on connections are accepted once
 * dist_node_accept was called. */
void dist_node_publish(struct dist_node *node);

/* Starts accepting connections. */
void dist_node_accept(struct dist_node *node);

/* Connects to another node, unless it is connected already. Ends in peer_up or connect_failed. */
void dist_node_connect(struct dist_node *node, const char *name);

/* Leaves epmd and stops accepting: the name is free for the next node at once. Peers stay. */
void dist_node_unpublish(struct dist_node *node);

/* Leaves epmd, writes what the peers take without waiting, drops them (peer_down is not called),
 * and frees. The loop must run on until it has no handles left. NULL is fine. */
void dist_node_destroy(struct dist_node *node);

/* "alive@host" */
const char *dist_node_name(const struct dist_node *node);
uint32_t dist_node_creation(const struct dist_node *node);

/* The peer of that name, or NULL; the channel when it leads there. */
struct dist_peer *dist_node_peer(struct dist_node *node, struct span name);

/* Calls `visit` for each peer. */
void dist_node_peers(const struct dist_node *node,
                     void (*visit)(void *argument, struct dist_peer *peer), void *argument);

/* Writes what was gathered for every peer in this turn, one write each. What one does not take
 * is written when it does. */
void dist_node_flush(struct dist_node *node);

/* {==== A peer ============================================================================ */

const char *dist_peer_name(const struct dist_peer *peer);

/* What it is read from. */
int dist_peer_fd(const struct dist_peer *peer);

/* What has come from it and gone to it since it is connected: frames, ticks not counted, and bytes.
 */
struct dist_traffic {
    uint64_t frames_in, frames_out;
    uint64_t bytes_in, bytes_out;
};
struct dist_traffic dist_peer_traffic(const struct dist_peer *peer);

/* While a frame of the peer is handled: hands over the buffer that its payload lies in, which is
 * the caller's then. False when copying is cheaper, or the buffer is much larger, or more has come.
 */
bool dist_peer_take(struct dist_peer *peer, struct span payload, struct buf *taken);

/* Bytes of closed frames that the system has not taken yet. A peer that lets more than
 * DIST_MAX_WAITING gather is dropped. */
size_t dist_peer_waiting(const struct dist_peer *peer);
enum { DIST_MAX_WAITING = 256 << 20 };

/* Opens a frame and gives the buffer that its control message (dist_control_write) and its payload
 * (version byte and term) are appended to. A frame that was opened and not closed is given up by
 * the next one, and never sent: so an error in between leaves nothing half sent. NULL when there is
 * no memory. */
struct buf *dist_frame_begin(struct dist_peer *peer);

/* Closes the frame; it is written with the others at the end of the turn. False, with nothing sent,
 * when it is longer than a frame can be. */
bool dist_frame_end(struct dist_peer *peer, struct err *err);

/* Gives the open frame up. */
void dist_frame_drop(struct dist_peer *peer);

/* }==== */

#endif
