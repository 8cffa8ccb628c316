/* Amounts as users write them: see units.h. */
#include "engine/units.h"

enum { DAY_MS = 24 * 60 * 60 * 1000 };

struct unit {
    const char *name; /* NULL: no more */
    int64_t factor;
};

/* A text has digits, and one of the units or nothing behind them. 0 when it has not, or the amount
 * is beyond `max`. */
static int64_t read_text(struct span text, const struct unit *units, int64_t max) {
    int64_t number = 0;
    size_t at = 0;
    while (at < text.len && text.data[at] >= '0' && text.data[at] <= '9' && number <= max) {
        number = number * 10 + (text.data[at++] - '0');
    }
    struct span name = span_of(text.data + at, text.len - at);
    while (name.len > 0 && units->name != NULL && !span_equal(name, span_str(units->name))) {
        units++;
    }
    int64_t factor = name.len == 0 ? 1 : units->name == NULL ? 0 : units->factor;
    return number > max ? 0 : number * factor;
}

/* False unless it is from 1 to max. */
static bool read(const struct eng_amount *amount, const struct unit *units, int64_t max,
                 int64_t *value) {
    *value = amount->kind == ENG_AMOUNT_NUMBER ? amount->number
             : amount->kind == ENG_AMOUNT_TEXT ? read_text(amount->text, units, max)
                                               : 0;
    return *value > 0 && *value <= max;
}

bool eng_units_size(const struct eng_amount *amount, size_t *bytes, struct err *err) {
    static const struct unit units[] = {{"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {NULL, 0}};
    int64_t value;
    if (!read(amount, units, UINT32_MAX, &value)) {
        return err_set(err, "a size such as 1048576 or \"256M\" expected, below 4G");
    }
    *bytes = (size_t)value;
    return true;
}

bool eng_units_time(const struct eng_amount *amount, unsigned *ms, struct err *err) {
    static const struct unit units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {NULL, 0}};
    int64_t value;
    if (!read(amount, units, DAY_MS, &value)) {
        return err_set(err, "a time such as 500 (milliseconds), \"50ms\", \"1s\" or \"2m\" "
                            "expected, of a day at the most");
    }
    *ms = (unsigned)value;
    return true;
}

bool eng_units_count(const struct eng_amount *amount, unsigned least, unsigned most,
                     const char *things, unsigned *count, struct err *err) {
    if (amount->kind != ENG_AMOUNT_NUMBER || amount->number < least || amount->number > most) {
        return err_set(err, "a number of %s from %u to %u expected", things, least, most);
    }
    *count = (unsigned)amount->number;
    return true;
}
