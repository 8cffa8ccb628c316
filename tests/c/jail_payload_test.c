/* The check of what a worker emits, against terms that would make a BEAM drop the connection. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/ext.h"
#include "jail/payload.h"

/* {==== The fixture ======================================================================= */

static int set_up(void **state) {
    struct jail_given *given = calloc(1, sizeof *given);
    given->atoms = term_atoms_create();
    given->ids = jail_ids_create();
    given->self = span_str("me@here");
    *state = given;
    return 0;
}

static int tear_down(void **state) {
    struct jail_given *given = *state;
    term_atoms_destroy(given->atoms);
    jail_ids_destroy(given->ids);
    free(given);
    return 0;
}

struct bytes {
    size_t len;
    uint8_t bytes[120];
};

#define BYTES(...)                                                                                 \
    {                                                                                              \
        sizeof((uint8_t[]){__VA_ARGS__}), {                                                        \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define NODE        EXT_SMALL_ATOM_UTF8, 3, 'a', '@', 'b'
#define ME          EXT_SMALL_ATOM_UTF8, 7, 'm', 'e', '@', 'h', 'e', 'r', 'e'
#define ATOM(c)     EXT_SMALL_ATOM_UTF8, 1, c
#define PID(number) EXT_NEW_PID, NODE, 0, 0, 0, number, 0, 0, 0, 2, 0, 0, 0, 3
#define FUN(size, variables, ...)                                                                  \
    EXT_NEW_FUN, 0, 0, 0, size, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0,  \
        0, 0, variables, __VA_ARGS__

enum { MANY = 1000 };

/* Checks exact heap bytes, so that a read behind them is seen. */
static bool passes(const struct jail_given *given, const void *bytes, size_t len, struct err *err) {
    uint32_t fresh = 0;
    uint8_t *copy = malloc(len == 0 ? 1 : len);
    memcpy(copy, bytes, len);
    bool ok = jail_payload_check(span_of(copy, len), given, MANY, &fresh, err);
    free(copy);
    return ok;
}

/* }==== */

/* {==== Single terms ====================================================================== */

static const struct bytes good[] = {
    BYTES(EXT_SMALL_INTEGER, 7),
    BYTES(EXT_INTEGER, 0xFF, 0, 0, 1),
    BYTES(EXT_NEW_FLOAT, 0x3F, 0xF8, 0, 0, 0, 0, 0, 0),
    BYTES(EXT_NEW_FLOAT, 0x7F, 0xEF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF),
    BYTES(EXT_ATOM_UTF8, 0, 2, 0xC3, 0xA9),
    BYTES(EXT_SMALL_ATOM_UTF8, 0),
    BYTES(PID(1)),
    BYTES(EXT_NEW_PID, ME, 0xFF, 0xFF, 0xFF, 1, 0xFF, 0xFF, 0, 2, 0, 0, 0, 3),
    BYTES(EXT_NEW_PORT, NODE, 0, 0, 0, 1, 0, 0, 0, 2),
    BYTES(EXT_V4_PORT, NODE, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2),
    BYTES(EXT_NEWER_REFERENCE, 0, 3, NODE, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3),
    BYTES(EXT_NEWER_REFERENCE, 0, 5, ME, 0, 0, 0, 1, 9, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4,
          0, 0, 0, 5),
    BYTES(EXT_SMALL_TUPLE, 2, EXT_SMALL_INTEGER, 1, EXT_SMALL_TUPLE, 0),
    BYTES(EXT_LARGE_TUPLE, 0, 0, 0, 1, EXT_NIL),
    BYTES(EXT_STRING, 0, 3, 1, 2, 3),
    BYTES(EXT_STRING, 0, 0),
    BYTES(EXT_LIST, 0, 0, 0, 2, EXT_SMALL_INTEGER, 1, ATOM('x'), EXT_NIL),
    BYTES(EXT_LIST, 0, 0, 0, 1, EXT_NIL, EXT_SMALL_INTEGER, 1),
    BYTES(EXT_BINARY, 0, 0, 0, 3, 'a', 'b', 'c'),
    BYTES(EXT_BIT_BINARY, 0, 0, 0, 2, 3, 0xFF, 0xFF),
    BYTES(EXT_SMALL_BIG, 8, 1, 0, 0, 0, 0, 0, 0, 0, 0x80),
    BYTES(EXT_LARGE_BIG, 0, 0, 0, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    BYTES(EXT_EXPORT, ATOM('m'), ATOM('f'), EXT_SMALL_INTEGER, 2),
    BYTES(FUN(56, 1, ATOM('m'), EXT_SMALL_INTEGER, 5, EXT_SMALL_INTEGER, 6, PID(1)),
          EXT_SMALL_INTEGER, 9),
    BYTES(EXT_MAP, 0, 0, 0, 3, EXT_SMALL_INTEGER, 1, EXT_NIL, EXT_NEW_FLOAT, 0x3F, 0xF0, 0, 0, 0, 0,
          0, 0, EXT_SMALL_INTEGER, 2, EXT_SMALL_TUPLE, 1, EXT_BINARY, 0, 0, 0, 1, 'x', EXT_MAP, 0,
          0, 0, 1, ATOM('k'), EXT_NIL),
    BYTES(EXT_MAP, 0, 0, 0, 0),
};

enum { GOOD = sizeof good / sizeof good[0] };

static void every_term_that_a_beam_knows_passes(void **state) {
    struct err err = {""};
    for (size_t i = 0; i < GOOD; i++) {
        if (!passes(*state, good[i].bytes, good[i].len, &err)) {
            fail_msg("term %zu: %s", i, err.text);
        }
    }
}

static void a_term_cut_off_or_with_more_behind_it_is_refused(void **state) {
    struct err err;
    for (size_t i = 0; i < GOOD; i++) {
        struct bytes longer = good[i];
        longer.bytes[longer.len] = EXT_NIL;
        assert_false(passes(*state, longer.bytes, longer.len + 1, &err));
        for (size_t len = 0; len < good[i].len; len++) {
            assert_false(passes(*state, good[i].bytes, len, &err));
        }
    }
}

static const struct {
    const char *why;
    struct bytes term;
} bad[] = {
    {"a tag that is not allowed", BYTES(82, 0)},                    /* atom cache */
    {"a tag that is not allowed", BYTES(80, 0, 0, 0, 1, 0)},        /* compressed */
    {"a tag that is not allowed", BYTES(121, 0, 0, 0, 0, EXT_NIL)}, /* LOCAL_EXT */
    {"a tag that is not allowed", BYTES(EXT_VERSION, EXT_NIL)},     /* a second version */
    {"a tag that is not allowed", BYTES(EXT_ATOM, 0, 1, 'x')},      /* Latin-1 */
    {"a tag that is not allowed", BYTES(EXT_PID, NODE, 0, 0, 0, 1, 0, 0, 0, 2, 3)},
    {"a float that is no number", BYTES(EXT_NEW_FLOAT, 0x7F, 0xF0, 0, 0, 0, 0, 0, 0)},
    {"a float that is no number", BYTES(EXT_NEW_FLOAT, 0xFF, 0xF8, 0, 0, 0, 0, 0, 1)},
    {"an atom's name must be valid UTF-8", BYTES(EXT_SMALL_ATOM_UTF8, 2, 0xC3, 0x28)},
    {"an atom's name must be valid UTF-8", BYTES(EXT_SMALL_ATOM_UTF8, 3, 0xED, 0xA0, 0x80)},
    {"bits of no such number", BYTES(EXT_BIT_BINARY, 0, 0, 0, 1, 9, 1)},
    {"bits of no such number", BYTES(EXT_BIT_BINARY, 0, 0, 0, 1, 0, 1)},
    {"bits of no such number", BYTES(EXT_BIT_BINARY, 0, 0, 0, 0, 1)},
    {"an integer without a sign", BYTES(EXT_SMALL_BIG, 1, 2, 1)},
    {"an integer of too many bytes", BYTES(EXT_LARGE_BIG, 0, 8, 0, 0, 0)},
    {"a list without elements", BYTES(EXT_LIST, 0, 0, 0, 0, EXT_NIL)},
    {"a tuple with too many elements", BYTES(EXT_LARGE_TUPLE, 1, 0, 0, 0)},
    {"it promises more than follows", BYTES(EXT_LARGE_TUPLE, 0, 0xFF, 0xFF, 0xFF, EXT_NIL)},
    {"it promises more than follows", BYTES(EXT_LIST, 0xFF, 0xFF, 0xFF, 0xFF, EXT_NIL)},
    {"it promises more than follows", BYTES(EXT_MAP, 0xFF, 0xFF, 0xFF, 0xFF, EXT_NIL)},
    {"it promises more than follows", BYTES(EXT_SMALL_TUPLE, 2, EXT_SMALL_TUPLE, 2, EXT_NIL)},
    {"a reference of no such size", BYTES(EXT_NEWER_REFERENCE, 0, 0, NODE, 0, 0, 0, 1)},
    {"a reference of no such size",
     BYTES(EXT_NEWER_REFERENCE, 0, 6, NODE, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0,
           4, 0, 0, 0, 5, 0, 0, 0, 6)},
    {"no atom in UTF-8", BYTES(EXT_NEW_PID, EXT_NIL, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3)},
    {"no arity", BYTES(EXT_EXPORT, ATOM('m'), ATOM('f'), EXT_INTEGER, 0, 0, 1, 0)},
    {"a fun of no such size", BYTES(FUN(200, 0, ATOM('m')))},
    {"a fun of no such size", BYTES(FUN(3, 0, ATOM('m')))},
    {"a fun of another size",
     BYTES(FUN(50, 0, ATOM('m'), EXT_SMALL_INTEGER, 5, EXT_SMALL_INTEGER, 6, PID(1)))},
    {"a fun without its numbers",
     BYTES(FUN(51, 0, ATOM('m'), EXT_NIL, EXT_SMALL_INTEGER, 6, PID(1), EXT_NIL))},
    {"a fun without the pid",
     BYTES(FUN(34, 0, ATOM('m'), EXT_SMALL_INTEGER, 5, EXT_SMALL_INTEGER, 6, EXT_NIL))},
};

static void what_no_beam_takes_is_refused_with_a_reason(void **state) {
    struct err err;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        err.text[0] = '\0';
        if (passes(*state, bad[i].term.bytes, bad[i].term.len, &err) ||
            strstr(err.text, bad[i].why) == NULL) {
            fail_msg("term %zu: \"%s\" and not \"%s\"", i, err.text, bad[i].why);
        }
    }
}

static void an_atom_of_256_characters_is_refused(void **state) {
    uint8_t term[3 + 256] = {EXT_ATOM_UTF8, 1, 0};
    struct err err = {""};
    memset(term + 3, 'x', 256);
    assert_false(passes(*state, term, sizeof term, &err));
    assert_string_equal(err.text, "byte 0 of a term: an atom of 256 characters: the limit is 255");
}

/* }==== */

/* {==== Maps ============================================================================== */

/* Keys that a BEAM finds equal, and keys that it doesn't. */
static const struct {
    bool equal;
    struct bytes one;
    struct bytes other;
} pairs[] = {
    {true, BYTES(EXT_SMALL_INTEGER, 5), BYTES(EXT_SMALL_INTEGER, 5)},
    {true, BYTES(EXT_SMALL_INTEGER, 5), BYTES(EXT_INTEGER, 0, 0, 0, 5)},
    {true, BYTES(EXT_SMALL_INTEGER, 5), BYTES(EXT_SMALL_BIG, 1, 0, 5)},
    {true, BYTES(EXT_INTEGER, 0xFF, 0xFF, 0xFF, 0xFF), BYTES(EXT_SMALL_BIG, 3, 1, 1, 0, 0)},
    {true, BYTES(EXT_SMALL_INTEGER, 0), BYTES(EXT_SMALL_BIG, 0, 1)},
    {true, BYTES(EXT_SMALL_BIG, 9, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9),
     BYTES(EXT_LARGE_BIG, 0, 0, 0, 11, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0)},
    {true, BYTES(EXT_NEW_FLOAT, 0, 0, 0, 0, 0, 0, 0, 0),
     BYTES(EXT_NEW_FLOAT, 0x80, 0, 0, 0, 0, 0, 0, 0)}, /* before OTP 27 */
    {true, BYTES(ATOM('x')), BYTES(EXT_ATOM_UTF8, 0, 1, 'x')},
    {true, BYTES(EXT_BINARY, 0, 0, 0, 1, 0xFF), BYTES(EXT_BIT_BINARY, 0, 0, 0, 1, 8, 0xFF)},
    {true, BYTES(EXT_BIT_BINARY, 0, 0, 0, 1, 3, 0xE0), BYTES(EXT_BIT_BINARY, 0, 0, 0, 1, 3, 0xFF)},
    {true, BYTES(EXT_NIL), BYTES(EXT_STRING, 0, 0)},
    {true, BYTES(EXT_STRING, 0, 2, 1, 2),
     BYTES(EXT_LIST, 0, 0, 0, 2, EXT_SMALL_INTEGER, 1, EXT_INTEGER, 0, 0, 0, 2, EXT_NIL)},
    {true, BYTES(EXT_STRING, 0, 2, 1, 2),
     BYTES(EXT_LIST, 0, 0, 0, 1, EXT_SMALL_INTEGER, 1, EXT_LIST, 0, 0, 0, 1, EXT_SMALL_INTEGER, 2,
           EXT_NIL)},
    {true, BYTES(EXT_LIST, 0, 0, 0, 1, EXT_SMALL_INTEGER, 1, EXT_STRING, 0, 1, 2),
     BYTES(EXT_STRING, 0, 2, 1, 2)},
    {true, BYTES(EXT_SMALL_TUPLE, 1, EXT_NIL), BYTES(EXT_LARGE_TUPLE, 0, 0, 0, 1, EXT_NIL)},
    {true, BYTES(EXT_NEW_PORT, NODE, 0, 0, 0, 1, 0, 0, 0, 2),
     BYTES(EXT_V4_PORT, NODE, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2)},
    {true, BYTES(EXT_NEWER_REFERENCE, 0, 1, NODE, 0, 0, 0, 1, 0, 0, 0, 7),
     BYTES(EXT_NEWER_REFERENCE, 0, 2, NODE, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0)},
    {true, BYTES(FUN(54, 0, ATOM('m'), EXT_SMALL_INTEGER, 5, EXT_SMALL_INTEGER, 6, PID(1))),
     BYTES(FUN(54, 0, ATOM('m'), EXT_SMALL_INTEGER, 5, EXT_SMALL_INTEGER, 6, PID(2)))},
    {true, BYTES(EXT_MAP, 0, 0, 0, 2, ATOM('a'), EXT_NIL, ATOM('b'), EXT_SMALL_INTEGER, 1),
     BYTES(EXT_MAP, 0, 0, 0, 2, ATOM('b'), EXT_SMALL_BIG, 1, 0, 1, ATOM('a'), EXT_NIL)},
    {false, BYTES(EXT_SMALL_INTEGER, 1), BYTES(EXT_NEW_FLOAT, 0x3F, 0xF0, 0, 0, 0, 0, 0, 0)},
    {false, BYTES(EXT_SMALL_INTEGER, 1), BYTES(EXT_INTEGER, 0xFF, 0xFF, 0xFF, 0xFF)},
    {false, BYTES(ATOM('x')), BYTES(EXT_BINARY, 0, 0, 0, 1, 'x')},
    {false, BYTES(EXT_BINARY, 0, 0, 0, 1, 0), BYTES(EXT_BINARY, 0, 0, 0, 2, 0, 0)},
    {false, BYTES(EXT_BIT_BINARY, 0, 0, 0, 1, 3, 0), BYTES(EXT_BIT_BINARY, 0, 0, 0, 1, 4, 0)},
    {false, BYTES(EXT_NIL), BYTES(EXT_SMALL_TUPLE, 0)},
    {false, BYTES(EXT_MAP, 0, 0, 0, 0), BYTES(EXT_SMALL_TUPLE, 0)},
    {false, /* [[1], 2] and [1, [], 2] */
     BYTES(EXT_LIST, 0, 0, 0, 2, EXT_STRING, 0, 1, 1, EXT_SMALL_INTEGER, 2, EXT_NIL),
     BYTES(EXT_LIST, 0, 0, 0, 3, EXT_SMALL_INTEGER, 1, EXT_NIL, EXT_SMALL_INTEGER, 2, EXT_NIL)},
    {false, /* [1 | 2] and [1, 2] */
     BYTES(EXT_LIST, 0, 0, 0, 1, EXT_SMALL_INTEGER, 1, EXT_SMALL_INTEGER, 2),
     BYTES(EXT_STRING, 0, 2, 1, 2)},
    {false, BYTES(EXT_MAP, 0, 0, 0, 1, ATOM('a'), ATOM('b')),
     BYTES(EXT_MAP, 0, 0, 0, 1, ATOM('b'), ATOM('a'))},
    {false, BYTES(PID(1)), BYTES(PID(2))},
};

/* Puts a map of the two keys into `out`, with `others` integers as keys between them, as an element
 * of `depth` lists. */
static void put_map(struct buf *out, const struct bytes *one, const struct bytes *other,
                    uint32_t others, unsigned depth) {
    out->len = 0;
    for (unsigned i = 0; i < depth; i++) {
        ext_put_list(out, 1);
    }
    ext_put_map(out, others + 2);
    buf_append(out, one->bytes, one->len);
    ext_put_nil(out);
    for (uint32_t i = 0; i < others; i++) {
        ext_put_int(out, (int32_t)i + 1000);
        ext_put_nil(out);
    }
    buf_append(out, other->bytes, other->len);
    ext_put_nil(out);
    for (unsigned i = 0; i < depth; i++) {
        ext_put_nil(out);
    }
}

static void a_map_with_equal_keys_is_refused_however_they_are_written(void **state) {
    static const uint32_t others[] = {0, 9, 40, 1000};
    struct err err;
    struct buf map;
    buf_init(&map);
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        for (size_t j = 0; j < sizeof others / sizeof others[0]; j++) {
            for (unsigned swap = 0; swap < 2; swap++) {
                put_map(&map, swap ? &pairs[i].other : &pairs[i].one,
                        swap ? &pairs[i].one : &pairs[i].other, others[j], (unsigned)(j % 2));
                err.text[0] = '\0';
                bool ok = passes(*state, map.data, map.len, &err);
                if (ok == pairs[i].equal || (!ok && strstr(err.text, "equal keys") == NULL)) {
                    fail_msg("pair %zu, %u others: %s", i, others[j], err.text);
                }
            }
        }
    }
    buf_finish(&map);
}

/* The table that finds equal keys has room for every number of them, wherever a seed puts them. */
static void a_map_of_any_size_passes(void **state) {
    (void)state;
    for (uint32_t round = 0; round < 20 * 300; round++) {
        uint32_t count = round % 300 + 1;
        struct jail_given given = {.atoms = term_atoms_create(), .ids = jail_ids_create()};
        struct buf term = {0};
        struct err err;
        ext_put_map(&term, count);
        for (uint32_t key = 0; key < count; key++) {
            ext_put_int(&term, (int32_t)key);
            ext_put_int(&term, 0);
        }
        assert_true(passes(&given, term.data, term.len, &err));
        buf_finish(&term);
        term_atoms_destroy(given.atoms);
        jail_ids_destroy(given.ids);
    }
}

static void an_identifier_of_no_creation_is_refused_as_a_key(void **state) {
    static const struct bytes one = BYTES(EXT_NEW_PID, NODE, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0);
    static const struct bytes other = BYTES(EXT_NIL);
    struct err err = {""};
    struct buf map;
    buf_init(&map);
    assert_true(passes(*state, one.bytes, one.len, &err));
    put_map(&map, &one, &other, 0, 0);
    assert_false(passes(*state, map.data, map.len, &err));
    assert_non_null(strstr(err.text, "without a creation"));
    buf_finish(&map);
}

/* }==== */

/* {==== Depth and size ==================================================================== */

/* `n` times `head`, a nil, and `n` times `tail`. */
static void nest(struct buf *out, size_t n, struct span head, struct span tail) {
    out->len = 0;
    for (size_t i = 0; i < n; i++) {
        buf_append(out, head.data, head.len);
    }
    ext_put_nil(out);
    for (size_t i = 0; i < n; i++) {
        buf_append(out, tail.data, tail.len);
    }
}

static void deep_nesting_costs_no_stack(void **state) {
    static const uint8_t tuple[] = {EXT_SMALL_TUPLE, 1};
    static const uint8_t list[] = {EXT_LIST, 0, 0, 0, 1};
    static const uint8_t tail[] = {EXT_LIST, 0, 0, 0, 1, EXT_NIL};
    static const uint8_t key[] = {EXT_MAP, 0, 0, 0, 1};
    static const uint8_t two[] = {EXT_MAP, 0, 0, 0, 2, EXT_SMALL_INTEGER, 1, EXT_NIL};
    static const uint8_t nil[] = {EXT_NIL};
    const struct {
        struct span head;
        struct span tail;
    } kinds[] = {{span_of(tuple, sizeof tuple), {0}},
                 {span_of(list, sizeof list), span_of(nil, 1)},
                 {span_of(tail, sizeof tail), {0}},
                 {span_of(key, sizeof key), span_of(nil, 1)},
                 {span_of(two, sizeof two), span_of(nil, 1)}};
    static const size_t DEPTH = 100000;
    struct err err = {""};
    struct buf deep;
    struct buf in_key;
    buf_init(&deep);
    buf_init(&in_key);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        nest(&deep, DEPTH, kinds[i].head, kinds[i].tail);
        if (!passes(*state, deep.data, deep.len, &err)) {
            fail_msg("kind %zu: %s", i, err.text);
        }
        in_key.len = 0;
        ext_put_map(&in_key, 2);
        buf_append(&in_key, deep.data, deep.len);
        ext_put_nil(&in_key);
        buf_append(&in_key, deep.data, deep.len);
        ext_put_nil(&in_key);
        assert_false(passes(*state, in_key.data, in_key.len, &err));
        assert_non_null(strstr(err.text, "equal keys"));
    }
    buf_finish(&deep);
    buf_finish(&in_key);
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void report(void *state, const char *what, const struct buf *term, uint32_t elements) {
    struct err err = {""};
    uint32_t fresh = 0;
    double start = seconds();
    if (!jail_payload_check(buf_span(term), state, MANY, &fresh, &err)) {
        fail_msg("%s: %s", what, err.text);
    }
    double took = seconds() - start;
    print_message("%s: %.1f ns an element, %.2f GB/s\n", what, took / elements * 1e9,
                  (double)term->len / took / 1e9);
    assert_true(took < 5);
}

static void large_terms_take_time_in_proportion(void **state) {
    static const uint32_t COUNT = 1000000;
    struct buf term;
    buf_init(&term);
    ext_put_list(&term, COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        ext_put_int(&term, (int32_t)(i % 256));
    }
    ext_put_nil(&term);
    report(*state, "small integers", &term, COUNT);
    term.len = 0;
    ext_put_list(&term, COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        ext_put_atom(&term, span_str(i % 2 ? "ok" : "error"));
    }
    ext_put_nil(&term);
    report(*state, "atoms", &term, COUNT);
    term.len = 0;
    ext_put_map(&term, COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        ext_put_int(&term, (int32_t)i);
        ext_put_nil(&term);
    }
    report(*state, "a map of integers", &term, COUNT);
    term.len = 0;
    ext_put_list(&term, COUNT / 10);
    for (uint32_t i = 0; i < COUNT / 10; i++) {
        static const char *const keys[] = {"id", "name", "age", "tags", "ok"};
        ext_put_map(&term, 5);
        for (int key = 0; key < 5; key++) {
            ext_put_atom(&term, span_str(keys[key]));
            ext_put_int(&term, (int32_t)key);
        }
    }
    ext_put_nil(&term);
    report(*state, "pairs of small maps", &term, COUNT / 2);
    buf_finish(&term);
}

/* }==== */

/* {==== What a worker knows =============================================================== */

static bool check(struct jail_given *given, struct bytes term, uint32_t most, uint32_t *fresh) {
    struct err err;
    return jail_payload_check(span_of(term.bytes, term.len), given, most, fresh, &err);
}

static void new_atoms_and_funs_are_counted_once(void **state) {
    static const struct bytes term = BYTES(EXT_SMALL_TUPLE, 3, ATOM('x'), ATOM('y'), EXT_EXPORT,
                                           ATOM('x'), ATOM('f'), EXT_SMALL_INTEGER, 1);
    uint32_t fresh = 0;
    assert_true(check(*state, term, 100, &fresh));
    assert_int_equal(fresh, 4);
    assert_true(check(*state, term, 100, &fresh));
    assert_int_equal(fresh, 4);
}

static void more_atoms_than_allowed_are_refused_and_not_made(void **state) {
    static const struct bytes term =
        BYTES(EXT_SMALL_TUPLE, 4, ATOM('x'), ATOM('y'), ATOM('z'), ATOM('q'));
    struct jail_given *given = *state;
    uint32_t fresh = 0;
    uint32_t before = term_atoms_count(given->atoms);
    assert_false(check(given, term, 2, &fresh));
    assert_int_equal(fresh, 3);
    assert_int_equal(term_atoms_count(given->atoms), before + 2);
}

static void what_was_given_is_known(void **state) {
    static const struct bytes term = BYTES(
        EXT_MAP, 0, 0, 0, 2, ATOM('x'), EXT_EXPORT, ATOM('x'), ATOM('f'), EXT_SMALL_INTEGER, 1,
        ATOM('y'), FUN(54, 0, ATOM('m'), EXT_SMALL_INTEGER, 5, EXT_SMALL_INTEGER, 6, PID(1)));
    uint32_t fresh = 0;
    assert_true(jail_payload_note(span_of(term.bytes, term.len), *state));
    assert_true(check(*state, term, 0, &fresh));
    assert_int_equal(fresh, 0);
}

/* Its own node would refuse such a one that it has not made. */
static void an_odd_identifier_must_have_been_given(void **state) {
    static const struct bytes odd[] = {
        BYTES(EXT_NEW_PID, NODE, 0, 0, 0x80, 0, 0, 0, 0, 2, 0, 0, 0, 3),
        BYTES(EXT_NEW_PID, NODE, 0, 0, 0, 1, 0, 0, 0x20, 0, 0, 0, 0, 3),
        BYTES(EXT_NEW_PORT, NODE, 0x10, 0, 0, 1, 0, 0, 0, 2),
        BYTES(EXT_V4_PORT, NODE, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2),
        BYTES(EXT_NEWER_REFERENCE, 0, 1, NODE, 0, 0, 0, 1, 0, 4, 0, 0),
        BYTES(EXT_NEWER_REFERENCE, 0, 4, NODE, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0,
              0, 4),
    };
    struct err err = {""};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        assert_false(passes(*state, odd[i].bytes, odd[i].len, &err));
        assert_non_null(strstr(err.text, "has not been given"));
        assert_true(jail_payload_note(span_of(odd[i].bytes, odd[i].len), *state));
        assert_true(passes(*state, odd[i].bytes, odd[i].len, &err));
    }
}

static void identifiers_in_use_are_kept_among_many(void **state) {
    struct jail_given *given = *state;
    uint64_t first = 77;
    assert_true(jail_ids_add(given->ids, first));
    for (uint64_t i = 0; i < 10 * (uint64_t)JAIL_IDS; i++) {
        assert_true(jail_ids_add(given->ids, (i + 1) << 32 | 5));
        assert_true(i % 1000 != 0 || jail_ids_has(given->ids, first));
    }
    assert_true(jail_ids_has(given->ids, first));
    assert_false(jail_ids_has(given->ids, (uint64_t)1 << 32 | 5));
}

/* }==== */

/* The same numbers on every machine: Knuth's linear congruential generator. */
static uint32_t next_random(uint64_t *random) {
    *random = *random * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t)(*random >> 33);
}

static void changed_bytes_never_crash(void **state) {
    enum { ROUNDS = 200000 };
    struct err err;
    const char *given = getenv("SEED");
    unsigned seed = given == NULL ? 20 : (unsigned)strtoul(given, NULL, 10);
    uint64_t random = seed;
    print_message("seed %u\n", seed);
    for (int round = 0; round < ROUNDS; round++) {
        struct bytes term = good[next_random(&random) % GOOD];
        for (uint32_t changes = 1 + next_random(&random) % 4; changes > 0; changes--) {
            uint32_t value = next_random(&random);
            term.bytes[next_random(&random) % term.len] =
                (uint8_t)(value % 3 ? value >> 8 : EXT_NEW_FLOAT + value % 52);
        }
        passes(*state, term.bytes, term.len, &err);
    }
}

#define WITH_GIVEN(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_GIVEN(every_term_that_a_beam_knows_passes),
        WITH_GIVEN(a_term_cut_off_or_with_more_behind_it_is_refused),
        WITH_GIVEN(what_no_beam_takes_is_refused_with_a_reason),
        WITH_GIVEN(an_atom_of_256_characters_is_refused),
        WITH_GIVEN(a_map_with_equal_keys_is_refused_however_they_are_written),
        cmocka_unit_test(a_map_of_any_size_passes),
        WITH_GIVEN(an_identifier_of_no_creation_is_refused_as_a_key),
        WITH_GIVEN(deep_nesting_costs_no_stack),
        WITH_GIVEN(large_terms_take_time_in_proportion),
        WITH_GIVEN(new_atoms_and_funs_are_counted_once),
        WITH_GIVEN(more_atoms_than_allowed_are_refused_and_not_made),
        WITH_GIVEN(what_was_given_is_known),
        WITH_GIVEN(an_odd_identifier_must_have_been_given),
        WITH_GIVEN(identifiers_in_use_are_kept_among_many),
        WITH_GIVEN(changed_bytes_never_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
