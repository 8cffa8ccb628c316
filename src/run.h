/* Running a node: its parts put together, from the first to the last moment. */
#ifndef LUNODE_RUN_H
#define LUNODE_RUN_H

#include <stdbool.h>
#include <stdint.h>

enum { RUN_MAX_PATHS = 64 };

struct run_config {
    const char *host;
    const char *alive;
    uint32_t creation;
    char *cookie;      /* overwritten as soon as it is not needed */
    bool bundlex;      /* started as a Bundlex CNode: lives as long as its owner and its input */
    const char *owner; /* the node it belongs to; NULL: the first peer */
    const char *config_file;
    const char *paths[RUN_MAX_PATHS]; /* scripts and folders */
    int path_count;
    const char *connect[RUN_MAX_PATHS]; /* nodes to connect to */
    int connect_count;
};

/* Runs the node until it ends. The exit status. */
int run_node(const struct run_config *config);

/* `lunode check`: 0 when every script loads, else 1. */
int run_check(const char *const *paths, int count);

#endif
