--- `ipc.tree([opts])`: the tree of the nodes that were launched together, found by the surroundings; and the meeting
--- place that ipcrun keeps for them. See doc/launch.md.
---
---     node -> ipcrun   `publish` n host port: the root of this node's n-th tree listens there
---     node -> ipcrun   `query` n: asks for that
---     ipcrun -> node   host port: as soon as it is known

local ipc = require 'libipc'
local DiscoveredTree = require 'ipc.DiscoveredTree'
local NullTree = require 'ipc.NullTree'
local build = require 'ipc.collective.build'
local surroundings = require 'ipc.surroundings'
local utils = require 'ipc.utils'

local place = 'ipc.tree'
local launch = {}

--- How many GPUs this process sees.
local function gpus()
   local visible = os.getenv 'CUDA_VISIBLE_DEVICES'
   if visible then
      local n = 0
      for device in visible:gmatch '[^,]+' do
         if device:find '^%s*%-' then break end -- CUDA sees none from a negative one on
         n = n + 1
      end
      return n
   end
   local n = 0
   while true do
      local device = io.open(('/dev/nvidia%d'):format(n), 'rb')
      if not device then return n end
      device:close()
      n = n + 1
   end
end

local function placed(tree, localIndex)
   local n = gpus()
   tree.localIndex = localIndex
   tree.gpu = n > 0 and (localIndex - 1) % n + 1 or nil
   return tree
end

local function copy(options)
   local t = {}
   for key, value in pairs(options or {}) do t[key] = value end
   return t
end

local made = 0 -- trees of this process: the n-th of one node meets the n-th of the others

--- The tree of all nodes that were launched together; of this one alone where nobody launched it. Options as for the
--- other trees, and `nodes`: how many there have to be.
launch.tree = utils.api(function(options)
   utils.check(place, 1, options, 'table|nil')
   build.options(place, 1, options, 'nodes')
   local settings = copy(options)
   local wanted = settings.nodes
   settings.nodes = nil
   if wanted ~= nil then utils.checkIndex(place .. ': nodes', 1, wanted, 1, math.huge) end
   local here = surroundings()
   local count = here and here.count or 1
   if wanted and wanted ~= count then
      utils.raise('state', place, 'expected %d nodes, there %s: start them by ipcrun -n %d', wanted,
         count == 1 and 'is one' or ('are %d'):format(count), wanted)
   end
   if count == 1 then return placed(NullTree(settings), 1) end
   made = made + 1
   local n = made
   local deadline = ipc.clock() + utils.timeout(place, 1, settings)
   local function left(most) return math.max(math.min(deadline - ipc.clock(), most), 0) end
   -- All nodes are on this host: they prove the secret, and need not encrypt what nobody can overhear.
   if settings.encrypt == nil then settings.encrypt = false end
   local client, asked
   local function tell(...)
      client = client or ipc.client(here.host, here.port,
         { encrypt = false, connect_timeout = left(60) })
      client:send { ... }
   end
   local ok, tree = pcall(DiscoveredTree, here.index, here.count, here.host, 0, function(host, port)
      tell('publish', n, host, port)
   end, function()
      if not asked then tell('query', n) end
      asked = true
      local came, answer = client:tryrecv(left(1))
      if not came then return nil end
      asked = false
      return answer[1], answer[2]
   end, settings)
   if client then client:close() end
   if not ok then error(tree, 0) end
   return placed(tree, here.index)
end, 1, nil, 1) -- `ipc.tree` itself stands between

--- The meeting place, in ipcrun: `server` is where the nodes come to. Returns a function that answers all who have
--- asked by now.
function launch.meeting(server)
   local roots, waiting = {}, {}
   local function answer(handle, n)
      pcall(handle.send, handle, roots[n], 5)
   end
   return function()
      while true do
         local found, message, handle = server:tryrecvAny(nil, 0)
         if not found then return end -- all who have asked were answered
         -- No metamethod of what a stranger sent is met.
         if type(message) ~= 'table' then message = {} end
         local what, n = rawget(message, 1), rawget(message, 2)
         if what == 'publish' and type(n) == 'number' and n >= 1 then
            roots[n] = { rawget(message, 3), rawget(message, 4) }
            for _, asked in ipairs(waiting[n] or {}) do answer(asked, n) end
            waiting[n] = nil
         elseif what == 'query' and roots[n] then
            answer(handle, n)
         elseif what == 'query' and type(n) == 'number' and n >= 1 then
            waiting[n] = waiting[n] or {}
            table.insert(waiting[n], handle)
         end
      end
   end
end

return launch
