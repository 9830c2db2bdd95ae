--- A value of a collective in its parts: its leaves in walkTable order and a signature that must be the same on all
--- nodes.

local ipc = require 'libipc'
local utils = require 'ipc.utils'

local leaves = {}

--- A tensor's type and sizes, `torch.FloatTensor 10x20`, and how many elements it has.
local function describe(tensor, typename)
   local dims = tensor:dim()
   local sizes, elements = {}, dims > 0 and 1 or 0
   for d = 1, dims do
      local size = tonumber(tensor:size(d))
      sizes[d] = ('%d'):format(size)
      elements = elements * size
   end
   return typename .. ' ' .. table.concat(sizes, 'x'), elements
end

local function typeOf(value)
   local kind = type(value)
   if kind == 'userdata' or kind == 'cdata' then kind = ipc.type(value) end
   return kind
end

--- Whether `value` is a tensor that is filled in place.
function leaves.isTensor(value)
   return typeOf(value):find('^torch%.%w+Tensor$') ~= nil
end

--- Splits `value` into these.
---
--- In the result: `value[i]`, `holder[i]`, `key[i]` and `path[i]` (where it stands; none for a value that is no table),
--- `about[i]` (the type, and a tensor's sizes), `tensor[i]`, how many `tensors` there are, `elements` of all of them
--- together, and `signature`.
function leaves.of(value, place)
   local list = { whole = value, count = 0, value = {}, holder = {}, key = {}, path = {}, about = {}, tensor = {},
      tensors = 0, elements = 0 }
   local lines = {}
   local function add(holder, key, leaf, path)
      local i = list.count + 1
      local kind, elements = typeOf(leaf), 0
      list.count, list.value[i], list.holder[i], list.key[i] = i, leaf, holder, key
      if kind:find('^torch%.%w+Tensor$') then
         list.tensor[i] = true
         list.tensors = list.tensors + 1
         kind, elements = describe(leaf, kind)
      end
      list.about[i] = kind
      list.elements = list.elements + elements
      list.path[i] = holder and path .. tostring(key)
      lines[i] = holder and list.path[i] .. ': ' .. kind or kind
   end
   if type(value) == 'table' then
      utils.eachLeaf(value, add, place)
   else
      add(nil, nil, value)
   end
   list.signature = table.concat(lines, '\n')
   return list
end

--- Puts `new` in the place of leaf `i`.
function leaves.set(list, i, new)
   list.value[i] = new
   if list.holder[i] then
      list.holder[i][list.key[i]] = new
   else
      list.whole = new
   end
end

--- Fills the leaves of `list` with those of `from`, tensors in place; leaves them as they are where the two differ in
--- form.
function leaves.fill(list, from)
   if list.signature ~= from.signature then return end
   for i = 1, list.count do
      if not list.tensor[i] then
         leaves.set(list, i, from.value[i])
      elseif not rawequal(list.value[i], from.value[i]) then
         list.value[i]:copy(from.value[i])
      end
   end
end

local function lines(text)
   local found = {}
   for line in (text .. '\n'):gmatch('(.-)\n') do found[#found + 1] = line end
   return found
end

--- The first difference between two signatures, in words.
function leaves.difference(theirs, ours)
   local a, b = lines(theirs), lines(ours)
   for i = 1, math.max(#a, #b) do
      if a[i] ~= b[i] then return i, a[i] or 'nothing', b[i] or 'nothing' end
   end
end

return leaves
