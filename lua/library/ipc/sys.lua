---@meta ipc.sys

--- What Torch's scripts know as `sys`.
---@class ipc.sys
local sys = {}

--- Seconds since 1970, with fractions.
---@return number
function sys.clock() end

--- Starts the watch that `toc` reads.
function sys.tic() end

--- Seconds since `tic`.
---@param verbose? boolean true: prints them, too
---@return number
function sys.toc(verbose) end

--- Waits.
---@param seconds number
function sys.sleep(seconds) end

--- What a shell command writes to its standard output, without the line feed at its end.
---@param command string
---@return string
function sys.execute(command) end

--- The name of the system.
---@return 'linux'|'macos'
function sys.uname() end

return sys
