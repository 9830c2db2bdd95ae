-- §11: warm workers, futures, batches.
-- luacheck: ignore 431 432 433 (what goes to a thread has the same name there)
local support = require 'spec.support'
local ipc = require 'libipc'

local function has(text, ...)
  for _, part in ipairs { ... } do
    assert.is_truthy(tostring(text):find(part, 1, true), ('%q is not in: %s'):format(part, tostring(text)))
  end
end

local function fails(f, ...)
  local e = support.fails(f, ...)
  assert.equal('string', type(e))
  return e
end

-- What f:get() raises.
local function failure(f) return fails(f.get, f) end

local function count(...) return select('#', ...), { ... } end

-- A task that says in `q` that it runs, and then waits for ever.
local function blocked(p, q)
  local f = p:submit(function(q)
    q:write 'runs'
    require('libipc').sleep(1000)
  end, q)
  assert.equal('runs', q:read(120))
  return f
end

local function named(name)
  local names = support.sh(('cat /proc/%d/task/*/comm 2>/dev/null'):format(ipc.getpid()))
  local _, n = names:gsub(name .. ' %d+', '')
  return n
end

-- Waits until this process has `n` threads of that name: each names itself when it starts, and takes a moment to go.
local function threads(name, n)
  support.eventually(function() return named(name) == n end)
end

describe('ipc.pool', function()
  it('gives a future for each task, with all results of it, nils included', function()
    local p = ipc.pool(2)
    local f = p:submit(function(a, b, c) return a, nil, b, c, nil end, 1, nil, 'x')
    for _ = 1, 2 do
      local n, r = count(f:get())
      assert.equal(5, n)
      assert.same({ 1, nil, nil, 'x' }, r)
    end
    assert.is_true(f:done())
    assert.equal(0, (count(p:submit(function() end):get())))
    assert.equal(4, p:submit(math.sqrt, 16):get())
    p:close()
  end)

  it('has as many workers as it is told, or as there are cores, and they keep their Lua state', function()
    local p = ipc.pool(3, { name = 'spec-warm' })
    threads('spec%-warm', 3)
    p:close()
    threads('spec%-warm', 0)
    local one = ipc.pool(1)
    for n = 1, 3 do
      local f = one:submit(function()
        calls = (rawget(_G, 'calls') or 0) + 1 -- luacheck: ignore 111 113
        return calls -- luacheck: ignore 113
      end)
      assert.equal(n, f:get())
    end
    one:close()
    has(tostring(ipc.pool()), ipc.cpus() .. ' worker')
    has(tostring(ipc.pool { name = 'loader' }), "'loader'", ipc.cpus() .. ' worker')
  end)

  it('starts in a clean Lua with the standard libraries, libipc, and tensors if they are loaded here', function()
    support.check [[
      local ipc = require 'libipc'
      leaked = true
      package.path = 'here/?.lua;' .. package.path
      local torch = require 'ipc.torch'
      local p = ipc.pool(1)
      local t = torch.FloatTensor(3):zero()
      local path, clean, same = p:submit(function(t)
        t:fill(7)
        return package.path, leaked == nil, torch ~= nil and package.loaded.libipc == require 'ipc'
      end, t):get()
      assert(path == package.path and clean and same)
      assert(t[1] == 7 and t[3] == 7)
    ]]
  end)

  it('runs init first in each worker, a function or a string of Lua', function()
    for _, init in ipairs { function() model = 'loaded' end, "model = 'loaded'" } do -- luacheck: ignore 111
      local p = ipc.pool(2, { init = init })
      assert.same({ 'loaded', 'loaded', 'loaded', n = 3 }, p:map(function() return model end, { 1, 2, 3 })) -- luacheck: ignore 113
    end
  end)

  it('tells the error of its init at every future, and then at submit', function()
    local p = ipc.pool(2, { init = function() error 'no model' end })
    local said
    support.eventually(function()
      local ok, f = pcall(p.submit, p, type, 1)
      if ok then has(failure(f), '[worker]', 'no model', 'stack traceback') else said = f end
      return said
    end)
    has(said, 'pool:submit', '[worker]', 'no model')
    has(tostring(p), 'broken')
    p:close()
    p = ipc.pool(1, { init = 'this is no Lua' })
    has(fails(function() while true do p:submit(type, 1):get() end end), 'init')
  end)

  it('takes upvalues along when asked', function()
    local scale = 3
    local function triple(x) return x * scale end
    local e = fails(function() ipc.pool(1):submit(triple, 1) end)
    has(e, '[unsupported]', 'pool:submit', 'the function', 'scale')
    local counter = ipc.pool(1):submit(function()
      local n = 1
      return function() return n end
    end)
    has(fails(counter.get, counter), 'return it beside the function, or ipc.pool(n, { upvalues = true })')
    local p = ipc.pool(1, { upvalues = true })
    assert.equal(6, p:submit(triple, 2):get())
    scale = 4
    assert.equal(8, p:submit(triple, 2):get())
    assert.same({ 4, 8, n = 2 }, p:map(triple, { 1, 2 }))
    assert.equal(4, p:submit(function(f) return f() end, function() return scale end):get())
    -- What a function and its arguments share stays shared, and nothing of one call is left for the next.
    local shared = { n = 0 }
    local function add(t)
      shared.n = shared.n + 1
      return t.n
    end
    for _ = 1, 2 do assert.equal(1, p:submit(add, shared):get()) end
    local adder = p:submit(function() return function() scale = scale + 1 return scale end end):get()
    assert.equal(5, adder())
  end)

  it('runs a function as it was submitted, whatever its calls before assigned', function()
    local floor, type = math.floor, ipc.type
    local function job(n)
      local ok = floor ~= nil and type ~= nil and _G ~= nil and floor(n) == 2
      if setfenv then setfenv(1, {}) else _ENV = {} end -- luacheck: ignore
      floor, type = nil, 5
      return ok
    end
    local p = ipc.pool(1)
    for _ = 1, 3 do assert.is_true(p:submit(job, 2.5):get()) end
    assert.equal('function', p:submit(function() return type(print) end):get())
    -- Functions of the standard libraries are the worker's own.
    for _ = 1, 3 do p:submit(require, 'string'):get() end
    for _ = 1, 3 do assert.equal('file', p:submit(io.type, 1):get() or 'file') end
    for _ = 1, 2 do p:submit(io.open, support.tmpname()):get() end
    assert.is_true(p:submit(function() return require 'ipc.utils' ~= nil end):get())
    p:close()
  end)

  it('hands shared objects to the tasks, itself included', function()
    local p, total = ipc.pool(2), ipc.atomic(0)
    local inner = p:submit(function(p, total)
      total:add(1)
      return p:submit(function(total) total:add(10) return 'inner' end, total)
    end, p, total):get()
    assert.equal('ipc.future', ipc.type(inner))
    assert.equal('inner', inner:get())
    assert.equal(11, total:get())
    local f = p:submit(function(n) return n end, 5)
    assert.equal(5, ipc.map(1, function(f) return (f:get()) end, f):join())
    assert.equal('ipc.pool', ipc.type(p))
  end)

  it('refuses values that cannot travel at submit, with their path, and results at get', function()
    local p = ipc.pool(1)
    has(fails(p.submit, p, type, 1, { file = io.stdout }), '[unsupported]', 'argument #3.file', 'userdata')
    has(fails(p.submit, p, type, coroutine.create(function() end)), '[unsupported]', 'argument #2', 'coroutine')
    has(failure(p:submit(function() return 1, { co = coroutine.create(function() end) } end)), '[worker]', 'value 2.co', 'coroutine')
    has(fails(p.map, p, type, { 1, { io.stdout } }), 'item 2[1]', 'userdata')
    local class = ipc.register('pool.unknown.here', {})
    local there = p:submit(function()
      return setmetatable({}, require('libipc').register('pool.only.there', {}))
    end)
    has(failure(there), 'cannot be read here', 'pool.only.there')
    has(failure(p:submit(type, setmetatable({}, class))), '[worker]', 'pool.unknown.here')
    assert.equal('number', p:submit(type, 1):get())
  end)

  it('refuses wrong arguments', function()
    for _, bad in ipairs { 0, -1, 1.5, 1e300, 0 / 0, 'three', true } do
      assert.equal('argument', ipc.errcode(fails(ipc.pool, bad)))
    end
    has(fails(ipc.pool, 1, { inti = 1 }), "unknown option 'inti'")
    has(fails(ipc.pool, 1, { init = 5 }), "option 'init'", 'number')
    has(fails(ipc.pool, 1, { init = coroutine.wrap(function() end) }), "option 'init'")
    has(fails(ipc.pool, 1, { cancel = 'all' }), "option 'cancel'")
    local p = ipc.pool(1)
    has(fails(p.submit, p), 'argument #1', 'expected a function', 'no value')
    has(fails(p.map, p, type), 'argument #2', 'expected a table')
    has(fails(p.each, p, 'f', {}), 'argument #1', 'expected a function')
    has(fails(p.map, p, type, {}, -1), 'argument #3', 'time-out')
  end)
end)

describe('an error in a task', function()
  it('is raised by get, again and again, with the traceback in the worker, and the worker goes on', function()
    local p = ipc.pool(1)
    local f = p:submit(function()
      local function inside() error 'out of paper' end
      inside()
    end)
    for _ = 1, 2 do
      local e = failure(f)
      assert.equal('worker', ipc.errcode(e))
      has(e, 'future:get', 'out of paper', 'stack traceback', 'inside')
    end
    has(tostring(f), 'failed')
    assert.equal(1, p:submit(function() return 1 end):get())
  end)

  it('raises an error value that is no string as it is', function()
    local p = ipc.pool(1)
    local queue = ipc.channel()
    local Coded = { __tostring = function(e) return 'code ' .. e.code end }
    ipc.register('spec.pool.Coded', Coded)
    for _, raise in ipairs {
      function() error { code = 5, at = { 'here' } } end,
      function() local at = { 'here' } error { code = 5, at = at, same = at } end,
    } do
      local f = p:submit(raise)
      for _ = 1, 2 do
        local ok, e = pcall(f.get, f)
        assert.is_false(ok)
        assert.is_true(e.code == 5 and e.at[1] == 'here' and (e.same == nil or e.same == e.at))
      end
    end
    for _, value in ipairs { 42, false, true } do
      assert.same({ false, value }, { pcall(p.map, p, function(v) error(v, 0) end, { value }) })
    end
    local ok, e = pcall(function() return p:submit(function(q) error(q) end, queue):get() end)
    assert.is_true(not ok and ipc.type(e) == 'ipc.channel')
    local q = ipc.pool(1, { init = function() require 'libipc'.register('spec.pool.Coded', {}) end })
    ok, e = pcall(function() return q:submit(function(e) error(e) end, setmetatable({ code = 7 }, Coded)):get() end)
    assert.is_true(not ok and tostring(e) == 'code 7' and getmetatable(e) == Coded)
    -- The next task's error is its own.
    assert.is_true(fails(function() return p:submit(function() error 'a string' end):get() end):find('a string', 1, true) ~= nil)
    assert.equal(1, p:submit(function() return 1 end):get())
    p:close()
    q:close()
  end)

  it('is told whatever its value was', function()
    local p = ipc.pool(1)
    has(failure(p:submit(function() error() end)), 'nil')
    -- What cannot travel is put into words.
    has(failure(p:submit(function() error(setmetatable({}, { __tostring = function() return 'words' end })) end)), 'words')
    has(failure(p:submit(function() error { code = 5, io.stdout } end)), 'code = 5')
  end)

  it('prints nothing', function()
    local r = support.run [[
      local p = require('libipc').pool(1)
      pcall(function() p:submit(function() error 'quiet' end):get() end)
    ]]
    assert.same({ 0, '', '' }, { r.status, r.stdout, r.stderr })
  end)
end)

describe('a future', function()
  it('says where its task is', function()
    local p, q = ipc.pool(1), ipc.workqueue()
    local f = blocked(p, q)
    local second = p:submit(type, 1)
    assert.is_false(f:done())
    assert.equal('ipc.future: running', tostring(f))
    assert.equal('ipc.future: queued', tostring(second))
    has(tostring(p), '1 worker', '1 task running', '1 queued')
    f:cancel()
    assert.equal('number', second:get())
    assert.equal('ipc.future: done', tostring(second))
    assert.equal('cancelled', ipc.errcode(failure(f)))
    assert.equal('ipc.future: cancelled', tostring(f))
  end)

  it('waits no longer than it is told, and can be asked again', function()
    local p, q = ipc.pool(1), ipc.workqueue()
    local f = p:submit(function(q)
      q:write 'runs'
      return q:read()
    end, q)
    local second = p:submit(type, 1)
    assert.equal('runs', q:read(120))
    has(fails(f.get, f, 0), '[timeout]', 'still runs')
    has(fails(f.get, f, true), '[timeout]')
    has(fails(second.get, second, 0.01), '[timeout]', 'waits')
    q:write 'go'
    assert.equal('go', f:get(120))
    assert.equal('number', second:get(120))
  end)

  it('that is cancelled in the queue never runs', function()
    local p, q, ran = ipc.pool(1), ipc.workqueue(), ipc.atomic(0)
    local first = blocked(p, q)
    local second = p:submit(function(ran) ran:add(1) end, ran)
    assert.is_true(second:cancel())
    assert.is_true(second:done())
    has(failure(second), '[cancelled]', 'before it ran')
    assert.is_false(second:cancel())
    first:cancel()
    p:close()
    assert.equal(0, ran:get())
  end)

  it('that is cancelled while it runs ends, and the pool keeps its number of workers', function()
    local p, q = ipc.pool(2, { name = 'spec-keep' }), ipc.workqueue()
    for _ = 1, 5 do
      local a, b = blocked(p, q), blocked(p, q)
      assert.is_true(a:cancel())
      assert.is_true(b:cancel())
      for _, f in ipairs { a, b } do
        local e = failure(f)
        assert.equal('cancelled', ipc.errcode(e))
        has(e, 'while it ran')
        assert.is_false(f:cancel())
      end
      assert.equal('number', p:submit(type, 1):get())
    end
    threads('spec%-keep', 2)
    has(tostring(p), '2 workers')
    p:close()
  end)

  it('that is cancelled after it was done stays done', function()
    local f = ipc.pool(1):submit(function() return 5 end)
    f:get()
    assert.is_false(f:cancel())
    assert.equal(5, f:get())
  end)

  it('of a task that catches its cancel and goes on is done within a second, and another worker works', function()
    local out = support.check [[
      local ipc = require 'libipc'
      local p, q = ipc.pool(1), ipc.workqueue()
      local f = p:submit(function(q)
        q:write 'runs'
        while true do pcall(q.read, q) end
      end, q)
      q:read()
      f:cancel()
      print(ipc.errcode(select(2, pcall(f.get, f))))
      print(p:submit(type, 1):get())
    ]]
    assert.equal('cancelled\nnumber\n', out)
  end)

  it('can be cancelled by another thread, and while this one waits for it', function()
    local p, q = ipc.pool(1), ipc.workqueue()
    local f = blocked(p, q)
    local m = ipc.map(1, function(f) return f:cancel() end, f)
    assert.equal('cancelled', ipc.errcode(failure(f)))
    assert.is_true(m:join())
  end)

  it('ends with the cancel of the thread that waits', function()
    local p, q = ipc.pool(1), ipc.workqueue()
    local f = blocked(p, q)
    local m = ipc.map(1, function(f) return f:get() end, f)
    m:cancel()
    has(fails(m.join, m), '[cancelled]')
    f:cancel()
  end)
end)

describe('ipc.select', function()
  it('takes futures and batches, and they have descriptors', function()
    local p, words = ipc.pool(2), ipc.channel()
    local function word(words) return select(2, words:read()) end
    local slow = p:submit(word, words)
    local quick = p:submit(function() return 'quick' end)
    assert.equal(quick, (ipc.select { slow, quick }))
    assert.is_nil(ipc.select({ slow }, 0))
    local m = ipc.map(1, function(words) words:write 'go' end, words)
    local found, index = ipc.select({ (ipc.workqueue()), slow }, 120)
    assert.equal(slow, found)
    assert.equal(2, index)
    assert.equal('go', slow:get(0))
    m:join()
    local b = p:batch()
    assert.equal(b, (ipc.select({ b }, 0))) -- nothing to wait for
    b:submit(word, words)
    assert.is_nil(ipc.select({ b }, 0.001))
    words:write 'go'
    assert.equal(b, (ipc.select({ b }, 120)))
    assert.equal('go', select(2, b:next(0)):get(0))
    for _, object in ipairs { slow, b } do
      local fd, poll = object:fd()
      assert.equal('number', type(fd))
      assert.equal('read', poll)
    end
    has(fails(ipc.select, { { slow, 'write' } }), '[argument]', 'ipc.future')
  end)

  it('wakes for a future that is cancelled, and for one whose task fails', function()
    local p, q = ipc.pool(2), ipc.workqueue()
    local one = blocked(p, q)
    local m = ipc.map(1, function(f) f:cancel() end, one)
    assert.equal(one, (ipc.select({ one }, 120)))
    local two = p:submit(function() error 'no' end)
    assert.equal(two, (ipc.select({ two }, 120)))
    m:join()
  end)
end)

describe('pool:map', function()
  it('gives the results in the order of the list, however long', function()
    local p = ipc.pool(3)
    local list = {}
    for i = 1, 500 do list[i] = i end
    local squares = p:map(function(i) return i * i end, list)
    assert.equal(500, #squares)
    for i = 1, 500 do assert.equal(i * i, squares[i]) end
    assert.same({ n = 0 }, p:map(type, {}))
    assert.same({ 'number', 'nil', 'nil', n = 3 }, p:map(type, { 1, n = 3 }))
    assert.same({ 1, nil, 3, n = 3 }, p:map(function(i) if i ~= 2 then return i, 'more' end end, { 1, 2, 3 }))
  end)

  it('keeps a bounded number on their way', function()
    local p = ipc.pool(1)
    local list, most = {}, 0
    for i = 1, 200 do list[i] = i end
    for _ in p:each(function(i) return i end, list) do
      most = math.max(most, tonumber(tostring(p):match '(%d+) queued'))
    end
    assert.is_true(most < 20, most .. ' were queued')
  end)

  it('raises the error of an item, and begins none that waits', function()
    local p, ran = ipc.pool(1), ipc.atomic(0)
    local list = {}
    for i = 1, 100 do list[i] = ran end
    local e = fails(p.map, p, function(ran) if ran:add(1) == 3 then error 'the third' end end, list)
    has(e, 'pool:map', 'item 3', 'the third', 'stack traceback')
    p:close()
    assert.is_true(ran:get() < 20)
  end)

  it('waits no longer than it is told, and begins none that waits', function()
    local p, q, ran = ipc.pool(1), ipc.workqueue(), ipc.atomic(0)
    local first = blocked(p, q)
    local e = fails(p.map, p, function(ran) ran:add(1) end, { ran, ran }, 0.01)
    has(e, '[timeout]', '0 of 2')
    first:cancel()
    p:close()
    assert.equal(0, ran:get())
  end)
end)

describe('pool:each', function()
  it('gives number and all results of each as it is done', function()
    local p, q = ipc.pool(2), ipc.workqueue()
    local order, seen = {}, 0
    for i, r, s, t in p:each(function(item)
      -- The first waits for the others.
      if item.id == 1 then item.q:read() end
      return item.id * 10, nil, 'more'
    end, { { id = 1, q = q }, { id = 2 }, { id = 3 } }) do
      order[#order + 1] = i
      assert.equal(i * 10, r)
      assert.is_nil(s)
      assert.equal('more', t)
      seen = seen + 1
      if seen == 2 then q:write 'go' end
    end
    assert.equal(3, seen)
    assert.equal(1, order[3])
    for _ in p:each(type, {}) do error 'nothing to see' end
  end)

  it('raises the error of an item, and waits no longer than it is told', function()
    local p = ipc.pool(1)
    local function walk(f, list, timeout)
      for _ in p:each(f, list, timeout) do end -- luacheck: ignore 542
    end
    has(fails(walk, function(i) if i == 2 then error 'the second' end end, { 1, 2, 3 }), 'item 2', 'the second')
    has(fails(walk, function() require('libipc').sleep(1000) end, { 1 }, 0.01), '[timeout]')
    p:cancel()
  end)

  it('can be left', function()
    local p = ipc.pool(1)
    local list = {}
    for i = 1, 100 do list[i] = i end
    for _ in p:each(function(i) return i end, list) do break end -- luacheck: ignore 512
    assert.equal(5, p:submit(function() return 5 end):get())
    p:close()
  end)
end)

describe('a batch', function()
  it('gives futures in the order in which they end, with their numbers', function()
    local p, q = ipc.pool(2), ipc.workqueue()
    local b = p:batch()
    assert.equal(0, b:pending())
    assert.is_nil(b:next())
    local one, slow = b:submit(function(q) return q:read() end, q)
    local two = b:submit(function() error 'no' end)
    assert.same({ 1, 2 }, { one, two })
    local n, f = b:next()
    assert.equal(2, n)
    has(failure(f), 'no')
    assert.is_nil(b:next(0.01))
    assert.equal(1, b:pending())
    has(tostring(b), 'ipc.batch', '1 task to take')
    q:write 'go'
    n, f = b:next(120)
    assert.equal(1, n)
    assert.equal('go', f:get())
    assert.equal('go', slow:get())
    assert.is_nil(b:next())
    local e = fails(b.submit, b, type, io.stdout)
    has(e, 'batch:submit', 'argument #2')
    assert.equal(0, b:pending())
  end)

  it('gives all that are left to a loop, however long each takes', function()
    local p, c = ipc.pool(2), ipc.channel()
    local b = p:batch()
    for i = 1, 5 do b:submit(function(c, i) return i == 5 and select(2, c:read()) or i end, c, i) end
    local sum, seen = 0, 0
    for n, f in b:results() do
      assert.equal(n, f:get())
      sum, seen = sum + n, seen + 1
      -- Longer than the number that the loop passes to its iterator would be as a time-out.
      if seen == 4 then
        p:submit(function(c)
          require 'libipc'.sleep(1.2)
          c:write(5)
        end, c)
      end
    end
    assert.equal(15, sum)
    assert.equal(0, b:pending())
    for _ in b:results() do error 'nothing is left' end
    b:submit(function(c) return (select(2, c:read())) end, c)
    local e = fails(function() for _ in b:results(0.01) do error 'none has ended' end end)
    assert.equal('timeout', ipc.errcode(e))
    has(e, 'batch:results', '1 ')
    c:write 'go'
    for n, f in b:results(120) do assert.same({ 6, 'go' }, { n, f:get() }) end
  end)

  it('is fed and emptied by any thread', function()
    local p = ipc.pool(2)
    local b = p:batch()
    local m = ipc.map(2, function(b)
      for i = 1, 20 do b:submit(function(i) return i end, i) end
    end, b)
    m:join()
    assert.equal(40, b:pending())
    local sums = { ipc.map(2, function(b)
      local sum = 0
      while true do
        local _, f = b:next()
        if not f then return sum end
        sum = sum + f:get()
      end
    end, b):join() }
    assert.equal(420, sums[1] + sums[2])
  end)
end)

describe('the end of a pool', function()
  it('close finishes what is queued, takes no more, and ends the workers', function()
    local p, total = ipc.pool(2, { name = 'spec-close' }), ipc.atomic(0)
    for _ = 1, 50 do p:submit(function(total) total:add(1) end, total) end
    p:close()
    assert.equal(50, total:get())
    threads('spec%-close', 0)
    assert.equal('closed', ipc.errcode(fails(p.submit, p, type, 1)))
    p:close()
    has(tostring(p), 'closed', '0 workers')
  end)

  it('close waits no longer than it is told, and can be called again', function()
    local p, q = ipc.pool(1), ipc.workqueue()
    local f = blocked(p, q)
    local second = p:submit(type, 1)
    has(fails(p.close, p, 0.01), '[timeout]', '1 of its tasks still run', '1 wait')
    assert.equal('closed', ipc.errcode(fails(p.submit, p, type, 1)))
    f:cancel()
    p:close()
    assert.equal('number', second:get())
  end)

  it('cancel drops what is queued and ends what runs', function()
    local p, q = ipc.pool(1), ipc.workqueue()
    local first = blocked(p, q)
    local second = p:submit(type, 1)
    p:cancel()
    p:cancel()
    has(failure(first), '[cancelled]', 'while it ran')
    has(failure(second), '[cancelled]', 'before it ran')
    assert.equal('closed', ipc.errcode(fails(p.submit, p, type, 1)))
    p:close()
  end)

  it('cancel ends an init that waits, too', function()
    local p = ipc.pool(1, { init = function() require('libipc').sleep(1000) end })
    local f = p:submit(type, 1)
    p:cancel()
    has(failure(f), '[cancelled]')
    p:close()
  end)

  it('is not waited for by its own tasks', function()
    local p = ipc.pool(1)
    has(failure(p:submit(function(p) p:close() end, p)), '[state]', 'pool')
    p:close()
  end)

  it('a pool that is collected does what was submitted, and its threads go', function()
    local total = ipc.atomic(0)
    local f
    do
      local p = ipc.pool(2, { name = 'spec-gone' })
      for _ = 1, 20 do f = p:submit(function(total) return total:add(1) end, total) end
    end
    collectgarbage()
    collectgarbage()
    f:get()
    threads('spec%-gone', 0)
    assert.equal(20, total:get())
  end)

  it('lets go of what its tasks were handed', function()
    local p, inner = ipc.pool(1), ipc.workqueue 'spec-pool-inner'
    p:submit(function(q) q:pending() end, inner):get()
    inner:close()
    -- The name is free once nobody holds the queue: the idle worker has collected its garbage.
    support.eventually(function()
      local q, creator = ipc.workqueue 'spec-pool-inner'
      q:close()
      return creator == 1
    end)
  end)

  it('lets go of a long chain of results in results', function()
    support.check [[
      local ipc = require 'libipc'
      local p = ipc.pool(1)
      local f = p:submit(function() end)
      for _ = 1, 30000 do
        f = p:submit(function(f) return f end, f)
        if not f:get(120) then break end
      end
      f = nil
      collectgarbage() collectgarbage()
      p:close()
    ]]
  end)

  it('keeps no memory of tasks that are done', function()
    if support.in_tsan then return pending 'ThreadSanitizer keeps memory of its own' end
    support.check [[
      local ipc = require 'libipc'
      local function resident()
        for line in io.lines '/proc/self/status' do
          local kb = line:match '^VmRSS:%s*(%d+)'
          if kb then return tonumber(kb) end
        end
      end
      local p = ipc.pool(1)
      local function run(n)
        for i = 1, n, 100 do
          local futures = {}
          for j = 1, 100 do futures[j] = p:submit(function(x) return { x } end, i) end
          for j = 1, 100 do assert(futures[j]:get()[1] == i) end
        end
        collectgarbage()
        collectgarbage()
      end
      if io.open '/proc/self/status' then
        run(3000)
        local before = resident()
        run(15000)
        local grown = resident() - before
        assert(grown < 3000, grown .. ' KB more')
      end
    ]]
  end)

  it('does not keep a program from its end, with its exit code, whatever the tasks do', function()
    for _, task in ipairs { 'require("libipc").sleep(1000)', 'while true do end', 'local x = 1' } do
      local r = support.run(([[
        local ipc = require 'libipc'
        p = ipc.pool(2)
        for _ = 1, 10 do f = p:submit(function() %s end) end
        os.exit(7)
      ]]):format(task))
      assert.same({ 7, '', '' }, { r.status, r.stdout, r.stderr })
      r = support.run(([[
        local ipc = require 'libipc'
        local p = ipc.pool(2)
        for _ = 1, 10 do p:submit(function() %s end) end
      ]]):format(task))
      assert.same({ 0, '', '' }, { r.status, r.stdout, r.stderr })
    end
  end)
end)

describe('a fork', function()
  it('leaves the pool to the parent, and its done futures to both', function()
    local out = support.check [[
      local ipc = require 'libipc'
      local p = ipc.pool(2)
      local done = p:submit(function() return 5 end)
      done:get()
      local q = ipc.workqueue()
      local open = p:submit(function(q) return q:read() end, q)
      local b = p:batch()
      b:submit(function(q) return q:read() end, q)
      local pid = ipc.fork()
      if pid == 0 then
        local function code(f, ...) return ipc.errcode(select(2, pcall(f, ...))) end
        assert(done:get() == 5 and done:done() and not open:done())
        for _, e in ipairs { code(open.get, open, 5), code(open.cancel, open), code(p.submit, p, type, 1),
          code(p.map, p, type, { 1 }), code(b.next, b, 5), code(p.cancel, p), code(p.close, p) } do
          assert(e == 'state', e)
        end
        local mine = ipc.pool(2)
        assert(mine:submit(function() return 6 end):get() == 6)
        mine:close()
        os.exit(9)
      end
      print(ipc.waitpid(pid))
      q:write(1, 2)
      print(open:get())
      p:close()
    ]]
    assert.is_truthy(out:match '^9\n[12]\n$')
  end)

  it('in a task ends the child with the task', function()
    local out = support.check [[
      local ipc = require 'libipc'
      local p = ipc.pool(1)
      local pid = p:submit(function() return require('libipc').fork() end):get()
      print(ipc.waitpid(pid))
      print(p:submit(type, 1):get())
    ]]
    assert.equal('0\nnumber\n', out)
  end)
end)
