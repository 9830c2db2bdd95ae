--- `NullTree([opts])`: a tree of one node, with every operation that the others have. Nothing travels. See
--- doc/tree.md.

local build = require 'ipc.collective.build'
local leaves = require 'ipc.collective.leaves'
local reducers = require 'ipc.collective.reducers'
local utils = require 'ipc.utils'

return utils.api(function(options)
   build.options('NullTree', 1, options)
   local state, last = 'open', nil

   local function alive(place)
      if state ~= 'open' then utils.raise('state', place, 'the tree is %s', state) end
   end

   local tree = { nodeIndex = 1, numNodes = 1, walkTable = utils.walkTable }

   tree.allReduce = utils.api(function(value, reduce, zero, opts)
      local place = 'tree.allReduce'
      alive(place)
      if type(reduce) == 'table' and zero == nil then reduce, opts = nil, reduce end
      if reduce ~= nil then reducers.find(place, 2, reduce) end
      if type(zero) == 'table' and opts == nil then zero, opts = nil, zero end
      utils.check(place, 3, zero, 'function|boolean|nil')
      utils.callTimeout(place, 4, opts)
      if zero then
         if value == nil and not last then
            utils.raise('state', place,
               'this node took part in no round yet: with nil as value there is nothing to go on with, pass one')
         end
         if value == nil then return last.whole, 0 end
         local list = leaves.of(value, place)
         if last then leaves.fill(list, last) end
         return list.whole, 0
      end
      if value == nil then
         utils.raise('argument', place,
            'argument #1: expected a value, got nil (nil is for a node that has run out of steps, with zero)')
      end
      last = leaves.of(value, place)
      return value, 1
   end, 2)

   tree.scatter = utils.api(function(value, opts)
      alive('tree.scatter')
      utils.callTimeout('tree.scatter', 2, opts)
      return value
   end, 1)

   tree.barrier = utils.api(function(opts)
      alive('tree.barrier')
      if type(opts) == 'number' then opts = { timeout = opts } end
      utils.callTimeout('tree.barrier', 1, opts)
   end, 1)

   function tree.netStats()
      print('node 1 is alone: nothing went over a link')
      return {}
   end

   function tree.close()
      state, last = 'closed', nil
   end

   return setmetatable(tree, {
      __tostring = function() return ('ipc.Tree: node 1 of 1, %s, parent none, children none'):format(state) end,
   })
end, 1)
