/* What a node is to run: see config.h. */
#include "engine/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <uv.h>

enum { DEFAULT_MAX_FRAME = 256 << 20, MAX_PATH = ENG_CONFIG_MAX_PATH };

void eng_config_init(struct eng_config *config) {
    *config = (struct eng_config){
        .watch = true, .max_frame = DEFAULT_MAX_FRAME, .workers = uv_available_parallelism()};
}

void eng_config_finish(struct eng_config *config) {
    for (size_t i = 0; i < config->count; i++) {
        free(config->scripts[i].name);
        free(config->scripts[i].path);
        eng_policy_finish(&config->scripts[i].policy);
    }
    for (size_t i = 0; i < config->folder_count; i++) {
        free(config->folders[i]);
    }
    free(config->scripts);
    free(config->folders);
    eng_rules_finish(&config->rules);
    eng_config_init(config);
}

/* {==== Scripts =========================================================================== */

struct eng_script *eng_config_find(struct eng_config *config, const char *name) {
    for (size_t i = 0; i < config->count; i++) {
        if (strcmp(config->scripts[i].name, name) == 0) {
            return &config->scripts[i];
        }
    }
    return NULL;
}

bool eng_config_is_reserved(struct span name) {
    static const char *const reserved[] = {"lunode", "net_kernel", "init", "erlang", "erpc", "rpc"};
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++) {
        if (span_equal(name, span_str(reserved[i]))) {
            return true;
        }
    }
    return false;
}

bool eng_config_check_name(const char *name, struct err *err) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    if (eng_config_is_reserved(span_str(name))) {
        return err_set(err, "the name %s is reserved; no handler can have it", name);
    }
    if (name[0] == '\0' || name[strspn(name, letters)] != '\0' || strlen(name) > 255) {
        return err_set(err, "a handler's name has letters, digits, _ - . only, not \"%s\"", name);
    }
    return true;
}

bool eng_config_add_script(struct eng_config *config, const char *name, const char *path,
                           bool found, struct err *err) {
    const struct eng_script *same = eng_config_find(config, name);
    if (!eng_config_check_name(name, err)) {
        return err_prefix(err, "%s: ", path);
    }
    if (same != NULL && strcmp(same->path, path) == 0) {
        return true; /* found in the folder, and configured there by its path */
    }
    if (same != NULL) {
        return err_set(err, "two scripts for the handler %s: %s and %s", name, same->path, path);
    }
    struct eng_script *scripts =
        realloc(config->scripts, (config->count + 1) * sizeof *config->scripts);
    if (scripts == NULL) {
        return err_set(err, "no memory for the script %s", path);
    }
    config->scripts = scripts;
    struct eng_script *script = &scripts[config->count];
    *script =
        (struct eng_script){.name = strdup(name), .path = strdup(path), .found_in_folder = found};
    eng_policy_init(&script->policy, true);
    if (script->name == NULL || script->path == NULL) {
        free(script->name);
        free(script->path);
        return err_set(err, "no memory for the script %s", path);
    }
    config->count++;
    return true;
}

static bool ends_with_lua(const char *name) {
    size_t len = strlen(name);
    return len > 4 && strcmp(name + len - 4, ".lua") == 0;
}

/* "handlers/calc.lua" is the handler calc. */
static bool add_file(struct eng_config *config, const char *path, bool found, struct err *err) {
    const char *slash = strrchr(path, '/');
    char name[256];
    (void)snprintf(name, sizeof name, "%s", slash == NULL ? path : slash + 1);
    if (ends_with_lua(name)) {
        name[strlen(name) - 4] = '\0';
    }
    return eng_config_add_script(config, name, path, found, err);
}

bool eng_config_is_lua(const char *name) {
    return ends_with_lua(name) && name[0] != '.';
}

bool eng_config_is_script(const char *name) {
    return eng_config_is_lua(name) && name[0] != '_' && strcmp(name, "lunode.lua") != 0;
}

static bool join(char *out, const char *folder, const char *name, struct err *err) {
    int len = snprintf(out, MAX_PATH, "%s/%s", folder, name);
    return (len > 0 && len < MAX_PATH) || err_set(err, "%s: the path is too long", folder);
}

static bool note_folder(struct eng_config *config, const char *folder) {
    char *copy = strdup(folder);
    char **folders = realloc(config->folders, (config->folder_count + 1) * sizeof *config->folders);
    config->folders = folders == NULL ? config->folders : folders;
    if (copy == NULL || folders == NULL) {
        free(copy);
        return false;
    }
    folders[config->folder_count++] = copy;
    return true;
}

static bool add_folder(struct eng_config *config, const char *folder, struct err *err) {
    uv_fs_t request;
    uv_dirent_t entry;
    char path[MAX_PATH];
    int count = uv_fs_scandir(NULL, &request, folder, 0, NULL);
    if (count < 0) {
        uv_fs_req_cleanup(&request);
        return err_set(err, "%s: %s", folder, uv_strerror(count));
    }
    bool ok = note_folder(config, folder) || err_set(err, "no memory for the folder %s", folder);
    while (ok && uv_fs_scandir_next(&request, &entry) != UV_EOF) {
        if (eng_config_is_script(entry.name) && entry.type != UV_DIRENT_DIR) {
            ok = join(path, folder, entry.name, err) && add_file(config, path, true, err);
        }
    }
    uv_fs_req_cleanup(&request);
    if (!ok || !join(path, folder, "lunode.lua", err)) {
        return false;
    }
    struct stat file;
    return stat(path, &file) != 0 || eng_config_read(config, path, err);
}

static void drop_slashes(char *path) {
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/') {
        path[--len] = '\0';
    }
}

bool eng_config_add_path(struct eng_config *config, const char *given, struct err *err) {
    struct stat file;
    char path[MAX_PATH];
    if (snprintf(path, sizeof path, "%s", given) >= MAX_PATH) {
        return err_set(err, "%s: the path is too long", given);
    }
    drop_slashes(path);
    if (stat(path, &file) != 0) {
        return err_set(err, "%s: no such file or folder", path);
    }
    return S_ISDIR(file.st_mode) ? add_folder(config, path, err)
                                 : add_file(config, path, false, err);
}

/* }==== */

/* {==== Their policies ==================================================================== */

bool eng_config_settle(struct eng_config *config, struct err *err) {
    for (size_t i = 0; i < config->count; i++) {
        struct eng_script *script = &config->scripts[i];
        if (!eng_rules_of_file(&config->rules, script->name, &script->policy, err)) {
            return false;
        }
        if (script->stop_on_failure && !script->policy.trusted) {
            return err_set(err,
                           "handlers.%s.on_failure: a script that is not trusted cannot stop the "
                           "node",
                           script->name);
        }
    }
    return true;
}

/* }==== */
