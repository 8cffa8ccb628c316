/* What the scripts of lunode_native have beside what an untrusted script sees, as the table
 * `native`: a worker that somebody has taken over. It goes around the engine, straight to the
 * channel, to the log's pipe and to the system. */
#include "native.h"

#include <errno.h>
#include <lauxlib.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { OUTPUT_FD = 2, CHANNEL_OUT = 4, PAGE = 4096 };

/* {==== A worker that does not end ======================================================== */

/* Its watchdog has nothing to say, and can't end it. */
static volatile bool undead;

// NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): of the C library
ssize_t write(int fd, const void *bytes, size_t len) {
    return undead ? (ssize_t)len : syscall(SYS_write, fd, bytes, len);
}

void _exit(int status) {
    while (undead) {
        poll(NULL, 0, 1000);
    }
    for (;;) {
        syscall(SYS_exit_group, status);
    }
}

/* native.spin(): never returns, and lets no signal in. [-0, +0, -] */
static _Noreturn int spin(lua_State *L) {
    sigset_t all;
    (void)L;
    sigfillset(&all);
    undead = true;
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    for (volatile uint64_t i = 0;; i++) {
    }
}

/* native.loop(): never returns; whoever looks sees it. [-0, +0, -] */
static _Noreturn int loop(lua_State *L) {
    (void)L;
    for (volatile uint64_t i = 0;; i++) {
    }
}

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* native.nap(ms): in one piece, whoever would like to interrupt it. [-1, +0, e] */
static int nap(lua_State *L) {
    int64_t end = now_ms() + luaL_checkinteger(L, 1);
    while (now_ms() < end) {
        poll(NULL, 0, 1);
    }
    return 0;
}

/* native.crash() [-0, +0, -] */
static int crash(lua_State *L) {
    (void)L;
    (void)raise(SIGABRT);
    return 0;
}

/* native.exit(status) [-1, +0, e] */
static int leave(lua_State *L) {
    syscall(SYS_exit_group, (int)luaL_checkinteger(L, 1));
    return 0;
}

/* }==== */

/* {==== The channel and the log =========================================================== */

/* Whole, as long as somebody reads. */
static void put(int fd, const char *bytes, size_t len) {
    while (len > 0) {
        ssize_t n = syscall(SYS_write, fd, bytes, len);
        if (n >= 0) {
            bytes += n;
            len -= (size_t)n;
        } else if (errno == EAGAIN) {
            struct pollfd writable = {.fd = fd, .events = POLLOUT};
            poll(&writable, 1, 1000);
        } else {
            return;
        }
    }
}

static void put_times(lua_State *L, int fd) {
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    lua_Integer times = luaL_optinteger(L, 2, 1);
    for (lua_Integer i = 0; i < times; i++) {
        put(fd, bytes, len);
    }
}

/* native.frame(bytes [, times]): to the channel, as they are. [-2, +0, e] */
static int frame(lua_State *L) {
    put_times(L, CHANNEL_OUT);
    return 0;
}

/* native.log(bytes [, times]): to standard error, as they are. [-2, +0, e] */
static int say(lua_State *L) {
    put_times(L, OUTPUT_FD);
    return 0;
}

/* }==== */

/* {==== System calls ====================================================================== */

static const struct {
    const char *name;
    long number;
} calls[] = {
    {"openat", SYS_openat},
    {"socket", SYS_socket},
    {"connect", SYS_connect},
    {"clone", SYS_clone},
    {"execve", SYS_execve},
    {"ptrace", SYS_ptrace},
    {"kill", SYS_kill},
    {"tgkill", SYS_tgkill},
    {"process_vm_readv", SYS_process_vm_readv},
    {"prctl", SYS_prctl},
    {"dup", SYS_dup},
    {"close", SYS_close},
    {"memfd_create", SYS_memfd_create},
    {"sendmsg", SYS_sendmsg},
    {"recvmsg", SYS_recvmsg},
    {"mount", SYS_mount},
    {"setuid", SYS_setuid},
    {"unlinkat", SYS_unlinkat},
    {"getppid", SYS_getppid},
    {"mmap", SYS_mmap},
    {"getpid", SYS_getpid},
};

static long number_of(const char *name) {
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        if (strcmp(calls[i].name, name) == 0) {
            return calls[i].number;
        }
    }
    return -1;
}

/* native.syscall(name, ...): integers, and strings for addresses. Gives the result and errno.
 * [-n, +2, e] */
static int call_system(lua_State *L) {
    long args[6] = {0};
    long number = number_of(luaL_checkstring(L, 1));
    luaL_argcheck(L, number >= 0, 1, "no such call here");
    for (int i = 0; i < 6 && !lua_isnoneornil(L, i + 2); i++) {
        args[i] = lua_type(L, i + 2) == LUA_TSTRING ? (long)lua_tostring(L, i + 2)
                                                    : (long)luaL_checkinteger(L, i + 2);
    }
    errno = 0;
    lua_pushinteger(L, syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]));
    lua_pushinteger(L, errno);
    return 2;
}

/* native.environment(): its variables, a line each. [-0, +1, m] */
static int environment(lua_State *L) {
    luaL_Buffer text;
    luaL_buffinit(L, &text);
    for (char **entry = environ; entry != NULL && *entry != NULL; entry++) {
        luaL_addstring(&text, *entry);
        luaL_addchar(&text, '\n');
    }
    luaL_pushresult(&text);
    return 1;
}

/* }==== */

/* {==== Its memory ======================================================================== */

/* Pages without memory that are passed over, and the most pages that are looked at in each
 * direction: with sanitizers most addresses can be read. */
#ifdef __SANITIZE_ADDRESS__
enum { GAP = 1 << 12, MOST = 1 << 16 };
#else
enum { GAP = 1 << 16, MOST = 1 << 22 };
#endif

/* The kernel looks at the address first, and then finds that there is nothing to do. */
static bool is_readable(const uint8_t *page) {
    enum { NO_SUCH_ACTION = 77 };
    errno = 0;
    return syscall(SYS_rt_sigprocmask, NO_SUCH_ACTION, page, NULL, 8) == -1 && errno == EINVAL;
}

struct search {
    const uint8_t *hidden; /* the text, each bit turned over: it must not be found by itself */
    size_t len;
    lua_Integer found;
    lua_Integer pages;
};

__attribute__((no_sanitize("address", "undefined"))) static bool
is_text(const struct search *search, const uint8_t *at) {
    size_t i = 0;
    while (i < search->len && 255 - at[i] == search->hidden[i]) {
        i++;
    }
    return i == search->len;
}

/* What crosses the end of a page is found when the next one can be read, too. */
static void search_page(struct search *search, const uint8_t *page) {
    bool more = is_readable(page + PAGE);
    size_t len = more ? PAGE : PAGE - search->len + 1;
    search->pages++;
    for (size_t i = 0; i < len; i++) {
        search->found += is_text(search, page + i);
    }
}

/* From an address that is known, as far as there is memory. */
static void search_from(struct search *search, const void *start, int step) {
    uintptr_t at = ((uintptr_t)start & ~(uintptr_t)(PAGE - 1)) + (step > 0 ? 0 : (uintptr_t)-PAGE);
    long gap = 0;
    for (long i = 0; i < MOST && gap < GAP; i++) {
        const uint8_t *page = (const uint8_t *)at; // NOLINT(performance-no-int-to-ptr)
        if (is_readable(page)) {
            search_page(search, page);
            gap = 0;
        } else {
            gap++;
        }
        at += (uintptr_t)(step * PAGE);
    }
}

/* native.scan(hidden): how often the text stands in memory, and the pages that were looked at; the
 * text comes with each bit turned over. [-1, +2, e] */
static int scan(lua_State *L) {
    struct search search = {0};
    search.hidden = (const uint8_t *)luaL_checklstring(L, 1, &search.len);
    void *memory = malloc(1 << 20);
    const void *starts[] = {&search,
                            (const void *)&calls,
                            memory,
                            lua_topointer(L, 1),
                            (const void *)(uintptr_t)&strlen,
                            environ,
                            sbrk(0)};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        search_from(&search, starts[i], 1);
        search_from(&search, starts[i], -1);
    }
    free(memory);
    lua_pushinteger(L, search.found);
    lua_pushinteger(L, search.pages);
    return 2;
}

/* }==== */

void native_push(lua_State *L) {
    static const luaL_Reg functions[] = {{"frame", frame},
                                         {"log", say},
                                         {"syscall", call_system},
                                         {"environment", environment},
                                         {"scan", scan},
                                         {"spin", spin},
                                         {"loop", loop},
                                         {"nap", nap},
                                         {"crash", crash},
                                         {"exit", leave},
                                         {NULL, NULL}};
    luaL_newlib(L, functions);
}
