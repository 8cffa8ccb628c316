/* The jail from inside: a worker that runs native code on purpose tries what it may not. Each try
 * has a process of its own, which is this program again. */
#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "jail/confine.h"

enum { CHANNEL_IN = 3, CHANNEL_OUT = 4, LEFT_OPEN = 57, MARKER = 32, SECONDS = 300 };

/* Stand for what is known only when the worker runs. */
#define NODE        (-70001)
#define OWN_PROCESS (-70002)
#define OWN_MEMORY  (-70003)
#define COOKIE_FILE (-70004)

/* What the worker was told by the test that plays the node. */
static struct {
    pid_t node;
    const char *cookie_file;
    int port;
    char hidden[MARKER + 1]; /* the marker, each bit turned over: it must not be found here */
} told;

static uint8_t own_memory[65536] __attribute__((aligned(4096)));

/* {==== Tries ============================================================================= */

struct try {
    const char *title;
    long (*run)(void); /* instead of `call` */
    long call;
    const char *name; /* of the call that the jail must name; NULL: killed without words */
    long args[6];
};

#if defined __x86_64__ && !defined __SANITIZE_ADDRESS__
/* getpid in the way of 32-bit programs. */
static long call_int80(void) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory");
    return result;
}
#endif

#define TRY(title, name, ...)                                                                      \
    {                                                                                              \
        title, NULL, SYS_##name, #name, {                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define ADDRESS(pointer) ((long)(pointer))

static const struct clone_args thread_args = {.flags = CLONE_VM | CLONE_THREAD | CLONE_SIGHAND |
                                                       CLONE_FS | CLONE_FILES};
static const struct clone_args process_args = {.exit_signal = SIGCHLD};
static const char *const no_strings[] = {NULL};
static const struct rlimit many = {1024, 1024};
static const uint64_t how[3];
static char line_feed[] = "\n";

static const struct try tries[] = {
    /* files */
    TRY("opens a file", openat, AT_FDCWD, ADDRESS("/etc/passwd"), O_RDONLY),
    TRY("opens a file by openat2", openat2, AT_FDCWD, ADDRESS("/etc/passwd"), ADDRESS(how), 24),
    TRY("opens the cookie's file", openat, AT_FDCWD, COOKIE_FILE, O_RDONLY),
    TRY("opens its own memory as a file", openat, AT_FDCWD, ADDRESS("/proc/self/mem"), O_RDWR),
    TRY("makes a file", openat, AT_FDCWD, ADDRESS("/tmp/lunode-jail"), O_CREAT | O_WRONLY, 0600),
    TRY("removes a file", unlinkat, AT_FDCWD, COOKIE_FILE, 0),
    TRY("renames a file", renameat2, AT_FDCWD, COOKIE_FILE, AT_FDCWD, ADDRESS("/tmp/x"), 0),
    TRY("links a file", linkat, AT_FDCWD, COOKIE_FILE, AT_FDCWD, ADDRESS("/tmp/x"), 0),
    TRY("makes a symbolic link", symlinkat, ADDRESS("/etc"), AT_FDCWD, ADDRESS("/tmp/x")),
    TRY("makes a folder", mkdirat, AT_FDCWD, ADDRESS("/tmp/x"), 0700),
    TRY("makes a device", mknodat, AT_FDCWD, ADDRESS("/tmp/x"), S_IFCHR | 0600, 0x101),
    TRY("changes a file's mode", fchmodat, AT_FDCWD, COOKIE_FILE, 0666),
    TRY("changes a file's owner", fchownat, AT_FDCWD, COOKIE_FILE, 0, 0, 0),
    TRY("changes a file's times", utimensat, AT_FDCWD, COOKIE_FILE, 0, 0),
    TRY("changes a file's length", truncate, COOKIE_FILE, 0),
    TRY("asks about a file", newfstatat, AT_FDCWD, ADDRESS("/etc"), ADDRESS(own_memory), 0),
    TRY("asks about a file by statx", statx, AT_FDCWD, ADDRESS("/etc"), 0, 0xFFF,
        ADDRESS(own_memory)),
    TRY("asks for a file's presence", faccessat, AT_FDCWD, ADDRESS("/etc"), R_OK),
    TRY("reads a symbolic link", readlinkat, AT_FDCWD, ADDRESS("/proc/self/exe"),
        ADDRESS(own_memory), 100),
    TRY("lists a folder", getdents64, CHANNEL_IN, ADDRESS(own_memory), 1000),
    TRY("changes its folder", chdir, ADDRESS("/etc")),
    TRY("changes its root", chroot, ADDRESS("/etc")),
    TRY("watches files", inotify_init1, 0),
    TRY("watches files by fanotify", fanotify_init, 0, 0),
    TRY("opens a file by handle", open_by_handle_at, CHANNEL_IN, ADDRESS(own_memory), 0),
    TRY("makes a file in memory", memfd_create, ADDRESS("x"), 0),
    TRY("copies a descriptor", dup, CHANNEL_IN),
    TRY("copies a descriptor to a number", dup3, CHANNEL_IN, LEFT_OPEN, 0),
    TRY("changes a descriptor", fcntl, CHANNEL_IN, F_DUPFD, 10),
    TRY("makes a pipe", pipe2, ADDRESS(own_memory), 0),
    TRY("mounts", mount, ADDRESS("none"), ADDRESS("/tmp"), ADDRESS("tmpfs"), 0, 0),
    TRY("unmounts", umount2, ADDRESS("/tmp"), 0),
    TRY("opens a mount", fsopen, ADDRESS("tmpfs"), 0),
    /* the network and other processes' ears */
    TRY("makes a TCP socket", socket, AF_INET, SOCK_STREAM, 0),
    TRY("makes a UDP socket", socket, AF_INET6, SOCK_DGRAM, 0),
    TRY("makes a unix socket", socket, AF_UNIX, SOCK_STREAM, 0),
    TRY("makes a netlink socket", socket, AF_NETLINK, SOCK_RAW, 0),
    TRY("makes a packet socket", socket, AF_PACKET, SOCK_RAW, 0),
    TRY("makes two sockets", socketpair, AF_UNIX, SOCK_STREAM, 0, ADDRESS(own_memory)),
    TRY("connects", connect, CHANNEL_IN, ADDRESS(own_memory), 16),
    TRY("binds", bind, CHANNEL_IN, ADDRESS(own_memory), 16),
    TRY("listens", listen, CHANNEL_IN, 1),
    TRY("accepts", accept4, CHANNEL_IN, 0, 0, 0),
    TRY("sends", sendto, CHANNEL_OUT, ADDRESS("x"), 1, 0, 0, 0),
    TRY("sends to an address", sendto, CHANNEL_OUT, ADDRESS("x"), 1, 0, ADDRESS(own_memory), 16),
    TRY("receives", recvfrom, CHANNEL_IN, ADDRESS(own_memory), 1, 0, 0, 0),
    TRY("shuts a socket down", shutdown, CHANNEL_IN, SHUT_RDWR),
    TRY("sends a descriptor", sendmsg, CHANNEL_OUT, ADDRESS(own_memory), 0),
    TRY("receives a descriptor", recvmsg, CHANNEL_IN, ADDRESS(own_memory), 0),
    TRY("sets a socket's option", setsockopt, CHANNEL_IN, SOL_SOCKET, SO_RCVBUF, ADDRESS(&many), 4),
    TRY("types into a terminal", ioctl, STDERR_FILENO, TIOCSTI, ADDRESS(line_feed)),
    TRY("makes shared memory", shmget, 1, 4096, IPC_CREAT),
    TRY("makes a message queue", msgget, 1, IPC_CREAT),
    TRY("opens a message queue", mq_open, ADDRESS("x"), O_CREAT | O_RDWR, 0600, 0),
    /* processes and threads */
    TRY("forks", clone, SIGCHLD, 0, 0, 0, 0),
    TRY("forks by clone3", clone3, ADDRESS(&process_args), sizeof process_args),
    TRY("makes a thread", clone3, ADDRESS(&thread_args), sizeof thread_args),
    TRY("executes", execve, ADDRESS("/bin/true"), ADDRESS(no_strings), ADDRESS(no_strings)),
    TRY("executes by execveat", execveat, AT_FDCWD, ADDRESS("/bin/true"), ADDRESS(no_strings),
        ADDRESS(no_strings), 0),
    TRY("waits for a process", wait4, -1, 0, WNOHANG, 0),
    TRY("traces the node", ptrace, PTRACE_ATTACH, NODE, 0, 0),
    TRY("asks to be traced", ptrace, PTRACE_TRACEME, 0, 0, 0),
    TRY("reads the node's memory", process_vm_readv, NODE, ADDRESS(own_memory), 1,
        ADDRESS(own_memory), 1, 0),
    TRY("writes the node's memory", process_vm_writev, NODE, ADDRESS(own_memory), 1,
        ADDRESS(own_memory), 1, 0),
    TRY("advises on the node's memory", process_madvise, CHANNEL_IN, ADDRESS(own_memory), 1,
        MADV_COLD, 0),
    TRY("compares with the node", kcmp, NODE, OWN_PROCESS, 0, 0, 0),
    TRY("opens the node as a descriptor", pidfd_open, NODE, 0),
    TRY("takes a descriptor of the node", pidfd_getfd, CHANNEL_IN, 0, 0),
    TRY("kills the node", kill, NODE, SIGKILL),
    TRY("kills a thread of the node", tgkill, NODE, NODE, SIGURG),
    TRY("kills by tkill", tkill, NODE, SIGKILL),
    TRY("stops itself", tgkill, OWN_PROCESS, OWN_PROCESS, SIGSTOP),
    TRY("queues a signal for the node", rt_sigqueueinfo, NODE, SIGUSR1, ADDRESS(own_memory)),
    TRY("makes the node the owner of its descriptor", fcntl, CHANNEL_IN, F_SETOWN, NODE),
    TRY("changes its process group", setpgid, 0, 0),
    TRY("starts a session", setsid, 0),
    TRY("raises its priority", setpriority, PRIO_PROCESS, 0, -20),
    TRY("changes the node's scheduling", sched_setaffinity, NODE, 8, ADDRESS(own_memory)),
    TRY("makes itself a real-time process", sched_setscheduler, 0, SCHED_FIFO, ADDRESS(&many)),
    /* its own confinement */
    TRY("becomes dumpable", prctl, PR_SET_DUMPABLE, 1, 0, 0, 0),
    TRY("asks for new privileges", prctl, PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0),
    TRY("lets itself be traced", prctl, PR_SET_PTRACER, -1, 0, 0, 0),
    TRY("outlives the node", prctl, PR_SET_PDEATHSIG, 0, 0, 0, 0),
    TRY("adds a filter", seccomp, 1, 0, ADDRESS(own_memory)),
    TRY("raises its limits", setrlimit, RLIMIT_NOFILE, ADDRESS(&many)),
    TRY("raises its limits by prlimit", prlimit64, 0, RLIMIT_NPROC, ADDRESS(&many), 0),
    TRY("raises the node's limits", prlimit64, NODE, RLIMIT_CORE, ADDRESS(&many), 0),
    TRY("becomes root", setuid, 0),
    TRY("becomes root by setresuid", setresuid, 0, 0, 0),
    TRY("takes capabilities", capset, ADDRESS(own_memory), ADDRESS(own_memory)),
    TRY("enters another namespace", setns, CHANNEL_IN, 0),
    TRY("makes a namespace", unshare, CLONE_NEWUSER),
    TRY("changes its personality", personality, 0x0400000),
    TRY("makes a landlock ruleset", landlock_create_ruleset, ADDRESS(own_memory), 8, 0),
    /* memory that holds code */
    TRY("maps memory for code", mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
        -1, 0),
    TRY("maps memory for code and writes", mmap, 0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
    TRY("maps a file", mmap, 0, 4096, PROT_READ, MAP_PRIVATE, CHANNEL_IN, 0),
    TRY("makes memory code", mprotect, OWN_MEMORY, 4096, PROT_READ | PROT_EXEC),
    TRY("makes memory code by pkey_mprotect", pkey_mprotect, OWN_MEMORY, 4096,
        PROT_READ | PROT_EXEC, -1),
    TRY("makes shared memory code", shmat, 0, 0, 0x8000),
    TRY("remaps its pages", remap_file_pages, OWN_MEMORY, 4096, 0, 0, 0),
    TRY("poisons a page", madvise, OWN_MEMORY, 4096, MADV_HWPOISON),
    TRY("locks its memory", mlockall, MCL_CURRENT | MCL_FUTURE),
    /* ways into the kernel that had many holes */
    TRY("sets up io_uring", io_uring_setup, 8, ADDRESS(own_memory)),
    TRY("enters io_uring", io_uring_enter, CHANNEL_IN, 1, 0, 0, 0, 0),
    TRY("loads a bpf program", bpf, 5, ADDRESS(own_memory), 48),
    TRY("opens a performance counter", perf_event_open, ADDRESS(own_memory), 0, -1, -1, 0),
    TRY("handles its page faults", userfaultfd, 0),
    TRY("uses the key ring", keyctl, 0, -3, 0),
    TRY("adds a key", add_key, ADDRESS("user"), ADDRESS("x"), ADDRESS("x"), 1, -3),
    TRY("submits asynchronous I/O", io_setup, 1, ADDRESS(own_memory)),
    TRY("splices", splice, CHANNEL_IN, 0, CHANNEL_OUT, 0, 1, 0),
    TRY("copies a pipe's pages", tee, CHANNEL_IN, CHANNEL_OUT, 1, 0),
    TRY("gives pages to a pipe", vmsplice, CHANNEL_OUT, ADDRESS(own_memory), 1, 0),
    TRY("widens its channel", fcntl, CHANNEL_OUT, F_SETPIPE_SZ, 1 << 20),
    TRY("makes a timer", timer_create, CLOCK_MONOTONIC, 0, ADDRESS(own_memory)),
    TRY("sets the clock", clock_settime, CLOCK_REALTIME, ADDRESS(own_memory)),
    TRY("loads a kernel module", init_module, ADDRESS(own_memory), 8, ADDRESS("")),
    TRY("reads the kernel's log", syslog, 3, ADDRESS(own_memory), 100),
    TRY("reboots", reboot, 0, 0, 0, 0),
    TRY("changes the machine's name", sethostname, ADDRESS("x"), 1),
    {"calls a number that no kernel has", NULL, 499, "", {0}},
#ifdef __x86_64__
    {"forks by the old call", NULL, SYS_vfork, "vfork", {0}},
#ifndef __SANITIZE_ADDRESS__ /* which would report a SIGSEGV */
    {"calls in the way of 32 bits", call_int80, 0, NULL, {0}},
#endif
    {"calls in the way of x32", NULL, 0x40000000 | SYS_getpid, NULL, {0}},
    {"opens by the oldest call", NULL, SYS_open, "open", {ADDRESS("/etc/passwd"), O_RDONLY}},
    {"loads a segment", NULL, SYS_modify_ldt, "modify_ldt", {0}},
    {"asks for I/O ports", NULL, SYS_iopl, "iopl", {3}},
#endif
};

/* }==== */

/* {==== Tries without the filter ========================================================== */

/* What landlock and lost privileges refuse by themselves, so that no single means is all there is.
 */
static long connect_to_node(void) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)told.port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return fd < 0 ? fd : connect(fd, (struct sockaddr *)&to, sizeof to);
}

static long bind_a_port(void) {
    struct sockaddr_in to = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return fd < 0 ? fd : bind(fd, (struct sockaddr *)&to, sizeof to);
}

static long open_environment_of_node(void) {
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/environ", (int)told.node);
    return open(path, O_RDONLY);
}

static const struct try bare_tries[] = {
    TRY("opens a file", openat, AT_FDCWD, ADDRESS("/etc/passwd"), O_RDONLY),
    TRY("opens the cookie's file", openat, AT_FDCWD, COOKIE_FILE, O_RDONLY),
    TRY("opens its own memory as a file", openat, AT_FDCWD, ADDRESS("/proc/self/mem"), O_RDWR),
    {"connects to a port", connect_to_node, 0, NULL, {0}},
    {"binds a port", bind_a_port, 0, NULL, {0}},
    {"opens the node's environment", open_environment_of_node, 0, NULL, {0}},
    TRY("lists a folder", openat, AT_FDCWD, ADDRESS("/"), O_RDONLY | O_DIRECTORY),
    TRY("makes a file", openat, AT_FDCWD, ADDRESS("/tmp/lunode-jail"), O_CREAT | O_WRONLY, 0600),
    TRY("removes a file", unlinkat, AT_FDCWD, COOKIE_FILE, 0),
    TRY("changes a file's length", truncate, COOKIE_FILE, 0),
    TRY("makes a folder", mkdirat, AT_FDCWD, ADDRESS("/tmp/lunode-jail"), 0700),
    TRY("executes", execve, ADDRESS("/bin/true"), ADDRESS(no_strings), ADDRESS(no_strings)),
    TRY("traces the node", ptrace, PTRACE_ATTACH, NODE, 0, 0),
    TRY("mounts", mount, ADDRESS("none"), ADDRESS("/tmp"), ADDRESS("tmpfs"), 0, 0),
    TRY("raises its limits", setrlimit, RLIMIT_CORE, ADDRESS(&many)),
    TRY("enters the node's namespace", unshare, CLONE_NEWNET),
};

/* }==== */

/* {==== The worker ======================================================================== */

static long resolve(long argument) {
    switch (argument) {
    case NODE:
        return told.node;
    case OWN_PROCESS:
        return getpid();
    case OWN_MEMORY:
        return (long)own_memory;
    case COOKIE_FILE:
        return (long)told.cookie_file;
    default:
        return argument;
    }
}

static _Noreturn void end(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The last words of a worker that lives. */
static _Noreturn void end(const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    ssize_t ignored = write(STDERR_FILENO, text, (size_t)len);
    (void)ignored;
    _exit(0);
}

static _Noreturn void run_try(const struct try *try) {
    long a[6];
    for (int i = 0; i < 6; i++) {
        a[i] = resolve(try->args[i]);
    }
    errno = 0;
    long result =
        try->run != NULL ? try->run() : syscall(try->call, a[0], a[1], a[2], a[3], a[4], a[5]);
    end("result %ld (%s)", result, strerror(errno));
}

/* A thread as the watchdog is one: the filter must hold there too. */
static void *nap(void *argument) {
    for (;;) {
        struct timespec time = {.tv_nsec = 1000000};
        clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
    }
    return argument;
}

static void start_thread(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, nap, NULL) != 0) {
        end("no thread");
    }
}

static void prepare(void) {
    struct jail_means means;
    struct err err;
    if (!jail_probe(&means, &err) || !jail_prepare(CHANNEL_OUT, &means, &err)) {
        end("%s", err.text);
    }
    start_thread();
}

static void lock(void) {
    static const struct jail_means means = {true, true};
    struct err err;
    if (!jail_lock(&means, &err)) {
        end("%s", err.text);
    }
}

/* Whether the marker stands at `at`. Turns each byte over, so that it makes no copy itself. */
static bool is_marker(const uint8_t *at) {
    int i = 0;
    while (i < MARKER && 255 - at[i] == (uint8_t)told.hidden[i]) {
        i++;
    }
    return i == MARKER;
}

/* How often the marker stands in what this process can read. Descriptor 1 is its list of mappings.
 */
__attribute__((no_sanitize("address"))) static int count_markers(void) {
    static char maps[262144];
    int found = 0;
    size_t len = 0;
    ssize_t n;
    while ((n = read(STDOUT_FILENO, maps + len, sizeof maps - len - 2)) > 0) {
        len += (size_t)n;
    }
    maps[len] = maps[len + 1] = '\0';
    for (char *line = maps; *line != '\0'; line += strlen(line) + 1) {
        char *rest;
        line[strcspn(line, "\n")] = '\0';
        uint8_t *from = (uint8_t *)strtoul(line, &rest, 16);
        uint8_t *to = (uint8_t *)strtoul(rest + 1, &rest, 16);
        if (rest[1] != 'r' || strstr(rest, "[vvar") != NULL) { /* the clock's can't all be read */
            continue;
        }
        for (uint8_t *at = from; at + MARKER <= to; at++) {
            found += is_marker(at);
        }
    }
    return found;
}

/* Lists its mappings before and after, through a descriptor that it keeps. */
static _Noreturn void search_memory(void) {
    int maps = open("/proc/self/maps", O_RDONLY);
    dup2(maps, STDOUT_FILENO);
    int before = count_markers();
    lseek(STDOUT_FILENO, 0, SEEK_SET);
    prepare();
    lock();
    end("markers: %s before, %d after", before > 0 ? "some" : "none", count_markers());
}

static _Noreturn void list_descriptors(void) {
    int found = 0;
    uint8_t byte;
    prepare();
    lock();
    for (int fd = 0; fd < 4096; fd++) {
        found += fd > CHANNEL_OUT && (read(fd, &byte, 0) == 0 || errno != EBADF);
    }
    ssize_t input = read(STDIN_FILENO, &byte, 1);
    end("descriptors: %d others, input gives %zd, %d variables", found, input,
        environ[0] == NULL   ? 0
        : environ[1] == NULL ? 1
                             : 2);
}

static _Noreturn void run_allowed(void) {
    char text[64];
    time_t now = time(NULL);
    struct tm local;
    prepare();
    lock();
    char *memory = malloc(50 << 20);
    memset(memory, 1, 50 << 20);
    memory = realloc(memory, 100 << 20);
    free(memory);
    free(malloc(100));
    (void)strftime(text, sizeof text, "%H:%M %Z", localtime_r(&now, &local));
    ssize_t sent = write(CHANNEL_OUT, "hello", 5);
    ssize_t got = read(CHANNEL_IN, text, sizeof text);
    pthread_kill(pthread_self(), SIGURG); /* ignored, as it has no handler */
    end("allowed: sent %zd, got %zd", sent, got);
}

static int work(char **argv) {
    size_t index = strtoul(argv[3], NULL, 10);
    told.node = (pid_t)strtol(argv[4], NULL, 10);
    told.cookie_file = argv[5];
    told.port = (int)strtol(argv[6], NULL, 10);
    for (size_t i = 0; i < MARKER; i++) {
        told.hidden[i] = (char)strtol((char[]){argv[7][2 * i], argv[7][2 * i + 1], 0}, NULL, 16);
    }
    alarm(SECONDS);
    if (strcmp(argv[2], "bare") == 0) {
        prepare();
        run_try(&bare_tries[index]);
    } else if (strcmp(argv[2], "memory") == 0) {
        search_memory();
    } else if (strcmp(argv[2], "descriptors") == 0) {
        list_descriptors();
    } else if (strcmp(argv[2], "allowed") == 0) {
        run_allowed();
    }
    prepare();
    lock();
    run_try(&tries[index]);
}

/* }==== */

/* {==== The test, which plays the node ==================================================== */

static struct {
    char marker[MARKER + 1];
    char cookie_file[32];
    int port;
} node = {.cookie_file = "/tmp/lunode-cookie-XXXXXX"};

/* What a worker left. */
struct end {
    int status;
    char words[1024];
};

static _Noreturn void become_worker(const char *what, size_t index, int in, int out, int words) {
    char numbers[3][24];
    char hidden[2 * MARKER + 1];
    (void)snprintf(numbers[0], sizeof numbers[0], "%zu", index);
    (void)snprintf(numbers[1], sizeof numbers[1], "%d", (int)getppid());
    (void)snprintf(numbers[2], sizeof numbers[2], "%d", node.port);
    for (size_t i = 0; i < MARKER; i++) {
        (void)snprintf(hidden + 2 * i, 3, "%02x", 255U - (uint8_t)node.marker[i]);
    }
    dup2(words, STDERR_FILENO);
    dup2(out, LEFT_OPEN);
    dup2(in, CHANNEL_IN);
    dup2(LEFT_OPEN, CHANNEL_OUT);
    (void)setenv("BUNDLEX_ERLANG_COOKIE", node.marker, 1);
    (void)setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
    execl("/proc/self/exe", "worker", "inside", what, numbers[0], numbers[1], node.cookie_file,
          numbers[2], hidden, NULL);
    _exit(127);
}

static struct end run_worker(const char *what, size_t index) {
    struct end end = {0};
    size_t len = 0;
    ssize_t n;
    int in[2];
    int out[2];
    int words[2];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(pipe2(words, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        become_worker(what, index, in[0], out[1], words[1]);
    }
    close(in[0]);
    close(out[1]);
    close(words[1]);
    assert_true(pid > 0);
    assert_int_equal(write(in[1], "hi", 2), 2);
    while ((n = read(words[0], end.words + len, sizeof end.words - 1 - len)) > 0) {
        len += (size_t)n;
    }
    assert_int_equal(waitpid(pid, &end.status, 0), pid);
    close(in[1]);
    close(out[0]);
    close(words[0]);
    return end;
}

static void a_try_ends_the_worker(void **state) {
    const struct try *try = *state;
    char words[128];
    struct end end = run_worker("try", (size_t)(try - tries));
    if (try->name == NULL) {
        /* SIGSEGV: a kernel without 32-bit programs */
        assert_string_equal(end.words, "");
        assert_true(WIFSIGNALED(end.status) &&
                    (WTERMSIG(end.status) == SIGSYS || WTERMSIG(end.status) == SIGSEGV));
        return;
    }
    const char *name[2] = {try->name[0] == '\0' ? "" : " (", try->name[0] == '\0' ? "" : ")"};
    (void)snprintf(words, sizeof words,
                   "lunode: a worker tried the system call %ld%s%s%s, which it may not: it ends\n",
                   try->call, name[0], try->name, name[1]);
    assert_string_equal(end.words, words);
    assert_true(WIFEXITED(end.status) && WEXITSTATUS(end.status) == JAIL_DENIED);
}

static void a_try_is_refused_without_the_filter(void **state) {
    const struct try *try = *state;
    struct end end = run_worker("bare", (size_t)(try - bare_tries));
    if (strstr(end.words, "(Permission denied)") == NULL) {
        assert_string_equal(end.words, "result -1 (Operation not permitted)");
    }
}

static void the_cookie_is_nowhere_in_its_memory(void **state) {
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    skip(); /* the sanitizer keeps a copy of the environment */
#endif
    assert_string_equal(run_worker("memory", 0).words, "markers: some before, 0 after");
}

static void nothing_is_inherited_but_the_channel(void **state) {
    (void)state;
    assert_string_equal(run_worker("descriptors", 0).words,
                        "descriptors: 0 others, input gives 0, 1 variables");
}

static void memory_time_and_the_channel_are_left(void **state) {
    (void)state;
    assert_string_equal(run_worker("allowed", 0).words, "allowed: sent 5, got 2");
}

static void this_system_can_confine(void **state) {
    struct jail_means means;
    struct err err = {""};
    (void)state;
    if (!jail_probe(&means, &err)) {
        fail_msg("%s", err.text);
    }
}

/* }==== */

/* {==== Running =========================================================================== */

static void set_up_node(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    uint8_t random[MARKER / 2];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(bind(fd, (struct sockaddr *)&address, size) == 0 && listen(fd, 10) == 0);
    getsockname(fd, (struct sockaddr *)&address, &size);
    node.port = ntohs(address.sin_port);
    assert_int_equal(getentropy(random, sizeof random), 0);
    for (size_t i = 0; i < sizeof random; i++) {
        (void)snprintf(node.marker + 2 * i, 3, "%02x", random[i]);
    }
    fd = mkstemp(node.cookie_file);
    assert_int_equal(write(fd, node.marker, MARKER), MARKER);
    close(fd);
}

enum {
    TRIES = sizeof tries / sizeof tries[0],
    BARE_TRIES = sizeof bare_tries / sizeof bare_tries[0],
};

static void add_tries(struct CMUnitTest *tests, const struct try *list, size_t count,
                      CMUnitTestFunction run) {
    for (size_t i = 0; i < count; i++) {
        tests[i] = (struct CMUnitTest){
            .name = list[i].title, .test_func = run, .initial_state = (void *)&list[i]};
    }
}

int main(int argc, char **argv) {
    static const struct CMUnitTest others[] = {
        cmocka_unit_test(this_system_can_confine),
        cmocka_unit_test(memory_time_and_the_channel_are_left),
        cmocka_unit_test(nothing_is_inherited_but_the_channel),
        cmocka_unit_test(the_cookie_is_nowhere_in_its_memory),
    };
    enum { OTHERS = sizeof others / sizeof others[0] };
    static struct CMUnitTest tests[OTHERS + TRIES + BARE_TRIES];
    if (argc == 8 && strcmp(argv[1], "inside") == 0) {
        return work(argv);
    }
    set_up_node();
    memcpy(tests, others, sizeof others);
    add_tries(tests + OTHERS, tries, TRIES, a_try_ends_the_worker);
    add_tries(tests + OTHERS + TRIES, bare_tries, BARE_TRIES, a_try_is_refused_without_the_filter);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(node.cookie_file);
    return failed;
}

/* }==== */
