/* Slices: what processes that run Lua see of each other, and what their scripts see of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <dirent.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/slice.h"

/* With an always-on hook there are no signals: what rests on them is not tried. */
#define NEEDS_SIGNALS()                                                                            \
    do {                                                                                           \
        if (LUNODE_PREEMPT_EVERY > 0) {                                                            \
            return;                                                                                \
        }                                                                                          \
    } while (0)

/* {==== A node in small =================================================================== */

/* What a state's allocator points to. */
struct vm {
    struct eng_slice *slice;
};

struct bench {
    struct eng_slice slice;
    struct vm vm;
    lua_State *L;
    atomic_uint reports;
    char who[100];
    char where[100];
    unsigned ms;
};

struct process {
    lua_State *co;
    int status;
    int results;
    int slices;
};

static struct bench bench;

static void *allocate(void *user, void *block, size_t old, size_t size) {
    (void)user;
    (void)old;
    if (size == 0) {
        free(block);
        return NULL;
    }
    return realloc(block, size);
}

static void held(void *user, const struct eng_held *what) {
    (void)what;
    (void)user;
}

static void stuck(void *user, const char *who, const char *where, unsigned ms) {
    struct bench *b = user;
    (void)snprintf(b->who, sizeof b->who, "%s", who);
    (void)snprintf(b->where, sizeof b->where, "%s", where);
    b->ms = ms;
    atomic_fetch_add(&b->reports, 1);
}

static int continue_wait(lua_State *L, int status, lua_KContext ctx) {
    assert_int_equal(status, LUA_YIELD);
    lua_pushinteger(L, (lua_Integer)ctx);
    lua_insert(L, 1);
    return lua_gettop(L);
}

/* wait(n, ...) waits for the next slice and returns n, n, ... */
static int wait_here(lua_State *L) {
    return eng_slice_wait(L, (lua_KContext)lua_tointeger(L, 1), continue_wait);
}

static int can_wait(lua_State *L) {
    lua_pushboolean(L, eng_slice_can_wait(L));
    return 1;
}

static int stop_soon(lua_State *L) {
    eng_slice_stop_soon(eng_slice_of(L));
    return 0;
}

static int is_reported(lua_State *L) {
    lua_pushboolean(L, atomic_load(&bench.reports) > 0);
    return 1;
}

/* stay(): one long call into C, until the watchdog reports it or 30 s are over. */
static int stay(lua_State *L) {
    uint64_t end = eng_slice_now() + UINT64_C(30000000000);
    while (atomic_load(&bench.reports) == 0 && eng_slice_now() < end) {
    }
    lua_pushboolean(L, atomic_load(&bench.reports) > 0);
    return 1;
}

/* call_often(f): calls f from C until it returns true. */
static int call_often(lua_State *L) {
    do {
        lua_settop(L, 1);
        lua_pushvalue(L, 1);
        lua_call(L, 0, 1);
    } while (!lua_toboolean(L, -1));
    return 0;
}

/* A C module that resumes coroutines itself. */
static int foreign_resume(lua_State *L) {
    lua_State *co = lua_tothread(L, 1);
    int count;
    lua_pushboolean(L, lua_resume(co, L, 0, &count) == LUA_OK);
    return 1;
}

static const luaL_Reg functions[] = {{"wait", wait_here},
                                     {"can_wait", can_wait},
                                     {"stop_soon", stop_soon},
                                     {"is_reported", is_reported},
                                     {"stay", stay},
                                     {"call_often", call_often},
                                     {"foreign_resume", foreign_resume},
                                     {NULL, NULL}};

static void start_bench(unsigned period_us) {
    struct err err;
    memset(&bench, 0, sizeof bench);
    if (!eng_slice_init(&bench.slice, period_us, stuck, held, &bench, &err)) {
        fail_msg("%s", err.text);
    }
    bench.slice.who = "someone";
    bench.vm.slice = &bench.slice;
    bench.L = lua_newstate(allocate, &bench.vm);
    *eng_busy(bench.L) = NULL;
    luaL_openlibs(bench.L);
    eng_coroutines_open(bench.L);
    lua_pushglobaltable(bench.L);
    luaL_setfuncs(bench.L, functions, 0);
    lua_pop(bench.L, 1);
    lua_pushinteger(bench.L, LUNODE_PREEMPT_EVERY > 0 ? 1000 : 3000000);
    lua_setglobal(bench.L, "many");
}

static int set_up(void **state) {
    (void)state;
    start_bench(ENG_SLICE_PERIOD_US);
    return 0;
}

static int set_up_quick(void **state) {
    (void)state;
    start_bench(200);
    return 0;
}

static int set_up_hasty(void **state) {
    (void)state;
    start_bench(50);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    if (bench.L != NULL) {
        lua_close(bench.L);
    }
    eng_slice_finish(&bench.slice);
    return 0;
}

/* A process that is to run `source`; its coroutine stays on the main stack. */
static struct process spawn(const char *source) {
    struct process process = {.co = lua_newthread(bench.L)};
    if (luaL_loadbuffer(process.co, source, strlen(source), "=script") != LUA_OK) {
        fail_msg("%s", lua_tostring(process.co, -1));
    }
    return process;
}

static int run_slice(struct process *process) {
    process->status = eng_slice_run(&bench.slice, process->co, 0, &process->results);
    process->slices++;
    return process->status;
}

static void assert_ended(struct process *process) {
    if (process->status == LUA_OK) {
        return;
    }
    luaL_traceback(bench.L, process->co, lua_tostring(process->co, -1), 0);
    fail_msg("status %d: %s", process->status, lua_tostring(bench.L, -1));
}

static void run_to_end(struct process *process) {
    while (run_slice(process) == LUA_YIELD) {
        assert_int_not_equal(bench.slice.why, ENG_YIELD_SCRIPT);
    }
}

/* Runs `source` as the only process; gives its slices. */
static int run(const char *source) {
    struct process process = spawn(source);
    run_to_end(&process);
    assert_ended(&process);
    return process.slices;
}

static lua_Integer global(const char *name) {
    lua_getglobal(bench.L, name);
    lua_Integer value =
        lua_isboolean(bench.L, -1) ? lua_toboolean(bench.L, -1) : lua_tointeger(bench.L, -1);
    lua_pop(bench.L, 1);
    return value;
}

/* }==== */

/* {==== Taking turns ====================================================================== */

static void two_spinners_share_evenly(void **state) {
    (void)state;
    struct process a = spawn("a = 0; while true do a = a + 1 end");
    struct process b = spawn("b = 0; while true do b = b + 1 end");
    for (int i = 0; i < 200; i++) {
        assert_int_equal(run_slice(&a), LUA_YIELD);
        assert_int_equal(bench.slice.why, ENG_YIELD_PREEMPTED);
        assert_int_equal(run_slice(&b), LUA_YIELD);
        assert_int_equal(bench.slice.why, ENG_YIELD_PREEMPTED);
    }
    assert_true(global("a") > 0);
    assert_in_range(global("a"), global("b") / 3, global("b") * 3);
}

static void a_loop_inside_nested_coroutines_is_interrupted_and_carries_on(void **state) {
    (void)state;
    int slices = run("local function count() local n = 0 for _ = 1, many do n = n + 1 end "
                     "  return n end "
                     "local outer = coroutine.wrap(function() "
                     "  local inner = coroutine.create(function(...) "
                     "    assert(select('#', ...) == 2) "
                     "    local deepest = coroutine.wrap(function() "
                     "      coroutine.yield(count()) return count(), 'end' end) "
                     "    coroutine.yield(deepest()) return deepest() end) "
                     "  local ok, n = coroutine.resume(inner, 1, nil) "
                     "  assert(ok and n == many, n) "
                     "  coroutine.yield(n + 1) "
                     "  return coroutine.resume(inner) end) "
                     "assert(outer() == many + 1) "
                     "local ok, n, word = outer() "
                     "assert(ok and n == many and word == 'end')");
    assert_true(slices > 2);
}

static void interrupted_computations_give_the_right_result(void **state) {
    (void)state;
    run("local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end "
        "local function quick(n) local a, b = 0, 1 for _ = 1, n do a, b = b, a + b end return a "
        "end "
        "local n = many > 1000 and 24 or 14 "
        "assert(fib(n) == quick(n)) "
        "assert(coroutine.wrap(function() return fib(n) end)() == quick(n)) "
        "local a, b = coroutine.wrap(fib), coroutine.create(fib) "
        "local _, x = coroutine.resume(b, n - 1) "
        "assert(x == quick(n - 1) and a(n - 2) == quick(n - 2))");
}

static void everything_composes_with_being_interrupted(void **state) {
    (void)state;
    struct process process = {.co = lua_newthread(bench.L)};
    if (luaL_loadfile(process.co, TESTS_DIR "/lua-inside/compose.lua") != LUA_OK) {
        fail_msg("%s", lua_tostring(process.co, -1));
    }
    run_to_end(&process);
    assert_ended(&process);
}

/* An arming that gets lost in the interpreter would let a spinner spin for ever. */
static void no_spinner_escapes(void **state) {
    (void)state;
    static const char *const spinners[] = {
        "while true do end",
        "local function f() end while true do f() end",
        "local t = {} while true do t[1] = (t[1] or 0) + 1 end",
        "local s = 'x' while true do local _ = s .. 'y' end",
        "local function f(n) if n > 0 then f(n - 1) end end while true do f(50) end",
        ("local co = coroutine.wrap(function() while true do coroutine.yield() end end) "
         "while true do co() end"),
        "while true do coroutine.wrap(function() for _ = 1, 100 do end end)() end",
        "while true do pcall(error, 'x') end",
        "while true do for _ in pairs({1, 2, 3}) do end end",
        ("local t = setmetatable({}, {__index = function(_, k) return k end}) "
         "while true do local _ = t[1] end"),
        "while true do ::again:: goto again end",
        "while true do table.sort({3, 1, 2}, function(a, b) return a < b end) end",
    };
    enum { COUNT = sizeof spinners / sizeof spinners[0] };
    struct process processes[COUNT];
    for (int i = 0; i < COUNT; i++) {
        processes[i] = spawn(spinners[i]);
    }
    for (int round = 0; round < 300; round++) {
        for (int i = 0; i < COUNT; i++) {
            assert_int_equal(run_slice(&processes[i]), LUA_YIELD);
            assert_int_equal(bench.slice.why, ENG_YIELD_PREEMPTED);
        }
    }
}

static void nothing_is_armed_while_nobody_overruns(void **state) {
    (void)state;
    NEEDS_SIGNALS();
    int armed = 0;
    for (int i = 0; i < 2000; i++) {
        struct process process = spawn("local n = 0 for i = 1, 100 do n = n + i end return n");
        run_to_end(&process);
        armed += lua_gethook(process.co) != NULL;
        lua_settop(bench.L, 0);
    }
    assert_true(armed < 200);
}

/* }==== */

/* {==== Deep stacks ======================================================================= */

#define DEEP                                                                                       \
    "local function deep(n, f) if n == 0 then f() return 1 end return 1 + deep(n - 1, f) end "

static void a_spinner_below_a_deep_stack_is_interrupted(void **state) {
    (void)state;
    NEEDS_SIGNALS();
    struct process process = spawn(DEEP "deep(180000, function() while true do end end)");
    for (int i = 0; i < 10; i++) {
        assert_int_equal(run_slice(&process), LUA_YIELD);
        assert_int_equal(bench.slice.why, ENG_YIELD_PREEMPTED);
    }
}

static void ignore(lua_State *L, lua_Debug *ar) {
    (void)L;
    (void)ar;
}

static uint64_t least_cost;

static int measure_arming(lua_State *L) {
    least_cost = UINT64_MAX;
    for (int i = 0; i < 10; i++) {
        uint64_t begin = eng_slice_now();
        lua_sethook(L, ignore, LUA_MASKCOUNT, 1000000000);
        uint64_t took = eng_slice_now() - begin;
        least_cost = took < least_cost ? took : least_cost;
    }
    lua_sethook(L, NULL, 0, 0);
    return 0;
}

static int clock_ms(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)(eng_slice_now() / 1000000));
    return 1;
}

/* Where the slice cannot end, signals come again and again; a deep stack makes each expensive. */
static void signals_back_off_when_a_deep_stack_makes_them_slow(void **state) {
    (void)state;
    NEEDS_SIGNALS();
    lua_register(bench.L, "measure", measure_arming);
    lua_register(bench.L, "clock_ms", clock_ms);
    struct process process =
        spawn(DEEP "deep(180000, function() measure() "
                   "  table.sort({2, 1}, function() local stop = clock_ms() + 1000 "
                   "    while clock_ms() < stop do end end) end)");
    uint64_t begin = eng_slice_now();
    unsigned before = atomic_load(&bench.slice.handled);
    run_to_end(&process);
    assert_ended(&process);
    uint64_t time = eng_slice_now() - begin;
    unsigned handled = atomic_load(&bench.slice.handled) - before;
    print_message("%u signals in %u ms\n", handled, (unsigned)(time / 1000000));
    assert_true(handled > 1);
    /* Four times its cost passes between two; half of that is asked, as the cost varies. */
    assert_true(handled <= time / (2 * least_cost) + 5);
}

/* }==== */

/* {==== Waiting =========================================================================== */

static void waiting_inside_the_scripts_own_coroutines_continues(void **state) {
    (void)state;
    struct process process = spawn("local inner = coroutine.create(function(a) "
                                   "  local n, first, x, y = wait(7, 'x', nil) "
                                   "  assert(n == 7 and first == 7 and x == 'x' and y == nil) "
                                   "  local b = coroutine.yield(a + n) "
                                   "  return wait(b), 'end' end) "
                                   "local outer = coroutine.wrap(function() "
                                   "  local ok, n = coroutine.resume(inner, 1) "
                                   "  assert(ok and n == 8) "
                                   "  coroutine.yield((wait(3))) "
                                   "  return coroutine.resume(inner, 9) end) "
                                   "waits = 0 "
                                   "assert(outer() == 3) "
                                   "local ok, n, word = outer() "
                                   "assert(ok and n == 9 and word == 'end', tostring(n)) "
                                   "assert(coroutine.status(inner) == 'dead') ");
    int waits = 0;
    while (run_slice(&process) == LUA_YIELD) {
        waits += bench.slice.why == ENG_YIELD_WAIT;
        assert_int_not_equal(bench.slice.why, ENG_YIELD_SCRIPT);
    }
    assert_ended(&process);
    assert_int_equal(waits, 3);
}

static void where_waiting_is_impossible_is_known(void **state) {
    (void)state;
    run("local seen = {} "
        "local function see(name) return function() seen[name] = can_wait() return 'x' end end "
        "local function no(name, f, ...) f(...) assert(seen[name] == false, name) end "
        "assert(can_wait()) "
        "assert(coroutine.wrap(function() return can_wait() end)()) "
        "assert(select(2, pcall(can_wait))) "
        "no('sort', table.sort, {2, 1}, see 'sort') "
        "no('gsub', string.gsub, 'a', 'a', see 'gsub') "
        "no('handler', xpcall, error, see 'handler') "
        "no('tostring', tostring, setmetatable({}, {__tostring = see 'tostring'})) "
        "no('gc', function() setmetatable({}, {__gc = see 'gc'}) collectgarbage() end) "
        "no('close', function() "
        "  local co = coroutine.create(function() "
        "    local x <close> = setmetatable({}, {__close = see 'close'}) coroutine.yield() end) "
        "  coroutine.resume(co) coroutine.close(co) end) "
        "no('coroutine in sort', table.sort, {2, 1}, coroutine.wrap(function() "
        "  while true do coroutine.yield(see 'coroutine in sort' () == nil) end end)) "
        "no('foreign', foreign_resume, coroutine.create(see 'foreign')) "
        "local ok, why = pcall(table.sort, {2, 1}, function() wait(1) end) "
        "assert(not ok and why:find('^script:1: cannot wait inside'), why) "
        "local x <close> = setmetatable({}, {__close = function() after = can_wait() end})");
    assert_true(global("after"));
}

/* }==== */

/* {==== Coroutines of several processes =================================================== */

static void a_coroutine_in_use_by_one_process_is_not_resumed_or_closed_by_another(void **state) {
    (void)state;
    struct process owner = spawn("shared = coroutine.create(function() wait(1) "
                                 "  while not go do wait(1) end return 'done' end) "
                                 "own = coroutine.running() "
                                 "local _, word = coroutine.resume(shared) "
                                 "assert(word == 'done')");
    do {
        assert_int_equal(run_slice(&owner), LUA_YIELD);
    } while (bench.slice.why != ENG_YIELD_WAIT);
    run("for _, co in ipairs {shared, own} do "
        "  local ok, why = coroutine.resume(co) "
        "  assert(not ok and why == 'cannot resume non-suspended coroutine') "
        "  ok, why = pcall(coroutine.close, co) "
        "  assert(not ok and why == 'cannot close a normal coroutine', why) "
        "  assert(coroutine.status(co) == 'normal') end "
        "assert(own ~= coroutine.running()) "
        "assert(not coroutine.isyieldable(own)) "
        "go = true");
    run_to_end(&owner);
    assert_ended(&owner);
    run("assert(coroutine.status(shared) == 'dead') assert(coroutine.close(shared))");
}

static void a_process_that_is_never_resumed_runs_nothing_any_more(void **state) {
    (void)state;
    struct process process = spawn("closed = false "
                                   "local x <close> = setmetatable({}, {__close = function() "
                                   "  closed = true end}) "
                                   "while true do pcall(function() while true do end end) end");
    assert_int_equal(run_slice(&process), LUA_YIELD);
    lua_settop(bench.L, 0);
    lua_gc(bench.L, LUA_GCCOLLECT, 0);
    assert_false(global("closed"));
}

static void a_failed_process_runs_its_close_variables(void **state) {
    (void)state;
    struct process process = spawn("local x <close> = setmetatable({}, {__close = function(_, e) "
                                   "  closed = e:find('oops') ~= nil "
                                   "  could_wait = can_wait() "
                                   "  local _, main = coroutine.running() is_main = main "
                                   "  for _ = 1, 100000 do end end}) "
                                   "coroutine.wrap(error)('oops')");
    run_to_end(&process);
    assert_int_equal(process.status, LUA_ERRRUN);
    assert_int_equal(eng_slice_close(&bench.slice, process.co), LUA_ERRRUN);
    assert_true(global("closed"));
    assert_true(global("is_main"));
    assert_false(global("could_wait"));
    lua_settop(process.co, 0);
    assert_int_equal(lua_status(process.co), LUA_OK);
}

/* Runs until the script has called stop_soon, and to the end of that slice. */
static void stops(const char *source) {
    struct process process = spawn(source);
    while (global("stopped") == 0) {
        assert_int_equal(run_slice(&process), LUA_YIELD);
        assert_int_equal(bench.slice.why, ENG_YIELD_PREEMPTED);
    }
    assert_false(global("after"));
}

static void a_process_that_ended_itself_in_a_comparator_goes_no_further(void **state) {
    (void)state;
    stops("table.sort({2, 1}, function() stopped = true stop_soon() end) "
          "after = true");
}

static void a_process_that_ended_itself_in_a_coroutine_goes_no_further(void **state) {
    (void)state;
    stops("string.gsub('a', 'a', coroutine.wrap(function() "
          "  local inner = coroutine.wrap(function() "
          "    stopped = true stop_soon() coroutine.yield('b') end) "
          "  return inner() end)) "
          "after = true");
}

/* }==== */

/* {==== What a script sees ================================================================ */

static void run_file(const char *folder, const char *name, const char *before) {
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    if (luaL_dostring(bench.L, before) != LUA_OK) {
        fail_msg("%s", lua_tostring(bench.L, -1));
    }
    struct process process = {.co = lua_newthread(bench.L)};
    if (luaL_loadfile(process.co, path) != LUA_OK) {
        fail_msg("%s", lua_tostring(process.co, -1));
    }
    run_to_end(&process);
    assert_ended(&process);
}

/* The same file is run by busted in a plain Lua. */
static void coroutines_are_those_of_a_plain_lua(void **state) {
    (void)state;
    run_file(TESTS_DIR "/lua", "coroutine_spec.lua",
             "tests = 0 "
             "function describe(_, f) f() end "
             "function it(name, f) tests = tests + 1 "
             "  local ok, why = xpcall(f, debug.traceback) "
             "  if not ok then error(name .. ': ' .. tostring(why), 0) end end");
    assert_true(global("tests") > 10);
}

/* [-0, +0, m] */
static void set_text(const char *name, const char *text) {
    lua_pushstring(bench.L, text);
    lua_setglobal(bench.L, name);
}

/* Those of Lua's own test files that a tester has, each in a state of its own. Not in the list are
 * those about hooks, the program lua, or what needs Lua's internal test library. calls.lua calls
 * pcall within pcall without end: Lua stops that after 200 calls in one slice, but where a slice is
 * a few instructions only the limit of its stack does, and the way back from there takes far too
 * long. */
static void luas_own_tests_pass(void **state) {
    enum { CALLS = 0 };
    static const char *const files[] = {
        "calls.lua",   "coroutine.lua", "closure.lua",    "goto.lua", "locals.lua",  "events.lua",
        "nextvar.lua", "vararg.lua",    "constructs.lua", "sort.lua", "strings.lua", "tpack.lua",
        "math.lua",    "bitwise.lua",   "pm.lua",         "utf8.lua"};
    const char *folder = getenv("LUNODE_LUA_TESTS");
    int count = 0;
    if (folder == NULL) {
        skip();
    }
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[4096];
        (void)snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        if (access(path, R_OK) != 0 || (LUNODE_PREEMPT_EVERY > 0 && i == CALLS)) {
            continue;
        }
        set_text("own", TESTS_DIR "/lua-inside/own.lua");
        set_text("folder", folder);
        set_text("file", files[i]);
        print_message("%s\n", files[i]);
        print_message("%s: %d slices\n", files[i], run("dofile(own)(folder, file)"));
        tear_down(state);
        start_bench(200);
        count++;
    }
    assert_true(count > 0);
}

static void setting_a_hook_is_refused_with_the_reason(void **state) {
    (void)state;
    run("local ok, why = pcall(debug.sethook, print, 'c') "
        "assert(not ok and why:find('the scheduler needs the hook'), why)");
}

static void finalizers_use_coroutines_also_between_slices(void **state) {
    (void)state;
    run("local function finalize() "
        "  finalized = coroutine.wrap(function() coroutine.yield() return 1 end) "
        "  finalized() finalized = finalized() end "
        "kept = setmetatable({}, {__gc = finalize})");
    lua_pushnil(bench.L);
    lua_setglobal(bench.L, "kept");
    lua_gc(bench.L, LUA_GCCOLLECT, 0);
    assert_int_equal(global("finalized"), 1);
    assert_null(bench.slice.running);
}

/* }==== */

/* {==== The watchdog ====================================================================== */

static void report_is(const char *script, const char *where) {
    struct process process = spawn(script);
    run_to_end(&process);
    assert_ended(&process);
    for (int i = 0; i < 300 && atomic_load(&bench.reports) == 0; i++) {
        usleep(100000);
    }
    assert_int_equal(atomic_load(&bench.reports), 1);
    assert_string_equal(bench.where, where);
    assert_string_equal(bench.who, "someone");
    assert_true(bench.ms >= ENG_SLICE_STUCK_MS);
}

static void a_long_call_into_c_is_reported_while_it_lasts(void **state) {
    (void)state;
    NEEDS_SIGNALS();
    report_is("local x = 1\nassert(stay())", "script:2");
}

static void a_long_call_into_c_by_a_coroutine_is_reported(void **state) {
    (void)state;
    NEEDS_SIGNALS();
    report_is("local x = 1\n\nassert(coroutine.wrap(stay)())", "script:3");
}

static void a_long_c_function_that_calls_others_is_reported(void **state) {
    (void)state;
    NEEDS_SIGNALS();
    report_is("\ncall_often(is_reported)", "script:2");
}

static void a_comparator_that_loops_is_reported(void **state) {
    (void)state;
    NEEDS_SIGNALS();
    report_is("table.sort({2, 1}, function()\nrepeat until is_reported() end)", "script:2");
}

static void a_finalizer_that_loops_is_reported(void **state) {
    (void)state;
    NEEDS_SIGNALS();
    report_is("local function deeper(n) "
              "  if n > 0 then deeper(n - 1) end return is_reported() end "
              "setmetatable({}, {__gc = function() repeat until deeper(3) end})\n"
              "collectgarbage()",
              "script:1");
}

/* The watchdog's voluntary context switches so far: one whenever it sleeps. -1: not found. */
static long switches(void) {
    static const char label[] = "voluntary_ctxt_switches:";
    DIR *tasks = opendir("/proc/self/task");
    long count = -1;
    for (struct dirent *task; tasks != NULL && (task = readdir(tasks)) != NULL;) {
        char path[300];
        char line[200];
        (void)snprintf(path, sizeof path, "/proc/self/task/%s/status", task->d_name);
        FILE *file = fopen(path, "r");
        bool found = false;
        while (file != NULL && fgets(line, sizeof line, file) != NULL) {
            found = found || strcmp(line, "Name:\twatchdog\n") == 0;
            if (found && strncmp(line, label, sizeof label - 1) == 0) {
                count = strtol(line + sizeof label - 1, NULL, 10);
                break;
            }
        }
        if (file != NULL) {
            (void)fclose(file);
        }
    }
    if (tasks != NULL) {
        closedir(tasks);
    }
    return count;
}

static bool parks(void) {
    for (int i = 0; i < 50; i++) {
        long before = switches();
        usleep(300000);
        if (switches() == before) {
            return true;
        }
    }
    return false;
}

static void the_watchdog_sleeps_while_nothing_runs(void **state) {
    (void)state;
    if (switches() < 0) {
        skip();
    }
    struct process process = spawn("while true do end");
    assert_true(parks());
    for (int i = 0; i < 10; i++) {
        assert_int_equal(run_slice(&process), LUA_YIELD);
    }
    assert_true(parks());
    assert_int_equal(run_slice(&process), LUA_YIELD);
}

/* }==== */

/* {==== Speed: told, not judged =========================================================== */

static uint64_t time_of_fib(lua_State *L, bool as_process) {
    lua_State *co = lua_newthread(L);
    luaL_loadstring(co, "local function fib(n) if n < 2 then return n end "
                        "return fib(n - 1) + fib(n - 2) end return fib(27)");
    int results;
    uint64_t begin = eng_slice_now();
    if (as_process) {
        while (eng_slice_run(&bench.slice, co, 0, &results) == LUA_YIELD) {
        }
    } else {
        lua_resume(co, NULL, 0, &results);
    }
    return eng_slice_now() - begin;
}

static void a_computation_runs_at_the_speed_of_plain_lua(void **state) {
    (void)state;
    NEEDS_SIGNALS();
    uint64_t plain = UINT64_MAX;
    uint64_t ours = UINT64_MAX;
    for (int i = 0; i < 5; i++) {
        uint64_t a = time_of_fib(bench.L, false);
        uint64_t b = time_of_fib(bench.L, true);
        plain = a < plain ? a : plain;
        ours = b < ours ? b : ours;
    }
    print_message("fib(27): %.1f ms plain, %.1f ms in slices\n", (double)plain / 1e6,
                  (double)ours / 1e6);
}

/* }==== */

int main(void) {
#define TEST(name)  cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define QUICK(name) cmocka_unit_test_setup_teardown(name, set_up_quick, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(two_spinners_share_evenly),
        QUICK(a_loop_inside_nested_coroutines_is_interrupted_and_carries_on),
        QUICK(interrupted_computations_give_the_right_result),
        QUICK(everything_composes_with_being_interrupted),
        QUICK(no_spinner_escapes),
        TEST(nothing_is_armed_while_nobody_overruns),
        TEST(a_spinner_below_a_deep_stack_is_interrupted),
        /* Hasty, so that the pauses are what keeps it from signalling more often. */
        cmocka_unit_test_setup_teardown(signals_back_off_when_a_deep_stack_makes_them_slow,
                                        set_up_hasty, tear_down),
        QUICK(waiting_inside_the_scripts_own_coroutines_continues),
        QUICK(where_waiting_is_impossible_is_known),
        QUICK(a_coroutine_in_use_by_one_process_is_not_resumed_or_closed_by_another),
        TEST(a_process_that_is_never_resumed_runs_nothing_any_more),
        QUICK(a_failed_process_runs_its_close_variables),
        TEST(a_process_that_ended_itself_in_a_comparator_goes_no_further),
        TEST(a_process_that_ended_itself_in_a_coroutine_goes_no_further),
        QUICK(coroutines_are_those_of_a_plain_lua),
        QUICK(luas_own_tests_pass),
        TEST(setting_a_hook_is_refused_with_the_reason),
        TEST(finalizers_use_coroutines_also_between_slices),
        TEST(a_long_call_into_c_is_reported_while_it_lasts),
        TEST(a_long_call_into_c_by_a_coroutine_is_reported),
        TEST(a_long_c_function_that_calls_others_is_reported),
        TEST(a_comparator_that_loops_is_reported),
        TEST(a_finalizer_that_loops_is_reported),
        TEST(the_watchdog_sleeps_while_nothing_runs),
        TEST(a_computation_runs_at_the_speed_of_plain_lua),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
