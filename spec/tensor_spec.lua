-- Tensors: constructors, views, indexing, arithmetic, reductions, products, conversions, printing. Results are checked
-- against plain loops over tables.
local support = require 'spec.support'
local torch = require 'ipc.torch'

local types = { 'Byte', 'Char', 'Short', 'Int', 'Long', 'Float', 'Double', 'Half', 'BFloat16' }

-- The elements as one list, in row-major order.
local function list(t)
  local out = {}
  t:clone():apply(function(v) out[#out + 1] = v end)
  return out
end

-- What f makes of the items of one list or two.
local function mapped(f, a, b)
  local out = {}
  for i = 1, #a do out[i] = f(a[i], b and b[i]) end
  return out
end

local function near(expected, got)
  assert.equal(#expected, #got)
  for i = 1, #expected do
    local e, g = expected[i], got[i]
    assert(math.abs(e - g) <= 1e-5 * math.max(1, math.abs(e)), ('item %d: expected %s, got %s'):format(i, e, g))
  end
end

-- A 2x3 tensor of 1 … 6, laid out in three ways.
local function layouts(class)
  class = class or torch.DoubleTensor
  local plain = class { { 1, 2, 3 }, { 4, 5, 6 } }
  local across = class(3, 2)
  across:t():copy(plain)
  local within = class(4, 7):fill(9):narrow(1, 2, 2):narrow(2, 3, 3)
  within:copy(plain)
  return { plain = plain, across = across:t(), within = within }
end

describe('tensors', function()
  describe('are found', function()
    it("by require 'ipc.torch', which sets the global torch", function()
      support.check [[
        local torch = require 'ipc.torch'
        assert(torch == _G.torch and torch == require 'torch' and package.loaded.torch == torch)
      ]]
    end)

    it("by require 'torch' once libipc is loaded, when nothing else provides it", function()
      support.check [[
        assert(not pcall(require, 'torch'))
        require 'libipc'
        assert(require('torch') == _G.torch and torch.FloatTensor(2):nElement() == 2)
      ]]
    end)

    it('as IPC_TORCH chooses', function()
      local other = "package.preload.torch = function() return { real = true } end "
      local function run(choice, chunk)
        support.check(chunk, { lua = ('env IPC_TORCH=%s %s'):format(choice, support.lua) })
      end
      run('builtin', other .. [[
        require 'libipc'
        local torch = require 'ipc.torch'
        assert(torch.FloatTensor(2):nElement() == 2 and torch == require 'torch' and torch == _G.torch and not torch.real)
      ]])
      run('builtin', other .. [[
        assert(require('torch').real)
        assert(require('ipc.torch').FloatTensor(2):nElement() == 2 and require('torch').real)
      ]])
      run('torch7', other .. [[
        require 'libipc'
        assert(require('ipc.torch').real and require('torch').real)
      ]])
      run('torch7', [[
        local ipc = require 'libipc'
        for _, name in ipairs { 'torch', 'ipc.torch' } do
          local ok, e = pcall(require, name)
          assert(not ok and e:find("module 'torch' not found", 1, true), e)
        end
        -- What needs no torch goes on.
        assert(ipc.marshal({ 1 }):read()[1] == 1)
      ]])
      run('both', [[
        local ipc = require 'libipc'
        local ok, e = pcall(require, 'ipc.torch')
        assert(not ok and ipc.errcode(e) == 'argument' and e:find("IPC_TORCH: expected builtin or torch7, got 'both'", 1, true), e)
      ]])
    end)

    it('behind what else answers to the name', function()
      support.check [[
        package.preload.torch = function() return { real = true } end
        require 'libipc'
        assert(require('ipc.torch').real and require('torch').real)
      ]]
    end)
  end)

  it('cost nothing until one is used', function()
    support.check [[
      local ipc = require 'libipc'
      local function classes()
        local n = 0
        for name in pairs(debug.getregistry()) do
          if type(name) == 'string' and name:match '^torch%.' then n = n + 1 end
        end
        return n
      end
      assert(classes() == 0 and torch == nil)
      local torch = require 'torch'
      local before = classes()
      torch.FloatTensor(1)
      assert(classes() == before + 1)
    ]]
  end)

  describe('of every type', function()
    for _, name in ipairs(types) do
      it('are made in every form: ' .. name, function()
        local class, storage = torch[name .. 'Tensor'], torch[name .. 'Storage']
        local t = class(2, 3)
        assert.equal('torch.' .. name .. 'Tensor', torch.type(t))
        assert.equal('torch.' .. name .. 'Tensor', torch.typename(t))
        assert.equal('torch.' .. name .. 'Tensor', t:type())
        assert.equal('torch.' .. name .. 'Tensor', require('ipc').type(t))
        assert(torch.isTensor(t) and not torch.isStorage(t) and torch.isStorage(t:storage()))
        assert.same({ 2, 3 }, t:size():totable())
        assert.same({ 3, 1 }, t:stride():totable())
        assert.same({ 0, 0, 0, 0, 0, 0 }, list(t))
        assert.equal(0, class():dim())
        assert.same({ { 1, 2 }, { 3, 4 } }, class({ { 1, 2 }, { 3, 4 } }):totable())
        -- A LongTensor of a LongStorage looks at it.
        assert.same({ 4, 5 }, name == 'Long' and class(torch.LongStorage { 4, 5 }):totable()
          or class(torch.LongStorage { 4, 5 }):size():totable())
        assert.same({ 1, 4 }, name == 'Long' and { 1, 4 }
          or class(torch.LongStorage { 4, 5 }, torch.LongStorage { 1, 4 }):stride():totable())
        local s = storage { 1, 2, 3, 4, 5, 6 }
        assert.equal('torch.' .. name .. 'Storage', torch.type(s))
        assert.same({ { 2, 3 }, { 4, 5 } }, class(s, 2, torch.LongStorage { 2, 2 }):totable())
        assert.same({ 3, 5 }, class(s, 3, 2, 2):totable())
        assert.same({ 1, 2, 3, 4, 5, 6 }, class(s):totable())
        local other = class(t)
        other:fill(7)
        assert.equal(7, t[2][3])
        assert.equal(42, #storage(42))
      end)
    end

    it('torch.Tensor is of the default type', function()
      assert.equal('torch.DoubleTensor', torch.getdefaulttensortype())
      torch.setdefaulttensortype 'torch.FloatTensor'
      assert.equal('torch.FloatTensor', torch.Tensor(1):type())
      assert.equal('torch.FloatTensor', torch.zeros(1):type())
      torch.setdefaulttensortype 'torch.DoubleTensor'
      assert.equal('torch.DoubleTensor', torch.rand(1):type())
      assert.matches('libipc %[argument%]', support.fails(torch.setdefaulttensortype, 'torch.LongTensor'))
    end)
  end)

  describe('as views', function()
    it('share their storage', function()
      local t = torch.range(1, 24):view(2, 3, 4)
      assert.same({ 5, 6, 7, 8 }, list(t:select(1, 1):select(1, 2)))
      assert.same({ 2, 3, 6, 7, 10, 11 }, list(t:select(1, 1):narrow(2, 2, 2)))
      assert.same({ 6, 7, 10, 11 }, list(t[1]:sub(2, 3, 2, 3)))
      assert.same({ 1, 5, 9 }, list(t[1]:t():select(1, 1)))
      assert.same({ 4, 3, 2 }, t:transpose(1, 3):size():totable())
      assert.same({ 1, 13 }, list(t:transpose(1, 3)[1][1]))
      assert.same({ 3, 4, 2 }, t:permute(2, 3, 1):size():totable())
      t:view(24)[24] = 0
      assert.equal(0, t[2][3][4])
      assert.same({ 6, 4 }, t:view(-1, 4):size():totable())
      t[1]:narrow(1, 1, 1):fill(-1)
      assert.same({ -1, -1, -1, -1 }, list(t[1][1]))
      assert.equal(t:storage():size(), 24)
      assert.equal(13, t[2]:storageOffset())
      assert(t[1]:isContiguous() and not t[1]:t():isContiguous())
    end)

    it('repeat, fold and unfold', function()
      local t = torch.Tensor { 1, 2, 3 }
      assert.same({ 1, 2, 3, 1, 2, 3 }, list(t:view(1, 3):expand(2, 3)))
      assert.same({ 1, 2, 3, 1, 2, 3 }, list(t:view(1, 3):expandAs(torch.Tensor(2, 3))))
      assert.same({ { 1, 2, 3, 1, 2, 3 }, { 1, 2, 3, 1, 2, 3 } }, t:repeatTensor(2, 2):totable())
      assert.same({ { 1, 2 }, { 2, 3 } }, t:unfold(1, 2, 1):totable())
      assert.same({ 3 }, t:view(1, 3, 1):squeeze():size():totable())
      assert.same({ { 1 }, { 2 }, { 3 } }, t:reshape(3, 1):totable())
      assert.same({ { 1, 2 }, { 3 } }, { t:split(2)[1]:totable(), t:split(2)[2]:totable() })
      assert.equal(3, #t:chunk(3))
    end)

    it('squeeze to a number when a single element is left', function()
      for _, name in ipairs(types) do
        assert.equal(7, torch[name .. 'Tensor'](1, 1):fill(7):squeeze())
      end
      local t = torch.Tensor { { 5 } }
      assert.equal(5, torch.squeeze(t))
      assert.same({ 5 }, t:squeeze(1):totable())
      assert.equal(5, t[1]:squeeze(1))
      assert.same({ 1, 2 }, torch.Tensor({ { 1, 2 } }):squeeze(1):totable())
      assert.equal(0, torch.Tensor():squeeze():dim())
    end)

    it('squeeze into a tensor that is given first', function()
      local src, res = torch.Tensor { { 1, 2, 3 } }, torch.Tensor()
      assert.equal(res, torch.squeeze(res, src))
      assert.same({ 1, 2, 3 }, res:totable())
      assert.equal(res, torch.squeeze(res, src, 2))
      assert.same({ 1, 3 }, res:size():totable())
      assert.equal(2, torch.squeeze(res, src:narrow(2, 2, 1)))
      assert.same({ 2 }, res:totable())
      res:fill(9)
      assert.equal(9, src[1][2])
      assert.matches('DoubleTensor', support.fails(torch.squeeze, torch.IntTensor(), src))
    end)

    it('see what reshape and repeatTensor put into their result', function()
      local res = torch.Tensor(3, 2)
      local other = res:view(6)
      assert.equal(res, torch.reshape(res, torch.range(1, 6):view(2, 3), 3, 2))
      assert.same({ { 1, 2 }, { 3, 4 }, { 5, 6 } }, res:totable())
      assert.same({ 1, 2, 3, 4, 5, 6 }, other:totable())
      assert.equal(res, torch.repeatTensor(res, torch.Tensor { 7, 8 }, 3, 1))
      assert.same({ 7, 8, 7, 8, 7, 8 }, other:totable())
      assert.equal(res, res:reshape(res, 2, 3))
      assert.same({ { 7, 8, 7 }, { 8, 7, 8 } }, res:totable())
    end)

    it('are set and resized', function()
      local t = torch.Tensor()
      assert.equal(t, t:resize(2, 2))
      assert.same({ 3, 1 }, t:resize(torch.LongStorage { 3, 1 }):size():totable())
      t:set(torch.DoubleStorage { 1, 2, 3, 4 }, 2, torch.LongStorage { 3 })
      assert.same({ 2, 3, 4 }, t:totable())
      assert(t:set(torch.Tensor { 8 }):isSetTo(t) and t[1] == 8)
      assert.same({ 2, 5 }, t:resizeAs(torch.Tensor(2, 5)):size():totable())
      assert(t:isSameSizeAs(torch.Tensor(2, 5)) and t:isSize(torch.LongStorage { 2, 5 }))
      assert.equal(10, t:nElement())
      assert.equal(2, t:nDimension())
    end)
  end)

  describe('under an index', function()
    it('are elements, slices, ranges and masks', function()
      for name, t in pairs(layouts()) do
        assert.equal(6, t[2][3], name)
        assert.equal(6, t[-1][-1], name)
        assert.equal(5, t[{ 2, 2 }], name)
        assert.equal(5, t[torch.LongStorage { 2, 2 }], name)
        assert.same({ 4, 5, 6 }, list(t[2]), name)
        assert.same({ 2, 3, 5, 6 }, list(t[{ {}, { 2, 3 } }]), name)
        assert.same({ 2, 5 }, list(t[{ {}, 2 }]), name)
        assert.same({ 3 }, list(t[{ { 1 }, { 3, 3 } }]), name)
        assert.same({ 4, 5, 6 }, list(t[t:gt(3)]), name)
      end
    end)

    it('are assigned', function()
      for name, t in pairs(layouts()) do
        t[1][1] = 10
        t[{ 1, 2 }] = 20
        t[{ 2, { 2, 3 } }] = torch.Tensor { 50, 60 }
        assert.same({ 10, 20, 3, 4, 50, 60 }, list(t), name)
        t[2] = 0
        t[t:eq(20)] = -1
        assert.same({ 10, -1, 3, 0, 0, 0 }, list(t), name)
        t[t:eq(0)] = torch.Tensor { 7, 8, 9 }
        assert.same({ 10, -1, 3, 7, 8, 9 }, list(t), name)
        t[{}] = 1
        assert.same({ 1, 1, 1, 1, 1, 1 }, list(t), name)
      end
    end)

    it('are picked by tensors of indices', function()
      local t = torch.Tensor { { 1, 2, 3 }, { 4, 5, 6 } }
      assert.same({ 3, 1, 6, 4 }, list(t:index(2, torch.LongTensor { 3, 1 })))
      assert.same({ 2, 6 }, list(t:gather(2, torch.LongTensor { { 2 }, { 3 } })))
      assert.same({ { 1, 1 }, { 2, 3 } }, t:eq(1):add(t:eq(6)):nonzero():totable())
      assert.same({ 0, 2, 0, 0, 5, 0 }, list(t:clone():indexFill(2, torch.LongTensor { 1, 3 }, 0)))
      t:indexCopy(1, torch.LongTensor { 2 }, torch.Tensor { { 7, 8, 9 } })
      assert.same({ 1, 2, 3, 7, 8, 9 }, list(t))
      t:scatter(2, torch.LongTensor { { 1 }, { 2 } }, 0)
      assert.same({ 0, 2, 3, 7, 0, 9 }, list(t))
      assert.same({ 2, 3 }, list(t:maskedSelect(t:gt(1):cmul(t:lt(4)))))
      assert.same({ 0, 5, 5, 7, 0, 9 }, list(t:maskedFill(t:gt(1):cmul(t:lt(4)), 5)))
    end)
  end)

  it('take what is picked from others by themselves', function()
    local i = torch.LongTensor { 2, 1 }
    assert.equal(i, i:index(torch.LongTensor { 5, 6 }, 1, i))
    assert.same({ 6, 5 }, i:totable())
    local g = torch.LongTensor { 3, 1 }
    assert.equal(g, g:gather(torch.LongTensor { 7, 8, 9 }, 1, g))
    assert.same({ 9, 7 }, g:totable())
    local m = torch.ByteTensor { 1, 0, 1 }
    assert.equal(m, m:maskedSelect(torch.ByteTensor { 4, 5, 6 }, m))
    assert.same({ 4, 6 }, m:totable())
  end)

  describe('in arithmetic', function()
    it('work in place and return self, in all forms', function()
      for name, t in pairs(layouts()) do
        local v, other = list(t), torch.Tensor { { 6, 5, 4 }, { 3, 2, 1 } }
        local o = list(other)
        local function check(expected, method, ...)
          local r = t:clone()
          assert.equal(r, r[method](r, ...))
          near(expected, list(r))
          near(expected, list(torch[method](t, ...)))
          local res = torch.Tensor()
          assert.equal(res, torch[method](res, t, ...))
          near(expected, list(res))
          near(v, list(t))
        end
        check(mapped(function(a) return a + 2 end, v), 'add', 2)
        check(mapped(function(a, b) return a + b end, v, o), 'add', other)
        check(mapped(function(a, b) return a + 3 * b end, v, o), 'add', 3, other)
        check(mapped(function(a, b) return a - b end, v, o), 'csub', other)
        check(mapped(function(a, b) return a - 2 * b end, v, o), 'csub', 2, other)
        check(mapped(function(a) return a * 2.5 end, v), 'mul', 2.5)
        check(mapped(function(a) return a / 4 end, v), 'div', 4)
        check(mapped(function(a, b) return a * b end, v, o), 'cmul', other)
        check(mapped(function(a, b) return a / b end, v, o), 'cdiv', other)
        check(mapped(function(a) return a ^ 3 end, v), 'pow', 3)
        check(mapped(function(a, b) return a ^ b end, v, o), 'cpow', other)
        check(mapped(function(a) return a % 4 end, v), 'remainder', 4)
        check(mapped(function(a, b) return math.max(a, b) end, v, o), 'cmax', other)
        check(mapped(function(a) return math.min(a, 3) end, v), 'cmin', 3)
        check(mapped(function(a) return math.max(2, math.min(a, 4)) end, v), 'clamp', 2, 4)
        check(mapped(function(a, b) return a + 2 * b * b end, v, o), 'addcmul', 2, other, other)
        check(mapped(function(a, b) return a + a / b end, v, o), 'addcdiv', t, other)
        for _, f in ipairs { 'sqrt', 'exp', 'log', 'abs', 'sin', 'cos', 'floor', 'ceil', 'tan', 'atan' } do
          check(mapped(function(a) return math[f](a) end, v), f)
        end
        check(mapped(function(a) return -a end, v), 'neg')
        check(mapped(function(a) return 1 / (1 + math.exp(-a)) end, v), 'sigmoid')
        near(mapped(function(a) return 2 ^ a end, v), list(torch.pow(2, t)))
        assert.equal(t, t:add(t, 1), name)
        near(mapped(function(a) return a + 1 end, v), list(t))
      end
    end)

    it('the operators make new tensors', function()
      for _, t in pairs(layouts()) do
        local v = list(t)
        near(mapped(function(a) return a + a end, v), list(t + t))
        near(mapped(function(a) return a + 1 end, v), list(t + 1))
        near(mapped(function(a) return 1 + a end, v), list(1 + t))
        near(mapped(function(a) return 1 - a end, v), list(1 - t))
        near(mapped(function(a) return a - 1 end, v), list(t - 1))
        near(mapped(function(a) return 2 * a end, v), list(2 * t))
        near(mapped(function(a) return a / 2 end, v), list(t / 2))
        near(mapped(function(a) return 2 / a end, v), list(2 / t))
        near(mapped(function(a) return -a end, v), list(-t))
        near(v, list(t))
        assert.same({ { 14, 32 }, { 32, 77 } }, (t * t:t()):totable())
        assert.same({ 14, 32 }, (t * torch.Tensor { 1, 2, 3 }):totable())
        assert.equal(14, t[1] * torch.Tensor { 1, 2, 3 })
      end
    end)

    it('comparisons make byte tensors, which all and any read', function()
      for _, t in pairs(layouts()) do
        assert.equal('torch.ByteTensor', t:gt(2):type())
        assert.same({ 0, 0, 1, 0, 0, 0 }, list(t:eq(3)))
        assert.same({ 1, 1, 0, 1, 1, 1 }, list(t:ne(3)))
        assert.same({ 0, 0, 0, 1, 1, 1 }, list(t:gt(3)))
        assert.same({ 0, 0, 1, 1, 1, 1 }, list(t:ge(3)))
        assert.same({ 1, 1, 0, 0, 0, 0 }, list(torch.lt(t, 3)))
        assert.same({ 1, 1, 1, 1, 1, 1 }, list(torch.le(t, t)))
        assert.same({ 1, 1, 1, 0, 0, 0 }, list(torch.le(torch.Tensor(), t, 3)))
        assert(t:gt(0):all() and not t:gt(1):all() and t:gt(5):any() and not t:gt(6):any())
      end
    end)

    it('integers divide and wrap as integers', function()
      local t = torch.IntTensor { 7, -7, 2147483647 }
      assert.same({ 3, -3, 1073741823 }, list(torch.div(t, 2)))
      assert.same({ 8, -6, -2147483648 }, list(torch.add(t, 1)))
      assert.matches('division by zero', support.fails(t.div, t, 0))
    end)
  end)

  describe('are reduced', function()
    it('to a number or along a dimension', function()
      for _, t in pairs(layouts()) do
        assert.equal(21, t:sum())
        assert.equal(720, t:prod())
        assert.equal(3.5, t:mean())
        assert.equal(1, t:min())
        assert.equal(6, t:max())
        near({ math.sqrt(91), 21, 6 }, { t:norm(), t:norm(1), t:norm(math.huge) })
        near({ 3.5, math.sqrt(3.5) }, { t:var(), t:std() })
        assert.same({ { 5, 7, 9 } }, t:sum(1):totable())
        assert.same({ { 6 }, { 15 } }, torch.sum(t, 2):totable())
        assert.same({ { 2.5, 3.5, 4.5 } }, t:mean(1):totable())
        local values, places = t:max(2)
        assert.same({ { 3 }, { 6 } }, values:totable())
        assert.same({ { 3 }, { 3 } }, places:totable())
        assert.equal('torch.LongTensor', places:type())
        values, places = torch.min(t, 1)
        assert.same({ { 1, 2, 3 } }, values:totable())
        assert.same({ { 1, 1, 1 } }, places:totable())
        local res = torch.Tensor()
        assert.equal(res, torch.sum(res, t, 1))
        assert.same({ { 5, 7, 9 } }, res:totable())
        assert.same({ 1, 3, 6, 4, 9, 15 }, list(t:cumsum(2)))
        assert.same({ 1, 2, 6, 4, 20, 120 }, list(t:cumprod(2)))
        assert.equal(91, t:dot(t))
        assert.same({ { 2 }, { 5 } }, t:median():totable())
        assert(t:equal(t:clone()) and not t:equal(t + 1))
      end
    end)

    it('to their distance, which does not wrap', function()
      for _, name in ipairs(types) do
        local class = torch[name .. 'Tensor']
        assert.equal(1, class({ 1 }):dist(class { 2 }))
        assert.equal(127, class({ 0, 100 }):dist(class { 27, 0 }, 1))
      end
      assert.equal(5, torch.ByteTensor({ 0, 4 }):dist(torch.ByteTensor { 3, 0 }))
      assert.equal(200, torch.CharTensor({ -100 }):dist(torch.CharTensor { 100 }))
      assert.matches('ByteTensor', support.fails(torch.dist, torch.ByteTensor { 1 }, torch.IntTensor { 2 }))
    end)

    it('sort gives values and where they were', function()
      local t = torch.Tensor { { 3, 1, 2 }, { 5, 6, 4 } }
      local values, places = t:sort()
      assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, values:totable())
      assert.same({ { 2, 3, 1 }, { 3, 1, 2 } }, places:totable())
      assert.equal('torch.LongTensor', places:type())
      assert.same({ { 5, 6, 4 }, { 3, 1, 2 } }, (t:sort(1, true)):totable())
      assert.same({ { 3, 2 }, { 6, 5 } }, (t:topk(2, 2, true)):totable())
      assert.same({ { 2 }, { 5 } }, (t:kthvalue(2)):totable())
    end)
  end)

  it('are multiplied as vectors and matrices', function()
    for _, class in ipairs { torch.FloatTensor, torch.DoubleTensor, torch.LongTensor } do
      for _, t in pairs(layouts(class)) do
        local x = class { 1, 2, 3 }
        assert.same({ 14, 32 }, torch.mv(t, x):totable())
        assert.same({ { 14, 32 }, { 32, 77 } }, torch.mm(t, t:t()):totable())
        assert.same({ { 14, 32 }, { 32, 77 } }, class():mm(t, t:t()):totable())
        local m = class(2, 2):fill(1)
        assert.equal(m, m:addmm(t, t:t()))
        assert.same({ { 15, 33 }, { 33, 78 } }, m:totable())
        assert.same({ { 14, 32 }, { 32, 77 } }, m:addmm(0, m, 1, t, t:t()):totable())
        assert.same({ { 42, 96 }, { 96, 231 } }, m:addmm(2, t, t:t()):totable())
        assert.same({ { 56, 128 }, { 128, 308 } }, torch.addmm(1, m, 1, t, t:t()):totable())
        assert.same({ 15, 34 }, (class { 1, 2 }):addmv(t, x):totable())
        assert.same({ { 1, 2, 3 }, { 2, 4, 6 } }, torch.ger(class { 1, 2 }, x):totable())
        assert.same({ { 2, 4, 6 }, { 6, 9, 12 } }, t:clone():addr(class { 1, 2 }, x):totable())
      end
    end
  end)

  it('are made by functions', function()
    assert.same({ { 0, 0 }, { 0, 0 } }, torch.zeros(2, 2):totable())
    assert.same({ 1, 1, 1 }, torch.ones(torch.LongStorage { 3 }):totable())
    assert.same({ 1, 2, 3, 4 }, torch.range(1, 4):totable())
    assert.same({ 5, 3, 1 }, torch.range(5, 1, -2):totable())
    near({ 0, 0.25, 0.5, 0.75, 1 }, torch.linspace(0, 1, 5):totable())
    near({ 1, 10, 100 }, torch.logspace(0, 2, 3):totable())
    assert.same({ { 1, 0 }, { 0, 1 } }, torch.eye(2):totable())
    assert.same({ 1, 2, 3, 4 }, torch.cat(torch.range(1, 2), torch.range(3, 4)):totable())
    assert.same({ { 1, 1 }, { 0, 0 } }, torch.cat({ torch.ones(1, 2), torch.zeros(1, 2) }, 1):totable())
    local t = torch.FloatTensor()
    assert.equal(t, torch.zeros(t, 2, 3))
    assert.same({ 2, 3 }, t:size():totable())
    assert.same({ 1, 4, 5 }, torch.diag(torch.Tensor { { 1, 2, 3 }, { 6, 4, 7 }, { 8, 9, 5 } }):totable())
    assert.equal(10, torch.trace(torch.Tensor { { 1, 2, 3 }, { 6, 4, 7 }, { 8, 9, 5 } }))
    assert.same({ { 1, 0 }, { 3, 4 } }, torch.tril(torch.Tensor { { 1, 2 }, { 3, 4 } }):totable())
  end)

  describe('of random numbers', function()
    it('repeat with the seed, as the manual of Torch7 has them', function()
      torch.manualSeed(123)
      near({ 0.69646918727085, 0.71295532141812 }, { torch.uniform(), torch.uniform() })
      torch.manualSeed(5)
      local a, b, c, d = torch.rand(3, 3), torch.randn(5), torch.randperm(10), torch.random(1, 6)
      torch.manualSeed(5)
      assert(a:equal(torch.rand(3, 3)) and b:equal(torch.randn(5)) and c:equal(torch.randperm(10)))
      assert.equal(d, torch.random(1, 6))
      assert.equal(5, torch.initialSeed())
    end)

    it('stay in their ranges', function()
      local t = torch.rand(1000)
      assert(t:min() >= 0 and t:max() < 1)
      t = torch.IntTensor(1000):random(3, 7)
      assert(t:min() == 3 and t:max() == 7)
      t = torch.randn(10000)
      assert(math.abs(t:mean()) < 0.1 and math.abs(t:std() - 1) < 0.1)
      assert.same(torch.range(1, 20):totable(), (torch.randperm(20):sort()):totable())
      t = torch.ByteTensor(1000):bernoulli(0.25)
      assert(t:max() == 1 and t:sum() > 150 and t:sum() < 350)
      assert.equal('torch.FloatTensor', torch.FloatTensor(3):uniform(1, 2):type())
    end)
  end)

  describe('are converted', function()
    it('between all types, as Torch rounds', function()
      for _, from in ipairs(types) do
        for _, to in ipairs(types) do
          local t = torch[from .. 'Tensor'] { 0, 1, 100 }
          local u = t:type('torch.' .. to .. 'Tensor')
          assert.equal('torch.' .. to .. 'Tensor', u:type())
          assert.same({ 0, 1, 100 }, u:totable())
          assert.same({ 0, 1, 100 }, torch[to .. 'Tensor'](3):copy(t):totable())
        end
      end
      assert.same({ 1, -1, 2 }, torch.Tensor({ 1.9, -1.9, 2.5 }):int():totable())
      assert.equal('torch.ByteTensor', torch.Tensor(1):typeAs(torch.ByteTensor()):type())
      local t = torch.FloatTensor(1)
      assert.equal(t, t:float())
      for _, to in ipairs { 'byte', 'char', 'short', 'int', 'long', 'float', 'double', 'half', 'bfloat16' } do
        assert.equal('torch.' .. to .. 'tensor', t[to](t):type():lower())
      end
    end)

    it('to tables and strings', function()
      for _, t in pairs(layouts()) do
        assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, t:totable())
      end
      assert.same({}, torch.Tensor():totable())
      assert.equal('hello\0', torch.ByteStorage():string('hello\0'):string())
      assert.equal('abc', torch.CharTensor({ 97, 98, 99 }):storage():string())
    end)

    it('to and from storages', function()
      local s = torch.IntStorage { 1, 2, 3 }
      assert.same({ 1, 2, 3 }, s:double():totable())
      assert.equal(3, #s)
      assert.equal(3, s:size())
      s[2] = 20
      assert.equal(20, s[2])
      assert.same({ 5, 5, 5 }, s:clone():fill(5):totable())
      assert.same({ 1, 20, 3 }, torch.LongStorage(3):copy(s):totable())
      assert.same({ 1, 20, 3, 0 }, s:resize(4):totable())
    end)

    it('element by element with functions', function()
      for _, t in pairs(layouts()) do
        assert.equal(t, t:apply(function(v) if v > 3 then return v * 10 end end))
        assert.same({ 1, 2, 3, 40, 50, 60 }, list(t))
        t:map(torch.ones(2, 3), function(a, b) return a + b end)
        assert.same({ 2, 3, 4, 41, 51, 61 }, list(t))
      end
      assert.has_error(function() torch.ones(2):apply(function() error 'stop' end) end)
      for _, none in ipairs { 'x', 5, true } do
        assert.matches('expected a function', select(2, pcall(function() torch.ones(2):apply(none) end)), 1, true)
        assert.matches('expected a function', select(2, pcall(function() torch.ones(2):map(torch.ones(2), none) end)), 1, true)
      end
    end)

    it('to pointers, on LuaJIT', function()
      local t = torch.FloatTensor { 1, 2, 3 }
      if support.is_luajit then
        assert.equal(2, t:data()[1])
        t:data()[2] = 30
        assert.equal(30, t[3])
        assert.equal(30, t:storage():data()[2])
        assert.equal(30, t:narrow(1, 3, 1):data()[0])
      else
        assert.matches('libipc %[unsupported%] tensor:data', support.fails(t.data, t))
      end
    end)
  end)

  describe('are printed', function()
    it('as Torch does', function()
      assert.equal(' 1  2  3\n 4  5  6\n[torch.IntTensor of size 2x3]\n',
        tostring(torch.IntTensor { { 1, 2, 3 }, { 4, 5, 6 } }))
      assert.equal(' 0.5000\n-1.2500\n[torch.DoubleTensor of size 2]\n', tostring(torch.Tensor { 0.5, -1.25 }))
      assert.equal('[torch.FloatTensor with no dimension]\n', tostring(torch.FloatTensor()))
      assert.equal(' 2\n 3\n[torch.LongStorage of size 2]\n', tostring(torch.Tensor(2, 3):size()))
      assert.matches('^%(1,%.,%.%) = \n   ?1', tostring(torch.ones(2, 2, 2)))
    end)
  end)

  describe('and their classes', function()
    it('inherit, and are told by name', function()
      local box = { }
      local A, none = torch.class('spec.A', box)
      assert.is_nil(none)
      function A:__init(x) self.x = x end
      function A:get() return self.x end
      function A:__tostring__() return 'A of ' .. self.x end
      function A.__add__(a, b) return a.x + b.x end
      local B, parent = torch.class('spec.B', 'spec.A', box)
      assert.equal(A, parent)
      function B:__init(x, y)
        parent.__init(self, x)
        self.y = y
      end
      local a, b = box.A(1), box.B(2, 3)
      assert.equal('spec.B', torch.type(b))
      assert.equal('spec.A', torch.typename(a))
      assert.same({ 1, 2, 3 }, { a:get(), b:get(), b.y })
      assert.equal('A of 2', tostring(b))
      assert.equal(3, a + b)
      assert(torch.isTypeOf(b, 'spec.A') and torch.isTypeOf(b, box.B) and not torch.isTypeOf(a, 'spec.B'))
      local made = torch.factory('spec.B')()
      assert.equal('spec.B', torch.type(made))
      assert.is_nil(made.x)
      assert.matches('spec.A', support.fails(torch.class, 'spec.A', box))
      assert.matches('libipc %[argument%]', support.fails(torch.class, 'spec.C', 'spec.none', box))
      -- Such objects travel: libipc finds the class by its name.
      local copy = require('ipc').marshal(b):read()
      assert.equal('spec.B', torch.type(copy))
      assert.same({ 2, 3 }, { copy:get(), copy.y })
    end)

    it('of tensors and storages make empty ones in a factory', function()
      local t = torch.factory 'torch.FloatTensor'()
      assert.equal('torch.FloatTensor', torch.type(t))
      assert.equal(0, t:nElement())
      local s = torch.factory 'torch.ByteStorage' 'any'
      assert.equal('torch.ByteStorage', torch.type(s))
      assert.equal(0, #s)
      for _, name in ipairs { 'spec.none', 'FILE*' } do
        assert.matches('libipc %[argument%]', support.fails(torch.factory, name))
      end
    end)

    it('of tensors take methods of the user', function()
      function torch.FloatTensor:double_it() return self * 2 end
      assert.same({ 2, 4 }, torch.FloatTensor({ 1, 2 }):double_it():totable())
      torch.getmetatable('torch.FloatTensor').double_it = nil
      assert.is_nil(torch.FloatTensor(1).double_it)
    end)

    it('name what is no tensor by its own type', function()
      assert.equal('table', torch.type {})
      assert.equal('nil', torch.type(nil))
      assert.is_nil(torch.typename {})
      assert.equal('userdata', torch.type(require('ipc').mutex()))
    end)
  end)

  describe('go to other threads', function()
    it('by reference: both sides see writes', function()
      local ipc = require 'ipc'
      local t = torch.zeros(2, 3)
      local seen = ipc.map(1, function(a)
        a[2][3] = 7
        return torch.type(a), a:t(), a:storage()
      end, t)
      local class, turned, storage = seen:join()
      assert.equal('torch.DoubleTensor', class)
      assert.equal(7, t[2][3])
      turned[1][1] = 5
      assert.equal(5, t[1][1])
      assert.equal(7, storage[6])
    end)
  end)

  it('that nobody holds give their memory back before the machine is full', function()
    if support.in_tsan then return pending 'ThreadSanitizer keeps memory of its own' end
    support.check [[
      local torch = require 'ipc.torch'
      local x = torch.ones(2 ^ 20)
      for _ = 1, 100 do x = x + 1 end -- 800 MB in all
      assert(x[1] == 101)
      for _ = 1, 100 do x = torch.DoubleStorage(2 ^ 20):fill(1) end -- as much
      assert(x[1] == 1)
      local status = io.open '/proc/self/status'
      local most = status and tonumber(status:read('*a'):match 'VmHWM:%s*(%d+)') or 0
      assert(most < 500000, most .. ' KB')
    ]]
  end)

  describe('refuse', function()
    local t = torch.Tensor(2, 3)

    it('bad sizes, indices and types with errors that name them', function()
      assert.matches('libipc %[argument%] t%[…%]: index 3 is out of range: dimension 1 has 2 elements',
        support.fails(function() return t[3] end))
      assert.matches('dimension 2 has 3', support.fails(function() return t[{ 1, 4 }] end))
      assert.matches('libipc %[argument%] tensor:narrow: argument #1: dimension 3', support.fails(t.narrow, t, 3, 1, 1))
      assert.matches('tensor:narrow: .*3 elements from 2', support.fails(t.narrow, t, 1, 2, 3))
      assert.matches('tensor:view: .*6 elements .* 5', support.fails(t.view, t, 5))
      assert.matches('tensor:cmul: .*size 2x3.*size 2', support.fails(t.cmul, t, torch.Tensor(2)))
      assert.matches('DoubleTensor, got a torch.FloatTensor', support.fails(t.cmul, t, torch.FloatTensor(2, 3)))
      assert.matches('tensor:mm: sizes 2x3 and 2x3', support.fails(t.mm, torch.Tensor(), t, t))
      assert.matches('as self, got nil', support.fails(t.fill, nil, 1))
      assert.matches('argument #1: expected a number, got string', support.fails(t.fill, t, 'x'))
      assert.matches('torch.FloatTensor: argument #1: size %-1 is negative', support.fails(torch.FloatTensor, -1))
      assert.matches('libipc %[limit%]', support.fails(torch.FloatTensor, 2 ^ 40, 2 ^ 40))
      assert.matches('equal lengths', support.fails(torch.Tensor, { { 1, 2 }, { 3 } }))
      assert.matches('expected a', support.fails(torch.cat, { 1 }))
      assert.matches('probabilit', support.fails(t.bernoulli, t, torch.Tensor(2)))
      t:storage():resize(3)
      assert.matches('libipc %[state%] tensor:sum', support.fails(t.sum, t))
      t:storage():resize(6)
    end)

    it('a storage that was made smaller, and leave it so', function()
      local s = torch.ones(3, 3)
      local last = s:narrow(1, 3, 1)
      s:storage():resize(4)
      for name, f in pairs {
        trace = function() return s:trace() end,
        diag = function() return s:diag(1) end,
        data = function() return last:data() end,
        element = function() return s[3][3] end,
        assigned = function() s[3][3] = 1 end,
        totable = function() return s:totable() end,
        squeeze = function() return last:narrow(2, 1, 1):squeeze() end,
      } do
        assert.matches('libipc %[state%]', support.fails(f), name)
      end
      assert.equal(4, s:storage():size())
    end)

    it('a constructor called by hand without its table', function()
      for _, name in ipairs { 'FloatTensor', 'FloatStorage', 'Tensor', 'Storage' } do
        local call = getmetatable(torch[name]).__call
        assert.matches('libipc %[argument%] torch.' .. name .. ': argument #1: expected a table', support.fails(call))
      end
    end)

    it('what memory does not suffice for', function()
      if support.in_tsan or support.in_valgrind then return pending 'they map more memory than they use' end
      support.check([[
        local torch = require 'ipc.torch'
        -- Calls f with more and more elements, until there is an error: of each f the largest allocation is the one meant.
        local function grow(factor, f)
          local n, ok, e = 2 ^ 20, true, nil
          while ok do
            ok, e = pcall(f, n)
            if ok then e = nil end -- the result takes memory too
            collectgarbage()
            n = math.floor(n * factor)
          end
          assert(e:match 'libipc %[limit%]', e)
        end
        grow(1.25, function(n) return torch.ByteStorage(torch.ByteStorage(n), 1) end)
        local one = torch.ByteTensor(1, 1):fill(1)
        grow(2, function(n) return torch.mv(one:expand(n, 1), one[1]) end)
        grow(2, function(n) return one:expand(n, 1):maskedFill(one:expand(n, 1), 1) end)
      ]], { lua = ([[sh -c 'ulimit -v 150000 && exec %s "$0" "$@"']]):format(support.lua) })
    end)
  end)

  describe('are annotated', function()
    local text = support.read(support.root .. '/lua/library/torch.lua')

    -- The names that the annotations give to a class, and those that are there.
    local function compare(prefix, there)
      local written = {}
      for name in text:gmatch('\nfunction ' .. prefix .. '([%w_]+)%(') do written[name] = true end
      for name in pairs(written) do assert(there[name], 'annotated, not there: ' .. prefix .. name) end
      for name, f in pairs(there) do
        if type(f) == 'function' and not name:find '^__' then assert(written[name], 'not annotated: ' .. prefix .. name) end
      end
    end

    it('as they are', function()
      compare('Tensor:', torch.getmetatable 'torch.IntTensor')
      compare('Storage:', torch.getmetatable 'torch.IntStorage')
      local own = {}
      for name, f in pairs(torch) do
        -- Functions that are methods as well are annotated as those.
        if not torch.getmetatable 'torch.IntTensor'[name] or name == 'type' then own[name] = f end
      end
      compare('torch%.', own)
    end)
  end)
end)
