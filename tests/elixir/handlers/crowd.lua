-- Processes that are linked to each other and monitored in great number.
local crowd = {}

-- A chain of `n` more processes, each started by and linked to the one before; in a ring the last
-- is linked to the first. When `teller` is given it is told the pids: that of the last in a chain,
-- and all in a ring.
function crowd:init(n, teller, kind, first)
  n = n or 0
  first = first or erl.self()
  if n > 0 then
    erl.link(erl.spawn(atom.crowd, n - 1, teller, kind, first))
  elseif kind == atom.ring then
    erl.link(first)
  elseif kind == atom.chain then
    erl.trap_exit(true)
  end
  if teller and (n == 0 or kind == atom.ring) then
    erl.send(teller, erl.tuple(atom.member, n, erl.self()))
  end
  self.teller = teller
  self.open = {}
  self.ends = 0
  self.wrong = 0
end

-- `n` processes, each linked to `pid` alone.
function crowd:spawn(n, teller, pid)
  for _ = 1, n do
    erl.spawn(atom.crowd, 0, teller, atom.ring, pid)
  end
end

-- Links to each, and monitors each; both ends are to be told once.
function crowd:watch(pids)
  erl.trap_exit(true)
  for _, pid in ipairs(pids) do
    erl.link(pid)
    self.open[pid] = true
    self.open[erl.monitor(pid)] = true
  end
end

function crowd:monitor(pid, n)
  for _ = 1, n do
    self.open[erl.monitor(pid)] = true
  end
end

local function ended(self, key, reason)
  if self.open[key] then
    self.open[key] = nil
    self.ends = self.ends + 1
    self.reason = reason
  else
    self.wrong = self.wrong + 1
  end
end

function crowd:DOWN(ref, _, _, reason)
  ended(self, ref, reason)
end

function crowd:EXIT(pid, reason)
  if self.teller then
    erl.send(self.teller, erl.tuple(atom.last, erl.self(), reason))
    erl.exit(reason)
  end
  ended(self, pid, reason)
end

function crowd:nodes()
  return erl.nodes()
end

-- How many ends were told, how many that were not to be, and the last reason.
function crowd:told()
  return self.ends, self.wrong, self.reason
end

return crowd
