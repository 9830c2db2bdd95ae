-- A file that is locked, read, written and freed, against the same work on a file that nobody locks.
local ipc = require 'libipc'

return function(report)
  local path, bare = os.tmpname(), os.tmpname()
  local function count(f) return tostring((tonumber(f:read '*a') or 0) + 1) end
  local times = report.turns({
    ours = function()
      return report.time(function()
        local lock = ipc.flock(path)
        lock:write(count(lock))
        lock:close()
      end, 1)
    end,
    bare = function()
      return report.time(function()
        local f = io.open(bare, 'r+')
        local n = count(f)
        f:seek 'set'
        f:write(n)
        f:close()
      end, 1)
    end,
  }, 7)
  os.remove(path)
  os.remove(bare)
  report.compare('flock: lock, read, write, free', times.ours, times.bare, 'open, read, write, close of Lua, unlocked', '<= 2')
end
