-- The parts of the soak (spec/support/soak/run.lua): what its threads do, each time one part by chance.
--
-- A part is a table:
--   weight     how often it is chosen, against the others
--   steady     true: only by threads that are never cancelled
--   make()     → the objects that all threads of a round share, as a table that travels (all that the others are given as `o`)
--   step(o)    one thing that a thread does with them. An error of the code `timeout` or `closed` is fine, `cancelled` ends the thread
--   stir(o)    what the main thread does now and then meanwhile
--   stop(o)    releases those that wait without a time-out: the round is over
--   check(o, slack)   after the last thread has ended: nothing is lost. A cancelled thread may have ended between doing a thing and
--              counting it, so counts are good to ± slack, the number of threads that were cancelled
--
-- A thread loads this file by itself: functions here may use whatever it has at its top.
local ipc = require 'libipc'
local torch = require 'ipc.torch'

local random = math.random
local unpack = table.unpack or unpack -- luacheck: ignore 143

local parts = {}

local function chance(p) return random() < p end

-- A time-out: mostly short, often none at all.
local function patience()
  if chance(0.3) then return nil end
  return random() * 0.01
end

local function near(what, a, b, slack)
  if math.abs(a - b) > slack then error(('%s: %d against %d, %d threads were cancelled'):format(what, a, b, slack), 0) end
end

-- A value of many kinds, with a sum in it by which its reader sees that it is whole.
local function item(for_peers)
  local t = { n = random(1000), name = ('x'):rep(random(0, 50)) }
  t.list, t.sum = {}, t.n + #t.name
  for i = 1, random(0, 20) do
    t.list[i] = random(100)
    t.sum = t.sum + t.list[i]
  end
  if chance(0.2) then
    t.tensor = torch.FloatTensor(random(1, 300)):fill(2)
    t.sum = t.sum + t.tensor:sum()
  end
  if not for_peers and chance(0.1) then t.object = ipc.atomic(1) end
  t.self = t
  return t
end

local function whole(t)
  local sum = t.n + #t.name + (t.tensor and t.tensor:sum() or 0)
  for _, x in ipairs(t.list) do sum = sum + x end
  assert(sum == t.sum and t.self == t, 'an item is not what was sent')
  if t.object then assert(t.object:get() == 1) end
end

-- ---- channels: what is written is read once -------------------------------------------------------------------------

parts.channel = {
  weight = 30,
  make = function()
    return {
      wide = ipc.channel(), narrow = ipc.channel { capacity = 4, timeout = 0.01 }, written = ipc.atomic(0), read = ipc.atomic(0),
    }
  end,
  step = function(o)
    local c = chance(0.5) and o.wide or o.narrow
    local what = random(5)
    if what <= 2 and not (c == o.wide and #c > 1000) then
      local items = {}
      for i = 1, random(3) do items[i] = item() end
      local status
      if what == 1 then
        status = c:write(unpack(items))
      else
        status = c:trywrite(unpack(items)) and ipc.channel.OPEN
      end
      if status == ipc.channel.OPEN then o.written:add(#items) end
    else
      local found, got
      if what == 3 then
        found, got = c:tryread()
      else
        local status
        status, got = c:read(patience())
        found = got ~= nil
        assert(found or status ~= ipc.channel.CLOSED)
      end
      if found then
        o.read:add(1)
        whole(got)
      end
    end
  end,
  stir = function(o)
    if chance(0.02) then o.narrow:close() end
  end,
  stop = function(o)
    o.wide:close()
    o.narrow:close()
  end,
  check = function(o, slack)
    local left = 0
    for _, c in ipairs { o.wide, o.narrow } do
      for got in c:items() do
        whole(got)
        left = left + 1
      end
      assert(c:drained())
    end
    -- Each write may have been of three items.
    near('items of channels', o.written:get(), o.read:get() + left, 3 * slack)
  end,
}

-- ---- work queues: each question is answered once, or is still there
-- ---------------------------------------------------

parts.workqueue = {
  weight = 20,
  make = function()
    return {
      q = (ipc.workqueue()), idle = (ipc.workqueue()), asked = ipc.atomic(0), dropped = ipc.atomic(0), answered = ipc.atomic(0),
    }
  end,
  step = function(o)
    -- Who reads the other queue sleeps until it is closed.
    if chance(0.001) then o.idle:read() end
    local question = o.q:read(random() * 0.01)
    if question then
      whole(question)
      if chance(0.01) then
        o.dropped:add(1)
      else
        o.q:write(question)
      end
    end
  end,
  stir = function(o)
    for _ = 1, 50 do
      o.q:write(item())
      o.asked:add(1)
    end
    while true do
      local found, answer = o.q:tryread()
      if not found then break end
      whole(answer)
      o.answered:add(1)
    end
  end,
  stop = function(o) o.idle:close() end,
  check = function(o, slack)
    local questions, answers = o.q:pending()
    near('questions', o.asked:get(), o.answered:get() + o.dropped:get() + questions + answers, slack)
    o.q:close()
  end,
}

-- ---- mutexes and barriers
-- ------------------------------------------------------------------------------------------------

parts.mutex = {
  weight = 15,
  make = function() return { m = ipc.mutex(), value = ipc.atomic(0), count = ipc.atomic(0) } end,
  step = function(o)
    local function inside()
      -- Not atomic: only the mutex makes it whole.
      local v = o.value:get()
      if chance(0.1) then ipc.sleep(0) end
      o.value:set(v + 1)
      o.count:add(1)
    end
    local what = random(3)
    if what == 1 then
      o.m:with(inside)
    else
      if what == 2 then
        o.m:lock(patience())
      elseif not o.m:trylock() then
        return
      end
      inside()
      o.m:unlock()
    end
  end,
  check = function(o, slack) near('a number under a mutex', o.value:get(), o.count:get(), slack) end,
}

parts.barrier = {
  weight = 5,
  make = function() return { m = ipc.mutex(), met = ipc.atomic(0) } end,
  step = function(o)
    o.m:barrier(3, random() * 0.01)
    o.met:add(1)
  end,
  check = function(o, slack)
    local odd = o.met:get() % 3
    assert(odd == 0 or slack > 0, 'a barrier of 3 let ' .. o.met:get() .. ' go')
  end,
}

parts.atomic = {
  weight = 5,
  make = function() return { n = ipc.atomic(0), count = ipc.atomic(0) } end,
  step = function(o)
    local add = random(10)
    if chance(0.5) then
      o.n:add(add)
    else
      local old = o.n:get()
      repeat
        local done, now = o.n:cas(old, old + add)
        old = now
      until done
    end
    o.count:add(add)
  end,
  check = function(o, slack) near('an atomic number', o.n:get(), o.count:get(), 10 * slack) end,
}

-- ---- pools: each task is done once, unless it is cancelled
-- -----------------------------------------------------------------

parts.pool = {
  weight = 5,
  make = function() return { pool = ipc.pool(3, { name = 'pool' }), begun = ipc.atomic(0), given = ipc.atomic(0) } end,
  step = function(o)
    local what = random(6)
    if what == 1 then
      local f = o.pool:submit(function(t) return t end, item())
      f:cancel()
      local done, e = pcall(f.get, f)
      assert(done or ipc.errcode(e) == 'cancelled', e)
      return
    end
    local f = o.pool:submit(function(begun, t)
      begun:add(1)
      return t
    end, o.begun, item())
    o.given:add(1)
    -- Some are left to themselves.
    if what > 2 then whole(f:get()) end
  end,
  check = function(o, slack)
    o.pool:close()
    near('tasks of a pool', o.given:get(), o.begun:get(), slack)
  end,
}

-- ---- the first of many
-- -----------------------------------------------------------------------------------------------------

parts.select = {
  weight = 5,
  make = function() return { c = ipc.channel(), n = ipc.channel { capacity = 1 }, q = (ipc.workqueue()) } end,
  step = function(o)
    if chance(0.4) then
      o.c:write(1)
      return
    end
    local got = ipc.select({ o.c, { o.n, 'write' }, o.q, o.n }, random() * 0.01)
    if got == o.c or got == o.n then
      got:tryread()
      o.n:trywrite(1)
    end
  end,
  stir = function(o) o.q:write(1) end,
  stop = function(o)
    o.c:close()
    o.q:close()
  end,
}

-- ---- shared tables: no step is lost, and what is read is whole
-- -----------------------------------------------------------------

parts.sharedtable = {
  weight = 15,
  make = function() return { t = ipc.sharedtable { n = 0, name = 'shared' }, count = ipc.atomic(0) } end,
  step = function(o)
    local t, what = o.t, random(8)
    if what == 1 then
      ipc.sharedtable.incr(t, 'n', 1)
      o.count:add(1)
    elseif what == 2 then
      ipc.sharedtable.update(t, 'n', function(n) return n + 1 end)
      o.count:add(1)
    elseif what == 3 then
      local n = t.n
      while true do
        local done, there = ipc.sharedtable.cas(t, 'n', n, n + 1)
        if done then break end
        n = there
      end
      o.count:add(1)
    elseif what == 4 then
      local seen = {}
      for k, v in ipc.sharedtable.pairs(t) do
        assert(not seen[k], 'a key twice')
        seen[k] = true
        if type(v) == 'table' then whole(v) end
      end
    elseif what == 5 then
      t[random(50)] = nil
    elseif what == 6 then
      assert(#t >= 2 and #ipc.sharedtable.keys(t) >= 2)
    else
      local k = random(50)
      t[k] = item()
      local got = t[random(50)]
      if got then whole(got) end
    end
  end,
  check = function(o, slack) near('a number in a shared table', o.t.n, o.count:get(), slack) end,
}

-- ---- values
-- --------------------------------------------------------------------------------------------------------------

parts.marshal = {
  weight = 5,
  make = function() return { shared = ipc.marshal(item()) } end,
  step = function(o)
    whole(o.shared:read())
    local m = ipc.marshal(item())
    whole(m:read())
    if chance(0.5) then m:close() end
    if chance(0.05) then collectgarbage() end
  end,
}

-- ---- clients and a server
-- ------------------------------------------------------------------------------------------------

parts.server = {
  weight = 5,
  make = function()
    local server, port = ipc.server()
    return { server = server, port = port }
  end,
  step = function(o)
    if chance(0.5) then
      -- A thread that finds something answers it.
      local got, c = o.server:recvAny(random() * 0.01)
      pcall(c.send, c, got, 1)
      return
    end
    local c = ipc.client('127.0.0.1', o.port, { connect_timeout = 1, transport = random() < 0.5 and 'tcp' or 'auto' })
    for _ = 1, random(3) do
      c:send(item(true), 1)
      if chance(0.7) then
        local found, got = c:tryrecv(0.05)
        if found then whole(got) end
      end
    end
    -- Some are closed, some are left to the collector, with what nobody has read.
    if chance(0.7) then c:close() end
  end,
  fine = { refused = true, io = true },
  stop = function(o) o.server:close() end,
}

-- ---- files, processes, threads of threads
-- ----------------------------------------------------------------------------------

parts.flock = {
  weight = 3,
  make = function() return { path = os.tmpname(), count = ipc.atomic(0) } end,
  step = function(o)
    local lock = ipc.flock(o.path, random() * 0.02)
    if lock then
      lock:write(tostring((tonumber(lock:read()) or 0) + 1))
      o.count:add(1)
      if chance(0.8) then lock:close() end
    end
  end,
  check = function(o, slack)
    collectgarbage()
    local lock = ipc.flock(o.path, 60)
    near('a number in a file', tonumber(lock:read()) or 0, o.count:get(), slack)
    lock:close()
    os.remove(o.path)
  end,
}

parts.fork = {
  weight = 0.2,
  steady = true,
  make = function() return { m = ipc.mutex(), c = ipc.channel() } end,
  step = function(o)
    local pid = ipc.fork()
    if pid == 0 then
      o.m:lock()
      o.c:write(item())
      local ok, e = pcall(function()
        local sum = ipc.map(1, function(c, m)
          m:lock(60)
          local _, got = c:read(60)
          return got.sum
        end, o.c, ipc.mutex()):join(60)
        assert(sum > 0)
        tostring(ipc.report())
      end)
      if not ok then io.stderr:write(tostring(e), '\n') end
      -- Not by exit(3), which sets back what files that other threads of the parent were reading share with this copy.
      os.execute(('kill -%s %d'):format(ok and 'TERM' or 'KILL', ipc.getpid()))
      while true do ipc.sleep(1) end
    end
    local _, signal = ipc.waitpid(pid, 60)
    assert(signal == 'SIGTERM', 'a forked child failed')
  end,
}

parts.popen = {
  weight = 0.2,
  make = function() return {} end,
  step = function()
    local p = io.popen 'echo soak'
    local said = p:read '*l'
    p:close()
    assert(said == 'soak')
  end,
}

parts.spawn = {
  weight = 0.3,
  make = function() return {} end,
  step = function()
    local what = random(4)
    if what == 1 then
      -- Left to the collector, or ended by a signal.
      local p = ipc.spawn { file = 'sleep', args = { 100 } }
      if chance(0.5) then assert(p:wait('KILL') == 0) end
      return
    end
    local p, sent = ipc.spawn { file = 'cat' }, ('x'):rep(random(0, 10000))
    p:stdin(sent)
    p:stdin()
    assert(p:stdout '*all' == (sent ~= '' and sent or nil) or sent == '', 'what cat was given did not come back')
    assert(p:wait() == 0)
  end,
}

parts.map = {
  weight = 0.5,
  make = function() return {} end,
  step = function()
    local m = ipc.map(2, function(t, id) return t, id end, item())
    local what = random(4)
    if what == 1 then
      m:cancel()
    elseif what > 2 then
      local t, one, _, two = m:join()
      whole(t)
      assert(one == 1 and two == 2)
    end
  end,
}

parts.report = {
  weight = 0.5,
  make = function() return {} end,
  step = function()
    local r = ipc.report()
    assert(#r.threads > 0 and #tostring(r) > 0)
  end,
}

return parts
