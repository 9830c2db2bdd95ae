-- Channels between threads of one process: rates from one to one, one to many and many to one; the round trip; the memory
-- that a million unread items take.
-- luacheck: ignore 431 432 (what goes to a thread has the same name there)
local ipc = require 'libipc'
local trip = require 'benches.trip'

-- Seconds an item with `readers` threads that read what this one writes, from the first written to the last read.
local function to_readers(value, n, readers)
  local c, done = ipc.channel(), ipc.channel()
  local threads = ipc.map(readers, function(c, done)
    local read, DRAINED = c.read, require('libipc').channel.DRAINED
    done:write 'ready'
    repeat until read(c) == DRAINED
    done:write(true)
  end, c, done)
  for _ = 1, readers do done:read() end
  local start = ipc.clock()
  local write = c.write
  for _ = 1, n do write(c, value) end
  c:close()
  for _ = 1, readers do done:read() end
  local took = ipc.clock() - start
  threads:join()
  return took / n
end

-- Seconds an item with `writers` threads that write what this one reads.
local function from_writers(value, n, writers, capacity)
  local c, ready, go = ipc.channel { capacity = capacity }, ipc.channel(), ipc.channel()
  local threads = ipc.map(writers, function(c, ready, go, value, n)
    ready:write(true)
    go:read()
    local write = c.write
    for _ = 1, n do write(c, value) end
  end, c, ready, go, value, math.floor(n / writers))
  for _ = 1, writers do ready:read() end
  local start = ipc.clock()
  go:close()
  local read = c.read
  n = math.floor(n / writers) * writers
  for _ = 1, n do read(c) end
  local took = ipc.clock() - start
  threads:join()
  return took / n
end

-- Bytes of memory in use.
local function resident()
  for line in io.lines '/proc/self/status' do
    local kb = line:match '^VmRSS:%s*(%d+)'
    if kb then return tonumber(kb) * 1024 end
  end
end

-- How much memory n unread items take, for each byte of their encoding.
local function overhead(value, n)
  local c = ipc.channel()
  collectgarbage()
  local before = resident()
  for _ = 1, n do c:write(value) end
  return (resident() - before) / (n * #ipc.marshal(value):bytes())
end

local small = { x = 1, y = 2.5, name = 'hello' }

return function(report)
  if report.one_core then
    local times = report.turns({ ours = function() return trip.channel(20000) end }, 7)
    report.compare('channel, round trip', times.ours, 6e-6, 'limit', '<= 1')
    return
  end
  if io.open '/proc/self/status' then
    local n = 1e6
    local ratio = overhead(small, n)
    report.row {
      what = 'channel, memory of 1,000,000 unread small tables', ratio = ratio, goal = '<= 2',
      detail = ('%.1f times their encoded size'):format(ratio),
    }
  end
  local torch = require 'ipc.torch'
  for _, case in ipairs {
    { 'integers', 7, 400000, 6e6 },
    { 'small tables', small, 100000, 1.5e6 },
    { '1 KB strings', ('x'):rep(1024), 100000, 1.6e6 },
    { '4 MB tensors, by reference', torch.FloatTensor(2 ^ 20), 100000, 0.6e6 },
  } do
    local what, value, n, limit = case[1], case[2], case[3], case[4]
    local times = report.turns({
      one = function() return to_readers(value, n, 1) end,
      to_four = function() return to_readers(value, n, 4) end,
      from_four = function() return from_writers(value, n, 4) end,
    }, 7)
    report.compare_rate('channel, one writer to one reader, ' .. what, 1 / times.one, limit, 'limit', '>= 1')
    report.compare_rate('channel, one writer to four readers, ' .. what, 1 / times.to_four, 1 / times.one, 'one to one')
    report.compare_rate('channel, four writers to one reader, ' .. what, 1 / times.from_four, 1 / times.one, 'one to one')
  end
  local full = report.turns({
    one = function() return from_writers(7, 200000, 1, 16) end,
    many = function() return from_writers(7, 200000, 128, 16) end,
  }, 5)
  report.compare_rate('channel with room for 16, 128 writers to one reader, integers', 1 / full.many, 1 / full.one,
    'one writer', '>= 0.5')
  local times = report.turns({ ours = function() return trip.channel(20000) end }, 7)
  report.compare('channel, round trip', times.ours, 3e-6, 'limit', '<= 1')
end
