-- A process that does what it is told, a word for each thing that processes do, and keeps the other
-- messages it gets. support/proc.ex has the same words in Elixir.
local proc = {}

function proc:init(n)
  if n == atom.fail then
    error("no start", 0)
  end
  if n == atom.trap then
    erl.trap_exit(true)
  end
  self.n = n or 0
  self.seen = {}
end

function proc:add(k)
  self.n = self.n + k
  return self.n
end

function proc:get()
  return self.n
end

function proc:set(n)
  self.n = n
end

function proc:echo(value)
  return value
end

function proc:pid()
  return erl.self()
end

function proc:fail(text)
  error(text, 0)
end

function proc:quit(reason)
  erl.exit(reason)
end

function proc:sleep(ms)
  erl.sleep(ms)
  return ms
end

function proc:spin()
  while true do end
end

function proc:signal(pid, reason)
  erl.exit(pid, reason)
end

function proc:trap(on)
  return erl.trap_exit(on)
end

function proc:link(pid)
  erl.link(pid)
end

function proc:unlink(pid)
  erl.unlink(pid)
end

function proc:monitor(server)
  return erl.monitor(server)
end

function proc:demonitor(ref)
  erl.demonitor(ref)
end

function proc:call_there(server, request, ms)
  return erl.call(server, request, ms)
end

-- Another process like this one.
function proc:child(n)
  return erl.spawn(atom.proc, n)
end

function proc:messages()
  return self.seen
end

function proc:count()
  return #self.seen
end

-- Whom the end is told.
function proc:tell(pid)
  self.told = pid
end

function proc:terminate(reason)
  if self.told then
    erl.send(self.told, erl.tuple(atom.terminated, reason))
  end
end

function proc:handle_info(message)
  self.seen[#self.seen + 1] = message
end

function proc:_hidden()
  return "seen"
end

-- Any Lua: `a`, `b`, `c` and `d` are what came with it.
function proc:lua(source, ...)
  return assert(load("local self, a, b, c, d = ... " .. source, "=test", "t", _ENV))(self, ...)
end

return proc
