/* Reading the configuration file: see config.h. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>

#include "engine/config.h"

enum { MAX_WORKERS = 1024 };

struct reading {
    struct eng_config *config;
    const char *path;
};

/* {==== Values ============================================================================ */

static struct span text_at(lua_State *L, int idx) {
    size_t len = 0;
    const char *text = lua_type(L, idx) == LUA_TSTRING ? lua_tolstring(L, idx, &len) : "";
    return span_of(text, len);
}

/* The key of the value on top, as options have one. */
static struct span key_under(lua_State *L) {
    return lua_type(L, -2) == LUA_TSTRING ? text_at(L, -2) : span_str("?");
}

static struct eng_amount amount_on_top(lua_State *L) {
    struct eng_amount amount = {.kind = ENG_AMOUNT_OTHER, .text = text_at(L, -1)};
    if (lua_isinteger(L, -1)) {
        amount.kind = ENG_AMOUNT_NUMBER;
        amount.number = lua_tointeger(L, -1);
    } else if (lua_type(L, -1) == LUA_TSTRING) {
        amount.kind = ENG_AMOUNT_TEXT;
    }
    return amount;
}

/* [-0, +0, e] */
static void check_table(lua_State *L, const char *where, const char *option) {
    if (!lua_istable(L, -1)) {
        luaL_error(L, "%s%s: a table expected, got %s", where, option, luaL_typename(L, -1));
    }
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
static void check(lua_State *L, bool ok, const char *where, const struct err *err) {
    if (!ok) {
        luaL_error(L, "%s%s", where, err->text);
    }
}

/* }==== */

/* {==== A handler ========================================================================= */

/* One of the keys of `handlers`, while its options are read. */
struct entry {
    struct reading *reading;
    const char *name;
    char where[300]; /* "handlers.NAME." */
    struct eng_settings *settings;
};

/* Each reads one option, whose value is on top. [-0, +0, e] */

/* The path is relative to the configuration file's folder. */
static void read_path(lua_State *L, const struct entry *entry) {
    char path[ENG_CONFIG_MAX_PATH];
    struct err err;
    const char *slash = strrchr(entry->reading->path, '/');
    const char *given = lua_tostring(L, -1);
    if (given == NULL) {
        luaL_error(L, "%spath: a text expected, got %s", entry->where, luaL_typename(L, -1));
    }
    int folder = slash == NULL || given[0] == '/' ? 0 : (int)(slash - entry->reading->path) + 1;
    (void)snprintf(path, sizeof path, "%.*s%s", folder, entry->reading->path, given);
    if (!eng_config_add_script(entry->reading->config, entry->name, path, false, &err)) {
        luaL_error(L, "%s", err.text);
    }
}

static void read_on_failure(lua_State *L, const struct entry *entry) {
    struct eng_script *script = eng_config_find(entry->reading->config, entry->name);
    struct span word = text_at(L, -1);
    bool stop = span_equal(word, span_str("stop"));
    if (script == NULL) {
        luaL_error(L, "%son_failure: no such script; give its path", entry->where);
    } else if (!stop && !span_equal(word, span_str("restart"))) {
        luaL_error(L, "%son_failure: \"stop\" or \"restart\" expected", entry->where);
    } else {
        script->stop_on_failure = stop;
    }
}

static void read_trust(lua_State *L, const struct entry *entry) {
    struct err err;
    check(L, eng_settings_trust(entry->settings, text_at(L, -1), &err), entry->where, &err);
}

static void read_isolation(lua_State *L, const struct entry *entry) {
    struct err err;
    check(L, eng_settings_isolation(entry->settings, text_at(L, -1), &err), entry->where, &err);
}

static void read_limits(lua_State *L, const struct entry *entry) {
    struct err err;
    check_table(L, entry->where, "limits");
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) {
        struct eng_amount amount = amount_on_top(L);
        check(L, eng_settings_limit(entry->settings, key_under(L), &amount, &err), entry->where,
              &err);
        lua_pop(L, 1);
    }
}

/* How many keys the table on top has. [-0, +0, -] */
static unsigned count_keys(lua_State *L) {
    unsigned count = 0;
    lua_pushnil(L);
    for (; lua_next(L, -2) != 0; count++) {
        lua_pop(L, 1);
    }
    return count;
}

/* The patterns of allow.send or allow.rpc, a list on top; `kind` tells which. [-0, +0, e] */
static void read_patterns(lua_State *L, const struct entry *entry, struct span kind) {
    struct err err;
    bool known = eng_settings_allow(entry->settings, kind, 0, (struct span){0}, &err);
    check(L, known, entry->where, &err);
    if (!lua_istable(L, -1)) {
        luaL_error(L, "%sallow.%s: a list of texts expected, got %s", entry->where, kind.data,
                   luaL_typename(L, -1));
    }
    unsigned count = count_keys(L);
    for (unsigned i = 1; i <= count; i++) {
        if (lua_rawgeti(L, -1, (lua_Integer)i) != LUA_TSTRING) {
            luaL_error(L, "%sallow.%s[%d]: a text expected, got %s", entry->where, kind.data,
                       (int)i, luaL_typename(L, -1));
        }
        bool ok = eng_settings_allow(entry->settings, kind, i, text_at(L, -1), &err);
        check(L, ok, entry->where, &err);
        lua_pop(L, 1);
    }
}

static void read_allow(lua_State *L, const struct entry *entry) {
    check_table(L, entry->where, "allow");
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) {
        read_patterns(L, entry, key_under(L));
        lua_pop(L, 1);
    }
}

static const struct {
    const char *name;
    bool of_a_file; /* a pattern does not have it */
    void (*read)(lua_State *, const struct entry *);
} options[] = {{"path", true, read_path},      {"on_failure", true, read_on_failure},
               {"trust", false, read_trust},   {"isolation", false, read_isolation},
               {"limits", false, read_limits}, {"allow", false, read_allow}};

/* A handler's name, or one with `*`. [-0, +0, e] */
static void check_name(lua_State *L, const char *name, size_t len) {
    char plain[300];
    struct err err;
    (void)snprintf(plain, sizeof plain, "%s", name);
    for (char *star = plain; (star = strchr(star, '*')) != NULL;) {
        *star = 'x';
    }
    if (strlen(name) != len) {
        luaL_error(L, "handlers: a name has no NUL");
    }
    check(L, eng_config_check_name(plain, &err), "handlers: ", &err);
}

/* The options of one handler, or pattern, on top. [-0, +0, e] */
static void read_handler(lua_State *L, struct reading *reading, const char *name) {
    struct entry entry = {.reading = reading, .name = name};
    bool is_pattern = strchr(name, '*') != NULL;
    check_table(L, "handlers.", name);
    (void)snprintf(entry.where, sizeof entry.where, "handlers.%.255s.", name);
    check_keys(L, entry.where, " path on_failure trust isolation limits allow ");
    struct eng_rule *rule = eng_rules_add(&reading->config->rules, name, reading->path);
    if (rule == NULL) {
        luaL_error(L, "handlers.%s: no memory", name);
        return;
    }
    entry.settings = &rule->settings;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        if (lua_getfield(L, -1, options[i].name) != LUA_TNIL) {
            if (is_pattern && options[i].of_a_file) {
                luaL_error(L, "%s%s: a name with * stands for several handlers; give each its own",
                           entry.where, options[i].name);
            }
            options[i].read(L, &entry);
        }
        lua_pop(L, 1);
    }
}

/* }==== */

/* {==== The file ========================================================================== */

/* Each reads one option of the file, whose value is on top. [-0, +0, e] */

static void read_handlers(lua_State *L, struct reading *reading) {
    check_table(L, "", "handlers");
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) {
        if (lua_type(L, -2) != LUA_TSTRING) {
            luaL_error(L, "handlers: each key is a handler's name, not a %s", luaL_typename(L, -2));
        }
        struct span name = text_at(L, -2);
        check_name(L, (const char *)name.data, name.len);
        read_handler(L, reading, (const char *)name.data);
        lua_pop(L, 1);
    }
}

static void read_max_frame(lua_State *L, struct reading *reading) {
    struct err err;
    struct eng_amount amount = amount_on_top(L);
    check(L, eng_units_size(&amount, &reading->config->max_frame, &err), "max_frame: ", &err);
}

static void read_watch(lua_State *L, struct reading *reading) {
    if (!lua_isboolean(L, -1)) {
        luaL_error(L, "watch: true or false expected, got %s", luaL_typename(L, -1));
    }
    reading->config->watch = lua_toboolean(L, -1);
}

static void read_workers(lua_State *L, struct reading *reading) {
    struct err err;
    struct eng_amount amount = amount_on_top(L);
    bool ok = eng_units_count(&amount, 1, MAX_WORKERS, "workers", &reading->config->workers, &err);
    check(L, ok, "workers: ", &err);
}

static void read_untrusted(lua_State *L, struct reading *reading) {
    struct span word = text_at(L, -1);
    reading->config->unjailed = span_equal(word, span_str("unjailed"));
    if (!reading->config->unjailed && !span_equal(word, span_str("jailed"))) {
        luaL_error(L, "untrusted: \"jailed\" or \"unjailed\" expected");
    }
}

static const struct {
    const char *name;
    void (*read)(lua_State *, struct reading *);
} settings[] = {{"handlers", read_handlers},
                {"max_frame", read_max_frame},
                {"watch", read_watch},
                {"workers", read_workers},
                {"untrusted", read_untrusted}};

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
    check_keys(L, "", " handlers max_frame watch workers untrusted ");
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        if (lua_getfield(L, -1, settings[i].name) != LUA_TNIL) {
            settings[i].read(L, reading);
        }
        lua_pop(L, 1);
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
