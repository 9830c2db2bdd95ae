-- What the operations of a tree compute: allReduce, scatter, barrier.
local ipc = require 'libipc'
local support = require 'spec.support'
local torch = require 'ipc.torch'
local trees = require 'spec.support.trees'

describe('allReduce', function()
  it('reduces numbers, and counts the contributors', function()
    local results = trees.threads(5, function(tree, i) return tree.allReduce(i, function(a, b) return a + b end) end)
    for i = 1, 5 do assert.same({ true, 15, 5 }, results[i]) end
  end)

  it('reduces tensors in place, whatever reduce returns', function()
    local function check(body)
      for i, value in ipairs(trees.values(4, body)) do assert.equal(i .. ' true 10 10 5', value) end
    end
    -- Written out thrice: bodies take no upvalues along.
    check(function(tree, i)
      local t = require 'ipc.torch'.FloatTensor(5):fill(i)
      local r, n = tree.allReduce(t, function(a, b) return a:add(b) end)
      assert(n == 4)
      return ('%d %s %g %g %d'):format(i, tostring(rawequal(r, t)), t:min(), t:max(), t:nElement())
    end)
    check(function(tree, i)
      local t = require 'ipc.torch'.FloatTensor(5):fill(i)
      local r = tree.allReduce(t, function(a, b) return a + b end)
      return ('%d %s %g %g %d'):format(i, tostring(rawequal(r, t)), t:min(), t:max(), t:nElement())
    end)
    check(function(tree, i)
      local t = require 'ipc.torch'.FloatTensor(5):fill(i)
      local r = tree.allReduce(t, function(a, b) a:add(b) end)
      return ('%d %s %g %g %d'):format(i, tostring(rawequal(r, t)), t:min(), t:max(), t:nElement())
    end)
    -- Into the tensor that came, which the next round uses again.
    check(function(tree, i)
      local t = require 'ipc.torch'.FloatTensor(5)
      local r
      for _ = 1, 3 do r = tree.allReduce(t:fill(i), function(a, b) return b:add(a) end) end
      return ('%d %s %g %g %d'):format(i, tostring(rawequal(r, t)), t:min(), t:max(), t:nElement())
    end)
  end)

  it('reduces tensors of any size and layout', function()
    local sums = trees.values(3, function(tree, i)
      local torch = require 'ipc.torch' -- luacheck: ignore 431
      local words = {}
      for _, size in ipairs { 1, 100, 16383, 16384, 300000 } do
        local t = torch.DoubleTensor(size):fill(i)
        tree.allReduce(t, function(a, b) return a:add(b) end)
        words[#words + 1] = t:min() .. ' ' .. t:max()
      end
      -- A column of a matrix: the other columns stay as they are.
      local matrix = torch.FloatTensor(200, 200):fill(7)
      local column = matrix:select(2, 3):fill(i)
      tree.allReduce(column, function(a, b) return a:add(b) end)
      words[#words + 1] = column:min() .. ' ' .. column:max() .. ' ' .. matrix:sum()
      tree.allReduce(matrix:t():fill(i), 'sum')
      words[#words + 1] = matrix:min() .. ' ' .. matrix:max()
      return (table.concat(words, ', '):gsub('(%d)%.0', '%1'))
    end)
    local expected = '6 6, 6 6, 6 6, 6 6, 6 6, 6 6 ' .. 7 * 199 * 200 + 6 * 200 .. ', 6 6'
    for i = 1, 3 do assert.equal(expected, sums[i]) end
  end)

  it('reduces and scatters tensors of every type in place', function()
    local values = trees.values(3, function(tree, i)
      local torch = require 'ipc.torch' -- luacheck: ignore 431
      local words = {}
      for _, name in ipairs { 'Byte', 'Char', 'Short', 'Int', 'Long', 'Float', 'Double', 'Half', 'BFloat16' } do
        local t = torch[name .. 'Tensor'](4):fill(i)
        local r = tree.allReduce(t, function(a, b) return a:add(b) end)
        local sum = t:min()
        local s = tree.scatter(t:fill(i))
        words[#words + 1] = ('%s %d %d'):format(tostring(rawequal(r, t) and rawequal(s, t)), sum, t:max())
      end
      return table.concat(words, ', ')
    end)
    for i = 1, 3 do assert.equal(('true 6 1, '):rep(8) .. 'true 6 1', values[i]) end
  end)

  it('reduces nested tables leaf by leaf, in place', function()
    local values = trees.values(4, function(tree, i)
      local torch = require 'ipc.torch' -- luacheck: ignore 431
      local value = { weights = { torch.FloatTensor(3, 3):fill(i), torch.DoubleTensor(20000):fill(2 * i) }, loss = i,
        deep = { { { i * 10 } } } }
      local weight = value.weights[1]
      local result, n = tree.allReduce(value, function(a, b)
        if type(a) == 'number' then return a + b end
        return a:add(b)
      end)
      assert(result == value and n == 4 and rawequal(value.weights[1], weight))
      return { weight:sum(), value.weights[2]:sum(), value.loss, value.deep[1][1][1] }
    end)
    for i = 1, 4 do assert.same({ 90, 400000, 10, 100 }, values[i]) end
  end)

  it('reduces any value that reduce takes, in a fixed order', function()
    local values = trees.values(7, function(tree, i)
      return (tree.allReduce(tostring(i), function(a, b) return '(' .. a .. b .. ')' end))
    end)
    -- A node's own value first, then its children's by ascending index.
    for i = 1, 7 do assert.equal('((1((24)5))((36)7))', values[i]) end
  end)

  it('reduces by name', function()
    local values = trees.values(4, function(tree, i)
      local torch = require 'ipc.torch' -- luacheck: ignore 431
      local words = {}
      for _, name in ipairs { 'sum', 'mean', 'max', 'min', 'prod' } do
        local t = torch.FloatTensor { i, -i, 2 * i }
        local r, n = tree.allReduce({ t, i }, name)
        assert(n == 4)
        words[#words + 1] = ('%s %g %g %g %g'):format(name, t[1], t[2], t[3], r[2])
      end
      return table.concat(words, ', ')
    end)
    for i = 1, 4 do
      assert.equal('sum 10 -10 20 10, mean 2.5 -2.5 5 2.5, max 4 -1 8 4, min 1 -4 2 1, prod 24 24 384 24', values[i])
    end
  end)

  it('takes integers, byte strings and booleans exactly', function()
    local values = trees.values(3, function(tree, i)
      local a = tree.allReduce({ s = 'a\0b' .. i, t = i == 2, n = -0.0, h = math.huge }, function(x, y)
        if type(x) == 'string' then return x .. y end
        if type(x) == 'boolean' then return x or y end
        return x
      end)
      return { a.s, a.t, 1 / a.n, a.h }
    end)
    for i = 1, 3 do assert.same({ 'a\0b1a\0b2a\0b3', true, -math.huge, math.huge }, values[i]) end
  end)

  it('gives the same bits on every node, and from run to run', function()
    local function body(tree, i)
      local torch = require 'ipc.torch' -- luacheck: ignore 431
      local t = torch.FloatTensor(1000)
      local x = i
      for k = 1, 1000 do
        x = x * 16807 % 2147483647
        t[k] = x / 3
      end
      tree.allReduce(t, 'sum')
      local numbers = {}
      for k = 1, 1000 do numbers[k] = ('%.17g'):format(t[k]) end
      return table.concat(numbers, ' ')
    end
    local first, second = trees.values(5, body), trees.values(5, body)
    for i = 1, 5 do
      assert.equal(first[1], first[i])
      assert.equal(first[1], second[i])
    end
  end)

  it('lets nodes take different numbers of steps, with zero', function()
    local values = trees.values(4, function(tree, i)
      local torch = require 'ipc.torch' -- luacheck: ignore 431
      local function add(a, b)
        if type(a) == 'number' then return a + b end
        return a:add(b)
      end
      local value = { torch.FloatTensor(6), 0 }
      local counts = {}
      for step = 1, i do
        value[1]:fill(1)
        value[2] = 1
        local _, n = tree.allReduce(value, add)
        counts[step] = n
        assert(value[1]:min() == n and value[1]:max() == n and value[2] == n)
      end
      local indices = {}
      local last, n = tree.allReduce(nil, add, function(v, leaf)
        indices[#indices + 1] = leaf
        if leaf == 2 then return 0 end
        return v:fill(0)
      end)
      assert(last == value and n == 0)
      -- The last round is the one in which all contributed zero.
      assert(value[1]:min() == 0 and value[1]:max() == 0 and value[2] == 0)
      assert(table.concat(indices, ' ') == ('1 2 '):rep(4 - i + 1):sub(1, -2), table.concat(indices, ' '))
      return table.concat(counts, ' ')
    end)
    assert.same({ '4', '4 3', '4 3 2', '4 3 2 1' }, values)
  end)

  it('gives zero the leaf as the last round left it', function()
    local values = trees.values(2, function(tree, i)
      local seen = {}
      local function add(a, b) return a + b end
      local function keep(v)
        seen[#seen + 1] = v
        return 100
      end
      if i == 1 then
        for step = 1, 3 do tree.allReduce(step, add) end
      else
        tree.allReduce(50, add)
      end
      local last, n = tree.allReduce(nil, add, keep)
      assert(n == 0)
      return table.concat(seen, ' ') .. ' -> ' .. last
    end)
    -- Rounds: 1 + 50; 2 + 100; 3 + 100; then 100 + 100, to which nobody contributes a step.
    assert.same({ '103 -> 200', '51 102 103 -> 200' }, values)
  end)

  it('goes through zero once more in every epoch', function()
    local values = trees.values(3, function(tree, i)
      local torch = require 'ipc.torch' -- luacheck: ignore 431
      local t, total = torch.FloatTensor(20000), 0
      for epoch = 1, 4 do
        for _ = 1, (i + epoch) % 3 do
          local _, n = tree.allReduce(t:fill(1), 'sum')
          total = total + n
        end
        local _, n = tree.allReduce(epoch == 1 and t or nil, 'sum', true)
        assert(n == 0)
      end
      return t:min() .. ' ' .. t:max()
    end)
    assert.same({ values[1], values[1], values[1] }, values)
  end)

  it('by name, contributes nothing with true', function()
    local values = trees.values(3, function(tree, i)
      local torch = require 'ipc.torch' -- luacheck: ignore 431
      local t = torch.FloatTensor(3)
      local words = {}
      for _ = 1, i do
        local value, n = tree.allReduce({ t:fill(-i), -i }, 'max')
        words[#words + 1] = ('%g %g %d'):format(t[1], value[2], n)
      end
      local _, n = tree.allReduce(nil, 'max', true)
      assert(n == 0)
      -- The mean is one of those who contribute.
      for _ = 1, i do
        local value, m = tree.allReduce(i, 'mean')
        words[#words + 1] = ('%g %d'):format(value, m)
      end
      tree.allReduce(nil, 'mean', true)
      return table.concat(words, ', ')
    end)
    assert.same({
      '-1 -1 3, 2 3',
      '-1 -1 3, -2 -2 2, 2 3, 2.5 2',
      '-1 -1 3, -2 -2 2, -3 -3 1, 2 3, 2.5 2, 3 1',
    }, values)
  end)

  it('wants a value from a node that took no step', function()
    local values = trees.values(2, function(tree, i)
      local function add(a, b) return a + b end
      local function zero() return 0 end
      local ok, e = pcall(tree.allReduce, nil, add, zero)
      assert(not ok and e:find('libipc [state]', 1, true), e)
      if i == 1 then assert(tree.allReduce(5, add) == 5) end
      local last, n = tree.allReduce(i == 2 and 0 or nil, add, zero)
      assert(n == 0)
      return last
    end)
    assert.same({ 0, 0 }, values)
  end)

  it('returns the round in which all contributed zero, and leaves it in the tensors', function()
    local values = trees.values(3, function(tree, i)
      local torch = require 'ipc.torch' -- luacheck: ignore 431
      local t = torch.FloatTensor(2):fill(i)
      local function add(a, b) return a:add(b) end
      for _ = 1, i do tree.allReduce(t:fill(i), add) end
      local last, n = tree.allReduce(nil, add, function(v) return v:fill(0.5) end)
      -- A mean of nobody's is not divided.
      local mean, m = tree.allReduce(nil, 'mean', function(v) return v:fill(0.5) end)
      return ('%s %d %g %s %d'):format(tostring(last == t), n, t[1], tostring(mean == t), m)
    end)
    assert.same({ 'true 0 1.5 true 0', 'true 0 1.5 true 0', 'true 0 1.5 true 0' }, values)
  end)

  it('makes no tensors once it has gone round', function()
    local made = trees.values(3, function(tree)
      local torch = require 'ipc.torch' -- luacheck: ignore 431
      local class = getmetatable(torch.FloatTensor(1))
      local t, small = torch.FloatTensor(30000):fill(0), torch.FloatTensor(10):fill(0)
      tree.allReduce({ t, small }, 'sum')
      local clone, count = class.__index and class.clone or t.clone, 0
      local index = type(class.__index) == 'table' and class.__index or class
      index.clone = function(...)
        count = count + 1
        return clone(...)
      end
      for _ = 1, 5 do tree.allReduce({ t, small }, 'sum') end
      index.clone = clone
      return count
    end)
    assert.same({ 0, 0, 0 }, made)
  end)

  it('gives processes the same as threads', function()
    local lines = trees.lines [[
      local torch = require 'ipc.torch'
      local _, wait = processes(4, function(i)
        local tree = LocalhostTree(i, 4)
        local big, small = torch.FloatTensor(500000):fill(i), torch.DoubleTensor(3):fill(i)
        local sums = {}
        for _ = 1, 3 do
          tree.allReduce({ big, { small, i } }, function(a, b)
            if type(a) == 'number' then return a + b end
            return a:add(b)
          end)
          sums[#sums + 1] = ('%g %g %g'):format(big:min(), big:max(), small:sum())
        end
        tree.close()
        return table.concat(sums, ', ')
      end)
      wait()
    ]]
    for i = 1, 4 do assert.equal(i .. ' ok 10 10 30, 40 40 120, 160 160 480', lines[i]) end
  end)

  it('checks its arguments, without harm to the tree', function()
    local values = trees.values(2, function(tree)
      local ipc = require 'libipc' -- luacheck: ignore 431
      local function refused(what, ...)
        local ok, e = pcall(tree.allReduce, ...)
        assert(not ok and ipc.errcode(e) == 'argument' and e:find(what, 1, true), e)
      end
      local function add(a, b) return a + b end
      refused('expected a value', nil, add)
      refused('expected a function or a string', 1)
      refused('expected a function or a string', 1, {})
      refused("'max' 'mean' 'min' 'prod' 'sum'", 1, 'average')
      refused('expected a function', 1, add, 5)
      refused('expected a function', 1, add, true)
      refused('expected a table', 1, add, nil, '5')
      refused('0 or more', 1, add, nil, -5)
      refused('timeout', 1, add, nil, { timeout = 'long' })
      return (tree.allReduce(1, add, { timeout = 100 }))
    end)
    assert.same({ 2, 2 }, values)
  end)
end)

describe('scatter', function()
  it("gives the root's value to all, tensors in place", function()
    local values = trees.values(5, function(tree, i)
      local torch = require 'ipc.torch' -- luacheck: ignore 431
      local value = { torch.FloatTensor(4):fill(i), big = torch.DoubleTensor(40000):fill(i), n = i, s = 'node ' .. i,
        deep = { { i } } }
      local tensor = value[1]
      local result = tree.scatter(value)
      assert(result == value and rawequal(value[1], tensor))
      return { tensor:sum(), value.big:min(), value.n, value.s, value.deep[1][1], tree.scatter(i),
        tree.scatter('x' .. i) }
    end)
    for i = 1, 5 do assert.same({ 4, 1, 1, 'node 1', 1, 1, 'x1' }, values[i]) end
  end)

  it('makes a value for nodes that have none', function()
    local values = trees.values(4, function(tree, i)
      local torch = require 'ipc.torch' -- luacheck: ignore 431
      local value
      if i == 1 then value = { a = torch.IntTensor { 1, 2, 3 }, b = { 'x', { torch.FloatTensor(2, 2):fill(5) } } } end
      local r = tree.scatter(value)
      return { r.a:sum(), r.a:type(), r.b[1], r.b[2][1]:sum(), r.b[2][1]:dim(), tostring(tree.scatter()) }
    end)
    for i = 1, 4 do assert.same({ 6, 'torch.IntTensor', 'x', 20, 2, 'nil' }, values[i]) end
  end)
end)

describe('barrier', function()
  it('lets nobody go on before all have come', function()
    local path = support.tmpname()
    support.write(path, '')
    local lengths = { ipc.map(4, function(name, id)
      local tree = require 'ipc.LocalhostTree'(id, 4, { key = 'barrier' })
      local seen = {}
      for round = 1, 10 do
        local file = io.open(name, 'a')
        file:write '.'
        file:close()
        tree.barrier()
        file = io.open(name)
        if #file:read '*a' < 4 * round then seen[#seen + 1] = round end
        file:close()
        tree.barrier(100)
      end
      tree.close()
      return table.concat(seen, ' ')
    end, path):join(200) }
    assert.same({ '', '', '', '' }, lengths)
  end)
end)

-- Only to have it loaded here: the threads then have it too.
assert(torch)
