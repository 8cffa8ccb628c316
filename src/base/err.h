/* An error message on its way up: what failed, where, and why, in words for the user. */
#ifndef LUNODE_BASE_ERR_H
#define LUNODE_BASE_ERR_H

#include <stdbool.h>

/* Filled by the function that fails; its caller may put words in front with err_prefix. */
struct err {
    char text[512];
};

/* Writes the message (cut to fit, never in the middle of a UTF-8 character) and returns false, so
 * that a failing function can end with `return err_set(err, ...)`. */
bool err_set(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts words in front of the message that is there: "init: " + "no memory". Returns false. */
bool err_prefix(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
