-- A file that is locked, read, written and freed, against the same work on a file that nobody locks.
local ipc = require 'libipc'

return function(report)
  local path, bare = os.tmpname(), os.tmpname()
  local times = report.turns({
    ours = function()
      return report.time(function()
        local lock = ipc.flock(path)
        lock:write(tostring((tonumber(lock:read()) or 0) + 1))
        lock:close()
      end, 1)
    end,
    bare = function()
      return report.time(function()
        local f = io.open(bare, 'r')
        local n = tonumber(f:read '*a') or 0
        f:close()
        f = io.open(bare, 'w')
        f:write(tostring(n + 1))
        f:close()
      end, 1)
    end,
  }, 7)
  os.remove(path)
  os.remove(bare)
  report.compare('flock: lock, read, write, free', times.ours, times.bare, 'io.open, read, write, close, unlocked', '<= 1.5')
end
