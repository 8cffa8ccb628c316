/* Walking over external terms: whole ones, cut ones and hostile ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/ext.h"

/* One of every tag that a peer may send. */
static const struct {
    const char *name;
    const char *bytes;
    size_t len;
} zoo[] = {
#define TERM(name, bytes)                                                                          \
    { name, bytes, sizeof(bytes) - 1 }
    TERM("small integer", "a\xff"),
    TERM("integer", "b\x80\0\0\0"),
    TERM("float", "F\x3f\xf0\0\0\0\0\0\0"),
    TERM("old float", "c1.00000000000000000000e+00\0\0\0\0\0"),
    TERM("atom", "d\0\2ok"),
    TERM("small atom", "s\2ok"),
    TERM("utf8 atom", "v\0\2ok"),
    TERM("small utf8 atom", "w\2ok"),
    TERM("empty atom", "w\0"),
    TERM("reference", "ew\1a\0\0\0\1\0"),
    TERM("new reference", "r\0\2w\1a\0\0\0\0\1\0\0\0\2"),
    TERM("newer reference", "Z\0\3w\1a\0\0\0\0\0\0\0\1\0\0\0\2\0\0\0\3"),
    TERM("port", "fw\1a\0\0\0\1\0"),
    TERM("new port", "Yw\1a\0\0\0\1\0\0\0\2"),
    TERM("v4 port", "xw\1a\0\0\0\0\0\0\0\1\0\0\0\2"),
    TERM("pid", "gw\1a\0\0\0\1\0\0\0\2\0"),
    TERM("new pid", "Xw\1a\0\0\0\1\0\0\0\2\0\0\0\3"),
    TERM("empty tuple", "h\0"),
    TERM("tuple", "h\2a\1h\1a\2"),
    TERM("large tuple", "i\0\0\0\2a\1a\2"),
    TERM("nil", "j"),
    TERM("string", "k\0\3abc"),
    TERM("list", "l\0\0\0\2a\1a\2j"),
    TERM("improper list", "l\0\0\0\1a\1a\2"),
    TERM("binary", "m\0\0\0\3abc"),
    TERM("bitstring", "M\0\0\0\2\3a\xe0"),
    TERM("small big", "n\2\1\xff\xff"),
    TERM("large big", "o\0\0\0\2\0\xff\xff"),
    TERM("fun", "p\0\0\0\x6xx"),
    TERM("export", "qw\1mw\1fa\1"),
    TERM("map", "t\0\0\0\1w\1ka\1"),
};

enum { ZOO = sizeof zoo / sizeof zoo[0] };

/* A copy of exactly that size, so that the sanitizer sees a read beyond it. */
static struct span exact(const char *bytes, size_t len) {
    uint8_t *copy = malloc(len > 0 ? len : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, len);
    return span_of(copy, len);
}

static void every_kind_of_term_is_taken_whole(void **state) {
    (void)state;
    for (size_t i = 0; i < ZOO; i++) {
        struct span all = exact(zoo[i].bytes, zoo[i].len);
        struct span in = all;
        struct span term;
        if (!ext_take(&in, &term)) {
            fail_msg("%s is not taken", zoo[i].name);
        }
        assert_int_equal(in.len, 0);
        assert_int_equal(term.len, zoo[i].len);
        assert_ptr_equal(term.data, all.data);
        free((void *)all.data);
    }
}

static void what_follows_a_term_stays(void **state) {
    (void)state;
    for (size_t i = 0; i < ZOO; i++) {
        struct buf two = {0};
        struct span term;
        assert_true(buf_append(&two, zoo[i].bytes, zoo[i].len) && buf_append(&two, "a\1", 2));
        struct span in = buf_span(&two);
        assert_true(ext_take(&in, &term));
        assert_int_equal(in.len, 2);
        buf_finish(&two);
    }
}

static void a_term_cut_anywhere_is_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < ZOO; i++) {
        for (size_t len = 0; len < zoo[i].len; len++) {
            struct span all = exact(zoo[i].bytes, len);
            struct span in = all;
            struct span term;
            if (ext_take(&in, &term)) {
                fail_msg("%s cut to %zu bytes is taken", zoo[i].name, len);
            }
            assert_ptr_equal(in.data, all.data);
            assert_int_equal(in.len, len);
            free((void *)all.data);
        }
    }
}

static void any_first_byte_with_anything_behind_is_safe(void **state) {
    (void)state;
    for (unsigned tag = 0; tag < 256; tag++) {
        for (unsigned fill = 0; fill < 256; fill += 5) {
            char bytes[24];
            memset(bytes, (int)fill, sizeof bytes);
            bytes[0] = (char)tag;
            struct span all = exact(bytes, sizeof bytes);
            struct span in = all;
            struct span term;
            if (ext_take(&in, &term)) {
                assert_int_equal(term.len + in.len, sizeof bytes);
            }
            free((void *)all.data);
        }
    }
}

static void a_million_levels_are_walked(void **state) {
    (void)state;
    enum { DEPTH = 1000000 };
    struct buf deep = {0};
    for (int i = 0; i < DEPTH; i++) {
        assert_true(buf_append(&deep, "h\1", 2));
    }
    struct span in = buf_span(&deep);
    struct span term;
    assert_false(ext_take(&in, &term));
    assert_true(buf_append(&deep, "j", 1));
    in = buf_span(&deep);
    assert_true(ext_take(&in, &term));
    assert_int_equal(term.len, 2 * DEPTH + 1);
    buf_finish(&deep);
}

static void counts_that_lie_are_refused(void **state) {
    (void)state;
    static const char *const lies[] = {"i\xff\xff\xff\xff", "l\xff\xff\xff\xff",
                                       "t\xff\xff\xff\xff", "m\xff\xff\xff\xff",
                                       "o\xff\xff\xff\xff", "p\xff\xff\xff\xff"};
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        char bytes[64] = {0};
        memcpy(bytes, lies[i], 5);
        struct span in = span_of(bytes, sizeof bytes);
        struct span term;
        assert_false(ext_take(&in, &term));
    }
}

static void a_big_integer_of_any_size_is_no_number_here_but_harmless(void **state) {
    (void)state;
    int64_t value;
    struct span in = span_of("n\4\1\xff\xff\xff\xff", 7);
    assert_true(ext_take_int(&in, &value));
    assert_true(value == -(int64_t)0xffffffff);
    in = span_of("n\x5\0\1\1\1\1\1", 8);
    assert_false(ext_take_int(&in, &value));
    in = span_of("b\xff\xff\xff\xff", 5);
    assert_true(ext_take_int(&in, &value));
    assert_true(value == -1);
}

static void atoms_are_read_in_each_of_their_forms(void **state) {
    (void)state;
    static const struct span forms[] = {{(const uint8_t *)"d\0\2ok", 5},
                                        {(const uint8_t *)"s\2ok", 4},
                                        {(const uint8_t *)"v\0\2ok", 5},
                                        {(const uint8_t *)"w\2ok", 4}};
    for (size_t i = 0; i < 4; i++) {
        assert_true(ext_is_atom(forms[i], "ok"));
        assert_false(ext_is_atom(forms[i], "okay"));
        for (size_t len = 0; len < forms[i].len; len++) {
            assert_false(ext_is_atom(span_of(forms[i].data, len), "ok"));
        }
    }
    assert_false(ext_is_atom(span_of("m\0\0\0\2ok", 7), "ok"));
}

static void identifiers_tell_their_node(void **state) {
    (void)state;
    struct span name = ext_node_of(span_of("Xw\3a@b\0\0\0\1\0\0\0\2\0\0\0\3", 18));
    assert_true(span_equal(name, span_str("a@b")));
    name = ext_node_of(span_of("Z\0\1w\3a@b\0\0\0\1\0\0\0\2", 16));
    assert_true(span_equal(name, span_str("a@b")));
    assert_int_equal(ext_node_of(span_of("a\1", 2)).len, 0);
    assert_int_equal(ext_node_of(span_of("X", 1)).len, 0);
    assert_int_equal(ext_node_of(span_of("", 0)).len, 0);
}

static void what_is_put_is_taken_again(void **state) {
    (void)state;
    char name[300];
    struct buf out = {0};
    struct span term;
    memset(name, 'x', sizeof name);
    assert_true(ext_put_tuple(&out, 6) && ext_put_int(&out, 255) && ext_put_int(&out, 256) &&
                ext_put_int(&out, INT32_MIN) && ext_put_atom(&out, span_of(name, sizeof name)) &&
                ext_put_binary(&out, span_str("b")) && ext_put_pid(&out, span_str("a@b"), 1, 2, 3));
    struct span in = buf_span(&out);
    assert_true(ext_take(&in, &term));
    assert_int_equal(in.len, 0);
    assert_false(ext_put_atom(&out, span_of(name, 70000)));
    buf_finish(&out);
}

static void a_tagged_term_is_a_pair(void **state) {
    (void)state;
    struct buf out = {0};
    static const char reason[] = "a\1"; /* 1 */
    static const char pair[] = "h\2w\5errora\1";
    assert_true(ext_put_tagged(&out, "error", span_of(reason, 2)));
    assert_true(span_equal(buf_span(&out), span_of(pair, sizeof pair - 1)));
    buf_finish(&out);
}

static void what_is_counted_is_taken_up_to_64_bits(void **state) {
    static const uint64_t numbers[] = {0, 255, 256, INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX};
    (void)state;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct buf out = {0};
        uint64_t value = 1;
        assert_true(ext_put_uint(&out, numbers[i]));
        struct span in = buf_span(&out);
        assert_true(ext_take_uint(&in, &value));
        assert_int_equal(value, numbers[i]);
        assert_int_equal(in.len, 0);
        buf_finish(&out);
    }
}

static void what_is_no_count_stays_where_it_is(void **state) {
    static const char *const terms[] = {"b\xff\xff\xff\xff", "n\5\1aaaaa", "n\11\0aaaaaaaaa",
                                        "w\1a", "n\10\0"};
    static const size_t lens[] = {5, 8, 12, 3, 3};
    (void)state;
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        struct span whole = exact(terms[i], lens[i]);
        struct span in = whole;
        uint64_t value;
        assert_false(ext_take_uint(&in, &value));
        assert_true(span_equal(in, whole) && in.data == whole.data);
        free((void *)whole.data);
    }
}

static void maps_and_binaries_are_taken(void **state) {
    (void)state;
    struct buf out = {0};
    uint32_t pairs;
    struct span bytes;
    assert_true(ext_put_map(&out, 1) && ext_put_binary(&out, span_str("key")) &&
                ext_put_binary(&out, span_str("")));
    struct span in = buf_span(&out);
    assert_true(!ext_take_binary(&in, &bytes) && ext_take_map(&in, &pairs) && pairs == 1);
    assert_true(!ext_take_map(&in, &pairs) && ext_take_binary(&in, &bytes));
    assert_true(span_equal(bytes, span_str("key")));
    in.len--; /* cut */
    assert_false(ext_take_binary(&in, &bytes));
    in.len++;
    assert_true(ext_take_binary(&in, &bytes) && bytes.len == 0 && in.len == 0);
    buf_finish(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_term_is_taken_whole),
        cmocka_unit_test(what_follows_a_term_stays),
        cmocka_unit_test(a_term_cut_anywhere_is_refused),
        cmocka_unit_test(any_first_byte_with_anything_behind_is_safe),
        cmocka_unit_test(a_million_levels_are_walked),
        cmocka_unit_test(counts_that_lie_are_refused),
        cmocka_unit_test(a_big_integer_of_any_size_is_no_number_here_but_harmless),
        cmocka_unit_test(atoms_are_read_in_each_of_their_forms),
        cmocka_unit_test(identifiers_tell_their_node),
        cmocka_unit_test(what_is_put_is_taken_again),
        cmocka_unit_test(a_tagged_term_is_a_pair),
        cmocka_unit_test(what_is_counted_is_taken_up_to_64_bits),
        cmocka_unit_test(what_is_no_count_stays_where_it_is),
        cmocka_unit_test(maps_and_binaries_are_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
