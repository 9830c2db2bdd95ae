-- What of the module `torch` is best said in Lua: classes and timers. Run once a Lua state, with the module's table.
local torch = ...

local register, clock = torch._register, torch._clock
torch._register, torch._clock = nil, nil

-- Raises an error of the user's call of the function that calls this, or, one `further`, of that function's caller.
local function fail(text, further) error('libipc [argument] ' .. text, further and 4 or 3) end

-- ---- command lines ------------------------------------------------------

function torch.CmdLine(...)
  local cmd = require 'ipc.cmdline'(...)
  return cmd
end

-- ---- classes ------------------------------------------------------------

-- What Lua looks up in a metatable itself. A class defines `__add__` and so on, which its subclasses inherit.
local events = {}
local names = 'add sub mul div mod pow unm idiv band bor bxor shl shr bnot concat len eq lt le call tostring'
for event in names:gmatch '%a+' do
  events['__' .. event .. '__'] = '__' .. event
end

-- metatable → its parent's, its constructor, the metatables of its subclasses
local parents = setmetatable({}, { __mode = 'k' })
local constructors = setmetatable({}, { __mode = 'k' })
local children = setmetatable({}, { __mode = 'k' })

-- Makes the field `__add__` of a class what Lua calls, for it and for subclasses without one of their own.
local function bind(mt, key, f)
  if key == '__index__' then
    -- It answers value, true; without the true the class is asked as usual.
    mt.__index = f and function(self, k)
      local v, found = f(self, k)
      if found then return v end
      return mt[k]
    end or mt
  elseif key == '__newindex__' then
    mt.__newindex = f and function(self, k, v)
      if not f(self, k, v) then rawset(self, k, v) end
    end
  elseif key == '__tostring__' then
    mt.__tostring = f or function() return mt.__typename end
  else
    mt[events[key]] = f
  end
  for child in pairs(children[mt]) do
    if rawget(child, key) == nil then bind(child, key, f) end
  end
end

local function assign(mt, key, value)
  rawset(mt, key, value)
  if events[key] or key == '__index__' or key == '__newindex__' then bind(mt, key, value) end
end

-- The table that holds class `a.b.C`, and `C`.
local function container(name)
  local where, t = nil, _G
  local path, last = name:match '^(.*)%.([^.]+)$'
  for part in (path or ''):gmatch '[^.]+' do
    t = t == _G and part == 'torch' and torch or rawget(t, part)
    where = where and where .. '.' .. part or part
    if type(t) ~= 'table' then
      fail(("torch.class: '%s' is no table that could hold the class %s"):format(where, name), true)
    end
  end
  return t, last or name
end

-- torch.class(name, [parent name], [module]) → metatable, parent's metatable
function torch.class(name, parent, module)
  if type(parent) == 'table' then parent, module = nil, parent end
  if type(name) ~= 'string' or name == '' then
    fail('torch.class: argument #1: expected a string, got ' .. torch.type(name))
  end
  local above
  if parent ~= nil then
    above = type(parent) == 'string' and torch.getmetatable(parent)
    if not above or not children[above] then
      fail(('torch.class: argument #2: expected the name of a class, got %s'):format(tostring(parent)))
    end
  end
  if module ~= nil and type(module) ~= 'table' then
    fail('torch.class: argument #3: expected a table, got ' .. torch.type(module))
  end
  local holder, short = module, name:match '[^.]+$'
  if not holder then holder, short = container(name) end

  local mt = { __typename = name, __version = 1 }
  mt.__index = mt
  children[mt], parents[mt] = {}, above
  local registered, why = pcall(register, name, mt)
  if not registered then error(why, 2) end
  local class = { __index = above, __newindex = assign }
  setmetatable(mt, class)

  local function new(...)
    local self = setmetatable({}, mt)
    local init = mt.__init
    if init then init(self, ...) end
    return self
  end
  rawset(mt, 'new', new)
  bind(mt, '__tostring__', nil)
  if above then
    children[above][mt] = true
    for key in pairs(events) do
      if above[key] ~= nil then bind(mt, key, above[key]) end
    end
    for _, key in ipairs { '__index__', '__newindex__' } do
      if above[key] ~= nil then bind(mt, key, above[key]) end
    end
  end
  local constructor = setmetatable({}, {
    __index = mt,
    __newindex = mt,
    __metatable = mt,
    __call = function(_, ...) return new(...) end,
  })
  constructors[mt] = constructor
  holder[short] = constructor
  if above then return mt, above end
  return mt
end

-- The table that makes objects of a class: what the class's name means.
function torch.getconstructortable(name)
  local mt = torch.getmetatable(name)
  return constructors[mt] or torch[name:match '^torch%.(.+)$']
end

-- torch.factory(name) → a function that makes objects of the class without initialising them
function torch.factory(name)
  local mt = torch.getmetatable(name)
  if mt and children[mt] then return function() return setmetatable({}, mt) end end
  -- A tensor or storage, whose like without a value is empty.
  local new = mt and torch.getconstructortable(name)
  if not new then fail(("torch.factory: there is no class '%s'"):format(name)) end
  return function() return new() end
end

function torch.setmetatable(object, name)
  local mt = torch.getmetatable(name)
  if not mt then fail(("torch.setmetatable: there is no class '%s'"):format(name)) end
  return setmetatable(object, mt)
end

-- Whether a class is meant by its name or by a pattern, which must not be a part of the name that it itself spells.
local function named(name, pattern)
  if name == pattern then return true end
  local ok, from, to = pcall(string.find, name, pattern)
  if not ok then fail(("torch.isTypeOf: argument #2: '%s' is no pattern"):format(pattern)) end
  return from ~= nil and name:sub(from, to) ~= pattern
end

-- torch.isTypeOf(object, class): the class by name, pattern, metatable or constructor; subclasses count.
function torch.isTypeOf(object, class)
  local name = torch.typename(object)
  if not name then return false end
  if type(class) == 'table' then
    class = rawget(class, '__typename') or class.__typename
  end
  if type(class) ~= 'string' then return false end
  local mt = torch.getmetatable(name)
  while mt do
    if named(mt.__typename, class) then return true end
    mt = parents[mt]
  end
  return false
end

-- ---- time ------------------------------------------------------------

function torch.tic() return clock() end

function torch.toc(start)
  if type(start) ~= 'number' then fail('torch.toc: argument #1: expected a number, got ' .. torch.type(start)) end
  return clock() - start
end

-- torch.Timer(): runs from the start; t:time() → { real =, user =, sys = }, in seconds
local Timer = torch.class('torch.Timer')

function Timer:__init() self:reset():resume() end

function Timer:reset()
  self.real, self.user = 0, 0
  if self.since then self.since, self.cpu = clock(), os.clock() end
  return self
end

function Timer:resume()
  if not self.since then self.since, self.cpu = clock(), os.clock() end
  return self
end

function Timer:stop()
  if self.since then
    local t = self:time()
    self.real, self.user, self.since = t.real, t.user, nil
  end
  return self
end

function Timer:time()
  local running = self.since ~= nil
  return {
    real = self.real + (running and clock() - self.since or 0),
    user = self.user + (running and os.clock() - self.cpu or 0),
    sys = 0,
  }
end

-- One thread computes; scripts that ask for more go on as they are.
function torch.getnumthreads() return 1 end

function torch.setnumthreads() end
