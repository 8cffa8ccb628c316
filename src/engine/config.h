/* What a node is to run: scripts named on the command line or in the environment, scripts found in
 * a folder, and the configuration file `lunode.lua`. */
#ifndef LUNODE_ENGINE_CONFIG_H
#define LUNODE_ENGINE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "engine/rules.h"

struct eng_script {
    char *name; /* the handler's */
    char *path;
    bool found_in_folder;     /* not named by itself: a broken one does not stop the start */
    bool stop_on_failure;     /* on_failure = "stop" */
    struct eng_policy policy; /* by the rules, once the configuration is settled */
};

struct eng_config {
    struct eng_script *scripts;
    size_t count;
    char **folders; /* those that were named: each script in them is a handler */
    size_t folder_count;
    bool watch;       /* the scripts: what is saved is loaded */
    size_t max_frame; /* bytes */
    unsigned workers; /* of the pool that runs scripts which are not trusted */
    bool unjailed;    /* they may run where the system can't jail them */
    struct eng_rules rules;
};

enum { ENG_CONFIG_MAX_PATH = 4096 };

void eng_config_init(struct eng_config *config);
void eng_config_finish(struct eng_config *config);

/* Whether a name is the node's own, so that no handler or process can have it. */
bool eng_config_is_reserved(struct span name);

/* Whether a handler may have the name. */
bool eng_config_check_name(const char *name, struct err *err);

/* Whether a file of that name is a script, and whether it is a handler when it lies in a folder. */
bool eng_config_is_lua(const char *name);
bool eng_config_is_script(const char *name);

struct eng_script *eng_config_find(struct eng_config *config, const char *name);

/* Adds a script under a name of its own; `found`: see found_in_folder. */
bool eng_config_add_script(struct eng_config *config, const char *name, const char *path,
                           bool found, struct err *err);

/* Adds a script, or the scripts of a folder with its `lunode.lua` if there is one. */
bool eng_config_add_path(struct eng_config *config, const char *path, struct err *err);

/* Reads a configuration file. Its paths are relative to its own folder. */
bool eng_config_read(struct eng_config *config, const char *path, struct err *err);

/* When all of it is read: gives each script its policy by the rules. */
bool eng_config_settle(struct eng_config *config, struct err *err);

#endif
