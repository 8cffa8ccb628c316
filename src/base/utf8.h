/* UTF-8 as Erlang accepts it. */
#ifndef LUNODE_BASE_UTF8_H
#define LUNODE_BASE_UTF8_H

#include "base/buf.h"

/* Takes one character off `in`. False when it is no well-formed UTF-8 (surrogates are not). */
bool utf8_next(struct span *in, uint32_t *character);

#endif
