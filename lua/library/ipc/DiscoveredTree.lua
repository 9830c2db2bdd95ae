---@meta ipc.DiscoveredTree

--- The tree of nodes that learn where the root listens from `query`, which says what the root has given to `publish`:
--- doc/tree.md.
---@param nodeIndex integer this node, from 1; the root is 1
---@param numNodes integer how many there are
---@param nodeHost? string where this node listens
---@param nodePort? integer|string
---@param publish? fun(host: string, port: integer) the root has one
---@param query? fun(): string?, (integer|string)? all others have one; nil: not yet known
---@param options? ipc.TreeOptions
---@return ipc.Tree
local function DiscoveredTree(nodeIndex, numNodes, nodeHost, nodePort, publish, query, options) end

return DiscoveredTree
