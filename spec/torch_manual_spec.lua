-- What Torch7's manual says of its calls, where scripts would notice that we do otherwise.
local support = require 'spec.support'
require 'libipc'
local torch = require 'ipc.torch'
local unpack = table.unpack or unpack

local function list(t) return t:contiguous():view(-1):totable() end
local function flat(s) return (tostring(s):gsub('%s+', ' ')) end

describe('as Torch\'s manual says,', function()
  it('sequences fill a tensor of as many elements in its own shape', function()
    local function view()
      local t = torch.zeros(2, 3)
      return t, t:narrow(2, 2, 2)
    end
    local t, v = view()
    assert.equal(v, v:range(1, 4))
    assert.same({ { 0, 1, 2 }, { 0, 3, 4 } }, t:totable())
    t, v = view()
    torch.linspace(v, 0, 3, 4)
    assert.same({ { 0, 0, 1 }, { 0, 2, 3 } }, t:totable())
    t, v = view()
    torch.logspace(v, 0, 3, 4)
    assert.same({ { 0, 1, 10 }, { 0, 100, 1000 } }, t:totable())
    assert.same({ 1, 2, 3, 4, 5 }, torch.zeros(2, 3):range(1, 5):totable())
  end)

  it('a storage of a storage is a view of it', function()
    local s = torch.DoubleStorage(10):fill(0)
    local part = torch.DoubleStorage(s, 3, 5):fill(1)
    assert.equal(5, torch.DoubleTensor(s):sum())
    assert.same({ 0, 0, 1, 1, 1, 1, 1, 0, 0, 0 }, s:totable())
    s[4] = 7
    assert.equal(7, part[2])
    local rest = torch.DoubleStorage(s, 8)
    assert.equal(3, #rest)
    torch.DoubleStorage(s)[1] = 9
    assert.equal(9, s[1])
    assert.equal(0, #torch.DoubleStorage(s, 11))
    torch.DoubleTensor(part):narrow(1, 2, 4):copy(torch.DoubleTensor(s, 3, torch.LongStorage { 4 }))
    assert.same({ 1, 1, 7, 1, 1 }, part:totable())
    -- It has no room of its own to grow into, and keeps what it shows.
    assert.matches('libipc %[state%]', support.fails(part.resize, part, 6))
    s:resize(1)
    assert.same({ 1, 1, 7, 1, 1 }, part:totable())
    for _, bad in ipairs { { 0 }, { 12 }, { 3, 9 }, { 3, -1 } } do
      assert.matches('libipc %[argument%]', support.fails(torch.DoubleStorage, torch.DoubleStorage(10), unpack(bad)))
    end
    assert.matches('libipc %[argument%]', support.fails(torch.DoubleStorage, torch.FloatStorage(3), 1, 2))
  end)

  it('a storage of a name holds what is in that file', function()
    local path = support.write(support.tmpname(), 'Hello World\n')
    local s = torch.CharStorage(path)
    assert.equal('Hello World\n', s:string())
    s:fill(42)
    assert.equal('Hello World\n', support.read(path))
    assert.same({ 0x6548, 0x6c6c }, torch.ShortStorage(path, false, 2):totable())
    assert.equal(1, #torch.DoubleStorage(path))
    assert.matches('libipc %[argument%].*has 12 elements', support.fails(torch.ByteStorage, path, false, 13))
    assert.matches('libipc %[unsupported%]', support.fails(torch.ByteStorage, path, true))
    assert.matches('libipc %[unsupported%]', support.fails(torch.ByteStorage, 10, 4096))
    os.remove(path)
    assert.matches('libipc %[io%]', support.fails(torch.ByteStorage, path))
  end)

  it('median, mode and kthvalue go along the last dimension, and give two tensors', function()
    local x = torch.Tensor { { 3, 1, 2 }, { 6, 5, 4 } }
    local v, i = torch.median(x)
    assert.same({ { 2 }, { 5 } }, v:totable())
    assert.same({ { 3 }, { 2 } }, i:totable())
    v, i = torch.Tensor { 4, 1, 3, 2 }:median()
    assert.same({ { 2 }, { 4 } }, { v:totable(), i:totable() })
    v = x:median(1)
    assert.same({ { 3, 1, 2 } }, v:totable())
    v, i = torch.mode(torch.IntTensor { { 1, 2, 2, 3 }, { 3, 1, 3, 3 } })
    assert.same({ { 2 }, { 3 } }, v:totable())
    assert.same({ { 3 }, { 4 } }, i:totable())
    v, i = torch.IntTensor { { 1, 2 }, { 1, 3 }, { 0, 2 } }:mode(1)
    assert.same({ { 1, 2 } }, v:totable())
    assert.same({ { 2, 3 } }, i:totable())
    local values, indices = torch.IntTensor(), torch.LongTensor()
    torch.mode(values, indices, torch.IntTensor { 5, 5, 1 })
    assert.same({ { 5 }, { 2 } }, { values:totable(), indices:totable() })
    v, i = torch.kthvalue(x, 1)
    assert.same({ { 1 }, { 4 } }, v:totable())
    assert.same({ { 2 }, { 3 } }, i:totable())
  end)

  it('results go where a first tensor says', function()
    local x = torch.Tensor { 0, 1, 2 }
    local found = torch.LongTensor()
    assert.equal(found, x.nonzero(found, x))
    assert.same({ { 2 }, { 3 } }, found:totable())
    assert.same({ { 2 }, { 3 } }, torch.nonzero(x):totable())
    local m = torch.range(1, 6):view(2, 3)
    local forms = {
      sum = { m, 1 }, prod = { m, 2 }, mean = { m, 1 }, std = { m, 2 }, var = { m, 2, true }, norm = { m, 2, 1 },
      cumsum = { m, 2 }, cumprod = { m }, diag = { m }, tril = { m }, triu = { m, 1 }, abs = { m }, sigmoid = { m },
      add = { m, 2 }, csub = { m, 1 }, mul = { m, 3 }, div = { m, 2 }, fmod = { m, 4 }, remainder = { m, 4 },
      pow = { m, 2 },
      cmul = { m, m }, cdiv = { m, m }, cpow = { m, m }, cmax = { m, 3 }, cmin = { m, m }, clamp = { m, 2, 3 },
      addcmul = { m, 2, m, m }, addcdiv = { m, m, m }, mm = { m, m:t() }, mv = { m, torch.ones(3) },
      ger = { torch.ones(2), torch.ones(3) }, reshape = { m, 3, 2 }, repeatTensor = { m, 2, 1 }, cat = { m, m, 1 },
      index = { m, 2, torch.LongTensor { 3, 1 } }, gather = { m, 1, torch.LongTensor { { 1, 2, 1 } } },
      maskedSelect = { m, m:gt(2) },
    }
    for name, arguments in pairs(forms) do
      local wanted = torch[name](unpack(arguments))
      -- Into an empty tensor, and into a view of the right size whose rows are not together.
      local fresh = torch.Tensor()
      assert.equal(fresh, fresh[name](fresh, unpack(arguments)), name)
      assert.same(list(wanted), list(fresh), name)
      local rows = wanted:dim() == 2 and wanted:size(1) or 1
      local around = torch.zeros(rows, wanted:nElement() / rows + 2)
      local into = around:narrow(2, 2, wanted:nElement() / rows)
      if wanted:dim() == 1 then into = around:t():narrow(1, 2, wanted:nElement()):select(2, 1) end
      into[name](into, unpack(arguments))
      assert.same(list(wanted), list(into), name)
      assert.equal(0, around[{ {}, 1 }]:sum() + around[{ {}, around:size(2) }]:sum(), name)
    end
    for _, name in ipairs { 'max', 'min', 'sort', 'median', 'mode' } do
      local values, indices = torch.Tensor(), torch.LongTensor()
      local wanted, places = torch[name](m, 1)
      assert.equal(values, (values[name](values, indices, m, 1)))
      assert.same({ list(wanted), list(places) }, { list(values), list(indices) })
    end
  end)

  it('split and chunk fill the table that they are given', function()
    local x = torch.range(1, 10):view(5, 2)
    local t = { 1, 2, 3, 4, 5, other = true }
    assert.equal(t, torch.split(t, x, 2))
    assert.equal(3, #t)
    assert.is_nil(t.other)
    assert.same({ { 9, 10 } }, t[3]:totable())
    assert.equal(t, torch.chunk(t, x, 2, 2))
    assert.equal(2, #t)
    assert.equal(t, x:split(t, 4))
    assert.equal(2, #t)
  end)

  it('isTypeOf takes patterns', function()
    local t = torch.LongTensor()
    for _, spec in ipairs { 'torch.*Tensor', 'torch%..*', 'Long.*', 'torch.LongTensor' } do
      assert.is_true(torch.isTypeOf(t, spec), spec)
    end
    for _, spec in ipairs { 'torch.*Storage', 'torch.FloatTensor', 'Tensor', 'torch', 'LongTensor' } do
      assert.is_false(torch.isTypeOf(t, spec), spec)
    end
    assert.is_false(torch.isTypeOf('torch.LongTensor', 'torch.*'))
    assert.matches('libipc %[argument%].*pattern', support.fails(torch.isTypeOf, t, 'torch.['))
  end)

  it('a tensor is set to another only with its storage', function()
    local x, y = torch.Tensor(2, 5), torch.Tensor()
    assert.is_false(torch.Tensor():isSetTo(torch.Tensor()))
    assert.is_false(y:isSetTo(x))
    y:set(x)
    assert.is_true(y:isSetTo(x))
    assert.is_false(y:t():isSetTo(x))
  end)

  it('the smallest and the largest numbers are printed', function()
    assert.equal('1e-310 * 1.0000 [torch.DoubleTensor of size 1] ', flat(torch.DoubleTensor { 1e-310 }))
    assert.equal('1e-324 * 4.9407 [torch.DoubleTensor of size 1] ', flat(torch.DoubleTensor { 5e-324 }))
    assert.equal(' 1.0000e-310 1.0000e+00 [torch.DoubleTensor of size 2] ', flat(torch.DoubleTensor { 1e-310, 1 }))
    assert.matches('1%.7977e%+308', flat(torch.DoubleTensor { 1.7976931348623157e308 }))
    local odd = torch.DoubleTensor { 0 / 0, 1 / 0, -1 / 0, 0.5 }
    assert.equal(' nan inf -inf 0.5000 [torch.DoubleTensor of size 4] ', flat(odd))
  end)

  it('uniform numbers never reach the end that is left out', function()
    torch.manualSeed(1)
    local ranges = { { 0, 1 }, { 1e16, 1e16 + 2 }, { -1, 0 }, { 0, 0.1 }, { -10, 0 }, { 2048, 2050 }, { -1e308, 1e308 } }
    for _, range in ipairs(ranges) do
      local a, b = range[1], range[2]
      for _, kind in ipairs { 'Half', 'BFloat16', 'Short', 'Float', 'Double' } do
        local t = torch[kind .. 'Tensor'](20000):uniform(a, b)
        assert.equal(0, t:double():ge(b):sum(), kind .. ' ' .. a .. ' ' .. b)
      end
      for _ = 1, 200 do assert(torch.uniform(a, b) < b) end
    end
    assert.equal(0, torch.ByteTensor(100000):bernoulli(0):sum())
    assert.equal(100000, torch.ByteTensor(100000):bernoulli(1):sum())
    for _, bad in ipairs { { 0, 1 / 0 }, { 0 / 0 }, { -1 / 0, 0 } } do
      assert.matches('libipc %[argument%].*finite', support.fails(torch.uniform, unpack(bad)))
    end
    assert.matches('libipc %[argument%].*chances', support.fails(function()
      return torch.Tensor(2):bernoulli(torch.Tensor { 0.5, 1.5 })
    end))
  end)
end)
