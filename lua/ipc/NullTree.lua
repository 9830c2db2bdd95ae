--- `NullTree([opts])`: a tree of one node, with every operation that the others have. Nothing travels. See
--- doc/tree.md.

local build = require 'ipc.collective.build'
local reducers = require 'ipc.collective.reducers'
local utils = require 'ipc.utils'

return utils.api(function(options)
   build.options('NullTree', 1, options)
   local state = 'open'
   local owner = {}

   local function alive(place)
      if state ~= 'open' then utils.raise('state', place, 'the tree is %s', state) end
   end

   local tree = { nodeIndex = 1, numNodes = 1, walkTable = utils.api(utils.walkTable, 1, owner) }
   owner[1] = tree

   -- Also with `zero`: of a node that is alone, what it passes is the result.
   tree.allReduce = utils.api(function(value, reduce, zero, opts)
      local place = 'tree.allReduce'
      alive(place)
      if type(reduce) == 'table' and zero == nil then reduce, opts = nil, reduce end
      if reduce ~= nil then reducers.find(place, 2, reduce) end
      if type(zero) == 'table' and opts == nil then zero, opts = nil, zero end
      utils.check(place, 3, zero, 'function|boolean|nil')
      utils.callTimeout(place, 4, opts)
      return value, 1
   end, 2, owner)

   tree.scatter = utils.api(function(value, opts)
      alive('tree.scatter')
      utils.callTimeout('tree.scatter', 2, opts)
      return value
   end, 1, owner)

   tree.barrier = utils.api(function(opts)
      alive('tree.barrier')
      utils.callTimeout('tree.barrier', 1, opts)
   end, 1, owner)

   function tree.netStats()
      print('node 1 is alone: nothing went over a link')
      return {}
   end

   function tree.close()
      state = 'closed'
   end

   return setmetatable(tree, {
      __tostring = function() return ('ipc.Tree: node 1 of 1, %s, parent none, children none'):format(state) end,
   })
end, 1)
