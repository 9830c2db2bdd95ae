-- Torch's files: `torch.save`, `torch.load`, `torch.serialize`, `torch.deserialize`. The fixtures are written byte by byte
-- from the form of such files.
local support = require 'spec.support'
local ipc = require 'libipc'
local torch = require 'ipc.torch'

-- Little-endian integers, and a few floats, as bytes.
local function integer(n, size)
  local out = {}
  for i = 1, size do
    out[i] = string.char(n % 256)
    n = math.floor(n / 256)
  end
  return table.concat(out)
end

local function int(n) return integer(n, 4) end
local function long(n) return integer(n, 8) end
local function str(s) return int(#s) .. s end
local doubles = { [1] = '\0\0\0\0\0\0\240\63', [2] = '\0\0\0\0\0\0\0\64', [2.5] = '\0\0\0\0\0\0\4\64' }
local floats = { [1] = '\0\0\128\63', [2] = '\0\0\0\64' }

-- A FloatTensor of 1, 2 with index `i` (its storage has the next one).
local function float_tensor(i)
  return int(4) .. int(i) .. str 'V 1' .. str 'torch.FloatTensor' .. int(1) .. long(2) .. long(1) .. long(1)
    .. int(4) .. int(i + 1) .. str 'V 1' .. str 'torch.FloatStorage' .. long(2) .. floats[1] .. floats[2]
end

-- { 1, x = t, y = t, self = itself, list = { true } } in the order in which it is read.
local fixture = int(3) .. int(1) .. int(5)
  .. int(1) .. doubles[1] .. int(1) .. doubles[2.5]
  .. int(2) .. str 'x' .. float_tensor(2)
  .. int(2) .. str 'y' .. int(4) .. int(2)
  .. int(2) .. str 'self' .. int(3) .. int(1)
  .. int(2) .. str 'list' .. int(3) .. int(4) .. int(1) .. int(1) .. doubles[1] .. int(5) .. int(1)

local text = '3\n1\n2\n2\n1\nx\n4\n2\n3\nV 1\n16\ntorch.LongTensor\n2\n2 2\n2 1\n1\n'
  .. '4\n3\n3\nV 1\n17\ntorch.LongStorage\n4\n1 -2 3 4\n2\n1\ny\n1\n2.5\n'

describe('.t7 files', function()
  it('that Torch wrote are read, tables, shared objects and cycles included', function()
    local v = torch.deserialize(fixture)
    assert.equal(2.5, v[1])
    assert.equal('torch.FloatTensor', torch.type(v.x))
    assert.same({ 1, 2 }, v.x:totable())
    assert.equal(v.x, v.y)
    assert.equal(v, v.self)
    assert.same({ true }, v.list)
  end)

  it('are read from text as well', function()
    local v = torch.deserialize(text, 'ascii')
    assert.same({ { 1, -2 }, { 3, 4 } }, v.x:totable())
    assert.equal(2.5, v.y)
  end)

  it('have the bytes that Torch writes', function()
    assert.equal(float_tensor(1), torch.serialize(torch.FloatTensor { 1, 2 }))
    assert.equal(int(0), torch.serialize(nil))
    assert.equal(int(1) .. doubles[2], torch.serialize(2))
    assert.equal(int(2) .. str 'a\0b', torch.serialize 'a\0b')
    assert.equal(int(5) .. int(0), torch.serialize(false))
    assert.equal(int(3) .. int(1) .. int(1) .. int(1) .. doubles[1] .. int(2) .. str 'x', torch.serialize { 'x' })
    assert.equal('3\n1\n1\n1\n1\n2\n1\nx\n', torch.serialize({ 'x' }, 'ascii'))
    assert.equal('4\n1\n3\nV 1\n17\ntorch.ByteStorage\n2\nab\n',
      torch.serialize(torch.ByteStorage():string 'ab', 'ascii'))
  end)

  for _, form in ipairs { 'binary', 'ascii' } do
    it('give back what was saved, ' .. form, function()
      local t = torch.rand(3, 4)
      local v = {
        1, 2.5, -0.25, 1e300, 'text\n\0', true, false, [10] = 'hole', [0.5] = 'half', [true] = 1,
        t = t, turned = t:t(), part = t:narrow(2, 2, 2), storage = t:storage(), empty = torch.FloatTensor(),
        nested = { { { 'deep' } } },
      }
      v.v = v
      v[v.nested] = 'a table as key'
      for _, name in ipairs { 'Byte', 'Char', 'Short', 'Int', 'Long', 'Float', 'Double', 'Half', 'BFloat16' } do
        v[name] = torch[name .. 'Tensor'] { { 1, 2 }, { 3, 100 } }
      end
      local path = support.tmpname '.t7'
      torch.save(path, v, form)
      local w = torch.load(path, form)
      for i = 1, 7 do assert.equal(v[i], w[i]) end
      assert.equal('hole', w[10])
      assert.equal('half', w[0.5])
      assert.equal(1, w[true])
      assert(w.v == w and w[w.nested] == 'a table as key' and w.nested[1][1][1] == 'deep')
      assert(w.t:equal(t) and w.turned:equal(t:t()) and w.part:equal(t:narrow(2, 2, 2)))
      w.t[2][3] = 42
      assert.equal(42, w.turned[3][2])
      assert.equal(42, w.part[2][2])
      assert.equal(42, w.storage[7])
      assert.equal(0, w.empty:dim())
      for _, name in ipairs { 'Byte', 'Char', 'Short', 'Int', 'Long', 'Float', 'Double', 'Half', 'BFloat16' } do
        assert.equal('torch.' .. name .. 'Tensor', torch.type(w[name]))
        assert.same({ { 1, 2 }, { 3, 100 } }, w[name]:totable())
      end
    end)
  end

  it('carry objects of torch classes', function()
    local where = {}
    local Point = torch.class('spec.Point', where)
    function Point:__init(x, y) self.x, self.y = x, y end
    local p = where.Point(1, torch.ones(2))
    local q = torch.deserialize(torch.serialize { p, p })
    assert.equal('spec.Point', torch.type(q[1]))
    assert.equal(q[1], q[2])
    assert.same({ 1, 1 }, q[1].y:totable())
    local bytes = torch.serialize(p):gsub('spec%.Point', 'spec.Paint')
    assert.matches('spec.Paint', support.fails(torch.deserialize, bytes))
    -- What the registry holds for other purposes is no class.
    for _, name in ipairs { '_LOADED', 'FILE*' } do
      local forged = torch.serialize(p):gsub('\10%z%z%zspec%.Point', string.char(#name) .. '\0\0\0' .. name)
      local e = support.fails(torch.deserialize, forged)
      assert.equal('unsupported', ipc.errcode(e))
      assert.is_truthy(e:find(name, 1, true))
    end
  end)

  it('carry functions when asked, on both sides', function()
    local n = 20
    local function f(x) return x + n end
    assert.matches('functions = true', support.fails(torch.serialize, f))
    local bytes = torch.serialize(f, 'binary', { functions = true })
    assert.matches('functions = true', support.fails(torch.deserialize, bytes))
    assert.equal(22, torch.deserialize(bytes, 'binary', { functions = true })(2))
  end)

  it('carry functions that call themselves and each other', function()
    local asked = { functions = true }
    local function again(v) return torch.deserialize(torch.serialize(v, 'binary', asked), 'binary', asked) end
    local function fact(n) return n < 2 and 1 or n * fact(n - 1) end
    assert.equal(120, again(fact)(5))
    local even, odd
    function even(n) return n == 0 or odd(n - 1) end
    function odd(n) return n ~= 0 and even(n - 1) end
    assert.is_true(again(even)(10))
    local both = again { even = even, odd = odd }
    assert.is_true(both.odd(7))
    assert.is_false(both.even(7))
    -- A table that holds the function which refers to it.
    local object = {}
    function object.get() return object end
    local copy = again(object)
    assert.equal(copy, copy.get())
  end)

  it('carry what functions refer to: false and nil too', function()
    local asked = { functions = true }
    local no, none, yes = false, nil, true
    local function f() return no, none, yes end
    local g = torch.deserialize(torch.serialize(f, 'binary', asked), 'binary', asked)
    local a, b, c = g()
    assert.is_false(a)
    assert.is_nil(b)
    assert.is_true(c)
  end)

  it('may be changed by a finalizer while they are saved', function()
    support.check [[
      local torch = require 'ipc.torch'
      for _ = 1, 20 do
        local t, armed = {}, true
        for i = 1, 200 do t['k' .. i] = function() return i end end
        local function trap()
          local function spring()
            if not armed then return end
            for k in pairs(t) do t[k] = nil end
            for i = 1, 500 do t['x' .. i] = i end
            trap()
          end
          if newproxy then getmetatable(newproxy(true)).__gc = spring else setmetatable({}, { __gc = spring }) end
        end
        trap()
        pcall(torch.serialize, t, 'binary', { functions = true })
        armed = false
      end
    ]]
  end)

  it('name what cannot be saved, and where it stands', function()
    local e = support.fails(torch.serialize, { layers = { { state = coroutine.create(function() end) } } })
    assert.matches('libipc %[unsupported%] torch.serialize: value%.layers%[1%]%.state: thread', e)
    local deep = {}
    local t = deep
    for _ = 1, 2000 do
      t[1] = {}
      t = t[1]
    end
    assert.matches('libipc %[limit%]', support.fails(torch.serialize, deep))
    assert.matches('libipc %[io%]', support.fails(torch.load, '/nonexistent/x.t7'))
    assert.matches('libipc %[argument%]', support.fails(torch.load, 'x.t7', 'yaml'))
  end)

  it('are named in errors, with the form that they may have', function()
    local path = support.tmpname '.t7'
    torch.save(path, { 1 }, 'ascii')
    local e = support.fails(torch.load, path)
    assert.matches('%[protocol%] torch.load: ' .. path:gsub('%p', '%%%0') .. ": .*'ascii'", e)
    support.write(path, '')
    e = support.fails(torch.load, path)
    assert.matches(path, e, 1, true)
    assert.is_nil(e:find('ascii', 1, true), e)
    os.remove(path)
    if support.exists '/dev/full' then
      assert.matches('[io] torch.save: /dev/full: ', support.fails(torch.save, '/dev/full', { 1 }), 1, true)
    end
    local deep = {}
    for _ = 1, 3000 do deep = { deep } end
    assert.is_true(#support.fails(torch.serialize, deep) < 300)
  end)

  it('that are damaged are errors: every truncation', function()
    for n = 0, #fixture - 1 do
      assert.matches('^libipc %[', support.fails(torch.deserialize, fixture:sub(1, n)))
    end
  end)

  it('that are damaged do no harm: every byte changed', function()
    for n = 1, #fixture do
      for _, with in ipairs { '\0', '\1', '\4', '\8', '\127', '\255' } do
        local ok, e = pcall(torch.deserialize, fixture:sub(1, n - 1) .. with .. fixture:sub(n + 1))
        assert(ok or e:match '^libipc %[', e)
      end
    end
    for n = 1, #text do
      for _, with in ipairs { '\0', '1', '9', '-', '\n', 'x' } do
        local ok, e = pcall(torch.deserialize, text:sub(1, n - 1) .. with .. text:sub(n + 1), 'ascii')
        assert(ok or e:match '^libipc %[', e)
      end
    end
  end)

  it('that announce more than they have take no memory for it', function()
    local head = int(4) .. int(1) .. str 'V 1' .. str 'torch.DoubleStorage'
    for _, n in ipairs { 2 ^ 30, 2 ^ 40, 2 ^ 52 } do
      assert.matches('libipc %[protocol%]', support.fails(torch.deserialize, head .. long(n) .. doubles[1]))
    end
    assert.matches('libipc %[protocol%]', support.fails(torch.deserialize, int(2) .. int(2 ^ 31 - 1)))
    assert.matches('libipc %[protocol%]', support.fails(torch.deserialize, int(3) .. int(1) .. int(2 ^ 31 - 1)))
  end)
end)
