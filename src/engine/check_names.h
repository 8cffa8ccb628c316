/* The parts of Lua's libraries that a script which is not trusted gets, as a list. */
#ifndef LUNODE_ENGINE_CHECK_NAMES_H
#define LUNODE_ENGINE_CHECK_NAMES_H

#include <stdbool.h>

#include "base/buf.h"

/* Whether it gets the global, or (`field` is not empty) the library's function. */
bool eng_check_has(struct span name, struct span field);

#endif
