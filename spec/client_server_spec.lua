-- §2: servers and clients, with threads, processes and strangers at the other end.
-- luacheck: ignore 431 (what goes to a thread has the same name there)
local support = require 'spec.support'
local peer = require 'spec.support.peer'
local ipc = require 'libipc'
local torch = require 'ipc.torch'

local fails = support.fails

-- A server with n clients: server, clients, the server's handles of them in the same order.
local function connected(n, options)
  local server, port = ipc.server('127.0.0.1', 0, options or {})
  local clients, handles = {}, {}
  for i = 1, n do
    clients[i] = ipc.client('127.0.0.1', port, options or {})
    server:clients(i, function() end, 60)
  end
  server:clients(function(c) handles[#handles + 1] = c end)
  return server, clients, handles, port
end

local function code(f, ...) return ipc.errcode(fails(f, ...)) end

describe('ipc.server', function()
  it('takes its options last: what follows them is not lost in silence', function()
    for _, given in ipairs { { {}, 45678 }, { '127.0.0.1', {}, 45678 } } do
      local e = support.fails(ipc.server, (unpack or table.unpack)(given))
      assert.matches(('[argument] ipc.server: argument #%d'):format(#given), e, 1, true)
    end
  end)
end)

describe('a server', function()
  it('takes any free port and returns it', function()
    local server, port = ipc.server()
    assert.is_true(port > 0)
    assert.equal('127.0.0.1:' .. port, server:address())
    assert.equal('ipc.server: open at 127.0.0.1:' .. port .. ', 0 clients', tostring(server))
    server:close()
    server:close()
    assert.equal('ipc.server: closed, was at 127.0.0.1:' .. port, tostring(server))
    assert.equal('closed', code(server.clients, server, print))
  end)

  it('takes a port alone, as a number or a string, and so do clients', function()
    local port = support.free_port()
    for _, form in ipairs { port, tostring(port) } do
      local server, real = ipc.server(form)
      assert.equal(port, real)
      for _, client in ipairs { ipc.client(form), ipc.client('127.0.0.1', form), ipc.client('127.0.0.1', port) } do
        client:close()
      end
      server:close()
    end
  end)

  it('takes its port again at once after it has gone', function()
    local port = support.free_port()
    local server = ipc.server('127.0.0.1', port)
    local clients = { ipc.client(port), ipc.client(port) }
    clients[1]:send 'x'
    server:recvAny()
    server:close()
    local again = ipc.server('127.0.0.1', port)
    assert.is_string(fails(ipc.server, '127.0.0.1', port):match 'this process listens there itself')
    again:close()
    -- And after its process was interrupted with clients connected.
    local p = support.start([[
      local ipc = require 'libipc'
      local server, port = ipc.server('127.0.0.1', tonumber(arg[1]))
      server:clients(1, function(c) c:send(port) end)
      ipc.sleep(200)
    ]], { args = { port } })
    local client = ipc.client(port)
    assert.equal(port, client:recv())
    p:kill 'INT'
    p:wait()
    ipc.server('127.0.0.1', port):close()
  end)

  it('listens at IPv4, IPv6, names and Unix sockets', function()
    local path = support.tmpname '.sock'
    -- A path is any bytes.
    for _, host in ipairs { '127.0.0.1', 'localhost', '::1', 'unix:' .. path, 'unix:' .. path .. '\255\254' } do
      local kind = host:match '^unix' and 'unix' or 'tcp'
      local ok, server, port = pcall(ipc.server, host, 0, { transport = kind })
      -- A host without IPv6 says so.
      assert(ok or host == '::1', tostring(server))
      if ok then
        local client = ipc.client(host, port, { transport = kind })
        client:send(host)
        assert.equal(host, (server:recvAny(60)))
        assert.equal(kind, client:netStats().transport)
        server:close()
      end
    end
    assert.is_false(support.exists(path))
    assert.matches('expected a host', support.fails(ipc.server, 'host\255'))
  end)

  it('waits until n clients are in, admits never more, and visits each', function()
    local server, port = ipc.server()
    local clients = {}
    for i = 1, 3 do
      clients[i] = ipc.client(port)
      clients[i]:send(i)
    end
    local seen = {}
    assert.equal(2, server:clients(2, function(c) seen[#seen + 1] = c:recv() end))
    assert.same({ 1, 2 }, seen)
    assert.equal(2, server:clients(2, function() end))
    assert.equal(2, server:clients(function() end))
    assert.equal(3, server:clients(3, function() end))
    local e = fails(server.clients, server, 4, print, 0.02)
    assert.equal('timeout', ipc.errcode(e))
    assert.is_string(e:match '3 of 4')
    assert.equal('timeout', code(server.clients, server, 4, print, { timeout = 0.01 }))
    server:close()
  end)

  it('waits for clients that come later, from other threads', function()
    local server, port = ipc.server()
    local m = ipc.map(3, function(port, id)
      local ipc = require 'libipc'
      ipc.sleep(0.02 * id)
      local c = ipc.client(port)
      c:send(id)
      return c:recv()
    end, port)
    local sum = 0
    assert.equal(3, server:clients(3, function(c) sum = sum + c:recv() end))
    assert.equal(6, sum)
    assert.equal(3, server:broadcast 'bye')
    assert.same({ 'bye', 'bye', 'bye' }, { m:join() })
    server:close()
  end)

  it('visits clients by ascending id, or descending, and those of a tag', function()
    local server, _, handles = connected(4)
    for i, id in ipairs { 3, 1, 3, 2 } do
      assert.equal(id, handles[i]:id(id))
      if i > 2 then handles[i]:tag 'late' end
    end
    local function order(...)
      local seen = {}
      server:clients(function(c)
        for i, h in ipairs(handles) do
          if h == c then seen[#seen + 1] = i end
        end
      end, ...)
      return table.concat(seen, ' ')
    end
    assert.equal('2 4 1 3', order())
    assert.equal('1 3 4 2', order(true))
    assert.equal('1 3 4 2', order(1))
    assert.equal('2 4 1 3', order(0))
    assert.equal('4 3', order 'late')
    assert.equal('3 4', order('late', true))
    assert.equal('1 3 4 2', order(nil, 1))
    assert.equal('', order 'nobody')
    server:close()
  end)

  it('visits equal ids in order of arrival and says how many it visited', function()
    local server, clients, handles = connected(5)
    for i, c in ipairs(clients) do c:send(i) end
    local seen = {}
    assert.equal(5, server:clients(function(c) seen[#seen + 1] = c:recv() end))
    assert.same({ 1, 2, 3, 4, 5 }, seen)
    handles[3]:close()
    assert.equal(4, server:clients(function() end))
    server:close()
  end)

  it('gives handles that stay good after the callback, until closed, one for each client', function()
    local server, clients, handles = connected(1)
    collectgarbage()
    handles[1]:send 'still'
    assert.equal('still', clients[1]:recv())
    local key = { [handles[1]] = true }
    server:clients(function(c) assert.is_true(key[c]) end)
    clients[1]:send 'x'
    local _, c = server:recvAny()
    assert.is_true(key[c])
    handles[1]:close()
    handles[1]:close()
    assert.equal('closed', code(handles[1].send, handles[1], 1))
    assert.equal('closed', code(clients[1].recv, clients[1]))
    server:close()
  end)

  it('passes on what a callback raises, and can be used inside of one', function()
    local server, clients = connected(2)
    local e = fails(server.clients, server, function() error 'mine' end)
    assert.is_string(e:match 'mine')
    server:clients(function(c)
      c:send(server:clients(function() end))
      server:broadcast 'all'
    end)
    assert.same({ 2, 'all', 'all' }, { clients[1]:recv(), clients[1]:recv(), clients[1]:recv() })
    server:close()
  end)

  it('tells and sets id, tag and address of a client', function()
    local server, clients, handles = connected(1)
    local h = handles[1]
    assert.equal(0, h:id())
    assert.is_nil(h:tag())
    assert.equal(7, h:id(7))
    assert.equal('t\0t', h:tag 't\0t')
    assert.same({ 7, 't\0t' }, { h:id(), h:tag() })
    -- Its host, and its port beside it.
    local host, port = h:address()
    assert.equal('127.0.0.1', host)
    assert.is_number(port)
    assert.equal(server:address(), clients[1]:address())
    assert.equal('ipc.server.client', ipc.type(h))
    assert.equal('ipc.client', ipc.type(clients[1]))
    h:tag 'x'
    assert.equal(('ipc.server.client: open, 127.0.0.1:%d, id 7, tag \'x\''):format(port), tostring(h))
    local link = clients[1]:netStats().transport
    assert.equal(('ipc.client: open, to %s over %s'):format(server:address(), link), tostring(clients[1]))
    server:close()
  end)

  it('broadcasts to all, or to those of a tag', function()
    local server, clients, handles = connected(3)
    handles[2]:tag 'b'
    assert.equal(3, server:broadcast { 1, { torch.FloatTensor(2):fill(3) } })
    for _, c in ipairs(clients) do assert.equal(3, c:recv()[2][1][2]) end
    assert.equal(1, server:broadcast('b only', 'b'))
    assert.equal('b only', clients[2]:recv(60))
    assert.is_nil(clients[1]:recvAsync())
    assert.equal(0, server:broadcast('nobody', 'c'))
    server:close()
  end)

  it('receives from any client in turn, and admits who connects meanwhile', function()
    local server, clients, handles, port = connected(3)
    for round = 1, 20 do
      for _, c in ipairs(clients) do c:send(round) end
    end
    support.eventually(function() return support.delivered(port) end)
    local counts = {}
    for _ = 1, 60 do
      local _, c = server:recvAny()
      counts[c] = (counts[c] or 0) + 1
      for _, a in pairs(counts) do
        for _, h in ipairs(handles) do assert.is_true(a - (counts[h] or 0) <= 3) end
      end
    end
    local m = ipc.map(1, function(port)
      local ipc = require 'libipc'
      ipc.sleep(0.05)
      local c = ipc.client(port)
      c:send 'new'
      c:recv()
    end, port)
    local value, c = server:recvAny()
    assert.equal('new', value)
    assert.equal(4, server:clients(function() end))
    c:send 'done'
    m:join()
    server:close()
  end)

  it('receives from any client of a tag, nil messages too, within the time given', function()
    local server, clients, handles = connected(2)
    handles[1]:tag 'a'
    handles[2]:tag 'b'
    clients[1]:send 'from a'
    assert.equal('timeout', code(server.recvAny, server, 'b', 0.05))
    clients[2]:send(nil)
    local value, c = server:recvAny('b', 60)
    assert.is_nil(value)
    assert.equal(handles[2], c)
    assert.equal('from a', (server:recvAny(60)))
    assert.equal('timeout', code(server.recvAny, server, 0.01))
    assert.equal('timeout', code(server.recvAny, server, true))
    server:close()
  end)

  it('forgets in recvAny who has gone, and goes on with the others', function()
    local server, clients = connected(3)
    clients[2]:send 'last words'
    clients[2]:close()
    assert.equal('last words', (server:recvAny(60)))
    support.eventually(function()
      assert.equal('timeout', code(server.recvAny, server, 0.05))
      return server:clients(function() end) == 2
    end)
    clients[3]:send 'here'
    assert.equal('here', (server:recvAny(60)))
    server:close()
  end)

  it('has netStats of the fields that it had, and the transport', function()
    local server, clients, handles = connected(2)
    clients[1]:send 'hello'
    server:recvAny()
    handles[1]:send(torch.FloatTensor(100):fill(1))
    clients[1]:recv()
    local fields = { 'num_bytes', 'num_regions', 'num_calls', 'num_system_calls', 'total_seconds', 'system_seconds',
      'cuda_sync_seconds', 'cudacliser_profile_seconds', 'cuda_ipc_bytes', 'NETWORK MB/s', 'CUDA IPC MB/s' }
    for _, object in ipairs { server, clients[1], handles[1] } do
      local stats = object:netStats()
      for _, direction in ipairs { 'tx', 'rx' } do
        for _, field in ipairs(fields) do assert.is_number(stats[direction][field], field) end
      end
    end
    local stats = clients[1]:netStats()
    local link = stats.transport
    assert.equal(os.getenv 'IPC_TRANSPORT' or 'memory', link)
    assert.equal(1, stats.tx.num_calls)
    assert.equal(1, stats.rx.num_calls)
    assert.is_true(stats.rx.num_bytes > 400)
    assert.same({ [link] = 2 }, server:netStats().transports)
    clients[1]:close()
    support.eventually(function()
      fails(server.recvAny, server, 0.05)
      return server:netStats().transports[link] == 1
    end)
    assert.equal(1, server:netStats().rx.num_calls)
    server:close()
  end)

  it('goes through memory between threads of one process, unless told otherwise', function()
    for _, case in ipairs {
      { {}, {}, 'memory' },
      { { secret = 's' }, { secret = 's' }, 'memory' },
      { { transport = 'memory' }, {}, 'memory' },
      { {}, { transport = 'memory' }, 'memory' },
      { { transport = 'tcp' }, {}, 'tcp' },
      { {}, { transport = 'tcp' }, 'tcp' },
      { { secret = 's', encrypt = true }, { secret = 's' }, 'tcp' },
      { { secret = 's', encrypt = false }, { secret = 's', encrypt = true }, 'tcp' },
    } do
      for i = 1, 2 do case[i].transport = case[i].transport or 'auto' end
      local server, port = ipc.server(case[1])
      -- From another thread, which the link is for.
      local m = ipc.map(1, function(p, options)
        local client = require 'libipc'.client(p, options)
        client:send(client:recv(60))
        return client:netStats().transport
      end, port, case[2])
      local h
      server:clients(1, function(c) h = c end, 60)
      h:send { 'there and back' }
      assert.same({ 'there and back' }, h:recv(60))
      assert.same({ case[3], case[3] }, { m:join(), h:netStats().transport })
      server:close()
    end
  end)

  it('says why a link that was asked for cannot be', function()
    local server, port = ipc.server { transport = 'tcp' }
    local e = fails(ipc.client, port, { transport = 'memory' })
    assert.equal('unsupported', ipc.errcode(e))
    assert.matches('the other end does not want it', e)
    server:close()
    server, port = ipc.server { transport = 'memory' }
    e = fails(ipc.client, port, { transport = 'tcp' })
    assert.equal('unsupported', ipc.errcode(e))
    assert.matches('the server talks over memory only', e)
    -- Another process says so, and the server goes on.
    local told = support.run([[
      io.write(tostring(select(2, pcall(require 'libipc'.client, tonumber(arg[1]), { transport = 'auto' }))))
    ]], { args = { tostring(port) } }).stdout
    assert.matches('%[unsupported%].*over memory only.*another process', told)
    local client = ipc.client(port, { transport = 'auto' })
    client:send 'in'
    assert.equal('in', (server:recvAny(60)))
    server:close()
    assert.equal('unsupported', code(ipc.server, '127.0.0.1', 0, { transport = 'unix' }))
    assert.equal('unsupported', code(ipc.client, 'unix:/nowhere', 0, { transport = 'tcp' }))
    assert.equal('argument', code(ipc.server, { transport = 'pigeon' }))
    assert.equal('argument', code(ipc.server, { transport = 'memory', secret = 's', encrypt = true }))
    support.check([[
      local ok, e = pcall(require 'libipc'.server)
      assert(not ok and require 'libipc'.errcode(e) == 'argument' and e:find('IPC_TRANSPORT', 1, true), e)
    ]], { env = { IPC_TRANSPORT = 'pigeon' } })
  end)

  it('takes some megabytes unread over memory, and one message of any size when it is empty', function()
    local server, port = ipc.server { transport = 'memory' }
    local client, h = ipc.client(port, { transport = 'memory' }), nil
    server:clients(1, function(c) h = c end, 60)
    local long = ('x'):rep(2 ^ 10):rep(40 * 2 ^ 10)
    client:send(long, 60)
    -- It is not empty now.
    assert.equal('timeout', code(client.send, client, 'more', 0.01))
    assert.equal(long, h:recv(60))
    local sent, piece = 0, ('y'):rep(1000)
    while pcall(client.send, client, piece, 0.01) do sent = sent + 1 end
    assert.is_true(sent * 1000 >= 4 * 2 ^ 20)
    for _ = 1, sent do assert.equal(piece, h:recv(60)) end
    -- Nothing was lost by the time-outs: the connection is as it was.
    client:send('last', 60)
    assert.equal('last', h:recv(60))
    server:close()
  end)

  it('says what is at the path where it cannot listen', function()
    local path = support.tmpname()
    support.write(path, 'text')
    for _, kind in ipairs { 'file', 'folder' } do
      if kind == 'folder' then
        os.remove(path)
        os.execute('mkdir ' .. path)
      end
      local e = fails(ipc.server, 'unix:' .. path, 0, { transport = 'unix' })
      assert.equal('io', ipc.errcode(e))
      assert.matches('is no socket: remove it, or take another path', e)
    end
  end)

  it('serves more clients than select could watch', function()
    local server, clients = connected(0)
    local _, port = server:address():match '^(.*):(%d+)$'
    for i = 1, 1100 do clients[i] = ipc.client(port) end
    assert.equal(1100, server:clients(1100, function() end, 60))
    for i = 1, 1100 do clients[i]:send(i) end
    local sum = 0
    for _ = 1, 1100 do sum = sum + server:recvAny(nil, 60) end
    assert.equal(1100 * 1101 / 2, sum)
    server:close()
  end)
end)

describe('a client', function()
  it('keeps trying until its server is up', function()
    local port = support.free_port()
    local p = support.start([[
      local ipc = require 'libipc'
      local client = ipc.client(tonumber(arg[1]))
      client:send 'I am here'
      print(client:recv())
    ]], { args = { port } })
    ipc.sleep(0.2)
    local server = ipc.server(port)
    server:clients(1, function(c)
      assert.equal('I am here', c:recv())
      c:send 'so am I'
    end)
    assert.equal('so am I\n', p:wait().stdout)
    server:close()
  end)

  it('gives up a dead port once connect_timeout is over', function()
    local port = support.free_port()
    local began = ipc.clock()
    local e = fails(ipc.client, '127.0.0.1', port, { connect_timeout = 0.1 })
    assert.equal('timeout', ipc.errcode(e))
    assert.is_string(e:find('127.0.0.1:' .. port, 1, true) and e:match 'nobody listens')
    assert.is_true(ipc.clock() - began >= 0.1)
    assert.equal('timeout', code(ipc.client, 'unix:' .. support.tmpname(), { connect_timeout = 0.01, transport = 'unix' }))
    local path = support.tmpname()
    for _, f in ipairs { ipc.server, ipc.client } do
      local refused = fails(f, 'unix:' .. path .. '\0tail')
      assert.equal('argument', ipc.errcode(refused))
      assert.matches('NUL', refused)
    end
    assert.is_false(support.exists(path))
  end)

  it('fails at once for a host that does not resolve', function()
    local e = fails(ipc.client, 'no-such-host.invalid', 1)
    assert.is_string(e:match 'no%-such%-host%.invalid')
    assert.is_string(e:match 'does not resolve')
  end)

  it('says so when something else answers', function()
    local listener = assert(require('socket').bind('127.0.0.1', 0))
    local _, port = listener:getsockname()
    local m = ipc.map(1, function(port)
      return select(2, pcall(require('libipc').client, port))
    end, tonumber(port))
    local s = assert(listener:accept())
    s:send 'HTTP/1.1 400 Bad Request\r\n\r\n'
    assert.equal('protocol', ipc.errcode(m:join()))
    s:close()
    listener:close()
  end)

  it('sends and receives values of every kind, both ways', function()
    local _, clients, handles = connected(1)
    local shared = { 1 }
    local cycle = { a = shared, b = shared }
    cycle.self = cycle
    local values = { true, false, 0, -1.5, 1 / 0, -1 / 0, 2 ^ 53, '', 'a\0b', ('x'):rep(100000), { 1, 2, 3 }, { a = { b = { c = 1 } } } }
    for _, pair in ipairs { { clients[1], handles[1] }, { handles[1], clients[1] } } do
      local from, to = pair[1], pair[2]
      for _, v in ipairs(values) do
        from:send(v)
        assert.same(v, to:recv(60))
      end
      from:send(nil)
      assert.is_nil(to:recv(60))
      from:send(0 / 0)
      local nan = to:recv(60)
      assert.is_true(nan ~= nan)
      from:send(cycle)
      local got = to:recv(60)
      assert.equal(got, got.self)
      assert.equal(got.a, got.b)
    end
  end)

  it('sends tensors by value as of the call, wherever they stand in the message', function()
    local _, clients, handles = connected(1)
    local t = torch.DoubleTensor { { 1, 2 }, { 3, 4 } }
    clients[1]:send { deep = { list = { t, t:t() } }, storage = torch.IntStorage { 7, 8 } }
    t:fill(0)
    local got = handles[1]:recv(60)
    assert.same({ { 1, 2 }, { 3, 4 } }, got.deep.list[1]:totable())
    assert.same({ { 1, 3 }, { 2, 4 } }, got.deep.list[2]:totable())
    assert.same({ 7, 8 }, got.storage:totable())
  end)

  it('sends memory that tensors share once, and they arrive sharing it', function()
    local torch = require 'ipc.torch'
    local cases = {
      { '127.0.0.1', { transport = 'memory' } },
      { '127.0.0.1', { transport = 'tcp' } },
      { '127.0.0.1', { transport = 'tcp', secret = 's' } },
      { 'unix:' .. support.tmpname(), { transport = 'unix' } },
    }
    for _, case in ipairs(cases) do
      local host, o = case[1], case[2]
      local server, port = ipc.server(host, 0, o)
      local m = ipc.map(1, function(host, port, o)
        local ipc = require 'libipc'
        local torch = require 'ipc.torch'
        local client = ipc.client(host, port, o)
        local t = torch.range(1, 40000):resize(200, 200)
        client:send({ all = t, turned = t:t(), row = t[7], storage = t:storage() })
        local got = client:recv()
        got.all:fill(3)
        local sum = got.half:sum()
        client:close()
        return sum
      end, host, port, o)
      local c
      server:clients(1, function(it) c = it end)
      local got = c:recv(60)
      got.turned:fill(2)
      assert.equal(80000, got.all:sum())
      assert.equal(400, got.row:sum())
      assert.equal(2, got.storage[40000])
      assert.is_true(server:netStats().rx.num_bytes < 40000 * 8 * 1.05, 'it travels once')
      local t = torch.FloatTensor(100):fill(1)
      assert.equal(1, server:broadcast({ all = t, half = t:narrow(1, 51, 50) }))
      assert.equal(150, m:join())
      server:close()
    end
  end)

  it('receives while it waits for room: two ends that send to each other at once both finish', function()
    local size = 3000000
    local cases = {
      { '127.0.0.1', { transport = 'memory' } },
      { '127.0.0.1', { transport = 'tcp' } },
      { '127.0.0.1', { transport = 'tcp', secret = 's' } },
      { 'unix:' .. support.tmpname(), { transport = 'unix' } },
    }
    for _, case in ipairs(cases) do
      local host, o = case[1], case[2]
      local server, port = ipc.server(host, 0, o)
      local m = ipc.map(1, function(host, port, o, size)
        local ipc, torch = require 'libipc', require 'ipc.torch'
        local client = ipc.client(host, port, o)
        client:send({ torch.DoubleTensor(size):fill(1), 'from the client' }, 60)
        local got = client:recv(60)
        client:send('again', 60)
        local sum = got[1]:sum()
        client:close()
        return sum, got[2]
      end, host, port, o, size)
      local c
      server:clients(1, function(it) c = it end)
      c:send({ torch.DoubleTensor(size):fill(2), 'from the server' }, 60)
      -- What the send has received is found by whoever looks, and goes where it is wanted.
      assert.equal(c, (ipc.select({ c }, 60)))
      local got = server:recvAny(nil, 60)
      assert.equal(size, got[1]:sum())
      assert.equal('from the client', got[2])
      assert.equal('again', c:recv(60))
      assert.same({ 2 * size, 'from the server' }, { m:join() })
      server:close()
    end
  end)

  it('counts what tensors show, and what goes for them, against max_tensor_bytes', function()
    local torch = require 'ipc.torch'
    local server, port = ipc.server('127.0.0.1', 0, { max_tensor_bytes = 1000 })
    local client = ipc.client('127.0.0.1', port)
    local t = torch.DoubleTensor(100, 100)
    -- They meet in one element, and so all between them goes: 50 shown, 8,000 bytes sent.
    local apart = { t:select(2, 1):narrow(1, 1, 10), t:select(2, 1):narrow(1, 10, 2), t:select(1, 1):narrow(1, 1, 1) }
    for _, v in ipairs { apart, { torch.DoubleTensor(1), t[1]:narrow(1, 1, 1):expand(200), t[1]:narrow(1, 1, 2) } } do
      local ok, e = pcall(client.send, client, v)
      assert.is_false(ok)
      assert.equal('limit', ipc.errcode(e))
    end
    client:send({ t[1]:narrow(1, 1, 50), t[1]:narrow(1, 20, 50) })
    local got = server:recvAny(nil, 60)
    got[1][20] = 5
    assert.equal(5, got[2][1])
    client:close()
    server:close()
  end)

  it('lets a message wait for the next one where its sender says that one follows, and not for ever', function()
    for _, options in ipairs { {}, { secret = 'open sesame', encrypt = true } } do
      local _, clients, handles = connected(1, options)
      clients[1]:send({ 'header' }, { more = true, timeout = 60 })
      clients[1]:send(torch.FloatTensor { 1, 2 }, { more = false })
      assert.same({ 'header' }, handles[1]:recv(60))
      assert.same({ 1, 2 }, handles[1]:recv(torch.FloatTensor(2), 60):totable())
      clients[1]:send('alone', { more = true })
      assert.equal('alone', handles[1]:recv(60))
      assert.equal('argument', code(clients[1].send, clients[1], 1, { more = 1 }))
      clients[1]:send 'and on'
      assert.equal('and on', handles[1]:recv(60))
    end
  end)

  it('receives a tensor as a new one, or into one of any strides', function()
    local _, clients, handles = connected(1)
    local sources = { torch.FloatTensor { { 1, 2, 3 }, { 4, 5, 6 } }, torch.FloatTensor { { 1, 4 }, { 2, 5 }, { 3, 6 } }:t() }
    local wide = torch.FloatTensor(2, 6):zero()
    local targets = { torch.FloatTensor(2, 3), torch.FloatTensor(3, 2):t(), wide:narrow(2, 2, 3) }
    for _, source in ipairs(sources) do
      clients[1]:send(source)
      local new = handles[1]:recv(60)
      assert.equal('torch.FloatTensor', ipc.type(new))
      assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, new:totable())
      for _, target in ipairs(targets) do
        target:zero()
        clients[1]:send(source)
        assert.equal(target, handles[1]:recv(target, 60))
        assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, target:totable())
      end
    end
    assert.same({ 0, 1, 2, 3, 0, 0 }, wide[1]:totable())
    local storage = torch.LongStorage(3)
    clients[1]:send(torch.LongStorage { 5, 6, 7 })
    assert.equal(storage, handles[1]:recv(storage))
    assert.same({ 5, 6, 7 }, storage:totable())
  end)

  it('receives large tensors whole', function()
    local _, clients, handles = connected(1)
    local t = torch.FloatTensor(1000, 1000):fill(2)
    local m = ipc.map(1, function(c, t) c:send(t) c:send(t:t()) end, clients[1], t)
    local into = torch.FloatTensor(1000, 1000):zero()
    handles[1]:recv(into)
    assert.equal(2e6, into:sum())
    assert.equal(2e6, handles[1]:recv():sum())
    m:join()
  end)

  it('names both in a mismatch and stays in step', function()
    local _, clients, handles = connected(1)
    local c, h = clients[1], handles[1]
    local target = torch.FloatTensor(6)
    for _, case in ipairs {
      { torch.FloatTensor(7), 'FloatTensor of 7' }, { torch.DoubleTensor(6), 'DoubleTensor of 6' },
      { torch.FloatTensor(2, 3), 'FloatTensor of 2x3' }, { torch.FloatStorage(6), 'FloatStorage of 6' },
      { 'text', 'without tensors' }, { { torch.FloatTensor(6) }, 'table' }, { torch.FloatTensor(30000), 'of 30000' },
    } do
      c:send(case[1])
      local e = fails(h.recv, h, target, 60)
      assert.equal('mismatch', ipc.errcode(e))
      assert.is_string(e:find(case[2], 1, true) and e:match 'torch%.FloatTensor of 6', e)
    end
    c:send 'in step'
    assert.equal('in step', h:recv(60))
  end)

  it('stays in step also where the target can hold nothing any more', function()
    local _, clients, handles = connected(1)
    local target = torch.FloatTensor(10)
    target:storage():resize(5)
    clients[1]:send(torch.FloatTensor(10))
    clients[1]:send 'in step'
    assert.equal('state', code(handles[1].recv, handles[1], target, 60))
    assert.equal('in step', handles[1]:recv(60))
  end)

  it('has no memory for tensors that are only announced', function()
    local out = support.check([[
      local ipc, peer = require 'ipc', require 'spec.support.peer'
      local function mapped()
        local status = io.open '/proc/self/status'
        return tonumber(status:read '*a':match 'VmSize:%s*(%d+) kB')
      end
      local server, port = ipc.server()
      local raw, handle = peer.client(port)
      server:clients(1, function(c) handle = c end)
      local before = mapped()
      -- 1,000 FloatTensors of 8 GiB each, of which nothing comes.
      local list, tensors = {}, {}
      for i = 0, 999 do
        list[i + 1] = '\214\2' .. peer.little(i, 4):reverse()
        tensors[i + 1] = '\1\6\1\0' .. peer.little(2 ^ 31, 8)
      end
      raw:send(peer.frame('\16\220\3\232' .. table.concat(list), { table.concat(tensors), '' }))
      local ok, e = pcall(handle.recv, handle, 0.2)
      assert(not ok and ipc.errcode(e) == 'timeout', e)
      io.write(('%d'):format(mapped() - before))
    ]])
    assert.is_true(tonumber(out) < 100 * 2 ^ 20, out .. ' kB')
  end)

  it('receives without waiting for the rest of a message', function()
    local server, port = ipc.server()
    local raw = peer.client(port)
    local h
    server:clients(1, function(c) h = c end)
    assert.is_nil(h:recvAsync())
    assert.is_false(h:tryrecv())
    local frame = peer.frame(peer.string(('x'):rep(1000)))
    raw:send(frame:sub(1, 10))
    ipc.sleep(0.02)
    assert.is_nil(h:recvAsync())
    raw:send(frame:sub(11, 500))
    ipc.sleep(0.02)
    assert.is_nil(h:recvAsync())
    assert.equal('timeout', code(server.recvAny, server, 0.02))
    assert.is_false(h:tryrecv(0.01))
    raw:send(frame:sub(501))
    assert.equal(('x'):rep(1000), (server:recvAny(60)))
    raw:close()
    server:close()
  end)

  it('tells a nil message from none', function()
    local _, clients, handles = connected(1)
    assert.is_false((clients[1]:tryrecv()))
    handles[1]:send(nil)
    local has, value = clients[1]:tryrecv(60)
    assert.is_true(has)
    assert.is_nil(value)
    handles[1]:send 'x'
    assert.same({ true, 'x' }, { clients[1]:tryrecv(60) })
  end)

  it('takes the time-out as a number, a boolean or an option', function()
    local _, clients, handles = connected(1, { timeout = 0.01 })
    local c = clients[1]
    assert.equal('timeout', code(c.recv, c))
    assert.equal('timeout', code(c.recv, c, 0.01))
    assert.equal('timeout', code(c.recv, c, true))
    assert.equal('timeout', code(c.recv, c, { timeout = 0.01 }))
    assert.equal('timeout', code(c.recv, c, torch.FloatTensor(1), 0.01))
    assert.equal('timeout', code(c.recv, c, nil, 0.01))
    handles[1]:send(5)
    assert.equal(5, c:recv(false))
    assert.equal('argument', code(c.recv, c, 'x'))
    -- What follows it would be taken for nothing.
    for _, first in ipairs { {}, false, 5 } do
      assert.matches('argument #2: expected nothing after the time%-out, got number', fails(c.recv, c, first, 0.01))
    end
    local server = ipc.server()
    assert.matches('argument #2: expected nothing after the time%-out', fails(server.recvAny, server, {}, 0.1))
    assert.matches('argument #2: expected nothing after the time%-out', fails(server.tryrecvAny, server, 1, 'x'))
    assert.matches('argument #3: expected nothing after the time%-out', fails(server.broadcast, server, 1, 0.1, 0.1))
    server:close()
    assert.equal('argument', code(c.send, c))
    assert.equal('argument', code(c.send, c, 1, { unknown = 1 }))
  end)

  it('keeps a partial message over a time-out, and goes on filling its tensor', function()
    local server, port = ipc.server()
    local raw = peer.client(port)
    local h
    server:clients(1, function(c) h = c end)
    local frame = peer.frame(peer.lone, peer.floats { 1, 2, 3, 4 })
    local t = torch.FloatTensor(4):zero()
    raw:send(frame:sub(1, -6))
    assert.equal('timeout', code(h.recv, h, t, 0.05))
    assert.equal('timeout', code(h.recv, h, 0.01))
    raw:send(frame:sub(-5))
    assert.equal(t, h:recv(t, 60))
    assert.same({ 1, 2, 3, 4 }, t:totable())
    raw:close()
    server:close()
  end)

  it('closes the connection when a send runs out of time after its first byte', function()
    local server, port = ipc.server { transport = 'tcp' }
    local c, big = ipc.client(port), ('x'):rep(2 ^ 10):rep(50 * 2 ^ 10)
    local h
    server:clients(1, function(it) h = it end, 60)
    local e = fails(c.send, c, big, { timeout = 0.05 })
    assert.equal('timeout', ipc.errcode(e))
    assert.is_string(e:match 'closed the connection')
    assert.equal('closed', code(c.send, c, 1))
    assert.equal('closed', code(h.recv, h))
    server:close()
  end)

  it('raises closed, naming the peer, when that has closed, now and later', function()
    local server, clients, handles = connected(2)
    handles[1]:send 'before'
    handles[1]:close()
    local c = clients[1]
    assert.equal('before', c:recv())
    for _ = 1, 3 do
      local e = fails(c.recv, c)
      assert.equal('closed', ipc.errcode(e))
      assert.is_truthy(e:find(c:address(), 1, true))
    end
    assert.equal('closed', code(c.recvAsync, c))
    assert.equal('closed', code(c.tryrecv, c, 60))
    assert.equal('closed', code(c.send, c, 1))
    server:close()
    assert.equal('closed', code(clients[2].recv, clients[2]))
  end)

  it('raises closed at once in a blocked call when the peer is killed', function()
    local server, port = ipc.server()
    local p = support.start([[
      local ipc = require 'libipc'
      local c = ipc.client(tonumber(arg[1]))
      c:send 'ready'
      ipc.sleep(200)
    ]], { args = { port } })
    local h
    server:clients(1, function(c) h = c end)
    assert.equal('ready', h:recv())
    local m = ipc.map(1, function(h) return select(2, pcall(h.recv, h)) end, h)
    ipc.sleep(0.05)
    p:kill 'KILL'
    assert.equal('closed', ipc.errcode(m:join()))
    assert.equal('closed', code(h.recv, h))
    assert.equal('closed', code(h.send, h, 1))
    p:wait()
    server:close()
  end)

  it('is shared between threads, and close wakes whoever is blocked on it', function()
    local server, clients, handles = connected(1)
    local q = ipc.workqueue()
    local m = ipc.map(1, function(c, q)
      local first = c:recv()
      q:write 'received'
      return first, select(2, pcall(c.recv, c))
    end, clients[1], q)
    handles[1]:send 'to the thread'
    q:read()
    ipc.sleep(0.05)
    clients[1]:close()
    local first, e = m:join()
    assert.equal('to the thread', first)
    assert.equal('closed', ipc.errcode(e))
    local s = ipc.map(1, function(server, h) server:broadcast 'x' return ipc and 1 or h:id() end, server, handles[1])
    pcall(s.join, s)
    server:close()
  end)

  it('passes messages of several threads whole', function()
    local _, clients, handles = connected(1)
    local m = ipc.map(3, function(c, id)
      for i = 1, 100 do c:send { id, i, ('x'):rep(i * 50) } end
    end, clients[1])
    local last = { 0, 0, 0 }
    for _ = 1, 300 do
      local v = handles[1]:recv(60)
      assert.equal(last[v[1]] + 1, v[2])
      assert.equal(v[2] * 50, #v[3])
      last[v[1]] = v[2]
    end
    m:join()
  end)

  it('works on one core, where a receive blocks in the system', function()
    local out = support.check([[
      local ipc, torch = require 'libipc', require 'ipc.torch'
      local server, port = ipc.server()
      local echo = ipc.map(1, function(port)
        local ipc = require 'libipc'
        local client = ipc.client(port)
        while true do
          local v = client:recv()
          if v == 'end' then break end
          client:send(v)
        end
        return client:recv()
      end, port)
      local peer
      server:clients(1, function(c) peer = c end)
      for i = 1, 100 do
        peer:send { i, 'text' }
        assert(peer:recv()[1] == i)
      end
      -- More than a socket holds: both ends stop in the middle again and again.
      local big = torch.range(1, 1e6)
      local sender = ipc.map(1, function(peer, big) require 'ipc.torch' peer:send(big) end, peer, big)
      assert(peer:recv():add(-1, big):abs():max() == 0)
      sender:join()
      -- Shorter and longer than the nap of a blocked call.
      for _, seconds in ipairs { 0, 0.01, 0.7 } do
        local start = ipc.clock()
        local ok, e = pcall(peer.recv, peer, seconds)
        assert(not ok and ipc.errcode(e) == 'timeout', e)
        assert(ipc.clock() - start >= seconds)
      end
      peer:send 'end'
      -- A close by another thread ends a blocked receive.
      local closer = ipc.map(1, function(peer) require 'libipc'.sleep(0.05) peer:close() end, peer)
      local ok, e = pcall(peer.recv, peer)
      assert(not ok and ipc.errcode(e) == 'closed', e)
      closer:join()
      assert(not pcall(echo.join, echo))
      io.write 'done'
    ]], { lua = support.on_one_core() })
    assert.equal('done', out)
  end)

  it('keeps its time on one core, however little comes at a time', function()
    local out = support.check([[
      local ipc, peer = require 'ipc', require 'spec.support.peer'
      local server, port = ipc.server()
      local pid = ipc.fork()
      if pid == 0 then
        local raw, frame = peer.client(port), peer.frame(peer.string(('x'):rep(200)))
        for i = 1, #frame do
          if not raw:send(frame:sub(i, i)) then break end
          ipc.sleep(0.1)
        end
        os.exit(0)
      end
      local handle
      server:clients(1, function(c) handle = c end, 60)
      local ok, e = pcall(handle.recv, handle, 1)
      assert(not ok and ipc.errcode(e) == 'timeout', e)
      handle:close()
      assert(ipc.waitpid(pid, 60) == 0)
      io.write 'in time'
    ]], { lua = support.on_one_core() })
    assert.equal('in time', out)
  end)

  it('refuses objects of ipc and functions, named with their path, and goes on', function()
    local _, clients, handles = connected(1)
    local c = clients[1]
    local e = fails(c.send, c, { a = { ipc.mutex() } })
    assert.equal('unsupported', ipc.errcode(e))
    assert.is_truthy(e:find('ipc.mutex', 1, true) and e:find('a[1]', 1, true), e)
    e = fails(c.send, c, { f = function() return 1 end })
    assert.equal('unsupported', ipc.errcode(e))
    assert.is_string(e:match 'functions = true')
    c:send 'goes on'
    assert.equal('goes on', handles[1]:recv())
  end)

  it('in a forked child raises state, and the parent goes on', function()
    assert.equal('parent\n', support.check [[
      local ipc = require 'libipc'
      local server, port = ipc.server()
      local c = ipc.client(port)
      local h
      server:clients(1, function(x) h = x end)
      local pid = ipc.fork()
      if pid == 0 then
        for _, f in ipairs {
          function() c:send(1) end, function() c:recv() end, function() h:recvAsync() end,
          function() server:clients(print) end, function() server:recvAny() end,
        } do
          local ok, e = pcall(f)
          if ok or ipc.errcode(e) ~= 'state' then print(ok, e) os.exit(1) end
        end
        c:close() server:close()
        c, h, server = nil, nil, nil
        collectgarbage() collectgarbage()
        local own, at = ipc.server()
        local d = ipc.client(at)
        d:send 'child'
        os.exit(own:recvAny() == 'child' and 0 or 2)
      end
      assert(ipc.waitpid(pid) == 0)
      c:send 'parent'
      print(h:recv())
    ]])
  end)

  it('sees a killed parent die although a child of it lives', function()
    local server, port = ipc.server()
    local p = support.start([[
      local ipc = require 'libipc'
      local c = ipc.client(tonumber(arg[1]))
      local pid = ipc.fork()
      if pid == 0 then ipc.sleep(200) os.exit(0) end
      c:send(pid)
      ipc.sleep(200)
    ]], { args = { port } })
    local h
    server:clients(1, function(c) h = c end)
    local child = h:recv(60)
    p:kill 'KILL'
    assert.equal('closed', code(h.recv, h, 60))
    os.execute('kill -KILL ' .. child)
    p:wait()
    server:close()
  end)
end)
