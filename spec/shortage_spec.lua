-- Programs where something runs short: descriptors, stack, memory, threads, room in /tmp and /dev/shm. Every call does what it should or
-- raises an error of this library, the program goes on, and afterwards all is as before.
local support = require 'spec.support'
local peer = require 'spec.support.peer'
local ipc = require 'libipc'

-- Starts `chunk` in a new interpreter under a limit of the shell's `ulimit`; a function that waits for its good end.
local function begin(limit, chunk)
  local lua = ("sh -c 'ulimit %s; exec \"$0\" \"$@\"' %s"):format(limit, support.lua)
  local process = support.start(chunk, { lua = lua, timeout = 150 })
  return function()
    local r = process:wait()
    assert.equal(0, r.status, ('under %s: %s\n%s%s'):format(limit, r.signal or r.status, r.stdout, r.stderr))
  end
end

local function under(limit, chunk) begin(limit, chunk)() end

-- Runs `chunk` as a user of its own, who may have `most` threads; false where that cannot be done.
local function under_threads(most, chunk)
  if support.in_valgrind or support.in_tsan then pending 'the tool wants threads for itself' return false end
  local uid = 60000 + ipc.getpid() % 5000
  local lua = ('prlimit --nproc=%d setpriv --reuid=%d --regid=%d --clear-groups %s'):format(most, uid, uid, support.lua)
  local options = { lua = lua, file = '-', stdin = 'require "libipc" print "loaded"', cwd = '/' }
  if support.run('', options).stdout ~= 'loaded\n' then
    pending 'only root can become another user, who must be able to load the library'
    return false
  end
  options.stdin = chunk
  local r = support.run('', options)
  assert.equal(0, r.status, ('with %d threads: %s\n%s%s'):format(most, r.signal or r.status, r.stdout, r.stderr))
  return r
end

-- The chunks of `list`, { limit, chunk } each, at once: where descriptors run out, most of a call's time is patience.
local function under_each(list)
  local waits = {}
  for i, entry in ipairs(list) do waits[i] = begin(entry[1], entry[2]) end
  for _, wait in ipairs(waits) do wait() end
end

-- Calls of each kind, one after another; `each(f)` calls f(name, call) for all.
local CALLS = [[
  local ipc = require 'libipc'
  local torch = require 'ipc.torch'
  local path = os.tmpname()
  -- Short where something runs short: a server that has no descriptor left for who comes lets it wait.
  local patience = 20
  local calls = {
    client = function()
      local server, port = ipc.server()
      local ok, e = pcall(function()
        local c = ipc.client(port, { connect_timeout = patience })
        c:send(torch.FloatTensor(10):fill(2))
        assert(server:recvAny(patience):sum() == 20)
        c:close()
      end)
      server:close()
      if not ok then error(e, 0) end
    end,
    unix = function() ipc.server('unix:' .. path .. '.s'):close() end,
    map = function() assert(ipc.map(2, function(i) return i end, 7):join(60) == 7) end,
    pool = function()
      local p = ipc.pool(1)
      assert(p:submit(function() return 5 end):get(60) == 5)
      p:close()
    end,
    fd = function() ipc.channel():fd() end,
    select = function() ipc.select({ ipc.channel(), ipc.workqueue(), ipc.after(0.001) }, 20) end,
    flock = function() ipc.flock(path, 20):close() end,
    spawn = function() assert(ipc.spawn { file = 'true', stdin = 'pipe', stdout = 'pipe', stderr = 'pipe' }:wait(60) == 0) end,
    fork = function()
      local pid = ipc.fork()
      if pid == 0 then
        local ok, e = pcall(function() assert(ipc.map(1, function() return 3 end):join(60) == 3) end)
        os.exit((ok or ipc.errcode(e)) and 0 or 5)
      end
      assert(ipc.waitpid(pid, 60) == 0)
    end,
    file = function()
      torch.save(path .. '.t7', torch.FloatTensor(3):fill(1))
      assert(torch.load(path .. '.t7'):sum() == 3)
    end,
    coroutine = function()
      ipc.scheduler { wait = function() coroutine.yield() end }
      local co = coroutine.create(function()
        ipc.sleep(0.001)
        ipc.channel():read(0.001)
        ipc.flock(path, 20):close()
      end)
      local ok, e
      repeat ok, e = coroutine.resume(co) until coroutine.status(co) == 'dead'
      ipc.scheduler(nil)
      if not ok then error(e, 0) end
    end,
    report = function() tostring(ipc.report()) end,
  }
  local names = {}
  for name in pairs(calls) do names[#names + 1] = name end
  table.sort(names)
  local function each(f)
    for _, name in ipairs(names) do f(name, calls[name]) end
  end
  local function clean() os.remove(path) os.remove(path .. '.t7') end

  local function opened()
    local n = 0
    for fd = 0, 39 do
      local f = io.open('/proc/self/fdinfo/' .. fd)
      if f then n = n + 1 f:close() end
    end
    return n
  end
  -- How many descriptors are open once it is `n`, or after a while: threads in the background close what is let go of.
  local function settled(n)
    local deadline = ipc.clock() + 60
    collectgarbage() collectgarbage()
    while opened() > n and ipc.clock() < deadline do ipc.sleep(0.01) end
    return opened()
  end
]]

-- A limit on address space, which the tools below that want it for themselves cannot have.
local function without_tools()
  if support.in_valgrind or support.in_tsan then pending 'the tool wants the address space for itself' return false end
  return true
end

-- A server in a process that may have `kilobytes` of address space, which answers all; `play(port)`, then it is told to stop.
local function server_with(kilobytes, play)
  local path = support.tmpname()
  local wait = begin('-v ' .. kilobytes, ([[
    local ipc = require 'libipc'
    local server, port = ipc.server('127.0.0.1', 0, { insecure = true })
    local f = assert(io.open(%q, 'w'))
    f:write(port, ' ')
    f:close()
    repeat
      local v, c, gone = server:recvAny(nil, { gone = true, timeout = 60 })
      if not gone then c:send(v, 60) end
    until v == 'stop'
  ]]):format(path))
  local port
  support.eventually(function()
    port = support.exists(path) and support.read(path):match '^(%d+) '
    return port
  end)
  port = tonumber(port)
  play(port)
  local client = ipc.client(port, { insecure = true })
  client:send 'stop'
  assert.equal('stop', client:recv(60))
  wait()
end

-- One that sends `bytes` after the hello.
local function stranger(port, bytes)
  local s = assert(require 'socket'.connect('127.0.0.1', port))
  s:send(peer.packet(1, peer.hello()) .. peer.packet(6, '\128') .. bytes)
  return s
end

describe('a server with little memory', function()
  it('serves the others while strangers announce more tensors than fit, and never send them', function()
    if not without_tools() then return end
    server_with(1500000, function(port)
      local client = ipc.client(port, { insecure = true })
      local all = {}
      for i = 0, 59 do
        -- The message is its tensor: of 2^30 bytes, 2^29, ….
        local descriptor = '\1\1' .. peer.little(1, 2) .. peer.little(2 ^ (30 - i % 15), 8)
        all[#all + 1] = stranger(port, peer.frame(peer.lone, { descriptor, '' }))
        client:send(i)
        assert.equal(i, client:recv(60))
      end
      for _, s in ipairs(all) do s:close() end
      client:send(('x'):rep(1000000))
      assert.equal(1000000, #client:recv(60))
    end)
  end)

  it('serves the others after a message whose values do not fit', function()
    if not without_tools() then return end
    server_with(400000, function(port)
      local client = ipc.client(port, { insecure = true })
      for _ = 1, 2 do
        -- An array of 8 million empty ones.
        local s = stranger(port, peer.frame('\16\221' .. peer.little(8000000, 4):reverse() .. ('\144'):rep(8000000)))
        -- Until that was found to be too much.
        s:receive '*a'
        s:close()
        for _, v in ipairs { 'short', ('x'):rep(4000000) } do
          client:send(v)
          assert.equal(#v, #client:recv(60))
        end
      end
    end)
  end)
end)

describe('an address space that is full', function()
  it('shows in a report as an error, or not at all', function()
    if not without_tools() then return end
    under('-v 300000', [[
      local ipc, kept, n = require 'libipc', {}, 0
      for i = 1, 200000 do kept[i] = false end
      local ok, e = pcall(function()
        for i = 1, 200000 do
          kept[i] = ipc.channel()
          n = i
        end
      end)
      assert(not ok and (ipc.errcode(e) == 'limit' or tostring(e):find 'not enough memory'), e)
      local function look(alive)
        local found, report = pcall(ipc.report)
        if not found then
          assert(ipc.errcode(report) == 'limit' or tostring(report):find 'not enough memory', report)
          return false
        end
        assert(#report.objects == alive, #report.objects .. ' of ' .. alive)
        return true
      end
      look(n)
      for i = n, 11, -1 do kept[i] = nil end
      collectgarbage()
      collectgarbage()
      -- The first call that finds memory again tells that there was none.
      local made, lock = pcall(ipc.mutex)
      kept[11] = made and lock or ipc.mutex()
      assert(look(11))
    ]])
  end)

  it('leaves room for the stack, or says that there is none', function()
    if not without_tools() then return end
    under('-v 200000', [[
      local ipc, kept, n, deep = require 'libipc', {}, 0, {}
      for _ = 1, 990 do deep = { deep } end
      for i = 1, 2 ^ 20 do kept[i] = false end
      pcall(function()
        for i = 1, 2 ^ 20 do
          kept[i] = ('x'):rep(4000) .. i
          n = i
        end
      end)
      -- Most are let go of: the heap keeps what it has taken.
      for i = 1, n - 1000 do kept[i] = false end
      collectgarbage()
      local ok, e = pcall(ipc.marshal, deep)
      assert(ok or ipc.errcode(e) == 'limit', e)
    ]])
  end)
end)

describe('few descriptors', function()
  it('are an error with words wherever one is wanted, and all goes on once there are some', function()
    local list = {}
    for _, free in ipairs { 0, 1, 2, 3, 4, 5, 6, 8, 10, 13 } do
      list[#list + 1] = { '-n 40', CALLS .. ([[
        each(function(_, call) call() end)
        local before = 40
        -- A helper thread that nobody needs any more ends, and what it had with it.
        repeat
          local n = before
          ipc.sleep(0.2)
          before = opened()
        until before == n
        each(function(name, call)
          local held = {}
          repeat held[#held + 1] = io.open '/dev/null' until not io.open '/dev/null'
          collectgarbage() collectgarbage()
          repeat held[#held + 1] = io.open '/dev/null' until not io.open '/dev/null'
          for _ = 1, %d do table.remove(held):close() end
          patience = 1
          local ok, e = pcall(call)
          patience = 20
          for _, f in ipairs(held) do f:close() end
          assert(ok or ipc.errcode(e), name .. ': ' .. tostring(e))
          local left = settled(before)
          assert(left <= before, ('%%s: %%d descriptors are left over'):format(name, left - before))
        end)
        each(function(name, call)
          local ok, e = pcall(call)
          assert(ok, name .. ' with descriptors again: ' .. tostring(e))
        end)
        clean()
      ]]):format(free) }
    end
    under_each(list)
  end)

  it('at the start of a program are no reason to end it', function()
    local list = {}
    for _, most in ipairs { 5, 7, 9, 12, 16 } do
      list[#list + 1] = { '-n ' .. most, CALLS .. [[
        patience = 1
        each(function(name, call)
          local ok, e = pcall(call)
          -- What Lua itself cannot load is no error of this library.
          assert(ok or ipc.errcode(e) or e:find 'module', name .. ': ' .. tostring(e))
        end)
        clean()
      ]] }
    end
    under_each(list)
  end)
end)

describe('a small stack', function()
  it('of the program carries every call; values that nest too deep for it are refused', function()
    for _, kilobytes in ipairs { 128, 256 } do
      under('-s ' .. kilobytes, CALLS .. [[
        each(function(_, call) call() end)
        local function nested(depth)
          local t = {}
          for _ = 1, depth - 1 do t = { t } end
          return t
        end
        local server, port = ipc.server()
        local c = ipc.client(port)
        local m = ipc.mutex()
        local function again() m:with(again) end
        for _, f in ipairs {
          function(v) ipc.marshal(v):read() end, function(v) ipc.map(1, function(t) return t end, v):join(60) end,
          function(v) c:send(v, 60) server:recvAny(60) end, again,
        } do
          for _, depth in ipairs { 10, 100, 1000 } do
            local ok, e = pcall(f, nested(depth))
            assert(ok or tostring(e):find('[limit]', 1, true) or tostring(e):find 'overflow', e)
            assert(ok or depth > 10 or f == again, e)
          end
        end
        clean()
      ]])
    end
  end)
end)

describe('little memory', function()
  it('or none is no end of the first server of a program', function()
    for let_go = 0, 9, 3 do
      under('-v 130000', ([[
        local ipc = require 'libipc'
        local torch = require 'ipc.torch'
        local small, hog, n = {}, {}, 0
        -- Lua itself may find none for whatever it does here.
        local function all()
        for i = 1, 400 do small[i] = torch.ByteStorage(200) end
        for i = 1, 100000 do hog[i] = false end
        pcall(function()
          local size = 16 * 2 ^ 20
          while size >= 32 do
            local ok, s = pcall(torch.ByteStorage, size)
            if ok then n = n + 1 hog[n] = s else size = math.floor(size / 2) end
          end
        end)
        for i = 1, %d do small[i] = nil end
        collectgarbage()
        local function works_or_says_why()
          local ok, e = pcall(ipc.server)
          assert(ok or ipc.errcode(e) == 'limit' or tostring(e):find 'not enough memory', e)
        end
        works_or_says_why()
        hog = nil
        collectgarbage()
        collectgarbage()
        -- The C library may keep the space in pieces.
        works_or_says_why()
        end
        local done, e = pcall(all)
        hog = nil
        collectgarbage()
        if not done and not tostring(e):find 'not enough memory' then error(e, 0) end
      ]]):format(let_go))
    end
  end)

  it('does not end the process at the first call that lets go of something', function()
    -- The C library ends it where a thread first uses a thread-local that has a destructor, and nothing is left for the note.
    for _, kilobytes in ipairs { 176000, 185000, 194000 } do
      under('-v ' .. kilobytes, [[
        if rawget(_G, 'jit') then jit.off() end
        local ipc = require 'libipc'
        local keep = {}
        -- Made beforehand: a function, too, takes memory. What Lua has none left for is an error of its own.
        local function add(n) keep[#keep + 1] = ipc.marshal(('x'):rep(n)) end
        local function close() keep[#keep]:close() end
        for _, n in ipairs { 4000000, 400000, 40000, 4000, 400 } do
          while pcall(add, n) do end
        end
        pcall(close)
      ]])
    end
  end)

  it('gives back what was to move into a shared table, all of it', function()
    for _, kilobytes in ipairs { 65000, 82000, 90000 } do
      under('-v ' .. kilobytes, [[
        if rawget(_G, 'jit') then jit.off() end
        local ok, ipc = pcall(require, 'libipc')
        if not ok then return end
        local big = {}
        pcall(function() for i = 1, 300000 do big[i] = ('q'):rep(95) .. i end end)
        local n = #big
        if pcall(ipc.sharedtable, big, true) then return end
        for i = 1, n do if not big[i] or #big[i] < 96 then os.exit(9) end end
      ]])
    end
  end)

  it('is an error where values are kept, sent and received, and what was kept is whole', function()
    for _, megabytes in ipairs { 100, 140, 200 } do
      -- LuaJIT's compiler has faults of its own where memory runs out while it compiles (doc/memory.md).
      under('-v ' .. megabytes * 1024, [[
        if rawget(_G, 'jit') then jit.off() end
        local ipc = require 'libipc'
        local torch = require 'ipc.torch'
        local server, port = ipc.server()
        local client = ipc.client(port)
        server:clients(1, function() end)
        local c, q, t, keep = ipc.channel(), ipc.workqueue(), ipc.sharedtable {}, {}
        local text = ('x'):rep(4000)
        local function short(e)
          return ipc.errcode(e) == 'limit' or ipc.errcode(e) == 'closed' or tostring(e):find 'not enough memory'
        end
        local counts = {}
        for name, add in pairs {
          channel = function(i) c:write { i, text } end, queue = function(i) q:write(text .. i) end,
          shared = function(i) t[i] = text end, marshal = function(i) keep[i] = ipc.marshal { i, text } end,
          tensor = function(i) keep[i] = torch.DoubleTensor(1000 * i) end,
          message = function(i)
            client:send({ i, text:rep(i) }, 20)
            keep[i] = select(2, server:tryrecvAny(nil, 20))
          end,
        } do
          counts[name] = 0
          local ok, e
          repeat
            ok, e = pcall(add, counts[name] + 1)
            if ok then counts[name] = counts[name] + 1 end
          until not ok or counts[name] == 5000
          assert(ok or short(e), e)
          keep = {}
          collectgarbage() collectgarbage()
          if name == 'channel' then
            -- All that was taken is there, in order.
            for i = 1, counts.channel do
              local got, v
              repeat
                ok, got, v = pcall(c.tryread, c, 0)
                assert(ok or short(got), got)
                if not ok then collectgarbage() end
              until ok
              if v then assert(got and v[1] == i and v[2] == text, i) end
            end
          end
        end
        assert(q:pending() == counts.queue)
        assert(#t == counts.shared)
      ]])
    end
  end)
end)

describe('few threads', function()
  it('start no worker of a pool unless they are enough for all, and none is left when the error is raised', function()
    local r = under_threads(12, [[
      -- What ends is not ended by the collector.
      collectgarbage 'stop'
      local ipc = require 'libipc'
      for _ = 1, 10 do
        local ok, e = pcall(ipc.pool, 30, { init = function() print 'init' end })
        assert(not ok and ipc.errcode(e) == 'limit', e)
        local started = tonumber(e:match ' (%d+) of 30 workers could start, and none has run')
        assert(started and started > 2 and started < 12, e)
        assert(ipc.map(2, function(i) return i end, 7):join(60) == 7)
        local pool = ipc.pool(2)
        assert(pool:submit(function() return 5 end):get(60) == 5)
        pool:close(60)
      end
    ]])
    if r then assert.equal('', r.stdout) end
  end)

  -- Programs that take all threads that are left, and give them back.
  local TAKES = [[
    local ipc = require 'libipc'
    local MOST = 14
    local maps = {}
    -- Until all are taken, and `workers` of them are a pool's.
    local function take(workers)
      local deadline = ipc.clock() + 30
      repeat
        local ok, m = pcall(ipc.map, 1, function() require 'libipc'.sleep(1000) end)
        if ok then maps[#maps + 1] = m else ipc.sleep(0.001) end
        local threads, of_pool = ipc.report().threads, 0
        for _, t in ipairs(threads) do of_pool = of_pool + (t.name:find('ipc.pool', 1, true) and 1 or 0) end
        assert(ipc.clock() < deadline, tostring(ipc.report()))
      until #threads == MOST and of_pool == workers
    end
    local function give()
      for _, m in ipairs(maps) do m:cancel() end
      for _, m in ipairs(maps) do pcall(m.join, m, 60) end
      maps = {}
    end
    local function busy(pool)
      local begun, go = ipc.channel(), ipc.channel()
      local f = pool:submit(function(begun, go)
        begun:write(1)
        local ok, e = pcall(go.read, go)
        if ok then return 'went' end
        -- It takes its time to end, in C, where no cancel reaches it: its thread is nobody else's yet.
        local _ = ('a'):rep(5000):find '.-b'
        error(e, 0)
      end, begun, go)
      begun:read(60)
      return f, go
    end
    local function limited(f, ...)
      local ok, e = pcall(f, ...)
      assert(not ok and ipc.errcode(e) == 'limit' and e:find('no worker left', 1, true), e)
    end
    -- A thread that has ended may be the system's for a moment.
    local function at_last(f, ...)
      local deadline = ipc.clock() + 60
      repeat
        local ok, v = pcall(f, ...)
        if ok then return v end
        assert(ipc.errcode(v) == 'limit', v)
      until ipc.clock() > deadline
      error 'no thread for a minute'
    end
  ]]

  it('break no pool: what is queued waits, calls say that no worker can start, and all goes on once one can', function()
    under_threads(14, TAKES .. [[
      for _ = 1, 3 do
        local pool = ipc.pool(1)
        local batch = pool:batch()
        local f = busy(pool)
        local q = pool:submit(function() return 'queued' end)
        batch:submit(function() return 'of a batch' end)
        local said, hold = ipc.channel(), ipc.channel()
        local waits = ipc.map(2, function(q, batch, said, hold, i)
          local ipc = require 'libipc'
          local ok, e
          if i == 1 then ok, e = pcall(q.get, q, 60) else ok, e = pcall(batch.next, batch, 60) end
          said:write(not ok and ipc.errcode(e))
          -- Its thread is nobody else's meanwhile.
          hold:read()
        end, q, batch, said, hold)
        ipc.sleep(0.05)
        take(1)
        f:cancel()
        for _ = 1, 2 do
          local _, code = said:read(60)
          assert(code == 'limit', tostring(code))
        end
        take(0)
        assert(tostring(pool):find('open, 0 workers', 1, true), tostring(pool))
        limited(q.get, q, 60)
        limited(batch.next, batch, 60)
        limited(pool.submit, pool, print)
        assert(ipc.select({ q }, 60) == q and not q:done())
        hold:write(1)
        hold:write(2)
        waits:join(60)
        give()
        assert(at_last(q.get, q, 60) == 'queued')
        local _, last = batch:next(60)
        assert(last:get() == 'of a batch')
        assert(pool:submit(function() return 5 end):get(60) == 5)
        assert(tostring(pool):find('open, 1 worker,', 1, true), tostring(pool))
        pool:close(60)
      end
    ]])
  end)

  it('leave what is queued to the workers that a pool has, and it is filled up once there are more', function()
    under_threads(14, TAKES .. [[
      local pool = ipc.pool(2)
      local f = busy(pool)
      local other, go = busy(pool)
      local q = pool:submit(function() return 'queued' end)
      take(2)
      f:cancel()
      take(1)
      assert(tostring(pool):find('open, 1 worker,', 1, true), tostring(pool))
      local more = pool:submit(function() return 'more' end)
      assert(not pcall(q.get, q, 0.1) and not q:done())
      go:write(1)
      assert(other:get(60) == 'went' and q:get(60) == 'queued' and more:get(60) == 'more')
      give()
      local deadline = ipc.clock() + 60
      repeat
        assert(pool:submit(function() return 5 end):get(60) == 5)
      until tostring(pool):find('open, 2 workers', 1, true) or ipc.clock() > deadline
      assert(tostring(pool):find('open, 2 workers', 1, true), tostring(pool))
      pool:close(60)
    ]])
  end)

  it('are an error of close where something is queued that nobody can do, and a later one does it', function()
    under_threads(14, TAKES .. [[
      local pool = ipc.pool(1)
      local f = busy(pool)
      local q = pool:submit(function() return 'queued' end)
      take(1)
      f:cancel()
      take(0)
      limited(pool.close, pool, 60)
      give()
      at_last(pool.close, pool, 60)
      assert(q:done() and q:get() == 'queued')
    ]])
  end)
end)
