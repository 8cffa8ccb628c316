/* One connection, once the handshake is done: frames in and out of a stream socket, or of two pipes
 * between two of our processes. Knows nothing of ei, epmd or node names. Writing to a peer that has
 * gone raises SIGPIPE, which the program ignores. */
#ifndef LUNODE_DIST_PEER_H
#define LUNODE_DIST_PEER_H

#include <uv.h>

#include "base/log.h"
#include "dist/node.h"

/* Always called on the thread of the event loop, never from within a function of this header. */
struct dist_peer_events {
    void (*message)(void *user, struct dist_peer *peer, const struct dist_control *control,
                    struct span payload);
    /* The connection has ended; told once. The receiver closes the peer, here or later. */
    void (*down)(void *user, struct dist_peer *peer, const char *why);
};

struct dist_peer_config {
    uv_loop_t *loop;
    struct log *log;
    bool is_channel;  /* to another process of this node: each frame names a node */
    size_t max_frame; /* bytes */
    unsigned tick_ms; /* silent this long: down; nothing sent for a quarter of it: a tick */
    struct dist_peer_events events;
    void *user;
};

/* Takes over the descriptors when it succeeds: the ends of two pipes, or a connected stream socket
 * as both. `name` is copied. When it fails, the loop must run until it has no handles left. */
bool dist_peer_open(struct dist_peer **peer, int read_fd, int write_fd, const char *name,
                    const struct dist_peer_config *config, struct err *err);

/* Closes the descriptors; events.down is not called. Memory goes when the loop has closed the
 * handles. */
void dist_peer_close(struct dist_peer *peer);

/* Stops to read from it, or goes on: what it sends waits on its side. */
void dist_peer_hold(struct dist_peer *peer, bool hold);

/* The most bytes that a frame from it may have, from now on. */
void dist_peer_limit(struct dist_peer *peer, size_t max_frame);

/* Writes the closed frames that wait, as far as the peer takes them; the rest follows by itself. */
void dist_peer_flush(struct dist_peer *peer);

/* To be called every eighth of tick_ms: sends a tick when one is due, and ends the connection of a
 * peer that fell silent. An open frame is given up: none lives that long. */
void dist_peer_tick(struct dist_peer *peer);

#endif
