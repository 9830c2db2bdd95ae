-- Ctrl-C at a blocked call ends the program as it would a plain Lua program (§0), on every Lua: the interpreter's own
-- handler says `interrupted!`.
local support = require 'spec.support'

local head = [[
  local ipc = require 'libipc'
  local function ready() io.stdout:write 'ready' io.stdout:flush() end
]]

local blocked = require 'spec.support.blocked'.waits

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
      -- As elsewhere: no place inside of this library.
      assert.is_nil(r.stderr:find('libipc:', 1, true), r.stderr)
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
      -- As elsewhere: no place inside of this library.
      assert.is_nil(r.stderr:find('libipc:', 1, true), r.stderr)
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
