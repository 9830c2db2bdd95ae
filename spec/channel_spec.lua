-- §5: channels, with real threads.
-- luacheck: ignore 431 (what goes to a thread has the same name there)
local support = require 'spec.support'
local ipc = require 'libipc'

local OPEN, CLOSED, DRAINED = ipc.channel.OPEN, ipc.channel.CLOSED, ipc.channel.DRAINED

local function collect()
  for _ = 1, 3 do collectgarbage() end
end

local function code(f, ...) return ipc.errcode(support.fails(f, ...)) end

describe('channel', function()
  it('has three statuses, distinct numbers on the module', function()
    for _, status in ipairs { OPEN, CLOSED, DRAINED } do assert.equal('number', type(status)) end
    assert.is_true(OPEN ~= CLOSED and CLOSED ~= DRAINED and OPEN ~= DRAINED)
    local there = ipc.map(1, function()
      local channel = require('libipc').channel
      return { channel.OPEN, channel.CLOSED, channel.DRAINED }
    end):join()
    assert.same({ OPEN, CLOSED, DRAINED }, there)
  end)

  it('is a FIFO, each argument of write an item of its own', function()
    local c = ipc.channel()
    assert.equal(OPEN, c:write(1))
    assert.equal(OPEN, c:write('two', { 3 }, ('4'):rep(100000)))
    assert.equal(4, c:num_items())
    assert.same({ OPEN, 1 }, { c:read() })
    assert.same({ OPEN, 'two' }, { c:read() })
    assert.same({ OPEN, { 3 } }, { c:read() })
    assert.same({ OPEN, ('4'):rep(100000) }, { c:read() })
    assert.equal(0, c:num_items())
  end)

  it('gives what is left after close with CLOSED, then DRAINED without an item', function()
    local c = ipc.channel()
    c:write('a', 'b')
    assert.is_false(c:closed())
    c:close()
    c:close()
    assert.is_true(c:closed())
    assert.is_false(c:drained())
    assert.same({ CLOSED, 'a' }, { c:read() })
    assert.same({ true, 'b' }, { c:tryread() })
    assert.is_true(c:drained())
    assert.is_true(c:closed())
    assert.same({ DRAINED }, { c:read() })
    assert.same({ false, DRAINED }, { c:tryread(60) })
    assert.equal(1, select('#', c:read()))
  end)

  it('refuses writes after close, with CLOSED and then DRAINED', function()
    local c = ipc.channel { capacity = 1 }
    c:write 'last'
    c:close()
    assert.equal(CLOSED, c:write 'more')
    assert.equal(CLOSED, c:writeup(function() return c end))
    assert.same({ false, CLOSED }, { c:trywrite 'more' })
    assert.equal(1, c:num_items())
    c:read()
    assert.equal(DRAINED, c:write('more', 'and more'))
    assert.same({ false, DRAINED }, { c:trywrite 'more' })
    assert.equal(0, c:num_items())
  end)

  it('is drained by the close when it is empty', function()
    local c = ipc.channel()
    c:close()
    assert.is_true(c:drained())
    assert.equal(DRAINED, c:write(1))
  end)

  it('tells blocked readers of the close', function()
    local c, ready = ipc.channel(), ipc.channel()
    local m = ipc.map(4, function(c, ready)
      ready:write(true)
      local n = 0
      while true do
        local status, item = c:read()
        if status == require('libipc').channel.DRAINED then return n, item end
        n = n + 1
      end
    end, c, ready)
    for _ = 1, 4 do ready:read() end
    c:write(1, 2, 3)
    c:close()
    local n1, i1, n2, i2, n3, i3, n4, i4 = m:join()
    assert.equal(3, n1 + n2 + n3 + n4)
    assert.is_nil(i1 or i2 or i3 or i4)
  end)

  it('gives the status alone where no item came in time', function()
    local c = ipc.channel()
    for _, timeout in ipairs { true, 0, 0.01 } do
      assert.same({ OPEN }, { c:read(timeout) })
      assert.equal(1, select('#', c:read(timeout)))
    end
    assert.same({ false, OPEN }, { c:tryread() })
    local start = ipc.clock()
    c:read(0.05)
    c:tryread(0.05)
    assert.is_true(ipc.clock() - start >= 0.1)
  end)

  it('tells a nil item from none', function()
    local c = ipc.channel()
    c:write(nil, nil, false)
    assert.equal(3, #c)
    assert.equal(2, select('#', c:read()))
    assert.same({ true }, { c:tryread() })
    assert.same({ OPEN, false }, { c:read() })
    assert.equal(1, select('#', c:read(0)))
  end)

  it('counts its items by num_items and #', function()
    local c = ipc.channel()
    c:write(1, 2, 3)
    assert.equal(3, #c)
    c:read()
    assert.equal(2, #c)
    assert.equal(2, c:num_items())
    c:close()
    assert.equal(2, #c)
  end)

  it('says what it is', function()
    local c = ipc.channel()
    assert.equal('ipc.channel', ipc.type(c))
    assert.equal('ipc.channel: open, 0 items', tostring(c))
    c:write(1)
    assert.equal('ipc.channel: open, 1 item', tostring(c))
    c:write(2)
    c:close()
    assert.equal('ipc.channel: closed, 2 items left', tostring(c))
    c:read()
    c:read()
    assert.equal('ipc.channel: drained', tostring(c))
  end)

  it('makes write wait while it is full, and trywrite say no', function()
    local c = ipc.channel { capacity = 2, timeout = 0.02 }
    assert.same({ true }, { c:trywrite(1, 2) })
    assert.same({ false, OPEN }, { c:trywrite(3) })
    assert.equal('timeout', code(c.write, c, 3))
    assert.equal('timeout', code(c.writeup, c, 3))
    assert.equal(2, #c)
    for _, f in ipairs { c.write, c.trywrite } do assert.equal('limit', code(f, c, 1, 2, 3)) end
    assert.same({ OPEN, 1 }, { c:read() })
    assert.equal(OPEN, c:write(3))
    assert.same({ true, 2 }, { c:tryread() })
    assert.same({ OPEN, 3 }, { c:read() })

    local slow = ipc.channel { capacity = 3 }
    local m = ipc.map(2, function(c)
      local sum, most = 0, 0
      for n in c:items() do
        sum, most = sum + n, math.max(most, #c)
      end
      return sum, most
    end, slow)
    for i = 1, 500 do slow:write(i) end
    slow:close()
    local a, most, b, others = m:join()
    assert.equal(125250, a + b)
    assert.is_true(math.max(most, others) <= 3)
  end)

  it('lets go of a write that waits for room when it closes', function()
    local c, about = ipc.channel { capacity = 1 }, ipc.channel()
    c:write 'first'
    local m = ipc.map(3, function(c, about)
      about:write(true)
      return c:write('a')
    end, c, about)
    for _ = 1, 3 do about:read() end
    -- Let some of them block; the answer is the same for all.
    ipc.sleep(0.005)
    c:close()
    assert.same({ CLOSED, CLOSED, CLOSED }, { m:join() })
    assert.same({ CLOSED, 'first' }, { c:read() })
    assert.same({ DRAINED }, { c:read() })
  end)

  it('is iterated by items until it is drained', function()
    local c = ipc.channel()
    c:write('a', false, 'c', 'd')
    local seen = {}
    for item in c:items() do
      seen[#seen + 1] = item
      if item == 'c' then break end
    end
    assert.same({ 'a', false, 'c' }, seen)
    c:close()
    for item in c:items() do seen[#seen + 1] = item end
    assert.same({ 'a', false, 'c', 'd' }, seen)
    local next = c:items()
    assert.is_nil(next())
    assert.is_nil(next())
  end)

  it('ends items when none comes in time, and says so of a nil item', function()
    local c = ipc.channel()
    c:write(1, 2)
    local n = 0
    for _ in c:items(0.01) do n = n + 1 end
    assert.equal(2, n)
    assert.is_false(c:drained())
    c:write('a', nil, 'b')
    local next = c:items(0)
    assert.equal('a', next())
    local e = support.fails(next)
    assert.equal('state', ipc.errcode(e))
    assert.matches('an item is nil', e)
    assert.equal('b', next())
    assert.is_nil(next())
  end)

  it('travels by every thread route, and is the same channel there', function()
    local c, q = ipc.channel(), ipc.workqueue()
    local outer = ipc.channel()
    q:write { inside = { c } }
    outer:write(c)
    local m = ipc.map { threads = 1, upvalues = true, args = { c, q, ipc.marshal(c), outer }, fn = function(a, q, m, outer)
      a:write 'argument'
      q:read().inside[1]:write 'workqueue'
      m:read():write 'marshal'
      select(2, outer:read()):write 'channel'
      c:write 'upvalue'
      return c
    end }
    local back = m:join()
    back:write 'result'
    c:writeup(function() return c end)
    for _, route in ipairs { 'argument', 'workqueue', 'marshal', 'channel', 'upvalue', 'result' } do
      assert.same({ OPEN, route }, { c:read(0) })
    end
    select(2, c:read(0))():close()
    assert.is_true(c:drained())
  end)

  it('can be waited for among others, until it has an item, has room, or is closed', function()
    local a, b = ipc.channel { capacity = 1 }, ipc.channel { capacity = 1 }
    assert.is_nil(ipc.select({ a, b }, 0))
    assert.same({ b, 2 }, { ipc.select { a, { b, 'write' } } })
    b:write(1)
    assert.same({ b, 2 }, { ipc.select { a, b } })
    assert.is_nil(ipc.select({ a, { b, 'write' } }, 0.001))
    assert.are_not.equal(b:fd(), (b:fd 'write'))
    b:read()
    assert.is_nil(ipc.select({ a, b }, 0))
    a:close()
    assert.same({ a, 1 }, { ipc.select { a, b } })
    assert.same({ a, 2 }, { ipc.select { b, { a, 'write' } } })

    -- Threads that select write what others that select read.
    local from, to = { ipc.channel { capacity = 2 }, ipc.channel() }, { ipc.channel { capacity = 1 }, ipc.channel { capacity = 3 } }
    local each = 300
    local movers = ipc.map(2, function(from, to)
      local ipc = require 'libipc'
      local moved, open = 0, { from[1], from[2] }
      while #open > 0 do
        local c, at = ipc.select(open)
        local found, item = c:tryread()
        if found then
          repeat local room = ipc.select { { to[1], 'write' }, { to[2], 'write' } } until room:trywrite(item)
          moved = moved + 1
        elseif item == ipc.channel.DRAINED then
          table.remove(open, at)
        end
      end
      return moved
    end, from, to)
    local writers = ipc.map(2, function(from, each, id)
      for i = 1, each do from[id]:write(id * 1000 + i) end
      from[id]:close()
    end, from, each)
    local seen = {}
    while #seen < 2 * each do
      local found, item = ipc.select(to):tryread()
      if found then seen[#seen + 1] = item end
    end
    writers:join()
    local x, y = movers:join()
    assert.equal(2 * each, x + y)
    table.sort(seen)
    for i = 1, each do assert(seen[i] == 1000 + i and seen[each + i] == 2000 + i) end
  end)

  it('refuses upvalues in write and takes them in writeup', function()
    local c = ipc.channel()
    local up = 42
    local function f() return up end
    local e = support.fails(c.write, c, f)
    assert.equal('unsupported', ipc.errcode(e))
    assert.matches('upvalue', e)
    assert.matches('writeup', e)
    assert.equal('unsupported', code(c.trywrite, c, f))
    assert.equal(OPEN, c:writeup(f))
    assert.equal(42, select(2, c:read())())
  end)

  it('writes all arguments or none', function()
    local c = ipc.channel()
    assert.equal('unsupported', code(c.write, c, 1, 2, io.stdout))
    assert.equal(0, #c)
    c:write(1)
    assert.equal(1, #c)
  end)

  it('puts nothing between the items of one write', function()
    local c = ipc.channel { capacity = 10 }
    local m = ipc.map(3, function(c, id)
      for i = 1, 150 do c:write({ id, i, 1 }, { id, i, 2 }, { id, i, 3 }) end
    end, c)
    local last = { 0, 0, 0 }
    for _ = 1, 450 do
      local batch = {}
      for part = 1, 3 do
        local _, item = c:read()
        batch[part] = item
        assert(item[3] == part and item[1] == batch[1][1] and item[2] == batch[1][2])
      end
      local id, i = batch[1][1], batch[1][2]
      assert(i == last[id] + 1)
      last[id] = i
    end
    m:join()
    assert.equal(0, #c)
  end)

  it('keeps the order of each writer, loses nothing and repeats nothing', function()
    for _, capacity in ipairs { 1, 7, false } do
      local c = ipc.channel { capacity = capacity or nil }
      local each = 600
      local writers = ipc.map(3, function(c, each, id)
        for i = 1, each do c:write(i % 5 == 0 and { id * 10000 + i } or id * 10000 + i) end
      end, c, each)
      local readers = ipc.map(3, function(c)
        local got, last = {}, {}
        for item in c:items() do
          local n = type(item) == 'table' and item[1] or item
          local id = math.floor(n / 10000)
          assert(n > (last[id] or 0), 'out of order')
          last[id] = n
          got[#got + 1] = n
        end
        return got
      end, c)
      writers:join()
      c:close()
      local all = {}
      for _, got in ipairs { readers:join() } do
        for _, n in ipairs(got) do all[#all + 1] = n end
      end
      table.sort(all)
      local at = 0
      for id = 1, 3 do
        for i = 1, each do
          at = at + 1
          assert(all[at] == id * 10000 + i, 'lost or doubled')
        end
      end
      assert.equal(at, #all)
    end
  end)

  it('loses nothing that was written before a close, whoever closes and when', function()
    for round = 1, 12 do
      local c = ipc.channel { capacity = round % 3 == 0 and 4 or nil }
      local writers = ipc.map(3, function(c, id)
        local written, batch = 0, id
        while true do
          local items = {}
          for i = 1, batch do items[i] = 1 end
          if c:write((table.unpack or unpack)(items)) ~= require('libipc').channel.OPEN then return written end
          written = written + batch
        end
      end, c)
      local readers = ipc.map(2, function(c)
        local n = 0
        for item in c:items() do n = n + item end
        return n, c:drained(), c:num_items()
      end, c)
      ipc.sleep(round * 0.0005)
      c:close()
      local a, b, d = writers:join()
      local x, drained1, left1, y, drained2, left2 = readers:join()
      assert.equal(a + b + d, x + y)
      assert.is_true(drained1 and drained2)
      assert.equal(0, left1 + left2)
    end
  end)

  it('consumes an item that cannot be read, and goes on', function()
    local c, back = ipc.channel(), ipc.channel()
    ipc.register('spec.channel.elsewhere', {})
    c:write(setmetatable({}, debug.getregistry()['spec.channel.elsewhere']), 'next')
    local m = ipc.map(1, function(c, back)
      back:write(select(2, pcall(c.read, c)))
      return select(2, c:read())
    end, c, back)
    assert.matches('spec.channel.elsewhere', select(2, back:read()))
    assert.equal('next', m:join())
  end)

  it('ends blocked calls of a thread that is cancelled', function()
    local c, full, ready = ipc.channel(), ipc.channel { capacity = 1 }, ipc.channel()
    full:write(1)
    local m = ipc.map(3, function(c, full, ready, id)
      ready:write(id)
      if id == 1 then c:read() end
      if id == 2 then full:write(2) end
      for _ in c:items() do error 'nothing is there' end
    end, c, full, ready)
    for _ = 1, 3 do ready:read() end
    m:cancel()
    assert.matches('%[cancelled%]', support.fails(m.join, m))
    assert.equal(1, #full)
    assert.same({ OPEN, 1 }, { full:read() })
    assert.equal(OPEN, c:write 'still good')
  end)

  it('works in coroutines', function()
    local c = ipc.channel()
    local reader = coroutine.wrap(function()
      for item in c:items() do coroutine.yield(item) end
      return 'end'
    end)
    c:write(1, 2)
    c:close()
    assert.same({ 1, 2, 'end' }, { reader(), reader(), reader() })
  end)

  it('goes on in the child of a fork as its own, also when threads use it', function()
    support.check [[
      local ipc = require 'libipc'
      local c, stop = ipc.channel { capacity = 50 }, ipc.channel()
      local writers = ipc.map(2, function(c) while c:write { 'item' } == require 'libipc'.channel.OPEN do end end, c)
      local readers = ipc.map(2, function(c) for _ in c:items() do end end, c)
      for round = 1, 15 do
        local pid = ipc.fork()
        if pid == 0 then
          while c:tryread() do end
          local m = ipc.map(1, function(c) return select(2, c:read(60)) end, c)
          assert(c:write(41) == ipc.channel.OPEN)
          assert(m:join() == 41)
          c:close()
          assert(c:drained())
          os.exit(0)
        end
        assert(ipc.waitpid(pid, 60) == 0)
        assert(not c:closed())
      end
      c:close()
      writers:join()
      readers:join()
    ]]
  end)

  it('lets go of what lies in items that nobody read', function()
    local name = ('channel spec %d'):format(ipc.getpid())
    local c, held = ipc.channel(), ipc.workqueue(name)
    c:write(held, { held })
    held:close()
    assert.equal(0, select(2, ipc.workqueue(name)), 'the unread items hold it')
    c:close()
    collect()
    assert.equal(0, select(2, ipc.workqueue(name)), 'a close keeps what is left to read')
    c = nil -- luacheck: ignore 311
    collect()
    assert.equal(1, select(2, ipc.workqueue(name)))
  end)

  it('goes with its last holder also when it lies in its own items, or in those of what it holds', function()
    support.check [[
      local ipc = require 'libipc'
      local names = 0
      local function free(make)
        names = names + 1
        local sign = ipc.workqueue('sign ' .. names)
        make(sign)
        sign:close()
        sign = nil
        for _ = 1, 3 do collectgarbage() end
        assert(select(2, ipc.workqueue('sign ' .. names)) == 1, 'something still holds the sign of circle ' .. names)
      end
      free(function(sign)
        local c = ipc.channel()
        c:write(sign, c, { c, c })
        c:close()
      end)
      free(function(sign)
        local a, b, q = ipc.channel(), ipc.channel(), ipc.workqueue()
        a:write(b, sign)
        b:write { q }
        q:write(a, { to = b })
      end)
      free(function(sign)
        local q = ipc.workqueue 'in itself'
        q:write(q, sign)
        q:close()
        assert(select(2, ipc.workqueue 'in itself') == 1, 'its name is free')
      end)
      -- In the hands of threads, who let go of it at the same time.
      free(function(sign)
        local a, b = ipc.channel(), ipc.channel()
        a:write(b)
        b:write(a, sign)
        ipc.map(3, function(a, b) a:write(b) b:write(a) end, a, b):join()
      end)
      free(function(sign)
        local a = ipc.channel()
        a:write(a, sign)
        local m = ipc.map(1, function(a) return #a end, a)
        a = nil
        collectgarbage()
        assert(m:join() == 2)
      end)
      -- Held from outside, by an unread item alone, it stays.
      local outside, inside = ipc.channel(), ipc.channel()
      inside:write(inside, 'still here')
      outside:write(inside)
      inside = nil
      for _ = 1, 3 do collectgarbage() end
      local _, inside = outside:read()
      inside:read()
      assert(select(2, inside:read()) == 'still here')
    ]]
  end)

  it('may hold a channel that holds a channel, and so on', function()
    support.check [[
      local ipc = require 'libipc'
      local first = ipc.channel()
      local last = first
      for i = 1, 20000 do
        local next = ipc.channel()
        next:write(last)
        last = next
        if i % 1000 == 0 then collectgarbage() end
      end
      last, first = nil, nil
      for _ = 1, 3 do collectgarbage() end
    ]]
  end)

  it('takes its time-out from the options, and wrong arguments by position and type', function()
    local function wrong(pattern, f, ...)
      local e = support.fails(f, ...)
      assert.equal('argument', ipc.errcode(e), e)
      assert.matches(pattern, e)
    end
    local c = ipc.channel {}
    wrong('argument #1: expected a table, got number', ipc.channel, 5)
    wrong("unknown option 'size'", ipc.channel, { size = 1 })
    wrong("option 'capacity'", ipc.channel, { capacity = 0 })
    wrong("option 'capacity'", ipc.channel, { capacity = 1.5 })
    wrong("option 'timeout'", ipc.channel, { timeout = 'x' })
    wrong('argument #1: expected', c.read, c, 'x')
    wrong('argument #1: expected', c.tryread, c, -1)
    wrong('unknown option', c.items, c, { 1 })
    wrong('expected an ipc.channel as self', c.read, {})
    wrong('expected an ipc.channel as self', c.close, ipc.workqueue())
    wrong('expected an ipc.channel as self', debug.getmetatable(c).__len, {})
    assert.is_truthy(ipc.channel(nil):write(1))
  end)
end)
