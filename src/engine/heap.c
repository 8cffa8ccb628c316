/* Heaps of mimalloc's. The tools that look for memory errors see malloc alone, so with them each
 * block is one of malloc's, in a list. */
#include "engine/heap.h"

#ifndef LUNODE_PLAIN_HEAP

#include <mimalloc.h>

struct eng_heap *eng_heap_create(void) {
    return (struct eng_heap *)mi_heap_new();
}

void eng_heap_destroy(struct eng_heap *heap) {
    if (heap != NULL) {
        mi_heap_destroy((mi_heap_t *)heap);
    }
}

void *eng_heap_resize(struct eng_heap *heap, void *block, size_t size) {
    return mi_heap_realloc((mi_heap_t *)heap, block, size);
}

void eng_heap_free(struct eng_heap *heap, void *block) {
    (void)heap;
    mi_free(block);
}

#else

#include <stdalign.h>
#include <stdlib.h>
#include <utlist.h>

struct block {
    alignas(max_align_t) struct block *prev;
    struct block *next;
};

struct eng_heap {
    struct block *blocks;
};

struct eng_heap *eng_heap_create(void) {
    return calloc(1, sizeof(struct eng_heap));
}

void eng_heap_destroy(struct eng_heap *heap) {
    struct block *block;
    struct block *next;
    if (heap != NULL) {
        DL_FOREACH_SAFE(heap->blocks, block, next) {
            free(block);
        }
        free(heap);
    }
}

static struct block *block_of(void *memory) {
    return memory == NULL ? NULL : (struct block *)memory - 1;
}

void *eng_heap_resize(struct eng_heap *heap, void *block, size_t size) {
    struct block *old = block_of(block);
    if (old != NULL) {
        DL_DELETE(heap->blocks, old);
    }
    struct block *resized = realloc(old, sizeof *resized + size);
    if (resized == NULL && old == NULL) {
        return NULL;
    }
    DL_PREPEND(heap->blocks, resized == NULL ? old : resized);
    return resized == NULL ? NULL : resized + 1;
}

void eng_heap_free(struct eng_heap *heap, void *block) {
    struct block *old = block_of(block);
    if (old != NULL) {
        DL_DELETE(heap->blocks, old);
        free(old);
    }
}

#endif
