---@meta ipc.NullTree

--- The tree of a node that is alone: doc/tree.md.
---@param options? ipc.TreeOptions
---@return ipc.Tree
local function NullTree(options) end

return NullTree
