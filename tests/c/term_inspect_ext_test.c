/* External terms as text: as Elixir writes them, within a bound, whatever the bytes are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/ext.h"
#include "term/term.h"

static const struct {
    const char *bytes;
    size_t len;
    const char *text;
} zoo[] = {
#define TERM(bytes, text)                                                                          \
    { bytes, sizeof(bytes) - 1, text }
    TERM("a\xff", "255"),
    TERM("b\x80\0\0\0", "-2147483648"),
    TERM("n\x8\0\xff\xff\xff\xff\xff\xff\xff\xff", "18446744073709551615"),
    TERM("n\x9\1\0\0\0\0\0\0\0\0\1", "-18446744073709551616"),
    TERM("F\x3f\xf0\0\0\0\0\0\0", "1.0"),
    TERM("F\x3f\xb9\x99\x99\x99\x99\x99\x9a", "0.1"),
    TERM("c1.50000000000000000000e+00\0\0\0\0\0", "1.5"),
    TERM("d\0\2ok", ":ok"),
    TERM("w\3nil", "nil"),
    TERM("w\xa"
         "Elixir.Foo",
         "Foo"),
    TERM("w\3a b", ":\"a b\""),
    TERM("m\0\0\0\5h\xc3\xa9\"\n", "\"h\xc3\xa9\\\"\\n\""),
    TERM("m\0\0\0\2\1\xff", "<<1, 255>>"),
    TERM("M\0\0\0\2\3\1\xe0", "<<1, 7::size(3)>>"),
    TERM("k\0\2hi", "~c\"hi\""),
    TERM("k\0\2\1\2", "[1, 2]"),
    TERM("j", "[]"),
    TERM("h\0", "{}"),
    TERM("h\2w\3adda\5", "{:add, 5}"),
    TERM("i\0\0\0\1a\1", "{1}"),
    TERM("l\0\0\0\2a\1w\1aj", "[1, :a]"),
    TERM("l\0\0\0\1a\1a\2", "[1 | 2]"),
    TERM("l\0\0\0\2h\2w\1aa\1h\2w\1bjj", "[a: 1, b: []]"),
    TERM("l\0\0\0\2h\2w\1aa\1h\2a\2jj", "[{:a, 1}, {2, []}]"),
    TERM("t\0\0\0\0", "%{}"),
    TERM("t\0\0\0\2w\1aa\1w\3b ca\2", "%{a: 1, \"b c\": 2}"),
    TERM("t\0\0\0\2w\1aa\1m\0\0\0\1ba\2", "%{:a => 1, \"b\" => 2}"),
    TERM("t\0\0\0\2w\1aa\1w\xa"
         "__struct__w\xa"
         "Elixir.Foo",
         "%Foo{a: 1}"),
    TERM("Xw\3n@h\0\0\0\x7\0\0\0\2\0\0\0\3", "#PID<n@h.7.2>"),
    TERM("gw\3n@h\0\0\0\x7\0\0\0\2\3", "#PID<n@h.7.2>"),
    TERM("Yw\3n@h\0\0\0\x7\0\0\0\2", "#Port<n@h.7>"),
    TERM("xw\3n@h\0\0\0\0\0\0\0\x7\0\0\0\2", "#Port<n@h.7>"),
    TERM("Z\0\3w\3n@h\0\0\0\0\0\0\0\1\0\0\0\2\0\0\0\3", "#Reference<n@h.3.2.1>"),
    TERM("qw\x6"
         "erlangw\4nodea\1",
         "&:erlang.node/1"),
    TERM("", "..."),
    TERM("z", "..."),
    TERM("h\3a\1a\2", "{1, 2, ..."),
    TERM("Xa\1\0\0\0\x7\0\0\0\2\0\0\0\3", "..."),
};

enum { ZOO = sizeof zoo / sizeof zoo[0], SIZE = 128 };

/* Inspects a copy of exactly that size, so that the sanitizer sees a read beyond it. */
static void inspect(const void *bytes, size_t len, char *text, size_t size) {
    uint8_t *copy = malloc(len > 0 ? len : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, len);
    size_t written = term_inspect_ext(span_of(copy, len), text, size);
    free(copy);
    assert_true(written < size);
    assert_int_equal(written, strnlen(text, size));
}

static void each_is_written_as_elixir_writes_it(void **state) {
    (void)state;
    char text[SIZE];
    for (size_t i = 0; i < ZOO; i++) {
        inspect(zoo[i].bytes, zoo[i].len, text, sizeof text);
        assert_string_equal(text, zoo[i].text);
    }
}

static void a_call_is_written_with_its_arguments(void **state) {
    (void)state;
    char text[SIZE];
    term_inspect_call(span_str("add"), span_of("a\1w\1b", 5), 2, text, sizeof text);
    assert_string_equal(text, "add(1, :b)");
    term_inspect_call(span_str("stop!"), (struct span){0}, 0, text, sizeof text);
    assert_string_equal(text, "stop!()");
}

static void what_is_cut_off_or_long_ends_with_dots(void **state) {
    (void)state;
    char text[SIZE];
    for (size_t i = 0; i < ZOO; i++) {
        for (size_t len = 0; len < zoo[i].len; len++) {
            inspect(zoo[i].bytes, len, text, sizeof text);
        }
        for (size_t size = 4; size < SIZE; size++) {
            inspect(zoo[i].bytes, zoo[i].len, text, size);
            bool whole = strcmp(text, zoo[i].text) == 0;
            assert_true(whole || strcmp(text + strlen(text) - 3, "...") == 0);
        }
    }
}

static uint32_t next_random(uint64_t *random) {
    *random = *random * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t)(*random >> 33);
}

static void wrong_bytes_do_no_harm(void **state) {
    (void)state;
    char text[SIZE];
    uint8_t bytes[64];
    uint64_t random = 1;
    for (int round = 0; round < 200000; round++) {
        size_t i = next_random(&random) % ZOO;
        size_t len = zoo[i].len;
        memcpy(bytes, zoo[i].bytes, len);
        if (len > 0) {
            bytes[next_random(&random) % len] = (uint8_t)next_random(&random);
            bytes[next_random(&random) % len] = (uint8_t)zoo[next_random(&random) % ZOO].bytes[0];
        }
        inspect(bytes, len, text, sizeof text);
    }
}

/* One that is read to its end takes seconds. */
static void a_huge_or_deep_term_takes_no_time(void **state) {
    (void)state;
    enum { COUNT = 50 << 20 };
    char text[SIZE];
    uint8_t *bytes = malloc(COUNT + 5);
    assert_non_null(bytes);
    memset(bytes, 'j', COUNT + 5);
    bytes[0] = EXT_LIST;
    ext_set_u32(bytes + 1, COUNT - 1);
    clock_t begin = clock();
    for (int i = 0; i < 1000; i++) {
        term_inspect_ext(span_of(bytes, COUNT + 5), text, sizeof text);
    }
    assert_memory_equal(text, "[[], [], ", 9);
    bytes[0] = EXT_BINARY;
    ext_set_u32(bytes + 1, COUNT);
    term_inspect_ext(span_of(bytes, COUNT + 5), text, sizeof text);
    assert_memory_equal(text, "\"jjjj", 5);
    for (size_t at = 0; at + 2 < COUNT; at += 2) {
        bytes[at] = EXT_SMALL_TUPLE;
        bytes[at + 1] = 1;
    }
    term_inspect_ext(span_of(bytes, COUNT + 5), text, sizeof text);
    assert_memory_equal(text, "{{{{", 4);
    assert_true(clock() - begin < 5 * CLOCKS_PER_SEC);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_written_as_elixir_writes_it),
        cmocka_unit_test(a_call_is_written_with_its_arguments),
        cmocka_unit_test(what_is_cut_off_or_long_ends_with_dots),
        cmocka_unit_test(wrong_bytes_do_no_harm),
        cmocka_unit_test(a_huge_or_deep_term_takes_no_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
