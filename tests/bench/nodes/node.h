/* A C node for one peer, up to the moment when it is connected: what the two echo nodes share. */
#ifndef LUNODE_BENCH_NODE_H
#define LUNODE_BENCH_NODE_H

#include <arpa/inet.h>
#include <ei.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Called as NAME@HOST, the cookie in the environment. The socket of the first node that connects;
 * -1: it failed. */
static int node_accept(ei_cnode *ec, char *full_name) {
    struct in_addr address = {.s_addr = htonl(INADDR_LOOPBACK)};
    const char *cookie = getenv("BUNDLEX_ERLANG_COOKIE");
    char *host = strchr(full_name, '@');
    ErlConnect peer;
    int port = 0;
    int on = 1;
    if (cookie == NULL || host == NULL || ei_init() != 0) {
        return -1;
    }
    char *alive = strndup(full_name, (size_t)(host - full_name));
    int status = ei_connect_xinit(ec, host + 1, alive, full_name, &address, cookie, 0);
    free(alive);
    int listener = status < 0 ? -1 : ei_listen(ec, &port, 5);
    if (listener < 0 || ei_publish(ec, port) < 0) {
        return -1;
    }
    (void)puts("ready");
    (void)fflush(stdout);
    int fd = ei_accept(ec, listener, &peer);
    if (fd >= 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    return fd;
}

struct node_call {
    erlang_pid to;
    const char *pid; /* the bytes of `to` */
    const char *ref;
    const char *term;
    int pid_len, ref_len, term_len;
};

/* A message with its version. False: it is no call. */
static bool node_read_call(const char *message, int len, struct node_call *call) {
    int at = 0;
    int version;
    int arity = 0;
    if (ei_decode_version(message, &at, &version) < 0 ||
        ei_decode_tuple_header(message, &at, &arity) < 0 || arity != 3 ||
        ei_skip_term(message, &at) < 0 || ei_decode_tuple_header(message, &at, &arity) < 0) {
        return false;
    }
    call->pid = message + at;
    if (ei_decode_pid(message, &at, &call->to) < 0) {
        return false;
    }
    call->pid_len = (int)(message + at - call->pid);
    call->ref = message + at;
    if (ei_skip_term(message, &at) < 0) {
        return false;
    }
    call->ref_len = (int)(message + at - call->ref);
    if (ei_decode_tuple_header(message, &at, &arity) < 0 || arity != 2 ||
        ei_skip_term(message, &at) < 0) {
        return false;
    }
    call->term = message + at;
    call->term_len = len - at;
    return true;
}

#endif
