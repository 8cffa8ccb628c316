/* External terms to Lua values, straight from the buffer.
 *
 * Nothing here recurses. An open container is a frame, and its table (for a map also the key whose
 * value is awaited) lies on the Lua stack. A frame takes values until it has as many as its header
 * says; then its table becomes a value of the frame below. */
#include <limits.h>
#include <math.h>
#include <stdlib.h>

#include "base/ext.h"
#include "term/bigint.h"
#include "term/private.h"

enum { FIRST_FRAMES = 16, STACK_MARGIN = 12 };

enum frame_kind { IN_LIST, IN_TAIL, IN_TUPLE, IN_MAP, IN_FUN };

struct frame {
    enum frame_kind kind;
    bool nils; /* a list: has a nil in it */
    enum map_extras extras;
    uint64_t index;       /* values taken so far; a map's keys count too */
    uint64_t count;       /* values that its header promises */
    const uint8_t *start; /* of its term */
};

struct decoder {
    lua_State *L;
    struct term_state *state;
    struct term_allowance *allowance; /* NULL: new atoms do not count */
    struct err *err;
    const uint8_t *start;
    const uint8_t *p;
    const uint8_t *end;
    uint64_t pending; /* terms that must still come; each takes a byte at least */
    int base;         /* the stack slot that keeps grown frames alive */
    uint32_t depth;
    uint32_t cap;
    struct frame *frames;
    struct frame first[FIRST_FRAMES];
};

/* What reading did: an error, a value on the top of the stack, a container opened. */
enum result { FAILED, VALUE, OPENED };

static size_t left(const struct decoder *d) {
    return (size_t)(d->end - d->p);
}

/* {==== Failing =========================================================================== */

static enum result fail(struct decoder *d, const char *why) {
    err_set(d->err, "corrupted term at byte %zu: %s", (size_t)(d->p - d->start), why);
    return FAILED;
}

static enum result cut_off(struct decoder *d) {
    return fail(d, "it is cut off");
}

/* Puts the place in front of an error that another file set. */
static enum result fail_with(struct decoder *d) {
    err_prefix(d->err, "corrupted term at byte %zu: ", (size_t)(d->p - d->start));
    return FAILED;
}

/* }==== */

/* {==== Frames ============================================================================ */

/* Doubles the frames; a userdata in the slot `base` holds them. [-0, +0, m] */
static void grow_frames(struct decoder *d) {
    size_t size = d->cap * sizeof *d->frames;
    struct frame *grown = lua_newuserdatauv(d->L, 2 * size, 0);
    memcpy(grown, d->frames, size);
    d->frames = grown;
    d->cap *= 2;
    lua_replace(d->L, d->base);
}

/* Counts `count` terms more that must come. A header that promises more than there are bytes is
 * refused before anything is allocated for it. */
static bool promise(struct decoder *d, uint64_t count) {
    d->pending += count;
    if (d->pending > left(d)) {
        cut_off(d);
        return false;
    }
    return true;
}

/* Opens a frame; `start` is its term's first byte. [-0, +0, m] */
static struct frame *open_frame(struct decoder *d, enum frame_kind kind, uint64_t count,
                                const uint8_t *start) {
    if (!lua_checkstack(d->L, STACK_MARGIN)) {
        fail(d, "nested too deeply");
        return NULL;
    }
    if (d->depth == d->cap) {
        grow_frames(d);
    }
    struct frame *frame = &d->frames[d->depth++];
    *frame = (struct frame){.kind = kind, .count = count, .start = start};
    return frame;
}

/* Reads the 32-bit count of a header. */
static bool take_count(struct decoder *d, uint64_t *count) {
    if (left(d) < 5) {
        cut_off(d);
        return false;
    }
    *count = ext_u32(d->p + 1);
    d->p += 5;
    return true;
}

static int table_size(uint64_t count) {
    return count > INT_MAX ? INT_MAX : (int)count;
}

/* }==== */

/* {==== Numbers =========================================================================== */

static enum result take_small_integer(struct decoder *d) {
    if (left(d) < 2) {
        return cut_off(d);
    }
    lua_pushinteger(d->L, d->p[1]);
    d->p += 2;
    return VALUE;
}

static enum result take_integer(struct decoder *d) {
    if (left(d) < 5) {
        return cut_off(d);
    }
    lua_pushinteger(d->L, (int32_t)ext_u32(d->p + 1));
    d->p += 5;
    return VALUE;
}

static enum result push_float(struct decoder *d, double value, size_t size) {
    if (!isfinite(value)) {
        return fail(d, "a float that is no number");
    }
    lua_pushnumber(d->L, value);
    d->p += size;
    return VALUE;
}

static enum result take_new_float(struct decoder *d) {
    if (left(d) < 9) {
        return cut_off(d);
    }
    return push_float(d, term_float_of_bits((lua_Integer)ext_u64(d->p + 1)), 9);
}

static enum result take_text_float(struct decoder *d) {
    char text[32] = {0};
    char *end;
    if (left(d) < 32) {
        return cut_off(d);
    }
    memcpy(text, d->p + 1, 31);
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || strspn(text, " +-.0123456789eE") != strlen(text)) {
        return fail(d, "a float that is no number");
    }
    return push_float(d, value, 32);
}

/* Pushes an integer of up to eight bytes, when it fits. [-0, +1, -] */
static bool push_small_big(struct decoder *d, bool negative, struct span bytes) {
    uint64_t value = 0;
    if (bytes.len > 8) {
        return false;
    }
    for (size_t i = bytes.len; i > 0; i--) {
        value = value << 8 | bytes.data[i - 1];
    }
    if (value > (uint64_t)INT64_MAX + negative) {
        return false;
    }
    lua_pushinteger(d->L, (lua_Integer)(negative ? 0 - value : value));
    return true;
}

/* A BEAM would drop the connection on which such an integer were sent on. */
static enum result too_big(struct decoder *d, size_t len) {
    err_set(d->err, "an integer of %zu bytes: the limit is %d", len, (int)BIGINT_DECODE_MAX);
    return fail_with(d);
}

static enum result take_big(struct decoder *d) {
    size_t head = d->p[0] == EXT_SMALL_BIG ? 3 : 6;
    if (left(d) < head) {
        return cut_off(d);
    }
    size_t len = head == 3 ? d->p[1] : ext_u32(d->p + 1);
    if (left(d) - head < len) {
        return cut_off(d);
    }
    if (len > BIGINT_DECODE_MAX) {
        return too_big(d, len);
    }
    struct span bytes = span_of(d->p + head, len);
    bool negative = d->p[head - 1] != 0;
    if (!push_small_big(d, negative, bytes)) {
        term_bigint_push(d->L, negative, bytes);
    }
    d->p += head + len;
    return VALUE;
}

/* }==== */

/* {==== Atoms, binaries, identifiers ====================================================== */

static enum result take_atom(struct decoder *d) {
    struct span in = span_of(d->p, left(d));
    uint32_t number;
    if (!term_atom_take(d->state->atoms, d->allowance, &in, &number, d->err)) {
        return fail_with(d);
    }
    term_push_atom_number(d->L, number);
    d->p = in.data;
    return VALUE;
}

static enum result take_binary(struct decoder *d) {
    uint64_t len;
    const uint8_t *start = d->p;
    if (!take_count(d, &len)) {
        return FAILED;
    }
    if (left(d) < len) {
        d->p = start;
        return cut_off(d);
    }
    lua_pushlstring(d->L, (const char *)d->p, (size_t)len);
    d->p += len;
    return VALUE;
}

static enum result take_bits(struct decoder *d) {
    if (left(d) < 6) {
        return cut_off(d);
    }
    size_t len = ext_u32(d->p + 1);
    size_t last = d->p[5]; /* bits used of the last byte */
    if (left(d) - 6 < len) {
        return cut_off(d);
    }
    if (last > 8 || (last == 0) != (len == 0)) {
        return fail(d, "a bitstring of no such size");
    }
    term_push_bits(d->L, d->state, span_of(d->p + 6, len), len == 0 ? 0 : 8 * (len - 1) + last);
    d->p += 6 + len;
    return VALUE;
}

static enum result take_id(struct decoder *d) {
    struct span in = span_of(d->p, left(d));
    if (!term_id_take(d->L, d->state, d->allowance, &in, d->err)) {
        return fail_with(d);
    }
    d->p = in.data;
    return VALUE;
}

/* }==== */

/* {==== Containers ======================================================================== */

/* Takes integers while there are any: the most common elements by far. */
static void fill_integers(struct decoder *d, struct frame *frame) {
    lua_State *L = d->L;
    const uint8_t *p = d->p;
    uint64_t index = frame->index;
    for (; index < frame->count && d->end - p >= 5; index++) {
        if (p[0] == EXT_SMALL_INTEGER) {
            lua_pushinteger(L, p[1]);
            p += 2;
        } else if (p[0] == EXT_INTEGER) {
            lua_pushinteger(L, (int32_t)ext_u32(p + 1));
            p += 5;
        } else {
            break;
        }
        lua_rawseti(L, -2, (lua_Integer)index + 1);
    }
    d->pending -= index - frame->index;
    d->p = p;
    frame->index = index;
}

static enum result open_tuple(struct decoder *d, uint64_t arity, const uint8_t *start) {
    if (!promise(d, arity) || open_frame(d, IN_TUPLE, arity, start) == NULL) {
        return FAILED;
    }
    lua_createtable(d->L, table_size(arity), 0);
    return OPENED;
}

static enum result take_small_tuple(struct decoder *d) {
    if (left(d) < 2) {
        return cut_off(d);
    }
    d->p += 2;
    return open_tuple(d, d->p[-1], d->p - 2);
}

static enum result take_large_tuple(struct decoder *d) {
    const uint8_t *start = d->p;
    uint64_t arity;
    return take_count(d, &arity) ? open_tuple(d, arity, start) : FAILED;
}

static enum result take_map(struct decoder *d) {
    const uint8_t *start = d->p;
    uint64_t count;
    if (!take_count(d, &count) || !promise(d, 2 * count) ||
        open_frame(d, IN_MAP, 2 * count, start) == NULL) {
        return FAILED;
    }
    lua_createtable(d->L, 0, table_size(count));
    return OPENED;
}

/* A list of no element is whatever its tail is: the next term. */
static enum result take_list(struct decoder *d) {
    const uint8_t *start = d->p;
    uint64_t count;
    if (!take_count(d, &count) || !promise(d, count + 1)) {
        return FAILED;
    }
    if (count == 0) {
        return OPENED;
    }
    if (open_frame(d, IN_LIST, count, start) == NULL) {
        return FAILED;
    }
    lua_createtable(d->L, table_size(count), 0);
    return OPENED;
}

static enum result take_nil(struct decoder *d) {
    d->p++;
    lua_newtable(d->L);
    term_mark(d->L, d->state, KIND_LIST, 0);
    return VALUE;
}

/* Appends the bytes of a STRING_EXT to the table on the top, which has `index` elements.
 * [-0, +0, m] */
static bool append_string(struct decoder *d, uint64_t *index) {
    size_t len = left(d) < 3 ? SIZE_MAX : ext_u16(d->p + 1);
    if (left(d) < 3 || left(d) - 3 < len) {
        cut_off(d);
        return false;
    }
    d->p += 3;
    for (size_t i = 0; i < len; i++) {
        lua_pushinteger(d->L, *d->p++);
        lua_rawseti(d->L, -2, (lua_Integer)(++*index));
    }
    return true;
}

/* A list of bytes. */
static enum result take_string(struct decoder *d) {
    uint64_t index = 0;
    if (left(d) < 3 || left(d) - 3 < ext_u16(d->p + 1)) {
        return cut_off(d);
    }
    lua_createtable(d->L, ext_u16(d->p + 1), 0);
    append_string(d, &index);
    term_mark(d->L, d->state, KIND_LIST, 0);
    return VALUE;
}

/* A fun: kept as it is, yet its parts are read, so that nothing broken is ever sent on. */
static enum result take_fun(struct decoder *d) {
    enum { HEAD = 30, PARTS = 4 };
    const uint8_t *start = d->p;
    if (left(d) < HEAD) {
        return cut_off(d);
    }
    uint64_t count = PARTS + (uint64_t)ext_u32(start + HEAD - 4);
    d->p += HEAD;
    if (!promise(d, count) || open_frame(d, IN_FUN, count, start) == NULL) {
        return FAILED;
    }
    return OPENED;
}

/* }==== */

/* {==== One term ========================================================================== */

static enum result take_term(struct decoder *d) {
    static enum result (*const takers[256])(struct decoder *) = {
        [EXT_NEW_FLOAT] = take_new_float,
        [EXT_BIT_BINARY] = take_bits,
        [EXT_NEW_PID] = take_id,
        [EXT_NEW_PORT] = take_id,
        [EXT_NEWER_REFERENCE] = take_id,
        [EXT_SMALL_INTEGER] = take_small_integer,
        [EXT_INTEGER] = take_integer,
        [EXT_FLOAT] = take_text_float,
        [EXT_ATOM] = take_atom,
        [EXT_REFERENCE] = take_id,
        [EXT_PORT] = take_id,
        [EXT_PID] = take_id,
        [EXT_SMALL_TUPLE] = take_small_tuple,
        [EXT_LARGE_TUPLE] = take_large_tuple,
        [EXT_NIL] = take_nil,
        [EXT_STRING] = take_string,
        [EXT_LIST] = take_list,
        [EXT_BINARY] = take_binary,
        [EXT_SMALL_BIG] = take_big,
        [EXT_LARGE_BIG] = take_big,
        [EXT_NEW_FUN] = take_fun,
        [EXT_EXPORT] = take_id,
        [EXT_NEW_REFERENCE] = take_id,
        [EXT_SMALL_ATOM] = take_atom,
        [EXT_MAP] = take_map,
        [EXT_ATOM_UTF8] = take_atom,
        [EXT_SMALL_ATOM_UTF8] = take_atom,
        [EXT_V4_PORT] = take_id,
    };
    if (d->p >= d->end) {
        return cut_off(d);
    }
    d->pending--;
    if (takers[d->p[0]] == NULL) {
        return fail(d, "there is no such tag");
    }
    return takers[d->p[0]](d);
}

/* }==== */

/* {==== Storing a value in its container ================================================== */

/* Stores a key or a value of a map. [-1 or -2, +0 or 1, m] */
static bool store_in_map(struct decoder *d, struct frame *frame) {
    frame->index++;
    if (frame->index % 2 == 0) {
        if (!term_map_store(d->L, d->state, &frame->extras)) {
            fail(d, "a map with two equal keys");
            return false;
        }
        return true;
    }
    if (lua_isnil(d->L, -1)) {
        lua_pop(d->L, 1);
        term_push_null(d->L);
    }
    return true;
}

/* Checks a part of a fun and drops it: module, index, uniq, pid, then what it closes over.
 * [-1, +0, -] */
static bool check_fun_part(struct decoder *d, struct frame *frame) {
    enum term_type type = term_type(d->L, -1);
    frame->index++;
    bool good =
        frame->index > 4 || (frame->index == 4 && type == TERM_PID) ||
        (frame->index == 1 && (type == TERM_ATOM || type == TERM_NIL || type == TERM_BOOLEAN)) ||
        ((frame->index == 2 || frame->index == 3) && type == TERM_INTEGER);
    lua_pop(d->L, 1);
    if (!good) {
        fail(d, "a fun with a wrong part");
    }
    return good;
}

/* Stores the value on the top in the frame's container. [-1, +0, m] */
static bool store(struct decoder *d, struct frame *frame) {
    lua_State *L = d->L;
    switch (frame->kind) {
    case IN_MAP:
        return store_in_map(d, frame);
    case IN_FUN:
        return check_fun_part(d, frame);
    case IN_TAIL:
        frame->index++;
        lua_pushliteral(L, "tail");
        lua_insert(L, -2);
        lua_rawset(L, -3);
        return true;
    default:
        frame->nils = frame->nils || lua_isnil(L, -1);
        lua_rawseti(L, -2, (lua_Integer)(++frame->index));
        return true;
    }
}

/* }==== */

/* {==== Closing a container =============================================================== */

/* Marks the table on the top, and makes it a value. [-0, +0, m] */
static enum result close_as(struct decoder *d, enum term_kind kind, uint64_t length) {
    term_mark(d->L, d->state, kind, (lua_Integer)length);
    d->depth--;
    return VALUE;
}

static enum result close_list(struct decoder *d, const struct frame *frame) {
    return close_as(d, frame->nils ? KIND_FIXED : KIND_LIST, frame->index);
}

/* Takes the heads of lists that are the tail: the list goes on. False on failure. */
static bool take_more_list(struct decoder *d, struct frame *frame) {
    while (frame->index == frame->count && d->p < d->end && *d->p == EXT_LIST) {
        uint64_t more;
        d->pending--;
        if (!take_count(d, &more) || !promise(d, more + 1)) {
            return false;
        }
        frame->count += more;
    }
    return true;
}

/* A list has all its elements: its tail ends it, goes on with it, or makes it an improper one. */
static enum result end_list(struct decoder *d, struct frame *frame) {
    if (!take_more_list(d, frame)) {
        return FAILED;
    }
    uint8_t tag = d->p < d->end ? *d->p : 0;
    if (frame->index == frame->count && tag == EXT_NIL) {
        d->p++;
        d->pending--;
        return close_list(d, frame);
    }
    if (frame->index == frame->count && tag == EXT_STRING) {
        d->pending--;
        return append_string(d, &frame->index) ? close_list(d, frame) : FAILED;
    }
    if (frame->index == frame->count) {
        frame->kind = IN_TAIL;
        frame->count++;
    }
    return OPENED;
}

static enum result close_map(struct decoder *d, const struct frame *frame) {
    if (frame->extras != MAP_ORDINARY) {
        d->depth--;
        return VALUE;
    }
    return close_as(d, KIND_MAP, 0);
}

static enum result close_fun(struct decoder *d, const struct frame *frame) {
    size_t size = (size_t)(d->p - frame->start);
    if (size != 1 + (size_t)ext_u32(frame->start + 1)) {
        return fail(d, "a fun of another size than it says");
    }
    term_push_fun(d->L, d->state, span_of(frame->start, size));
    d->depth--;
    return VALUE;
}

/* Closes the container on the top, which has all its values. */
static enum result close_frame(struct decoder *d, struct frame *frame) {
    switch (frame->kind) {
    case IN_LIST:
        return end_list(d, frame);
    case IN_TAIL:
        return close_as(d, KIND_IMPROPER, frame->index - 1);
    case IN_TUPLE:
        return close_as(d, KIND_TUPLE, frame->count);
    case IN_MAP:
        return close_map(d, frame);
    default:
        return close_fun(d, frame);
    }
}

/* }==== */

/* {==== The whole ========================================================================= */

/* Goes on with the container on the top until it needs a term that is no small integer: OPENED; or
 * has all and is a value: VALUE. */
static enum result fill(struct decoder *d) {
    struct frame *frame = &d->frames[d->depth - 1];
    if (frame->kind == IN_LIST || frame->kind == IN_TUPLE) {
        fill_integers(d, frame);
    }
    return frame->index < frame->count ? OPENED : close_frame(d, frame);
}

static bool run(struct decoder *d) {
    enum result result = take_term(d);
    while (result != FAILED) {
        if (result == VALUE && d->depth == 0) {
            return true;
        }
        if (result == VALUE && !store(d, &d->frames[d->depth - 1])) {
            return false;
        }
        result = d->depth == 0 ? OPENED : fill(d);
        if (result == OPENED) {
            result = take_term(d);
        }
    }
    return false;
}

/* [-0, +1, m] */
static bool decode(lua_State *L, struct term_allowance *allowance, struct span *in,
                   struct err *err) {
    struct decoder d;
    if (!lua_checkstack(L, STACK_MARGIN)) {
        return err_set(err, "no room on the Lua stack");
    }
    d.L = L;
    d.state = term_state(L);
    d.allowance = allowance;
    d.err = err;
    d.start = d.p = in->data;
    d.end = in->data + in->len;
    d.pending = 1;
    d.depth = 0;
    d.cap = FIRST_FRAMES;
    d.frames = d.first;
    lua_pushnil(L);
    d.base = lua_gettop(L);
    if (!run(&d)) {
        lua_settop(L, d.base - 1);
        return false;
    }
    lua_replace(L, d.base);
    *in = span_of(d.p, left(&d));
    return true;
}

bool term_decode(lua_State *L, struct span *in, struct err *err) {
    return decode(L, NULL, in, err);
}

bool term_decode_counted(lua_State *L, struct span *in, struct err *err) {
    return decode(L, term_state(L)->allowance, in, err);
}

/* }==== */
