/* Workers as processes: how they start, and the look whether they live and are needed. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "jail/private.h"

enum { IDLE_MS = 6000, PIPE_SIZE = 256 << 10 };

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
        uv_process_options_t options = {.exit_cb = jail_worker_exited,
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
                                      .events = {.message = on_frame, .down = jail_worker_down},
                                      .user = worker};
    if (!dist_peer_open(&worker->channel, ends->out, ends->in, "a worker", &config, err)) {
        return false;
    }
    jail_output_open(worker, ends->output);
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
    jail_worker_free(handle->data);
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
        jail_worker_free(worker);
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
            jail_worker_free(worker);
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
        jail_output_go_on(worker);
        if (worker->down || worker->condemned) {
            continue;
        }
        if (is_over(worker, now)) {
            jail_worker_stop(worker);
        } else {
            ping(worker, now);
        }
    }
    jail_tenants_place(jail);
}

/* }==== */
