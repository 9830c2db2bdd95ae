---@meta ipc.BackgroundTask

--- Calls `fn(...)` in a thread beside this one: doc/background.md.
---@param fn function
---@param ... any
---@return ipc.BackgroundTask
local function BackgroundTask(fn, ...) end

return BackgroundTask
