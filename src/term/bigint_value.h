/* What a bigint is made of, and how results become one: shared by bigint.c and bigint_ops.c.
 *
 * GMP reads a bigint's limbs where they lie. A result is computed in three steps: room for it is
 * pushed as a userdata (Lua may raise here, nothing is held yet); GMP computes and the limbs are
 * copied into the room (no call to Lua, so nothing can leak); the room settles into what the script
 * sees: a Lua integer when it fits, else a bigint without much waste.
 *
 * GMP ends the whole OS process when it is asked for too much, so every result's size is bounded
 * before it is computed. */
#ifndef LUNODE_TERM_BIGINT_VALUE_H
#define LUNODE_TERM_BIGINT_VALUE_H

#include <gmp.h>
#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    /* BIG_ARITY_MAX of a 64-bit BEAM since OTP 26: 65,535 words. Older ones take eight times that;
     * what they send is decoded and kept, but arithmetic makes nothing that a newer one refuses. */
    BIGINT_MAX_BITS = 65535 * 64,
    /* An upper bound on a result's size may exceed the size by this part of it (of `^`: 1/63). */
    BIGINT_SLACK = BIGINT_MAX_BITS / 32,
    BIGINT_OF_INTEGER = 64 / GMP_NUMB_BITS, /* limbs */
};

struct bigint {
    mp_size_t size; /* the number of limbs, negative for a negative number: as in GMP */
    mp_limb_t limbs[];
};

/* A Lua integer or a bigint as GMP sees it, good as long as the value stays on the stack. Must not
 * be moved. */
struct bigint_operand {
    mpz_t z;
    mp_limb_t own[BIGINT_OF_INTEGER];
};

/* The bigint at `idx`, or NULL. [-0, +0, -] */
const struct bigint *term_to_bigint(lua_State *L, int idx);

/* False when the value is neither a Lua integer nor a bigint. [-0, +0, -] */
bool term_bigint_view(lua_State *L, int idx, struct bigint_operand *operand);

/* Pushes room for a result of up to that many bits. [-0, +1, m] */
void term_bigint_room(lua_State *L, size_t bits);

/* Copies the result into the room on the top, and clears it. [-0, +0, -] */
void term_bigint_fill(lua_State *L, mpz_t result);

/* Turns the filled room on the top into the value that the script sees. Returns 1. [-1, +1, e] */
int term_bigint_settle(lua_State *L);

/* Raises: a result of that many bits is beyond the limit. [-0, +0, e] */
int term_bigint_too_large(lua_State *L, size_t bits);

/* Pushes the integral float at `idx` as an exact integer. Returns 1. [-0, +1, e] */
int term_bigint_from_float(lua_State *L, int idx);

/* Sets the operators in the metatable on the top. [-0, +0, m] */
void term_bigint_set_operators(lua_State *L);

static inline bool term_is_float(lua_State *L, int idx) {
    return lua_type(L, idx) == LUA_TNUMBER && !lua_isinteger(L, idx);
}

static inline size_t term_bigint_bits(mpz_srcptr z) {
    return mpz_sizeinbase(z, 2);
}

#endif
