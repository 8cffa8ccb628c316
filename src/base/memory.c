/* Giving memory back, where the allocator keeps it by itself: see memory.h. */
#include "base/memory.h"

#include <stdlib.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

void memory_release(void) {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}
