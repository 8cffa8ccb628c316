/* Control messages: written, read again, cut, traced, and made of garbage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/ext.h"
#include "dist/control.h"

#define SPAN(bytes)                                                                                \
    { (const uint8_t *)(bytes), sizeof(bytes) - 1 }
#define PID_A     SPAN("Xw\3a@b\0\0\0\1\0\0\0\2\0\0\0\3")
#define PID_B     SPAN("Xw\3c@d\0\0\0\4\0\0\0\5\0\0\0\x6")
#define REFERENCE SPAN("Z\0\1w\3a@b\0\0\0\1\0\0\0\2")
#define REASON    SPAN("h\2w\5errora\1")
#define NAME      SPAN("w\4calc")
#define ID        SPAN("a\x2a")
#define MFA       SPAN("h\3w\1mw\1fa\2")
#define OPTIONS   SPAN("l\0\0\0\1w\7monitorj")

static const struct dist_control all[] = {
    {.op = DIST_LINK, .from = PID_A, .to = PID_B},
    {.op = DIST_SEND, .to = PID_B},
    {.op = DIST_EXIT, .from = PID_A, .to = PID_B, .reason = REASON},
    {.op = DIST_UNLINK, .from = PID_A, .to = PID_B},
    {.op = DIST_REG_SEND, .from = PID_A, .to = NAME},
    {.op = DIST_GROUP_LEADER, .from = PID_A, .to = PID_B},
    {.op = DIST_EXIT2, .from = PID_A, .to = PID_B, .reason = REASON},
    {.op = DIST_MONITOR_P, .from = PID_A, .to = NAME, .ref = REFERENCE},
    {.op = DIST_DEMONITOR_P, .from = PID_A, .to = PID_B, .ref = REFERENCE},
    {.op = DIST_MONITOR_P_EXIT, .from = NAME, .to = PID_B, .ref = REFERENCE, .reason = REASON},
    {.op = DIST_SPAWN_REQUEST,
     .ref = REFERENCE,
     .from = PID_A,
     .group = PID_B,
     .mfa = MFA,
     .options = OPTIONS},
    {.op = DIST_SPAWN_REPLY, .ref = REFERENCE, .to = PID_A, .options = ID, .reason = PID_B},
    {.op = DIST_ALIAS_SEND, .from = PID_A, .ref = REFERENCE},
    {.op = DIST_UNLINK_ID, .ref = ID, .from = PID_A, .to = PID_B},
    {.op = DIST_UNLINK_ID_ACK, .ref = ID, .from = PID_A, .to = PID_B},
};

enum { ALL = sizeof all / sizeof all[0] };

static void assert_same(const struct dist_control *a, const struct dist_control *b) {
    assert_int_equal(a->op, b->op);
    assert_true(span_equal(a->from, b->from));
    assert_true(span_equal(a->to, b->to));
    assert_true(span_equal(a->ref, b->ref));
    assert_true(span_equal(a->reason, b->reason));
    assert_true(span_equal(a->group, b->group));
    assert_true(span_equal(a->mfa, b->mfa));
    assert_true(span_equal(a->options, b->options));
}

/* What is behind the version byte. */
static struct span body(const struct buf *buf) {
    assert_int_equal(buf->data[0], EXT_VERSION);
    return span_of(buf->data + 1, buf->len - 1);
}

static void every_operation_is_read_as_it_was_written(void **state) {
    (void)state;
    for (size_t i = 0; i < ALL; i++) {
        struct buf buf = {0};
        struct dist_control read;
        assert_true(dist_control_write(&buf, &all[i]));
        assert_true(buf_append(&buf, "\x83payload", 8));
        struct span in = body(&buf);
        assert_true(dist_control_read(&in, &read));
        assert_true(span_equal(in, span_str("\x83payload")));
        assert_same(&all[i], &read);
        buf_finish(&buf);
    }
}

/* Lunode writes and the BEAM reads: the bytes themselves. */
static void the_bytes_are_those_of_the_protocol(void **state) {
    (void)state;
    struct buf buf = {0};
    struct dist_control send = {.op = DIST_SEND, .to = NAME};
    assert_true(dist_control_write(&buf, &send));
    assert_true(span_equal(buf_span(&buf), span_of("\x83h\3a\2w\0w\4calc", 13)));
    buf_finish(&buf);
    struct dist_control reg_send = {.op = DIST_REG_SEND, .from = ID, .to = NAME};
    assert_true(dist_control_write(&buf, &reg_send));
    assert_true(span_equal(buf_span(&buf), span_of("\x83h\4a\6a\x2aw\0w\4calc", 15)));
    buf_finish(&buf);
}

static void a_message_cut_anywhere_is_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < ALL; i++) {
        struct buf buf = {0};
        assert_true(dist_control_write(&buf, &all[i]));
        for (size_t len = 0; len + 1 < buf.len; len++) {
            uint8_t *copy = malloc(len + 1); /* its own block, for the sanitizer */
            assert_non_null(copy);
            memcpy(copy, buf.data + 1, len);
            struct span in = span_of(copy, len);
            struct dist_control read;
            assert_false(dist_control_read(&in, &read));
            assert_ptr_equal(in.data, copy);
            free(copy);
        }
        buf_finish(&buf);
    }
}

static void every_changed_byte_is_safe(void **state) {
    (void)state;
    for (size_t i = 0; i < ALL; i++) {
        struct buf buf = {0};
        assert_true(dist_control_write(&buf, &all[i]));
        for (size_t at = 1; at < buf.len; at++) {
            uint8_t was = buf.data[at];
            for (unsigned byte = 0; byte < 256; byte++) {
                struct dist_control read;
                buf.data[at] = (uint8_t)byte;
                struct span in = body(&buf);
                dist_control_read(&in, &read);
            }
            buf.data[at] = was;
        }
        buf_finish(&buf);
    }
}

static void traced_messages_are_read_as_plain_ones(void **state) {
    (void)state;
    static const struct {
        struct span bytes;
        struct dist_control plain;
    } traced[] = {
        {SPAN("h\4a\x0cw\0w\4calca\1"), {.op = DIST_SEND, .to = NAME}},
        {SPAN("h\5a\x0d"
              "a\x2aw\4calca\1h\2w\5errora\1"),
         {.op = DIST_EXIT, .from = ID, .to = NAME, .reason = REASON}},
        {SPAN("h\5a\x10"
              "a\x2aw\0w\4calca\1"),
         {.op = DIST_REG_SEND, .from = ID, .to = NAME}},
        {SPAN("h\5a\x12"
              "a\x2aw\4calca\1h\2w\5errora\1"),
         {.op = DIST_EXIT2, .from = ID, .to = NAME, .reason = REASON}},
        {SPAN("h\7a\x1ew\4calca\x2aw\4calch\3w\1mw\1fa\2l\0\0\0\1w\7monitorja\1"),
         {.op = DIST_SPAWN_REQUEST,
          .ref = NAME,
          .from = ID,
          .group = NAME,
          .mfa = MFA,
          .options = OPTIONS}},
        {SPAN("h\6a\x20w\4calca\x2a"
              "a\x2aw\4calca\1"),
         {.op = DIST_SPAWN_REPLY, .ref = NAME, .to = ID, .options = ID, .reason = NAME}},
        {SPAN("h\4a\x22"
              "a\x2aw\4calca\1"),
         {.op = DIST_ALIAS_SEND, .from = ID, .ref = NAME}},
    };
    for (size_t i = 0; i < sizeof traced / sizeof traced[0]; i++) {
        struct span in = traced[i].bytes;
        struct dist_control read;
        assert_true(dist_control_read(&in, &read));
        assert_int_equal(in.len, 0);
        assert_same(&traced[i].plain, &read);
    }
}

static void unknown_operations_and_odd_tuples_are_refused(void **state) {
    (void)state;
    static const struct span odd[] = {
        SPAN(""),
        SPAN("h\0"),
        SPAN("h\1a\2"),
        SPAN("h\3a\0a\1a\2"),
        SPAN("h\3a\5a\1a\2"),
        SPAN("h\3a\xff"
             "a\1a\2"),
        SPAN("h\3w\1xa\1a\2"),
        SPAN("h\4a\2a\1a\2a\3"),
        SPAN("a\2"),
        SPAN("l\0\0\0\1a\2j"),
        SPAN("h\3b\xff\xff\xff\xff"
             "a\1a\2"),
    };
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        struct span in = odd[i];
        struct dist_control read;
        assert_false(dist_control_read(&in, &read));
    }
}

static void a_large_tuple_tag_is_as_good_as_a_small_one(void **state) {
    (void)state;
    struct span in = SPAN("i\0\0\0\3a\2w\0w\4calc");
    struct dist_control read;
    assert_true(dist_control_read(&in, &read));
    assert_int_equal(read.op, DIST_SEND);
}

static void a_message_with_a_part_missing_is_not_written(void **state) {
    (void)state;
    struct buf buf = {0};
    struct dist_control control = {.op = DIST_EXIT, .from = PID_A, .to = PID_B};
    assert_true(buf_append(&buf, "before", 6));
    assert_false(dist_control_write(&buf, &control));
    assert_true(span_equal(buf_span(&buf), span_str("before")));
    buf_finish(&buf);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_is_read_as_it_was_written),
        cmocka_unit_test(the_bytes_are_those_of_the_protocol),
        cmocka_unit_test(a_message_cut_anywhere_is_refused),
        cmocka_unit_test(every_changed_byte_is_safe),
        cmocka_unit_test(traced_messages_are_read_as_plain_ones),
        cmocka_unit_test(unknown_operations_and_odd_tuples_are_refused),
        cmocka_unit_test(a_large_tuple_tag_is_as_good_as_a_small_one),
        cmocka_unit_test(a_message_with_a_part_missing_is_not_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
