--- What Torch's scripts know as `sys`: clocks, and the system's commands. `require 'sys'` finds it where the real one
--- is not installed.

local ipc = require 'libipc'
local utils = require 'ipc.utils'

local sys = {}
local started

--- Seconds since 1970, with fractions.
local offset = os.time() - ipc.clock()
function sys.clock() return offset + ipc.clock() end

--- Starts the watch that `toc` reads.
function sys.tic() started = ipc.clock() end

--- Seconds since `tic`; printed with `verbose`.
function sys.toc(verbose)
   local seconds = ipc.clock() - (started or ipc.clock())
   if verbose then print(seconds) end
   return seconds
end

--- Waits so many seconds.
sys.sleep = utils.api(function(seconds)
   local ok, e = pcall(ipc.sleep, seconds)
   if not ok then error(utils.reworded(e, 'ipc%.sleep', 'sys.sleep'), 0) end
end)

--- What the shell command `command` writes to its standard output, without the line feed at its end.
sys.execute = utils.api(function(command)
   utils.check('sys.execute', 1, command, 'string')
   local pipe, why = io.popen(command)
   if not pipe then utils.raise('io', 'sys.execute', '%s', why) end
   local text = pipe:read '*a'
   pipe:close()
   return (text:gsub('\r?\n$', ''))
end)

--- `'linux'`, `'macos'`.
function sys.uname() return ipc.isOSX() and 'macos' or 'linux' end

return sys
