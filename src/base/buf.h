/* A growing byte buffer, and a span: bytes that somebody else owns. */
#ifndef LUNODE_BASE_BUF_H
#define LUNODE_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
    const uint8_t *data;
    size_t len;
};

static inline struct span span_of(const void *data, size_t len) {
    return (struct span){(const uint8_t *)data, len};
}

static inline struct span span_str(const char *text) {
    return span_of(text, strlen(text));
}

static inline bool span_equal(struct span a, struct span b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* Copies the bytes to *at, which moves behind them, and gives them where they are now. */
static inline struct span span_keep(uint8_t **at, struct span span) {
    if (span.len > 0) {
        memcpy(*at, span.data, span.len);
    }
    *at += span.len;
    return span_of(*at - span.len, span.len);
}

struct buf {
    uint8_t *data;
    size_t len;
    size_t cap;
};

void buf_init(struct buf *buf);
void buf_finish(struct buf *buf);

/* For buf_reserve, when there is no room. */
bool buf_grow(struct buf *buf, size_t more);

/* Makes room for `more` bytes behind len; what grows becomes twice as large at least. False when
 * there is no memory; the buffer is then as it was. */
static inline bool buf_reserve(struct buf *buf, size_t more) {
    return more <= buf->cap - buf->len || buf_grow(buf, more);
}

/* Appends a copy. False when there is no memory. */
static inline bool buf_append(struct buf *buf, const void *data, size_t len) {
    if (!buf_reserve(buf, len)) {
        return false;
    }
    if (len > 0) {
        memcpy(buf->data + buf->len, data, len);
    }
    buf->len += len;
    return true;
}

/* Drops the first `len` bytes. */
void buf_consume(struct buf *buf, size_t len);

/* Gives memory back when the buffer is empty and larger than `keep` bytes. */
void buf_relax(struct buf *buf, size_t keep);

static inline struct span buf_span(const struct buf *buf) {
    return span_of(buf->data, buf->len);
}

#endif
