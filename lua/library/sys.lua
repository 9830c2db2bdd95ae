---@meta sys

-- `require 'sys'` gives this where the real one is not installed: ipc/sys.lua describes it.
---@type ipc.sys
local sys = {}

return sys
