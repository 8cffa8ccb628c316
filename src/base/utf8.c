/* UTF-8 as Erlang accepts it. */
#include "base/utf8.h"

/* The bytes of the character that begins with `first`; 0: none does. `least` is the smallest
 * character that needs so many. */
static size_t length_of(uint8_t first, uint32_t *least) {
    if (first < 0x80) {
        *least = 0;
        return 1;
    }
    if (first >= 0xC2 && first < 0xE0) {
        *least = 0x80;
        return 2;
    }
    if (first >= 0xE0 && first < 0xF0) {
        *least = 0x800;
        return 3;
    }
    *least = 0x10000;
    return first >= 0xF0 && first < 0xF5 ? 4 : 0;
}

bool utf8_next(struct span *in, uint32_t *character) {
    uint32_t least;
    size_t len = in->len == 0 ? 0 : length_of(in->data[0], &least);
    if (len == 0 || len > in->len) {
        return false;
    }
    uint32_t value = len == 1 ? in->data[0] : in->data[0] & (0x7FU >> len);
    for (size_t i = 1; i < len; i++) {
        if ((in->data[i] & 0xC0) != 0x80) {
            return false;
        }
        value = value << 6 | (in->data[i] & 0x3F);
    }
    if (value < least || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) {
        return false;
    }
    *character = value;
    *in = span_of(in->data + len, in->len - len);
    return true;
}

struct span utf8_cut(struct span text, size_t max) {
    size_t len = max;
    if (text.len <= max) {
        return text;
    }
    while (len > 0 && max - len < 3 && (text.data[len] & 0xC0) == 0x80) {
        len--;
    }
    return span_of(text.data, len);
}
