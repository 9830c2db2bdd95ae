--- All-reduce: what all nodes bring is folded up the tree in fixed order, and the result comes down to all.
---
--- Order of a fold at one node: its own value, then its children's by ascending index. Every node ends with the
--- root's bits.

local ipc = require 'libipc'
local leaves = require 'ipc.collective.leaves'
local reducers = require 'ipc.collective.reducers'
local utils = require 'ipc.utils'

-- From so many elements on, a child asks before it sends its tensors: a parent that is not there yet would block it,
-- and a blocked sender sees no failures.
local large = 16384

local place = 'tree.allReduce'

--- Calls a function of the user's; when it fails the others are told whose it was.
local function callUser(group, what, f, ...)
   local ok, result = pcall(f, ...)
   if not ok then
      group:failOwn(result, 'worker', '%s of node %d raised: %s', what, group.index, tostring(result))
   end
   return result
end

--- Puts `result`, what a function of the user's made of tensor `target`, into `target`, unless it worked in place.
local function keep(group, what, target, result)
   if result == nil or rawequal(result, target) then return end
   if not leaves.isTensor(result) then
      group:fail('argument', '%s of node %d returned %s for a tensor', what, group.index, ipc.type(result))
   end
   target:copy(result)
end

--- Folds `incoming` into `target`: both keep their form, or the other nodes would wait for what does not come.
local function fold(group, about, target, incoming, reduce)
   local elements = target:nElement()
   keep(group, 'the reduce function', target, callUser(group, 'the reduce function', reduce, target, incoming))
   if incoming:nElement() ~= elements or not target:isSameSizeAs(incoming) then
      group:fail('argument', 'the reduce function of node %d changed the size of a tensor that it was given (%s)',
         group.index, about)
   end
end

--- What the children bring, folded into `folded` (`present` tells whether anything lies there yet).
local function gather(group, list, folded, present, reduce)
   local contributors = 0
   for _, child in ipairs(group.children) do
      local header = group:header(child, 'up', list)
      if type(header[5]) ~= 'number' or header[6] and type(header[7]) ~= 'table' then
         group:fail('protocol', 'node %d sent a part without its values', child.index)
      end
      contributors = contributors + header[5]
      if header[6] then
         local values, numbers = header[7], 0
         child.owed = list.tensors
         if list.elements >= large then group:send(child, { 'go', group.sequence }) end
         for i = 1, list.count do
            if list.tensor[i] then
               local incoming = present and group:scratch('incoming', list.about[i], list.value[i]) or folded[i]
               group:fill(child, incoming)
               if present then fold(group, list.about[i], folded[i], incoming, reduce) end
            else
               numbers = numbers + 1
               if present then
                  folded[i] = callUser(group, 'the reduce function', reduce, folded[i], values[numbers])
                  if folded[i] == nil then
                     group:fail('argument', 'the reduce function of node %d returned nil for %s', group.index,
                        list.about[i])
                  end
               else
                  folded[i] = values[numbers]
               end
            end
         end
         present = true
      end
   end
   return contributors, present
end

--- The leaves that are no tensors: they travel in the header.
local function plain(list, folded)
   local values = {}
   for i = 1, list.count do
      if not list.tensor[i] then values[#values + 1] = folded[i] end
   end
   return values
end

local function sendUp(group, list, folded, present, contributors)
   local parent = group.parent
   group:sendHeader(parent, 'up', list, { 0, 0, 0, 0, contributors, present, present and plain(list, folded) or nil },
      present, present and list.tensors > 0 and list.elements < large)
   if not present then return end
   if list.elements >= large then
      local answer = group:await(parent, 'readiness')
      if answer[1] ~= 'go' or answer[2] ~= group.sequence then
         group:fail('mismatch', 'node %d called %s where node %d called %s (call %d of this tree)', parent.index,
            tostring(answer[3]), group.index, group.call, group.sequence)
      end
   end
   group:sendTensors(parent, list, folded)
end

--- The result from the parent, into the leaves themselves.
local function receiveResult(group, list)
   local parent = group.parent
   local header = group:header(parent, 'down', list)
   if header[6] then group:fillLeaves(parent, list, header[7]) end
   return header[5], header[6]
end

--- At the root: the result into the leaves themselves.
local function settle(list, folded, contributors, operation)
   local mean = operation == 'mean' and contributors > 0
   for i = 1, list.count do
      if list.tensor[i] then
         if mean then folded[i]:div(contributors) end
         if not rawequal(folded[i], list.value[i]) then list.value[i]:copy(folded[i]) end
      else
         leaves.set(list, i, mean and folded[i] / contributors or folded[i])
      end
   end
end

--- One round: `folded` holds what this node brings, if `present`; counted as `contributes` (1 or 0).
local function round(group, list, folded, present, contributes, reduce, operation)
   local contributors
   contributors, present = gather(group, list, folded, present, reduce)
   contributors = contributors + contributes
   if group.parent then
      sendUp(group, list, folded, present, contributors)
      contributors, present = receiveResult(group, list)
   else
      if present then settle(list, folded, contributors, operation) end
   end
   for _, child in ipairs(group.children) do
      group:sendHeader(child, 'down', list, present and
         { 0, 0, 0, 0, contributors, present, plain(list, list.value), list.tensors } or
         { 0, 0, 0, 0, contributors, present }, present, present and list.tensors > 0)
      if present then group:sendTensors(child, list, list.value) end
   end
   group.last = list
   return contributors
end

--- What this node brings when it has run out of steps: zero(v, i) of each leaf, made on a copy, since the leaves hold
--- the last round's result until the next one is there.
local function zeros(group, list, zero)
   local folded = {}
   for i = 1, list.count do
      if list.tensor[i] then
         local work = group:scratch('zero ' .. i, list.about[i], list.value[i])
         work:copy(list.value[i])
         folded[i] = work
         keep(group, 'the zero function', work, callUser(group, 'the zero function', zero, work, i))
      else
         folded[i] = callUser(group, 'the zero function', zero, list.value[i], i)
         if folded[i] == nil then
            group:fail('argument', 'the zero function of node %d returned nil for %s', group.index, list.about[i])
         end
      end
   end
   return folded
end

--- Room for what the children bring when this node brings nothing (by name, with `true`).
local function empty(group, list)
   local folded = {}
   for i = 1, list.count do
      if list.tensor[i] then folded[i] = group:scratch('zero ' .. i, list.about[i], list.value[i]) end
   end
   return folded
end

--- The leaves of a node that has run out of steps, as the last round left them.
local function lastLeaves(group, value)
   local last = group.last
   if value == nil then value = last.whole end
   local list = leaves.of(value, place)
   if last then leaves.fill(list, last) end
   return list
end

--- A step like any other.
local function step(group, list, reduce, operation)
   local folded = {}
   for i = 1, list.count do folded[i] = list.value[i] end
   local contributors = round(group, list, folded, true, 1, reduce, operation)
   return list.whole, contributors
end

--- No step of its own any more, as many rounds as the others need.
local function finish(group, list, reduce, operation, zero)
   local brings = zero ~= true
   local contributors = round(group, list, brings and zeros(group, list, zero) or empty(group, list), brings, 0, reduce,
      operation)
   if contributors == 0 then return list.whole, 0 end
   return nil, contributors
end

local function namedLeaves(list, operation)
   for i = 1, list.count do
      if not list.tensor[i] and list.about[i] ~= 'number' then
         utils.raise('unsupported', place,
            '%s takes numbers and tensors, leaf %d is a %s: pass a function to reduce it',
            operation, i, list.about[i])
      end
   end
end

--- The leaves of what this node was given.
local function leavesOf(group, value, reduce, zero, operation)
   local list = zero and lastLeaves(group, value) or leaves.of(value, place)
   if type(reduce) == 'string' then namedLeaves(list, operation) end
   return list
end

--- Makes `allReduce(value, reduce, [zero], [options])` for the node that `group` is.
return function(group)
   return utils.api(function(value, reduce, zero, options)
      local reducer, operation = reducers.find(place, 2, reduce)
      if type(zero) == 'table' and options == nil then zero, options = nil, zero end
      utils.check(place, 3, zero, 'function|boolean|nil')
      if zero == true and type(reduce) == 'function' then
         utils.raise('argument', place,
            'argument #3: true goes with a reduction by name; with a function expected a function')
      end
      if value == nil and not zero then
         utils.raise('argument', place,
            'argument #1: expected a value, got nil (nil is for a node that has run out of steps, with zero)')
      end
      if value == nil and not group.last then
         utils.raise('state', place,
            'this node took part in no round yet: with nil as value there is nothing to go on with, pass one')
      end
      local timeout = utils.callTimeout(place, 4, options, group.timeout)
      local list = group:prepare(timeout, 'allReduce', operation, leavesOf, value, reduce, zero, operation)
      if not zero then return group:within(timeout, 'allReduce', operation, step, list, reducer, operation) end
      while true do
         local whole, contributors = group:within(timeout, 'allReduce', operation, finish, list, reducer,
            operation, zero)
         if contributors == 0 then return whole, 0 end
      end
   end, 2, group.owner)
end
