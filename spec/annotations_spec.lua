-- lua/library/*.lua (annotations for the language server, and the source of the manual) against what the library
-- exports at run time, both ways: no function without its page, no page without its function.
local support = require 'spec.support'
local ipc = require 'libipc'

-- What others need for as long as they are looked at: a server that is collected is closed.
local held = {}
local function hold(object)
  held[#held + 1] = object
  return object
end

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
  ['ipc.client'] = function()
    local server, port = ipc.server()
    return ipc.client(hold(server) and port)
  end,
  ['ipc.server.client'] = function()
    local server, port = ipc.server()
    local client, handle = ipc.client(hold(server) and port)
    server:clients(1, function(c) handle = c end)
    client:close()
    return handle
  end,
}

-- The classes of tables of options, and a call that takes each: what it says of an unknown option names all there are.
local nodes = { StaticTree = { 1, 1, nil, nil, nil, nil }, DiscoveredTree = { 1, 1, nil, nil, nil, nil },
  LocalhostTree = { 1, 1, nil }, Tree = { 1, 1, nil, nil, nil, nil, nil, nil }, NullTree = {} }
local places = { StaticTree = 7, DiscoveredTree = 7, LocalhostTree = 4, Tree = 9, NullTree = 1 }
local unpack = table.unpack or unpack -- luacheck: ignore 143
local takes = {
  CallOptions = { function(o) ipc.mutex():lock(o) end, function(o) require 'ipc.NullTree'().barrier(o) end },
  RegisterOptions = { function(o) ipc.register('x', {}, o) end },
  CodeOptions = { function(o) ipc.unmarshal('', o) end },
  ConnectionOptions = { function(o) ipc.server('127.0.0.1', 0, o) end, function(o) ipc.client('127.0.0.1', 1, o) end },
  SendOptions = { function(o) make['ipc.server.client']():send(1, o) end, function(o) make['ipc.client']():send(1, o) end },
  BroadcastOptions = {
    function(o) make['ipc.server']():broadcast(1, o) end, function(o) make['ipc.server']():broadcast(1, 'tag', o) end,
  },
  RecvAnyOptions = { function(o) make['ipc.server']():recvAny(o) end },
  MapOptions = { function(o) ipc.map(o) end },
  PoolOptions = { function(o) ipc.pool(o) end, function(o) ipc.pool(1, o) end },
  BackgroundTaskPoolOptions = { function(o) require 'ipc.BackgroundTaskPool'(1, o) end },
  WorkqueueOptions = { function(o) ipc.workqueue(o) end },
  ChannelOptions = { function(o) ipc.channel(o) end },
  MutexOptions = { function(o) ipc.mutex(o) end },
  SchedulerOptions = { function(o) ipc.scheduler(o) end },
  SpawnOptions = { function(o) ipc.spawn(o) end },
  TreeOptions = {},
  LaunchOptions = { function(o) ipc.tree(o) end },
}
for name, arguments in pairs(nodes) do
  table.insert(takes.TreeOptions, function(o)
    arguments[places[name]] = o
    require('ipc.' .. name)(unpack(arguments, 1, places[name]))
  end)
end

-- The classes of tables that calls return.
local records = {
  ['ipc.Report.Object'] = function()
    hold(ipc.channel())
    return ipc.report().objects[1]
  end,
  ['ipc.Report.Thread'] = function()
    -- One that waits, so that there is one at all.
    local c = ipc.channel()
    local map = ipc.map(1, function(c) c:read() end, c) -- luacheck: ignore 431
    local thread = support.eventually(function() return ipc.report().threads[1] end)
    c:close()
    map:join()
    return thread
  end,
  ['ipc.DirectionStats'] = function() return make['ipc.client']():netStats().tx end,
  ['ipc.ConnectionStats'] = function() return make['ipc.client']():netStats() end,
  ['ipc.ServerStats'] = function() return make['ipc.server']():netStats() end,
}

-- ---- what is annotated: class → set of names ----------------------------------------------------------------------

local function annotated(path)
  local classes, class_of, pending, class = {}, {}, nil, nil
  local keys, bases, aliases, alias = {}, {}, {}, nil
  for line in (support.read(path) .. '\n'):gmatch '(.-)\n' do
    local named, rest = line:gsub('%(exact%) ', ''):match '^%-%-%-@class ([%w_.]+)(.*)'
    if named then
      pending, class = named, named
      classes[named] = classes[named] or {}
      bases[named] = rest:match '^: (ipc%.[%w_]+)'
      keys[named] = rest:match 'table<(.-), any>'
    end
    local field, optional = line:match '^%-%-%-@field ([%w_]+)(%??)'
    field = field or line:match "^%-%-%-@field %['([^']+)'%]"
    if field and class then classes[class][field] = optional == '?' and 'optional' or true end
    alias = line:match '^%-%-%-@alias ([%w_.]+)$' or line:match '^%-%-%-|' and alias or nil
    if alias then aliases[alias] = (aliases[alias] or '') .. (line:match "'[%w_]+'" or '') end
    local variable = line:match '^local ([%w_]+) = {}'
    if variable and pending then class_of[variable], pending = pending, nil end
    local owner, name = line:match '^function ([%w_]+)[.:]([%w_]+)%('
    if owner then
      assert(class_of[owner], path .. ': no ---@class above `local ' .. owner .. '`: ' .. line)
      classes[class_of[owner]][name] = true
    end
  end
  -- What a class has of another one.
  for name, base in pairs(bases) do
    for field, how in pairs(classes[base]) do classes[name][field] = how end
  end
  -- Of options: the names by which a language server knows an unknown one.
  for name, list in pairs(keys) do
    list = list:gsub('[%w_.]+', function(word) return aliases[word] end)
    keys[name] = {}
    for option in list:gmatch "'([%w_]+)'" do keys[name][option] = true end
  end
  local objects = {}
  for _, name in pairs(class_of) do objects[name] = classes[name] end
  return objects, classes, keys
end

-- ---- what is there ------------------------------------------------------------------------------------------------

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
  local classes, all, keys = annotated(support.root .. '/lua/library/ipc.lua')

  it('annotates the module as it is', function() compare('ipc', classes.ipc, names(ipc)) end)

  for class, written in pairs(classes) do
    if class ~= 'ipc' then
      it('annotates ' .. class .. ' as it is', function()
        local inside = class:gsub('%.module$', ''):match '^ipc%.([%w_]+)$'
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

  it('names each option of each call, and no other', function()
    for name, calls in pairs(takes) do
      local class = 'ipc.' .. name
      assert(#calls > 0 and all[class], 'lua/library/ipc.lua has no ---@class ' .. class)
      for _, call in ipairs(calls) do
        local e = support.fails(call, { ['no such option'] = 1 })
        local known = {}
        for option in (e:match 'known are ([%w_, ]+)'):gmatch '[%w_]+' do known[option] = true end
        for option in pairs(known) do
          assert(all[class][option], ('%s has no field %s: %s'):format(class, option, e))
        end
        assert.equal('', difference(all[class], known))
        assert.same(known, keys[class])
      end
    end
    for class in pairs(all) do
      local name = class:match '^ipc%.(%w+Options)$'
      assert(not name or takes[name] or not keys[class], 'spec/annotations_spec.lua does not know ' .. class)
    end
  end)

  it('names the fields of what calls return', function()
    for class, get in pairs(records) do compare(class, all[class], names(get())) end
    for class in pairs(all) do
      assert(classes[class] or records[class] or class:match 'Options$' or class == 'ipc.sharedtable',
        'spec/annotations_spec.lua does not know ' .. class)
    end
  end)

  -- `require 'ipc.Tree'` in a language server: a file of that name, which says so.
  it('has a file for each module that is installed for users', function()
    local internal = { cmdline = true, launch = true, surroundings = true, utils = true }
    for file in support.sh(("ls '%s/lua/ipc'"):format(support.root)):gmatch '([%w_]+)%.lua' do
      local path = ('%s/lua/library/ipc/%s.lua'):format(support.root, file)
      if not internal[file] then
        assert(support.exists(path), 'lua/library/ipc has no ' .. file .. '.lua')
        assert.equal('---@meta ipc.' .. file, support.read(path):match '^[^\n]+')
      end
    end
    assert.equal('---@meta ipc', support.read(support.root .. '/lua/library/ipc.lua'):match '^[^\n]+')
    for _, name in ipairs { 'libipc', 'torch', 'sys' } do
      assert.equal('---@meta ' .. name, support.read(('%s/lua/library/%s.lua'):format(support.root, name)):match '^[^\n]+')
    end
  end)

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
