/* The walk through a term that a worker emits or is given: what the files payload*.c share, grouped
 * by the file that defines it.
 *
 * A map with two equal keys is one of the terms that a BEAM can't decode. So while the walk is in a
 * key it computes a hash such that equal terms have equal hashes, however they are written, and at
 * a map's end no two of its keys may have the same. Different keys that happen to have the same
 * hash are refused too: nobody can bring that about but the worker itself. */
#ifndef LUNODE_JAIL_WALK_H
#define LUNODE_JAIL_WALK_H

#include "base/ext.h"
#include "jail/payload.h"

enum jail_frame_kind { JAIL_FRAME_MAP, JAIL_FRAME_LIST, JAIL_FRAME_FUN };

/* A term whose end matters: a map, a fun, a list inside a key. */
struct jail_frame {
    uint64_t pending; /* the walk's, around this term */
    uint64_t hash;
    uint64_t sum;       /* of the pairs' hashes: their order does not count */
    size_t first;       /* the first of its keys' hashes */
    const uint8_t *end; /* of a fun */
    uint32_t left;      /* pairs of a map that are not over */
    uint8_t kind;
    bool hashing;
    bool second; /* in the value of a pair, in the tail of a list */
};

struct jail_walk {
    const struct jail_given *given;
    const uint8_t *start;
    struct span in;   /* what is not looked at yet */
    uint64_t owed;    /* terms that must follow, in all frames */
    uint64_t pending; /* those before the part of the innermost frame ends */
    struct buf frames;
    struct buf hashes; /* of the keys of open maps */
    uint64_t seed;
    uint64_t hash;
    bool hashing; /* inside a key */
    bool tail;    /* the next term is a list's tail */
    bool check;   /* else: note */
    uint32_t most;
    uint32_t fresh;
    struct err *err;
};

/* {==== payload.c: the walk, and terms made of terms ========================================== */

/* Sets the error, with the place. False. */
bool jail_refuse(struct jail_walk *w, const char *what);

/* A term has begun whose first part are the next `pending` terms. */
bool jail_push_frame(struct jail_walk *w, enum jail_frame_kind kind, uint64_t pending);
void jail_pop_frame(struct jail_walk *w);

static inline struct jail_frame *jail_top_frame(struct jail_walk *w) {
    return (struct jail_frame *)(void *)(w->frames.data + w->frames.len) - 1;
}

/* Terms follow that are part of this one. */
static inline bool jail_owe(struct jail_walk *w, uint64_t terms) {
    w->owed += terms;
    return w->owed <= w->in.len || jail_refuse(w, "it promises more than follows");
}

static inline void jail_skip(struct jail_walk *w, size_t len) {
    w->in = span_of(w->in.data + len, w->in.len - len);
}

static inline bool jail_need(struct jail_walk *w, uint64_t len) {
    return w->in.len >= len || jail_refuse(w, "it is cut off");
}

/* }==== */

/* {==== payload_number.c: numbers and bytes ================================================ */

bool jail_take_small_integer(struct jail_walk *w);
bool jail_take_integer(struct jail_walk *w);
bool jail_take_big(struct jail_walk *w);
bool jail_take_float(struct jail_walk *w);
bool jail_take_binary(struct jail_walk *w);

/* }==== */

/* {==== payload_name.c: atoms, identifiers and funs ======================================== */

bool jail_take_plain_atom(struct jail_walk *w);
bool jail_take_pid(struct jail_walk *w);
bool jail_take_port(struct jail_walk *w);
bool jail_take_reference(struct jail_walk *w);
bool jail_take_export(struct jail_walk *w);
bool jail_take_fun(struct jail_walk *w);

/* All variables of the innermost fun are taken. */
bool jail_end_fun(struct jail_walk *w);

/* }==== */

/* {==== Hashes ============================================================================= */

/* What goes into a hash besides values, so that different terms seldom have the same one. */
enum jail_token {
    JAIL_TOKEN_INTEGER = 1,
    JAIL_TOKEN_NEGATIVE,
    JAIL_TOKEN_FLOAT,
    JAIL_TOKEN_ATOM,
    JAIL_TOKEN_BITS,
    JAIL_TOKEN_OPEN, /* a list that is no other's tail */
    JAIL_TOKEN_NIL,
    JAIL_TOKEN_TAIL, /* of an improper list */
    JAIL_TOKEN_TUPLE,
    JAIL_TOKEN_MAP,
    JAIL_TOKEN_PID,
    JAIL_TOKEN_PORT,
    JAIL_TOKEN_REFERENCE,
    JAIL_TOKEN_FUN,
    JAIL_TOKEN_EXPORT,
};

static inline uint64_t jail_mix(uint64_t hash, uint64_t value) {
    hash = (hash ^ value) * 0x9E3779B97F4A7C15U;
    hash = (hash ^ hash >> 32) * 0xD6E8FEB86659FD93U;
    return hash ^ hash >> 29;
}

static inline void jail_absorb(struct jail_walk *w, uint64_t value) {
    w->hash = jail_mix(w->hash, value);
}

static inline uint64_t jail_mix_bytes(uint64_t hash, struct span bytes) {
    hash = jail_mix(hash, bytes.len);
    for (; bytes.len >= 8; bytes = span_of(bytes.data + 8, bytes.len - 8)) {
        hash = jail_mix(hash, ext_u64(bytes.data));
    }
    uint64_t rest = 0;
    for (size_t i = 0; i < bytes.len; i++) {
        rest = rest << 8 | bytes.data[i];
    }
    return jail_mix(hash, rest);
}

static inline void jail_absorb_integer(struct jail_walk *w, bool negative, uint64_t magnitude) {
    jail_absorb(w, negative ? JAIL_TOKEN_NEGATIVE : JAIL_TOKEN_INTEGER);
    jail_absorb(w, magnitude);
}

/* }==== */

#endif
