/* The node's entry in epmd, kept as long as the connection to it: ALIVE2_REQ of Erlang's
 * "Distribution Protocol", section "EPMD Protocol".
 *
 * This is not ei_publish because that waits, cannot be given up, says EIO both for a name in use
 * and for nonsense, uses select (which overflows beyond descriptor 1023), and leaves the descriptor
 * open in children: a worker that outlives the node would keep its name taken. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ext.h"
#include "dist/private.h"

enum {
    EPMD_PORT = 4369,
    GIVE_UP_MS = 4000, /* how long a node just stopped may still hold the name */
    RETRY_MS = 20,
    REPAIR_MS = 2000, /* between tries to enter again after epmd was lost */
    ALIVE2_REQ = 120,
    ALIVE2_RESP = 121,   /* result(1) creation(2) */
    ALIVE2_X_RESP = 118, /* result(1) creation(4) */
    HIDDEN_NODE = 'H',
    PROTOCOL_TCP = 0,
    DIST_VERSION = 6, /* OTP 23 and later, the only one that ei speaks */
    REQUEST_FIXED = 13,
    NAME_MAX_BYTES = 255,
};

/* One connection to epmd. Outlives its owner's interest until libuv has closed it. */
struct epmd_try {
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    struct dist_epmd *owner; /* NULL: given up */
    uint8_t request[2 + REQUEST_FIXED + NAME_MAX_BYTES];
    size_t request_len;
    uint8_t answer[8];
    size_t answer_len;
    bool entered;
};

static void on_timer(uv_timer_t *timer);

/* {==== Outcomes ========================================================================== */

static void on_try_closed(uv_handle_t *handle) {
    free(handle->data);
}

static void give_up_try(struct dist_epmd *epmd) {
    struct epmd_try *try = epmd->current;
    if (try != NULL) {
        epmd->current = NULL;
        try->owner = NULL;
        uv_close((uv_handle_t *)&try->tcp, on_try_closed);
    }
}

static void tell(struct dist_epmd *epmd, const char *why) {
    epmd->give_up = 0;
    epmd->published(epmd->user, why);
}

static void on_entered(struct dist_epmd *epmd) {
    uv_timer_stop(&epmd->timer);
    epmd->current->entered = true;
    if (epmd->give_up != 0) {
        tell(epmd, NULL);
    } else {
        epmd->told = false;
        log_line(epmd->log, LOG_LEVEL_INFO, "lunode", "entered into epmd again");
    }
}

/* The entry is lost, or could not be made again: it goes on trying, and says so once. */
static void repair_later(struct dist_epmd *epmd) {
    if (!epmd->told) {
        log_line(epmd->log, LOG_LEVEL_WARNING, "lunode",
                 "%s: other nodes cannot find this one; trying again every %d s", epmd->why.text,
                 REPAIR_MS / 1000);
        epmd->told = true;
    }
    uv_timer_start(&epmd->timer, on_timer, REPAIR_MS, 0);
}

/* `again`: the cause may go away, as a name in use does. */
static void on_failed(struct dist_epmd *epmd, bool again) {
    give_up_try(epmd);
    if (epmd->give_up == 0) {
        repair_later(epmd);
    } else if (again && uv_now(epmd->loop) < epmd->give_up) {
        uv_timer_start(&epmd->timer, on_timer, RETRY_MS, 0);
    } else {
        uv_timer_stop(&epmd->timer);
        tell(epmd, epmd->why.text);
    }
}

static void on_unreachable(struct dist_epmd *epmd, int status) {
    err_set(&epmd->why, "cannot reach epmd on port %d: %s; start it with `epmd -daemon`",
            epmd->epmd_port, uv_strerror(status));
    on_failed(epmd, false);
}

/* }==== */

/* {==== One try =========================================================================== */

/* The answer is there, or as much of it as tells the result. */
static void on_answer(struct dist_epmd *epmd, const uint8_t *answer) {
    if (answer[0] != ALIVE2_RESP && answer[0] != ALIVE2_X_RESP) {
        err_set(&epmd->why, "what listens on port %d is not epmd", epmd->epmd_port);
        on_failed(epmd, false);
    } else if (answer[1] != 0) {
        err_set(&epmd->why, "the name %s is already in use (epmd port %d)", epmd->node,
                epmd->epmd_port);
        on_failed(epmd, true);
    } else {
        on_entered(epmd);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    (void)suggested;
    struct epmd_try *try = handle->data;
    size_t used = try->entered ? 0 : try->answer_len; /* the creation is of no use */
    *buf = uv_buf_init((char *)try->answer + used, (unsigned)(sizeof try->answer - used));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    (void)buf;
    struct epmd_try *try = stream->data;
    struct dist_epmd *epmd = try->owner;
    if (epmd == NULL || n == 0) {
        return;
    }
    if (n < 0) {
        err_set(&epmd->why,
                try->entered ? "the connection to epmd (port %d) is lost"
                             : "epmd on port %d closed the connection",
                epmd->epmd_port);
        on_failed(epmd, !try->entered);
    } else if (!try->entered) {
        try->answer_len += (size_t)n;
        if (try->answer_len >= 2) {
            on_answer(epmd, try->answer);
        }
    }
}

static void on_written(uv_write_t *write, int status) {
    struct epmd_try *try = write->handle->data;
    if (status < 0 && try->owner != NULL) {
        on_unreachable(try->owner, status);
    }
}

static void on_connected(uv_connect_t *connect, int status) {
    struct epmd_try *try = connect->handle->data;
    uv_stream_t *stream = (uv_stream_t *)&try->tcp;
    if (try->owner == NULL) {
        return;
    }
    uv_buf_t request = uv_buf_init((char *)try->request, (unsigned)try->request_len);
    if (status == 0) {
        status = uv_write(&try->write, stream, &request, 1, on_written);
    }
    if (status == 0) {
        status = uv_read_start(stream, on_alloc, on_read);
    }
    if (status != 0) {
        on_unreachable(try->owner, status);
    }
}

static size_t put_request(uint8_t *p, const char *alive, int port) {
    size_t name = strlen(alive);
    ext_set_u16(p, (uint16_t)(REQUEST_FIXED + name));
    p[2] = ALIVE2_REQ;
    ext_set_u16(p + 3, (uint16_t)port);
    p[5] = HIDDEN_NODE;
    p[6] = PROTOCOL_TCP;
    ext_set_u16(p + 7, DIST_VERSION);
    ext_set_u16(p + 9, DIST_VERSION);
    ext_set_u16(p + 11, (uint16_t)name);
    memcpy(p + 13, alive, name); // NOLINT(bugprone-not-null-terminated-result): a field, no string
    ext_set_u16(p + 13 + name, 0); /* no extra */
    return 2 + REQUEST_FIXED + name;
}

static int start_try(struct dist_epmd *epmd) {
    struct epmd_try *try = calloc(1, sizeof *try);
    if (try == NULL) {
        return UV_ENOMEM;
    }
    int status = uv_tcp_init(epmd->loop, &try->tcp);
    if (status != 0) {
        free(try);
        return status;
    }
    try->tcp.data = try;
    try->owner = epmd;
    epmd->current = try;
    try->request_len = put_request(try->request, epmd->alive, epmd->port);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)epmd->epmd_port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return uv_tcp_connect(&try->connect, &try->tcp, (struct sockaddr *)&address, on_connected);
}

/* Time for a try, or the end of one that was not answered. */
static void on_timer(uv_timer_t *timer) {
    struct dist_epmd *epmd = timer->data;
    if (epmd->current != NULL) {
        err_set(&epmd->why, "epmd on port %d does not answer", epmd->epmd_port);
        on_failed(epmd, false);
        return;
    }
    if (epmd->epmd_port == 0) {
        err_set(&epmd->why, "ERL_EPMD_PORT is not the number of a port");
        on_failed(epmd, false);
        return;
    }
    uv_timer_start(timer, on_timer, GIVE_UP_MS, 0);
    int status = start_try(epmd);
    if (status != 0) {
        on_unreachable(epmd, status);
    }
}

/* }==== */

/* {==== The entry ========================================================================= */

static int epmd_port(void) {
    const char *text = getenv("ERL_EPMD_PORT");
    if (text == NULL || *text == '\0') {
        return EPMD_PORT;
    }
    char *end;
    long port = strtol(text, &end, 10);
    return *end == '\0' && port > 0 && port <= UINT16_MAX ? (int)port : 0;
}

bool dist_epmd_init(struct dist_epmd *epmd, uv_loop_t *loop, struct err *err) {
    epmd->loop = loop;
    epmd->epmd_port = epmd_port();
    int status = uv_timer_init(loop, &epmd->timer);
    if (status != 0) {
        return err_set(err, "cannot make a timer: %s", uv_strerror(status));
    }
    epmd->timer.data = epmd;
    return true;
}

void dist_epmd_publish(struct dist_epmd *epmd) {
    dist_epmd_unpublish(epmd);
    uv_update_time(epmd->loop); /* scripts may have been compiled since it was looked at */
    epmd->give_up = uv_now(epmd->loop) + GIVE_UP_MS;
    uv_timer_start(&epmd->timer, on_timer, 0, 0); /* never reports from within this call */
}

void dist_epmd_unpublish(struct dist_epmd *epmd) {
    uv_timer_stop(&epmd->timer);
    give_up_try(epmd);
}

static void on_timer_closed(uv_handle_t *handle) {
    struct dist_epmd *epmd = handle->data;
    epmd->closed(epmd->user);
}

void dist_epmd_finish(struct dist_epmd *epmd) {
    dist_epmd_unpublish(epmd);
    uv_close((uv_handle_t *)&epmd->timer, on_timer_closed);
}

/* }==== */
