/* The check of terms that a worker emits: see payload.h. Here are the walk, maps, lists and
 * tuples; terms without such parts are in payload_*.c. */
#include "jail/payload.h"

#include <stdlib.h>

#include "jail/walk.h"

enum {
    MAX_ARITY = (1 << 24) - 1, /* of a tuple */
    FEW_KEYS = 12,             /* so many are compared each with each, for more there is a table */
    FIRST_CAP = 64,            /* of the table; a power of two */
};

bool jail_refuse(struct jail_walk *w, const char *what) {
    return err_set(w->err, "byte %zu of a term: %s", (size_t)(w->in.data - w->start), what);
}

/* {==== Frames ============================================================================= */

bool jail_push_frame(struct jail_walk *w, enum jail_frame_kind kind, uint64_t pending) {
    struct jail_frame frame = {.pending = w->pending,
                               .hash = w->hash,
                               .first = w->hashes.len / sizeof w->hash,
                               .kind = (uint8_t)kind,
                               .hashing = w->hashing};
    w->pending = pending;
    return buf_append(&w->frames, &frame, sizeof frame) || jail_refuse(w, "no memory");
}

void jail_pop_frame(struct jail_walk *w) {
    w->pending = jail_top_frame(w)->pending;
    w->hashing = jail_top_frame(w)->hashing;
    w->frames.len -= sizeof(struct jail_frame);
}

/* }==== */

/* {==== Maps ============================================================================== */

static bool few_differ(const uint64_t *hashes, size_t count) {
    for (size_t i = 1; i < count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (hashes[i] == hashes[j]) {
                return false;
            }
        }
    }
    return true;
}

/* Puts the hash into a table with open addressing, where 0 is a free place. False: it is there. */
static bool insert(uint64_t *table, size_t mask, uint64_t hash) {
    size_t at = (size_t)hash & mask;
    while (table[at] != 0) {
        if (table[at] == hash) {
            return false;
        }
        at = (at + 1) & mask;
    }
    table[at] = hash;
    return true;
}

static bool many_differ(struct jail_walk *w, const uint64_t *hashes, size_t count) {
    size_t cap = FIRST_CAP;
    while (cap < 2 * count) {
        cap *= 2;
    }
    uint64_t *table = calloc(cap, sizeof *table);
    if (table == NULL) {
        return jail_refuse(w, "no memory");
    }
    bool differ = true;
    for (size_t i = 0; i < count && differ; i++) {
        differ = insert(table, cap - 1, hashes[i] == 0 ? 1 : hashes[i]);
    }
    free(table);
    return differ || jail_refuse(w, "a map with equal keys ends here");
}

static bool keys_differ(struct jail_walk *w, size_t first) {
    const uint64_t *hashes = (const uint64_t *)(const void *)w->hashes.data + first;
    size_t count = w->hashes.len / sizeof *hashes - first;
    if (count > FEW_KEYS) {
        return many_differ(w, hashes, count);
    }
    return few_differ(hashes, count) || jail_refuse(w, "a map with equal keys ends here");
}

static void begin_key(struct jail_walk *w) {
    w->hashing = true;
    w->hash = w->seed;
    w->pending = 1;
}

static bool end_key(struct jail_walk *w) {
    struct jail_frame *map = jail_top_frame(w);
    bool ok = buf_append(&w->hashes, &w->hash, sizeof w->hash);
    map->second = true;
    w->hashing = map->hashing; /* its value counts where the map is in a key itself */
    w->pending = 1;
    return ok || jail_refuse(w, "no memory");
}

static bool end_pair(struct jail_walk *w) {
    struct jail_frame *map = jail_top_frame(w);
    map->sum += jail_mix(w->hash, JAIL_TOKEN_MAP);
    map->second = false;
    map->left--;
    if (map->left > 0) {
        begin_key(w);
        return true;
    }
    if (!keys_differ(w, map->first)) {
        return false;
    }
    w->hashes.len = map->first * sizeof w->hash;
    w->hash = jail_mix(jail_mix(map->hash, JAIL_TOKEN_MAP), map->sum);
    jail_pop_frame(w);
    return true;
}

static bool take_map(struct jail_walk *w) {
    if (!jail_need(w, 5)) {
        return false;
    }
    uint32_t pairs = ext_u32(w->in.data + 1);
    jail_skip(w, 5);
    if (!jail_owe(w, 2 * (uint64_t)pairs)) {
        return false;
    }
    if (!w->check || (!w->hashing && pairs < 2)) {
        w->pending += 2 * (uint64_t)pairs;
        return true;
    }
    if (pairs == 0) {
        jail_absorb(w, JAIL_TOKEN_MAP);
        return true;
    }
    if (!jail_push_frame(w, JAIL_FRAME_MAP, 1)) {
        return false;
    }
    jail_top_frame(w)->left = pairs;
    begin_key(w);
    return true;
}

/* }==== */

/* {==== Lists and tuples =================================================================== */

/* Elements that most lists of integers have. */
static void skip_small_integers(struct jail_walk *w, uint64_t *count) {
    const uint8_t *p = w->in.data;
    const uint8_t *end = p + w->in.len;
    uint64_t left = *count;
    while (left > 0 && end - p >= 5) {
        if (p[0] == EXT_SMALL_INTEGER) {
            p += 2;
        } else if (p[0] == EXT_INTEGER) {
            p += 5;
        } else {
            break;
        }
        left--;
    }
    w->owed -= *count - left;
    w->in = span_of(p, (size_t)(end - p));
    *count = left;
}

static bool take_elements(struct jail_walk *w, uint64_t count) {
    if (!jail_owe(w, count)) {
        return false;
    }
    if (!w->hashing) {
        skip_small_integers(w, &count);
    }
    w->pending += count;
    return true;
}

static bool take_list(struct jail_walk *w, bool tail) {
    if (!jail_need(w, 5)) {
        return false;
    }
    uint32_t count = ext_u32(w->in.data + 1);
    if (count == 0) {
        return jail_refuse(w, "a list without elements");
    }
    jail_skip(w, 5);
    if (!w->hashing) {
        w->owed++;
        w->pending++;
        return take_elements(w, count);
    }
    if (!tail) {
        jail_absorb(w, JAIL_TOKEN_OPEN);
    }
    return jail_owe(w, (uint64_t)count + 1) && jail_push_frame(w, JAIL_FRAME_LIST, count);
}

/* The elements of a list in a key are over, or its tail is. */
static void end_list_part(struct jail_walk *w) {
    if (jail_top_frame(w)->second) {
        jail_pop_frame(w);
    } else {
        jail_top_frame(w)->second = true;
        w->tail = true;
        w->pending = 1;
    }
}

static bool take_nil(struct jail_walk *w, bool tail) {
    jail_skip(w, 1);
    if (w->hashing) {
        if (!tail) {
            jail_absorb(w, JAIL_TOKEN_OPEN);
        }
        jail_absorb(w, JAIL_TOKEN_NIL);
    }
    return true;
}

static bool take_string(struct jail_walk *w, bool tail) {
    if (!jail_need(w, 3) || !jail_need(w, 3 + (uint64_t)ext_u16(w->in.data + 1))) {
        return false;
    }
    size_t len = ext_u16(w->in.data + 1);
    if (w->hashing) {
        if (!tail) {
            jail_absorb(w, JAIL_TOKEN_OPEN);
        }
        for (size_t i = 0; i < len; i++) {
            jail_absorb_integer(w, false, w->in.data[3 + i]);
        }
        jail_absorb(w, JAIL_TOKEN_NIL);
    }
    jail_skip(w, 3 + len);
    return true;
}

static bool take_tuple(struct jail_walk *w) {
    size_t head = w->in.data[0] == EXT_SMALL_TUPLE ? 2 : 5;
    if (!jail_need(w, head)) {
        return false;
    }
    uint32_t arity = head == 2 ? w->in.data[1] : ext_u32(w->in.data + 1);
    if (arity > MAX_ARITY) {
        return jail_refuse(w, "a tuple with too many elements");
    }
    jail_skip(w, head);
    if (w->hashing) {
        jail_absorb(w, JAIL_TOKEN_TUPLE);
        jail_absorb(w, arity);
    }
    return take_elements(w, arity);
}

/* }==== */

/* {==== The walk =========================================================================== */

static bool take_other(struct jail_walk *w) {
    switch (w->in.data[0]) {
    case EXT_SMALL_TUPLE:
    case EXT_LARGE_TUPLE:
        return take_tuple(w);
    case EXT_MAP:
        return take_map(w);
    case EXT_SMALL_ATOM_UTF8:
    case EXT_ATOM_UTF8:
        return jail_take_plain_atom(w);
    case EXT_SMALL_INTEGER:
        return jail_take_small_integer(w);
    case EXT_INTEGER:
        return jail_take_integer(w);
    case EXT_SMALL_BIG:
    case EXT_LARGE_BIG:
        return jail_take_big(w);
    case EXT_NEW_FLOAT:
        return jail_take_float(w);
    case EXT_BINARY:
    case EXT_BIT_BINARY:
        return jail_take_binary(w);
    case EXT_NEW_PID:
        return jail_take_pid(w);
    case EXT_NEW_PORT:
    case EXT_V4_PORT:
        return jail_take_port(w);
    case EXT_NEWER_REFERENCE:
        return jail_take_reference(w);
    case EXT_EXPORT:
        return jail_take_export(w);
    case EXT_NEW_FUN:
        return jail_take_fun(w);
    default:
        return jail_refuse(w, "a tag that is not allowed");
    }
}

/* One term, or the head of one that has parts. */
static bool take_one(struct jail_walk *w) {
    bool tail = w->tail;
    w->tail = false;
    w->owed--;
    w->pending--;
    if (!jail_need(w, 1)) {
        return false;
    }
    switch (w->in.data[0]) {
    case EXT_NIL:
        return take_nil(w, tail);
    case EXT_LIST:
        return take_list(w, tail);
    case EXT_STRING:
        return take_string(w, tail);
    default:
        if (tail) {
            jail_absorb(w, JAIL_TOKEN_TAIL);
        }
        return take_other(w);
    }
}

/* All terms of the innermost frame's part are taken. */
static bool end_part(struct jail_walk *w) {
    switch (jail_top_frame(w)->kind) {
    case JAIL_FRAME_MAP:
        return jail_top_frame(w)->second ? end_pair(w) : end_key(w);
    case JAIL_FRAME_LIST:
        end_list_part(w);
        return true;
    default:
        return jail_end_fun(w);
    }
}

static bool walk(struct jail_walk *w) {
    w->owed = w->pending = 1;
    for (;;) {
        while (w->pending > 0) {
            if (!take_one(w)) {
                return false;
            }
        }
        if (w->frames.len == 0) {
            return w->in.len == 0 || jail_refuse(w, "something follows the term");
        }
        if (!end_part(w)) {
            return false;
        }
    }
}

static bool run(struct jail_walk *w, struct span term, const struct jail_given *given) {
    w->given = given;
    w->start = term.data;
    w->in = term;
    w->seed = jail_ids_seed(given->ids);
    bool ok = walk(w);
    buf_finish(&w->frames);
    buf_finish(&w->hashes);
    return ok;
}

bool jail_payload_check(struct span term, const struct jail_given *given, uint32_t most,
                        uint32_t *fresh, struct err *err) {
    struct jail_walk w = {.check = true, .most = most, .fresh = *fresh, .err = err};
    bool ok = run(&w, term, given);
    *fresh = w.fresh;
    return ok;
}

bool jail_payload_note(struct span term, const struct jail_given *given) {
    struct err err;
    struct jail_walk w = {.err = &err};
    return run(&w, term, given);
}

/* }==== */
