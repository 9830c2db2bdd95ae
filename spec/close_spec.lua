-- §2: what was sent before a close arrives, whatever the end that closes has left unread. Over TCP, whose system would drop it.
-- luacheck: ignore 431 (what goes to a thread has the same name there)
local support = require 'spec.support'
local ipc = require 'libipc'

-- More than the system of a peer takes that does not read, and less than that of the sender keeps.
local BYTES = 3 * 2 ^ 20
local big = ('0123456789abcdef'):rep(BYTES / 16)

local function code(f, ...) return ipc.errcode(support.fails(f, ...)) end

-- A server, a client of it, and the server's handle of that.
local function connected(options)
  options = options or {}
  options.transport = 'tcp'
  local server, port = ipc.server('127.0.0.1', 0, options)
  local client = ipc.client('127.0.0.1', port, options)
  local handle = server:clients(1, function() end, 60) and server:clients()[1]
  assert.equal('tcp', client:netStats().transport)
  return server, client, handle
end

-- The end that has begun to read only now gets all, and then hears of the close.
local function gets_all(peer)
  assert.is_true(peer:recv(60) == big)
  assert.equal('closed', code(peer.recv, peer, 60))
end

-- A program that is a client: `code` has it as `client`, and may call unread() to have something come that it never reads.
local function program(port, body)
  return support.start(([[
    local ipc = require 'libipc'
    local client = ipc.client('127.0.0.1', %d, { transport = 'tcp' })
    local BYTES = %d
    local big = ('0123456789abcdef'):rep(BYTES / 16)
    local function unread()
      client:send 'unread'
      -- What follows is too long to be read along with it.
      assert(client:recv(60) == 'comes')
      ipc.sleep(0.05)
    end
  ]]):format(port, BYTES) .. body)
end

-- The server's side of unread().
local function admit_and_send(server)
  server:clients(1, function() end, 60)
  local handle = server:clients()[1]
  assert.equal('unread', handle:recv(60))
  handle:send 'comes'
  handle:send(('x'):rep(2 ^ 17))
  return handle
end

describe('what was sent before a close', function()
  for name, options in pairs { plain = {}, encrypted = { secret = 's', encrypt = true } } do
    it(('arrives though the client left something unread, %s'):format(name), function()
      local server, client, handle = connected(options)
      for _ = 1, 3 do handle:send 'unread' end
      client:send(big)
      client:close()
      assert.equal('closed', code(client.recv, client, 60))
      gets_all(handle)
      server:close()
    end)

    it(('arrives though the server left something unread, %s'):format(name), function()
      for _, way in ipairs { 'handle', 'server' } do
        local server, client, handle = connected(options)
        for _ = 1, 3 do client:send 'unread' end
        handle:send(big)
        if way == 'server' then server:close() else handle:close() end
        gets_all(client)
        server:close()
      end
    end)
  end

  it('arrives though the other end goes on sending', function()
    local server, client, handle = connected()
    client:send(big)
    client:close()
    local sent = 0
    for _ = 1, 2000 do
      if not pcall(handle.send, handle, ('x'):rep(1000), 60) then break end
      sent = sent + 1
    end
    assert.is_true(sent > 0)
    gets_all(handle)
    server:close()
  end)

  it('arrives where a handle was let go, and where a thread has ended', function()
    local server, port = ipc.server('127.0.0.1', 0, { transport = 'tcp' })
    local m = ipc.map(1, function(port, bytes)
      local ipc = require 'libipc'
      local client = ipc.client('127.0.0.1', port, { transport = 'tcp' })
      client:send 'here'
      assert(client:recv(60) == 'comes')
      ipc.sleep(0.05)
      client:send(('0123456789abcdef'):rep(bytes / 16))
    end, port, BYTES)
    server:clients(1, function() end, 60)
    local handle = server:clients()[1]
    assert.equal('here', handle:recv(60))
    handle:send 'comes'
    handle:send(('x'):rep(2 ^ 17))
    m:join(60)
    gets_all(handle)
    server:close()
  end)

  -- Program `p`, a client, ends well, and what it sent arrives after that.
  local function ends_and_all_arrives(server, p)
    local handle = admit_and_send(server)
    local r = p:wait(60)
    assert.equal(0, r.status, r.stderr)
    gets_all(handle)
    server:close()
  end

  for _, ending in ipairs { 'client:close()', 'client:close() os.exit(0)', '' } do
    it(('arrives from a program that has ended (%s)'):format(ending), function()
      local server, port = ipc.server('127.0.0.1', 0, { transport = 'tcp' })
      local p = program(port, 'unread() client:send(big) ' .. ending)
      ends_and_all_arrives(server, p)
    end)
  end

  it('arrives from a thread that was blocked as its program ended', function()
    local server, port = ipc.server('127.0.0.1', 0, { transport = 'tcp' })
    local p = support.start(([[
      local ipc = require 'libipc'
      local sent = ipc.atomic(0)
      local m = ipc.map(1, function(sent)
        local ipc = require 'libipc'
        local client = ipc.client('127.0.0.1', %d, { transport = 'tcp' })
        client:send 'unread'
        assert(client:recv(60) == 'comes')
        client:send(('0123456789abcdef'):rep(%d / 16))
        sent:add(1)
        ipc.sleep(1000)
      end, sent)
      while sent:get() == 0 do ipc.sleep(0.01) end
      ipc.sleep(0.05)
    ]]):format(port, BYTES))
    ends_and_all_arrives(server, p)
  end)

  it('arrives at a program that was stopped, and goes on', function()
    local server, port = ipc.server('127.0.0.1', 0, { transport = 'tcp' })
    local p = program(port, [[
      for _ = 1, 3 do client:send 'unread' end
      io.stdout:write 'ready\n' io.stdout:flush()
      ipc.sleep(0.2)
      assert(client:recv(60) == big)
      print(ipc.errcode(select(2, pcall(client.recv, client, 60))))
    ]])
    server:clients(1, function() end, 60)
    local handle = server:clients()[1]
    support.eventually(function() return p:output() == 'ready\n' end)
    p:kill 'STOP'
    handle:send(big)
    handle:close()
    support.sleep(0.3)
    p:kill 'CONT'
    local r = p:wait(60)
    assert.equal(0, r.status, r.stderr)
    assert.equal('ready\nclosed\n', r.stdout)
    server:close()
  end)
end)

describe('a close', function()
  it('waits for nobody, and nor does the end of the program, where peers never read', function()
    local server, port = ipc.server('127.0.0.1', 0, { transport = 'tcp' })
    local p = program(port, [[
      local all, port = { client }, tonumber(client:address():match '(%d+)$')
      for i = 2, 10 do all[i] = ipc.client('127.0.0.1', port, { transport = 'tcp' }) end
      for _, c in ipairs(all) do c:send(big) c:close() end
    ]])
    server:clients(10, function(c) c:send 'unread' end, 60)
    local r = p:wait(60)
    assert.equal(0, r.status, r.stderr)
    server:close()
  end)

  it('ends the calls of other threads on that connection at once', function()
    for _ = 1, 5 do
      local server, client, handle = connected()
      client:send(big)
      local begun = ipc.atomic(0)
      local m = ipc.map(2, function(client, begun)
        begun:add(1)
        local ok, e = pcall(client.recv, client)
        return not ok and require('libipc').errcode(e)
      end, client, begun)
      support.eventually(function() return begun:get() == 2 end)
      ipc.sleep(0.02)
      client:close()
      assert.same({ 'closed', 'closed' }, { m:join(60) })
      gets_all(handle)
      server:close()
    end
  end)

  it('leaves no socket behind once the other end has all', function()
    local function descriptors()
      collectgarbage()
      collectgarbage()
      return tonumber(support.sh('ls /proc/' .. ipc.getpid() .. '/fd | wc -l'))
    end
    if not support.exists '/proc/self/fd' then return pending 'needs /proc' end
    local before
    for n = 1, 12 do
      local server, client, handle = connected()
      handle:send 'unread'
      client:send(big)
      client:close()
      gets_all(handle)
      handle:close()
      server:close()
      -- What is made once is there after the first.
      if n == 2 then before = descriptors() end
    end
    support.eventually(function() return descriptors() <= before end)
  end)
end)
