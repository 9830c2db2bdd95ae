-- §3: the end of a program while threads are blocked or run: with its own exit code, within a second, on every Lua.
local support = require 'spec.support'
local socket = require 'socket'

-- Calls of ours that block, of each kind one (spec/blocked_spec.lua has them all); and code that never ends: plain, holding a
-- lock, catching errors.
local blocked = require 'spec.support.blocked'.threads {
  'ipc.sleep', 'ipc.waitpid', 'workqueue:read', 'workqueue:write', 'mutex:lock', 'mutex:barrier', 'map:join', 'map:results',
  'server:clients', 'client:recv',
}
local busy = [[
  local ipc = require 'libipc'
  local begun = ipc.atomic(0)
  local m = ipc.map(4, function(begun, lock, id)
    begun:add(1)
    if id == 1 then while true do end end
    if id == 2 then lock:lock() while true do end end
    if id == 3 then while true do pcall(function() while true do end end) end end
    if id == 4 then while true do begun:get() end end
  end, begun, ipc.mutex())
  while begun:get() < 4 do ipc.sleep(0.001) end
  ipc.sleep(0.02)
]]

-- 5.1 takes no true, and no second argument.
local ways = {
  { 'returns', '', 0 },
  { 'fails', "error 'oh no'", 1 },
  { 'calls os.exit', 'os.exit(3)', 3 },
  { 'calls os.exit with true', support.is_51 and not support.is_luajit and 'os.exit(0)' or 'os.exit(true)', 0 },
  { 'calls os.exit and closes its state', 'os.exit(4, true)', 4 },
  { 'calls os.exit(true, true)', support.is_51 and not support.is_luajit and 'os.exit(0, true)' or 'os.exit(true, true)', 0 },
  { 'collects its map', 'm = nil collectgarbage() collectgarbage()', 0 },
  { 'cancels its map', 'm:cancel()', 0 },
  { 'is in the middle of a join', 'pcall(m.join, m, 0.01)', 0 },
}

describe('a program that ends', function()
  for _, way in ipairs(ways) do
    local name, code, status = way[1], way[2], way[3]
    for what, threads in pairs { ['are blocked'] = blocked, ['run'] = busy } do
      it(('and %s while threads %s does so with its own code'):format(name, what), function()
        local r = support.run(threads .. code)
        assert.is_false(r.timed_out)
        assert.is_nil(r.signal)
        assert.equal(status, r.status)
        if status ~= 1 then assert.equal('', r.stderr) end
      end)
    end
  end

  it('does so within a second', function()
    for _, threads in ipairs { blocked, busy } do
      -- One of many is enough: what else runs on the machine is not what is measured.
      support.retry(20, function()
        local p = support.start(threads .. "io.stdout:write('now') io.stdout:flush()")
        support.eventually(function() return p:output() == 'now' end)
        local start = socket.gettime()
        assert.equal(0, p:wait().status)
        local took = socket.gettime() - start
        assert.is_true(took < 1, 'took ' .. took .. ' s')
      end)
    end
  end)

  it('ends in good order where a thread lets it: its finalizers run', function()
    -- A thread has a fifth of a second for it, which a busy machine may use up otherwise.
    support.retry(20, function()
      local path = support.tmpname()
      support.check(([[
        local ipc = require 'libipc'
        local q = ipc.workqueue()
        local m = ipc.map(1, function(q, path)
          file = io.open(path, 'w')
          file:setvbuf('full')
          file:write('written')
          q:write 'ready'
          require 'ipc'.sleep(1000)
        end, q, %q)
        q:read()
      ]]):format(path))
      assert.equal('written', support.read(path))
    end)
  end)

  it('ends with the code that a thread gave os.exit', function()
    local r = support.run [[
      local ipc = require 'libipc'
      ipc.map(2, function(id)
        if id == 1 then os.exit(7) end
        require 'ipc'.sleep(1000)
      end):join()
    ]]
    assert.equal(7, r.status)
  end)

  it('ends with the code that a thread gave os.exit, which closes its state, while others compute', function()
    -- On LuaJIT threads that compute are interrupted when the process ends: this one has no state by then.
    for _ = 1, 10 do
      local r = support.run [[
        local ipc = require 'libipc'
        local others = ipc.map(2, function() while true do end end)
        ipc.sleep(0.02)
        ipc.map(1, function() os.exit(7, true) end):join()
      ]]
      assert.equal(7, r.status)
    end
  end)

  it('ends with the code that a thread gave os.exit, while it waits for others, which are cancelled for that', function()
    for _, wait in ipairs {
      "m = ipc.map(1, function() require 'libipc'.sleep(1000) end) wait = function() m:join() end",
      "m = ipc.pool(1):submit(function() require 'libipc'.sleep(1000) end) wait = function() m:get() end",
    } do
      for _ = 1, 5 do
        local r = support.run([[
          local ipc = require 'libipc'
          local m, wait
        ]] .. wait .. [[
          ipc.sleep(0.02)
          local other = ipc.map(1, function() os.exit(7) end)
          pcall(wait)
          print 'it went on'
          os.exit(1)
        ]])
        assert.same({ 7, '', '' }, { r.status, r.stdout, r.stderr })
      end
    end
  end)

  it('ends with the code of a child that a thread forked', function()
    local out = support.check [[
      local ipc = require 'libipc'
      local m = ipc.map(2, function(id)
        local ipc = require 'ipc'
        local pid = ipc.fork()
        if pid == 0 then
          if id == 1 then return 'to nobody' end
          error 'expected: in the child'
        end
        return (ipc.waitpid(pid))
      end)
      print(m:join())
    ]]
    assert.equal('0\t1\n', out)
  end)
end)

describe('Ctrl-C', function()
  for what, code in pairs {
    ['in a join'] = blocked .. 'io.write "ready" io.flush() m:join()',
    ['in a join with a time-out'] = blocked .. 'io.write "ready" io.flush() m:join(1000)',
    ['in a join of running code'] = busy .. 'io.write "ready" io.flush() m:join()',
  } do
    it(what .. ' ends the program as it would a plain one', function()
      local p = support.start(code)
      support.eventually(function() return p:output() == 'ready' end)
      -- The signal may come just before the wait; it is not lost there either.
      p:kill 'INT'
      local r = p:wait()
      assert.is_false(r.timed_out)
      assert.is_nil(r.signal)
      assert.equal(1, r.status)
      assert.is_truthy(r.stderr:find('interrupted!', 1, true), r.stderr)
    end)
  end

  it('can be caught, and the threads go on', function()
    local p = support.start [[
      local ipc = require 'libipc'
      local q = ipc.workqueue()
      local m = ipc.map(2, function(q, id) return q:read() + id end, q)
      -- Ready only inside pcall: the signal may come before the join.
      local ok, e = pcall(function() io.write 'ready' io.flush() m:join() end)
      io.write(tostring(ok), ' ', tostring(e:match 'interrupted!'), ' ', m:poll(), ' ')
      q:write(10, 10)
      io.write(table.concat({ m:join() }, ' '))
    ]]
    support.eventually(function() return p:output() == 'ready' end)
    p:kill 'INT'
    assert.equal('readyfalse interrupted! 2 11 12', p:wait().stdout)
  end)
end)

describe('signals', function()
  it('are left as they were', function()
    local status = [[
      local f = io.open '/proc/thread-self/status'
      local t = {}
      -- The low 32: glibc takes two of its own, beyond those, for any thread.
      for line in f:lines() do
        local name, mask = line:match '^(Sig[BIC]%a+):%s*(%x+)'
        if name then t[#t + 1] = name .. '=' .. mask:sub(-8) end
      end
      f:close()
      local all = table.concat(t, ' ')
    ]]
    if not io.open '/proc/thread-self/status' then return pending 'no /proc here' end
    local out = support.check(status .. ' print(all) ' .. [[
      local ipc = require 'libipc'
      print(ipc.map_extended(1, nil, loadstring and loadstring(arg[1]) or load(arg[1])):join())
    ]] .. status:gsub('local', '') .. ' print(all)', { args = { status .. ' return all' } })
    local before, thread, after = out:match '^(.-)\n(.-)\n(.-)\n$'
    assert.equal(before, thread)
    assert.equal(before, after)
  end)
end)
