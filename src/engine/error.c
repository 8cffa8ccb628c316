/* What went wrong in a script, told so that people can act on it: the message, the place and the
 * line itself, the chain of calls, what was being handled, whose version. One report is the log's
 * text, the exit reason, and a map for programs. */
#include <ctype.h>
#include <sys/stat.h>
#include <sys/time.h>

#include "base/file.h"
#include "base/utf8.h"
#include "engine/private.h"

enum {
    MAX_MESSAGE = 4096,
    MAX_REASON = 2048,
    MAX_FILE = 1024,
    MAX_LINE = 200,
    MAX_TRACE = 8192,
    MAX_HANDLING = 200,
    MAX_FRAMES = 50,    /* so far out the place is looked for */
    MAX_READ = 4 << 20, /* bytes of a file that is read for a line of it */
    TEXT_SLICES = 10,   /* a __tostring has so many slices, */
    TEXT_NS = 10000000, /* and so much time */
};

struct report {
    struct eng_handler *handler;
    const struct eng_proc *proc;       /* NULL: none */
    const struct eng_version *version; /* whose code it is; NULL: unknown */
    struct span eval;                  /* the source of an evaluation; empty: it is none */
    lua_State *co;                     /* what failed, with the error's value on top; NULL: none */
    struct buf message;
    struct buf value; /* that value as a term, */
    bool has_value;   /* if it can be sent; else the message stands for it */
    struct buf file;
    int line;        /* 0: unknown */
    bool says_place; /* the message does */
    struct buf source;
    bool has_source;
    struct buf trace;
    bool has_frames; /* it says something */
    char handling[MAX_HANDLING + 1];
};

static void report_finish(struct report *report) {
    buf_finish(&report->message);
    buf_finish(&report->value);
    buf_finish(&report->file);
    buf_finish(&report->source);
    buf_finish(&report->trace);
}

static bool put_text(struct buf *out, const char *text) {
    return buf_append(out, text, strlen(text));
}

static void put_cut(struct buf *out, struct span text, size_t max) {
    struct span first = utf8_cut(text, max);
    buf_append(out, first.data, first.len);
}

/* {==== What was being handled ============================================================ */

/* The name that a message carries; empty when it has none. */
static struct span name_of(struct span body) {
    struct span name = {0};
    uint32_t arity;
    bool latin1;
    ext_take_tuple(&body, &arity);
    ext_take_atom(&body, &name, &latin1);
    return name;
}

static void tell_call(struct report *report, struct span name, struct span args, uint32_t count) {
    term_inspect_call(name, args, count, report->handling, sizeof report->handling);
}

static void tell_start(struct report *report, const struct eng_start *start) {
    if (start->purpose == ENG_ONCE) {
        tell_call(report, start->function, start->args, start->count);
    } else if (start->purpose == ENG_LASTING) {
        tell_call(report, span_str("init"), start->args, start->count);
    }
}

static void tell_handling(struct report *report) {
    const struct eng_proc *proc = report->proc;
    switch (proc == NULL ? ENG_IDLE : proc->job) {
    case ENG_BOOT:
        tell_start(report, proc->start);
        break;
    case ENG_MESSAGE:
        term_inspect_ext(proc->current->body, report->handling, sizeof report->handling);
        break;
    case ENG_UPGRADE:
        tell_call(report, span_str("upgrade"), (struct span){0}, 0);
        break;
    case ENG_TERMINATE:
        tell_call(report, span_str("terminate"), buf_span(&proc->reason), 1);
        break;
    default:
        break;
    }
}

/* }==== */

/* {==== The chain of calls ================================================================ */

static bool ends_with(const struct buf *text, struct span end) {
    return text->len >= end.len && memcmp(text->data + text->len - end.len, end.data, end.len) == 0;
}

/* Lua names a function by the call of it, and the outermost one is called by none of Lua's: it is
 * the method `name` if that is the one. [-0, +0, m] */
static void name_outermost(lua_State *L, struct report *report, struct span name) {
    lua_Debug function;
    char unnamed[LUA_IDSIZE + 32];
    lua_rawgeti(L, LUA_REGISTRYINDEX, report->version->value_ref);
    lua_pushlstring(L, (const char *)name.data, name.len);
    if (lua_rawget(L, -2) != LUA_TFUNCTION) {
        lua_pop(L, 2);
        return;
    }
    lua_getinfo(L, ">S", &function);
    lua_pop(L, 1);
    int len = snprintf(unnamed, sizeof unnamed, "in function <%s:%d>", function.short_src,
                       function.linedefined);
    if (ends_with(&report->trace, span_of(unnamed, (size_t)len))) {
        report->trace.len -= (size_t)len;
        put_text(&report->trace, "in method '");
        buf_append(&report->trace, name.data, name.len);
        put_text(&report->trace, "'");
    }
}

/* The same for each that it can be. [-0, +0, m] */
static void name_method(lua_State *L, struct report *report) {
    static const char *const callbacks[] = {"init",        "terminate",   "upgrade",    "run",
                                            "handle_call", "handle_cast", "handle_info"};
    const struct eng_proc *proc = report->proc;
    if (proc == NULL || report->version == NULL || report->version->is_function ||
        report->version->value_ref == LUA_NOREF) {
        return;
    }
    for (size_t i = 0; i < sizeof callbacks / sizeof *callbacks; i++) {
        name_outermost(L, report, span_str(callbacks[i]));
    }
    if (proc->start->purpose == ENG_ONCE) {
        name_outermost(L, report, proc->start->function);
    }
    if (proc->current != NULL) {
        name_outermost(L, report, name_of(proc->current->body));
    }
}

/* Without the end: the function of this program that calls the script. [-0, +0, m] */
static void tell_trace(lua_State *L, struct report *report) {
    static const char end[] = "\n\t[C]: in ?";
    static const char title[] = "stack traceback:";
    size_t len;
    luaL_traceback(L, report->co, NULL, 0);
    const char *trace = lua_tolstring(L, -1, &len);
    put_cut(&report->trace, span_of(trace, len), MAX_TRACE);
    lua_pop(L, 1);
    report->has_frames = report->trace.len > sizeof title + sizeof end - 2;
    if (report->has_frames && ends_with(&report->trace, span_str(end))) {
        report->trace.len -= sizeof end - 1;
    }
    name_method(L, report);
}

/* }==== */

/* {==== The error's value ================================================================= */

/* The __tostring of the value has returned. [-0, +0, e] */
static int take_text(lua_State *L, int status, lua_KContext context) {
    struct report *report = (struct report *)context;
    size_t len;
    (void)status;
    if (lua_type(L, -1) != LUA_TSTRING) {
        return luaL_error(L, "'__tostring' must return a string");
    }
    const char *text = lua_tolstring(L, -1, &len);
    put_cut(&report->message, span_of(text, len), MAX_MESSAGE);
    return 0;
}

/* The message is the value at 2 as a text. [-0, +0, e] */
static int tell_message(lua_State *L, struct report *report) {
    char text[MAX_MESSAGE + 1];
    if (lua_type(L, 2) == LUA_TSTRING) {
        lua_pushvalue(L, 2);
        return take_text(L, LUA_OK, (lua_KContext)report);
    }
    if (luaL_getmetafield(L, 2, "__tostring") != LUA_TNIL) {
        lua_pushvalue(L, 2);
        lua_callk(L, 1, 1, (lua_KContext)report, take_text);
        return take_text(L, LUA_OK, (lua_KContext)report);
    }
    if (term_type(L, 2) == TERM_NONE) {
        lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 2));
    } else {
        lua_pushlstring(L, text, term_inspect(L, 2, text, sizeof text));
    }
    return take_text(L, LUA_OK, (lua_KContext)report);
}

/* Runs in a coroutine. Expects the report as a light userdata and the value. [-2, +0, e] */
static int gather(lua_State *L) {
    struct report *report = lua_touserdata(L, 1);
    struct err err;
    tell_trace(L, report);
    report->has_value = term_encode(L, 2, "error", &report->value, &err);
    return tell_message(L, report);
}

/* Runs it, for as long as a text may take; what the script does in it is watched as a slice is. */
static int run_gather(struct report *report, lua_State *co) {
    struct eng_slice *slice = &report->handler->engine->slice;
    uint64_t end = uv_hrtime() + TEXT_NS;
    int nargs = 2;
    int nresults;
    int status;
    int slices = 0;
    eng_slice_for(slice, report->handler->name, report->handler->policy.deadline_ms);
    do {
        status = eng_slice_run(slice, co, nargs, &nresults);
        nargs = 0;
    } while (status == LUA_YIELD && slice->why == ENG_YIELD_PREEMPTED &&
             (++slices < TEXT_SLICES || uv_hrtime() < end));
    return status;
}

static void tell_failed(struct report *report, int status) {
    char text[128];
    if (status == LUA_ERRMEM) {
        put_text(&report->message, "not enough memory");
        return;
    }
    (void)snprintf(text, sizeof text, "an error value (%s) whose __tostring %s",
                   luaL_typename(report->co, -1), status == LUA_YIELD ? "does not end" : "fails");
    put_text(&report->message, text);
}

static void tell_error(struct report *report) {
    struct eng_handler *handler = report->handler;
    int ref;
    lua_State *co = report->co == NULL ? NULL : eng_pool_borrow(handler, &ref);
    if (co == NULL) {
        tell_failed(report, LUA_ERRMEM);
        return;
    }
    lua_pushcfunction(co, gather);
    lua_pushlightuserdata(co, report);
    lua_pushvalue(report->co, -1);
    lua_xmove(report->co, co, 1);
    int status = run_gather(report, co);
    if (status == LUA_OK) {
        eng_pool_return(handler, co, ref);
    } else {
        luaL_unref(handler->L, LUA_REGISTRYINDEX, ref);
        tell_failed(report, status);
    }
}

/* }==== */

/* {==== The place ========================================================================= */

/* The line without its end. False when there is none of that number. */
static bool find_line(struct span text, int number, struct span *line) {
    const uint8_t *at = text.data;
    const uint8_t *end = text.data + text.len;
    if (text.len == 0 || *at == LUA_SIGNATURE[0]) {
        return false; /* none, or a precompiled one */
    }
    for (int i = 1; i < number; i++) {
        at = memchr(at, '\n', (size_t)(end - at));
        if (at == NULL || ++at == end) {
            return false;
        }
    }
    const uint8_t *stop = memchr(at, '\n', (size_t)(end - at));
    size_t len = (size_t)((stop == NULL ? end : stop) - at);
    *line = span_of(at, len > 0 && at[len - 1] == '\r' ? len - 1 : len);
    return true;
}

static void set_place(struct report *report, struct span file, struct span text, int number) {
    struct span line;
    report->file.len = report->source.len = 0;
    report->line = number;
    put_cut(&report->file, file, MAX_FILE);
    report->has_source = find_line(text, number, &line);
    if (report->has_source) {
        put_cut(&report->source, line, MAX_LINE);
    }
}

/* Whether messages call the file so: by its name, or by the end of it when that is long. */
static bool is_name_of(struct span name, struct span file) {
    if (name.len > 3 && name.len - 3 <= file.len && memcmp(name.data, "...", 3) == 0) {
        name = span_of(name.data + 3, name.len - 3);
        file = span_of(file.data + file.len - name.len, name.len);
    }
    return span_equal(name, file);
}

/* The script, or the module of it, that messages call so. [-0, +0, -] */
static bool find_file(struct report *report, struct span name, struct span *file,
                      struct span *text) {
    const struct eng_version *version = report->version;
    lua_State *L = report->handler->L;
    bool found = false;
    if (version == NULL) {
        *file = span_str("eval");
        *text = report->eval;
        return report->co == NULL && report->eval.len > 0 && span_equal(name, *file);
    }
    *file = span_str(eng_version_file(version));
    *text = buf_span(&version->source);
    if (is_name_of(name, *file)) {
        return true;
    }
    if (lua_rawgeti(L, LUA_REGISTRYINDEX, version->files_ref) != LUA_TTABLE) {
        lua_pop(L, 1);
        return false;
    }
    lua_pushnil(L);
    while (!found && lua_next(L, -2) != 0) { /* files, path, text */
        size_t len;
        const char *bytes = lua_tolstring(L, -2, &len);
        *file = span_of(bytes, len);
        found = lua_type(L, -1) == LUA_TSTRING && is_name_of(name, *file);
        bytes = found ? lua_tolstring(L, -1, &len) : NULL;
        *text = span_of(bytes, len);
        lua_pop(L, 1);
    }
    lua_pop(L, found ? 2 : 1);
    return found;
}

/* A file that the script has run by itself, by dofile for example. Its name is the script's to
 * choose, so only a script that is a file, which may read any, has it read. */
static bool read_file(const struct report *report, const char *path, struct buf *text) {
    struct err err;
    struct stat file;
    return report->version != NULL && !report->version->is_text &&
           report->handler->policy.trusted && stat(path, &file) == 0 && file.st_size <= MAX_READ &&
           file_read(path, text, &err);
}

/* Whether the function is the evaluation itself, not one that an earlier one has left behind. */
static bool is_eval(const struct report *report, const lua_Debug *function) {
    return report->eval.len > 0 && strcmp(function->what, "main") == 0 &&
           strcmp(function->source, "=eval") == 0;
}

/* The line `number` of the chunk that the function is of. */
static void place_in_chunk(struct report *report, const lua_Debug *function, int number) {
    const char *source = function->source;
    struct buf read = {0};
    struct span file;
    struct span text;
    if (*source != '@' && *source != '=') { /* the chunk itself */
        set_place(report, span_str(function->short_src), span_of(source, function->srclen), number);
        return;
    }
    if (is_eval(report, function)) {
        file = span_str(source + 1);
        text = report->eval;
    } else if (!find_file(report, span_str(source + 1), &file, &text)) {
        file = span_str(source + 1);
        text = (struct span){0};
        if (*source == '@' && read_file(report, source + 1, &read)) {
            text = buf_span(&read);
        }
    }
    set_place(report, file, text, number);
    buf_finish(&read);
}

/* The innermost function of a script; one of the file that messages call `name`, unless that is
 * empty. */
static bool find_function(lua_State *co, struct span name, lua_Debug *function) {
    for (int level = 0; co != NULL && level < MAX_FRAMES; level++) {
        if (lua_getstack(co, level, function) == 0) {
            break;
        }
        lua_getinfo(co, "Sl", function);
        if (function->currentline > 0 &&
            (name.len == 0 || span_equal(name, span_str(function->short_src)))) {
            return true;
        }
    }
    return false;
}

/* Cuts off the `name:line: ` that a message begins with. */
static bool take_place(struct span *message, struct span *name, int *line) {
    for (size_t colon = 1; colon < message->len && colon < LUA_IDSIZE; colon++) {
        size_t at = colon + 1;
        int number = 0;
        for (; at < message->len && isdigit(message->data[at]) && number < 100000000; at++) {
            number = 10 * number + (message->data[at] - '0');
        }
        if (message->data[colon] == ':' && number > 0 && at + 1 < message->len &&
            message->data[at] == ':' && message->data[at + 1] == ' ') {
            *name = span_of(message->data, colon);
            *line = number;
            *message = span_of(message->data + at + 2, message->len - at - 2);
            return true;
        }
    }
    return false;
}

/* Where the message says it is; the last of several places: the others have passed it on. Without
 * one, the innermost line of a script. */
static void tell_place(struct report *report) {
    struct span message = buf_span(&report->message);
    struct span name;
    struct span file;
    struct span text;
    lua_Debug function;
    int line;
    while (take_place(&message, &name, &line)) {
        if (find_function(report->co, name, &function)) {
            place_in_chunk(report, &function, line);
        } else if (find_file(report, name, &file, &text)) {
            set_place(report, file, text, line);
        } else {
            break;
        }
    }
    report->says_place = report->line > 0;
    if (!report->says_place && find_function(report->co, (struct span){0}, &function)) {
        place_in_chunk(report, &function, function.currentline);
    }
}

/* }==== */

/* {==== The report as text ================================================================ */

/* What follows the message: lines, each with a newline before it. */
static void put_details(const struct report *report, struct buf *out, bool with_trace) {
    char text[64];
    if (report->has_source) {
        (void)snprintf(text, sizeof text, "\n%6d | ", report->line);
        put_text(out, text);
        buf_append(out, report->source.data, report->source.len);
    }
    if (with_trace && report->trace.len > 0) {
        put_text(out, "\n");
        buf_append(out, report->trace.data, report->trace.len);
    }
    if (report->handling[0] != '\0') {
        put_text(out, "\nwhile handling ");
        put_text(out, report->handling);
    }
    bool of_script = report->co != NULL || report->handling[0] != '\0';
    if (of_script && report->version != NULL && report->version->number > 0) {
        (void)snprintf(text, sizeof text, ", version %u", report->version->number);
        put_text(out, "\n");
        put_text(out, report->handler->name);
        put_text(out, text);
    }
}

static void put_report(const struct report *report, struct buf *out) {
    char line[32];
    if (report->line > 0 && !report->says_place) {
        (void)snprintf(line, sizeof line, ":%d: ", report->line);
        buf_append(out, report->file.data, report->file.len);
        put_text(out, line);
    }
    buf_append(out, report->message.data, report->message.len);
    put_details(report, out, report->has_frames);
}

/* {:lua_error, value, details} */
static void put_reason(const struct report *report, struct buf *out) {
    struct buf details = {0};
    put_details(report, &details, true);
    struct span text = details.len == 0 ? span_str("") : span_of(details.data + 1, details.len - 1);
    bool ok = ext_put_tuple(out, 3) && ext_put_atom(out, span_str("lua_error"));
    ok = ok && (report->has_value ? buf_append(out, report->value.data, report->value.len)
                                  : ext_put_binary(out, buf_span(&report->message)));
    if (!ok || !ext_put_binary(out, text)) {
        eng_reason_atom(out, "system_limit");
    }
    buf_finish(&details);
}

/* }==== */

/* {==== The report as a map =============================================================== */

static bool put_key(struct buf *out, const char *name) {
    return ext_put_atom(out, span_str(name));
}

static bool put_field(struct buf *out, const char *name, bool there, struct span text) {
    return put_key(out, name) && (there ? ext_put_binary(out, text) : put_key(out, "nil"));
}

static bool put_number(struct buf *out, const char *name, uint64_t number) {
    return put_key(out, name) && (number > 0 ? ext_put_uint(out, number) : put_key(out, "nil"));
}

/* The version that failed; for one that never ran, that which goes on. */
static uint32_t version_of(const struct report *report) {
    const struct eng_version *version = report->version;
    if (version == NULL || version->number == 0) {
        version = report->handler->version;
    }
    return version == NULL ? 0 : version->number;
}

static void put_map(const struct report *report, struct buf *out) {
    struct timeval now;
    gettimeofday(&now, NULL);
    uint64_t ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_usec / 1000;
    struct span handling = span_str(report->handling);
    bool ok = ext_put_map(out, 8) && put_field(out, "message", true, buf_span(&report->message)) &&
              put_field(out, "file", report->line > 0, buf_span(&report->file)) &&
              put_number(out, "line", (uint64_t)report->line) &&
              put_field(out, "source", report->has_source, buf_span(&report->source)) &&
              put_field(out, "traceback", true, buf_span(&report->trace)) &&
              put_field(out, "handling", handling.len > 0, handling) &&
              put_number(out, "version", version_of(report)) && put_number(out, "at", ms);
    if (!ok) {
        out->len = 0;
    }
}

/* }==== */

/* {==== Making an error =================================================================== */

/* From a report whose message and stack are known. */
static void finish_error(struct eng_error *error, struct report *report) {
    tell_place(report);
    tell_handling(report);
    put_report(report, &error->text);
    put_map(report, &error->map);
}

void eng_error_make(struct eng_error *error, struct eng_handler *handler,
                    const struct eng_proc *proc, lua_State *co) {
    struct report report = {.handler = handler, .proc = proc, .co = co};
    report.version = proc == NULL ? handler->tried : proc->version;
    if (proc != NULL && proc->eval != NULL) {
        report.eval = proc->eval->source;
    }
    *error = (struct eng_error){0};
    tell_error(&report);
    finish_error(error, &report);
    put_reason(&report, &error->reason);
    report_finish(&report);
}

void eng_error_plain(struct eng_error *error, struct eng_handler *handler,
                     const struct eng_proc *proc, struct span reason) {
    struct report report = {.handler = handler, .proc = proc};
    char text[MAX_REASON + 1];
    report.version = proc == NULL ? handler->version : proc->version;
    *error = (struct eng_error){0};
    if (!eng_limit_tell(reason, text, sizeof text)) {
        term_inspect_ext(reason, text, sizeof text);
    }
    put_text(&report.message, "ended: ");
    put_text(&report.message, text);
    if (proc != NULL && proc->current != NULL) { /* given up by now, maybe for `terminate` */
        term_inspect_ext(proc->current->body, report.handling, sizeof report.handling);
    } else {
        tell_handling(&report);
    }
    put_report(&report, &error->text);
    put_map(&report, &error->map);
    eng_reason_copy(&error->reason, reason);
    report_finish(&report);
}

void eng_error_compile(struct eng_error *error, struct eng_handler *handler,
                       const struct span *source, const char *message) {
    struct report report = {.handler = handler};
    report.version = source == NULL ? handler->tried : NULL;
    report.eval = source == NULL ? (struct span){0} : *source;
    *error = (struct eng_error){0};
    put_text(&report.message, message);
    finish_error(error, &report);
    put_reason(&report, &error->reason);
    report_finish(&report);
}

void eng_error_keep(struct buf *map, struct eng_error *error) {
    buf_finish(map);
    *map = error->map;
    buf_init(&error->map);
}

void eng_error_finish(struct eng_error *error) {
    buf_finish(&error->reason);
    buf_finish(&error->text);
    buf_finish(&error->map);
}

/* }==== */
