/* What the files of the encoder share. Private to src/term/encode*.c.
 *
 * An open container is a frame, and its table lies on the Lua stack at `at`; what a walk needs
 * (the last key, the value to be written) lies above.
 *
 * Nothing here may let Lua collect garbage: a finalizer of the script might change the table that
 * is walked, encode something itself, or send a message into the buffer that is written. So no
 * object of Lua's is made, not even for the text of an error, and what must grow is kept by the
 * state: see encode_memory.c. */
#ifndef LUNODE_TERM_ENCODE_H
#define LUNODE_TERM_ENCODE_H

#include "term/private.h"

enum walk {
    WALK_LIST,   /* by lua_next, which must give 1, 2, 3, ... */
    WALK_ARRAY,  /* by index up to a known length, nils too */
    WALK_TAIL,   /* of an improper list */
    WALK_MAP,    /* by lua_next */
    WALK_NILS,   /* of an exotic map: the keys whose value is nil */
    WALK_FLOATS, /* of an exotic map: float keys */
};

struct frame {
    enum walk walk;
    enum term_kind kind;
    bool in_value;      /* a map: the key is written, its value comes */
    uint32_t count;     /* an array's length */
    uint32_t index;     /* elements or entries begun */
    int at;             /* stack index of the table */
    const void *table;  /* tells it apart */
    size_t start;       /* of the term in the buffer */
    size_t key_start;   /* a map: of the entry */
    size_t first_range; /* a map: its ranges begin here */
};

/* A key in the buffer, and where its entry began. */
struct range {
    size_t start;
    size_t key_len;
    size_t entry_len;
    const uint8_t *bytes; /* of the key; set when the buffer no longer moves */
};

/* Frames and ranges, whose memory outlives an encoding. */
struct encode_memory {
    struct frame *frames;
    size_t frames_cap;
    struct range *ranges;
    size_t ranges_cap;
    bool closed; /* the state is closing: keep nothing */
};

struct encoder {
    lua_State *L;
    struct term_state *state;
    struct buf *out;
    struct err *err;
    const char *root;
    struct encode_memory *memory;
    size_t end;      /* where `out` may not grow beyond */
    uint32_t in_key; /* how many open maps are writing a key that is a container */
    uint32_t depth;
    size_t ranges_len;
};

static inline bool in_map(const struct frame *frame) {
    return frame->walk >= WALK_MAP;
}

/* {==== encode_memory.c =================================================================== */

/* Room for one frame more, one range more. False when there is no memory. [-0, +0, -] */
bool term_encode_grow_frames(lua_State *L, struct encode_memory *memory);
bool term_encode_grow_ranges(lua_State *L, struct encode_memory *memory);

/* For the end of an encoding: keeps what the next one is likely to need. [-0, +0, -] */
void term_encode_relax(lua_State *L, struct encode_memory *memory);

/* }==== */

/* {==== encode_path.c ===================================================================== */

/* Sets the error "path: text", the path going through the first `depth` frames. Returns false.
 * [-0, +0, m] */
bool term_encode_fail(struct encoder *e, uint32_t depth, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* }==== */

/* {==== encode_keys.c ===================================================================== */

/* Notes the key of the entry that the map's frame began, when it may be equal to another one.
 * [-0, +0, m] */
bool term_encode_note_key(struct encoder *e, const struct frame *frame, bool complex);

/* Checks that no two keys of the map are equal; inside a key, puts the entries in order. The frame
 * is the top one. [-0, +0, m] */
bool term_encode_check_keys(struct encoder *e, const struct frame *frame);

/* }==== */

/* {==== encode_table.c ==================================================================== */

/* The walk of a list met a key out of order (table, key, value on the stack). Finds out what the
 * table is: the frame then walks it as an array from its index on, or as a map. [-2, +0 or 1, m] */
bool term_encode_sort_out(struct encoder *e, struct frame *frame);

/* }==== */

#endif
