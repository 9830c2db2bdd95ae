-- §11: BackgroundTask and BackgroundTaskPool, which are called with a dot.
-- luacheck: ignore 431 432 433 (what goes to a thread has the same name there)
local support = require 'spec.support'
local ipc = require 'libipc'
local BackgroundTask = require 'ipc.BackgroundTask'
local BackgroundTaskPool = require 'ipc.BackgroundTaskPool'

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

local function count(...) return select('#', ...), { ... } end

local function echo(...) return ... end

-- Waits for a word in `q`, and returns `v`.
local function after_word(q, v)
  q:read()
  return v
end

describe('an error value that is no string', function()
  it('is raised by getResult as it is', function()
    local function coded() error { code = 5 } end
    local task = require 'ipc.BackgroundTask'(coded)
    local ok, e = pcall(task.getResult)
    assert.is_true(not ok and type(e) == 'table' and e.code == 5)
    local pool = require 'ipc.BackgroundTaskPool'(1)
    ok, e = pcall(pool.getResult, pool.addTask(coded))
    assert.is_true(not ok and type(e) == 'table' and e.code == 5)
    pool.close()
  end)
end)

describe('BackgroundTask', function()
  it('runs beside this thread, and getResult gives all that it returned, again and again', function()
    local q = ipc.workqueue()
    local task = BackgroundTask(after_word, q, 'done')
    assert.is_false(task.isDone())
    q:write 'go'
    assert.equal('done', task.getResult())
    assert.equal('ipc.BackgroundTask: done', tostring(task))
    assert.is_true(task.isDone())
    assert.equal('done', task.getResult())
    local n, r = count(BackgroundTask(echo, nil, 2, nil).getResult())
    assert.equal(3, n)
    assert.equal(2, r[2])
  end)

  it('raises the error of the task with its traceback, at the line of the caller', function()
    local task = BackgroundTask(function() error 'disk full' end)
    local e = fails(function() local r = task.getResult() return r end)
    assert.equal('worker', ipc.errcode(e))
    has(e, 'disk full', 'stack traceback', 'background_spec.lua')
    assert.is_nil(e:find('BackgroundTask.lua', 1, true))
    assert.is_true(task.isDone())
  end)

  it('refuses what is no function, and values that cannot travel', function()
    has(fails(BackgroundTask), '[argument]', 'expected a function', 'nil')
    has(fails(BackgroundTask, echo, io.stdout), '[unsupported]', 'argument #2')
    local up = 1
    local e = fails(BackgroundTask, function() return up end)
    has(e, '[unsupported]', "'up'", 'pass it as an argument')
    assert.is_nil(e:find('ipc.pool(', 1, true))
    has(e, 'BackgroundTask: the function')
    has(fails(BackgroundTaskPool(1).addTask, function() return up end),
      'pass it as an argument, or BackgroundTaskPool(n, { upvalues = true })')
  end)

  it('names the calls that were made, not those that they stand on', function()
    local go = ipc.channel()
    local task = BackgroundTask(function(its) return select(2, its:read()) end, go)
    has(fails(task.getResult, 0.01), '[timeout] BackgroundTask.getResult: ')
    go:write(1)
    assert.equal(1, task.getResult())
    local pool = BackgroundTaskPool(1)
    pool.close()
    has(fails(pool.addTask, echo), '[closed] BackgroundTaskPool.addTask: ')
  end)

  it('can be waited for in time, and cancelled', function()
    -- Held to the end: the collection of its owner's handle closes a queue.
    local q = ipc.workqueue()
    local task = BackgroundTask(after_word, q)
    has(fails(task.getResult, 0.01), '[timeout]')
    assert.is_true(task.cancel())
    assert.equal('cancelled', ipc.errcode(fails(task.getResult)))
    assert.is_false(task.cancel())
    assert.equal(0, q:pending())
  end)

  it('goes on when nobody holds it any more', function()
    local total = ipc.atomic(0)
    for _ = 1, 3 do BackgroundTask(function(total) total:add(1) end, total) end
    collectgarbage()
    support.eventually(function() return total:get() == 3 end)
  end)
end)

describe('BackgroundTaskPool', function()
  it('gives each task an id, and its result by that id', function()
    local pool = BackgroundTaskPool(2)
    assert.is_false(pool.hasTask())
    local ids = {}
    for i = 1, 5 do ids[i] = pool.addTask(echo, i, nil, 'more') end
    assert.same({ 1, 2, 3, 4, 5 }, ids)
    for i = 5, 1, -1 do
      local n, r = count(pool.getResult(i))
      assert.equal(3, n)
      assert.same({ i, nil, 'more' }, r)
    end
    assert.is_false(pool.hasTask())
    pool.close()
  end)

  it('gives without an id the result of the task that ended first of those that are left', function()
    local pool, q = BackgroundTaskPool(2), ipc.workqueue()
    local slow = pool.addTask(after_word, q, 'slow')
    pool.addTask(echo, 'first')
    pool.addTask(echo, 'second')
    local third = pool.addTask(echo, 'third')
    assert.equal('first', pool.getResult())
    assert.equal('third', pool.getResult(third))
    assert.equal('second', pool.getResult())
    has(fails(pool.getResult, nil, 0.01), '[timeout]')
    has(fails(pool.getResult, slow, 0), '[timeout]')
    q:write 'go'
    assert.equal('slow', pool.getResult())
    has(fails(pool.getResult), '[state]', 'no task')
  end)

  it('gives nothing for a task whose result was taken, and for one that is not there', function()
    local pool = BackgroundTaskPool(1)
    local id = pool.addTask(echo, 5)
    assert.equal(5, pool.getResult(id))
    assert.equal(0, (count(pool.getResult(id))))
    assert.equal(0, (count(pool.getResult(77))))
    assert.is_true(pool.isDone(id))
    assert.is_true(pool.isDone(77))
  end)

  it('has a task as long as one is unfinished', function()
    local pool, q = BackgroundTaskPool(2), ipc.workqueue()
    assert.is_false(pool.hasTask())
    local slow, quick = pool.addTask(after_word, q, 'slow'), pool.addTask(echo, 'quick')
    assert.is_true(pool.isDone(quick, true))
    assert.is_true(pool.hasTask())
    q:write 'go'
    support.eventually(function() return not pool.hasTask() end)
    -- The results are there all the same.
    assert.same({ 'slow', 'quick' }, { pool.getResult(slow), pool.getResult(quick) })
  end)

  it('takes a colon as well as a dot', function()
    local pool = BackgroundTaskPool(1, { upvalues = true })
    local id = pool:addTask(echo, 5, 6)
    assert.is_true(pool:isDone(id, true))
    assert.is_false(pool:hasTask())
    assert.same({ 5, 6 }, { pool:getResult(id) })
    pool:close { timeout = 60 }
    local task = BackgroundTask(echo, 7)
    assert.equal(7, task:getResult { timeout = 60 })
    assert.is_true(task:isDone())
    assert.is_false(task:cancel())
  end)

  it('tells which tasks are done, or whether all are, and waits when asked', function()
    local pool, q = BackgroundTaskPool(2), ipc.workqueue()
    assert.is_true(pool.isDone())
    local slow, quick = pool.addTask(after_word, q), pool.addTask(echo, 1)
    assert.is_true(pool.isDone(quick, true))
    assert.is_false(pool.isDone(slow))
    assert.is_false(pool.isDone(slow, 0.01))
    assert.is_false(pool.isDone())
    assert.is_false(pool.isDone(nil, 0.01))
    q:write 'go'
    assert.is_true(pool.isDone(nil, true))
    assert.is_true(pool.isDone(slow))
    assert.equal(1, pool.getResult(quick))
    assert.is_true(pool.isDone(quick))
  end)

  it('has a bounded number of tasks at a time', function()
    local pool, now, most = BackgroundTaskPool(2), ipc.atomic(0), ipc.atomic(0)
    for _ = 1, 30 do
      pool.addTask(function(now, most)
        local n = now:add(1)
        if n > most:get() then most:set(n) end
        now:add(-1)
      end, now, most)
    end
    pool.close()
    assert.is_true(most:get() <= 2)
  end)

  it('raises the error of a task with its traceback, once, and goes on', function()
    local pool = BackgroundTaskPool(1)
    local id = pool.addTask(function() error 'disk full' end)
    pool.addTask(echo, 'fine')
    local e = fails(function() local r = pool.getResult(id) return r end)
    assert.equal('worker', ipc.errcode(e))
    has(e, 'disk full', 'stack traceback', 'background_spec.lua')
    assert.equal('fine', pool.getResult())
    assert.is_false(pool.hasTask())
  end)

  it('closes when the last result was taken, if asked', function()
    local pool = BackgroundTaskPool(1, { closeOnLastTask = true })
    pool.addTask(echo, 1)
    pool.addTask(echo, 2)
    assert.equal(1, pool.getResult())
    pool.addTask(echo, 3)
    assert.equal(2, pool.getResult())
    assert.equal(3, pool.getResult())
    assert.equal('closed', ipc.errcode(fails(pool.addTask, echo, 4)))
    local stays = BackgroundTaskPool(1)
    assert.equal(1, stays.getResult(stays.addTask(echo, 1)))
    assert.equal(2, stays.getResult(stays.addTask(echo, 2)))
  end)

  it('calls onProgress in this thread, for each task that it notices', function()
    local seen = {}
    local pool = BackgroundTaskPool(2, {
      onProgress = function(done, total) seen[#seen + 1] = done .. '/' .. total end,
    })
    for i = 1, 3 do pool.addTask(echo, i) end
    assert.is_true(pool.isDone(nil, true))
    assert.same({ '1/3', '2/3', '3/3' }, seen)
    pool.addTask(echo, 4)
    pool.close()
    assert.equal('4/4', seen[4])
  end)

  it('takes upvalues along when asked', function()
    local scale = 3
    local function triple(x) return x * scale end
    has(fails(BackgroundTaskPool(1).addTask, triple, 2), '[unsupported]', "'scale'")
    local pool = BackgroundTaskPool(1, { upvalues = true })
    pool.addTask(triple, 2)
    assert.equal(6, pool.getResult())
  end)

  it('close waits for all and keeps their results, no longer than it is told', function()
    local pool, q = BackgroundTaskPool(1), ipc.workqueue()
    pool.addTask(after_word, q, 'slow')
    pool.addTask(echo, 'second')
    has(fails(pool.close, 0.01), '[timeout]')
    assert.equal('closed', ipc.errcode(fails(pool.addTask, echo)))
    q:write 'go'
    pool.close()
    pool.close()
    assert.equal('slow', pool.getResult())
    assert.equal('second', pool.getResult())
  end)

  it('cancel drops what waits and ends what runs, and the results say so', function()
    local pool, q = BackgroundTaskPool(1), ipc.workqueue()
    local running, waiting = pool.addTask(after_word, q), pool.addTask(echo, 2)
    pool.cancel()
    assert.equal('cancelled', ipc.errcode(fails(pool.getResult, waiting)))
    assert.equal('cancelled', ipc.errcode(fails(pool.getResult, running)))
    assert.equal('closed', ipc.errcode(fails(pool.addTask, echo)))
  end)

  it('refuses wrong arguments', function()
    for _, bad in ipairs { 0, 1.5, 'two', true } do
      assert.equal('argument', ipc.errcode(fails(BackgroundTaskPool, bad)))
    end
    has(fails(BackgroundTaskPool), 'argument #1', 'expected a number')
    has(fails(BackgroundTaskPool, 1, 5), 'argument #2', 'expected a table')
    has(fails(BackgroundTaskPool, 1, { onProgress = 5 }), "option 'onProgress'", 'function', 'number')
    has(fails(BackgroundTaskPool, 1, { closeOnLastTask = 1 }), "option 'closeOnLastTask'", 'boolean')
    has(fails(BackgroundTaskPool, 1, { upvalue = true }), "unknown option 'upvalue'")
    local pool = BackgroundTaskPool(1)
    has(pool, 'ipc.BackgroundTaskPool: open, 1 worker, 0 tasks running')
    has(fails(pool.addTask, 5), '[argument]', 'expected a function')
    has(fails(pool.isDone, 'x'), '[argument]', 'expected a number')
    has(fails(pool.isDone, nil, 'x'), '[argument]')
    has(fails(pool.getResult, {}), '[argument]')
  end)
end)
