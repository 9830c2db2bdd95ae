-- Work queues between threads of one process: rate from one writer to one reader, and the round trip.
local ipc = require 'libipc'
local trip = require 'benches.trip'

-- Seconds an item, from the first written to the last read.
local function stream(value, n)
  local q = ipc.workqueue()
  local reader = ipc.map(1, function(queue, count)
    local read = queue.read
    for _ = 1, count do read(queue) end
    queue:write(true)
  end, q, n)
  local start = require('libipc').clock()
  local write = q.write
  for _ = 1, n do write(q, value) end
  q:read()
  local took = ipc.clock() - start
  reader:join()
  q:close()
  return took / n
end

return function(report)
  for _, case in ipairs(report.one_core and {} or {
    { 'numbers', 1.5, 400000, 5e6 },
    { 'small tables', { x = 1, y = 2.5, name = 'hello' }, 100000, 1e6 },
    { '1 KB strings', ('x'):rep(1024), 100000, 1e6 },
  }) do
    local times = report.turns({ ours = function() return stream(case[2], case[3]) end }, 7)
    report.compare_rate('work queue, one writer to one reader, ' .. case[1], 1 / times.ours, case[4], 'limit', '>= 1')
  end
  local times = report.turns({ ours = function() return trip.queue(20000) end }, 7)
  if report.one_core then
    report.compare('work queue, round trip', times.ours, 6e-6, 'limit', '<= 1')
  else
    report.compare('work queue, round trip', times.ours, 75e-6, 'a sleep and a wake-up each way', '<= 1')
  end
end
