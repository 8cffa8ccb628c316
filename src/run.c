/* Running a node: its parts put together, from the first to the last moment. See run.h. */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>
#include <uv.h>

#include "base/log.h"
#include "dist/node.h"
#include "engine/engine.h"
#include "engine/turns.h"
#include "jail/jail.h"

#ifndef POLLRDHUP
#define POLLRDHUP 0 /* macOS tells of a closed socket by POLLHUP */
#endif

enum {
    TICK_MS = 60000,
    HANDSHAKE_MS = 7000,
    TERMINATE_MS = 500, /* what `terminate` callbacks may take */
    TEARDOWN_MS = 900,  /* what they and the rest of the end may take */
};

struct run {
    const struct run_config *config;
    uv_loop_t loop;
    struct eng_turns turns;
    uv_poll_t input;
    uv_timer_t deadline; /* of the end */
    uv_signal_t sigterm;
    uv_signal_t sigint;
    struct log *log;
    struct engine *engine;
    struct dist_node *node;
    struct jail *jail;
    struct dist_peer *owner;
    atomic_int owner_fd; /* -1 without one; read by the watchdog's thread */
    bool started;
    bool stopping;
    int status;
    char why[256]; /* of a failure before `ready` */
};

/* {==== Stopping ========================================================================== */

static void stop(struct run *run, int status) {
    if (!run->stopping) {
        run->stopping = true;
        run->status = status;
        uv_stop(&run->loop);
    }
}

static void on_handler_failed(void *user, const char *handler) {
    struct run *run = user;
    log_line(run->log, LOG_LEVEL_ERROR, "lunode", "the handler %s failed: the node ends", handler);
    stop(run, 1);
}

static void on_script_exit(void *user, int status) {
    stop(user, status);
}

static void on_signal(uv_signal_t *handle, int number) {
    (void)number;
    stop(handle->data, 0);
}

static void on_input(uv_poll_t *handle, int status, int events) {
    (void)events;
    char ignored[4096];
    ssize_t n = status < 0 ? 0 : read(STDIN_FILENO, ignored, sizeof ignored);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        stop(handle->data, 0);
    }
}

/* Ends the process from a place where nothing of it may be touched. */
static _Noreturn void end_at_once(const char *why, int status) {
    ssize_t ignored = write(STDERR_FILENO, why, strlen(why));
    (void)ignored;
    _exit(status);
}

/* The other end of `fd` is closed. */
static bool is_over(int fd) {
    struct pollfd polled = {.fd = fd, .events = POLLRDHUP};
    return fd >= 0 && poll(&polled, 1, 0) > 0 &&
           (polled.revents & (POLLHUP | POLLRDHUP | POLLERR)) != 0;
}

/* While a script holds the loop, the watchdog's thread looks whether the node has to end. */
static void on_held(void *user, const struct eng_held *held) {
    (void)held;
    struct run *run = user;
    if (run->config->bundlex && (is_over(STDIN_FILENO) || is_over(atomic_load(&run->owner_fd)))) {
        end_at_once("lunode: its owner has gone while a script was in one long call\n", 0);
    }
}

/* What the alarm's handler ends the process with. */
static volatile sig_atomic_t alarm_status;

/* A script's `terminate` that does not return is cut off. */
static void on_alarm(int number) {
    (void)number;
    end_at_once("lunode: terminate took too long\n", alarm_status);
}

static void start_alarm(int status) {
    alarm_status = status;
    struct sigaction action = {.sa_handler = on_alarm};
    struct itimerval time = {.it_value = {.tv_usec = TEARDOWN_MS * 1000L}};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &time, NULL);
}

/* }==== */

/* {==== What the node reports ============================================================= */

static void start_scripts(struct run *run) {
    if (!run->started) {
        run->started = true;
        eng_start(run->engine);
    }
}

static void on_published(void *user, const char *why) {
    struct run *run = user;
    if (why != NULL) {
        (void)snprintf(run->why, sizeof run->why, "%s", why);
        stop(run, 1);
        return;
    }
    if (run->config->bundlex) {
        log_raw(run->log, "ready");
    } else {
        log_line(run->log, LOG_LEVEL_INFO, "lunode", "%s is ready", dist_node_name(run->node));
    }
    dist_node_accept(run->node);
    for (int i = 0; i < run->config->connect_count; i++) {
        dist_node_connect(run->node, run->config->connect[i]);
    }
    if (!run->config->bundlex) {
        start_scripts(run);
    }
}

static void on_peer_up(void *user, struct dist_peer *peer) {
    struct run *run = user;
    const char *owner = run->config->owner;
    jail_node_up(run->jail, span_str(dist_peer_name(peer)));
    eng_peer_up(run->engine, peer);
    if (!run->config->bundlex || run->owner != NULL ||
        (owner != NULL && strcmp(owner, dist_peer_name(peer)) != 0)) {
        return;
    }
    run->owner = peer;
    atomic_store(&run->owner_fd, dist_peer_fd(peer));
    eng_set_owner(run->engine, dist_peer_name(peer));
    start_scripts(run);
}

static void on_peer_down(void *user, struct dist_peer *peer, const char *why) {
    struct run *run = user;
    eng_peer_down(run->engine, peer);
    jail_node_down(run->jail, span_str(dist_peer_name(peer)));
    (void)why;
    if (peer == run->owner) {
        run->owner = NULL;
        atomic_store(&run->owner_fd, -1);
        stop(run, 0);
    }
}

static void on_message(void *user, struct dist_peer *peer, const struct dist_control *control,
                       struct span payload) {
    struct run *run = user;
    eng_message(run->engine, peer, span_str(dist_peer_name(peer)), control, payload);
}

static void on_connect_failed(void *user, const char *node, const char *why) {
    struct run *run = user;
    enum log_level level =
        eng_connect_failed(run->engine, node) ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING;
    log_line(run->log, level, "lunode", "cannot connect to %s: %s", node, why);
}

/* }==== */

/* {==== Turns of the loop ================================================================= */

static void on_turn_done(void *user) {
    struct run *run = user;
    log_flush(run->log); /* before the replies, so that a caller finds its lines written */
    jail_flush(run->jail);
    dist_node_flush(run->node);
}

/* }==== */

/* {==== Starting ========================================================================== */

/* The node's lines go where standard output went; what a script writes to descriptor 1 by itself
 * goes to standard error, so that it can neither break a line of ours nor forge one. */
static int take_output(void) {
    bool closed = (fcntl(STDOUT_FILENO, F_GETFL) & O_ACCMODE) == O_RDONLY; /* see main.c */
    int fd = closed ? -1 : fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    if (fd >= 0) {
        dup2(STDERR_FILENO, STDOUT_FILENO);
    }
    return fd;
}

static bool watch(struct run *run, struct err *err) {
    uv_timer_init(&run->loop, &run->deadline);
    uv_signal_init(&run->loop, &run->sigterm);
    uv_signal_init(&run->loop, &run->sigint);
    run->sigterm.data = run->sigint.data = run->input.data = run;
    int status = eng_turns_start(&run->turns, &run->loop, run->engine, on_turn_done, run);
    status = status != 0 ? status : uv_signal_start(&run->sigterm, on_signal, SIGTERM);
    status = status != 0 ? status : uv_signal_start(&run->sigint, on_signal, SIGINT);
    return status == 0 || err_set(err, "cannot watch for events: %s", uv_strerror(status));
}

/* A file or /dev/null can't be watched: it is at its end already. */
static void watch_input(struct run *run) {
    run->input.data = run;
    if (uv_poll_init(&run->loop, &run->input, STDIN_FILENO) != 0 ||
        uv_poll_start(&run->input, UV_READABLE, on_input) != 0) {
        log_line(run->log, LOG_LEVEL_WARNING, "lunode",
                 "standard input is at its end already: the node ends");
        stop(run, 0);
    }
}

static bool read_scripts(const struct run_config *config, struct eng_config *scripts,
                         struct err *err) {
    for (int i = 0; i < config->path_count; i++) {
        if (!eng_config_add_path(scripts, config->paths[i], err)) {
            return false;
        }
    }
    return (config->config_file == NULL || eng_config_read(scripts, config->config_file, err)) &&
           eng_config_settle(scripts, err);
}

static void wipe(char *text) {
    if (text != NULL) {
        explicit_bzero(text, strlen(text));
    }
}

static bool make_node(struct run *run, const struct eng_config *scripts, struct err *err) {
    static const struct dist_events events = {on_published, on_peer_up, on_peer_down, on_message,
                                              on_connect_failed};
    struct dist_config config = {.host = run->config->host,
                                 .alive = run->config->alive,
                                 .cookie = run->config->cookie,
                                 .creation = run->config->creation,
                                 .max_frame = scripts->max_frame,
                                 .tick_ms = TICK_MS,
                                 .handshake_ms = HANDSHAKE_MS};
    if (config.cookie == NULL) {
        return err_set(err, "the environment variable BUNDLEX_ERLANG_COOKIE is not set");
    }
    bool ok = dist_node_create(&run->node, &run->loop, run->log, &config, &events, run, err);
    wipe(run->config->cookie);
    if (ok) {
        eng_set_node(run->engine, run->node);
    }
    return ok;
}

static bool make_jail(struct run *run, const struct eng_config *scripts, struct err *err) {
    struct jail_config config = {.workers = scripts->workers,
                                 .max_frame = scripts->max_frame,
                                 .unjailed = scripts->unjailed};
    return jail_create(&run->jail, &run->loop, run->log, run->engine, run->node, &config, err);
}

static bool start(struct run *run, struct err *err) {
    static const struct eng_events events = {on_handler_failed, on_held, on_script_exit};
    struct eng_config scripts;
    eng_config_init(&scripts);
    bool ok = eng_create(&run->engine, &run->loop, run->log, &events, run, err) &&
              watch(run, err) && read_scripts(run->config, &scripts, err) &&
              make_node(run, &scripts, err) && make_jail(run, &scripts, err) &&
              eng_add(run->engine, &scripts, err);
    eng_config_finish(&scripts);
    return ok;
}

/* }==== */

/* {==== The end =========================================================================== */

static void close_handle(uv_handle_t *handle, void *argument) {
    (void)argument;
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

static void on_deadline(uv_timer_t *timer) {
    (void)timer; /* it wakes the loop, which looks at the time */
}

/* The scripts' `terminate` runs; the loop goes on meanwhile, so that it may call and wait. */
static void stop_scripts(struct run *run) {
    uint64_t end = uv_hrtime() + (uint64_t)TERMINATE_MS * 1000000;
    uv_update_time(&run->loop);
    uv_timer_start(&run->deadline, on_deadline, TERMINATE_MS, 0);
    eng_stop(run->engine);
    while (!eng_stopped(run->engine) && uv_hrtime() < end) {
        uv_run(&run->loop, UV_RUN_ONCE);
    }
}

static void finish(struct run *run) {
    start_alarm(run->status);
    if (run->node != NULL) {
        dist_node_unpublish(run->node);
    }
    if (run->started) {
        stop_scripts(run);
    }
    if (run->node != NULL) {
        dist_node_flush(run->node);
    }
    jail_destroy(run->jail);
    dist_node_destroy(run->node);
    eng_destroy(run->engine);
    log_destroy(run->log);
    eng_turns_stop(&run->turns);
    uv_close((uv_handle_t *)&run->deadline, NULL);
    uv_close((uv_handle_t *)&run->sigterm, NULL);
    uv_close((uv_handle_t *)&run->sigint, NULL);
    if (run->input.type == UV_POLL) {
        close_handle((uv_handle_t *)&run->input, NULL);
    }
    while (uv_run(&run->loop, UV_RUN_DEFAULT) != 0) { /* a stop before it ran counts still */
    }
    uv_loop_close(&run->loop);
}

/* A starter such as Bundlex waits for `ready` and never learns that we ended: so the reason is
 * told, and the end of standard input awaited. */
static void await_end_of_input(void) {
    (void)signal(SIGTERM, SIG_DFL); /* the loop, which watched for them, does not run any more */
    (void)signal(SIGINT, SIG_DFL);
    char ignored[4096];
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    ssize_t n;
    do {
        poll(&input, 1, -1); /* the loop may have made it non-blocking */
        n = read(STDIN_FILENO, ignored, sizeof ignored);
    } while (n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN)));
}

static void tell_failure(struct run *run, const char *why) {
    (void)fprintf(stderr, "lunode: cannot start: %s\n", why);
    if (run->config->bundlex) {
        log_line(run->log, LOG_LEVEL_ERROR, "lunode", "cannot start: %s", why);
        log_flush(run->log);
        await_end_of_input();
    }
}

int run_node(const struct run_config *config) {
    struct run run = {.config = config, .owner_fd = -1};
    struct err err = {""};
    int fd = take_output();
    if (fd < 0) {
        (void)fprintf(stderr, "lunode: cannot start: standard output is closed\n");
        return 1;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    uv_loop_init(&run.loop);
    if (!log_create(&run.log, &run.loop, fd, &err)) {
        (void)fprintf(stderr, "lunode: cannot start: %s\n", err.text);
        uv_loop_close(&run.loop);
        close(fd);
        return 1;
    }
    if (!start(&run, &err)) {
        tell_failure(&run, err.text);
        run.status = 1;
    } else {
        if (config->bundlex) {
            watch_input(&run);
        }
        dist_node_publish(run.node);
        if (!run.stopping) {
            uv_run(&run.loop, UV_RUN_DEFAULT);
        }
        if (run.why[0] != '\0') {
            tell_failure(&run, run.why);
        }
    }
    finish(&run);
    close(fd);
    return run.status;
}

/* }==== */

/* {==== lunode check ====================================================================== */

static bool is_configuration(const char *path) {
    const char *slash = strrchr(path, '/');
    return strcmp(slash == NULL ? path : slash + 1, "lunode.lua") == 0;
}

/* One path of the command line. Each by itself: two folders may have handlers of one name. */
static bool check_path(struct run *run, const char *path) {
    struct eng_config scripts;
    struct err err;
    struct stat file;
    eng_config_init(&scripts);
    bool ok = is_configuration(path) ? eng_config_read(&scripts, path, &err)
                                     : eng_config_add_path(&scripts, path, &err);
    ok = ok && eng_config_settle(&scripts, &err);
    if (!ok) {
        (void)fprintf(stderr, "%s\n", err.text);
    }
    for (size_t i = 0; i < scripts.count; i++) {
        ok = eng_check(run->engine, &scripts.scripts[i]) && ok;
    }
    if (stat(path, &file) == 0 && S_ISDIR(file.st_mode)) {
        ok = eng_check_modules(run->engine, path) && ok;
    }
    eng_config_finish(&scripts);
    return ok;
}

int run_check(const char *const *paths, int count) {
    static const struct eng_events events = {on_handler_failed, on_held, on_script_exit};
    struct run run = {.status = 0};
    struct err err;
    uv_loop_init(&run.loop);
    if (log_create(&run.log, &run.loop, STDOUT_FILENO, &err) &&
        eng_create(&run.engine, &run.loop, run.log, &events, &run, &err)) {
        for (int i = 0; i < count; i++) {
            run.status |= check_path(&run, paths[i]) ? 0 : 1;
        }
    } else {
        (void)fprintf(stderr, "lunode: %s\n", err.text);
        run.status = 1;
    }
    eng_destroy(run.engine);
    log_destroy(run.log);
    uv_run(&run.loop, UV_RUN_DEFAULT);
    uv_loop_close(&run.loop);
    return run.status;
}

/* }==== */
