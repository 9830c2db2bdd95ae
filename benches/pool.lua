-- A pool of warm workers: one task and its result, many small tasks, and a list, against threads that are started for it.
local ipc = require 'libipc'

local function nothing(x) return x end

-- Some milliseconds in all, in items that are long enough to be worth a thread.
local function work(x)
  local sum = 0
  for i = 1, 20000 do sum = sum + (x * i) % 7 end
  return sum
end

local function list(n)
  local items = {}
  for i = 1, n do items[i] = i end
  return items
end

return function(report)
  local pool = ipc.pool(2)
  local one = report.time(function() pool:submit(nothing, 1):get() end, 11)
  report.compare('pool, warm submit and get', one, 20e-6, 'limit', '<= 1')
  report.compare('pool, warm submit and get', one, report.time(function() ipc.map(1, nothing, 1):join() end, 7),
    'map(1) and join', '<= 0.2')

  -- Its threads are warm too; what is done comes back by the event loop.
  local uv = require 'luv'
  local queued = uv.new_work(nothing, function() end)
  report.compare('pool, warm submit and get', one, report.time(function()
    queued:queue(1)
    uv.run()
  end, 7), 'luv.new_work')

  local many = list(1000)
  local mapped = report.time(function() pool:map(nothing, many) end, 7) / #many
  report.compare_rate('pool:map, tasks that do nothing', 1 / mapped, 100e3, 'limit', '>= 1')

  local items = list(200)
  local times = report.turns({
    pool = function()
      local start = ipc.clock()
      pool:map(work, items)
      return ipc.clock() - start
    end,
    -- The best that threads can do: each has its share from the start.
    map = function()
      local start = ipc.clock()
      ipc.map { threads = 2, upvalues = true, args = { items }, fn = function(share, id)
        local sums = {}
        for i = id, #share, 2 do sums[i] = work(share[i]) end
        return sums
      end }:join()
      return ipc.clock() - start
    end,
  }, 7)
  report.compare('pool:map over 200 items of some 0.1 ms, two workers', times.pool, times.map, 'ipc.map, shares dealt out',
    '<= 1.2')
  pool:close()
end
