-- A process that does what it is told, and tells its collector of every DOWN and EXIT that it gets.
-- worker.ex is the same for a BEAM; what one does and answers the other does and answers.
local worker = {}

function worker:init(collector)
  self.collector = collector
end

function worker:DOWN(...)
  erl.send(self.collector, erl.tuple(atom.event, erl.self(), erl.tuple(atom.DOWN, ...)))
end

function worker:EXIT(...)
  erl.send(self.collector, erl.tuple(atom.event, erl.self(), erl.tuple(atom.EXIT, ...)))
end

-- {==== Told one by one ======================================================================

function worker:link(pid)
  erl.link(pid)
  return atom.ok
end

function worker:unlink(pid)
  erl.unlink(pid)
  return atom.ok
end

function worker:monitor(server)
  return erl.monitor(server)
end

function worker:demonitor(ref)
  erl.demonitor(ref)
  return atom.ok
end

function worker:trap(on)
  return erl.trap_exit(on)
end

function worker:signal(pid, reason)
  erl.exit(pid, reason)
  return atom.ok
end

function worker:register(name)
  erl.register(name)
  return atom.ok
end

function worker:quit(reason)
  erl.exit(reason)
end

function worker:crash()
  error("boom", 0)
end

function worker:echo(value)
  return value
end

function worker:mute()
  return erl.noreply
end

function worker:ask(server, request, ms)
  local ok, value = pcall(erl.call, server, request, ms)
  return ok and atom.ok or atom.failed, value
end

function worker:breed()
  return erl.spawn(atom.worker, self.collector, nil)
end

-- }==== Told in a storm, without waiting for an answer =======================================

local function tell(self, what, ...)
  erl.send(self.collector, erl.tuple(atom(what), erl.self(), ...))
end

function worker:watch(pid)
  tell(self, "watched", pid, erl.monitor(pid))
end

function worker:unwatch(ref)
  erl.demonitor(ref)
  tell(self, "unwatched", ref)
end

function worker:tie(pid)
  erl.link(pid)
  tell(self, "tied", pid)
end

function worker:untie(pid)
  erl.unlink(pid)
  tell(self, "untied", pid)
end

-- }==== Asked by erpc ========================================================================

function worker:peers()
  return erl.nodes()
end

-- KiB of the handler's Lua state.
function worker:memory()
  collectgarbage()
  collectgarbage()
  return collectgarbage("count")
end

-- }====

return worker
