/* The jail on Linux: landlock for files and the network, seccomp for everything. See confine.h. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <malloc.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail/confine.h"

/* The sanitizers' own threads and reports take a little more. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED
#endif

static bool fail(struct err *err, const char *what, int error) {
    return err_set(err, "cannot %s: %s", what, strerror(error));
}

/* {==== Landlock ========================================================================== */

/* As <linux/landlock.h> has it from ABI 6 on: the headers may be older than the kernel. */
struct ruleset {
    uint64_t fs;
    uint64_t net;
    uint64_t scoped;
};

enum { LANDLOCK_VERSION = 1 };

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_restrict_self  446
#endif

/* The kernel's version of landlock; below 1: there is none. */
static long landlock_abi(void) {
    return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_VERSION);
}

/* Everything that an ABI can forbid. The kernel takes no bit that it doesn't know. */
static struct ruleset ruleset_of(long abi) {
    static const struct {
        long abi;
        struct ruleset rules;
    } since[] = {
        {1, {.fs = 0x1FFF}},             /* files and folders */
        {2, {.fs = 1 << 13}},            /* moving to another folder */
        {3, {.fs = 1 << 14}},            /* truncating */
        {4, {.net = 1 << 0 | 1 << 1}},   /* TCP: binding, connecting */
        {5, {.fs = 1 << 15}},            /* ioctl of devices */
        {6, {.scoped = 1 << 0 | 1 << 1}} /* abstract sockets, signals of those outside */
    };
    struct ruleset all = {0};
    for (size_t i = 0; i < sizeof since / sizeof since[0] && since[i].abi <= abi; i++) {
        all.fs |= since[i].rules.fs;
        all.net |= since[i].rules.net;
        all.scoped |= since[i].rules.scoped;
    }
    return all;
}

static bool restrict_files(struct err *err) {
    struct ruleset rules = ruleset_of(landlock_abi());
    long fd = syscall(SYS_landlock_create_ruleset, &rules, sizeof rules, 0);
    if (fd < 0) {
        return fail(err, "give up files (landlock)", errno);
    }
    long status = syscall(SYS_landlock_restrict_self, fd, 0);
    int error = errno;
    close((int)fd);
    return status == 0 || fail(err, "give up files (landlock)", error);
}

/* }==== */

/* {==== Privileges ======================================================================== */

/* So that the system, when it runs out of memory, ends a worker and not the node. */
static void offer_to_oom_killer(void) {
    static const char most[] = "1000";
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t ignored = write(fd, most, sizeof most - 1);
        (void)ignored;
        close(fd);
    }
}

static bool drop_capabilities(struct err *err) {
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
    return syscall(SYS_capset, &head, none) == 0 || fail(err, "give up capabilities", errno);
}

/* The signal when the parent ends comes last: losing privileges would take it back. */
static bool drop_privileges(struct err *err) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return fail(err, "give up new privileges", errno);
    }
    if (!drop_capabilities(err)) {
        return false;
    }
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
        return fail(err, "hide from debuggers", errno);
    }
    return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 ||
           fail(err, "ask for a signal when the node ends", errno);
}

bool jail_prepare_system(const struct jail_means *means, struct err *err) {
#ifdef M_ARENA_MAX
    /* A second arena would look at files in /proc when it grows and shrinks. */
    mallopt(M_ARENA_MAX, 1);
#endif
    offer_to_oom_killer();
    return drop_privileges(err) && (!means->landlock || restrict_files(err));
}

/* }==== */

/* {==== A call that is not allowed ======================================================== */

enum { CALLS = 512, CALL_NAME = 32 };

/* Names of system calls by number: the signal's handler can't ask libseccomp for them. */
static char call_names[CALLS][CALL_NAME];

static void note_call_names(void) {
    for (int number = 0; number < CALLS; number++) {
        char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);
        if (name != NULL) {
            (void)snprintf(call_names[number], CALL_NAME, "%s", name);
        }
        free(name);
    }
}

/* Adds words to the text of `size` bytes; gives its new length. */
static size_t add(char *text, size_t size, size_t len, const char *words) {
    for (; *words != '\0' && len < size; words++) {
        text[len++] = *words;
    }
    return len;
}

static size_t add_number(char *text, size_t size, size_t len, unsigned number) {
    char digits[12] = "";
    size_t at = sizeof digits - 1;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return add(text, size, len, digits + at);
}

/* Only what a signal's handler may call, and what the filter lets through. */
static _Noreturn void on_denied(int signal, siginfo_t *info, void *context) {
    char text[128];
    unsigned number = (unsigned)info->si_syscall;
    size_t len = add(text, sizeof text, 0, "lunode: a worker tried the system call ");
    (void)signal;
    (void)context;
    len = add_number(text, sizeof text, len, number);
    if (number < CALLS && call_names[number][0] != '\0') {
        len = add(text, sizeof text, len, " (");
        len = add(text, sizeof text, len, call_names[number]);
        len = add(text, sizeof text, len, ")");
    }
    len = add(text, sizeof text, len, ", which it may not: it ends\n");
    ssize_t ignored = write(STDERR_FILENO, text, len);
    (void)ignored;
    _exit(JAIL_DENIED);
}

static bool watch_denied(struct err *err) {
    struct sigaction action = {.sa_sigaction = on_denied, .sa_flags = SA_SIGINFO};
    sigset_t set;
    note_call_names();
    sigemptyset(&set);
    sigaddset(&set, SIGSYS);
    if (sigaction(SIGSYS, &action, NULL) != 0) {
        return fail(err, "watch for forbidden system calls", errno);
    }
    int error = pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    return error == 0 || fail(err, "watch for forbidden system calls", error);
}

/* }==== */

/* {==== The filter ======================================================================== */

/* Calls that can do no more than use what the process has. */
static const int plain_calls[] = {
    /* the channel, the log's pipe, the event loop */
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    SCMP_SYS(close),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    /* memory */
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(sysinfo), /* qsort() asks how much memory there is */
    /* time */
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(getrusage),
    SCMP_SYS(setitimer),
    SCMP_SYS(restart_syscall),
    /* threads, their signals, the end */
    SCMP_SYS(futex),
    SCMP_SYS(sched_yield),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(getcpu),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(getrandom),
    /* a thread's first calls: it may begin later than its maker goes on */
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
#ifdef SANITIZED
    SCMP_SYS(sigaltstack),
    SCMP_SYS(sched_getaffinity),
#endif
};

/* Calls of which one argument decides. Several rules of one call: any of them will do. */
struct rule {
    int call;
    struct scmp_arg_cmp arg;
};

/* PR_SET_VMA names memory, as newer allocators do. */
enum { SET_VMA = 0x53564d61 };

static const struct rule rules[] = {
    {SCMP_SYS(mprotect), SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
    /* not those that act on the pages themselves, which other processes may share */
    {SCMP_SYS(madvise), SCMP_A2_32(SCMP_CMP_EQ, MADV_DONTNEED)},
    {SCMP_SYS(madvise), SCMP_A2_32(SCMP_CMP_EQ, MADV_FREE)},
    {SCMP_SYS(madvise), SCMP_A2_32(SCMP_CMP_EQ, MADV_HUGEPAGE)},
    {SCMP_SYS(madvise), SCMP_A2_32(SCMP_CMP_EQ, MADV_NOHUGEPAGE)},
    {SCMP_SYS(madvise), SCMP_A2_32(SCMP_CMP_EQ, MADV_DONTDUMP)},
    {SCMP_SYS(prctl), SCMP_A0_32(SCMP_CMP_EQ, SET_VMA)},
};

static int allow_plain(scmp_filter_ctx filter) {
    int status = 0;
    for (size_t i = 0; i < sizeof plain_calls / sizeof plain_calls[0] && status == 0; i++) {
        status = seccomp_rule_add(filter, SCMP_ACT_ALLOW, plain_calls[i], 0);
    }
    return status;
}

static int allow_by_argument(scmp_filter_ctx filter) {
    int status = 0;
    for (size_t i = 0; i < sizeof rules / sizeof rules[0] && status == 0; i++) {
        status = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, rules[i].call, 1, &rules[i].arg);
    }
    return status;
}

/* Memory of no file that can't hold code. */
static int allow_mmap(scmp_filter_ctx filter) {
    return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 2,
                            SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
                            SCMP_A3_64(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, MAP_ANONYMOUS));
}

/* The watchdog's signal, and abort(), within the process. */
static int allow_own_signals(scmp_filter_ctx filter) {
    static const int signals[] = {SIGURG, SIGABRT};
    int status = 0;
    for (size_t i = 0; i < sizeof signals / sizeof signals[0] && status == 0; i++) {
        status = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 2,
                                  SCMP_A0_32(SCMP_CMP_EQ, (uint32_t)getpid()),
                                  SCMP_A2_32(SCMP_CMP_EQ, (uint32_t)signals[i]));
    }
    return status;
}

/* Calls in another architecture's way kill at once: their numbers mean something else. */
static int load(scmp_filter_ctx filter) {
    int status = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    status = status != 0 ? status
                         : seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    status = status != 0 ? status : allow_plain(filter);
    status = status != 0 ? status : allow_by_argument(filter);
    status = status != 0 ? status : allow_mmap(filter);
    status = status != 0 ? status : allow_own_signals(filter);
    return status != 0 ? status : seccomp_load(filter);
}

#ifdef SANITIZED
static bool locked;

/* Asked at the end: the search for leaks would take another process that traces this one. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) {
    return locked;
}
#endif

bool jail_lock_system(const struct jail_means *means, struct err *err) {
    if (!means->seccomp) {
        return true;
    }
    if (!watch_denied(err)) {
        return false;
    }
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_TRAP);
    int status = filter == NULL ? -ENOMEM : load(filter);
    seccomp_release(filter);
#ifdef SANITIZED
    locked = status == 0;
#endif
    return status == 0 || fail(err, "give up system calls (seccomp)", -status);
}

/* }==== */

bool jail_probe(struct jail_means *means, struct err *err) {
    enum { TSYNC_AND_KILL = 3 };
    means->seccomp = seccomp_api_get() >= TSYNC_AND_KILL;
    means->landlock = landlock_abi() >= 1;
    if (means->seccomp && means->landlock) {
        return true;
    }
    return err_set(err, "this kernel cannot confine a process: it has no %s",
                   means->seccomp    ? "landlock (Linux 5.13 and later, not switched off)"
                   : means->landlock ? "seccomp (Linux 4.14 and later)"
                                     : "seccomp and no landlock (Linux 5.13 and later)");
}
