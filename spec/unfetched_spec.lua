-- §0: an error that nobody fetched is told on stderr, once.
local support = require 'spec.support'

-- How often `text` stands in what a program wrote to stderr.
local function times(r, text)
  local n = 0
  for _ in r.stderr:gmatch((text:gsub('%p', '%%%0'))) do n = n + 1 end
  return n
end

local told = 'libipc: an error that nobody fetched, of '

local function run(code, options)
  local r = support.run("local ipc = require 'libipc'\n" .. code, options)
  assert.is_false(r.timed_out)
  return r
end

describe('an error that nobody fetched', function()
  it('is told at the end of the program, which keeps its code', function()
    local r = run [[
      local p = ipc.pool(1) p:submit(function() error 'lost' end) p:close()
      local m = ipc.map(1, function() error 'gone too' end)
      while m:poll() > 0 do ipc.sleep(0.01) end
    ]]
    assert.equal(0, r.status)
    assert.equal(1, times(r, told .. 'task 1 of ipc.pool: '), r.stderr)
    assert.equal(1, times(r, ': lost\n'), r.stderr)
    assert.equal(1, times(r, told .. 'thread 1 of 1 of ipc.map: '), r.stderr)
    assert.equal(1, times(r, ': gone too\n'), r.stderr)
    -- Where it was raised is told, too.
    assert.equal(2, times(r, 'stack traceback:'), r.stderr)
    assert.equal('', r.stdout)
  end)

  it('is told where the program ends by os.exit', function()
    local r = run [[
      local m = ipc.map(2, function(id) if id == 2 then error 'lost by exit' end end)
      local f = ipc.pool(1, { name = 'loader' }):submit(error, 'lost as well')
      while not f:done() or m:poll() > 0 do ipc.sleep(0.01) end
      os.exit(3)
    ]]
    assert.equal(3, r.status)
    assert.equal(1, times(r, told .. 'thread 2 of 2 of ipc.map: '), r.stderr)
    assert.equal(1, times(r, 'lost by exit'), r.stderr)
    assert.equal(1, times(r, told .. 'task 1 of loader: '), r.stderr)
    assert.equal(1, times(r, 'lost as well'), r.stderr)
  end)

  it('is told when its holder is collected', function()
    local r = run [[
      local f = ipc.pool(1):submit(error, 'collected')
      while not f:done() do ipc.sleep(0.01) end
      f = nil
      collectgarbage() collectgarbage()
      io.stderr:write 'after that\n'
    ]]
    assert.matches('collected.*after that', r.stderr)
    assert.equal(1, times(r, 'collected'), r.stderr)
  end)

  it('of a background task is told as well, seen to be done or not', function()
    local r = run [[
      local task = require 'ipc.BackgroundTask'(function() error 'one' end)
      local pool = require 'ipc.BackgroundTaskPool'(1)
      pool.addTask(function() error 'two' end)
      local id = pool.addTask(function() error 'fetched' end)
      assert(pool.isDone(nil, true) and not pool.hasTask())
      while not task.isDone() do ipc.sleep(0.01) end
      print(pcall(pool.getResult, id))
    ]]
    assert.equal(1, times(r, ': one\n'), r.stderr)
    assert.equal(1, times(r, ': two\n'), r.stderr)
    assert.equal(0, times(r, 'fetched\n'), r.stderr)
    assert.is_truthy(r.stdout:find('fetched', 1, true))
  end)

  it('is told at once where the program waits for ever for what will not come', function()
    for _, wait in ipairs { 'q:read()', 'f:get()', 'ipc.select { q }', 'ipc.mutex():barrier(2)' } do
      local p = support.start([[
        local ipc = require 'libipc'
        local q = ipc.workqueue()
        local f = ipc.pool(1):submit(function(q) require 'libipc'.channel():read() end)
        local m = ipc.map(1, function(q) error 'the worker died' end, q)
        ]] .. wait)
      support.eventually(function() return select(2, p:output()):find('the worker died', 1, true) end)
      assert.is_true(p:running())
      p:kill 'KILL'
      assert.equal(1, times(p:wait(), told), wait)
    end
  end)

  it('is not told while the program waits with a time-out, or is about to ask', function()
    local r = run [[
      local f = ipc.pool(1):submit(error, 'asked for in time')
      for _ = 1, 3 do ipc.channel():read(0.7) end
      print(pcall(f.get, f))
    ]]
    assert.equal('', r.stderr)
    assert.is_truthy(r.stdout:find('asked for in time', 1, true))
  end)

  it('is not told to a program that has waited for just this error for long', function()
    local calls = {
      join = 'ipc.map(1, fails):join()', get = 'p:submit(fails):get()', map = 'p:map(fails, { 1 })',
      results = 'for _ in ipc.map(1, fails):results() do end', task = "require 'ipc.BackgroundTask'(fails).getResult()",
    }
    local all = {}
    for name, call in pairs(calls) do
      for _ = 1, 3 do
        all[#all + 1] = { name, support.start([[
          local ipc = require 'libipc'
          local p = ipc.pool(1)
          local function fails() require 'libipc'.sleep(1.3) error 'PAPER' end
          local ok, e = pcall(function() ]] .. call .. [[ end)
          assert(not ok and tostring(e):find 'PAPER')
        ]]) }
      end
    end
    for _, one in ipairs(all) do
      local r = one[2]:wait()
      assert.equal(0, r.status, r.stderr)
      assert.equal('', r.stderr, one[1])
    end
  end)

  it('is one that neither join, get, results, checkErrors nor a batch gave', function()
    local r = run [[
      local function fails(id) error('thread ' .. id) end
      local m = ipc.map(3, fails)
      for _ = 1, 3 do print(pcall(m.join, m)) end
      m = ipc.map(2, fails)
      while m:poll() > 0 do ipc.sleep(0.01) end
      for _ = 1, 2 do print(pcall(m.checkErrors, m)) end
      m = ipc.map(2, fails)
      for _ = 1, 2 do print(pcall(function() for _ in m:results() do end end)) end
      local p = ipc.pool(2)
      local f = p:submit(error, 'a task')
      print(pcall(f.get, f))
      local b = p:batch()
      for i = 1, 3 do b:submit(error, i) end
      assert(b:next())
      for _, future in b:results() do assert(future:done()) end
      -- One error of a list stands for those of the others.
      print(pcall(p.map, p, error, { 1, 2, 3, 4, 5, 6, 7, 8 }))
      print(pcall(function() for _ in p:each(error, { 1, 2, 3, 4, 5, 6, 7, 8 }) do end end))
      p:close()
    ]]
    assert.equal('', r.stderr)
    assert.equal(0, r.status)
  end)

  it('is none of a cancel', function()
    local r = run [[
      local function waits() require 'libipc'.channel():read() end
      local m, p = ipc.map(2, waits), ipc.pool(1)
      local f, g = p:submit(waits), p:submit(waits)
      ipc.sleep(0.1)
      m:cancel()
      f:cancel()
      p:cancel()
      ipc.map(2, waits)
      local lost = ipc.pool(2):submit(waits)
      ipc.sleep(0.1)
    ]]
    assert.equal('', r.stderr)
    assert.equal(0, r.status)
  end)

  it('of the parent is not told in a forked child', function()
    local r = run [[
      local f = ipc.pool(1):submit(error, 'of the parent')
      while not f:done() do ipc.sleep(0.01) end
      local pid = ipc.fork()
      if pid == 0 then
        f = nil
        collectgarbage() collectgarbage()
        os.exit(0)
      end
      ipc.waitpid(pid)
      print(pcall(f.get, f))
    ]]
    assert.equal('', r.stderr)
    assert.equal(0, r.status)
  end)

  it('is not told with IPC_LOG=off', function()
    local r = run([[ ipc.pool(1):submit(error, 'silent'):done() ipc.sleep(0.1) ]], { env = { IPC_LOG = 'off' } })
    assert.equal('', r.stderr)
    assert.equal(0, r.status)
  end)

  it('of a thread that a thread has started is told', function()
    local r = run [[
      ipc.map(1, function()
        local ipc = require 'libipc'
        local f = ipc.pool(1):submit(error, 'deep down')
        while not f:done() do ipc.sleep(0.01) end
      end):join()
    ]]
    assert.equal(1, times(r, 'deep down'), r.stderr)
    assert.equal(0, r.status)
  end)
end)
