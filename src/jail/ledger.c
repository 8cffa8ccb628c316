/* What a worker owes: see ledger.h. */
#include "jail/ledger.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/ext.h"

enum { MAX_KEY = 4096 };

/* The kind, then both parts. 0: too long. */
static size_t make_key(uint8_t *key, enum jail_debt_kind kind, struct span a, struct span b) {
    uint8_t *at = key + 1;
    if (a.len > MAX_KEY || b.len > MAX_KEY || 1 + a.len + b.len > MAX_KEY) {
        return 0;
    }
    key[0] = (uint8_t)kind;
    span_keep(&at, a);
    span_keep(&at, b);
    return (size_t)(at - key);
}

struct jail_debt *jail_debt_find(struct jail_ledger *ledger, enum jail_debt_kind kind,
                                 struct span a, struct span b) {
    uint8_t key[MAX_KEY];
    struct jail_debt *debt = NULL;
    size_t len = make_key(key, kind, a, b);
    if (len > 0) {
        HASH_FIND(hh, ledger->debts, key, len, debt);
    }
    return debt;
}

struct jail_debt *jail_debt_add(struct jail_ledger *ledger, const struct jail_debt *debt,
                                struct span a, struct span b) {
    uint8_t key[MAX_KEY];
    size_t len = make_key(key, debt->kind, a, b);
    struct jail_debt *old = jail_debt_find(ledger, debt->kind, a, b);
    struct jail_debt *copy =
        len == 0 ? NULL
                 : malloc(sizeof *copy + len + debt->pid.len + debt->what.len + debt->node.len);
    if (copy == NULL) {
        return NULL;
    }
    if (old != NULL) {
        jail_debt_drop(ledger, old);
    }
    *copy = *debt;
    uint8_t *at = copy->bytes;
    struct span kept = span_keep(&at, span_of(key, len));
    copy->pid = span_keep(&at, debt->pid);
    copy->what = span_keep(&at, debt->what);
    copy->node = span_keep(&at, debt->node);
    HASH_ADD_KEYPTR(hh, ledger->debts, kept.data, kept.len, copy);
    ledger->watches += debt->kind == JAIL_WATCH;
    return copy;
}

void jail_debt_drop(struct jail_ledger *ledger, struct jail_debt *debt) {
    assert(ledger->debts != NULL);
    ledger->watches -= debt->kind == JAIL_WATCH;
    if (debt->given_up) {
        DL_DELETE(ledger->given_up, debt);
        ledger->given_up_count--;
    }
    HASH_DELETE(hh, ledger->debts, debt);
    free(debt);
}

/* Makes room first, so that `debt` itself stays. */
void jail_debt_give_up(struct jail_ledger *ledger, struct jail_debt *debt) {
    if (debt->given_up) {
        return;
    }
    if (ledger->given_up_count == JAIL_MAX_GIVEN_UP) {
        assert(ledger->given_up->given_up && ledger->given_up != debt);
        jail_debt_drop(ledger, ledger->given_up);
    }
    debt->given_up = true;
    DL_APPEND(ledger->given_up, debt);
    ledger->given_up_count++;
}

void jail_ledger_node_down(struct jail_ledger *ledger, struct span node) {
    struct jail_debt *debt = ledger->debts;
    for (; debt != NULL; debt = debt->hh.next) {
        struct span where = debt->kind == JAIL_WATCH ? debt->node : ext_node_of(debt->pid);
        if (span_equal(where, node)) {
            jail_debt_give_up(ledger, debt);
        }
    }
}

void jail_ledger_clear(struct jail_ledger *ledger) {
    struct jail_debt *debt = ledger->debts;
    HASH_CLEAR(hh, ledger->debts);
    while (debt != NULL) {
        struct jail_debt *next = debt->hh.next;
        free(debt);
        debt = next;
    }
    *ledger = (struct jail_ledger){0};
}
