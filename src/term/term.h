/* Erlang terms as Lua values, and back.
 *
 * A term arrives in the external term format, becomes Lua values of the types below, and leaves in
 * the same format: every term a BEAM can send comes back equal. This layer knows no sockets and no
 * processes; it also builds as the Lua module `lunode.term`.
 *
 * Stack effects are written as in Lua's manual: [-popped, +pushed, errors], `m` for memory errors,
 * `e` for others, `-` for none. */
#ifndef LUNODE_TERM_TERM_H
#define LUNODE_TERM_TERM_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* {==== Atoms ============================================================================= */

/* The atoms of the OS process: each name once, numbered from 1. In Lua an atom is its number in a
 * light userdata. No atom is ever forgotten, so the table is bounded. */
struct term_atoms;

enum { TERM_MAX_ATOMS = 1048576 };

struct term_atoms *term_atoms_create(void); /* NULL: no memory */
void term_atoms_destroy(struct term_atoms *atoms);

/* The number of the atom `name` (UTF-8), made if it is new. False when the name is no valid UTF-8,
 * has more than 255 characters, or the table is full. */
bool term_atom_intern(struct term_atoms *atoms, struct span name, uint32_t *number,
                      struct err *err);

/* The number of the atom `name`, or 0 when there is none. Makes none. */
uint32_t term_atom_find(const struct term_atoms *atoms, struct span name);

/* How many there are. */
uint32_t term_atoms_count(const struct term_atoms *atoms);

/* The name of atom `number`, empty when there is none. */
struct span term_atom_name(const struct term_atoms *atoms, uint32_t number);

/* }==== */

/* {==== A Lua state that knows terms ====================================================== */

/* Prepares the state: metatables, the table of interned identifiers. Pushes the table of the types
 * and functions: atom tuple list map amap improper bigint bits null type get ipairs encode decode.
 * `atoms` must outlive the state. [-0, +1, m] */
void term_open(lua_State *L, struct term_atoms *atoms);

/* Frees what the state has taken from malloc, before it goes without its finalizers. [-0, +0, -] */
void term_drop(lua_State *L);

/* The atoms that the state was opened with. [-0, +0, -] */
struct term_atoms *term_atoms_of(lua_State *L);

/* How many new atoms a script may make. */
struct term_allowance {
    uint32_t max;
    uint32_t used;
    void (*exceeded)(void *user); /* called when it makes one more, which is an error then */
    void *user;
};

/* From now on that counts for what the script makes, by `atom`, `amap` and `decode`; not for what
 * term_decode meets. It must outlive the state. [-0, +0, -] */
void term_set_allowance(lua_State *L, struct term_allowance *allowance);

/* From now on what is encoded may have so many bytes. [-0, +0, -] */
void term_set_max_size(lua_State *L, size_t bytes);

/* What a fun does when it is called as a function, with the fun as the first argument. [-0, +0, m]
 */
void term_set_fun_call(lua_State *L, lua_CFunction call);

/* Takes one term off `in` and pushes its value. On failure nothing is pushed, and `in` is as it
 * was.
 * [-0, +1, m] */
bool term_decode(lua_State *L, struct span *in, struct err *err);

/* Appends the value at `idx` as a term, without version byte. Nothing of a script runs meanwhile,
 * no finalizer either, unless it fails. On failure the buffer is as it was, and the error names the
 * path from `root`: "reply.items[3].callback: cannot send a function". When Lua raises (no memory)
 * what was appended stays. [-0, +0, m] */
bool term_encode(lua_State *L, int idx, const char *root, struct buf *out, struct err *err);

/* }==== */

/* {==== Single values ===================================================================== */

enum term_type {
    TERM_NONE, /* a Lua value that stands for no term: a function, a foreign userdata */
    TERM_NIL,  /* nil and erl.null */
    TERM_BOOLEAN,
    TERM_INTEGER,
    TERM_BIGINT,
    TERM_FLOAT,
    TERM_ATOM,
    TERM_BINARY,
    TERM_BITS,
    TERM_LIST,
    TERM_IMPROPER,
    TERM_TUPLE,
    TERM_MAP,
    TERM_TABLE, /* a bare table: a list or a map, by its keys */
    TERM_PID,
    TERM_PORT,
    TERM_REF,
    TERM_FUN,
};

enum term_type term_type(lua_State *L, int idx); /* [-0, +0, -] */

/* Pushes the value as text, as luaL_tolstring does, but without an address: a table is "table".
 * [-0, +1, e] */
const char *term_tostring(lua_State *L, int idx, size_t *len);

/* The type's name for messages: "tuple", "pid", "function", ... [-0, +0, -] */
const char *term_type_name(lua_State *L, int idx);

/* Pushes the atom, made if it is new; `true`, `false` and `nil` become what they are in Lua. Raises
 * when term_atom_intern fails. [-0, +1, e] */
void term_push_atom(lua_State *L, struct span name);

/* Pushes a new table `atom`: a script can spoil its own by rawset. [-0, +1, m] */
void term_push_atom_table(lua_State *L);

/* The name of the atom at `idx`; empty when it is none. [-0, +0, -] */
struct span term_to_atom(lua_State *L, int idx);

/* Pushes the pid, port or reference whose external term is `ext`; the same one is the same object.
 * The term must be whole and well-formed. [-0, +1, m] */
void term_push_id(lua_State *L, struct span ext);

/* The external term of the pid, port, reference or fun at `idx`; empty when it is none. Good as
 * long as the value lives. [-0, +0, -] */
struct span term_to_id(lua_State *L, int idx);

/* The arity of the tuple at `idx`; -1 when it is none. Its elements are read by lua_rawgeti. [-0,
 * +0, -] */
lua_Integer term_tuple_arity(lua_State *L, int idx);

/* Pushes erl.null. [-0, +1, -] */
void term_push_null(lua_State *L);

/* Marks the table on top as a list, as a map. [-0, +0, m] */
void term_list(lua_State *L);
void term_map(lua_State *L);

/* Replaces the `n` topmost values by a tuple of them. [-n, +1, m] */
void term_tuple(lua_State *L, int n);

/* }==== */

/* {==== As text =========================================================================== */

/* Writes the value at `idx` as Elixir's inspect would, as much as fits into `size` bytes, with a
 * NUL behind it; what is cut ends with three dots. Gives its length. [-0, +0, m] */
size_t term_inspect(lua_State *L, int idx, char *buffer, size_t size);

/* The same for an external term, which may be anything, and for a call: name(1, :two). Takes no
 * more time than the text is long. */
size_t term_inspect_ext(struct span term, char *buffer, size_t size);
size_t term_inspect_call(struct span name, struct span args, uint32_t count, char *buffer,
                         size_t size);

/* }==== */

#endif
