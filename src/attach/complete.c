/* Completion: the node knows the names of Lua, we know the commands. */
#include <ctype.h>
#include <stdlib.h>

#include "attach/private.h"
#include "base/ext.h"

/* {==== Names ============================================================================= */

/* Only what continues the word is one. */
static bool add(struct attach_names *names, struct span word, struct span name) {
    if (name.len < word.len || memcmp(name.data, word.data, word.len) != 0 ||
        memchr(name.data, '\0', name.len) != NULL) {
        return true;
    }
    names->count++;
    return buf_append(&names->bytes, name.data, name.len) && buf_append(&names->bytes, "", 1);
}

static int compare(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The bytes stay where they are from now on. */
static bool sort(struct attach_names *names) {
    const char *at = (const char *)names->bytes.data;
    if (names->count == 0) {
        return false;
    }
    names->names = malloc(names->count * sizeof *names->names);
    for (size_t i = 0; names->names != NULL && i < names->count; i++) {
        names->names[i] = at;
        at += strlen(at) + 1;
    }
    if (names->names != NULL) {
        qsort(names->names, names->count, sizeof *names->names, compare);
    }
    return names->names != NULL;
}

/* They are sorted: the first and the last differ most. */
size_t attach_names_common(const struct attach_names *names) {
    const char *first = names->names[0];
    const char *last = names->names[names->count - 1];
    size_t len = 0;
    while (first[len] != '\0' && first[len] == last[len]) {
        len++;
    }
    return len;
}

void attach_names_finish(struct attach_names *names) {
    free(names->names);
    buf_finish(&names->bytes);
}

/* }==== */

/* {==== Lua =============================================================================== */

static struct span last_word(struct span text) {
    size_t start = text.len;
    while (start > 0 && (isalnum(text.data[start - 1]) || strchr("_.:", text.data[start - 1]))) {
        start--;
    }
    return span_of(text.data + start, text.len - start);
}

/* {complete, Handler, Text, Pid} */
static bool put_request(const struct attach *attach, struct span text, struct buf *out) {
    const char *handler = attach->handler[0] == '\0' ? "nil" : attach->handler;
    return ext_put_tuple(out, 4) && ext_put_atom(out, span_str("complete")) &&
           ext_put_atom(out, span_str(handler)) && ext_put_binary(out, text) &&
           buf_append(out, attach->pid.data, attach->pid.len);
}

static bool complete_lua(struct attach *attach, struct span text, struct attach_names *names) {
    struct buf request = {0};
    uint32_t count = 0;
    struct span name;
    struct span word = last_word(text);
    bool ok = put_request(attach, text, &request) &&
              attach_ask(attach, buf_span(&request)) == ATTACH_ANSWERED;
    struct span list = buf_span(&attach->answer);
    ok = ok && ext_take_list(&list, &count);
    for (uint32_t i = 0; ok && i < count; i++) {
        ok = ext_take_binary(&list, &name) && add(names, word, name);
    }
    names->word = word.len;
    buf_finish(&request);
    return ok;
}

/* }==== */

/* {==== Commands ========================================================================== */

static bool complete_handler(struct attach *attach, struct span word, struct attach_names *names) {
    struct buf list = {0};
    struct span name;
    bool latin1;
    bool ok = attach_handler_names(attach, &list);
    struct span rest = buf_span(&list);
    while (ok && rest.len > 0) {
        ok = ext_take_atom(&rest, &name, &latin1) && add(names, word, name);
    }
    names->word = word.len;
    buf_finish(&list);
    return ok;
}

static bool complete_command(struct attach *attach, struct span text, struct attach_names *names) {
    const uint8_t *space = memrchr(text.data, ' ', text.len);
    if (space != NULL) {
        size_t start = (size_t)(space + 1 - text.data);
        return complete_handler(attach, span_of(text.data + start, text.len - start), names);
    }
    bool ok = true;
    const char *name;
    for (size_t i = 0; ok && (name = attach_command_name(i)) != NULL; i++) {
        ok = add(names, text, span_str(name));
    }
    names->word = text.len;
    return ok;
}

/* }==== */

bool attach_complete(struct attach *attach, struct span text, struct attach_names *names) {
    bool ok = text.len > 0 && text.data[0] == ':' && attach->source.len == 0
                  ? complete_command(attach, text, names)
                  : complete_lua(attach, text, names);
    return ok && sort(names);
}
