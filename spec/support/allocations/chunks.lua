-- What is done while memory runs out, by name. Sizes are past what the allocator's reserve serves, so that whatever takes memory
-- without being able to fail ends the program.
return {
  ['channels'] = [[
    local arm = ...
    local ipc = require 'libipc'
    local long, list, objects = ('x'):rep(40000), {}, {}
    for i = 1, 20000 do list[i] = i end
    for i = 1, 2000 do objects[i] = ipc.channel() end
    local c = ipc.channel()
    local before = #c
    arm(true)
    local ok, e = pcall(c.write, c, long, list, 5, { key = long, [long] = 1, { {} } })
    arm(false)
    pcall(ipc.cpus)
    assert(#c == before + (ok and 4 or 0), 'a write that fails leaves the channel as it was')
    if not ok then error(e, 0) end
    arm(true)
    for i = 1, 3000 do c:write(i) end
    c:write(objects)
    assert(tostring(c) and c:closed() == false and c:drained() == false and c:num_items() > 3000)
    assert(c:trywrite(long) and c:writeup(function() return long end))
    local _, got = c:read()
    assert(got == long)
    c:tryread()
    for v in c:items(0) do assert(v) end
    c:close()
    arm(false)
  ]],

  ['work queues'] = [[
    local arm = ...
    local ipc = require 'libipc'
    local name = ('q'):rep(30000)
    local q
    arm(true)
    q = ipc.workqueue(name)
    q:write(('x'):rep(20000), { 1, 2 }, 3)
    q:trywrite(4)
    q:writeup(function() return 5 end)
    for i = 1, 3000 do q:write(i) end
    assert(q:pending() and tostring(q))
    local other = ipc.workqueue(name)
    local values = {}
    ipc.map(1, function(n)
      local q = require 'libipc'.workqueue(n)
      for _ = 1, 5 do q:write(q:read()) end
    end, name):join()
    for _ = 1, 5 do values[#values + 1] = q:read() end
    assert(#values == 5 and #values[1] == 20000)
    other:close()
    q:close()
    arm(false)
  ]],

  ['marshals'] = [[
    local arm = ...
    local ipc = require 'libipc'
    local value, objects = {}, {}
    for i = 1, 3000 do value[i], objects[i] = { i }, ipc.atomic(i) end
    value[0.5], value.self, value.objects = ('x'):rep(30000), value, objects
    local cell = 1
    local function f() cell = cell + 1 return cell, value[1] end
    local function g() return cell end
    arm(true)
    local m = ipc.marshal(value)
    assert(#m:read() == 3000 and tostring(m))
    m:close()
    m = ipc.marshal({ f, g }, true)
    assert(m:read()[1]() == 2)
    local t = require 'ipc.torch'.FloatTensor(10000):fill(1)
    m = ipc.marshal { t, t:storage() }
    local bytes = m:bytes()
    assert(ipc.unmarshal(bytes)[1][5] == 1)
    local ok, e = pcall(ipc.marshal, { [('k'):rep(30000)] = { coroutine.create(function() end) } })
    assert(not ok)
    if not tostring(e):find 'unsupported' then error(e, 0) end
    arm(false)
  ]],

  ['shared tables'] = [[
    local arm = ...
    local ipc = require 'libipc'
    local name, long = ('k'):rep(20000), ('v'):rep(30000)
    local t = ipc.sharedtable {}
    t[name] = 'before'
    arm(true)
    local ok, e = pcall(function() t[name] = long end)
    arm(false)
    pcall(ipc.cpus)
    assert(t[name] == (ok and long or 'before'), 'a write that fails leaves the table as it was')
    if not ok then error(e, 0) end
    arm(true)
    t = ipc.sharedtable { list = { 1, 2 }, [name] = long }
    for i = 1, 3000 do t[i] = i end
    for i = 1, 100 do t['key' .. i] = ('x'):rep(100) end
    assert(ipc.sharedtable.incr(t, 'n', 2) == 2 and #t > 3000 and tostring(t))
    assert(ipc.sharedtable.cas(t, 'n', 2, long))
    ipc.sharedtable.update(t, name, function(v) return v .. 'x' end)
    assert(#ipc.sharedtable.keys(t) > 3000 and ipc.sharedtable.kbytes(t) > 0 and ipc.sharedtable_size(t) > 0)
    local n = 0
    for _ in ipc.sharedtable.pairs(t) do n = n + 1 end
    assert(n > 3000 and t == ipc.marshal(t):read())
    t[name] = nil
    arm(false)
  ]],

  ['processes'] = [[
    local arm = ...
    local ipc = require 'libipc'
    local args, env = {}, { A = 1, B = false, C = ('c'):rep(20000) }
    for i = 1, 3000 do args[i] = 'argument' .. i end
    arm(true)
    local p = ipc.spawn { file = 'echo', args = args, env = env, cwd = '/', stderr = 'null' }
    local out = p:stdout '*all'
    assert(#out > 30000, #out)
    assert(p:wait() == 0 and tostring(p) and p:pid() and not p:running() and not p:kill())
    p = ipc.spawn { file = 'cat', args = { '/dev/zero' }, group = true, stderr = 'pipe' }
    assert(#p:stdout(100000) > 0 and p:stdoutFileId() and p:stderrFileId())
    p:kill(9)
    p:wait()
    p = ipc.spawn { file = 'cat' }
    p:stdin(('line\n'):rep(10000))
    p:stdin()
    assert(p:stdout() == 'line' and p:stdout '*L' == 'line\n' and #p:stdout '*a' == 49990 and p:stdout() == nil)
    assert(p:wait() == 0)
    local list = {}
    for i = 1, 3000 do list[i] = 'NAME' .. i .. '=value' end
    p = ipc.spawn { file = '/usr/bin/env', env = list }
    assert(#p:stdout '*all' > 30000)
    p:wait()
    local ok, e = pcall(ipc.spawn, { file = ('no'):rep(20000) })
    assert(not ok)
    if not tostring(e):find '%[io%]' then error(e, 0) end
    arm(false)
  ]],

  ['maps'] = [[
    local arm = ...
    local ipc = require 'libipc'
    local long = ('x'):rep(30000)
    arm(true)
    local m = ipc.map(3, function(a, id) return a, id end, long)
    local a, id = m:join()
    assert(#a == 30000 and id == 1 and tostring(m) and m:poll() == 0)
    m = ipc.map { threads = 2, fn = function(x) error(x) end, args = { long }, name = long }
    local ok, e = pcall(m.join, m)
    assert(not ok and pcall(m.checkErrors, m) ~= nil)
    if not tostring(e):find(('x'):rep(100), 1, true) then error(e, 0) end
    m = ipc.map_extended(2, function() end, function() return 7 end)
    for _, v in m:results() do assert(v == 7) end
    m = ipc.map(2, function() require 'libipc'.sleep(100) end)
    m:cancel()
    pcall(m.join, m)
    arm(false)
  ]],

  ['pools'] = [[
    local arm = ...
    local ipc = require 'libipc'
    local long = ('x'):rep(30000)
    arm(true)
    local p = ipc.pool(2, { name = 'few' })
    local f = p:submit(function(s) return s, { s } end, long)
    local s, t = f:get()
    assert(s == long and t[1] == long and f:done() and tostring(f) and tostring(p))
    local list = {}
    for i = 1, 300 do list[i] = i end
    assert(#p:map(function(x) return x end, list) == 300)
    for i, v in p:each(function(x) return x end, { 1, 2, 3 }) do assert(i == v) end
    local b = p:batch()
    for i = 1, 1000 do b:submit(function() end) end
    assert(b:pending() > 0 and tostring(b))
    for _, future in b:results() do future:get() end
    f = p:submit(function(x) error(x) end, long)
    local ok, e = pcall(f.get, f)
    assert(not ok)
    if not tostring(e):find(('x'):rep(100), 1, true) then error(e, 0) end
    f = p:submit(function() require 'libipc'.sleep(100) end)
    f:cancel()
    p:close()
    p = ipc.pool(1)
    p:cancel()
    arm(false)
  ]],

  ['servers and clients'] = [[
    local arm = ...
    local ipc = require 'libipc'
    local torch = require 'ipc.torch'
    local long, list, tensors = ('x'):rep(100000), {}, {}
    for i = 1, 20000 do list[i] = i end
    for i = 1, 100 do tensors[i] = torch.FloatTensor(i) end
    arm(true)
    local server, port = ipc.server()
    local client = ipc.client('127.0.0.1', port, { timeout = 20 })
    server:clients(1, function(c)
      c:send(long)
      c:send { list, tensors }
      client:send(long)
      c:tag 'tagged'
      assert(#c:recv(20) == 100000 and c:id() and c:address() and tostring(c) and c:netStats())
    end, 20)
    assert(#client:recv() == 100000 and #client:recv()[2] == 100)
    server:broadcast { long }
    assert(client:recv()[1] == long)
    client:send { list }
    local v, c = server:recvAny(nil, 20)
    assert(#v[1] == 20000 and c:tag() == 'tagged')
    c:send(torch.FloatTensor(50000))
    assert(client:recv(torch.FloatTensor(50000)):nElement() == 50000)
    assert(client:recvAsync() == nil and client:tryrecv(0) == false)
    assert(client:netStats() and server:netStats() and tostring(server) and server:address())
    client:close()
    server:close()
    arm(false)
  ]],

  ['encrypted connections'] = [[
    local arm = ...
    local ipc = require 'libipc'
    local long = ('x'):rep(200000)
    arm(true)
    local server, port = ipc.server('127.0.0.1', 0, { secret = long })
    local client = ipc.client('127.0.0.1', port, { secret = long, timeout = 20 })
    client:send(long)
    local v, c, why = server:recvAny(nil, { gone = true, timeout = 20 })
    assert(v, why) -- where there is no memory for the message, its sender has gone
    c:send(v)
    assert(client:recv() == long)
    client:close()
    server:close()
    arm(false)
  ]],

  ['files of tensors'] = [[
    local arm = ...
    local ipc = require 'libipc'
    local torch = require 'ipc.torch'
    local path = os.tmpname()
    local value = { ('x'):rep(100000), torch.FloatTensor(20000):fill(2), torch.range(1, 5000) }
    for i = 1, 2000 do value[#value + 1] = { i } end
    arm(true)
    for _, form in ipairs { 'binary', 'ascii' } do
      torch.save(path, value, form)
      assert(#torch.load(path, form) == #value)
      local s = torch.serialize(value, form)
      assert(#torch.deserialize(s, form) == #value)
    end
    arm(false)
    os.remove(path)
  ]],

  ['tensors'] = [[
    local arm = ...
    local ipc = require 'libipc'
    local torch = require 'ipc.torch'
    arm(true)
    local t = torch.DoubleTensor(100, 100):fill(1)
    local u = torch.range(1, 10000):resize(100, 100)
    assert(#tostring(u) > 30000 and #tostring(u:storage()) > 10000)
    local sorted, order = torch.sort(u:view(10000), true)
    assert(sorted[1] == 10000 and order[1] == 10000)
    assert(torch.randperm(10000):sum() > 0 and u:index(1, torch.range(1, 100):long()):sum() > 0)
    assert(u:maskedSelect(u:gt(5000)):nElement() == 5000 and u:nonzero():size(1) == 10000)
    assert(#u:totable() == 100 and torch.cat(t, u, 1):size(1) == 200 and torch.mm(t, u):size(1) == 100)
    assert(torch.cumsum(u, 1):size(1) == 100 and torch.median(u) and u:t():contiguous():sum() > 0)
    assert(u:float():double():equal(u) and torch.FloatTensor(u:totable()):nElement() == 10000)
    assert(u:gather(1, torch.LongTensor(1, 100):fill(1)):nElement() == 100)
    torch.FloatStorage(20000):resize(50000)
    t:resizeAs(u):copy(u):add(1):cmul(u)
    arm(false)
  ]],

  ['waiting'] = [[
    local arm = ...
    local ipc = require 'libipc'
    local list, server = {}, ipc.server()
    for i = 1, 2000 do list[i] = ipc.channel() end
    list[2000]:write(1)
    arm(true)
    assert(ipc.select(list) == list[2000] and ipc.select({ list[1] }, 0) == nil)
    assert(list[1]:fd() and ipc.fd(0):fd() and server:fd())
    local timer = ipc.after(0)
    assert(ipc.select { timer } == timer)
    local every = ipc.every(0.001)
    every:read()
    timer:close()
    every:close()
    local m = ipc.mutex()
    m:lock()
    assert(m:trylock() == false or true)
    m:unlock()
    m:with(function() end)
    m:barrier(1)
    local a = ipc.atomic(1)
    assert(a:add(1) and a:get() and a:cas(5, 1) ~= nil)
    a:set(3)
    local r = ipc.report()
    assert(#r.objects <= 2000 or #tostring(r) > 30000)
    arm(false)
    server:close()
  ]],

  ['locks of files'] = [[
    local arm = ...
    local ipc = require 'libipc'
    local path = os.tmpname()
    arm(true)
    local lock = ipc.flock(path)
    lock:write(('x'):rep(100000))
    assert(#lock:read() == 100000 and tostring(lock))
    assert(ipc.flock(path, true) == nil)
    lock:close()
    local ok, e = pcall(ipc.flock, ('/no'):rep(20000))
    assert(not ok)
    if not tostring(e):find '%[io%]' then error(e, 0) end
    arm(false)
    os.remove(path)
  ]],
}
