/* Integers beyond 64 bits: how one is made, kept and sent. See bigint.h and bigint_value.h. */
#include "term/bigint.h"

#include <assert.h>
#include <ctype.h>
#include <gmp.h>
#include <lauxlib.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>

#include "base/ext.h"
#include "term/bigint_value.h"

static_assert(GMP_NAIL_BITS == 0, "limbs without nails");
static_assert(sizeof(lua_Integer) == 8, "64-bit integers");

/* Its address is the metatable's key in the registry. */
static const char metatable_key = 0;

/* {==== A number as GMP sees it =========================================================== */

const struct bigint *term_to_bigint(lua_State *L, int idx) {
    const struct bigint *big = lua_touserdata(L, idx);
    if (big == NULL || !lua_getmetatable(L, idx)) {
        return NULL;
    }
    lua_rawgetp(L, LUA_REGISTRYINDEX, &metatable_key);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same ? big : NULL;
}

static void view_integer(struct bigint_operand *operand, lua_Integer value) {
    *operand = (struct bigint_operand){0};
    uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    for (int i = 0; i < BIGINT_OF_INTEGER; i++) {
        operand->own[i] = (mp_limb_t)(magnitude >> (i * GMP_NUMB_BITS));
    }
    mpz_roinit_n(operand->z, operand->own, value < 0 ? -BIGINT_OF_INTEGER : BIGINT_OF_INTEGER);
}

bool term_bigint_view(lua_State *L, int idx, struct bigint_operand *operand) {
    const struct bigint *big = term_to_bigint(L, idx);
    if (big != NULL) {
        mpz_roinit_n(operand->z, big->limbs, big->size);
    } else if (lua_isinteger(L, idx)) {
        view_integer(operand, lua_tointeger(L, idx));
    } else {
        return false;
    }
    return true;
}

static uint64_t low_64(const mp_limb_t *limbs, size_t count) {
    uint64_t value = 0;
    for (size_t i = 0; i < count && i < BIGINT_OF_INTEGER; i++) {
        value |= (uint64_t)limbs[i] << (i * GMP_NUMB_BITS);
    }
    return value;
}

/* }==== */

/* {==== Results =========================================================================== */

int term_bigint_too_large(lua_State *L, size_t bits) {
    /* lua_pushfstring knows no size_t; a bound that was cut off is far beyond in any case */
    lua_Integer shown = bits > LLONG_MAX ? LLONG_MAX : (lua_Integer)bits;
    return luaL_error(L, "bigint result too large: %I bits, at most %d", shown, BIGINT_MAX_BITS);
}

/* Pushes a userdata for that many limbs, without value and metatable. [-0, +1, m] */
static struct bigint *push_limbs(lua_State *L, size_t limbs) {
    struct bigint *room =
        lua_newuserdatauv(L, sizeof(struct bigint) + limbs * sizeof(mp_limb_t), 0);
    room->size = 0;
    return room;
}

void term_bigint_room(lua_State *L, size_t bits) {
    push_limbs(L, bits / GMP_NUMB_BITS + 1);
}

static size_t capacity(lua_State *L, int idx) {
    return (lua_rawlen(L, idx) - sizeof(struct bigint)) / sizeof(mp_limb_t);
}

void term_bigint_fill(lua_State *L, mpz_t result) {
    struct bigint *room = lua_touserdata(L, -1);
    size_t count = mpz_size(result);
    if (count > capacity(L, -1)) {
        assert(!"the bound of a bigint operation is wrong");
        count = 0;
    }
    memcpy(room->limbs, mpz_limbs_read(result), count * sizeof(mp_limb_t));
    room->size = mpz_sgn(result) < 0 ? -(mp_size_t)count : (mp_size_t)count;
    mpz_clear(result);
}

static size_t limb_count(const struct bigint *big) {
    return (size_t)(big->size < 0 ? -big->size : big->size);
}

/* Pushes the value as a Lua integer if it is one. [-0, +(0|1), -] */
static bool push_if_integer(lua_State *L, bool negative, uint64_t magnitude) {
    if (magnitude > (uint64_t)LUA_MAXINTEGER + negative) {
        return false;
    }
    lua_pushinteger(L, (lua_Integer)(negative ? 0 - magnitude : magnitude));
    return true;
}

/* Replaces the room on the top by a tight copy when much of it is empty. [-1, +1, m] */
static void trim_room(lua_State *L) {
    const struct bigint *room = lua_touserdata(L, -1);
    size_t count = limb_count(room);
    if (capacity(L, -1) <= count + count / 8 + 2) {
        return;
    }
    struct bigint *tight = push_limbs(L, count);
    memcpy(tight, room, sizeof *room + count * sizeof(mp_limb_t));
    lua_remove(L, -2);
}

static void become_bigint(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &metatable_key);
    lua_setmetatable(L, -2);
}

int term_bigint_settle(lua_State *L) {
    const struct bigint *room = lua_touserdata(L, -1);
    size_t count = limb_count(room);
    if (count <= BIGINT_OF_INTEGER &&
        push_if_integer(L, room->size < 0, low_64(room->limbs, count))) {
        lua_remove(L, -2);
        return 1;
    }
    mpz_t z;
    size_t bits = term_bigint_bits(mpz_roinit_n(z, room->limbs, room->size));
    if (bits > BIGINT_MAX_BITS) {
        return term_bigint_too_large(L, bits);
    }
    trim_room(L);
    become_bigint(L);
    return 1;
}

/* }==== */

/* {==== Making one ======================================================================== */

int term_bigint_from_float(lua_State *L, int idx) {
    lua_Number value = lua_tonumber(L, idx);
    if (!isfinite(value) || floor(value) != value) {
        return luaL_error(L, "number has no integer representation");
    }
    term_bigint_room(L, 1024);
    mpz_t result;
    mpz_init_set_d(result, value);
    term_bigint_fill(L, result);
    return term_bigint_settle(L);
}

/* An integer as text: a sign or none, then decimal digits, or 0x and hexadecimal ones. */
struct numeral {
    bool negative;
    int base;
    const char *digits;
    size_t count;
};

static bool all_digits(const struct numeral *numeral) {
    for (size_t i = 0; i < numeral->count; i++) {
        unsigned char c = (unsigned char)numeral->digits[i];
        if (numeral->base == 16 ? !isxdigit(c) : !isdigit(c)) {
            return false;
        }
    }
    return numeral->count > 0;
}

static void skip_digits(struct numeral *numeral, size_t count) {
    numeral->digits += count;
    numeral->count -= count;
}

static bool read_numeral(const char *text, size_t len, struct numeral *numeral) {
    *numeral = (struct numeral){*text == '-', 10, text, len};
    if (*text == '-' || *text == '+') {
        skip_digits(numeral, 1);
    }
    if (numeral->count > 2 && numeral->digits[0] == '0' && (numeral->digits[1] | 32) == 'x') {
        numeral->base = 16;
        skip_digits(numeral, 2);
    }
    if (!all_digits(numeral)) {
        return false;
    }
    while (numeral->count > 1 && *numeral->digits == '0') {
        skip_digits(numeral, 1);
    }
    return true;
}

/* [-0, +1, e] */
static int from_string(lua_State *L, int idx) {
    size_t len;
    const char *text = lua_tolstring(L, idx, &len);
    struct numeral numeral;
    if (!read_numeral(text, len, &numeral)) {
        return luaL_argerror(L, idx, "not an integer in decimal or 0x notation");
    }
    /* A decimal digit is less than 10/3 bits. */
    size_t bound = numeral.base == 16 ? numeral.count * 4 : numeral.count / 3 * 10 + 10;
    if (bound > BIGINT_MAX_BITS + BIGINT_SLACK) {
        return term_bigint_too_large(L, bound);
    }
    term_bigint_room(L, bound);
    mpz_t result;
    mpz_init_set_str(result, numeral.digits, numeral.base);
    if (numeral.negative) {
        mpz_neg(result, result);
    }
    term_bigint_fill(L, result);
    return term_bigint_settle(L);
}

/* bigint(x): x as an exact integer; x is an integer, an integral float, a bigint or text. */
static int l_bigint(lua_State *L) {
    if (lua_type(L, 1) == LUA_TSTRING) {
        return from_string(L, 1);
    }
    if (term_is_float(L, 1)) {
        return term_bigint_from_float(L, 1);
    }
    if (!lua_isinteger(L, 1) && !term_is_bigint(L, 1)) {
        return luaL_typeerror(L, 1, "integer, float or string");
    }
    lua_settop(L, 1);
    return 1;
}

/* }==== */

void term_bigint_open(lua_State *L) {
    lua_createtable(L, 0, 24);
    term_bigint_set_operators(L);
    lua_pushliteral(L, "bigint");
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "__name");
    lua_setfield(L, -2, "__metatable"); /* what getmetatable shows of it */
    lua_rawsetp(L, LUA_REGISTRYINDEX, &metatable_key);
    lua_pushcfunction(L, l_bigint);
}

bool term_is_bigint(lua_State *L, int idx) {
    return term_to_bigint(L, idx) != NULL;
}

/* {==== The external term format ========================================================== */

static uint64_t magnitude_of(struct span bytes) {
    uint64_t magnitude = 0;
    for (size_t i = 0; i < bytes.len; i++) {
        magnitude |= (uint64_t)bytes.data[i] << (8 * i);
    }
    return magnitude;
}

static void fill_limbs(mp_limb_t *limbs, size_t count, struct span bytes) {
    enum { LIMB_BYTES = sizeof(mp_limb_t) };
    memset(limbs, 0, count * LIMB_BYTES);
    for (size_t i = 0; i < bytes.len; i++) {
        limbs[i / LIMB_BYTES] |= (mp_limb_t)bytes.data[i] << (8 * (i % LIMB_BYTES));
    }
}

void term_bigint_push(lua_State *L, bool negative, struct span bytes) {
    while (bytes.len > 0 && bytes.data[bytes.len - 1] == 0) {
        bytes.len--;
    }
    if (bytes.len <= 8 && push_if_integer(L, negative, magnitude_of(bytes))) {
        return;
    }
    size_t count = (bytes.len + sizeof(mp_limb_t) - 1) / sizeof(mp_limb_t);
    struct bigint *big = push_limbs(L, count);
    fill_limbs(big->limbs, count, bytes);
    big->size = negative ? -(mp_size_t)count : (mp_size_t)count;
    become_bigint(L);
}

/* Appends the head: tag, number of bytes, sign. */
static bool put_head(struct buf *out, size_t len, bool negative) {
    uint8_t head[6] = {EXT_SMALL_BIG, (uint8_t)len, negative};
    if (len <= UINT8_MAX) {
        return buf_append(out, head, 3);
    }
    head[0] = EXT_LARGE_BIG;
    ext_set_u32(head + 1, (uint32_t)len);
    head[5] = negative;
    return buf_append(out, head, 6);
}

bool term_bigint_put(lua_State *L, int idx, struct buf *out) {
    struct bigint_operand operand;
    if (!term_bigint_view(L, idx, &operand)) {
        return false;
    }
    size_t len = (term_bigint_bits(operand.z) + 7) / 8;
    if (len > UINT32_MAX || !buf_reserve(out, len + 6)) {
        return false;
    }
    put_head(out, len, mpz_sgn(operand.z) < 0);
    mpz_export(out->data + out->len, NULL, -1, 1, 0, 0, operand.z);
    out->len += len;
    return true;
}

/* }==== */
