/* External terms as text, as Elixir's inspect writes them, straight from their bytes: what it takes
 * is bounded by the length of the text, whatever the size of the term. Every container writes a
 * byte before what is in it, so the length bounds the depth of the recursion too. */
#include <stdlib.h>

#include "base/ext.h"
#include "term/private.h"

enum {
    LOOK = 4096,      /* bytes from which it is told how a list or a map is written */
    BIG_BYTES = 80,   /* of an integer that is written out */
    BIG_DIGITS = 200, /* which it has at the most */
};

struct walk {
    struct term_text text;
    struct span in; /* what is not written yet */
};

static void put_term(struct walk *walk);

/* {==== Bytes ============================================================================= */

/* Nothing more can be told: the bytes are no term. */
static void stop(struct walk *walk) {
    walk->text.full = true;
}

/* Cuts `len` bytes off; false, and the end of the walk, when there are not so many. */
static bool take(struct walk *walk, size_t len, struct span *bytes) {
    if (walk->in.len < len) {
        stop(walk);
        return false;
    }
    *bytes = span_of(walk->in.data, len);
    walk->in = span_of(walk->in.data + len, walk->in.len - len);
    return true;
}

/* The same for a term whose parts are few: no container. */
static bool take_leaf(struct walk *walk, struct span *term) {
    bool ok = ext_take(&walk->in, term);
    if (!ok) {
        stop(walk);
    }
    return ok;
}

/* What can be looked at ahead. */
static struct span ahead(const struct walk *walk) {
    return span_of(walk->in.data, walk->in.len < LOOK ? walk->in.len : LOOK);
}

/* }==== */

/* {==== Numbers =========================================================================== */

static void put_int(struct walk *walk) {
    int64_t value;
    if (ext_take_int(&walk->in, &value)) {
        term_text_format(&walk->text, "%lld", (long long)value);
    } else {
        stop(walk);
    }
}

/* Divides the number (its lowest byte first) by ten, in place; gives the rest. */
static unsigned divide(uint8_t *bytes, size_t len) {
    unsigned rest = 0;
    for (size_t i = len; i-- > 0;) {
        rest = rest << 8 | bytes[i];
        bytes[i] = (uint8_t)(rest / 10);
        rest %= 10;
    }
    return rest;
}

static void put_big(struct walk *walk) {
    struct span term;
    uint8_t bytes[BIG_BYTES];
    char digits[BIG_DIGITS];
    if (!take_leaf(walk, &term)) {
        return;
    }
    size_t head = term.data[0] == EXT_SMALL_BIG ? 3 : 6;
    size_t len = term.len - head;
    if (len > BIG_BYTES) {
        stop(walk);
        return;
    }
    memcpy(bytes, term.data + head, len);
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + divide(bytes, len));
        while (len > 0 && bytes[len - 1] == 0) {
            len--;
        }
    } while (len > 0);
    term_text_put(&walk->text, term.data[head - 1] != 0 ? "-" : "");
    term_text_bytes(&walk->text, span_of(digits + at, sizeof digits - at));
}

static void put_float(struct walk *walk) {
    struct span term;
    double number = 0;
    if (!take_leaf(walk, &term)) {
        return;
    }
    if (term.data[0] == EXT_NEW_FLOAT) {
        uint64_t bits = ext_u64(term.data + 1);
        memcpy(&number, &bits, sizeof number);
    } else {
        char digits[32] = "";
        memcpy(digits, term.data + 1, sizeof digits - 1);
        number = strtod(digits, NULL);
    }
    term_text_float(&walk->text, number);
}

/* }==== */

/* {==== Atoms and binaries ================================================================ */

static void put_atom(struct walk *walk) {
    struct span name;
    bool latin1;
    if (!ext_take_atom(&walk->in, &name, &latin1)) {
        stop(walk);
    } else if (span_equal(name, span_str("nil")) || span_equal(name, span_str("true")) ||
               span_equal(name, span_str("false"))) {
        term_text_bytes(&walk->text, name);
    } else {
        term_text_atom(&walk->text, name);
    }
}

static void put_binary(struct walk *walk) {
    struct span term;
    if (!take_leaf(walk, &term)) {
        return;
    }
    if (term.data[0] == EXT_BINARY) {
        term_text_binary(&walk->text, span_of(term.data + 5, term.len - 5));
    } else {
        term_text_raw(&walk->text, span_of(term.data + 6, term.len - 6), term.data[5] % 8);
    }
}

static bool is_printable(struct span bytes) {
    for (size_t i = 0; i < bytes.len; i++) {
        bool space = bytes.data[i] >= 7 && bytes.data[i] <= 13;
        if (!space && (bytes.data[i] < 0x20 || bytes.data[i] >= 0x7F)) {
            return false;
        }
    }
    return true;
}

/* A list of small integers, which travels as a string. */
static void put_charlist(struct walk *walk) {
    struct span term;
    if (!take_leaf(walk, &term)) {
        return;
    }
    size_t len = term.len - 3 < LOOK ? term.len - 3 : LOOK;
    struct span bytes = span_of(term.data + 3, len);
    if (is_printable(bytes)) {
        term_text_put(&walk->text, "~c");
        term_text_quoted(&walk->text, bytes);
        return;
    }
    term_text_put(&walk->text, "[");
    for (size_t i = 0; i < bytes.len && !walk->text.full; i++) {
        term_text_format(&walk->text, "%s%u", i == 0 ? "" : ", ", bytes.data[i]);
    }
    term_text_put(&walk->text, "]");
}

/* }==== */

/* {==== Identifiers and funs ============================================================== */

/* .1.2 for numbers of four bytes. */
static void put_numbers(struct walk *walk, struct span numbers) {
    for (; numbers.len >= 4; numbers = span_of(numbers.data + 4, numbers.len - 4)) {
        term_text_format(&walk->text, ".%u", (unsigned)ext_u32(numbers.data));
    }
}

/* Those of a reference: the last one first, as Erlang has it. */
static void put_words(struct walk *walk, struct span words) {
    for (size_t at = words.len; at >= 4; at -= 4) {
        term_text_format(&walk->text, ".%u", (unsigned)ext_u32(words.data + at - 4));
    }
}

/* How an identifier is written, and the bytes of the creation that does not tell it apart. */
static const struct id_form {
    uint8_t tag;
    const char *kind;
    size_t creation;
} id_forms[] = {
    {EXT_PID, "#PID<", 1},
    {EXT_NEW_PID, "#PID<", 4},
    {EXT_PORT, "#Port<", 1},
    {EXT_NEW_PORT, "#Port<", 4},
    {EXT_V4_PORT, "#Port<", 4},
    {EXT_REFERENCE, "#Reference<", 1},
    {EXT_NEW_REFERENCE, "#Reference<", 1},
    {EXT_NEWER_REFERENCE, "#Reference<", 4},
};

static const struct id_form *form_of(uint8_t tag) {
    for (size_t i = 0; i < sizeof id_forms / sizeof *id_forms; i++) {
        if (id_forms[i].tag == tag) {
            return &id_forms[i];
        }
    }
    return NULL;
}

/* #PID<node.12.0>: the number that a BEAM has in place of the node's name is its own secret. */
static void put_id(struct walk *walk) {
    struct span term;
    if (!take_leaf(walk, &term)) {
        return;
    }
    const struct id_form *form = form_of(term.data[0]);
    struct span node = ext_node_of(term);
    if (form == NULL || node.data == NULL) {
        stop(walk);
        return;
    }
    const uint8_t *body = node.data + node.len;
    size_t len = (size_t)(term.data + term.len - body);
    term_text_put(&walk->text, form->kind);
    term_text_escaped(&walk->text, node);
    if (form->tag == EXT_NEW_REFERENCE || form->tag == EXT_NEWER_REFERENCE) {
        put_words(walk, span_of(body + form->creation, len - form->creation));
    } else if (form->tag == EXT_V4_PORT) {
        term_text_format(&walk->text, ".%llu", (unsigned long long)ext_u64(body));
    } else {
        put_numbers(walk, span_of(body, len - form->creation));
    }
    term_text_put(&walk->text, ">");
}

/* &Module.function/arity */
static void put_export(struct walk *walk) {
    struct span term;
    struct span name;
    bool latin1;
    if (!take_leaf(walk, &term)) {
        return;
    }
    struct span rest = span_of(term.data + 1, term.len - 1);
    term_text_put(&walk->text, "&");
    if (ext_take_atom(&rest, &name, &latin1)) {
        term_text_atom(&walk->text, name);
        term_text_put(&walk->text, ".");
    }
    if (ext_take_atom(&rest, &name, &latin1) && rest.len == 2) {
        term_text_name(&walk->text, name);
        term_text_format(&walk->text, "/%u", rest.data[1]);
    }
}

/* #Function<index/arity in Module> */
static void put_fun(struct walk *walk) {
    struct span term;
    struct span module;
    bool latin1;
    if (!take_leaf(walk, &term)) {
        return;
    }
    if (term.len < 30) {
        stop(walk);
        return;
    }
    struct span rest = span_of(term.data + 30, term.len - 30);
    term_text_format(&walk->text, "#Function<%u/%u in ", (unsigned)ext_u32(term.data + 22),
                     term.data[5]);
    if (ext_take_atom(&rest, &module, &latin1)) {
        term_text_atom(&walk->text, module);
    }
    term_text_put(&walk->text, ">");
}

/* }==== */

/* {==== Containers ======================================================================== */

static void put_terms(struct walk *walk, uint64_t count) {
    for (uint64_t i = 0; i < count && !walk->text.full; i++) {
        term_text_put(&walk->text, i == 0 ? "" : ", ");
        put_term(walk);
    }
}

static void put_tuple(struct walk *walk) {
    uint32_t arity;
    if (!ext_take_tuple(&walk->in, &arity)) {
        stop(walk);
        return;
    }
    term_text_put(&walk->text, "{");
    put_terms(walk, arity);
    term_text_put(&walk->text, "}");
}

/* Whether `in` begins with so many {atom, value}, as far as one can look. */
static bool is_keyword(struct span in, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        uint32_t arity;
        struct span name;
        struct span value;
        bool latin1;
        if (!ext_take_tuple(&in, &arity) || arity != 2 || !ext_take_atom(&in, &name, &latin1)) {
            return false;
        }
        if (!ext_take(&in, &value)) {
            break;
        }
    }
    return true;
}

/* `key: value`, or `key => value` */
static void put_pair(struct walk *walk, bool short_key) {
    struct span name;
    bool latin1;
    if (short_key && ext_take_atom(&walk->in, &name, &latin1)) {
        term_text_name(&walk->text, name);
        term_text_put(&walk->text, ": ");
    } else {
        put_term(walk);
        term_text_put(&walk->text, " => ");
    }
    if (!walk->text.full) {
        put_term(walk);
    }
}

static void put_keyword(struct walk *walk, uint32_t count) {
    uint32_t arity;
    for (uint32_t i = 0; i < count && !walk->text.full; i++) {
        term_text_put(&walk->text, i == 0 ? "" : ", ");
        if (ext_take_tuple(&walk->in, &arity) && arity == 2) {
            put_pair(walk, true);
        } else {
            stop(walk);
        }
    }
}

static void put_list(struct walk *walk) {
    uint32_t count;
    if (!ext_take_list(&walk->in, &count)) {
        stop(walk);
        return;
    }
    term_text_put(&walk->text, "[");
    if (count > 0 && is_keyword(ahead(walk), count)) {
        put_keyword(walk, count);
    } else {
        put_terms(walk, count);
    }
    if (count > 0 && !walk->text.full) {
        bool proper = walk->in.len > 0 && walk->in.data[0] == EXT_NIL;
        if (proper) {
            walk->in = span_of(walk->in.data + 1, walk->in.len - 1);
        } else {
            term_text_put(&walk->text, " | ");
            put_term(walk);
        }
    }
    term_text_put(&walk->text, "]");
}

/* Looks ahead: whether all keys are atoms, and the module of a struct. */
static bool look_at_keys(struct span in, uint32_t count, struct span *module) {
    for (uint32_t i = 0; i < count; i++) {
        struct span key;
        struct span value;
        bool latin1;
        if (!ext_take_atom(&in, &key, &latin1)) {
            return false;
        }
        if (!ext_take(&in, &value)) {
            break;
        }
        if (span_equal(key, span_str("__struct__"))) {
            ext_take_atom(&value, module, &latin1);
        }
    }
    return true;
}

/* Moves over the pair if it says what struct it is. */
static bool skip_struct(struct walk *walk, struct span module) {
    struct span rest = ahead(walk);
    struct span part;
    size_t before = rest.len;
    if (module.len == 0 || !ext_take(&rest, &part) || !ext_is_atom(part, "__struct__") ||
        !ext_take(&rest, &part)) {
        return false;
    }
    return take(walk, before - rest.len, &part);
}

static void put_map(struct walk *walk) {
    struct span head;
    struct span module = {0};
    if (!take(walk, 5, &head)) {
        return;
    }
    uint32_t count = ext_u32(head.data + 1);
    bool short_keys = look_at_keys(ahead(walk), count, &module);
    term_text_put(&walk->text, "%");
    if (module.len > 0) {
        term_text_atom(&walk->text, module);
    }
    term_text_put(&walk->text, "{");
    for (uint32_t i = 0, written = 0; i < count && !walk->text.full; i++) {
        if (!skip_struct(walk, module)) {
            term_text_put(&walk->text, written++ == 0 ? "" : ", ");
            put_pair(walk, short_keys);
        }
    }
    term_text_put(&walk->text, "}");
}

/* }==== */

static void put_term(struct walk *walk) {
    switch (walk->in.len == 0 ? 0 : walk->in.data[0]) {
    case EXT_SMALL_INTEGER:
    case EXT_INTEGER:
        put_int(walk);
        break;
    case EXT_SMALL_BIG:
    case EXT_LARGE_BIG:
        put_big(walk);
        break;
    case EXT_NEW_FLOAT:
    case EXT_FLOAT:
        put_float(walk);
        break;
    case EXT_ATOM:
    case EXT_SMALL_ATOM:
    case EXT_ATOM_UTF8:
    case EXT_SMALL_ATOM_UTF8:
        put_atom(walk);
        break;
    case EXT_BINARY:
    case EXT_BIT_BINARY:
        put_binary(walk);
        break;
    case EXT_STRING:
        put_charlist(walk);
        break;
    case EXT_NIL:
    case EXT_LIST:
        put_list(walk);
        break;
    case EXT_SMALL_TUPLE:
    case EXT_LARGE_TUPLE:
        put_tuple(walk);
        break;
    case EXT_MAP:
        put_map(walk);
        break;
    case EXT_EXPORT:
        put_export(walk);
        break;
    case EXT_NEW_FUN:
        put_fun(walk);
        break;
    default:
        put_id(walk);
    }
}

size_t term_inspect_ext(struct span term, char *buffer, size_t size) {
    struct walk walk = {.in = term};
    term_text_begin(&walk.text, buffer, size);
    put_term(&walk);
    return term_text_end(&walk.text);
}

size_t term_inspect_call(struct span name, struct span args, uint32_t count, char *buffer,
                         size_t size) {
    struct walk walk = {.in = args};
    term_text_begin(&walk.text, buffer, size);
    term_text_name(&walk.text, name);
    term_text_put(&walk.text, "(");
    put_terms(&walk, count);
    term_text_put(&walk.text, ")");
    return term_text_end(&walk.text);
}
