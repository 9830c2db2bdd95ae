-- §6: mutex, barrier, atomic numbers, with real threads.
-- luacheck: ignore 431 (what goes to a thread has the same name there)
local support = require 'spec.support'
local ipc = require 'libipc'

local function code(f, ...) return ipc.errcode(support.fails(f, ...)) end

describe('mutex', function()
  it('excludes other threads and is recursive', function()
    local m, n = ipc.mutex(), ipc.atomic(0)
    local threads = ipc.map(4, function(m, n)
      for _ = 1, 500 do
        m:lock()
        m:lock()
        -- Read and write apart: only the mutex makes them one step.
        local v = n:get()
        m:unlock()
        n:set(v + 1)
        m:unlock()
      end
    end, m, n)
    threads:join()
    assert.equal(2000, n:get())
  end)

  it('is unlocked by its holder alone', function()
    local m = ipc.mutex()
    assert.equal('state', code(m.unlock, m))
    m:lock()
    local other = ipc.map(1, function(m)
      local ok, e = pcall(m.unlock, m)
      return not ok and e
    end, m):join()
    assert.equal('state', ipc.errcode(other))
    m:unlock()
    assert.equal('state', code(m.unlock, m))
  end)

  it('belongs to the Lua state: its coroutines share it', function()
    local m = ipc.mutex()
    coroutine.wrap(function() m:lock() end)()
    assert.is_true(m:trylock())
    m:unlock()
    coroutine.wrap(function() m:unlock() end)()
    assert.equal('state', code(m.unlock, m))
  end)

  it('does not wait longer than told', function()
    local m = ipc.mutex()
    m:lock()
    local tried, waited, lock, e, now = ipc.map(1, function(m)
      local ipc = require 'libipc'
      local start = ipc.clock()
      local waited = not m:trylock(0.05) and ipc.clock() - start
      return m:trylock(), waited, pcall(m.lock, m, 0.01), select(2, pcall(m.lock, m, true))
    end, m):join()
    assert.is_false(tried)
    assert.is_true(waited >= 0.05)
    assert.is_false(lock)
    assert.equal('timeout', ipc.errcode(e or now))
    m:unlock()
    assert.is_true(ipc.map(1, function(m) return m:trylock() end, m):join())
  end)

  it('is free again when the thread that held it has ended', function()
    local m = ipc.mutex()
    ipc.map(1, function(m) m:lock() m:lock() end, m):join()
    m:lock(60)
    m:unlock()
    local threads = ipc.map(1, function(m)
      m:lock()
      error 'with the mutex held'
    end, m)
    assert.matches('with the mutex held', support.fails(threads.join, threads))
    m:lock(60)
    m:unlock()
  end)

  it('tells the next one to lock it, once, that its holder ended', function()
    local m = ipc.mutex()
    assert.equal(0, select('#', m:lock()))
    m:unlock()
    assert.equal(1, select('#', m:trylock()))
    m:unlock()
    local function leave() ipc.map { threads = 1, fn = function(m) m:lock() end, args = { m }, name = 'leaver' }:join() end
    leave()
    assert.matches("^thread 'leaver 1' ended", m:lock(60))
    assert.equal(0, select('#', m:lock()))
    m:unlock()
    m:unlock()
    assert.equal(0, select('#', m:lock()))
    m:unlock()
    leave()
    -- `with` does not tell, and leaves it to the next one who asks.
    assert.equal(7, m:with(function() return 7 end))
    local taken, left = m:trylock(60)
    assert.is_true(taken)
    assert.matches("^thread 'leaver 1' ended", left)
    m:unlock()
    -- To let the last handle go is the same.
    local worker = ipc.map(1, function(m)
      m:lock()
      m = nil -- luacheck: ignore 311
      collectgarbage()
      collectgarbage()
    end, m)
    worker:join()
    assert.is_string(m:lock(60))
    m:unlock()
  end)

  it('stays locked while the state has another handle of it', function()
    local q = ipc.workqueue()
    local m = ipc.mutex()
    ipc.map(1, function(q, m) q:write(m, m) end, q, m):join()
    local one, two = q:read(), q:read()
    one:lock()
    one = nil -- luacheck: ignore 311
    collectgarbage()
    collectgarbage()
    assert.is_false(ipc.map(1, function(m) return m:trylock() end, m):join())
    two:unlock()
    q:close()
  end)

  it('runs a function with the lock held and unlocks however it ends', function()
    local m = ipc.mutex()
    local function held() return not ipc.map(1, function(m) return m:trylock() end, m):join() end
    local r = { m:with(function(...) return held(), select('#', ...), ... end, 1, nil, 3) }
    assert.same({ true, 3, 1, nil, 3 }, r)
    assert.is_false(held())
    assert.equal(0, select('#', m:with(function() end)))
    local thrown = {}
    local ok, e = pcall(m.with, m, function() error(thrown) end)
    assert.is_false(ok)
    assert.equal(thrown, e)
    assert.is_false(held())
    assert.equal('state', code(m.with, m, function() m:unlock() end))
    assert.equal('argument', code(m.with, m))
    assert.is_false(held())
  end)

  it('lets a barrier go once all are there, again and again', function()
    local m, arrived = ipc.mutex(), ipc.atomic(0)
    local rounds = 200
    local threads = ipc.map(3, function(m, arrived, rounds)
      for round = 1, rounds do
        arrived:add(1)
        m:barrier(4)
        if arrived:get() < 4 * round then return 'left before all were there' end
        m:barrier(4)
        if arrived:get() > 4 * round then return 'came before all had left' end
        m:barrier(4)
      end
      return 'fine'
    end, m, arrived, rounds)
    for round = 1, rounds do
      arrived:add(1)
      m:barrier(4)
      assert(arrived:get() >= 4 * round)
      m:barrier(4)
      assert(arrived:get() <= 4 * round)
      m:barrier(4)
    end
    assert.same({ 'fine', 'fine', 'fine' }, { threads:join() })
    m:barrier(1)
  end)

  it('fails all callers of a barrier that disagree about n', function()
    local m = ipc.mutex()
    for _ = 1, 20 do
      local threads = ipc.map(3, function(m, id)
        local ipc = require 'libipc'
        local ok, e = pcall(m.barrier, m, id == 2 and 2 or 3, 60)
        return not ok and ipc.errcode(e)
      end, m)
      assert.same({ 'mismatch', 'mismatch', 'mismatch' }, { threads:join() })
      threads = ipc.map(3, function(m) m:barrier(3, 60) end, m)
      threads:join()
    end
  end)

  it('counts a caller of a barrier no more that has timed out', function()
    local m = ipc.mutex()
    assert.equal('timeout', code(m.barrier, m, 2, 0.01))
    assert.equal('timeout', code(m.barrier, m, 3, true))
    local threads = ipc.map(1, function(m) m:barrier(2, 60) end, m)
    m:barrier(2, 60)
    threads:join()
  end)

  it('goes on in a child of a fork without the threads that are not there', function()
    support.check [[
      local ipc = require 'libipc'
      local m, mine, ready = ipc.mutex(), ipc.mutex(), ipc.workqueue()
      mine:lock()
      local threads = ipc.map(2, function(m, ready, id)
        if id == 1 then m:lock() end
        ready:write(true)
        m:barrier(3)
        if id == 1 then m:unlock() end
      end, m, ready)
      ready:read() ready:read()
      local pid = ipc.fork()
      if pid == 0 then
        mine:unlock()
        assert(m:lock(60):find('not in this child of a fork', 1, true))
        m:unlock()
        assert(m:lock(60) == nil)
        m:unlock()
        assert(not pcall(m.barrier, m, 2, 0))
        m:barrier(1)
        os.exit(0)
      end
      assert(ipc.waitpid(pid, 60) == 0)
      assert(not m:trylock(), 'in the parent it is held')
      m:barrier(3, 60)
      threads:join()
      mine:unlock()
    ]]
  end)

  it('says what it is', function()
    local m = ipc.mutex()
    assert.equal('ipc.mutex', ipc.type(m))
    assert.equal('ipc.mutex: unlocked', tostring(m))
    m:lock()
    assert.equal('ipc.mutex: locked by this thread', tostring(m))
    assert.equal('ipc.mutex: locked by another thread', ipc.map(1, function(m) return tostring(m) end, m):join())
    m:unlock()
  end)

  it('refuses wrong arguments', function()
    local m = ipc.mutex()
    for _, n in ipairs { 0, -1, 1.5, 2 ^ 40, 'x', {} } do assert.equal('argument', code(m.barrier, m, n)) end
    assert.equal('argument', code(m.barrier, m))
    assert.equal('argument', code(m.lock, m, 'x'))
    assert.equal('argument', code(m.lock, m, -1))
    assert.equal('argument', code(m.lock))
    assert.equal('argument', code(m.lock, ipc.atomic()))
    assert.matches('expected an ipc.mutex as self', support.fails(m.unlock, 1))
  end)
end)

describe('atomic', function()
  it('adds from many threads and loses nothing', function()
    local a = ipc.atomic()
    ipc.map(4, function(a)
      for _ = 1, 5000 do a:add(1) end
    end, a):join()
    assert.equal(20000, a:get())
  end)

  it('swaps only from the expected value', function()
    local a = ipc.atomic(1)
    assert.is_true(a:cas(1, 2))
    local done, held = a:cas(1, 3)
    assert.is_false(done)
    assert.equal(2, held)
    assert.equal(2, a:set(7.5))
    assert.equal(8, a:add(0.5))
    local nan = ipc.atomic(0 / 0)
    assert.is_false((nan:cas(0 / 0, 1)))
  end)

  it('keeps integers and floats apart where Lua does', function()
    local a = ipc.atomic(2)
    assert.equal('3', tostring(a:add(1)))
    if support.has_integers then
      assert.equal('4.0', tostring(a:add(1.0)))
      a:set(math.maxinteger)
      assert.equal(math.mininteger, a:add(1))
      assert.equal('integer', math.type(ipc.atomic():get()))
    end
  end)

  it('refuses what is not a number', function()
    assert.equal('argument', code(ipc.atomic, 'x'))
    local a = ipc.atomic()
    assert.equal('argument', code(a.add, a))
    assert.equal('argument', code(a.cas, a, 1))
    assert.equal('argument', code(a.set, a, '1'))
    assert.equal('ipc.atomic: 0', tostring(a))
  end)
end)
