-- §17: ipc.report, and the names of threads.
-- luacheck: ignore 431 (what goes to a thread has the same name there)
local support = require 'spec.support'
local ipc = require 'libipc'

-- The entry of the thread called `name`, once `want(entry)` holds.
local function thread(name, want)
  return support.eventually(function()
    for _, t in ipairs(ipc.report().threads) do
      if t.name == name and (not want or want(t)) then return t end
    end
  end)
end

local function object(id)
  for _, o in ipairs(ipc.report().objects) do
    if o.id == id then return o end
  end
end

local function classes(report)
  local found = {}
  for _, o in ipairs(report.objects) do
    found[o.class] = found[o.class] or {}
    table.insert(found[o.class], o.state)
  end
  return found
end

describe('a report', function()
  it('lists every live object with its state', function()
    local lock = ipc.flock(support.tmpname())
    local q, m, n, v = ipc.workqueue 'shown', ipc.mutex(), ipc.atomic(42), ipc.marshal { 1, 2 }
    local t = ipc.sharedtable { 1, 2, x = 3 }
    local c = ipc.channel()
    c:write(1, 2)
    local server, port = ipc.server()
    local client = ipc.client(port)
    local handle
    server:clients(1, function(c) handle = c end)
    local threads = ipc.map { threads = 2, name = 'idle', fn = function(q) q:read() end, args = { q } }
    local pool = ipc.pool(2, { name = 'crew' })
    local f = pool:submit(function(q) return q:read() end, q)
    support.eventually(function() return tostring(pool):find('1 task running', 1, true) end)
    m:lock()
    local found = classes(ipc.report())
    local function shown(class, ...)
      for _, pattern in ipairs { ... } do
        local all = table.concat(found[class] or {}, '\n')
        assert.matches(pattern, all, nil, class .. ': ' .. all)
      end
    end
    shown('ipc.flock', 'held, /')
    shown('ipc.workqueue', "'shown', open, 0 questions, 0 answers")
    shown('ipc.mutex', "locked by thread 'main'")
    shown('ipc.atomic', '42')
    shown('ipc.sharedtable', '3 keys')
    shown('ipc.marshal', 'bytes')
    shown('ipc.channel', 'open, 2 items')
    shown('ipc.pool', "'crew', open, 2 workers, 1 task running, 0 queued")
    shown('ipc.future', 'running')
    shown('ipc.server', 'open at 127%.0%.0%.1:%d+, 1 client')
    shown('ipc.client', 'open, to 127')
    shown('ipc.server.client', 'open, 127.*id 0')
    shown('ipc.map', "'idle', 2 threads, 2 running")
    q:write(1, 2, 3)
    threads:join()
    f:get()
    m:unlock()
    t.x = nil
    pool:close()
    c:close()
    client:close()
    handle:close()
    server:close()
    lock:close()
    found = classes(ipc.report())
    shown('ipc.mutex', 'unlocked')
    shown('ipc.sharedtable', '2 keys')
    shown('ipc.client', 'closed')
    shown('ipc.server', 'closed')
    shown('ipc.channel', 'closed, 2 items left')
    shown('ipc.pool', 'closed, 0 workers')
    shown('ipc.future', 'done')
    shown('ipc.flock', 'closed')
    shown('ipc.map', '0 running')
    q:close()
    assert(v and n)
  end)

  it('is empty when all is closed and collected, whatever lay in messages', function()
    support.check [[
      local support, ipc = require 'spec.support', require 'libipc'
      assert(#ipc.report().objects == 0)
      local server, port = ipc.server()
      local client = ipc.client(port)
      server:clients(1, function(c) c:close() end)
      local q, m = ipc.workqueue 'a', ipc.mutex()
      q:write(m, ipc.atomic(1), { { ipc.marshal((ipc.workqueue())) } })
      ipc.map(2, function(q, m) q:write(m, q) end, q, m):join()
      m = nil
      collectgarbage()
      collectgarbage()
      local found = {}
      for _, o in ipairs(ipc.report().objects) do found[o.class] = (found[o.class] or 0) + 1 end
      assert(found['ipc.mutex'] == 1 and found['ipc.atomic'] == 1 and found['ipc.workqueue'] == 2, 'held by messages')
      q:close()
      server:close()
      client:close()
      q, server, client = nil
      support.nothing_left(ipc)
    ]]
  end)

  it('names every thread, what it waits for, on which object, and since when', function()
    local q = ipc.workqueue()
    local before = ipc.clock()
    local m = ipc.map { threads = 2, name = 'reader', fn = function(q) q:read() end, args = { q } }
    local waits = thread('reader 2', function(t) return t.waiting end)
    assert.equal('workqueue:read', waits.waiting)
    assert.equal('ipc.workqueue', object(waits.object).class)
    assert.is_true(waits.since >= before and waits.since <= ipc.clock())
    assert.equal(waits.since, thread('reader 2').since)
    assert.is_true(thread 'reader 1'.id ~= waits.id)
    local here = thread 'main'
    assert.equal(ipc.gettid(), here.id)
    assert.is_nil(here.waiting)
    assert.is_nil(here.since)
    assert.is_nil(here.object)
    q:write(1, 2)
    m:join()
    for _, t in ipairs(ipc.report().threads) do assert.is_nil(t.name:match 'reader', t.name) end
    q:close()
  end)

  it('knows the calls that wait, and forgets them when they end', function()
    local server, port = ipc.server()
    local held, path = ipc.mutex(), support.tmpname()
    local lock = ipc.flock(path)
    held:lock()
    for place, case in pairs {
      ['ipc.sleep'] = { function() require 'libipc'.sleep(200) end },
      ['mutex:lock'] = { function(m) m:lock() end, held },
      ['mutex:barrier'] = { function(m) m:barrier(2) end, held },
      ['workqueue:drain'] = { function()
        local q = require 'libipc'.workqueue()
        q:write(1)
        q:drain()
      end },
      ['channel:read'] = { function() require 'libipc'.channel():read() end },
      ['ipc.select'] = { function()
        local ipc = require 'libipc'
        ipc.select { ipc.channel(), (ipc.server()) }
      end },
      ['future:get'] = { function()
        local ipc = require 'libipc'
        ipc.pool(1):submit(function() require 'libipc'.sleep(200) end):get()
      end },
      ['client:recv'] = { function(port) require 'libipc'.client(port):recv() end, port },
      ['server:recvAny'] = { function() require 'libipc'.server():recvAny() end },
      ['ipc.flock'] = { function(path) require 'libipc'.flock(path) end, path },
      ['map:join'] = { function()
        local ipc = require 'libipc'
        ipc.map(1, function() require 'libipc'.sleep(200) end):join()
      end },
      ['ipc.waitpid'] = { function()
        local ipc = require 'libipc'
        local pid = ipc.fork()
        if pid == 0 then
          ipc.sleep(200)
          os.exit(0)
        end
        local ok, e = pcall(ipc.waitpid, pid)
        os.execute('kill -9 ' .. pid)
        ipc.waitpid(pid, 0)
        assert(ok, e)
      end },
    } do
      local m = ipc.map { threads = 1, name = 'one', fn = case[1], args = { case[2] } }
      -- What comes before it may wait for a moment, too.
      local t = thread('one 1', function(t) return t.waiting == place end)
      -- A method of an object of this process names it.
      assert.equal(place:match ':' and 'ipc.' .. place:match '(.-):' or nil, t.object and object(t.object).class)
      m:cancel()
      assert.matches('cancelled', support.fails(m.join, m))
    end
    lock:close()
    server:close()
  end)

  it('knows the workers of a pool, at work and idle', function()
    local pool, q = ipc.pool(2, { name = 'crew' }), ipc.workqueue()
    thread('crew 1', function(t) return t.waiting == 'ipc.pool' end)
    thread('crew 2', function(t) return t.waiting == 'ipc.pool' end)
    local f = pool:submit(function(q) return q:read() end, q)
    support.eventually(function() return tostring(ipc.report()):find('crew %d %(%d+%) waits in workqueue:read') end)
    q:write(7)
    assert.equal(7, f:get())
    pool:close()
    q:close()
  end)

  it('says who holds a mutex', function()
    local m, q = ipc.mutex(), ipc.workqueue()
    local holder = ipc.map { threads = 1, name = 'holder', args = { m, q }, fn = function(m, q)
      m:lock()
      q:write(true)
      q:read()
    end }
    q:read()
    local states = table.concat(classes(ipc.report())['ipc.mutex'], '\n')
    assert.matches("locked by thread 'holder 1'", states)
    q:write(true)
    holder:join()
    q:close()
  end)

  it('is a text', function()
    local q = ipc.workqueue 'in the text'
    local m = ipc.map { threads = 1, name = 'reader', fn = function(q) q:read() end, args = { q } }
    local id = thread('reader 1', function(t) return t.waiting end).object
    local text = tostring(ipc.report())
    assert.matches(('^process %d: %%d+ objects?, %%d+ threads, tensors of %%d+ bytes\n'):format(ipc.getpid()), text)
    assert.matches(("\n  #%d ipc%%.workqueue: 'in the text', open, 0 questions, 0 answers\n"):format(id), text)
    assert.matches(('\n  main %%(%d%%) runs'):format(ipc.gettid()), text)
    assert.matches(('\n  reader 1 %%(%%d+%%) waits in workqueue:read on #%d, for %%d+%%.%%d+ s'):format(id), text)
    local mt = getmetatable(ipc.report())
    for _, bad in ipairs { 1, {}, setmetatable({}, {}) } do
      assert.equal('argument', ipc.errcode(support.fails(mt.__tostring, bad)))
    end
    q:write(1)
    m:join()
    q:close()
  end)

  it('can be had from every thread while others are stuck, and while all comes and goes', function()
    local stuck = ipc.workqueue()
    local idle = ipc.map(2, function(q) q:read() end, stuck)
    local n = ipc.map(4, function(id)
      local ipc = require 'libipc'
      local most = 0
      for i = 1, 100 do
        local q, a = ipc.workqueue('at work ' .. id), ipc.atomic(i)
        q:write(a, ipc.mutex())
        if id < 3 then most = math.max(most, #ipc.report().objects, #tostring(ipc.report())) end
        if i % 40 == 0 then
          local pid = ipc.fork()
          if pid == 0 then os.exit(#ipc.report().threads) end
          assert(ipc.waitpid(pid) == 1)
        end
        q:close()
      end
      return most
    end):join()
    assert.is_true(n > 0)
    stuck:write(1, 1)
    idle:join()
    stuck:close()
  end)

  it("shows in the child of a fork the child's own thread, and what became of the objects", function()
    support.check [[
      local ipc = require 'libipc'
      local q, m = ipc.workqueue(), ipc.mutex()
      local server, port = ipc.server()
      local client = ipc.client(port)
      local threads = ipc.map { threads = 2, name = 'readers', args = { q, m }, fn = function(q, m, id)
        if id == 1 then m:lock() end
        q:write(true)
        q:read()
      end }
      q:read() q:read()
      local pid = ipc.fork()
      if pid == 0 then
        local r = ipc.report()
        assert(r.process == ipc.getpid())
        assert(#r.threads == 1 and r.threads[1].id == ipc.gettid() and r.threads[1].name == 'main', tostring(r))
        local text = tostring(r)
        assert(text:find('ipc.map: \'readers\', 2 threads, of the parent', 1, true), text)
        assert(text:find('ipc.mutex: unlocked', 1, true), text)
        assert(text:find('ipc.server: closed', 1, true), text)
        -- It goes on from here.
        local mine = ipc.map { threads = 1, name = 'mine', args = { q }, fn = function(q) q:read() end }
        repeat ipc.sleep(0.001) until tostring(ipc.report()):find 'mine 1 %(%d+%) waits in workqueue:read'
        q:write(1)
        mine:join()
        os.exit(0)
      end
      assert(ipc.waitpid(pid, 100) == 0)
      q:write(1, 2)
      threads:join()
    ]]
  end)
end)

describe('threads', function()
  local function names()
    return support.sh(('cat /proc/%d/task/*/comm'):format(ipc.getpid()))
  end

  it('carry their names in the operating system, the one in the background too', function()
    if not support.exists '/proc/self/comm' then return pending 'no /proc here' end
    ipc.server():close()
    local q = ipc.workqueue()
    local m = ipc.map { threads = 12, name = 'a long name it is', fn = function(q) q:read() end, args = { q } }
    local plain = ipc.map(1, function(q) q:read() end, q)
    -- A thread gives itself its name when it begins.
    for _, name in ipairs { 'a long name i 1', 'a long name  12', 'ipc.map 1', 'ipc-background' } do
      support.eventually(function() return ('\n' .. names() .. '\n'):find('\n' .. name .. '\n', 1, true) end)
    end
    local background
    for _, t in ipairs(ipc.report().threads) do background = background or t.background and t.name end
    assert.equal('ipc-background', background)
    for i = 1, 13 do q:write(i) end
    m:join()
    plain:join()
    q:close()
  end)
end)
