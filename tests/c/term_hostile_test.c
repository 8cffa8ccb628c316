/* What a peer might send that is no term, and a Lua state that runs out of memory: nothing crashes,
 * nothing leaks, and the state stays usable. Run it with the sanitizers for its full worth. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/ext.h"
#include "term/term.h"

/* {==== A state, and the terms that are mistreated ======================================== */

struct fixture {
    struct term_atoms *atoms;
    lua_State *L;
    long allowed; /* allocations until one fails; negative: none fails */
    size_t largest;
};

static void *allocate(void *ud, void *old, size_t old_size, size_t size) {
    struct fixture *f = ud;
    (void)old_size;
    if (size == 0) {
        free(old);
        return NULL;
    }
    f->largest = size > f->largest ? size : f->largest;
    if (f->allowed == 0) {
        return NULL;
    }
    f->allowed -= f->allowed > 0;
    return realloc(old, size);
}

static int open_state(lua_State *L) {
    luaL_openlibs(L);
    term_open(L, lua_touserdata(L, 1));
    lua_setglobal(L, "erl");
    return 0;
}

static int set_up(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    f->allowed = -1;
    f->atoms = term_atoms_create();
    f->L = lua_newstate(allocate, f);
    lua_pushcfunction(f->L, open_state);
    lua_pushlightuserdata(f->L, f->atoms);
    assert_int_equal(lua_pcall(f->L, 1, 0, 0), LUA_OK);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    lua_close(f->L);
    term_atoms_destroy(f->atoms);
    free(f);
    return 0;
}

#define BYTES(...)                                                                                 \
    {                                                                                              \
        sizeof((uint8_t[]){__VA_ARGS__}), {                                                        \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define NODE EXT_SMALL_ATOM_UTF8, 3, 'a', '@', 'b'

/* Terms of every tag, old ones too. */
static const struct {
    size_t len;
    uint8_t bytes[96];
} zoo[] = {
    BYTES(EXT_SMALL_INTEGER, 7),
    BYTES(EXT_INTEGER, 0xFF, 0, 0, 1),
    BYTES(EXT_NEW_FLOAT, 0x3F, 0xF8, 0, 0, 0, 0, 0, 0),
    BYTES(EXT_FLOAT, '1', '.', '5', '0', '0', '0', '0', '0', '0', '0', '0', '0', '0', '0', '0', '0',
          '0', '0', '0', '0', '0', 'e', '+', '0', '0', 0, 0, 0, 0, 0, 0),
    BYTES(EXT_ATOM, 0, 2, 'o', 0xE9),
    BYTES(EXT_SMALL_ATOM, 1, 'x'),
    BYTES(EXT_ATOM_UTF8, 0, 2, 0xC3, 0xA9),
    BYTES(EXT_SMALL_ATOM_UTF8, 3, 'n', 'i', 'l'),
    BYTES(EXT_PID, EXT_ATOM, 0, 1, 'n', 0, 0, 0, 1, 0, 0, 0, 2, 3),
    BYTES(EXT_NEW_PID, NODE, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3),
    BYTES(EXT_PORT, NODE, 0, 0, 0, 1, 2),
    BYTES(EXT_NEW_PORT, NODE, 0, 0, 0, 1, 0, 0, 0, 2),
    BYTES(EXT_V4_PORT, NODE, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2),
    BYTES(EXT_REFERENCE, NODE, 0, 0, 0, 1, 2),
    BYTES(EXT_NEW_REFERENCE, 0, 2, NODE, 1, 0, 0, 0, 1, 0, 0, 0, 2),
    BYTES(EXT_NEWER_REFERENCE, 0, 3, NODE, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3),
    BYTES(EXT_SMALL_TUPLE, 2, EXT_SMALL_INTEGER, 1, EXT_SMALL_TUPLE, 0),
    BYTES(EXT_LARGE_TUPLE, 0, 0, 0, 1, EXT_NIL),
    BYTES(EXT_STRING, 0, 3, 1, 2, 3),
    BYTES(EXT_LIST, 0, 0, 0, 2, EXT_SMALL_INTEGER, 1, EXT_SMALL_ATOM_UTF8, 3, 'n', 'i', 'l',
          EXT_NIL),
    BYTES(EXT_LIST, 0, 0, 0, 1, EXT_NIL, EXT_SMALL_INTEGER, 1),
    BYTES(EXT_LIST, 0, 0, 0, 1, EXT_NIL, EXT_LIST, 0, 0, 0, 1, EXT_NIL, EXT_STRING, 0, 1, 9),
    BYTES(EXT_BINARY, 0, 0, 0, 3, 'a', 'b', 'c'),
    BYTES(EXT_BIT_BINARY, 0, 0, 0, 2, 3, 0xFF, 0xFF),
    BYTES(EXT_SMALL_BIG, 8, 1, 0, 0, 0, 0, 0, 0, 0, 0x80),
    BYTES(EXT_SMALL_BIG, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    BYTES(EXT_LARGE_BIG, 0, 0, 0, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    BYTES(EXT_EXPORT, EXT_SMALL_ATOM_UTF8, 1, 'm', EXT_SMALL_ATOM_UTF8, 1, 'f', EXT_SMALL_INTEGER,
          2),
    BYTES(EXT_NEW_FUN, 0, 0, 0, 56, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5,
          0, 0, 0, 1, EXT_SMALL_ATOM_UTF8, 1, 'm', EXT_SMALL_INTEGER, 5, EXT_SMALL_INTEGER, 6,
          EXT_NEW_PID, NODE, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, EXT_SMALL_INTEGER, 9),
    BYTES(EXT_MAP, 0, 0, 0, 4, EXT_SMALL_INTEGER, 1, EXT_NIL, EXT_NEW_FLOAT, 0x3F, 0xF0, 0, 0, 0, 0,
          0, 0, EXT_SMALL_INTEGER, 2, EXT_SMALL_ATOM_UTF8, 3, 'n', 'i', 'l', EXT_SMALL_ATOM_UTF8, 3,
          'n', 'i', 'l', EXT_SMALL_TUPLE, 1, EXT_BINARY, 0, 0, 0, 1, 'x', EXT_MAP, 0, 0, 0, 1,
          EXT_SMALL_ATOM_UTF8, 1, 'k', EXT_NIL),
};

enum { ZOO = sizeof zoo / sizeof zoo[0] };

/* }==== */

/* Decodes exact heap bytes, so that a read behind them is seen; encodes and shows what came out. */
static bool pass(lua_State *L, const uint8_t *bytes, size_t len, struct buf *out) {
    struct err err;
    uint8_t *copy = malloc(len == 0 ? 1 : len);
    memcpy(copy, bytes, len);
    struct span in = span_of(copy, len);
    bool ok = term_decode(L, &in, &err);
    if (ok) {
        luaL_tolstring(L, -1, NULL);
        lua_pop(L, 1);
        out->len = 0;
        if (!term_encode(L, -1, "value", out, &err)) {
            assert_non_null(strstr(err.text, "equal keys")); /* complex ones are found here */
        }
        lua_pop(L, 1);
    }
    free(copy);
    return ok;
}

static void every_term_passes(void **state) {
    struct fixture *f = *state;
    struct buf out;
    buf_init(&out);
    for (size_t i = 0; i < ZOO; i++) {
        if (!pass(f->L, zoo[i].bytes, zoo[i].len, &out)) {
            fail_msg("term %zu of the zoo", i);
        }
        assert_int_equal(lua_gettop(f->L), 0);
        struct span in = buf_span(&out);
        struct span term;
        assert_true(ext_take(&in, &term) && in.len == 0);
    }
    buf_finish(&out);
}

static void a_term_cut_off_anywhere_is_an_error(void **state) {
    struct fixture *f = *state;
    struct buf out;
    buf_init(&out);
    for (size_t i = 0; i < ZOO; i++) {
        for (size_t len = 0; len < zoo[i].len; len++) {
            assert_false(pass(f->L, zoo[i].bytes, len, &out));
            assert_int_equal(lua_gettop(f->L), 0);
        }
    }
    buf_finish(&out);
}

/* The same numbers on every machine: Knuth's linear congruential generator. */
static uint32_t next_random(uint64_t *random) {
    *random = *random * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t)(*random >> 33);
}

static void changed_bytes_never_crash(void **state) {
    enum { ROUNDS = 300000 };
    struct fixture *f = *state;
    struct buf out;
    const char *given = getenv("SEED");
    unsigned seed = given == NULL ? 20 : (unsigned)strtoul(given, NULL, 10);
    print_message("seed %u\n", seed);
    uint64_t random = seed;
    buf_init(&out);
    for (int round = 0; round < ROUNDS; round++) {
        uint8_t bytes[512];
        size_t len = 0;
        bytes[len++] = EXT_SMALL_TUPLE;
        bytes[len++] = 3;
        for (int part = 0; part < 3; part++) {
            size_t i = next_random(&random) % ZOO;
            memcpy(bytes + len, zoo[i].bytes, zoo[i].len);
            len += zoo[i].len;
        }
        for (uint32_t changes = 1 + next_random(&random) % 4; changes > 0; changes--) {
            uint32_t value = next_random(&random);
            bytes[next_random(&random) % len] =
                (uint8_t)(value % 3 ? value >> 8 : EXT_NEW_FLOAT + value % 52);
        }
        pass(f->L, bytes, len, &out);
        assert_int_equal(lua_gettop(f->L), 0);
    }
    buf_finish(&out);
}

static void a_header_that_promises_too_much_allocates_nothing(void **state) {
    static const uint8_t tags[] = {EXT_LIST, EXT_LARGE_TUPLE, EXT_MAP, EXT_BINARY, EXT_LARGE_BIG};
    struct fixture *f = *state;
    struct buf out;
    buf_init(&out);
    f->largest = 0;
    for (size_t i = 0; i < sizeof tags; i++) {
        uint8_t bytes[64] = {tags[i], 0x7F, 0xFF, 0xFF, 0xFF, EXT_NIL};
        assert_false(pass(f->L, bytes, sizeof bytes, &out));
        uint8_t nested[64] = {EXT_LIST, 0, 0, 0, 40, tags[i], 0, 0, 0, 40};
        assert_false(pass(f->L, nested, sizeof nested, &out));
    }
    assert_true(f->largest < 4096);
    buf_finish(&out);
}

/* {==== No memory ========================================================================= */

/* Everything the layer does, in one function. */
static const char everything[] =
    "local t = erl.tuple(1, nil, erl.list{1, 2, {}}, erl.improper({1}, 2), erl.bits('\\255', 3))\n"
    "local m = erl.map{a = erl.null, [t] = 1, [erl.tuple(t)] = 2, [erl.atom.x] = 1.5}\n"
    "m.big = erl.bigint '123456789012345678901234567890'\n"
    "local deep = {} for i = 1, 200 do deep = {deep} end\n"
    "m.deep = deep\n"
    "local back = erl.decode(erl.encode(m))\n"
    "for k, v in pairs(back) do assert(rawequal(erl.get(back, k), v)) end\n"
    "assert(erl.get(back, t) == 1)\n"
    "assert(back.x == 1.5) back.x = 2 back.new = 1\n"
    "return #tostring(back) > 10";

static int run_everything(lua_State *L) {
    if (luaL_loadstring(L, everything) != LUA_OK) {
        return lua_error(L);
    }
    lua_call(L, 0, 1);
    return 1;
}

static void memory_that_ends_anywhere_leaves_the_state_usable(void **state) {
    struct fixture *f = *state;
    int status = LUA_ERRMEM;
    long n = 0;
    for (; status != LUA_OK && n < 100000; n++) {
        f->allowed = n;
        lua_pushcfunction(f->L, run_everything);
        status = lua_pcall(f->L, 0, 0, 0);
        f->allowed = -1;
        assert_true(status == LUA_OK || status == LUA_ERRMEM);
        lua_settop(f->L, 0);
        lua_gc(f->L, LUA_GCCOLLECT);
    }
    assert_int_equal(status, LUA_OK);
    assert_true(n > 100);
}

static void a_state_that_cannot_be_opened_leaks_nothing(void **state) {
    struct fixture *f = *state;
    int status = LUA_ERRMEM;
    for (long n = 40; status != LUA_OK && n < 10000; n++) {
        struct fixture other = {.atoms = f->atoms, .allowed = -1};
        other.L = lua_newstate(allocate, &other);
        lua_pushcfunction(other.L, open_state);
        lua_pushlightuserdata(other.L, other.atoms);
        other.allowed = n;
        status = lua_pcall(other.L, 1, 0, 0);
        other.allowed = -1;
        lua_close(other.L);
    }
    assert_int_equal(status, LUA_OK);
}

/* }==== */

/* {==== Limits ============================================================================ */

static void deeper_than_the_lua_stack_is_a_clear_error(void **state) {
    static const size_t DEPTH = 1200000;
    struct fixture *f = *state;
    struct err err = {""};
    uint8_t *bytes = malloc(2 * DEPTH + 1);
    for (size_t i = 0; i < DEPTH; i++) {
        bytes[2 * i] = EXT_SMALL_TUPLE;
        bytes[2 * i + 1] = 1;
    }
    bytes[2 * DEPTH] = EXT_NIL;
    struct span in = span_of(bytes, 2 * DEPTH + 1);
    assert_false(term_decode(f->L, &in, &err));
    assert_non_null(strstr(err.text, "nested too deeply"));
    assert_int_equal(in.len, 2 * DEPTH + 1);
    free(bytes);
}

static void empty_heads_of_lists_do_not_recurse(void **state) {
    static const size_t HEADS = 1000000;
    struct fixture *f = *state;
    struct err err = {""};
    uint8_t *bytes = calloc(HEADS, 5);
    for (size_t i = 0; i < HEADS; i++) {
        bytes[5 * i] = EXT_LIST;
    }
    bytes[4] = 1; /* [[] | ...] */
    bytes[5] = EXT_NIL;
    memmove(bytes + 6, bytes + 10, 5 * HEADS - 10);
    bytes[5 * HEADS - 4] = EXT_NIL;
    struct span in = span_of(bytes, 5 * HEADS - 3);
    assert_true(term_decode(f->L, &in, &err));
    assert_int_equal(lua_rawlen(f->L, -1), 1);
    free(bytes);
}

static void the_atom_table_is_bounded(void **state) {
    struct term_atoms *atoms = term_atoms_create();
    struct err err = {""};
    uint32_t number = 0;
    bool ok = true;
    char name[32];
    (void)state;
    for (int i = 0; ok && i <= TERM_MAX_ATOMS; i++) {
        int len = snprintf(name, sizeof name, "atom%d", i);
        ok = term_atom_intern(atoms, span_of(name, (size_t)len), &number, &err);
    }
    assert_false(ok);
    assert_string_equal(err.text, "the atom table is full (1048576 atoms)");
    assert_true(term_atom_intern(atoms, span_str("atom77"), &number, &err));
    assert_true(span_equal(term_atom_name(atoms, number), span_str("atom77")));
    term_atoms_destroy(atoms);
}

static void a_failed_encode_leaves_the_buffer_as_it_was(void **state) {
    struct fixture *f = *state;
    struct err err;
    struct buf out;
    buf_init(&out);
    buf_append(&out, "kept", 4);
    assert_int_equal(luaL_dostring(f->L, "return {1, 2, {x = print}}"), 0);
    assert_false(term_encode(f->L, -1, "reply", &out, &err));
    assert_string_equal(err.text, "reply[3].x: cannot send a function");
    assert_int_equal(out.len, 4);
    assert_memory_equal(out.data, "kept", 4);
    buf_finish(&out);
}

/* }==== */

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_term_passes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_term_cut_off_anywhere_is_an_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(changed_bytes_never_crash, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_header_that_promises_too_much_allocates_nothing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(memory_that_ends_anywhere_leaves_the_state_usable, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_state_that_cannot_be_opened_leaks_nothing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(deeper_than_the_lua_stack_is_a_clear_error, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(empty_heads_of_lists_do_not_recurse, set_up, tear_down),
        cmocka_unit_test(the_atom_table_is_bounded),
        cmocka_unit_test_setup_teardown(a_failed_encode_leaves_the_buffer_as_it_was, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
