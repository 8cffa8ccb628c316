/* Tables as text. */
#include <stdarg.h>
#include <stdio.h>

#include "attach/private.h"

enum { MAX_COLUMNS = 16 };

/* Without memory the cell is left empty. */
void attach_table_put(struct attach_table *table, const char *format, ...) {
    char cell[1024];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(cell, sizeof cell, format, args);
    va_end(args);
    if (buf_append(&table->cells, cell, strlen(cell) + 1)) {
        table->count++;
    }
}

static void measure(const struct attach_table *table, int *widths) {
    const char *cell = (const char *)table->cells.data;
    for (size_t i = 0; i < table->count; i++) {
        int len = (int)strlen(cell);
        int *width = &widths[i % table->columns];
        *width = len > *width ? len : *width;
        cell += len + 1;
    }
}

/* Nothing is filled up behind the last column. */
void attach_table_print(struct attach_table *table, unsigned right) {
    int widths[MAX_COLUMNS] = {0};
    const char *cell = (const char *)table->cells.data;
    measure(table, widths);
    for (size_t i = 0; i < table->count; i++) {
        size_t column = i % table->columns;
        bool last = column + 1 == table->columns;
        bool to_right = (right >> column & 1) != 0;
        int width = to_right ? widths[column] : -widths[column];
        (void)printf("%*s%s", last && !to_right ? 0 : width, cell, last ? "\n" : "  ");
        cell += strlen(cell) + 1;
    }
    buf_finish(&table->cells);
    table->count = 0;
}
