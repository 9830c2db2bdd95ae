-- Out of memory at every place where Lua can be: a Lua state whose allocator fails at the n-th call, for n = 1, 2, 3 …
-- until a chunk runs through (tests/out_of_memory). Each failure must come back as Lua's error, or not at all; never as
-- an abort, a crash, or memory that outlives its state.
--
-- MEMORY_SPEC=all tries every n (minutes); else some eighty of each.
local support = require 'spec.support'

local every = os.getenv 'MEMORY_SPEC' == 'all'

-- Tries one chunk, in an interpreter of its own, since what is looked for may end it. The last file holds the n tried.
local driver = [==[
local library, source_file, failures, tries, progress = ...
local memory = assert(package.loadlib(library, 'luaopen_out_of_memory'))()
local f = assert(io.open(source_file, 'rb'))
local source = f:read '*a'
f:close()
failures, tries = tonumber(failures), tonumber(tries)

local at = assert(io.open(progress, 'wb'))
local function note(n)
  at:seek 'set'
  at:write(('%-9d'):format(n))
  at:flush()
end

local bad = 0
local function complain(n, ...)
  bad = bad + 1
  print(('allocation %d:'):format(n), ...)
  if bad == 5 then os.exit(1) end
end

note(0)
local outcome, text, count, bytes, blocks = memory.run(source, 2^50, 1)
if outcome ~= 'ok' then
  complain(0, 'the chunk fails with all the memory it wants:', text)
  os.exit(1)
end
local step = math.max(1, math.floor(count / tries))
local n = 1
repeat
  note(n)
  outcome, text, count, bytes, blocks = memory.run(source, n, failures)
  -- LuaJIT gives back what it had not finished to make under another size.
  if blocks ~= 0 or bytes ~= 0 and not jit then
    complain(n, ('%s; %d bytes in %d blocks outlive the state'):format(outcome, bytes, blocks), text)
  end
  if outcome ~= 'ok' and not text:find('not enough memory', 1, true) then
    complain(n, outcome, text)
  end
  n = n + step
until count < n - step
print(('%d allocations'):format(count))
os.exit(bad == 0 and 0 or 1)
]==]

-- Reads by `read`, twice if there was no memory for the first: what is read is the same.
local AGAIN = [[
    local arm = ...
    local ipc = require 'libipc'
    local function again(read, check)
      arm(true)
      local ok, a, b, c = pcall(read)
      arm(false)
      if not ok then
        if not tostring(a):find 'not enough memory' and ipc.errcode(a) ~= 'limit' then error(a, 0) end
        a, b, c = read()
      end
      check(a, b, c)
    end
    local function is_value(v)
      assert(v.name == 'value' and #v == 300 and v[300] == 'item 300' and v.self == v)
    end
    local value = { name = 'value' }
    for i = 1, 300 do value[i] = 'item ' .. i end
    value.self = value
    local long = ('long'):rep(5000)
]]

local chunks = {
  { 'require', [[
    local arm = ...
    arm(true)
    local ipc = require 'libipc'
    require 'ipc'
    arm(false)
    assert(ipc.type(1) == 'number')
  ]] },

  { 'marshal of plain values', [[
    local arm = ...
    local ipc = require 'libipc'
    local value = { 1, 2.5, -3, 2^40, true, false, 'short', ('long'):rep(1000), [10] = 'ten' }
    value.name = { x = 1, y = { z = 'deep' } }
    value.shared = value.name
    value.cycle = value
    value[value.name] = 'a table as a key'
    arm(true)
    for _, v in ipairs { 7, 'text', ('long'):rep(300), value, {}, { {}, {}, {} } } do
      local m = ipc.marshal(v)
      local first, second = m:read(), m:read()
      assert(type(first) == type(v) and type(second) == type(v))
      if v == value then
        assert(first.cycle == first and first.shared == first.name and #first[8] == 4000 and first[first.name])
      end
      m:close()
    end
    arm(false)
  ]] },

  { 'marshal of nested and long tables', [[
    local arm = ...
    local ipc = require 'libipc'
    local deep, list, fields = {}, {}, {}
    local t = deep
    for i = 1, 300 do t.x = { i } t = t.x end
    for i = 1, 3000 do list[i] = i end
    for i = 1, 300 do fields['key' .. i] = i end
    arm(true)
    local back = ipc.marshal({ deep, list, fields }):read()
    arm(false)
    assert(#back[2] == 3000 and back[3].key300 == 300)
  ]] },

  { 'a process', [[
    local arm = ...
    local ipc = require 'libipc'
    arm(true)
    local p = ipc.spawn { file = 'cat', args = { '-u', '-' }, env = { A = 1 }, stderr = 'null' }
    p:stdin 'one\ntwo'
    p:stdin()
    assert(p:stdout() == 'one' and p:stdout '*all' == 'two' and p:stdout() == nil)
    assert(p:wait() == 0 and tostring(p))
    arm(false)
  ]] },

  { 'bytes and unmarshal', [[
    local arm = ...
    local ipc = require 'libipc'
    arm(true)
    local bytes = ipc.marshal({ 1, 'two', { three = 3 }, print }):bytes()
    local back = ipc.unmarshal(bytes, { functions = true })
    local torch = require 'ipc.torch'
    local tensors = ipc.unmarshal(ipc.marshal({ torch.FloatTensor { 1, 2 } }):bytes())
    arm(false)
    assert(tensors[1][2] == 2)
    assert(back[3].three == 3 and back[4] == print)
  ]] },

  { 'marshal of functions', [[
    local arm = ...
    local ipc = require 'libipc'
    local count, limit = 0, { 10 }
    local function up() count = count + 1 return math.min(count, limit[1]) end
    local function down() count = count - 1 return string.format('%d', count) end
    local function plain(a, b) return a + b end
    arm(true)
    local add = ipc.marshal(plain):read()
    assert(add(2, 3) == 5)
    local back = ipc.marshal({ up = up, down = down, print, ipc.marshal, coroutine.create }, true):read()
    arm(false)
    assert(back.up() == 1 and back[1] == print and back[2] == ipc.marshal)
  ]] },

  { 'marshal of classes', [[
    local arm = ...
    local ipc = require 'libipc'
    local Point = {}
    Point.__index = Point
    arm(true)
    ipc.register('memory.Point', Point)
    local points = ipc.marshal({ setmetatable({ x = 1 }, Point), setmetatable({ x = 2 }, Point) }):read()
    arm(false)
    assert(getmetatable(points[2]) == Point and points[2].x == 2)
  ]] },

  { 'refusals', [[
    local arm = ...
    local ipc = require 'libipc'
    local upvalue = {}
    local bad = {
      { a = { b = { coroutine.create(function() end) } } },
      { io.stdout },
      function() return upvalue end,
      { [{}] = { string.gmatch('a', 'a') } },
    }
    arm(true)
    for _, v in ipairs(bad) do
      local ok, e = pcall(ipc.marshal, v)
      if ok or ipc.errcode(e) ~= 'unsupported' then error(e, 0) end
    end
    local ok, e = pcall(ipc.marshal)
    if ok or not e:find('expected', 1, true) then error(e, 0) end
    ok, e = pcall(ipc.unmarshal, 'nonsense')
    if ok or not e:find('libipc [', 1, true) then error(e, 0) end
    arm(false)
  ]] },

  { 'objects', [[
    local arm = ...
    local ipc = require 'libipc'
    arm(true)
    local n = ipc.atomic(5)
    local m = ipc.mutex()
    local q = ipc.workqueue()
    local back = ipc.marshal({ n, m, q, { n } }):read()
    assert(back[1]:get() == 5 and back[1]:add(1) and n:get() == 6)
    assert(tostring(back[2]) and tostring(back[3]) and ipc.type(back[3]) == 'ipc.workqueue')
    m:lock()
    m:unlock()
    assert(m:with(function(a) return a end, 7) == 7)
    assert(m:trylock())
    m:unlock()
    m:barrier(1)
    arm(false)
  ]] },

  { 'shared tables', [[
    local arm = ...
    local ipc = require 'libipc'
    local shared = ipc.sharedtable
    local plain = { 1, 2, x = { 3 }, long = ('x'):rep(100) }
    local other = shared()
    arm(true)
    local t = shared(plain)
    t.other, t.n, t[true], t.long = other, 1, 'short', ('y'):rep(50)
    assert(t.other == other and t.x[1] == 3 and #t.long == 50 and t[true] == 'short')
    assert(shared.incr(t, 'n') == 2 and shared.cas(t, 'n', 2, 'two') and t.n == 'two')
    assert(shared.update(t, 'x', function(x) return { x[1] + 1 } end)[1] == 4)
    local n = 0
    for k, v in shared.pairs(t) do n = n + (k and 1) end
    assert(n == #t and #shared.keys(t) == n and shared.kbytes(t) > 0 and tostring(t))
    local source = { 1, 2, 3, x = 'y' }
    local moved = shared(source, true)
    arm(false)
    assert(next(source) == nil and #moved == 4)
  ]] },

  { 'work queues', [[
    local arm = ...
    local ipc = require 'libipc'
    local q = ipc.workqueue()
    local item = { 1, 2, { three = ('x'):rep(100) } }
    local other = ipc.marshal(q):read()
    arm(true)
    local ok, e = pcall(q.write, q, item, 'text', 3, item)
    arm(false)
    assert(q:pending() == (ok and 4 or 0), 'a write that fails leaves the queue as it was')
    if not ok then error(e, 0) end
    arm(true)
    q:trywrite(item)
    q:writeup(function() return item end)
    q:close()
    other:close()
    arm(false)
  ]] },

  { 'channels', [[
    local arm = ...
    local ipc = require 'libipc'
    local c = ipc.channel()
    local item = { 1, 2, { three = ('x'):rep(100) } }
    arm(true)
    local ok, e = pcall(c.write, c, item, 'text', ipc.channel { capacity = 1 }, item)
    arm(false)
    assert(#c == (ok and 4 or 0), 'a write that fails leaves the channel as it was')
    if not ok then error(e, 0) end
    arm(true)
    assert(select(2, c:read())[3].three and select(2, c:tryread()) == 'text' and tostring(c))
    for v in c:items(0) do assert(v) end
    assert(c:trywrite(item) and c:writeup(function() return item end) == ipc.channel.OPEN)
    c:close()
    arm(false)
  ]] },

  { 'a map', [[
    local arm = ...
    local ipc = require 'libipc'
    arm(true)
    local m = ipc.map(2, function(a, id) return id, a, { id } end, { 'argument' })
    local _, _, one, id, t = m:join()
    assert(one[1] == 1 and id == 2 and t[1] == 'argument')
    m = ipc.map(1, function() error { code = 5 } end)
    local ok, e = pcall(m.join, m)
    if ok or ipc.errcode(e) ~= 'worker' then error(e, 0) end
    m = ipc.map { threads = 1, fn = function(x) return x end, args = { 1 }, upvalues = true, name = 'memory' }
    assert(tostring(m) and m:join() == 1 and m:poll() == 0)
    arm(false)
  ]] },

  { 'a pool', [[
    local arm = ...
    local ipc = require 'libipc'
    arm(true)
    local p = ipc.pool(1)
    local f = p:submit(function(t) return t, 'two' end, { 1, { 2 } })
    local t, two = f:get()
    assert(t[2][1] == 2 and two == 'two' and f:done() and tostring(f))
    local squares, sum = p:map(function(x) return x * x end, { 1, 2, 3 }), 0
    for i, x in p:each(function(x) return x end, squares) do sum = sum + i * x end
    assert(sum == 36)
    local b = p:batch()
    b:submit(function() error { code = 5 } end)
    local n, failed = b:next()
    local ok, e = pcall(failed.get, failed)
    -- In words where there was no memory for the value.
    if ok or not (type(e) == 'table' and e.code == 5 or tostring(e):find('code = 5', 1, true)) then error(e, 0) end
    arm(false)
    p:close()
  ]] },

  { 'reads of a channel and a queue', AGAIN .. [[
    local torch = require 'ipc.torch'
    local c, q = ipc.channel(), ipc.workqueue()
    c:write(value, long, { torch.FloatTensor { 1, 2 }, c })
    c:close()
    q:write(value, long)
    local asked = ipc.map(1, function(q) q:write((q:read())) q:write((q:read())) end, q)
    asked:join()
    again(function() return select(2, c:read()) end, is_value)
    again(function() return select(2, c:tryread()) end, function(v) assert(v == long) end)
    again(function() return select(2, c:read()) end, function(v) assert(v[1][2] == 2 and v[2]:drained()) end)
    again(function() return q:read() end, is_value)
    again(function() return q:read() end, function(v) assert(v == long) end)
    assert(c:drained() and q:pending() == 0)
  ]] },

  { 'a read while there is garbage with finalizers', AGAIN .. [[
    local c, ran = ipc.channel(), 0
    local function finalizes() if newproxy then
        local p = newproxy(true)
        getmetatable(p).__gc = function() ran = ran + 1 end
      else
        setmetatable({}, { __gc = function() ran = ran + 1 end })
      end
    end
    collectgarbage()
    for i = 1, 5 do
      c:write(value)
      finalizes()
      again(function() return select(2, c:read()) end, is_value)
    end
    collectgarbage()
    collectgarbage()
    assert(ran == 5, ran)
  ]] },

  { 'receives', AGAIN .. [[
    local torch = require 'ipc.torch'
    for _, link in ipairs { 'memory', 'tcp' } do
      local server, port = ipc.server { transport = link }
      local client, handle = ipc.client('127.0.0.1', port, { transport = link }), nil
      server:clients(1, function(c) handle = c end)
      for _, way in ipairs { 'recv', 'tryrecv', 'recvAny' } do
        local function receive()
          if way == 'recv' then return client:recv(5) end
          if way == 'tryrecv' then return select(2, client:tryrecv(5)) end
          return (server:recvAny(5))
        end
        local from = way == 'recvAny' and client or handle
        from:send(value)
        from:send(long)
        from:send { torch.FloatTensor { 1, 2 } }
        again(receive, is_value)
        again(receive, function(v) assert(v == long) end)
        again(receive, function(v) assert(v[1][2] == 2) end)
      end
      assert(client:recvAsync() == nil and handle:recvAsync() == nil)
      server:close()
    end
  ]] },

  { 'results', AGAIN .. [[
    local function give(value, long) return value, long end
    local m = ipc.map(1, give, value, long)
    m:poll()
    again(function() return m:join() end, function(v, s) is_value(v) assert(s == long) end)
    m = ipc.map(1, give, value, long)
    local step = m:results()
    again(function() return step() end, function(id, v, s) is_value(v) assert(id == 1 and s == long) end)
    local p = ipc.pool(1)
    local b = p:batch()
    b:submit(give, value, long)
    again(function() return b:next() end, function(n, f) assert(n == 1) is_value((f:get())) end)
    p:close()
    local BackgroundTaskPool = require 'ipc.BackgroundTaskPool'
    local tasks = BackgroundTaskPool(1)
    tasks.addTask(give, value, long)
    again(function() return tasks.getResult() end, function(v, s) is_value(v) assert(s == long) end)
    tasks.close()
    local child = ipc.spawn { file = 'sh', args = { '-c', 'i=0; while [ $i -lt 500 ]; do echo line $i of many; i=$((i + 1)); done' } }
    local all = {}
    for i = 0, 499 do all[i] = ('line %d of many\n'):format(i) end
    all = table.concat(all, '', 0)
    again(function() return child:stdout '*all' end, function(v) assert(v == all) end)
    child:wait()
  ]] },

  { 'a server and a client', [[
    local arm = ...
    local ipc = require 'libipc'
    arm(true)
    local server, port = ipc.server()
    local client = ipc.client('127.0.0.1', port)
    local got
    server:clients(1, function(c)
      c:send { 1, 'two', { three = 3 } }
      client:send 'question'
      c:tag 'tagged'
      got = c:recv()
      assert(c:id() and c:address() and tostring(c))
    end)
    assert(client:recv()[3].three == 3 and got == 'question')
    server:broadcast { 'all' }
    assert(client:recv()[1] == 'all')
    client:send { 5 }
    local v, c = server:recvAny()
    assert(v[1] == 5 and c:tag() == 'tagged')
    assert(client:recvAsync() == nil and client:tryrecv(0) == false)
    local ok, e = pcall(client.recv, client, 0)
    if ok or ipc.errcode(e) ~= 'timeout' then error(e, 0) end
    assert(client:netStats() and server:netStats() and tostring(server))
    client:close()
    server:close()
    arm(false)
  ]] },

  { 'tensors', [[
    local arm = ...
    local ipc = require 'libipc'
    arm(true)
    local torch = require 'ipc.torch'
    local t = torch.FloatTensor(3, 4):fill(1)
    local u = torch.range(1, 12):resize(3, 4)
    t[2][3] = 5
    t[{ {}, { 1, 2 } }]:zero()
    local sum = (u + t:double()):sum()
    assert(sum > 0 and tostring(t) and tostring(u:storage()) and u:t():isContiguous() == false)
    local back = ipc.marshal({ t, u:storage() }):read()
    assert(back[1]:nElement() == 12)
    assert(#u:totable() == 3 and torch.type(u) == 'torch.DoubleTensor')
    local ok, e = pcall(u.narrow, u, 7, 1, 1)
    if ok or not tostring(e):find('libipc [argument]', 1, true) then error(e, 0) end
    arm(false)
  ]] },

  { 'locks of files and reports', [[
    local arm = ...
    local ipc = require 'libipc'
    local path = (os.getenv 'TMPDIR' or '/tmp') .. '/memory_spec.lock'
    arm(true)
    local lock = ipc.flock(path)
    lock:write(('x'):rep(1000))
    assert(#lock:read() == 1000 and tostring(lock):find 'held')
    assert(ipc.flock(path, true) == nil)
    local r = ipc.report()
    assert(#r.objects > 0 and #r.threads > 0 and tostring(r):find(path, 1, true))
    lock:close()
    arm(false)
    os.remove(path)
  ]] },

  { 'the rest', [[
    local arm = ...
    local ipc = require 'libipc'
    arm(true)
    ipc.sleep(0)
    assert(ipc.clock() > 0 and ipc.cpus() > 0 and ipc.getpid() > 0)
    for _, name in ipairs { 'marshal', 'mutex', 'atomic', 'workqueue', 'map', 'sleep', 'waitpid', 'register' } do
      pcall(ipc[name], {}, -1, print)
    end
    arm(false)
  ]] },
}

if support.is_luajit then
  chunks[#chunks + 1] = { 'cdata', [[
    local arm = ...
    local ipc = require 'libipc'
    arm(true)
    local back = ipc.marshal({ 1LL, 2ULL, { -3LL } }):read()
    assert(back[1] == 1LL and back[3][1] == -3LL)
    arm(false)
  ]] }
end

-- One failure: LuaJIT and 5.1 raise, the others collect garbage and try again. Two: an error everywhere.
local modes = { { 'once', 1 }, { 'twice', 2 }, { 'from then on', 2 ^ 50 } }

describe('out of memory', function()
  local library = support.root .. '/target/out_of_memory.so'
  local source = {}

  for _, chunk in ipairs(chunks) do
    for _, mode in ipairs(modes) do
      it(('%s in %s is an error and nothing else'):format(mode[1], chunk[1]), function()
        if not support.exists(library) then pending 'make target/out_of_memory.so' end
        source[chunk] = source[chunk] or support.write(support.tmpname '.chunk.lua', chunk[2])
        local progress = support.tmpname '.n'
        local r = support.run(driver, {
          args = { library, source[chunk], ('%.0f'):format(mode[2]), every and '1000000' or '80', progress },
          timeout = every and 1800 or 500,
        })
        if r.status ~= 0 then
          error(('at allocation %s: ended with %s\n%s%s'):format(
            support.exists(progress) and support.read(progress) or '?', r.signal or r.status, r.stdout, r.stderr), 0)
        end
      end)
    end
  end
end)
