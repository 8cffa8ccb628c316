/* Equal keys of a map, which would make a BEAM drop the connection.
 *
 * Lua keeps simple keys apart by itself. Keys that are tables or userdata may be equal though they
 * are different objects: their bytes are compared. So that equal keys have equal bytes, maps inside
 * a key are written with their entries in the order of their bytes. */
#include <stdlib.h>

#include "term/encode.h"

enum { HEAD = 5 };

bool term_encode_note_key(struct encoder *e, const struct frame *frame, bool complex) {
    struct encode_memory *memory = e->memory;
    if (!complex && e->in_key == 0) {
        return true;
    }
    if (e->ranges_len == memory->ranges_cap && !term_encode_grow_ranges(e->L, memory)) {
        return false;
    }
    memory->ranges[e->ranges_len++] =
        (struct range){.start = frame->key_start, .key_len = e->out->len - frame->key_start};
    return true;
}

static int compare(const void *a, const void *b) {
    const struct range *left = a;
    const struct range *right = b;
    size_t shorter = left->key_len < right->key_len ? left->key_len : right->key_len;
    int order = memcmp(left->bytes, right->bytes, shorter);
    if (order != 0) {
        return order;
    }
    return (left->key_len > right->key_len) - (left->key_len < right->key_len);
}

/* Fails with the key of a range in words. [-0, +0, -] */
static bool fail_equal(struct encoder *e, const struct range *range) {
    char text[128];
    term_inspect_ext(span_of(range->bytes, range->key_len), text, sizeof text);
    return term_encode_fail(e, e->depth - 1, "the map has two equal keys: %s", text);
}

/* Writes the map's entries anew, in the order of the ranges. */
static bool put_in_order(struct encoder *e, const struct range *ranges, size_t count) {
    size_t first = e->memory->frames[e->depth - 1].start + HEAD;
    size_t len = e->out->len - first;
    uint8_t *copy = malloc(len);
    if (copy == NULL) {
        return term_encode_fail(e, e->depth - 1, "no memory");
    }
    memcpy(copy, e->out->data + first, len);
    uint8_t *p = e->out->data + first;
    for (size_t i = 0; i < count; i++) {
        memcpy(p, copy + (ranges[i].start - first), ranges[i].entry_len);
        p += ranges[i].entry_len;
    }
    free(copy);
    return true;
}

bool term_encode_check_keys(struct encoder *e, const struct frame *frame) {
    size_t count = e->ranges_len - frame->first_range;
    if (count < 2) {
        e->ranges_len = frame->first_range;
        return true;
    }
    struct range *ranges = e->memory->ranges + frame->first_range;
    for (size_t i = 0; i < count; i++) {
        size_t end = i + 1 < count ? ranges[i + 1].start : e->out->len;
        ranges[i].entry_len = end - ranges[i].start;
        ranges[i].bytes = e->out->data + ranges[i].start;
    }
    qsort(ranges, count, sizeof *ranges, compare);
    for (size_t i = 1; i < count; i++) {
        if (compare(&ranges[i - 1], &ranges[i]) == 0) {
            return fail_equal(e, &ranges[i]);
        }
    }
    e->ranges_len = frame->first_range;
    return e->in_key == 0 || put_in_order(e, ranges, count);
}
