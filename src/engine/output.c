/* What scripts write: `print`, `io.write` and `erl.log` become whole lines of the node's log, under
 * the handler's name. */
#include <string.h>

#include "engine/private.h"

/* All arguments as text, with `between` between them. [-0, +1, e] */
static struct span join(lua_State *L, const char *between) {
    int n = lua_gettop(L);
    luaL_Buffer buffer;
    luaL_buffinit(L, &buffer);
    for (int i = 1; i <= n; i++) {
        if (i > 1) {
            luaL_addstring(&buffer, between);
        }
        luaL_tolstring(L, i, NULL);
        luaL_addvalue(&buffer);
    }
    luaL_pushresult(&buffer);
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    return span_of(text, len);
}

/* [-n, +0, e] */
static int write_line(lua_State *L, enum log_level level) {
    struct eng_handler *handler = eng_handler_of(L);
    log_text(handler->engine->log, level, handler->name, join(L, "\t"));
    return 0;
}

static int log_debug(lua_State *L) {
    return write_line(L, LOG_LEVEL_DEBUG);
}

static int log_info(lua_State *L) {
    return write_line(L, LOG_LEVEL_INFO);
}

static int log_warning(lua_State *L) {
    return write_line(L, LOG_LEVEL_WARNING);
}

static int log_error(lua_State *L) {
    return write_line(L, LOG_LEVEL_ERROR);
}

/* io.write(...): whole lines leave, what follows the last newline waits in the upvalue. [-n, +1, e]
 */
static int io_write(lua_State *L) {
    struct eng_handler *handler = eng_handler_of(L);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    struct span text = join(L, "");
    const char *start = (const char *)text.data;
    const char *end = text.len == 0 ? NULL : memrchr(start, '\n', text.len);
    size_t whole = end == NULL ? 0 : (size_t)(end - start) + 1;
    if (end != NULL) {
        log_text(handler->engine->log, LOG_LEVEL_INFO, handler->name, span_of(start, whole - 1));
    }
    lua_pushlstring(L, start + whole, text.len - whole);
    lua_replace(L, lua_upvalueindex(1));
    lua_getglobal(L, LUA_IOLIBNAME);
    lua_getfield(L, -1, "stdout");
    return 1;
}

void eng_output_open(lua_State *L) {
    static const luaL_Reg levels[] = {{"debug", log_debug},
                                      {"info", log_info},
                                      {"warning", log_warning},
                                      {"error", log_error},
                                      {NULL, NULL}};
    luaL_newlib(L, levels);
    lua_setfield(L, -2, "log");
    lua_pushcfunction(L, log_info);
    lua_setglobal(L, "print");
    lua_getglobal(L, LUA_IOLIBNAME);
    lua_pushliteral(L, "");
    lua_pushcclosure(L, io_write, 1);
    lua_setfield(L, -2, "write");
    lua_pop(L, 1);
}
