/* The allocator's memory. */
#ifndef LUNODE_BASE_MEMORY_H
#define LUNODE_BASE_MEMORY_H

/* Gives the pages that hold nothing back to the system. Takes as long as there are freed pieces:
 * for a moment when nobody waits. */
void memory_release(void);

#endif
