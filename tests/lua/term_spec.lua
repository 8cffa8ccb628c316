-- Terms as Lua values: every type, and every rule that a script can see.
-- Run: LUA_CPATH="build/lua/?.so;;" busted --lua=lua5.4 tests/lua
local term = require "lunode.term"
local atom, tuple, list, map, null = term.atom, term.tuple, term.list, term.map, term.null

local function pass(value)
  return term.decode(term.encode(value))
end

local function fails(message, f, ...)
  local ok, err = pcall(f, ...)
  assert.is_false(ok)
  assert.are.equal(message, (tostring(err):gsub("^[^ ]*%.lua:%d+: ", "")))
end

-- A map with its entries in the order of their text.
local function sorted(m)
  local entries = {}
  for k, v in pairs(m) do
    entries[#entries + 1] = ("%s => %s"):format(tostring(tuple(k)):sub(2, -2),
      tostring(tuple(v)):sub(2, -2))
  end
  table.sort(entries)
  return "%{" .. table.concat(entries, ", ") .. "}"
end

-- An external term from bytes.
local function ext(...)
  return term.decode(string.char(131, ...))
end

local NIL = { 119, 3, 110, 105, 108 }

local function bytes_of(...)
  local out = {}
  for _, part in ipairs { ... } do
    if type(part) == "table" then
      table.move(part, 1, #part, #out + 1, out)
    else
      out[#out + 1] = part
    end
  end
  return table.unpack(out)
end

describe("numbers", function()
  it("of every size come back", function()
    for _, n in ipairs { 0, 1, -1, 255, 256, -256, 2 ^ 31 - 1 | 0, -(2 ^ 31) | 0, 2 ^ 31 | 0,
      2 ^ 62 | 0,
      math.maxinteger, math.mininteger } do
      assert.are.equal(n, pass(n))
      assert.are.equal("integer", math.type(pass(n)))
    end
  end)

  it("are encoded as small as Erlang encodes them", function()
    assert.are.equal("\131a\255", term.encode(255))
    assert.are.equal("\131b\0\0\1\0", term.encode(256))
    assert.are.equal("\131b\255\255\255\255", term.encode(-1))
    assert.are.equal("\131n\4\0\0\0\0\128", term.encode(1 << 31))
    assert.are.equal("\131n\8\1\0\0\0\0\0\0\0\128", term.encode(math.mininteger))
  end)

  it("beyond 64 bits are bigints, and normalise", function()
    local big = ext(110, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
    assert.are.equal("bigint", term.type(big))
    assert.are.equal("18446744073709551616", tostring(big))
    assert.are.equal("\131n\9\0\0\0\0\0\0\0\0\0\1", term.encode(big))
    assert.are.equal(7, ext(111, 0, 0, 0, 9, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0))
  end)

  it("larger than any BEAM's are refused", function()
    local function big(len)
      return ("\131o%s\0%s"):format((">I4"):pack(len), ("\1"):rep(len))
    end
    assert.are.equal(big(4194296), term.encode(term.decode(big(4194296))))
    fails("corrupted term at byte 0: an integer of 4194297 bytes: the limit is 4194296",
      term.decode, big(4194297))
  end)

  it("that are floats stay floats", function()
    for _, x in ipairs { 1.0, -1.5, 5.0e-324, 1.7976931348623157e308 } do
      assert.are.equal(x, pass(x))
      assert.are.equal("float", math.type(pass(x)))
    end
    assert.are.equal(-math.huge, 1 / pass(-0.0))
  end)

  it("that are none are refused, both ways", function()
    fails("value: cannot send NaN", term.encode, 0 / 0)
    fails("value: cannot send infinity", term.encode, -math.huge)
    fails("corrupted term at byte 0: a float that is no number", ext, 70, 127, 240, 0, 0, 0, 0,
      0, 0)
  end)
end)

describe("atoms", function()
  it("are equal when their names are", function()
    assert.are.equal(atom.ok, atom "ok")
    assert.are.equal(atom["odd name"], pass(atom "odd name"))
    assert.are.equal("odd name", tostring(atom["odd name"]))
    assert.are_not.equal("ok", atom.ok)
    assert.are.equal("atom", term.type(atom.ok))
  end)

  it("true, false and nil are what they are in Lua", function()
    assert.is_true(atom["true"])
    assert.is_false(atom "false")
    assert.is_nil(atom["nil"])
    assert.is_true(pass(true))
    assert.is_nil(pass(nil))
    assert.is_nil(pass(null))
    assert.are.equal("nil", tostring(null))
    assert.are.equal("nil", term.type(null))
  end)

  it("of old tags are Latin-1", function()
    assert.are.equal("\u{e9}", tostring(ext(100, 0, 1, 0xE9)))
    assert.are.equal(atom "\u{e9}", ext(115, 1, 0xE9))
  end)

  it("have at most 255 characters, of any size", function()
    local long = ("\u{1F600}"):rep(255)
    assert.are.equal(atom(long), pass(atom(long)))
    fails("an atom of 256 characters: the limit is 255", atom, ("x"):rep(256))
    fails("an atom's name must be valid UTF-8", atom, "\255")
    fails("an atom's name must be valid UTF-8", atom, "\xED\xA0\x80")
    fails("an atom's name is a string, not a integer", atom, 1)
  end)

  it("cannot be assigned to", function()
    fails("atoms cannot be assigned to", function() atom.never_made_before = 1 end)
    local made = atom.made_before
    fails("atoms cannot be assigned to", function() atom.made_before = 1 end)
    assert.are.equal(made, atom.made_before)
  end)
end)

describe("binaries and bits", function()
  it("of whole bytes are strings", function()
    for _, s in ipairs { "", "a\0b", ("x"):rep(100000), "\255\254" } do
      assert.are.equal(s, pass(s))
    end
    assert.are.equal("a", term.bits("ab", 8))
    assert.are.equal("ab", ext(77, 0, 0, 0, 2, 8, 97, 98))
  end)

  it("of other sizes are bits", function()
    local b = term.bits("\255\255", 11)
    assert.are.equal(11, #b)
    assert.are.equal("\255\224", b.bytes)
    assert.are.equal(b, pass(b))
    assert.are.equal(b, ext(77, 0, 0, 0, 2, 3, 255, 255))
    assert.are_not.equal(b, term.bits("\255\255", 12))
    assert.are.equal("bits", term.type(b))
    assert.are.equal("<<255, 7::size(3)>>", tostring(b))
    assert.has_error(function() term.bits("a", 9) end)
  end)
end)

describe("tuples", function()
  it("keep nil and have a fixed length", function()
    local t = pass(tuple(nil, 2, nil))
    assert.are.equal("tuple", term.type(t))
    assert.are.equal(3, #t)
    assert.are.same({ n = 3, nil, 2, nil }, table.pack(table.unpack(t)))
    t[1], t[3] = "a", "c"
    assert.are.equal('{"a", 2, "c"}', tostring(pass(t)))
  end)

  it("take no element past the end", function()
    local t = tuple(1, 2)
    fails("a tuple of 2 elements has no element 3", function() t[3] = 1 end)
    fails("a tuple of 2 elements has no element x", function() t.x = 1 end)
    assert.is_nil(t[3])
    assert.is_nil(t.x)
  end)

  it("of every arity come back", function()
    for _, n in ipairs { 0, 1, 255, 256, 70000 } do
      local l = list {}
      for i = 1, n do l[i] = i end
      local t = pass(tuple(table.unpack(l)))
      assert.are.equal(n, #t)
      assert.are.equal(n > 0 and n or nil, t[n])
    end
  end)

  it("are walked to the end by pairs and ipairs", function()
    local t, seen = tuple(nil, 2, nil), {}
    for i, v in term.ipairs(t) do seen[i] = tostring(v) end
    assert.are.same({ "nil", "2", "nil" }, seen)
    seen = {}
    for i, v in pairs(t) do seen[i] = tostring(v) end
    assert.are.same({ "nil", "2", "nil" }, seen)
  end)

  it("cannot be faked", function()
    assert.are.equal("tuple", getmetatable(tuple(1)))
    assert.has_error(function() setmetatable({}, getmetatable(tuple(1))) end)
    assert.has_error(function() setmetatable(tuple(1), {}) end)
  end)
end)

describe("lists", function()
  it("grow like tables", function()
    local l = pass(list { 1, 2 })
    l[#l + 1] = 3
    table.insert(l, 4)
    assert.are.equal("[1, 2, 3, 4]", tostring(pass(l)))
    assert.are.equal("list", term.type(l))
    assert.are.equal("list", term.type(pass({ 1 })))
    assert.are.equal("[]", tostring(pass({})))
  end)

  it("of bytes and charlists are lists of integers", function()
    assert.are.equal("[104, 105]", tostring(ext(107, 0, 2, 104, 105)))
    local l = list {}
    for i = 1, 70000 do l[i] = i % 256 end
    assert.are.equal(70000, #pass(l))
  end)

  it("that arrive with a nil have a fixed length", function()
    local l = pass(list { 1, null, 3, null })
    assert.are.equal("list", term.type(l))
    assert.are.equal(4, #l)
    assert.is_nil(l[2])
    l[2] = "two"
    fails("a list that arrived with a nil in it keeps its 4 elements: "
      .. "erl.list(l) makes one that grows",
      function() l[5] = 1 end)
    assert.are.equal('[1, "two", 3, nil]', tostring(pass(l)))
    local grown = list(l)
    grown[5] = 5
    assert.are.equal('[1, "two", 3, nil, 5]', tostring(pass(grown)))
  end)

  it("that were marked may have holes, yet no other keys", function()
    local l = list { 1, 2, 3 }
    l[2] = nil
    assert.are.equal("[1, nil, 3]", tostring(pass(l)))
    local holes = list {}
    holes[3] = 1
    assert.are.equal("[nil, nil, 1]", tostring(pass(holes)))
    fails('value: a list with the key "x"', term.encode, list { 1, x = 2 })
    fails("value: a list with the key 1.5", term.encode, list { 1, [1.5] = 2 })
    fails("value: a list with the key 0", term.encode, list { 1, [0] = 2 })
    fails("value: a list of 1 elements whose last has index 1000", term.encode, list { [1000] = 1 })
  end)

  it("go on in their tail", function()
    assert.are.equal("[1, 2, 3]", tostring(ext(108, 0, 0, 0, 1, 97, 1, 108, 0, 0, 0, 1, 97, 2,
      107, 0, 1, 3)))
    assert.are.equal("[1]", tostring(ext(108, 0, 0, 0, 1, 97, 1, 108, 0, 0, 0, 0, 106)))
    assert.are.equal(5, ext(108, 0, 0, 0, 0, 97, 5))
  end)

  it("that are improper have elements and a tail", function()
    local l = pass(term.improper({ 1, nil, 3 }, "end"))
    assert.are.equal("improper", term.type(l))
    assert.are.equal(3, #l)
    assert.are.equal("end", l.tail)
    assert.are.equal('[1, nil, 3 | "end"]', tostring(l))
    l.tail = nil
    assert.are.equal("[1, nil, 3 | nil]", tostring(pass(l)))
    l.tail = list { 4 }
    fails("value.tail: the tail of an improper list is no list", term.encode, l)
    fails("an improper list of 3 elements has no element 4", function() l[4] = 1 end)
    assert.has_error(function() term.improper({}, 1) end)
    assert.has_error(function() term.improper({ 1 }, list {}) end)
  end)

  it("are copied, not marked, when they are ours", function()
    local a = list { 1 }
    local b = list(a)
    b[2] = 2
    assert.are.equal(1, #a)
    assert.are.equal("[1, nil]", tostring(pass(list(tuple(1, nil)))))
    assert.has_error(function() list(map {}) end)
    assert.has_error(function() list(setmetatable({}, {})) end)
  end)
end)

describe("bare tables", function()
  it("are lists or maps by their keys", function()
    assert.are.equal("list", term.type(pass { 1, 2 }))
    assert.are.equal("map", term.type(pass { x = 1 }))
    assert.are.equal("map", term.type(pass { [2] = 1, [3] = 1 }))
    assert.are.equal("[1, 2, 3]", tostring(pass { [3] = 3, [2] = 2, [1] = 1 }))
    assert.are.equal("map", term.type(pass(map { 1, 2 })))
  end)

  it("that are mixed are refused with the key", function()
    fails('value.a: has key 1 and also key "x": say erl.list{} or erl.map{}', term.encode,
      { a = { 1, x = 2 } })
    fails("value: has keys 1 and 4 and no key 2: say erl.list{} or erl.map{}", term.encode, { 1,
      [4] = 2 })
    fails("value: has key 1 and also key -1: say erl.list{} or erl.map{}", term.encode, { 1,
      [-1] = 2 })
  end)

  it("of a script's own class are taken as they are", function()
    local object = setmetatable({ x = 1 }, { __index = { y = 2 }, __pairs = error, __len = error })
    assert.are.equal('%{"x" => 1}', tostring(pass(object)))
  end)
end)

describe("maps", function()
  it("find a name as a string, else as an atom", function()
    local m = pass(term.amap { total = 5 })
    assert.are.equal(5, m.total)
    m.total = 6
    assert.are.equal(6, m[atom.total])
    assert.is_nil(rawget(m, "total"))
    m.other = 1
    assert.are.equal(1, rawget(m, "other"))
    m.total = nil
    assert.is_nil(m[atom.total])
    assert.is_nil(m.never_an_atom_before)
    local both = pass(map { a = "string", [atom.a] = "atom" })
    assert.are.equal("string", both.a)
    assert.are.equal("atom", both[atom.a])
  end)

  it("that are structs take no new field", function()
    local s = pass(term.amap { __struct__ = atom["Elixir.Foo"], a = 1, b = null })
    s.a, s.b = 2, 3
    assert.are.equal(2, s[atom.a])
    assert.are.equal(3, s[atom.b])
    fails('struct Foo has no field "c"', function() s.c = 1 end)
    s.c = nil
  end)

  it("remember keys whose value is nil", function()
    local m = pass(map { a = null, b = 1, [atom.c] = null })
    assert.is_nil(m.a)
    local keys = {}
    for k, v in pairs(m) do keys[tostring(k)] = tostring(v) end
    assert.are.same({ a = "nil", b = "1", c = "nil" }, keys)
    m.c = 3
    assert.are.equal(3, m[atom.c])
    m.a = nil
    m.b = null
    assert.are.equal(null, m.b)
    keys = {}
    for k, v in pairs(pass(m)) do keys[tostring(k)] = tostring(v) end
    assert.are.same({ b = "nil", c = "3" }, keys)
  end)

  it("with the same nils do not change each other", function()
    local bytes = term.encode(map { a = null, b = null, c = 1 })
    local text = '%{"a" => nil, "b" => nil, "c" => 1}'
    local m, other = term.decode(bytes), term.decode(bytes)
    m.a = 5
    assert.are.equal('%{"a" => 5, "b" => nil, "c" => 1}', sorted(m))
    m.b = nil
    assert.are.equal('%{"a" => 5, "c" => 1}', sorted(pass(m)))
    m.c = nil
    m.a = nil
    assert.are.equal("%{}", sorted(pass(m)))
    assert.are.equal(text, sorted(other))
    assert.are.equal(text, sorted(term.decode(bytes)))
    assert.are.equal(text, sorted(pass(term.decode(bytes))))
    local atoms = term.amap(other)
    atoms.a = 1
    assert.are.equal("%{:a => 1, :b => nil, :c => 1}", sorted(atoms))
    assert.are.equal(text, sorted(other))
  end)

  it("can be assigned to while they are walked", function()
    local names = { "title", "owner", "email", "kind", "updated_at", "zip", "phone", "url" }
    local t = {}
    for _, name in ipairs(names) do t[name] = null end
    local bytes = term.encode(map(t))
    for _, value in ipairs { "set", "gone" } do
      for i = 1, #names + 1 do
        local m, seen, count = term.decode(bytes), {}, 0
        for k, v in pairs(m) do
          assert.is_nil(v)
          assert.is_nil(seen[k])
          seen[k], count = true, count + 1
          if i > #names or k == names[i] then m[k] = value == "set" and value or nil end
        end
        assert.are.equal(#names, count)
        local changed = i > #names and #names or 1
        count = 0
        for _, v in pairs(pass(m)) do count = count + (v == nil and 1 or 0) end
        assert.are.equal(#names - changed, count)
      end
    end
  end)

  it("hold any number of nils, also beside floats", function()
    for count = 1, 30 do
      local t, want = {}, {}
      for i = 1, count do
        t[i] = null
        want[i] = ("%d => nil"):format(i)
      end
      table.sort(want)
      local m = pass(map(t))
      assert.are.equal("%{" .. table.concat(want, ", ") .. "}", sorted(pass(m)))
      assert.is_nil(next(m))
      m[count] = "set"
      assert.are.equal("set", pass(m)[count])
      assert.are.equal("%{" .. table.concat(want, ", ") .. "}", sorted(pass(map(t))))
    end
    local both = ext(bytes_of(116, 0, 0, 0, 3, 97, 1, NIL, 97, 2, NIL, 70, 63, 240, 0, 0, 0, 0, 0,
      0, NIL))
    assert.are.equal("%{1 => nil, 1.0 => nil, 2 => nil}", sorted(pass(both)))
    assert.are.equal("%{1 => nil, 2 => nil}", sorted(pass(map { null, null })))
  end)

  it("with two equal keys whose values are nil are no term", function()
    fails("corrupted term at byte 19: a map with two equal keys", ext,
      bytes_of(116, 0, 0, 0, 2, 97, 1, NIL, 97, 1, NIL))
  end)

  it("with ever other nils leave nothing behind", function()
    local function decode(from)
      for i = from, from + 5000 do
        local t = {}
        for k = 1, 9 do t["key " .. i .. " " .. k] = null end
        pass(map(t))
      end
      collectgarbage()
      collectgarbage()
      return collectgarbage("count")
    end
    local before = decode(1)
    assert.is_true(decode(100000) - before < 500)
  end)

  it("with ever other nils take little more than one metatable each", function()
    local made = {}
    for i = 1, 1000 do
      local t = {}
      for k = 1, 8 do t["key " .. i .. " " .. k] = null end
      made[i] = term.encode(map(t))
    end
    collectgarbage()
    collectgarbage("stop")
    local before = collectgarbage("count")
    for i = 1, 1000 do term.decode(made[i]) end
    local each = (collectgarbage("count") - before) * 1024 / 1000
    collectgarbage("restart")
    assert.is_true(each < 4000, each)
  end)

  it("do not find an atom behind a string whose value is nil", function()
    local m = pass(map { a = null, [atom.a] = 1 })
    assert.is_nil(m.a)
    m.a = 2
    assert.are.equal(2, rawget(m, "a"))
    assert.are.equal(1, m[atom.a])
  end)

  it("keep 1 and 1.0 apart", function()
    local m = ext(bytes_of(116, 0, 0, 0, 3, 97, 1, 97, 10, 70, 63, 240, 0, 0, 0, 0, 0, 0, 97, 20,
      70, 64, 0, 0, 0, 0, 0, 0, 0, NIL))
    assert.are.equal(10, m[1])
    assert.are.equal(20, term.get(m, 1.0))
    assert.are.equal(10, term.get(m, 1))
    assert.is_nil(term.get(m, 2))
    assert.is_nil(m[2.0])
    local seen = {}
    for k, v in pairs(m) do seen[math.type(k) .. k] = tostring(v) end
    assert.are.same({ integer1 = "10", ["float1.0"] = "20", ["float2.0"] = "nil" }, seen)
    m[2.0] = 30
    assert.are.equal(30, m[2.0])
    assert.are.equal(30, term.get(pass(m), 2.0))
    m[2.0] = nil
    seen = 0
    for _ in pairs(pass(m)) do seen = seen + 1 end
    assert.are.equal(2, seen)
  end)

  it("with atom keys are made of any map, and lose nothing", function()
    local m = term.amap(pass(map { a = null, b = 1, [3] = null }))
    assert.are.equal("%{3 => nil, :a => nil, :b => 1}", sorted(pass(m)))
    assert.is_nil(m[atom.a])
    m = term.amap(ext(116, 0, 0, 0, 1, 70, 63, 240, 0, 0, 0, 0, 0, 0, 97, 20))
    assert.are.equal(20, term.get(m, 1.0))
    m = pass(map { a = null, [atom.b] = null })
    term.amap(m)
    assert.are.equal('%{"a" => nil, :b => nil}', sorted(m)) -- as it was
    fails("the table has a key both as a string and as an atom: a", term.amap,
      pass(map { a = null, [atom.a] = 1 }))
    fails("the table has a key both as a string and as an atom: a", term.amap,
      pass(map { a = null, [atom.a] = null }))
    for _, other in ipairs { list { 1 }, tuple(1), term.improper({ 1 }, 2) } do
      assert.has_error(function() term.amap(other) end)
    end
  end)

  it("have nil as a key", function()
    local m = map {}
    m[nil] = 1
    assert.are.equal(1, m[nil])
    local k, v = next(pass(m))
    assert.are.equal(null, k)
    assert.are.equal(1, v)
    assert.are.equal(1, term.get(m, nil))
    m = ext(bytes_of(116, 0, 0, 0, 1, NIL, NIL))
    k, v = pairs(m)(m)
    assert.are.equal(null, k)
    assert.is_nil(v)
    assert.are.equal("%{nil => nil}", tostring(pass(m)))
  end)

  it("have keys of every type, found by value", function()
    local big = term.bigint "123456789012345678901234567890"
    local m = pass(map { [tuple(1, "a")] = 1, [list { 1 }] = 2, [big] = 3, [map { x = 1 }] = 4,
      [true] = 5,
      [1.5] = 6, [term.bits("\255", 3)] = 7 })
    assert.are.equal(1, term.get(m, tuple(1, "a")))
    assert.are.equal(2, term.get(m, { 1 }))
    assert.are.equal(3, term.get(m, big))
    assert.are.equal(4, term.get(m, map { x = 1 }))
    assert.are.equal(5, term.get(m, true))
    assert.are.equal(6, term.get(m, 1.5))
    assert.are.equal(7, term.get(m, term.bits("\224", 3)))
    assert.is_nil(term.get(m, tuple(1)))
  end)

  it("get finds exactly what is asked for", function()
    assert.is_nil(term.get(term.amap { a = 1 }, "a"))
    assert.are.equal(1, term.get(term.amap { a = 1 }, atom.a))
    assert.are.equal("b", term.get(tuple("a", "b"), 2))
    assert.is_nil(term.get(map { [1] = 1 }, 1.0))
  end)

  it("with equal keys are refused", function()
    fails("value: the map has two equal keys: {1, 2}", term.encode, map { [tuple(1, 2)] = 1,
      [tuple(1, 2)] = 2 })
    fails('value.m: the map has two equal keys: {%{"a" => 1, "b" => 2}}', function()
      local a, b = map {}, map {}
      a.a, a.b = 1, 2
      for i = 1, 20 do b["x" .. i] = i end -- another order inside
      b.b, b.a = 2, 1
      for i = 1, 20 do b["x" .. i] = nil end
      local _, err = pcall(term.encode, { m = map { [tuple(a)] = 1, [tuple(b)] = 2 } })
      error((err:gsub('"b" => 2, "a" => 1', '"a" => 1, "b" => 2')), 0)
    end)
    fails("corrupted term at byte 13: a map with two equal keys", ext, 116, 0, 0, 0, 2, 97, 1,
      97, 1, 97, 1, 97, 1)
  end)

  it("with 10,000 keys that are tuples are fast", function()
    local m = map {}
    for i = 1, 10000 do m[tuple(i, i)] = i end
    local start = os.clock()
    assert.are.equal(99, term.get(pass(m), tuple(99, 99)))
    assert.is_true(os.clock() - start < 1)
  end)

  it("amap makes atoms of string keys, one level deep", function()
    local m = term.amap { a = { b = 1 }, [1] = 2, ["true"] = 3 }
    assert.are.equal(1, m[atom.a].b)
    assert.are.equal(2, m[1])
    assert.are.equal(3, m[true])
    fails("the table has a key both as a string and as an atom: a", term.amap, { a = 1,
      [atom.a] = 2 })
  end)
end)

describe("identifiers", function()
  local pid = { 88, 119, 3, 97, 64, 98, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3 }
  local old_pid = { 103, 100, 0, 3, 97, 64, 98, 0, 0, 0, 1, 0, 0, 0, 2, 3 }
  local port = { 89, 119, 3, 97, 64, 98, 0, 0, 0, 5, 0, 0, 0, 1 }
  local ref = { 90, 0, 2, 119, 3, 97, 64, 98, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 8 }
  local export = { 113, 119, 1, 109, 119, 1, 102, 97, 2 }

  it("are the same object when they are the same", function()
    local a, b = ext(table.unpack(pid)), ext(table.unpack(pid))
    assert.is_true(rawequal(a, b))
    assert.is_true(rawequal(a, ext(table.unpack(old_pid))))
    assert.are.equal(1, ({ [a] = 1 })[b])
    assert.are_not.equal(a, ext(table.unpack(ref)))
  end)

  it("come back as they were", function()
    for _, bytes in ipairs { pid, port, ref, export } do
      local s = string.char(131, table.unpack(bytes))
      assert.are.equal(s, term.encode(term.decode(s)))
    end
  end)

  it("name their type, node and numbers", function()
    local p = ext(table.unpack(pid))
    assert.are.equal("pid<a@b.1.2>", tostring(p))
    assert.are.equal(atom "a@b", p.node)
    assert.are.equal("port<a@b.5>", tostring(ext(table.unpack(port))))
    assert.are.equal("reference<a@b.7.8>", tostring(ext(table.unpack(ref))))
    assert.are.equal("&m.f/2", tostring(ext(table.unpack(export))))
    assert.are.equal("fun", term.type(ext(table.unpack(export))))
    assert.is_nil(p.other)
  end)
end)

describe("what cannot be sent", function()
  it("is named with its path", function()
    fails("value.items[3].callback: cannot send a function", term.encode,
      { items = { 1, 2, { callback = print } } })
    fails("value: cannot send a function", term.encode, print)
    fails("value[1]: cannot send a coroutine", term.encode, { coroutine.create(print) })
    fails("value.f: cannot send a userdata", term.encode, { f = io.stdout })
    fails('value["odd key"][2]: cannot send infinity', term.encode, { ["odd key"] = { 1,
      math.huge } })
    fails("value[{1}].x: cannot send NaN", term.encode, map { [tuple(1)] = { x = 0 / 0 } })
    fails("value(key)[1]: cannot send a function", term.encode, map { [tuple(print)] = 1 })
    fails("value.a: cannot send NaN", term.encode, term.amap { a = 0 / 0 })
    fails("value[2.5]: cannot send NaN", term.encode, map { [2.5] = 0 / 0 })
    fails("value[1] | [2]: cannot send NaN", function()
      local _, err = pcall(term.encode, tuple(term.improper({ 1, 0 / 0 }, 1)))
      error((err:gsub("%]%[", "] | [")), 0)
    end)
  end)

  it("is a cycle, wherever it closes", function()
    local c = {}
    c.a = { c }
    fails("value.a[1].a: a cycle: the table contains itself",
      term.encode, c)
    local far = { c }
    for _ = 1, 1000 do far = { far } end
    assert.has_error(function() term.encode(far) end)
    local t = tuple(1, 2)
    t[2] = t
    assert.has_error(function() term.encode(t) end)
    local shared = { 1 }
    assert.are.equal("[[1], [1], [[1]]]", tostring(pass { shared, shared, { shared } }))
    local key = tuple(1)
    key[1] = map { [key] = 1 }
    assert.has_error(function() term.encode(key) end)
  end)

  it("is not a table that appears twice", function()
    local shared = { 1 }
    assert.are.equal("[[1], [1]]", tostring(pass { shared, shared }))
    local deep = shared
    for _ = 1, 100 do deep = { deep } end
    assert.are.equal(2, #pass { deep, deep })
  end)

  it("leaves the next encoding alone", function()
    for _ = 1, 100 do
      assert.is_false(pcall(term.encode, map { [tuple(1, print)] = { { {} } } }))
    end
    assert.are.equal("[1]", tostring(pass { 1 }))
  end)
end)

describe("the path to what cannot be sent", function()
  it("is text whatever the keys are", function()
    for pad = 1, 12 do
      local value = print
      for _ = 1, 12 do value = { [("é"):rep(20) .. (" "):rep(pad)] = value } end
      local _, why = pcall(term.encode, { a = value })
      assert.truthy(utf8.len(why), why)
    end
  end)
end)

describe("nesting", function()
  local function deep(wrap)
    local value = 1
    for _ = 1, 100000 do value = wrap(value) end
    local limit = 1 * (tonumber(os.getenv("LUNODE_TEST_SLOWER")) or 1)
    local start = os.clock()
    local back = pass(value)
    assert.is_true(os.clock() - start < limit)
    return back
  end

  it("100,000 deep works for lists, tuples and maps", function()
    local v = deep(function(inner) return { inner } end)
    for _ = 1, 100000 do v = v[1] end
    assert.are.equal(1, v)
    v = deep(function(inner) return tuple(inner) end)
    for _ = 1, 100000 do v = v[1] end
    assert.are.equal(1, v)
    v = deep(function(inner) return map { k = inner } end)
    for _ = 1, 100000 do v = v.k end
    assert.are.equal(1, v)
  end)

  it("deep in keys works too", function()
    local v = 1
    for _ = 1, 1000 do v = map { [v] = 1 } end
    assert.are.equal(term.encode(v), term.encode(pass(v)))
  end)
end)

describe("bytes that are no term", function()
  it("are refused with the place", function()
    fails("no external term: it must begin with byte 131", term.decode, "x")
    fails("no external term: it must begin with byte 131", term.decode, "")
    fails("compressed terms are not supported", ext, 80, 0, 0, 0, 1)
    fails("1 bytes behind the term", ext, 106, 106)
    fails("corrupted term at byte 2: there is no such tag", ext, 104, 1, 1)
    fails("corrupted term at byte 0: it is cut off", ext)
    fails("corrupted term at byte 0: it is cut off", ext, 109, 0, 0, 0, 5, 1)
    fails("corrupted term at byte 5: it is cut off", ext, 108, 255, 255, 255, 255, 106)
    fails("corrupted term at byte 0: an atom's name must be valid UTF-8", ext, 119, 1, 255)
  end)
end)

describe("tostring", function()
  it("writes as Elixir does", function()
    local value = tuple(atom.add, 5, "text", { 1, 2.0, true }, term.amap { a = null },
      atom "odd one", atom "Elixir.Foo.Bar", "\255\1")
    local text = '{:add, 5, "text", [1, 2.0, true], %{a: nil}, :"odd one", Foo.Bar, <<255, 1>>}'
    assert.are.equal(text, tostring(pass(value)))
    assert.are.equal("%Foo{x: 1}", tostring(term.amap { __struct__ = atom "Elixir.Foo", x = 1 }))
    assert.are.equal([==["a\"\\\n\x01é"]==], tostring(tuple("a\"\\\n\1é")):sub(2, -2))
  end)

  it("is bounded", function()
    local wide, v = list {}, 1
    for i = 1, 100000 do wide[i] = i end
    assert.is_true(#tostring(wide) < 300)
    for _ = 1, 100000 do v = list { v } end
    assert.are.equal("[[[[[[[[...]]]]]]]]", tostring(v))
    local long = tostring(tuple(("é"):rep(100000)))
    assert.is_true(#long <= 4096 and long:sub(-3) == "...")
    local cycle = list {}
    cycle[1] = cycle
    assert.is_true(#tostring(cycle) < 100)
  end)
end)

describe("ipairs of a plain table", function()
  it("wraps around after the largest integer, as Lua's own does", function()
    local t = { [math.mininteger] = "least" }
    for _, next_of in ipairs { (term.ipairs(t)), (ipairs(t)) } do
      local i, v = next_of(t, math.maxinteger)
      assert.are.same({ math.mininteger, "least" }, { i, v })
      assert.is_nil((select(2, next_of(t, i))))
    end
  end)
end)
