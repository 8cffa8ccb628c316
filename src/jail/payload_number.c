/* Numbers and bytes in a term that a worker emits: see walk.h. */
#include "jail/walk.h"

enum { MAX_BIG = 65535 * 8 /* bytes of an integer since OTP 26 */ };

bool jail_take_small_integer(struct jail_walk *w) {
    if (!jail_need(w, 2)) {
        return false;
    }
    if (w->hashing) {
        jail_absorb_integer(w, false, w->in.data[1]);
    }
    jail_skip(w, 2);
    return true;
}

bool jail_take_integer(struct jail_walk *w) {
    if (!jail_need(w, 5)) {
        return false;
    }
    int64_t value = (int32_t)ext_u32(w->in.data + 1);
    if (w->hashing) {
        jail_absorb_integer(w, value < 0, (uint64_t)(value < 0 ? -value : value));
    }
    jail_skip(w, 5);
    return true;
}

/* The same integer gives the same hash, with whatever zeros it is written. */
static void absorb_big(struct jail_walk *w, bool negative, struct span bytes) {
    while (bytes.len > 0 && bytes.data[bytes.len - 1] == 0) {
        bytes.len--;
    }
    uint64_t low = 0;
    for (size_t i = bytes.len < 8 ? bytes.len : 8; i > 0; i--) {
        low = low << 8 | bytes.data[i - 1];
    }
    jail_absorb_integer(w, negative && bytes.len > 0, low);
    if (bytes.len > 8) {
        w->hash = jail_mix_bytes(w->hash, span_of(bytes.data + 8, bytes.len - 8));
    }
}

bool jail_take_big(struct jail_walk *w) {
    size_t head = w->in.data[0] == EXT_SMALL_BIG ? 3 : 6; /* with the sign */
    if (!jail_need(w, head)) {
        return false;
    }
    uint32_t len = head == 3 ? w->in.data[1] : ext_u32(w->in.data + 1);
    uint8_t sign = w->in.data[head - 1];
    if (len > MAX_BIG || sign > 1) {
        return jail_refuse(w,
                           sign > 1 ? "an integer without a sign" : "an integer of too many bytes");
    }
    if (!jail_need(w, head + (uint64_t)len)) {
        return false;
    }
    if (w->hashing) {
        absorb_big(w, sign == 1, span_of(w->in.data + head, len));
    }
    jail_skip(w, head + len);
    return true;
}

/* 0.0 and -0.0 are equal keys before OTP 27. */
bool jail_take_float(struct jail_walk *w) {
    static const uint64_t EXPONENT = 0x7FF0000000000000U;
    if (!jail_need(w, 9)) {
        return false;
    }
    uint64_t bits = ext_u64(w->in.data + 1);
    if ((bits & EXPONENT) == EXPONENT) {
        return jail_refuse(w, "a float that is no number");
    }
    if (w->hashing) {
        jail_absorb(w, JAIL_TOKEN_FLOAT);
        jail_absorb(w, bits << 1 == 0 ? 0 : bits);
    }
    jail_skip(w, 9);
    return true;
}

static void absorb_bits(struct jail_walk *w, struct span bytes, unsigned last_bits) {
    jail_absorb(w, JAIL_TOKEN_BITS);
    jail_absorb(w, last_bits);
    if (last_bits == 8) {
        w->hash = jail_mix_bytes(w->hash, bytes);
        return;
    }
    w->hash = jail_mix_bytes(w->hash, span_of(bytes.data, bytes.len - 1));
    jail_absorb(w, bytes.data[bytes.len - 1] >> (8 - last_bits));
}

bool jail_take_binary(struct jail_walk *w) {
    bool bits = w->in.data[0] == EXT_BIT_BINARY;
    size_t head = bits ? 6 : 5;
    if (!jail_need(w, head)) {
        return false;
    }
    uint32_t len = ext_u32(w->in.data + 1);
    unsigned last_bits = bits ? w->in.data[5] : 8;
    if (last_bits < 1 || last_bits > 8 || (bits && len == 0)) {
        return jail_refuse(w, "bits of no such number");
    }
    if (!jail_need(w, head + (uint64_t)len)) {
        return false;
    }
    if (w->hashing) {
        absorb_bits(w, span_of(w->in.data + head, len), last_bits);
    }
    jail_skip(w, head + len);
    return true;
}
