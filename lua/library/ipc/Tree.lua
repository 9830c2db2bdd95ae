---@meta ipc.Tree

--- Calls `link(parent, child)` for each pair of nodes that is connected.
---@alias ipc.buildTree fun(base: integer, n: integer, at: integer, depth: integer, link: fun(a: integer, b: integer))

--- The tree over connections that the caller has made: doc/tree.md.
---@param nodeIndex? integer this node, from 1; the root is 1; nil: the root gives it out
---@param numNodes integer how many there are
---@param base? integer how many children a node has; 2
---@param server? ipc.server the root has one
---@param client? ipc.client all others have one, connected to the root
---@param host? string where this node listens, if others connect to it
---@param port? integer|string
---@param buildTree? ipc.buildTree|ipc.TreeOptions
---@param options? ipc.TreeOptions
---@return ipc.Tree
local function Tree(nodeIndex, numNodes, base, server, client, host, port, buildTree, options) end

return Tree
