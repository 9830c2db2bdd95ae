--- `StaticTree(nodeIndex, numNodes, nodeHost, nodePort, rootHost, rootPort, [opts])`: every node knows where the root
--- listens. The root listens at nodeHost:rootPort, any other node that has children at nodeHost:nodePort. See
--- doc/tree.md.

local ipc = require 'libipc'
local NullTree = require 'ipc.NullTree'
local build = require 'ipc.collective.build'
local utils = require 'ipc.utils'

local place = 'StaticTree'

return utils.api(function(nodeIndex, numNodes, nodeHost, nodePort, rootHost, rootPort, options)
   local spec = build.spec(place, nodeIndex, numNodes, options, 7)
   if numNodes == 1 then return NullTree(options) end
   utils.check(place, 3, nodeHost, 'string|nil')
   utils.check(place, 4, nodePort, 'number|string|nil')
   utils.check(place, 5, rootHost, 'string|nil')
   utils.check(place, 6, rootPort, 'number|string')
   spec.host, spec.port, spec.fixedPort = nodeHost, tonumber(nodePort), true
   if nodeIndex == 1 then
      spec.server = ipc.server(nodeHost or rootHost or '127.0.0.1', rootPort, spec.connect)
      return build.root(spec, { spec.server })
   end
   local connect = { connect_timeout = spec:left(300) }
   for key, value in pairs(spec.connect or {}) do connect[key] = value end
   spec.client = ipc.client(rootHost or '127.0.0.1', rootPort, connect)
   local tree, code, why = build.node(spec, { spec.client })
   if not tree then utils.raise(code, place, '%s', why) end
   return tree
end, 1)
