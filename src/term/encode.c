/* Lua values to external terms.
 *
 * Nothing here recurses: see encode.h for the frames. Lengths that are known only at the end are
 * patched into the header then. */
#include <lauxlib.h>
#include <math.h>

#include "base/ext.h"
#include "term/bigint.h"
#include "term/encode.h"

enum { STACK_MARGIN = 16, HEAD = 5 /* a tag and 32 bits */ };

/* {==== Bytes ============================================================================= */

static bool fail_memory(struct encoder *e) {
    return term_encode_fail(e, e->depth, "no memory");
}

/* Room for a few bytes: where they go, NULL when there is no memory. */
static inline uint8_t *room(struct encoder *e, size_t len) {
    if (!buf_reserve(e->out, len)) {
        fail_memory(e);
        return NULL;
    }
    return e->out->data + e->out->len;
}

static inline bool put_integer(struct encoder *e, lua_Integer value) {
    uint8_t *p = room(e, 11);
    if (p == NULL) {
        return false;
    }
    if (value >= 0 && value <= UINT8_MAX) {
        p[0] = EXT_SMALL_INTEGER;
        p[1] = (uint8_t)value;
        e->out->len += 2;
    } else if (value >= INT32_MIN && value <= INT32_MAX) {
        p[0] = EXT_INTEGER;
        ext_set_u32(p + 1, (uint32_t)value);
        e->out->len += 5;
    } else {
        uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
        size_t len = 0;
        for (; magnitude > 0; magnitude >>= 8) {
            p[3 + len++] = (uint8_t)magnitude;
        }
        p[0] = EXT_SMALL_BIG;
        p[1] = (uint8_t)len;
        p[2] = value < 0;
        e->out->len += 3 + len;
    }
    return true;
}

static bool put_float(struct encoder *e, lua_Number value) {
    uint64_t bits;
    if (isnan(value)) {
        return term_encode_fail(e, e->depth, "cannot send NaN");
    }
    if (isinf(value)) {
        return term_encode_fail(e, e->depth, "cannot send infinity");
    }
    uint8_t *p = room(e, 9);
    if (p == NULL) {
        return false;
    }
    memcpy(&bits, &value, sizeof bits);
    p[0] = EXT_NEW_FLOAT;
    ext_set_u64(p + 1, bits);
    e->out->len += 9;
    return true;
}

/* A tag, a count of 32 bits, and bytes. */
static bool put_counted(struct encoder *e, uint8_t tag, uint32_t count, struct span bytes) {
    uint8_t *p = room(e, HEAD + bytes.len);
    if (p == NULL) {
        return false;
    }
    p[0] = tag;
    ext_set_u32(p + 1, count);
    if (bytes.len > 0) {
        memcpy(p + HEAD, bytes.data, bytes.len);
    }
    e->out->len += HEAD + bytes.len;
    return true;
}

static bool put_tag(struct encoder *e, uint8_t tag) {
    uint8_t *p = room(e, 1);
    if (p == NULL) {
        return false;
    }
    *p = tag;
    e->out->len++;
    return true;
}

static bool put_atom(struct encoder *e, uint32_t number) {
    struct span name = term_atom_name(e->state->atoms, number);
    return ext_put_atom(e->out, name) || fail_memory(e);
}

/* }==== */

/* {==== Values without parts ============================================================== */

static bool fail_size(struct encoder *e) {
    return term_encode_fail(e, 0, "more than %zu bytes, which is the limit of a message",
                            e->state->max_size);
}

/* Whether so many bytes more may be written. */
static bool fits(const struct encoder *e, size_t more) {
    return e->out->len <= e->end && more <= e->end - e->out->len;
}

/* [-0, +0, m] */
static bool put_string(struct encoder *e, int idx) {
    size_t len;
    const char *bytes = lua_tolstring(e->L, idx, &len);
    if (!fits(e, len)) {
        return fail_size(e);
    }
    if (len > UINT32_MAX) {
        return term_encode_fail(e, e->depth, "cannot send a binary of %zu bytes: the limit is %u",
                                len, UINT32_MAX);
    }
    return put_counted(e, EXT_BINARY, (uint32_t)len, span_of(bytes, len));
}

/* [-0, +0, m] */
static bool put_light(struct encoder *e, int idx) {
    if (lua_touserdata(e->L, idx) == NULL) {
        return put_atom(e, ATOM_NIL);
    }
    uint32_t number = term_atom_number(e->L, e->state->atoms, idx);
    if (number == 0) {
        return term_encode_fail(e, e->depth, "cannot send a light userdata");
    }
    return put_atom(e, number);
}

/* [-0, +0, m] */
static bool put_bits(struct encoder *e, int idx) {
    size_t nbits;
    struct span bytes = term_to_bits(e->L, idx, &nbits);
    uint8_t last = (uint8_t)(nbits % 8);
    if (bytes.len > UINT32_MAX) {
        return term_encode_fail(e, e->depth, "cannot send a bitstring of %zu bytes", bytes.len);
    }
    if (!put_counted(e, EXT_BIT_BINARY, (uint32_t)bytes.len, span_of(&last, 1)) ||
        !buf_append(e->out, bytes.data, bytes.len)) {
        return fail_memory(e);
    }
    return true;
}

/* [-0, +0, m] */
static bool put_userdata(struct encoder *e, int idx) {
    if (!fits(e, lua_rawlen(e->L, idx))) {
        return fail_size(e);
    }
    struct span ext = term_to_id(e->L, idx);
    if (ext.len > 0) {
        return buf_append(e->out, ext.data, ext.len) || fail_memory(e);
    }
    if (term_kind(e->L, idx) == KIND_BITS) {
        return put_bits(e, idx);
    }
    if (term_is_bigint(e->L, idx)) {
        return term_bigint_put(e->L, idx, e->out) || fail_memory(e);
    }
    return term_encode_fail(e, e->depth, "cannot send a userdata");
}

static bool put_number(struct encoder *e, int idx) {
    if (lua_isinteger(e->L, idx)) {
        return put_integer(e, lua_tointeger(e->L, idx));
    }
    return put_float(e, lua_tonumber(e->L, idx));
}

/* Writes the value, which is no table. [-0, +0, m] */
static bool put_leaf(struct encoder *e, int idx, int type) {
    if (!fits(e, 0)) {
        return fail_size(e);
    }
    switch (type) {
    case LUA_TNIL:
        return put_atom(e, ATOM_NIL);
    case LUA_TBOOLEAN:
        return put_atom(e, lua_toboolean(e->L, idx) ? ATOM_TRUE : ATOM_FALSE);
    case LUA_TNUMBER:
        return put_number(e, idx);
    case LUA_TSTRING:
        return put_string(e, idx);
    case LUA_TLIGHTUSERDATA:
        return put_light(e, idx);
    case LUA_TUSERDATA:
        return put_userdata(e, idx);
    case LUA_TTHREAD:
        return term_encode_fail(e, e->depth, "cannot send a coroutine");
    default:
        return term_encode_fail(e, e->depth, "cannot send a %s", lua_typename(e->L, type));
    }
}

/* }==== */

/* {==== Opening a container =============================================================== */

/* Whether the table is inside itself. A walk into a cycle repeats itself for ever, so in the end it
 * meets the table of any frame that is deep enough: one is looked at, the deepest whose depth is a
 * power of two. */
static bool is_cycle(const struct encoder *e, const void *table) {
    uint32_t looked_at = 1;
    while (looked_at <= e->depth / 2) {
        looked_at *= 2;
    }
    return e->depth > 0 && e->memory->frames[looked_at - 1].table == table;
}

/* Opens a frame for the table on the top. [-0, +0, m] */
static struct frame *open_frame(struct encoder *e, enum term_kind kind, enum walk walk) {
    const void *table = lua_topointer(e->L, -1);
    if (!lua_checkstack(e->L, STACK_MARGIN)) {
        term_encode_fail(e, e->depth, "nested too deeply");
        return NULL;
    }
    if (is_cycle(e, table)) {
        term_encode_fail(e, e->depth, "a cycle: the table contains itself");
        return NULL;
    }
    if (e->depth == e->memory->frames_cap && !term_encode_grow_frames(e->L, e->memory)) {
        fail_memory(e);
        return NULL;
    }
    struct frame *frame = &e->memory->frames[e->depth++];
    frame->walk = walk;
    frame->kind = kind;
    frame->in_value = false;
    frame->count = 0;
    frame->index = 0;
    frame->at = lua_gettop(e->L);
    frame->table = table;
    frame->start = e->out->len;
    frame->first_range = e->ranges_len;
    return frame;
}

static bool open_tuple(struct encoder *e, struct frame *frame, lua_Integer arity) {
    frame->count = (uint32_t)arity;
    return ext_put_tuple(e->out, frame->count) || fail_memory(e);
}

/* Opens the container on the top, writing its header. [-0, +0 or 1, m] */
static bool open_table(struct encoder *e) {
    static const enum walk walks[KIND_COUNT] = {
        [KIND_FIXED] = WALK_ARRAY, [KIND_IMPROPER] = WALK_ARRAY, [KIND_TUPLE] = WALK_ARRAY,
        [KIND_MAP] = WALK_MAP,     [KIND_EXOTIC] = WALK_MAP,
    };
    enum term_kind kind = term_kind(e->L, -1);
    struct frame *frame = open_frame(e, kind, walks[kind]);
    if (frame == NULL) {
        return false;
    }
    if (kind == KIND_TUPLE) {
        return open_tuple(e, frame, term_length(e->L, -1));
    }
    if (frame->walk == WALK_ARRAY) {
        frame->count = (uint32_t)term_length(e->L, -1);
    } else {
        lua_pushnil(e->L); /* lua_next's first key */
    }
    uint8_t tag = frame->walk == WALK_MAP ? EXT_MAP : EXT_LIST;
    return put_counted(e, tag, frame->count, (struct span){0});
}

/* Writes the value on the top, which is of that type, and pops it, or opens it.
 * [-1, +0, m] or [-0, +0 or 1, m] */
static bool put_value(struct encoder *e, int type) {
    if (type == LUA_TTABLE) {
        return fits(e, 0) ? open_table(e) : fail_size(e);
    }
    if (!put_leaf(e, -1, type)) {
        return false;
    }
    lua_pop(e->L, 1);
    return true;
}

/* }==== */

/* {==== Walking lists ===================================================================== */

/* Ends the top frame and pops its table. [-1, +0, -] */
static bool close_frame(struct encoder *e) {
    e->depth--;
    lua_settop(e->L, e->memory->frames[e->depth].at - 1);
    return true;
}

/* An empty list is written as such, and has no header. */
static bool close_list(struct encoder *e, const struct frame *frame) {
    if (frame->index == 0) {
        e->out->len = frame->start;
    } else {
        ext_set_u32(e->out->data + frame->start + 1, frame->index);
    }
    return put_tag(e, EXT_NIL) && close_frame(e);
}

/* Goes on with a list whose last key is on the top. [-1, +0, m] */
static bool step_list(struct encoder *e, struct frame *frame) {
    lua_State *L = e->L;
    uint32_t depth = e->depth;
    while (lua_next(L, frame->at)) {
        if (!lua_isinteger(L, -2) || lua_tointeger(L, -2) != (lua_Integer)frame->index + 1) {
            return term_encode_sort_out(e, frame);
        }
        frame->index++;
        if (lua_isinteger(L, -1)) {
            if (!put_integer(e, lua_tointeger(L, -1))) {
                return false;
            }
            lua_pop(L, 1);
        } else if (!put_value(e, lua_type(L, -1))) {
            return false;
        } else if (e->depth != depth) {
            return true;
        }
    }
    return close_list(e, frame);
}

/* Ends what was walked by index; an improper list's tail comes behind. */
static bool end_array(struct encoder *e, struct frame *frame) {
    if (frame->kind == KIND_TUPLE) {
        return close_frame(e);
    }
    if (frame->kind != KIND_IMPROPER) {
        return close_list(e, frame);
    }
    frame->walk = WALK_TAIL;
    frame->key_start = e->out->len;
    lua_rawgeti(e->L, LUA_REGISTRYINDEX, e->state->tail);
    return put_value(e, lua_rawget(e->L, frame->at));
}

static bool step_array(struct encoder *e, struct frame *frame) {
    uint32_t depth = e->depth;
    while (frame->index < frame->count) {
        if (!put_value(e, lua_rawgeti(e->L, frame->at, (lua_Integer)(++frame->index)))) {
            return false;
        }
        if (e->depth != depth) {
            return true;
        }
    }
    return end_array(e, frame);
}

/* The tail of an improper list is written: it must be no list, or the whole would be another term.
 */
static bool end_tail(struct encoder *e, const struct frame *frame) {
    uint8_t tag = e->out->data[frame->key_start];
    if (tag == EXT_LIST || tag == EXT_NIL) {
        return term_encode_fail(e, e->depth, "the tail of an improper list is no list");
    }
    return close_frame(e);
}

/* }==== */

/* {==== Walking maps ====================================================================== */

/* Goes on with the next part of an exotic map: its extras, which are put above the map, and the
 * first key. [-0, +2, -] */
static bool next_part(struct encoder *e, struct frame *frame) {
    lua_State *L = e->L;
    if (frame->kind != KIND_EXOTIC || frame->walk == WALK_FLOATS) {
        return false;
    }
    frame->walk++;
    lua_settop(L, frame->at);
    lua_getmetatable(L, frame->at);
    lua_rawgeti(L, -1, frame->walk == WALK_NILS ? MT_NILS : MT_FLOATS);
    lua_remove(L, -2);
    lua_pushnil(L);
    return true;
}

/* Steps to the next key: key and value are on the top. [-1, +2, m] or at the end [-1, +0, m] */
static bool next_entry(struct encoder *e, struct frame *frame) {
    lua_State *L = e->L;
    while (lua_next(L, frame->walk == WALK_MAP ? frame->at : frame->at + 1)) {
        if (frame->walk != WALK_NILS) {
            return true;
        }
        lua_pop(L, 1);
        lua_pushvalue(L, -1);
        bool stale = lua_rawget(L, frame->at) != LUA_TNIL; /* a script used rawset */
        lua_pop(L, 1);
        if (!stale) {
            lua_pushnil(L); /* the value */
            return true;
        }
    }
    return false;
}

static bool close_map(struct encoder *e, struct frame *frame) {
    ext_set_u32(e->out->data + frame->start + 1, frame->index);
    return term_encode_check_keys(e, frame) && close_frame(e);
}

/* The key is written: writes the value on the top, or opens it. [-1, +0, m] or [-0, +0 or 1, m] */
static bool put_entry_value(struct encoder *e, struct frame *frame, bool complex) {
    if (!term_encode_note_key(e, frame, complex)) {
        return fail_memory(e);
    }
    frame->in_value = true;
    return put_value(e, lua_type(e->L, -1));
}

/* Writes the key of the entry on the top, or opens it. [-0, +0, m] or [-0, +1 or 2, m] */
static bool put_key(struct encoder *e, const struct frame *frame, int type) {
    if (frame->walk == WALK_FLOATS) {
        return put_float(e, term_float_of_bits(lua_tointeger(e->L, -2)));
    }
    if (type != LUA_TTABLE) {
        return put_leaf(e, -2, type);
    }
    e->in_key++;
    lua_pushvalue(e->L, -2);
    return put_value(e, type);
}

/* Begins an entry, key and value on the top: writes both, or opens the first that is a container.
 * [-1, +0, m] or [-0, +0 to 2, m] */
static bool begin_entry(struct encoder *e, struct frame *frame) {
    uint32_t depth = e->depth;
    int type = lua_type(e->L, -2);
    frame->index++;
    frame->key_start = e->out->len;
    frame->in_value = false;
    if (!put_key(e, frame, type)) {
        return false;
    }
    return e->depth != depth || put_entry_value(e, frame, type == LUA_TUSERDATA);
}

/* Goes on with a map: its last key is on the top; or key and value, when a key that is a container
 * was just written. */
static bool step_map(struct encoder *e, struct frame *frame) {
    if (frame->index > 0 && !frame->in_value) {
        e->in_key--;
        return put_entry_value(e, frame, true);
    }
    if (next_entry(e, frame)) {
        return begin_entry(e, frame);
    }
    return next_part(e, frame) || close_map(e, frame);
}

/* }==== */

/* {==== The whole ========================================================================= */

static bool step(struct encoder *e) {
    struct frame *frame = &e->memory->frames[e->depth - 1];
    switch (frame->walk) {
    case WALK_LIST:
        return step_list(e, frame);
    case WALK_ARRAY:
        return step_array(e, frame);
    case WALK_TAIL:
        return end_tail(e, frame);
    default:
        return step_map(e, frame);
    }
}

/* Encodes the value on the top. [-1, +0, m] */
static bool run(struct encoder *e) {
    if (!put_value(e, lua_type(e->L, -1))) {
        return false;
    }
    while (e->depth > 0) {
        if (!step(e)) {
            return false;
        }
    }
    return true;
}

static bool encode(lua_State *L, int idx, const char *root, bool canonical, struct buf *out,
                   struct err *err) {
    struct encoder e;
    size_t len = out->len;
    if (!lua_checkstack(L, STACK_MARGIN)) {
        return err_set(err, "%s: no room on the Lua stack", root);
    }
    idx = lua_absindex(L, idx);
    e.L = L;
    e.state = term_state(L);
    e.out = out;
    e.err = err;
    e.root = root;
    e.end = e.state->max_size == 0 || e.state->max_size > SIZE_MAX - len ? SIZE_MAX
                                                                         : len + e.state->max_size;
    e.in_key = canonical;
    e.depth = 0;
    e.ranges_len = 0;
    e.memory = e.state->encode_memory;
    int top = lua_gettop(L);
    lua_pushvalue(L, idx);
    bool ok = run(&e) && (out->len <= e.end || fail_size(&e));
    lua_settop(L, top);
    term_encode_relax(L, e.memory);
    if (!ok) {
        out->len = len;
    }
    return ok;
}

bool term_encode(lua_State *L, int idx, const char *root, struct buf *out, struct err *err) {
    return encode(L, idx, root, false, out, err);
}

bool term_encode_canonical(lua_State *L, int idx, struct buf *out, struct err *err) {
    return encode(L, idx, "key", true, out, err);
}

/* }==== */
