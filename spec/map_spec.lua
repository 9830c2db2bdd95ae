-- §3: threads with a Lua state each, their results, errors and ends.
-- luacheck: ignore 431 (what goes to a thread has the same name there)
local support = require 'spec.support'
local ipc = require 'libipc'

-- What f raises, as a string.
local function fails(f, ...)
  local e = support.fails(f, ...)
  assert.equal('string', type(e))
  return e
end

local function has(text, ...)
  for _, part in ipairs { ... } do
    assert.is_truthy(tostring(text):find(part, 1, true), ('%q is not in: %s'):format(part, tostring(text)))
  end
end

-- The error of a one-thread map over f.
local function failure_of(f, ...)
  local m = ipc.map(1, f, ...)
  return fails(m.join, m)
end

local function count(...) return select('#', ...), { ... } end

describe('ipc.map', function()
  it('calls the function in each thread with the arguments and its id', function()
    local m = ipc.map(3, function(a, b, id) return a .. b .. id end, 'x', 'y')
    assert.same({ 'xy1', 'xy2', 'xy3' }, { m:join() })
    assert.equal(1, ipc.map(1, function(id) return id end):join())
  end)

  it('returns all results of thread 1, then of thread 2, nils included', function()
    local m = ipc.map(3, function(...)
      local id = select(select('#', ...), ...)
      if id == 1 then return nil, 'a', nil end
      if id == 3 then return {}, nil end
    end, nil, 'x', nil)
    local n, r = count(m:join())
    assert.equal(5, n)
    assert.is_nil(r[1])
    assert.equal('a', r[2])
    assert.is_nil(r[3])
    assert.same({}, r[4])
    assert.is_nil(r[5])
  end)

  it('passes nils as arguments', function()
    local n, r = ipc.map(1, function(...) return select('#', ...), { ... } end, nil, 2, nil):join()
    assert.equal(4, n)
    assert.equal(2, r[2])
    assert.equal(1, r[4])
  end)

  it('returns many results', function()
    local n = count(ipc.map(10, function()
      local unpack = unpack or table.unpack -- luacheck: ignore 143
      local t = {}
      for i = 1, 500 do t[i] = i end
      return unpack(t)
    end):join())
    assert.equal(5000, n)
  end)

  it('starts each thread in a clean Lua with the standard libraries and libipc', function()
    local out = support.check [[
      local ipc = require 'libipc'
      leaked = true
      package.path, package.cpath = 'here/?.lua', 'there/?.so'
      local m = ipc.map(1, function()
        return leaked == nil, package.path, package.cpath, package.loaded.libipc == require 'ipc',
          type(string.format) .. type(io.open) .. type(os.time) .. type(debug.traceback) .. type(coroutine.wrap),
          require('libipc')._VERSION, package.loaded.torch
      end)
      print(m:join())
    ]]
    local functions = ('function'):rep(5)
    local want = { 'true', 'here/?.lua', 'there/?.so', 'true', functions, ipc._VERSION, 'nil' }
    assert.equal(table.concat(want, '\t') .. '\n', out)
  end)

  it('loads tensors that the parent had loaded, and torch is global', function()
    for _, name in ipairs { 'torch', 'ipc.torch' } do
      local dir = support.tmpdir()
      os.execute('mkdir -p ' .. dir .. '/ipc')
      support.write(dir .. '/' .. name:gsub('%.', '/') .. '.lua', "return { name = '" .. name .. "' }")
      local out = support.check(([[
        package.path = %q .. '/?.lua;' .. package.path
        local ipc = require 'libipc'
        require %q
        print(ipc.map(1, function(name) return torch.name, package.loaded[name] == torch end, %q):join())
      ]]):format(dir, name, name))
      assert.equal(name .. '\ttrue\n', out)
    end
  end)

  it('joins to nothing for no threads, and when it was joined', function()
    assert.equal(0, (count(ipc.map(0, function() end):join())))
    local m = ipc.map(2, function(id) return id end)
    assert.equal(2, (count(m:join())))
    assert.equal(0, (count(m:join())))
  end)

  it('refuses bad counts', function()
    local f = function() end
    for _, bad in ipairs { -1, 1.5, 1e300, -1e300, 0 / 0, 'three', {}, true } do
      local e = fails(ipc.map, bad, f)
      assert.equal('argument', ipc.errcode(e))
      assert.equal('argument', ipc.errcode(fails(ipc.map_extended, bad, nil, f)))
    end
    assert.equal('argument', ipc.errcode(fails(ipc.map)))
    has(fails(ipc.map, 1), 'argument #2', 'expected a function', 'no value')
    has(fails(ipc.map, 1, 'f'), 'argument #2', 'expected a function', 'string')
    has(fails(ipc.map_extended, 1, 5, f), 'argument #2', 'number')
    has(fails(ipc.map_extended, 1, nil), 'argument #3', 'expected a function')
  end)

  it('refuses more threads than the system can carry, and goes on', function()
    local out = support.check([[
      local ipc = require 'libipc'
      local ok, e = pcall(ipc.map, 2^31, function() end)
      print(ok, ipc.errcode(e))
      local ok, e = pcall(function() return ipc.map(50000, function() end) end)
      print(ok or ipc.errcode(e))
      e = nil
      print(ipc.map(2, function(id) return id end):join())
    ]], { timeout = 200 })
    assert.is_truthy(out:match '^false\tlimit\n%w+\n1\t2\n$', out)
  end)

  it('runs 1,000 threads', function()
    local t = { ipc.map(1000, function(id) return id end):join() }
    assert.equal(1000, #t)
    for i = 1, 1000 do assert.equal(i, t[i]) end
  end)

  it('waits for a thread as long as told, and no result is lost', function()
    local q = ipc.workqueue()
    local m = ipc.map(2, function(q, id)
      if id == 1 then q:read() end
      return id
    end, q)
    local e = fails(m.join, m, 0)
    assert.equal('timeout', ipc.errcode(e))
    has(e, 'map:join')
    assert.equal('timeout', ipc.errcode(fails(m.join, m, 0.001)))
    assert.equal('timeout', ipc.errcode(fails(m.join, m, true)))
    q:write 'go on'
    assert.same({ 1, 2 }, { m:join(60) })
    has(fails(m.join, m, -1), 'argument #1')
    has(fails(m.join, m, 'x'), 'argument #1')
    has(fails(m.join, {}), 'ipc.map')
  end)

  it('counts the threads that still run, and says what it is', function()
    local q = ipc.workqueue()
    local m = ipc.map { threads = 2, name = 'reader', args = { q }, fn = function(q) return q:read() end }
    assert.equal(2, m:poll())
    assert.equal('ipc.map', ipc.type(m))
    has(tostring(m), 'ipc.map', 'reader', '2 threads', '2 running')
    q:write(1, 2)
    m:join()
    assert.equal(0, m:poll())
    has(tostring(m), '0 running')
  end)

  it('names the threads in the system', function()
    local m = ipc.map { threads = 2, name = 'a very long name', fn = function()
      local f = io.open '/proc/thread-self/comm'
      return f and f:read '*l' or ''
    end }
    local a, b = m:join()
    if a ~= '' then assert.same({ 'a very long n 1', 'a very long n 2' }, { a, b }) end
  end)

  it('has room on its stack for deep values and nested calls', function()
    local m = ipc.map(1, function()
      local t = 0
      for _ = 1, 990 do t = { t } end
      local depth = 0
      local function nested()
        depth = depth + 1
        if depth < 150 then ('x'):gsub('x', nested) end
      end
      nested()
      local parens = ('('):rep(150) .. '7' .. (')'):rep(150)
      return t, depth, (loadstring or load)('return ' .. parens)() -- luacheck: ignore 143
    end)
    local t, depth, n = m:join()
    for _ = 1, 990 do t = t[1] end
    assert.same({ 0, 150, 7 }, { t, depth, n })
  end)

  it('runs a map inside a map', function()
    local m = ipc.map(2, function(id)
      local ipc = require 'ipc'
      return id, ipc.map(2, function(outer, inner) return outer * 10 + inner end, id):join()
    end)
    assert.same({ 1, 11, 12, 2, 21, 22 }, { m:join() })
  end)

  it('hands shared objects to the threads by reference', function()
    local n = ipc.atomic(0)
    ipc.map(4, function(n)
      for _ = 1, 1000 do n:add(1) end
    end, n):join()
    assert.equal(4000, n:get())
  end)

  it('copies tables, and what they share stays shared in a thread', function()
    local shared = {}
    local t = { shared, shared }
    local m = ipc.map(2, function(t, s) return t[1] == t[2], t[1] == s, t end, t, shared)
    local a, b, copy = m:join()
    assert.is_true(a)
    assert.is_true(b)
    assert.is_true(copy[1] == copy[2])
    assert.is_true(copy ~= t)
  end)
end)

describe('the errors of a map', function()
  it('are raised by join once all have ended, with the id and the traceback', function()
    local n = ipc.atomic(0)
    local m = ipc.map(3, function(n, id)
      local function inner() error 'boom' end
      if id == 2 then inner() end
      require('ipc').sleep(0.05)
      n:add(1)
    end, n)
    local e = fails(m.join, m)
    assert.equal(2, n:get())
    assert.equal('worker', ipc.errcode(e))
    has(e, 'libipc [worker] map:join: thread 2 of 3', 'boom', 'stack traceback:', 'inner', 'map_spec.lua:')
  end)

  it('leave the results of the other threads to the next join', function()
    local m = ipc.map(4, function(id)
      if id % 2 == 0 then error('number ' .. id) end
      return id
    end)
    has(fails(m.join, m), 'thread 2', 'number 2', '1 more')
    has(fails(m.join, m), 'thread 4', 'number 4')
    assert.same({ 1, 3 }, { m:join() })
  end)

  it('are raised by checkErrors without waiting, and that thread is left out of join', function()
    local q = ipc.workqueue()
    local m = ipc.map(3, function(q, id)
      if id == 2 then error 'early' end
      return q:read() + id
    end, q)
    local e
    support.eventually(function()
      local ok, text = pcall(m.checkErrors, m)
      e = text
      return not ok
    end)
    has(e, 'libipc [worker] map:checkErrors: thread 2 of 3', 'early', 'stack traceback:')
    assert.equal(0, (count(m:checkErrors())))
    assert.equal(2, m:poll())
    q:write(100, 100)
    assert.same({ 101, 103 }, { m:join() })
    m:checkErrors()
  end)

  it('are told whatever the error value was', function()
    has(failure_of(function() error { code = 5, message = 'no', 'first', inner = { deep = true } } end),
      '{ [1] = "first", code = 5, inner = { deep = true }, message = "no" }', 'stack traceback:')
    has(failure_of(function()
      error(setmetatable({}, { __tostring = function() return 'in my words' end }))
    end), 'in my words', 'stack traceback:')
    has(failure_of(function()
      error(setmetatable({ a = 1 }, { __tostring = function() error 'worse' end }))
    end), '{ a = 1 }')
    has(failure_of(function() error() end), 'nil')
    has(failure_of(function() error(42) end), '42')
    has(failure_of(function() error(false) end), 'false')
    has(failure_of(function() error(print) end), 'function')
    has(failure_of(function()
      local t = {}
      t.t = t
      for i = 1, 100 do t[i] = i end
      error(t)
    end), '[1] = 1', '...')
    has(failure_of(function() error 'bytes \1\255' end), 'bytes \1\255')
  end)

  it('keep the text of an error of ours whole', function()
    local e = failure_of(function() require('ipc').workqueue 'unread':read {} end)
    assert.equal('worker', ipc.errcode(e))
    has(e, 'libipc [argument] workqueue:read')
  end)

  it('survive a full stack', function()
    local e = failure_of(function()
      local function f() return 1 + f() end
      return f()
    end)
    has(e, 'stack overflow')
  end)

  it('name what cannot travel, before a thread is started', function()
    local up = 1
    local e = fails(ipc.map, 1, function() return up end)
    assert.equal('unsupported', ipc.errcode(e))
    has(e, 'ipc.map', 'the function', 'up')
    has(fails(ipc.map, 2, function() end, 1, { a = { io.stdout } }), 'ipc.map', 'argument #4', '.a[1]')
    has(fails(ipc.map, 1, function() end, coroutine.create(function() end)), 'argument #3', 'coroutine')
    has(fails(ipc.map_extended, 1, nil, function() end, 1, io.stdout), 'argument #5')
    has(fails(ipc.map_extended, 1, function() return up end, function() end), 'init')
    has(fails(ipc.map, { threads = 1, fn = function() end, args = { 1, io.stdout } }), 'args[2]')
  end)

  it('name results that cannot travel', function()
    local e = failure_of(function()
      local x = 1
      return 1, function() return x end
    end)
    has(e, 'thread 1', '[unsupported]', 'results', 'value 2', 'x')
    local co = failure_of(function() return { co = coroutine.create(function() end) } end)
    has(co, 'thread 1', 'value 1.co', 'coroutine')
    has(failure_of(function() return io.stdout end), 'thread 1')
    has(failure_of(function()
      local t = {}
      for _ = 1, 100000 do t = { t } end
      return t
    end), '[limit]')
    local closure = ipc.map(1, function() return function(x) return x + 1 end end):join()
    assert.equal(3, closure(2))
  end)

  it('name results that cannot be read here, and keep those of the others', function()
    local m = ipc.map(3, function(id)
      if id ~= 2 then return id end
      local class = {}
      require('ipc').register('spec.unknown', class)
      return setmetatable({}, class)
    end)
    local e = fails(m.join, m)
    has(e, 'map:join', 'thread 2', 'spec.unknown')
    assert.same({ 1, 3 }, { m:join() })
  end)

  it('print nothing', function()
    local r = support.run [[
      local ipc = require 'libipc'
      local m = ipc.map(3, function(id) error({ id }) end)
      for _ = 1, 3 do print(pcall(m.join, m)) end
      m = ipc.map(1, function() error 'never asked for' end)
      ipc.sleep(0.05)
    ]]
    assert.equal('', r.stderr)
    assert.equal(0, r.status)
  end)
end)

describe('ipc.map_extended', function()
  it('runs its init first: a function, a string or nil', function()
    local m = ipc.map_extended(2, function(...) before = select('#', ...) end, -- luacheck: ignore 111
      function(x, id) return before, x, id end, 'x') -- luacheck: ignore 113
    assert.same({ 0, 'x', 1, 0, 'x', 2 }, { m:join() })
    m = ipc.map_extended(1, 'before = 7', function() return before end) -- luacheck: ignore 113
    assert.equal(7, m:join())
    m = ipc.map_extended(1, nil, function(id) return id end)
    assert.equal(1, m:join())
  end)

  it('tells errors in its init', function()
    local m = ipc.map_extended(1, function() error 'in init' end, function() end)
    has(fails(m.join, m), 'in init', 'stack traceback:')
    m = ipc.map_extended(1, 'this is not Lua', function() end)
    has(fails(m.join, m), 'init:1:')
  end)
end)

describe('ipc.map with a table', function()
  it('takes threads, fn, args, upvalues, init and name', function()
    local m = ipc.map {
      threads = 2,
      fn = function(a, b, c, id) return a, b, c, id, before end, -- luacheck: ignore 113
      args = { 1, nil, 3, n = 3 },
      init = 'before = true',
      name = 'worker',
    }
    local n, r = count(m:join())
    assert.equal(10, n)
    assert.same({ 1, nil, 3, 1, true }, { r[1], r[2], r[3], r[4], r[5] })
    assert.equal(2, r[9])
    m = ipc.map { fn = function(...) return select('#', ...) end }
    assert.same(ipc.cpus(), (count(m:join())))
  end)

  it('with upvalues lets function, arguments and results bring theirs, and what they share stays shared', function()
    local shared, n = {}, 0
    local function add() n = n + 1 end
    local m = ipc.map {
      threads = 1,
      upvalues = true,
      args = { shared, add },
      fn = function(t, other)
        other()
        add()
        return t == shared, n, function() return n end
      end,
    }
    local same, seen, get = m:join()
    assert.is_true(same)
    -- 5.1 cannot join upvalues: there each function has a copy.
    if not support.is_51 or support.is_luajit then assert.equal(2, seen) end
    assert.equal(seen, get())
    assert.equal(0, n)
  end)

  it('refuses what it does not know', function()
    local f = function() end
    has(fails(ipc.map, { threads = 1, fun = f }), "unknown option 'fun'")
    has(fails(ipc.map, { threads = 1 }), "'fn'", 'expected a function')
    has(fails(ipc.map, { threads = -1, fn = f }), "'threads'")
    has(fails(ipc.map, { threads = 1, fn = f, args = 3 }), "'args'", 'expected a table')
    has(fails(ipc.map, { threads = 1, fn = f, args = { n = -1 } }), "'args'")
    has(fails(ipc.map, { threads = 1, fn = f, args = { n = 2 ^ 40 } }), "'args'")
    has(fails(ipc.map, { threads = 1, fn = f, init = 3 }), "'init'")
    has(fails(ipc.map, { threads = 1, fn = f, name = 3 }), "'name'")
    has(fails(ipc.map, { threads = 1, fn = f, upvalues = 3 }), "'upvalues'")
  end)
end)

describe('a cancelled map', function()
  -- Waits for its threads without a join, which would abandon those that a busy machine lets end only after a second.
  local function ended(m)
    support.eventually(function() return m:poll() == 0 end)
  end

  it('ends calls that block, and makes every further one raise', function()
    local q, errors = ipc.workqueue(), ipc.workqueue()
    local m = ipc.map(4, function(q, errors, id)
      local ipc = require 'ipc'
      local block = {
        function() q:read() end,
        function() ipc.sleep(1000) end,
        function() ipc.mutex():barrier(2) end,
        function() ipc.map(1, function() require('ipc').sleep(1000) end):join() end,
      }
      local _, e = pcall(block[id])
      local _, again = pcall(ipc.sleep, 1000)
      errors:write(ipc.errcode(e) .. ' ' .. ipc.errcode(again))
      block[id]()
    end, q, errors)
    ipc.sleep(0.05)
    assert.equal(4, m:poll())
    m:cancel()
    for _ = 1, 4 do
      local e = fails(m.join, m)
      assert.equal('worker', ipc.errcode(e))
      has(e, '[cancelled]')
    end
    assert.equal(0, (count(m:join())))
    assert.equal(0, m:poll())
    m:cancel()
  end)

  it('says so too when the thread swallowed the error or failed with another', function()
    local m = ipc.map(2, function(id)
      pcall(require('ipc').sleep, 1000)
      if id == 2 then error 'another' end
      return 'fine'
    end)
    ipc.sleep(0.05)
    m:cancel()
    ended(m)
    has(fails(m.join, m), '[cancelled]')
    has(fails(m.join, m), '[cancelled]', 'another')
    assert.equal(0, (count(m:join())))
  end)

  it('ends code that runs, also where it catches errors', function()
    -- 5.1 and 5.2 need not be asked: there it costs nothing.
    local how = (_VERSION == 'Lua 5.2' or support.is_51 and not support.is_luajit) and 'calls' or 'code'
    local loops = {
      function() while true do end end,
      function() while true do pcall(function() for _ = 1, 1e9 do end end) end end,
      function()
        local t = {}
        for i = 1, math.huge do t[i % 10] = i end
        return t
      end,
      function()
        local co = coroutine.wrap(function() while true do end end)
        co()
      end,
      function(...)
        local f = ...
        while true do f = f or ... end
      end,
    }
    for i, loop in ipairs(loops) do
      local m = ipc.map { threads = 2, fn = loop, cancel = how }
      ipc.sleep(0.01)
      assert.equal(2, m:poll())
      m:cancel()
      ended(m)
      local e = fails(m.join, m)
      has(e, '[cancelled]')
      assert.is_nil(e:find('abandoned', 1, true), i .. ': ' .. e)
    end
    has(fails(ipc.map, { threads = 1, fn = function() end, cancel = 'never' }), "'cancel'", 'never')
  end)

  it('abandons a thread that has not ended a second later, and names it', function()
    local n, go = ipc.atomic(0), support.tmpname()
    -- Thread 2 waits where no cancel reaches it, until the file is there, or for two minutes.
    local m = ipc.map(2, function(n, go, id)
      if id == 2 then
        os.execute(('i=0; while [ ! -e %s ] && [ $i -lt 2400 ]; do i=$((i + 1)); sleep 0.05; done'):format(go))
      end
      n:add(1)
    end, n, go)
    -- Thread 1 has ended, not only counted: else the cancel finds it on its way out.
    support.eventually(function() return m:poll() == 1 end)
    m:cancel()
    local e = fails(m.join, m)
    has(e, 'thread 2', '[cancelled]', 'abandoned')
    assert.equal(0, m:poll())
    assert.equal(0, (count(m:join())))
    assert.equal(1, n:get())
    support.write(go, '')
    support.eventually(function() return n:get() == 2 end)
  end)

  it('has its results if it had ended before', function()
    local m = ipc.map(2, function(id) return id end)
    ended(m)
    m:cancel()
    assert.same({ 1, 2 }, { m:join() })
  end)

  it('is cancelled when it is collected', function()
    local n = ipc.atomic(0)
    local function start()
      ipc.map(1, function(n)
        pcall(require('ipc').sleep, 1000)
        n:add(1)
      end, n)
    end
    start()
    support.eventually(function()
      collectgarbage()
      return n:get() == 1
    end)
  end)
end)

describe('a map and fork', function()
  it('belongs to the process that made it', function()
    local out = support.check [[
      local ipc = require 'libipc'
      local m = ipc.map(2, function(id) require 'ipc'.sleep(0.2) return id end)
      local pid = ipc.fork()
      if pid == 0 then
        local codes = {}
        for i, name in ipairs { 'join', 'poll', 'cancel', 'checkErrors' } do
          codes[i] = tostring(ipc.errcode(select(2, pcall(m[name], m))))
        end
        local sum = ipc.map(2, function(id) return id end)
        local a, b = sum:join()
        m = nil
        collectgarbage()
        print(table.concat(codes, ' '), a, b)
        io.stdout:flush()
        os.exit(0)
      end
      print(ipc.waitpid(pid))
      print(m:join())
    ]]
    assert.equal('state state state state\t1\t2\n0\n1\t2\n', out)
  end)
end)
