-- Every method and function of tensors with arguments at random: whatever comes, the answer is a value or an error of ours.
local torch = require 'ipc.torch'

-- A generator of its own, so that a failure repeats.
local state = 12345
local function random(n)
  state = (state * 16807) % 2147483647
  return state % n + 1
end

local function pick(list) return list[random(#list)] end

local types = { 'Byte', 'Char', 'Short', 'Int', 'Long', 'Float', 'Double', 'Half', 'BFloat16' }

local function tensor()
  local class = torch[pick(types) .. 'Tensor']
  local kind = random(7)
  if kind == 1 then return class() end
  if kind == 2 then return class(random(4)):fill(random(3) - 1) end
  if kind == 3 then return class(random(3), random(3)):fill(random(5)) end
  if kind == 4 then return class(random(3), random(3), random(3)):transpose(1, 3) end
  if kind == 5 then return class(4, 4):narrow(2, 2, 2) end
  if kind == 6 then return class(1, 3):expand(3, 3) end
  local t = class(3, 3)
  t:storage():resize(random(9)) -- too small for its views
  return t
end

local numbers = { -2 ^ 53, -3, -1, -0.5, 0, 0.5, 1, 1, 1, 2, 2, 3, 4, 2 ^ 40, 2 ^ 53, 1e300, 0 / 0, 1 / 0, -1 / 0 }

local function value()
  local kind = random(16)
  if kind <= 6 then return tensor() end
  if kind <= 11 then return pick(numbers) end
  if kind == 12 then return pick { 'x', '', 'torch.FloatTensor', 'float', '\0' } end
  if kind == 13 then return pick { {}, { 1 }, { { 1, 2 }, {} }, { 1, 'x' }, { tensor(), tensor() }, { {}, { 1, 2 } } } end
  if kind == 14 then return torch.LongStorage { random(4) - 1, random(4) } end
  if kind == 15 then return pick { true, false } end
  return function() return pick(numbers) end
end

local unpack = table.unpack or unpack -- luacheck: ignore 143

local function arguments(n)
  local list = {}
  for i = 1, n do list[i] = value() end
  return list
end

local function harmless(name, f, ...)
  local ok, e = pcall(f, ...)
  if not ok then
    assert(type(e) == 'string' and e:find('libipc [', 1, true) or tostring(e):find 'attempt to', name .. ': ' .. tostring(e))
    assert(not e:find 'internal error', name .. ': ' .. tostring(e))
  end
end

local function names(t)
  local list = {}
  for name, f in pairs(t) do
    if type(name) == 'string' and type(f) == 'function' then list[#list + 1] = name end
  end
  table.sort(list)
  return list
end

-- What reads files, seeds by chance or changes the defaults of the specs that follow.
local skip = { save = true, load = true, seed = true, setdefaulttensortype = true, class = true, factory = true,
  setmetatable = true, getconstructortable = true, isTypeOf = true, __gc = true, new = true, toc = true }

describe('tensors take anything', function()
  it('as arguments of every method', function()
    for _, name in ipairs(names(torch.getmetatable 'torch.FloatTensor')) do
      if not skip[name] then
        for round = 1, 60 do
          local self = tensor()
          local f = torch.getmetatable(self:type())[name]
          harmless('tensor:' .. name, f, self, unpack(arguments(round % 5)))
        end
      end
    end
  end)

  it('as arguments of every function', function()
    for _, name in ipairs(names(torch)) do
      if not skip[name] then
        for round = 1, 60 do harmless('torch.' .. name, torch[name], unpack(arguments(round % 5))) end
      end
    end
  end)

  it('as arguments of every constructor', function()
    for _, name in ipairs(types) do
      for round = 1, 60 do
        harmless(name .. 'Tensor', torch[name .. 'Tensor'], unpack(arguments(round % 4)))
        harmless(name .. 'Storage', torch[name .. 'Storage'], unpack(arguments(round % 4)))
      end
    end
  end)

  it('as arguments of every method of storages', function()
    for _, name in ipairs(names(torch.getmetatable 'torch.CharStorage')) do
      if not skip[name] then
        for round = 1, 40 do
          local self = torch[pick(types) .. 'Storage'](random(5) - 1)
          harmless('storage:' .. name, torch.getmetatable(self:type())[name], self, unpack(arguments(round % 3)))
        end
      end
    end
  end)

  it('as keys and values, and in operators', function()
    for _ = 1, 2000 do
      local t, k, v = tensor(), value(), value()
      harmless('index', function() return t[k] end)
      harmless('newindex', function() t[k] = v end)
      harmless('add', function() return t + v end)
      harmless('sub', function() return v - t end)
      harmless('mul', function() return t * v end)
      harmless('div', function() return t / v end)
      harmless('tostring', function() return tostring(t) end)
    end
  end)
end)
