--- Makes the table that a user calls a tree, for every kind of tree.

local ipc = require 'libipc'
local meet = require 'ipc.collective.meet'
local utils = require 'ipc.utils'

-- What a tree can do: each module makes one operation for the group that it is given. New operations go here.
local operations = {
   allReduce = require 'ipc.collective.allReduce',
   barrier = require 'ipc.collective.barrier',
   scatter = require 'ipc.collective.scatter',
}

local build = {}

-- After so many seconds a node that waits says what may be wrong.
local hints = 10

-- Nodes that one root can meet: more would take all of its ports, and its patience.
local largest = 65536

local unpack = table.unpack or unpack -- luacheck: ignore 143

local function figure(value)
   return type(value) == 'number' and ('%.6g'):format(value) or tostring(value)
end

--- `tx.num_bytes 123 …`, keys sorted, for a table of figures.
local function figures(stats, prefix)
   local words = {}
   for _, key in ipairs(utils.sortedKeys(stats)) do
      local value = stats[key]
      if type(value) == 'table' then
         words[#words + 1] = figures(value, prefix .. tostring(key) .. '.')
      else
         words[#words + 1] = prefix .. tostring(key) .. ' ' .. figure(value)
      end
   end
   return table.concat(words, '  ')
end

local function describe(group)
   local children = {}
   for i, link in ipairs(group.children) do children[i] = link.index end
   return ('ipc.Tree: node %d of %d, %s, parent %s, children %s'):format(group.index, group.count, group.state,
      group.parent and group.parent.index or 'none', #children > 0 and table.concat(children, ' ') or 'none')
end

--- The tree of `group`. `opened`: what is closed with it.
function build.tree(group, opened)
   group.owner = {}
   local tree = {
      nodeIndex = group.index,
      numNodes = group.count,
      walkTable = utils.api(utils.walkTable, 1, group.owner),
   }
   group.owner[1] = tree
   for name, make in pairs(operations) do tree[name] = make(group) end

   --- Prints what went over each link of this node, and returns it by node index.
   function tree.netStats()
      local all = {}
      for i = 1, group.needed do
         local link = group.links[i]
         local ok, stats = pcall(link.connection.netStats, link.connection)
         if ok then
            all[link.index] = stats
            print(('node %d <-> node %d  %s'):format(group.index, link.index, figures(stats, '')))
         end
      end
      return all
   end

   function tree.close()
      if group:close() then
         for _, thing in ipairs(opened) do pcall(thing.close, thing) end
      end
   end

   return setmetatable(tree, { __tostring = function() return describe(group) end })
end

-- Of a tree's options what goes into `ipc.server` and `ipc.client`, and all.
local forConnections = {
   'secret', 'encrypt', 'insecure', 'transport', 'functions', 'max_message', 'max_tensor_bytes',
}
local known = { 'timeout', 'base', 'key' }
for _, key in ipairs(forConnections) do known[#known + 1] = key end

--- Checks that `options`, in place `at`, are those of a tree, whichever its kind: a node alone takes them all. `more`
--- names one more option that is known.
function build.options(place, at, options, more)
   local names = known
   if more then names = { more, unpack(known) } end
   utils.checkOptions(place, at, options, names)
   return options or {}
end

local function connectOptions(options)
   local picked
   for _, key in ipairs(forConnections) do
      if options[key] ~= nil then
         picked = picked or {}
         picked[key] = options[key]
      end
   end
   return picked
end

--- How many seconds the constructor may still wait, `most` at most.
local function left(spec, most)
   return math.max(math.min(spec.deadline - ipc.clock(), most or math.huge), 0)
end

--- Checks what all kinds of tree have in common, and gathers it: `place` is the constructor's name, `at` the position
--- of the options among its arguments.
function build.spec(place, index, count, options, at)
   utils.checkIndex(place, 2, count, 1, largest)
   if index ~= nil then utils.checkIndex(place, 1, index, 1, count) end
   options = build.options(place, at, options)
   local timeout = utils.timeout(place, at, options)
   local base = options.base
   if base == nil then base = 2 end
   utils.checkIndex(place .. ': base', at, base, 1, math.huge)
   return {
      place = place,
      index = index and math.floor(index), -- 2.0 is 2
      count = math.floor(count),
      base = math.floor(base),
      timeout = timeout,
      deadline = ipc.clock() + timeout, -- of all that the constructor waits for
      left = left,
      connect = connectOptions(options),
   }
end

--- The root's tree at `spec.server`.
function build.root(spec, opened)
   local ok, group = pcall(meet.root, spec)
   if not ok then
      for _, thing in ipairs(opened) do pcall(thing.close, thing) end
      error(group, 0)
   end
   return build.tree(group, opened)
end

--- Another node's tree over `spec.client`; or nil, code and text when the root refuses it.
function build.node(spec, opened)
   local ok, group, more, why = pcall(meet.node, spec)
   if not ok or not group then
      for _, thing in ipairs(opened) do pcall(thing.close, thing) end
      if not ok then error(group, 0) end
      return nil, more, why
   end
   for _, thing in ipairs(opened) do more[#more + 1] = thing end
   return build.tree(group, more)
end

--- Connects to a root that may not be there yet, or may be another's: `find(seconds, refused)` names its host, port
--- and token, or nothing; `refused` says that the one it named last does not take us. Goes on until a root takes this
--- node.
function build.search(spec, find, still)
   local why, refused = 'no root was found', false
   -- What was found may be the address of a root that has just gone: little patience at first.
   local pause, patience = 0.01, 0.5
   local tell = spec.hint and ipc.clock() + hints -- when to say what may be wrong
   while true do
      local host, port, token = find(spec:left(tell and tell - ipc.clock()), refused)
      refused = false
      if tell and not host and ipc.clock() >= tell and spec:left() > 0 then
         tell = nil
         utils.tell('%s: node %s has found no root for %g s, and goes on looking%s', spec.place,
            spec.index or 'without an index', hints, spec.hint)
      end
      if host then
         local options = { connect_timeout = spec:left(patience) }
         for key, value in pairs(spec.connect or {}) do options[key] = value end
         local ok, client = pcall(ipc.client, host, port, options)
         if ok then
            spec.client, spec.token = client, token
            spec.still = still
            local tree, _, text = build.node(spec, { client })
            if tree then return tree end
            why, refused = text, true
         else
            local code = utils.errcode(client)
            if code ~= 'timeout' and code ~= 'refused' and code ~= 'closed' and code ~= 'io' then error(client, 0) end
            why = utils.what(client)
            patience = math.min(patience * 2, 5)
         end
      end
      if spec:left() == 0 then
         utils.raise('timeout', spec.place, 'node %s found no root that takes it within %g s; last: %s%s',
            spec.index or 'without an index', spec.timeout, why, spec.hint or '')
      end
      ipc.sleep(spec:left(pause))
      pause = math.min(pause * 2, 1)
   end
end

return build
