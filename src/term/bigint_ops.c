/* What Lua's operators do with bigints: arithmetic, bits, comparison, text.
 *
 * With a float beside it a bigint becomes a float, as Lua's integers do. Beside integers results
 * are exact; `/` gives a float, and so does `^` unless a bigint is raised to an integer of at least
 * 0. Bits are those of two's complement without end, so `>>` keeps the sign. */
#include <float.h>
#include <lauxlib.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "term/bigint.h"
#include "term/bigint_value.h"
#include "term/term.h"

/* {==== Operations on integers ============================================================ */

static size_t larger(mpz_srcptr a, mpz_srcptr b) {
    size_t bits_a = term_bigint_bits(a);
    size_t bits_b = term_bigint_bits(b);
    return bits_a > bits_b ? bits_a : bits_b;
}

static size_t bound_of_sum(mpz_srcptr a, mpz_srcptr b) {
    return larger(a, b) + 1;
}

static size_t bound_of_product(mpz_srcptr a, mpz_srcptr b) {
    return term_bigint_bits(a) + term_bigint_bits(b);
}

static size_t bound_of_quotient(mpz_srcptr a, mpz_srcptr b) {
    size_t bits_a = term_bigint_bits(a);
    size_t bits_b = term_bigint_bits(b);
    return bits_a > bits_b ? bits_a - bits_b + 2 : 2;
}

static size_t bound_of_remainder(mpz_srcptr a, mpz_srcptr b) {
    (void)a;
    return term_bigint_bits(b);
}

/* `b` is a Lua integer of at least 0. */
static size_t bound_of_power(mpz_srcptr a, mpz_srcptr b) {
    size_t bits = term_bigint_bits(a);
    size_t exponent = mpz_fits_ulong_p(b) ? mpz_get_ui(b) : SIZE_MAX;
    return exponent > SIZE_MAX / bits ? SIZE_MAX : bits * exponent + 1;
}

static void power(mpz_ptr result, mpz_srcptr a, mpz_srcptr b) {
    mpz_pow_ui(result, a, mpz_get_ui(b));
}

/* By how many bits to the left; what no memory could hold is as good as the most. */
static long shift_count(mpz_srcptr b) {
    if (mpz_fits_slong_p(b)) {
        long count = mpz_get_si(b);
        return count == LONG_MIN ? -LONG_MAX : count;
    }
    return mpz_sgn(b) < 0 ? -LONG_MAX : LONG_MAX;
}

static size_t bound_of_shift(mpz_srcptr a, long count) {
    size_t bits = term_bigint_bits(a);
    return count > 0 && mpz_sgn(a) != 0 ? bits + (size_t)count : bits + 1;
}

static size_t bound_of_left(mpz_srcptr a, mpz_srcptr b) {
    return bound_of_shift(a, shift_count(b));
}

static size_t bound_of_right(mpz_srcptr a, mpz_srcptr b) {
    return bound_of_shift(a, -shift_count(b));
}

static void shift(mpz_ptr result, mpz_srcptr a, long count) {
    if (mpz_sgn(a) == 0) {
        mpz_set_ui(result, 0);
    } else if (count >= 0) {
        mpz_mul_2exp(result, a, (mp_bitcnt_t)count);
    } else {
        mpz_fdiv_q_2exp(result, a, (mp_bitcnt_t)-count);
    }
}

static void shift_left(mpz_ptr result, mpz_srcptr a, mpz_srcptr b) {
    shift(result, a, shift_count(b));
}

static void shift_right(mpz_ptr result, mpz_srcptr a, mpz_srcptr b) {
    shift(result, a, -shift_count(b));
}

/* Lua passes the operand of a unary operator twice. */
static void negate(mpz_ptr result, mpz_srcptr a, mpz_srcptr b) {
    (void)b;
    mpz_neg(result, a);
}

static void complement(mpz_ptr result, mpz_srcptr a, mpz_srcptr b) {
    (void)b;
    mpz_com(result, a);
}

/* }==== */

/* {==== Operators ========================================================================= */

struct operation {
    const char *event;
    int lua; /* what it is among Lua's own operators, which do it on floats */
    size_t (*bound)(mpz_srcptr a, mpz_srcptr b); /* NULL: on floats only */
    void (*run)(mpz_ptr result, mpz_srcptr a, mpz_srcptr b);
};

static const struct operation operations[] = {
    {"__add", LUA_OPADD, bound_of_sum, mpz_add},
    {"__sub", LUA_OPSUB, bound_of_sum, mpz_sub},
    {"__mul", LUA_OPMUL, bound_of_product, mpz_mul},
    {"__idiv", LUA_OPIDIV, bound_of_quotient, mpz_fdiv_q},
    {"__mod", LUA_OPMOD, bound_of_remainder, mpz_fdiv_r},
    {"__div", LUA_OPDIV, NULL, NULL},
    {"__pow", LUA_OPPOW, bound_of_power, power},
    {"__unm", LUA_OPUNM, bound_of_sum, negate},
    {"__band", LUA_OPBAND, bound_of_sum, mpz_and},
    {"__bor", LUA_OPBOR, bound_of_sum, mpz_ior},
    {"__bxor", LUA_OPBXOR, bound_of_sum, mpz_xor},
    {"__shl", LUA_OPSHL, bound_of_left, shift_left},
    {"__shr", LUA_OPSHR, bound_of_right, shift_right},
    {"__bnot", LUA_OPBNOT, bound_of_sum, complement},
};
enum { OPERATIONS = sizeof operations / sizeof *operations };

static bool is_bitwise(const struct operation *operation) {
    return operation->lua >= LUA_OPBAND && operation->lua != LUA_OPUNM;
}

/* The name of a value's type for messages. May leave it on the stack. [-0, +(0|1), m] */
static const char *type_name(lua_State *L, int idx) {
    if (luaL_getmetafield(L, idx, "__name") == LUA_TSTRING) {
        return lua_tostring(L, -1);
    }
    return luaL_typename(L, idx);
}

/* Raises: the operator has no meaning for these two. [-0, +0, e] */
static int no_meaning(lua_State *L, const struct operation *operation) {
    const char *what = is_bitwise(operation) ? "a bitwise operation" : "arithmetic";
    const char *left = type_name(L, 1);
    const char *right = type_name(L, 2);
    return luaL_error(L, "attempt to perform %s on a %s and a %s value", what, left, right);
}

/* Whether the operator computes with floats, as Lua's own would: `/` always, `^` unless it is a
 * bigint to a Lua integer of at least 0, the others when an operand is a float. */
static bool wants_floats(lua_State *L, const struct operation *operation) {
    if (is_bitwise(operation)) {
        return false;
    }
    if (operation->lua == LUA_OPPOW) {
        return !lua_isinteger(L, 2) || lua_tointeger(L, 2) < 0;
    }
    return operation->bound == NULL || term_is_float(L, 1) || term_is_float(L, 2);
}

/* The nearest float, as Lua rounds integers (mpz_get_d cuts). 64 bits are kept, and the last of
 * them tells whether anything behind them was not zero. Beyond the floats' range: infinity. */
static double to_double(mpz_srcptr z) {
    size_t bits = term_bigint_bits(z);
    if (bits > DBL_MAX_EXP) {
        return mpz_sgn(z) < 0 ? -HUGE_VAL : HUGE_VAL;
    }
    size_t shift = bits > 64 ? bits - 64 : 0;
    uint64_t kept = 0;
    mpz_t top;
    mpz_init(top);
    mpz_tdiv_q_2exp(top, z, shift);
    mpz_export(&kept, NULL, -1, sizeof kept, 0, 0, top);
    mpz_clear(top);
    kept |= shift > 0 && mpz_scan1(z, 0) < shift;
    double value = ldexp((double)kept, (int)shift);
    return mpz_sgn(z) < 0 ? -value : value;
}

/* Pushes the operand as a float. [-0, +1, e] */
static void push_float(lua_State *L, int idx, const struct operation *operation) {
    struct bigint_operand operand;
    if (term_is_float(L, idx)) {
        lua_pushvalue(L, idx);
    } else if (term_bigint_view(L, idx, &operand)) {
        lua_pushnumber(L, to_double(operand.z));
    } else {
        no_meaning(L, operation);
    }
}

/* [-0, +1, e] */
static int run_on_floats(lua_State *L, const struct operation *operation) {
    push_float(L, 1, operation);
    push_float(L, 2, operation);
    lua_arith(L, operation->lua);
    return 1;
}

/* What GMP would refuse by ending the process. [-0, +0, e] */
static void check_operation(lua_State *L, const struct operation *operation, mpz_srcptr a,
                            mpz_srcptr b, size_t bound) {
    if (operation->lua == LUA_OPIDIV && mpz_sgn(b) == 0) {
        luaL_error(L, "attempt to perform 'n//0'");
    }
    if (operation->lua == LUA_OPMOD && mpz_sgn(b) == 0) {
        luaL_error(L, "attempt to perform 'n%%%%0'");
    }
    /* A result no larger than its operands is computed, to see whether it is small enough. */
    if (bound > BIGINT_MAX_BITS + BIGINT_SLACK && bound > larger(a, b) + 1) {
        term_bigint_too_large(L, bound);
    }
}

/* [-0, +1, e] */
static int run_on_integers(lua_State *L, const struct operation *operation) {
    struct bigint_operand a;
    struct bigint_operand b;
    if (!term_bigint_view(L, 1, &a) || !term_bigint_view(L, 2, &b)) {
        return no_meaning(L, operation);
    }
    size_t bound = operation->bound(a.z, b.z);
    check_operation(L, operation, a.z, b.z, bound);
    term_bigint_room(L, bound);
    mpz_t result;
    mpz_init(result);
    operation->run(result, a.z, b.z);
    term_bigint_fill(L, result);
    return term_bigint_settle(L);
}

/* Bitwise operators take integral floats for integers, as Lua's own do. [-0, +0, e] */
static void floats_to_integers(lua_State *L) {
    for (int idx = 1; idx <= 2; idx++) {
        if (term_is_float(L, idx)) {
            term_bigint_from_float(L, idx);
            lua_replace(L, idx);
        }
    }
}

/* Every operator; its upvalue is its place in `operations`. */
static int l_operator(lua_State *L) {
    const struct operation *operation = &operations[lua_tointeger(L, lua_upvalueindex(1))];
    lua_settop(L, 2);
    if (wants_floats(L, operation)) {
        return run_on_floats(L, operation);
    }
    if (is_bitwise(operation)) {
        floats_to_integers(L);
    }
    return run_on_integers(L, operation);
}

/* }==== */

/* {==== Comparison and text =============================================================== */

/* Lua asks only when both are userdata: a bigint equals no number. */
static int l_eq(lua_State *L) {
    struct bigint_operand a;
    struct bigint_operand b;
    bool same = term_bigint_view(L, 1, &a) && term_bigint_view(L, 2, &b);
    lua_pushboolean(L, same && mpz_cmp(a.z, b.z) == 0);
    return 1;
}

/* The order of the bigint at 1 or 2 and the float at the other. False: none, it is NaN. */
static bool compare_float(lua_State *L, int *order) {
    struct bigint_operand operand;
    bool float_first = term_is_float(L, 1);
    lua_Number number = lua_tonumber(L, float_first ? 1 : 2);
    if (isnan(number) || !term_bigint_view(L, float_first ? 2 : 1, &operand)) {
        return false;
    }
    *order = mpz_cmp_d(operand.z, number);
    *order = float_first ? -*order : *order;
    return true;
}

/* The order of the two arguments, of which one is a bigint. False when there is none. [-0, +0, e]
 */
static bool compare(lua_State *L, int *order) {
    struct bigint_operand a;
    struct bigint_operand b;
    if (term_is_float(L, 1) || term_is_float(L, 2)) {
        return compare_float(L, order);
    }
    if (!term_bigint_view(L, 1, &a) || !term_bigint_view(L, 2, &b)) {
        const char *left = type_name(L, 1);
        const char *right = type_name(L, 2);
        return luaL_error(L, "attempt to compare %s with %s", left, right);
    }
    *order = mpz_cmp(a.z, b.z);
    return true;
}

static int l_lt(lua_State *L) {
    int order = 0;
    lua_pushboolean(L, compare(L, &order) && order < 0);
    return 1;
}

static int l_le(lua_State *L) {
    int order = 0;
    lua_pushboolean(L, compare(L, &order) && order <= 0);
    return 1;
}

static int l_tostring(lua_State *L) {
    struct bigint_operand operand;
    if (!term_bigint_view(L, 1, &operand)) {
        return luaL_typeerror(L, 1, "bigint");
    }
    luaL_Buffer text;
    char *room = luaL_buffinitsize(L, &text, mpz_sizeinbase(operand.z, 10) + 2);
    mpz_get_str(room, 10, operand.z);
    luaL_pushresultsize(&text, strlen(room));
    return 1;
}

static int l_concat(lua_State *L) {
    for (int idx = 1; idx <= 2; idx++) {
        if (!lua_isstring(L, idx) && !term_is_bigint(L, idx)) {
            return luaL_error(L, "attempt to concatenate a %s value", type_name(L, idx));
        }
        term_tostring(L, idx, NULL);
    }
    lua_concat(L, 2);
    return 1;
}

static const luaL_Reg metamethods[] = {
    {"__eq", l_eq},         {"__lt", l_lt}, {"__le", l_le}, {"__tostring", l_tostring},
    {"__concat", l_concat}, {NULL, NULL},
};

/* }==== */

void term_bigint_set_operators(lua_State *L) {
    luaL_setfuncs(L, metamethods, 0);
    for (int i = 0; i < OPERATIONS; i++) {
        lua_pushinteger(L, i);
        lua_pushcclosure(L, l_operator, 1);
        lua_setfield(L, -2, operations[i].event);
    }
}
