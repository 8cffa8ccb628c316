/* Frames in and out of one connection: see peer.h. */
#include "dist/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/ext.h"
#include "dist/private.h"

enum {
    HEAD = 4,            /* a frame's length field */
    PASS_THROUGH = 112,  /* 'p', the only type of frame without atom cache and fragments */
    READ_MIN = 16 << 10, /* room that a read is given at least */
    READ_TURN = 1 << 20, /* bytes read in one turn, so that one peer doesn't hold up the others */
    CHANNEL_TURN = 32 << 10, /* the same of a channel, whose frames take longer: each is checked */
    KEEP = 1 << 20,          /* size of a buffer that is kept when it is empty */
    TAKE = 256 << 10,        /* bytes of a payload that are not worth copying */
    COMPACT = 256 << 10,     /* bytes sent that are worth moving the rest to the front */
    TICK_ANSWER_MS = 500,    /* two nodes that answer ticks must not answer each other for ever */
};

struct dist_peer {
    struct dist_peer_config config;
    char *name;
    int read_fd; /* two, so that each can be watched by itself */
    int write_fd;
    uv_poll_t readable; /* active unless it is held */
    uv_poll_t writable; /* active while something waits */
    uv_timer_t end;     /* active from its failure until that is reported */
    unsigned closing;   /* handles that the loop has not closed yet */
    bool failed;
    struct err why; /* when failed */
    struct dist_quiet quiet;

    struct buf in;
    struct dist_traffic traffic;
    uint64_t last_in;   /* loop time in ms */
    uint64_t last_look; /* of dist_peer_tick */

    /* out: [0, sent) is with the kernel, [sent, closed) waits, what follows is the open frame. */
    struct buf out;
    size_t sent;
    size_t closed;
    bool open;
    uint64_t last_out;
};

/* {==== Ending =========================================================================== */

static void on_end(uv_timer_t *timer) {
    struct dist_peer *peer = timer->data;
    peer->config.events.down(peer->config.user, peer, peer->why.text);
}

/* The news of the end comes from the loop, in its next turn, and not from within a function that
 * the user called. */
static void fail(struct dist_peer *peer) {
    if (!peer->failed) {
        peer->failed = true;
        uv_poll_stop(&peer->readable);
        uv_poll_stop(&peer->writable);
        uv_timer_start(&peer->end, on_end, 0, 0);
    }
}

static void fail_errno(struct dist_peer *peer, int error) {
    if (!peer->failed) {
        err_set(&peer->why, "connection lost: %s", strerror(error));
        fail(peer);
    }
}

/* }==== */

/* {==== Frames in ========================================================================= */

static void on_tick(struct dist_peer *peer) {
    uint64_t now = uv_now(peer->config.loop);
    if (peer->last_out == 0 || now - peer->last_out >= TICK_ANSWER_MS) {
        dist_peer_send_tick(peer);
    }
}

static void note_unreadable(struct dist_peer *peer, struct span frame) {
    unsigned more;
    if (!dist_quiet_pass(&peer->quiet, uv_now(peer->config.loop), &more)) {
        return;
    }
    int op = frame.len > 1 ? dist_control_peek(span_of(frame.data + 1, frame.len - 1)) : 0;
    log_line(peer->config.log, LOG_LEVEL_WARNING, "lunode",
             "%s sent a control message that cannot be read (operation %d, %zu bytes): ignored%s",
             peer->name, op, frame.len, more > 0 ? "; others before it too" : "");
}

/* The other end of a channel is this program: it sends nothing that can't be read. */
static void fail_unreadable(struct dist_peer *peer, struct span frame) {
    err_set(&peer->why, "it sent a frame of %zu bytes that cannot be read", frame.len + 1);
    fail(peer);
}

/* `frame` is what follows the type byte. False when nothing more is to be read. */
static bool on_frame(struct dist_peer *peer, struct span frame) {
    struct dist_control control;
    struct span rest = frame;
    if (frame.len > 0 && frame.data[0] == EXT_VERSION) {
        rest = span_of(frame.data + 1, frame.len - 1);
        bool ok = peer->config.is_channel ? dist_control_read_channel(&rest, &control)
                                          : dist_control_read(&rest, &control);
        if (ok && (rest.len == 0 || rest.data[0] == EXT_VERSION)) {
            struct span payload = rest.len == 0 ? rest : span_of(rest.data + 1, rest.len - 1);
            peer->config.events.message(peer->config.user, peer, &control, payload);
            return true;
        }
    }
    if (peer->config.is_channel) {
        fail_unreadable(peer, frame);
        return false;
    }
    note_unreadable(peer, frame);
    return true;
}

/* Whether a frame of that length, whose type byte is at `type` if it is there yet, is acceptable.
 */
static bool check_frame(struct dist_peer *peer, size_t size, const uint8_t *type) {
    if (size > peer->config.max_frame) {
        err_set(&peer->why, "it sent a frame of %zu bytes; the limit is %zu", size,
                peer->config.max_frame);
        log_line(peer->config.log, LOG_LEVEL_ERROR, "lunode",
                 "%s sent a frame of %zu bytes; the limit is %zu: connection dropped", peer->name,
                 size, peer->config.max_frame);
        return false;
    }
    if (type != NULL && *type != PASS_THROUGH) {
        err_set(&peer->why, "it sent a frame of unknown type %u", *type);
        log_line(peer->config.log, LOG_LEVEL_ERROR, "lunode",
                 "%s sent a frame of unknown type %u: connection dropped", peer->name, *type);
        return false;
    }
    return true;
}

/* Handles one frame at the start of `in` and cuts it off. False when there is no whole one. */
static bool take_frame(struct dist_peer *peer, struct span *in) {
    if (in->len < HEAD) {
        return false;
    }
    size_t size = ext_u32(in->data);
    if (size == 0) {
        *in = span_of(in->data + HEAD, in->len - HEAD);
        on_tick(peer);
        return true;
    }
    if (!check_frame(peer, size, in->len > HEAD ? in->data + HEAD : NULL)) {
        fail(peer);
        return false;
    }
    if (in->len - HEAD < size) {
        return false;
    }
    struct span frame = span_of(in->data + HEAD + 1, size - 1);
    *in = span_of(in->data + HEAD + size, in->len - HEAD - size);
    peer->traffic.frames_in++;
    return on_frame(peer, frame);
}

static void take_frames(struct dist_peer *peer) {
    struct span rest = buf_span(&peer->in);
    while (take_frame(peer, &rest)) {
    }
    buf_consume(&peer->in, peer->in.len - rest.len);
    buf_relax(&peer->in, KEEP);
}

bool dist_peer_take(struct dist_peer *peer, struct span payload, struct buf *taken) {
    const struct buf *in = &peer->in;
    if (payload.len < TAKE || payload.len > in->len || in->cap - payload.len > payload.len / 8 ||
        payload.data + payload.len != in->data + in->len) {
        return false;
    }
    *taken = *in;
    buf_init(&peer->in);
    return true;
}

/* Bytes that the frame at the start of `in` lacks; 0: it is whole, or too long. */
static size_t missing(const struct dist_peer *peer) {
    size_t size = peer->in.len < HEAD ? 0 : ext_u32(peer->in.data);
    bool lacks = size <= peer->config.max_frame && peer->in.len < HEAD + size;
    return lacks && size > 0 ? HEAD + size - peer->in.len : 0;
}

/* For all that a frame lacks, but not for one of which little more than the announcement has come.
 */
static size_t room_for(const struct dist_peer *peer, size_t lacking) {
    return lacking > 0 && lacking / 8 < peer->in.len ? lacking : READ_MIN;
}

/* Reads once; the number of bytes that the turn has left, 0 when there is nothing more now. */
static size_t read_once(struct dist_peer *peer, size_t limit) {
    size_t lacking = missing(peer);
    if (!buf_reserve(&peer->in, room_for(peer, lacking))) {
        err_set(&peer->why, "no memory for its frame");
        log_line(peer->config.log, LOG_LEVEL_ERROR, "lunode",
                 "no memory for a frame of %s: connection dropped", peer->name);
        fail(peer);
        return 0;
    }
    size_t room = peer->in.cap - peer->in.len;
    size_t want = room < limit ? room : limit;
    ssize_t n = read(peer->read_fd, peer->in.data + peer->in.len, want);
    if (n > 0) {
        peer->in.len += (size_t)n;
        peer->traffic.bytes_in += (size_t)n;
        peer->last_in = uv_now(peer->config.loop);
        /* A frame that is whole is handled: room for what comes behind might cost a copy of it. */
        bool is_whole = lacking > 0 && (size_t)n >= lacking;
        return (size_t)n == want && !is_whole ? limit - want : 0;
    }
    if (n == 0) {
        err_set(&peer->why, "connection closed");
        fail(peer);
    } else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
        fail_errno(peer, errno);
    }
    return 0;
}

static void read_turn(struct dist_peer *peer) {
    size_t limit = peer->config.is_channel ? CHANNEL_TURN : READ_TURN;
    while (limit > 0 && !peer->failed) {
        limit = read_once(peer, limit);
    }
}

/* }==== */

/* {==== Frames out ======================================================================== */

static void on_poll(uv_poll_t *poll, int status, int events);

/* Starts and stops cost system calls: only when something changes. */
static void watch(uv_poll_t *poll, int events, bool on) {
    if (on && !uv_is_active((uv_handle_t *)poll)) {
        uv_poll_start(poll, events, on_poll);
    } else if (!on && uv_is_active((uv_handle_t *)poll)) {
        uv_poll_stop(poll);
    }
}

void dist_peer_hold(struct dist_peer *peer, bool hold) {
    if (!peer->failed) {
        watch(&peer->readable, UV_READABLE, !hold);
    }
}

void dist_peer_limit(struct dist_peer *peer, size_t max_frame) {
    peer->config.max_frame = max_frame;
}

/* Drops what was sent, where that is cheap. Nothing moves while a frame is open: its writer may
 * have kept positions. */
static void forget_sent(struct dist_peer *peer) {
    if (peer->open) {
        return;
    }
    peer->out.len = peer->closed;
    if (peer->sent == peer->closed || (peer->sent > COMPACT && peer->sent > peer->closed / 2)) {
        buf_consume(&peer->out, peer->sent);
        peer->closed -= peer->sent;
        peer->sent = 0;
    }
    buf_relax(&peer->out, KEEP);
}

static void write_waiting(struct dist_peer *peer) {
    size_t waiting = dist_peer_waiting(peer);
    ssize_t n = write(peer->write_fd, peer->out.data + peer->sent, waiting);
    if (n >= 0) {
        peer->sent += (size_t)n;
        peer->traffic.bytes_out += (size_t)n;
        peer->last_out = uv_now(peer->config.loop);
    } else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
        fail_errno(peer, errno);
    }
}

void dist_peer_flush(struct dist_peer *peer) {
    if (peer->failed || dist_peer_waiting(peer) == 0) {
        return;
    }
    write_waiting(peer);
    if (!peer->failed) {
        watch(&peer->writable, UV_WRITABLE, dist_peer_waiting(peer) > 0);
    }
    forget_sent(peer);
}

struct dist_traffic dist_peer_traffic(const struct dist_peer *peer) {
    return peer->traffic;
}

size_t dist_peer_waiting(const struct dist_peer *peer) {
    return peer->closed - peer->sent;
}

struct buf *dist_frame_begin(struct dist_peer *peer) {
    static const uint8_t head[HEAD + 1] = {0, 0, 0, 0, PASS_THROUGH};
    dist_frame_drop(peer);
    if (!buf_append(&peer->out, head, sizeof head)) {
        return NULL;
    }
    peer->open = true;
    return &peer->out;
}

bool dist_frame_end(struct dist_peer *peer, struct err *err) {
    if (!peer->open) {
        return err_set(err, "no frame is open");
    }
    size_t size = peer->out.len - peer->closed - HEAD;
    if (size > UINT32_MAX) {
        dist_frame_drop(peer);
        return err_set(err, "a message of %zu bytes is longer than can be sent (%u)", size,
                       UINT32_MAX);
    }
    if (!peer->failed && dist_peer_waiting(peer) > DIST_MAX_WAITING) {
        log_line(peer->config.log, LOG_LEVEL_ERROR, "lunode",
                 "%s does not read: %zu bytes wait for it: connection dropped", peer->name,
                 dist_peer_waiting(peer));
        err_set(&peer->why, "it does not read");
        fail(peer);
    }
    ext_set_u32(peer->out.data + peer->closed, (uint32_t)size);
    peer->closed = peer->out.len;
    peer->open = false;
    peer->traffic.frames_out++;
    if (peer->failed) { /* nobody will read it: keep no memory for it */
        peer->out.len = peer->closed = peer->sent;
    }
    return true;
}

void dist_frame_drop(struct dist_peer *peer) {
    peer->open = false;
    forget_sent(peer);
}

void dist_peer_send_tick(struct dist_peer *peer) {
    static const uint8_t tick[HEAD];
    dist_frame_drop(peer);
    if (buf_append(&peer->out, tick, sizeof tick)) {
        peer->closed = peer->out.len;
        dist_peer_flush(peer);
    }
}

/* }==== */

/* {==== The peer ========================================================================== */

static void on_poll(uv_poll_t *poll, int status, int events) {
    struct dist_peer *peer = poll->data;
    if (events & UV_WRITABLE) {
        dist_peer_flush(peer);
    }
    if (status < 0 || (events & UV_READABLE)) {
        read_turn(peer); /* what arrived before the end is handled before it is reported */
        take_frames(peer);
    }
    if (status < 0) { /* libuv says EBADF for any error; reading has told the real one */
        fail_errno(peer, ECONNRESET);
    }
}

void dist_peer_tick(struct dist_peer *peer) {
    uint64_t now = uv_now(peer->config.loop);
    unsigned tick_ms = peer->config.tick_ms;
    /* When the loop itself stood still, what the peer sent meanwhile is not read yet. */
    bool late = now - peer->last_look >= tick_ms / 2;
    peer->last_look = now;
    if (peer->failed) {
        return;
    }
    if (now - peer->last_in >= tick_ms && !late) {
        err_set(&peer->why, "no tick for %u s", (unsigned)((now - peer->last_in) / 1000));
        fail(peer);
    } else if (now - peer->last_out >= tick_ms / 4 && dist_peer_waiting(peer) == 0) {
        dist_peer_send_tick(peer);
    }
}

const char *dist_peer_name(const struct dist_peer *peer) {
    return peer->name;
}

int dist_peer_fd(const struct dist_peer *peer) {
    return peer->read_fd;
}

static void on_closed(uv_handle_t *handle) {
    struct dist_peer *peer = handle->data;
    if (--peer->closing == 0) {
        buf_finish(&peer->in);
        buf_finish(&peer->out);
        free(peer->name);
        free(peer);
    }
}

/* A handle that could not be made has no type. */
static void close_handle(struct dist_peer *peer, uv_handle_t *handle) {
    if (uv_handle_get_type(handle) != UV_UNKNOWN_HANDLE) {
        peer->closing++;
        uv_close(handle, on_closed);
    }
}

static void close_handles(struct dist_peer *peer) {
    peer->failed = true;
    close_handle(peer, (uv_handle_t *)&peer->readable);
    close_handle(peer, (uv_handle_t *)&peer->writable);
    close_handle(peer, (uv_handle_t *)&peer->end);
}

static int watch_descriptor(struct dist_peer *peer, uv_poll_t *poll, int fd) {
    int status = dist_socket_prepare(fd);
    if (status != 0) {
        return -status;
    }
    status = uv_poll_init(peer->config.loop, poll, fd);
    poll->data = peer;
    return status;
}

bool dist_peer_open(struct dist_peer **out, int read_fd, int write_fd, const char *name,
                    const struct dist_peer_config *config, struct err *err) {
    struct dist_peer *peer = calloc(1, sizeof *peer);
    char *copy = strdup(name);
    if (peer == NULL || copy == NULL) {
        free(copy);
        free(peer);
        return err_set(err, "no memory for the connection");
    }
    peer->config = *config;
    peer->name = copy;
    peer->read_fd = read_fd;
    peer->write_fd = write_fd == read_fd ? fcntl(read_fd, F_DUPFD_CLOEXEC, 0) : write_fd;
    peer->last_in = peer->last_look = uv_now(config->loop);
    uv_timer_init(config->loop, &peer->end);
    peer->end.data = peer;
    int status = peer->write_fd < 0 ? -errno : watch_descriptor(peer, &peer->readable, read_fd);
    status = status != 0 ? status : watch_descriptor(peer, &peer->writable, peer->write_fd);
    if (status != 0) {
        close_handles(peer);
        if (write_fd == read_fd && peer->write_fd >= 0) {
            close(peer->write_fd);
        }
        return err_set(err, "cannot set up the connection: %s", uv_strerror(status));
    }
    watch(&peer->readable, UV_READABLE, true);
    *out = peer;
    return true;
}

void dist_peer_close(struct dist_peer *peer) {
    close_handles(peer);
    close(peer->read_fd);
    close(peer->write_fd);
}

/* }==== */
