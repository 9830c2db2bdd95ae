-- Wrong arguments, for every function there is: the annotations say what each takes, so each is called with values of
-- other types in every place. Whatever they are, the answer is an error of ours, never a crash, a hang or an accident.
local support = require 'spec.support'
local ipc = require 'libipc'
local unpack = table.unpack or unpack -- luacheck: ignore 143

-- ---- what is annotated ----------------------------------------------------------------------------------------------

local function signatures()
  local found, params = {}, {}
  for line in (support.read(support.root .. '/lua/library/ipc.lua') .. '\n'):gmatch '(.-)\n' do
    local name, optional, type_ = line:match '^%-%-%-@param ([%w_.]+)(%??)%s+(%S+)'
    if name then params[#params + 1] = { name = name, optional = optional == '?', type = type_ } end
    local owner, separator, method = line:match '^function ([%w_]+)([.:])([%w_]+)%('
    if owner then
      found[#found + 1] = { owner = owner, method = separator == ':', name = method, params = params }
    end
    if owner or line:match '^%s*$' then params = {} end
  end
  return found
end

-- A value of each annotated type that is fine, and the Lua types that are.
local types = {
  number = { good = 1, types = { number = true } },
  integer = { good = 1, types = { number = true } },
  string = { good = 'x', types = { string = true } },
  table = { good = {}, types = { table = true } },
  boolean = { good = true, types = { boolean = true } },
  ['function'] = { good = function() end, types = { ['function'] = true } },
  ['nil'] = { types = { ['nil'] = true } },
}

-- The Lua types that `a|b|fun(c: d): e` allows; nil when it is not all known here.
local function allowed(annotation)
  if annotation:match '^fun%(' then return types['function'].types, types['function'].good end
  local set, good = {}, nil
  for part in annotation:gmatch '[^|]+' do
    local known = types[part:gsub('%[%]$', '')]
    if not known then return nil end
    for t in pairs(known.types) do set[t] = true end
    good = good or known.good
  end
  return set, good
end

local wrong = {
  { 'nil', nil }, { 'boolean', true }, { 'number', 1 }, { 'string', 'neither a number nor a host' }, { 'table', {} },
  { 'function', function() end }, { 'thread', coroutine.create(function() end) }, { 'userdata', io.stdout },
}

-- Where a boolean stands for "do not wait", or a number for either.
local function accepts(param, set, kind)
  return set[kind] or kind == 'nil' and param.optional or param.name == 'timeout' and (kind == 'boolean' or kind == 'table')
end

-- Both ends of a connection, and their server.
local function connection()
  local server, port = ipc.server()
  local client = ipc.client(port)
  local handle
  server:clients(1, function(c) handle = c end)
  return client, handle, server
end

-- The other ends live as long as these.
local held = setmetatable({}, { __mode = 'k' })

-- Objects to call methods on, by the name that the annotations give their class.
local objects = {
  map = function() return ipc.map(0, print) end,
  pool = function() return ipc.pool(1) end,
  future = function() return ipc.pool(1):submit(type, 1) end,
  batch = function() return ipc.pool(1):batch() end,
  workqueue = function() return (ipc.workqueue()) end,
  channel = function() return ipc.channel() end,
  mutex = function() return ipc.mutex() end,
  atomic = function() return ipc.atomic() end,
  process = function() return ipc.spawn { file = 'cat' } end,
  flock = function() return ipc.flock(support.tmpname()) end,
  marshal = function() return ipc.marshal(1) end,
  server = function() return (ipc.server()) end,
  client = function()
    local client, handle, server = connection()
    held[client] = { handle, server }
    return client
  end,
  handle = function()
    local client, handle, server = connection()
    held[handle] = { client, server }
    return handle
  end,
}

-- Takes nothing that could be wrong, and called it would fork this runner.
local takes_nothing = { ['ipc.fork'] = true }

local function ours(e) return type(e) == 'string' and e:find('libipc [', 1, true) ~= nil end

describe('arguments', function()
  for _, s in ipairs(signatures()) do
    local title = s.owner .. (s.method and ':' or '.') .. s.name
    local make = s.method and objects[s.owner]
    if not takes_nothing[title] and (not s.method or make) and (s.owner == 'ipc' or s.method) then
      it('of the wrong type are refused by ' .. title, function()
        local arguments = {}
        for at, param in ipairs(s.params) do
          local set, good = allowed(param.type)
          if param.name == '...' or not set then break end
          for _, bad in ipairs(wrong) do
            local kind, value = bad[1], bad[2]
            if not accepts(param, set, kind) then
              local object = make and make()
              local f = object and object[s.name] or ipc[s.name]
              local given, first = { object }, object and 1 or 0
              for i = 1, at - 1 do given[first + i] = arguments[i] end
              given[first + at] = value
              local ok, e = pcall(f, unpack(given, 1, first + at))
              local what = ('%s with a %s as %s (#%d)'):format(title, kind, param.name, at)
              assert(not ok, what .. ' was fine')
              assert(ours(e), what .. ': ' .. tostring(e))
              assert.equal('argument', ipc.errcode(e), what .. ': ' .. e)
              assert(e:find('#' .. at, 1, true), what .. ' does not name the position: ' .. e)
              assert(e:find('expected', 1, true), what .. ' does not say what was expected: ' .. e)
              -- nil may be "no value"; a cdata or a number may be told by its value.
              local told = kind == 'nil' or kind == 'number' or e:find('got ', 1, true)
              assert(told, what .. ' does not say what came: ' .. e)
            end
          end
          arguments[at] = good
        end
      end)
    end
    if make then
      it('that are not its object are refused by ' .. title, function()
        local f = make()[s.name]
        for _, self in ipairs { true, 1, 'x', {}, print, io.stdout, coroutine.create(function() end) } do
          local ok, e = pcall(f, self)
          assert(not ok and ours(e), title .. ' on a ' .. type(self) .. ': ' .. tostring(e))
        end
        assert(ours(support.fails(f)), title .. ' on nothing')
        for other, make_other in pairs(objects) do
          local object = make_other()
          -- All that can be waited for has the same fd().
          local same = other == s.owner or s.name == 'fd' and object.fd
          if not same then assert(ours(support.fails(f, object)), title .. ' on a ' .. other) end
        end
      end)
    end
  end

  it('are refused by closed objects in words, not by accident', function()
    for name, make in pairs(objects) do
      local object = make()
      if object.close then
        object:close()
        object:close()
        for _, s in ipairs(signatures()) do
          if s.owner == name and s.method then
            local ok, e = pcall(object[s.name], object)
            assert(ok or ours(e), name .. ':' .. s.name .. ' after close: ' .. tostring(e))
          end
        end
      end
    end
  end)
end)
