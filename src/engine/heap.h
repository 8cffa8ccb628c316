/* Memory that is given back as a whole: the blocks of an untrusted VM. */
#ifndef LUNODE_ENGINE_HEAP_H
#define LUNODE_ENGINE_HEAP_H

#include <stddef.h>

struct eng_heap;

struct eng_heap *eng_heap_create(void); /* NULL: no memory */

/* Frees all that was taken from it. NULL is fine. */
void eng_heap_destroy(struct eng_heap *heap);

/* As realloc: `block` may be NULL; `size` is not 0. NULL, with the block as it was: no memory. */
void *eng_heap_resize(struct eng_heap *heap, void *block, size_t size);
void eng_heap_free(struct eng_heap *heap, void *block); /* NULL is fine */

#endif
