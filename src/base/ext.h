/* The external term format as bytes: its tags, and walking over a term without building it.
 * Erlang's "External Term Format" rules. Both the distribution layer (control messages) and the
 * term layer (values) stand on this. Nothing here recurses, so no depth of nesting is a danger. */
#ifndef LUNODE_BASE_EXT_H
#define LUNODE_BASE_EXT_H

#include "base/buf.h"

enum ext_tag {
    EXT_NEW_FLOAT = 70,
    EXT_BIT_BINARY = 77,
    EXT_NEW_PID = 88,
    EXT_NEW_PORT = 89,
    EXT_NEWER_REFERENCE = 90,
    EXT_SMALL_INTEGER = 97,
    EXT_INTEGER = 98,
    EXT_FLOAT = 99,
    EXT_ATOM = 100,
    EXT_REFERENCE = 101,
    EXT_PORT = 102,
    EXT_PID = 103,
    EXT_SMALL_TUPLE = 104,
    EXT_LARGE_TUPLE = 105,
    EXT_NIL = 106,
    EXT_STRING = 107,
    EXT_LIST = 108,
    EXT_BINARY = 109,
    EXT_SMALL_BIG = 110,
    EXT_LARGE_BIG = 111,
    EXT_NEW_FUN = 112,
    EXT_EXPORT = 113,
    EXT_NEW_REFERENCE = 114,
    EXT_SMALL_ATOM = 115,
    EXT_MAP = 116,
    EXT_ATOM_UTF8 = 118,
    EXT_SMALL_ATOM_UTF8 = 119,
    EXT_V4_PORT = 120,
    EXT_VERSION = 131,
};

static inline uint16_t ext_u16(const uint8_t *p) {
    return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t ext_u32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint64_t ext_u64(const uint8_t *p) {
    return (uint64_t)ext_u32(p) << 32 | ext_u32(p + 4);
}

static inline void ext_set_u16(uint8_t *p, uint16_t v) {
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static inline void ext_set_u32(uint8_t *p, uint32_t v) {
    ext_set_u16(p, (uint16_t)(v >> 16));
    ext_set_u16(p + 2, (uint16_t)v);
}

static inline void ext_set_u64(uint8_t *p, uint64_t v) {
    ext_set_u32(p, (uint32_t)(v >> 32));
    ext_set_u32(p + 4, (uint32_t)v);
}

/* Cuts the first whole term off `in` into `term`. False when the bytes are no whole term; `in` is
 * then as it was. */
bool ext_take(struct span *in, struct span *term);

/* Like ext_take for the head of a tuple: reads the tag and gives its arity. */
bool ext_take_tuple(struct span *in, uint32_t *arity);

/* Reads an integer of up to 32 bits, unsigned or signed. */
bool ext_take_int(struct span *in, int64_t *value);

/* Reads an atom; `name` is its bytes, `latin1` tells that they are Latin-1 and not UTF-8. */
bool ext_take_atom(struct span *in, struct span *name, bool *latin1);

/* Whether `term` is the atom `name` (ASCII). */
static inline bool ext_is_atom(struct span term, const char *name) {
    struct span text;
    bool latin1;
    return ext_take_atom(&term, &text, &latin1) && span_equal(text, span_str(name));
}

/* The node name inside a pid, port or reference; empty when `term` is none of these. */
struct span ext_node_of(struct span term);

/* Whether `term` is a pid, a reference. */
bool ext_is_pid(struct span term);
bool ext_is_ref(struct span term);

/* Like ext_take_tuple for the head of a proper list: gives its length, and leaves `in` at its first
 * element. A list of small integers that travels as a string is none. */
bool ext_take_list(struct span *in, uint32_t *count);

/* Like ext_take_tuple for the head of a map: gives the number of its pairs, and leaves `in` at its
 * first key. */
bool ext_take_map(struct span *in, uint32_t *pairs);

/* Reads a binary: the bytes in it. */
bool ext_take_binary(struct span *in, struct span *bytes);

/* Reads an integer from 0 on, of up to 64 bits. */
bool ext_take_uint(struct span *in, uint64_t *value);

/* Append an atom (UTF-8, up to 65535 bytes), a tuple's head, an integer, a binary; the version
 * byte; the head of a list, whose tail (ext_put_nil) follows its elements; the head of a map, whose
 * keys and values follow in turns. False when there is no memory. */
bool ext_put_version(struct buf *out);
bool ext_put_atom(struct buf *out, struct span name);
bool ext_put_tuple(struct buf *out, uint32_t arity);
bool ext_put_list(struct buf *out, uint32_t count);
bool ext_put_nil(struct buf *out);
bool ext_put_map(struct buf *out, uint32_t pairs);
bool ext_put_int(struct buf *out, int32_t value);
bool ext_put_uint(struct buf *out, uint64_t value);
bool ext_put_binary(struct buf *out, struct span bytes);

/* Appends {Tag, Term}, such as {error, Reason}. */
bool ext_put_tagged(struct buf *out, const char *tag, struct span term);

/* Append a pid of this node. `node` is the node's name; id, serial and creation as in NEW_PID_EXT.
 */
bool ext_put_pid(struct buf *out, struct span node, uint32_t id, uint32_t serial,
                 uint32_t creation);

/* Append a reference of this node, of three words. */
bool ext_put_ref(struct buf *out, struct span node, uint32_t creation, const uint32_t words[3]);

#endif
