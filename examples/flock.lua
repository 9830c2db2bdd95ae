-- Counts how often it was run, in a file that one process at a time may change. Start several at the same time:
--
--   for i in 1 2 3 4; do luajit examples/flock.lua /tmp/runs & done; wait

local ipc = require 'libipc'

local path = arg[1] or os.tmpname()
local lock = ipc.flock(path, 10) or error('somebody has held ' .. path .. ' for 10 seconds')
local runs = (tonumber(lock:read()) or 0) + 1
lock:write(tostring(runs))
lock:close()
print('run number ' .. runs)
