defmodule Lunode.Attacks.TimeInCTest do
  @moduledoc "Single calls into C that take for ever, where no hook reaches."
  use Lunode.Test.Attack

  # {==== Patterns ==============================================================================

  attack "a pattern that goes back and back", :stopped, ~S"""
  return ("a"):rep(3000):find((".-"):rep(6) .. "b")
  """

  attack "the same by string.match", :stopped, ~S"""
  return ("a"):rep(3000):match((".-"):rep(6) .. "b")
  """

  attack "the same by string.gmatch", :stopped, ~S"""
  for _ in ("a"):rep(3000):gmatch((".-"):rep(6) .. "b") do end
  """

  attack "the same by string.gsub, inside pcall", :stopped, ~S"""
  while true do pcall(string.gsub, ("a"):rep(3000), (".*"):rep(6) .. "b", "") end
  """

  attack "brackets without their partners in a long string", :stopped, ~S"""
  return ("("):rep(1000000):find("%b()")
  """

  attack "a frontier and a class that is long", :stopped, ~S"""
  return ("a"):rep(100000):find("%f[" .. ("b"):rep(100000) .. "]")
  """

  attack "a back reference, everywhere", :stopped, ~S"""
  return ("a"):rep(20000):find("(.-)(.-)%1%2b")
  """

  attack "a plain search in a long string for one that nearly is there", :stopped, ~S"""
  return ("a"):rep(2000000):find(("a"):rep(1000000) .. "b", 1, true)
  """

  attack "a pattern that recurses until C's stack is full", {:error, ~r/too complex/}, ~S"""
  return ("a"):rep(400000):find(("a?"):rep(400000))
  """

  # }====

  # {==== Strings ===============================================================================

  attack "string.rep of nothing, 2^60 times", :stopped, ~S"""
  return #(""):rep(1 << 60)
  """

  attack "string.rep that is beyond all numbers", {:error, ~r/too large/}, ~S"""
  return ("xx"):rep(math.maxinteger)
  """

  attack "string.format with a width of 99999", {:error, ~r/invalid|conversion/}, ~S"""
  return ("%99999d"):format(1)
  """

  attack "string.format with a precision of 99999", {:error, ~r/invalid|conversion/}, ~S"""
  return ("%.99999f"):format(1)
  """

  attack "string.format of numbers as long as they get, for ever", :time, ~S"""
  local format = ("%99.99f"):rep(50)
  local values = {}
  for i = 1, 50 do values[i] = -1e308 end
  while true do format:format(table.unpack(values)) end
  """

  attack "string.byte of four million characters", {:error, ~r/too long|stack/}, ~S"""
  return ("x"):rep(4000000):byte(1, -1)
  """

  attack "string.char of as many", :refused, ~S"""
  return string.char(table.unpack({}, 1, 900000))
  """

  attack "utf8.codepoint of four million characters", {:error, ~r/too long|stack/}, ~S"""
  return utf8.codepoint(("x"):rep(4000000), 1, -1)
  """

  attack "utf8.codes over a long string, again and again", :time, ~S"""
  local s = ("\u{10FFFF}"):rep(500000)
  while true do for _ in utf8.codes(s) do end end
  """

  attack "utf8.len and utf8.offset of a long string, again and again", :time, ~S"""
  local s = ("\u{10FFFF}"):rep(500000)
  while true do utf8.len(s) utf8.offset(s, 400000) end
  """

  attack "string.reverse, upper and lower of a long string, again and again", :time, ~S"""
  local s = ("x"):rep(1000000)
  while true do s = s:reverse():upper():lower() end
  """

  attack "tonumber of a long string, again and again", :time, ~S"""
  local s = ("z"):rep(1000000)
  while true do tonumber(s, 36) tonumber(s) end
  """

  attack "string.pack that fills up a billion bytes", :memory, ~S"""
  return #string.pack("c1000000000", "")
  """

  attack "string.unpack of a million values", :refused, ~S"""
  return string.unpack(("b"):rep(1000000), ("x"):rep(1000000))
  """

  attack "string.packsize that overflows", {:error, ~r/too large|overflow/}, ~S"""
  return string.packsize(("c214748364"):rep(11))
  """

  # }====

  # {==== Tables ================================================================================

  attack "table.move over a billion of billions", :stopped, ~S"""
  table.move({}, 1, 1000000000000000000, 2)
  """

  attack "table.concat of a table that is everywhere", :stopped, ~S"""
  table.concat(setmetatable({}, { __index = function() return "" end }), "", 1, 1 << 60)
  """

  attack "table.unpack of 2^40 values", {:error, ~r/too many results/}, ~S"""
  return table.unpack({}, 1, 1 << 40)
  """

  attack "table.unpack of nearly as many as there may be, for ever",
         {:limit, [:time, :memory]},
         ~S"""
         while true do pcall(table.unpack, {}, 1, 200000) end
         """

  attack "table.insert before 2^40 elements that are not there", :stopped, ~S"""
  table.insert(setmetatable({}, { __len = function() return 1 << 40 end }), 1, 1)
  """

  attack "table.remove before 2^40 elements that are not there", :stopped, ~S"""
  table.remove(setmetatable({}, { __len = function() return 1 << 40 end }), 1)
  """

  attack "table.sort of 2^30 elements that are not there", :stopped, ~S"""
  local t = setmetatable({}, { __len = function() return 1 << 30 end })
  table.sort(t, function() return false end)
  """

  attack "table.sort by an order that is none", {:error, ~r/invalid order function/}, ~S"""
  local t = {}
  for i = 1, 1000 do t[i] = i end
  table.sort(t, function() return true end)
  """

  attack "table.sort of a table that its comparator empties", :refused, ~S"""
  local t = {}
  for i = 1, 1000 do t[i] = i end
  table.sort(t, function(a, b)
    for i = 1, 1000 do t[i] = nil end
    return a < b
  end)
  error("sorted")
  """

  attack "keys that all fall into one place", {:limit, [:time, :memory]}, ~S"""
  local t = {}
  for i = 1, math.maxinteger do t[i * ((1 << 20) - 1)] = true end
  """

  # }====

  # {==== Terms =================================================================================

  attack "a table that holds itself twice, 64 times over, as a reply", :refused, ~S"""
  local t = { 1 }
  for _ = 1, 64 do t = { t, t } end
  return t
  """

  attack "the same by erl.encode", :refused, ~S"""
  local t = { 1 }
  for _ = 1, 64 do t = { t, t } end
  return erl.encode(t)
  """

  attack "the same as an error", :refused, ~S"""
  local t = { 1 }
  for _ = 1, 64 do t = { t, t } end
  error(t)
  """

  attack "the same as the keys of a map", :refused, ~S"""
  local t = erl.tuple(1)
  for _ = 1, 64 do t = erl.tuple(t, t) end
  return erl.map({ [t] = 1 })
  """

  attack "the same as a message to itself", :refused, ~S"""
  local t = { 1 }
  for _ = 1, 64 do t = { t, t } end
  erl.send(erl.self(), t)
  """

  attack "the same as what is looked for in a map", :refused, ~S"""
  local function deep()
    local t = erl.tuple(1)
    for _ = 1, 64 do t = erl.tuple(t, t) end
    return t
  end
  erl.get(erl.map({ [deep()] = 1 }), deep())
  error("found")
  """

  attack "the same as the reason of an exit",
         fn outcome ->
           assert {:ended, :call, reason} = outcome
           assert byte_size(:erlang.term_to_binary(reason)) < 2 * 1_048_576
         end,
         ~S"""
         local t = { 1 }
         for _ = 1, 64 do t = { t, t } end
         erl.exit(t)
         """

  attack "erl.encode of a long list, for ever", :time, ~S"""
  local t = {}
  for i = 1, 20000 do t[i] = i end
  while true do erl.encode(t) end
  """

  attack "erl.decode of a list that claims to be 2^32 long",
         {:error, ~r/cut off|corrupted/},
         ~S"""
         return erl.decode("\131l\255\255\255\255" .. ("a\1"):rep(1000))
         """

  attack "erl.decode of a tuple that claims to be 2^32 long",
         {:error, ~r/cut off|corrupted/},
         ~S"""
         return erl.decode("\131i\255\255\255\255" .. ("a\1"):rep(1000))
         """

  attack "erl.decode of a map that claims 2^32 keys", {:error, ~r/cut off|corrupted/}, ~S"""
  return erl.decode("\131t\255\255\255\255" .. ("a\1"):rep(1000))
  """

  attack "erl.decode of a big integer that claims 2^32 digits",
         {:error, ~r/cut off|corrupted/},
         ~S"""
         return erl.decode("\131o\255\255\255\255\0" .. ("a"):rep(1000))
         """

  attack "erl.decode of lists in lists, half a million deep", :refused, ~S"""
  return erl.decode("\131" .. ("l\0\0\0\1"):rep(500000))
  """

  attack "erl.decode of what was compressed a thousand times", {:error, ~r/compressed/}, ~S"""
  return erl.decode("\131P\127\255\255\255" .. "\120\156\3\0\0\0\0\1")
  """

  # }====

  # {==== Big integers ==========================================================================

  attack "a power that does not fit anywhere", :refused, ~S"""
  return erl.bigint("100000000000000000000") ^ (1 << 40)
  """

  attack "a power of 160 million bits", :refused, ~S"""
  return erl.bigint("100000000000000000000") ^ 2500000
  """

  attack "a shift by 2^62", :refused, ~S"""
  return erl.bigint("100000000000000000000") << (1 << 62)
  """

  attack "a number that is squared again and again", :refused, ~S"""
  local x = erl.bigint("100000000000000000000")
  while true do x = x * x end
  """

  attack "a long multiplication, for ever", :stopped, ~S"""
  local x = erl.bigint("100000000000000000000") ^ 25000
  while true do local y = x * (x + 1) end
  """

  attack "the decimal digits of a long number, for ever", :stopped, ~S"""
  local x = erl.bigint("100000000000000000000") ^ 60000
  while true do tostring(x) end
  """

  attack "a number from a million digits, for ever", :stopped, ~S"""
  local s = ("9"):rep(1000000)
  while true do erl.bigint(s) end
  """

  attack "a division of long numbers, for ever", :stopped, ~S"""
  local ten = erl.bigint("100000000000000000000")
  local x, y = ten ^ 40000, ten ^ 10000 + 7
  while true do local q, r = x // y, x % y end
  """

  # }====

  # {==== The compiler and the rest =============================================================

  attack "a chunk with tens of thousands of labels", :refused, ~S"""
  local p = {}
  for i = 1, 30000 do p[i] = "goto a" .. i .. " ::l" .. i .. "::" end
  assert(load(table.concat(p, "\n")))
  error("compiled")
  """

  attack "a long chunk that is compiled for ever", :time, ~S"""
  local s = ("x = 1 "):rep(20000)
  while true do load(s) end
  """

  attack "os.date with a long format, for ever", :time, ~S"""
  local format = ("%c"):rep(1000)
  while true do os.date(format) end
  """

  attack "os.date and os.time far away", {:error, ~r/time|date|represented|out/}, ~S"""
  os.time({ year = math.maxinteger, month = 1, day = 1 })
  """

  attack "full collections, for ever", :refused, ~S"""
  local t = {}
  for i = 1, 50000 do t[i] = {} end
  while true do collectgarbage() end
  """

  # }====
end
