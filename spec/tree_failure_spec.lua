-- How trees end badly: dead nodes, silent ones, calls that do not match, functions that raise. Nothing hangs, and every
-- node learns who it was.
local ipc = require 'libipc'
local utils = require 'ipc.utils'
local support = require 'spec.support'
local trees = require 'spec.support.trees'

local function all_say(errors, code, ...)
  for i, e in ipairs(errors) do
    assert.equal(code, ipc.errcode(e), ('node %d: %s'):format(i, e))
    for _, word in ipairs { ... } do assert.matches(word, e, 1, true) end
  end
end

describe('calls that do not match', function()
  it('name the node that called another operation', function()
    local errors = trees.errors(4, function(tree, i)
      if i == 3 then tree.scatter(1) else tree.allReduce(1, function(a, b) return a + b end) end
    end)
    all_say(errors, 'mismatch', 'node 3 called scatter where node 1 called allReduce')
    errors = trees.errors(4, function(tree, i)
      if i == 1 then tree.scatter(1) else tree.barrier() end
    end)
    all_say(errors, 'mismatch', 'called barrier where node 1 called scatter')
  end)

  it('name the node that reduces by another function', function()
    local errors = trees.errors(3, function(tree, i) tree.allReduce(1, i == 2 and 'max' or 'sum') end)
    all_say(errors, 'mismatch', 'node 2 called allReduce by max where node 1 called allReduce by sum')
  end)

  it('name the node that has another size, and both sizes', function()
    local errors = trees.errors(4, function(tree, i)
      local torch = require 'ipc.torch'
      tree.allReduce({ w = torch.FloatTensor(i == 4 and 3 or 4) }, 'sum')
    end)
    all_say(errors, 'mismatch', 'node 4', 'w: torch.FloatTensor 3', 'node 2', 'w: torch.FloatTensor 4')
    errors = trees.errors(4, function(tree, i)
      local torch = require 'ipc.torch'
      tree.allReduce(torch.FloatTensor(i == 1 and 300000 or 200000), 'sum')
    end)
    all_say(errors, 'mismatch', 'torch.FloatTensor 300000', 'torch.FloatTensor 200000')
  end)

  it('name the node that has another type, shape or key', function()
    local errors = trees.errors(2, function(tree, i)
      local torch = require 'ipc.torch'
      tree.allReduce(i == 1 and torch.FloatTensor(3) or torch.DoubleTensor(3), 'sum')
    end)
    all_say(errors, 'mismatch', 'node 2', 'torch.DoubleTensor 3', 'torch.FloatTensor 3')
    errors = trees.errors(2, function(tree, i) tree.allReduce({ [i == 1 and 'a' or 'b'] = 1 }, 'sum') end)
    all_say(errors, 'mismatch', 'b: number', 'a: number')
    errors = trees.errors(2, function(tree, i)
      tree.allReduce({ [i] = { w = 1 }, [i + 1] = { w = 1 } }, 'sum')
    end)
    all_say(errors, 'mismatch', '1.w: number', '2.w: number')
    errors = trees.errors(2, function(tree, i)
      local torch = require 'ipc.torch'
      tree.scatter(torch.FloatTensor(i))
    end)
    all_say(errors, 'mismatch', 'torch.FloatTensor 1', 'torch.FloatTensor 2')
  end)

  it('are noticed by all while a large result is on its way down', function()
    -- Node 2 has no value of its own: it learns from the result that its child has another. All stay until all know.
    local results = trees.threads(4, function(tree, i, failed)
      local torch, ipc = require 'ipc.torch', require 'libipc' -- luacheck: ignore 431
      local ok, e = pcall(function()
        tree.scatter(i ~= 2 and torch.FloatTensor(i == 4 and 3 or 5e6) or nil)
        tree.barrier() -- the root may have sent all and been told of nothing yet
      end)
      assert(not ok)
      failed:add(1)
      while failed:get() < 4 do ipc.sleep(0.005) end
      return e
    end, { timeout = 30 }, ipc.atomic(0))
    local errors = {}
    for i = 1, 4 do errors[i] = results[i][2] end
    all_say(errors, 'mismatch', 'torch.FloatTensor 3', 'torch.FloatTensor 5000000')
  end)

  it('break the tree until it is closed', function()
    local values = trees.values(3, function(tree, i)
      assert(not pcall(tree.allReduce, i == 2 and 'x' or 1, function(a) return a end))
      assert(tostring(tree):find 'broken')
      local _, e = pcall(tree.barrier)
      tree.close()
      local _, closed = pcall(tree.barrier)
      return e .. ' / ' .. closed
    end)
    for i = 1, 3 do
      assert.matches('libipc [state] tree.barrier: the tree is broken, close it: node 2', values[i], 1, true)
      assert.matches('libipc [state] tree.barrier: the tree is closed', values[i], 1, true)
    end
  end)
end)

describe('functions that raise', function()
  it('keep their error at home, and tell the others whose they were', function()
    local errors = trees.errors(4, function(tree, i)
      local torch = require 'ipc.torch'
      local value = { torch.FloatTensor(300000):fill(1), torch.FloatTensor(200000):fill(1), torch.FloatTensor(9) }
      tree.allReduce(value, function(a, b)
        if i == 1 then error 'boom' end
        return a:add(b)
      end)
    end)
    assert.matches(': boom$', errors[1])
    assert.is_nil(ipc.errcode(errors[1]))
    table.remove(errors, 1)
    all_say(errors, 'worker', 'the reduce function of node 1 raised', 'boom')
  end)

  it('raise where a value cannot travel or a result is of no use', function()
    local errors = trees.errors(3, function(tree, i)
      tree.allReduce(i == 3 and coroutine.create(print) or 5, function(a) return a end)
    end)
    assert.equal(3, #errors)
    errors = trees.errors(3, function(tree) tree.allReduce(5, function() end) end)
    all_say(errors, 'argument', 'the reduce function of node 1 returned nil for number')
    errors = trees.errors(3, function(tree)
      tree.allReduce(require 'ipc.torch'.FloatTensor(3):fill(1), function() return 1 end)
    end)
    all_say(errors, 'argument', 'the reduce function of node 1 returned number for a tensor')
  end)

  it('raise at every node where one is given a value that it refuses before it sends anything', function()
    for _, case in ipairs { { 'cycle', 'inside itself' }, { 'key', 'key' }, { 'text', 'takes numbers' } } do
      local errors = trees.errors(4, function(tree, i, kind)
        local ipc = require 'libipc' -- luacheck: ignore 431
        local value = { a = 1 }
        if i == 2 then
          if kind == 'cycle' then value.a = value elseif kind == 'key' then value[{}] = 1 else value.a = 'text' end
        end
        local ok, e = pcall(tree.allReduce, value, 'sum')
        -- It tells the others, who do not wait for its end.
        if i == 2 then ipc.sleep(0.2) end
        if not ok then error(e, 0) end
      end, nil, case[1])
      for i, e in ipairs(errors) do
        assert.matches(case[2], e, 1, true)
        if i ~= 2 then assert.matches('node 2 failed in allReduce by sum', e, 1, true) end
      end
    end
    local errors = trees.errors(3, function(tree, i)
      local value = {}
      if i == 1 then value.own = value end
      tree.scatter(value)
    end)
    for i = 2, 3 do assert.matches('node 1 failed in scatter', errors[i], 1, true) end
  end)

  it('raise at every node where a tensor has got another size', function()
    -- Written out: bodies take no upvalues along.
    for _, body in ipairs {
      function(tree)
        tree.allReduce(require 'ipc.torch'.FloatTensor(4):fill(1), function(a) return a:resize(20) end)
      end,
      function(tree)
        tree.allReduce(require 'ipc.torch'.FloatTensor(4):fill(1), function(a, b) b:resize(1000000) return a end)
      end,
      function(tree)
        tree.allReduce(require 'ipc.torch'.FloatTensor(4):fill(1), function(a) a:set(require 'ipc.torch'.FloatTensor(2, 2)) end)
      end,
      function(tree)
        tree.allReduce(require 'ipc.torch'.FloatTensor(4):fill(1), function(a) return a:resize(0) end)
      end,
    } do
      all_say(trees.errors(3, body), 'argument', 'the reduce function of node 1 changed the size of a tensor')
    end
  end)

  it('may not use the tree that they are called by', function()
    local values = trees.values(2, function(tree)
      local inner
      local sum = tree.allReduce(1, function(a, b)
        local _
        _, inner = pcall(tree.barrier)
        return a + b
      end)
      return { sum, inner or 'not called' }
    end)
    assert.equal(2, values[1][1])
    assert.matches('libipc [state] tree.barrier: allReduce by a function is still running', values[1][2], 1, true)
  end)
end)

describe('a node that goes', function()
  it('by closing its tree is named to all', function()
    local values = trees.threads(5, function(tree, i)
      if i == 4 then return tree.close() end
      tree.barrier()
    end)
    for i = 1, 5 do
      assert.equal(i == 4, values[i][1])
      if i ~= 4 then
        assert.equal('closed', ipc.errcode(values[i][2]))
        assert.matches('node 4 closed its tree', values[i][2], 1, true)
      end
    end
  end)

  -- Kills node `victim` of seven while the others are in `call`; what the others raised.
  local function survivors(victim, call)
    local path = support.tmpname()
    support.check(([[
      local ipc = require 'libipc'
      local torch = require 'ipc.torch'
      local parent = ipc.getpid()
      local pids = {}
      for i = 1, 7 do
        pids[i] = ipc.fork()
        if pids[i] == 0 then
          local tree = require 'ipc.LocalhostTree'(i, 7, parent, { timeout = 100 })
          local t = torch.FloatTensor(100000):fill(1)
          tree.barrier()
          if i == %d then
            local file = io.open('%s.pid.new', 'w')
            file:write(ipc.getpid())
            file:close()
            os.rename('%s.pid.new', '%s.pid')
            ipc.sleep(200)
          end
          local ok, e = pcall(function() return %s end)
          local file = io.open('%s.' .. i, 'w')
          file:write(ok and 'ended well' or e)
          file:close()
          os.exit(0)
        end
      end
      while not io.open '%s.pid' do ipc.sleep(0.01) end
      ipc.sleep(0.1)
      os.execute('kill -9 ' .. io.open('%s.pid'):read '*a')
      for i = 1, 7 do assert(ipc.waitpid(pids[i], 100) == (i == %d and 137 or 0)) end
    ]]):format(victim, path, path, path, call, path, path, path, victim), { timeout = 150 })
    local errors = {}
    for i = 1, 7 do
      if i ~= victim then errors[#errors + 1] = support.read(path .. '.' .. i) end
    end
    return errors
  end

  it('killed in mid-call is named to all, whether leaf, root or between', function()
    for _, victim in ipairs { 1, 2, 7 } do
      all_say(survivors(victim, 'tree.allReduce(t, function(a, b) return a:add(b) end)'), 'closed',
        ('node %d ended or lost its connection'):format(victim))
    end
  end)

  it('killed in a scatter or barrier is named as well', function()
    all_say(survivors(3, 'tree.scatter(t)'), 'closed', 'node 3 ended or lost its connection')
    all_say(survivors(5, 'tree.barrier()'), 'closed', 'node 5 ended or lost its connection')
  end)

  it('while the tree is formed is noticed too', function()
    local asked = support.tmpname()
    local lines = trees.lines(([[
      local parent = ipc.getpid()
      local pids = processes(2, function(i)
        if i == 1 then
          local _, e = pcall(LocalhostTree, 1, 3, parent, { timeout = 100 })
          print(e)
          return
        end
        -- It looks without waiting whether its root is still there: so it has asked that one to join.
        local find = ipc.__meeting_find
        ipc.__meeting_find = function(ppid, key, known, seconds)
          if seconds == 0 then io.open('%s', 'w'):close() end
          return find(ppid, key, known, seconds)
        end
        LocalhostTree(2, 3, parent, { timeout = 100 })
      end)
      while not io.open '%s' do ipc.sleep(0.01) end
      os.execute('kill -9 ' .. pids[2])
      ipc.waitpid(pids[2])
      ipc.waitpid(pids[1])
    ]]):format(asked, asked))
    assert.equal(1, #lines)
    assert.matches('libipc [closed] LocalhostTree: node 2', lines[1], 1, true)
    assert.matches('ended before all nodes had come (missing: ', lines[1], 1, true)
  end)

  it('that waits no longer is not blamed: the root names who is missing', function()
    local root, node = ipc.map(2, function(i)
      return (select(2, pcall(require 'ipc.LocalhostTree', i, 3, nil, { timeout = i == 1 and 100 or 0.3, key = 'missing' })))
    end):join(200)
    assert.matches('libipc [timeout] LocalhostTree: node 2', root, 1, true)
    assert.matches('waited 0.3 s, its time-out, and left before all nodes had come (missing: 3)', root, 1, true)
    assert.matches('libipc [timeout] LocalhostTree: the root gave no place', node, 1, true)
  end)
end)

describe('a silent node', function()
  it('is given its time-out and no more, and named to all', function()
    support.retry(4, function(try)
      -- Node 4 comes when the others have given up.
      local results = trees.threads(4, function(tree, i, shared)
        local ipc = require 'libipc' -- luacheck: ignore 431
        if i == 4 then
          while shared.failed:get() < 3 do ipc.sleep(0.01) end
          return tree.barrier()
        end
        local since = ipc.clock()
        local ok, e = pcall(tree.barrier, { timeout = shared.timeout })
        shared.failed:add(1)
        -- Node 2 is the one who waits for it.
        assert(not ok and (i ~= 2 or ipc.clock() - since >= shared.timeout))
        error(e, 0)
      end, {}, { failed = ipc.atomic(0), timeout = 0.1 * 4 ^ try })
      local errors = {}
      for i = 1, 4 do
        assert.is_false(results[i][1])
        errors[i] = results[i][2]
      end
      all_say(errors, 'timeout', ('node 4 was silent for %g s'):format(0.1 * 4 ^ try))
    end)
  end)

  it('has the time of the constructor or of the environment otherwise', function()
    support.retry(4, function(try)
      local timeout = 0.1 * 3 ^ try
      local results = trees.threads(2, function(tree, i, failed)
        local ipc = require 'libipc' -- luacheck: ignore 431
        if i == 2 then
          while failed:get() == 0 do ipc.sleep(0.01) end
          return
        end
        local ok, e = pcall(tree.barrier)
        failed:add(1)
        assert(ok, e)
      end, { timeout = timeout }, ipc.atomic(0))
      assert.is_false(results[1][1])
      assert.matches(('node 2 was silent for %g s'):format(timeout), results[1][2], 1, true)
    end)
    local out = support.check([[
      local ipc = require 'libipc'
      print(pcall(require 'ipc.LocalhostTree', 1, 2, { key = 'environment' }))
    ]], { env = { IPC_TIMEOUT = '0.2' } })
    assert.matches('[timeout] LocalhostTree: 1 of 2 nodes had not come after 0.2 s', out, 1, true)
    -- Nodes that were started by different parents, as by `timeout`, never meet: it says what to look at.
    assert.matches('meet under their parent, process %d+ here', out)
    out = support.check([[
      print(pcall(require 'ipc.LocalhostTree', 1, 2))
    ]], { env = { IPC_TIMEOUT = 'soon' } })
    assert.matches('IPC_TIMEOUT is "soon": expected a number of seconds', out, 1, true)
  end)
end)

describe('a node that waits', function()
  local Group = require 'ipc.collective.group'
  local Link = require 'ipc.collective.link'
  local barrier = require 'ipc.collective.barrier'
  local clock, sleep = ipc.clock, ipc.sleep
  local now

  before_each(function()
    now = 0
    ipc.clock = function() return now end
    ipc.sleep = function(seconds) now = now + seconds end
  end)
  after_each(function() ipc.clock, ipc.sleep = clock, sleep end)

  -- A neighbour that says what `script` tells, { { when, message }, … }, and keeps the names of what it is sent.
  local function neighbour(index, script, leaf)
    local connection = { sent = {} }
    function connection.tryrecv(_, seconds)
      if not script[1] or script[1][1] > now then now = now + seconds end
      if not script[1] or script[1][1] > now then return false end
      return true, table.remove(script, 1)[2]
    end
    function connection:send(message) self.sent[#self.sent + 1] = message[1] end
    return Link.new(index, connection, leaf), connection.sent
  end

  local function header(direction) return { direction, 1, 'barrier', false } end

  it('is not silent: its neighbours go on waiting', function()
    local parent, sent = neighbour(1, { { 1.5, { 'here', 1, 1 } }, { 3.0, { 'here', 1, 1 } }, { 4.5, header 'down' } })
    barrier(Group.new { index = 2, count = 3, parent = parent, timeout = 2 })()
    assert.same({ 'up' }, sent)
    assert.is_true(now >= 4.5)
  end)

  it('says so to its neighbours, and passes on that others do', function()
    local four, down = neighbour(4, { { 1.5, { 'here', 1, 1 } }, { 3.0, header 'up' } }, false)
    local parent, up = neighbour(1, { { 3.2, header 'down' } })
    barrier(Group.new { index = 2, count = 4, parent = parent, children = { four }, timeout = 2 })()
    assert.same({ 'here', 'here', 'up' }, up)
    -- The one that it waited for first is told that it waits for another now.
    assert.same({ 'here', 'down' }, down)
  end)

  it('names the silent one before anyone blames it', function()
    local four = neighbour(4, {}, true)
    local parent, up = neighbour(1, {})
    local group = Group.new { index = 2, count = 4, parent = parent, children = { four }, timeout = 2 }
    local e = support.fails(barrier(group))
    assert.matches('node 4 was silent for 2 s while node 2 waited', e, 1, true)
    assert.same({ 'here', 'error' }, up)
    assert.is_true(now >= 2 and now < 2.5)
    -- The parent in turn has more patience with node 2, which says that it waits, and the more the farther that is.
    local last = 2
    for _, far in ipairs { 1, 2, 3 } do
      now = 0
      local two = neighbour(2, { { 0, { 'here', 1, far } } })
      e = support.fails(barrier(Group.new { index = 1, count = 4, children = { two }, timeout = 2 }))
      assert.matches('node 2 was silent for 2 s', e, 1, true)
      assert.is_true(now > last and now < 2.6)
      last = now
    end
  end)

  it('tells how far away the silent one is, from node to node', function()
    local four = neighbour(4, { { 0.5, { 'here', 1, 2 } } })
    local parent, up = neighbour(1, {})
    local distances = {}
    local send = parent.connection.send
    function parent.connection.send(connection, message)
      if message[1] == 'here' then distances[#distances + 1] = message[3] end
      return send(connection, message)
    end
    local group = Group.new { index = 2, count = 9, parent = parent, children = { four }, timeout = 2 }
    support.fails(barrier(group))
    assert.same({ 1, 3 }, distances)
    assert.same({ 'here', 'here', 'error' }, up)
  end)

  it('raises without a wait for what a silent neighbour was sending, but takes what still comes', function()
    local torch = require 'ipc.torch'
    local allReduce = require 'ipc.collective.allReduce'
    -- A node whose parent has begun to send its result, of which `bytes(now)` have come; it is whole at `whole`. What it
    -- raises, and when.
    local function receiving(bytes, whole, control)
      now = 0
      local parent = neighbour(1, { { 0, { 'down', 1, 'allReduce by sum', false, 2, true, {}, 1 } } })
      function parent.connection.netStats() return { rx = { num_bytes = bytes(now) } } end
      function parent.connection.recv(_, into, seconds)
        now = now + (seconds or into)
        if now < whole then error('libipc [timeout] client:recv: no whole message', 0) end
        return torch.FloatTensor(10)
      end
      local other = neighbour(9, control or {})
      local group = Group.new { index = 2, count = 9, parent = parent, control = { other }, timeout = 100 }
      return support.fails(allReduce(group), torch.FloatTensor(10), 'sum'), now
    end
    local none = function() return 0 end
    local e, when = receiving(none, math.huge)
    assert.matches('node 1 was silent for 100 s while node 2 waited for its tensor', e, 1, true)
    assert.is_true(when < 100.5)
    -- Another tells of it.
    local told = { { 0.5, { 'error', 'timeout', 'node 1 was silent for 100 s' } } }
    e, when = receiving(none, math.huge, told)
    assert.matches('node 1 was silent', e, 1, true)
    assert.is_true(when < 2)
    -- This one is alive: it is to hear of the failure from those that it sends to, not by the end of its connection.
    told = { { 0.5, { 'error', 'closed', 'node 5 is gone' } } }
    e, when = receiving(function(t) return t end, 4, told)
    assert.matches('node 5 is gone', e, 1, true)
    assert.is_true(when >= 4 and when < 4.5)
  end)

  it('is told of at half its time, by who waits for it', function()
    local tell, told = utils.tell, {}
    function utils.tell(what, ...) told[#told + 1] = ('%g: '):format(math.floor(now + 0.5)) .. what:format(...) end
    local four = neighbour(4, { { 60, header 'up' } }, true)
    local parent = neighbour(1, { { 61, header 'down' } })
    barrier(Group.new { index = 2, count = 4, parent = parent, children = { four }, timeout = 100 })()
    -- One that says that it waits itself is not to blame, nor is anybody by a node that waits for ever.
    now = 0
    local other = neighbour(1, { { 1, { 'here', 1 } }, { 70, header 'down' } })
    barrier(Group.new { index = 2, count = 3, parent = other, timeout = 100 })()
    now = 0
    parent = neighbour(1, { { 1e4, header 'down' } })
    barrier(Group.new { index = 2, count = 2, parent = parent, timeout = math.huge })()
    utils.tell = tell
    assert.same({
      '50: node 2 has waited 50 s for the part of node 4 in barrier (call 1 of this tree), and waits as long again',
    }, told)
  end)

  it('is given as long as it takes, where asked', function()
    for _, options in ipairs { { timeout = false }, { timeout = math.huge } } do
      assert.equal(math.huge, utils.timeout('Tree', 1, options))
    end
    assert.equal('inf 1800 7.5', support.check([[
      require 'libipc'
      local utils = require 'ipc.utils'
      local function seconds(...) return utils.timeout('Tree', 1, ...) end
      print(seconds(), seconds(nil, 1800), seconds { timeout = 7.5 })
    ]], { env = { IPC_TIMEOUT = 'none' } }):gsub('%s+', ' '):gsub(' $', ''))
  end)

  it('hears of a failure also while it receives a tensor', function()
    local torch = require 'ipc.torch'
    local allReduce = require 'ipc.collective.allReduce'
    local up = { 'up', 1, 'allReduce by sum', false, 1, true, {} }
    local failure = { 'error', 'closed', 'node 9 is gone' }
    local four, sent = neighbour(4, { { 0, up }, { 0, failure } }, true)
    -- As a connection does where a message comes that is no tensor, which is lost.
    function four.connection.recv() error('libipc [mismatch] client:recv: a value without tensors came', 0) end
    local group = Group.new { index = 2, count = 9, children = { four }, timeout = 100 }
    local e = support.fails(allReduce(group), torch.FloatTensor(100000), 'sum')
    assert.matches('libipc [closed] tree.allReduce: node 9 is gone', e, 1, true)
    assert.same({ 'go', 'error' }, sent)
    -- So whoever has promised a tensor says it twice.
    local parent, said = neighbour(1, {})
    local other, told = neighbour(5, { { 0.5, failure } }, true)
    group = Group.new { index = 2, count = 9, parent = parent, control = { other }, timeout = 100 }
    e = support.fails(allReduce(group), torch.FloatTensor(100000), 'sum')
    assert.matches('node 9 is gone', e, 1, true)
    assert.same({ 'up', 'error', 'error' }, said)
    assert.same({ 'error' }, told)
    assert.is_true(now < 1)
  end)

  it('raises what it is told by a neighbour that it does not wait for', function()
    local four, five = neighbour(4, {}, true), neighbour(5, { { 0.5, { 'error', 'closed', 'node 9 is gone' } } }, true)
    local group = Group.new { index = 2, count = 9, children = { four, five }, timeout = 100 }
    local e = support.fails(barrier(group))
    assert.matches('libipc [closed] tree.barrier: node 9 is gone', e, 1, true)
    assert.is_true(now < 1)
  end)
end)
