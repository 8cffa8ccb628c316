/* For the program lunode_native alone: see native.c. */
#ifndef LUNODE_TESTS_NATIVE_H
#define LUNODE_TESTS_NATIVE_H

#include <lua.h>

/* Pushes the table `native`. [-0, +1, m] */
void native_push(lua_State *L);

#endif
