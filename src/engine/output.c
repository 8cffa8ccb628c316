/* What scripts write: `print`, `io.write`, `warn` and `erl.log` become whole lines of the node's
 * log, under the handler's name. */
#include <string.h>

#include "base/utf8.h"
#include "engine/private.h"

/* All arguments as text, with tabs between them; without addresses where nobody is trusted. [-0,
 * +1, e] */
static struct span join(lua_State *L) {
    bool trusted = eng_handler_of(L)->policy.trusted;
    int n = lua_gettop(L);
    luaL_Buffer buffer;
    luaL_buffinit(L, &buffer);
    for (int i = 1; i <= n; i++) {
        if (i > 1) {
            luaL_addchar(&buffer, '\t');
        }
        if (trusted) {
            luaL_tolstring(L, i, NULL);
        } else {
            term_tostring(L, i, NULL);
        }
        luaL_addvalue(&buffer);
    }
    luaL_pushresult(&buffer);
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    return span_of(text, len);
}

enum { LOG_BYTES = 64 << 10 /* a second, of an untrusted script */ };

bool eng_may_log(struct eng_handler *handler, size_t len) {
    uint64_t now = uv_hrtime();
    if (handler->policy.trusted) {
        return true;
    }
    if (now - handler->log_since >= 1000000000U) {
        if (handler->log_dropped > 0) {
            log_line(handler->engine->log, LOG_LEVEL_WARNING, handler->name,
                     "%zu lines were dropped: the log takes %d bytes a second",
                     handler->log_dropped, LOG_BYTES);
        }
        handler->log_since = now;
        handler->log_bytes = handler->log_dropped = 0;
    }
    if (len > LOG_BYTES - handler->log_bytes) {
        handler->log_dropped++;
        return false;
    }
    handler->log_bytes += len;
    return true;
}

/* [-n, +0, e] */
static int write_line(lua_State *L, enum log_level level) {
    struct eng_handler *handler = eng_handler_of(L);
    struct span text = join(L);
    if (!handler->policy.trusted) {
        text = utf8_cut(text, LOG_BYTES / 2);
    }
    if (!eng_eval_print(handler->engine, text, true) && eng_may_log(handler, text.len + 1)) {
        log_text(handler->engine->log, level, handler->name, text);
    }
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

static void leave(struct eng_handler *handler, const uint8_t *text, size_t len) {
    log_text(handler->engine->log, LOG_LEVEL_INFO, handler->name, span_of(text, len));
}

/* Lines that are whole leave, what follows the last of them waits. False: no memory. */
static bool write_text(struct eng_handler *handler, struct span text) {
    struct buf *unfinished = &handler->unfinished;
    const uint8_t *end = text.len == 0 ? NULL : memrchr(text.data, '\n', text.len);
    size_t done = 0;
    if (!buf_append(unfinished, text.data, text.len)) {
        return false;
    }
    if (end != NULL) {
        done = unfinished->len - (size_t)(text.data + text.len - end) + 1;
        leave(handler, unfinished->data, done - 1);
    }
    while (unfinished->len - done >= ENG_MAX_UNFINISHED) {
        leave(handler, unfinished->data + done, ENG_MAX_UNFINISHED);
        done += ENG_MAX_UNFINISHED;
    }
    buf_consume(unfinished, done);
    buf_relax(unfinished, ENG_MAX_UNFINISHED);
    return true;
}

void eng_output_finish(struct eng_handler *handler) {
    if (handler->unfinished.len > 0) {
        leave(handler, handler->unfinished.data, handler->unfinished.len);
    }
    buf_finish(&handler->unfinished);
    buf_finish(&handler->warning);
}

/* io.write(...) [-n, +1, e] */
static int io_write(lua_State *L) {
    struct eng_handler *handler = eng_handler_of(L);
    int n = lua_gettop(L);
    for (int i = 1; i <= n; i++) {
        size_t len;
        const char *text = luaL_tolstring(L, i, &len);
        if (!eng_eval_print(handler->engine, span_of(text, len), false) &&
            !write_text(handler, span_of(text, len))) {
            return luaL_error(L, "io.write: no memory");
        }
        lua_pop(L, 1);
    }
    lua_getglobal(L, LUA_IOLIBNAME);
    lua_getfield(L, -1, "stdout");
    return 1;
}

/* A warning comes in parts: the last is not `continued`. What begins with @ would switch warnings
 * on and off in the program `lua`; here they are on. */
static void on_warning(void *user, const char *part, int continued) {
    struct eng_handler *handler = user;
    struct buf *warning = &handler->warning;
    bool control = warning->len == 0 && continued == 0 && part[0] == '@';
    if (control || !buf_append(warning, part, strlen(part)) || continued != 0) {
        return;
    }
    log_text(handler->engine->log, LOG_LEVEL_WARNING, handler->name, buf_span(warning));
    warning->len = 0;
    buf_relax(warning, ENG_MAX_UNFINISHED);
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
    if (lua_getglobal(L, LUA_IOLIBNAME) == LUA_TTABLE) {
        lua_pushcfunction(L, io_write);
        lua_setfield(L, -2, "write");
    }
    lua_pop(L, 1);
    lua_setwarnf(L, on_warning, eng_handler_of(L));
}
