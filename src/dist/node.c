/* The node: its name, the socket it listens on, and the peers that are connected: see node.h. */
#include "dist/node.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "dist/private.h"

enum {
    ACCEPTS_A_TURN = 32,
    ACCEPT_PAUSE_MS = 100, /* when no descriptor or thread can be had */
    SIMULTANEOUS_MS = 1000,
    TICKS = 8, /* looks a tick_ms: see dist_peer_tick */
};

/* A peer and what the node knows of it. */
struct member {
    struct dist_node *node;
    struct dist_peer *peer;
    bool incoming;
    uint64_t since; /* loop time in ms */
    UT_hash_handle hh;
};

/* A node at the other end of a channel. */
struct reached {
    UT_hash_handle hh; /* by name */
    char name[];
};

struct dist_node {
    uv_loop_t *loop;
    struct log *log;
    struct dist_events events;
    void *user;
    size_t max_frame;
    unsigned tick_ms;

    struct dist_handshakes handshakes;
    struct dist_epmd epmd;
    struct member *members; /* by name */
    struct member *found;   /* by the last find; NULL: none */
    unsigned parts;         /* that are still to close before the memory may go */

    int listen_fd; /* -1: no longer */
    bool listen_polled;
    uv_poll_t listen_poll; /* open if listen_polled */
    uv_timer_t pause;      /* of accepting */
    uv_timer_t ticker;

    struct dist_peer *channel; /* then there is only this, and: */
    struct reached *reached;   /* the nodes that it leads to */
    char *name;
    uint32_t creation;

    struct dist_quiet strangers; /* lines about failed handshakes, by how much they matter */
    struct dist_quiet wrong_cookies;
    struct dist_quiet troubles;
};

/* {==== Peers ============================================================================= */

static struct member *find(struct dist_node *node, struct span name) {
    if (node->found == NULL ||
        !span_equal(span_of(node->found->hh.key, node->found->hh.keylen), name)) {
        HASH_FIND(hh, node->members, name.data, name.len, node->found);
    }
    return node->found;
}

/* The name is free before the user hears of it, so that it may connect again at once. */
static void remove_member(struct member *member, const char *why) {
    struct dist_node *node = member->node;
    HASH_DEL(node->members, member);
    node->found = NULL;
    if (why != NULL) {
        node->events.peer_down(node->user, member->peer, why);
    }
    dist_peer_close(member->peer);
    free(member);
}

static void on_message(void *user, struct dist_peer *peer, const struct dist_control *control,
                       struct span payload) {
    const struct dist_node *node = ((struct member *)user)->node;
    node->events.message(node->user, peer, control, payload);
}

static void on_down(void *user, struct dist_peer *peer, const char *why) {
    (void)peer;
    remove_member(user, why);
}

static bool open_member(struct member *member, const char *name, int fd, struct err *err) {
    struct dist_node *node = member->node;
    struct dist_peer_config config = {
        .loop = node->loop,
        .log = node->log,
        .max_frame = node->max_frame,
        .tick_ms = node->tick_ms,
        .events = {.message = on_message, .down = on_down},
        .user = member,
    };
    if (!dist_peer_open(&member->peer, fd, fd, name, &config, err)) {
        close(fd);
        return false;
    }
    const char *key = dist_peer_name(member->peer);
    HASH_ADD_KEYPTR(hh, node->members, key, strlen(key), member);
    if (member->hh.tbl == NULL) {
        dist_peer_close(member->peer);
        return err_set(err, "no memory for the peer");
    }
    return true;
}

/* Takes over the socket; NULL, with it closed, when there is no memory. */
static struct member *add_member(struct dist_node *node, const struct dist_handshake_result *result,
                                 struct err *err) {
    struct member *member = calloc(1, sizeof *member);
    if (member == NULL) {
        close(result->fd);
        err_set(err, "no memory for the peer");
        return NULL;
    }
    member->node = node;
    member->incoming = result->incoming;
    member->since = uv_now(node->loop);
    if (!open_member(member, result->name, result->fd, err)) {
        free(member);
        return NULL;
    }
    return member;
}

/* Two nodes that connect to each other at once make two connections, and both must keep the same
 * one: that of the node with the greater name, as Erlang does. Otherwise the new one is right: the
 * peer would not connect if it did not know the old one to be lost. */
static bool old_one_wins(const struct dist_node *node, const struct member *old, bool incoming) {
    bool at_once = uv_now(node->loop) - old->since < SIMULTANEOUS_MS;
    if (!at_once || old->incoming == incoming) {
        return false;
    }
    bool ours_wins = strcmp(dist_node_name(node), dist_peer_name(old->peer)) > 0;
    return ours_wins == incoming;
}

/* Takes over the socket. True when there is a peer of that name now. */
static bool join(struct dist_node *node, const struct dist_handshake_result *result,
                 struct err *err) {
    struct member *old = find(node, span_str(result->name));
    if (old != NULL && old_one_wins(node, old, result->incoming)) {
        close(result->fd);
        return true;
    }
    if (old != NULL) {
        remove_member(old, "replaced by a new connection");
    }
    struct member *member = add_member(node, result, err);
    if (member == NULL) {
        return false;
    }
    node->events.peer_up(node->user, member->peer);
    return true;
}

/* }==== */

/* {==== Handshakes ======================================================================== */

/* One @, something on both sides, and nothing that a log line or an atom would choke on. */
static bool is_node_name(const char *name) {
    const char *at = strchr(name, '@');
    if (at == NULL || at == name || at[1] == '\0' || strchr(at + 1, '@') != NULL) {
        return false;
    }
    for (const char *p = name; *p != '\0'; p++) {
        if (*p <= ' ' || *p > '~') {
            return false;
        }
    }
    return true;
}

/* Strangers may come in any number; what is written about them may not. */
static void note_failure(struct dist_node *node, const struct dist_handshake_result *result,
                         const char *why, bool matters) {
    char address[INET_ADDRSTRLEN] = "?";
    char others[48] = "";
    unsigned held;
    struct dist_quiet *quiet = matters ? &node->wrong_cookies : &node->strangers;
    if (!dist_quiet_pass(quiet, uv_now(node->loop), &held)) {
        return;
    }
    if (held > 0) {
        (void)snprintf(others, sizeof others, " (and %u others like it)", held);
    }
    inet_ntop(AF_INET, &result->address.sin_addr, address, sizeof address);
    bool named = is_node_name(result->name);
    log_line(node->log, matters ? LOG_LEVEL_WARNING : LOG_LEVEL_DEBUG, "lunode",
             "handshake with %s%s%s%s failed: %s%s", named ? result->name : "", named ? " (" : "",
             address, named ? ")" : "", why, others);
}

static void on_incoming(struct dist_node *node, const struct dist_handshake_result *result) {
    struct err err;
    if (result->fd < 0) {
        note_failure(node, result, result->why, result->refused);
        return;
    }
    if (!is_node_name(result->name)) {
        note_failure(node, result, "its name is not a node's name", true);
    } else if (strcmp(result->name, dist_node_name(node)) == 0) {
        note_failure(node, result, "it has this node's own name", true);
    } else if (node->listen_fd >= 0) {
        if (!join(node, result, &err)) {
            note_failure(node, result, err.text, true);
        }
        return;
    }
    close(result->fd);
}

static void on_outgoing(struct dist_node *node, const struct dist_handshake_result *result) {
    struct err err;
    bool ok = result->fd >= 0;
    if (!ok) {
        err_set(&err, "%s", result->why);
    } else {
        ok = join(node, result, &err);
    }
    /* Or it has connected to this node meanwhile. */
    if (!ok && find(node, span_str(result->name)) == NULL) {
        node->events.connect_failed(node->user, result->name, err.text);
    }
}

static void on_handshake(void *user, const struct dist_handshake_result *result) {
    if (result->incoming) {
        on_incoming(user, result);
    } else {
        on_outgoing(user, result);
    }
}

void dist_node_connect(struct dist_node *node, const char *name) {
    struct err err;
    if (node->channel == NULL && find(node, span_str(name)) != NULL) {
        return;
    }
    bool ok = false;
    if (node->channel != NULL) {
        err_set(&err, "no connection is made from here");
    } else if (!is_node_name(name)) {
        err_set(&err, "that is not a node's name: it reads name@host");
    } else if (strcmp(name, dist_node_name(node)) == 0) {
        err_set(&err, "that is this node itself");
    } else {
        ok = dist_handshakes_connect(&node->handshakes, name, &err);
    }
    if (!ok) {
        node->events.connect_failed(node->user, name, err.text);
    }
}

/* }==== */

/* {==== Accepting ========================================================================= */

static void on_listen_poll(uv_poll_t *poll, int status, int events);

static void on_pause_over(uv_timer_t *timer) {
    struct dist_node *node = timer->data;
    if (node->listen_polled) {
        uv_poll_start(&node->listen_poll, UV_READABLE, on_listen_poll);
    }
}

/* The socket stays readable, so going on at once would spin. */
static void pause_accepting(struct dist_node *node, const char *why) {
    unsigned held;
    if (dist_quiet_pass(&node->troubles, uv_now(node->loop), &held)) {
        log_line(node->log, LOG_LEVEL_WARNING, "lunode", "cannot accept connections for now: %s",
                 why);
    }
    uv_poll_stop(&node->listen_poll);
    uv_timer_start(&node->pause, on_pause_over, ACCEPT_PAUSE_MS, 0);
}

static bool is_passing(int error) {
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR || error == ECONNABORTED;
}

/* False when there is nothing more to accept now. */
static bool accept_one(struct dist_node *node) {
    struct sockaddr_in address = {0};
    socklen_t len = sizeof address;
    struct err err;
    if (!dist_handshakes_room(&node->handshakes)) {
        pause_accepting(node, "too many handshakes at once");
        return false;
    }
    int fd = accept(node->listen_fd, (struct sockaddr *)&address, &len);
    if (fd < 0) {
        int error = errno;
        if (!is_passing(error)) {
            dist_handshakes_evict(&node->handshakes); /* its descriptor may be what is missing */
            pause_accepting(node, strerror(error));
        }
        return error == ECONNABORTED || error == EINTR;
    }
    if (!dist_handshakes_accept(&node->handshakes, fd, &address, &err)) {
        pause_accepting(node, err.text);
        return false;
    }
    return true;
}

static void on_listen_poll(uv_poll_t *poll, int status, int events) {
    struct dist_node *node = poll->data;
    (void)events;
    if (status < 0) {
        pause_accepting(node, uv_strerror(status));
        return;
    }
    for (int i = 0; i < ACCEPTS_A_TURN && accept_one(node); i++) {
    }
}

void dist_node_accept(struct dist_node *node) {
    if (node->listen_polled && !uv_is_active((uv_handle_t *)&node->listen_poll)) {
        uv_poll_start(&node->listen_poll, UV_READABLE, on_listen_poll);
    }
}

/* }==== */

/* {==== Name and ticks ==================================================================== */

static void on_published(void *user, const char *why) {
    const struct dist_node *node = user;
    node->events.published(node->user, why);
}

void dist_node_publish(struct dist_node *node) {
    dist_epmd_publish(&node->epmd);
}

const char *dist_node_name(const struct dist_node *node) {
    return node->channel != NULL ? node->name : ei_thisnodename(&node->handshakes.ec);
}

uint32_t dist_node_creation(const struct dist_node *node) {
    return node->channel != NULL ? node->creation : node->handshakes.ec.creation;
}

static struct reached *find_reached(const struct dist_node *node, struct span name) {
    struct reached *reached;
    HASH_FIND(hh, node->reached, name.data, name.len, reached);
    return reached;
}

static bool leads_to(const struct dist_node *node, struct span name) {
    return span_equal(name, span_str(node->name)) || find_reached(node, name) != NULL;
}

struct dist_peer *dist_node_peer(struct dist_node *node, struct span name) {
    if (node->channel != NULL) {
        return leads_to(node, name) ? node->channel : NULL;
    }
    const struct member *member = find(node, name);
    return member == NULL ? NULL : member->peer;
}

void dist_node_peers(const struct dist_node *node,
                     void (*visit)(void *argument, struct dist_peer *peer), void *argument) {
    for (struct member *member = node->members; member != NULL; member = member->hh.next) {
        visit(argument, member->peer);
    }
}

void dist_node_flush(struct dist_node *node) {
    if (node->channel != NULL) {
        dist_peer_flush(node->channel);
    }
    for (struct member *member = node->members; member != NULL; member = member->hh.next) {
        dist_peer_flush(member->peer);
    }
}

/* A peer that is found silent is removed from the table meanwhile. */
static void on_ticker(uv_timer_t *timer) {
    const struct dist_node *node = timer->data;
    struct member *next;
    for (struct member *member = node->members; member != NULL; member = next) {
        next = member->hh.next;
        dist_peer_tick(member->peer);
    }
}

/* }==== */

/* {==== Creating and destroying =========================================================== */

/* Called when a part has closed; the last one takes the node along. */
static void part_closed(void *user) {
    struct dist_node *node = user;
    if (--node->parts == 0) {
        free(node);
    }
}

static void on_handle_closed(uv_handle_t *handle) {
    part_closed(handle->data);
}

static void close_handle(struct dist_node *node, uv_handle_t *handle) {
    handle->data = node;
    uv_close(handle, on_handle_closed);
}

static void stop_listening(struct dist_node *node) {
    if (node->listen_polled) {
        node->listen_polled = false;
        close_handle(node, (uv_handle_t *)&node->listen_poll);
    }
    if (node->listen_fd >= 0) {
        close(node->listen_fd);
        node->listen_fd = -1;
    }
}

void dist_node_unpublish(struct dist_node *node) {
    dist_epmd_unpublish(&node->epmd);
    stop_listening(node);
    dist_handshakes_refuse(&node->handshakes);
}

static void drop_members(struct dist_node *node) {
    struct member *next;
    for (struct member *member = node->members; member != NULL; member = next) {
        next = member->hh.next;
        dist_peer_flush(member->peer);
        remove_member(member, NULL);
    }
}

/* }==== */

/* {==== A channel ========================================================================= */

static void on_channel_message(void *user, struct dist_peer *peer,
                               const struct dist_control *control, struct span payload) {
    const struct dist_node *node = user;
    node->events.message(node->user, peer, control, payload);
}

static void on_channel_down(void *user, struct dist_peer *peer, const char *why) {
    const struct dist_node *node = user;
    node->events.peer_down(node->user, peer, why);
}

bool dist_node_create_channel(struct dist_node **out, uv_loop_t *loop, struct log *log,
                              const struct dist_channel *channel, const struct dist_events *events,
                              void *user, struct err *err) {
    struct dist_node *node = calloc(1, sizeof *node);
    char *name = strdup(channel->name);
    if (node == NULL || name == NULL) {
        err_set(err, "no memory for the node");
        goto error;
    }
    node->events = *events;
    node->user = user;
    node->name = name;
    node->creation = channel->creation;
    struct dist_peer_config config = {
        .loop = loop,
        .log = log,
        .is_channel = true,
        .max_frame = channel->max_frame,
        .events = {.message = on_channel_message, .down = on_channel_down},
        .user = node,
    };
    if (!dist_peer_open(&node->channel, channel->in, channel->out, name, &config, err)) {
        goto error;
    }
    *out = node;
    return true;
error:
    free(name);
    free(node);
    return false;
}

void dist_node_channel_up(struct dist_node *node, struct span name) {
    struct reached *reached =
        find_reached(node, name) != NULL ? NULL : malloc(sizeof *reached + name.len);
    if (reached != NULL) {
        memcpy(reached->name, name.data, name.len);
        HASH_ADD_KEYPTR(hh, node->reached, reached->name, name.len, reached);
    }
}

void dist_node_channel_down(struct dist_node *node, struct span name) {
    struct reached *reached = find_reached(node, name);
    if (reached != NULL) {
        HASH_DEL(node->reached, reached);
        free(reached);
    }
}

bool dist_node_is_channel(const struct dist_node *node) {
    return node->channel != NULL;
}

static void close_channel(struct dist_node *node) {
    dist_peer_flush(node->channel);
    dist_peer_close(node->channel);
    while (node->reached != NULL) {
        const struct reached *first = node->reached;
        dist_node_channel_down(node, span_of(first->name, first->hh.keylen));
    }
    free(node->name);
    free(node);
}

/* }==== */

/* {==== Creating and destroying =========================================================== */

void dist_node_destroy(struct dist_node *node) {
    if (node == NULL) {
        return;
    }
    if (node->channel != NULL) {
        close_channel(node);
        return;
    }
    node->parts++; /* until this function is done */
    dist_node_unpublish(node);
    drop_members(node);
    close_handle(node, (uv_handle_t *)&node->pause);
    close_handle(node, (uv_handle_t *)&node->ticker);
    dist_epmd_finish(&node->epmd);
    dist_handshakes_finish(&node->handshakes);
    part_closed(node);
}

static bool add_handle(struct dist_node *node, int status, uv_handle_t *handle, struct err *err) {
    if (status != 0) {
        return err_set(err, "cannot watch the node: %s", uv_strerror(status));
    }
    handle->data = node;
    node->parts++;
    return true;
}

static bool open_listener(struct dist_node *node, const char *host, struct err *err) {
    struct in_addr address;
    if (!dist_socket_resolve(host, &address, err) ||
        !dist_socket_listen(host, address, &node->listen_fd, &node->epmd.port, err)) {
        return false;
    }
    node->listen_polled =
        add_handle(node, uv_poll_init(node->loop, &node->listen_poll, node->listen_fd),
                   (uv_handle_t *)&node->listen_poll, err);
    return node->listen_polled;
}

/* The parts that need no undoing come first; each later one is undone by its own function. */
static bool open_parts(struct dist_node *node, const struct dist_config *config, struct err *err) {
    if (!dist_handshakes_init(&node->handshakes, node->loop, config, err)) {
        return false;
    }
    node->parts++;
    if (!dist_epmd_init(&node->epmd, node->loop, err)) {
        goto error_epmd;
    }
    node->parts++;
    node->epmd.node = dist_node_name(node);
    node->epmd.alive = ei_thisalivename(&node->handshakes.ec);
    if (!add_handle(node, uv_timer_init(node->loop, &node->pause), (uv_handle_t *)&node->pause,
                    err)) {
        goto error_pause;
    }
    if (!add_handle(node, uv_timer_init(node->loop, &node->ticker), (uv_handle_t *)&node->ticker,
                    err)) {
        goto error_ticker;
    }
    if (config->connects_only || open_listener(node, config->host, err)) {
        return true;
    }
    stop_listening(node);
    close_handle(node, (uv_handle_t *)&node->ticker);
error_ticker:
    close_handle(node, (uv_handle_t *)&node->pause);
error_pause:
    dist_epmd_finish(&node->epmd);
error_epmd:
    dist_handshakes_finish(&node->handshakes);
    return false;
}

static struct dist_node *new_node(uv_loop_t *loop, struct log *log,
                                  const struct dist_config *config,
                                  const struct dist_events *events, void *user) {
    struct dist_node *node = calloc(1, sizeof *node);
    if (node == NULL) {
        return NULL;
    }
    node->loop = loop;
    node->log = log;
    node->events = *events;
    node->user = user;
    node->max_frame = config->max_frame;
    node->tick_ms = config->tick_ms;
    node->listen_fd = -1;
    node->handshakes.done = on_handshake;
    node->handshakes.closed = part_closed;
    node->handshakes.user = node;
    node->epmd.published = on_published;
    node->epmd.closed = part_closed;
    node->epmd.user = node;
    node->epmd.log = log;
    return node;
}

bool dist_node_create(struct dist_node **out, uv_loop_t *loop, struct log *log,
                      const struct dist_config *config, const struct dist_events *events,
                      void *user, struct err *err) {
    struct dist_node *node = new_node(loop, log, config, events, user);
    if (node == NULL) {
        return err_set(err, "no memory for the node");
    }
    node->parts = 1; /* until this function is done */
    if (!open_parts(node, config, err)) {
        part_closed(node); /* now, or when the loop has closed what was open */
        return false;
    }
    node->parts--;
    unsigned every = node->tick_ms / TICKS;
    uv_timer_start(&node->ticker, on_ticker, every, every > 0 ? every : 1);
    *out = node;
    return true;
}

/* }==== */
