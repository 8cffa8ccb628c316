/* Error messages: see err.h. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* How many bytes the UTF-8 character has that begins with `first`. */
static size_t character_size(unsigned char first) {
    if (first < 0xC0) {
        return 1;
    }
    return first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

/* vsnprintf may have cut inside a UTF-8 character: such a message could not be sent as text. */
static void drop_cut_character(char *text, size_t size) {
    size_t len = strlen(text);
    if (len + 1 < size) {
        return;
    }
    size_t start = len;
    while (start > 0 && ((unsigned char)text[start - 1] & 0xC0) == 0x80) {
        start--;
    }
    if (start > 0 && len - (start - 1) < character_size((unsigned char)text[start - 1])) {
        text[start - 1] = '\0';
    }
}

bool err_set(struct err *err, const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    drop_cut_character(err->text, sizeof err->text);
    return false;
}

bool err_prefix(struct err *err, const char *format, ...) {
    char rest[sizeof err->text];
    memcpy(rest, err->text, sizeof rest);
    va_list args;
    va_start(args, format);
    int used = vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    if (used >= 0 && (size_t)used < sizeof err->text) {
        (void)snprintf(err->text + used, sizeof err->text - (size_t)used, "%s", rest);
    }
    drop_cut_character(err->text, sizeof err->text);
    return false;
}
