-- Who is woken by what: counted in the switches of threads that the system tells, not in time.
local support = require 'spec.support'

-- For the programs below: how often the threads of this process whose name begins with `name` have gone to sleep.
local switches = [[
  local ipc = require 'libipc'
  local function switches(name)
    local sum, list = 0, io.popen 'ls /proc/$PPID/task'
    for tid in list:lines() do
      local f = io.open('/proc/self/task/' .. tid .. '/status')
      local text = f and f:read '*a' or ''
      if f then f:close() end
      if text:match '^Name:%s*(%S+)' == name then sum = sum + tonumber(text:match '\nvoluntary_ctxt_switches:%s*(%d+)') end
    end
    list:close()
    return sum
  end
]]

describe('a change wakes', function()
  it('one of many writers at a full channel, not all of them', function()
    local out = support.check(switches .. [[
      local c, gate, writers, each = ipc.channel { capacity = 4 }, ipc.mutex(), 48, 30
      local m = ipc.map { threads = writers, name = 'writer', args = { c, gate, writers, each }, fn = function(c, gate, n, each)
        gate:barrier(n + 1)
        for i = 1, each do c:write(i) end
        gate:barrier(n + 1)
      end }
      gate:barrier(writers + 1)
      ipc.sleep(0.05)
      local before = switches 'writer'
      for i = 1, writers * each do
        c:read()
        -- The writers are asleep again before the next one.
        if i % 8 == 0 then ipc.sleep(0.0005) end
      end
      print((switches 'writer' - before) / (writers * each))
      gate:barrier(writers + 1)
      m:join()
    ]])
    assert.is_true(tonumber(out) < 8, out .. ' sleeps an item')
  end)

  it('few of many threads that wait for the next message of a server', function()
    local out = support.check(switches .. [[
      local server, port = ipc.server()
      local threads, messages = 48, 300
      local m = ipc.map { threads = threads, name = 'receiver', args = { server }, fn = function(server)
        while true do
          local v, c = server:recvAny()
          if v == 'end' then return end
          c:send(v)
        end
      end }
      local client = ipc.client(port)
      client:send(0)
      client:recv()
      ipc.sleep(0.05)
      local before = switches 'receiver'
      for i = 1, messages do
        client:send(i)
        assert(client:recv() == i)
      end
      print((switches 'receiver' - before) / messages)
      for _ = 1, threads do client:send 'end' end
      m:join()
    ]])
    assert.is_true(tonumber(out) < 16, out .. ' sleeps a message')
  end)

  it('those threads in one recvAny that have asked for the tag', function()
    support.check [[
      local ipc = require 'libipc'
      local server, port = ipc.server()
      local m = ipc.map(6, function(server, id)
        local sum = 0
        while true do
          local v = server:recvAny(id <= 3 and 'a' or 'b')
          if v == 'end' then return sum end
          sum = sum + v
        end
      end, server)
      local clients = {}
      for i = 1, 2 do
        clients[i] = ipc.client(port)
        server:clients(i, function(c) if not c:tag() then c:tag(i == 1 and 'a' or 'b') end end)
      end
      for i = 1, 200 do
        clients[1]:send(1)
        clients[2]:send(1000)
        if i % 50 == 0 then ipc.sleep(0.01) end
      end
      for _ = 1, 3 do clients[1]:send 'end' clients[2]:send 'end' end
      local sums, total = { m:join(100) }, 0
      for _, sum in ipairs(sums) do total = total + sum end
      assert(total == 200 * 1001, total)
    ]]
  end)

  it('the one who waits for that future', function()
    local out = support.check(switches .. [[
      local pool, threads, tasks, gate = ipc.pool(1), 32, 200, ipc.mutex()
      local go = ipc.channel()
      local m = ipc.map { threads = threads, name = 'waiter', args = { pool, go, gate, threads },
        fn = function(pool, go, gate, threads)
          local f = pool:submit(function(go) go:read() end, go)
          gate:barrier(threads + 1)
          f:get()
          gate:barrier(threads + 1)
        end }
      gate:barrier(threads + 1)
      ipc.sleep(0.05)
      local before = switches 'waiter'
      for i = 1, threads do
        go:write(i)
        ipc.sleep(0.001)
      end
      gate:barrier(threads + 1)
      print((switches 'waiter' - before) / threads)
      m:join()
      pool:close()
    ]])
    assert.is_true(tonumber(out) < 10, out .. ' sleeps a future')
  end)
end)

describe('threads that wait', function()
  it('sleep until they are woken: no one looks up in between but the one that takes Ctrl-C', function()
    local out = support.check(switches .. require 'spec.support.blocked'.threads() .. [[
      ipc.sleep(0.5)
      -- The system tells of a file's lock only who blocks for it; and the nodes of a tree look after each other.
      local looks = { ['ipc.flock'] = true, ['client:tryrecv'] = true, ['server:tryrecvAny'] = true, LocalhostTree = true }
      local function all()
        local sum = 0
        for _, t in ipairs(ipc.report().threads) do
          local f = t.name ~= 'main' and not looks[t.waiting] and io.open('/proc/self/task/' .. t.id .. '/status')
          if f then
            sum = sum + tonumber(f:read '*a':match '\nvoluntary_ctxt_switches:%s*(%d+)')
            f:close()
          end
        end
        return sum
      end
      -- On a busy machine some are still on their way at first. Who looks up twice a second does so in every window.
      local least = math.huge
      for _ = 1, 8 do
        local before = all()
        ipc.sleep(2.6)
        least = math.min(least, (all() - before) / #list)
        if least < 2 then break end
      end
      print(least)
      m:cancel()
      pcall(m.join, m)
    ]])
    assert.is_true(tonumber(out) < 2, out .. ' sleeps a thread')
  end)
end)
