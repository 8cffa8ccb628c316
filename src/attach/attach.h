/* `lunode attach`: a Lua prompt inside a running node. It joins the cluster as a node of its own,
 * which listens nowhere, and talks to the process `lunode` of the other. */
#ifndef LUNODE_ATTACH_ATTACH_H
#define LUNODE_ATTACH_ATTACH_H

#include <stdint.h>

struct attach_config {
    const char *node; /* NAME@HOST, to attach to */
    const char *host; /* this machine's name */
    char *cookie;     /* overwritten as soon as it is not needed */
    uint32_t creation;
};

/* Runs the prompt until it ends. The exit status: 1 when the node can't be reached or is lost, or
 * when the last evaluation failed. */
int attach_run(const struct attach_config *config);

#endif
