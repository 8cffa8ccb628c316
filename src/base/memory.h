/* The allocator's memory. */
#ifndef LUNODE_BASE_MEMORY_H
#define LUNODE_BASE_MEMORY_H

/* From now on the allocator keeps what is freed until memory_release: large messages that follow
 * each other use the same pages, which the system does not have to clear each time. */
void memory_keep(void);

/* Gives the pages that hold nothing back to the system. Takes as long as there are freed pieces: a
 * millisecond or two in a node of 700 MiB. */
void memory_release(void);

#endif
