---@meta ipc.StaticTree

--- The tree of nodes that know where the root listens: doc/tree.md.
---@param nodeIndex integer this node, from 1; the root is 1
---@param numNodes integer how many there are
---@param nodeHost? string where this node listens, if others connect to it
---@param nodePort? integer|string
---@param rootHost? string where the root listens
---@param rootPort? integer|string
---@param options? ipc.TreeOptions
---@return ipc.Tree
local function StaticTree(nodeIndex, numNodes, nodeHost, nodePort, rootHost, rootPort, options) end

return StaticTree
