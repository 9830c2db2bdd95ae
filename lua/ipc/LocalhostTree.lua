--- `LocalhostTree(nodeIndex, numNodes, [ppid], [opts])`: the nodes are processes (or threads) of one host that have
--- their parent process, or the process `ppid`, in common; they meet at a file that belongs to it. Trees that
--- live at the same time under one parent need different `opts.key`. See doc/tree.md.

local ipc = require 'libipc'
local NullTree = require 'ipc.NullTree'
local build = require 'ipc.collective.build'
local utils = require 'ipc.utils'

local place = 'LocalhostTree'
local host = '127.0.0.1'

return utils.api(function(nodeIndex, numNodes, ppid, options)
   if type(ppid) == 'table' and options == nil then ppid, options = nil, ppid end
   local spec = build.spec(place, nodeIndex, numNodes, options, 4)
   if numNodes == 1 then return NullTree(options) end
   utils.check(place, 3, ppid, 'number|nil')
   local own = ppid == nil
   ppid = ppid or ipc.getppid()
   local key = options and options.key
   if type(key) == 'number' then key = tostring(key) end
   key = utils.check(place .. ': key', 4, key, 'string|nil') or ''
   spec.host = host
   if own then
      spec.hint = (' (nodes meet under their parent, process %d here; where each has one of its own, as under timeout, '
         .. 'time or sudo, pass the same ppid to all)'):format(ppid)
   end
   if nodeIndex == 1 then
      local server, port = ipc.server(host, 0, spec.connect)
      spec.server, spec.token = server, utils.token()
      local ok, file = pcall(ipc.__meeting, ppid, key, ('open %d %s'):format(port, spec.token))
      if not ok then
         server:close()
         error(file, 0)
      end
      local tree = build.root(spec, { server, file })
      utils.try(file.publish, file, 'complete') -- a node that comes now waits for the next root
      return tree
   end
   local seen, avoided -- what the file says; what it said when it led to a root that was none of ours
   return build.search(spec, function(seconds, refused)
      if refused or seen == 'complete' then avoided = seen end
      seen = ipc.__meeting_find(ppid, key, avoided, seconds)
      local port, token = (seen or ''):match('^open (%d+) (%x+)$')
      if not port then return nil end
      return host, tonumber(port), token
   end, function()
      return ipc.__meeting_find(ppid, key, nil, 0) == seen
   end)
end, 1)
