--- `DiscoveredTree(nodeIndex, numNodes, nodeHost, nodePort, publish, query, [opts])`: the root makes its address
--- known by `publish(host, port)`, the others ask `query()` until it returns one. See doc/tree.md.

local ipc = require 'libipc'
local NullTree = require 'ipc.NullTree'
local build = require 'ipc.collective.build'
local utils = require 'ipc.utils'

local place = 'DiscoveredTree'

return utils.api(function(nodeIndex, numNodes, nodeHost, nodePort, publish, query, options)
   local spec = build.spec(place, nodeIndex, numNodes, options, 7)
   if numNodes == 1 then return NullTree(options) end
   spec.host = utils.check(place, 3, nodeHost, 'string|nil') or '127.0.0.1'
   utils.check(place, 4, nodePort, 'number|string|nil')
   spec.port = tonumber(nodePort)
   utils.check(place, 5, publish, nodeIndex == 1 and 'function' or 'function|nil')
   utils.check(place, 6, query, nodeIndex ~= 1 and 'function' or 'function|nil')
   if nodeIndex == 1 then
      local server, port = ipc.server(spec.host, spec.port or 0, spec.connect)
      spec.server = server
      local ok, e = pcall(publish, spec.host, port)
      if not ok then
         server:close()
         error(e, 0)
      end
      return build.root(spec, { server })
   end
   -- The same address may be published again by the next root: a refused node asks again, with growing pauses.
   return build.search(spec, function()
      local host, port = query()
      if host ~= nil then
         utils.check(place .. ': query', 1, host, 'string')
         utils.check(place .. ': query', 2, port, 'number|string')
      end
      return host, port
   end)
end, 1)
