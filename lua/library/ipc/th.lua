---@meta ipc.th

-- The globals of the interpreter `th`, for scripts that are run by `luajit -l ipc.th`.

---@type torch
torch = {}

---@type ipc.sys
sys = {}

return torch
