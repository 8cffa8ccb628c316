/* The floor: the same echo, but it reads and writes as much as there is at once, and its answers'
 * control terms are bytes that it knows. */
#include <errno.h>
#include <stdint.h>

#include "node.h"

struct bytes {
    char *data;
    size_t len;
    size_t cap;
};

enum { HEAD = 4, ROOM = 1 << 16, PASS_THROUGH = 112, SEND = 2, VERSION = 131 };

static bool reserve(struct bytes *bytes, size_t more) {
    while (bytes->cap - bytes->len < more) {
        bytes->cap = bytes->cap == 0 ? ROOM : 2 * bytes->cap;
    }
    char *data = realloc(bytes->data, bytes->cap);
    bytes->data = data == NULL ? bytes->data : data;
    return data != NULL;
}

static void put(struct bytes *out, const void *data, size_t len) {
    memcpy(out->data + out->len, data, len);
    out->len += len;
}

static void put_u32(char *to, size_t value) {
    uint32_t big_endian = htonl((uint32_t)value);
    memcpy(to, &big_endian, sizeof big_endian);
}

/* To a tick, or the peer would take this node for dead. */
static bool answer_tick(struct bytes *out) {
    static const char tick[HEAD];
    bool ok = reserve(out, sizeof tick);
    if (ok) {
        put(out, tick, sizeof tick);
    }
    return ok;
}

/* What follows a frame's type byte: the control term, then the message, each with its version. */
static bool answer(struct bytes *out, const char *frame, int len) {
    static const char control[] = {0,   0, 0,  0,    PASS_THROUGH, (char)VERSION,
                                   104, 3, 97, SEND, 119,          0}; /* {2, '', Pid} */
    static const char pair[] = {(char)VERSION, 104, 2};
    struct node_call call;
    int at = 1;
    if (ei_skip_term(frame, &at) < 0) {
        return false;
    }
    if (at == len || !node_read_call(frame + at, len - at, &call)) {
        return true;
    }
    if (!reserve(out, (size_t)len + 32)) {
        return false;
    }
    size_t start = out->len;
    put(out, control, sizeof control);
    put(out, call.pid, (size_t)call.pid_len);
    put(out, pair, sizeof pair);
    put(out, call.ref, (size_t)call.ref_len);
    put(out, call.term, (size_t)call.term_len);
    put_u32(out->data + start, out->len - start - HEAD);
    return true;
}

static bool take_frames(struct bytes *in, struct bytes *out) {
    size_t at = 0;
    while (in->len - at >= HEAD) {
        uint32_t size;
        memcpy(&size, in->data + at, sizeof size);
        size = ntohl(size);
        if (in->len - at - HEAD < size) {
            break;
        }
        bool ok =
            size == 0 ? answer_tick(out) : answer(out, in->data + at + HEAD + 1, (int)size - 1);
        if (!ok) {
            return false;
        }
        at += HEAD + size;
    }
    memmove(in->data, in->data + at, in->len - at);
    in->len -= at;
    return true;
}

static bool write_all(int fd, struct bytes *out) {
    for (size_t sent = 0; sent < out->len;) {
        ssize_t n = write(fd, out->data + sent, out->len - sent);
        if (n < 0 && errno != EINTR) {
            return false;
        }
        sent += n < 0 ? 0 : (size_t)n;
    }
    out->len = 0;
    return true;
}

static bool turn(int fd, struct bytes *in, struct bytes *out) {
    if (!reserve(in, ROOM)) {
        return false;
    }
    ssize_t n = read(fd, in->data + in->len, in->cap - in->len);
    in->len += n > 0 ? (size_t)n : 0;
    return n > 0 && take_frames(in, out) && write_all(fd, out);
}

int main(int argc, char **argv) {
    ei_cnode ec;
    struct bytes in = {0};
    struct bytes out = {0};
    int fd = argc == 2 ? node_accept(&ec, argv[1]) : -1;
    while (fd >= 0 && turn(fd, &in, &out)) {
    }
    free(in.data);
    free(out.data);
    return 0;
}
