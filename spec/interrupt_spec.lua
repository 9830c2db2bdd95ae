-- Ctrl-C at a blocked call ends the program as it would a plain Lua program (§0), on every Lua: the interpreter's own
-- handler says `interrupted!`.
local support = require 'spec.support'

local head = [[
  local ipc = require 'libipc'
  local function ready() io.stdout:write 'ready' io.stdout:flush() end
]]

-- Each blocks for ever after it has said `ready`.
local blocked = {
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
  ['spawn:wait'] = "local p = ipc.spawn { file = 'sleep', args = { 100 } } ready() p:wait()",
  ['spawn:stdout'] = "local p = ipc.spawn { file = 'sleep', args = { 100 } } ready() p:stdout()",
  ['spawn:stdin'] = "local p = ipc.spawn { file = 'sleep', args = { 100 } } ready() p:stdin(('x'):rep(1000000))",
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
  ['map:join'] = [[
    local q = ipc.workqueue()
    local threads = ipc.map(2, function(q) q:read() end, q)
    ready()
    threads:join()
  ]],
  ['future:get'] = [[
    local p, q = ipc.pool(1), ipc.workqueue()
    local f = p:submit(function(q) q:read() end, q)
    ready()
    f:get()
  ]],
  ['pool:map'] = "ready() ipc.pool(1):map(function() require('libipc').sleep(1000) end, { 1, 2 })",
  ['pool:close'] = [[
    local p = ipc.pool(1)
    p:submit(function() require('libipc').sleep(1000) end)
    ready()
    p:close()
  ]],
  ['BackgroundTask.getResult'] = [[
    local task = require 'ipc.BackgroundTask'(function() require('libipc').sleep(1000) end)
    ready()
    task.getResult()
  ]],
  ['BackgroundTaskPool.getResult'] = [[
    local pool = require 'ipc.BackgroundTaskPool'(1)
    pool.addTask(function() require('libipc').sleep(1000) end)
    ready()
    pool.getResult()
  ]],
  ['client:recv'] = 'local _, port = ipc.server() local client = ipc.client(port) ready() client:recv()',
  ['server:recvAny'] = 'local server = ipc.server() ready() server:recvAny()',
  ['a tree that waits for its nodes'] = "ready() require 'ipc.LocalhostTree'(1, 2)",
  ['a tree that looks for its root'] = "ready() require 'ipc.LocalhostTree'(2, 2)",
  ['tree.allReduce'] = [[
    local parent = ipc.getpid()
    if ipc.fork() == 0 then
      local tree = require 'ipc.LocalhostTree'(2, 2)
      while ipc.getppid() == parent do ipc.sleep(0.01) end
      os.exit(0)
    end
    local tree = require 'ipc.LocalhostTree'(1, 2, parent)
    ready()
    tree.allReduce(1, 'sum')
  ]],
  ['a coroutine'] = [[
    local q = ipc.workqueue()
    ready()
    coroutine.wrap(function() q:read() end)()
  ]],
}

local function start(body, lua)
  local p = support.start(head .. body .. " print 'went on'", { lua = lua })
  support.eventually(function() return p:output():match 'ready' or not p:running() end)
  return p
end

describe('Ctrl-C', function()
  for name, body in pairs(blocked) do
    it('ends a program that waits in ' .. name, function()
      local p = start(body)
      p:kill 'INT'
      local r = p:wait()
      assert.equal('ready', r.stdout, r.stderr)
      assert.equal(1, r.status, r.stderr)
      assert.matches('interrupted!', r.stderr)
    end)
  end

  it('ends a program that waits on its only core', function()
    for _, what in ipairs { 'client:recv', 'workqueue:read' } do
      local p = start(blocked[what], support.on_one_core())
      p:kill 'INT'
      local r = p:wait()
      assert.equal('ready', r.stdout, what .. ': ' .. r.stderr)
      assert.equal(1, r.status, r.stderr)
      assert.matches('interrupted!', r.stderr)
    end
  end)

  it('can be caught, and the program goes on', function()
    local p = start [[
      local q = ipc.workqueue()
      -- Ready only inside pcall: the signal may come before the read.
      local ok, e = pcall(function() ready() q:read() end)
      q:write(1)
      io.stdout:write(tostring(ok), ' ', tostring(e):match 'interrupted!', ' ', (q:pending()))
      os.exit(0)
    ]]
    p:kill 'INT'
    local r = p:wait()
    assert.equal('readyfalse interrupted! 1', r.stdout, r.stderr)
    assert.equal(0, r.status)
  end)

  it('does not shorten a wait when the handler raises nothing', function()
    local p = support.start(head .. [[
      local q = ipc.workqueue()
      ready()
      local start = ipc.clock()
      assert(q:read(0.5) == nil)
      assert(ipc.clock() - start >= 0.5)
      print 'waited'
    ]])
    support.eventually(function() return p:output():match 'ready' end)
    -- Signals without a handler in Lua: stop and go on.
    for _ = 1, 5 do
      p:kill 'STOP'
      p:kill 'CONT'
      support.sleep(0.02)
    end
    local r = p:wait()
    assert.equal('readywaited\n', r.stdout, r.stderr)
  end)
end)
