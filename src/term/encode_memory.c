/* The memory of encodings, taken from Lua's allocator without making an object of Lua's, which
 * might collect garbage. A userdata owns it, so that an error that is raised doesn't leak it; the
 * state keeps one for the next encoding. */
#include <lauxlib.h>

#include "term/encode.h"

enum {
    FIRST = 16,
    KEEP = 1024 /* frames or ranges that are kept */
};

/* Makes room for `to` items of `size` bytes, or frees for 0. [-0, +0, -] */
static void *resize(lua_State *L, void *old, size_t from, size_t to, size_t size) {
    void *ud;
    lua_Alloc allocate = lua_getallocf(L, &ud);
    return allocate(ud, old, from * size, to * size);
}

static void free_frames(lua_State *L, struct encode_memory *memory) {
    resize(L, memory->frames, memory->frames_cap, 0, sizeof *memory->frames);
    memory->frames = NULL;
    memory->frames_cap = 0;
}

static void free_ranges(lua_State *L, struct encode_memory *memory) {
    resize(L, memory->ranges, memory->ranges_cap, 0, sizeof *memory->ranges);
    memory->ranges = NULL;
    memory->ranges_cap = 0;
}

static size_t grown(size_t cap) {
    return cap == 0 ? FIRST : 2 * cap;
}

bool term_encode_grow_frames(lua_State *L, struct encode_memory *memory) {
    size_t cap = grown(memory->frames_cap);
    struct frame *frames =
        resize(L, memory->frames, memory->frames_cap, cap, sizeof *memory->frames);
    if (frames == NULL) {
        return false;
    }
    memory->frames = frames;
    memory->frames_cap = cap;
    return true;
}

bool term_encode_grow_ranges(lua_State *L, struct encode_memory *memory) {
    size_t cap = grown(memory->ranges_cap);
    struct range *ranges =
        resize(L, memory->ranges, memory->ranges_cap, cap, sizeof *memory->ranges);
    if (ranges == NULL) {
        return false;
    }
    memory->ranges = ranges;
    memory->ranges_cap = cap;
    return true;
}

static int free_memory(lua_State *L) {
    struct encode_memory *memory = lua_touserdata(L, 1);
    free_frames(L, memory);
    free_ranges(L, memory);
    memory->closed = true;
    return 0;
}

/* [-0, +1, m] */
static struct encode_memory *push_memory(lua_State *L, struct term_state *state) {
    struct encode_memory *memory = lua_newuserdatauv(L, sizeof *memory, 0);
    *memory = (struct encode_memory){0};
    lua_rawgeti(L, LUA_REGISTRYINDEX, state->encode_metatable);
    lua_setmetatable(L, -2);
    return memory;
}

/* There is none to take while the path of an error is written, which may run a finalizer, and after
 * an error that was raised: a new one is made then, which the state keeps instead. */
struct encode_memory *term_encode_take_memory(lua_State *L, struct term_state *state) {
    struct encode_memory *memory = state->encode_memory;
    if (memory == NULL) {
        return push_memory(L, state);
    }
    state->encode_memory = NULL;
    lua_pushnil(L);
    return memory;
}

void term_encode_give_memory(lua_State *L, struct term_state *state, struct encode_memory *memory) {
    if (memory->closed || memory->frames_cap > KEEP) {
        free_frames(L, memory);
    }
    if (memory->closed || memory->ranges_cap > KEEP) {
        free_ranges(L, memory);
    }
    state->encode_memory = memory;
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
    } else {
        lua_rawseti(L, LUA_REGISTRYINDEX, state->encode_memory_ref);
    }
}

void term_encode_open(lua_State *L, struct term_state *state) {
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, free_memory);
    lua_setfield(L, -2, "__gc");
    state->encode_metatable = luaL_ref(L, LUA_REGISTRYINDEX);
    state->encode_memory = push_memory(L, state);
    state->encode_memory_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushliteral(L, "tail");
    state->tail = luaL_ref(L, LUA_REGISTRYINDEX);
}
