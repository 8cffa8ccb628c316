/* Text of bounded size, and the parts of it that Elixir's inspect would write: texts in quotes,
 * atoms, floats. */
#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "term/private.h"

enum {
    MAX_BYTES = 50,    /* of what is no text */
    MAX_LOOKED = 4096, /* so much of a binary tells whether it is text */
};

/* {==== Words ============================================================================= */

void term_text_bytes(struct term_text *text, struct span bytes) {
    if (text->full || bytes.len >= text->size - text->len) {
        text->full = true;
        return;
    }
    memcpy(text->data + text->len, bytes.data, bytes.len);
    text->len += bytes.len;
}

void term_text_put(struct term_text *text, const char *words) {
    term_text_bytes(text, span_str(words));
}

void term_text_format(struct term_text *text, const char *format, ...) {
    char part[64];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(part, sizeof part, format, args);
    va_end(args);
    term_text_put(text, part);
}

void term_text_begin(struct term_text *text, char *buffer, size_t size) {
    *text = (struct term_text){.data = buffer, .size = size - 3}; /* room for the dots */
}

size_t term_text_end(struct term_text *text) {
    if (text->full) {
        memcpy(text->data + text->len, "...", 3);
        text->len += 3;
    }
    text->data[text->len] = '\0';
    return text->len;
}

/* }==== */

/* {==== Binaries ========================================================================== */

/* A character inside quotes. */
static void put_character(struct term_text *text, struct span bytes, uint32_t character) {
    static const char escapes[] = "abtnvfr"; /* characters 7 to 13 */
    if (character == '"' || character == '\\') {
        term_text_format(text, "\\%c", (int)character);
    } else if (character >= 7 && character <= 13) {
        term_text_format(text, "\\%c", escapes[character - 7]);
    } else if (character < 0x20 || character == 0x7F) {
        term_text_format(text, "\\x%02X", (unsigned)character);
    } else {
        term_text_bytes(text, bytes);
    }
}

void term_text_escaped(struct term_text *text, struct span bytes) {
    uint32_t character;
    while (bytes.len > 0 && !text->full) {
        const uint8_t *start = bytes.data;
        if (!utf8_next(&bytes, &character)) {
            break;
        }
        put_character(text, span_of(start, (size_t)(bytes.data - start)), character);
    }
}

void term_text_quoted(struct term_text *text, struct span bytes) {
    term_text_put(text, "\"");
    term_text_escaped(text, bytes);
    term_text_put(text, "\"");
}

void term_text_raw(struct term_text *text, struct span bytes, size_t last_bits) {
    term_text_put(text, "<<");
    for (size_t i = 0; i < bytes.len && !text->full; i++) {
        if (i == MAX_BYTES) {
            term_text_put(text, ", ...");
            break;
        }
        bool last = i + 1 == bytes.len && last_bits != 0;
        term_text_format(text, "%s%u", i == 0 ? "" : ", ",
                         last ? bytes.data[i] >> (8 - last_bits) : bytes.data[i]);
        if (last) {
            term_text_format(text, "::size(%zu)", last_bits);
        }
    }
    term_text_put(text, ">>");
}

static bool is_text(struct span bytes) {
    uint32_t character;
    while (bytes.len > 0) {
        if (!utf8_next(&bytes, &character)) {
            return false;
        }
    }
    return true;
}

void term_text_binary(struct term_text *text, struct span bytes) {
    struct span first = utf8_cut(bytes, MAX_LOOKED);
    if (is_text(first)) {
        term_text_quoted(text, first);
    } else {
        term_text_raw(text, first, 0);
    }
}

/* }==== */

/* {==== Atoms and floats ================================================================== */

/* Whether an atom or key can do without quotes. */
static bool is_plain(struct span name) {
    if (name.len == 0 || !(isalpha(name.data[0]) || name.data[0] == '_')) {
        return false;
    }
    for (size_t i = 1; i < name.len; i++) {
        uint8_t c = name.data[i];
        bool end = i + 1 == name.len && (c == '?' || c == '!');
        if (c >= 0x80 || !(isalnum(c) || c == '_' || c == '@' || end)) {
            return false;
        }
    }
    return name.data[0] < 0x80;
}

void term_text_name(struct term_text *text, struct span name) {
    if (is_plain(name)) {
        term_text_bytes(text, name);
    } else {
        term_text_quoted(text, name);
    }
}

/* Whether the atom is a module's name, such as Elixir.Foo. */
static bool is_module(struct span name) {
    return name.len > 7 && memcmp(name.data, "Elixir.", 7) == 0 && isupper(name.data[7]);
}

void term_text_atom(struct term_text *text, struct span name) {
    if (is_module(name)) {
        term_text_escaped(text, span_of(name.data + 7, name.len - 7));
    } else {
        term_text_put(text, ":");
        term_text_name(text, name);
    }
}

void term_text_float(struct term_text *text, double number) {
    char digits[40];
    for (int precision = 15; precision <= 17; precision++) {
        (void)snprintf(digits, sizeof digits, "%.*g", precision, number);
        if (strtod(digits, NULL) == number) {
            break;
        }
    }
    term_text_put(text, digits);
    if (isfinite(number) && strpbrk(digits, ".e") == NULL) {
        term_text_put(text, ".0");
    }
}

/* }==== */
