/* Frames over a real socket, and over two pipes: one end is the connection under test, the other
 * one is ours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "base/ext.h"
#include "dist/peer.h"

enum { MAX_FRAME = 1 << 20, PATIENCE_MS = 3000 };

/* What the tests that follow run over. */
static bool over_pipes;

struct rig {
    uv_loop_t loop;
    struct log *log;
    struct dist_peer *peer;
    int far_in; /* what the peer has written; the same as far_out over a socket */
    int far_out;
    unsigned messages;
    struct buf payloads; /* one after the other */
    bool down;
    char why[256];
    bool answer;     /* every message with its payload */
    bool keeps_open; /* though it is down */
};

/* {==== The rig =========================================================================== */

static void append_frame(struct buf *out, struct span payload) {
    static const struct dist_control send = {.op = DIST_SEND,
                                             .to = {(const uint8_t *)"w\4calc", 6}};
    size_t start = out->len;
    assert_true(buf_append(out, "\0\0\0\0p", 5));
    assert_true(dist_control_write(out, &send));
    assert_true(ext_put_version(out));
    assert_true(buf_append(out, payload.data, payload.len));
    ext_set_u32(out->data + start, (uint32_t)(out->len - start - 4));
}

static void send_payload(struct rig *rig, struct span payload) {
    static const struct dist_control send = {.op = DIST_SEND,
                                             .to = {(const uint8_t *)"w\4calc", 6}};
    struct err err;
    struct buf *out = dist_frame_begin(rig->peer);
    assert_non_null(out);
    assert_true(dist_control_write(out, &send) && ext_put_version(out) &&
                buf_append(out, payload.data, payload.len));
    assert_true(dist_frame_end(rig->peer, &err));
}

static void on_message(void *user, struct dist_peer *peer, const struct dist_control *control,
                       struct span payload) {
    struct rig *rig = user;
    assert_ptr_equal(peer, rig->peer);
    assert_int_equal(control->op, DIST_SEND);
    rig->messages++;
    assert_true(buf_append(&rig->payloads, payload.data, payload.len));
    if (rig->answer) {
        send_payload(rig, payload);
    }
}

static void on_down(void *user, struct dist_peer *peer, const char *why) {
    struct rig *rig = user;
    assert_false(rig->down);
    rig->down = true;
    strncpy(rig->why, why, sizeof rig->why - 1);
    if (!rig->keeps_open) {
        dist_peer_close(peer);
    }
}

/* The far ends do not block. Gives those of the peer, to read and to write. */
static void connect_ends(struct rig *rig, int near[2]) {
    int fds[2];
    if (over_pipes) {
        assert_int_equal(uv_pipe(fds, 0, UV_NONBLOCK_PIPE), 0);
        near[0] = fds[0];
        rig->far_out = fds[1];
        assert_int_equal(uv_pipe(fds, UV_NONBLOCK_PIPE, 0), 0);
        near[1] = fds[1];
        rig->far_in = fds[0];
    } else {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        near[0] = near[1] = fds[0];
        rig->far_in = rig->far_out = fds[1];
        fcntl(fds[1], F_SETFL, O_NONBLOCK);
    }
}

static void hang_up(struct rig *rig) {
    close(rig->far_in);
    if (over_pipes) {
        close(rig->far_out);
    }
    rig->far_in = rig->far_out = -1;
}

static void start(struct rig *rig, unsigned tick_ms) {
    int near[2];
    struct err err;
    *rig = (struct rig){0};
    assert_int_equal(uv_loop_init(&rig->loop), 0);
    assert_true(log_create(&rig->log, &rig->loop, open("/dev/null", O_WRONLY), &err));
    connect_ends(rig, near);
    struct dist_peer_config config = {
        .loop = &rig->loop,
        .log = rig->log,
        .max_frame = MAX_FRAME,
        .tick_ms = tick_ms,
        .events = {on_message, on_down},
        .user = rig,
    };
    assert_true(dist_peer_open(&rig->peer, near[0], near[1], "far@host", &config, &err));
    assert_string_equal(dist_peer_name(rig->peer), "far@host");
}

/* Everything must close and nothing may leak (the sanitizer looks). */
static void stop(struct rig *rig) {
    if (!rig->down || rig->keeps_open) {
        dist_peer_close(rig->peer);
    }
    log_destroy(rig->log);
    uv_run(&rig->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&rig->loop), 0);
    if (rig->far_in >= 0) {
        hang_up(rig);
    }
    buf_finish(&rig->payloads);
}

static void turn(struct rig *rig) {
    uv_run(&rig->loop, UV_RUN_NOWAIT);
    if (!rig->down) {
        dist_peer_flush(rig->peer);
    }
}

/* Writes to the far end while the near one reads. */
static void far_write(struct rig *rig, const void *data, size_t len) {
    const char *p = data;
    while (len > 0 && !rig->down) {
        ssize_t n = write(rig->far_out, p, len);
        if (n > 0) {
            p += n;
            len -= (size_t)n;
        }
        turn(rig);
    }
    turn(rig);
}

static size_t far_read(struct rig *rig, struct buf *into) {
    assert_true(buf_reserve(into, 1 << 16));
    ssize_t n = read(rig->far_in, into->data + into->len, 1 << 16);
    into->len += n > 0 ? (size_t)n : 0;
    return n > 0 ? (size_t)n : 0;
}

static void until_down(struct rig *rig) {
    for (int ms = 0; ms < PATIENCE_MS && !rig->down; ms++) {
        turn(rig);
        usleep(1000);
    }
    assert_true(rig->down);
}

/* }==== */

static void a_frame_may_be_split_at_every_byte(void **state) {
    (void)state;
    struct rig rig;
    struct buf bytes = {0};
    start(&rig, 60000);
    append_frame(&bytes, span_str("m\0\0\0\0"));
    for (size_t at = 1; at < bytes.len; at++) {
        far_write(&rig, bytes.data, at);
        assert_int_equal(rig.messages, at - 1);
        far_write(&rig, bytes.data + at, bytes.len - at);
        assert_int_equal(rig.messages, at);
    }
    buf_finish(&bytes);
    stop(&rig);
}

static void many_frames_in_one_read_are_handled_in_order(void **state) {
    (void)state;
    struct rig rig;
    struct buf bytes = {0};
    struct buf expected = {0};
    start(&rig, 60000);
    for (unsigned i = 0; i < 20000; i++) {
        uint8_t payload[] = {EXT_INTEGER, 0, 0, (uint8_t)(i >> 8), (uint8_t)i};
        append_frame(&bytes, span_of(payload, sizeof payload));
        assert_true(buf_append(&expected, payload, sizeof payload));
    }
    far_write(&rig, bytes.data, bytes.len);
    assert_int_equal(rig.messages, 20000);
    assert_true(span_equal(buf_span(&expected), buf_span(&rig.payloads)));
    buf_finish(&bytes);
    buf_finish(&expected);
    stop(&rig);
}

static void what_arrived_before_the_end_is_still_handled(void **state) {
    (void)state;
    struct rig rig;
    struct buf bytes = {0};
    start(&rig, 60000);
    for (unsigned i = 0; i < 100; i++) {
        append_frame(&bytes, span_str("a\1"));
    }
    assert_int_equal(write(rig.far_out, bytes.data, bytes.len), bytes.len);
    hang_up(&rig);
    until_down(&rig);
    assert_int_equal(rig.messages, 100);
    assert_string_equal(rig.why, "connection closed");
    buf_finish(&bytes);
    stop(&rig);
}

static void a_tick_is_answered_but_two_nodes_do_not_tick_for_ever(void **state) {
    (void)state;
    struct rig rig;
    struct buf got = {0};
    start(&rig, 60000);
    far_write(&rig, "\0\0\0\0", 4);
    far_read(&rig, &got);
    assert_int_equal(got.len, 4);
    assert_int_equal(ext_u32(got.data), 0);
    far_write(&rig, "\0\0\0\0\0\0\0\0\0\0\0\0", 12);
    far_read(&rig, &got);
    assert_int_equal(got.len, 4);
    assert_false(rig.down);
    buf_finish(&got);
    stop(&rig);
}

static void a_frame_over_the_limit_drops_the_peer_before_it_is_read(void **state) {
    (void)state;
    struct rig rig;
    start(&rig, 60000);
    far_write(&rig, "\0\x10\0\1", 4);
    until_down(&rig);
    assert_string_equal(rig.why, "it sent a frame of 1048577 bytes; the limit is 1048576");
    stop(&rig);
}

static void a_frame_at_the_limit_is_read(void **state) {
    (void)state;
    struct rig rig;
    struct buf bytes = {0};
    struct buf payload = {0};
    start(&rig, 60000);
    assert_true(buf_reserve(&payload, MAX_FRAME));
    memset(payload.data, 0, MAX_FRAME);
    append_frame(&bytes, span_of(payload.data, MAX_FRAME - 15));
    assert_int_equal(bytes.len, MAX_FRAME + 4);
    far_write(&rig, bytes.data, bytes.len);
    assert_int_equal(rig.messages, 1);
    assert_int_equal(rig.payloads.len, MAX_FRAME - 15);
    buf_finish(&bytes);
    buf_finish(&payload);
    stop(&rig);
}

static void a_frame_of_another_type_drops_the_peer(void **state) {
    (void)state;
    struct rig rig;
    start(&rig, 60000);
    far_write(&rig, "\0\0\0\x40\x83", 5);
    until_down(&rig);
    assert_string_equal(rig.why, "it sent a frame of unknown type 131");
    stop(&rig);
}

static void a_control_message_of_garbage_is_skipped(void **state) {
    (void)state;
    struct rig rig;
    struct buf bytes = {0};
    start(&rig, 60000);
    assert_true(buf_append(&bytes, "\0\0\0\1p", 5));
    assert_true(buf_append(&bytes, "\0\0\0\4p\x83h\3", 8));
    assert_true(buf_append(&bytes, "\0\0\0\6p\x83h\1a\x63", 10));
    append_frame(&bytes, span_str("a\1"));
    far_write(&rig, bytes.data, bytes.len);
    assert_int_equal(rig.messages, 1);
    assert_false(rig.down);
    buf_finish(&bytes);
    stop(&rig);
}

static void an_open_frame_is_never_sent(void **state) {
    (void)state;
    struct rig rig;
    struct buf got = {0};
    struct buf expected = {0};
    struct err err;
    start(&rig, 60000);
    assert_true(buf_append(dist_frame_begin(rig.peer), "half", 4));
    turn(&rig);
    assert_int_equal(far_read(&rig, &got), 0);
    send_payload(&rig, span_str("a\1")); /* the open one is given up */
    assert_true(buf_append(dist_frame_begin(rig.peer), "half", 4));
    turn(&rig);
    dist_frame_drop(rig.peer);
    assert_false(dist_frame_end(rig.peer, &err));
    turn(&rig);
    far_read(&rig, &got);
    append_frame(&expected, span_str("a\1"));
    assert_true(span_equal(buf_span(&got), buf_span(&expected)));
    buf_finish(&got);
    buf_finish(&expected);
    stop(&rig);
}

static void all_that_a_slow_reader_did_not_take_follows(void **state) {
    (void)state;
    struct rig rig;
    struct buf got = {0};
    struct buf expected = {0};
    start(&rig, 60000);
    for (unsigned i = 0; i < 3000; i++) {
        uint8_t payload[1000];
        memset(payload, (int)i, sizeof payload);
        send_payload(&rig, span_of(payload, sizeof payload));
        append_frame(&expected, span_of(payload, sizeof payload));
        if (i % 10 == 0) {
            dist_peer_flush(rig.peer);
        }
        if (i % 50 == 0) {
            assert_true(buf_append(dist_frame_begin(rig.peer), "half", 4));
            far_read(&rig, &got);
            turn(&rig);
        }
    }
    assert_true(dist_peer_waiting(rig.peer) > 0);
    for (unsigned i = 0; got.len < expected.len && i < 10000; i++) {
        turn(&rig);
        far_read(&rig, &got);
    }
    assert_true(span_equal(buf_span(&got), buf_span(&expected)));
    assert_int_equal(dist_peer_waiting(rig.peer), 0);
    buf_finish(&got);
    buf_finish(&expected);
    stop(&rig);
}

static void answers_of_a_turn_leave_in_one_write(void **state) {
    (void)state;
    struct rig rig;
    struct buf bytes = {0};
    struct buf got = {0};
    start(&rig, 60000);
    rig.answer = true;
    for (unsigned i = 0; i < 100; i++) {
        append_frame(&bytes, span_str("a\1"));
    }
    assert_int_equal(write(rig.far_out, bytes.data, bytes.len), bytes.len);
    uv_run(&rig.loop, UV_RUN_NOWAIT);
    assert_int_equal(far_read(&rig, &got), 0);
    dist_peer_flush(rig.peer);
    assert_int_equal(far_read(&rig, &got), bytes.len);
    assert_true(span_equal(buf_span(&got), buf_span(&bytes)));
    buf_finish(&bytes);
    buf_finish(&got);
    stop(&rig);
}

static void writing_to_a_lost_peer_is_told_by_the_loop_alone(void **state) {
    (void)state;
    struct rig rig;
    start(&rig, 60000);
    hang_up(&rig);
    for (unsigned i = 0; i < 10; i++) {
        send_payload(&rig, span_str("a\1"));
        dist_peer_flush(rig.peer);
        assert_false(rig.down);
    }
    until_down(&rig);
    assert_non_null(strstr(rig.why, "connection"));
    stop(&rig);
}

static void a_peer_that_only_stops_to_read_is_lost_when_it_is_written_to(void **state) {
    (void)state;
    struct rig rig;
    if (!over_pipes) {
        skip();
    }
    start(&rig, 60000);
    close(rig.far_in);
    rig.far_in = open("/dev/null", O_RDONLY);
    turn(&rig);
    assert_false(rig.down);
    send_payload(&rig, span_str("a\1"));
    until_down(&rig);
    assert_string_equal(rig.why, "connection lost: Broken pipe");
    stop(&rig);
}

static void a_peer_that_is_held_is_not_read_and_its_loss_is_told_all_the_same(void **state) {
    (void)state;
    struct rig rig;
    struct buf bytes = {0};
    start(&rig, 60000);
    append_frame(&bytes, span_str("a\1"));
    dist_peer_hold(rig.peer, true);
    far_write(&rig, bytes.data, bytes.len);
    assert_int_equal(rig.messages, 0);
    dist_peer_hold(rig.peer, false);
    turn(&rig);
    assert_int_equal(rig.messages, 1);
    dist_peer_hold(rig.peer, true);
    hang_up(&rig);
    turn(&rig);
    assert_false(rig.down);
    send_payload(&rig, span_str("a\1"));
    until_down(&rig);
    buf_finish(&bytes);
    stop(&rig);
}

static void its_end_is_told_once_though_it_is_closed_much_later(void **state) {
    (void)state;
    struct rig rig;
    start(&rig, 60000);
    rig.keeps_open = true;
    hang_up(&rig);
    until_down(&rig);
    for (unsigned i = 0; i < 100; i++) {
        send_payload(&rig, span_str("a\1"));
        dist_peer_flush(rig.peer);
        dist_peer_hold(rig.peer, i % 2 == 0);
        uv_run(&rig.loop, UV_RUN_NOWAIT);
    }
    assert_string_equal(rig.why, "connection closed");
    stop(&rig);
}

static void a_frame_of_16_mib_goes_through_both_ways(void **state) {
    (void)state;
    enum { SIZE = 16 << 20 };
    struct rig rig;
    struct buf bytes = {0};
    struct buf payload = {0};
    struct buf got = {0};
    start(&rig, 60000);
    dist_peer_limit(rig.peer, SIZE + 100);
    rig.answer = true;
    assert_true(buf_reserve(&payload, SIZE));
    for (size_t i = 0; i < SIZE; i++) {
        payload.data[i] = (uint8_t)(i ^ i >> 8 ^ i >> 16);
    }
    append_frame(&bytes, span_of(payload.data, SIZE));
    far_write(&rig, bytes.data, bytes.len);
    assert_int_equal(rig.messages, 1);
    while (got.len < bytes.len && !rig.down) {
        far_read(&rig, &got);
        turn(&rig);
    }
    assert_true(span_equal(buf_span(&got), buf_span(&bytes)));
    assert_int_equal(dist_peer_waiting(rig.peer), 0);
    buf_finish(&bytes);
    buf_finish(&payload);
    buf_finish(&got);
    stop(&rig);
}

/* {==== Ticks ============================================================================= */

static void on_timer(uv_timer_t *timer) {
    struct rig *rig = timer->data;
    if (!rig->down) {
        dist_peer_tick(rig->peer);
    }
}

static void run_ticking(struct rig *rig, unsigned tick_ms, unsigned for_ms, bool far_talks,
                        struct buf *got) {
    uv_timer_t timer;
    uv_timer_init(&rig->loop, &timer);
    timer.data = rig;
    uv_timer_start(&timer, on_timer, tick_ms / 8, tick_ms / 8);
    for (unsigned ms = 0; ms < for_ms && !rig->down; ms += 5) {
        turn(rig);
        far_read(rig, got);
        if (far_talks && ms % 50 == 0) {
            assert_int_equal(write(rig->far_out, "\0\0\0\0", 4), 4);
        }
        usleep(5000);
    }
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&rig->loop, UV_RUN_NOWAIT);
}

static void a_silent_peer_is_ticked_at_and_then_dropped(void **state) {
    (void)state;
    struct rig rig;
    struct buf got = {0};
    start(&rig, 400);
    run_ticking(&rig, 400, PATIENCE_MS, false, &got);
    assert_true(rig.down);
    assert_string_equal(rig.why, "no tick for 0 s");
    assert_in_range(got.len, 2 * 4, 4 * 4);
    buf_finish(&got);
    stop(&rig);
}

static void a_peer_that_ticks_is_kept(void **state) {
    (void)state;
    struct rig rig;
    struct buf got = {0};
    start(&rig, 400);
    run_ticking(&rig, 400, 1200, true, &got);
    assert_false(rig.down);
    buf_finish(&got);
    stop(&rig);
}

static void a_loop_that_stood_still_does_not_drop_its_peers(void **state) {
    (void)state;
    struct rig rig;
    start(&rig, 200);
    dist_peer_tick(rig.peer);
    usleep(300000);
    uv_update_time(&rig.loop);
    dist_peer_tick(rig.peer);
    assert_false(rig.down);
    stop(&rig);
}

/* }==== */

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_may_be_split_at_every_byte),
        cmocka_unit_test(many_frames_in_one_read_are_handled_in_order),
        cmocka_unit_test(what_arrived_before_the_end_is_still_handled),
        cmocka_unit_test(a_tick_is_answered_but_two_nodes_do_not_tick_for_ever),
        cmocka_unit_test(a_frame_over_the_limit_drops_the_peer_before_it_is_read),
        cmocka_unit_test(a_frame_at_the_limit_is_read),
        cmocka_unit_test(a_frame_of_another_type_drops_the_peer),
        cmocka_unit_test(a_control_message_of_garbage_is_skipped),
        cmocka_unit_test(an_open_frame_is_never_sent),
        cmocka_unit_test(all_that_a_slow_reader_did_not_take_follows),
        cmocka_unit_test(answers_of_a_turn_leave_in_one_write),
        cmocka_unit_test(writing_to_a_lost_peer_is_told_by_the_loop_alone),
        cmocka_unit_test(a_peer_that_only_stops_to_read_is_lost_when_it_is_written_to),
        cmocka_unit_test(a_peer_that_is_held_is_not_read_and_its_loss_is_told_all_the_same),
        cmocka_unit_test(its_end_is_told_once_though_it_is_closed_much_later),
        cmocka_unit_test(a_frame_of_16_mib_goes_through_both_ways),
        cmocka_unit_test(a_silent_peer_is_ticked_at_and_then_dropped),
        cmocka_unit_test(a_peer_that_ticks_is_kept),
        cmocka_unit_test(a_loop_that_stood_still_does_not_drop_its_peers),
    };
    (void)signal(SIGPIPE, SIG_IGN);
    int failed = cmocka_run_group_tests_name("over a socket", tests, NULL, NULL);
    over_pipes = true;
    return failed + cmocka_run_group_tests_name("over two pipes", tests, NULL, NULL);
}
