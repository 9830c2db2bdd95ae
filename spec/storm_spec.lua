-- Attacks on the whole, made from the documentation alone: threads that do everything at once while processes are forked, a
-- thousand coroutines, items that must not be lost while who waits for them comes and goes, cancels in every call.
-- Each is bounded; only watchdogs know of time.
local support = require 'spec.support'

local SHARE = (support.in_tsan or support.in_valgrind) and 0.1 or 1

-- A program that shares its randomness with nobody: `n(k)` is k, or less of it under the sanitizers.
local function check(chunk)
  return support.check(([[
    local ipc = require 'libipc'
    local SHARE = %s
    local function n(k) return math.max(1, math.floor(k * SHARE)) end
  ]]):format(SHARE) .. chunk, { timeout = 200 })
end

describe('forks', function()
  it('may be made inside of every callback, finalizer and coroutine', function()
    check [[
      local torch = require 'ipc.torch'
      local m, t = ipc.mutex(), ipc.sharedtable { x = 1 }
      local server, port = ipc.server()
      local function use()
        local own, port = ipc.server()
        local c = ipc.client(port)
        own:clients(1, function(h) h:send(1) end, 60)
        assert(c:recv(60) == 1)
        assert(ipc.map(2, function(id) return id end):join(60) == 1)
        t.y = 1
        local ok, e = pcall(server.recvAny, server, nil, 0)
        assert(not ok and ipc.errcode(e) == 'state', e)
      end
      local function child(f)
        local pid = ipc.fork()
        if pid == 0 then
          local ok, e = pcall(f or use)
          if not ok then io.stderr:write(tostring(e), '\n') end
          os.exit(ok and 0 or 5)
        end
        assert(ipc.waitpid(pid, 100) == 0)
      end
      m:with(function() child(function() use() m:unlock() assert(m:trylock()) end) end)
      ipc.sharedtable.update(t, 'x', function(v) child() return v + 1 end)
      assert(t.x == 2)
      local c = ipc.client(port)
      server:clients(1, function() child() end)
      server:clients(function() child() end)
      torch.DoubleTensor(2):fill(1):apply(function(v) child() return v end)
      for _ in ipc.sharedtable.pairs(t) do child(function() t.x = nil use() end) end
      local finalized
      local function finalize() finalized = true child() end
      if newproxy then
        getmetatable(newproxy(true)).__gc = finalize
      else
        setmetatable({}, { __gc = finalize })
      end
      collectgarbage() collectgarbage()
      assert(finalized)
      ipc.scheduler { wait = function(...) coroutine.yield(...) end }
      local running = {}
      for i = 1, 8 do
        running[i] = coroutine.create(function()
          ipc.sleep(0.001)
          if i % 2 == 0 then m:barrier(4) else child(function() ipc.scheduler(nil) use() end) end
        end)
      end
      repeat
        local left = 0
        for _, co in ipairs(running) do
          if coroutine.status(co) ~= 'dead' then
            left = left + 1
            assert(coroutine.resume(co))
          end
        end
      until left == 0
    ]]
  end)

  it('of forks of forks end with their own codes, beside a sibling that was stopped', function()
    check [[
      local server, port = ipc.server()
      local stopped = ipc.fork()
      if stopped == 0 then
        local c = ipc.client(port)
        while true do c:send(1) ipc.sleep(0.001) end
      end
      server:recvAny()
      os.execute('kill -STOP ' .. stopped)
      local function bomb(depth)
        local pids = {}
        for i = 1, 4 do
          local pid = ipc.fork()
          if pid == 0 then
            if depth > 1 then bomb(depth - 1) end
            assert(ipc.map(1, function() return 7 end):join() == 7)
            os.exit(i)
          end
          pids[i] = pid
        end
        for i, pid in ipairs(pids) do assert(ipc.waitpid(pid) == i) end
      end
      bomb(SHARE == 1 and 3 or 1)
      os.execute('kill -KILL ' .. stopped)
      assert(ipc.waitpid(stopped) == 137)
    ]]
  end)
end)

describe('a bounded channel', function()
  it('loses and doubles nothing, whoever waits at it, times out or is cancelled', function()
    check [[
      math.randomseed(os.time())
      for round = 1, n(60) do
        local capacity, writers, readers = math.random(1, 5), math.random(1, 6), math.random(1, 6)
        local c = ipc.channel { capacity = capacity }
        local w = ipc.map(writers, function(c, capacity, seed, id)
          local ipc, unpack = require 'libipc', unpack or table.unpack
          math.randomseed(seed + id)
          local count = 0
          for i = 1, 100 do
            local items = {}
            for j = 1, math.random(1, math.min(capacity, 3)) do items[j] = id * 1e6 + i * 10 + j end
            if math.random() < 0.5 then
              assert(c:write(unpack(items)) == ipc.channel.OPEN)
            else
              while not c:trywrite(unpack(items)) do ipc.select({ { c, 'write' } }, 0.001) end
            end
            count = count + #items
          end
          return count
        end, c, capacity, round * 1000)
        local r = ipc.map(readers, function(c, seed, id)
          local ipc = require 'libipc'
          math.randomseed(seed + id)
          local got = {}
          while true do
            local how, status, item = math.random(), nil, nil
            if how < 0.4 then
              status, item = c:read()
            elseif how < 0.7 then
              status, item = c:read(0.0005 * math.random())
            else
              ipc.select { c }
              status, item = c:read(true)
            end
            if item then got[#got + 1] = item elseif status == ipc.channel.DRAINED then return got end
          end
        end, c, round * 2000)
        local idle = ipc.map(3, function(c)
          local ipc = require 'libipc'
          while true do ipc.select({ c, { c, 'write' } }, 0.001) end
        end, c)
        ipc.sleep(math.random() * 0.01)
        idle:cancel()
        local written = 0
        for _, count in ipairs { w:join(100) } do written = written + count end
        c:close()
        local seen, read = {}, 0
        for _, got in ipairs { r:join(100) } do
          local last = {}
          for _, item in ipairs(got) do
            local writer = math.floor(item / 1e6)
            assert(not seen[item] and item > (last[writer] or 0))
            seen[item], last[writer], read = true, item, read + 1
          end
        end
        assert(read == written, read .. ' of ' .. written)
        pcall(idle.join, idle)
      end
    ]]
  end)

  it('is whole after those who wrote and read it were cancelled in the middle', function()
    check [[
      for _ = 1, n(100) do
        local c = ipc.channel { capacity = math.random(1, 4) }
        local cut = ipc.map(6, function(c, id)
          while true do if id % 2 == 0 then c:write(id) else c:read() end end
        end, c)
        ipc.sleep(math.random() * 0.003)
        cut:cancel()
        assert(not pcall(cut.join, cut))
        while c:tryread(0) do end
        local w = ipc.map(2, function(c) for i = 1, 100 do c:write(i) end end, c)
        local r = ipc.map(3, function(c) local k = 0 for _ in c:items() do k = k + 1 end return k end, c)
        w:join(100)
        c:close()
        local a, b, d = r:join(100)
        assert(a + b + d == 200)
      end
    ]]
  end)
end)

describe('a cancel', function()
  it('that comes as the threads end harms nothing', function()
    check [[
      for i = 1, n(300) do
        local m = ipc.map(2, function(k) local x = 0 for i = 1, k do x = x + i end return x end, math.random(0, 200000))
        for _ = 1, math.random(0, 3000) do end
        m:cancel()
        local ok, e = pcall(m.join, m, 100)
        assert(ok or e:find('[cancelled]', 1, true), e)
      end
    ]]
  end)
end)

describe('a thousand coroutines', function()
  it('do everything at once, some of them dropped in the middle, with few threads', function()
    if _VERSION == 'Lua 5.1' and not support.is_luajit then return pending '5.1 lets nothing yield through a pcall' end
    check [[
      ipc.scheduler { wait = function(fd, mode, timeout) coroutine.yield(fd, mode, timeout) end }
      local server, port = ipc.server()
      local channel, queue, meeting, path = ipc.channel { capacity = 5 }, ipc.workqueue(), ipc.mutex(), os.tmpname()
      local function or_timeout(f, ...)
        local ok, e = pcall(f, ...)
        if not ok and ipc.errcode(e) ~= 'timeout' then error(e, 0) end
        return ok and e
      end
      local jobs = {
        function() local c = ipc.client('localhost', port) c:send(1) or_timeout(c.recv, c, 0.01) c:close() end,
        function() local c = or_timeout(ipc.client, port, { connect_timeout = 0.0001 }) if c then c:close() end end,
        function() local l = ipc.flock(path) ipc.sleep(0) l:close() end,
        function() local l = ipc.flock(path, 0.0001) if l then l:close() end end,
        function() local pid = ipc.fork() if pid == 0 then os.exit(3) end assert(ipc.waitpid(pid) == 3) end,
        function() or_timeout(meeting.barrier, meeting, 10, 1) end,
        function() for i = 1, 5 do or_timeout(channel.write, channel, i) end end,
        function() for _ = 1, 5 do channel:read(0.5) end end,
        function() queue:write(1) queue:read(0.1) end,
        function() ipc.select({ channel, ipc.after(0.01) }, 0.0001) end,
        function() ipc.sleep(0.01) end,
        function() assert(ipc.map(1, function() return 7 end):join() == 7) end,
      }
      local done, fail = 0, nil
      local live = { coroutine.create(function() while true do pcall(server.recvAny, server, nil, 0.02) end end) }
      for i = 1, n(1000) do
        live[i + 1] = coroutine.create(function()
          local ok, e = pcall(jobs[i % #jobs + 1])
          if not ok then fail = fail or e end
          done = done + 1
        end)
      end
      local most = 0
      while #live > 1 do
        local left = {}
        for i, co in ipairs(live) do
          assert(coroutine.resume(co))
          if coroutine.status(co) ~= 'dead' and (i == 1 or math.random() > 0.0005) then left[#left + 1] = co end
        end
        live = left
        if math.random() < 0.1 then collectgarbage() end
        most = math.max(most, tonumber(io.open '/proc/self/status':read '*a':match 'Threads:%s*(%d+)'))
      end
      ipc.scheduler(nil)
      os.remove(path)
      assert(not fail, fail)
      -- The maps of a twelfth of them are threads that were asked for.
      assert(most < 150, most .. ' threads')
    ]]
  end)
end)
