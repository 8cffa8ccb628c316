/* Atoms, identifiers and funs in a term that a worker emits, which a BEAM keeps for ever or must
 * have given out: see payload.h and walk.h. */
#include "jail/walk.h"

enum {
    MAX_SMALL = (1 << 27) - 1, /* integer of a fun */
    MAX_FREE = 255,            /* variables of a fun */
    MAX_WORDS = 5,             /* of a reference */
    SAFE_WORDS = 3,            /* ... that every version may have given out */
    SAFE_WORD = 1 << 18,       /* its first word is below */
    SAFE_PID = 1 << 15,        /* a pid's number is below */
    SAFE_SERIAL = 1 << 13,     /* its serial number */
    SAFE_PORT = 1 << 28,       /* a port's number */
    FUN_HEAD = 1 + 4 + 1 + 16 + 4 + 4,
};

/* {==== What the worker knows ============================================================== */

/* One more that no BEAM has to know yet. */
static bool count_fresh(struct jail_walk *w) {
    w->fresh++;
    return !w->check || w->fresh <= w->most || jail_refuse(w, "too many new atoms and funs");
}

/* Takes an atom off, and gives its number. */
static bool take_atom(struct jail_walk *w, uint32_t *number) {
    struct span name;
    struct span rest = w->in;
    bool latin1;
    if (!ext_take_atom(&rest, &name, &latin1) || latin1) {
        return jail_refuse(w, "no atom in UTF-8");
    }
    *number = term_atom_find(w->given->atoms, name);
    if (*number == 0) {
        struct err err;
        if (!count_fresh(w)) {
            return false;
        }
        if (!term_atom_intern(w->given->atoms, name, number, &err)) {
            return jail_refuse(w, err.text);
        }
    }
    w->in = rest;
    return true;
}

static bool note_id(struct jail_walk *w, uint64_t hash) {
    return jail_ids_add(w->given->ids, hash) || jail_refuse(w, "no memory");
}

/* A fun, whose entry a BEAM would have to make. */
static bool pass_fun(struct jail_walk *w, struct span identity) {
    uint64_t hash = jail_mix_bytes(jail_mix(w->seed, JAIL_TOKEN_FUN), identity);
    if (jail_ids_has(w->given->ids, hash)) {
        return true;
    }
    return count_fresh(w) && note_id(w, hash);
}

/* An identifier of a node, all of whose bytes are `id`. */
static bool pass_id(struct jail_walk *w, struct span id, bool safe) {
    if (safe || span_equal(ext_node_of(id), w->given->self)) {
        return true;
    }
    uint64_t hash = jail_mix_bytes(jail_mix(w->seed, JAIL_TOKEN_PID), id);
    if (!w->check) {
        return note_id(w, hash);
    }
    return jail_ids_has(w->given->ids, hash) ||
           jail_refuse(w, "an identifier that this worker has not been given");
}

/* }==== */

/* {==== Atoms and identifiers ============================================================== */

bool jail_take_plain_atom(struct jail_walk *w) {
    uint32_t number = 0;
    if (!take_atom(w, &number)) {
        return false;
    }
    if (w->hashing) {
        jail_absorb(w, JAIL_TOKEN_ATOM);
        jail_absorb(w, number);
    }
    return true;
}

/* A node that gets an identifier with its name and no creation takes it for its own: so such a one
 * may equal another key. */
static bool absorb_id(struct jail_walk *w, enum jail_token token, uint32_t node,
                      uint32_t creation) {
    if (!w->hashing) {
        return true;
    }
    if (creation == 0) {
        return jail_refuse(w, "an identifier without a creation in a key");
    }
    jail_absorb(w, token);
    jail_absorb(w, (uint64_t)node << 32 | creation);
    return true;
}

bool jail_take_pid(struct jail_walk *w) {
    const uint8_t *start = w->in.data;
    uint32_t node = 0;
    jail_skip(w, 1);
    if (!take_atom(w, &node) || !jail_need(w, 12)) {
        return false;
    }
    const uint8_t *p = w->in.data;
    jail_skip(w, 12);
    if (!absorb_id(w, JAIL_TOKEN_PID, node, ext_u32(p + 8))) {
        return false;
    }
    if (w->hashing) {
        jail_absorb(w, ext_u64(p));
    }
    return pass_id(w, span_of(start, (size_t)(w->in.data - start)),
                   ext_u32(p) < SAFE_PID && ext_u32(p + 4) < SAFE_SERIAL);
}

bool jail_take_port(struct jail_walk *w) {
    const uint8_t *start = w->in.data;
    size_t wide = start[0] == EXT_V4_PORT ? 8 : 4;
    uint32_t node = 0;
    jail_skip(w, 1);
    if (!take_atom(w, &node) || !jail_need(w, wide + 4)) {
        return false;
    }
    const uint8_t *p = w->in.data;
    uint64_t number = wide == 8 ? ext_u64(p) : ext_u32(p);
    jail_skip(w, wide + 4);
    if (!absorb_id(w, JAIL_TOKEN_PORT, node, ext_u32(p + wide))) {
        return false;
    }
    if (w->hashing) {
        jail_absorb(w, number);
    }
    return pass_id(w, span_of(start, (size_t)(w->in.data - start)), number < SAFE_PORT);
}

/* A reference with zeros at its end equals one without them. */
static void absorb_words(struct jail_walk *w, const uint8_t *p, size_t words) {
    while (words > 0 && ext_u32(p + 4 * words - 4) == 0) {
        words--;
    }
    for (size_t i = 0; i < words; i++) {
        jail_absorb(w, ext_u32(p + 4 * i));
    }
}

bool jail_take_reference(struct jail_walk *w) {
    const uint8_t *start = w->in.data;
    uint32_t node = 0;
    if (!jail_need(w, 3)) {
        return false;
    }
    size_t words = ext_u16(start + 1);
    if (words < 1 || words > MAX_WORDS) {
        return jail_refuse(w, "a reference of no such size");
    }
    jail_skip(w, 3);
    if (!take_atom(w, &node) || !jail_need(w, 4 + 4 * words)) {
        return false;
    }
    const uint8_t *p = w->in.data;
    jail_skip(w, 4 + 4 * words);
    if (!absorb_id(w, JAIL_TOKEN_REFERENCE, node, ext_u32(p))) {
        return false;
    }
    if (w->hashing) {
        absorb_words(w, p + 4, words);
    }
    return pass_id(w, span_of(start, (size_t)(w->in.data - start)),
                   words <= SAFE_WORDS && ext_u32(p + 4) < SAFE_WORD);
}

/* }==== */

/* {==== Funs =============================================================================== */

bool jail_take_export(struct jail_walk *w) {
    const uint8_t *start = w->in.data;
    uint32_t module = 0;
    uint32_t function = 0;
    jail_skip(w, 1);
    if (!take_atom(w, &module) || !take_atom(w, &function) || !jail_need(w, 2)) {
        return false;
    }
    if (w->in.data[0] != EXT_SMALL_INTEGER) {
        return jail_refuse(w, "no arity");
    }
    uint8_t arity = w->in.data[1];
    jail_skip(w, 2);
    if (w->hashing) {
        jail_absorb(w, JAIL_TOKEN_EXPORT);
        jail_absorb(w, (uint64_t)module << 32 | function);
        jail_absorb(w, arity);
    }
    return pass_fun(w, span_of(start, (size_t)(w->in.data - start)));
}

/* An integer that is a small one for every BEAM. */
static bool take_fun_number(struct jail_walk *w) {
    int64_t value;
    if (!ext_take_int(&w->in, &value) || value < 0 || value > MAX_SMALL) {
        return jail_refuse(w, "a fun without its numbers");
    }
    return true;
}

/* The parts before the free variables. Which of them tell funs apart depends on the version: only
 * the module counts in a key. */
static bool take_fun_head(struct jail_walk *w, uint32_t variables) {
    bool hashing = w->hashing;
    uint32_t module = 0;
    const uint8_t *start = w->in.data + 5;
    jail_skip(w, FUN_HEAD);
    if (!take_atom(w, &module) || !take_fun_number(w) || !take_fun_number(w) ||
        !pass_fun(w, span_of(start, (size_t)(w->in.data - start))) || !jail_need(w, 1)) {
        return false;
    }
    if (w->in.data[0] != EXT_NEW_PID) {
        return jail_refuse(w, "a fun without the pid of its process");
    }
    w->hashing = false;
    bool ok = jail_take_pid(w);
    w->hashing = hashing;
    if (hashing) {
        jail_absorb(w, JAIL_TOKEN_FUN);
        jail_absorb(w, (uint64_t)module << 32 | variables);
    }
    return ok;
}

bool jail_take_fun(struct jail_walk *w) {
    if (!jail_need(w, FUN_HEAD)) {
        return false;
    }
    const uint8_t *start = w->in.data;
    uint64_t size = ext_u32(start + 1);
    uint32_t variables = ext_u32(start + FUN_HEAD - 4);
    if (size < FUN_HEAD - 1 || size > w->in.len - 1 || variables > MAX_FREE) {
        return jail_refuse(w, "a fun of no such size");
    }
    if (!take_fun_head(w, variables) || !jail_owe(w, variables) ||
        !jail_push_frame(w, JAIL_FRAME_FUN, variables)) {
        return false;
    }
    jail_top_frame(w)->end = start + 1 + size;
    return true;
}

bool jail_end_fun(struct jail_walk *w) {
    const uint8_t *end = jail_top_frame(w)->end;
    jail_pop_frame(w);
    return w->in.data == end || jail_refuse(w, "a fun of another size than it says ends here");
}

/* }==== */
