/* The growing byte buffer: see buf.h. */
#include "base/buf.h"

#include <stdlib.h>

enum { FIRST_SIZE = 256 };

void buf_init(struct buf *buf) {
    *buf = (struct buf){0};
}

void buf_finish(struct buf *buf) {
    free(buf->data);
    buf_init(buf);
}

bool buf_grow(struct buf *buf, size_t more) {
    if (more > SIZE_MAX / 2 - buf->len) {
        return false;
    }
    size_t need = buf->len + more;
    size_t cap = buf->cap < FIRST_SIZE / 2 ? FIRST_SIZE : 2 * buf->cap;
    cap = cap < need ? need : cap;
    uint8_t *data = realloc(buf->data, cap);
    if (data == NULL) {
        return false;
    }
    buf->data = data;
    buf->cap = cap;
    return true;
}

void buf_consume(struct buf *buf, size_t len) {
    if (len == 0) {
        return;
    }
    memmove(buf->data, buf->data + len, buf->len - len);
    buf->len -= len;
}

void buf_relax(struct buf *buf, size_t keep) {
    if (buf->len == 0 && buf->cap > keep) {
        buf_finish(buf);
    }
}
