-- §10: ipc.flock.
-- luacheck: ignore 431 (what goes to a thread has the same name there)
local support = require 'spec.support'
local ipc = require 'libipc'

local function fails(code, f, ...)
  local e = support.fails(f, ...)
  assert.equal(code, ipc.errcode(e), e)
  return e
end

-- A process that takes the lock at `path`, says so, and holds it until it is killed, or told to end by a file.
local function holder(path)
  local p = support.start([[
    local ipc = require 'libipc'
    local lock = ipc.flock(arg[1])
    lock:write 'held'
    while not ipc.flock(arg[1] .. '.end', true) do ipc.sleep(0.005) end
  ]], { args = { path } })
  support.eventually(function() return support.exists(path) and support.read(path) == 'held' end)
  return p
end

local function is_free(path)
  local lock = ipc.flock(path, 0)
  if lock then lock:close() end
  return lock ~= nil
end

describe('flock', function()
  local path
  before_each(function() path = support.tmpname '.lock' end)

  it('excludes every other holder, of the same thread too, until it is closed', function()
    local lock = ipc.flock(path)
    assert.is_nil(ipc.flock(path, true))
    assert.is_nil(ipc.flock(path, 0))
    assert.is_nil((ipc.map(1, function(path) return require 'libipc'.flock(path, true) end, path):join()))
    lock:close()
    lock:close()
    assert.is_true(is_free(path))
  end)

  it('never makes the file with true', function()
    assert.is_nil(ipc.flock(path, true))
    assert.is_false(support.exists(path))
    ipc.flock(path, 0):close()
    assert.is_true(support.exists(path))
    ipc.flock(path, true):close()
  end)

  it('makes the file for its owner only', function()
    ipc.flock(path):close()
    assert.matches('^%-rw%-%-%-%-%-%-%-', support.sh('ls -l ' .. path))
  end)

  it('waits as long as told', function()
    local lock = ipc.flock(path, false)
    local start = ipc.clock()
    assert.is_nil(ipc.flock(path, 0.03))
    assert.is_true(ipc.clock() - start >= 0.03)
    local waiting = ipc.map(1, function(path) return require 'libipc'.flock(path, 100):read() end, path)
    lock:write 'handed over'
    lock:close()
    assert.equal('handed over', (waiting:join()))
  end)

  it('reads all of the file and replaces all of it', function()
    local lock = ipc.flock(path)
    assert.equal('', lock:read())
    for _, s in ipairs { 'first', 'a\0b\r\n', '', ('x'):rep(300000), 'y' } do
      lock:write(s)
      assert.equal(s, lock:read())
      assert.equal(s, lock:read())
    end
    lock:close()
    assert.equal('y', support.read(path))
    fails('closed', lock.read, lock)
    fails('closed', lock.write, lock, 'x')
    lock = ipc.flock(path, true)
    assert.equal('y', lock:read())
    lock:close()
  end)

  it('loses no step of threads and processes that count in the file', function()
    local count = [[
      local ipc = require 'libipc'
      for _ = 1, 20 do
        local lock = ipc.flock(arg[1])
        lock:write(tostring((tonumber(lock:read()) or 0) + 1))
        lock:close()
      end
    ]]
    local p = support.start(count, { args = { path } })
    ipc.map(3, function(count, path)
      _G.arg = { path }
      assert((loadstring or load)(count))()
    end, count, path):join()
    assert.equal(0, p:wait().status)
    assert.equal('80', support.read(path))
  end)

  it('is free when its process is killed', function()
    local p = holder(path)
    assert.is_nil(ipc.flock(path, 0))
    p:kill 'KILL'
    local lock = ipc.flock(path, 100)
    assert.equal('held', lock:read())
    lock:close()
    p:wait()
  end)

  it('is free when its process or its thread ends without closing it', function()
    local p = holder(path)
    support.write(path .. '.end', '')
    p:wait()
    assert.is_true(is_free(path))
    ipc.map(1, function(path) require 'libipc'.flock(path) end, path):join()
    assert.is_true(is_free(path))
  end)

  it('is free when it is collected', function()
    ipc.flock(path) -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    assert.is_true(is_free(path))
  end)

  it("is the parent's in the child of a fork, which neither keeps nor frees it", function()
    support.check([[
      local ipc = require 'libipc'
      local path = arg[1]
      local lock, go = ipc.flock(path), ipc.flock(path .. '.go')
      local pid = ipc.fork()
      if pid == 0 then
        local ok, e = pcall(lock.read, lock)
        assert(not ok and ipc.errcode(e) == 'state', e)
        assert(tostring(lock):find 'parent')
        lock:close()
        assert(ipc.flock(path, 0) == nil, 'the parent holds it still')
        ipc.flock(path .. '.checked'):close()
        -- Outlives the lock of the parent, which it does not keep.
        ipc.flock(path .. '.go'):close()
        os.exit(0)
      end
      local checked
      repeat
        ipc.sleep(0.001)
        checked = ipc.flock(path .. '.checked', true)
      until checked
      checked:close()
      lock:close()
      ipc.flock(path, 0):close()
      go:close()
      assert(ipc.waitpid(pid, 100) == 0)
    ]], { args = { path } })
  end)

  it('is not kept by programs that were started while it was held', function()
    local lock = ipc.flock(path)
    local p = io.popen 'sleep 100 >/dev/null 2>&1 & echo $!'
    local pid = p:read '*n'
    p:close()
    lock:close()
    assert.is_true(is_free(path))
    os.execute('kill ' .. pid)
  end)

  it('is held by all threads that it was handed to', function()
    local lock = ipc.flock(path)
    local read = ipc.map(1, function(lock)
      lock:write 'from a thread'
      return lock:read()
    end, lock):join()
    assert.equal('from a thread', read)
    assert.is_false(is_free(path))
    ipc.map(1, function(lock) lock:close() end, lock):join()
    fails('closed', lock.read, lock)
    assert.is_true(is_free(path))
  end)

  it('locks the file that is there when its holder has removed the old one', function()
    local lock = ipc.flock(path)
    local waiting = ipc.map(1, function(path)
      local lock = require 'libipc'.flock(path, 100)
      lock:write 'new'
      lock:close()
    end, path)
    os.remove(path)
    lock:close()
    waiting:join()
    assert.equal('new', support.read(path))
  end)

  it('ends a wait with a cancel and with Ctrl-C', function()
    local lock = ipc.flock(path)
    local m = ipc.map(1, function(path) require 'libipc'.flock(path) end, path)
    m:cancel()
    assert.equal('cancelled', fails('worker', m.join, m):match '%[(cancelled)%]')
    local p = support.start([[
      local ipc = require 'libipc'
      io.open(arg[1] .. '.waits', 'w'):close()
      ipc.flock(arg[1])
    ]], { args = { path } })
    support.eventually(function() return support.exists(path .. '.waits') end)
    support.eventually(function()
      p:kill 'INT'
      return not p:running()
    end)
    assert.matches('interrupted', select(2, p:output()))
    lock:close()
  end)

  it('refuses what cannot be locked, and names it', function()
    local dir = support.tmpdir()
    assert.matches(dir, fails('io', ipc.flock, dir), 1, true)
    assert.matches('folder', fails('io', ipc.flock, dir, true), 1, true)
    assert.matches(dir .. '/no/such', fails('io', ipc.flock, dir .. '/no/such'), 1, true)
    assert.matches('/dev/null', fails('io', ipc.flock, '/dev/null'), 1, true)
    if support.sh 'id -u' == '0' and support.sh 'command -v setpriv' ~= '' then
      support.sh('chmod 711 ' .. support.scratch .. ' ' .. dir)
      -- Not root, for which nothing is forbidden.
      local chunk = support.write(support.tmpname '.lua', [[
        local ok, e = pcall(require 'libipc'.flock, arg[1])
        io.write(tostring(ok), ' ', tostring(e))
      ]])
      support.write(dir .. '/mine', '')
      support.sh(('chmod 600 %s/mine; chmod 644 %s'):format(dir, chunk))
      local out = support.sh(('setpriv --reuid=65534 --clear-groups %s %s %s/mine 2>&1'):format(support.lua, chunk, dir))
      -- A machine may hide the interpreter or the library from that user: then it says something else.
      if out:find 'libipc %[' then assert.matches('may not read and write it', out, 1, true) end
    end
    assert.is_nil(ipc.flock(dir .. '/no/such', true))
    fails('argument', ipc.flock, 'a\0b')
    for _, bad in ipairs { {}, true, 7 } do assert.matches('expected a string', fails('argument', ipc.flock, bad)) end
    fails('argument', ipc.flock, path, -1)
    fails('argument', ipc.flock, path, 'x')
    local lock = ipc.flock(path)
    assert.matches('expected a string', fails('argument', lock.write, lock))
    assert.matches('^ipc%.flock: held, ', tostring(lock))
    lock:close()
    assert.matches('^ipc%.flock: closed, ', tostring(lock))
    assert.equal('ipc.flock', ipc.type(lock))
  end)
end)
