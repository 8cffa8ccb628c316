/* What the files of src/term share, grouped by the file that defines it.
 *
 * Stack effects are written as in term.h. */
#ifndef LUNODE_TERM_PRIVATE_H
#define LUNODE_TERM_PRIVATE_H

#include <lua.h>

#include "base/utf8.h"
#include "term/term.h"

/* {==== atoms.c =========================================================================== */

/* The atoms that every table begins with. */
enum { ATOM_TRUE = 1, ATOM_FALSE, ATOM_NIL, ATOM_STRUCT };

/* Turns Latin-1 (at most 255 bytes) into UTF-8; `out` has room for 510 bytes. */
struct span term_latin1_to_utf8(struct span latin1, uint8_t *out);

/* The same as term_atom_intern; a new one is counted. `allowance` NULL: without limit. */
bool term_atom_make(struct term_atoms *atoms, struct term_allowance *allowance, struct span name,
                    uint32_t *number, struct err *err);

/* Takes an atom of any tag off `in` and makes it. */
bool term_atom_take(struct term_atoms *atoms, struct term_allowance *allowance, struct span *in,
                    uint32_t *number, struct err *err);

/* }==== */

/* {==== metatables.c ====================================================================== */

/* What a table or userdata of ours is. Its metatable holds at index 1 the address of the kind's
 * marker, which no script can make, and at index 2 the fixed length where there is one. */
enum term_kind {
    KIND_NONE,
    KIND_LIST,
    KIND_FIXED, /* a list that arrived with a nil in it */
    KIND_IMPROPER,
    KIND_TUPLE,
    KIND_MAP,
    KIND_EXOTIC, /* a map with nil values or integral float keys */
    KIND_PID,
    KIND_PORT,
    KIND_REF,
    KIND_FUN,
    KIND_BITS,
    KIND_COUNT
};

/* Indexes in a metatable. */
enum { MT_KIND = 1, MT_LENGTH, MT_NILS, MT_FLOATS, MT_SHAPES, MT_PARENT };

enum { SMALL_ARITY = 255 };

struct scratch {
    struct buf buf;
    struct scratch *prev, *next;
};

/* What a Lua state knows of terms. Numbers are references in the registry. */
struct term_state {
    struct term_atoms *atoms;
    struct term_allowance *allowance; /* NULL: without limit */
    size_t max_size;                  /* bytes of what is encoded; 0: without limit */
    int metatable[KIND_COUNT];        /* of the kinds that have one metatable */
    int by_length[KIND_COUNT];        /* of the others: a weak table length -> metatable */
    int tuples[SMALL_ARITY + 1]; /* metatables of small tuples, LUA_NOREF until they are needed */
    int identifiers;             /* a weak table bytes -> pid, port or reference */
    int weak;                    /* the metatable of tables with weak values */
    int shapes;                  /* of maps: see map.c */
    int scratch;                 /* the metatable of scratch buffers, */
    struct scratch *scratches;   /* and those that there are */
    struct encode_memory *encode_memory;
    int tail; /* the string "tail" */
};

/* The kind of the value at `idx`. [-0, +0, -] */
enum term_kind term_kind(lua_State *L, int idx);

/* The fixed length of the tuple, fixed list or improper list at `idx`. [-0, +0, -] */
lua_Integer term_length(lua_State *L, int idx);

/* Pushes a new metatable with the kind's marker, name and protection. [-0, +1, m] */
void term_new_metatable(lua_State *L, enum term_kind kind);

/* Makes the metatables of lists, and the caches of those that depend on a length. [-0, +0, m] */
void term_metatables_open(lua_State *L, struct term_state *state);

/* Gives the table on the top the metatable of its kind; `length` counts for kinds with a fixed one.
 * [-0, +0, m] */
void term_mark(lua_State *L, struct term_state *state, enum term_kind kind, lua_Integer length);

/* Pushes a new table with weak values. [-0, +1, m] */
void term_push_weak(lua_State *L, const struct term_state *state);

/* The iterator over elements 1..length of a tuple or fixed list, nils too. */
int term_fixed_next(lua_State *L);

/* }==== */

/* {==== map.c ============================================================================= */

/* Makes the metatable of maps. [-0, +0, m] */
void term_map_open(lua_State *L, struct term_state *state);

enum map_extras {
    MAP_ORDINARY, /* it has none */
    MAP_EXOTIC,
    MAP_NOVEL, /* and a shape was made for it: one is enough */
};

/* Stores an entry in the map below it (map, key, value), whatever they are; erl.null stands for nil
 * as a key. False, with nothing stored, when the map has the key already. `extras` are the map's,
 * and change with it. [-2, +0, m] */
bool term_map_store(lua_State *L, struct term_state *state, enum map_extras *extras);

/* Pushes the function that walks the table at `idx` as `next` does, with what a map keeps beside
 * its table. [-0, +1, m] */
void term_map_push_next(lua_State *L, int idx);

/* Whether Lua would take the number at `idx` for an integer as a key; `bits` are the float's.
 * [-0, +0, -] */
bool term_folds(lua_State *L, int idx, lua_Integer *bits);

/* The float of these bits. */
lua_Number term_float_of_bits(lua_Integer bits);

/* }==== */

/* {==== construct.c, get.c ================================================================ */

/* Sets tuple, list, map, amap, improper and ipairs in the table on the top. [-0, +0, m] */
void term_construct_open(lua_State *L);

int term_get(lua_State *L); /* erl.get */

/* }==== */

/* {==== decode.c ========================================================================== */

/* The same as term_decode, for what a script decodes: new atoms are counted. [-0, +1, m] */
bool term_decode_counted(lua_State *L, struct span *in, struct err *err);

/* }==== */

/* {==== ids.c ============================================================================= */

/* Makes the metatables of pids, ports, references and funs. [-0, +0, m] */
void term_ids_open(lua_State *L, struct term_state *state);

/* Takes a pid, port, reference or export off `in` and pushes its value. On failure nothing is
 * pushed. [-0, +1, m] */
bool term_id_take(lua_State *L, struct term_state *state, struct term_allowance *allowance,
                  struct span *in, struct err *err);

/* Pushes a fun made of the bytes of its term. [-0, +1, m] */
void term_push_fun(lua_State *L, struct term_state *state, struct span ext);

/* }==== */

/* {==== bits.c ============================================================================ */

/* Makes the metatable of bits and pushes the function `bits`. [-0, +1, m] */
void term_bits_open(lua_State *L, struct term_state *state);

/* Pushes the first `nbits` bits of `bytes`: a string when they are whole bytes. [-0, +1, m] */
void term_push_bits(lua_State *L, struct term_state *state, struct span bytes, size_t nbits);

/* The bits at `idx`, which are some. [-0, +0, -] */
struct span term_to_bits(lua_State *L, int idx, size_t *nbits);

/* }==== */

/* {==== text.c ============================================================================ */

/* Text in a buffer of somebody else. What does not fit makes it full; it ends with dots then. */
struct term_text {
    char *data;
    size_t size;
    size_t len;
    bool full;
};

void term_text_begin(struct term_text *text, char *buffer, size_t size);
size_t term_text_end(struct term_text *text); /* puts a NUL behind it; its length */

void term_text_bytes(struct term_text *text, struct span bytes); /* all of them or none */
void term_text_put(struct term_text *text, const char *words);
void term_text_format(struct term_text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3))); /* 63 bytes at the most */

void term_text_escaped(struct term_text *text, struct span bytes); /* UTF-8 */
void term_text_quoted(struct term_text *text, struct span bytes);  /* the same in quotes */
/* <<1, 2, 3>>; only `last_bits` bits of the last byte count, unless that is 0. */
void term_text_raw(struct term_text *text, struct span bytes, size_t last_bits);
void term_text_binary(struct term_text *text, struct span bytes); /* one of the two */
void term_text_name(struct term_text *text, struct span name);    /* an atom as a key */
void term_text_atom(struct term_text *text, struct span name);
void term_text_float(struct term_text *text, double number);

/* }==== */

/* {==== inspect.c ========================================================================= */

/* The metamethod __tostring of containers and bits. */
int term_inspect_tostring(lua_State *L);

/* }==== */

/* {==== atomtype.c ======================================================================== */

/* Gives light userdata its metatable and pushes the table `atom`. [-0, +1, m] */
void term_atomtype_open(lua_State *L);

/* Pushes atom `number` as a value: true, false and nil are what they are in Lua. [-0, +1, -] */
void term_push_atom_number(lua_State *L, uint32_t number);

/* The same as term_push_atom, for what a script wants: it is counted. [-0, +1, e] */
void term_make_atom(lua_State *L, struct span name);

/* The same as a key of a table, where nil is erl.null. [-0, +1, -] */
void term_push_atom_key(lua_State *L, uint32_t number);

/* The number of the atom at `idx`; 0 when it is none, or an unknown one. [-0, +0, -] */
uint32_t term_atom_number(lua_State *L, const struct term_atoms *atoms, int idx);

/* }==== */

/* {==== encode_memory.c =================================================================== */

/* Prepares the state for encoding. [-0, +0, m] */
void term_encode_open(lua_State *L, struct term_state *state);

/* }==== */

/* {==== encode.c ========================================================================== */

/* term_encode to bytes that are the same for equal terms. [-0, +0, m] */
bool term_encode_canonical(lua_State *L, int idx, struct buf *out, struct err *err);

/* }==== */

/* {==== module.c ========================================================================== */

/* Sets encode, decode and type in the table on the top. [-0, +0, m] */
void term_functions_open(lua_State *L);

/* }==== */

/* {==== term.c ============================================================================ */

struct term_state *term_state(lua_State *L); /* [-0, +0, -] */

/* Pushes a userdata that owns a buffer, so that an error that is raised doesn't leak it.
 * [-0, +1, m] */
struct buf *term_scratch(lua_State *L);

/* }==== */

#endif
