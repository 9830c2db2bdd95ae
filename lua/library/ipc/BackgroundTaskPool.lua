---@meta ipc.BackgroundTaskPool

--- A bounded number of threads that do tasks beside this one: doc/background.md.
---@param size integer how many threads
---@param options? ipc.BackgroundTaskPoolOptions
---@return ipc.BackgroundTaskPool
local function BackgroundTaskPool(size, options) end

return BackgroundTaskPool
