-- §16: who gets in, and what strangers can do. The peers here are made by hand, from doc/wire.md and doc/security.md.
-- luacheck: ignore 431 (what goes to a thread has the same name there)
local support = require 'spec.support'
local peer = require 'spec.support.peer'
local ipc = require 'libipc'

local fails = support.fails
local function code(f, ...) return ipc.errcode(fails(f, ...)) end

-- An address of this host that is not loopback, if there is one.
local function outside()
  local s = require('socket').udp()
  local ok = s:setpeername('192.0.2.1', 9)
  local address = ok and s:getsockname()
  s:close()
  return address and not address:match '^127%.' and address or nil
end

-- A server, its port, and a function that shows that it still serves others.
local function guarded(options)
  local server, port = ipc.server('127.0.0.1', 0, options or {})
  return server, port, function()
    local c = ipc.client('127.0.0.1', port, options or {})
    c:send 'fine'
    assert.equal('fine', (server:recvAny(60)))
    c:close()
  end
end

describe('security', function()
  it('listens on loopback unless told otherwise', function()
    local server, port = ipc.server()
    assert.equal('127.0.0.1:' .. port, server:address())
    local address = outside()
    if address then assert.is_nil((require('socket').connect(address, port))) end
    server:close()
  end)

  it('takes secret, insecure and functions from the environment', function()
    local script = [[
      local ipc = require 'libipc'
      local server, port = ipc.server(nil, 0, { functions = true })
      local ok, e = pcall(ipc.client, nil, port, { connect_timeout = 60, secret = arg[1] })
      print(ok, ipc.errcode(e))
    ]]
    assert.equal('true\tnil\n', support.check(script, { env = { IPC_SECRET = 'x' }, args = { 'x' } }))
    assert.equal('false\tauth\n', support.check(script, { env = { IPC_SECRET = 'x' }, args = { 'y' } }))
    assert.equal('false\tauth\n', support.check(script, { args = { 'x' } }))
    assert.equal('2\n', support.check([[
      local ipc = require 'libipc'
      local server, port = ipc.server()
      local c = ipc.client(port)
      c:send(function() return 2 end)
      print(server:recvAny()())
    ]], { env = { IPC_FUNCTIONS = '1' } }))
  end)

  it('lets in who proves the secret, and answers a wrong or a missing one with auth', function()
    local server, port, fine = guarded { secret = 'right' }
    for _, options in ipairs { { secret = 'wrong' }, {} } do
      options.connect_timeout = 60
      local e = fails(ipc.client, '127.0.0.1', port, options)
      assert.equal('auth', ipc.errcode(e))
      assert.is_truthy(e:match 'secret')
      fine()
    end
    server:close()
    server, port = ipc.server()
    assert.equal('auth', code(ipc.client, '127.0.0.1', port, { secret = 'mine' }))
    server:close()
    assert.equal('argument', code(ipc.server, '127.0.0.1', 0, { secret = '' }))
  end)

  it('encrypts what passes when there is a secret, and with encrypt = false at both ends sends it plain', function()
    -- Through a relay that keeps what it sees.
    local function seen(client_encrypts, server_encrypts)
      local server, port = ipc.server('127.0.0.1', 0, { secret = 's', encrypt = server_encrypts, transport = 'tcp' })
      local listener = assert(require('socket').bind('127.0.0.1', 0))
      local _, relay = listener:getsockname()
      local m = ipc.map(1, function(relay, encrypt)
        local c = require('libipc').client('127.0.0.1', relay, { secret = 's', encrypt = encrypt })
        for _ = 1, 3 do
          c:send { 'the plain words' }
          c:recv(60)
        end
      end, tonumber(relay), client_encrypts)
      local a, b = assert(listener:accept()), support.connect(port)
      a:settimeout(0)
      b:settimeout(0)
      local log, done = {}, 0
      while m:poll() > 0 do
        for _, pair in ipairs { { a, b }, { b, a } } do
          local data, _, part = pair[1]:receive(4096)
          data = data or part
          if data and #data > 0 then
            log[#log + 1] = data
            pair[2]:settimeout(60)
            assert(pair[2]:send(data))
            pair[2]:settimeout(0)
          end
        end
        local ok, v, c = pcall(server.recvAny, server, 0.001)
        if ok then
          assert.equal('the plain words', v[1])
          done = done + 1
          c:send(done)
        end
      end
      m:join()
      assert.equal(3, done)
      a:close() b:close() listener:close() server:close()
      return table.concat(log):find('the plain words', 1, true) ~= nil
    end
    for _, client in ipairs { 'unset', true, false } do
      for _, server in ipairs { 'unset', true, false } do
        local function value(x) if x ~= 'unset' then return x end end
        assert.equal(client == false and server == false, seen(value(client), value(server)))
      end
    end
    for _, f in ipairs { ipc.server, ipc.client } do
      local e = fails(f, '127.0.0.1', 9, { encrypt = true, connect_timeout = 1 })
      assert.equal('argument', ipc.errcode(e))
      assert.is_truthy(e:find('IPC_SECRET', 1, true), e)
    end
  end)

  it('carries large messages and tensors under encryption', function()
    local server, port = ipc.server('127.0.0.1', 0, { secret = 's' })
    local m = ipc.map(1, function(port)
      local ipc = require 'libipc'
      local torch = require 'ipc.torch'
      local c = ipc.client('127.0.0.1', port, { secret = 's' })
      c:send(('long'):rep(100000))
      c:send(torch.FloatTensor(300, 500):fill(3))
    end, port)
    assert.equal(('long'):rep(100000), (server:recvAny(60)))
    assert.equal(450000, (server:recvAny(60)):sum())
    m:join()
    server:close()
  end)

  it('lets strangers who say nonsense or nothing hold up nobody', function()
    for _, options in ipairs { {}, { secret = 's' } } do
      local server, port, fine = guarded(options)
      local strangers = {}
      local function stranger(bytes)
        local s = support.connect(port)
        if bytes then s:send(bytes) end
        strangers[#strangers + 1] = s
        return s
      end
      for _, bytes in ipairs {
        'GET / HTTP/1.0\r\n\r\n', ('\255'):rep(5000), 'LIB', 'LIBIPC\2', 'LIBIPC\1\1\0\0\0\0', 'LIBIPC\3\1\0\0\0\0',
        'LIBIPC\2\1\255\255\255\255', peer.packet(1, ('\220'):rep(3000)), peer.packet(1, ''), peer.packet(2, ('x'):rep(48)),
        peer.packet(3, peer.hello()), peer.packet(6, ('x'):rep(16)), peer.packet(1, peer.hello():sub(1, 40)),
      } do
        for _ = 1, 5 do stranger(bytes) end
      end
      for _ = 1, 100 do stranger() end
      fine()
      for _, s in ipairs(strangers) do s:close() end
      fine()
      server:close()
    end
  end)

  it('ends only the connection of a client that goes on in nonsense', function()
    local descriptor = '\1\6\1\0' .. peer.little(2 ^ 62, 8)
    for what, bytes in pairs {
      ['random'] = ('\170\85'):rep(100),
      ['an unknown kind'] = '\9\0\0\0' .. ('\0'):rep(12),
      ['an unknown flag'] = '\1\8\0\0' .. ('\0'):rep(12),
      ['2^62 bytes'] = '\1\0\0\0' .. peer.little(0, 4) .. peer.little(2 ^ 62, 8),
      ['past max_message'] = '\1\0\0\0' .. peer.little(0, 4) .. peer.little(10001, 8),
      ['4 GB of descriptors'] = '\1\0\0\0\255\255\255\255' .. peer.little(1, 8),
      ['a tensor of 2^64 bytes'] = '\1\0\0\0' .. peer.little(#descriptor, 4) .. peer.little(7, 8) .. peer.lone .. descriptor,
      ['a cut descriptor'] = '\1\0\0\0' .. peer.little(5, 4) .. peer.little(7, 8) .. peer.lone .. descriptor:sub(1, 5),
      ['a cut message'] = peer.frame(peer.string 'hello'):sub(1, -3),
    } do
      local server, port, fine = guarded { max_message = 10000 }
      local raw = peer.client(port)
      local h
      server:clients(1, function(c) h = c end)
      raw:send(bytes)
      if what:match '^a cut' then raw:close() end
      local e = fails(h.recv, h, 60)
      local c = ipc.errcode(e)
      assert.is_truthy(c == 'protocol' or c == 'limit' or c == 'closed', what .. ': ' .. e)
      assert.is_truthy(e:find(h:address(), 1, true), what .. ': ' .. e)
      assert.equal(c, code(h.recv, h))
      assert.equal('closed', code(h.send, h, 1))
      if not what:match '^a cut' then
        assert.is_nil((raw:receive(1)), what)
        raw:close()
      end
      fine()
      server:close()
    end
  end)

  it('refuses values that are no values, and keeps the connection', function()
    local server, port = ipc.server()
    local raw = peer.client(port)
    local h
    server:clients(1, function(c) h = c end)
    for _, bytes in ipairs { '', '\16', '\16\221\255\255\255\255', '\16\214\2\0\0\0\9', '\16\219\255\255\255\255x', '\240\192', '\16\193',
      '\16' .. ('\145'):rep(5000) .. '\192' } do
      raw:send(peer.frame(bytes))
      local e = fails(h.recv, h, 60)
      local c = ipc.errcode(e)
      assert.is_truthy(c == 'protocol' or c == 'limit', e)
    end
    raw:send(peer.frame(peer.string 'still here'))
    assert.equal('still here', h:recv(60))
    raw:close()
    server:close()
  end)

  it('survives random bytes after the hello', function()
    local server, port, fine = guarded()
    math.randomseed(7)
    for _ = 1, 60 do
      local raw = peer.client(port)
      local bytes = {}
      for i = 1, math.random(1, 200) do bytes[i] = string.char(math.random(0, 255)) end
      -- Half of them begin as a frame does.
      local start = math.random() < 0.5 and '\1\0\0\0\12\0\0\0\7\0\0\0\0\0\0\0' or ''
      raw:send(start .. table.concat(bytes))
      raw:close()
    end
    fine()
    server:close()
  end)

  it('accepts and sends bytecode only where both ends ask for it', function()
    local f = function() return 42 end
    for _, case in ipairs { { true, true, true }, { true, false, false }, { false, true, false }, { false, false, false } } do
      local server, port = ipc.server('127.0.0.1', 0, { functions = case[1] })
      local client = ipc.client('127.0.0.1', port, { functions = case[2] })
      local h
      server:clients(1, function(c) h = c end)
      for _, pair in ipairs { { client, h }, { h, client } } do
        if case[3] then
          pair[1]:send { f }
          assert.equal(42, pair[2]:recv()[1]())
        else
          assert.equal('unsupported', code(pair[1].send, pair[1], { f }))
        end
      end
      server:close()
    end
    -- A peer that sends it all the same, saying so or not.
    local server, port = ipc.server()
    local raw = peer.client(port)
    local h
    server:clients(1, function(c) h = c end)
    local body = '\1\196\4\27LJ\2\144'
    local bytecode = '\18\199' .. string.char(#body) .. '\5' .. body
    local frame = peer.frame(bytecode)
    for _, bytes in ipairs { frame, '\1\1' .. frame:sub(3) } do
      raw:send(bytes)
      assert.equal('unsupported', code(h.recv, h, 60))
    end
    raw:send(peer.frame(peer.string 'in step'))
    assert.equal('in step', h:recv(60))
    raw:close()
    server:close()
  end)

  it('opens Unix sockets to the same user only', function()
    local path = support.tmpname '.sock'
    local server = ipc.server('unix:' .. path)
    assert.equal('600', support.sh('stat -c %a ' .. path))
    assert.equal('argument', code(ipc.server, 'unix:'))
    assert.equal('argument', code(ipc.server, 'unix:/' .. ('x'):rep(200)))
    -- A file that is no socket is left alone.
    local file = support.write(support.tmpname(), 'text')
    assert.equal('io', code(ipc.server, 'unix:' .. file))
    assert.equal('text', support.read(file))
    server:close()
  end)

  it('removes the file of its own Unix socket only', function()
    local path = support.tmpname '.sock'
    local first = ipc.server('unix:' .. path) -- luacheck: ignore 311
    assert(os.rename(path, path .. '.old'))
    local second = ipc.server('unix:' .. path)
    first:close()
    local c = ipc.client('unix:' .. path, nil, { connect_timeout = 60 })
    c:send 'still there'
    assert.equal('still there', (second:recvAny(60)))
    second:close()
    assert.equal('', support.sh('ls ' .. path .. ' 2>/dev/null'))
    -- A server that is collected, with something else in its place.
    first = ipc.server('unix:' .. path) -- luacheck: ignore 311
    assert(os.remove(path))
    support.write(path, 'text')
    first = nil -- luacheck: ignore 311
    collectgarbage() collectgarbage()
    assert.equal('text', support.read(path))
  end)

  it('ends an encrypted connection whose records were changed', function()
    local server, port, fine = guarded { secret = 's', transport = 'tcp' }
    local listener = assert(require('socket').bind('127.0.0.1', 0))
    local _, relay = listener:getsockname()
    local m = ipc.map(1, function(relay)
      local c = require('libipc').client('127.0.0.1', relay, { secret = 's' })
      c:send 'one'
      c:recv()
      c:send 'two'
      return select(2, pcall(c.recv, c))
    end, tonumber(relay))
    local a, b = assert(listener:accept()), support.connect(port)
    -- Passes on what comes, if anything does within the time.
    local function pass(from, to, seconds, change)
      from:settimeout(seconds)
      local data = from:receive(1)
      if not data then return end
      from:settimeout(0.05)
      local rest, _, part = from:receive(65536)
      data = data .. (rest or part)
      if change then data = data:sub(1, -2) .. string.char((data:byte(-1) + 1) % 256) end
      assert(to:send(data))
    end
    pass(a, b, 60) -- hello
    pass(b, a, 60) -- welcome
    local one, h
    support.eventually(function()
      pass(a, b, 0.1) -- confirmation and 'one', together or not
      local ok, v, c = pcall(server.recvAny, server, 0.1)
      if ok then one, h = v, c end
      return ok
    end)
    assert.equal('one', one)
    h:send 'go on'
    pass(b, a, 60)
    pass(a, b, 60, true)
    local e = fails(h.recv, h, 60)
    assert.equal('auth', ipc.errcode(e))
    b:close()
    a:close()
    assert.equal('closed', ipc.errcode(m:join()))
    fine()
    server:close()
  end)
end)
