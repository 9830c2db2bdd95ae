-- `make install` and `make uninstall`: what they bring, what they take away again.
local support = require 'spec.support'

local function make(goal, prefix)
  -- Without cargo, install takes the library that is there.
  return support.sh(("cd %s && PATH=$PATH:/sbin make --no-print-directory %s PREFIX=%s LUA=%s CARGO=/no/cargo 2>&1")
    :format(support.quote(support.root), goal, support.quote(prefix), support.quote(support.lua)))
end

describe('make', function()
  local built = support.root .. '/target/' .. support.build .. '/libipc.so'

  it('installs what runs by itself, and takes all of it away', function()
    if not support.exists(built) then return pending('there is no ' .. built) end
    local prefix = support.tmpdir()
    local said = make('install', prefix)
    local ipcrun = prefix .. '/bin/ipcrun'
    assert.is_true(support.exists(ipcrun), said)
    local version = _VERSION:match '%d.%d'
    support.write(prefix .. '/sum.lua', "print((require 'libipc'.tree().allReduce(1, 'sum')))")
    local paths = ('LUA_PATH="%s/share/lua/%s/?.lua" LUA_CPATH="%s/lib/lua/%s/?.so"'):format(prefix, version, prefix, version)
    local sums = ('%s %s -n 2 %s/sum.lua 2>&1 | sed "s/^.* //" | xargs'):format(paths, ipcrun, prefix)
    assert.equal('2 2', support.sh(sums))
    os.remove(prefix .. '/sum.lua')
    make('uninstall', prefix)
    assert.equal('', support.sh(('find %s -type f'):format(prefix)))
    os.execute('rm -rf ' .. prefix)
  end)

  it('leaves ipcrun where another Lua runs it', function()
    if not support.exists(built) then return pending('there is no ' .. built) end
    local prefix = support.tmpdir()
    make('install', prefix)
    local ipcrun = prefix .. '/bin/ipcrun'
    support.write(ipcrun, '#!/usr/bin/another-lua\n')
    assert.matches('is now run by', make('install', prefix))
    support.write(ipcrun, '#!/usr/bin/another-lua\n')
    assert.matches('leaving .*ipcrun', make('uninstall', prefix))
    assert.is_true(support.exists(ipcrun))
    os.execute('rm -rf ' .. prefix)
  end)
end)
