std = "lua54"
max_line_length = 100
self = false -- a function of a handler has it, used or not
-- The globals that lunode gives a handler.
globals = {}
read_globals = { "erl", "atom" }
files["tests/lua/**/*_spec.lua"] = { std = "+busted" }
files["lua/lunode/meta/*.lua"] = { ignore = { "111", "112", "113", "121", "122", "212", "131" } }
