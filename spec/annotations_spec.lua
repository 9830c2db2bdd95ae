-- lua/library/*.lua (annotations for the language server, and the source of the manual) against what the library
-- exports at run time, both ways: no function without its page, no page without its function.
local support = require 'spec.support'
local ipc = require 'libipc'

-- How to come by an object of each annotated class. A class that is not here must be a table of the module
-- (`ipc.channel`).
local make = {
  ['ipc.map'] = function() return ipc.map(0, print) end,
  ['ipc.pool'] = function() return ipc.pool(1) end,
  ['ipc.future'] = function() return ipc.pool(1):submit(type, 1) end,
  ['ipc.batch'] = function() return ipc.pool(1):batch() end,
  ['ipc.BackgroundTask'] = function() return require 'ipc.BackgroundTask'(type, 1) end,
  ['ipc.BackgroundTaskPool'] = function() return require 'ipc.BackgroundTaskPool'(1) end,
  ['ipc.workqueue'] = function() return (ipc.workqueue()) end,
  ['ipc.channel'] = function() return ipc.channel() end,
  ['ipc.channel.statuses'] = function() return ipc.channel end,
  ['ipc.mutex'] = function() return ipc.mutex() end,
  ['ipc.flock'] = function() return ipc.flock(support.tmpname()) end,
  ['ipc.fd'] = function() return ipc.fd(1) end,
  ['ipc.timer'] = function() return ipc.after(0) end,
  ['ipc.atomic'] = function() return ipc.atomic() end,
  ['ipc.Report'] = function() return ipc.report() end,
  ['ipc.spawn'] = function() return ipc.spawn { file = 'true' } end,
  ['ipc.Tree'] = function() return require 'ipc.NullTree'() end,
  ['ipc.marshal'] = function() return ipc.marshal(1) end,
  ['ipc.server'] = function() return (ipc.server()) end,
  ['ipc.client'] = function() return ipc.client(select(2, ipc.server())) end,
  ['ipc.server.client'] = function()
    local server, port = ipc.server()
    local client, handle = ipc.client(port)
    server:clients(1, function(c) handle = c end)
    client:close()
    return handle
  end,
}

-- ---- what is annotated: class → set of names ----------------------------------------------------------------------

local function annotated(path)
  local classes, class_of, pending, class = {}, {}, nil, nil
  for line in (support.read(path) .. '\n'):gmatch '(.-)\n' do
    local named = line:match '^%-%-%-@class ([%w_.]+)'
    if named then
      pending, class = named, named
      classes[named] = classes[named] or {}
    end
    local field, optional = line:match '^%-%-%-@field ([%w_]+)(%??)'
    if field and class then classes[class][field] = optional == '?' and 'optional' or true end
    local variable = line:match '^local ([%w_]+) = {}'
    if variable and pending then class_of[variable], pending = pending, nil end
    local owner, name = line:match '^function ([%w_]+)[.:]([%w_]+)%('
    if owner then
      assert(class_of[owner], path .. ': no ---@class above `local ' .. owner .. '`: ' .. line)
      classes[class_of[owner]][name] = true
    end
  end
  return classes
end

-- ---- what is there
-- -------------------------------------------------------------------------------------------------------

local function names(t)
  local found = {}
  for name in pairs(t) do
    if type(name) == 'string' and not name:match '^__' then found[name] = true end
  end
  return found
end

-- The methods of an object: what its metatable's __index holds, or the fields of an object that is a table.
local function methods(object)
  if type(object) == 'table' then return names(object) end
  local index = debug.getmetatable(object).__index
  assert(type(index) == 'table', 'the methods of ' .. tostring(object) .. ' are not a table')
  return names(index)
end

-- What `a` has and `b` lacks, but for what not every object has.
local function difference(a, b)
  local only = {}
  for name, how in pairs(a) do
    if not b[name] and how ~= 'optional' then only[#only + 1] = name end
  end
  table.sort(only)
  return table.concat(only, ', ')
end

local function compare(class, written, there)
  local missing, extra = difference(there, written), difference(written, there)
  assert(missing == '', ('%s has these, and lua/library does not say so: %s'):format(class, missing))
  assert(extra == '', ('lua/library says that %s has these: %s'):format(class, extra))
end

describe('lua/library', function()
  local classes = annotated(support.root .. '/lua/library/ipc.lua')

  it('annotates the module as it is', function() compare('ipc', classes.ipc, names(ipc)) end)

  for class, written in pairs(classes) do
    if class ~= 'ipc' then
      it('annotates ' .. class .. ' as it is', function()
        local inside = class:match '^ipc%.([%w_]+)$'
        local object
        if make[class] then
          object = make[class]()
        else
          object = inside and ipc[inside]
          assert(type(object) == 'table', 'spec/annotations_spec.lua does not know how to make an ' .. class)
        end
        compare(class, written, methods(object))
        if type(object) ~= 'table' then assert.equal(class, ipc.type(object)) end
      end)
    end
  end

  it('misses no class that the library makes', function()
    for class in pairs(classes) do
      if make[class] then make[class]() end
    end
    -- Metatables of ours that this state has made lie in the registry.
    for _, value in pairs(debug.getregistry()) do
      local name = type(value) == 'table' and rawget(value, '__name')
      if type(name) == 'string' and name:match '^ipc%.' then
        assert(classes[name], 'lua/library/ipc.lua has no ---@class ' .. name)
      end
    end
  end)
end)
