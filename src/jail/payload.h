/* The check of a term that a worker emits, before it leaves for a BEAM.
 *
 * A BEAM drops the connection when it can't decode a term, and with it everybody's. So what passes
 * is what any BEAM from OTP 25 on decodes, in the tags that our own encoder writes. Three things a
 * BEAM keeps for ever are counted: names that it may not know as atoms, and the entries that it
 * makes for funs. A BEAM refuses identifiers with its own name whose numbers it can't have given
 * out; which these are depends on its version. So a worker may use any number small enough for all
 * versions, those of this node, and those that it was given. */
#ifndef LUNODE_JAIL_PAYLOAD_H
#define LUNODE_JAIL_PAYLOAD_H

#include "base/buf.h"
#include "base/err.h"
#include "jail/ids.h"
#include "term/term.h"

/* What a worker, or a handler in it, has been given. */
struct jail_given {
    struct term_atoms *atoms;
    struct jail_ids *ids;
    struct span self; /* the name of this node */
};

/* Whether `term`, without version byte, is one whole term that may leave. Adds to *fresh the
 * number of atoms and funs that were not known, which are from now on; false as well when *fresh
 * exceeds `most`. Takes time in proportion to the term's size, and no C stack. */
bool jail_payload_check(struct span term, const struct jail_given *given, uint32_t most,
                        uint32_t *fresh, struct err *err);

/* Notes the atoms, funs and identifiers of a term on its way to the worker. False when it is none
 * that jail_payload_check could pass; then what came before the place in question is noted. */
bool jail_payload_note(struct span term, const struct jail_given *given);

#endif
