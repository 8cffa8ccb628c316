/* When the allocator gives memory back: see memory.h. */
#include "base/memory.h"

#include <stdlib.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

enum { KEEP = 1 << 28, MAPPED = 1 << 25 };

void memory_keep(void) {
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, MAPPED); /* glibc takes no higher one */
    mallopt(M_TRIM_THRESHOLD, KEEP);
#endif
}

void memory_release(void) {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}
