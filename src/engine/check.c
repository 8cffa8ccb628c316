/* `lunode check`: loading a script apart from any node. */
#include <limits.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "engine/private.h"

/* Runs protected: the script's top level. Expects the version as a light userdata. [-1, +0, e] */
static int load(lua_State *L) {
    struct eng_version *version = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, version->chunk_ref);
    lua_call(L, 0, 1);
    eng_version_accept(L, version);
    return 0;
}

/* Makes a text of the error, while `__tostring` may still fail safely. [-1, +1, e] */
static int error_text(lua_State *L) {
    luaL_tolstring(L, 1, NULL);
    return 1;
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

static bool load_script(struct eng_handler *handler, struct err *err) {
    lua_State *L = handler->L;
    handler->tried = eng_version_create(handler, NULL);
    if (handler->tried == NULL) {
        return err_set(err, "no memory for a script");
    }
    if (!eng_version_compile(handler->tried, err)) {
        return false;
    }
    lua_pushcfunction(L, error_text);
    lua_pushcfunction(L, load);
    lua_pushlightuserdata(L, handler->tried);
    return lua_pcall(L, 1, 0, 1) == LUA_OK || err_set(err, "%s", lua_tostring(L, -1));
}

bool eng_check(struct engine *engine, const char *path) {
    struct eng_script script = {.name = (char *)"check", .path = (char *)path};
    struct err err = {""};
    struct eng_handler *handler = eng_handler_create(engine, &script, &err);
    bool ok = handler != NULL && load_script(handler, &err);
    if (!ok) {
        (void)fprintf(stderr, "%s\n", err.text);
    }
    warn_of_texts(path);
    if (handler != NULL) {
        eng_handler_destroy(handler);
    }
    return ok;
}

/* {==== Modules =========================================================================== */

static bool check_module(const char *path) {
    lua_State *L = luaL_newstate();
    bool ok = L != NULL && luaL_loadfile(L, path) == LUA_OK;
    if (!ok) {
        (void)fprintf(stderr, "%s\n",
                      L == NULL ? "no memory for a Lua state" : lua_tostring(L, -1));
    }
    warn_of_texts(path);
    if (L != NULL) {
        lua_close(L);
    }
    return ok;
}

/* `top`: the scripts there are no modules. */
static bool check_folder(const char *folder, bool top) {
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
            ok = check_folder(path, false) && ok;
        } else if (is_module) {
            ok = check_module(path) && ok;
        }
    }
    uv_fs_req_cleanup(&request);
    return ok;
}

bool eng_check_modules(const char *folder) {
    return check_folder(folder, true);
}

/* }==== */
