-- Coroutines: under ipc.scheduler, calls that would block let other coroutines run.
local support = require 'spec.support'
local loop = require 'spec.support.loop'
local ipc = require 'libipc'

local function errors(f, ...)
  local ok, e = pcall(f, ...)
  assert.is_false(ok)
  return e
end

describe('under ipc.scheduler', function()
  before_each(function() ipc.scheduler {wait = loop.wait} end)
  after_each(function() ipc.scheduler(nil) end)

  -- Runs `task` beside one that makes it go on; whether the task yielded.
  local function yields(task, go)
    local ended = false
    local count = loop.run(function()
      task()
      ended = true
    end, function()
      assert.is_false(ended, 'it did not wait')
      go()
    end)
    assert.is_true(ended)
    return count > 0
  end

  -- The error that f raises in a coroutine, after however many yields: 5.1 cannot yield through pcall. For use within
  -- loop.run.
  local function error_within(f, ...)
    local given, n = { ... }, select('#', ...)
    local co = coroutine.create(function() f((unpack or table.unpack)(given, 1, n)) end) -- luacheck: ignore 143
    local ok, e = coroutine.resume(co)
    while coroutine.status(co) == 'suspended' do
      coroutine.yield(e)
      ok, e = coroutine.resume(co)
    end
    assert.is_false(ok)
    return e
  end

  -- The same in a loop of its own.
  local function error_of(...)
    local given, n, e = { ... }, select('#', ...), nil
    loop.run(function() e = error_within((unpack or table.unpack)(given, 1, n)) end) -- luacheck: ignore 143
    return e
  end

  it('reads and writes of channels and queues yield', function()
    local c, full = ipc.channel(), ipc.channel {capacity = 2}
    local got
    assert.is_true(yields(function() got = {c:read()} end, function() c:write 'a' end))
    assert.are.same({ipc.channel.OPEN, 'a'}, got)
    assert.is_true(yields(function() got = {c:tryread(60)} end, function() c:write(nil) end))
    assert.are.same({true, nil}, got)
    full:write(1, 2)
    assert.is_true(yields(function() got = full:write(3, 4) end, function()
      full:read()
      ipc.sleep(0.001) -- room for one is not enough
      full:read()
    end))
    assert.are.equal(ipc.channel.OPEN, got)
    assert.is_true(yields(function() got = {c:read()} end, function() c:close() end))
    assert.are.same({ipc.channel.DRAINED}, got)
    local q = ipc.workqueue()
    local m = ipc.map(1, function(its) its:write(its:read() * 2) end, q)
    assert.is_true(yields(function() got = q:read() end, function() q:write(21) end))
    assert.are.equal(42, got)
    m:join()
  end)

  it('iterators over a channel yield', function()
    if support.is_51 and not support.is_luajit then return pending 'Lua 5.1 cannot yield in an iterator' end
    local c, sum = ipc.channel(), 0
    loop.run(function() for item in c:items() do sum = sum + item end end, function()
      for i = 1, 10 do
        c:write(i)
        ipc.sleep(0)
      end
      c:close()
    end)
    assert.are.equal(55, sum)
  end)

  it('drains, joins, sleeps and waits for processes yield', function()
    local q = ipc.workqueue()
    local go = ipc.channel()
    local m = ipc.map(1, function(its, start)
      start:read()
      its:write(its:read())
      start:read()
      return 'done'
    end, q, go)
    q:write(1)
    local result
    assert.is_true(yields(function() q:drain() end, function() go:write(1) end))
    assert.is_true(yields(function() result = m:join() end, function()
      ipc.sleep(0.001)
      go:write(2)
    end))
    assert.are.equal('done', result)
    local pid = ipc.fork()
    if pid == 0 then
      ipc.scheduler(nil)
      ipc.sleep(0.02)
      os.exit(3)
    end
    loop.run(function() result = ipc.waitpid(pid) end)
    assert.are.equal(3, result)
  end)

  it('locks of a mutex that another thread holds yield', function()
    local mutex, held, free = ipc.mutex(), ipc.channel(), ipc.channel()
    local m = ipc.map(1, function(its, now, go)
      its:lock()
      now:write(1)
      go:read()
      its:unlock()
    end, mutex, held, free)
    held:read()
    local got
    assert.is_true(yields(function() got = mutex:with(function() return 7 end) end, function() free:write(1) end))
    assert.are.equal(7, got)
    assert.is_true(mutex:trylock())
    m:join()
    -- The time that a mutex has of its own.
    local short = ipc.mutex {timeout = 0.02}
    m = ipc.map(1, function(its, now, go)
      its:lock()
      now:write(1)
      go:read()
      its:unlock()
    end, short, held, free)
    held:read()
    assert.are.equal('timeout', ipc.errcode(error_of(short.lock, short)))
    assert.are.equal('timeout', ipc.errcode(error_of(short.with, short, print)))
    free:write(1)
    m:join()
  end)

  it('receives, sends and servers yield, a message in parts too', function()
    local server, port = ipc.server()
    local client, handle = ipc.client(port)
    server:clients(1, function(c) handle = c end)
    local got
    assert.is_true(yields(function() got = client:recv() end, function() handle:send 'x' end))
    assert.are.equal('x', got)
    assert.is_true(yields(function() got = server:recvAny() end, function() client:send 'y' end))
    assert.are.equal('y', got)
    -- Longer than the read-ahead, by another thread, so that it comes in parts.
    local long = ('z'):rep(3000000)
    local m
    assert.is_true(yields(function() got = handle:recv() end, function()
      m = ipc.map(1, function(its, s) its:send(s) end, client, long)
    end))
    assert.are.equal(long, got)
    m:join()
    -- The peer reads by and by.
    m = ipc.map(1, function(its) return #its:recv() end, client)
    loop.run(function() handle:send(long) end)
    assert.are.equal(#long, (m:join()))
    -- So do its two ends in one thread, with more than the sockets hold.
    loop.run(function() handle:send(long:rep(20)) end, function() got = client:recv() end)
    assert.are.equal(#long * 20, #got)
    -- Two that send to each other at once receive meanwhile.
    local back
    loop.run(function()
      handle:send(long:rep(20))
      back = handle:recv()
    end, function()
      client:send(long:rep(21))
      got = client:recv()
    end)
    assert.are.equal(#long * 20, #got)
    assert.are.equal(#long * 21, #back)
    local other, other_port = ipc.server()
    assert.is_true(yields(function() got = other:clients(1, function() end) end, function()
      m = ipc.map(1, function(p) require 'libipc'.client(p) end, other_port)
    end))
    assert.are.equal(1, got)
    m:join()
    -- A close by another coroutine ends the wait.
    local ok, e
    local co = coroutine.create(function() client:recv() end)
    loop.run(function()
      ok, e = coroutine.resume(co)
      while coroutine.status(co) == 'suspended' do
        loop.wait((unpack or table.unpack)(e)) -- luacheck: ignore 143
        ok, e = coroutine.resume(co)
      end
    end, function() client:close() end)
    assert.is_false(ok)
    assert.are.equal('closed', ipc.errcode(e))
  end)

  it('descriptors go from call to call, whether garbage is collected or not', function()
    local c, timer, count = ipc.channel(), ipc.after(600), 0
    local function descriptors() return tonumber(support.sh('ls /proc/' .. ipc.getpid() .. '/fd | wc -l')) end
    local function wait_each()
      for _, call in ipairs {
        function() assert.is_nil((select(2, c:read(0.0001)))) end,
        function() ipc.sleep(0.0001) end,
        function() assert.is_nil(ipc.select({ c, timer }, 0.0001)) end,
      } do
        loop.run(call)
        count = count + 1
      end
    end
    wait_each()
    local before, ended = descriptors(), {}
    -- Held, as garbage is that nobody has collected.
    ipc.scheduler { wait = function(...)
      ended[#ended + 1] = coroutine.running()
      return loop.wait(...)
    end }
    for _ = 1, 40 do wait_each() end
    assert.is_true(descriptors() - before < 10, descriptors() - before)
  end)

  it('a send that waits hears of a close at this end, whoever closes', function()
    local long = ('x'):rep(2 ^ 10):rep(20 * 2 ^ 10)
    for _, link in ipairs { 'memory', 'tcp', 'unix' } do
      local host = link == 'unix' and 'unix:' .. support.tmpname() or '127.0.0.1'
      for _, how in ipairs { 'handle', 'client', 'server', 'recvAny' } do
        local server, port = ipc.server(host, 0, { transport = link })
        local client, handle = ipc.client(host, port, { transport = link }), nil
        server:clients(1, function(c) handle = c end, 60)
        local sender = how == 'client' and client or handle
        -- Over memory the first message has room, whatever its size.
        sender:send 'unread'
        local e
        loop.run(function() e = error_within(sender.send, sender, long) end, function()
          if how == 'handle' then handle:close() end
          if how == 'client' then client:close() end
          if how == 'server' then server:close() end
          if how == 'recvAny' then
            client:close()
            assert.are.equal('closed', ipc.errcode((select(3, server:recvAny(nil, { gone = true, timeout = 60 })))))
          end
        end)
        assert.are.equal('closed', ipc.errcode(e), link .. ' ' .. how)
        server:close()
      end
    end
  end)

  it('a send whose message another one has moved on is over, though the connection has ended since', function()
    local server, port = ipc.server { transport = 'tcp' }
    local go = ipc.channel()
    local m = ipc.map(1, function(p, begin)
      local client = require 'libipc'.client(p)
      begin:read()
      local first, second = client:recv(60), client:recv(60)
      client:close()
      return #first, #second
    end, port, go)
    local handle
    server:clients(1, function(c) handle = c end, 60)
    local long, waits = ('x'):rep(2 ^ 10):rep(20 * 2 ^ 10), nil
    -- Not resumed by anybody, until it is all over.
    local first = coroutine.create(function() handle:send(long) end)
    ipc.scheduler { wait = function(...)
      waits = coroutine.running() == first
      if waits then coroutine.yield() else loop.wait(...) end
    end }
    assert(coroutine.resume(first))
    -- Nobody reads yet, and it is more than the system takes.
    assert.is_true(waits)
    go:write(true)
    loop.run(function() handle:send 'the second' end)
    assert.are.equal(#long, (m:join()))
    assert.are.equal('closed', ipc.errcode((select(3, server:recvAny(nil, { gone = true, timeout = 60 })))))
    assert.is_true(coroutine.resume(first))
    assert.are.equal('dead', coroutine.status(first))
    ipc.scheduler { wait = loop.wait }
    server:close()
  end)

  it('a send that ends in the middle of its message, by time or with its coroutine, closes the connection', function()
    local server, port = ipc.server { transport = 'tcp' }
    local late, dropped = ipc.client(port), ipc.client(port)
    server:clients(2, function() end, 60)
    local long = ('z'):rep(50000000)
    local e = error_of(late.send, late, long, 0.2)
    assert.are.equal('timeout', ipc.errcode(e))
    assert.is_truthy(e:find('closed the connection', 1, true), e)
    assert.are.equal('closed', ipc.errcode(error_of(late.send, late, 1)))
    local co = coroutine.create(function() dropped:send(long) end)
    coroutine.resume(co)
    assert.are.equal('suspended', coroutine.status(co))
    co = nil -- luacheck: ignore 311 (it is to be collected)
    collectgarbage()
    collectgarbage()
    assert.are.equal('closed', ipc.errcode(error_of(dropped.send, dropped, 1, 60)))
    server:close()
  end)

  it('reads, writes and waits of a child process yield', function()
    local p = ipc.spawn { file = 'cat' }
    local got
    assert.is_true(yields(function() got = p:stdout() end, function() p:stdin 'a line\n' end))
    assert.are.equal('a line', got)
    -- More than the pipes hold, so that it is written by and by.
    local long = ('x'):rep(1000000)
    loop.run(function() p:stdin(long) p:stdin() end, function() got = p:stdout '*a' end)
    assert.are.equal(long, got)
    assert.is_nil(p:stdout())
    assert.are.equal(0, p:wait())
    local q = ipc.spawn { file = 'sh', args = { '-c', 'read x; echo oops >&2; read x; exit 3' }, stderr = 'pipe' }
    assert.is_true(yields(function() got = q:stderr() end, function() q:stdin '\n' end))
    assert.are.equal('oops', got)
    -- A wait closes stdin; that it does so before it yields is as without a scheduler.
    loop.run(function() got = q:wait() end)
    assert.are.equal(3, got)
  end)

  it('a wait for a child process sends its signal once, and keeps its time', function()
    local p = ipc.spawn {
      file = 'sh',
      args = { '-c', "n=0; trap 'n=$((n + 1)); echo $n' USR1; echo up; while :; do sleep 0.01; done" },
    }
    assert.are.equal('up', p:stdout())
    local e = error_of(p.wait, p, 'USR1', 0.3)
    assert.are.equal('timeout', ipc.errcode(e))
    assert.are.equal('1', p:stdout())
    p:wait 'KILL'
    assert.is_nil(p:stdout())
  end)

  it('the lock of a file that another holds yields', function()
    local path = support.tmpname '.lock'
    local lock = ipc.flock(path)
    local other
    assert.is_true(yields(function() other = ipc.flock(path) end, function() lock:close() end))
    other:write 'mine'
    assert.are.equal('mine', other:read())
    local got = 'none'
    loop.run(function() got = ipc.flock(path, 0.01) end)
    assert.is_nil(got)
    loop.run(function() got = ipc.flock(path, true) end)
    assert.is_nil(got)
    other:close()
    loop.run(function() got = ipc.flock(path, true) end)
    got:close()
  end)

  it('barriers yield, and one that is given up is left', function()
    local mutex = ipc.mutex()
    assert.is_true(yields(function() mutex:barrier(2) end, function() mutex:barrier(2) end))
    local e = error_of(mutex.barrier, mutex, 2, 0.01)
    assert.are.equal('timeout', ipc.errcode(e))
    -- Nobody takes this one up again.
    coroutine.wrap(function() mutex:barrier(3) end)()
    support.eventually(function()
      collectgarbage()
      collectgarbage()
      return errors(mutex.barrier, mutex, 3, 0.01):find('0 of the other 2', 1, true)
    end)
    e = error_of(mutex.barrier, mutex, 0)
    assert.are.equal('argument', ipc.errcode(e))
  end)

  it('a client that connects yields', function()
    local server, port = ipc.server()
    local client, got
    assert.is_true(yields(function()
      client = ipc.client(port)
      got = client:recv()
    end, function()
      server:clients(1, function(c) c:send 'hello' end)
    end))
    assert.are.equal('hello', got)
    local e = error_of(ipc.client, '127.0.0.1', support.free_port(), { connect_timeout = 0.05 })
    assert.are.equal('timeout', ipc.errcode(e))
    e = error_of(ipc.client, 'no port')
    assert.are.equal('argument', ipc.errcode(e))
    client:close()
    server:close()
  end)

  -- Items whose tasks wait for `go`.
  local function items(count, go)
    local list = {}
    for i = 1, count do list[i] = { n = i, go = go } end
    return list
  end

  local function twice(item)
    item.go:read()
    return item.n * 2, 'more'
  end

  it('the maps of a pool yield, and its end', function()
    local pool, go = ipc.pool(2), ipc.channel()
    local got, e
    assert.is_true(yields(function() got = pool:map(twice, items(20, go)) end, function()
      for _ = 1, 20 do go:write(1) end
    end))
    assert.are.equal(20, #got)
    for i, n in ipairs(got) do assert.are.equal(i * 2, n) end
    e = error_of(pool.map, pool, function(n) if n == 2 then error 'two' end end, { 1, 2, 3 })
    assert.is_truthy(e:find('of item 2', 1, true) and e:find('two', 1, true), e)
    e = error_of(pool.map, pool, twice, items(1, go), 0.01)
    assert.is_truthy(e:find('[timeout] pool:map: 0 of 1 items are done', 1, true), e)
    e = error_of(pool.map, pool, 1, {})
    assert.are.equal('argument', ipc.errcode(e))
    -- For the end to wait for; the one that ran out of time may have begun, too.
    pool:submit(function(its) its:read() end, go)
    assert.is_true(yields(function() pool:close() end, function() go:write(1, 1) end))
  end)

  it('loops over the results of threads and of a pool yield', function()
    if support.is_51 and not support.is_luajit then return pending 'Lua 5.1 cannot yield in an iterator' end
    local go, sum = ipc.channel(), 0
    local m = ipc.map(3, function(its, id)
      its:read()
      return id
    end, go)
    assert.is_true(yields(function() for id, same in m:results() do sum = sum + id + same end end, function()
      go:write(1, 2, 3)
    end))
    assert.are.equal(12, sum)
    local pool, all = ipc.pool(2), {}
    assert.is_true(yields(function()
      for i, n, more in pool:each(twice, items(10, go)) do all[i] = n .. more end
    end, function()
      for _ = 1, 10 do go:write(1) end
    end))
    assert.are.equal('20more', all[10])
    assert.are.equal(10, #all)
    local batch, first = pool:batch(), nil
    batch:submit(function(its) return (select(2, its:read())) end, go)
    assert.is_true(yields(function() for n, future in batch:results() do first = n .. future:get() end end, function()
      go:write 'st'
    end))
    assert.are.equal('1st', first)
    pool:close()
  end)

  it('select and timers yield', function()
    local a, b, got = ipc.channel(), ipc.channel {capacity = 1}, nil
    b:write(1)
    assert.is_true(yields(function() got = {ipc.select {a, {b, 'write'}}} end, function() b:read() end))
    assert.are.same({b, 2}, got)
    -- On a busy machine the time may be over before anybody waits.
    support.retry(20, function(n)
      assert.is_true(yields(function() got = ipc.after(0.01 * n):read() end, function() ipc.sleep(0) end))
    end)
    assert.are.equal(1, got)
  end)

  it('time-outs are those of the calls', function()
    local c, log = ipc.channel {timeout = 0.001, capacity = 1}, {}
    c:write(1)
    local q = ipc.workqueue()
    loop.run(function()
      log[1] = select('#', ipc.channel():read(0.001))
      log[2] = q:read(0.002)
      log[3] = ipc.select({q}, 0.001)
    end)
    assert.are.same({1, nil, nil}, log)
    local ok, e
    loop.run(function() ok, e = coroutine.resume(coroutine.create(function() error 'of the task' end)) end)
    assert.is_false(ok)
    assert.is_truthy(e:find 'of the task')
  end)

  it('reads, writes and drains end where another coroutine closes the queue', function()
    for _, call in ipairs {
      function(q) q:read() end, function(q) q:write(1) q:write(2) end, function(q) q:write(1) q:drain() end,
    } do
      local q = ipc.workqueue {capacity = 1}
      local other = ipc.map(1, function(its) return its:tryread() end, q) -- somebody else holds it, too
      other:join()
      local e
      local co = coroutine.create(function() call(q) end)
      loop.run(function()
        local ok, what = coroutine.resume(co)
        while coroutine.status(co) == 'suspended' do
          loop.wait((unpack or table.unpack)(what)) -- luacheck: ignore 143
          ok, what = coroutine.resume(co)
        end
        assert.is_false(ok)
        e = what
      end, function() q:close() end)
      assert.are.equal('closed', ipc.errcode(e))
    end
  end)

  it('errors are those of the calls, with the place of the caller', function()
    local q = ipc.workqueue()
    q:close()
    local co = coroutine.create(function() q:read() end)
    local ok, e = coroutine.resume(co)
    assert.is_false(ok)
    assert.is_truthy(e:find '^[^:]*scheduler_spec%.lua:%d+: libipc %[closed%] workqueue:read', e)
    local c = ipc.channel {timeout = 0, capacity = 1}
    c:write(1)
    ok, e = coroutine.resume(coroutine.create(function() c:write(2) end))
    assert.is_false(ok)
    assert.are.equal('timeout', ipc.errcode(e))
  end)

  it('the main coroutine blocks as ever', function()
    local c = ipc.channel()
    local m = ipc.map(1, function(its) its:write 'x' end, c)
    assert.are.same({ipc.channel.OPEN, 'x'}, {c:read()})
    m:join()
  end)

  it('hundreds of coroutines share a thread', function()
    local c, sum, tasks = ipc.channel {capacity = 1}, 0, {}
    for i = 1, 100 do
      tasks[2 * i - 1] = function() c:write(i) end
      tasks[2 * i] = function() sum = sum + select(2, c:read()) end
    end
    loop.run((table.unpack or unpack)(tasks)) -- luacheck: ignore 143
    assert.are.equal(5050, sum)
  end)

  it('a thousand calls of coroutines take a bounded number of threads, whatever they wait for', function()
    local out = support.check [[
      local ipc = require 'libipc'
      local loop = require 'spec.support.loop'
      local function threads()
        for l in io.lines '/proc/self/status' do
          if l:match '^Threads' then return tonumber(l:match '%d+') end
        end
      end
      local server, port = ipc.server()
      server:close()
      local gate, path = ipc.mutex(), os.tmpname()
      local lock = ipc.flock(path)
      local before, most, waiting = threads(), 0, 0
      ipc.scheduler { wait = function() coroutine.yield() end }
      local list = {}
      local function start(n, f)
        for _ = 1, n do
          local co = coroutine.create(f)
          list[#list + 1] = co
          assert(coroutine.resume(co))
        end
        most = math.max(most, threads() - before)
      end
      start(250, function() ipc.client('127.0.0.1', port, { connect_timeout = 60 }) end)
      start(250, function() gate:barrier(1000) end)
      start(250, function() ipc.flock(path) end)
      start(250, function() ipc.client('localhost', port, { connect_timeout = 60 }) end)
      for _ = 1, 3 do
        for _, co in ipairs(list) do
          if coroutine.status(co) == 'suspended' then
            local ok, e = coroutine.resume(co)
            assert(ok, e)
            if coroutine.status(co) == 'suspended' then waiting = waiting + 1 end
          end
        end
        most = math.max(most, threads() - before)
      end
      assert(waiting == 3000, waiting)
      print(most)
      os.remove(path)
      os.exit(0)
    ]]
    assert.is_true(tonumber(out) <= 20, out .. ' threads')
  end)

  it('callers of a barrier meet, and one whose coroutine is collected counts no more', function()
    local gate, met = ipc.mutex(), 0
    local lost = coroutine.wrap(function() gate:barrier(41) end)
    lost()
    lost = nil -- luacheck: ignore 311
    support.eventually(function()
      collectgarbage()
      collectgarbage()
      return error_of(gate.barrier, gate, 41, 0):find('0 of the other 40 callers', 1, true)
    end)
    local tasks = {}
    for i = 1, 41 do
      tasks[i] = function()
        for _ = 1, 5 do gate:barrier(41) end
        met = met + 1
      end
    end
    loop.run((unpack or table.unpack)(tasks)) -- luacheck: ignore 143
    assert.are.equal(41, met)
  end)

  it('many coroutines connect to a server that starts later, by name and by number', function()
    local server, port = ipc.server()
    server:close()
    local got, tasks = 0, {}
    for i = 1, 40 do
      tasks[i] = function()
        local c = ipc.client(i % 2 == 0 and 'localhost' or '127.0.0.1', port, { connect_timeout = 500 })
        c:send(i)
        local v = c:recv()
        got = got + v
        c:close()
      end
    end
    tasks[41] = function()
      ipc.sleep(0.02)
      server = ipc.server('127.0.0.1', port)
      for _ = 1, 40 do
        local v, c = server:recvAny()
        c:send(v)
      end
    end
    loop.run((unpack or table.unpack)(tasks)) -- luacheck: ignore 143
    assert.are.equal(820, got)
    server:close()
  end)

  it('a server that does not answer keeps no connect to another waiting', function()
    local silent = assert(require('socket').bind('127.0.0.1', 0, 64))
    local _, port = silent:getsockname()
    local live, at = ipc.server()
    local closed, nobody = ipc.server()
    closed:close()
    local connected, tasks, server, e = 0, {}, nil, nil
    for i = 1, 40 do
      tasks[i] = function()
        local c = ipc.client('127.0.0.1', port, { connect_timeout = 500 })
        connected = connected + 1
        c:close()
      end
    end
    tasks[41] = function()
      ipc.client('127.0.0.1', at, { connect_timeout = 500 }):close()
      local co = coroutine.create(function() ipc.client('127.0.0.1', nobody, { connect_timeout = 0.01 }) end)
      local ok
      ok, e = coroutine.resume(co)
      while coroutine.status(co) == 'suspended' do
        coroutine.yield(e)
        ok, e = coroutine.resume(co)
      end
      assert(not ok and connected == 0)
      -- Who waits is told that this one is gone, and finds the next.
      silent:close()
      server = ipc.server('127.0.0.1', port)
    end
    loop.run((unpack or table.unpack)(tasks)) -- luacheck: ignore 143
    assert.are.equal('timeout', ipc.errcode(e))
    assert.are.equal(40, connected)
    server:close()
    live:close()
  end)

  it('a lock of a file goes from coroutine to coroutine', function()
    local path, inside, total, tasks = os.tmpname(), 0, 0, {}
    for i = 1, 20 do
      tasks[i] = function()
        local lock = ipc.flock(path)
        inside = inside + 1
        assert(inside == 1)
        ipc.sleep(0.0005)
        inside = inside - 1
        total = total + 1
        lock:close()
      end
    end
    loop.run((unpack or table.unpack)(tasks)) -- luacheck: ignore 143
    assert.are.equal(20, total)
    local held = ipc.flock(path)
    assert.is_nil(ipc.flock(path, 0.001))
    held:close()
    os.remove(path)
  end)
end)

describe('ipc.scheduler', function()
  it('replaces methods while it is set, and puts them back', function()
    local c = ipc.channel()
    local read, sleep = c.read, ipc.sleep
    ipc.scheduler {wait = loop.wait}
    assert.are_not.equal(read, c.read)
    ipc.scheduler {wait = loop.wait}
    ipc.scheduler(nil)
    assert.are.equal(read, c.read)
    assert.are.equal(sleep, ipc.sleep)
    ipc.scheduler()
    assert.is_truthy(errors(ipc.scheduler, {}):find("option 'wait': expected a function, got nil", 1, true))
    assert.is_truthy(errors(ipc.scheduler, 3):find('argument #1: expected a table, got number', 1, true))
    assert.is_truthy(errors(ipc.scheduler, {wiat = print}):find("unknown option 'wiat'", 1, true))
  end)

  it('is told the descriptor, what to poll it for, and for how long', function()
    local told
    ipc.scheduler {wait = function(...) told = {n = select('#', ...), ...} coroutine.yield() end}
    local c = ipc.channel()
    local co = coroutine.create(function() return c:read(100) end)
    coroutine.resume(co)
    ipc.scheduler(nil)
    assert.are.equal('read', told[2])
    assert.is_true(told[3] > 0 and told[3] <= 100)
    local fd = ipc.fd(told[1])
    assert.is_nil(ipc.select({fd}, 0))
    c:write 'x'
    assert.are.equal(fd, (ipc.select {fd}))
    local _, status, item = coroutine.resume(co)
    assert.are.same({ipc.channel.OPEN, 'x'}, {status, item})
  end)

  it('is told descriptors that stay open when the calls have ended and what they waited for is gone', function()
    local told, kinds = {}, 0
    ipc.scheduler {wait = function(fd, mode, timeout)
      told[fd] = true
      loop.wait(fd, mode, timeout)
    end}
    local function waits(task)
      loop.run(task)
      collectgarbage() collectgarbage()
      kinds = kinds + 1
    end
    local function opened()
      local n = 0
      for fd = 0, 255 do
        local f = io.open('/proc/self/fdinfo/' .. fd)
        if f then n = n + 1 f:close() end
      end
      return n
    end
    local function all()
      waits(function() ipc.channel():read(0.001) end)
      waits(function() ipc.sleep(0.001) end)
      waits(function() ipc.spawn {file = 'sleep', args = {'0.01'}}:wait() end)
      waits(function()
        local pid = ipc.fork()
        if pid == 0 then
          ipc.scheduler(nil)
          ipc.sleep(0.01)
          os.exit(0)
        end
        ipc.waitpid(pid)
      end)
      waits(function() ipc.spawn {file = 'sleep', args = {'0.01'}, stdout = 'pipe'}:stdout(1) end)
      waits(function() ipc.select({ipc.channel(), ipc.channel()}, 0.001) end)
      waits(function() ipc.select {ipc.channel(), ipc.after(0.001)} end)
      waits(function() ipc.every(0.001):read() end)
      waits(function() ipc.map(1, function() require 'libipc'.sleep(0.01) end):join() end)
      local server, port = ipc.server()
      waits(function() server:tryrecvAny(nil, 0.001) end)
      local client = ipc.client(port)
      waits(function() client:tryrecv(0.001) end)
      client:close()
      server:close()
    end
    all()
    local before = opened()
    for _ = 1, 10 do all() end
    -- A thread in the background closes what a close has left.
    assert(pcall(support.eventually, function() return opened() <= before + 2 end), 'each call leaves one')
    local given = {}
    for fd in pairs(told) do
      -- Neither closed, which would be [state], nor ready.
      assert.is_nil(ipc.select({ipc.fd(fd)}, 0))
      given[#given + 1] = fd
    end
    assert.is_true(#given > 0 and #given < kinds)
    ipc.scheduler(nil)
    for _, fd in ipairs(given) do assert.is_nil((io.open('/proc/self/fdinfo/' .. fd))) end
  end)
end)
