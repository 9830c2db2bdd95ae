-- §1: metatables, classes and modules that travel by the place where they are found.
-- luacheck: ignore 431 (what goes to a thread has the same name there)
local support = require 'spec.support'
local ipc = require 'libipc'

local fails = support.fails

local function trip(v, upvalues)
  local m = ipc.marshal(v, upvalues)
  local back = m:read()
  m:close()
  return back
end

-- The value in another thread, and what f says of it there.
local function there(f, ...) return ipc.map(1, f, ...):join() end

local modules = {
  places_shapes = [[
    local M = { Point = {}, deep = { Circle = {} } }
    M.Point.__index = M.Point
    function M.Point:norm() return self.x end
    M.deep.Circle.__index = function(_, key) return key end
    M.also = M.Point
    function M.point(x) return setmetatable({ x = x }, M.Point) end
    return M
  ]],
  -- As modules of lua-resty are written.
  places_resty = [[
    local other, M = {}, {}
    local mt = { __index = M }
    function M.new(n) return setmetatable({ n = n, other = nil and other }, mt) end
    function M:get() return self.n end
    return M
  ]],
  -- A module that is a class, callable.
  places_class = [[
    local Class = {}
    Class.__index = Class
    function Class:twice() return 2 * self.n end
    return setmetatable(Class, { __call = function(class, n) return setmetatable({ n = n }, class) end })
  ]],
  places_logger = [[
    local file, lines = io.stdout, {}
    local log = { level = 'info', null = file, weak = setmetatable({}, { __mode = 'k' }) }
    function log.note(line) lines[#lines + 1] = line return #lines, file end
    return log
  ]],
  -- What has no upvalues could be copied, too.
  places_plain = [[
    return { hello = function() return 'hello' end, n = 1 }
  ]],
  -- As middleclass makes its classes.
  places_person = [[
    local dict = {}
    dict.__index = dict
    local class = { name = 'Person', static = {}, __instanceDict = dict, subclasses = setmetatable({}, { __mode = 'k' }) }
    setmetatable(class, {
      __index = class.static, __newindex = dict, __tostring = function() return 'class Person' end,
      __call = function(class, name) return setmetatable({ class = class, name = name }, dict) end,
    })
    function class:hello() return 'I am ' .. self.name end
    return { Person = class }
  ]],
}

describe('what is found in a loaded module', function()
  local path = package.path
  local dir

  setup(function()
    dir = support.tmpdir()
    for name, text in pairs(modules) do support.write(dir .. '/' .. name .. '.lua', text) end
    package.path = dir .. '/?.lua;' .. package.path
  end)

  teardown(function()
    package.path = path
    for name in pairs(modules) do package.loaded[name] = nil end
  end)

  it('is the metatable of a table: a field of a module, a field of a field, or the module', function()
    local shapes = require 'places_shapes'
    local p = shapes.point(3)
    assert.equal(shapes.Point, getmetatable(trip(p)))
    assert.is_true(there(function(p)
      return getmetatable(p) == require 'places_shapes'.Point and p:norm() == 3 and rawget(p, 'norm') == nil
    end, p))
    local circle = setmetatable({}, shapes.deep.Circle)
    assert.is_true(there(function(c) return c.field == 'field' and getmetatable(c) == require 'places_shapes'.deep.Circle end,
      circle))
    local Class = require 'places_class'
    assert.equal(14, there(function(o) return o:twice() end, Class(7)))
  end)

  it('is a metatable that only functions of a module see', function()
    local resty = require 'places_resty'
    assert.same({ 5, true }, { there(function(o)
      local resty = require 'places_resty'
      return o:get(), getmetatable(o) == getmetatable(resty.new(1))
    end, resty.new(5)) })
  end)

  it('is a class or a module in a field, with or without a metatable', function()
    local logger, plain, person = require 'places_logger', require 'places_plain', require 'places_person'.Person
    local Class, Point = require 'places_class', require 'places_shapes'.Point
    local v = { log = logger, same = { logger }, plain = plain, class = Class, Point = Point, bob = person 'bob', list = { 1, plain } }
    local back = trip(v)
    assert.is_true(back.log == logger and back.same[1] == logger and back.plain == plain and back.list[2] == plain)
    assert.is_true(back.class == Class and back.Point == Point)
    assert.is_true(back.bob.class == person and back.bob:hello() == 'I am bob')
    assert.is_true(there(function(v)
      local at = require
      return v.log == at 'places_logger' and v.same[1] == v.log and v.plain == at 'places_plain' and v.list[2] == v.plain
        and v.class == at 'places_class' and v.Point == at 'places_shapes'.Point
        and v.bob.class == at 'places_person'.Person and v.bob:hello() == 'I am bob'
    end, v))
  end)

  it('is taken out of everything around it, shared parts and closures that came before included', function()
    local plain = require 'places_plain'
    for n = 0, 40, 4 do
      local v, shared = {}, { 'shared' }
      for i = 1, n do v[i] = { shared } end
      -- Met after many others, and in the middle of tables whose numbers have been given already.
      v[n + 1] = { { plain, { shared } }, plain, [plain] = shared }
      v[n + 2] = v[n + 1]
      v[n + 3] = { shared, v }
      local back = trip(v)
      for i = 2, n do assert.is_true(back[i][1] == back[1][1]) end
      local inner = back[n + 1]
      assert.is_true(inner[1][1] == plain and inner[2] == plain and inner[plain] == inner[1][2][1])
      assert.is_true(back[n + 2] == inner and back[n + 3][2] == back and back[n + 3][1] == inner[plain])
      assert.equal('shared', inner[plain][1])
    end
    local n = 0
    local function count() n = n + 1 return n end
    local back = trip({ count, { plain, f = count }, function() return n end, plain }, true)
    assert.is_true(back[2][1] == plain and back[2].f == back[1] and back[4] == plain)
    back[1]()
    if support.build ~= 'lua51' then assert.equal(1, back[3]()) end
  end)

  it('stays one metatable for many tables, which may lie in each other', function()
    local shapes = require 'places_shapes'
    local list
    for i = 1, 1000 do list = setmetatable({ x = i, next = list }, shapes.Point) end
    local back = trip(list)
    for i = 1000, 1, -1 do
      assert.is_true(getmetatable(back) == shapes.Point and back.x == i)
      back = rawget(back, 'next')
    end
    assert.is_nil(back)
    local e = fails(ipc.marshal, setmetatable({ next = list }, shapes.Point))
    assert.equal('limit', ipc.errcode(e))
    -- The metatable as a value, before and after.
    local v = trip { shapes.Point, shapes.point(1), shapes.point(2), shapes.Point }
    assert.is_true(v[1] == shapes.Point and v[4] == shapes.Point and getmetatable(v[2]) == v[1] and getmetatable(v[3]) == v[1])
    local data = { 'is data, too' }
    package.loaded.places_made = { mt = data }
    v = trip { data, setmetatable({}, data), setmetatable({}, data), data }
    assert.is_true(v[1] ~= data and v[1] == v[4] and v[1][1] == 'is data, too')
    assert.is_true(getmetatable(v[2]) == data and getmetatable(v[3]) == data)
    package.loaded.places_made = nil
  end)

  it('has the shortest way, then the first name, and the globals come last', function()
    local function way(mt)
      local bytes = ipc.marshal(setmetatable({}, mt)):bytes()
      return (bytes:match '\11.*':gsub('[^%w_]+', ' '):match '^ (.-) ?$')
    end
    local function fresh(name, fields)
      package.loaded[name] = fields
      return fields
    end
    local mt = { __index = {} }
    _G.places_global = mt
    local z = fresh('places_z', { f = function() return mt end })
    assert.matches('places_z f mt$', way(mt))
    -- What was found and is there still is not looked for again.
    z.a = { b = mt }
    assert.matches('places_z f mt$', way(mt))
    z.f = nil
    assert.matches('places_z a b$', way(mt))
    z.c, z.b, z.a = mt, mt, nil
    assert.matches('places_z b$', way(mt))
    z.b, z.c = nil, nil
    fresh('places_y', { z = mt })
    fresh('places_x', { z = mt })
    assert.matches('places_x z$', way(mt))
    fresh('places_x', nil)
    fresh('places_y', mt)
    assert.matches('places_y$', way(mt))
    fresh('places_y', nil)
    fresh('places_z', nil)
    assert.matches('_G places_global$', way(mt))
    _G.places_global = nil
    assert.equal('unsupported', ipc.errcode(fails(ipc.marshal, setmetatable({}, mt))))
  end)

  it('that the receiver lacks is an error that names it', function()
    _G.PlacesHere = { __index = {} }
    local m = ipc.map(1, function() end, setmetatable({}, _G.PlacesHere))
    local e = fails(m.join, m)
    assert.matches('_G%.PlacesHere', e)
    assert.equal(7, ipc.map {
      threads = 1, init = function() PlacesHere = { __index = { seven = 7 } } end, -- luacheck: ignore 111
      args = { setmetatable({}, _G.PlacesHere) }, fn = function(v) return v.seven end,
    }:join())
    _G.PlacesHere = nil
    package.loaded.places_gone = { mt = {} }
    m = ipc.map(1, function() end, setmetatable({}, package.loaded.places_gone.mt))
    assert.matches('places_gone', fails(m.join, m))
    local resty = require 'places_resty'
    local bytes = ipc.marshal(resty.new(1)):bytes()
    e = fails(ipc.unmarshal, (bytes:gsub('\162mt', '\162mx')), { functions = true })
    assert.equal('unsupported', ipc.errcode(e))
    assert.matches('upvalue mx of places_resty%.new', e)
    package.loaded.places_gone = nil
  end)

  it('is looked up for those only who ask for functions, where it comes from outside', function()
    local shapes = require 'places_shapes'
    for _, v in ipairs { shapes.point(1), { shapes.Point }, { require 'places_plain' } } do
      local bytes = ipc.marshal(v):bytes()
      local e = fails(ipc.unmarshal, bytes)
      assert.equal('unsupported', ipc.errcode(e))
      assert.matches('functions = true', e)
      assert.equal('table', type(ipc.unmarshal(bytes, { functions = true })))
    end
    package.loaded.places_closes = { mt = { __gc = function() end } }
    local bytes = ipc.marshal { setmetatable({}, package.loaded.places_closes.mt) }:bytes()
    assert.matches('__gc', fails(ipc.unmarshal, bytes, { functions = true }))
    package.loaded.places_closes = nil
    -- To peers a table goes as ever.
    local server, port = ipc.server()
    local client = ipc.client(port)
    server:clients(1, function() end)
    assert.matches('value%.p: .*ipc%.register', fails(client.send, client, { p = shapes.point(1) }))
    client:close()
    server:close()
  end)

  it('of Penlight are its classes', function()
    local here, List = pcall(require, 'pl.List')
    local m = ipc.map(1, function() return (pcall(require, 'pl.List')) end)
    if not m:join() or not here then return pending 'there is no Penlight, or not where workers look' end
    assert.same({ 3, true, 6 }, { there(function(l)
      return #l, getmetatable(l) == require 'pl.List', l:reduce '+'
    end, List { 1, 2, 3 }) })
    local Map = require 'pl.Map'
    assert.same({ 3, true }, { there(function(m) return m:len(), m.class == require 'pl.Map' end,
      (function() local m = Map { a = 1, b = 2 } m.class = Map return m end)()) })
  end)
end)

describe('a metatable that is found nowhere', function()
  it('is refused, with the path and what to do', function()
    local e = fails(ipc.marshal, { list = { setmetatable({}, {}) } })
    assert.equal('unsupported', ipc.errcode(e))
    for _, part in ipairs { 'value.list[1]', 'ipc.register(name, metatable)', 'ipc.register(false, metatable)', 'IPC_METATABLES=drop' } do
      assert.is_truthy(e:find(part, 1, true), e)
    end
  end)

  it('stays behind where that was asked for, until it is registered', function()
    local mt = { __index = function() return 'found' end }
    assert.equal(mt, ipc.register(false, mt))
    local v = setmetatable({ 1 }, mt)
    for _ = 1, 2 do
      local back = trip { v, { v } }
      assert.is_nil(getmetatable(back[1]))
      assert.is_true(back[1] == back[2][1] and back[1][1] == 1)
    end
    -- A name, or a place, is then not looked for.
    package.loaded.places_behind = { mt = mt }
    assert.is_nil(getmetatable(trip(v)))
    package.loaded.places_behind = nil
    ipc.register('places.Named', mt)
    assert.equal(mt, getmetatable(trip(v)))
    ipc.register(false, mt)
    assert.is_nil(getmetatable(trip(v)))
    assert.equal('unsupported', ipc.errcode(fails(ipc.marshal, setmetatable({}, {}))))
    assert.matches('argument #3', fails(ipc.register, false, mt, { peers = true }))
    assert.matches('expected a string', fails(ipc.register, true, mt))
    assert.matches('expected a table', fails(ipc.register, false))
    -- To peers, too.
    local server, port = ipc.server()
    local client = ipc.client(port)
    server:clients(1, function() end)
    client:send(v)
    assert.same({ 1 }, (server:recvAny()))
    client:close()
    server:close()
  end)

  it('stays behind everywhere with IPC_METATABLES=drop', function()
    local program = [[
      local ipc = require 'libipc'
      local ok, e = pcall(function()
        local mt = { __index = { x = 1 } }
        local seen = {}
        for i = 1, 3 do
          local back = ipc.marshal { setmetatable({ i }, mt), setmetatable({}, { __mode = 'k' }) }:read()
          seen[i] = tostring(getmetatable(back[1])) .. back[1][1]
        end
        local channel = setmetatable({}, { __index = ipc.channel })
        return table.concat(seen, ' ') .. tostring(getmetatable(ipc.marshal { channel }:read()[1]))
      end)
      print(e)
    ]]
    assert.equal('nil1 nil2 nil3nil\n', support.check(program, { env = { IPC_METATABLES = 'drop' } }))
    assert.matches('%[unsupported%]', support.check(program, { env = { IPC_METATABLES = '' } }))
    assert.matches("IPC_METATABLES is 'on'", support.check(program, { env = { IPC_METATABLES = 'on' } }))
  end)
end)
