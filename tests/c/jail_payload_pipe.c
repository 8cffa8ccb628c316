/* The check of payloads as a filter: frames of four bytes' length on standard input, each a term;
 * for each one byte on standard output, 1 when it passes. */
#include <stdio.h>
#include <stdlib.h>

#include "base/ext.h"
#include "jail/payload.h"

static uint8_t frame[1 << 20];

static bool answer(const struct jail_given *given, size_t len) {
    static const uint8_t head[] = {0, 0, 0, 1};
    struct err err;
    uint32_t fresh = 0;
    uint8_t *copy = malloc(len == 0 ? 1 : len); /* so that a read behind it is seen */
    if (copy == NULL) {
        return false;
    }
    memcpy(copy, frame, len);
    bool ok = jail_payload_check(span_of(copy, len), given, UINT32_MAX, &fresh, &err);
    free(copy);
    return fwrite(head, sizeof head, 1, stdout) == 1 && putchar(ok) != EOF && fflush(stdout) == 0;
}

int main(void) {
    struct jail_given given = {
        .atoms = term_atoms_create(), .ids = jail_ids_create(), .self = span_str("lunode@nowhere")};
    uint8_t head[4];
    bool ok = given.atoms != NULL && given.ids != NULL;
    while (ok && fread(head, sizeof head, 1, stdin) == 1) {
        size_t len = ext_u32(head);
        ok = len <= sizeof frame && fread(frame, 1, len, stdin) == len && answer(&given, len);
    }
    term_atoms_destroy(given.atoms);
    jail_ids_destroy(given.ids);
    return ok ? 0 : 1;
}
