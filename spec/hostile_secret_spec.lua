-- What peers that know the secret, or pretend to, can do to a server that has one: spec/support/hostile_secret.py plays them, made
-- from doc/wire.md alone. At worst their own connections end, and nothing is left.
local hostile = require 'spec.support.hostile'
local ipc = require 'libipc'

describe('a server with a secret', function()
  local function withstands(suite)
    if not hostile.python then pending 'there is no python3 with BLAKE2s' return end
    ipc.server():close() -- there is a cookie, which is of no use here
    hostile.withstands('hostile_secret.py', { secret = 's' }, suite)
  end

  it('lets nobody in by handshakes and confirmations that are wrong, cut, bent, recorded, reflected or longer', function()
    withstands 'handshakes'
  end)

  it('ends connections whose records are empty, bent, cut, repeated, swapped, left out or of another key', function()
    withstands 'records'
  end)
end)
