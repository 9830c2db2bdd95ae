-- What travels (§1), shown through marshal, which is the plainest thread route.
local support = require 'spec.support'
local ipc = require 'libipc'

local fails = support.fails
local loadstring = loadstring or load -- luacheck: ignore 143
local unpack = table.unpack or unpack -- luacheck: ignore 143

local function trip(v, upvalues)
  local m = ipc.marshal(v, upvalues)
  local first, second = m:read(), m:read()
  m:close()
  return first, second
end

-- The same shape: tables with the same keys and equal values, shared parts and cycles in the same places.
local function same(a, b, seen)
  seen = seen or {}
  if type(a) ~= 'table' then
    return a == b and (math.type == nil or math.type(a) == math.type(b)) or a ~= a and b ~= b
  end
  if type(b) ~= 'table' then return false end
  if seen[a] then return seen[a] == b end
  seen[a] = b
  for k, v in pairs(a) do
    if type(k) ~= 'table' and not same(v, b[k], seen) then return false end
  end
  for k in pairs(b) do
    if type(k) ~= 'table' and a[k] == nil then return false end
  end
  return true
end

describe('plain values', function()
  it('nil, booleans and strings arrive exactly', function()
    assert.is_nil(trip({ nil }).x)
    assert.is_true(trip(true))
    assert.is_false(trip(false))
    for _, n in ipairs { 0, 1, 31, 32, 255, 256, 65535, 65536, 300000 } do
      local s = ('\0\255x'):rep(n):sub(1, n)
      assert.is_true(trip(s) == s)
    end
  end)

  it('numbers arrive exactly', function()
    for _, e in ipairs { 0, 5, 7, 8, 15, 16, 31, 32, 52, 53, 54, 62, 63, 64, 100, 1023 } do
      for _, d in ipairs { -1, 0, 1, 0.5 } do
        for _, sign in ipairs { 1, -1 } do
          local n = sign * (2 ^ e + d)
          assert.is_true(same(n, (trip(n))), tostring(n))
        end
      end
    end
    -- Not written as a constant: PUC 5.1 keeps 0 and -0 as one.
    assert.is_true(1 / trip(-tonumber '0.0') < 0)
    assert.is_true(trip(1 / 0) == 1 / 0 and trip(-1 / 0) == -1 / 0)
    local nan = trip(0 / 0)
    assert.is_true(nan ~= nan)
    assert.equal(5e-324, (trip(5e-324)))
  end)

  it('integers stay integers and floats floats', function()
    if not support.has_integers then return pending 'this Lua has floats only' end
    for _, n in ipairs { 0, 1, -1, 127, 128, -128, -129, math.maxinteger, math.mininteger, math.tointeger(2 ^ 53) } do
      assert.is_true(same(n, (trip(n))), tostring(n))
    end
    assert.equal('float', math.type(trip(3.0)))
    assert.equal('float', math.type(trip(2 ^ 53)))
  end)

  it('boxed 64-bit integers arrive exactly', function()
    if not support.is_luajit then return pending 'this Lua has no cdata' end
    local ffi = require 'ffi'
    for _, text in ipairs { '0LL', '-1LL', '9223372036854775807LL', '-9223372036854775807LL', '0ULL', '18446744073709551615ULL' } do
      local n = loadstring('return ' .. text)()
      local back = trip { n }[1]
      assert.equal('cdata', type(back))
      assert.is_true(back == n and ffi.typeof(back) == ffi.typeof(n), text)
    end
    assert.matches('value%.p: cdata', fails(ipc.marshal, { p = ffi.new 'int[2]' }))
  end)

  it('an integer past 2^53 becomes int64 cdata on LuaJIT and is refused by a Lua without integers', function()
    -- The bytes a Lua with integers writes: version, int64 2^53 + 1.
    local bytes = '\16\211\0\32\0\0\0\0\0\1'
    if support.has_integers then
      assert.equal(math.tointeger(2 ^ 53) + 1, ipc.unmarshal(bytes))
    elseif support.is_luajit then
      assert.is_true(ipc.unmarshal(bytes) == loadstring 'return 9007199254740993LL'())
    else
      local e = fails(ipc.unmarshal, bytes)
      assert.equal('unsupported', ipc.errcode(e))
      assert.matches('9007199254740993', e)
    end
    assert.equal(2 ^ 53, ipc.unmarshal '\16\211\0\32\0\0\0\0\0\0')
  end)
end)

describe('tables', function()
  it('any key that Lua allows', function()
    local t = { [true] = 1, [false] = 2, [1.5] = 3, [-1] = 4, [0] = 5, [2 ^ 40] = 6, ['a\0b'] = 7, [''] = 8, [1] = 9, [3] = 10 }
    assert.is_true(same(t, (trip(t))))
    local key = {}
    local back = trip { [key] = key, [print] = 'p' }
    local k
    for x in pairs(back) do if type(x) == 'table' then k = x end end
    assert.equal(k, back[k])
    assert.equal('p', back[print])
  end)

  it('arrays keep their order, holes and mixed tables arrive whole', function()
    local t = {}
    for i = 1, 1000 do t[i] = i * i end
    assert.is_true(same(t, (trip(t))))
    assert.equal(1000, #trip(t))
    assert.is_true(same({ 1, 2, nil, 4 }, (trip { 1, 2, nil, 4 })))
    assert.is_true(same({ nil, 2 }, (trip { nil, 2 })))
    assert.is_true(same({ 1, 2, x = 3, y = { 4, z = 5 } }, (trip { 1, 2, x = 3, y = { 4, z = 5 } })))
    local backwards = {}
    for i = 50, 1, -1 do backwards[i] = i end
    assert.is_true(same(backwards, (trip(backwards))))
    assert.is_true(same({}, (trip {})))
    assert.is_true(same({ {}, {} }, (trip { {}, {} })))
  end)

  it('what is referred to twice stays one, cycles stay cycles', function()
    local shared = { 1 }
    local t = { a = shared, b = shared, list = { shared, shared } }
    t.self, t.list.up = t, t
    for _, back in ipairs { trip(t) } do
      assert.equal(back.a, back.b)
      assert.equal(back.a, back.list[1])
      assert.equal(back, back.self)
      assert.equal(back, back.list.up)
      assert.not_equal(shared, back.a)
    end
    local twice = trip { { 1 }, { 1 } }
    assert.not_equal(twice[1], twice[2])
    -- More objects than fit in the short list, each referred to twice.
    local many = {}
    for i = 1, 200 do many[i] = { i } end
    for i = 1, 200 do many[200 + i] = many[i] end
    local back = trip(many)
    for i = 1, 200 do assert.equal(back[i], back[200 + i]) end
  end)

  it('copies: neither side sees later writes', function()
    local t = { 1 }
    local m = ipc.marshal(t)
    t[1] = 2
    local a, b = m:read(), m:read()
    a[1] = 3
    assert.equal(1, b[1])
  end)

  it('random tables arrive as they were', function()
    math.randomseed(42)
    local function value(depth)
      local kind = math.random(depth > 4 and 5 or 7)
      if kind == 1 then return math.random(1000) - 500 end
      if kind == 2 then return math.random() * 1e10 end
      if kind == 3 then return ('x'):rep(math.random(0, 40)) end
      if kind == 4 then return math.random() < 0.5 end
      if kind == 5 then return -2 ^ math.random(1, 60) end
      local t = {}
      for i = 1, math.random(0, 6) do t[i] = value(depth + 1) end
      for _ = 1, kind == 7 and math.random(0, 6) or 0 do t['k' .. math.random(100)] = value(depth + 1) end
      return t
    end
    for _ = 1, 300 do
      local v = value(0)
      assert.is_true(same(v, (trip(v))))
    end
  end)

  it('depth up to the limit passes, past it is a clear error', function()
    local deep = {}
    for _ = 2, 1000 do deep = { deep } end
    local back = trip(deep)
    for _ = 2, 1000 do back = back[1] end
    assert.is_nil(next(back))
    local e = fails(ipc.marshal, { deep })
    assert.equal('limit', ipc.errcode(e))
    assert.matches('1000 levels', e)
    for _ = 1, 10000 do deep = { x = deep } end
    assert.equal('limit', ipc.errcode(fails(ipc.marshal, deep)))
  end)
end)

describe('metatables', function()
  local Point = {}
  Point.__index = Point
  function Point:norm() return math.sqrt(self.x ^ 2 + self.y ^ 2) end
  ipc.register('spec.Point', Point)

  it('that are registered arrive', function()
    local p = setmetatable({ x = 3, y = 4 }, Point)
    local back = trip { p, p, { p } }
    assert.equal(5, back[1]:norm())
    assert.equal(Point, getmetatable(back[1]))
    assert.equal(back[1], back[3][1])
    p.me = p
    back = trip(p)
    assert.equal(back, back.me)
  end)

  it('that answer metatablename() are found by that name in the registry', function()
    local mt = { metatablename = function() return 'spec.Named' end, hello = 'hi' }
    mt.__index = mt
    debug.getregistry()['spec.Named'] = mt
    local back = trip(setmetatable({ 1 }, mt))
    assert.equal(mt, getmetatable(back))
    assert.equal('hi', back.hello)
  end)

  it('that are unknown to the receiver are an error that names the class', function()
    local bytes = ipc.marshal(setmetatable({}, Point)):bytes():gsub('spec%.Point', 'spec.Poin?')
    local e = fails(ipc.unmarshal, bytes)
    assert.equal('unsupported', ipc.errcode(e))
    assert.matches('spec%.Poin%?', e)
    -- What the registry holds for other purposes is no class.
    for _, name in ipairs { '_LOADED', 'FILE*', 'libipc.state' } do
      local forged = '\16\199' .. string.char(#name + 2) .. '\4' .. string.char(160 + #name) .. name .. '\144'
      assert.equal('unsupported', ipc.errcode(fails(ipc.unmarshal, forged)), name)
    end
  end)

  it('without a name are refused with the path, not dropped', function()
    local e = fails(ipc.marshal, { list = { 1, setmetatable({}, {}) } })
    assert.equal('unsupported', ipc.errcode(e))
    assert.matches('value%.list%[2%]', e)
    assert.matches('ipc%.register', e)
  end)

  it('names are taken once', function()
    assert.equal(Point, ipc.register('spec.Point', Point))
    assert.matches('argument #1', fails(ipc.register, 'spec.Point', {}))
    assert.matches('expected a table', fails(ipc.register, 'spec.Other', 1))
    assert.matches('expected a string', fails(ipc.register, {}, {}))
  end)

  it('an error inside metatablename() is raised, whatever it is', function()
    local mt = { metatablename = function() error({ code = 7 }) end }
    local ok, e = pcall(ipc.marshal, setmetatable({}, mt))
    assert.is_false(ok)
    assert.equal(7, e.code)
    assert.equal(1, (trip(1)))
  end)
end)

describe('functions', function()
  it('without upvalues travel', function()
    local f = trip(function(a, ...) return a, select('#', ...), type(print) end)
    local a, n, t = f('a', nil, nil)
    assert.equal('a', a)
    assert.equal(2, n)
    assert.equal('function', t)
    local one = trip { f, f }
    assert.equal(one[1], one[2])
  end)

  it('with upvalues are refused with line, count, first upvalue and a word on writeup', function()
    local conn, other = {}, {}
    local line = debug.getinfo(1, 'l').currentline + 1
    local e = fails(ipc.marshal, { handlers = { on = function() return conn, other end } })
    assert.equal('unsupported', ipc.errcode(e))
    assert.matches('value%.handlers%.on', e)
    assert.matches('values_spec%.lua:' .. line, e)
    assert.matches('2 upvalues', e)
    assert.matches("'conn'", e)
    assert.matches('writeup', e)
  end)

  it('take their upvalues along when asked', function()
    local n, t = 40, { 2 }
    local f, g = trip(function() return n + t[1] end, true)
    assert.equal(42, f())
    n = 0
    assert.equal(42, f())
    assert.equal(42, g())
    local function fact(k) return k < 2 and 1 or k * fact(k - 1) end
    assert.equal(120, trip(fact, true)(5))
  end)

  it('that share an upvalue go on sharing it', function()
    if support.build == 'lua51' then return pending 'Lua 5.1 cannot join upvalues: they become copies' end
    local n = 0
    local pair = trip({ inc = function() n = n + 1 end, get = function() return n end }, true)
    pair.inc()
    pair.inc()
    assert.equal(2, pair.get())
    assert.equal(0, n)
  end)

  it('whose upvalues cannot travel are refused with the path inside', function()
    local self = { db = { conn = io.stdout } }
    local e = fails(ipc.marshal, function() return self end, true)
    assert.matches('upvalue self%.db%.conn: userdata', e)
  end)

  it('whose upvalues are modules or standard functions travel on every route', function()
    local lib, format, str = ipc, string.format, string
    local f = trip(function(x) return lib, format('%d', x), str.rep(x, 2) end)
    local a, b, c = f(4)
    assert.equal(ipc, a)
    assert.equal('4', b)
    assert.equal('44', c)
    local channel, sharedtable, incr = ipc.channel, ipc.sharedtable, ipc.sharedtable.incr
    f = trip(function() return channel, sharedtable, incr end)
    a, b, c = f()
    assert.is_true(a == channel and b == sharedtable and c == incr)
  end)

  it('of the standard libraries and of libipc travel by name', function()
    assert.equal(print, (trip(print)))
    local back = trip { string.format, math.floor, coroutine.wrap, ipc.type, table.concat }
    assert.is_true(same({ string.format, math.floor, coroutine.wrap, ipc.type, table.concat }, back))
  end)

  it('written in C elsewhere are refused, named', function()
    local lfs = package.loaded.lfs or package.loaded.socket
    local e = fails(ipc.marshal, { f = lfs and (lfs.currentdir or lfs.gettime) or string.gmatch('a', 'a') })
    assert.equal('unsupported', ipc.errcode(e))
    assert.matches('value%.f: .*C function', e)
    e = fails(ipc.marshal, coroutine.wrap(function() end))
    assert.equal('unsupported', ipc.errcode(e))
  end)

  it('with an environment of their own are refused, named, instead of leaving it', function()
    local function within(env, code)
      if not setfenv then return load(code, '=sandboxed', 't', env) end
      return setfenv(loadstring(code, '=sandboxed'), env)
    end
    local window = setmetatable({}, { __index = _G, __newindex = _G })
    local environments = {
      {}, { x = 1 }, { _G = _G }, setmetatable({}, { __index = _G }), setmetatable({ x = 1 }, { __index = _G, __newindex = _G }),
      setmetatable({}, { __newindex = function() end }), setmetatable({}, { __index = function() end, __newindex = _G }),
    }
    for _, env in ipairs(environments) do
      for _, upvalues in ipairs { false, true } do
        local f = within(env, 'return x')
        local e = fails(ipc.marshal, { run = f }, upvalues)
        assert.equal('unsupported', ipc.errcode(e))
        assert.matches('value%.run: function at sandboxed:0 has an environment of its own', e)
        e = fails(ipc.marshal, function() return f end, true)
        assert.matches('upvalue f: function at sandboxed:0 has an environment of its own', e)
      end
      assert.matches('the function: .*environment', fails(ipc.map, 1, within(env, 'return x')))
    end
    _G.x = 'global'
    for _, env in ipairs { _G, window } do
      assert.equal('global', (trip(within(env, 'return x'))()))
    end
    _G.x = nil
    assert.matches('has an environment', fails(ipc.marshal, within(setmetatable({}, {
      __index = function(_, key) return key ~= '_G' and _G[key] or nil end, __newindex = _G,
    }), 'return x')))
    local broken = setmetatable({}, { __index = function() error('no such global', 0) end, __newindex = _G })
    assert.equal('no such global', select(2, pcall(ipc.marshal, within(broken, 'return x'))))
  end)

  it('of a coroutine with globals of its own are refused', function()
    if not setfenv then return pending 'this Lua has one table of globals' end
    local out = support.check [[
      local ipc = require 'libipc'
      local co = coroutine.create(function()
        local f = loadstring('return secret')
        return pcall(ipc.marshal, f)
      end)
      debug.setfenv(co, { secret = 1 })
      local ok, refused, e = coroutine.resume(co)
      print(ok, refused, e:match 'environment of its own')
    ]]
    assert.equal('true\tfalse\tenvironment of its own\n', out)
  end)

  it('find the globals of the Lua they arrive in', function()
    _G.spec_global = 'here'
    local f = trip(function() return spec_global end) -- luacheck: ignore 113
    assert.equal('here', f())
    _G.spec_global = nil
  end)
end)

describe('what cannot travel', function()
  it('is refused with its path', function()
    local co = coroutine.create(function() end)
    assert.matches('value%.layers%[3%]%.state: a coroutine', fails(ipc.marshal, { layers = { 1, 2, { state = co } } }))
    assert.matches('value%[1%]%["a b"%]: userdata', fails(ipc.marshal, { { ['a b'] = io.stdout } }))
    assert.matches('value%[key %[a userdata%]%]', fails(ipc.marshal, { [io.stdout] = 1 }))
    assert.matches('value%[true%]', fails(ipc.marshal, { [true] = co }))
  end)

  it('leaves the next message whole', function()
    for _ = 1, 10 do
      pcall(ipc.marshal, { 1, 2, { 'x', coroutine.create(function() end) } })
      assert.is_true(same({ 1, { 2 } }, (trip { 1, { 2 } })))
    end
  end)
end)

describe('objects of libipc', function()
  it('go by reference', function()
    local m = ipc.marshal { 'inner' }
    local back = trip { m, m }
    assert.equal('ipc.marshal', ipc.type(back[1]))
    assert.equal(back[1], back[2])
    m:close()
    assert.equal('inner', back[1]:read()[1])
  end)
end)

describe('userdata of other libraries', function()
  -- A file's userdata stands in for one: its first word is a pointer, and debug gives it another metatable.
  local count = { retained = 0, released = 0 }
  local Lent = {
    metatablename = function() return 'spec.Lent' end,
    retain = function() count.retained = count.retained + 1 end,
    __gc = function() count.released = count.released + 1 end,
  }
  Lent.__index = Lent
  debug.getregistry()['spec.Lent'] = Lent

  local function disguised(mt)
    local file = assert(io.tmpfile())
    debug.setmetatable(file, mt) -- 5.1 returns a boolean
    return file
  end

  local function collect()
    for _ = 1, 3 do collectgarbage() end
  end

  it('goes by pointer between threads, one reference for each holder', function()
    local original = disguised(Lent)
    local m = ipc.marshal { original, original }
    assert.equal(1, count.retained)
    for i = 1, 3 do
      local back = m:read()
      assert.equal(Lent, debug.getmetatable(back[1]))
      assert.equal(back[1], back[2])
      assert.not_equal(original, back[1])
      assert.equal(1 + i, count.retained)
    end
    collect()
    assert.equal(3, count.released)
    -- The message's own reference comes back with the next that crosses.
    m:close()
    m = nil -- luacheck: ignore 311
    collect()
    local again = ipc.marshal(original)
    again:read()
    collect()
    assert.equal(count.retained - 1, count.released)
    debug.setmetatable(original, nil)
  end)

  it('cannot leave the process', function()
    local original = disguised(Lent)
    local bytes = ipc.marshal(original)
    assert.matches('userdata spec%.Lent', fails(bytes.bytes, bytes))
    debug.setmetatable(original, nil)
  end)

  it('without the two methods is refused', function()
    local mt = { metatablename = function() return 'spec.Lent' end }
    mt.__index = mt
    local u = disguised(mt)
    assert.equal('unsupported', ipc.errcode(fails(ipc.marshal, u)))
    debug.setmetatable(u, nil)
  end)
end)

describe('marshal', function()
  it('refuses nil and says what it got', function()
    assert.equal('argument', ipc.errcode(fails(ipc.marshal)))
    assert.equal('argument', ipc.errcode(fails(ipc.marshal, nil)))
  end)

  it('takes the size and increment of old scripts', function()
    assert.equal(1, ipc.marshal(1, false, 64, 64):read())
    assert.matches('argument #3', fails(ipc.marshal, 1, false, -1))
  end)

  it('says what is closed', function()
    local m = ipc.marshal { 1 }
    assert.matches('^ipc%.marshal: %d+ bytes$', tostring(m))
    m:close()
    m:close()
    assert.equal('ipc.marshal: closed', tostring(m))
    assert.equal('closed', ipc.errcode(fails(m.read, m)))
    assert.matches('expected an ipc%.marshal as self', fails(m.read))
  end)

  it('goes to bytes and back, functions only when asked', function()
    local v = { 1, 'two', { three = 3 } }
    assert.is_true(same(v, ipc.unmarshal(ipc.marshal(v):bytes())))
    local bytes = ipc.marshal(function() return 7 end):bytes()
    assert.equal('unsupported', ipc.errcode(fails(ipc.unmarshal, bytes)))
    assert.equal(7, ipc.unmarshal(bytes, { functions = true })())
    assert.matches('unknown option', fails(ipc.unmarshal, bytes, { function_ = true }))
    -- By name, too.
    for _, named in ipairs { print, ipc.marshal } do
      bytes = ipc.marshal({ f = named }):bytes()
      local e = fails(ipc.unmarshal, bytes)
      assert.equal('unsupported', ipc.errcode(e))
      assert.matches('functions = true', e, nil, true)
      assert.equal(named, ipc.unmarshal(bytes, { functions = true }).f)
    end
  end)

  it('is read in any thread, any number of times, until all have let go', function()
    local m = ipc.marshal { 1, { 2 } }
    local threads = ipc.map(3, function(message)
      local sum = 0
      for _ = 1, 20 do
        local v = message:read()
        sum = sum + v[1] + v[2][1]
      end
      return sum
    end, m)
    m:close()
    assert.same({ 60, 60, 60 }, { threads:join() })
  end)

  it('carries tensors in bytes, wherever they stand', function()
    local torch = require 'ipc.torch'
    local grid = torch.range(1, 6):resize(2, 3)
    local v = {
      grid = grid, turned = grid:t(), again = grid, n = 7,
      list = { torch.LongStorage { 1, -2 }, torch.FloatTensor(), torch.ByteTensor { 255 } },
      f = function(x) return x + 1 end,
    }
    local bytes = ipc.marshal(v):bytes()
    grid:zero()
    local back = ipc.unmarshal(bytes, { functions = true })
    assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, back.grid:totable())
    assert.same({ { 1, 4 }, { 2, 5 }, { 3, 6 } }, back.turned:totable())
    assert.is_false(back.turned:isContiguous(), 'what shares memory keeps its strides')
    assert.is_true(rawequal(back.again, back.grid), 'the same tensor twice is one')
    assert.same({ 1, -2 }, back.list[1]:totable())
    assert.equal('torch.LongStorage', torch.type(back.list[1]))
    assert.equal(0, back.list[2]:nElement())
    assert.equal('torch.FloatTensor', torch.type(back.list[2]))
    assert.equal(255, back.list[3][1])
    assert.equal(7, back.n)
    assert.equal(8, back.f(7))
    assert.equal('unsupported', ipc.errcode(fails(ipc.unmarshal, bytes)))
    -- One by itself.
    local lone = ipc.unmarshal(ipc.marshal(torch.DoubleTensor { 1.5 }):bytes())
    assert.equal(1.5, lone[1])
    -- A file is as good as a string.
    local path = support.write(support.tmpname '.bytes', ipc.marshal({ t = torch.IntTensor { 1, 2, 3 } }):bytes())
    assert.same({ 1, 2, 3 }, ipc.unmarshal(support.read(path)).t:totable())
  end)

  it('carries memory that tensors and storages share once, and they come back sharing it', function()
    local torch = require 'ipc.torch'
    local t = torch.range(1, 10000):resize(100, 100)
    local v = { row = t[2], column = t:select(2, 3), all = t, storage = t:storage(), part = torch.DoubleStorage(t:storage(), 101, 5) }
    v.other, v.left, v.right = torch.range(1, 4), t:clone():narrow(2, 1, 50), t:clone():narrow(2, 1, 50)
    local bytes = ipc.marshal(v):bytes()
    assert.is_true(#bytes < 10000 * 8 + 2 * 5000 * 8 + 1000, #bytes)
    local back = ipc.unmarshal(bytes)
    back.column:fill(-1)
    assert.equal(-1, back.row[3])
    assert.equal(-1, back.storage[103])
    assert.equal(-1, back.part[3])
    assert.equal(-100, back.all:select(2, 3):sum())
    assert.is_true(back.all:isContiguous() and back.column:stride(1) == 100)
    back.storage:resize(10001)
    assert.equal(10001, #back.all:storage(), 'it is one storage')
    back.left:fill(5)
    assert.equal(1, back.right[1][1], 'what shares nothing arrives apart')
    assert.same({ 1, 2, 3, 4 }, back.other:totable())
    -- Columns that interlock share no element: each is packed.
    bytes = ipc.marshal({ t:select(2, 1), t:narrow(2, 2, 4) }):bytes()
    assert.is_true(#bytes < 500 * 8 + 200, #bytes)
    back = ipc.unmarshal(bytes)
    assert.is_true(back[1]:isContiguous() and back[2]:isContiguous())
    -- The same view twice takes no more than once; an expanded one shares with what it repeats.
    local one = torch.DoubleTensor { 7 }
    back = ipc.unmarshal(ipc.marshal({ t:select(2, 1), t:select(2, 1), one, one:expand(5) }):bytes())
    back[1][1], back[3][1] = 70, 8
    assert.equal(70, back[2][1])
    assert.same({ 8, 8, 8, 8, 8 }, back[4]:totable())
  end)

  it('names what has no form in bytes, with the way to it', function()
    local torch = require 'ipc.torch'
    local m = ipc.marshal { torch.FloatTensor(2), { layers = { {}, { lock = ipc.mutex() } } } }
    local e = fails(m.bytes, m)
    assert.equal('unsupported', ipc.errcode(e))
    assert.matches('value%[2%]%.layers%[2%]%.lock: ipc%.mutex has no form in bytes', e)
    m = ipc.marshal(ipc.atomic())
    assert.matches('value: ipc%.atomic has no form', fails(m.bytes, m))
    assert.equal('ipc.mutex', ipc.type(ipc.marshal({ ipc.mutex() }):read()[1]))
  end)
end)

describe('hostile bytes', function()
  it('are an error, whatever they are', function()
    for _, bytes in ipairs {
      '', '\0', '\16', '\255', '\16\193', '\16\221\255\255\255\255', '\16\223\255\255\255\255', '\16\219\255\255\255\255',
      '\17\214\1\0\0\0\0', '\16\214\1\0\0\0\0', '\16\214\2\0\0\0\0', '\16\192\192', '\20\1', '\20\221\0\0\0\1\192',
      '\16\201\0\0\0\1\3\144', '\16\129\192\1', '\16\129\203\127\248\0\0\0\0\0\0\1', '\16\199\2\6\161', '\16\199\0\99',
    } do
      local ok, e = pcall(ipc.unmarshal, bytes)
      assert.is_false(ok, ('%q'):format(bytes))
      assert.is_truthy(ipc.errcode(e), e)
    end
    assert.equal('protocol', ipc.errcode(fails(ipc.unmarshal, ('\16' .. ('\145'):rep(500)))))
    -- Every beginning of a message with a tensor in it.
    local whole = ipc.marshal({ require('ipc.torch').FloatTensor { 1, 2, 3 }, 'text' }):bytes()
    for n = 0, #whole - 1 do assert.equal('protocol', ipc.errcode(fails(ipc.unmarshal, whole:sub(1, n)))) end
    assert.equal('protocol', ipc.errcode(fails(ipc.unmarshal, whole .. 'x')))
    assert.equal('limit', ipc.errcode(fails(ipc.unmarshal, ('\16' .. ('\145'):rep(5000)))))
  end)

  it('that announce more tensors than they hold are an error', function()
    local torch = require 'ipc.torch'
    local whole = ipc.marshal({ torch.FloatTensor(7):fill(1) }):bytes()
    -- The size, 7, stands in the descriptor before the data of 28 bytes.
    local at = #whole - 28 - 8
    assert.equal('\7\0\0\0\0\0\0\0', whole:sub(at + 1, at + 8))
    for _, size in ipairs { '\8\0\0\0\0\0\0\0', '\0\0\0\0\0\0\4\0', ('\255'):rep(8), '\0\0\0\0\0\0\0\64' } do
      local e = fails(ipc.unmarshal, whole:sub(1, at) .. size .. whole:sub(at + 9))
      assert.equal('protocol', ipc.errcode(e), e)
    end
    -- A header that says the most that it can.
    for _, header in ipairs { '\1\0\0\0' .. ('\255'):rep(12), '\1\0\0\0\0\0\0\0' .. ('\255'):rep(8), '\1\2\0\0' } do
      assert.is_truthy(ipc.errcode(fails(ipc.unmarshal, header .. whole)))
    end
  end)

  it('mutated at random do no harm', function()
    math.randomseed(7)
    local n = 0
    local function count() n = n + 1 end
    local bytes = ipc.marshal({ 1, { a = { 1, 2, {} }, b = 'x', 1.5 }, print, count, { count }, -70000, true }, true):bytes()
    for _ = 1, 3000 do
      local mutated = bytes:gsub('.', function() if math.random() < 0.02 then return string.char(math.random(0, 255)) end end)
      local ok, e = pcall(ipc.unmarshal, mutated:sub(1, math.random(#mutated)))
      assert.is_true(ok or type(e) == 'string')
    end
  end)
end)

describe('conventions', function()
  it('the module is one table under both names', function()
    assert.equal(ipc, require 'ipc')
    assert.equal('string', type(ipc._VERSION))
  end)

  it('type names what it gets', function()
    assert.equal('nil', ipc.type(nil))
    assert.equal('number', ipc.type(1))
    assert.equal('userdata', ipc.type(io.stdout))
    assert.equal('ipc.marshal', ipc.type(ipc.marshal(1)))
    assert.equal('argument', ipc.errcode(fails(ipc.type)))
  end)

  it('errors begin with libipc and the code, after the position of the call', function()
    local e = fails(function() ipc.register(1, {}) end)
    assert.matches('^[^:]*values_spec%.lua:%d+: libipc %[argument%] ipc%.register: argument #1: expected a string, got number$', e)
  end)

  it('errcode finds the code wherever it stands', function()
    assert.equal('argument', ipc.errcode(fails(ipc.marshal)))
    local _, e = xpcall(function() ipc.marshal() end, debug.traceback)
    assert.equal('argument', ipc.errcode(e))
    assert.is_nil(ipc.errcode 'some other error')
    assert.is_nil(ipc.errcode 'libipc [nonsense] x')
    assert.is_nil(ipc.errcode {})
    assert.is_nil(ipc.errcode())
  end)

  it('every function refuses any wrong argument with an error and does no harm', function()
    local co = coroutine.create(function() end)
    local odd = { 0 / 0, -1, 2 ^ 70, '', 'x\0y', {}, { 1, 2 }, print, io.stdout, co, true, 1.5, { [{}] = 1 }, ipc.marshal(1) }
    math.randomseed(3)
    local skip = { fork = true, sleep = true, map = true, map_extended = true, server = true, client = true, __poll = true }
    for name, f in pairs(ipc) do
      if type(f) == 'function' and not skip[name] then
        for _ = 1, 60 do
          local args = {}
          for i = 1, math.random(0, 4) do args[i] = odd[math.random(#odd)] end
          local ok, e = pcall(f, unpack(args, 1, 4))
          assert.is_true(ok or type(e) == 'string', name)
        end
      end
    end
  end)
end)
