---@meta ipc.torch

-- The real torch7 where it is installed, else the tensors of this library: torch.lua describes both.
---@type torch
local torch = {}

return torch
