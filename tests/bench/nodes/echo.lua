-- What every contender does: it gives back what comes.
local echo = {}

function echo:echo(term) return term end

-- ... and looks at every element before.
function echo:list(list)
  local sum = 0
  for i = 1, #list do sum = sum + list[i] end
  assert(sum > 0)
  return list
end

function echo:map(map)
  local sum = 0
  for _, value in pairs(map) do sum = sum + value end
  assert(sum > 0)
  return map
end

-- ... or at one field.
function echo:field(document)
  assert(document.id)
  return document
end

return echo
