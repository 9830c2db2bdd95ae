-- What strangers and peers can do to a server and its honest clients: spec/support/hostile.py plays them, made from doc/wire.md
-- and doc/security.md alone. Everything is bounded; what is asserted is that the others go on and nothing is left.
local support = require 'spec.support'
local ipc = require 'libipc'

local hostile = require 'spec.support.hostile'

describe('hostile peers', function()
  local function withstands(suite, ...)
    if not hostile.python then pending 'there is no python3 with BLAKE2s' return end
    hostile.withstands('hostile.py', nil, suite, ...)
  end

  it('get no further than a refusal with hellos that are wrong, cut, bent, slow or of another version', function()
    withstands 'hellos'
  end)

  it('do not get in by confirming what they cannot prove', function() withstands 'confirmations' end)

  it('end their own connection by frames that are wrong, and nothing else', function() withstands 'frames' end)

  it('end their own connection by values that are wrong, and nothing else', function() withstands 'values' end)

  it('may end their connections in any state', function() withstands 'states' end)

  it('may come in numbers', function() withstands('flood', 1500) end)
end)

describe('a forwarder', function()
  it('with the same addresses on both sides, in two networks of one host, is refused at both ends', function()
    if not hostile.python then pending 'there is no python3 with BLAKE2s' return end
    local probe = support.sh 'unshare -n sh -c "ip link set lo up && echo made" 2>&1'
    if probe ~= 'made' then pending('no network of its own: ' .. probe) return end
    local cookie = [[python3 -c "import socket; print(len(socket.socket().getsockopt(socket.SOL_SOCKET, 71, 8)))" 2>&1]]
    if support.sh(cookie) ~= '8' then pending 'this system does not say to which network a socket belongs' return end
    local listener = assert(require('socket').bind('127.0.0.1', 0))
    local _, port = listener:getsockname()
    listener:close()
    local p = support.start(([[
      local ipc = require 'libipc'
      local server = ipc.server('127.0.0.1', %d)
      io.write(ipc.getpid(), ' up') io.flush()
      local e, stop
      stop = ipc.clock() + 60
      -- Until it has sent one away, of which it tells.
      repeat e = select(2, pcall(server.clients, server, 1, print, 0.5)) until e:find 'sent away' or ipc.clock() > stop
      io.write('\n', e)
    ]]):format(port), { lua = "unshare -n sh -c 'ip link set lo up; exec \"$0\" \"$@\"' " .. support.lua })
    local pid
    support.eventually(function()
      pid = (p:output()):match '^(%d+) up'
      return pid
    end)
    local done, out = hostile.play('hostile.py', 'forwarder', port, pid)
    support.eventually(function() return support.exists(out) and support.read(out):find 'ready' end)
    local e = support.fails(ipc.client, '127.0.0.1', port, { connect_timeout = 60 })
    assert.equal('refused', ipc.errcode(e))
    assert.is_truthy(e:find('two networks of this host', 1, true) and e:find('IPC_SECRET', 1, true), e)
    local r = p:wait()
    assert.is_truthy(r.stdout:find('two networks of this host', 1, true), r.stdout .. r.stderr)
    support.eventually(done)
  end)
end)
