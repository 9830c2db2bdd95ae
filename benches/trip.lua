-- Seconds that a round trip between two threads takes, through a work queue or two channels.
local ipc = require 'libipc'

-- Of n calls of `trip(i)`, after a first one that waits until the other thread is there.
local function each(trip, n)
  trip(0)
  local start = ipc.clock()
  for i = 1, n do trip(i) end
  return (ipc.clock() - start) / n
end

local trip = {}

function trip.queue(n)
  local q = ipc.workqueue()
  local echo = ipc.map(1, function(queue, count)
    for _ = 0, count do queue:write(queue:read()) end
  end, q, n)
  local took = each(function(i)
    q:write(i)
    q:read()
  end, n)
  echo:join()
  q:close()
  return took
end

function trip.channel(n)
  local there, back = ipc.channel(), ipc.channel()
  local echo = ipc.map(1, function(from, to)
    for item in from:items() do to:write(item) end
  end, there, back)
  local took = each(function(i)
    there:write(i)
    back:read()
  end, n)
  there:close()
  echo:join()
  return took
end

return trip
