/* `lunode check`: loading a script apart from any node. */
#include <stdlib.h>
#include <string.h>

#include "engine/private.h"

/* Runs protected: the script's top level. Expects the handler as a light userdata. [-1, +0, e] */
static int load(lua_State *L) {
    struct eng_handler *handler = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, handler->chunk_ref);
    lua_call(L, 0, 1);
    eng_handler_accept(L, handler);
    return 0;
}

/* Makes a text of the error, while `__tostring` may still fail safely. [-1, +1, e] */
static int error_text(lua_State *L) {
    luaL_tolstring(L, 1, NULL);
    return 1;
}

/* A script that compares an atom with a text, which are never equal. Best effort: by line. */
static void warn_of_texts(struct engine *engine, const char *path) {
    char line[1024];
    FILE *file = fopen(path, "r");
    for (int number = 1; file != NULL && fgets(line, sizeof line, file) != NULL; number++) {
        const char *at = strstr(line, "[1]");
        at = at == NULL ? NULL : at + 3 + strspn(at + 3, " ");
        if (at == NULL || (strncmp(at, "==", 2) != 0 && strncmp(at, "~=", 2) != 0)) {
            continue;
        }
        char quote = at[2 + strspn(at + 2, " ")];
        if (quote == '"' || quote == '\'') {
            log_line(engine->log, LOG_LEVEL_WARNING, "check",
                     "%s:%d: compares with a text; an atom is atom.name", path, number);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
}

bool eng_check(struct engine *engine, const char *path, struct err *err) {
    struct eng_script script = {.name = (char *)"check", .path = (char *)path};
    struct eng_handler *handler = eng_handler_create(engine, &script, err);
    if (handler == NULL) {
        return false;
    }
    bool ok = handler->failure.len == 0;
    if (ok) {
        lua_State *L = handler->L;
        lua_pushcfunction(L, error_text);
        lua_pushcfunction(L, load);
        lua_pushlightuserdata(L, handler);
        ok = lua_pcall(L, 1, 0, 1) == LUA_OK;
        if (!ok) {
            err_set(err, "%s", lua_tostring(L, -1));
        }
    }
    warn_of_texts(engine, path);
    eng_handler_destroy(handler);
    return ok;
}
