/* The encoder's errors: where in the value, and why. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/ext.h"
#include "base/utf8.h"
#include "term/encode.h"

enum { EDGE = 6 /* parts of a path that are named at either end */, PART = 36 };

static bool is_identifier(struct span name) {
    if (name.len == 0 || name.len > PART - 4 || isdigit(name.data[0])) {
        return false;
    }
    for (size_t i = 0; i < name.len; i++) {
        if (name.data[i] >= 0x80 || (!isalnum(name.data[i]) && name.data[i] != '_')) {
            return false;
        }
    }
    return true;
}

/* Appends as much as fits. */
static void append(char *path, size_t size, const char *text) {
    size_t used = strlen(path);
    struct span fits = utf8_cut(span_str(text), size - 1 - used);
    (void)snprintf(path + used, size - used, "%.*s", (int)fits.len, (const char *)fits.data);
}

/* The key at `idx`, which is written, as a part of a path. [-0, +0, -] */
static void part_of_key(struct encoder *e, const struct frame *frame, int idx, char *part) {
    char text[PART - 2];
    struct span rest = buf_span(e->out);
    struct span key;
    struct span name =
        term_atom_name(e->state->atoms, term_atom_number(e->L, e->state->atoms, idx));
    if (lua_type(e->L, idx) == LUA_TSTRING) {
        size_t len;
        const char *bytes = lua_tolstring(e->L, idx, &len);
        name = span_of(bytes, len);
    }
    if (is_identifier(name)) {
        (void)snprintf(part, PART, ".%.*s", (int)name.len, (const char *)name.data);
        return;
    }
    rest = span_of(rest.data + frame->key_start, rest.len - frame->key_start);
    term_inspect_ext(ext_take(&rest, &key) ? key : (struct span){0}, text, sizeof text);
    (void)snprintf(part, PART, "[%s]", text);
}

/* Where the frame stands: an element, a key's value, a key. [-0, +0, -] */
static void part_of(struct encoder *e, const struct frame *frame, char *part) {
    if (frame->walk == WALK_TAIL) {
        (void)snprintf(part, PART, ".tail");
    } else if (!in_map(frame)) {
        (void)snprintf(part, PART, "[%u]", frame->index);
    } else if (!frame->in_value) {
        (void)snprintf(part, PART, "(key)");
    } else {
        part_of_key(e, frame, frame->walk == WALK_MAP ? frame->at + 1 : frame->at + 2, part);
    }
}

bool term_encode_fail(struct encoder *e, uint32_t depth, const char *format, ...) {
    char part[PART];
    char why[256];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(why, sizeof why, format, args);
    va_end(args);
    char path[sizeof e->err->text - sizeof why];
    (void)snprintf(path, sizeof path, "%.32s", e->root);
    for (uint32_t i = 0; i < depth; i++) {
        if (depth > 2 * EDGE && i == EDGE) {
            append(path, sizeof path, "...");
            i = depth - EDGE;
        }
        part_of(e, &e->memory->frames[i], part);
        append(path, sizeof path, part);
    }
    return err_set(e->err, "%s: %s", path, why);
}
