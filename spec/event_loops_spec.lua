-- obj:fd() in the event loops of others: luv (libuv), cqueues.
local ipc = require 'libipc'

-- The module, or nil where it is not installed for this Lua.
local function module(name)
  local ok, m = pcall(require, name)
  return ok and m or nil
end

local uv, cqueues = module 'luv', module 'cqueues'

-- A channel, a client and a timer that become ready after the loop has begun; `add(object, fn)` has the loop call fn each time that
-- the object is ready, `run()` runs it until all are through. Returns what was got.
local function drive(add, run)
  local c, server, port = ipc.channel(), ipc.server()
  local client, handle = ipc.client(port)
  server:clients(1, function(h) handle = h end)
  local timer, ticks, got = ipc.every(0.002), 0, {}
  add(c, function()
    local found, item = c:tryread(0)
    if found then got[#got + 1] = item end
    return not found and item == ipc.channel.DRAINED
  end)
  add(client, function()
    -- Three messages came at once: the descriptor stays readable for what was read ahead.
    local found, item = client:tryrecv(0)
    if found then got[#got + 1] = item end
    return item == 'm3'
  end)
  add(timer, function()
    ticks = ticks + (timer:read(0) or 0)
    return ticks >= 3
  end)
  local m = ipc.map(1, function(there, its)
    require 'libipc'.sleep(0.005)
    for i = 1, 3 do
      there:send('m' .. i)
      its:write('c' .. i)
    end
    its:close()
  end, handle, c)
  run()
  m:join()
  assert.is_true(ticks >= 3)
  table.sort(got)
  assert.are.same({'c1', 'c2', 'c3', 'm1', 'm2', 'm3'}, got)
end

describe('obj:fd()', function()
  it('works in the loop of luv', function()
    if not uv then return pending 'luv is not installed for this Lua' end
    drive(function(object, ready)
      local poll = uv.new_poll((object:fd()))
      poll:start('r', function(e)
        assert.is_nil(e)
        if ready() then
          poll:stop()
          poll:close()
        end
      end)
    end, function() uv.run() end)
  end)

  it('works in the loop of cqueues', function()
    if not cqueues then return pending 'cqueues is not installed for this Lua' end
    local queue = cqueues.new()
    drive(function(object, ready)
      queue:wrap(function()
        local fd = object:fd()
        repeat cqueues.poll {pollfd = fd, events = 'r'} until ready()
        cqueues.cancel(fd)
      end)
    end, function() assert(queue:loop()) end)
  end)
end)

describe('ipc.scheduler', function()
  after_each(function() ipc.scheduler(nil) end)

  -- Two coroutines that talk by channels, one that talks to a thread, one that sleeps.
  local function tasks(start, run)
    local a, b, q, log = ipc.channel(), ipc.channel(), ipc.workqueue(), {}
    local m = ipc.map(1, function(its) its:write(its:read() + 1) end, q)
    start(function()
      for i = 1, 20 do
        a:write(i)
        assert(select(2, b:read()) == -i)
      end
      a:close()
    end)
    start(function()
      while true do -- not items(): Lua 5.1 cannot yield in an iterator
        local found, item = a:tryread(60)
        if not found then break end
        b:write(-item)
      end
      log.talked = true
    end)
    start(function()
      q:write(41)
      log.answer = q:read(60)
    end)
    start(function()
      ipc.sleep(0.003)
      log.slept = ipc.channel():read(0.002)
    end)
    run()
    m:join()
    assert.are.same({talked = true, answer = 42, slept = ipc.channel.OPEN}, log)
  end

  -- Calls that wait on descriptors which are closed right afterwards, and whose numbers the next ones get; and two coroutines that
  -- wait on the same.
  local function passing(start, run)
    local log, server, port = {}, ipc.server()
    local silent = ipc.server()
    local function note(what) log[#log + 1] = what end
    for i = 1, 3 do
      start(function()
        note(ipc.spawn { file = 'sleep', args = { '0.01' } }:wait())
        ipc.select({ ipc.channel(), ipc.after(0.002) }, 60)
        ipc.channel():read(0.002)
        collectgarbage()
        local client = ipc.client(port)
        client:send(i)
        note(client:recv(60))
        client:close()
      end)
    end
    start(function()
      for _ = 1, 3 do
        local i, client = server:recvAny(60)
        client:send(10 * i)
      end
      server:close()
      log.served = true
    end)
    for _ = 1, 2 do
      start(function() note(silent:tryrecvAny(nil, 0.05)) end)
    end
    run()
    silent:close()
    table.sort(log, function(a, b) return tostring(a) < tostring(b) end)
    assert.are.same({ 0, 0, 0, 10, 20, 30, false, false, served = true }, log)
  end

  it('runs coroutines in the loop of luv', function()
    if not uv then return pending 'luv is not installed for this Lua' end
    ipc.scheduler {wait = function(fd, mode, timeout)
      local co, poll, timer = coroutine.running(), uv.new_poll(fd), uv.new_timer()
      local function resume()
        if poll then poll:close() end
        timer:close()
        assert(coroutine.resume(co))
      end
      if poll then poll:start(mode == 'write' and 'w' or 'r', resume) else timeout = 0.001 end
      if timeout then timer:start(math.ceil(timeout * 1000), 0, resume) end
      coroutine.yield()
    end}
    local function start(f) assert(coroutine.resume(coroutine.create(f))) end
    tasks(start, function() uv.run() end)
    passing(start, function() uv.run() end)
  end)

  it('runs coroutines in the loop of cqueues', function()
    if not cqueues then return pending 'cqueues is not installed for this Lua' end
    local queue = cqueues.new()
    -- cqueues remembers descriptors beyond a poll, and fails where one of them is closed by then.
    ipc.scheduler {wait = function(fd, mode, timeout)
      cqueues.poll({pollfd = fd, events = mode == 'write' and 'w' or 'r'}, timeout)
    end}
    tasks(function(f) queue:wrap(f) end, function() assert(queue:loop()) end)
    passing(function(f) queue:wrap(f) end, function() assert(queue:loop()) end)
    local code
    queue:wrap(function() code = ipc.spawn {file = 'sleep', args = {'0.01'}}:wait() end)
    queue:wrap(function() cqueues.sleep(0.1) end)
    assert(queue:loop())
    assert.are.equal(0, code)
  end)
end)
