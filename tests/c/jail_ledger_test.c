/* What a worker owes: that a debt is found by its key, and that those given up are bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/ext.h"
#include "jail/ledger.h"

/* A call by a process of the node. */
static struct jail_debt *owe(struct jail_ledger *ledger, const char *node, uint32_t number) {
    struct buf pid = {0};
    uint8_t tag[4];
    ext_set_u32(tag, number);
    assert_true(ext_put_pid(&pid, span_str(node), number, 0, 1));
    struct jail_debt call = {.kind = JAIL_CALL, .pid = buf_span(&pid)};
    struct jail_debt *debt = jail_debt_add(ledger, &call, span_of(tag, 4), (struct span){0});
    buf_finish(&pid);
    assert_non_null(debt);
    return debt;
}

static struct jail_debt *find(struct jail_ledger *ledger, uint32_t number) {
    uint8_t tag[4];
    ext_set_u32(tag, number);
    return jail_debt_find(ledger, JAIL_CALL, span_of(tag, 4), (struct span){0});
}

static void a_debt_is_found_by_its_key_until_it_is_paid(void **state) {
    (void)state;
    struct jail_ledger ledger = {0};
    struct jail_debt *debt = owe(&ledger, "a@b", 1);
    assert_ptr_equal(find(&ledger, 1), debt);
    assert_null(find(&ledger, 2));
    assert_null(jail_debt_find(&ledger, JAIL_MONITOR, span_of("\0\0\0\1", 4), (struct span){0}));
    jail_debt_drop(&ledger, debt);
    assert_null(find(&ledger, 1));
}

static void a_lost_node_gives_up_any_number_and_the_last_are_kept(void **state) {
    (void)state;
    struct jail_ledger ledger = {0};
    enum { COUNT = 3 * JAIL_MAX_GIVEN_UP };
    for (uint32_t i = 0; i < COUNT; i++) {
        owe(&ledger, i % 100 == 0 ? "stays@b" : "goes@b", i);
    }
    jail_ledger_node_down(&ledger, span_str("goes@b"));
    assert_int_equal(ledger.given_up_count, JAIL_MAX_GIVEN_UP);
    for (uint32_t i = 0; i < COUNT; i += 100) {
        assert_non_null(find(&ledger, i));
        assert_false(find(&ledger, i)->given_up);
    }
    jail_ledger_node_down(&ledger, span_str("goes@b"));
    assert_int_equal(ledger.given_up_count, JAIL_MAX_GIVEN_UP);
    jail_ledger_clear(&ledger);
    assert_int_equal(ledger.given_up_count, 0);
}

static void watches_are_counted(void **state) {
    (void)state;
    struct jail_ledger ledger = {0};
    struct jail_debt watch = {.kind = JAIL_WATCH};
    struct jail_debt *first = jail_debt_add(&ledger, &watch, span_str("1"), (struct span){0});
    jail_debt_add(&ledger, &watch, span_str("2"), (struct span){0});
    assert_int_equal(ledger.watches, 2);
    jail_debt_drop(&ledger, first);
    assert_int_equal(ledger.watches, 1);
    jail_ledger_clear(&ledger);
    assert_int_equal(ledger.watches, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_debt_is_found_by_its_key_until_it_is_paid),
        cmocka_unit_test(a_lost_node_gives_up_any_number_and_the_last_are_kept),
        cmocka_unit_test(watches_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
