-- §4: the work queue, with real threads.
-- luacheck: ignore 431 (what goes to a thread has the same name there)
local support = require 'spec.support'
local ipc = require 'libipc'

local count = 0
-- A name that no other test has used.
local function unique()
  count = count + 1
  return ('spec %d %d'):format(ipc.getpid(), count)
end

local function collect()
  for _ = 1, 3 do collectgarbage() end
end

describe('workqueue', function()
  it('lets the owner ask and the others answer', function()
    local name = unique()
    local q = ipc.workqueue(name)
    local m = ipc.map(1, function(name)
      local q = require('libipc').workqueue(name)
      local a, b = q:read(), q:read()
      q:write(a .. b)
      q:write { sum = 3 }
    end, name)
    q:write('one', 'two')
    assert.equal('onetwo', q:read())
    assert.same({ sum = 3 }, q:read())
    m:join()
    q:write 'mine'
    assert.is_nil(q:read(0), 'the owner does not read its own questions')
    q:close()
  end)

  it('is made by one opener and found by the others', function()
    local name = unique()
    local q, creator = ipc.workqueue(name)
    assert.equal(1, creator)
    local again, found = ipc.workqueue(name)
    assert.equal(0, found)
    local c = ipc.map(1, function(name) return select(2, require('libipc').workqueue(name)) end, name):join()
    assert.equal(0, c)
    assert.equal(1, select(2, ipc.workqueue()), 'a queue without a name is new every time')
    again:close()
    q:close()
  end)

  it('has any bytes as its name', function()
    for _, name in ipairs { '\255\254', 'a\0b', '' } do
      local q, creator = ipc.workqueue(name)
      assert.equal(1, creator)
      local other = ipc.map(1, function(called)
        local q, creator = require 'libipc'.workqueue { name = called }
        q:write(creator)
        return tostring(q)
      end, name)
      assert.equal(0, q:read(60))
      assert.matches('ipc%.workqueue', (other:join()))
      q:close()
    end
    local kept, other = ipc.workqueue '\255', ipc.workqueue '\254'
    kept:write(1)
    assert.same({ 1, 0 }, { kept:pending() })
    assert.same({ 0, 0 }, { other:pending() })
    assert.matches('\239\191\189', tostring(kept))
    kept:close()
    other:close()
  end)

  it('frees its name when all handles are closed or collected', function()
    local name = unique()
    local q = ipc.workqueue(name)
    local other = ipc.workqueue(name)
    q:close()
    q:close()
    assert.equal(0, select(2, ipc.workqueue(name)))
    collect()
    other:close()
    local third, creator = ipc.workqueue(name)
    assert.equal(1, creator)
    assert.is_truthy(third)
    third = nil -- luacheck: ignore 311
    collect()
    assert.equal(1, select(2, ipc.workqueue(name)))
  end)

  it('travels as a value, nameless too', function()
    local q = ipc.workqueue()
    local m = ipc.map(2, function(q, id)
      local inner = q:read()
      q:write(id)
      inner:write 'through the inner one'
    end, q)
    local inner = ipc.workqueue()
    q:write(inner, inner)
    assert.equal(3, q:read() + q:read())
    assert.equal('through the inner one', inner:read())
    m:join()
    q:close()
    inner:close()
  end)

  it('carries any value, each argument as an item of its own', function()
    local q = ipc.workqueue()
    local m = ipc.map(1, function(q)
      repeat
        local more, item = q:tryread(60)
        q:write(item)
      until more and item == 'end'
    end, q)
    q:write(nil, false, 1.5, ('x'):rep(100000), { 1, { 2 } }, 'a\0b', 'end')
    local function item()
      local found, v = q:tryread(60)
      assert.is_true(found)
      return v
    end
    assert.is_nil(item())
    assert.is_false(item())
    assert.equal(1.5, item())
    assert.equal(('x'):rep(100000), item())
    assert.same({ 1, { 2 } }, item())
    assert.equal('a\0b', item())
    assert.equal('end', item())
    m:join()
    q:close()
  end)

  it('writes all arguments or none', function()
    local q = ipc.workqueue()
    local up = 1
    local e = support.fails(q.write, q, 1, 2, function() return up end)
    assert.equal('unsupported', ipc.errcode(e))
    assert.same({ 0, 0 }, { q:pending() })
    q:write(1)
    assert.same({ 1, 0 }, { q:pending() })
    q:close()
  end)

  it('refuses upvalues in write and takes them in writeup', function()
    local q = ipc.workqueue()
    local m = ipc.map(1, function(q) q:write(q:read()()) end, q)
    local up = 42
    local f = function() return up end
    local e = support.fails(q.write, q, f)
    assert.equal('unsupported', ipc.errcode(e))
    assert.matches('upvalue', e)
    assert.matches('writeup', e)
    q:writeup(f)
    assert.equal(42, q:read())
    m:join()
    q:close()
  end)

  it('reads exactly one value, nil when none came in time', function()
    local q = ipc.workqueue()
    for _, timeout in ipairs { true, 0, 0.01 } do
      assert.equal(1, select('#', q:read(timeout)))
      assert.is_nil((q:read(timeout)))
    end
    local start = ipc.clock()
    q:read(0.05)
    assert.is_true(ipc.clock() - start >= 0.05)
    q:close()
  end)

  it('tells a nil item from none', function()
    local q = ipc.workqueue()
    ipc.map(1, function(q) q:write(nil) end, q):join()
    local found, item = q:tryread()
    assert.is_true(found)
    assert.is_nil(item)
    assert.equal(1, select('#', q:tryread()))
    assert.is_false(q:tryread(0.01))
    q:close()
  end)

  it('drains when every question has its answer, those in hands included', function()
    local q = ipc.workqueue()
    local m = ipc.map(2, function(q)
      local ipc = require 'libipc'
      while true do
        local n = q:read()
        if n == nil then return end
        ipc.sleep(0.002)
        q:write(n)
      end
    end, q)
    for i = 1, 40 do q:write(i) end
    q:drain()
    assert.same({ 0, 40 }, { q:pending() })
    q:drain()
    local sum = 0
    for _ = 1, 40 do sum = sum + q:read(0) end
    assert.equal(820, sum)
    q:write(nil, nil)
    m:join()
    local e = support.fails(q.drain, q, 0.01)
    assert.equal('timeout', ipc.errcode(e))
    assert.matches('2 of 42 questions', e)
    q:close()
  end)

  it('is drained by its owner alone', function()
    local q = ipc.workqueue()
    local code = ipc.map(1, function(q)
      local ipc = require 'libipc'
      local ok, e = pcall(q.drain, q)
      return not ok and ipc.errcode(e)
    end, q):join()
    assert.equal('state', code)
    q:close()
  end)

  it('ends blocked readers with [closed] once the owner has closed and nothing is left', function()
    local q = ipc.workqueue()
    local report = ipc.workqueue()
    local m = ipc.map(2, function(q, report)
      local ipc = require 'libipc'
      report:write 'ready'
      local items = {}
      while true do
        local ok, v = pcall(q.read, q)
        if not ok then return ipc.errcode(v), #items, select(2, pcall(q.read, q)) end
        items[#items + 1] = v
      end
    end, q, report)
    report:read()
    report:read()
    q:write(1, 2, 3)
    q:close()
    local c1, n1, e1, c2, n2, e2 = m:join()
    assert.same({ 'closed', 'closed' }, { c1, c2 })
    assert.equal(3, n1 + n2)
    assert.equal('closed', ipc.errcode(e1))
    assert.equal('closed', ipc.errcode(e2))
    report:close()
  end)

  it('drops what a worker writes after the owner has closed', function()
    local q, go = ipc.workqueue(), ipc.workqueue()
    local m = ipc.map(1, function(q, go)
      go:read()
      q:write 'too late'
      return q:trywrite 'much too late'
    end, q, go)
    q:close()
    go:write(true)
    assert.is_true(m:join())
    assert.equal('closed', ipc.errcode(support.fails(q.write, q, 1)))
    go:close()
  end)

  it('stays open while the owner has another handle', function()
    local name = unique()
    local q, other = ipc.workqueue(name), ipc.workqueue(name)
    q:close()
    local m = ipc.map(1, function(name) return require('libipc').workqueue(name):read(60) end, name)
    other:write 'still here'
    assert.equal('still here', m:join())
    other:close()
  end)

  it('consumes an item that cannot be read, and goes on', function()
    local q = ipc.workqueue()
    local m = ipc.map(1, function(q)
      local ok, e = pcall(q.read, q)
      q:write(not ok and e)
      return q:read()
    end, q)
    local mt = {}
    ipc.register('spec.unknown.elsewhere', mt)
    q:write(setmetatable({}, mt), 'next')
    assert.matches('spec.unknown.elsewhere', q:read())
    assert.equal('next', m:join())
    q:close()
  end)

  it('makes write wait while it is full, and trywrite say no', function()
    local q = ipc.workqueue { capacity = 2, timeout = 0.02 }
    assert.is_true(q:trywrite(1, 2))
    assert.is_false(q:trywrite(3))
    local e = support.fails(q.write, q, 3)
    assert.equal('timeout', ipc.errcode(e))
    assert.same({ 2, 0 }, { q:pending() })
    assert.equal('limit', ipc.errcode(support.fails(q.write, q, 1, 2, 3)))
    q:close()

    q = ipc.workqueue { capacity = 3 }
    local m = ipc.map(2, function(q)
      local sum = 0
      while true do
        local n = q:read()
        if n == 0 then return sum end
        sum = sum + n
      end
    end, q)
    for i = 1, 500 do q:write(i) end
    q:write(0, 0)
    local a, b = m:join()
    assert.equal(125250, a + b)
    q:close()
  end)

  it('lets go of a worker that waits for room when the owner closes', function()
    local q = ipc.workqueue { capacity = 1 }
    local m = ipc.map(1, function(q)
      q:write(1)
      q:write(2)
      return 'let go'
    end, q)
    assert.equal('let go', (function()
      support.eventually(function() return select(2, q:pending()) == 1 end)
      q:close()
      return m:join()
    end)())
  end)

  it('takes the time-out of the handle, not of the queue', function()
    local name = unique()
    local q = ipc.workqueue { name = name, capacity = 1 }
    local brief = ipc.workqueue { name = name, timeout = 0.01 }
    q:write(1)
    assert.equal('timeout', ipc.errcode(support.fails(brief.write, brief, 2)))
    -- A worker finds it without one, and another with its own; the answers are full too.
    local m = ipc.map(1, function(name)
      local ipc = require 'libipc'
      local q, hasty = ipc.workqueue(name), ipc.workqueue { name = name, timeout = 0 }
      q:write 'answer'
      local ok, e = pcall(hasty.write, hasty, 'more')
      local _ = q:read()
      q:write 'when there is room'
      return ok, ipc.errcode(e)
    end, name)
    q:write(2) -- once the worker has read
    assert.same({ 'answer', 'when there is room' }, { q:read(), q:read() })
    assert.same({ false, 'timeout' }, { m:join() })
    brief:close()
    q:close()
  end)

  it('can be waited for among others, by its owner and by workers, to read and to write', function()
    local q, other, go, looked = ipc.workqueue { capacity = 1 }, ipc.channel(), ipc.channel(), ipc.channel()
    assert.is_nil(ipc.select({ q, other }, 0))
    assert.same({ q, 2 }, { ipc.select { other, { q, 'write' } } })
    q:write 'question'
    assert.is_nil(ipc.select({ other, { q, 'write' } }, 0))
    assert.is_nil(ipc.select({ q, other }, 0.001), 'the owner does not read its questions')
    local m = ipc.map(1, function(q, go, looked)
      local ipc = require 'libipc'
      assert(select(2, ipc.select { go, q }) == 2)
      q:write(q:read())
      assert(ipc.select({ go, { q, 'write' } }, 0.001) == nil, 'the answers are full')
      assert(ipc.select({ q }, 0) == nil)
      looked:write(true)
      assert(ipc.select { { q, 'write' } } == q)
      go:read()
      assert(ipc.select { q } == q, 'closed: a read does not wait')
      assert(ipc.select { { q, 'write' } } == q)
      return ipc.errcode(select(2, pcall(q.read, q)))
    end, q, go, looked)
    assert.same({ q, 1 }, { ipc.select { q, other } })
    looked:read()
    assert.equal('question', q:read())
    assert.same({ q, 1 }, { ipc.select { { q, 'write' } } })
    q:close()
    go:write(true)
    assert.equal('closed', m:join())
  end)

  it('is open again when its owner finds it again', function()
    local name, go, report = unique(), ipc.channel(), ipc.channel()
    local q = ipc.workqueue(name)
    local m = ipc.map(1, function(name, go, report)
      local ipc = require 'libipc'
      local q = ipc.workqueue(name)
      report:write(true)
      go:read()
      report:write(ipc.errcode(select(2, pcall(q.read, q))))
      go:read()
      q:write(q:read(60) + 1)
    end, name, go, report)
    report:read()
    q:close()
    go:write(true)
    assert.equal('closed', select(2, report:read()))
    local again, creator = ipc.workqueue(name)
    assert.equal(0, creator, 'the worker holds it')
    go:write(true)
    again:write(1)
    assert.equal(2, again:read(60))
    m:join()
    again:close()
  end)

  it('loses no question when the owner closes in the middle of it all', function()
    for round = 1, 10 do
      local q = ipc.workqueue { capacity = round % 2 == 0 and 5 or nil }
      local m = ipc.map(3, function(q)
        local sum = 0
        while true do
          local ok, n = pcall(q.read, q)
          if not ok then
            if require('libipc').errcode(n) ~= 'closed' then error(n, 0) end
            return sum
          end
          sum = sum + n
          q:write(n)
        end
      end, q)
      local sum = 0
      for i = 1, 20 * round do
        while not q:trywrite(i, i) do q:tryread(0.01) end
        sum = sum + 2 * i
      end
      q:close()
      local a, b, c = m:join()
      assert.equal(sum, a + b + c)
    end
  end)

  it('puts nothing between the items of one write', function()
    local q = ipc.workqueue { capacity = 9 }
    local m = ipc.map(3, function(q, id)
      for i = 1, 100 do q:write({ id, i, 1 }, { id, i, 2 }, { id, i, 3 }) end
    end, q)
    for _ = 1, 300 do
      local a, b, c = q:read(), q:read(), q:read()
      assert(a[1] == b[1] and b[1] == c[1] and a[2] == b[2] and b[2] == c[2])
      assert(a[3] == 1 and b[3] == 2 and c[3] == 3)
    end
    m:join()
    q:close()
  end)

  it('says that a drain cannot end when the answers fill it', function()
    local q = ipc.workqueue { capacity = 2 }
    local m = ipc.map(1, function(q)
      for _ = 1, 3 do q:write(q:read()) end
    end, q)
    q:write(1)
    q:write(2)
    q:write(3)
    assert.equal('state', ipc.errcode(support.fails(q.drain, q)))
    assert.equal(6, q:read() + q:read() + q:read())
    m:join()
    q:close()
  end)

  it('takes the capacity of the queue that is there', function()
    local name = unique()
    local q = ipc.workqueue { name = name, capacity = 2 }
    ipc.workqueue(name):close()
    ipc.workqueue({ name = name, capacity = 2 }):close()
    assert.equal('mismatch', ipc.errcode(support.fails(ipc.workqueue, { name = name, capacity = 3 })))
    q:close()
  end)

  it('loses nothing and repeats nothing between many threads', function()
    local q = ipc.workqueue()
    local m = ipc.map(4, function(q)
      while true do
        local n = q:read()
        if n == false then return end
        q:write(n)
      end
    end, q)
    local seen = {}
    local n = 4000
    for i = 1, n do
      if i % 7 == 0 then q:write { i } else q:write(i) end
      if i % 5 == 0 then
        local found, v = q:tryread()
        if found then seen[#seen + 1] = type(v) == 'table' and v[1] or v end
      end
    end
    q:drain()
    q:write(false, false, false, false)
    while true do
      local found, v = q:tryread()
      if not found then break end
      seen[#seen + 1] = type(v) == 'table' and v[1] or v
    end
    m:join()
    table.sort(seen)
    assert.equal(n, #seen)
    for i = 1, n do assert.equal(i, seen[i]) end
    q:close()
  end)

  it('keeps the order of a writer', function()
    local q = ipc.workqueue()
    local m = ipc.map(1, function(q)
      for i = 1, 3000 do
        local n = q:read()
        if n ~= i then return n end
      end
      return 'in order'
    end, q)
    for i = 1, 3000 do q:write(i) end
    assert.equal('in order', m:join())
    q:close()
  end)

  it('works in the child of a fork that was made while threads ran', function()
    support.check [[
      local ipc = require 'libipc'
      local q = ipc.workqueue 'q'
      local m = ipc.map(2, function()
        local q = require 'libipc'.workqueue 'q'
        while true do
          local n = q:read()
          if n == false then return end
          q:write(n)
        end
      end)
      for round = 1, 20 do
        for i = 1, 50 do q:write(i) end
        local pid = ipc.fork()
        if pid == 0 then
          while q:tryread() do end
          local fresh, creator = ipc.workqueue 'q'
          assert(creator == 1, 'names are the child\'s own')
          local m = ipc.map(1, function()
            local q = require 'libipc'.workqueue 'q'
            q:write(q:read() + 1)
          end)
          fresh:write(41)
          assert(fresh:read(60) == 42)
          m:join()
          os.exit(0)
        end
        assert(ipc.waitpid(pid, 60) == 0)
        q:drain(60)
        while q:tryread() do end
      end
      q:write(false, false)
      m:join()
    ]]
  end)

  it('lets go of what lies in items that nobody read', function()
    local name = unique()
    local q, inner = ipc.workqueue(), ipc.workqueue(name)
    q:write(inner, { inner })
    inner:close()
    assert.equal(0, select(2, ipc.workqueue(name)), 'the unread message holds it')
    collect()
    q:close()
    collect()
    assert.equal(1, select(2, ipc.workqueue(name)))
  end)

  it('says what it is', function()
    local name = unique()
    local q = ipc.workqueue(name)
    assert.equal('ipc.workqueue', ipc.type(q))
    q:write(1)
    assert.equal(("ipc.workqueue '%s': open, 1 question, 0 answers"):format(name), tostring(q))
    q:close()
    assert.equal('ipc.workqueue: closed', tostring(q))
  end)

  it('refuses wrong arguments by position and type', function()
    local function wrong(pattern, f, ...)
      local e = support.fails(f, ...)
      assert.equal('argument', ipc.errcode(e), e)
      assert.matches(pattern, e)
    end
    local q = ipc.workqueue()
    wrong('argument #1: expected a string or a table of options, got boolean', ipc.workqueue, true)
    wrong("unknown option 'size'", ipc.workqueue, { size = 1 })
    wrong("option 'capacity'", ipc.workqueue, { capacity = 0 })
    wrong("option 'timeout'", ipc.workqueue, { timeout = 'x' })
    wrong('argument #2: expected an integer', ipc.workqueue, 'n', 'x')
    wrong('argument #1: expected', q.read, q, 'x')
    wrong('argument #1: expected', q.read, q, -1)
    wrong('unknown option', q.drain, q, { 1 })
    wrong('expected an ipc.workqueue as self', q.read, {})
    wrong('expected an ipc.workqueue as self', q.read)
    wrong('expected an ipc.workqueue as self', q.close, ipc.mutex())
    assert.equal(1, select(2, ipc.workqueue(nil, 1024, 64)))
    q:close()
    for _, f in ipairs { q.write, q.writeup, q.trywrite, q.read, q.tryread, q.drain, q.pending } do
      assert.equal('closed', ipc.errcode(support.fails(f, q, 1)))
    end
  end)
end)
