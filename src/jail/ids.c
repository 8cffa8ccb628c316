/* Unusual identifiers: see ids.h. Two generations: when the new one is full it becomes the old one,
 * and what was in neither of them since is forgotten. */
#include "jail/ids.h"

#include <stdlib.h>
#include <unistd.h>
#ifdef __APPLE__
#include <sys/random.h>
#endif

enum { FIRST_CAP = 64 };

/* A table with open addressing; 0 is a free place. */
struct generation {
    uint64_t *hashes;
    uint32_t cap;
    uint32_t count;
};

struct jail_ids {
    struct generation young;
    struct generation old;
    uint64_t seed;
};

struct jail_ids *jail_ids_create(void) {
    struct jail_ids *ids = calloc(1, sizeof *ids);
    if (ids != NULL && getentropy(&ids->seed, sizeof ids->seed) != 0) {
        free(ids);
        return NULL;
    }
    return ids;
}

uint64_t jail_ids_seed(const struct jail_ids *ids) {
    return ids->seed;
}

void jail_ids_destroy(struct jail_ids *ids) {
    if (ids != NULL) {
        free(ids->young.hashes);
        free(ids->old.hashes);
        free(ids);
    }
}

/* Where the hash is, or the free place where it belongs. */
static uint64_t *place_of(const struct generation *in, uint64_t hash) {
    uint32_t at = (uint32_t)(hash >> 32) & (in->cap - 1);
    while (in->hashes[at] != 0 && in->hashes[at] != hash) {
        at = (at + 1) & (in->cap - 1);
    }
    return &in->hashes[at];
}

static bool is_in(const struct generation *in, uint64_t hash) {
    return in->cap > 0 && *place_of(in, hash) == hash;
}

static bool grow(struct generation *in) {
    struct generation larger = {.cap = in->cap == 0 ? FIRST_CAP : 2 * in->cap, .count = in->count};
    larger.hashes = calloc(larger.cap, sizeof *larger.hashes);
    if (larger.hashes == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < in->cap; i++) {
        if (in->hashes[i] != 0) {
            *place_of(&larger, in->hashes[i]) = in->hashes[i];
        }
    }
    free(in->hashes);
    *in = larger;
    return true;
}

static uint64_t valid(uint64_t hash) {
    return hash == 0 ? 1 : hash;
}

bool jail_ids_add(struct jail_ids *ids, uint64_t hash) {
    hash = valid(hash);
    if (is_in(&ids->young, hash)) {
        return true;
    }
    if (ids->young.count == JAIL_IDS) {
        free(ids->old.hashes);
        ids->old = ids->young;
        ids->young = (struct generation){0};
    }
    if (2 * ids->young.count >= ids->young.cap && !grow(&ids->young)) {
        return false;
    }
    *place_of(&ids->young, hash) = hash;
    ids->young.count++;
    return true;
}

bool jail_ids_has(struct jail_ids *ids, uint64_t hash) {
    hash = valid(hash);
    if (is_in(&ids->young, hash)) {
        return true;
    }
    return is_in(&ids->old, hash) && jail_ids_add(ids, hash);
}
