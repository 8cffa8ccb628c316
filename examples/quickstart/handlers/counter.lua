-- A handler: a table of functions. Each runs when a message with its name arrives.
-- `self` is the state of the process that runs it.
local counter = {}

function counter:init()
  self.n = 0
end

function counter:add(k) -- {:add, 5}
  self.n = self.n + k
  return self.n
end

function counter:get() -- :get
  return self.n
end

function counter:describe(person) -- {:describe, %{name: "Ada", langs: ["elixir", "lua"]}}
  return person.name .. " speaks " .. table.concat(person.langs, " and ")
end

function counter:divide(a, b) -- {:divide, 1, 0}
  if b == 0 then
    error("cannot divide by zero")
  end
  return a / b
end

return counter
