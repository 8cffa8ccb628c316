/* Integers beyond 64 bits: the Lua type `bigint`. Private to src/term.
 *
 * A bigint is an immutable full userdata that holds its limbs itself, so that they count as memory
 * of the Lua state. A result that fits a Lua integer is one: no bigint ever equals a Lua integer.
 */
#ifndef LUNODE_TERM_BIGINT_H
#define LUNODE_TERM_BIGINT_H

#include <lua.h>
#include <stdbool.h>

#include "base/buf.h"

/* Bytes of the largest integer that any BEAM holds: 524,287 words, in OTP 25. */
enum { BIGINT_DECODE_MAX = 524287 * 8 };

/* Makes the metatable, and pushes the function `bigint` of the module. [-0, +1, m] */
void term_bigint_open(lua_State *L);

/* Pushes the integer whose magnitude is `bytes`, least significant first: a Lua integer when it
 * fits.
 * [-0, +1, m] */
void term_bigint_push(lua_State *L, bool negative, struct span bytes);

/* Whether the value at `idx` is a bigint. [-0, +0, -] */
bool term_is_bigint(lua_State *L, int idx);

/* Appends the bigint at `idx` as SMALL_BIG_EXT or LARGE_BIG_EXT. False when there is no memory.
 * [-0, +0, -] */
bool term_bigint_put(lua_State *L, int idx, struct buf *out);

#endif
