--- Who is whose parent.

local utils = require 'ipc.utils'

--- The default: nodes in order, every one with `base` children, level by level.
local function levels(base, count, _, _, link)
   for child = 2, count do link(math.floor((child - 2) / base) + 1, child) end
end

--- How many levels lie below the root of a full tree of `base` that holds `count` nodes.
local function depth(base, count)
   local levelsBelow, size, width = 0, 1, 1
   while size < count do
      width = width * base
      size = size + width
      levelsBelow = levelsBelow + 1
   end
   return levelsBelow
end

--- Asks `buildTree(base, count, 0, depth, link)` (nil: the default) for the tree, and checks that it is one.
---
--- The function calls `link(parent, child)` for every node but the root, which is node 1; 0 is the root's level,
--- `depth` the last level of a full tree of that base. Returns `parents` and `children` by node index, children
--- ascending.
local function shape(place, base, count, buildTree)
   local parents, children = {}, {}
   for node = 1, count do children[node] = {} end
   (buildTree or levels)(base, count, 0, depth(base, count), function(parent, child)
      utils.checkIndex(place .. ': link, called by buildTree', 1, parent, 1, count)
      utils.checkIndex(place .. ': link, called by buildTree', 2, child, 1, count)
      if child == 1 then utils.raise('argument', place,
         'buildTree made node 1 a child of node %d: node 1 is the root', parent) end
      if parents[child] then
         utils.raise('argument', place, 'buildTree gave node %d two parents, %d and %d', child, parents[child], parent)
      end
      parents[child] = parent
      table.insert(children[parent], child)
   end)
   local reached, queue = 0, { 1 }
   while queue[reached + 1] do
      reached = reached + 1
      for _, child in ipairs(children[queue[reached]]) do queue[#queue + 1] = child end
   end
   if reached < count then
      for child = 2, count do
         if not parents[child] then
            utils.raise('argument', place,
               'buildTree gave node %d no parent: call link(parent, child) for every node but the root', child)
         end
      end
      utils.raise('argument', place, 'buildTree made a ring: only %d of %d nodes hang on the root', reached, count)
   end
   for node = 1, count do table.sort(children[node]) end
   return parents, children
end

return shape
