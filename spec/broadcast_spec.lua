-- §2: a broadcast reaches all that it can.
-- luacheck: ignore 431 433 (what goes to a thread has the same name there)
local support = require 'spec.support'
local peer = require 'spec.support.peer'
local ipc = require 'libipc'
local torch = require 'ipc.torch'

local fails = support.fails

-- A server and n clients of it.
local function stage(n, options, theirs)
  local server, port = ipc.server('127.0.0.1', 0, options or {})
  local clients = {}
  for i = 1, n do
    clients[i] = ipc.client('127.0.0.1', port, theirs or options or {})
    server:clients(i, function() end, 60)
  end
  return server, clients, port
end

local asked = { gone = true, timeout = 60 }

describe('a broadcast', function()
  it('passes over who has gone, which gone tells, and reaches the others', function()
    local server, clients = stage(4)
    clients[2]:close()
    clients[4]:close()
    local sent = 0
    support.eventually(function()
      sent = sent + 1
      local took = server:broadcast('x', nil, 60)
      assert.is_true(took >= 2 and took <= 4)
      return took == 2
    end)
    for _ = 1, 10 do assert.equal(2, server:broadcast('x', nil, 60)) end
    for _, c in ipairs { clients[1], clients[3] } do
      for _ = 1, sent + 10 do assert.equal('x', c:recv(60)) end
    end
    for _ = 1, 2 do assert.equal('closed', ipc.errcode((select(3, server:recvAny(nil, asked))))) end
    assert.equal(2, #server:clients())
    server:close()
    assert.equal('closed', ipc.errcode(fails(server.broadcast, server, 1)))
  end)

  it('keeps nothing of clients that have gone, and what they had sent before', function()
    local server, clients = stage(12)
    clients[5]:send 'a last word'
    for i = 3, 12 do clients[i]:close() end
    support.eventually(function()
      server:broadcast('x', nil, 60)
      return #server:clients() == 3
    end)
    assert.same({ 'a last word' }, { (server:recvAny(nil, 60)) })
    support.eventually(function()
      server:broadcast('x', nil, 60)
      return #server:clients() == 2
    end)
    for _ = 1, 10 do assert.equal('closed', ipc.errcode((select(3, server:recvAny(nil, asked))))) end
    server:close()
  end)

  it('lets a client that takes nothing keep none of the others waiting', function()
    for _, secret in ipairs { false, 'a secret' } do
      local server, clients, port = stage(3, { secret = secret or nil, transport = 'tcp' })
      local slow = ipc.client('127.0.0.1', port, { secret = secret or nil })
      server:clients(4, function() end, 60)
      -- It takes the connection's place in the middle of the list, too.
      server:clients(function(c) c:id(1) end)
      server:clients()[4]:id(0)
      local m = ipc.map(1, function(server)
        local torch = require 'ipc.torch'
        local t = torch.FloatTensor(1000, 4000):fill(3)
        return server:broadcast({ t = t:t(), text = ('y'):rep(100000) }, nil, false)
      end, server)
      for _, c in ipairs(clients) do
        local got = c:recv(60)
        assert.equal(3 * 4e6, got.t:sum())
        assert.equal(100000, #got.text)
      end
      assert.equal(1, m:poll())
      -- Once it takes something, or is gone, the broadcast is at its end.
      if secret then
        assert.equal(3, slow:recv(60).t[1][1])
        assert.equal(4, m:join())
      else
        slow:close()
        assert.equal(3, m:join())
      end
      server:close()
    end
  end)

  it('raises timeout only when some did not take it in time, and leaves none in the middle of a message', function()
    local server, clients, port = stage(2)
    local slow = peer.client(port)
    server:clients(3, function() end, 60)
    local readers = {}
    for i, c in ipairs(clients) do
      readers[i] = ipc.map(1, function(c) return #c:recv(60), c:recv(60) end, c)
    end
    local e = fails(server.broadcast, server, ('z'):rep(2 ^ 12):rep(2 ^ 12), nil, support.in_valgrind and 60 or 6)
    assert.equal('timeout', ipc.errcode(e))
    assert.matches('1 of 3 clients', e, nil, true)
    assert.matches('2 did', e, nil, true)
    -- The slow one was in the middle of it, so it is closed; the others go on.
    local _, c, reason = server:recvAny(nil, asked)
    assert.matches('in the middle of a message', reason, nil, true)
    assert.is_string(c:address())
    assert.equal(2, server:broadcast('next', nil, 60))
    for _, r in ipairs(readers) do assert.same({ 16 * 2 ^ 20, 'next' }, { r:join() }) end
    assert.equal(0, server:netStats().num_rejected)
    slow:close()
    server:close()
  end)

  it('takes back what had not begun to go when time is over', function()
    -- A Unix socket takes a small message whole or not at all.
    local path = 'unix:' .. support.tmpname()
    local server = ipc.server(path, 0, { transport = 'unix' })
    local clients, sent = { ipc.client(path, 0, { transport = 'unix' }) }, 0
    server:clients(1, function() end, 60)
    -- Until there is no room for one.
    while pcall(server.broadcast, server, sent + 1, nil, 0.05) do sent = sent + 1 end
    assert.is_true(sent > 100)
    local e = fails(server.broadcast, server, 'none', nil, 0.05)
    assert.equal('timeout', ipc.errcode(e))
    assert.matches('nothing of it has gone', e)
    for i = 1, sent do assert.equal(i, clients[1]:recv(60)) end
    assert.equal(1, server:broadcast('some', nil, 60))
    assert.equal('some', clients[1]:recv(60))
    server:close()
  end)

  it('passes over who does not accept the message, which is an error only where nobody does', function()
    local server, _, port = stage(0, { functions = true })
    local small = ipc.client('127.0.0.1', port, { max_message = 100 })
    server:clients(1, function() end, 60)
    assert.equal('limit', ipc.errcode(fails(server.broadcast, server, ('x'):rep(1000))))
    assert.equal('unsupported', ipc.errcode(fails(server.broadcast, server, print)))
    local other = ipc.client('127.0.0.1', port, { functions = true })
    server:clients(2, function() end, 60)
    assert.equal(1, server:broadcast(('x'):rep(1000)))
    assert.equal(1, server:broadcast { print })
    assert.equal(2, server:broadcast 'few')
    assert.equal('few', small:recv(60))
    assert.equal(1000, #other:recv(60))
    assert.equal(print, other:recv(60)[1])
    assert.equal('few', other:recv(60))
    server:close()
  end)

  it('refuses a value before anything is sent', function()
    local server, clients = stage(2)
    assert.equal('unsupported', ipc.errcode(fails(server.broadcast, server, { 1, { print } })))
    assert.equal(2, server:broadcast 'in step')
    for _, c in ipairs(clients) do assert.equal('in step', c:recv(60)) end
    assert.equal(0, server:broadcast('nobody', 'tag'))
    assert.equal(0, ipc.server():broadcast 'nobody')
    server:close()
  end)

  -- Clients that do not read, so that a broadcast waits; and what takes the numbers of descriptors that were closed.
  local function slow_clients(n)
    local server, port = ipc.server()
    local clients = {}
    for i = 1, n do clients[i] = ipc.client(port) end
    server:clients(n, function() end)
    return server, clients, port
  end

  local function take_numbers()
    local timers = {}
    for i = 1, 30 do
      timers[i] = ipc.every(100)
      timers[i]:fd()
    end
    return timers
  end

  it('ends where the server is closed meanwhile, whatever gets the numbers of its descriptors', function()
    for _ = 1, 5 do
      local server, clients = slow_clients(3)
      local m = ipc.map { threads = 3, args = { server }, fn = function(its)
        return select(2, pcall(function() while true do its:broadcast(('x'):rep(1000000)) end end))
      end }
      ipc.sleep(0.03)
      server:close()
      local timers = take_numbers()
      for _, e in ipairs { m:join(60) } do assert.equal('closed', ipc.errcode(e), e) end
      for _, object in ipairs(clients) do object:close() end
      for _, object in ipairs(timers) do object:close() end
    end
  end)

  it('passes over a client that dies while it waits for it, whatever gets its number', function()
    local server, clients, port = slow_clients(1)
    local stop = ipc.atomic(0)
    local m = ipc.map { threads = 2, args = { server, stop }, fn = function(its, ended, id)
      local n = 0
      while ended:get() == 0 do
        if id == 1 then
          its:broadcast(('x'):rep(1500000), nil, 60)
          n = n + 1
        else
          its:tryrecvAny(nil, 0.05)
        end
      end
      return n
    end }
    local reader = ipc.map(1, function(client)
      local n = 0
      while client:recv() ~= 'end' do n = n + 1 end
      return n
    end, clients[1])
    for _ = 1, 10 do
      local dying = ipc.client(port)
      dying:send 'hello'
      ipc.sleep(0.02)
      dying:close()
      for _, timer in ipairs(take_numbers()) do timer:close() end
    end
    stop:set(1)
    local sent = m:join(60)
    assert.equal(1, server:broadcast('end', nil, 60))
    assert.equal(sent, (reader:join(60)))
    server:close()
  end)

  it('lets other coroutines run under a scheduler', function()
    local loop = require 'spec.support.loop'
    local server, clients = stage(3, { transport = 'tcp' })
    ipc.scheduler { wait = loop.wait }
    local took, got = nil, 0
    loop.run(function()
      took = server:broadcast(torch.ByteTensor(32 * 2 ^ 20):fill(1), nil, 60)
    end, function()
      for _, c in ipairs(clients) do
        local t = c:recv(60)
        -- There is room for none of the three without a reader.
        if got == 0 then assert.is_nil(took) end
        got = got + t:nElement()
      end
    end)
    assert.equal(3, took)
    assert.equal(3 * 32 * 2 ^ 20, got)
    -- One that is given up in the middle does not keep its connection. (5.1 lets nothing yield through a pcall.)
    if _VERSION ~= 'Lua 5.1' or support.is_luajit then
      local text, late = ('x'):rep(2 ^ 12):rep(2 ^ 13), 0
      -- The sockets may not have had room for the first byte in that time.
      support.eventually(function()
        loop.run(function()
          local ok, e = pcall(server.broadcast, server, text, nil, 0.05)
          if not ok then late = late + (ipc.errcode(e) == 'timeout' and 1 or error(e)) end
        end)
        return #server:clients() == 0
      end)
      assert.is_true(late > 0)
    end
    ipc.scheduler(nil)
    server:close()
  end)

  it('ends with a cancel, and closes who was in the middle', function()
    local server, clients = stage(1, { transport = 'tcp' })
    local m = ipc.map(1, function(server) return server:broadcast(('x'):rep(2 ^ 13):rep(2 ^ 13)) end, server)
    -- It has begun when something has come.
    assert.is_truthy(ipc.select({ ipc.fd((clients[1]:fd())) }, 60))
    m:cancel()
    assert.matches('[cancelled]', fails(m.join, m), nil, true)
    support.eventually(function() return #server:clients() == 0 end)
    clients[1]:close()
    server:close()
  end)

  it('may be called by a hook in the middle of another', function()
    assert.equal('fine', support.check([[
      local ipc = require 'libipc'
      local server, port = ipc.server { transport = 'tcp' }
      local client = ipc.client(port)
      server:clients(1, function() end, 60)
      local inside, codes = false, {}
      debug.sethook(function()
        if inside then return end
        inside = true
        local ok, e = pcall(server.broadcast, server, 'hook', nil, 0.01)
        codes[ok and 'fine' or ipc.errcode(e)] = true
        inside = false
      end, 'c')
      local ok, e = pcall(server.broadcast, server, ('x'):rep(2 ^ 13):rep(2 ^ 13), nil, 1.5)
      debug.sethook()
      assert(not ok and (ipc.errcode(e) == 'timeout' or ipc.errcode(e) == 'closed'), e)
      assert(#server:clients() == 0)
      io.write 'fine'
    ]], { timeout = 120 }))
  end)
end)
