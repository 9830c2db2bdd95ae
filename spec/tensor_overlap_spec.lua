-- Tensors whose operands share elements: as if the sources had been copied first.
require 'libipc'
local torch = require 'ipc.torch'

local function row(n) return torch.range(1, n) end
local function list(t) return t:contiguous():view(-1):totable() end

describe('operands that overlap', function()
  it('are copied as if the source had been copied first', function()
    local t = row(6)
    t:narrow(1, 2, 5):copy(t:narrow(1, 1, 5))
    assert.same({ 1, 1, 2, 3, 4, 5 }, t:totable())
    t:narrow(1, 1, 5):copy(t:narrow(1, 2, 5))
    assert.same({ 1, 2, 3, 4, 5, 5 }, t:totable())
    -- Every second one, onto each other.
    local s = row(8)
    s:unfold(1, 1, 2):narrow(1, 2, 3):copy(s:unfold(1, 1, 2):narrow(1, 1, 3))
    assert.same({ 1, 2, 1, 4, 3, 6, 5, 8 }, s:totable())
    local m = torch.range(1, 9):view(3, 3)
    m:copy(m:t())
    assert.same({ { 1, 4, 7 }, { 2, 5, 8 }, { 3, 6, 9 } }, m:totable())
    m[{ {}, { 2, 3 } }] = m[{ {}, { 1, 2 } }]
    assert.same({ { 1, 1, 4 }, { 2, 2, 5 }, { 3, 3, 6 } }, m:totable())
  end)

  it('are computed with in place', function()
    for _, kind in ipairs { 'Byte', 'Int', 'Long', 'Float', 'Double', 'Half' } do
      local function new() return row(2000):fmod(50):type('torch.' .. kind .. 'Tensor') end
      local function shifted(t) return t:narrow(1, 2, 1999), t:narrow(1, 1, 1999) end
      for _, f in ipairs {
        function(d, a) d:add(a) end,
        function(d, a) d:add(a, 1) end,
        function(d, a) d:abs(a) end,
        function(d, a) d:cmul(a, a) end,
        function(d, a) d:addcmul(1, a, a) end,
        function(d, a) d:cmax(a, d) end,
        function(d, a) d:clamp(a, 5, 20) end,
        function(d, a) d:map(a, function(x, y) return x + y end) end,
      } do
        local t, model = new(), new()
        local d, a = shifted(t)
        f(d, a)
        local e, b = shifted(model)
        f(e, b:clone())
        assert.same(model:totable(), t:totable())
      end
    end
    local m = torch.range(1, 9):view(3, 3)
    m:add(m:t())
    assert.same({ 2, 6, 10, 6, 10, 14, 10, 14, 18 }, list(m))
  end)

  it('may have one place for many elements: of those the last one stays', function()
    local x = torch.Tensor(1):fill(1)
    x:expand(1000):add(1)
    assert.equal(2, x[1])
    x:expand(4):copy(row(4))
    assert.equal(4, x[1])
    local y = torch.zeros(3)
    y:view(1, 3):expand(2, 3):copy(torch.range(1, 6):view(2, 3))
    assert.same({ 4, 5, 6 }, y:totable())
    y:view(3, 1):expand(3, 2):copy(torch.range(1, 6):view(3, 2))
    assert.same({ 2, 4, 6 }, y:totable())
    y:view(1, 3):expand(5, 3):mul(10)
    assert.same({ 20, 40, 60 }, y:totable())
    local u = row(4)
    u:unfold(1, 2, 1):add(u:unfold(1, 2, 1))
    assert.same({ 2, 4, 6, 8 }, u:totable())
  end)

  it('are picked and put by index, also from and into one tensor', function()
    local t = row(4)
    t:indexCopy(1, torch.LongTensor { 2, 3, 4, 1 }, t)
    assert.same({ 4, 1, 2, 3 }, t:totable())
    local l = torch.LongTensor { 3, 1, 2 }
    l:scatter(1, l, l)
    assert.same({ 1, 2, 3 }, l:totable())
    l = torch.LongTensor { 3, 1, 2 }
    l:gather(l, 1, l)
    assert.same({ 2, 3, 1 }, l:totable())
    l = torch.LongTensor { 3, 1, 2 }
    l:index(l, 1, l)
    assert.same({ 2, 3, 1 }, l:totable())
    local b = torch.ByteTensor { 0, 1, 2, 1 }
    b:maskedCopy(b, b)
    assert.same({ 0, 0, 1, 2 }, b:totable())
    b:maskedFill(b, 9)
    assert.same({ 0, 0, 9, 9 }, b:totable())
  end)

  it('are results of products, joins and reductions of what they hold', function()
    local a = torch.Tensor { { 1, 2 }, { 3, 4 } }
    a.mm(a, a, a)
    assert.same({ 7, 10, 15, 22 }, list(a))
    local wide = torch.range(1, 6):view(2, 3)
    wide.mm(wide, wide, wide:t():clone())
    assert.same({ 14, 32, 32, 77 }, list(wide))
    local t = row(6)
    torch.cat(t:narrow(1, 1, 4), t:narrow(1, 3, 2), t:narrow(1, 1, 2))
    assert.same({ 3, 4, 1, 2, 5, 6 }, t:totable())
    t = torch.Tensor { { 3, 1 }, { 2, 4 } }
    t.sort(t, torch.LongTensor(), t, 2)
    assert.same({ 1, 3, 2, 4 }, list(t))
    t.cumsum(t, t, 1)
    assert.same({ 1, 3, 3, 7 }, list(t))
    t:t().sum(t:narrow(1, 1, 1), t, 1)
    assert.same({ 4, 10, 3, 7 }, list(t))
  end)
end)
