/* Workers as processes: how they start, what they say, how they end. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "jail/private.h"

enum {
    OUTPUT_BUDGET = 256 << 10, /* bytes of its log that are read between two looks */
    MAX_LINE = 64 << 10,       /* a longer line leaves in parts */
    IDLE_MS = 6000,
    CREDIT_RATE = 8 << 20, /* bytes a second */
    CREDIT_MOST = 64 << 10,
    PACE_MS = 5,
    SOON_MS = 5,
    PATIENT = 16 << 10, /* bytes that may wait though they are not urgent */
    CROWDED = 8 << 20,  /* bytes that wait for a peer, for whose sake no worker is read */
    PIPE_SIZE = 256 << 10,
};

static const uint64_t NS = 1000000000;

/* {==== Its output ======================================================================== */

static const struct {
    const char *text;
    enum log_level level;
} levels[] = {{"[debug] ", LOG_LEVEL_DEBUG},
              {"[info] ", LOG_LEVEL_INFO},
              {"[warning] ", LOG_LEVEL_WARNING},
              {"[error] ", LOG_LEVEL_ERROR}};

static bool take_prefix(struct span *line, const char *text) {
    size_t len = strlen(text);
    if (line->len < len || memcmp(line->data, text, len) != 0) {
        return false;
    }
    *line = span_of(line->data + len, line->len - len);
    return true;
}

/* "name: " or "name| " of one of its own handlers. */
static struct jail_tenant *take_source(const struct jail_worker *worker, struct span *line,
                                       bool *more) {
    size_t len = 0;
    while (len < line->len && line->data[len] != ':' && line->data[len] != '|') {
        len++;
    }
    struct jail_tenant *tenant = jail_tenant_find(worker->jail, span_of(line->data, len));
    if (tenant == NULL || tenant->worker != worker || line->len < len + 2) {
        return NULL;
    }
    *more = line->data[len] == '|';
    *line = span_of(line->data + len + 2, line->len - len - 2);
    return tenant;
}

/* "!deadline NAME USED WHERE" */
static bool take_last_words(struct jail_worker *worker, struct span line) {
    char text[512];
    if (line.len >= sizeof text || !take_prefix(&line, "!deadline ")) {
        return false;
    }
    if (worker->condemned) {
        return true;
    }
    memcpy(text, line.data, line.len);
    text[line.len] = '\0';
    const struct jail_tenant *tenant = NULL;
    if (sscanf(text, "%255s %lu %127s", worker->culprit, &worker->culprit_used, worker->where) ==
        3) {
        tenant = jail_tenant_find(worker->jail, span_str(worker->culprit));
    }
    if (tenant == NULL || tenant->worker != worker) {
        worker->culprit[0] = '\0';
    } else {
        worker->culprit_max = tenant->policy.deadline_ms;
    }
    return true;
}

/* It is told under the name of the handler that it is from, and of no other. */
static void on_line(struct jail_worker *worker, struct span line) {
    enum log_level level = LOG_LEVEL_WARNING;
    bool more = false;
    if (line.len == 0 || take_last_words(worker, line)) {
        return;
    }
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        if (take_prefix(&line, levels[i].text)) {
            level = levels[i].level;
            break;
        }
    }
    const struct jail_tenant *tenant = take_source(worker, &line, &more);
    log_part(worker->jail->log, level, tenant == NULL ? "worker" : tenant->name, line, more);
}

static void take_lines(struct jail_worker *worker) {
    struct span rest = buf_span(&worker->line);
    const uint8_t *end;
    while (rest.len > 0 && (end = memchr(rest.data, '\n', rest.len)) != NULL) {
        size_t len = (size_t)(end - rest.data);
        on_line(worker, span_of(rest.data, len));
        rest = span_of(end + 1, rest.len - len - 1);
    }
    if (rest.len > MAX_LINE) {
        on_line(worker, rest);
        rest.len = 0;
    }
    buf_consume(&worker->line, worker->line.len - rest.len);
    buf_relax(&worker->line, MAX_LINE);
}

/* False at the end, or when there is nothing more now. */
static bool read_output(struct jail_worker *worker) {
    enum { PIECE = 16 << 10 };
    if (!buf_reserve(&worker->line, PIECE)) {
        return false;
    }
    ssize_t n = read(worker->output_fd, worker->line.data + worker->line.len, PIECE);
    if (n <= 0) {
        return n < 0 && errno == EINTR;
    }
    worker->line.len += (size_t)n;
    worker->output_budget -= (size_t)n < worker->output_budget ? (size_t)n : worker->output_budget;
    take_lines(worker);
    return true;
}

/* What is beyond its budget waits in the pipe, and the worker drops what has no room there. */
static void on_output(uv_poll_t *poll, int status, int events) {
    struct jail_worker *worker = poll->data;
    (void)events;
    if (worker->jail->stopping || status < 0 || !read_output(worker) ||
        worker->output_budget == 0) {
        uv_poll_stop(poll);
    }
}

/* }==== */

/* {==== Its end =========================================================================== */

static void destroy(struct jail_worker *worker) {
    jail_ledger_clear(&worker->ledger);
    term_atoms_destroy(worker->given.atoms);
    jail_ids_destroy(worker->given.ids);
    buf_finish(&worker->line);
    free(worker);
}

static void on_closed(uv_handle_t *handle) {
    struct jail_worker *worker = handle->data;
    if (--worker->parts > 0) {
        return;
    }
    destroy(worker);
}

/* Why it has ended, in words. */
static void tell_why(const struct jail_worker *worker, char *text, size_t size) {
    if (worker->culprit[0] != '\0') {
        (void)snprintf(text, size,
                       "the handler %s ran %lu ms without a place to interrupt it (limit %lu ms): "
                       "%s",
                       worker->culprit, worker->culprit_used, worker->culprit_max, worker->where);
    } else if (worker->why[0] != '\0') {
        (void)snprintf(text, size, "%s", worker->why);
    } else if (worker->exit_signal != 0) {
        (void)snprintf(text, size, "it was killed by signal %d", worker->exit_signal);
    } else {
        (void)snprintf(text, size, "it ended with status %lld", (long long)worker->exit_status);
    }
}

/* {limit, deadline, Max, Used}, empty without a culprit; {worker_exit, Why} for others. */
static void make_reasons(const struct jail_worker *worker, const char *why, struct buf *reason,
                         struct buf *other) {
    bool ok = ext_put_tuple(other, 2) && ext_put_atom(other, span_str("worker_exit")) &&
              ext_put_binary(other, span_str(why));
    if (worker->culprit[0] != '\0') {
        ok = ok && ext_put_tuple(reason, 4) && ext_put_atom(reason, span_str("limit")) &&
             ext_put_atom(reason, span_str("deadline")) &&
             ext_put_uint(reason, worker->culprit_max) &&
             ext_put_uint(reason, worker->culprit_used);
    }
    if (!ok) {
        reason->len = other->len = 0;
        ext_put_atom(other, span_str("killed"));
    }
}

/* {lunode, Node, limit, Handler, #{kind, max, used}} */
static void tell_limit(const struct jail_worker *worker) {
    struct buf event = {0};
    struct engine *engine = worker->jail->engine;
    if (ext_put_tuple(&event, 5) && ext_put_atom(&event, span_str("lunode")) &&
        ext_put_atom(&event, eng_node_name(engine)) && ext_put_atom(&event, span_str("limit")) &&
        ext_put_atom(&event, span_str(worker->culprit)) && ext_put_map(&event, 3) &&
        ext_put_atom(&event, span_str("kind")) && ext_put_atom(&event, span_str("deadline")) &&
        ext_put_atom(&event, span_str("max")) && ext_put_uint(&event, worker->culprit_max) &&
        ext_put_atom(&event, span_str("used")) && ext_put_uint(&event, worker->culprit_used)) {
        eng_pass_event(engine, buf_span(&event));
    }
    buf_finish(&event);
}

/* The handler that has ended it too often is not loaded again. */
static bool stays_down(struct jail_worker *worker, struct jail_tenant *tenant, struct span reason) {
    if (strcmp(tenant->name, worker->culprit) != 0) {
        return false;
    }
    tell_limit(worker);
    if (!jail_tenant_failed(worker->jail, tenant)) {
        return false;
    }
    log_line(worker->jail->log, LOG_LEVEL_ERROR, tenant->name,
             "has ended its worker more than %d times in %d s: it stays down", JAIL_MAX_FAILURES,
             JAIL_FAILURE_SPAN_MS / 1000);
    tenant->failure.len = 0;
    buf_append(&tenant->failure, reason.data, reason.len);
    return true;
}

/* Whether workers have died too often of late: then the next one starts at the next look. */
static bool too_often(struct jail *jail) {
    uint64_t now = uv_now(jail->loop);
    uint64_t oldest = jail->started[0];
    memmove(jail->started, jail->started + 1, sizeof jail->started - sizeof *jail->started);
    jail->started[JAIL_MAX_FAILURES - 1] = now;
    return oldest != 0 && now - oldest < JAIL_FAILURE_SPAN_MS;
}

/* Gives those that have none, and are not to stay down, a worker again. */
static void place_again(struct jail *jail) {
    struct jail_tenant *tenant;
    struct jail_tenant *next;
    struct err err;
    HASH_ITER(hh, jail->tenants, tenant, next) {
        if (tenant->worker != NULL || !tenant->live || tenant->failure.len > 0) {
            continue;
        }
        if (!jail_tenant_place(jail, tenant, tenant->policy.isolated, &err)) {
            log_line(jail->log, LOG_LEVEL_ERROR, tenant->name, "%s", err.text);
            return;
        }
        jail_restore(tenant->worker, tenant);
    }
}

static void leave_tenants(struct jail_worker *worker, struct span reason) {
    struct jail *jail = worker->jail;
    while (worker->tenants != NULL) {
        struct jail_tenant *tenant = worker->tenants;
        DL_DELETE(worker->tenants, tenant);
        tenant->worker = NULL;
        if (!tenant->live && tenant->asked == 0) {
            jail_tenant_drop(jail, tenant);
        } else {
            stays_down(worker, tenant, reason);
        }
    }
    worker->tenant_count = 0;
}

static void tell_end(const struct jail_worker *worker, const char *why) {
    size_t count = worker->tenant_count;
    if (count > 0) {
        log_line(worker->jail->log, LOG_LEVEL_ERROR, "lunode",
                 "the worker of %zu handler%s (%s%s) has ended: %s", count, count == 1 ? "" : "s",
                 worker->tenants->name, count == 1 ? "" : ", ...", why);
    }
}

/* Everybody is told, and what it ran runs elsewhere. */
static void hand_over(struct jail_worker *worker) {
    struct jail *jail = worker->jail;
    struct buf reason = {0};
    struct buf other = {0};
    char why[512];
    while (read_output(worker)) {
    }
    tell_why(worker, why, sizeof why);
    make_reasons(worker, why, &reason, &other);
    tell_end(worker, why);
    jail_settle(worker, span_str(worker->culprit), buf_span(&reason), buf_span(&other));
    leave_tenants(worker, buf_span(&reason));
    if (worker->culprit[0] != '\0' || !too_often(jail)) {
        place_again(jail);
    }
    buf_finish(&reason);
    buf_finish(&other);
}

/* The node ends. */
static void drop_requests(struct jail_worker *worker) {
    struct jail_debt *debt;
    struct jail_debt *next;
    HASH_ITER(hh, worker->ledger.debts, debt, next) {
        if (debt->request != NULL) {
            jail_request_drop(debt->request);
        }
    }
}

static void end(struct jail_worker *worker) {
    struct jail *jail = worker->jail;
    DL_DELETE(jail->workers, worker);
    if (jail->stopping) {
        drop_requests(worker);
    } else {
        hand_over(worker);
    }
    dist_peer_close(worker->channel);
    uv_close((uv_handle_t *)&worker->output, on_closed);
    uv_close((uv_handle_t *)&worker->process, on_closed);
    close(worker->output_fd);
    jail_free_if_over(jail);
}

static void end_if_over(struct jail_worker *worker) {
    if (worker->down && worker->exited) {
        end(worker);
    } else if (worker->down) {
        uv_process_kill(&worker->process, SIGKILL);
    }
}

static void on_process_exit(uv_process_t *process, int64_t status, int number) {
    struct jail_worker *worker = process->data;
    worker->exited = true;
    worker->exit_status = status;
    worker->exit_signal = number;
    dist_peer_hold(worker->channel, false);
    end_if_over(worker);
}

/* Of what it has sent wrongly the channel says what it is: "it ...". */
static void on_down(void *user, struct dist_peer *peer, const char *why) {
    struct jail_worker *worker = user;
    (void)peer;
    worker->down = true;
    if (strncmp(why, "it ", 3) == 0) {
        jail_worker_condemn(worker, "%s", why);
    }
    end_if_over(worker);
}

void jail_worker_condemn(struct jail_worker *worker, const char *format, ...) {
    va_list args;
    if (worker->condemned) {
        return;
    }
    va_start(args, format);
    (void)vsnprintf(worker->why, sizeof worker->why, format, args);
    va_end(args);
    worker->culprit[0] = '\0'; /* it has said so, and gone on */
    jail_worker_stop(worker);
}

void jail_worker_stop(struct jail_worker *worker) {
    worker->condemned = true;
    dist_peer_hold(worker->channel, false);
    uv_process_kill(&worker->process, SIGKILL);
}

/* }==== */

/* {==== Its start ========================================================================= */

/* The ends of its pipes, on one side. */
struct ends {
    uv_file in;     /* of the channel: into the worker */
    uv_file out;    /* of the channel: out of it */
    uv_file output; /* its standard error */
};

static void close_ends(const struct ends *ends) {
    close(ends->in);
    close(ends->out);
    close(ends->output);
}

/* So that a message of some size goes through without a wait for the other side at each 64 KiB.
 * Refused to a user with many pipes; then they stay as they are. */
static void widen(uv_file pipe) {
#ifdef F_SETPIPE_SZ
    (void)fcntl(pipe, F_SETPIPE_SZ, PIPE_SIZE);
#else
    (void)pipe;
#endif
}

/* All closed on exec. */
static int open_pipes(struct ends *node, struct ends *worker) {
    struct {
        uv_file *read, *write;
        int read_flags;
    } pipes[] = {{&worker->in, &node->in, 0},
                 {&node->out, &worker->out, 0},
                 {&node->output, &worker->output, UV_NONBLOCK_PIPE}};
    for (size_t i = 0; i < sizeof pipes / sizeof *pipes; i++) {
        uv_file fds[2];
        int status = uv_pipe(fds, pipes[i].read_flags, 0);
        if (status != 0) {
            while (i-- > 0) {
                close(*pipes[i].read);
                close(*pipes[i].write);
            }
            return status;
        }
        *pipes[i].read = fds[0];
        *pipes[i].write = fds[1];
    }
    widen(node->in);
    widen(node->out);
    return 0;
}

/* The program that runs, also when its file was removed meanwhile. */
static int find_program(char *path, size_t size) {
    size_t len = size;
    int status = uv_exepath(path, &len);
    if (status == 0 && access(path, X_OK) != 0) {
        (void)snprintf(path, size, "/proc/self/exe");
    }
    return status;
}

/* The same program, with nothing of this process but the channel and a pipe for what it says: its
 * ends are closed here when this returns. */
static int spawn(struct jail_worker *worker, const struct ends *ends) {
    char slot[16];
    char creation[16];
    char max_frame[32];
    struct jail *jail = worker->jail;
    char *name = strdup(dist_node_name(jail->node));
    char *args[] = {"lunode", "worker", slot, name, creation, max_frame, NULL};
    char zone[256];
    char *env[] = {zone, NULL};
    uv_stdio_container_t stdio[] = {
        {.flags = UV_IGNORE},
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = ends->output},
        [JAIL_CHANNEL_IN] = {.flags = UV_INHERIT_FD, .data.fd = ends->in},
        [JAIL_CHANNEL_OUT] = {.flags = UV_INHERIT_FD, .data.fd = ends->out},
    };
    const char *tz = getenv("TZ");
    char program[4096];
    (void)snprintf(zone, sizeof zone, "TZ=%s", tz == NULL ? "" : tz);
    env[0] = tz == NULL ? NULL : zone;
    (void)snprintf(slot, sizeof slot, "%u", worker->slot);
    (void)snprintf(creation, sizeof creation, "%u", dist_node_creation(jail->node));
    (void)snprintf(max_frame, sizeof max_frame, "%zu", jail->config.max_frame);
    int status = name == NULL ? UV_ENOMEM : find_program(program, sizeof program);
    if (status == 0) {
        uv_process_options_t options = {.exit_cb = on_process_exit,
                                        .file = program,
                                        .args = args,
                                        .env = env,
                                        .stdio = stdio,
                                        .stdio_count = sizeof stdio / sizeof *stdio};
        status = uv_spawn(jail->loop, &worker->process, &options);
    }
    free(name);
    close_ends(ends);
    return status;
}

static void on_frame(void *user, struct dist_peer *peer, const struct dist_control *control,
                     struct span payload) {
    (void)peer;
    jail_leave(user, control, payload);
}

/* Its ends on this side. */
static bool attach(struct jail_worker *worker, const struct ends *ends, struct err *err) {
    struct jail *jail = worker->jail;
    struct dist_peer_config config = {.loop = jail->loop,
                                      .log = jail->log,
                                      .is_channel = true,
                                      .max_frame = jail->config.max_frame,
                                      .events = {.message = on_frame, .down = on_down},
                                      .user = worker};
    if (!dist_peer_open(&worker->channel, ends->out, ends->in, "a worker", &config, err)) {
        return false;
    }
    uv_poll_init(jail->loop, &worker->output, ends->output);
    worker->output.data = worker;
    worker->output_fd = ends->output;
    worker->output_budget = OUTPUT_BUDGET;
    uv_poll_start(&worker->output, UV_READABLE, on_output);
    return true;
}

/* From 1 on; that of a worker is not used again soon. */
static uint16_t next_slot(struct jail *jail) {
    do {
        jail->last_slot++;
    } while (jail->last_slot == 0 || jail_worker_of_slot(jail, jail->last_slot) != NULL);
    return jail->last_slot;
}

static void abandon_process(uv_handle_t *handle) {
    destroy(handle->data);
}

static struct jail_worker *create(struct jail *jail, bool isolated) {
    struct jail_worker *worker = calloc(1, sizeof *worker);
    if (worker == NULL) {
        return NULL;
    }
    worker->jail = jail;
    worker->slot = next_slot(jail);
    worker->isolated = isolated;
    worker->idle_since = uv_now(jail->loop);
    worker->parts = 2;
    worker->process.data = worker;
    worker->given.atoms = term_atoms_create();
    worker->given.ids = jail_ids_create();
    worker->given.self = eng_node_name(jail->engine);
    if (worker->given.atoms == NULL || worker->given.ids == NULL) {
        destroy(worker);
        return NULL;
    }
    return worker;
}

void jail_worker_tell_node(struct jail_worker *worker, struct span node) {
    static const struct dist_control control = {.op = DIST_NODE_UP};
    jail_send(worker, node, &control, (struct span){0});
}

static void tell_peer(void *argument, struct dist_peer *peer) {
    jail_worker_tell_node(argument, span_str(dist_peer_name(peer)));
}

struct jail_worker *jail_worker_start(struct jail *jail, bool isolated, struct err *err) {
    struct ends own;
    struct ends other;
    struct jail_worker *worker = create(jail, isolated);
    int status = worker == NULL ? UV_ENOMEM : open_pipes(&own, &other);
    if (status != 0) {
        err_set(err, "cannot start a worker: %s", uv_strerror(status));
        if (worker != NULL) {
            destroy(worker);
        }
        return NULL;
    }
    status = spawn(worker, &other);
    if (status != 0) {
        err_set(err, "cannot start a worker: %s", uv_strerror(status));
    } else if (attach(worker, &own, err)) {
        DL_APPEND(jail->workers, worker);
        jail_look_later(jail);
        dist_node_peers(jail->node, tell_peer, worker);
        jail_subscribe(worker);
        return worker;
    }
    close_ends(&own);
    uv_close((uv_handle_t *)&worker->process, abandon_process);
    return NULL;
}

struct jail_worker *jail_worker_of_slot(const struct jail *jail, int slot) {
    struct jail_worker *worker = slot <= 0 ? NULL : jail->workers;
    while (worker != NULL && worker->slot != slot) {
        worker = worker->next;
    }
    return worker;
}

/* }==== */

/* {==== Looking after them ================================================================ */

/* Beyond the longest deadline of its handlers: its own watchdog ends it before. */
static uint64_t patience(const struct jail_worker *worker) {
    uint64_t ms = ENG_UNTRUSTED_DEADLINE_MS;
    for (const struct jail_tenant *tenant = worker->tenants; tenant != NULL;
         tenant = tenant->next) {
        ms = tenant->policy.deadline_ms > ms ? tenant->policy.deadline_ms : ms;
    }
    return 2 * ms + 3000;
}

/* Without handlers it is not needed once their processes have had the time that they get to end. */
static bool is_over(const struct jail_worker *worker, uint64_t now) {
    return worker->tenant_count == 0 && now - worker->idle_since > IDLE_MS;
}

static void ping(struct jail_worker *worker, uint64_t now) {
    static const struct dist_control control = {.op = DIST_PING};
    if (worker->held) {
        worker->pinged = 0; /* its answer waits in the channel */
    } else if (worker->pinged == 0) {
        worker->pinged = now;
        jail_send(worker, (struct span){0}, &control, (struct span){0});
    } else if (now - worker->pinged > patience(worker)) {
        jail_worker_condemn(worker, "it did not answer for %llu ms",
                            (unsigned long long)(now - worker->pinged));
    }
}

void jail_workers_look(struct jail *jail) {
    uint64_t now = uv_now(jail->loop);
    struct jail_worker *worker;
    struct jail_worker *next;
    DL_FOREACH_SAFE(jail->workers, worker, next) {
        if (worker->output_budget < OUTPUT_BUDGET && !worker->exited) {
            worker->output_budget = OUTPUT_BUDGET;
            uv_poll_start(&worker->output, UV_READABLE, on_output);
        }
        if (worker->down || worker->condemned) {
            continue;
        }
        if (is_over(worker, now)) {
            jail_worker_stop(worker);
        } else {
            ping(worker, now);
        }
    }
    place_again(jail);
}

struct crowd {
    size_t most;
};

static void look_at_peer(void *argument, struct dist_peer *peer) {
    struct crowd *crowd = argument;
    size_t waiting = dist_peer_waiting(peer);
    crowd->most = waiting > crowd->most ? waiting : crowd->most;
}

/* The most bytes that wait for a peer. */
static size_t most_waiting(const struct jail *jail) {
    struct crowd crowd = {0};
    dist_node_peers(jail->node, look_at_peer, &crowd);
    return crowd.most;
}

/* What nobody has asked for must not fill the connections on which others wait for answers: so many
 * bytes a second. */
static void earn(struct jail_worker *worker) {
    uint64_t now = uv_hrtime();
    uint64_t ns = now - worker->credit_ns;
    worker->credit_ns = now;
    worker->credit += (int64_t)(ns < NS ? ns * CREDIT_RATE / NS : CREDIT_RATE);
    worker->credit = worker->credit > CREDIT_MOST ? CREDIT_MOST : worker->credit;
}

static void on_pace(uv_timer_t *timer) {
    jail_flush(timer->data);
}

void jail_worker_hold(struct jail_worker *worker, size_t extra) {
    struct jail *jail = worker->jail;
    worker->credit -= (int64_t)extra;
    if (worker->credit < 0 && extra > 0) {
        earn(worker);
    }
    bool is_spent = worker->credit < 0;
    if (!worker->held && (is_spent || most_waiting(jail) > CROWDED)) {
        worker->held = true;
        dist_peer_hold(worker->channel, true);
    }
    if (is_spent && !uv_is_active((uv_handle_t *)&jail->pace)) {
        uv_timer_start(&jail->pace, on_pace, PACE_MS, 0);
    }
}

static void look_at_held(struct jail_worker *worker) {
    earn(worker);
    if (worker->credit < 0) {
        uv_timer_start(&worker->jail->pace, on_pace, PACE_MS, 0);
    } else if (most_waiting(worker->jail) < CROWDED / 2) {
        worker->held = false;
        dist_peer_hold(worker->channel, false);
    }
}

static void on_soon(uv_timer_t *timer) {
    struct jail *jail = timer->data;
    struct jail_worker *worker;
    DL_FOREACH(jail->workers, worker) {
        worker->urgent = true;
    }
    jail_flush(jail);
}

void jail_flush_soon(struct jail *jail) {
    if (!uv_is_active((uv_handle_t *)&jail->soon)) {
        uv_timer_start(&jail->soon, on_soon, SOON_MS, 0);
    }
}

void jail_flush(struct jail *jail) {
    struct jail_worker *worker;
    if (jail == NULL) {
        return;
    }
    DL_FOREACH(jail->workers, worker) {
        if (worker->down) {
            continue;
        }
        if (worker->urgent || dist_peer_waiting(worker->channel) > PATIENT) {
            worker->urgent = false;
            dist_peer_flush(worker->channel);
        }
        if (worker->held) {
            look_at_held(worker);
        }
    }
}

/* }==== */
