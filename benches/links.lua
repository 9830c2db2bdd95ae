-- A client and a server in two threads of one process: a small table there and back over memory, beside two channels and
-- beside TCP; and tensors one way, beside a copy of their bytes: by value, and one in shared memory by reference.
local ipc = require 'libipc'
local torch = require 'ipc.torch'
local trip = require 'benches.trip'

local small = { x = 1, y = 2.5, name = 'hello', list = { 1, 2, 3 } }

-- Seconds for each of n tensors that one thread sends and another receives.
local function one_way(t, n, options)
  local server, port = ipc.server { transport = 'memory' }
  local m = ipc.map(1, function(at, tensor, count, how)
    local client = require 'libipc'.client(at, { transport = 'memory' })
    client:recv()
    local start = require 'libipc'.clock()
    for _ = 1, count do client:send(tensor, how) end
    client:recv()
    return require 'libipc'.clock() - start
  end, port, t, n, options)
  local handle
  server:clients(1, function(c) handle = c end)
  handle:send 'go'
  for _ = 1, n do handle:recv() end
  handle:send 'got them'
  local took = m:join()
  server:close()
  return took / n
end

return function(report)
  local n = 20000
  local contenders = {
    memory = function() return trip.link(n, small, 'memory') end,
    channels = function() return trip.channel(n, small) end,
    tcp = function() return trip.link(report.one_core and n or n / 10, small, 'tcp') end,
  }
  local times = report.turns(contenders, 7)
  report.compare('client and server over memory, round trip of a small table', times.memory, times.channels, 'two channels', '<= 1.5')
  report.compare('client and server over memory, round trip of a small table', times.memory, times.tcp, 'the same over TCP')
  if report.one_core then return end
  for _, case in ipairs { { '4 KB', 1e3, 5000 }, { '400 KB', 1e5, 500 }, { '4 MB', 1e6, 50 }, { '40 MB', 1e7, 10 } } do
    local what, size, count = case[1], case[2], case[3]
    local t, copy = torch.FloatTensor(size):fill(1), nil
    times = report.turns({
      sent = function() return one_way(t, count) end,
      copied = function() return report.time(function() copy = t:clone() end, 5, 0.05) end,
    }, 5)
    assert(copy:nElement() == size)
    report.compare('a tensor of ' .. what .. ' over memory, one way', times.sent, times.copied, 'clone()')
  end
  local shared = ipc.sharedTensor('Float', 1e7)
  times = report.turns({ sent = function() return one_way(shared, 20000, { share = true }) end }, 5)
  report.compare('a tensor of 40 MB over memory, one way, by reference', times.sent, 5e-6, '5 µs', '<= 1')
end
