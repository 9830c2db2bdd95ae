--- `Tree(nodeIndex, numNodes, base, server, client, host, port, [buildTree], [opts])`: a tree over connections that
--- the caller made. The root, node 1, passes `server`; every other node passes `client`, connected to it. See
--- doc/tree.md.

local NullTree = require 'ipc.NullTree'
local build = require 'ipc.collective.build'
local utils = require 'ipc.utils'

local place = 'Tree'

return utils.api(function(nodeIndex, numNodes, base, server, client, host, port, buildTree, options)
   if type(buildTree) == 'table' and options == nil then buildTree, options = nil, buildTree end
   local spec = build.spec(place, nodeIndex, numNodes, options, 9)
   if numNodes == 1 then return NullTree(options) end
   if base ~= nil then spec.base = utils.checkIndex(place, 3, base, 1, math.huge) end
   spec.host = utils.check(place, 6, host, 'string|nil')
   utils.check(place, 7, port, 'number|string|nil')
   spec.port = tonumber(port)
   spec.buildTree = utils.check(place, 8, buildTree, 'function|nil')
   if nodeIndex == 1 then
      if server == nil then utils.raise('argument', place,
         'argument #4: expected a server, got nil (node 1 is the root)') end
      spec.server = server
      return build.root(spec, {})
   end
   if client == nil then
      utils.raise('argument', place,
         'argument #5: expected a client, got nil (every node but node 1 has one to the root)')
   end
   spec.client = client
   local tree, code, why = build.node(spec, {})
   if not tree then utils.raise(code, place, '%s', why) end
   return tree
end, 1)
