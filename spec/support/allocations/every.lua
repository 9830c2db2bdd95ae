-- Calls every bound function, with arguments of many kinds, while the library gets no memory from the C library.
--
--   lua every.lua LIBRARY PROGRESS
--
-- What a function raises is its own affair here, as long as it raises: PROGRESS is a file that holds the call that was made last.
-- The functions are found, not listed: all C functions that Lua can come by whose first upvalue is the library's state. One that
-- this file has no way to call is an error.
local library, progress = ...
local ipc = require 'libipc'
local torch = require 'ipc.torch'
local memory = assert(package.loadlib(library, 'luaopen_out_of_memory'))()
assert(memory.patch 'libipc.so' > 0, 'the library imports no allocator')
local unpack = rawget(table, 'unpack') or unpack

local state = assert(debug.getregistry()['libipc.state'])
local function is_bound(f)
  if type(f) ~= 'function' or debug.getinfo(f, 'S').what ~= 'C' then return false end
  local _, upvalue = debug.getupvalue(f, 1)
  return rawequal(upvalue, state)
end

-- Function → a name of it, for all that tables hold from `root` on.
local function collect(root, path, found, seen)
  if seen[root] then return found end
  seen[root] = true
  local meta = debug.getmetatable(root)
  if type(meta) == 'table' then collect(meta, path .. '<meta>', found, seen) end
  if type(root) ~= 'table' then return found end
  for k, v in next, root do
    local name = path .. '.' .. (type(k) == 'string' and #k < 60 and k or type(k))
    if is_bound(v) then
      found[v] = found[v] or name
    elseif type(v) == 'table' or type(v) == 'userdata' then
      collect(v, name, found, seen)
    end
  end
  return found
end

local function quiet() end

-- Kept, so that clients find it.
local server, port = ipc.server()

-- How to come by an object of each class.
local make = {
  function() return ipc.map(0, quiet) end,
  function() return ipc.pool(1) end,
  function() return ipc.pool(1):submit(type, 1) end,
  function() return ipc.pool(1):batch() end,
  function() return (ipc.workqueue()) end,
  function() return ipc.channel() end,
  function() return ipc.mutex() end,
  function() return ipc.flock(os.tmpname()) end,
  function() return ipc.fd(1) end,
  function() return ipc.after(0) end,
  function() return ipc.atomic() end,
  function() return ipc.sharedtable { 1, a = 'b' } end,
  function() return ipc.report() end,
  function() return ipc.spawn { file = 'true' } end,
  function() return ipc.marshal { 1, {} } end,
  function() return (ipc.server()) end,
  function() return ipc.client('127.0.0.1', port, { connect_timeout = 10, timeout = 1 }) end,
  function()
    local other, at = ipc.server()
    local client, handle = ipc.client('127.0.0.1', at, { connect_timeout = 10 })
    other:clients(1, function(c) handle = c end)
    client:send 'something'
    return handle
  end,
  function() return torch.range(1, 6) end,
  function() return torch.LongTensor(2, 3):fill(1) end,
  function() return torch.DoubleStorage(6) end,
}

-- These wait where they get no time-out, in the place where it belongs.
local timed = { recv = { { 0 }, { {}, 0 } }, recvAny = { { nil, 0 } }, clients = { { 0, quiet }, { quiet } }, read = { { 0 } },
  get = { { 0 } }, wait = { { nil, 0 }, { 0, 0 } }, join = { { 0 } }, results = { { 0 } }, next = { { 0 } }, lock = { { 0 } },
  barrier = { { 2, 0 }, { 1 } }, drain = { { 0 } }, select = { { {}, 0 } }, sleep = { { 0 } }, waitpid = { { 1, 0 } },
  stdout = { { 1, 0 } }, stderr = { { 1, 0 } }, stdin = { { 'x', 0 } }, items = { { 0 } }, tryrecv = { { 0 } }, close = { {} },
  client = { { '127.0.0.1', 1, { connect_timeout = 0 } } }, write = { { 1 }, { ('x'):rep(20000), {} } }, with = { { quiet } },
  flock = { { os.tmpname(), 0 }, { ('/no'):rep(9000), 0 } }, map = { { 1, quiet }, { quiet, { 1, 2 }, 9 } },
  pool = { { 1 } }, every = { { 1 } }, each = { { quiet, { 1 }, 9 } }, spawn = { { { file = 'true' } } },
  tree = { {} }, server = { {}, { 'localhost' } }, tic = { {} }, kill = { {}, { 9 } }, }
-- These make a process, read and write what is not ours, or change how others work: their own chunks test them.
local left_out = { fork = true, scheduler = true, save = true, load = true, __signals = true, __poll = true,
  __end_with = true, __meeting = true, __meeting_find = true }

local long, list = ('x'):rep(20000), {}
for i = 1, 3000 do list[i] = i end
local tensor = torch.range(1, 6)
local general = { {}, { 0 }, { 1 }, { 1, 1 }, { 'text' }, { long }, { list }, { {} }, { quiet }, { tensor }, { tensor, tensor },
  { tensor, 1 }, { 1, tensor }, { torch.LongTensor { 1, 2 } }, { 'k', 'v' }, { long, long }, { 2, 3, 1 } }

local few = { {}, { 0 }, { 'text' }, { long }, { {} }, { quiet }, { tensor } }

local at = assert(io.open(progress, 'wb'))
local calls, done = 0, {}
local plans = { { 1, 1 }, { 3, 1 }, { 1, 2 ^ 50 }, { 3, 2 ^ 50 }, { 9, 2 ^ 50 } }

local function try(name, f, this, arguments)
  for _, plan in ipairs(plans) do
    at:seek 'set'
    at:write(('%s %d %d%s'):format(name, plan[1], plan[2] == 1 and 1 or 0, (' '):rep(80)))
    at:flush()
    -- What a thread in the background had no memory for, a moment after the last call, is told by the next one.
    local made, object = pcall(this or quiet)
    if not made then object = this() end
    memory.plan(plan[1], plan[2], 0)
    memory.arm(true)
    if this then pcall(f, object, unpack(arguments, 1, 4)) else pcall(f, unpack(arguments, 1, 4)) end
    memory.arm(false)
    pcall(ipc.cpus)
    calls = calls + 1
  end
end

local function short(name) return name:match '([%w_]+)$' end

local function call(name, f, this)
  if left_out[short(name)] then return end
  local tensors = name:find 'torch' ~= nil
  for _, arguments in ipairs(not tensors and timed[short(name)] or tensors and general or few) do try(name, f, this, arguments) end
end

for _, this in ipairs(make) do
  local meta = debug.getmetatable(this())
  local class = ipc.type(this())
  for f, name in pairs(collect(meta, class, {}, {})) do
    if not done[f] then
      done[f] = true
      call(name, f, this)
    end
  end
  collectgarbage()
end
for name, root in pairs { ipc = ipc, torch = torch } do
  for f, path in pairs(collect(root, name, {}, {})) do
    if not done[f] then
      done[f] = true
      call(path, f)
    end
  end
end

local missed = {}
for f, name in pairs(collect(debug.getregistry(), 'registry', collect(_G, '_G', {}, {}), {})) do
  -- What only the registry and the searchers of `require` hold no program calls by itself.
  local inner = name:find '^registry%.number' or name:find '^_G%.package'
  if not done[f] and not inner then missed[#missed + 1] = name end
end
table.sort(missed)
print(calls .. ' calls')
if #missed > 0 then print('no way to call: ' .. table.concat(missed, ', ')) end
server:close()
os.exit(#missed == 0 and 0 or 1)
