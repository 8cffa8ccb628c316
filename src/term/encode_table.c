/* The encoder's second look at a table whose keys don't come as 1, 2, 3, ... */
#include <lauxlib.h>
#include <stdio.h>

#include "base/ext.h"
#include "term/encode.h"

enum { MAX_HOLES = 64 }; /* a list may have as many, and as many more as it has elements */

/* What the keys of a table are. */
struct keys {
    lua_Integer largest; /* of the positive integers */
    lua_Integer count;   /* of those */
    bool strays;         /* there are others; one of them is left on the stack */
};

/* Looks at all keys of the table; pushes one that is no positive integer, else nil. [-0, +1, m] */
static struct keys look_at(lua_State *L, int at) {
    struct keys keys = {0};
    lua_pushnil(L);
    lua_pushnil(L); /* stray, key */
    while (lua_next(L, at)) {
        lua_pop(L, 1);
        if (lua_isinteger(L, -1) && lua_tointeger(L, -1) > 0) {
            lua_Integer key = lua_tointeger(L, -1);
            keys.largest = key > keys.largest ? key : keys.largest;
            keys.count++;
        } else {
            keys.strays = true;
            lua_copy(L, -1, -2);
        }
    }
    return keys;
}

/* The frame goes on as an array of that length. */
static bool walk_array(struct encoder *e, struct frame *frame, lua_Integer length) {
    lua_settop(e->L, frame->at);
    if (length > UINT32_MAX) {
        return term_encode_fail(e, e->depth - 1, "a list of more than %u elements", UINT32_MAX);
    }
    frame->walk = WALK_ARRAY;
    frame->count = (uint32_t)length;
    return true;
}

/* The stray key on the top in words; what could run a script's code is named by its type alone.
 * [-0, +0, -] */
static void inspect_stray(lua_State *L, char *text, size_t size) {
    if (lua_istable(L, -1) || lua_type(L, -1) == LUA_TUSERDATA) {
        (void)snprintf(text, size, "(%s)", term_type_name(L, -1));
    } else {
        term_inspect(L, -1, text, size);
    }
}

/* A marked list: holes are nils. [-1, +0, m] */
static bool sort_out_list(struct encoder *e, struct frame *frame, struct keys keys) {
    char key[64];
    if (keys.strays) {
        inspect_stray(e->L, key, sizeof key);
        return term_encode_fail(e, e->depth - 1, "a list with the key %s", key);
    }
    if (keys.largest / 2 - MAX_HOLES / 2 > keys.count) {
        return term_encode_fail(e, e->depth - 1,
                                "a list of %lld elements whose last has index %lld",
                                (long long)keys.count, (long long)keys.largest);
    }
    return walk_array(e, frame, keys.largest);
}

/* A bare table that has a key 1 and is no array: names the key that is in the way. [-1, +0, m] */
static bool refuse_mixed(struct encoder *e, struct frame *frame, struct keys keys) {
    char key[64];
    if (keys.strays) {
        inspect_stray(e->L, key, sizeof key);
        return term_encode_fail(e, e->depth - 1,
                                "has key 1 and also key %s: say erl.list{} or erl.map{}", key);
    }
    lua_Integer hole = 2;
    while (lua_rawgeti(e->L, frame->at, hole) != LUA_TNIL) {
        lua_pop(e->L, 1);
        hole++;
    }
    return term_encode_fail(e, e->depth - 1,
                            "has keys 1 and %lld and no key %lld: say erl.list{} or erl.map{}",
                            (long long)keys.largest, (long long)hole);
}

/* The frame starts anew as a map. [-0, +1, -] */
static bool walk_map(struct encoder *e, struct frame *frame) {
    lua_settop(e->L, frame->at);
    lua_pushnil(e->L);
    frame->walk = WALK_MAP;
    frame->kind = KIND_MAP;
    e->out->data[frame->start] = EXT_MAP;
    return true;
}

bool term_encode_sort_out(struct encoder *e, struct frame *frame) {
    lua_State *L = e->L;
    lua_settop(L, frame->at);
    bool bare = frame->kind == KIND_NONE;
    if (bare && lua_rawgeti(L, frame->at, 1) == LUA_TNIL) {
        return walk_map(e, frame);
    }
    struct keys keys = look_at(L, frame->at);
    if (!bare) {
        return sort_out_list(e, frame, keys);
    }
    if (keys.strays || keys.largest != keys.count) {
        return refuse_mixed(e, frame, keys);
    }
    return walk_array(e, frame, keys.largest);
}
