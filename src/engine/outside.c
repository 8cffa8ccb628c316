/* Scripts in files that are not trusted: what is in them is loaded outside, by the part of the node
 * that has processes for it, and here is only known where they are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/file.h"
#include "engine/private.h"

struct eng_outsider *eng_outsider_find(struct engine *engine, struct span name) {
    struct eng_outsider *outsider;
    LL_FOREACH(engine->outsiders, outsider) {
        if (span_equal(span_str(outsider->name), name)) {
            break;
        }
    }
    return outsider;
}

static void destroy(struct eng_outsider *outsider) {
    eng_policy_finish(&outsider->policy);
    buf_finish(&outsider->source);
    buf_finish(&outsider->modules);
    free(outsider->name);
    free(outsider->path);
    free(outsider);
}

static struct eng_outsider *create(const struct eng_script *script) {
    struct eng_outsider *outsider = calloc(1, sizeof *outsider);
    if (outsider == NULL) {
        return NULL;
    }
    outsider->name = strdup(script->name);
    outsider->path = strdup(script->path);
    outsider->found_in_folder = script->found_in_folder;
    if (outsider->name == NULL || outsider->path == NULL ||
        !eng_policy_copy(&outsider->policy, &script->policy)) {
        destroy(outsider);
        return NULL;
    }
    return outsider;
}

/* {==== Its modules ======================================================================= */

enum { MAX_MODULES = 256, MAX_MODULE_BYTES = 4 << 20, MAX_DEPTH = 8, MAX_PATH = 4096 };

struct modules {
    struct engine *engine;
    size_t folder;     /* length of the script's folder, with the slash */
    struct buf *pairs; /* names and texts */
    uint32_t count;
    struct err *err;
};

/* "folder/util/text.lua" is the module util.text, "folder/util/init.lua" is util. */
static struct span module_name(char *path, size_t folder) {
    char *name = path + folder;
    size_t len = strlen(name) - strlen(".lua");
    if (len > strlen("/init") && strncmp(name + len - strlen("/init"), "/init", 5) == 0) {
        len -= strlen("/init");
    }
    for (size_t i = 0; i < len; i++) {
        if (name[i] == '/') {
            name[i] = '.';
        }
    }
    return span_of(name, len);
}

static bool add_module(struct modules *modules, const char *path) {
    struct buf text = {0};
    char name[MAX_PATH];
    eng_files_watch(modules->engine, path);
    bool ok = file_read(path, &text, modules->err);
    (void)snprintf(name, sizeof name, "%s", path);
    if (ok &&
        (++modules->count > MAX_MODULES || modules->pairs->len + text.len > MAX_MODULE_BYTES)) {
        ok = err_set(modules->err,
                     "%s: more than %d modules, or %d bytes of them, beside a script "
                     "that is not trusted",
                     path, MAX_MODULES, MAX_MODULE_BYTES);
    } else if (ok) {
        ok = (ext_put_binary(modules->pairs, module_name(name, modules->folder)) &&
              ext_put_binary(modules->pairs, buf_span(&text))) ||
             err_set(modules->err, "no memory for the module %s", path);
    }
    buf_finish(&text);
    return ok;
}

/* The modules in a folder and in those below it; `top`: handlers, not modules, are in it. */
static bool add_folder(struct modules *modules, const char *folder, unsigned depth) {
    uv_fs_t request;
    uv_dirent_t entry;
    char path[MAX_PATH];
    bool ok = true;
    int count = uv_fs_scandir(NULL, &request, folder, 0, NULL);
    while (ok && count >= 0 && uv_fs_scandir_next(&request, &entry) != UV_EOF) {
        int len = snprintf(path, sizeof path, "%s/%s", folder, entry.name);
        if (len >= (int)sizeof path || entry.name[0] == '.') {
            continue;
        }
        if (entry.type == UV_DIRENT_DIR) {
            ok = depth == MAX_DEPTH || add_folder(modules, path, depth + 1);
        } else if (depth > 0 && eng_config_is_lua(entry.name)) {
            ok = add_module(modules, path);
        }
    }
    uv_fs_req_cleanup(&request);
    return ok;
}

/* The map of what is in the subfolders now. */
static bool collect_modules(struct engine *engine, struct eng_outsider *outsider, struct err *err) {
    char folder[MAX_PATH];
    struct buf pairs = {0};
    struct span where = eng_path_folder(outsider->path);
    (void)snprintf(folder, sizeof folder, "%.*s", (int)where.len, (const char *)where.data);
    struct modules modules = {engine, strlen(folder) + 1, &pairs, 0, err};
    outsider->modules.len = 0;
    bool ok = add_folder(&modules, folder, 0) &&
              (modules.count == 0 ||
               (ext_put_map(&outsider->modules, modules.count) &&
                buf_append(&outsider->modules, pairs.data, pairs.len)) ||
               err_set(err, "no memory for modules"));
    buf_finish(&pairs);
    return ok;
}

bool eng_outsider_modules_changed(struct engine *engine, struct eng_outsider *outsider,
                                  const char *path) {
    struct span folder = eng_path_folder(outsider->path);
    struct buf old = {0};
    struct err err;
    if (strncmp(path, (const char *)folder.data, folder.len) != 0 || path[folder.len] != '/' ||
        strchr(path + folder.len + 1, '/') == NULL) {
        return false;
    }
    struct span before = buf_span(&outsider->modules);
    bool changed = buf_append(&old, before.data, before.len) &&
                   collect_modules(engine, outsider, &err) &&
                   !span_equal(buf_span(&old), buf_span(&outsider->modules));
    buf_finish(&old);
    return changed;
}

/* }==== */

bool eng_outsider_load(struct engine *engine, struct eng_outsider *outsider,
                       const struct eng_caller *caller, struct err *err) {
    struct buf source = {0};
    if (!file_read(outsider->path, &source, err)) {
        buf_finish(&source);
        return false;
    }
    struct eng_script_text text = {.source = buf_span(&source), .policy = &outsider->policy};
    buf_finish(&outsider->source);
    outsider->source = source;
    outsider->modules.len = 0;
    if (!collect_modules(engine, outsider, err)) {
        return false;
    }
    text.modules = buf_span(&outsider->modules);
    outsider->replaced = false;
    engine->outside.load(engine->outside.user, span_str(outsider->name), &text, caller);
    return true;
}

bool eng_outsider_add(struct engine *engine, const struct eng_script *script, struct err *err) {
    struct eng_outsider *outsider = NULL;
    if (strcmp(script->name, "any") == 0) {
        return err_set(err, "%s: the default handler must be trusted", script->path);
    }
    outsider = create(script);
    if (outsider == NULL) {
        return err_set(err, "no memory for a script");
    }
    LL_APPEND(engine->outsiders, outsider);
    return eng_outsider_load(engine, outsider, NULL, err);
}

void eng_outsider_remove(struct engine *engine, struct eng_outsider *outsider) {
    LL_DELETE(engine->outsiders, outsider);
    destroy(outsider);
}

void eng_outsiders_clear(struct engine *engine) {
    while (engine->outsiders != NULL) {
        eng_outsider_remove(engine, engine->outsiders);
    }
}
