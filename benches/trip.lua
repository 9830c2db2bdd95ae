-- Seconds that a round trip between two threads takes: through a work queue, two channels, or a client and its server.
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

-- `value`: what goes there and back; the number of the trip where there is none.
function trip.channel(n, value)
  local there, back = ipc.channel(), ipc.channel()
  local echo = ipc.map(1, function(from, to)
    for item in from:items() do to:write(item) end
  end, there, back)
  local took = each(function(i)
    there:write(value or i)
    back:read()
  end, n)
  there:close()
  echo:join()
  return took
end

-- Over the link `transport`.
function trip.link(n, value, transport)
  local server, port = ipc.server { transport = transport }
  local echo = ipc.map(1, function(at, options, count)
    local client = require 'libipc'.client(at, options)
    for _ = 0, count do client:send(client:recv()) end
  end, port, { transport = transport }, n)
  local handle
  server:clients(1, function(c) handle = c end)
  local took = each(function(i)
    handle:send(value or i)
    handle:recv()
  end, n)
  echo:join()
  server:close()
  return took
end

return trip
