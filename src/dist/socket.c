/* Small things about sockets and secrets that the files of this layer share. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dist/private.h"

enum { BACKLOG = 256, QUIET_MS = 1000, HOST_SIZE = 256 };

int dist_socket_prepare(int fd) {
    int on = 1;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        return errno;
    }
    /* Not for a pipe, and never worth failing for. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return 0;
}

/* Whether `host` is how this machine calls itself, in full or up to the first dot. */
static bool is_own_name(const char *host) {
    char own[HOST_SIZE];
    if (gethostname(own, sizeof own) != 0) {
        return false;
    }
    own[sizeof own - 1] = '\0';
    if (strcmp(host, own) == 0) {
        return true;
    }
    own[strcspn(own, ".")] = '\0';
    return strcmp(host, own) == 0;
}

bool dist_socket_resolve(const char *host, struct in_addr *address, struct err *err) {
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int status = getaddrinfo(host, NULL, &hints, &found);
    if (status == 0) {
        struct sockaddr_in in;
        memcpy(&in, found->ai_addr, sizeof in);
        *address = in.sin_addr;
        freeaddrinfo(found);
        return true;
    }
    if (is_own_name(host)) {
        address->s_addr = htonl(INADDR_LOOPBACK);
        return true;
    }
    return err_set(err, "cannot resolve %s: %s", host, gai_strerror(status));
}

static int listen_on(int fd, struct in_addr address, int *port) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = address};
    socklen_t len = sizeof in;
    int status = dist_socket_prepare(fd);
    if (status != 0) {
        return status;
    }
    if (bind(fd, (struct sockaddr *)&in, sizeof in) != 0 || listen(fd, BACKLOG) != 0 ||
        getsockname(fd, (struct sockaddr *)&in, &len) != 0) {
        return errno;
    }
    *port = ntohs(in.sin_port);
    return 0;
}

bool dist_socket_listen(const char *host, struct in_addr address, int *out, int *port,
                        struct err *err) {
    char text[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &address, text, sizeof text);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0) {
        return err_set(err, "cannot make a socket: %s", strerror(errno));
    }
    int status = listen_on(fd, address, port);
    if (status != 0) {
        close(fd);
        return err_set(err, "cannot listen on %s (%s): %s", host, text,
                       status == EADDRNOTAVAIL ? "that is not an address of this machine"
                                               : strerror(status));
    }
    *out = fd;
    return true;
}

int dist_socket_wait(int fd, short events, uint64_t deadline) {
    for (;;) {
        uint64_t now = uv_hrtime();
        if (now >= deadline) {
            return ETIMEDOUT;
        }
        uint64_t ms = (deadline - now) / 1000000 + 1;
        struct pollfd poll_fd = {.fd = fd, .events = events};
        int ready = poll(&poll_fd, 1, ms < INT_MAX ? (int)ms : INT_MAX);
        if (ready > 0) {
            return 0;
        }
        if (ready < 0 && errno != EINTR) {
            return errno;
        }
    }
}

bool dist_quiet_pass(struct dist_quiet *quiet, uint64_t now, unsigned *held) {
    if (quiet->last != 0 && now - quiet->last < QUIET_MS) {
        quiet->held++;
        return false;
    }
    *held = quiet->held;
    quiet->held = 0;
    quiet->last = now > 0 ? now : 1;
    return true;
}

/* Through a volatile pointer: a plain memset of memory that is not read again may be left out. */
void dist_wipe(void *data, size_t len) {
    volatile char *p = data;
    while (len-- > 0) {
        *p++ = 0;
    }
}
