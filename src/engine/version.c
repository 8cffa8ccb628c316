/* Versions of a handler: a script's text, compiled, with an environment of its own, and what it
 * returned when it ran. A process runs one version at a time. */
#include <stdlib.h>
#include <sys/time.h>

#include "base/file.h"
#include "engine/private.h"

/* {==== Compiling ========================================================================= */

struct span eng_skip_start(struct span text) {
    if (text.len >= 3 && memcmp(text.data, "\xEF\xBB\xBF", 3) == 0) {
        text = span_of(text.data + 3, text.len - 3);
    }
    if (text.len > 0 && text.data[0] == '#') {
        const uint8_t *end = memchr(text.data, '\n', text.len);
        text = end == NULL ? (struct span){0} : span_of(end, text.len - (size_t)(end - text.data));
    }
    return text;
}

/* A fresh environment, so that the script's globals are its own and go with it. [-0, +1, m] */
static void push_environment(lua_State *L, struct eng_version *version) {
    if (!version->handler->policy.trusted) {
        eng_sandbox_push_environment(L, buf_span(&version->modules));
        return;
    }
    lua_newtable(L);
    lua_newtable(L);
    lua_pushglobaltable(L);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "_G");
    if (!version->is_text) {
        eng_modules_open(L, version);
    }
}

/* Runs protected. Expects the version as a light userdata. [-1, +0, e] */
static int compile(lua_State *L) {
    struct eng_version *version = lua_touserdata(L, 1);
    struct span text = eng_skip_start(buf_span(&version->source));
    lua_pushfstring(L, version->is_text ? "=%s" : "@%s", eng_version_file(version));
    const char *bytes = text.len == 0 ? "" : (const char *)text.data;
    bool text_only = version->is_text || !version->handler->policy.trusted;
    if (luaL_loadbufferx(L, bytes, text.len, lua_tostring(L, -1), text_only ? "t" : NULL) !=
        LUA_OK) {
        return lua_error(L);
    }
    push_environment(L, version);
    lua_pushvalue(L, -1);
    version->env_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    if (lua_setupvalue(L, -2, 1) == NULL) {
        lua_pop(L, 1); /* precompiled, without globals */
    }
    version->chunk_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

struct eng_version *eng_version_create(struct eng_handler *handler, const struct eng_text *text) {
    struct eng_version *version = calloc(1, sizeof *version);
    if (version == NULL) {
        return NULL;
    }
    version->handler = handler;
    version->users = 1;
    version->chunk_ref = version->value_ref = version->meta_ref = LUA_NOREF;
    version->env_ref = version->files_ref = LUA_NOREF;
    version->is_text = text != NULL;
    if (text == NULL) {
        return version;
    }
    version->has_policy = text->policy != NULL;
    if ((text->policy != NULL && !eng_policy_copy(&version->policy, text->policy)) ||
        !buf_append(&version->source, text->source.data, text->source.len) ||
        !buf_append(&version->start, text->start.data, text->start.len) ||
        !buf_append(&version->modules, text->modules.data, text->modules.len)) {
        eng_version_drop(version);
        return NULL;
    }
    return version;
}

const char *eng_version_file(const struct eng_version *version) {
    return version->is_text ? version->handler->name : version->handler->path;
}

bool eng_version_compile(struct eng_version *version, struct err *err) {
    lua_State *L = version->handler->L;
    bool is_read = version->is_text || version->number > 0;
    if (!is_read && !file_read(version->handler->path, &version->source, err)) {
        buf_finish(&version->source); /* what was read of it */
        return false;
    }
    lua_pushcfunction(L, compile);
    lua_pushlightuserdata(L, version);
    if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
        err_set(err, "%s", lua_tostring(L, -1));
        lua_pop(L, 1);
        return false;
    }
    return true;
}

/* }==== */

/* {==== What the script returned ========================================================== */

/* Whether the table on top has the function itself. [-0, +0, m] */
static bool has_function(lua_State *L, const char *name) {
    if (!lua_istable(L, -1)) {
        return false;
    }
    lua_pushstring(L, name);
    lua_rawget(L, -2);
    bool has = lua_isfunction(L, -1);
    lua_pop(L, 1);
    return has;
}

void eng_version_accept(lua_State *L, struct eng_version *version) {
    if (!lua_istable(L, -1) && !lua_isfunction(L, -1)) {
        luaL_error(L, "%s: a handler returns a table of functions or one function, not %s",
                   eng_version_file(version), luaL_typename(L, -1));
    }
    lua_createtable(L, 0, 1);
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, "__index"); /* value, meta */
    version->meta_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    version->is_function = lua_isfunction(L, -1);
    version->has_run = has_function(L, "run");
    version->has_terminate = has_function(L, "terminate");
    version->value_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

void eng_version_number(struct eng_version *version) {
    struct timeval now;
    gettimeofday(&now, NULL);
    version->number = ++version->handler->last_version;
    version->since = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_usec / 1000;
}

/* }==== */

/* {==== Its users ========================================================================= */

struct eng_version *eng_version_take(struct eng_version *version) {
    version->users++;
    return version;
}

void eng_version_drop(struct eng_version *version) {
    if (version == NULL || --version->users > 0) {
        return;
    }
    lua_State *L = version->handler->L;
    int refs[] = {version->chunk_ref, version->value_ref, version->meta_ref, version->env_ref,
                  version->files_ref};
    for (size_t i = 0; L != NULL && i < sizeof refs / sizeof *refs; i++) {
        luaL_unref(L, LUA_REGISTRYINDEX, refs[i]);
    }
    buf_finish(&version->source);
    buf_finish(&version->start);
    buf_finish(&version->modules);
    eng_policy_finish(&version->policy);
    free(version);
}

void eng_version_use(struct eng_proc *proc, struct eng_version *version) {
    struct eng_version *old = proc->version;
    proc->version = version == NULL ? NULL : eng_version_take(version);
    eng_version_drop(old);
}

/* }==== */
