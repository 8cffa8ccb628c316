-- A good one: prices an order, and tells the host what it has done.
local discount = {}

function discount:init(host)
  self.audit = erl.tuple(atom.audit, host)
end

function discount:price(order)
  local sum = 0
  for _, item in ipairs(order.items) do
    sum = sum + item.price * item.count
  end
  local price = sum >= 10000 and sum * 9 // 10 or sum
  erl.send(self.audit, erl.tuple(atom.priced, order.id, price))
  return price
end

return discount
