/* What an untrusted script sees: a list of functions that it may have. Nothing else is in its VM
 * when its code runs.
 *
 * Each version gets tables of its own that look into those of the VM, so that a script can spoil
 * (by rawset) what it has itself, and no other version, no evaluation and nothing of ours. None of
 * its functions gives an address away, or bytecode; none makes a finalizer. */
#include <stdlib.h>
#include <string.h>

#include "engine/private.h"
#ifdef LUNODE_TEST_NATIVE
#include "native.h" /* of a program for tests */
#endif

/* The text of `load` is compiled in one go, which nothing interrupts. */
enum { MAX_LOAD = 1 << 20 };

static const char libraries_key; /* its address is the key of the VM's tables, by name */

/* {==== Functions that differ from Lua's ================================================== */

/* What __tostring has returned. [-0, +0, e] */
static int check_text(lua_State *L, int status, lua_KContext context) {
    (void)status;
    (void)context;
    if (!lua_isstring(L, -1)) {
        return luaL_error(L, "'__tostring' must return a string");
    }
    return 1;
}

/* tostring(value). A __tostring can be interrupted. [-1, +1, e] */
static int safe_tostring(lua_State *L) {
    luaL_checkany(L, 1);
    if (luaL_getmetafield(L, 1, "__tostring") != LUA_TNIL) {
        lua_pushvalue(L, 1);
        lua_callk(L, 1, 1, 0, check_text);
        return check_text(L, LUA_OK, 0);
    }
    term_tostring(L, 1, NULL);
    return 1;
}

/* setmetatable(table, metatable): Lua looks for __gc here, and never again. [-2, +1, e] */
static int safe_setmetatable(lua_State *L) {
    int type = lua_type(L, 2);
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argexpected(L, type == LUA_TNIL || type == LUA_TTABLE, 2, "nil or table");
    if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL) {
        return luaL_error(L, "cannot change a protected metatable");
    }
    lua_settop(L, 2);
    if (type == LUA_TTABLE) {
        lua_pushliteral(L, "__gc");
        if (lua_rawget(L, 2) != LUA_TNIL) {
            return luaL_error(L, "setmetatable: __gc is not available to an untrusted script");
        }
        lua_pop(L, 1);
    }
    lua_setmetatable(L, 1);
    return 1;
}

/* collectgarbage([option]) [-n, +1, e] */
static int safe_collectgarbage(lua_State *L) {
    const char *option = luaL_optstring(L, 1, "collect");
    if (strcmp(option, "count") == 0) {
        int kilobytes = lua_gc(L, LUA_GCCOUNT);
        lua_pushnumber(L, (lua_Number)kilobytes + (lua_Number)lua_gc(L, LUA_GCCOUNTB) / 1024);
    } else if (strcmp(option, "step") == 0) {
        lua_pushboolean(L, lua_gc(L, LUA_GCSTEP, 0));
    } else if (strcmp(option, "collect") == 0) {
        lua_pushinteger(L, lua_gc(L, LUA_GCCOLLECT));
    } else {
        return luaL_error(L, "collectgarbage: an untrusted script has \"count\", \"collect\" and "
                             "\"step\" alone");
    }
    return 1;
}

/* Takes one conversion of a format, which is behind its %; gives its letter, 0 at the end. */
static char take_conversion(const char **at, const char *end) {
    while (*at < end && strchr("-+ #0123456789.", **at) != NULL && **at != '\0') {
        ++*at;
    }
    char letter = '\0';
    if (*at < end) {
        letter = *(*at)++;
    }
    return letter;
}

/* string.format(format, ...): %s gives no address, and %p does not exist. The upvalue is Lua's own.
 * [-n, +1, e] */
static int safe_format(lua_State *L) {
    size_t len;
    const char *at = luaL_checklstring(L, 1, &len);
    const char *end = at + len;
    int top = lua_gettop(L);
    int argument = 1;
    while ((at = memchr(at, '%', (size_t)(end - at))) != NULL) {
        at++;
        if (at < end && *at == '%') {
            at++;
            continue;
        }
        char conversion = take_conversion(&at, end);
        if (++argument > top) {
            break;
        }
        if (conversion == 'p') {
            return luaL_error(L, "string.format: %%p is not available to an untrusted script");
        }
        if (conversion == 's') {
            term_tostring(L, argument, NULL);
            lua_replace(L, argument);
        }
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, top, 1);
    return 1;
}

/* Pushes a random integer. [-0, +1, e] */
static void push_random(lua_State *L) {
    lua_Integer random;
    if (uv_random(NULL, NULL, &random, sizeof random, 0, NULL) != 0) {
        luaL_error(L, "there are no random numbers to be had");
    }
    lua_pushinteger(L, random);
}

/* math.randomseed(...): Lua's own makes a seed of an address, and returns it. The upvalue is that
 * one. [-n, +0, e] */
static int safe_randomseed(lua_State *L) {
    bool given = lua_gettop(L) > 0;
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    if (!given) {
        push_random(L);
        push_random(L);
    }
    lua_call(L, lua_gettop(L) - 1, 0);
    return 0;
}

/* }==== */

/* {==== load ============================================================================== */

/* The stack of load. */
enum { CHUNK = 1, NAME, MODE, ENVIRONMENT, PIECES };

/* [-0, +2, m] */
static int refuse_length(lua_State *L) {
    lua_pushnil(L);
    lua_pushfstring(L, "load: a text of %d bytes at the most", MAX_LOAD);
    return 2;
}

/* The text is on top: nil and a message, or the function. [-1, +1 or 2, m] */
static int load_text(lua_State *L) {
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    const char *name = luaL_optstring(L, NAME, lua_isstring(L, CHUNK) ? text : "=(load)");
    const char *mode = luaL_optstring(L, MODE, "t");
    if (len > MAX_LOAD) {
        return refuse_length(L);
    }
    if (strchr(mode, 't') == NULL) {
        lua_pushnil(L);
        lua_pushfstring(L, "attempt to load a text chunk (mode is '%s')", mode);
        return 2;
    }
    if (luaL_loadbufferx(L, text, len, name, "t") != LUA_OK) {
        lua_pushnil(L);
        lua_insert(L, -2);
        return 2;
    }
    lua_pushvalue(L, ENVIRONMENT);
    lua_setupvalue(L, -2, 1);
    return 1;
}

/* All pieces as one text. [-0, +1, m] */
static void push_joined(lua_State *L) {
    luaL_Buffer text;
    lua_Integer count = (lua_Integer)lua_rawlen(L, PIECES);
    luaL_buffinit(L, &text);
    for (lua_Integer i = 1; i <= count; i++) {
        lua_rawgeti(L, PIECES, i);
        luaL_addvalue(&text);
    }
    luaL_pushresult(&text);
}

/* The function that gives pieces has given one, or failed. Counts the bytes in `context`.
 * [-1, +1 or 2, e] */
static int take_piece(lua_State *L, int status, lua_KContext context) {
    while (status == LUA_OK || status == LUA_YIELD) {
        size_t len = 0;
        if (lua_tolstring(L, -1, &len) == NULL && !lua_isnil(L, -1)) {
            lua_pushnil(L);
            lua_pushliteral(L, "reader function must return a string");
            return 2;
        }
        if (len == 0) {
            lua_settop(L, PIECES);
            push_joined(L);
            return load_text(L);
        }
        context += (lua_KContext)len;
        if (context > MAX_LOAD) {
            return refuse_length(L);
        }
        lua_rawseti(L, PIECES, (lua_Integer)lua_rawlen(L, PIECES) + 1);
        lua_pushvalue(L, CHUNK);
        status = lua_pcallk(L, 0, 1, 0, context, take_piece);
    }
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
}

/* load(chunk [, name [, mode [, environment]]]): text alone, with the environment of the version
 * (the upvalue) unless another is given. [-n, +1 or 2, e] */
static int safe_load(lua_State *L) {
    bool given = !lua_isnone(L, ENVIRONMENT);
    lua_settop(L, ENVIRONMENT);
    if (!given) {
        lua_pushvalue(L, lua_upvalueindex(1));
        lua_replace(L, ENVIRONMENT);
    }
    if (lua_isstring(L, CHUNK)) {
        lua_pushvalue(L, CHUNK);
        return load_text(L);
    }
    luaL_checktype(L, CHUNK, LUA_TFUNCTION);
    lua_newtable(L);
    lua_pushvalue(L, CHUNK);
    return take_piece(L, lua_pcallk(L, 0, 1, 0, 0, take_piece), 0);
}

/* }==== */

/* {==== What there is ===================================================================== */

struct library {
    const char *name;
    lua_CFunction open; /* NULL: of ours */
    const char *const *names;
};

static const char *const base_names[] = {"_VERSION", "assert", "atom",   "error",  "getmetatable",
                                         "ipairs",   "next",   "pairs",  "pcall",  "print",
                                         "rawequal", "rawget", "rawlen", "rawset", "select",
                                         "tonumber", "type",   "xpcall", NULL};
static const char *const coroutine_names[] = {
    "close", "create", "isyieldable", "resume", "running", "status", "wrap", "yield", NULL};
static const char *const debug_names[] = {"traceback", NULL};
static const char *const math_names[] = {
    "abs", "acos",       "asin", "atan",      "ceil", "cos",    "deg",
    "exp", "floor",      "fmod", "huge",      "log",  "max",    "maxinteger",
    "min", "mininteger", "modf", "pi",        "rad",  "random", "randomseed",
    "sin", "sqrt",       "tan",  "tointeger", "type", "ult",    NULL};
static const char *const os_names[] = {"clock", "date", "difftime", "time", NULL};
static const char *const string_names[] = {
    "byte", "char",     "find", "format",  "gmatch", "gsub",   "len",   "lower", "match",
    "pack", "packsize", "rep",  "reverse", "sub",    "unpack", "upper", NULL};
static const char *const table_names[] = {"concat", "insert", "move",   "pack",
                                          "remove", "sort",   "unpack", NULL};
static const char *const utf8_names[] = {"char", "charpattern", "codepoint", "codes",
                                         "len",  "offset",      NULL};

static const struct library libraries[] = {
    {LUA_GNAME, luaopen_base, base_names},
    {LUA_COLIBNAME, luaopen_coroutine, coroutine_names},
    {LUA_DBLIBNAME, luaopen_debug, debug_names},
    {LUA_MATHLIBNAME, luaopen_math, math_names},
    {LUA_OSLIBNAME, luaopen_os, os_names},
    {LUA_STRLIBNAME, luaopen_string, string_names},
    {LUA_TABLIBNAME, luaopen_table, table_names},
    {LUA_UTF8LIBNAME, luaopen_utf8, utf8_names},
};

enum { LIBRARIES = sizeof libraries / sizeof *libraries };

/* }==== */

/* {==== Sealing =========================================================================== */

void eng_sandbox_open(lua_State *L) {
    for (int i = 0; i < LIBRARIES; i++) {
        luaL_requiref(L, libraries[i].name, libraries[i].open, 1);
        lua_pop(L, 1);
    }
}

/* Pushes a table with the functions of the library that a script gets. [-0, +1, m] */
static void push_picked(lua_State *L, const struct library *library) {
    lua_newtable(L);
    lua_getglobal(L, library->name);
    for (size_t i = 0; library->names[i] != NULL; i++) {
        lua_getfield(L, -1, library->names[i]);
        lua_setfield(L, -3, library->names[i]);
    }
    lua_pop(L, 1);
}

/* Replaces a function of the library on top by one that calls it. [-0, +0, m] */
static void wrap(lua_State *L, const char *name, lua_CFunction function) {
    lua_getfield(L, -1, name);
    lua_pushcclosure(L, function, 1);
    lua_setfield(L, -2, name);
}

/* Expects the table of libraries on top. [-0, +0, e] */
static void replace_functions(lua_State *L) {
    static const luaL_Reg base[] = {{"tostring", safe_tostring},
                                    {"setmetatable", safe_setmetatable},
                                    {"collectgarbage", safe_collectgarbage},
                                    {NULL, NULL}};
    lua_getfield(L, -1, LUA_GNAME);
    luaL_setfuncs(L, base, 0);
    lua_getfield(L, -2, LUA_STRLIBNAME);
    wrap(L, "format", safe_format);
    lua_getfield(L, -3, LUA_MATHLIBNAME);
    wrap(L, "randomseed", safe_randomseed);
    lua_getfield(L, -1, "randomseed");
    lua_call(L, 0, 0); /* the first seed has an address in it, too */
    lua_pop(L, 3);
}

/* The metatable of strings looks into the functions that are left. Expects the table of libraries
 * on top. [-0, +0, m] */
static void seal_strings(lua_State *L) {
    lua_pushliteral(L, "");
    lua_getmetatable(L, -1);
    lua_getfield(L, -3, LUA_STRLIBNAME);
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "string");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 2);
}

/* Tracebacks find the functions' names in the registry; nothing else of the libraries stays there,
 * or among the globals, which no script sees. Expects the table of libraries on top. [-0, +0, m] */
static void seal_registry(lua_State *L) {
    lua_newtable(L);
    lua_pushnil(L);
    while (lua_next(L, -3) != 0) { /* libraries, loaded, name, library */
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, -4);
    }
    lua_setfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_pushnil(L);
    lua_setfield(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_newtable(L);
    lua_rawseti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
}

void eng_sandbox_seal(lua_State *L) {
    lua_newtable(L);
    for (int i = 0; i < LIBRARIES; i++) {
        push_picked(L, &libraries[i]);
        lua_setfield(L, -2, libraries[i].name);
    }
    replace_functions(L);
    lua_getglobal(L, "erl"); /* libraries, erl */
    lua_getfield(L, -1, "log");
    lua_setfield(L, -3, "erl.log");
    static const char *const own[] = {"log", "atom"}; /* tables: each version has its own */
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        lua_pushnil(L);
        lua_setfield(L, -2, own[i]);
    }
    lua_setfield(L, -2, "erl");
    lua_getfield(L, -1, LUA_GNAME);
    lua_pushnil(L);
    lua_setfield(L, -2, "atom");
    lua_pop(L, 1);
    seal_strings(L);
    seal_registry(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &libraries_key);
    lua_gc(L, LUA_GCCOLLECT);
}

/* }==== */

/* {==== The environment of a version ====================================================== */

/* The iterator over a library, the upvalue. [-2, +1 or 2, e] */
static int next_function(lua_State *L) {
    lua_settop(L, 2);
    if (lua_next(L, lua_upvalueindex(1)) != 0) {
        return 2;
    }
    lua_pushnil(L);
    return 1;
}

/* __pairs, with the library as the upvalue. [-1, +2, m] */
static int pairs_of_library(lua_State *L) {
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushcclosure(L, next_function, 1);
    lua_pushvalue(L, 1);
    return 2;
}

/* __newindex, with the library's name as the upvalue. [-3, +0, e] */
static int refuse_change(lua_State *L) {
    return luaL_error(L, "%s is read-only", lua_tostring(L, lua_upvalueindex(1)));
}

/* Replaces the library on top by a table that looks into it. [-1, +1, m] */
static void hide(lua_State *L, const char *name) {
    lua_newtable(L);
    lua_createtable(L, 0, 4); /* library, table, metatable */
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pushvalue(L, -3);
    lua_pushcclosure(L, pairs_of_library, 1);
    lua_setfield(L, -2, "__pairs");
    lua_pushstring(L, name);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "__metatable");
    lua_pushcclosure(L, refuse_change, 1);
    lua_setfield(L, -2, "__newindex");
    lua_setmetatable(L, -2);
    lua_remove(L, -2);
}

/* Sets the globals that are functions. Expects libraries, environment. [-0, +0, m] */
static void copy_base(lua_State *L) {
    lua_getfield(L, -2, LUA_GNAME);
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) { /* environment, base, name, value */
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, -5);
    }
    lua_pop(L, 1);
}

/* Sets a global, and what `require` gives, to the library. Expects libraries, environment, loaded.
 * [-0, +0, m] */
static void add_library(lua_State *L, const char *name) {
    lua_getfield(L, -3, name);
    hide(L, name);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, name);
    lua_setfield(L, -3, name);
}

/* The same for `erl` and `atom`. Expects libraries, environment, loaded. [-0, +0, m] */
static void add_erl(lua_State *L) {
    add_library(L, "erl");
    lua_getfield(L, -2, "erl");
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "lunode.term");
    lua_getfield(L, -4, "erl.log"); /* libraries, environment, loaded, erl, log */
    hide(L, "erl.log");
    lua_pushliteral(L, "log");
    lua_insert(L, -2);
    lua_rawset(L, -3);
    lua_pushliteral(L, "atom");
    term_push_atom_table(L);
    lua_pushvalue(L, -1);
    lua_setfield(L, -6, "atom");
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

/* Upvalues of `require`: what is loaded, by name; the texts of the script's own modules, by name;
 * the environment, which they share with the script. */
enum { LOADED = 1, SOURCES, GLOBALS };

/* The module has run: name, result. [-2, +1, m] */
static int finish_module(lua_State *L, int status, lua_KContext context) {
    (void)status;
    (void)context;
    if (lua_isnil(L, 2)) {
        lua_pushboolean(L, 1);
        lua_replace(L, 2);
    }
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    lua_rawset(L, lua_upvalueindex(LOADED));
    return 1;
}

/* require(name) [-1, +1, e] */
static int safe_require(lua_State *L) {
    size_t len;
    const char *name = luaL_checkstring(L, 1);
    lua_settop(L, 1);
    lua_pushvalue(L, 1);
    if (lua_rawget(L, lua_upvalueindex(LOADED)) != LUA_TNIL) {
        return 1;
    }
    lua_settop(L, 1);
    lua_pushvalue(L, 1);
    lua_rawget(L, lua_upvalueindex(SOURCES));
    const char *text = lua_tolstring(L, 2, &len);
    if (text == NULL) {
        return luaL_error(L,
                          "require: the module '%s' is not available to an untrusted script (its "
                          "own modules, lunode.term and Lua's libraries are)",
                          name);
    }
    if (luaL_loadbufferx(L, text, len, lua_pushfstring(L, "=%s", name), "t") != LUA_OK) {
        return lua_error(L);
    }
    lua_pushvalue(L, lua_upvalueindex(GLOBALS));
    lua_setupvalue(L, -2, 1);
    lua_replace(L, 2);
    lua_settop(L, 2); /* name, module */
    lua_pushvalue(L, 1);
    lua_callk(L, 1, 1, 0, finish_module);
    return finish_module(L, LUA_OK, 0);
}

/* Pushes the texts of the modules by their names, from a map of binaries. [-0, +1, m] */
static void push_sources(lua_State *L, struct span modules) {
    uint32_t pairs = 0;
    struct span name;
    struct span text;
    lua_newtable(L);
    ext_take_map(&modules, &pairs);
    while (pairs-- > 0 && ext_take_binary(&modules, &name) && ext_take_binary(&modules, &text)) {
        lua_pushlstring(L, (const char *)name.data, name.len);
        lua_pushlstring(L, (const char *)text.data, text.len);
        lua_rawset(L, -3);
    }
}

void eng_sandbox_push_environment(lua_State *L, struct span modules) {
    luaL_checkstack(L, LUA_MINSTACK, NULL);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &libraries_key);
    lua_newtable(L);
    copy_base(L);
    lua_newtable(L); /* libraries, environment, loaded */
    for (int i = 1; i < LIBRARIES; i++) {
        add_library(L, libraries[i].name);
    }
    add_erl(L);
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, LUA_GNAME);
    push_sources(L, modules);
    lua_pushvalue(L, -3);
    lua_pushcclosure(L, safe_require, GLOBALS); /* libraries, environment, require */
    lua_setfield(L, -2, "require");
    lua_pushvalue(L, -1);
    lua_pushcclosure(L, safe_load, 1);
    lua_setfield(L, -2, "load");
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, LUA_GNAME);
    lua_remove(L, -2);
#ifdef LUNODE_TEST_NATIVE
    native_push(L);
    lua_setfield(L, -2, "native");
#endif
}

/* }==== */
