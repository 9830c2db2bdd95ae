-- §7: sharedtable, with real threads.
-- luacheck: ignore 431 432 (what goes to a thread has the same name there)
local support = require 'spec.support'
local ipc = require 'libipc'
local shared = ipc.sharedtable
local co = coroutine.create(function() end)

local function code(f, ...) return ipc.errcode(support.fails(f, ...)) end

-- All keys and values, by whatever walk.
local function collect(...)
  local found = {}
  for k, v in ... do
    assert(found[k] == nil, 'a key twice')
    found[k] = v
  end
  return found
end

describe('sharedtable', function()
  it('holds what is put under strings, numbers and booleans', function()
    local t = shared()
    local keys = { 'name', '', 'x\0y', ('long'):rep(50), 1, -7, 2.5, 2 ^ 60, 1 / 0, -1 / 0, true, false }
    local values = { 1, 1.5, -0.25, 2 ^ 40, 1 / 0, true, false, '', 'short', 'x\0y', ('22 bytes'):rep(3), ('z'):rep(5000) }
    for _, v in ipairs(values) do
      for _, k in ipairs(keys) do
        t[k] = v
        assert.equal(v, t[k])
        assert.is_nil(t.other)
      end
    end
    t.nan = 0 / 0
    assert.is_true(t.nan ~= t.nan)
    assert.equal(#keys + 1, #t)
    for _, k in ipairs(keys) do
      t[k] = nil
      assert.is_nil(t[k])
    end
    assert.equal(1, #t)
  end)

  it('takes equal numbers for one key, as Lua does', function()
    local t = shared()
    t[1], t[0] = 'one', 'zero'
    assert.equal('one', t[1.0])
    assert.equal('zero', t[-0.0])
    t[2 ^ 53] = 'large'
    if support.has_integers then
      assert.equal('large', t[math.tointeger(2 ^ 53)])
      t[math.maxinteger] = 'most'
      assert.is_nil(t[2 ^ 63])
      assert.equal('most', t[math.maxinteger])
      assert.equal('integer', math.type((next(collect(shared.pairs(shared { [1.0] = true }))))))
      t.i, t.f = 3, 3.0
      assert.equal('integer', math.type(t.i))
      assert.equal('float', math.type(t.f))
    end
    t['1'] = 'string'
    assert.equal('one', t[1])
  end)

  it('refuses other keys: nil and NaN on writing, all else always', function()
    local t = shared()
    assert.is_nil(t[nil])
    assert.is_nil(t[0 / 0])
    for _, k in ipairs { 0 / 0, {}, print, io.stdout, co, t } do
      assert.equal('argument', code(function() t[k] = 1 end))
      assert.equal('argument', code(shared.incr, t, k))
      assert.equal('argument', code(shared.cas, t, k, nil, 1))
      assert.equal('argument', code(shared.update, t, k, print))
      if k == k then assert.equal('argument', code(function() return t[k] end)) end
    end
    assert.matches('expected a key, got NaN', support.fails(function() t[0 / 0] = 1 end))
    assert.matches('expected a string, a number or a boolean as the key, got nil', support.fails(function() t[nil] = 1 end))
    assert.matches('as the key, got table', support.fails(function() t[{}] = 1 end))
    assert.equal(0, #t)
  end)

  it('counts all keys', function()
    local t = shared { 1, 2, 3, x = 1, [true] = 2, [-5] = 3 }
    assert.equal(6, #t)
    t[2] = nil
    t.y = {}
    t.x = nil
    assert.equal(5, #t)
  end)

  it('copies what goes in and what comes out', function()
    local t, inner = shared(), { 1, { 2 } }
    t.v = inner
    inner[1] = 'changed'
    assert.same({ 1, { 2 } }, t.v)
    t.v[2][1] = 'changed'
    assert.same({ 1, { 2 } }, t.v)
    inner.self = inner
    t.v = inner
    assert.equal(t.v.self.self[2][1], 2)
    t.f = function(x) return x + 1 end
    assert.equal(3, t.f(2))
  end)

  it('names what cannot be held, with the way to it', function()
    local t = shared { x = 1 }
    local up = {}
    assert.matches('value%.a%[1%]: a coroutine', support.fails(function() t.x = { a = { co } } end))
    assert.equal('unsupported', code(function() t.x = function() return up end end))
    assert.matches('value%.list%[2%]%.f: userdata', support.fails(shared, { list = { 1, { f = io.stdout } } }))
    assert.matches('found a table', support.fails(shared, { [{}] = 1 }))
    assert.equal(1, t.x)
    assert.equal(1, #t)
  end)

  it('starts with a copy of a table', function()
    local plain = { 1, 2, a = { b = 1 }, [2.5] = 'x', [true] = false }
    local t = shared(plain)
    assert.same(plain, collect(shared.pairs(t)))
    plain.a.b = 2
    assert.equal(1, t.a.b)
    t.a.b = 3
    assert.equal(1, t.a.b, 'a nested plain table is a copy')
    assert.equal(2, plain[2])
  end)

  it('empties the source when it moves, and gives it back after an error', function()
    local plain = { 1, 2, 3, a = { b = 1 }, s = ('x'):rep(100) }
    local t = shared(plain, true)
    assert.is_nil(next(plain))
    assert.equal(5, #t)
    assert.equal(1, t.a.b)
    local bad = { 1, 2, 3, a = { b = 1 }, [true] = 'yes' }
    bad.bad = co
    assert.equal('unsupported', code(shared, bad, true))
    bad.bad = nil
    assert.same({ 1, 2, 3, a = { b = 1 }, [true] = 'yes' }, bad)
    assert.equal('argument', code(shared, 1))
  end)

  it('shares a shared table inside it, by reference', function()
    local inner = shared { n = 1 }
    local t = shared { inner = inner, list = { inner } }
    t.inner.n = 2
    assert.equal(2, inner.n)
    t.list[1].n = 3
    assert.equal(3, inner.n)
    assert.is_true(t.inner == inner)
    inner = nil -- luacheck: ignore 311
    collectgarbage()
    collectgarbage()
    assert.equal(3, t.inner.n)
  end)

  it('may hold itself', function()
    local t = shared()
    t.self = t
    assert.is_true(t.self.self == t)
    t.self.x = 1
    assert.equal(1, t.x)
    t.self = nil
  end)

  it('lets go of a long chain of tables and channels, one in the other', function()
    local function alive()
      collectgarbage()
      collectgarbage()
      local n = 0
      for _, object in ipairs(ipc.report().objects) do
        if object.class == 'ipc.sharedtable' then n = n + 1 end
      end
      return n
    end
    local before = alive()
    local t = shared()
    for _ = 1, 1000 do
      local c = ipc.channel()
      c:write({ t })
      t = shared { c = c }
    end
    assert.is_true(alive() > before + 1000)
    t = nil -- luacheck: ignore 311
    assert.is_true(alive() < before + 10)
  end)

  it('knows its handles for equal', function()
    local t, u = shared(), shared()
    local same = ipc.marshal(t):read()
    assert.is_true(t == same)
    assert.is_false(t == u)
    assert.is_false(rawequal(t, same))
    assert.is_false(t == 1)
  end)

  it('is walked by pairs and keys', function()
    local plain = { 10, 20, x = 'y', [2.5] = { 1 }, [false] = true }
    local t = shared(plain)
    assert.same(plain, collect(shared.pairs(t)))
    if not support.is_51 then assert.same(plain, collect(pairs(t))) end
    local keys = {}
    for i, k in ipairs(shared.keys(t)) do
      assert(keys[k] == nil)
      keys[k] = i
    end
    for k in pairs(plain) do assert.is_number(keys[k]) end
    assert.equal(5, #shared.keys(t))
    assert.same({}, collect(shared.pairs(shared())))
    assert.same({}, shared.keys(shared()))
    -- What is gone when the walk comes to it is left out.
    local seen = 0
    for k in shared.pairs(t) do
      seen = seen + 1
      for _, other in ipairs(shared.keys(t)) do
        if other ~= k then t[other] = nil end
      end
    end
    assert.equal(1, seen)
  end)

  it('is walked while others write: every key that stays is seen, once', function()
    local t, stop = shared(), ipc.atomic(0)
    for i = 1, 300 do t[i] = i end
    local writers = ipc.map(2, function(t, stop, id)
      local n = 0
      while stop:get() == 0 do
        n = n + 1
        t['new ' .. id .. ' ' .. n] = n
        t['new ' .. id .. ' ' .. n - 30] = nil
        if n % 50 == 0 then t[n % 300 + 1] = n % 300 + 1 end
      end
      return n
    end, t, stop)
    for _ = 1, 20 do
      local found = collect(shared.pairs(t))
      for i = 1, 300 do assert.equal(i, found[i]) end
      local keys = {}
      for _, k in ipairs(shared.keys(t)) do
        assert(not keys[k])
        keys[k] = true
      end
    end
    stop:set(1)
    writers:join()
  end)

  it('adds from many threads and loses nothing', function()
    local t = shared { start = 5 }
    ipc.map(4, function(t)
      local incr = require('libipc').sharedtable.incr
      for i = 1, 1000 do
        incr(t, 'n')
        incr(t, 'start', 2)
        incr(t, i % 7, -1)
      end
    end, t):join()
    assert.equal(4000, t.n)
    assert.equal(8005, t.start)
    local sum = 0
    for i = 0, 6 do sum = sum + t[i] end
    assert.equal(-4000, sum)
    assert.equal(4000.5, shared.incr(t, 'n', 0.5))
    t.s = 'x'
    assert.matches('expected a number under the key %.s, found a string', support.fails(shared.incr, t, 's'))
    assert.equal('argument', code(shared.incr, t, 'n', 'x'))
    if support.has_integers then
      assert.equal('integer', math.type(shared.incr(t, 'new')))
      t.most = math.maxinteger
      assert.equal(math.mininteger, shared.incr(t, 'most'))
    end
  end)

  it('updates in one step, and runs again when another thread wrote', function()
    local t = shared { list = {} }
    ipc.map(4, function(t, id)
      local update = require('libipc').sharedtable.update
      for i = 1, 50 do
        update(t, 'list', function(list)
          list[#list + 1] = id * 1000 + i
          return list
        end)
      end
    end, t):join()
    local seen = {}
    for _, n in ipairs(t.list) do seen[n] = true end
    for id = 1, 4 do
      for i = 1, 50 do assert.is_true(seen[id * 1000 + i]) end
    end
    assert.equal(200, #t.list)
    -- A write in between, for sure.
    local runs = 0
    t.n = 1
    assert.equal(11, shared.update(t, 'n', function(n)
      runs = runs + 1
      if runs == 1 then
        ipc.map(1, function(t) t.n = 10 end, t):join()
      end
      return n + 1
    end))
    assert.equal(2, runs)
    assert.equal(11, t.n)
  end)

  it('leaves all as it was when the function of an update fails', function()
    local t = shared { x = 1, y = {} }
    local thrown = {}
    local ok, e = pcall(shared.update, t, 'x', function() error(thrown) end)
    assert.is_false(ok)
    assert.equal(thrown, e)
    assert.equal('unsupported', code(shared.update, t, 'x', function() return { co } end))
    assert.equal('argument', code(shared.update, t, 'x'))
    assert.equal('argument', code(shared.update, t, 'x', {}))
    assert.equal(1, t.x)
    assert.is_nil(shared.update(t, 'x', function() end))
    assert.is_nil(t.x)
    assert.same({ 5 }, shared.update(t, 'new', function(v)
      assert(v == nil)
      return { 5 }
    end))
    assert.same({ 5 }, t.new)
  end)

  it('holds no lock while the function of an update runs', function()
    local t = shared { x = 1, z = 1 }
    local sum = shared.update(t, 'x', function(x)
      -- The same table, from here and from another thread; another update inside.
      t.y = 2
      local other = ipc.map(1, function(t) return t.x + #t end, t):join()
      return x + other + shared.update(t, 'z', function(z) return z + 1 end)
    end)
    assert.equal(1 + 4 + 2, sum)
    for _, write in ipairs {
      function() t.x = 1 end, function() shared.incr(t, 'x') end, function() shared.cas(t, 'x', 1, 2) end,
      function() shared.update(t, 'x', print) end,
    } do
      local e = support.fails(shared.update, t, 'x', write)
      assert.equal('state', ipc.errcode(e))
      assert.matches('may not write the key %.x', e)
    end
    t.x = 1
    assert.equal(1, t.x)
  end)

  it('compares and swaps by the equality of Lua', function()
    local t, other = shared(), shared()
    assert.is_true(shared.cas(t, 'k', nil, 1))
    local done, there = shared.cas(t, 'k', nil, 2)
    assert.is_false(done)
    assert.equal(1, there)
    assert.is_true(shared.cas(t, 'k', 1.0, 'short'))
    assert.is_true(shared.cas(t, 'k', 'short', ('long'):rep(100)))
    assert.is_false((shared.cas(t, 'k', ('long'):rep(99), 1)))
    assert.is_true(shared.cas(t, 'k', ('long'):rep(100), true))
    assert.is_false((shared.cas(t, 'k', false, 1)))
    assert.is_true(shared.cas(t, 'k', true, other))
    assert.is_false((shared.cas(t, 'k', shared(), 1)))
    assert.is_true(shared.cas(t, 'k', other, { 1 }))
    local e = support.fails(shared.cas, t, 'k', { 1 }, 2)
    assert.equal('argument', ipc.errcode(e))
    assert.matches('copied in and out', e)
    done, there = shared.cas(t, 'k', 1, 2)
    assert.is_false(done)
    assert.same({ 1 }, there)
    t.nan = 0 / 0
    assert.is_false((shared.cas(t, 'nan', 0 / 0, 1)))
    t.k = 7
    assert.is_true(shared.cas(t, 'k', 7, nil))
    assert.is_nil(t.k)
    assert.equal('argument', code(shared.cas, t, 'k', 1))
  end)

  it('lets one of many threads swap', function()
    local t, winners = shared { turn = 0 }, shared()
    ipc.map(4, function(t, winners, id)
      local shared = require('libipc').sharedtable
      for round = 1, 100 do
        if shared.cas(t, round, nil, id) then shared.incr(winners, round) end
      end
    end, t, winners):join()
    for round = 1, 100 do assert.equal(1, winners[round]) end
  end)

  it('says how many KB it holds', function()
    local t = shared()
    local empty = ipc.sharedtable_size(t)
    assert.is_true(empty >= 0)
    t.x = ('x'):rep(100 * 1024)
    local full = ipc.sharedtable_size(t)
    assert.is_true(full >= empty + 100 and full < empty + 200)
    assert.equal(full, shared.kbytes(t))
    t.x = nil
    assert.is_true(ipc.sharedtable_size(t) < empty + 10)
    assert.equal('argument', code(ipc.sharedtable_size, {}))
  end)

  it('goes to other threads by reference, on every route between threads', function()
    local t, q = shared(), ipc.workqueue()
    local worker = ipc.map(1, function(t, q)
      t.argument = true
      local again = q:read()
      again.queue = again == t
      return t, { t }
    end, t, q)
    q:write(t)
    local back, list = worker:join()
    assert.is_true(back == t and list[1] == t)
    assert.is_true(t.argument)
    assert.is_true(t.queue)
    local channel = ipc.channel()
    channel:write(t)
    select(2, channel:read()).channel = true
    assert.is_true(t.channel)
    ipc.marshal({ deep = { t } }):read().deep[1].marshal = true
    assert.is_true(t.marshal)
    q:close()
    -- A handle in one thread keeps it alive for all.
    local only = ipc.map(1, function() return require('libipc').sharedtable { x = 1 } end):join()
    assert.equal(1, only.x)
  end)

  it('does not leave its process', function()
    local server, port = ipc.server()
    local client = ipc.client(port)
    assert.equal('unsupported', code(client.send, client, { t = shared() }))
    assert.matches('value%.t: ipc%.sharedtable', support.fails(client.send, client, { t = shared() }))
    client:close()
    server:close()
  end)

  it('holds tensors by reference', function()
    local torch = require 'ipc.torch'
    local x = torch.FloatTensor(3):fill(1)
    local t = shared { x = x, list = { x } }
    t.x:fill(2)
    assert.equal(2, x[1])
    t.list[1][2] = 5
    assert.equal(5, x[2])
    assert.is_true(shared.cas(t, 'x', x, 1))
  end)

  it('lets its functions be upvalues of functions that travel', function()
    local incr, shared = shared.incr, shared
    local t = shared()
    ipc.map(1, function(t)
      incr(t, 'n')
      shared.incr(t, 'n')
    end, t):join()
    assert.equal(2, t.n)
  end)

  it('goes on in the child of a fork, made while threads wrote', function()
    support.check [[
      local ipc = require 'libipc'
      local t, stop = ipc.sharedtable { mine = 1 }, ipc.atomic(0)
      local threads = ipc.map(2, function(t, stop, id)
        local n = 0
        while stop:get() == 0 do
          n = n + 1
          t[n % 50] = ('x'):rep(n % 100)
          t[n % 50 + 25] = nil
          require('libipc').sharedtable.incr(t, 'n')
        end
      end, t, stop)
      for _ = 1, 5 do
        local pid = ipc.fork()
        if pid == 0 then
          t.mine = 2
          for i = 1, 100 do t[i] = i end
          local n = 0
          for k, v in ipc.sharedtable.pairs(t) do n = n + 1 end
          assert(n == #t and n > 100 and ipc.sharedtable.incr(t, 'mine') == 3)
          os.exit(0)
        end
        assert(ipc.waitpid(pid, 60) == 0)
      end
      assert(t.mine == 1)
      stop:set(1)
      threads:join()
    ]]
  end)

  it('lets an update be cancelled that never comes to an end', function()
    local t = shared { n = 0 }
    local worker = ipc.map(1, function(t)
      local shared = require('libipc').sharedtable
      shared.update(t, 'n', function(n)
        -- Another table's write would be allowed; this one makes every run a vain one.
        t.runs = (t.runs or 0) + 1
        require('libipc').map(1, function(t) t.n = t.n + 1 end, t):join()
        return n
      end)
    end, t)
    support.eventually(function() return (t.runs or 0) > 2 end)
    worker:cancel()
    assert.matches('%[cancelled%]', support.fails(worker.join, worker))
  end)

  it('says what it is', function()
    local t = shared { 1 }
    assert.equal('ipc.sharedtable', ipc.type(t))
    assert.equal('ipc.sharedtable: 1 key', tostring(t))
    t.x = 1
    assert.equal('ipc.sharedtable: 2 keys', tostring(t))
    for _, f in ipairs { 'update', 'incr', 'cas', 'keys', 'pairs', 'kbytes' } do
      assert.matches('expected an ipc%.sharedtable', support.fails(shared[f], {}, 'k', 1, 1))
    end
  end)
end)
