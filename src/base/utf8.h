/* UTF-8 as Erlang accepts it. */
#ifndef LUNODE_BASE_UTF8_H
#define LUNODE_BASE_UTF8_H

#include "base/buf.h"

/* Takes one character off `in`. False when it is no well-formed UTF-8 (surrogates are not). */
bool utf8_next(struct span *in, uint32_t *character);

/* The first bytes of the text, `max` at most, cut between two characters. */
struct span utf8_cut(struct span text, size_t max);

#endif
