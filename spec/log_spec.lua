-- §17: what IPC_LOG tells on stderr.
local support = require 'spec.support'

-- A server and a client in one process, and a client in a forked child.
local pair = [[
  local ipc = require 'libipc'
  local options = { secret = arg[1] }
  if arg[2] == 'plain' then options.encrypt = false end
  local server, port = ipc.server(options)
  local client = ipc.client('127.0.0.1', port, options)
  server:clients(1, function() end)
  local child = ipc.fork()
  if child == 0 then
    local c = ipc.client('127.0.0.1', port, options)
    c:send 'here'
    c:recv()
    os.exit(0)
  end
  local c = select(2, server:recvAny(60))
  c:send 'bye'
  assert(ipc.waitpid(child) == 0)
  print(ipc.getpid(), child, port)
]]

-- The output's three numbers, and the lines of stderr.
local function logged(code, opts)
  local r = support.run(code, opts)
  assert.equal(0, r.status, r.stderr)
  local lines = {}
  for line in r.stderr:gmatch '[^\n]+' do lines[#lines + 1] = line end
  local parent, child, port = r.stdout:match '(%d+)%s+(%d+)%s+(%d+)'
  return lines, parent, child, port
end

-- How many lines are `prefix`, anything of digits, and `rest`: both taken as they are.
local function count(lines, prefix, rest)
  local n = 0
  for _, line in ipairs(lines) do
    if line:sub(1, #prefix) == prefix and line:sub(-#rest) == rest and line:sub(#prefix + 1, -#rest - 1):match '^%d*$' then
      n = n + 1
    end
  end
  return n
end

describe('IPC_LOG', function()
  it('tells at both ends over which link a pair talks, and why not over a faster one', function()
    for _, case in ipairs {
      { args = {}, proof = 'cookie', how = 'not encrypted' },
      { args = { 'a secret' }, proof = 'secret', how = 'encrypted' },
      { args = { 'a secret', 'plain' }, proof = 'secret', how = 'not encrypted' },
    } do
      local proof = 'authenticated by a ' .. case.proof .. ', '
      local memory = ': memory to this process, ' .. proof .. 'needs no encryption; nothing is faster'
      local function tcp(id)
        return (': tcp to process %d of this host, %s%s; not in memory: it is another process; '):format(id, proof, case.how)
          .. 'in shared memory this version cannot'
      end
      local lines, parent, child, port = logged(pair, { env = { IPC_LOG = 'info' }, args = case.args })
      local all = table.concat(lines, '\n')
      local function once(prefix, rest) assert.equal(1, count(lines, prefix, rest), all) end
      once('libipc ' .. parent .. ': client to 127.0.0.1:' .. port, memory)
      once('libipc ' .. parent .. ': server with client 127.0.0.1:', memory)
      once('libipc ' .. child .. ': client to 127.0.0.1:' .. port, tcp(parent))
      once('libipc ' .. parent .. ': server with client 127.0.0.1:', tcp(child))
      assert.equal(4, #lines, all)
    end
  end)

  it('knows a Unix socket', function()
    local path = support.tmpname()
    local lines = logged([[
      local ipc = require 'libipc'
      local server = ipc.server('unix:' .. arg[1], { transport = 'unix' })
      local client = ipc.client('unix:' .. arg[1])
      server:clients(1, function() end)
      print(1, 2, 3)
    ]], { env = { IPC_LOG = 'info' }, args = { path } })
    local all = table.concat(lines, '\n')
    assert.equal(2, #lines, all)
    assert.matches('client to unix:' .. path .. ': unix socket to this process, ', all, nil, true)
    assert.matches('server with client unix:: unix socket to this process, ', all, nil, true)
  end)

  it('tells with debug what connecting met, and who was sent away', function()
    local lines, id, nobody = logged([[
      local ipc = require 'libipc'
      local server, nobody = ipc.server()
      server:close()
      assert(ipc.errcode(select(2, pcall(ipc.client, '127.0.0.1', nobody, { connect_timeout = 0.2 }))) == 'timeout')
      local server, port = ipc.server()
      assert(ipc.errcode(select(2, pcall(ipc.client, '127.0.0.1', port, { secret = 'one' }))) == 'auth')
      -- The server's line is written before its errors tell of it.
      repeat
        local _, told = pcall(server.clients, server, 1, function() end, { timeout = 0.1 })
      until tostring(told):find '1 sent away'
      print(ipc.getpid(), nobody, 0)
    ]], { env = { IPC_LOG = 'debug' } })
    local all = table.concat(lines, '\n')
    local prefix = 'libipc ' .. id .. ': '
    local refused = prefix .. 'client to 127.0.0.1:' .. nobody .. ': an attempt failed: Connection refused (os error '
    assert.equal(1, count(lines, refused, ')'), all)
    assert.matches(prefix .. 'server sent away: the client has a secret and this server has none', all, nil, true)
    assert.equal(2, #lines, all)
  end)

  it('tells nothing unasked, and says so where it does not know what is asked', function()
    assert.same({}, (logged(pair, {})))
    assert.same({}, (logged(pair, { env = { IPC_LOG = 'off' } })))
    local lines, parent = logged(pair, { env = { IPC_LOG = 'loud' } })
    assert.same({ 'libipc ' .. parent .. ": IPC_LOG is 'info', 'debug' or 'off', not 'loud': nothing is logged" }, lines)
  end)

  it('keeps nobody waiting where stderr is full, and says later how many lines were lost', function()
    local fifo, script, out = support.tmpname(), support.tmpname '.lua', support.tmpname()
    if support.sh('mkfifo ' .. fifo .. ' && echo ok') ~= 'ok' then return pending 'no mkfifo here' end
    support.write(script, [[
      local ipc = require 'libipc'
      local fifo = arg[1]
      local function talk()
        local server, port = ipc.server()
        local client = ipc.client('127.0.0.1', port, { connect_timeout = 20 })
        client:send 'up'
        local s, c = server:recvAny(20)
        c:send(s .. ' and down')
        print(client:recv(20))
        server:close()
      end
      talk()
      talk()
      os.execute('dd if=' .. fifo .. ' of=/dev/null iflag=nonblock bs=65536 count=100 2> /dev/null')
      talk()
      io.stdout:flush()
      os.execute('dd if=' .. fifo .. ' iflag=nonblock bs=65536 count=100 2> /dev/null')
    ]])
    -- A pipe that nobody reads, full to the last byte; descriptor 4 keeps it open.
    local r = support.sh(([[
      exec 4<> %s
      dd if=/dev/zero of=%s oflag=nonblock bs=1 count=1000000 2> /dev/null
      IPC_LOG=debug timeout 60 %s %s %s > %s 2> %s
      echo $?
    ]]):format(fifo, fifo, support.lua, script, fifo, out, fifo))
    local text = support.read(out)
    assert.equal('0', r, text)
    assert.equal(3, select(2, text:gsub('up and down', '')), text)
    assert.matches('libipc: %d+ lost here, since nobody read stderr\n', text)
    assert.matches('libipc %d+: server with client', text)
  end)
end)
