/* The memory of encodings, of which there is one at a time. It is taken from Lua's allocator
 * without making an object of Lua's, which might collect garbage; a userdata owns it, and frees it
 * when the state closes. */
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

void term_encode_relax(lua_State *L, struct encode_memory *memory) {
    if (memory->closed || memory->frames_cap > KEEP) {
        free_frames(L, memory);
    }
    if (memory->closed || memory->ranges_cap > KEEP) {
        free_ranges(L, memory);
    }
}

void term_encode_open(lua_State *L, struct term_state *state) {
    state->encode_memory = lua_newuserdatauv(L, sizeof *state->encode_memory, 0);
    *state->encode_memory = (struct encode_memory){0};
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, free_memory);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushliteral(L, "tail");
    state->tail = luaL_ref(L, LUA_REGISTRYINDEX);
}
