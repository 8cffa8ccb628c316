/* The growing buffer and the error message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"

static void appending_byte_by_byte_keeps_every_byte(void **state) {
    (void)state;
    struct buf buf;
    buf_init(&buf);
    for (unsigned i = 0; i < 10000; i++) {
        uint8_t byte = (uint8_t)i;
        assert_true(buf_append(&buf, &byte, 1));
    }
    assert_int_equal(buf.len, 10000);
    for (unsigned i = 0; i < 10000; i++) {
        assert_int_equal(buf.data[i], (uint8_t)i);
    }
    buf_finish(&buf);
}

static void consuming_leaves_the_rest(void **state) {
    (void)state;
    struct buf buf = {0};
    assert_true(buf_append(&buf, "hello world", 11));
    buf_consume(&buf, 0);
    buf_consume(&buf, 6);
    assert_true(span_equal(buf_span(&buf), span_str("world")));
    buf_consume(&buf, 5);
    assert_int_equal(buf.len, 0);
    buf_finish(&buf);
}

static void nothing_can_be_done_to_an_empty_buffer(void **state) {
    (void)state;
    struct buf buf = {0};
    assert_true(buf_append(&buf, NULL, 0));
    buf_consume(&buf, 0);
    buf_relax(&buf, 0);
    assert_true(span_equal(buf_span(&buf), span_str("")));
    buf_finish(&buf);
}

static void memory_is_given_back_only_when_empty_and_large(void **state) {
    (void)state;
    struct buf buf = {0};
    assert_true(buf_reserve(&buf, 100000));
    assert_true(buf_append(&buf, "x", 1));
    buf_relax(&buf, 1000);
    assert_true(buf.cap >= 100000);
    buf_consume(&buf, 1);
    buf_relax(&buf, 1000000);
    assert_true(buf.cap >= 100000);
    buf_relax(&buf, 1000);
    assert_int_equal(buf.cap, 0);
    buf_finish(&buf);
}

static void an_impossible_size_is_refused_and_harms_nothing(void **state) {
    (void)state;
    struct buf buf = {0};
    assert_true(buf_append(&buf, "x", 1));
    assert_false(buf_reserve(&buf, SIZE_MAX));
    assert_false(buf_reserve(&buf, SIZE_MAX / 2));
    assert_int_equal(buf.len, 1);
    assert_int_equal(buf.data[0], 'x');
    buf_finish(&buf);
}

static void an_error_says_where_then_what(void **state) {
    (void)state;
    struct err err;
    assert_false(err_set(&err, "no %s", "memory"));
    assert_false(err_prefix(&err, "%s: ", "init"));
    assert_string_equal(err.text, "init: no memory");
}

/* Whether the last character of the text is whole, by the length that its first byte tells. */
static int ends_whole(const char *text) {
    size_t len = strlen(text);
    size_t start = len;
    while (start > 0 && ((unsigned char)text[start - 1] & 0xC0) == 0x80) {
        start--;
    }
    if (start == 0) {
        return 0;
    }
    unsigned char first = (unsigned char)text[start - 1];
    size_t want = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    return len - (start - 1) == want;
}

static void a_long_error_is_never_cut_inside_a_character(void **state) {
    (void)state;
    static const char *const characters[] = {"x", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    char text[2048];
    struct err err;
    for (size_t i = 0; i < 4; i++) {
        for (size_t shift = 0; shift < 4; shift++) {
            size_t len = shift;
            memset(text, '-', shift);
            while (len + 4 < sizeof text) {
                memcpy(text + len, characters[i], strlen(characters[i]));
                len += strlen(characters[i]);
            }
            text[len] = '\0';
            err_set(&err, "%s", text);
            assert_true(strlen(err.text) > sizeof err.text - 6);
            assert_true(ends_whole(err.text));
            err_prefix(&err, "%s: ", "a");
            assert_true(ends_whole(err.text));
        }
    }
}

static void an_error_that_just_fits_is_not_cut(void **state) {
    (void)state;
    struct err err;
    char text[sizeof err.text];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    memcpy(text + sizeof text - 3, "\xc3\xa9", 2);
    err_set(&err, "%s", text);
    assert_string_equal(err.text, text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appending_byte_by_byte_keeps_every_byte),
        cmocka_unit_test(consuming_leaves_the_rest),
        cmocka_unit_test(nothing_can_be_done_to_an_empty_buffer),
        cmocka_unit_test(memory_is_given_back_only_when_empty_and_large),
        cmocka_unit_test(an_impossible_size_is_refused_and_harms_nothing),
        cmocka_unit_test(an_error_says_where_then_what),
        cmocka_unit_test(a_long_error_is_never_cut_inside_a_character),
        cmocka_unit_test(an_error_that_just_fits_is_not_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
