/* The check of terms that a worker emits: see payload.h.
 *
 * A map with two equal keys is one of the terms that a BEAM can't decode. So while the walk is in a
 * key it computes a hash such that equal terms have equal hashes, however they are written, and at
 * a map's end no two of its keys may have the same. Different keys that happen to have the same
 * hash are refused too: nobody can bring that about but the worker itself. */
#include "jail/payload.h"

#include <stdlib.h>

#include "base/ext.h"

enum {
    MAX_ARITY = (1 << 24) - 1, /* of a tuple */
    MAX_BIG = 65535 * 8,       /* bytes of an integer since OTP 26 */
    MAX_SMALL = (1 << 27) - 1, /* integer of a fun */
    MAX_FREE = 255,            /* variables of a fun */
    MAX_WORDS = 5,             /* of a reference */
    SAFE_WORDS = 3,            /* ... that every version may have given out */
    SAFE_WORD = 1 << 18,       /* its first word is below */
    SAFE_PID = 1 << 15,        /* a pid's number is below */
    SAFE_SERIAL = 1 << 13,     /* its serial number */
    SAFE_PORT = 1 << 28,       /* a port's number */
    FUN_HEAD = 1 + 4 + 1 + 16 + 4 + 4,
    FEW_KEYS = 12,  /* so many are compared each with each, for more there is a table */
    FIRST_CAP = 64, /* of the table; a power of two */
};

/* What goes into a hash besides values, so that different terms seldom have the same one. */
enum token {
    TOKEN_INTEGER = 1,
    TOKEN_NEGATIVE,
    TOKEN_FLOAT,
    TOKEN_ATOM,
    TOKEN_BITS,
    TOKEN_OPEN, /* a list that is no other's tail */
    TOKEN_NIL,
    TOKEN_TAIL, /* of an improper list */
    TOKEN_TUPLE,
    TOKEN_MAP,
    TOKEN_PID,
    TOKEN_PORT,
    TOKEN_REFERENCE,
    TOKEN_FUN,
    TOKEN_EXPORT,
};

enum frame_kind { FRAME_MAP, FRAME_LIST, FRAME_FUN };

/* A term whose end matters: a map, a fun, a list inside a key. */
struct frame {
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

struct walk {
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

static bool refuse(struct walk *w, const char *what) {
    return err_set(w->err, "byte %zu of a term: %s", (size_t)(w->in.data - w->start), what);
}

static void skip(struct walk *w, size_t len) {
    w->in = span_of(w->in.data + len, w->in.len - len);
}

static bool need(struct walk *w, uint64_t len) {
    return w->in.len >= len || refuse(w, "it is cut off");
}

/* {==== Hashes ============================================================================ */

static uint64_t mix(uint64_t hash, uint64_t value) {
    hash = (hash ^ value) * 0x9E3779B97F4A7C15U;
    hash = (hash ^ hash >> 32) * 0xD6E8FEB86659FD93U;
    return hash ^ hash >> 29;
}

static void absorb(struct walk *w, uint64_t value) {
    w->hash = mix(w->hash, value);
}

static uint64_t mix_bytes(uint64_t hash, struct span bytes) {
    hash = mix(hash, bytes.len);
    for (; bytes.len >= 8; bytes = span_of(bytes.data + 8, bytes.len - 8)) {
        hash = mix(hash, ext_u64(bytes.data));
    }
    uint64_t rest = 0;
    for (size_t i = 0; i < bytes.len; i++) {
        rest = rest << 8 | bytes.data[i];
    }
    return mix(hash, rest);
}

/* }==== */

/* {==== What the worker knows ============================================================= */

/* One more that no BEAM has to know yet. */
static bool count_fresh(struct walk *w) {
    w->fresh++;
    return !w->check || w->fresh <= w->most || refuse(w, "too many new atoms and funs");
}

/* Takes an atom off, and gives its number. */
static bool take_atom(struct walk *w, uint32_t *number) {
    struct span name;
    struct span rest = w->in;
    bool latin1;
    if (!ext_take_atom(&rest, &name, &latin1) || latin1) {
        return refuse(w, "no atom in UTF-8");
    }
    *number = term_atom_find(w->given->atoms, name);
    if (*number == 0) {
        struct err err;
        if (!count_fresh(w)) {
            return false;
        }
        if (!term_atom_intern(w->given->atoms, name, number, &err)) {
            return refuse(w, err.text);
        }
    }
    w->in = rest;
    return true;
}

static bool note_id(struct walk *w, uint64_t hash) {
    return jail_ids_add(w->given->ids, hash) || refuse(w, "no memory");
}

/* A fun, whose entry a BEAM would have to make. */
static bool pass_fun(struct walk *w, struct span identity) {
    uint64_t hash = mix_bytes(mix(w->seed, TOKEN_FUN), identity);
    if (jail_ids_has(w->given->ids, hash)) {
        return true;
    }
    return count_fresh(w) && note_id(w, hash);
}

/* An identifier of a node, all of whose bytes are `id`. */
static bool pass_id(struct walk *w, struct span id, bool safe) {
    if (safe || span_equal(ext_node_of(id), w->given->self)) {
        return true;
    }
    uint64_t hash = mix_bytes(mix(w->seed, TOKEN_PID), id);
    if (!w->check) {
        return note_id(w, hash);
    }
    return jail_ids_has(w->given->ids, hash) ||
           refuse(w, "an identifier that this worker has not been given");
}

/* }==== */

/* {==== Frames ============================================================================ */

static struct frame *top(struct walk *w) {
    return (struct frame *)(void *)(w->frames.data + w->frames.len) - 1;
}

static bool push(struct walk *w, enum frame_kind kind, uint64_t pending) {
    struct frame frame = {.pending = w->pending,
                          .hash = w->hash,
                          .first = w->hashes.len / sizeof w->hash,
                          .kind = (uint8_t)kind,
                          .hashing = w->hashing};
    w->pending = pending;
    return buf_append(&w->frames, &frame, sizeof frame) || refuse(w, "no memory");
}

static void pop(struct walk *w) {
    w->pending = top(w)->pending;
    w->hashing = top(w)->hashing;
    w->frames.len -= sizeof(struct frame);
}

/* Terms follow that are part of this one. */
static bool owe(struct walk *w, uint64_t terms) {
    w->owed += terms;
    return w->owed <= w->in.len || refuse(w, "it promises more than follows");
}

/* }==== */

/* {==== Keys of maps ====================================================================== */

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

static bool many_differ(struct walk *w, const uint64_t *hashes, size_t count) {
    size_t cap = FIRST_CAP;
    while (cap < 2 * count) {
        cap *= 2;
    }
    uint64_t *table = calloc(cap, sizeof *table);
    if (table == NULL) {
        return refuse(w, "no memory");
    }
    bool differ = true;
    for (size_t i = 0; i < count && differ; i++) {
        differ = insert(table, cap - 1, hashes[i] == 0 ? 1 : hashes[i]);
    }
    free(table);
    return differ || refuse(w, "a map with equal keys ends here");
}

static bool keys_differ(struct walk *w, size_t first) {
    const uint64_t *hashes = (const uint64_t *)(const void *)w->hashes.data + first;
    size_t count = w->hashes.len / sizeof *hashes - first;
    if (count > FEW_KEYS) {
        return many_differ(w, hashes, count);
    }
    return few_differ(hashes, count) || refuse(w, "a map with equal keys ends here");
}

static void begin_key(struct walk *w) {
    w->hashing = true;
    w->hash = w->seed;
    w->pending = 1;
}

static bool end_key(struct walk *w) {
    struct frame *map = top(w);
    bool ok = buf_append(&w->hashes, &w->hash, sizeof w->hash);
    map->second = true;
    w->hashing = map->hashing; /* its value counts where the map is in a key itself */
    w->pending = 1;
    return ok || refuse(w, "no memory");
}

static bool end_pair(struct walk *w) {
    struct frame *map = top(w);
    map->sum += mix(w->hash, TOKEN_MAP);
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
    w->hash = mix(mix(map->hash, TOKEN_MAP), map->sum);
    pop(w);
    return true;
}

static bool take_map(struct walk *w) {
    if (!need(w, 5)) {
        return false;
    }
    uint32_t pairs = ext_u32(w->in.data + 1);
    skip(w, 5);
    if (!owe(w, 2 * (uint64_t)pairs)) {
        return false;
    }
    if (!w->check || (!w->hashing && pairs < 2)) {
        w->pending += 2 * (uint64_t)pairs;
        return true;
    }
    if (pairs == 0) {
        absorb(w, TOKEN_MAP);
        return true;
    }
    if (!push(w, FRAME_MAP, 1)) {
        return false;
    }
    top(w)->left = pairs;
    begin_key(w);
    return true;
}

/* }==== */

/* {==== Lists and tuples ================================================================== */

/* Elements that most lists of integers have. */
static void skip_small_integers(struct walk *w, uint64_t *count) {
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

static bool take_elements(struct walk *w, uint64_t count) {
    if (!owe(w, count)) {
        return false;
    }
    if (!w->hashing) {
        skip_small_integers(w, &count);
    }
    w->pending += count;
    return true;
}

static bool take_list(struct walk *w, bool tail) {
    if (!need(w, 5)) {
        return false;
    }
    uint32_t count = ext_u32(w->in.data + 1);
    if (count == 0) {
        return refuse(w, "a list without elements");
    }
    skip(w, 5);
    if (!w->hashing) {
        w->owed++;
        w->pending++;
        return take_elements(w, count);
    }
    if (!tail) {
        absorb(w, TOKEN_OPEN);
    }
    return owe(w, (uint64_t)count + 1) && push(w, FRAME_LIST, count);
}

/* The elements of a list in a key are over, or its tail is. */
static void end_list_part(struct walk *w) {
    if (top(w)->second) {
        pop(w);
    } else {
        top(w)->second = true;
        w->tail = true;
        w->pending = 1;
    }
}

static bool take_nil(struct walk *w, bool tail) {
    skip(w, 1);
    if (w->hashing) {
        if (!tail) {
            absorb(w, TOKEN_OPEN);
        }
        absorb(w, TOKEN_NIL);
    }
    return true;
}

static void absorb_integer(struct walk *w, bool negative, uint64_t magnitude) {
    absorb(w, negative ? TOKEN_NEGATIVE : TOKEN_INTEGER);
    absorb(w, magnitude);
}

static bool take_string(struct walk *w, bool tail) {
    if (!need(w, 3) || !need(w, 3 + (uint64_t)ext_u16(w->in.data + 1))) {
        return false;
    }
    size_t len = ext_u16(w->in.data + 1);
    if (w->hashing) {
        if (!tail) {
            absorb(w, TOKEN_OPEN);
        }
        for (size_t i = 0; i < len; i++) {
            absorb_integer(w, false, w->in.data[3 + i]);
        }
        absorb(w, TOKEN_NIL);
    }
    skip(w, 3 + len);
    return true;
}

static bool take_tuple(struct walk *w) {
    size_t head = w->in.data[0] == EXT_SMALL_TUPLE ? 2 : 5;
    if (!need(w, head)) {
        return false;
    }
    uint32_t arity = head == 2 ? w->in.data[1] : ext_u32(w->in.data + 1);
    if (arity > MAX_ARITY) {
        return refuse(w, "a tuple with too many elements");
    }
    skip(w, head);
    if (w->hashing) {
        absorb(w, TOKEN_TUPLE);
        absorb(w, arity);
    }
    return take_elements(w, arity);
}

/* }==== */

/* {==== Numbers and bytes ================================================================= */

static bool take_small_integer(struct walk *w) {
    if (!need(w, 2)) {
        return false;
    }
    if (w->hashing) {
        absorb_integer(w, false, w->in.data[1]);
    }
    skip(w, 2);
    return true;
}

static bool take_integer(struct walk *w) {
    if (!need(w, 5)) {
        return false;
    }
    int64_t value = (int32_t)ext_u32(w->in.data + 1);
    if (w->hashing) {
        absorb_integer(w, value < 0, (uint64_t)(value < 0 ? -value : value));
    }
    skip(w, 5);
    return true;
}

/* The same integer gives the same hash, with whatever zeros it is written. */
static void absorb_big(struct walk *w, bool negative, struct span bytes) {
    while (bytes.len > 0 && bytes.data[bytes.len - 1] == 0) {
        bytes.len--;
    }
    uint64_t low = 0;
    for (size_t i = bytes.len < 8 ? bytes.len : 8; i > 0; i--) {
        low = low << 8 | bytes.data[i - 1];
    }
    absorb_integer(w, negative && bytes.len > 0, low);
    if (bytes.len > 8) {
        w->hash = mix_bytes(w->hash, span_of(bytes.data + 8, bytes.len - 8));
    }
}

static bool take_big(struct walk *w) {
    size_t head = w->in.data[0] == EXT_SMALL_BIG ? 3 : 6; /* with the sign */
    if (!need(w, head)) {
        return false;
    }
    uint32_t len = head == 3 ? w->in.data[1] : ext_u32(w->in.data + 1);
    uint8_t sign = w->in.data[head - 1];
    if (len > MAX_BIG || sign > 1) {
        return refuse(w, sign > 1 ? "an integer without a sign" : "an integer of too many bytes");
    }
    if (!need(w, head + (uint64_t)len)) {
        return false;
    }
    if (w->hashing) {
        absorb_big(w, sign == 1, span_of(w->in.data + head, len));
    }
    skip(w, head + len);
    return true;
}

/* 0.0 and -0.0 are equal keys before OTP 27. */
static bool take_float(struct walk *w) {
    static const uint64_t EXPONENT = 0x7FF0000000000000U;
    if (!need(w, 9)) {
        return false;
    }
    uint64_t bits = ext_u64(w->in.data + 1);
    if ((bits & EXPONENT) == EXPONENT) {
        return refuse(w, "a float that is no number");
    }
    if (w->hashing) {
        absorb(w, TOKEN_FLOAT);
        absorb(w, bits << 1 == 0 ? 0 : bits);
    }
    skip(w, 9);
    return true;
}

static void absorb_bits(struct walk *w, struct span bytes, unsigned last_bits) {
    absorb(w, TOKEN_BITS);
    absorb(w, last_bits);
    if (last_bits == 8) {
        w->hash = mix_bytes(w->hash, bytes);
        return;
    }
    w->hash = mix_bytes(w->hash, span_of(bytes.data, bytes.len - 1));
    absorb(w, bytes.data[bytes.len - 1] >> (8 - last_bits));
}

static bool take_binary(struct walk *w) {
    bool bits = w->in.data[0] == EXT_BIT_BINARY;
    size_t head = bits ? 6 : 5;
    if (!need(w, head)) {
        return false;
    }
    uint32_t len = ext_u32(w->in.data + 1);
    unsigned last_bits = bits ? w->in.data[5] : 8;
    if (last_bits < 1 || last_bits > 8 || (bits && len == 0)) {
        return refuse(w, "bits of no such number");
    }
    if (!need(w, head + (uint64_t)len)) {
        return false;
    }
    if (w->hashing) {
        absorb_bits(w, span_of(w->in.data + head, len), last_bits);
    }
    skip(w, head + len);
    return true;
}

static bool take_plain_atom(struct walk *w) {
    uint32_t number = 0;
    if (!take_atom(w, &number)) {
        return false;
    }
    if (w->hashing) {
        absorb(w, TOKEN_ATOM);
        absorb(w, number);
    }
    return true;
}

/* }==== */

/* {==== Identifiers and funs ============================================================== */

/* A node that gets an identifier with its name and no creation takes it for its own: so such a one
 * may equal another key. */
static bool absorb_id(struct walk *w, enum token token, uint32_t node, uint32_t creation) {
    if (!w->hashing) {
        return true;
    }
    if (creation == 0) {
        return refuse(w, "an identifier without a creation in a key");
    }
    absorb(w, token);
    absorb(w, (uint64_t)node << 32 | creation);
    return true;
}

static bool take_pid(struct walk *w) {
    const uint8_t *start = w->in.data;
    uint32_t node = 0;
    skip(w, 1);
    if (!take_atom(w, &node) || !need(w, 12)) {
        return false;
    }
    const uint8_t *p = w->in.data;
    skip(w, 12);
    if (!absorb_id(w, TOKEN_PID, node, ext_u32(p + 8))) {
        return false;
    }
    if (w->hashing) {
        absorb(w, ext_u64(p));
    }
    return pass_id(w, span_of(start, (size_t)(w->in.data - start)),
                   ext_u32(p) < SAFE_PID && ext_u32(p + 4) < SAFE_SERIAL);
}

static bool take_port(struct walk *w) {
    const uint8_t *start = w->in.data;
    size_t wide = start[0] == EXT_V4_PORT ? 8 : 4;
    uint32_t node = 0;
    skip(w, 1);
    if (!take_atom(w, &node) || !need(w, wide + 4)) {
        return false;
    }
    const uint8_t *p = w->in.data;
    uint64_t number = wide == 8 ? ext_u64(p) : ext_u32(p);
    skip(w, wide + 4);
    if (!absorb_id(w, TOKEN_PORT, node, ext_u32(p + wide))) {
        return false;
    }
    if (w->hashing) {
        absorb(w, number);
    }
    return pass_id(w, span_of(start, (size_t)(w->in.data - start)), number < SAFE_PORT);
}

/* A reference with zeros at its end equals one without them. */
static void absorb_words(struct walk *w, const uint8_t *p, size_t words) {
    while (words > 0 && ext_u32(p + 4 * words - 4) == 0) {
        words--;
    }
    for (size_t i = 0; i < words; i++) {
        absorb(w, ext_u32(p + 4 * i));
    }
}

static bool take_reference(struct walk *w) {
    const uint8_t *start = w->in.data;
    uint32_t node = 0;
    if (!need(w, 3)) {
        return false;
    }
    size_t words = ext_u16(start + 1);
    if (words < 1 || words > MAX_WORDS) {
        return refuse(w, "a reference of no such size");
    }
    skip(w, 3);
    if (!take_atom(w, &node) || !need(w, 4 + 4 * words)) {
        return false;
    }
    const uint8_t *p = w->in.data;
    skip(w, 4 + 4 * words);
    if (!absorb_id(w, TOKEN_REFERENCE, node, ext_u32(p))) {
        return false;
    }
    if (w->hashing) {
        absorb_words(w, p + 4, words);
    }
    return pass_id(w, span_of(start, (size_t)(w->in.data - start)),
                   words <= SAFE_WORDS && ext_u32(p + 4) < SAFE_WORD);
}

static bool take_export(struct walk *w) {
    const uint8_t *start = w->in.data;
    uint32_t module = 0;
    uint32_t function = 0;
    skip(w, 1);
    if (!take_atom(w, &module) || !take_atom(w, &function) || !need(w, 2)) {
        return false;
    }
    if (w->in.data[0] != EXT_SMALL_INTEGER) {
        return refuse(w, "no arity");
    }
    uint8_t arity = w->in.data[1];
    skip(w, 2);
    if (w->hashing) {
        absorb(w, TOKEN_EXPORT);
        absorb(w, (uint64_t)module << 32 | function);
        absorb(w, arity);
    }
    return pass_fun(w, span_of(start, (size_t)(w->in.data - start)));
}

/* An integer that is a small one for every BEAM. */
static bool take_fun_number(struct walk *w) {
    int64_t value;
    if (!ext_take_int(&w->in, &value) || value < 0 || value > MAX_SMALL) {
        return refuse(w, "a fun without its numbers");
    }
    return true;
}

/* The parts before the free variables. Which of them tell funs apart depends on the version: only
 * the module counts in a key. */
static bool take_fun_head(struct walk *w, uint32_t variables) {
    bool hashing = w->hashing;
    uint32_t module = 0;
    const uint8_t *start = w->in.data + 5;
    skip(w, FUN_HEAD);
    if (!take_atom(w, &module) || !take_fun_number(w) || !take_fun_number(w) ||
        !pass_fun(w, span_of(start, (size_t)(w->in.data - start))) || !need(w, 1)) {
        return false;
    }
    if (w->in.data[0] != EXT_NEW_PID) {
        return refuse(w, "a fun without the pid of its process");
    }
    w->hashing = false;
    bool ok = take_pid(w);
    w->hashing = hashing;
    if (hashing) {
        absorb(w, TOKEN_FUN);
        absorb(w, (uint64_t)module << 32 | variables);
    }
    return ok;
}

static bool take_fun(struct walk *w) {
    if (!need(w, FUN_HEAD)) {
        return false;
    }
    const uint8_t *start = w->in.data;
    uint64_t size = ext_u32(start + 1);
    uint32_t variables = ext_u32(start + FUN_HEAD - 4);
    if (size < FUN_HEAD - 1 || size > w->in.len - 1 || variables > MAX_FREE) {
        return refuse(w, "a fun of no such size");
    }
    if (!take_fun_head(w, variables) || !owe(w, variables) || !push(w, FRAME_FUN, variables)) {
        return false;
    }
    top(w)->end = start + 1 + size;
    return true;
}

static bool end_fun(struct walk *w) {
    const uint8_t *end = top(w)->end;
    pop(w);
    return w->in.data == end || refuse(w, "a fun of another size than it says ends here");
}

/* }==== */

/* {==== The walk ========================================================================== */

static bool take_other(struct walk *w) {
    switch (w->in.data[0]) {
    case EXT_SMALL_TUPLE:
    case EXT_LARGE_TUPLE:
        return take_tuple(w);
    case EXT_MAP:
        return take_map(w);
    case EXT_SMALL_ATOM_UTF8:
    case EXT_ATOM_UTF8:
        return take_plain_atom(w);
    case EXT_SMALL_INTEGER:
        return take_small_integer(w);
    case EXT_INTEGER:
        return take_integer(w);
    case EXT_SMALL_BIG:
    case EXT_LARGE_BIG:
        return take_big(w);
    case EXT_NEW_FLOAT:
        return take_float(w);
    case EXT_BINARY:
    case EXT_BIT_BINARY:
        return take_binary(w);
    case EXT_NEW_PID:
        return take_pid(w);
    case EXT_NEW_PORT:
    case EXT_V4_PORT:
        return take_port(w);
    case EXT_NEWER_REFERENCE:
        return take_reference(w);
    case EXT_EXPORT:
        return take_export(w);
    case EXT_NEW_FUN:
        return take_fun(w);
    default:
        return refuse(w, "a tag that is not allowed");
    }
}

/* One term, or the head of one that has parts. */
static bool take_one(struct walk *w) {
    bool tail = w->tail;
    w->tail = false;
    w->owed--;
    w->pending--;
    if (!need(w, 1)) {
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
            absorb(w, TOKEN_TAIL);
        }
        return take_other(w);
    }
}

/* All terms of the innermost frame's part are taken. */
static bool end_part(struct walk *w) {
    switch (top(w)->kind) {
    case FRAME_MAP:
        return top(w)->second ? end_pair(w) : end_key(w);
    case FRAME_LIST:
        end_list_part(w);
        return true;
    default:
        return end_fun(w);
    }
}

static bool walk(struct walk *w) {
    w->owed = w->pending = 1;
    for (;;) {
        while (w->pending > 0) {
            if (!take_one(w)) {
                return false;
            }
        }
        if (w->frames.len == 0) {
            return w->in.len == 0 || refuse(w, "something follows the term");
        }
        if (!end_part(w)) {
            return false;
        }
    }
}

static bool run(struct walk *w, struct span term, const struct jail_given *given) {
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
    struct walk w = {.check = true, .most = most, .fresh = *fresh, .err = err};
    bool ok = run(&w, term, given);
    *fresh = w.fresh;
    return ok;
}

bool jail_payload_note(struct span term, const struct jail_given *given) {
    struct err err;
    struct walk w = {.err = &err};
    return run(&w, term, given);
}

/* }==== */
