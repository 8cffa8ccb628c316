/* What a node is to run: scripts named on the command line or in the environment, scripts found in
 * a folder, and the configuration file `lunode.lua`. */
#ifndef LUNODE_ENGINE_CONFIG_H
#define LUNODE_ENGINE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "engine/policy.h"

struct eng_script {
    char *name; /* the handler's */
    char *path;
    bool found_in_folder; /* not named by itself: a broken one does not stop the start */
    bool stop_on_failure; /* on_failure = "stop" */
    struct eng_policy policy;
};

struct eng_config {
    struct eng_script *scripts;
    size_t count;
    char **folders; /* those that were named: each script in them is a handler */
    size_t folder_count;
    bool watch;       /* the scripts: what is saved is loaded */
    size_t max_frame; /* bytes */
};

void eng_config_init(struct eng_config *config);
void eng_config_finish(struct eng_config *config);

/* Whether a name is the node's own, so that no handler or process can have it. */
bool eng_config_is_reserved(struct span name);

/* Whether a handler may have the name. */
bool eng_config_check_name(const char *name, struct err *err);

/* Whether a file of that name is a script, and whether it is a handler when it lies in a folder. */
bool eng_config_is_lua(const char *name);
bool eng_config_is_script(const char *name);

/* Adds a script, or the scripts of a folder with its `lunode.lua` if there is one. */
bool eng_config_add_path(struct eng_config *config, const char *path, struct err *err);

/* Reads a configuration file. Its paths are relative to its own folder. */
bool eng_config_read(struct eng_config *config, const char *path, struct err *err);

#endif
