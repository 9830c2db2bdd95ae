-- Stands in for lua-system on Lua 5.5: the clocks that busted reads.
local host = require 'host'
return { gettime = host.now, monotime = host.monotonic, sleep = host.sleep }
