---@meta libipc

-- `require 'libipc'` and `require 'ipc'` give the same table: ipc.lua describes it.
---@type ipc
local ipc = {}

return ipc
