-- Waiting on many: ipc.select, obj:fd(), ipc.fd, ipc.after, ipc.every.
local support = require 'spec.support'
local ipc = require 'libipc'

local function queue() return (ipc.workqueue()) end

-- The words of the error that f raises with these arguments.
local function refused(f, ...)
  local ok, e = pcall(f, ...)
  assert.is_false(ok)
  return e
end

local function contains(text, words) assert.is_truthy(text:find(words, 1, true), text) end

describe('ipc.select', function()
  it('returns the object that is ready and its index, nil when none was in time', function()
    local a, b = queue(), queue()
    assert.is_nil(ipc.select({a, b}, 0))
    assert.is_nil(ipc.select({a, b}, true))
    assert.is_nil(ipc.select({a, b}, 0.002))
    assert.is_nil(ipc.select({}, 0.001))
    local m = ipc.map(1, function(q) q:write('answer') end, b)
    local found, index = ipc.select {a, b}
    assert.are.equal(b, found)
    assert.are.equal(2, index)
    assert.are.equal('answer', b:read(0))
    m:join()
  end)

  it('waits for queues, channels, maps, servers, clients, timers and descriptors alike', function()
    -- Kept: a queue is closed when its owner lets go of it.
    local q, other, kept = queue(), queue(), queue()
    local m = ipc.map(1, function(its) its:read() end, kept)
    local server, port = ipc.server()
    local client, handle = ipc.client(port)
    local c, timer = ipc.channel(), ipc.after(3600)
    local all = {q, c, m, server, client, timer, ipc.fd(other:fd())}
    assert.are.equal(server, (ipc.select(all)))
    server:clients(1, function(h) handle = h end)
    all[#all + 1] = handle
    assert.is_nil(ipc.select(all, 0))
    handle:send 'x'
    assert.are.equal(client, (ipc.select(all)))
    assert.are.equal('x', client:recv())
    c:write(1)
    assert.are.equal(c, (ipc.select(all)))
    c:read()
    timer:close()
    assert.are.equal(timer, (ipc.select(all)))
    table.remove(all, 6)
    m:cancel()
    assert.are.equal(m, (ipc.select(all)))
    assert.has_error(function() m:join() end)
    kept:close()
    other:close()
  end)

  it('waits for room to write', function()
    local c, q = ipc.channel {capacity = 1}, ipc.workqueue {capacity = 1}
    assert.are.equal(c, (ipc.select {{c, 'write'}, {q, 'write'}}))
    c:write(1)
    q:write(1)
    assert.is_nil(ipc.select({{c, 'write'}, {q, 'write'}}, 0.001))
    assert.are.equal(c, (ipc.select {c, {q, 'write'}}))
    local m = ipc.map(1, function(its) its:read() end, q)
    local found, index = ipc.select {{c, 'write'}, {q, 'write'}}
    assert.are.equal(q, found)
    assert.are.equal(2, index)
    m:join()
    local server, port = ipc.server()
    local client = ipc.client(port)
    server:clients(1, function() end)
    assert.are.equal(client, (ipc.select {{client, 'write'}}))
  end)

  it('counts what is closed as ready, and the call that follows says so', function()
    local q, c = queue(), ipc.channel()
    local waiting = queue()
    q:close()
    assert.are.equal(q, (ipc.select {waiting, q}))
    assert.are.equal('closed', ipc.errcode(refused(q.read, q)))
    assert.are.equal(2, select(2, ipc.select {waiting, {q, 'write'}}))
    c:close()
    assert.are.equal(c, (ipc.select {waiting, c}))
    assert.are.equal(ipc.channel.DRAINED, (c:read()))
    local server, port = ipc.server()
    local client, handle = ipc.client(port)
    server:clients(1, function(h) handle = h end)
    -- By the other end, which it knows from the socket; and by this one, by another thread, in the middle of a select.
    handle:close()
    assert.are.equal(client, (ipc.select {waiting, client}))
    assert.are.equal('closed', ipc.errcode(refused(client.recv, client)))
    client = ipc.client(port)
    server:clients(1, function() end)
    local m = ipc.map(1, function(its, go)
      go:read()
      its:close()
    end, client, waiting)
    waiting:write 'go'
    assert.are.equal(client, (ipc.select {queue(), client}))
    m:join()
    server:close()
    assert.are.equal(server, (ipc.select {queue(), server}))
  end)

  it('wakes for a close by another thread of what is waited for', function()
    local c, ready = ipc.channel(), ipc.channel()
    local m = ipc.map(1, function(its, go)
      go:read()
      its:close()
    end, c, ready)
    ready:write(1)
    assert.are.equal(c, (ipc.select {queue(), c}))
    m:join()
  end)

  it('returns first what it has not returned for the longest time, so that nothing starves', function()
    local list = {}
    for i = 1, 5 do
      list[i] = ipc.channel()
      list[i]:write(i)
    end
    local order = {}
    for i = 1, 10 do order[i] = select(2, ipc.select(list)) end
    assert.are.same({1, 2, 3, 4, 5, 1, 2, 3, 4, 5}, order)
    -- Two loops that share nothing but the thread do not disturb each other.
    local a, b, seen = {list[1], list[2]}, {list[3], list[4]}, {}
    for _ = 1, 10 do
      for _, pair in ipairs {a, b} do
        local found = ipc.select(pair)
        seen[found] = (seen[found] or 0) + 1
      end
    end
    for i = 1, 4 do assert.are.equal(5, seen[list[i]]) end
    -- Reading and writing of one object are two things.
    local c = ipc.channel {capacity = 2}
    c:write(1)
    assert.are_not.equal(select(2, ipc.select {c, {c, 'write'}}), (select(2, ipc.select {c, {c, 'write'}})))
  end)

  it('looks again where a descriptor is readable by mistake', function()
    local c = ipc.channel()
    c:fd()
    -- A writer and a reader who is always faster: the descriptor comes and goes, and select never returns for nothing.
    local m = ipc.map(2, function(its, id)
      for i = 1, 2000 do
        if id == 1 then its:write(i) else its:read() end
      end
    end, c)
    while m:poll() > 0 do ipc.select({c, queue()}, 0.001) end
    m:join()
    assert.is_nil(ipc.select({c}, 0))
    assert.is_nil(ipc.select({ipc.fd(c:fd())}, 0))
  end)

  it('delivers every item once to many threads that select over the same channels', function()
    local channels = {}
    for i = 1, 4 do channels[i] = ipc.channel() end
    local readers = ipc.map(3, function(all)
      local lib = require 'libipc'
      local open, sum = {}, 0
      for i, c in ipairs(all) do open[i] = c end
      while #open > 0 do
        local c, index = lib.select(open)
        local found, item = c:tryread(0)
        if found then sum = sum + item
        elseif item == lib.channel.DRAINED then table.remove(open, index) end
      end
      return sum
    end, channels)
    local writers = ipc.map(2, function(all, id)
      for i = 1, 400 do all[i % 4 + 1]:write(i + (id - 1) * 400) end
    end, channels)
    writers:join()
    for _, c in ipairs(channels) do c:close() end
    local a, b, c = readers:join()
    assert.are.equal(800 * 801 / 2, a + b + c)
  end)

  it('counts what a client and a server have read ahead', function()
    local server, port = ipc.server()
    local client, handle = ipc.client(port)
    server:clients(1, function(h) handle = h end)
    for i = 1, 3 do handle:send(i) end
    for i = 1, 3 do
      assert.are.equal(client, (ipc.select {queue(), client}))
      assert.are.equal(i, client:recv())
    end
    assert.is_nil(ipc.select({client}, 0))
    for i = 1, 4 do client:send(i) end
    assert.are.equal(1, handle:recv())
    for i = 2, 4 do
      assert.are.equal(server, (ipc.select {queue(), server}))
      assert.is_true(ipc.select({ipc.fd(server:fd())}) ~= nil)
      assert.are.equal(i, (server:recvAny()))
    end
    assert.is_nil(ipc.select({server, handle}, 0))
    assert.is_nil(ipc.select({ipc.fd(server:fd())}, 0))
  end)

  it('waits for 10,000 objects', function()
    local list = {}
    for i = 1, 10000 do list[i] = ipc.channel() end
    local m = ipc.map(1, function(c)
      require 'libipc'.sleep(0.01)
      c:write 'here'
    end, list[7777])
    local found, index = ipc.select(list, 100)
    assert.are.equal(list[7777], found)
    assert.are.equal(7777, index)
    m:join()
  end)

  it('survives a list with holes, however long it seems', function()
    local c, list = ipc.channel(), {}
    for i = 45, 0, -1 do list[2 ^ i], list[2 ^ i + 1] = c, c end
    -- Where its length is found by its holes, none of them is within.
    local ok, e = pcall(ipc.select, list, 0)
    assert.is_truthy(ok or e:find 'entry %d+: expected')
  end)

  it('names the entry that is wrong', function()
    local q = queue()
    for list, words in pairs {
      [{q, 3}] = 'entry 2: expected something that can be waited for, got number',
      [{q, {}}] = 'entry 2: expected something that can be waited for, got nil',
      [{q, {q, 'x'}}] = "entry 2: expected 'read' or 'write' in its second place, got string",
      [{q, q, ipc.mutex()}] = 'entry 3: ipc.mutex cannot be waited for',
      [{{ipc.map(0, print), 'write'}}] = 'entry 1: ipc.map cannot be waited for until it has room to write',
    } do
      contains(refused(ipc.select, list), '[argument] ipc.select: argument #1, ' .. words)
    end
    contains(refused(ipc.select, q), 'argument #1: expected a table, got ipc.workqueue')
    contains(refused(ipc.select, {q}, -1), 'argument #2')
    contains(refused(ipc.select, {}), 'an empty list is never ready')
  end)

  it('is ended by a cancel and by Ctrl-C', function()
    local q = queue()
    local m = ipc.map(1, function(q) require 'libipc'.select {q} end, q) -- luacheck: ignore 431
    m:cancel()
    contains(refused(m.join, m), '[cancelled]')
    local p = support.start [[
      local ipc = require 'libipc'
      print 'here' io.stdout:flush()
      ipc.select {ipc.channel()}
    ]]
    support.eventually(function() return p:output():find 'here' end)
    p:kill 'INT'
    assert.is_falsy(p:wait().timed_out)
  end)
end)

describe('obj:fd()', function()
  it('is a descriptor and what to poll it for', function()
    local q = queue()
    local fd, poll = q:fd()
    assert.are.equal('number', type(fd))
    assert.are.equal('read', poll)
    assert.are.equal(fd, (q:fd()))
    assert.are_not.equal(fd, (q:fd 'write'))
    local server, port = ipc.server()
    local client = ipc.client(port)
    for _, object in ipairs {server, client, ipc.map(0, print), ipc.channel(), ipc.after(1)} do
      assert.are.equal('read', select(2, object:fd()))
    end
    local foreign = ipc.fd(fd)
    assert.are.same({fd, 'read'}, {foreign:fd()})
    assert.are.same({fd, 'write'}, {foreign:fd 'write'})
    contains(refused(q.fd, q, 'x'), "expected 'read' or 'write', got 'x'")
    contains(refused(server.fd, server, 'write'), 'ipc.server cannot be waited for until it has room to write')
    q:close()
    assert.are.equal('closed', ipc.errcode(refused(q.fd, q)))
  end)

  it('polls readable while the object is ready, and not while it is not', function()
    local c = ipc.channel {capacity = 1}
    local reading, writing = ipc.fd(c:fd()), ipc.fd(c:fd 'write')
    for _ = 1, 3 do
      assert.are.equal(writing, (ipc.select {reading, writing}))
      c:write(1)
      assert.are.equal(reading, (ipc.select {writing, reading}))
      c:read()
    end
    c:close()
    assert.is_truthy(ipc.select {reading})
    assert.is_truthy(ipc.select {writing})
  end)
end)

describe('ipc.fd', function()
  it('is a descriptor of somebody else, to be waited for; one that is closed is ready', function()
    local owner = ipc.channel()
    local number = owner:fd()
    local fd = ipc.fd(number)
    assert.are.equal('ipc.fd', ipc.type(fd))
    assert.are.equal('ipc.fd: ' .. number, tostring(fd))
    assert.are.equal(2, select(2, ipc.select {fd, {fd, 'write'}}))
    assert.is_nil(ipc.select({fd}, 0))
    owner:write 'x'
    assert.are.equal(fd, (ipc.select {fd}))
    local m = ipc.map(1, function(there) return (require 'libipc'.select {there} == there) end, fd)
    assert.is_true((m:join()))
    owner = nil -- luacheck: ignore 311
    collectgarbage()
    collectgarbage()
    assert.are.equal(fd, (ipc.select {fd}))
    contains(refused(ipc.fd, number), ('descriptor %d is not open'):format(number))
    contains(refused(ipc.fd, -1), 'argument #1')
  end)
end)

describe('ipc.after and ipc.every', function()
  it('are ready once, and again and again', function()
    local once, often = ipc.after(0.002), ipc.every(0.001)
    assert.are.equal('ipc.timer', ipc.type(once))
    assert.are.equal(1, once:read())
    assert.is_nil(ipc.select({once}, 0.005))
    assert.are.equal('state', ipc.errcode(refused(once.read, once)))
    assert.are.equal(often, (ipc.select {often}))
    assert.are.equal(often, (ipc.select {often}))
    local ticks = 0
    while ticks < 5 do ticks = ticks + often:read() end
    ipc.sleep(0.005)
    assert.is_true(often:read(0) >= 4)
    local far = ipc.every(1e9)
    assert.is_nil(far:read(0))
    assert.is_nil(far:read(0.001))
    assert.are.equal(1, ipc.after(0):read(0))
    for _, wrong in ipairs {-1, 0 / 0} do contains(refused(ipc.after, wrong), 'argument #1') end
    for _, wrong in ipairs {-1, 0, 0 / 0} do contains(refused(ipc.every, wrong), 'argument #1') end
  end)

  it('are shared by threads, each tick read by one; a close ends a read', function()
    local t = ipc.after(0.01)
    local m = ipc.map(3, function(timer)
      local ok, ticks = pcall(timer.read, timer, 0.05)
      return ok and ticks or 0
    end, t)
    local a, b, c = m:join()
    assert.are.equal(1, a + b + c)
    t = ipc.every(3600)
    m = ipc.map(1, function(timer) timer:read() end, t)
    t:close()
    t:close()
    contains(refused(m.join, m), '[closed]')
    assert.are.equal('ipc.timer: closed', tostring(t))
  end)

  it('go on in the child of a fork', function()
    local t = ipc.every(0.002)
    t:fd()
    local pid = ipc.fork()
    if pid == 0 then
      local ok = ipc.select({t}, 60) == t and t:read() >= 1
      os.exit(ok and 0 or 1)
    end
    assert.are.equal(0, (ipc.waitpid(pid)))
    assert.is_true(t:read() >= 1)
  end)

  it('bound a select over other things', function()
    local c, timeout = ipc.channel(), ipc.after(0.005)
    assert.are.equal(timeout, (ipc.select {c, timeout}))
  end)
end)

describe('the child of a fork', function()
  it('selects over what it has as its own, and hears of what is the parent\'s', function()
    local c, q = ipc.channel(), queue()
    local server, port = ipc.server()
    local client = ipc.client(port)
    c:fd()
    client:fd()
    local pid = ipc.fork()
    if pid == 0 then
      local ok = ipc.select({c, q}, 0.001) == nil
      c:write(1)
      ok = ok and ipc.select({q, c}) == c
      ok = ok and ipc.select({q, client}) == client and ipc.errcode(select(2, pcall(client.recv, client))) == 'state'
      os.exit(ok and 0 or 1)
    end
    assert.are.equal(0, (ipc.waitpid(pid)))
    assert.is_nil(ipc.select({c, client}, 0))
    server:close()
  end)
end)
