/* The version of lunode: the one place it is written. CMake and mix.exs read it from here. */
#ifndef LUNODE_VERSION_H
#define LUNODE_VERSION_H

#define LUNODE_VERSION "0.1.0"

#endif
