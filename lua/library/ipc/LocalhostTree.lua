---@meta ipc.LocalhostTree

--- The tree of processes (or threads) of one host whose parent is the same process, or that name the same one:
--- doc/tree.md.
---@param nodeIndex integer this node, from 1; the root is 1
---@param numNodes integer how many there are
---@param ppid? integer|ipc.TreeOptions
---@param options? ipc.TreeOptions
---@return ipc.Tree
local function LocalhostTree(nodeIndex, numNodes, ppid, options) end

return LocalhostTree
