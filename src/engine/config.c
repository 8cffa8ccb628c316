/* What a node is to run: see config.h. */
#include "engine/config.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <uv.h>

enum { DEFAULT_MAX_FRAME = 256 << 20, MAX_PATH = 4096 };

void eng_config_init(struct eng_config *config) {
    *config = (struct eng_config){.watch = true, .max_frame = DEFAULT_MAX_FRAME};
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
    eng_config_init(config);
}

/* {==== Scripts =========================================================================== */

static struct eng_script *find(struct eng_config *config, const char *name) {
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

static bool add_script(struct eng_config *config, const char *name, const char *path, bool found,
                       struct err *err) {
    const struct eng_script *same = find(config, name);
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
    return add_script(config, name, path, found, err);
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

/* {==== The configuration file ============================================================ */

struct reading {
    struct eng_config *config;
    const char *path;
};

/* A number of bytes, or a text such as "256M". [-0, +0, e] */
static size_t read_size(lua_State *L, const char *option) {
    lua_Integer number = 0;
    char unit = '\0';
    if (lua_isinteger(L, -1)) {
        number = lua_tointeger(L, -1);
    } else if (lua_type(L, -1) == LUA_TSTRING) {
        char *end;
        number = strtoll(lua_tostring(L, -1), &end, 10);
        unit = *end;
        number = unit != '\0' && end[1] != '\0' ? 0 : number;
    }
    unsigned shift = unit == 'K' ? 10 : unit == 'M' ? 20 : unit == 'G' ? 30 : 0;
    if (number <= 0 || (unit != '\0' && shift == 0) ||
        number > (lua_Integer)(UINT32_MAX >> shift)) {
        return (size_t)luaL_error(L, "%s: a size such as 1048576 or \"256M\" expected, below 4G",
                                  option);
    }
    return (size_t)number << shift;
}

/* The path is relative to the configuration file's folder. [-0, +0, e] */
static void read_path(lua_State *L, struct reading *reading, const char *name) {
    char path[MAX_PATH];
    struct err err;
    const char *slash = strrchr(reading->path, '/');
    const char *given = lua_tostring(L, -1);
    if (given == NULL) {
        luaL_error(L, "handlers.%s.path: a text expected, got %s", name, luaL_typename(L, -1));
    }
    int folder = slash == NULL || given[0] == '/' ? 0 : (int)(slash - reading->path) + 1;
    (void)snprintf(path, sizeof path, "%.*s%s", folder, reading->path, given);
    if (!add_script(reading->config, name, path, false, &err)) {
        luaL_error(L, "%s", err.text);
    }
}

/* The script whose options are read, or an error. [-0, +0, e] */
static struct eng_script *named(lua_State *L, struct reading *reading, const char *name) {
    struct eng_script *script = find(reading->config, name);
    if (script == NULL) {
        luaL_error(L, "handlers.%s: no such script; give its path", name);
    }
    return script;
}

/* [-0, +0, e] */
static void read_on_failure(lua_State *L, struct reading *reading, const char *name) {
    struct eng_script *script = named(L, reading, name);
    const char *value = lua_tostring(L, -1);
    if (value == NULL || (strcmp(value, "stop") != 0 && strcmp(value, "restart") != 0)) {
        luaL_error(L, "handlers.%s.on_failure: \"stop\" or \"restart\" expected", name);
    }
    script->stop_on_failure = strcmp(value, "stop") == 0;
}

/* Raises for a key of the table on top that is none of `known`, words with spaces around. [-0, +0,
 * e] */
static void check_keys(lua_State *L, const char *where, const char *known) {
    char word[64];
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) {
        lua_pop(L, 1);
        const char *key = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "?";
        (void)snprintf(word, sizeof word, " %s ", key);
        if (strstr(known, word) == NULL) {
            luaL_error(L, "%s%s: unknown option; known:%s", where, key, known);
        }
    }
}

/* [-0, +0, e] */
static void read_limits(lua_State *L, struct reading *reading, const char *name) {
    char where[300];
    struct eng_script *script = named(L, reading, name);
    if (!lua_istable(L, -1)) {
        luaL_error(L, "handlers.%s.limits: a table expected, got %s", name, luaL_typename(L, -1));
    }
    (void)snprintf(where, sizeof where, "handlers.%.255s.limits.", name);
    check_keys(L, where, " mailbox ");
    if (lua_getfield(L, -1, "mailbox") != LUA_TNIL) {
        lua_Integer number = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : 0;
        if (number <= 0) {
            luaL_error(L, "%smailbox: a number of messages above 0 expected", where);
        }
        script->policy.mailbox = (size_t)number;
    }
    lua_pop(L, 1);
}

/* The options of one handler, on top. [-0, +0, e] */
static void read_handler(lua_State *L, struct reading *reading, const char *name) {
    char where[300];
    if (!lua_istable(L, -1)) {
        luaL_error(L, "handlers.%s: a table expected, got %s", name, luaL_typename(L, -1));
    }
    (void)snprintf(where, sizeof where, "handlers.%.255s.", name);
    check_keys(L, where, " path on_failure limits ");
    if (lua_getfield(L, -1, "path") != LUA_TNIL) {
        read_path(L, reading, name);
    }
    if (lua_getfield(L, -2, "on_failure") != LUA_TNIL) {
        read_on_failure(L, reading, name);
    }
    if (lua_getfield(L, -3, "limits") != LUA_TNIL) {
        read_limits(L, reading, name);
    }
    lua_pop(L, 3);
}

/* [-0, +0, e] */
static void read_handlers(lua_State *L, struct reading *reading) {
    if (!lua_istable(L, -1)) {
        luaL_error(L, "handlers: a table expected, got %s", luaL_typename(L, -1));
    }
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) {
        if (lua_type(L, -2) != LUA_TSTRING) {
            luaL_error(L, "handlers: each key is a handler's name, not a %s", luaL_typename(L, -2));
        }
        read_handler(L, reading, lua_tostring(L, -2));
        lua_pop(L, 1);
    }
}

/* Runs protected. Expects the reading as a light userdata. [-1, +0, e] */
static int read_config(lua_State *L) {
    struct reading *reading = lua_touserdata(L, 1);
    luaL_openlibs(L);
    lua_getglobal(L, LUA_OSLIBNAME);
    lua_pushnil(L);
    lua_setfield(L, -2, "exit"); /* it would end the program without a word */
    if (luaL_loadfile(L, reading->path) != LUA_OK) {
        return lua_error(L);
    }
    lua_call(L, 0, 1);
    if (!lua_istable(L, -1)) {
        return luaL_error(L, "a configuration returns a table, not %s", luaL_typename(L, -1));
    }
    check_keys(L, "", " handlers max_frame watch ");
    if (lua_getfield(L, -1, "watch") != LUA_TNIL) {
        if (!lua_isboolean(L, -1)) {
            return luaL_error(L, "watch: true or false expected, got %s", luaL_typename(L, -1));
        }
        reading->config->watch = lua_toboolean(L, -1);
    }
    lua_pop(L, 1);
    if (lua_getfield(L, -1, "max_frame") != LUA_TNIL) {
        reading->config->max_frame = read_size(L, "max_frame");
    }
    if (lua_getfield(L, -2, "handlers") != LUA_TNIL) {
        read_handlers(L, reading);
    }
    return 0;
}

/* Makes a text of the error, while `__tostring` may still fail safely. [-1, +1, e] */
static int error_text(lua_State *L) {
    luaL_tolstring(L, 1, NULL);
    return 1;
}

bool eng_config_read(struct eng_config *config, const char *path, struct err *err) {
    struct reading reading = {config, path};
    lua_State *L = luaL_newstate();
    if (L == NULL) {
        return err_set(err, "no memory for a Lua state");
    }
    lua_pushcfunction(L, error_text);
    lua_pushcfunction(L, read_config);
    lua_pushlightuserdata(L, &reading);
    bool ok = lua_pcall(L, 1, 0, 1) == LUA_OK;
    if (!ok) {
        err_set(err, "%s", lua_tostring(L, -1));
        if (strstr(err->text, path) == NULL) {
            err_prefix(err, "%s: ", path);
        }
    }
    lua_close(L);
    return ok;
}

/* }==== */
