-- What threads and processes do with each other beside programs that take every core, where a thread that waits must not
-- give its core away. Each row against the same by blocking sockets or POSIX threads, a moment before or after.
local ipc = require 'libipc'
local torch = require 'ipc.torch'
local bare = require 'benches.bare'
local trip = require 'benches.trip'
local peer = require 'bench_peer'

-- Seconds that lock and unlock take when two threads do nothing else: of ours, or of the peer at an address.
local function contended(mutex, address)
  local ready = ipc.mutex()
  local function work(m, at, gate)
    local clock = require('libipc').clock
    m = m or require 'bench_peer'.mutex(at)
    gate:barrier(2)
    local start, pairs_ = clock(), 0
    while clock() - start < 0.2 do
      for _ = 1, 100 do
        m:lock()
        m:unlock()
      end
      pairs_ = pairs_ + 100
    end
    return pairs_
  end
  local one, other = ipc.map(2, work, mutex, address, ready):join()
  return 0.2 / (one + other)
end

-- Seconds a meeting.
local function meetings(threads, n)
  local m = ipc.mutex()
  local others = ipc.map(threads - 1, function(mutex, k, count)
    for _ = 0, count do mutex:barrier(k) end
  end, m, threads, n)
  m:barrier(threads)
  local start = ipc.clock()
  for _ = 1, n do m:barrier(threads) end
  local took = (ipc.clock() - start) / n
  others:join()
  return took
end

-- Round trips of a string to a thread over TCP, and of as many bytes to one that reads and writes bare sockets.
local function links(size)
  local server, port = ipc.server()
  local echo = ipc.map(1, function(at)
    local client = require('libipc').client(at)
    while true do
      local ok, v = pcall(client.recv, client)
      if not ok then return end
      client:send(v)
    end
  end, port)
  local link
  server:clients(1, function(c) link = c end)
  local listener, bare_port = bare.listen()
  local bare_echo = ipc.map(1, function(at, n)
    local b = require 'benches.bare'
    local fd, p = b.connect(at), b.buffer(n)
    while b.recv(fd, p, n) do b.send(fd, p, n) end
  end, bare_port, size + 16)
  local fd, p = bare.accept(listener), bare.buffer(size + 16)
  local value = ('x'):rep(size)
  return {
    ours = function()
      link:send(value)
      return link:recv()
    end,
    bare = function()
      bare.send(fd, p, size + 16)
      bare.recv(fd, p, size + 16)
    end,
    close = function()
      link:close()
      server:close()
      bare.close(fd)
      bare.close(listener)
      echo:join()
      bare_echo:join()
    end,
  }
end

-- Seconds an allReduce of 1,000 floats takes two processes, as many as fit into a moment.
local function all_reduce(n)
  local key = 'busy ' .. ipc.getpid()
  local function run(index, parent)
    local tree = require 'ipc.LocalhostTree'(index, 2, parent, { key = key })
    local t = torch.FloatTensor(1000):fill(1)
    local start = ipc.clock()
    for _ = 1, n do tree.allReduce(t, function(a, b) return a:add(b) end) end
    local took = (ipc.clock() - start) / n
    tree.close()
    return took
  end
  local pid = ipc.fork()
  if pid == 0 then os.exit(pcall(run, 2, ipc.getppid()) and 0 or 1) end
  local took = run(1, ipc.getpid())
  assert(ipc.waitpid(pid) == 0, 'a node failed')
  return took
end

return function(report)
  local loops = {}
  for i = 1, 4 do loops[i] = ipc.spawn { file = 'luajit', args = { '-e', 'while true do end' } } end
  ipc.sleep(0.1)
  local function beside(what, ours, theirs, who)
    local times = report.turns({ ours = ours, theirs = theirs }, 9)
    report.compare(what .. ', beside four endless loops', times.ours, times.theirs, who, '<= 1.2')
  end
  beside('work queue, round trip', function() return trip.queue(3000) end,
    function() return peer.pingpong(3000) / 3000 end, 'two threads in C, by condition variables')
  local mutex, theirs = ipc.mutex(), peer.mutex()
  beside('mutex, lock and unlock by two threads', function() return contended(mutex) end,
    function() return contended(nil, theirs:address()) end, 'a recursive mutex of pthreads, bound in C')
  for _, k in ipairs { 2, 4 } do
    beside(('barrier of %d threads'):format(k), function() return meetings(k, 1000) end,
      function() return peer.barrier(k, 1000) / 1000 end, 'a barrier of pthreads, in C')
  end
  local small = links(1024)
  beside('round trip of a 1 KB string over TCP to a thread', function() return report.time(small.ours, 1, 0.1) end,
    function() return report.time(small.bare, 1, 0.1) end, 'bare blocking sockets')
  small.close()
  local there = links(4000)
  beside('allReduce of 1K floats, 2 processes', function() return all_reduce(1000) end,
    function() return report.time(there.bare, 1, 0.1) end, 'as many bytes over bare blocking sockets, there and back')
  there.close()
  for _, loop in ipairs(loops) do loop:wait(9) end
end
