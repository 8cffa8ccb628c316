/* The commands of the prompt: lines that begin with a colon. */
#include <ctype.h>
#include <stdio.h>
#include <time.h>

#include "attach/private.h"
#include "base/ext.h"

/* {==== Reading maps ====================================================================== */

/* The value of a key that is an atom; empty when there is none. */
static struct span field(struct span map, const char *name) {
    uint32_t pairs = 0;
    struct span key;
    struct span value;
    ext_take_map(&map, &pairs);
    for (uint32_t i = 0; i < pairs && ext_take(&map, &key) && ext_take(&map, &value); i++) {
        if (ext_is_atom(key, name)) {
            return value;
        }
    }
    return (struct span){0};
}

/* 0 when there is none. */
static uint64_t number(struct span map, const char *name) {
    struct span value = field(map, name);
    uint64_t number = 0;
    return ext_take_uint(&value, &number) ? number : 0;
}

/* An atom or a binary; empty when it is neither, or nil. */
static struct span words(struct span map, const char *name) {
    struct span value = field(map, name);
    struct span text = {0};
    bool latin1;
    if (!ext_take_binary(&value, &text) && !ext_is_atom(value, "nil")) {
        ext_take_atom(&value, &text, &latin1);
    }
    return text;
}

/* }==== */

/* {==== Numbers as text =================================================================== */

static void put_bytes(struct attach_table *table, uint64_t bytes) {
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
    double size = (double)bytes / 1024;
    size_t i = 0;
    while (size >= 1024 && i + 1 < sizeof units / sizeof *units) {
        size /= 1024;
        i++;
    }
    attach_table_put(table, "%.1f %s", size, units[i]);
}

static void put_time(struct attach_table *table, uint64_t microseconds) {
    double ms = (double)microseconds / 1000;
    if (ms < 10000) {
        attach_table_put(table, "%.1f ms", ms);
    } else {
        attach_table_put(table, "%.1f s", ms / 1000);
    }
}

/* A number of milliseconds since 1970, in this machine's time. */
static void put_moment(struct attach_table *table, uint64_t ms) {
    char text[32] = "";
    struct tm broken;
    time_t seconds = (time_t)(ms / 1000);
    if (ms > 0 && localtime_r(&seconds, &broken) != NULL) {
        (void)strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &broken);
    }
    attach_table_put(table, "%s", text);
}

static void put_words(struct attach_table *table, struct span text) {
    attach_table_put(table, "%.*s", (int)text.len, (const char *)text.data);
}

static void put_number(struct attach_table *table, uint64_t number) {
    attach_table_put(table, "%llu", (unsigned long long)number);
}

/* }==== */

/* {==== :handlers ========================================================================= */

static bool ask_for(struct attach *attach, const char *what) {
    struct buf request = {0};
    bool ok = ext_put_atom(&request, span_str(what)) && attach_asks(attach, buf_span(&request));
    buf_finish(&request);
    return ok;
}

static void put_handler(struct attach_table *table, struct span handler) {
    put_words(table, words(handler, "name"));
    if (number(handler, "version") == 0) {
        attach_table_put(table, "-");
    } else {
        put_number(table, number(handler, "version"));
    }
    put_words(table, words(handler, "state"));
    put_number(table, number(handler, "processes"));
    put_moment(table, number(handler, "since"));
    put_words(table, words(handler, "file"));
}

/* The first line of the last error of each that has one. */
static void print_errors(struct span list, uint32_t count) {
    struct span handler;
    for (uint32_t i = 0; i < count && ext_take(&list, &handler); i++) {
        struct span name = words(handler, "name");
        struct span text = words(field(handler, "last_error"), "message");
        const uint8_t *end = text.len == 0 ? NULL : memchr(text.data, '\n', text.len);
        size_t len = end == NULL ? text.len : (size_t)(end - text.data);
        if (len > 0) {
            (void)printf("last error of %.*s: %.*s\n", (int)name.len, (const char *)name.data,
                         (int)len, (const char *)text.data);
        }
    }
}

static bool show_handlers(struct attach *attach, struct span argument) {
    static const char *const titles[] = {"handler",   "version", "state",
                                         "processes", "since",   "file"};
    struct attach_table table = {.columns = sizeof titles / sizeof *titles};
    struct span handler;
    uint32_t count = 0;
    (void)argument;
    if (!ask_for(attach, "handlers")) {
        return false;
    }
    struct span list = buf_span(&attach->answer);
    ext_take_list(&list, &count);
    for (size_t i = 0; i < table.columns; i++) {
        attach_table_put(&table, "%s", titles[i]);
    }
    struct span rest = list;
    for (uint32_t i = 0; i < count && ext_take(&rest, &handler); i++) {
        put_handler(&table, handler);
    }
    attach_table_print(&table, 1U << 1 | 1U << 3);
    print_errors(list, count);
    return true;
}

bool attach_handler_names(struct attach *attach, struct buf *names) {
    struct buf request = {0};
    struct span handler;
    uint32_t count = 0;
    bool ok = ext_put_atom(&request, span_str("handlers")) &&
              attach_ask(attach, buf_span(&request)) == ATTACH_ANSWERED;
    struct span list = buf_span(&attach->answer);
    ok = ok && ext_take_list(&list, &count);
    for (uint32_t i = 0; ok && i < count; i++) {
        ok = ext_take(&list, &handler);
        struct span name = ok ? field(handler, "name") : handler;
        ok = ok && buf_append(names, name.data, name.len);
    }
    buf_finish(&request);
    return ok;
}

/* }==== */

/* {==== :stats ============================================================================ */

/* A column: its title, the key, and what the number counts. */
struct column {
    const char *title;
    const char *key;
    void (*put)(struct attach_table *table, uint64_t number);
};

static const struct column handler_columns[] = {
    {"messages", "messages", put_number}, {"errors", "errors", put_number},
    {"restarts", "restarts", put_number}, {"reloads", "reloads", put_number},
    {"mailbox", "mailbox", put_number},   {"processes", "processes", put_number},
    {"run time", "run_time", put_time},   {"longest slice", "longest_slice", put_time},
    {"memory", "memory", put_bytes},
};

static const struct column peer_columns[] = {
    {"frames in", "frames_in", put_number},
    {"frames out", "frames_out", put_number},
    {"bytes in", "bytes_in", put_bytes},
    {"bytes out", "bytes_out", put_bytes},
};

/* A map of names to maps of numbers. */
static void print_numbers(struct span map, const char *title, const struct column *columns,
                          size_t count) {
    struct attach_table table = {.columns = count + 1};
    struct span name;
    struct span numbers;
    uint32_t pairs = 0;
    bool latin1;
    ext_take_map(&map, &pairs);
    attach_table_put(&table, "%s", title);
    for (size_t i = 0; i < count; i++) {
        attach_table_put(&table, "%s", columns[i].title);
    }
    for (uint32_t i = 0;
         i < pairs && ext_take_atom(&map, &name, &latin1) && ext_take(&map, &numbers); i++) {
        put_words(&table, name);
        for (size_t j = 0; j < count; j++) {
            columns[j].put(&table, number(numbers, columns[j].key));
        }
    }
    attach_table_print(&table, ~1U);
}

static bool show_stats(struct attach *attach, struct span argument) {
    (void)argument;
    if (!ask_for(attach, "stats")) {
        return false;
    }
    struct span stats = buf_span(&attach->answer);
    uint64_t up = number(stats, "uptime") / 1000;
    (void)printf("up %llu:%02u:%02u, %.1f MiB of memory, %llu processes, %llu atoms\n",
                 (unsigned long long)(up / 3600), (unsigned)(up / 60 % 60), (unsigned)(up % 60),
                 (double)number(stats, "memory") / (1 << 20),
                 (unsigned long long)number(stats, "processes"),
                 (unsigned long long)number(stats, "atoms"));
    print_numbers(field(stats, "handlers"), "handler", handler_columns,
                  sizeof handler_columns / sizeof *handler_columns);
    print_numbers(field(stats, "peers"), "peer", peer_columns,
                  sizeof peer_columns / sizeof *peer_columns);
    return true;
}

/* }==== */

/* {==== :reload and :use ================================================================== */

/* Writes the name of a handler as a string. */
static bool take_name(struct span argument, char *name, size_t size) {
    if (argument.len == 0 || argument.len >= size) {
        (void)fprintf(stderr, "which handler? See :handlers\n");
        return false;
    }
    memcpy(name, argument.data, argument.len);
    name[argument.len] = '\0';
    return true;
}

static bool reload(struct attach *attach, struct span argument) {
    char name[sizeof attach->handler];
    struct buf request = {0};
    struct span value;
    uint64_t version = 0;
    bool ok = take_name(argument, name, sizeof name) && ext_put_tuple(&request, 2) &&
              ext_put_atom(&request, span_str("reload")) && ext_put_atom(&request, argument) &&
              attach_asks(attach, buf_span(&request)) && attach_take_ok(attach, name, &value);
    if (ok && ext_take_uint(&value, &version)) {
        (void)printf("%s is at version %llu\n", name, (unsigned long long)version);
    }
    buf_finish(&request);
    return ok;
}

/* Without a name back to the fresh environment. */
static bool use(struct attach *attach, struct span argument) {
    char name[sizeof attach->handler] = "";
    struct buf names = {0};
    struct span atom;
    bool latin1;
    bool found = argument.len == 0;
    bool ok =
        found || (take_name(argument, name, sizeof name) && attach_handler_names(attach, &names));
    struct span rest = buf_span(&names);
    while (ok && rest.len > 0 && ext_take_atom(&rest, &atom, &latin1)) {
        found = found || span_equal(atom, argument);
    }
    buf_finish(&names);
    if (ok && !found) {
        (void)fprintf(stderr, "there is no handler %s\n", name);
    } else if (ok) {
        memcpy(attach->handler, name, sizeof name);
    }
    return ok && found;
}

/* }==== */

static bool quit(struct attach *attach, struct span argument) {
    (void)argument;
    attach->over = true;
    return true;
}

static bool help(struct attach *attach, struct span argument) {
    (void)attach, (void)argument;
    (void)fputs("Expressions and chunks run in the node, and their values are printed. Else:\n"
                ":handlers     the handlers: version, state, file, last error\n"
                ":stats        what they and the node have done\n"
                ":reload NAME  reads the file of a handler again\n"
                ":use NAME     runs what follows in the environment of a handler, with `handler`\n"
                "              (what its script returned) and `self`; :use alone leaves it\n"
                ":quit         ends the prompt, as Ctrl-D does\n"
                "TAB completes, the arrows bring back what was typed, Ctrl-C interrupts.\n",
                stdout);
    return true;
}

static const struct {
    const char *name;
    bool (*run)(struct attach *attach, struct span argument);
} commands[] = {
    {":help", help},        {":handlers", show_handlers},
    {":stats", show_stats}, {":reload", reload},
    {":use", use},          {":quit", quit},
};

const char *attach_command_name(size_t i) {
    return i < sizeof commands / sizeof *commands ? commands[i].name : NULL;
}

/* A label begins with two colons. */
bool attach_is_command(struct span line) {
    return line.len >= 2 && line.data[0] == ':' && isalpha(line.data[1]);
}

static struct span trim(struct span text) {
    while (text.len > 0 && isspace(text.data[0])) {
        text = span_of(text.data + 1, text.len - 1);
    }
    while (text.len > 0 && isspace(text.data[text.len - 1])) {
        text.len--;
    }
    return text;
}

bool attach_command(struct attach *attach, struct span line) {
    size_t len = 0;
    while (len < line.len && !isspace(line.data[len])) {
        len++;
    }
    struct span name = span_of(line.data, len);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (span_equal(name, span_str(commands[i].name))) {
            bool ok = commands[i].run(attach, trim(span_of(line.data + len, line.len - len)));
            (void)fflush(stdout);
            return ok;
        }
    }
    (void)fprintf(stderr, "there is no command %.*s; see :help\n", (int)name.len,
                  (const char *)name.data);
    return false;
}
