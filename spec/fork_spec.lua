-- §10, without spawn: fork, waitpid, sleep, clock, cpus.
-- luacheck: ignore 431 (what goes to a thread has the same name there)
local support = require 'spec.support'
local ipc = require 'libipc'

local function code(f, ...) return ipc.errcode(support.fails(f, ...)) end

-- The number of a process that runs for minutes, and is a child of this one.
local function sleeper()
  local pid = ipc.fork()
  if pid == 0 then
    ipc.sleep(200)
    os.exit(0)
  end
  return pid
end

local function kill(pid, signal) os.execute(('kill -%s %d'):format(signal, pid)) end

describe('fork', function()
  it('gives 0 in the child and its number in the parent', function()
    local out = support.check [[
      local ipc = require 'libipc'
      local parent = ipc.getpid()
      local pid = ipc.fork()
      if pid == 0 then
        assert(ipc.getppid() == parent)
        assert(ipc.getpid() ~= parent)
        os.exit(9)
      end
      assert(ipc.getpid() == parent)
      print(pid > 0, ipc.waitpid(pid))
    ]]
    assert.equal('true\t9\n', out)
  end)

  it('leaves the child the whole library, also when threads ran', function()
    support.check [[
      local ipc = require 'libipc'
      local q = ipc.workqueue()
      local m = ipc.map(3, function(q)
        while true do
          local n = q:read()
          if n == false then return end
          local t = {}
          for i = 1, 50 do t[i] = ('x'):rep(i) end
          q:write(t)
        end
      end, q)
      for i = 1, 10 do
        for j = 1, 10 do q:write(j) end
        local pid = ipc.fork()
        if pid == 0 then
          local inner = ipc.workqueue('inner')
          local m = ipc.map(2, function(id)
            local ipc = require 'libipc'
            local q = ipc.workqueue 'inner'
            q:write(q:read() * 2)
            return id
          end)
          inner:write(1, 2)
          assert(inner:read(60) + inner:read(60) == 6)
          local a, b = m:join()
          assert(a + b == 3)
          -- And forks again.
          local child = ipc.fork()
          if child == 0 then os.exit(5) end
          assert(ipc.waitpid(child) == 5)
          os.exit(0)
        end
        assert(ipc.waitpid(pid, 60) == 0)
      end
      q:drain(60)
      q:write(false, false, false)
      m:join()
    ]]
  end)

  it('goes on with tensors and thread objects as its own', function()
    support.check [[
      local ipc = require 'libipc'
      local torch = require 'ipc.torch'
      local t, n, m, q = torch.FloatTensor(3):fill(1), ipc.atomic(1), ipc.mutex(), ipc.workqueue()
      q:write(t)
      m:lock()
      local pid = ipc.fork()
      if pid == 0 then
        t:fill(2)
        n:add(1)
        m:unlock()
        q:write(t)
        assert(t:sum() == 6 and n:get() == 2)
        local worker = ipc.map(1, function(q, m)
          m:lock(60)
          return q:read(60):sum(), q:read(60):sum()
        end, q, m)
        local a, b = worker:join()
        assert(a == 6 and b == 6, 'the unread message holds the tensor of the child')
        os.exit(0)
      end
      assert(ipc.waitpid(pid, 60) == 0)
      assert(t:sum() == 3 and n:get() == 1 and q:pending() == 1)
      m:unlock()
      q:close()
    ]]
  end)

  it('lets the child end in order while the threads of its parent run', function()
    local out = support.check [[
      local ipc = require 'libipc'
      local m = ipc.map(2, function() require 'libipc'.sleep(200) end)
      local pid = ipc.fork()
      if pid == 0 then return end
      print(ipc.waitpid(pid, 100))
      os.exit(0)
    ]]
    assert.equal('0\n', out)
  end)

  it('goes on in the child of io.popen and os.execute too', function()
    local m = ipc.map(2, function()
      local p = io.popen 'echo from a thread'
      local s = p:read '*a'
      p:close()
      return s
    end)
    assert.equal('from a thread\n', (m:join()))
  end)
end)

describe('waitpid', function()
  it('gives the exit code', function()
    local pid = ipc.fork()
    if pid == 0 then os.exit(42) end
    assert.same({ 42 }, { ipc.waitpid(pid) })
  end)

  it('gives 128 + n and the name of the signal that ended it', function()
    for signal, n in pairs { KILL = 9, TERM = 15, SEGV = 11 } do
      local pid = sleeper()
      kill(pid, signal)
      assert.same({ 128 + n, 'SIG' .. signal }, { ipc.waitpid(pid) })
    end
  end)

  it('stops waiting in time and can go on later', function()
    local pid = sleeper()
    local start = ipc.clock()
    assert.equal('timeout', code(ipc.waitpid, pid, 0.05))
    assert.is_true(ipc.clock() - start >= 0.05)
    assert.equal('timeout', code(ipc.waitpid, pid, 0))
    assert.equal('timeout', code(ipc.waitpid, pid, true))
    kill(pid, 'KILL')
    assert.equal(137, (ipc.waitpid(pid, 60)))
  end)

  it('tells the end of a child once, and of others never', function()
    local pid = ipc.fork()
    if pid == 0 then os.exit(0) end
    assert.equal(0, ipc.waitpid(pid))
    assert.equal('state', code(ipc.waitpid, pid))
    assert.equal('state', code(ipc.waitpid, ipc.getppid()))
  end)

  it('does not end for the end of another child', function()
    local long, short = sleeper(), ipc.fork()
    if short == 0 then os.exit(1) end
    assert.equal('timeout', code(ipc.waitpid, long, 0.1))
    assert.equal(1, ipc.waitpid(short, 60))
    kill(long, 'KILL')
    assert.equal(137, (ipc.waitpid(long)))
  end)

  it('stalls no other thread', function()
    local pid = sleeper()
    local idle = ipc.workqueue()
    local readers = ipc.map(2, function(idle) return idle:read() end, idle)
    local m = ipc.map(1, function(pid)
      local ipc = require 'libipc'
      return ipc.waitpid(pid, 60)
    end, pid)
    local q = ipc.workqueue()
    local worker = ipc.map(1, function(q) q:write(q:read() + 1) end, q)
    q:write(1)
    assert.equal(2, q:read(60))
    worker:join()
    assert.equal(1, m:poll())
    assert.equal(2, readers:poll())
    kill(pid, 'KILL')
    assert.same({ 137, 'SIGKILL' }, { m:join() })
    idle:write('a', 'a')
    assert.same({ 'a', 'a' }, { readers:join() })
  end)

  it('refuses what is not a child process', function()
    for _, pid in ipairs { 0, -1, 1.5, 2 ^ 40, 'x', {} } do assert.equal('argument', code(ipc.waitpid, pid)) end
    assert.equal('argument', code(ipc.waitpid))
    assert.equal('argument', code(ipc.waitpid, ipc.getpid(), 'x'))
  end)
end)

describe('the system', function()
  it('numbers processes and threads', function()
    assert.equal('ok', support.sh(('test -d /proc/%d && echo ok'):format(ipc.getpid())))
    assert.equal('ok', support.sh(('test -d /proc/%d/task/%d && echo ok'):format(ipc.getpid(), ipc.gettid())))
    local a, b = ipc.map(2, function() return require('libipc').gettid() end):join()
    assert.is_true(a ~= b and a ~= ipc.gettid())
    assert.is_true(ipc.getppid() > 0)
  end)

  it('says what it runs on', function()
    assert.equal('boolean', type(ipc.isDevel()))
    assert.equal(support.sh 'uname' == 'Darwin', ipc.isOSX())
  end)

  it('sleeps as long as told', function()
    for _, seconds in ipairs { 0, 0.001, 0.05 } do
      local start = ipc.clock()
      ipc.sleep(seconds)
      assert.is_true(ipc.clock() - start >= seconds)
    end
    assert.equal('argument', code(ipc.sleep, -1))
    assert.equal('argument', code(ipc.sleep, 0 / 0))
    assert.equal('argument', code(ipc.sleep, 'x'))
    assert.equal('argument', code(ipc.sleep))
  end)

  it('has a clock that goes forward in small steps', function()
    local last, moved = ipc.clock(), 0
    for _ = 1, 10000 do
      local now = ipc.clock()
      assert(now >= last)
      if now > last and now - last < 1e-3 then moved = moved + 1 end
      last = now
    end
    assert.is_true(moved > 1000)
  end)

  it('counts the cores that this process may use', function()
    local n = ipc.cpus()
    assert.is_true(n >= 1 and n % 1 == 0)
    if support.sh 'command -v taskset' ~= '' then
      local chunk = support.write(support.tmpname '.lua', "io.write(require 'libipc'.cpus())")
      local first = support.sh "taskset -cp $$ | sed 's/.*: //; s/[,-].*//'"
      assert.equal('1', support.sh(('taskset -c %s %s %s'):format(first, support.lua, chunk)))
    end
  end)
end)
