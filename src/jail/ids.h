/* Which unusual identifiers a worker has been given, so that it can't invent others. Keeps those
 * that were used last: at least JAIL_IDS of them. */
#ifndef LUNODE_JAIL_IDS_H
#define LUNODE_JAIL_IDS_H

#include <stdbool.h>
#include <stdint.h>

enum { JAIL_IDS = 65536 };

struct jail_ids;

struct jail_ids *jail_ids_create(void); /* NULL: no memory, or no random numbers */
void jail_ids_destroy(struct jail_ids *ids);

/* A random number that no worker knows: hashes begin with it. */
uint64_t jail_ids_seed(const struct jail_ids *ids);

/* Notes the identifier of this hash. False when there is no memory. */
bool jail_ids_add(struct jail_ids *ids, uint64_t hash);

/* Whether it is there; counts as a use. */
bool jail_ids_has(struct jail_ids *ids, uint64_t hash);

#endif
