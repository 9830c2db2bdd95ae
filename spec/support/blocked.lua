-- Every call that can wait for ever, as a piece of code that calls `ready()` and then does: by name. `ipc` is there.
local blocked = {}

-- For ipc.spawn: a child that ends with its parent, so that none is left behind where the parent is killed.
local child = [[
  local p = ipc.spawn {
    file = 'sh', args = { '-c', ('while kill -0 %d; do sleep 0.05; done 2>/dev/null'):format(ipc.getpid()) },
    stderr = 'pipe',
  }
]]
-- A thread that waits until it is cancelled, with the rest of the program.
local idle = "local function idle() require 'libipc'.sleep(math.huge) end "
-- Server and client at the two ends of a connection; the names of trees are their own.
local connected = [[
  local server, port = ipc.server()
  local client = ipc.client(port)
  server:clients(1, function() end)
]]
-- In two steps: Lua copies what is to be repeated a byte at a time otherwise.
local much = "local much = ('x'):rep(10000):rep(10000) "

blocked.waits = {
  ['ipc.sleep'] = 'ready() ipc.sleep(math.huge)',
  ['ipc.waitpid'] = [[
    local parent = ipc.getpid()
    local pid = ipc.fork()
    if pid == 0 then
      while ipc.getppid() == parent do ipc.sleep(0.01) end
      os.exit(0)
    end
    ready()
    ipc.waitpid(pid)
  ]],
  ['ipc.select'] = 'local a, b = ipc.channel(), ipc.workqueue() ready() ipc.select { a, b }',
  ['timer:read'] = 'local t = ipc.after(1e6) ready() t:read()',
  ['process:wait'] = child .. 'ready() p:wait()',
  ['process:stdout'] = child .. 'ready() p:stdout()',
  ['process:stderr'] = child .. "ready() p:stderr '*l'",
  ['process:stdin'] = child .. "ready() p:stdin(('x'):rep(1000000))",
  ['workqueue:read'] = 'local q = ipc.workqueue() ready() q:read()',
  ['workqueue:read with a timeout'] = 'local q = ipc.workqueue() ready() q:read(1000)',
  ['workqueue:drain'] = 'local q = ipc.workqueue() q:write(1) ready() q:drain()',
  ['workqueue:write'] = 'local q = ipc.workqueue { capacity = 1 } q:write(1) ready() q:write(2)',
  ['channel:read'] = 'local c = ipc.channel() ready() c:read()',
  ['channel:write'] = 'local c = ipc.channel { capacity = 1 } c:write(1) ready() c:write(2)',
  ['channel:items'] = 'local c = ipc.channel() ready() for _ in c:items() do end',
  ['mutex:barrier'] = 'local m = ipc.mutex() ready() m:barrier(2)',
  ['mutex:lock'] = [[
    local m, q = ipc.mutex(), ipc.workqueue()
    local threads = ipc.map(1, function(m, q) m:lock() q:write(1) q:read() end, m, q)
    q:read()
    ready()
    m:lock()
  ]],
  ['mutex:with'] = [[
    local m, q = ipc.mutex(), ipc.workqueue()
    local threads = ipc.map(1, function(m, q) m:lock() q:write(1) q:read() end, m, q)
    q:read()
    ready()
    m:with(function() end)
  ]],
  ['ipc.flock'] = [[
    local path = os.tmpname()
    os.remove(path)
    local holder = ipc.flock(path)
    ready()
    ipc.flock(path)
  ]],
  ['map:join'] = idle .. 'local threads = ipc.map(2, idle) ready() threads:join()',
  ['map:results'] = idle .. 'local threads = ipc.map(2, idle) ready() for _ in threads:results() do end',
  ['future:get'] = idle .. 'local p = ipc.pool(1) local f = p:submit(idle) ready() f:get()',
  ['batch:next'] = idle .. 'local b = ipc.pool(1):batch() b:submit(idle) ready() b:next()',
  ['pool:map'] = idle .. 'local p = ipc.pool(1) ready() p:map(idle, { 1, 2 })',
  ['pool:each'] = idle .. 'local p = ipc.pool(1) ready() for _ in p:each(idle, { 1, 2 }) do end',
  ['pool:close'] = idle .. 'local p = ipc.pool(1) p:submit(idle) ready() p:close()',
  ['BackgroundTask.getResult'] = idle .. "local task = require 'ipc.BackgroundTask'(idle) ready() task.getResult()",
  ['BackgroundTaskPool.getResult'] = idle .. [[
    local pool = require 'ipc.BackgroundTaskPool'(1)
    pool.addTask(idle)
    ready()
    pool.getResult()
  ]],
  ['BackgroundTaskPool.isDone'] = idle .. [[
    local pool = require 'ipc.BackgroundTaskPool'(1)
    local id = pool.addTask(idle)
    ready()
    pool.isDone(id, true)
  ]],
  ['client:recv'] = connected .. 'ready() client:recv()',
  -- Over memory the first message has room, whatever its size.
  ['client:send'] = connected .. much .. 'client:send(1) ready() client:send(much)',
  ['handle:recv'] = connected .. 'ready() server:clients(1, function(handle) handle:recv() end)',
  ['server:clients'] = 'local server = ipc.server() ready() server:clients(1, function() end)',
  ['server:broadcast'] = connected .. much .. 'server:broadcast(1) ready() server:broadcast(much)',
  ['server:recvAny'] = 'local server = ipc.server() ready() server:recvAny()',
  -- Nobody else has trees of these names.
  ['a tree that waits for its nodes'] = "ready() require 'ipc.LocalhostTree'(1, 2, 1000000 + ipc.getpid())",
  ['a tree that looks for its root'] = "ready() require 'ipc.LocalhostTree'(2, 2, 2000000 + ipc.getpid())",
  ['tree.allReduce'] = [[
    local name, q = 3000000 + ipc.getpid(), ipc.workqueue()
    local threads = ipc.map(1, function(name, q)
      local tree = require 'ipc.LocalhostTree'(2, 2, name)
      q:read()
      tree.close()
    end, name, q)
    local tree = require 'ipc.LocalhostTree'(1, 2, name)
    ready()
    tree.allReduce(1, 'sum')
  ]],
  ['a coroutine'] = [[
    local q = ipc.workqueue()
    ready()
    coroutine.wrap(function() q:read() end)()
  ]],
}

local program = [[
  local ipc = require 'libipc'
  local waits, begun, list = require 'spec.support.blocked'.waits, ipc.atomic(0), {}
  for name in (%q):gmatch '[^\n]+' do list[#list + 1] = waits[name] end
  local m = ipc.map(#list, function(begun, list, id)
    local load = loadstring or load
    local body = assert(load('local ipc, ready = ... ' .. list[id]))
    body(require 'libipc', function() begun:add(1) end)
    error 'it did not wait'
  end, begun, list)
  while begun:get() < #list do
    ipc.sleep(0.001)
    m:checkErrors()
  end
  ipc.sleep(0.02)
]]

--- A program, for support.start, whose threads wait: in the calls of these names, or in all of them. `m` is their map, `#list` how
--- many they are. It goes on once all have said that they are ready, and most have come to wait.
function blocked.threads(names)
  if not names then
    names = {}
    for name in pairs(blocked.waits) do names[#names + 1] = name end
  end
  return program:format(table.concat(names, '\n'))
end

return blocked
