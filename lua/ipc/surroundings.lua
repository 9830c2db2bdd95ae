--- What the launchers of parallel programs have told this process: how many nodes there are, and which one it is. See
--- doc/launch.md.

local utils = require 'ipc.utils'

local place = 'ipc.tree'

-- Each launcher's variables: those of the rank (from 0) and of the size, the first that is set counts.
local launchers = {
   { name = 'Open MPI', rank = { 'OMPI_COMM_WORLD_RANK' }, size = { 'OMPI_COMM_WORLD_SIZE' } },
   { name = 'MVAPICH', rank = { 'MV2_COMM_WORLD_RANK' }, size = { 'MV2_COMM_WORLD_SIZE' } },
   { name = 'a launcher of PMI (MPICH, Intel MPI)', rank = { 'PMI_RANK' }, size = { 'PMI_SIZE' } },
   { name = 'Slurm', rank = { 'SLURM_PROCID' }, size = { 'SLURM_STEP_NUM_TASKS', 'SLURM_NTASKS' } },
   { name = 'Flux', rank = { 'FLUX_TASK_RANK' }, size = { 'FLUX_JOB_SIZE' } },
   { name = 'JSM', rank = { 'JSM_NAMESPACE_RANK' }, size = { 'JSM_NAMESPACE_SIZE' } },
   { name = 'torchrun', rank = { 'RANK' }, size = { 'WORLD_SIZE' } },
   -- It sets no size: one of the others does, or nobody knows it.
   { name = 'a launcher of PMIx', rank = { 'PMIX_RANK' }, size = {} },
}

local most = 1000000
local alone = 'IPC_TREE=none makes this node a tree of its own'

local function set(name)
   local text = os.getenv(name)
   return text ~= '' and text or nil
end

--- The first of `names` that is set, and what it says.
local function first(names)
   for _, name in ipairs(names) do
      local text = set(name)
      if text then return name, text end
   end
end

--- What `name=text` says, a whole number from `low` to `high`; `[state]` where it says something else.
local function whole(name, text, low, high)
   local value = tonumber(text)
   if not value or value ~= math.floor(value) or value < low or value > high then
      utils.raise('state', place, 'the environment has %s=%s: expected a whole number from %d to %d; %s', name, text,
         low, high, alone)
   end
   return math.floor(value)
end

--- What ipcrun tells its nodes: `index`, `count`, and the `host` and `port` where they ask; nil in a process that it
--- did not start.
local function ipcrun()
   local nodes, node, root = set 'IPC_NODES', set 'IPC_NODE', set 'IPC_ROOT'
   if not (nodes or node or root) then return nil end
   local host, port = (root or ''):match '^%[?(.-)%]?:(%d+)$'
   if not (nodes and node and host) then
      utils.raise('state', place, 'the environment has IPC_NODE=%s, IPC_NODES=%s and IPC_ROOT=%s, of which ipcrun sets '
         .. 'all three (IPC_ROOT=host:port); %s', tostring(node), tostring(nodes), tostring(root), alone)
   end
   local count = whole('IPC_NODES', nodes, 1, most)
   return { index = whole('IPC_NODE', node, 1, count), count = count, host = host, port = tonumber(port) }
end

--- Raises where a launcher says that this process is one of several, or nothing that makes sense.
local function others()
   local ranks, sizes = {}, 0
   for _, launcher in ipairs(launchers) do
      local rankName, rankText = first(launcher.rank)
      local sizeName, sizeText = first(launcher.size)
      local size = sizeText and whole(sizeName, sizeText, 1, most)
      local rank = rankText and whole(rankName, rankText, 0, most)
      local said = {}
      if rank then said[#said + 1] = rankName .. '=' .. rankText end
      if size then said[#said + 1] = sizeName .. '=' .. sizeText end
      said = table.concat(said, ' ')
      if size and rank and rank >= size then
         utils.raise('state', place,
            'the environment has %s, as if %s had started this process; there is no such rank; %s', said, launcher.name,
            alone)
      end
      if size and size > 1 and not rank then
         utils.raise('state', place,
            'the environment has %s, as under %s, and not %s, so this process has no place among the nodes; start the '
            .. 'nodes by ipcrun, or %s', said, launcher.name, launcher.rank[1], alone)
      end
      if size and size > 1 then
         utils.raise('state', place,
            'the environment has %s: %s has started %d nodes, which this version of libipc cannot join by itself; give '
            .. 'each its place (ipc.StaticTree, ipc.DiscoveredTree), start them by ipcrun, or %s', said, launcher.name,
            size, alone)
      end
      if rank and not size then
         ranks[#ranks + 1] = { said = said, name = launcher.name, size = launcher.size[1] }
      end
      if size then sizes = sizes + 1 end
   end
   for _, half in ipairs(ranks) do
      if half.size or sizes == 0 then
         utils.raise('state', place,
            'the environment has %s, as under %s, and nothing of how many nodes there are%s; start the nodes by '
            .. 'ipcrun, or %s',
            half.said, half.name, half.size and (' (%s)'):format(half.size) or '', alone)
      end
   end
end

--- What this process was told by what started it: as `ipcrun` says it; nil for a process that is alone. Raises
--- `[state]` where a launcher's variables are set that cannot be used.
return function()
   local asked = set 'IPC_TREE'
   if asked == 'none' then return nil end
   if asked then
      utils.raise('argument', place, 'the environment has IPC_TREE=%s: expected none, or nothing', asked)
   end
   local here = ipcrun()
   if not here then others() end
   return here
end
