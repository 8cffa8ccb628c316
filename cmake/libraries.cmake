# Finds the libraries. One that is missing stops the build with the name of its Debian package.

find_package(PkgConfig)
if(NOT PkgConfig_FOUND)
  message(FATAL_ERROR "pkg-config is missing. On Debian: apt-get install pkg-config")
endif()

# lunode_library(PREFIX package DEBIAN module...): the first module that pkg-config knows.
function(lunode_library prefix debian)
  pkg_search_module(${prefix} IMPORTED_TARGET GLOBAL ${ARGN})
  if(NOT ${prefix}_FOUND)
    message(FATAL_ERROR "${ARGV2} is missing. On Debian: apt-get install ${debian}")
  endif()
endfunction()

lunode_library(LUA liblua5.4-dev "lua5.4>=5.4" "lua-5.4>=5.4" "lua54>=5.4" "lua>=5.4")
lunode_library(UV libuv1-dev "libuv>=1.41")
lunode_library(GMP libgmp-dev gmp)
lunode_library(EDIT libedit-dev libedit)
if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  lunode_library(SECCOMP libseccomp-dev "libseccomp>=2.5")
endif()

find_path(UTHASH_INCLUDE_DIR uthash.h)
if(NOT UTHASH_INCLUDE_DIR)
  message(FATAL_ERROR "uthash is missing. On Debian: apt-get install uthash-dev")
endif()
include_directories(SYSTEM ${UTHASH_INCLUDE_DIR})

find_path(MIMALLOC_INCLUDE_DIR mimalloc.h)
find_library(MIMALLOC_LIBRARY mimalloc)
if(NOT MIMALLOC_INCLUDE_DIR OR NOT MIMALLOC_LIBRARY)
  message(FATAL_ERROR "mimalloc is missing. On Debian: apt-get install libmimalloc-dev")
endif()
include_directories(SYSTEM ${MIMALLOC_INCLUDE_DIR})

# ei: where elixir_make and Nerves say it is, else where erl says.
set(ei_include $ENV{ERL_EI_INCLUDE_DIR})
set(ei_lib $ENV{ERL_EI_LIBDIR})
if(NOT ei_include OR NOT ei_lib)
  find_program(ERL erl)
  if(ERL)
    execute_process(
      COMMAND ${ERL} -noshell -eval "io:put_chars(code:lib_dir(erl_interface)), halt()."
      OUTPUT_VARIABLE ei_root)
    set(ei_include ${ei_root}/include)
    set(ei_lib ${ei_root}/lib)
  endif()
endif()
find_path(EI_INCLUDE_DIR ei.h HINTS ${ei_include})
find_library(EI_LIBRARY ei HINTS ${ei_lib})
if(NOT EI_INCLUDE_DIR OR NOT EI_LIBRARY)
  message(FATAL_ERROR "ei (Erlang's C interface) is missing. On Debian: apt-get install erlang-dev "
                      "erlang-base; elsewhere set ERL_EI_INCLUDE_DIR and ERL_EI_LIBDIR")
endif()
find_package(Threads REQUIRED)
add_library(Ei::Ei UNKNOWN IMPORTED)
set_target_properties(Ei::Ei PROPERTIES IMPORTED_LOCATION ${EI_LIBRARY}
                      INTERFACE_INCLUDE_DIRECTORIES ${EI_INCLUDE_DIR}
                      INTERFACE_LINK_LIBRARIES Threads::Threads)
