-- Sends terms back: `echo` after reading every part of them in every way a script can, `rebuild` as
-- new values made of what it read. Neither recurses, so nesting has no limit.

local terms = {}

local function check(condition, what, value)
  if not condition then
    error(what .. ", at a " .. erl.type(value), 2)
  end
end

-- {==== Reading a term =====================================================================

-- Each calls `visit` with every part of a value.
local read = {}

-- The elements 1..#seq by ipairs, pairs, # and indexing.
local function read_sequence(seq, visit)
  local count = 0
  for i, element in ipairs(seq) do
    count = count + 1
    check(i == count, "ipairs leaves one out", seq)
    check(rawequal(seq[i], element), "ipairs and indexing differ", seq)
    visit(element)
  end
  check(#seq == count, "# and ipairs differ", seq)
  if count <= 200 then
    check(select("#", table.unpack(seq)) == count, "unpack and ipairs differ", seq)
  end
  return count
end

local function read_elements(seq, visit)
  local count = read_sequence(seq, visit)
  local seen = 0
  for i, element in pairs(seq) do
    seen = seen + 1
    check(rawequal(seq[i], element), "pairs and indexing differ", seq)
  end
  check(seen == count, "pairs and # differ", seq)
  check(seq[count + 1] == nil and seq[0] == nil, "an element outside", seq)
end

read.list = read_elements
read.tuple = read_elements

function read.improper(list, visit)
  check(read_sequence(list, visit) > 0, "an improper list without elements", list)
  check(erl.type(list.tail) ~= "list", "an improper list that ends in a list", list)
  visit(list.tail)
end

function read.map(map, visit)
  for key, value in pairs(map) do
    check(key ~= nil, "a key that is nil", map)
    check(rawequal(erl.get(map, key), value), "pairs and erl.get differ", map)
    if math.type(key) ~= "float" then
      check(rawequal(map[key], value), "pairs and indexing differ", map)
    end
    visit(key)
    visit(value)
  end
end

function read.atom(value)
  check(atom(tostring(value)) == value, "an atom isn't its name", value)
end

function read.binary(value)
  check(#value == 0 or value:byte(-1), "a binary without bytes", value)
end

function read.bits(value)
  check(erl.bits(value.bytes, #value) == value, "bits are not their bytes", value)
end

function read.bigint(value)
  check(math.type(value) == nil, "a bigint that fits an integer", value)
  if value > -2.0 ^ 1023 and value < 2.0 ^ 1023 then -- larger ones make long texts
    check(erl.bigint(tostring(value)) == value, "a bigint isn't its text", value)
  end
end

local function read_identifier(value)
  check(({ [value] = 1 })[value] == 1, "no key", value)
  check(#tostring(value) > 0, "no text", value)
end

read.pid = read_identifier
read.port = read_identifier
read.reference = read_identifier
read.fun = read_identifier

local function read_all(term)
  local stack, top = { term }, 1
  local function visit(value)
    top = top + 1
    stack[top] = value
  end
  while top > 0 do
    local value = stack[top]
    stack[top] = nil
    top = top - 1
    local reader = read[erl.type(value)]
    if reader then
      reader(value, visit)
    end
  end
end

function terms:echo(term)
  read_all(term)
  return term
end

-- }====

-- {==== Making it anew =====================================================================

-- Each makes a container of the same kind with nothing in it yet, and `fill` puts in copies of what
-- the old one holds.
local make, fill = {}, {}

function make.list()
  return {}
end

function make.tuple(tuple)
  return erl.tuple(table.unpack({}, 1, #tuple))
end

function make.improper(list)
  local shell = {}
  for i = 1, #list do
    shell[i] = false
  end
  return erl.improper(shell, false)
end

-- A script can't make a key 1.0: such a map stays as it is.
function make.map(map)
  for key in pairs(map) do
    if math.type(key) == "float" and math.tointeger(key) then
      return map
    end
  end
  return {}
end

function fill.list(new, old, copy)
  for i, element in ipairs(old) do
    local value = copy(element)
    new[i] = value == nil and erl.null or value
  end
  erl.list(new)
end

function fill.tuple(new, old, copy)
  for i, element in ipairs(old) do
    new[i] = copy(element)
  end
end

function fill.improper(new, old, copy)
  for i, element in ipairs(old) do
    new[i] = copy(element)
  end
  new.tail = copy(old.tail)
end

function fill.map(new, old, copy)
  for key, value in pairs(old) do
    local copied = copy(value)
    new[copy(key)] = copied == nil and erl.null or copied
  end
  erl.map(new)
end

function terms:rebuild(term)
  local pending = {}
  local function copy(value)
    local maker = make[erl.type(value)]
    local new = maker and maker(value) or value
    if maker and not rawequal(new, value) then
      pending[#pending + 1] = { erl.type(value), new, value }
    end
    return new
  end
  local result = copy(term)
  while #pending > 0 do
    local kind, new, old = table.unpack(table.remove(pending))
    fill[kind](new, old, copy)
  end
  return result
end

-- }====

return terms
