/* The parts of the jail that any system has: see confine.h. */
#include "jail/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifdef __APPLE__
extern char **environ;
#endif

/* {==== Environment ======================================================================= */

/* The strings lie on the stack that the process began with: there they would stay readable. */
static void wipe_environment(void) {
    for (char **variable = environ; variable != NULL && *variable != NULL; variable++) {
        explicit_bzero(*variable, strlen(*variable));
    }
    environ = NULL;
}

/* The time zone stays, and its file is read now. A libuv that would use io_uring, where calls pass
 * no filter, is told not to. */
static bool empty_environment(struct err *err) {
    const char *zone = getenv("TZ");
    char *kept = zone == NULL ? NULL : strdup(zone);
    bool ok = (zone == NULL) == (kept == NULL);
    wipe_environment();
    ok = ok && (kept == NULL || setenv("TZ", kept, 1) == 0) &&
         setenv("UV_USE_IO_URING", "0", 1) == 0;
    free(kept);
    tzset();
    return ok || err_set(err, "cannot empty the environment: no memory");
}

/* }==== */

/* {==== Descriptors ======================================================================= */

/* So that no later descriptor gets the number 0, the only one that jail_lock leaves. */
static bool replace_input(struct err *err) {
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && (fd == STDIN_FILENO || dup2(fd, STDIN_FILENO) == STDIN_FILENO);
    if (!ok) {
        err_set(err, "cannot replace standard input: %s", strerror(errno));
    }
    if (fd > STDIN_FILENO) {
        close(fd);
    }
    return ok;
}

static void close_after(int last) {
#ifdef SYS_close_range
    if (syscall(SYS_close_range, (unsigned)last + 1, UINT_MAX, 0) == 0) {
        return;
    }
#endif
    struct rlimit limit;
    rlim_t end = getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : INT_MAX;
    for (int fd = last; (rlim_t)fd < end && fd < INT_MAX; fd++) {
        close(fd + 1);
    }
}

/* }==== */

/* {==== Limits ============================================================================ */

struct limit {
    int resource;
    rlim_t most;
};

static bool set_limits(const struct limit *limits, size_t count, struct err *err) {
    for (size_t i = 0; i < count; i++) {
        struct rlimit limit = {limits[i].most, limits[i].most};
        if (setrlimit(limits[i].resource, &limit) != 0) {
            return err_set(err, "cannot set resource limit %d: %s", limits[i].resource,
                           strerror(errno));
        }
    }
    return true;
}

/* }==== */

bool jail_prepare(int last, const struct jail_means *means, struct err *err) {
    static const struct limit core = {RLIMIT_CORE, 0};
    close_after(last);
    umask(S_IRWXG | S_IRWXO);
    if (!empty_environment(err) || !replace_input(err) || !set_limits(&core, 1, err)) {
        return false;
    }
    if (chdir("/") != 0) {
        return err_set(err, "cannot leave the current folder: %s", strerror(errno));
    }
    return jail_prepare_system(means, err);
}

bool jail_lock(const struct jail_means *means, struct err *err) {
    static const struct limit limits[] = {
        {RLIMIT_FSIZE, 0},
        {RLIMIT_NPROC, 0},
        {RLIMIT_NOFILE, 1}, /* not 0: poll() takes no more descriptors than this */
    };
    (void)signal(SIGXFSZ, SIG_IGN); /* standard error may be a file: then its words are lost */
    return set_limits(limits, sizeof limits / sizeof limits[0], err) &&
           jail_lock_system(means, err);
}
