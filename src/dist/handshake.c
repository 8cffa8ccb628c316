/* Handshakes through ei, each on its own thread, with our own socket callbacks.
 *
 * ei's functions wait for the peer, so they never run on the loop's thread. A thread has its own
 * copy of the ei_cnode, whose context is its struct handshake; what ei shares between threads
 * (which socket has which callbacks) it keeps by descriptor and with atomic operations, and a
 * descriptor belongs to one handshake as long as it is open. Sockets are made and closed on the
 * loop's thread alone; so it can shut one down, which ends the waiting of its thread. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utlist.h>

#include "base/ext.h"
#include "dist/private.h"

/* What this node serves beyond what ei claims by itself. ei has no way to claim more, so the flags
 * are set in the packet that carries them: the name that the connecting side sends, the challenge
 * that the accepting side sends. Both read length(2) 'N' flags(8) ... */
#define DFLAG_DIST_MONITOR_NAME UINT64_C(0x20)   /* MONITOR_P and DEMONITOR_P of pids and names */
#define DFLAG_UNICODE_IO        UINT64_C(0x1000) /* put_chars with an encoding */
#define DFLAG_SPAWN             (UINT64_C(1) << 32) /* SPAWN_REQUEST and SPAWN_REPLY */
#define SERVED_FLAGS            (DFLAG_DIST_MONITOR_NAME | DFLAG_UNICODE_IO | DFLAG_SPAWN)

enum {
    MAX_INCOMING = 256,
    MAX_THREADS = 2 * MAX_INCOMING, /* cancelled ones need a moment to end */
    STACK_SIZE = 512 << 10,         /* the resolver needs room; only what is used takes memory */
    PACKET_MAX = 1024,              /* ours are a name and some 20 bytes */
    PACKET_HEAD = 2,
    FLAGS_AT = 3,
    REPLY_SIZE = 23,         /* length(2) 'r' challenge(4) digest(16) */
    STATUS_AT = 3,           /* length(2) 's' then the status */
    CHALLENGE_READ = 26,     /* a status of "ok" and the least that a challenge has */
    FD_MARGIN = 16,          /* descriptors that others may open meanwhile */
    MAX_DESCRIPTORS = 65536, /* what ei is told: it allocates for each that is allowed */
    NOK_WAIT_MS = 300,
};

struct handshake {
    struct dist_handshakes *all;
    struct handshake *prev, *next; /* in `running` */
    struct handshake *next_finished;
    uv_thread_t thread;
    int fd;
    bool incoming;
    struct sockaddr_in address; /* of an incoming one */
    uint64_t deadline;          /* uv_hrtime's */
    atomic_bool cancelled;

    /* The thread's own while it runs. */
    ei_cnode ec;
    char name[MAXNODELEN + 1];
    bool packet_seen;  /* the one with our flags has left */
    size_t read_since; /* bytes read since then */
    uint8_t first[8];  /* the first bytes that were read */
    size_t first_len;
    bool ok;
    int error; /* erl_errno when not ok */
};

/* {==== The socket callbacks =============================================================== */

static int on_socket(void **ctx, void *setup_context) {
    *ctx = setup_context;
    return 0;
}

/* The loop's thread closes. */
static int on_close(void *ctx) {
    (void)ctx;
    return 0;
}

/* ei finds the callbacks of an accepted connection by its listening socket. An accepted socket is
 * given to it as its own listening socket, so that each thread has a context of its own. */
static int on_listen(void *ctx, void *address, int *len, int backlog) {
    (void)ctx, (void)address, (void)len, (void)backlog;
    return 0;
}

static int on_accept(void **ctx, void *address, int *len, unsigned tmo) {
    const struct handshake *h = *ctx;
    (void)tmo;
    memcpy(address, &h->address, sizeof h->address);
    *len = sizeof h->address;
    return 0;
}

static int wait_for(struct handshake *h, short events) {
    int status = dist_socket_wait(h->fd, events, h->deadline);
    return atomic_load(&h->cancelled) ? ECANCELED : status;
}

static int on_connect(void *ctx, void *address, int len, unsigned tmo) {
    struct handshake *h = ctx;
    (void)tmo;
    if (connect(h->fd, address, (socklen_t)len) == 0) {
        return 0;
    }
    if (errno != EINPROGRESS) {
        return errno;
    }
    int status = wait_for(h, POLLOUT);
    int error = 0;
    socklen_t size = sizeof error;
    if (status == 0 && getsockopt(h->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
        error = errno;
    }
    return status != 0 ? status : error;
}

static int write_all(struct handshake *h, const uint8_t *data, size_t len) {
    while (len > 0) {
        int status = wait_for(h, POLLOUT);
        if (status != 0) {
            return status;
        }
        ssize_t n = write(h->fd, data, len);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            return errno;
        }
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

/* ei hands over whole packets; it would call again for the rest of one that is written in part. */
static int on_write(void *ctx, const char *data, ssize_t *len, unsigned tmo) {
    struct handshake *h = ctx;
    uint8_t packet[PACKET_MAX];
    size_t size = (size_t)*len;
    (void)tmo;
    if (size > sizeof packet) {
        return EMSGSIZE;
    }
    memcpy(packet, data, size);
    if (!h->packet_seen && size >= FLAGS_AT + 8 && packet[PACKET_HEAD] == 'N') {
        ext_set_u64(packet + FLAGS_AT, ext_u64(packet + FLAGS_AT) | SERVED_FLAGS);
        h->packet_seen = true;
        h->read_since = 0;
    }
    return write_all(h, packet, size);
}

static void note_read(struct handshake *h, const char *data, size_t len) {
    size_t room = sizeof h->first - h->first_len;
    size_t keep = len < room ? len : room;
    memcpy(h->first + h->first_len, data, keep);
    h->first_len += keep;
    h->read_since += len;
}

static int on_read(void *ctx, char *data, ssize_t *len, unsigned tmo) {
    struct handshake *h = ctx;
    (void)tmo;
    for (;;) {
        int status = *len > 0 ? wait_for(h, POLLIN) : 0;
        if (status != 0) {
            return status;
        }
        ssize_t n = recv(h->fd, data, (size_t)*len, 0);
        if (n >= 0) {
            note_read(h, data, (size_t)n);
            *len = n;
            return 0;
        }
        if (errno != EAGAIN && errno != EINTR) {
            return errno;
        }
    }
}

static int on_header_size(void *ctx, int *size) {
    (void)ctx;
    *size = PACKET_HEAD;
    return 0;
}

static int on_get_fd(void *ctx, int *fd) {
    *fd = ((struct handshake *)ctx)->fd;
    return 0;
}

/* Not const: ei's functions take a plain pointer. Nobody writes to it. */
static ei_socket_callbacks callbacks = {
    .flags = EI_SCLBK_FLG_FULL_IMPL,
    .socket = on_socket,
    .close = on_close,
    .listen = on_listen,
    .accept = on_accept,
    .connect = on_connect,
    .write = on_write,
    .read = on_read,
    .handshake_packet_header_size = on_header_size,
    .get_fd = on_get_fd,
};

/* }==== */

/* {==== The thread ======================================================================== */

/* Enters the descriptor into ei's table as a listening socket with our callbacks. */
static bool register_socket(struct handshake *h) {
    struct in_addr any = {.s_addr = htonl(INADDR_ANY)};
    int port = 0;
    return ei_xlisten(&h->ec, &any, &port, 1) >= 0;
}

/* ei's table keeps a copy of the cnode. Entering one without the cookie overwrites it. */
static void forget_socket(struct handshake *h) {
    dist_wipe(h->ec.ei_connect_cookie, sizeof h->ec.ei_connect_cookie);
    if (register_socket(h)) {
        ei_close_connection(h->fd); /* closes nothing: see on_close */
    }
}

static bool run_accept(struct handshake *h) {
    ErlConnect connection = {0};
    if (!register_socket(h)) {
        return false;
    }
    bool ok = ei_accept_tmo(&h->ec, h->fd, &connection, h->all->limit_ms) >= 0;
    memcpy(h->name, connection.nodename, sizeof h->name); /* also when it failed later on */
    h->name[MAXNODELEN] = '\0';
    return ok;
}

/* Whether the other node answered "nok": it is connecting to this one. */
static bool is_nok(const struct handshake *h) {
    return h->first_len >= STATUS_AT + 3 && memcmp(h->first + STATUS_AT, "nok", 3) == 0;
}

/* The epmd there is asked by select in ei, which overflows beyond FD_SETSIZE. */
static bool run_connect(struct handshake *h) {
    if (h->fd >= FD_SETSIZE - FD_MARGIN) {
        erl_errno = EMFILE;
        return false;
    }
    bool ok = ei_connect_tmo(&h->ec, h->name, h->all->limit_ms) >= 0;
    if (!ok && is_nok(h)) {
        poll(NULL, 0, NOK_WAIT_MS); /* so that its own connection is up before this one fails */
    }
    return ok;
}

static void thread_main(void *arg) {
    struct handshake *h = arg;
    struct dist_handshakes *all = h->all;
    h->ec.setup_context = h;
    h->ok = h->incoming ? run_accept(h) : run_connect(h);
    h->error = h->ok ? 0 : erl_errno;
    forget_socket(h);
    uv_mutex_lock(&all->lock);
    h->next_finished = all->finished;
    all->finished = h;
    uv_mutex_unlock(&all->lock);
    uv_async_send(&all->wake);
}

/* The thread blocks all signals: they belong to the loop's thread and the watchdog. */
static int start_thread(struct handshake *h) {
    uv_thread_options_t options = {.flags = UV_THREAD_HAS_STACK_SIZE, .stack_size = STACK_SIZE};
    sigset_t every;
    sigset_t before;
    sigfillset(&every);
    pthread_sigmask(SIG_SETMASK, &every, &before);
    int status = uv_thread_create_ex(&h->thread, &options, thread_main, h);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status;
}

/* }==== */

/* {==== Results =========================================================================== */

static bool cookies_differ(const struct handshake *h) {
    if (h->ok || !h->packet_seen) {
        return false;
    }
    if (h->incoming) {
        return h->read_since >= REPLY_SIZE && h->error == EIO;
    }
    /* A node that does not accept our digest closes the connection. The status and its challenge
     * were read by then. */
    return h->error == EIO && !is_nok(h) && h->read_since > CHALLENGE_READ;
}

static const char *why_failed(const struct handshake *h, bool refused) {
    if (refused) {
        return "wrong cookie";
    }
    if (h->error == ECANCELED) {
        return "given up by this node, for others or for its own end";
    }
    if (h->error == ETIMEDOUT) {
        return "no answer in time";
    }
    if (is_nok(h) && !h->incoming) {
        return "it is connecting to this node itself";
    }
    if (h->error == EIO) {
        return h->incoming ? "not an Erlang node of OTP 23 or later"
                           : "no such node, or not one of OTP 23 or later";
    }
    return strerror(h->error);
}

static void report(struct dist_handshakes *all, const struct handshake *h) {
    bool refused = cookies_differ(h);
    bool keep = h->ok && !atomic_load(&h->cancelled);
    if (!keep) {
        close(h->fd);
    }
    struct dist_handshake_result result = {
        .fd = keep ? h->fd : -1,
        .incoming = h->incoming,
        .name = h->name,
        .address = h->address,
        .refused = refused,
        .why = keep ? NULL : why_failed(h, refused),
    };
    all->done(all->user, &result);
}

static void on_wake_closed(uv_handle_t *handle) {
    struct dist_handshakes *all = handle->data;
    uv_mutex_destroy(&all->lock);
    dist_wipe(all->ec.ei_connect_cookie, sizeof all->ec.ei_connect_cookie);
    all->closed(all->user);
}

static void close_when_idle(struct dist_handshakes *all) {
    if (all->closing && all->threads == 0) {
        uv_close((uv_handle_t *)&all->wake, on_wake_closed);
    }
}

static void end(struct dist_handshakes *all, struct handshake *h) {
    uv_thread_join(&h->thread);
    DL_DELETE(all->running, h);
    all->threads--;
    if (h->incoming && !atomic_load(&h->cancelled)) {
        all->incoming--;
    }
    if (all->closing) {
        close(h->fd);
    } else {
        report(all, h);
    }
    free(h);
}

static void on_wake(uv_async_t *wake) {
    struct dist_handshakes *all = wake->data;
    uv_mutex_lock(&all->lock);
    struct handshake *finished = all->finished;
    all->finished = NULL;
    uv_mutex_unlock(&all->lock);
    while (finished != NULL) {
        struct handshake *h = finished;
        finished = h->next_finished;
        end(all, h);
    }
    close_when_idle(all);
}

/* }==== */

/* {==== Starting and ending =============================================================== */

static struct handshake *new_handshake(struct dist_handshakes *all, int fd) {
    struct handshake *h = calloc(1, sizeof *h);
    if (h != NULL) {
        h->all = all;
        h->fd = fd;
        h->ec = all->ec;
        h->deadline = uv_hrtime() + (uint64_t)all->limit_ms * 1000000;
        atomic_init(&h->cancelled, false);
    }
    return h;
}

/* Frees the handshake and closes its socket when no thread can be had. */
static bool start(struct dist_handshakes *all, struct handshake *h, struct err *err) {
    int status = start_thread(h);
    if (status != 0) {
        close(h->fd);
        dist_wipe(&h->ec, sizeof h->ec);
        free(h);
        return err_set(err, "cannot start a thread: %s", uv_strerror(status));
    }
    DL_APPEND(all->running, h);
    all->threads++;
    all->incoming += h->incoming;
    return true;
}

static void cancel(struct handshake *h) {
    if (!atomic_exchange(&h->cancelled, true)) {
        h->all->incoming -= h->incoming;
        shutdown(h->fd, SHUT_RDWR);
    }
}

void dist_handshakes_evict(struct dist_handshakes *all) {
    struct handshake *h;
    DL_FOREACH(all->running, h) {
        if (h->incoming && !atomic_load(&h->cancelled)) {
            cancel(h);
            return;
        }
    }
}

bool dist_handshakes_room(struct dist_handshakes *all) {
    if (all->incoming >= MAX_INCOMING) {
        dist_handshakes_evict(all);
    }
    return all->threads < MAX_THREADS;
}

bool dist_handshakes_accept(struct dist_handshakes *all, int fd, const struct sockaddr_in *address,
                            struct err *err) {
    int status = dist_socket_prepare(fd);
    struct handshake *h = status == 0 ? new_handshake(all, fd) : NULL;
    if (h == NULL) {
        close(fd);
        return err_set(err, "%s", strerror(status == 0 ? ENOMEM : status));
    }
    h->incoming = true;
    h->address = *address;
    return start(all, h, err);
}

static bool is_under_way(const struct dist_handshakes *all, const char *name) {
    const struct handshake *h;
    DL_FOREACH(all->running, h) {
        if (!h->incoming && !atomic_load(&h->cancelled) && strcmp(h->name, name) == 0) {
            return true;
        }
    }
    return false;
}

bool dist_handshakes_connect(struct dist_handshakes *all, const char *name, struct err *err) {
    if (is_under_way(all, name)) {
        return true;
    }
    if (strlen(name) > MAXNODELEN) {
        return err_set(err, "the name is too long");
    }
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int status = fd < 0 ? errno : dist_socket_prepare(fd);
    struct handshake *h = status == 0 ? new_handshake(all, fd) : NULL;
    if (h == NULL) {
        if (fd >= 0) {
            close(fd);
        }
        return err_set(err, "cannot make a socket: %s", strerror(status == 0 ? ENOMEM : status));
    }
    memcpy(h->name, name, strlen(name) + 1);
    return start(all, h, err);
}

void dist_handshakes_refuse(struct dist_handshakes *all) {
    struct handshake *h;
    DL_FOREACH(all->running, h) {
        if (h->incoming) {
            cancel(h);
        }
    }
}

void dist_handshakes_finish(struct dist_handshakes *all) {
    struct handshake *h;
    DL_FOREACH(all->running, h) {
        cancel(h);
    }
    all->closing = true;
    close_when_idle(all);
}

/* ei_init allocates 8 bytes for every 32 descriptors that the process may open, and in a container
 * that may be a billion. */
static int init_ei(void) {
    struct rlimit before;
    bool lowered = getrlimit(RLIMIT_NOFILE, &before) == 0 && before.rlim_cur > MAX_DESCRIPTORS;
    if (lowered) {
        struct rlimit less = {.rlim_cur = MAX_DESCRIPTORS, .rlim_max = before.rlim_max};
        setrlimit(RLIMIT_NOFILE, &less);
    }
    int status = ei_init();
    if (lowered) {
        setrlimit(RLIMIT_NOFILE, &before);
    }
    return status;
}

static bool init_cnode(struct dist_handshakes *all, const struct dist_config *config,
                       struct err *err) {
    char name[MAXNODELEN + 1];
    struct in_addr any = {.s_addr = htonl(INADDR_ANY)}; /* ei doesn't look at it */
    int len = snprintf(name, sizeof name, "%s@%s", config->alive, config->host);
    if (len < 0 || (size_t)len >= sizeof name) {
        return err_set(err, "the node's name is longer than %d bytes", MAXNODELEN);
    }
    if (strlen(config->cookie) > EI_MAX_COOKIE_SIZE) {
        return err_set(err, "the cookie is longer than %d bytes", EI_MAX_COOKIE_SIZE);
    }
    if (ei_connect_xinit_ussi(&all->ec, config->host, config->alive, name, &any, config->cookie,
                              config->creation, &callbacks, sizeof callbacks, NULL) < 0) {
        return err_set(err, "ei does not accept the node's name %s", name);
    }
    return true;
}

bool dist_handshakes_init(struct dist_handshakes *all, uv_loop_t *loop,
                          const struct dist_config *config, struct err *err) {
    int status = init_ei();
    if (status != 0) {
        return err_set(err, "cannot start ei: %s", strerror(status));
    }
    if (!init_cnode(all, config, err)) {
        return false;
    }
    all->loop = loop;
    all->limit_ms = config->handshake_ms;
    status = uv_mutex_init(&all->lock);
    if (status != 0) {
        return err_set(err, "cannot make a lock: %s", uv_strerror(status));
    }
    status = uv_async_init(loop, &all->wake, on_wake);
    if (status != 0) {
        uv_mutex_destroy(&all->lock);
        return err_set(err, "cannot watch handshakes: %s", uv_strerror(status));
    }
    all->wake.data = all;
    return true;
}

/* }==== */
