--- Scatter: the root's value on every node.
---
--- First a sweep up, so that calls that do not match are noticed before any data moves; it also says whether some
--- node passed no value and one is to be made.

local leaves = require 'ipc.collective.leaves'
local utils = require 'ipc.utils'

local place = 'tree.scatter'

--- The form of a value whose tensors travel after it.
local function skeleton(list)
   local function copy(value, state)
      if type(value) ~= 'table' then
         state.i = state.i + 1
         if list.tensor[state.i] then return { '=tensor' } end
         return { '=value', value }
      end
      local fields = {}
      for _, key in ipairs(utils.sortedKeys(value, place)) do fields[#fields + 1] = { key, copy(value[key], state) } end
      return { '=table', fields }
   end
   return copy(list.whole, { i = 0 })
end

--- The value that `shape` describes, its tensors by `tensor()`, in the order in which they travel.
local function build(shape, tensor)
   if shape[1] == '=tensor' then return tensor() end
   if shape[1] == '=value' then return shape[2] end
   local t = {}
   for _, field in ipairs(shape[2]) do t[field[1]] = build(field[2], tensor) end
   return t
end

local function plain(list)
   local values = {}
   for i = 1, list.count do
      if not list.tensor[i] then values[#values + 1] = list.value[i] end
   end
   return values
end

--- Signatures tell tensors and their sizes; what else stands in a leaf may differ, it is replaced.
local function loosen(list)
   list.signature = list.signature:gsub('[^\n]+', function(line)
      return line:find('torch%.%w+Tensor ') and line or line:gsub('[%w_.]+$', 'value')
   end)
   return list
end

local function spread(group, list)
   local wanted = list == nil
   for _, child in ipairs(group.children) do
      local header = group:header(child, 'up', list)
      wanted = wanted or header[5]
   end
   local parent = group.parent
   if parent then
      group:sendHeader(parent, 'up', list, { 0, 0, 0, 0, wanted })
      local header = group:header(parent, 'down', list)
      if list then
         group:fillLeaves(parent, list, header[5])
      else
         local value = build(header[6], function() return group:receive(parent) end)
         list = loosen(leaves.of(value, place))
      end
   end
   for _, child in ipairs(group.children) do
      group:sendHeader(child, 'down', list,
         { 0, 0, 0, 0, plain(list), wanted and skeleton(list) or false, false, list.tensors }, true,
         list.tensors > 0)
      group:sendTensors(child, list, list.value)
   end
   return list.whole
end

--- Makes `scatter(value, [options])` for the node that `group` is.
return function(group)
   return utils.api(function(value, options)
      local timeout = utils.callTimeout(place, 2, options, group.timeout)
      local list
      if value ~= nil or not group.parent then
         list = group:prepare(timeout, 'scatter', nil, function() return loosen(leaves.of(value, place)) end)
      end
      return (group:within(timeout, 'scatter', nil, spread, list))
   end, 1, group.owner)
end
