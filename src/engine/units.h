/* Amounts as users write them: a number, or a text with a unit such as "32M" or "50ms". */
#ifndef LUNODE_ENGINE_UNITS_H
#define LUNODE_ENGINE_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct eng_amount {
    enum { ENG_AMOUNT_NUMBER, ENG_AMOUNT_TEXT, ENG_AMOUNT_OTHER } kind;
    int64_t number;
    struct span text;
};

/* Each reads one kind of amount. False when it is none; the error says what is expected. */

/* Bytes, from 1 to below 4G: 1048576, "1024K", "1M". */
bool eng_units_size(const struct eng_amount *amount, size_t *bytes, struct err *err);

/* Milliseconds, from 1 to a day: 1500, "1500ms", "2s", "5m". */
bool eng_units_time(const struct eng_amount *amount, unsigned *ms, struct err *err);

/* A number of things, without a unit. */
bool eng_units_count(const struct eng_amount *amount, unsigned least, unsigned most,
                     const char *things, unsigned *count, struct err *err);

#endif
