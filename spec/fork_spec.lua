-- §10, without spawn: fork, waitpid, sleep, clock, cpus.
-- luacheck: ignore 431 (what goes to a thread has the same name there)
local support = require 'spec.support'
local ipc = require 'libipc'

local function code(f, ...) return ipc.errcode(support.fails(f, ...)) end

-- The number of a process that runs for minutes, and is a child of this one.
local function sleeper()
  local pid = ipc.fork()
  if pid == 0 then
    ipc.sleep(200)
    os.exit(0)
  end
  return pid
end

local function kill(pid, signal) os.execute(('kill -%s %d'):format(signal, pid)) end

describe('fork', function()
  it('gives 0 in the child and its number in the parent', function()
    local out = support.check [[
      local ipc = require 'libipc'
      local parent = ipc.getpid()
      local pid = ipc.fork()
      if pid == 0 then
        assert(ipc.getppid() == parent)
        assert(ipc.getpid() ~= parent)
        os.exit(9)
      end
      assert(ipc.getpid() == parent)
      print(pid > 0, ipc.waitpid(pid))
    ]]
    assert.equal('true\t9\n', out)
  end)

  it('leaves the child the whole library, also when threads ran', function()
    support.check [[
      local ipc = require 'libipc'
      local q = ipc.workqueue()
      local m = ipc.map(3, function(q)
        while true do
          local n = q:read()
          if n == false then return end
          local t = {}
          for i = 1, 50 do t[i] = ('x'):rep(i) end
          q:write(t)
        end
      end, q)
      for i = 1, 10 do
        for j = 1, 10 do q:write(j) end
        local pid = ipc.fork()
        if pid == 0 then
          local inner = ipc.workqueue('inner')
          local m = ipc.map(2, function(id)
            local ipc = require 'libipc'
            local q = ipc.workqueue 'inner'
            q:write(q:read() * 2)
            return id
          end)
          inner:write(1, 2)
          assert(inner:read(60) + inner:read(60) == 6)
          local a, b = m:join()
          assert(a + b == 3)
          -- And forks again.
          local child = ipc.fork()
          if child == 0 then os.exit(5) end
          assert(ipc.waitpid(child) == 5)
          os.exit(0)
        end
        assert(ipc.waitpid(pid, 60) == 0)
      end
      q:drain(60)
      q:write(false, false, false)
      m:join()
    ]]
  end)

  it('goes on with tensors and thread objects as its own', function()
    support.check [[
      local ipc = require 'libipc'
      local torch = require 'ipc.torch'
      local t, n, m, q = torch.FloatTensor(3):fill(1), ipc.atomic(1), ipc.mutex(), ipc.workqueue()
      q:write(t)
      m:lock()
      local pid = ipc.fork()
      if pid == 0 then
        t:fill(2)
        n:add(1)
        m:unlock()
        q:write(t)
        assert(t:sum() == 6 and n:get() == 2)
        local worker = ipc.map(1, function(q, m)
          m:lock(60)
          return q:read(60):sum(), q:read(60):sum()
        end, q, m)
        local a, b = worker:join()
        assert(a == 6 and b == 6, 'the unread message holds the tensor of the child')
        os.exit(0)
      end
      assert(ipc.waitpid(pid, 60) == 0)
      assert(t:sum() == 3 and n:get() == 1 and q:pending() == 1)
      m:unlock()
      q:close()
    ]]
  end)

  it("leaves to the parent what is the parent's: connections, servers, threads, locks of files", function()
    support.check([[
      local ipc = require 'libipc'
      local server, port = ipc.server()
      local client, shared = ipc.client(port), ipc.client(port)
      local handle
      server:clients(2, function(c) handle = handle or c end)
      local lock = ipc.flock(arg[1])
      local q = ipc.workqueue()
      -- Two threads are in the middle of calls on what the child has too.
      local m = ipc.map { threads = 2, args = { q, shared, server }, fn = function(q, shared, server, id)
        q:write(true)
        if id == 1 then return shared:recv() end
        return (server:recvAny())
      end }
      q:read() q:read()
      local function belongs_to_parent(what, f, ...)
        local ok, e = pcall(f, ...)
        if ok or ipc.errcode(e) ~= 'state' then
          io.stderr:write(what, ': ', tostring(e), '\n')
          os.exit(1)
        end
      end
      local pid = ipc.fork()
      if pid == 0 then
        for _ = 1, 2 do
          for _, name in ipairs { 'send', 'recv', 'recvAsync', 'tryrecv', 'fd' } do
            for what, c in pairs { client = client, shared = shared, handle = handle } do
              belongs_to_parent(what .. ':' .. name, c[name], c, name == 'recv' and 1 or nil)
            end
          end
          belongs_to_parent('server:recvAny', server.recvAny, server, 1)
          belongs_to_parent('server:clients', server.clients, server, 3, print, 1)
          belongs_to_parent('server:clients', server.clients, server, print)
          belongs_to_parent('server:broadcast', server.broadcast, server, 1)
          for _, name in ipairs { 'fd', 'netStats' } do belongs_to_parent('server:' .. name, server[name], server) end
          for _, name in ipairs { 'join', 'poll', 'cancel', 'checkErrors' } do belongs_to_parent('map:' .. name, m[name], m) end
          for _, name in ipairs { 'read', 'write' } do belongs_to_parent('lock:' .. name, lock[name], lock, 'x') end
          for _, object in ipairs { server, client, shared, handle, m, lock } do tostring(object) end
          tostring(ipc.report())
        end
        for _, object in ipairs { server, client, shared, handle, lock } do object:close() end
        server, client, shared, handle, m, lock = nil
        collectgarbage()
        collectgarbage()
        os.exit(0)
      end
      assert(ipc.waitpid(pid, 100) == 0)
      -- And the parent goes on with all of it.
      client:send 'up'
      for _ = 1, 2 do server:clients(function(c) c:send 'down' end) end
      local down, up = m:join()
      assert(down == 'down' and up == 'up')
      assert(client:recv(100) == 'down' and handle:tag() == nil)
      lock:write 'mine'
      assert(lock:read() == 'mine')
    ]], { args = { support.tmpname() } })
  end)

  it('leaves the child sockets, trees and tensors of its own, also while those of the parent are busy', function()
    support.check [[
      local ipc = require 'libipc'
      local torch = require 'ipc.torch'
      local server, port = ipc.server()
      local stop = ipc.atomic(0)
      -- The parent connects, talks and computes all the time.
      local busy = ipc.map(2, function(port, stop)
        local ipc = require 'libipc'
        local torch = require 'ipc.torch'
        local t = torch.FloatTensor(1000)
        while stop:get() == 0 do
          local c = ipc.client(port)
          c:send(t:fill(1))
          assert(c:recv():sum() == 1000)
          c:close()
        end
      end, port, stop)
      local echo = ipc.map(1, function(server, stop)
        while stop:get() < 2 do
          local ok, t, c = pcall(server.recvAny, server, nil, 0.01)
          if ok then c:send(t) end
        end
      end, server, stop)
      for _ = 1, 4 do
        local pid = ipc.fork()
        if pid == 0 then
          local server, port = ipc.server()
          local m = ipc.map(1, function(port)
            local c = require 'libipc'.client(port)
            c:send(c:recv():add(1))
          end, port)
          server:clients(1, function(c)
            c:send(torch.FloatTensor(1000):fill(2))
            assert(c:recv(60):sum() == 3000)
          end)
          m:join()
          server:close()
          local sum = ipc.map(2, function(parent, id)
            local tree = require 'ipc.LocalhostTree'(id, 2, parent)
            return (tree.allReduce(id, function(a, b) return a + b end))
          end, ipc.getpid()):join()
          assert(sum == 3)
          os.exit(0)
        end
        assert(ipc.waitpid(pid, 100) == 0)
      end
      -- One after the other: a client without a server would wait for one to start.
      stop:set(1)
      busy:join()
      stop:set(2)
      echo:join()
      server:close()
    ]]
  end)

  it('leaves the parent where it reads in its files, however the child ends', function()
    for _, how in ipairs { 'os.exit(0)', 'os.exit(0, true)', 'return' } do
      local out = support.check(([[
        local ipc = require 'libipc'
        local name = os.tmpname()
        local file = io.open(name, 'w')
        for i = 1, 5000 do file:write('line ', i, '\n') end
        file:close()
        local n = 0
        for line in io.lines(name) do
          n = n + 1
          assert(line == 'line ' .. n, n .. ': ' .. line)
          if n %% 500 == 0 then
            local pid = ipc.fork()
            if pid == 0 then %s end
            assert(ipc.waitpid(pid) == 0)
          end
        end
        os.remove(name)
        print(n)
      ]]):format(how))
      assert.equal('5000\n', out)
    end
  end)

  it('harms no thread that reads a file meanwhile', function()
    support.check [[
      local ipc = require 'libipc'
      local name = os.tmpname()
      local file = io.open(name, 'w')
      for i = 1, 5000 do file:write('line ', i, '\n') end
      file:close()
      local stop = ipc.atomic(0)
      local m = ipc.map(2, function(name, stop)
        local times = 0
        while stop:get() == 0 do
          local n = 0
          for line in io.lines(name) do
            n = n + 1
            assert(line == 'line ' .. n, line)
          end
          assert(n == 5000)
          times = times + 1
        end
        return times
      end, name, stop)
      for _ = 1, 200 do
        local pid = ipc.fork()
        if pid == 0 then os.exit(0) end
        assert(ipc.waitpid(pid) == 0)
      end
      stop:set(1)
      local a, b = m:join(60)
      assert(a > 0 and b > 0)
      os.remove(name)
    ]]
  end)

  it('can be made by any thread, whose Lua goes on in the child', function()
    local codes = { ipc.map(3, function(id)
      local ipc = require 'libipc'
      local q, n = ipc.workqueue(), ipc.atomic(id)
      q:write(id)
      local pid = ipc.fork()
      if pid == 0 then
        -- Its own thread answers: the queue is this Lua's, as before.
        local got = ipc.map(1, function(q, n) return q:read(60) + n:get() end, q, n):join()
        os.exit(got)
      end
      return ipc.waitpid(pid, 60)
    end):join() }
    assert.same({ 2, 4, 6 }, codes)
  end)

  it('lets the child end in order while the threads of its parent run', function()
    local out = support.check [[
      local ipc = require 'libipc'
      local m = ipc.map(2, function() require 'libipc'.sleep(200) end)
      local pid = ipc.fork()
      if pid == 0 then return end
      print(ipc.waitpid(pid, 100))
      os.exit(0)
    ]]
    assert.equal('0\n', out)
  end)

  it('is no harm in io.popen and os.execute, by many threads, in the middle of everything', function()
    local server, port = ipc.server()
    local m = ipc.map(4, function(port, id)
      local ipc = require 'libipc'
      local c, q = ipc.client(port), ipc.workqueue()
      for i = 1, 5 do
        c:send(('x'):rep(10000))
        q:write(i)
        local p = io.popen('echo ' .. id)
        assert(p:read '*n' == id)
        p:close()
        local status = os.execute 'exit 3'
        assert(status ~= 0 and status ~= true)
        assert(#c:recv() == 10000 and q:pending() == i)
      end
      c:close()
    end, port)
    local seen = 0
    while seen < 20 do
      local s, c = server:recvAny(nil, 60)
      c:send(s)
      seen = seen + 1
    end
    m:join()
    server:close()
  end)

  it('costs the child no memory for the locks that there are', function()
    if not support.exists '/proc/self/smaps' then return pending 'no /proc here' end
    local out = support.check [[
      local ipc = require 'libipc'
      local keep = {}
      for i = 1, 20000 do keep[i] = ipc.channel() end
      -- Before it touches anything else: what the child has of its own.
      local function own()
        local kilobytes = 0
        for line in io.lines '/proc/self/smaps' do
          kilobytes = kilobytes + (tonumber(line:match '^Private_Dirty:%s*(%d+)') or 0)
        end
        return kilobytes
      end
      collectgarbage 'stop'
      local pid = ipc.fork()
      if pid == 0 then
        io.write(own())
        io.flush()
        os.exit(0)
      end
      assert(ipc.waitpid(pid, 100) == 0)
    ]]
    -- Two locks of each channel, on lines of their own, would be 5 MB.
    assert.is_true(tonumber(out) < 3000, out .. ' KB')
  end)

  it('closes in the child every descriptor of the library, those of its background thread and timers among them', function()
    if not support.exists '/proc/self/fd/0' then return pending 'no /proc here' end
    support.check([[
      local ipc = require 'libipc'
      local function ends(pid)
        local all = {}
        local pipe = io.popen(('ls -l /proc/%s/fd'):format(pid))
        for line in pipe:lines() do
          local number, target = line:match '(%d+) %-> (.*)$'
          if number then all[#all + 1] = target:gsub('%[%d+%]', '') end
        end
        pipe:close()
        return all
      end
      local before = ends(ipc.getpid())
      local server, port = ipc.server()
      local unix = ipc.server('unix:' .. arg[1])
      local client, other = ipc.client(port), ipc.client('unix:' .. arg[1])
      server:clients(1, function(c) c:fd() end)
      unix:clients(1, function() end)
      local q, c = ipc.workqueue(), ipc.channel()
      local lock = ipc.flock(arg[1] .. '.lock')
      local after, every = ipc.after(100), ipc.every(100)
      local spawned = ipc.spawn { file = 'sleep', args = { '100' }, stderr = 'pipe' }
      local pool = ipc.pool(1)
      local future = pool:submit(function() return 1 end)
      future:get(60)
      for _, object in ipairs { server, client, q, c, after, every, spawned } do object:fd() end
      ipc.select({ q, c, after, client, spawned, server }, 0)
      pcall(ipc.waitpid, ipc.getppid(), 0)
      local pid = ipc.fork()
      if pid == 0 then
        io.open(arg[1] .. '.begun', 'w'):close()
        os.rename(arg[1] .. '.begun', arg[1] .. '.ready') -- closed by now
        ipc.sleep(100)
        os.exit(0)
      end
      -- The parent may be first: the child closes them as it begins.
      local ready
      repeat ready = io.open(arg[1] .. '.ready') until ready
      ready:close()
      local left = ends(pid)
      os.execute('kill -9 ' .. pid)
      ipc.waitpid(pid, 60)
      spawned:wait(9, 60)
      -- The pipe of `ls` is in the first list alone.
      local function count(list)
        local kinds = {}
        for _, target in ipairs(list) do
          if not target:find '^pipe:' then kinds[target] = (kinds[target] or 0) + 1 end
        end
        return kinds
      end
      local had, has, pipes = count(before), count(left), 0
      for target, n in pairs(has) do assert(n <= (had[target] or 0), target .. ' is open in the child') end
      for _, target in ipairs(left) do
        if target:find '^pipe:' then pipes = pipes + 1 end
      end
      for _, target in ipairs(before) do
        if target:find '^pipe:' then pipes = pipes - 1 end
      end
      assert(pipes < 0, 'a pipe is open in the child')
    ]], { args = { support.tmpname '.socket' } })
  end)

  it('keeps everything whole in the children of many threads, in the middle of everything', function()
    support.check [[
      local ipc = require 'libipc'
      local torch = require 'ipc.torch'
      local q, c, m, t, stop = ipc.channel(), ipc.channel(), ipc.mutex(), ipc.sharedtable(), ipc.atomic(0)
      local tensor = torch.FloatTensor(100):fill(1)
      t.pair = { 0, 0 }
      local busy = ipc.map { threads = 3, args = { q, c, m, t, stop, tensor }, fn = function(q, c, m, t, stop, tensor, id)
        local ipc = require 'libipc'
        local n = 0
        while stop:get() == 0 do
          n = n + 1
          q:write { n, ('x'):rep(n % 3000), n }
          c:write { n, tensor, n }
          ipc.sharedtable.update(t, 'pair', function(p) return { p[1] + 1, p[2] + 1 } end)
          m:with(function() t['k' .. n % 100] = { n, n } end)
          local _, got = c:read()
          assert(got[1] == got[3])
          _, got = q:read()
          assert(got[1] == got[3])
          -- Objects come and go.
          local own = ipc.channel()
          own:write(n)
        end
      end }
      local function child(q, c, t, m, id)
        local ipc = require 'libipc'
        for _ = 1, 6 do
          local _, got = q:read(0)
          assert(got == nil or got[1] == got[3])
          _, got = c:read(0)
          assert(got == nil or got[1] == got[3] and got[2]:sum() == 100)
        end
        local pair = t.pair
        assert(pair[1] == pair[2])
        for i = 0, 99 do
          local p = t['k' .. i]
          assert(p == nil or p[1] == p[2])
        end
        for i = 1, 50 do q:write { i, '', i } c:write { i, c, i } t['own' .. i] = i end
        local sum = ipc.map(2, function(n) return n + 1 end, 1):join()
        assert(sum == 2)
      end
      local forks = ipc.map { threads = 2, args = { q, c, t, m, child }, fn = function(q, c, t, m, child, id)
        local ipc = require 'libipc'
        for i = 1, 8 do
          if i % 4 == 0 then
            local pipe = io.popen 'echo 7'
            assert(pipe:read '*n' == 7)
            pipe:close()
            os.execute 'true'
          end
          local pid = ipc.fork()
          if pid == 0 then return child(q, c, t, m, id) end
          assert(ipc.waitpid(pid, 100) == 0)
        end
      end }
      forks:join()
      stop:set(1)
      busy:join()
      local pair = t.pair
      assert(pair[1] == pair[2] and pair[1] > 0)
    ]]
  end)

  -- LuaJIT has the C compiler's unwinder do both, which does so behind a lock that a fork copies as it is.
  it('lets the child raise errors and compile loops, whatever other threads were raising and compiling', function()
    support.check [[
      local ipc = require 'libipc'
      local load, stop = loadstring or load, ipc.atomic(0)
      local busy = ipc.map { threads = 3, args = { stop, load }, fn = function(stop, load)
        while stop:get() == 0 do
          for _ = 1, 100 do pcall(string.rep) pcall(error, 'x') end
          load('local n = 0 for i = 1, 200 do n = n + i end return n')()
        end
      end }
      for _ = 1, 50 do
        local pid = ipc.fork()
        if pid == 0 then
          for n = 1, 20 do
            assert(not pcall(error, n))
            assert(load('local n = ... for i = 1, 200 do n = n + i end return n')(n) == n + 20100)
          end
          os.exit(ipc.map(1, function() return 1 end):join() == 1 and 0 or 1)
        end
        assert(ipc.waitpid(pid, 100) == 0)
      end
      stop:set(1)
      busy:join()
    ]]
  end)

  it('lets the child start threads, however many started and ended in its parent meanwhile', function()
    local stop = ipc.atomic(0)
    local m = ipc.map(4, function(stop) -- luacheck: ignore 431
      local ipc = require 'libipc' -- luacheck: ignore 431
      while stop:get() == 0 do ipc.map(6, function() end):join() end
    end, stop)
    local count = (support.in_valgrind or support.in_tsan) and 3 or 15
    for _ = 1, count do
      local pid = ipc.fork()
      if pid == 0 then
        -- As many as have left their stacks to the next ones.
        os.exit(pcall(function() ipc.map(40, function() end):join(60) end) and 0 or 1)
      end
      assert.same({ 0 }, { ipc.waitpid(pid, 60) })
    end
    stop:set(1)
    m:join(60)
  end)

  it('leaves no descriptor to programs that are started', function()
    if not support.exists '/proc/self/fd/0' then return pending 'no /proc here' end
    local server, port = ipc.server()
    local client, lock, q = ipc.client(port), ipc.flock(support.tmpname '.lock'), ipc.workqueue()
    server:clients(1, function(c) c:fd() end)
    local ready = support.tmpname()
    local pid = ipc.fork()
    if pid == 0 then
      support.write(ready, '')
      ipc.sleep(200)
      os.exit(0)
    end
    support.eventually(function() return support.exists(ready) end)
    local function targets(of) return support.sh(('ls -l /proc/%s/fd'):format(of)) end
    local forked, started = targets(pid), targets 'self'
    kill(pid, 'KILL')
    ipc.waitpid(pid)
    -- The forked child has closed its copies; a program never gets any.
    for _, kind in ipairs { 'socket:', '.lock' } do assert.is_nil(forked:find(kind, 1, true), forked) end
    for _, kind in ipairs { 'socket:', '.lock', 'eventfd', 'eventpoll' } do
      assert.is_nil(started:find(kind, 1, true), started)
    end
    client:close()
    server:close()
    lock:close()
    q:close()
  end)
end)

describe('waitpid', function()
  it('gives the exit code', function()
    local pid = ipc.fork()
    if pid == 0 then os.exit(42) end
    assert.same({ 42 }, { ipc.waitpid(pid) })
  end)

  it('gives 128 + n and the name of the signal that ended it', function()
    for signal, n in pairs { KILL = 9, TERM = 15, ABRT = 6 } do
      local pid = sleeper()
      kill(pid, signal)
      assert.same({ 128 + n, 'SIG' .. signal }, { ipc.waitpid(pid) })
    end
  end)

  it('stops waiting in time and can go on later', function()
    local pid = sleeper()
    local start = ipc.clock()
    assert.equal('timeout', code(ipc.waitpid, pid, 0.05))
    assert.is_true(ipc.clock() - start >= 0.05)
    assert.equal('timeout', code(ipc.waitpid, pid, 0))
    assert.equal('timeout', code(ipc.waitpid, pid, true))
    kill(pid, 'KILL')
    assert.equal(137, (ipc.waitpid(pid, 60)))
  end)

  it('tells the end of a child once, and of others never', function()
    local pid = ipc.fork()
    if pid == 0 then os.exit(0) end
    assert.equal(0, ipc.waitpid(pid))
    assert.equal('state', code(ipc.waitpid, pid))
    assert.equal('state', code(ipc.waitpid, ipc.getppid()))
  end)

  it('does not end for the end of another child', function()
    local long, short = sleeper(), ipc.fork()
    if short == 0 then os.exit(1) end
    assert.equal('timeout', code(ipc.waitpid, long, 0.1))
    assert.equal(1, ipc.waitpid(short, 60))
    kill(long, 'KILL')
    assert.equal(137, (ipc.waitpid(long)))
  end)

  it('tells the end to one of several who wait, and to the others that it was told', function()
    local pid = sleeper()
    local m = ipc.map(4, function(pid, id)
      local ipc = require 'libipc'
      -- Two of them have a time-out.
      local ok, code, signal = pcall(ipc.waitpid, pid, id > 2 and 60 or nil)
      return ok and signal or ipc.errcode(code)
    end, pid)
    support.eventually(function() return select(2, tostring(ipc.report()):gsub('waits in ipc.waitpid', '')) == 4 end)
    kill(pid, 'TERM')
    local told = { m:join() }
    table.sort(told)
    assert.same({ 'SIGTERM', 'state', 'state', 'state' }, told)
  end)

  it('takes no stop for an end, and has a number for signals without a name', function()
    local pid = sleeper()
    kill(pid, 'STOP')
    assert.equal('timeout', code(ipc.waitpid, pid, 0.03))
    kill(pid, 'CONT')
    kill(pid, '40')
    assert.same({ 168, 'signal 40' }, { ipc.waitpid(pid, 60) })
  end)

  it('ends with the cancel of its thread, and the child can be waited for later', function()
    local pid = sleeper()
    local m = ipc.map(1, function(pid) require 'libipc'.waitpid(pid) end, pid)
    m:cancel()
    assert.matches('[cancelled]', support.fails(m.join, m), 1, true)
    kill(pid, 'KILL')
    assert.same({ 137, 'SIGKILL' }, { ipc.waitpid(pid, 60) })
  end)

  it('stalls no other thread', function()
    local pid = sleeper()
    local idle = ipc.workqueue()
    local readers = ipc.map(2, function(idle) return idle:read() end, idle)
    local m = ipc.map(1, function(pid)
      local ipc = require 'libipc'
      return ipc.waitpid(pid, 60)
    end, pid)
    local q = ipc.workqueue()
    local worker = ipc.map(1, function(q) q:write(q:read() + 1) end, q)
    q:write(1)
    assert.equal(2, q:read(60))
    worker:join()
    assert.equal(1, m:poll())
    assert.equal(2, readers:poll())
    kill(pid, 'KILL')
    assert.same({ 137, 'SIGKILL' }, { m:join() })
    idle:write('a', 'a')
    assert.same({ 'a', 'a' }, { readers:join() })
  end)

  it('refuses what is not a child process', function()
    for _, pid in ipairs { 0, -1, 1.5, 2 ^ 40, 'x', {} } do assert.equal('argument', code(ipc.waitpid, pid)) end
    assert.equal('argument', code(ipc.waitpid))
    assert.equal('argument', code(ipc.waitpid, ipc.getpid(), 'x'))
  end)
end)

describe('the system', function()
  it('numbers processes and threads', function()
    assert.equal('ok', support.sh(('test -d /proc/%d && echo ok'):format(ipc.getpid())))
    assert.equal('ok', support.sh(('test -d /proc/%d/task/%d && echo ok'):format(ipc.getpid(), ipc.gettid())))
    local a, b = ipc.map(2, function() return require('libipc').gettid() end):join()
    assert.is_true(a ~= b and a ~= ipc.gettid())
    assert.is_true(ipc.getppid() > 0)
  end)

  it('says what it runs on', function()
    assert.equal('boolean', type(ipc.isDevel()))
    assert.equal(support.sh 'uname' == 'Darwin', ipc.isOSX())
  end)

  it('sleeps as long as told', function()
    for _, seconds in ipairs { 0, 0.001, 0.05 } do
      local start = ipc.clock()
      ipc.sleep(seconds)
      assert.is_true(ipc.clock() - start >= seconds)
    end
    assert.equal('argument', code(ipc.sleep, -1))
    assert.equal('argument', code(ipc.sleep, 0 / 0))
    assert.equal('argument', code(ipc.sleep, 'x'))
    assert.equal('argument', code(ipc.sleep))
  end)

  it('has a clock that goes forward in small steps', function()
    local last, moved = ipc.clock(), 0
    for _ = 1, 10000 do
      local now = ipc.clock()
      assert(now >= last)
      if now > last and now - last < 1e-3 then moved = moved + 1 end
      last = now
    end
    assert.is_true(moved > 1000)
  end)

  it('counts the cores that this process may use', function()
    local n = ipc.cpus()
    assert.is_true(n >= 1 and n % 1 == 0)
    if support.sh 'command -v taskset' ~= '' then
      local chunk = support.write(support.tmpname '.lua', "io.write(require 'libipc'.cpus())")
      local first = support.sh "taskset -cp $$ | sed 's/.*: //; s/[,-].*//'"
      assert.equal('1', support.sh(('taskset -c %s %s %s'):format(first, support.lua, chunk)))
    end
  end)
end)
