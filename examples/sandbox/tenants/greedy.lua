-- A bad one: tries what it can.
local greedy = {}

function greedy:spin()
  while true do
    pcall(function() while true do end end)
  end
end

function greedy:hoard()
  local all = "x"
  while true do
    all = all .. all
  end
end

function greedy:read()
  return io.open("/etc/passwd"):read("a")
end

function greedy:command()
  return erl.rpc(erl.node(), atom.os, atom.cmd, { "id" })
end

function greedy:stop()
  erl.send(atom.init, erl.tuple(atom.stop, atom.stop))
end

return greedy
