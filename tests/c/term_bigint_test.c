/* Bigints from C: normalisation, their external form, and that no error of memory leaks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <lauxlib.h>
#include <lualib.h>

#include "term/bigint.h"

/* {==== A Lua state whose memory can run out ============================================== */

static long allocations_left = -1; /* -1: any number */

static void *allocate(void *ud, void *block, size_t old_size, size_t new_size) {
    (void)ud;
    (void)old_size;
    if (new_size == 0) {
        free(block);
        return NULL;
    }
    if (allocations_left == 0) {
        return NULL;
    }
    allocations_left -= allocations_left > 0;
    return realloc(block, new_size);
}

static int setup(void **state) {
    lua_State *L = lua_newstate(allocate, NULL);
    luaL_openlibs(L);
    term_bigint_open(L);
    lua_setglobal(L, "bigint");
    *state = L;
    return 0;
}

static int teardown(void **state) {
    lua_close(*state);
    return 0;
}

/* }==== */

/* {==== The external form ================================================================= */

static void push(lua_State *L, bool negative, const char *bytes, size_t len) {
    term_bigint_push(L, negative, span_of(bytes, len));
}

static void is_integer(lua_State *L, lua_Integer expected) {
    assert_true(lua_isinteger(L, -1));
    assert_int_equal(lua_tointeger(L, -1), expected);
    lua_pop(L, 1);
}

static void is_text(lua_State *L, const char *expected) {
    assert_true(term_is_bigint(L, -1));
    assert_string_equal(luaL_tolstring(L, -1, NULL), expected);
    lua_pop(L, 2);
}

static void what_fits_64_bits_is_a_lua_integer(void **state) {
    lua_State *L = *state;
    push(L, false, "", 0);
    is_integer(L, 0);
    push(L, true, "\0\0\0", 3);
    is_integer(L, 0);
    push(L, true, "\5\0\0\0\0\0\0\0\0\0\0\0", 12);
    is_integer(L, -5);
    push(L, false, "\377\377\377\377\377\377\377\177", 8);
    is_integer(L, INT64_MAX);
    push(L, true, "\0\0\0\0\0\0\0\200", 8);
    is_integer(L, INT64_MIN);
}

static void what_does_not_is_a_bigint(void **state) {
    lua_State *L = *state;
    push(L, false, "\0\0\0\0\0\0\0\200", 8);
    is_text(L, "9223372036854775808");
    push(L, true, "\1\0\0\0\0\0\0\200", 8);
    is_text(L, "-9223372036854775809");
    push(L, false, "\0\0\0\0\0\0\0\0\1\0", 10);
    is_text(L, "18446744073709551616");
}

/* Encodes the top and checks its head; the bytes that follow must be `len` of them. */
static void is_encoded(lua_State *L, const char *head, size_t head_len, size_t len) {
    struct buf out;
    buf_init(&out);
    assert_true(term_bigint_put(L, -1, &out));
    assert_int_equal(out.len, head_len + len);
    assert_memory_equal(out.data, head, head_len);
    push(L, out.data[head_len - 1], (const char *)out.data + head_len, len);
    assert_true(lua_compare(L, -1, -2, LUA_OPEQ));
    lua_pop(L, 2);
    buf_finish(&out);
}

static void the_encoding_is_the_shortest(void **state) {
    lua_State *L = *state;
    char bytes[300] = {0};
    bytes[8] = 1;
    push(L, true, bytes, 20);
    is_encoded(L, "\156\11\1", 3, 9);
    bytes[254] = 1;
    push(L, false, bytes, sizeof bytes);
    is_encoded(L, "\156\377\0", 3, 255);
    bytes[255] = 1;
    push(L, true, bytes, sizeof bytes);
    is_encoded(L, "\157\0\0\1\0\1", 6, 256);
}

static void a_megabyte_comes_back_equal(void **state) {
    lua_State *L = *state;
    enum { SIZE = 5 * 1024 * 1024 };
    char *bytes = malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++) {
        bytes[i] = (char)(i * 7 + 1);
    }
    push(L, true, bytes, SIZE);
    is_encoded(L, "\157\0\120\0\0\1", 6, SIZE);
    free(bytes);
}

/* }==== */

static void other_values_are_no_bigints(void **state) {
    lua_State *L = *state;
    lua_newuserdatauv(L, 64, 0);
    assert_false(term_is_bigint(L, -1));
    lua_pushinteger(L, 1);
    assert_false(term_is_bigint(L, -1));
    lua_pushlightuserdata(L, L);
    assert_false(term_is_bigint(L, -1));
    lua_settop(L, 0);
}

/* The leak checker of the dev build looks on while memory runs out at each allocation in turn. */
static void running_out_of_memory_is_an_error_and_no_more(void **state) {
    lua_State *L = *state;
    const char *script = "local a = bigint('123456789012345678901234567890') "
                         "local b = (a * a << 300) // 7 ~ a "
                         "return a - a, tostring(b) .. b, b % a, -b, ~b, b ^ 3, b < a";
    assert_int_equal(luaL_loadstring(L, script), LUA_OK);
    int status = LUA_ERRMEM;
    for (long allowed = 0; status != LUA_OK; allowed++) {
        assert_true(allowed < 10000);
        lua_settop(L, 1);
        lua_gc(L, LUA_GCCOLLECT);
        lua_pushvalue(L, 1);
        allocations_left = allowed;
        status = lua_pcall(L, 0, 0, 0);
        allocations_left = -1;
        assert_true(status == LUA_OK || status == LUA_ERRMEM);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_fits_64_bits_is_a_lua_integer, setup, teardown),
        cmocka_unit_test_setup_teardown(what_does_not_is_a_bigint, setup, teardown),
        cmocka_unit_test_setup_teardown(the_encoding_is_the_shortest, setup, teardown),
        cmocka_unit_test_setup_teardown(a_megabyte_comes_back_equal, setup, teardown),
        cmocka_unit_test_setup_teardown(other_values_are_no_bigints, setup, teardown),
        cmocka_unit_test_setup_teardown(running_out_of_memory_is_an_error_and_no_more, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
