--- Reductions by name, over numbers and tensors.

local utils = require 'ipc.utils'

local function tensorOrNumber(onNumbers, method)
   return function(a, b)
      if type(a) == 'number' then return onNumbers(a, b) end
      return a[method](a, b)
   end
end

local sum = tensorOrNumber(function(a, b) return a + b end, 'add')

local reducers = {
   sum = sum,
   mean = sum, -- divided by the number of contributors at the end
   prod = tensorOrNumber(function(a, b) return a * b end, 'cmul'),
   max = tensorOrNumber(math.max, 'cmax'),
   min = tensorOrNumber(math.min, 'cmin'),
}

local names = {}
for name in pairs(reducers) do names[#names + 1] = "'" .. name .. "'" end
table.sort(names)

--- The function that `reduce`, a function or a name, stands for, and what the call is called on the wire.
local function find(place, position, reduce)
   if type(reduce) == 'function' then return reduce, 'a function' end
   if type(reduce) == 'string' then
      if reducers[reduce] then return reducers[reduce], reduce end
      utils.raise('argument', place, 'argument #%d: expected a function or one of %s, got %q', position,
         table.concat(names, ' '), reduce)
   end
   return utils.check(place, position, reduce, 'function|string')
end

return { find = find }
