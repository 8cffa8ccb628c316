/* Walking over external terms: see ext.h. */
#include "base/ext.h"

/* {==== Sizes of terms ==================================================================== */

/* What follows a tag: `fixed` bytes, then whole terms. `body` counts the tag itself. */
struct shape {
    uint64_t body;
    uint64_t terms;
};

static bool shape_of_container(const uint8_t *p, size_t len, struct shape *shape) {
    uint8_t tag = p[0];
    if (tag == EXT_SMALL_TUPLE) {
        *shape = (struct shape){2, len < 2 ? 0 : p[1]};
        return true;
    }
    if (tag != EXT_LARGE_TUPLE && tag != EXT_LIST && tag != EXT_MAP) {
        return false;
    }
    uint64_t count = len < 5 ? 0 : ext_u32(p + 1);
    if (tag == EXT_LIST) {
        count += 1; /* the tail */
    } else if (tag == EXT_MAP) {
        count *= 2;
    }
    *shape = (struct shape){5, count};
    return true;
}

static bool shape_of_identifier(const uint8_t *p, size_t len, struct shape *shape) {
    switch (p[0]) {
    case EXT_PID:
    case EXT_NEW_PID:
    case EXT_PORT:
    case EXT_NEW_PORT:
    case EXT_V4_PORT:
    case EXT_REFERENCE:
        *shape = (struct shape){1, 1}; /* the node name, then numbers: see tail_of */
        return true;
    case EXT_NEW_REFERENCE:
    case EXT_NEWER_REFERENCE:
        *shape = (struct shape){3, 1};
        return len >= 3;
    case EXT_EXPORT:
        *shape = (struct shape){1, 3};
        return true;
    default:
        return false;
    }
}

/* Bytes behind the node name of an identifier. */
static uint64_t tail_of(const uint8_t *p) {
    switch (p[0]) {
    case EXT_PID:
        return 9;
    case EXT_NEW_PID:
        return 12;
    case EXT_PORT:
    case EXT_REFERENCE:
        return 5;
    case EXT_NEW_PORT:
        return 8;
    case EXT_V4_PORT:
        return 12;
    case EXT_NEW_REFERENCE:
        return 1 + 4 * (uint64_t)ext_u16(p + 1);
    case EXT_NEWER_REFERENCE:
        return 4 + 4 * (uint64_t)ext_u16(p + 1);
    default:
        return 0;
    }
}

/* The size of a term without parts, from the length field that follows its tag; 0: none such. */
static uint64_t size_of_leaf(const uint8_t *p, size_t len) {
    switch (p[0]) {
    case EXT_NIL:
        return 1;
    case EXT_SMALL_INTEGER:
        return 2;
    case EXT_INTEGER:
        return 5;
    case EXT_NEW_FLOAT:
        return 9;
    case EXT_FLOAT:
        return 32;
    case EXT_SMALL_ATOM:
    case EXT_SMALL_ATOM_UTF8:
        return len < 2 ? 2 : 2 + (uint64_t)p[1];
    case EXT_SMALL_BIG:
        return len < 2 ? 2 : 3 + (uint64_t)p[1];
    case EXT_ATOM:
    case EXT_ATOM_UTF8:
    case EXT_STRING:
        return len < 3 ? 3 : 3 + (uint64_t)ext_u16(p + 1);
    case EXT_BINARY:
        return len < 5 ? 5 : 5 + (uint64_t)ext_u32(p + 1);
    case EXT_BIT_BINARY:
    case EXT_LARGE_BIG:
        return len < 5 ? 5 : 6 + (uint64_t)ext_u32(p + 1);
    case EXT_NEW_FUN: /* its size counts the size field itself */
        return len < 5 ? 5 : 1 + (uint64_t)ext_u32(p + 1);
    default:
        return 0;
    }
}

/* Moves over one identifier, whose node name is an atom. */
static bool skip_identifier(struct span *in) {
    struct shape shape;
    struct span rest = *in;
    if (!shape_of_identifier(rest.data, rest.len, &shape)) {
        return false;
    }
    uint64_t tail = tail_of(rest.data);
    rest = span_of(rest.data + shape.body, rest.len - shape.body);
    for (uint64_t i = 0; i < shape.terms; i++) {
        uint64_t size = rest.len == 0 ? 0 : size_of_leaf(rest.data, rest.len);
        if (size == 0 || size > rest.len) {
            return false;
        }
        rest = span_of(rest.data + size, rest.len - size);
    }
    if (tail > rest.len) {
        return false;
    }
    *in = span_of(rest.data + tail, rest.len - tail);
    return true;
}

/* Moves over one tag and its bytes; adds the terms that must follow to `pending`. */
static bool skip_one(struct span *in, uint64_t *pending) {
    if (in->len == 0) {
        return false;
    }
    struct shape shape = {size_of_leaf(in->data, in->len), 0};
    if (shape.body == 0 && !shape_of_container(in->data, in->len, &shape)) {
        return skip_identifier(in);
    }
    *pending += shape.terms;
    if (shape.body > in->len) {
        return false;
    }
    *in = span_of(in->data + shape.body, in->len - shape.body);
    return *pending <= in->len; /* each term takes a byte at least */
}

bool ext_take(struct span *in, struct span *term) {
    struct span rest = *in;
    uint64_t pending = 1;
    while (pending > 0) {
        pending--;
        if (!skip_one(&rest, &pending)) {
            return false;
        }
    }
    *term = span_of(in->data, in->len - rest.len);
    *in = rest;
    return true;
}

/* }==== */

/* {==== Reading =========================================================================== */

bool ext_take_tuple(struct span *in, uint32_t *arity) {
    struct shape shape;
    if (in->len == 0 || (in->data[0] != EXT_SMALL_TUPLE && in->data[0] != EXT_LARGE_TUPLE)) {
        return false;
    }
    shape_of_container(in->data, in->len, &shape);
    if (shape.body > in->len) {
        return false;
    }
    *arity = (uint32_t)shape.terms;
    *in = span_of(in->data + shape.body, in->len - shape.body);
    return true;
}

/* A big integer of up to four bytes, as ei_encode_long writes what has more than 28 bits. */
static bool small_big_value(struct span term, int64_t *value) {
    if (term.data[1] > 4) {
        return false;
    }
    int64_t magnitude = 0;
    for (size_t i = 0; i < term.data[1]; i++) {
        magnitude |= (int64_t)term.data[3 + i] << (8 * i);
    }
    *value = term.data[2] ? -magnitude : magnitude;
    return true;
}

bool ext_take_int(struct span *in, int64_t *value) {
    struct span rest = *in;
    struct span term;
    if (!ext_take(&rest, &term)) {
        return false;
    }
    if (term.data[0] == EXT_SMALL_INTEGER) {
        *value = term.data[1];
    } else if (term.data[0] == EXT_INTEGER) {
        *value = (int32_t)ext_u32(term.data + 1);
    } else if (term.data[0] != EXT_SMALL_BIG || !small_big_value(term, value)) {
        return false;
    }
    *in = rest;
    return true;
}

bool ext_take_atom(struct span *in, struct span *name, bool *latin1) {
    if (in->len == 0) {
        return false;
    }
    uint8_t tag = in->data[0];
    size_t head = tag == EXT_SMALL_ATOM || tag == EXT_SMALL_ATOM_UTF8 ? 2 : 3;
    if (head == 3 && tag != EXT_ATOM && tag != EXT_ATOM_UTF8) {
        return false;
    }
    uint64_t size = size_of_leaf(in->data, in->len);
    if (size > in->len) {
        return false;
    }
    *name = span_of(in->data + head, (size_t)size - head);
    *latin1 = tag == EXT_ATOM || tag == EXT_SMALL_ATOM;
    *in = span_of(in->data + size, in->len - (size_t)size);
    return true;
}

struct span ext_node_of(struct span term) {
    struct shape shape;
    struct span name = {0};
    bool latin1;
    if (term.len == 0 || !shape_of_identifier(term.data, term.len, &shape) ||
        term.data[0] == EXT_EXPORT) {
        return name;
    }
    struct span rest = span_of(term.data + shape.body, term.len - shape.body);
    ext_take_atom(&rest, &name, &latin1);
    return name;
}

bool ext_is_pid(struct span term) {
    return term.len > 0 && (term.data[0] == EXT_PID || term.data[0] == EXT_NEW_PID);
}

bool ext_is_ref(struct span term) {
    return term.len > 0 &&
           (term.data[0] == EXT_NEWER_REFERENCE || term.data[0] == EXT_NEW_REFERENCE);
}

bool ext_take_list(struct span *in, uint32_t *count) {
    if (in->len > 0 && in->data[0] == EXT_NIL) {
        *count = 0;
        *in = span_of(in->data + 1, in->len - 1);
        return true;
    }
    if (in->len < 5 || in->data[0] != EXT_LIST) {
        return false;
    }
    *count = ext_u32(in->data + 1);
    *in = span_of(in->data + 5, in->len - 5);
    return true;
}

bool ext_take_map(struct span *in, uint32_t *pairs) {
    if (in->len < 5 || in->data[0] != EXT_MAP) {
        return false;
    }
    *pairs = ext_u32(in->data + 1);
    *in = span_of(in->data + 5, in->len - 5);
    return true;
}

bool ext_take_binary(struct span *in, struct span *bytes) {
    struct span term;
    if (in->len == 0 || in->data[0] != EXT_BINARY || !ext_take(in, &term)) {
        return false;
    }
    *bytes = span_of(term.data + 5, term.len - 5);
    return true;
}

/* A big integer has its size, its sign, and its bytes, the least first. */
bool ext_take_uint(struct span *in, uint64_t *value) {
    struct span rest = *in;
    struct span term;
    int64_t small;
    if (ext_take_int(&rest, &small)) {
        *value = (uint64_t)small;
    } else if (ext_take(&rest, &term) && term.data[0] == EXT_SMALL_BIG && term.data[1] <= 8) {
        small = -(int64_t)term.data[2];
        *value = 0;
        for (size_t i = term.data[1]; i > 0; i--) {
            *value = *value << 8 | term.data[2 + i];
        }
    } else {
        return false;
    }
    if (small < 0) {
        return false;
    }
    *in = rest;
    return true;
}

/* }==== */

/* {==== Writing =========================================================================== */

bool ext_put_version(struct buf *out) {
    uint8_t version = EXT_VERSION;
    return buf_append(out, &version, 1);
}

bool ext_put_atom(struct buf *out, struct span name) {
    if (name.len > UINT16_MAX || !buf_reserve(out, name.len + 3)) {
        return false;
    }
    uint8_t *p = out->data + out->len;
    size_t head = 2;
    if (name.len <= UINT8_MAX) {
        p[0] = EXT_SMALL_ATOM_UTF8;
        p[1] = (uint8_t)name.len;
    } else {
        p[0] = EXT_ATOM_UTF8;
        ext_set_u16(p + 1, (uint16_t)name.len);
        head = 3;
    }
    out->len += head;
    return buf_append(out, name.data, name.len);
}

bool ext_put_tuple(struct buf *out, uint32_t arity) {
    uint8_t head[5] = {EXT_SMALL_TUPLE, (uint8_t)arity};
    if (arity <= UINT8_MAX) {
        return buf_append(out, head, 2);
    }
    head[0] = EXT_LARGE_TUPLE;
    ext_set_u32(head + 1, arity);
    return buf_append(out, head, 5);
}

bool ext_put_list(struct buf *out, uint32_t count) {
    uint8_t head[5] = {EXT_LIST};
    ext_set_u32(head + 1, count);
    return count == 0 || buf_append(out, head, sizeof head);
}

bool ext_put_nil(struct buf *out) {
    uint8_t nil = EXT_NIL;
    return buf_append(out, &nil, 1);
}

bool ext_put_int(struct buf *out, int32_t value) {
    uint8_t bytes[5] = {EXT_SMALL_INTEGER, (uint8_t)value};
    if (value >= 0 && value <= UINT8_MAX) {
        return buf_append(out, bytes, 2);
    }
    bytes[0] = EXT_INTEGER;
    ext_set_u32(bytes + 1, (uint32_t)value);
    return buf_append(out, bytes, 5);
}

bool ext_put_uint(struct buf *out, uint64_t value) {
    uint8_t bytes[11] = {EXT_SMALL_BIG, 8, 0};
    if (value <= INT32_MAX) {
        return ext_put_int(out, (int32_t)value);
    }
    for (int i = 0; i < 8; i++, value >>= 8) {
        bytes[3 + i] = (uint8_t)value;
        bytes[1] = value > 0 ? (uint8_t)(i + 1) : bytes[1];
    }
    return buf_append(out, bytes, 3 + (size_t)bytes[1]);
}

bool ext_put_map(struct buf *out, uint32_t pairs) {
    uint8_t bytes[5] = {EXT_MAP};
    ext_set_u32(bytes + 1, pairs);
    return buf_append(out, bytes, 5);
}

bool ext_put_binary(struct buf *out, struct span bytes) {
    uint8_t head[5] = {EXT_BINARY};
    if (bytes.len > UINT32_MAX || !buf_reserve(out, bytes.len + 5)) {
        return false;
    }
    ext_set_u32(head + 1, (uint32_t)bytes.len);
    return buf_append(out, head, 5) && buf_append(out, bytes.data, bytes.len);
}

bool ext_put_tagged(struct buf *out, const char *tag, struct span term) {
    return ext_put_tuple(out, 2) && ext_put_atom(out, span_str(tag)) &&
           buf_append(out, term.data, term.len);
}

bool ext_put_pid(struct buf *out, struct span node, uint32_t id, uint32_t serial,
                 uint32_t creation) {
    uint8_t tag = EXT_NEW_PID;
    uint8_t tail[12];
    ext_set_u32(tail, id);
    ext_set_u32(tail + 4, serial);
    ext_set_u32(tail + 8, creation);
    return buf_append(out, &tag, 1) && ext_put_atom(out, node) &&
           buf_append(out, tail, sizeof tail);
}

bool ext_put_ref(struct buf *out, struct span node, uint32_t creation, const uint32_t words[3]) {
    uint8_t head[3] = {EXT_NEWER_REFERENCE, 0, 3};
    uint8_t tail[16];
    ext_set_u32(tail, creation);
    for (int i = 0; i < 3; i++) {
        ext_set_u32(tail + 4 + 4 * (size_t)i, words[i]);
    }
    return buf_append(out, head, sizeof head) && ext_put_atom(out, node) &&
           buf_append(out, tail, sizeof tail);
}

/* }==== */
