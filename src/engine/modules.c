/* `require` for the modules that lie in subfolders of a script's folder. Each version of a handler
 * has its own copies, so that a reload takes new ones and the old version keeps the old. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/private.h"

/* Upvalues of `require`: the modules so far, by name; the environment, which they share with the
 * script; the files that were looked for: { path = text, or false where there is none }; the
 * script's folder; the `require` of other modules. */
enum { LOADED = 1, ENVIRONMENT, FILES, FOLDER, OTHERS };

/* The module has run: its result is at 3. */
static int finish_module(lua_State *L, int status, lua_KContext context) {
    (void)status;
    (void)context; /* name, path, result */
    if (lua_isnil(L, 3)) {
        lua_pushboolean(L, 1);
        lua_replace(L, 3);
    }
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 3);
    lua_rawset(L, lua_upvalueindex(LOADED));
    lua_insert(L, 2); /* name, result, path */
    return 2;
}

/* Expects the name, the path and the compiled module. [-3, +2, e] */
static int run_module(lua_State *L) {
    lua_pushvalue(L, lua_upvalueindex(ENVIRONMENT));
    if (lua_setupvalue(L, 3, 1) == NULL) {
        lua_pop(L, 1); /* precompiled, without globals */
    }
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    lua_callk(L, 2, 1, 0, finish_module);
    return finish_module(L, LUA_OK, 0);
}

/* Notes the text of the file, or that there is none. `text` is freed. [-0, +1, m] */
static void note(lua_State *L, int path, struct buf *text, bool found) {
    lua_pushvalue(L, path);
    if (found) {
        lua_pushlstring(L, (const char *)text->data, text->len);
    } else {
        lua_pushboolean(L, 0);
    }
    buf_finish(text);
    lua_pushvalue(L, -1);
    lua_insert(L, -3);
    lua_rawset(L, lua_upvalueindex(FILES));
}

/* Leaves the path and the compiled module on top when there is such a file. [-0, +2 or 0, e] */
static bool load_file(lua_State *L, const char *path) {
    struct buf text = {0};
    struct err err;
    lua_pushstring(L, path);
    eng_files_watch(eng_handler_of(L)->engine, path);
    bool found = file_read(path, &text, &err);
    bool unreadable = !found && errno != ENOENT && errno != ENOTDIR;
    text.len = found ? text.len : 0;
    note(L, lua_gettop(L), &text, found || unreadable); /* it is loaded when it can be read */
    if (unreadable) {
        luaL_error(L, "%s", err.text);
    }
    if (!found) {
        lua_pop(L, 2);
        return false;
    }
    size_t len;
    const char *bytes = lua_tolstring(L, -1, &len);
    struct span code = eng_skip_start(span_of(bytes, len));
    lua_pushfstring(L, "@%s", path);
    if (luaL_loadbuffer(L, (const char *)code.data, code.len, lua_tostring(L, -1)) != LUA_OK) {
        lua_error(L);
    }
    lua_insert(L, -3); /* path, module, text, chunk's name */
    lua_pop(L, 2);
    return true;
}

static const char *const forms[] = {"%s/%s.lua", "%s/%s/init.lua"};

/* Pushes the ith path that the module may have. [-0, +1, m] */
static const char *push_path(lua_State *L, const char *name, size_t i) {
    const char *file = luaL_gsub(L, name, ".", "/");
    lua_pushfstring(L, forms[i], lua_tostring(L, lua_upvalueindex(FOLDER)), file);
    lua_remove(L, -2);
    return lua_tostring(L, -1);
}

/* One that is none of the script's own. What it says when there is no such module is told with
 * where the script's own would be. [-0, +n, e] */
static int require_other(lua_State *L, const char *name) {
    lua_pushvalue(L, lua_upvalueindex(OTHERS));
    lua_pushvalue(L, 1);
    if (lua_pcall(L, 1, LUA_MULTRET, 0) == LUA_OK) {
        return lua_gettop(L) - 1;
    }
    const char *why = lua_tostring(L, -1);
    if (why != NULL && strstr(why, "not found:") != NULL) {
        const char *first = push_path(L, name, 0);
        const char *second = push_path(L, name, 1);
        lua_pushfstring(L, "%s\n\tno file '%s'\n\tno file '%s'", why, first, second);
    }
    return lua_error(L);
}

/* require(name): the module's value and where it was found. [-1, +2, e] */
static int require(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    lua_settop(L, 1);
    lua_pushvalue(L, 1);
    if (lua_rawget(L, lua_upvalueindex(LOADED)) != LUA_TNIL) {
        return 1;
    }
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        lua_settop(L, 1);
        if (load_file(L, push_path(L, name, i))) { /* name, path, path, module */
            lua_remove(L, 2);
            return run_module(L);
        }
    }
    lua_settop(L, 1);
    return require_other(L, name);
}

void eng_modules_open(lua_State *L, struct eng_version *version) {
    int environment = lua_gettop(L);
    struct span folder = eng_path_folder(version->handler->path);
    lua_newtable(L);
    lua_pushvalue(L, environment);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    version->files_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushlstring(L, (const char *)folder.data, folder.len);
    lua_getglobal(L, "require");
    lua_pushcclosure(L, require, OTHERS);
    lua_setfield(L, environment, "require");
}

struct span eng_path_folder(const char *path) {
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return span_str(".");
    }
    return slash == path ? span_str("/") : span_of(path, (size_t)(slash - path));
}
