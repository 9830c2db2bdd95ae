-- Loading the library: its two names, its version, and the Lua that it was built for.
local support = require 'spec.support'

local full = { luajit = 'LuaJIT', lua51 = 'Lua 5.1', lua52 = 'Lua 5.2', lua53 = 'Lua 5.3', lua54 = 'Lua 5.4',
  lua55 = 'Lua 5.5' }

describe('require', function()
  it('gives the same table under both names', function()
    assert.equal(require 'libipc', require 'ipc')
    assert.is_table(require 'ipc')
  end)

  it('gives a table with the version', function()
    local declared = support.read(support.root .. '/Cargo.toml'):match '\nversion = "(.-)"'
    assert.equal('string', type(require('libipc')._VERSION))
    assert.truthy(require('libipc')._VERSION:find(declared, 1, true))
  end)

  it('gives functions that are not disturbed by what a hook calls in the midst of them', function()
    support.check [[
      local ipc = require 'libipc'
      local calls = 0
      debug.sethook(function()
        calls = calls + 1
        ipc.type(ipc.marshal { calls })
      end, 'cr')
      for i = 1, 100 do
        local m, c = ipc.mutex(), ipc.channel()
        c:write { i, tostring(i) }
        local _, item = c:read()
        assert(item[1] == i and item[2] == tostring(i))
        assert(m:with(function(...) return ... end, i) == i)
      end
      debug.sethook()
      assert(calls > 100)
    ]]
  end)

  it('of a library built for another Lua raises an error that names both', function()
    local tried = 0
    -- Those under test: others may be left from an older build.
    for build in (os.getenv 'SPEC_LUAS' or ''):gmatch '%S+' do
      local name, path = full[build], (os.getenv 'SPEC_TARGET' or support.root .. '/target') .. '/' .. build .. '/?.so'
      if build ~= support.build then
        tried = tried + 1
        local r = support.run("require 'libipc'", { env = { LUA_CPATH = path } })
        assert.equal(1, r.status)
        assert.truthy(r.stderr:find('libipc [state]', 1, true), r.stderr)
        assert.truthy(r.stderr:find('built for ' .. name, 1, true), r.stderr)
        assert.truthy(r.stderr:find(full[support.build] .. ' is loading it', 1, true), r.stderr)
      end
    end
    if tried == 0 then pending 'only one Lua is under test' end
  end)

  it('works again after the module was taken out of package.loaded', function()
    support.check [[
      local first = require 'libipc'
      package.loaded.libipc = nil
      assert(type(require 'libipc') == 'table')
    ]]
  end)
end)
