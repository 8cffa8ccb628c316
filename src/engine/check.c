/* `lunode check`: loading a script apart from any node. */
#include <limits.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "engine/private.h"

/* The script's top level, in a coroutine. Expects the version as a light userdata. [-1, +0, e] */
static int load(lua_State *L) {
    struct eng_version *version = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, version->chunk_ref);
    lua_call(L, 0, 1);
    eng_version_accept(L, version);
    return 0;
}

/* `msg[1] == "text"` or the other way round: an atom and a text are never equal. */
static const char comparison[] =
    "\\[[[:blank:]]*1[[:blank:]]*][[:blank:]]*[=~]=[[:blank:]]*[\"']"
    "|[\"'][[:blank:]]*[=~]=[[:blank:]]*[[:alnum:]_.]+\\[[[:blank:]]*1[[:blank:]]*]";

/* Best effort: line by line. */
static void warn_of_texts(const char *path) {
    char *line = NULL;
    size_t size = 0;
    regex_t regex;
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return;
    }
    if (regcomp(&regex, comparison, REG_EXTENDED | REG_NOSUB) == 0) {
        for (int number = 1; getline(&line, &size, file) >= 0; number++) {
            if (regexec(&regex, line, 0, NULL, 0) == 0) {
                (void)fprintf(stderr,
                              "%s:%d: warning: compares with a text; an atom is atom.name\n", path,
                              number);
            }
        }
        regfree(&regex);
    }
    free(line);
    (void)fclose(file);
}

static void tell(struct eng_error *error) {
    (void)fprintf(stderr, "%.*s\n", (int)error->text.len, (const char *)error->text.data);
    eng_error_finish(error);
}

static bool compile(struct eng_handler *handler) {
    struct eng_error error;
    struct err err;
    handler->tried = eng_version_create(handler, NULL);
    if (handler->tried == NULL) {
        err_set(&err, "no memory for a script");
    } else if (eng_version_compile(handler->tried, &err)) {
        return true;
    }
    eng_error_compile(&error, handler, NULL, err.text);
    tell(&error);
    return false;
}

/* Runs the top level as if the coroutine were a process's; it can't wait for anything. */
static int resume(lua_State *co, struct eng_version *version) {
    int results;
    lua_pushcfunction(co, load);
    lua_pushlightuserdata(co, version);
    *eng_busy(co) = co;
    int status = lua_resume(co, NULL, 1, &results);
    if (status == LUA_YIELD) {
        lua_pushliteral(co, "attempt to yield from outside a coroutine");
    }
    return status;
}

static bool run(struct eng_handler *handler) {
    int ref;
    lua_State *co = eng_pool_borrow(handler, &ref);
    int status = co == NULL ? LUA_ERRMEM : resume(co, handler->tried);
    if (status != LUA_OK) {
        struct eng_error error;
        eng_error_make(&error, handler, NULL, co);
        tell(&error);
    }
    return status == LUA_OK;
}

/* Only a script is run; a module is not. */
static bool check_file(struct engine *engine, const struct eng_script *script, bool is_module) {
    struct err err;
    struct eng_handler *handler = eng_handler_create(engine, script, &err);
    if (handler == NULL) {
        (void)fprintf(stderr, "%s\n", err.text);
        return false;
    }
    bool compiled = compile(handler);
    bool ok = compiled && (is_module || run(handler));
    warn_of_texts(script->path);
    if (compiled && !script->policy.trusted) {
        eng_check_untrusted(handler);
    }
    eng_handler_destroy(handler);
    return ok;
}

bool eng_check(struct engine *engine, const struct eng_script *script) {
    return check_file(engine, script, false);
}

/* {==== Modules =========================================================================== */

static bool check_module(struct engine *engine, char *path) {
    struct eng_script module = {.name = (char *)"module", .path = path};
    eng_policy_init(&module.policy, true);
    return check_file(engine, &module, true);
}

/* `top`: the scripts there are no modules. */
static bool check_folder(struct engine *engine, const char *folder, bool top) {
    uv_fs_t request;
    uv_dirent_t entry;
    char path[PATH_MAX];
    int count = uv_fs_scandir(NULL, &request, folder, 0, NULL);
    bool ok = count >= 0;
    if (!ok) {
        (void)fprintf(stderr, "%s: %s\n", folder, uv_strerror(count));
    }
    while (count >= 0 && uv_fs_scandir_next(&request, &entry) != UV_EOF) {
        size_t len = strlen(entry.name);
        bool is_module = !top && len > 4 && strcmp(entry.name + len - 4, ".lua") == 0;
        if (entry.name[0] == '.' ||
            snprintf(path, sizeof path, "%s/%s", folder, entry.name) >= (int)sizeof path) {
            continue;
        }
        if (entry.type == UV_DIRENT_DIR) {
            ok = check_folder(engine, path, false) && ok;
        } else if (is_module) {
            ok = check_module(engine, path) && ok;
        }
    }
    uv_fs_req_cleanup(&request);
    return ok;
}

bool eng_check_modules(struct engine *engine, const char *folder) {
    return check_folder(engine, folder, true);
}

/* }==== */
