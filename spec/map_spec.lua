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

  it('passes and returns as many values as a call can have', function()
    -- LuaJIT and Lua 5.1 have room for 8,000 in the calls of a C function.
    local function list(n)
      local t = {}
      for i = 1, n do t[i] = i end
      return t
    end
    local unpack = unpack or table.unpack -- luacheck: ignore 143
    local function echo(...) return ... end
    assert.equal(7001, count(ipc.map(1, echo, unpack(list(7000))):join()))
    local pool = ipc.pool(1)
    local many = pool:submit(function(t)
      return (unpack or table.unpack)(t) -- luacheck: ignore 143
    end, list(7000))
    assert.equal(7000, count(many:get()))
    pool:close()
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

  it('makes the built-in tensors of a thread at their first use', function()
    local out = support.check [[
      local ipc = require 'libipc'
      require 'ipc.torch'
      print(ipc.map(1, function()
        local torch, rawget = torch, rawget
        local before = rawget(torch, 'zeros') == nil
        local n = torch.zeros(3):nElement() + torch.FloatTensor(2):nElement()
        local same = package.loaded['ipc.torch'] == torch and require 'ipc.torch' == torch
        return before, n == 5, rawget(torch, 'zeros') ~= nil and getmetatable(torch) == nil, same
      end):join())
      print(ipc.map(1, function()
        torch.mine = 7
        return torch.mine, type(torch.sum), torch.class and #torch.typename(torch.Tensor())
      end):join())
      -- A tensor, and the module as an upvalue, that arrive before anything was used.
      local mine = torch
      print(ipc.map(1, function(t) return t:sum() == 4, rawget(mine, 'zeros') == torch.zeros end, torch.ones(4)):join())
    ]]
    assert.equal('true\ttrue\ttrue\ttrue\n7\tfunction\t18\ntrue\ttrue\n', out)
  end)

  it('joins to nothing for no threads, and when it was joined', function()
    assert.equal(0, (count(ipc.map(0, function() end):join())))
    local m = ipc.map(2, function(id) return id end)
    assert.equal(2, (count(m:join())))
    assert.equal(0, (count(m:join())))
  end)

  it('refuses bad counts', function()
    local f = function() end
    for _, bad in ipairs { -1, -1.5, 1e300, -1e300, 0 / 0, 'three', {}, true } do
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

  it('takes any bytes as the name of threads', function()
    local function own() local f = io.open '/proc/thread-self/comm' return f and f:read '*l' or '' end
    local m = ipc.map { threads = 1, name = '\255\254', fn = own }
    has(tostring(m), '\239\191\189')
    local name = m:join()
    if name ~= '' then assert.equal('\255\254 1', name) end
    local p = ipc.pool(1, { name = '\255' })
    has(tostring(p), '\239\191\189')
    name = p:submit(own):get()
    if name ~= '' then assert.equal('\255 1', name) end
    p:close()
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
    local e = failure_of(function() require('ipc').workqueue 'unread':read 'soon' end)
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
    has(e, 'thread 1', '[unsupported]', 'results', 'value 2', 'x', 'return it beside the function, or ipc.map{ upvalues = true, ... }')
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

  it('print nothing where they are fetched', function()
    local r = support.run [[
      local ipc = require 'libipc'
      local m = ipc.map(3, function(id) error({ id }) end)
      for _ = 1, 3 do print(pcall(m.join, m)) end
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

  it('has run its init before function and arguments are decoded, which need what it registers and loads', function()
    local Point = {}
    Point.__index = Point
    ipc.register('spec.map.Point', Point)
    package.loaded['spec.map.made'] = { seven = 7 }
    local made = require 'spec.map.made'
    local function init()
      local ipc = require 'libipc'
      local P = {}
      P.__index = P
      ipc.register('spec.map.Point', P)
      package.preload['spec.map.made'] = function() return { seven = 'of the thread' } end
    end
    local function f(p) return p.x, made.seven end
    local p = setmetatable({ x = 3 }, Point)
    for _, run in ipairs {
      function() return ipc.map_extended(1, init, f, p):join() end,
      function() return ipc.map({ threads = 1, init = init, args = { p }, fn = f }):join() end,
      function() return ipc.map({ threads = 1, init = init, args = { p }, fn = f, upvalues = true }):join() end,
      function() return ipc.pool(1, { init = init }):submit(f, p):get() end,
    } do
      assert.same({ 3, 'of the thread' }, { run() })
    end
    package.loaded['spec.map.made'] = nil
  end)

  it('names the init that cannot be read, and what cannot be read after it', function()
    local Point = {}
    ipc.register('spec.map.Unknown', Point)
    local m = ipc.map_extended(1, 'x = 1', function() end, setmetatable({}, Point))
    has(fails(m.join, m), 'cannot read its function and arguments', 'spec.map.Unknown')
    package.loaded['spec.map.gone'] = {}
    local gone = require 'spec.map.gone'
    m = ipc.map_extended(1, function() return gone end, function() end)
    has(fails(m.join, m), 'spec.map.gone')
    package.loaded['spec.map.gone'] = nil
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
    for _, n in ipairs { 2 ^ 31 - 1, 2 ^ 31 - 11, 2 ^ 30 } do
      has(fails(ipc.map, { threads = 1, fn = f, args = { n = n } }), '[limit]')
    end
    has(fails(ipc.map, { threads = 1, fn = f, init = 3 }), "'init'")
    has(fails(ipc.map, { threads = 1, fn = f, name = 3 }), "'name'")
    has(fails(ipc.map, { threads = 1, fn = f, upvalues = 3 }), "'upvalues'")
  end)
end)

describe('the results of a map', function()
  it('come one by one as the threads end, and join leaves them out', function()
    local q = { ipc.workqueue(), ipc.workqueue(), ipc.workqueue() }
    local m = ipc.map(3, function(a, b, c, id) return ({ a, b, c })[id]:read(), nil, id, nil end, q[1], q[2], q[3])
    local order = { 3, 1, 2 }
    local k, seen = 1, {}
    q[3]:write 'x'
    for id, x, none, again, last in m:results() do
      assert.equal(order[k], id)
      assert.same({ 'x', id }, { x, again })
      assert.is_nil(none)
      assert.is_nil(last)
      seen[#seen + 1] = id
      k = k + 1
      if k == 3 then break end
      q[order[k]]:write 'x'
    end
    assert.same({ 3, 1 }, seen)
    q[2]:write 'y'
    local n, r = count(m:join())
    assert.equal(4, n)
    assert.same({ 'y', 2 }, { r[1], r[3] })
    assert.is_nil(m:results()())
  end)

  it('can be none, and many values', function()
    local n = 0
    for id, x in ipc.map(2, function() end):results() do
      n = n + id
      assert.is_nil(x)
    end
    assert.equal(3, n)
    for _ in ipc.map(0, function() end):results() do error 'no thread, no result' end
    local got = count(ipc.map(1, function() return (unpack or table.unpack)({}, 1, 200) end):results()()) -- luacheck: ignore 143
    assert.equal(201, got)
  end)

  it('raise the failure of a thread, named, and go on', function()
    local m = ipc.map { threads = 4, name = 'x', fn = function(id)
      if id % 2 == 0 then error('no ' .. id) end
      return id * 10
    end }
    local results, failures, calls = {}, {}, 0
    repeat
      local ok, e = pcall(function()
        for id, x in m:results(60) do results[id] = x end
      end)
      if not ok then
        assert.equal('worker', ipc.errcode(e))
        has(e, 'libipc [worker] map:results: thread ', "of 'x', 4", 'stack traceback:')
        failures[#failures + 1] = tonumber(e:match 'no (%d)')
      end
      calls = calls + 1
    until ok
    table.sort(failures)
    assert.same({ 2, 4 }, failures)
    assert.same({ [1] = 10, [3] = 30 }, results)
    assert.equal(3, calls)
    assert.equal(0, (count(m:join())))
    m:checkErrors()
  end)

  it('leave out what checkErrors has raised', function()
    local m = ipc.map(2, function(id) if id == 1 then error 'early' end end)
    support.eventually(function() return m:poll() == 0 end)
    has(fails(m.checkErrors, m), 'early')
    local next = m:results()
    assert.equal(2, next())
    assert.is_nil(next())
  end)

  it('are waited for as long as told, each anew', function()
    local q = ipc.workqueue()
    local m = ipc.map(2, function(q) return q:read() end, q)
    local next = m:results(0.001)
    local e = fails(next)
    assert.equal('timeout', ipc.errcode(e))
    has(e, 'map:results', '2 of 2')
    assert.equal('timeout', ipc.errcode(fails(m:results(true))))
    q:write('a', 'a')
    local n = 0
    for _, x in m:results(60) do
      assert.equal('a', x)
      n = n + 1
    end
    assert.equal(2, n)
    has(fails(m.results, m, -1), 'argument #1')
    has(fails(m.results, m, 'x'), 'argument #1')
    has(fails(m.results, {}), 'ipc.map')
  end)

  it('name those that cannot be read here, and go on', function()
    local m = ipc.map(1, function()
      local class = {}
      require('ipc').register('spec.unknown', class)
      return setmetatable({}, class)
    end)
    has(fails(m:results()), 'map:results', 'thread 1', 'spec.unknown')
    assert.is_nil(m:results()())
  end)

  it('tell of threads that were cancelled', function()
    local m = ipc.map(2, function() require('ipc').sleep(1000) end)
    local next = m:results()
    ipc.sleep(0.01)
    m:cancel()
    has(fails(next), '[cancelled]')
    has(fails(next), '[cancelled]')
    assert.is_nil(next())
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
    -- On a busy machine the cancel may end the thread's own code before it comes that far.
    support.retry(20, function()
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
  end)

  -- Loops that call nothing of ours. Each gets a mutable counter, so that the test knows when it runs.
  local loops = {
    ['an empty one'] = function(n) n:add(1) while true do end end,
    ['one that counts'] = function(n) n:add(1) local x = 0 for i = 1, math.huge do x = x + i % 3 end return x end,
    ['a repeat'] = function(n) n:add(1) local x = 0 repeat x = x + 1 until x < 0 end,
    ['one that catches errors'] = function(n)
      n:add(1)
      while true do pcall(function() for _ = 1, 1e9 do end end) end
    end,
    ['tail calls'] = function(n)
      n:add(1)
      local function f(x) return f(x + 1) end
      return f(0)
    end,
    ['one over strings'] = function(n)
      n:add(1)
      local s = ''
      while true do s = (s .. 'x'):sub(-10) .. tostring(1) end
    end,
    ['one over a table'] = function(n)
      n:add(1)
      local t = {}
      for i = 1, math.huge do t[i % 10] = { i } end
      return t
    end,
    ['a coroutine'] = function(n)
      n:add(1)
      coroutine.wrap(function() while true do end end)()
    end,
    ['one that resumes coroutines'] = function(n)
      n:add(1)
      local co = coroutine.wrap(function() while true do coroutine.yield() end end)
      while true do co() end
    end,
  }
  if support.is_luajit then
    loops['one over cdata'] = function(n)
      n:add(1)
      local a, i = require 'ffi'.new 'double[10]', 0
      while true do
        a[i % 10] = i
        i = i + 1
      end
    end
    loops['a goto'] = loadstring 'local n = ... n:add(1) ::again:: goto again' -- luacheck: ignore 143
  end
  -- On 5.3 and later it has its price, so there it is asked for.
  local how = (support.is_51 or _VERSION == 'Lua 5.2') and 'calls' or 'code'

  -- Cancels m, whose threads have all begun, and wants each to have ended by the cancel.
  local function ends(m, threads, n)
    support.eventually(function() return n:get() == threads end)
    assert.equal(threads, m:poll())
    m:cancel()
    ended(m)
    for _ = 1, threads do
      local e = fails(m.join, m)
      has(e, '[cancelled]')
      assert.is_nil(e:find('abandoned', 1, true), e)
    end
  end

  for name, loop in pairs(loops) do
    it('ends code that runs, also where it catches errors: ' .. name, function()
      local n = ipc.atomic(0)
      ends(ipc.map { threads = 2, fn = loop, cancel = how, args = { n } }, 2, n)
    end)
  end

  it('ends code that runs, also where it catches errors', function()
    -- All at once, and asked for, which LuaJIT interprets.
    local n, maps = ipc.atomic(0), {}
    for _, loop in pairs(loops) do
      maps[#maps + 1] = ipc.map { threads = 1, fn = loop, cancel = 'code', args = { n } }
    end
    support.eventually(function() return n:get() == #maps end)
    for _, m in ipairs(maps) do m:cancel() end
    for _, m in ipairs(maps) do ended(m) has(fails(m.join, m), '[cancelled]') end
    has(fails(ipc.map, { threads = 1, fn = function() end, cancel = 'never' }), "'cancel'", 'never')
  end)

  it('ends many maps at once, while threads of others begin and end', function()
    local n, maps = ipc.atomic(0), {}
    for i = 1, 4 do
      maps[i] = ipc.map {
        threads = 3, cancel = how, args = { n },
        fn = function(n)
          n:add(1)
          local x = 0
          while true do
            x = x + 1
            if x % 1000 == 0 then pcall(error, {}) end
          end
        end,
      }
    end
    support.eventually(function() return n:get() == 12 end)
    for _, m in ipairs(maps) do m:cancel() end
    for _ = 1, 10 do assert.equal(1, ipc.map(1, function(id) for _ = 1, 1e4 do end return id end):join()) end
    for _, m in ipairs(maps) do
      ended(m)
      has(fails(m.join, m), '[cancelled]')
    end
  end)

  it('runs what it has to close: finalizers, and __close', function()
    local n, final, closed = ipc.atomic(0), ipc.atomic(0), ipc.atomic(0)
    local close = support.is_51 and '' or _VERSION >= 'Lua 5.4' and [[
      local class = { __close = function() for _ = 1, 1000 do end pcall(error, 'x') closed:add(1) end }
      local a <close> = setmetatable({}, class)
      pcall(function()
        local b <close> = setmetatable({}, class)
        if n:add(1) then while true do end end
      end)
    ]] or ''
    local load = loadstring or load -- luacheck: ignore 143
    local m = ipc.map { threads = 2, cancel = how, args = { n, final, closed }, fn = load([[
      local n, final, closed = ...
      local mt = { __gc = function() for _ = 1, 1000 do end final:add(1) end }
      if newproxy then
        kept = newproxy(true)
        getmetatable(kept).__gc = mt.__gc
      else
        kept = setmetatable({}, mt)
      end
      ]] .. close .. [[
      n:add(1)
      while true do end
    ]]) }
    ends(m, 2, n)
    assert.equal(2, final:get())
    if close ~= '' then assert.equal(4, closed:get()) end
  end)

  it('abandons a thread that has not ended a second later, and names it', function()
    local n, go = ipc.atomic(0), support.tmpname()
    -- Thread 2 waits where no cancel reaches it, until the file is there, or for two minutes.
    local m = ipc.map(2, function(n, go, id)
      if id == 2 then
        local wait = 'i=0; while [ ! -e %s ] && [ $i -lt 2400 ]; do i=$((i + 1)); sleep 0.05; done; echo >%s.gone'
        os.execute(wait:format(go, go))
      else
        n:add(1)
      end
    end, n, go)
    -- Thread 1 has ended, not only counted: else the cancel finds it on its way out.
    support.eventually(function() return m:poll() == 1 end)
    local watched = ipc.fd(m:fd())
    m:cancel()
    assert.equal(watched, (ipc.select({ watched }, 60)))
    assert.equal(0, m:poll())
    local e = fails(m.join, m)
    has(e, 'thread 2', '[cancelled]', 'abandoned')
    assert.equal(0, m:poll())
    assert.equal(0, (count(m:join())))
    -- Others can be ended meanwhile.
    m = ipc.map { threads = 1, cancel = how, fn = function() while true do end end }
    m:cancel()
    ended(m)
    support.write(go, '')
    support.eventually(function() return support.exists(go .. '.gone') end)
  end)

  it('has its results if it had ended before', function()
    local m = ipc.map(2, function(id) return id end)
    ended(m)
    m:cancel()
    assert.same({ 1, 2 }, { m:join() })
  end)

  it('is cancelled when it is collected', function()
    local path = support.tmpname()
    local function start()
      ipc.map(1, function(path)
        -- What is written is seen when the state closes.
        file = io.open(path, 'w') -- luacheck: ignore 111
        file:setvbuf 'full' -- luacheck: ignore 113
        file:write 'ended' -- luacheck: ignore 113
        require('ipc').sleep(1000)
      end, path)
    end
    start()
    support.eventually(function()
      collectgarbage()
      return support.exists(path) and support.read(path) == 'ended'
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
