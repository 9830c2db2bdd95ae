-- §0: functions of ours that call functions of the user's, which call ours, and so on without end: an error, never a crash.
local support = require 'spec.support'

-- Each gives a function that comes back to itself through the library. `ipc` is there; what they return is called.
local CYCLES = {
  ['mutex:with'] = [[
    local m = ipc.mutex()
    local function f() return m:with(f) end
    return f]],
  ['sharedtable.update'] = [[
    local s, n = ipc.sharedtable {}, 0
    local function f() n = n + 1 return ipc.sharedtable.update(s, n, f) end
    return f]],
  ['server:clients'] = [[
    local server, port = ipc.server()
    local client = ipc.client(port)
    server:clients(1, function() end)
    KEEP = client
    local function f() return server:clients(f) end
    return f]],
  ['tensor:apply'] = [[
    local t = require 'ipc.torch'.FloatTensor(1)
    local function f() t:apply(f) end
    return f]],
  ['tensor:map'] = [[
    local t = require 'ipc.torch'.FloatTensor(1)
    local function f() t:map(t, f) end
    return f]],
  ['tensor:map2'] = [[
    local t = require 'ipc.torch'.FloatTensor(1)
    local function f() t:map2(t, t, f) end
    return f]],
  ['metatablename, of a table that is sent'] = [[
    local f
    local class = { metatablename = function() return f() end }
    class.__index = class
    f = function() return ipc.marshal(setmetatable({}, class)) end
    return f]],
  ['metatablename, of an item of a queue'] = [[
    local q, f = ipc.channel()
    local class = { metatablename = function() return f() end }
    class.__index = class
    f = function() return q:write(setmetatable({}, class)) end
    return f]],
  ['retain, of a userdata that is sent'] = [[
    local file, f = io.tmpfile()
    debug.setmetatable(file, { __index = { metatablename = function() return 'a class' end, retain = function() f() end } })
    f = function() return ipc.marshal(file) end
    return f]],
  ['require, of a module that arrives'] = [[
    local travels = {}
    package.loaded.travels = travels
    local sent = ipc.marshal(function() return travels end)
    local function f()
      package.loaded.travels = nil
      return sent:read()
    end
    package.preload.travels = f
    return f]],
  ['ipc.tree'] = [[
    local function f() return ipc.tree() end
    package.loaded['ipc.launch'] = { tree = f }
    return f]],
  ['a coroutine in each call'] = [[
    local m = ipc.mutex()
    local function f() return m:with(function() return coroutine.wrap(f)() end) end
    return f]],
  ['an error caught in each call'] = [[
    local m = ipc.mutex()
    local function f() return assert(pcall(m.with, m, f)) end
    return f]],
  ['a table as deep as can be sent, from as deep as can be called'] = [[
    local m, deep, n = ipc.mutex(), {}, 0
    for _ = 1, 900 do deep = { deep } end
    local function f()
      n = n + 1
      if n % 8 == 0 then ipc.marshal(deep):read() end
      return m:with(f)
    end
    return f]],
  -- Lua runs no finalizer within another, or does so only when asked: then it may end well.
  ['a collection in each call'] = [[
    local m, f = ipc.mutex()
    local function garbage()
      if newproxy then getmetatable(newproxy(true)).__gc = function() f() end
      else setmetatable({}, { __gc = function() f() end }) end
    end
    f = function()
      m:with(function() garbage() collectgarbage() collectgarbage() end)
    end
    MAY_END = true
    return f]],
}

-- What calls into Lua, by file of src/bind: the cycles above that come by there, or why none can.
local CALLS = {
  ['sync/mutex.rs'] = { 'mutex:with' },
  ['sync/sharedtable.rs'] = { 'sharedtable.update' },
  ['peer/server.rs'] = { 'server:clients' },
  ['tensor/convert.rs'] = { 'tensor:apply', 'tensor:map', 'tensor:map2' },
  ['codec/class.rs'] = { 'metatablename, of a table that is sent', 'metatablename, of an item of a queue' },
  ['codec/encode/attachment.rs'] = { 'retain, of a userdata that is sent' },
  ['codec/decode/function.rs'] = { 'require, of a module that arrives' },
  ['peer/launch.rs'] = { 'ipc.tree' },
  ['vm/protect.rs'] = 'the calls themselves',
  ['vm/lua.rs'] = 'calls an empty function',
  ['threads/cancel/compiled/probe.rs'] = 'calls functions of its own',
  ['vm/cdata.rs'] = 'calls functions of its own',
  ['wait/scheduler.rs'] = 'calls functions of its own',
  ['tensor/file.rs'] = 'calls functions of its own',
  ['tensor/file/save.rs'] = 'calls functions of its own',
  ['tensor/file/load.rs'] = 'calls functions of its own',
  ['tensor/module.rs'] = 'loads the module, once',
  ['module.rs'] = 'loads the module, once',
  ['threads/worker.rs'] = 'is where a thread begins',
  ['threads/map.rs'] = 'is where a thread begins',
  ['threads/pool/work.rs'] = 'is where a task begins',
  ['vm/traceback.rs'] = 'is where an error of a thread or a task ends',
}

describe('calls that come back without end', function()
  local names = {}
  for name in pairs(CYCLES) do names[#names + 1] = name end
  table.sort(names)

  for _, name in ipairs(names) do
    for _, where in ipairs { 'the main thread', 'a worker' } do
      it(('through %s, in %s, are an error'):format(name, where), function()
        -- It comes to its end twice, and everything works afterwards.
        local chunk = ([[
          local ipc = require 'libipc'
          local f = (function() %s end)()
          for _ = 1, 2 do
            local ok, e = pcall(f)
            e = tostring(e)
            assert(MAY_END or not ok, 'no error')
            assert(ok or e:find('nested', 1, true) or e:find('overflow', 1, true) or e:find('error in error', 1, true)
              or e:find('enough memory', 1, true), e)
          end
          assert(ipc.marshal('alive'):read() == 'alive')
        ]]):format(CYCLES[name])
        if where == 'a worker' then
          chunk = ("local ipc = require 'libipc'\nipc.map(1, (loadstring or load)(%q)):join()"):format(chunk)
        end
        support.check(chunk .. "\nio.write 'ended'")
      end)
    end
  end

  it('are looked for wherever the library calls into Lua', function()
    local calls = "grep -rlE 'lua_(p?call|callk|pcallk)\\(|[.]call(_traced)?\\(' --include='*.rs' src/bind"
    local found = support.sh('cd ' .. support.quote(support.root) .. ' && ' .. calls)
    assert.is_true(#found > 0)
    for path in found:gmatch '[^\n]+' do
      local file = path:gsub('^src/bind/', '')
      assert.is_truthy(CALLS[file], file .. ' calls into Lua: it needs a cycle in this file, or a reason')
      for _, name in ipairs(type(CALLS[file]) == 'table' and CALLS[file] or {}) do assert.is_truthy(CYCLES[name], name) end
    end
  end)

  it('end on a small stack too', function()
    -- The system's own programs need some of it.
    local shell = support.write(support.tmpname '.sh', ('ulimit -s 512; exec %s "$@"'):format(support.lua))
    for _, name in ipairs { 'mutex:with', 'tensor:apply' } do
      support.check(([[
        local ipc = require 'libipc'
        local ok, e = pcall((function() %s end)())
        assert(not ok and (e:find('nested', 1, true) or e:find('overflow', 1, true)), e)
      ]]):format(CYCLES[name]), { lua = 'sh ' .. shell })
    end
  end)
end)
