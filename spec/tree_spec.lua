-- How trees come about: who meets whom, who is refused, what is left behind; and what they are besides operations.
local ipc = require 'libipc'
local support = require 'spec.support'
local trees = require 'spec.support.trees'

local LocalhostTree = require 'ipc.LocalhostTree'
local NullTree = require 'ipc.NullTree'
local StaticTree = require 'ipc.StaticTree'
local Tree = require 'ipc.Tree'
local utils = require 'ipc.utils'

-- The whole of Tree's own form: thread 1 is the root and listens at `port`.
local function tree_on(n, port, base, build, body)
  return { ipc.map(n, function(count, at, children, buildTree, f, id)
    local ipc = require 'libipc' -- luacheck: ignore 431
    local server, client
    if id == 1 then server = ipc.server('127.0.0.1', at) else client = ipc.client('127.0.0.1', at) end
    local tree = require 'ipc.Tree'(id, count, children, server, client, '127.0.0.1', at, buildTree, { timeout = 100 })
    local result = f(tree, id, server or client)
    tree.close()
    return result
  end, n, port, base, build, body):join(200) }
end

local function sum_and_words(tree, id)
  local sum, n = tree.allReduce(id, function(a, b) return a + b end)
  assert(n == tree.numNodes)
  return sum .. ' ' .. tostring(tree)
end

describe('Tree', function()
  it('links the nodes over the server and the clients that it is given', function()
    local results = tree_on(5, support.free_port(), 2, nil, sum_and_words)
    assert.equal('15 ipc.Tree: node 1 of 5, open, parent none, children 2 3', results[1])
    assert.equal('15 ipc.Tree: node 2 of 5, open, parent 1, children 4 5', results[2])
    assert.equal('15 ipc.Tree: node 5 of 5, open, parent 2, children none', results[5])
  end)

  it('takes any base', function()
    local chain = tree_on(3, support.free_port(), 1, nil, sum_and_words)
    assert.equal('6 ipc.Tree: node 2 of 3, open, parent 1, children 3', chain[2])
    local star = tree_on(4, support.free_port(), 10, nil, sum_and_words)
    assert.equal('10 ipc.Tree: node 1 of 4, open, parent none, children 2 3 4', star[1])
  end)

  it('asks a custom buildTree for the links', function()
    local function build(base, numNodes, zero, depth, link)
      assert(base == 2 and numNodes == 5 and zero == 0 and depth == 2)
      link(1, 5)
      link(5, 3)
      link(5, 2)
      link(3, 4)
    end
    local results = tree_on(5, support.free_port(), 2, build, sum_and_words)
    assert.equal('15 ipc.Tree: node 5 of 5, open, parent 1, children 2 3', results[5])
    assert.equal('15 ipc.Tree: node 4 of 5, open, parent 3, children none', results[4])
  end)

  it('refuses on every node a buildTree that makes no tree', function()
    for what, build in pairs {
      ['two parents'] = function(_, _, _, _, link)
        link(1, 2)
        link(1, 3)
        link(2, 3)
      end,
      ['no parent'] = function(_, _, _, _, link) link(1, 2) end,
      ['a ring'] = function(_, _, _, _, link)
        link(2, 3)
        link(3, 2)
      end,
    } do
      local results = { ipc.map(3, function(at, buildTree, id)
        local ipc = require 'libipc' -- luacheck: ignore 431
        local server, client
        if id == 1 then server = ipc.server('127.0.0.1', at) else client = ipc.client('127.0.0.1', at) end
        local _, e = pcall(require 'ipc.Tree', id, 3, 2, server, client, '127.0.0.1', at, buildTree)
        return e
      end, support.free_port(), build):join(200) }
      for i = 1, 3 do assert.matches(what, results[i], 1, true) end
    end
  end)

  it('gives out an index to a node that has none', function()
    local results = { ipc.map(4, function(at, id)
      local ipc = require 'libipc' -- luacheck: ignore 431
      local server, client
      if id == 1 then server = ipc.server('127.0.0.1', at) else client = ipc.client('127.0.0.1', at) end
      local index = id <= 2 and id or nil
      local tree = require 'ipc.Tree'(index, 4, 2, server, client, '127.0.0.1', at)
      local sum, mine = tree.allReduce(tree.nodeIndex, 'sum'), tree.nodeIndex
      tree.close()
      return sum * 100 + mine
    end, support.free_port()):join(200) }
    table.sort(results)
    assert.same({ 1001, 1002, 1003, 1004 }, results)
  end)

  it('tells a node with a taken index, or with another number of nodes, why it is refused', function()
    local refusals = ipc.atomic(0)
    local results = { ipc.map(5, function(at, refusals, id) -- luacheck: ignore 431
      local ipc = require 'libipc' -- luacheck: ignore 431
      if id == 1 then
        local server = ipc.server('127.0.0.1', at)
        local tree = require 'ipc.Tree'(1, 3, 2, server, nil, '127.0.0.1', at)
        return (tree.allReduce(1, 'sum'))
      end
      -- Of 2 and 3 the later one is refused; 5, with which the tree is whole, comes once 4 was refused too.
      local indices, counts = { false, 2, 2, 3, 3 }, { 3, 3, 3, 4, 3 }
      while id == 5 and refusals:get() < 2 do ipc.sleep(0.005) end
      local client = ipc.client('127.0.0.1', at)
      local ok, tree = pcall(require 'ipc.Tree', indices[id], counts[id], 2, nil, client, '127.0.0.1', at)
      if not ok then
        refusals:add(1)
        return tree
      end
      return (tree.allReduce(1, 'sum'))
    end, support.free_port(), refusals):join(200) }
    assert.equal(3, results[1])
    local admitted, late = results[2], results[3]
    if late == 3 then admitted, late = late, admitted end
    assert.equal(3, admitted)
    assert.equal('refused', ipc.errcode(late))
    assert.matches('node index 2 is taken by', late, 1, true)
    assert.equal('refused', ipc.errcode(results[4]))
    assert.matches('it wants a tree of 4 nodes, the root makes one of 3', results[4], 1, true)
    assert.equal(3, results[5])
  end)

  it('ends the connection of a stranger and goes on', function()
    local port = support.free_port()
    local m = ipc.map(2, function(at, id)
      local ipc = require 'libipc' -- luacheck: ignore 431
      if id == 2 then
        local stranger = ipc.client('127.0.0.1', at)
        stranger:send 'what is this?'
        local ok, e = pcall(stranger.recv, stranger, 100)
        assert(not ok and ipc.errcode(e) == 'closed', e)
      end
      local server, client
      if id == 1 then server = ipc.server('127.0.0.1', at) else client = ipc.client('127.0.0.1', at) end
      local tree = require 'ipc.Tree'(id, 2, 2, server, client, '127.0.0.1', at)
      return (tree.allReduce(1, 'sum'))
    end, port)
    assert.same({ 2, 2 }, { m:join(200) })
  end)

  it('says which nodes have not come in time', function()
    local server, port = ipc.server()
    local e = support.fails(Tree, 1, 3, 2, server, nil, '127.0.0.1', port, nil, { timeout = 0.2 })
    assert.equal('timeout', ipc.errcode(e))
    assert.matches('missing: 2, 3', e, 1, true)
  end)

  it('names some of many nodes that have not come, and meets no more than it can', function()
    local e = support.fails(LocalhostTree, 1, 60000, nil, { timeout = 0.2, key = 'many' .. ipc.getpid() })
    assert.equal('timeout', ipc.errcode(e))
    assert.matches('missing: 2, 3, 4, .*, 21 and 59979 more', e)
    assert.is_true(#e < 1000)
    for _, n in ipairs { 65537, 1e9, 2 ^ 53 } do
      assert.matches('a whole number from 1 to 65536', support.fails(LocalhostTree, 1, n), 1, true)
    end
  end)

  it('checks its arguments', function()
    assert.matches('expected a number', support.fails(Tree, 'x', 2), 1, true)
    assert.matches('expected a number', support.fails(Tree, 1, {}), 1, true)
    assert.matches('from 1 to 2', support.fails(Tree, 3, 2), 1, true)
    assert.matches('from 1 to 65536', support.fails(Tree, 1, 0), 1, true)
    assert.matches('expected a server', support.fails(Tree, 1, 2, 2), 1, true)
    assert.matches('expected a client', support.fails(Tree, 2, 2, 2), 1, true)
    assert.matches('expected a function', support.fails(Tree, 1, 2, 2, nil, nil, 'h', 1, 'build'), 1, true)
    for _, f in ipairs { Tree, StaticTree, LocalhostTree, (require 'ipc.DiscoveredTree') } do
      assert.equal('argument', ipc.errcode(support.fails(f)))
      assert.equal('argument', ipc.errcode(support.fails(f, {}, {}, {}, {}, {}, {}, {}, {}, {})))
    end
    assert.matches('expected a table', support.fails(NullTree, 5), 1, true)
    assert.matches('timeout', support.fails(LocalhostTree, 1, 2, { timeout = 'x' }), 1, true)
    assert.matches('0 or more', support.fails(LocalhostTree, 1, 2, { timeout = -1 }), 1, true)
    assert.matches('base', support.fails(LocalhostTree, 1, 2, { base = 0 }), 1, true)
    for _, f in ipairs { NullTree, ipc.tree } do
      assert.matches("unknown option 'tiemout'", support.fails(f, { tiemout = 1 }), 1, true)
    end
    assert.matches("unknown option 'tiemout'", support.fails(LocalhostTree, 1, 2, { tiemout = 1 }), 1, true)
    for _, f in ipairs { 'allReduce', 'scatter', 'barrier' } do
      local given = f == 'barrier' and { { tiemout = 1 } } or f == 'scatter' and { 1, { tiemout = 1 } }
        or { 1, 'sum', { tiemout = 1 } }
      assert.matches("unknown option 'tiemout'", support.fails(NullTree()[f], (table.unpack or unpack)(given)), 1, true)
    end
    assert.matches('expected a function', support.fails(require 'ipc.DiscoveredTree', 1, 2, 'h', 0, 5), 1, true)
  end)

  it('wait no longer than told for what they need', function()
    -- Nobody listens at this port. Each had more patience with its parts than with the whole.
    local port = support.free_port()
    for _, make in ipairs {
      function() require 'ipc.DiscoveredTree'(2, 2, '127.0.0.1', nil, nil, function() return '127.0.0.1', port end,
        { timeout = 0.6 }) end,
      function() StaticTree(2, 2, '127.0.0.1', 0, '127.0.0.1', port, { timeout = 0.3 }) end,
      function() LocalhostTree(2, 2, { timeout = 0.3, key = 'nobody' }) end,
    } do
      local e = support.fails(make)
      assert.equal('timeout', ipc.errcode(e), e)
    end
    -- The parts are given what is left of the whole, on a clock that only they move.
    local build = require 'ipc.collective.build'
    local clock, now, asked = ipc.clock, 0, {}
    ipc.clock = function() return now end
    local client, sleep = ipc.client, ipc.sleep
    ipc.sleep = function(seconds) now = now + seconds end
    ipc.client = function(_, _, options)
      asked[#asked + 1] = options.connect_timeout
      now = now + options.connect_timeout
      error('libipc [timeout] ipc.client: nobody', 0)
    end
    local ok, e = pcall(function()
      build.search(build.spec('Search', 2, 2, { timeout = 4 }, 1), function() return 'h', 1 end)
    end)
    ipc.clock, ipc.client, ipc.sleep = clock, client, sleep
    assert.equal('timeout', not ok and ipc.errcode(e))
    assert.is_true(#asked > 2 and math.abs(now - 4) < 1e-9, ('%d tries, ended at %g'):format(#asked, now))
  end)

  it('hand functions and limits to their links', function()
    local functions = trees.values(3, function(tree)
      return tree.scatter(tree.nodeIndex == 1 and { f = function(x) return 2 * x end } or nil).f(21)
    end, { functions = true })
    assert.same({ 42, 42, 42 }, functions)
    local errors = trees.errors(2, function(tree)
      return tree.scatter(tree.nodeIndex == 1 and ('x'):rep(5000) or nil)
    end, { max_message = 4000 })
    assert.matches('[limit]', errors[1], 1, true)
    errors = trees.errors(2, function(tree)
      local torch = require 'ipc.torch' -- luacheck: ignore 431
      return tree.scatter(torch.FloatTensor(1000))
    end, { max_tensor_bytes = 100 })
    assert.matches('[limit]', errors[1], 1, true)
  end)

  it('name what cannot travel by its own path', function()
    local errors = trees.errors(2, function(tree)
      local value = tree.nodeIndex == 1 and { a = 1, net = { act = coroutine.create(function() end) } } or nil
      return tree.scatter(value)
    end)
    for _, e in ipairs(errors) do
      assert.matches('tree.scatter: value.net.act: a coroutine cannot travel', e, 1, true)
      assert.is_nil(e:find('client:send', 1, true), e)
    end
    errors = trees.errors(2, function(tree) return tree.scatter(tree.nodeIndex == 1 and print or nil) end)
    assert.matches('tree.scatter: value: ', errors[1], 1, true)
  end)

  it('have functions that take a colon as well as a dot', function()
    assert.same({ '3 2 7 4', '3 2 7 4' }, trees.values(2, function(tree)
      local sum, n = tree:allReduce(tree.nodeIndex, 'sum')
      local value = tree:scatter(tree.nodeIndex == 1 and 7 or 0)
      tree:barrier(60)
      local doubled = tree:walkTable({ 2 }, function(x) return 2 * x end)[1]
      tree:close()
      return ('%d %d %d %d'):format(sum, n, value, doubled)
    end))
  end)

  it('says so where the connection that it is handed is closed', function()
    local server, port = ipc.server()
    local client = ipc.client(port)
    client:close()
    assert.equal('closed', ipc.errcode(support.fails(Tree, 2, 2, 2, nil, client)))
    server:close()
  end)

  it('is made again over the connections of one that was closed', function()
    local port = support.free_port()
    local sums = { ipc.map(3, function(at, id)
      local ipc = require 'libipc' -- luacheck: ignore 431
      local server, client
      if id == 1 then server = ipc.server('127.0.0.1', at) else client = ipc.client('127.0.0.1', at) end
      local sum = 0
      for round = 1, 3 do
        local tree = require 'ipc.Tree'(id, 3, 2, server, client, '127.0.0.1', at, { timeout = 100 })
        sum = sum + tree.allReduce(id * round, 'sum')
        tree.close()
      end
      return sum
    end, port):join(200) }
    assert.same({ 36, 36, 36 }, sums)
  end)

  it('leaves open what it was handed, and closes what it opened', function()
    local results = tree_on(3, support.free_port(), 1, nil, function(tree, id, connection)
      tree.barrier()
      tree.close()
      tree.close()
      assert(tostring(tree):find 'closed')
      local _, e = pcall(tree.barrier)
      assert(e:find('libipc [state]', 1, true), e)
      -- The connections are the caller's again.
      if id == 1 then
        local sum = 0
        for _ = 1, 2 do
          local v
          repeat v = connection:recvAny(nil, 100) until type(v) == 'number'
          sum = sum + v
        end
        return sum
      end
      connection:send(id)
      return id
    end)
    assert.same({ 5, 2, 3 }, results)
  end)
end)

describe('StaticTree', function()
  it('meets at the host and port of the root', function()
    local ports = { support.free_port(), support.free_port(), support.free_port() }
    local results = { ipc.map(3, function(all, id)
      local tree = require 'ipc.StaticTree'(id, 3, '127.0.0.1', all[id], '127.0.0.1', all[1], { base = 1 })
      local sum, n = tree.allReduce(id, function(a, b) return a + b end)
      tree.close()
      return sum * 10 + n
    end, ports):join(200) }
    assert.same({ 63, 63, 63 }, results)
  end)

  it('works with a secret, on every address, and over IPv6', function()
    for _, way in ipairs {
      { '127.0.0.1', '127.0.0.1', { secret = 'abc' } },
      { '127.0.0.1', '127.0.0.1', { secret = 'abc', encrypt = false, base = 1 } },
      { '0.0.0.0', '127.0.0.1', { insecure = true, transport = 'tcp' } },
      { 'localhost', 'localhost', {} },
      pcall(ipc.server, '::1') and { '::', '::1', { secret = 'abc' } } or nil, -- where there is IPv6
    } do
      local results = { ipc.map(5, function(host, root, port, opts, id)
        local tree = require 'ipc.StaticTree'(id, 5, host, id == 1 and port or 0, root, port, opts)
        local sum = tree.allReduce(id, 'sum')
        tree.close()
        return sum
      end, way[1], way[2], support.free_port(), way[3]):join(200) }
      assert.same({ 15, 15, 15, 15, 15 }, results)
    end
  end)

  it('waits for a root that is not there yet', function()
    local results = { ipc.map(2, function(port, id)
      if id == 1 then require 'libipc'.sleep(0.2) end
      local tree = require 'ipc.StaticTree'(id, 2, '127.0.0.1', id == 1 and port or 0, '127.0.0.1', port)
      return (tree.allReduce(id, 'sum'))
    end, support.free_port()):join(200) }
    assert.same({ 3, 3 }, results)
  end)
end)

describe('DiscoveredTree', function()
  it('publishes the address of the root, and queries until there is one', function()
    local board = support.tmpname()
    local results = { ipc.map(3, function(path, id)
      local asked = 0
      local function publish(host, port)
        require 'libipc'.sleep(0.1)
        local file = io.open(path .. '.new', 'w')
        file:write(host, ' ', port)
        file:close()
        os.rename(path .. '.new', path)
      end
      local function query()
        asked = asked + 1
        local file = io.open(path)
        if not file then return nil end
        local host, port = file:read '*a':match '^(%S+) (%d+)$'
        file:close()
        return host, port
      end
      local tree = require 'ipc.DiscoveredTree'(id, 3, '127.0.0.1', 0, publish, query)
      local sum = tree.allReduce(id, 'sum')
      tree.close()
      return sum * 100 + (asked > 0 and 1 or 0)
    end, board):join(200) }
    assert.same({ 600, 601, 601 }, results)
  end)
end)

describe('LocalhostTree', function()
  it('brings threads of one process together', function()
    assert.same({ 10, 10, 10, 10 }, trees.values(4, function(tree, id) return (tree.allReduce(id, 'sum')) end))
  end)

  it('brings forked processes together', function()
    local lines = trees.lines [[
      local _, wait = processes(4, function(i)
        local tree = LocalhostTree(i, 4)
        local sum, n = tree.allReduce(i, function(a, b) return a + b end)
        return sum .. ' ' .. n
      end)
      wait()
    ]]
    assert.same({ '1 ok 10 4', '2 ok 10 4', '3 ok 10 4', '4 ok 10 4' }, lines)
  end)

  it('brings separate interpreters together', function()
    local started = {}
    for i = 1, 3 do
      started[i] = support.start([[
        local i, parent = tonumber(arg[1]), tonumber(arg[2])
        local tree = require 'ipc.LocalhostTree'(i, 3, parent)
        print((tree.allReduce(i, 'sum')))
      ]], { args = { i, ipc.getpid() } })
    end
    for i = 1, 3 do assert.equal('6\n', started[i]:wait().stdout) end
  end)

  it('takes the options in the place of ppid, and gives out indices', function()
    local results = { ipc.map(3, function(id)
      local tree = require 'ipc.LocalhostTree'(id == 1 and 1 or nil, 3, { key = 'nameless' })
      local sum = tree.allReduce(tree.nodeIndex, 'sum')
      tree.close()
      return sum
    end):join(200) }
    assert.same({ 6, 6, 6 }, results)
  end)

  local function meetings()
    local folder = os.getenv 'XDG_RUNTIME_DIR' .. '/libipc'
    return support.sh('ls ' .. support.quote(folder) .. ' 2>/dev/null | grep -c ^tree-'):match '%d+', folder
  end

  it('keeps its meeting file private, and removes it with the tree', function()
    local listing = trees.values(2, function(tree)
      tree.barrier()
      local found = ''
      if tree.nodeIndex == 1 then
        local pipe = io.popen('stat -c "%a %U" "$XDG_RUNTIME_DIR"/libipc/tree-* "$XDG_RUNTIME_DIR"/libipc; id -un')
        found = pipe:read '*a'
        pipe:close()
      end
      tree.barrier()
      return found
    end)[1]
    local user = listing:match '(%S+)\n$'
    assert.equal(('600 %s\n700 %s\n%s\n'):format(user, user, user), listing)
    assert.equal('0', (meetings()))
  end)

  it('removes the meeting file when the root ends without closing its tree', function()
    trees.lines [[
      local _, wait = processes(2, function(i)
        KEPT = LocalhostTree(i, 2)
        KEPT.barrier()
      end)
      wait()
    ]]
    assert.equal('0', (meetings()))
  end)

  it('removes the meeting file when the tree is collected', function()
    local found = { ipc.map(2, function(id)
      local ipc = require 'libipc' -- luacheck: ignore 431
      local function use() require 'ipc.LocalhostTree'(id, 2, { key = 'collected' }).barrier() end
      use()
      collectgarbage()
      collectgarbage()
      return id == 1 and ipc.__meeting_find(ipc.getppid(), 'collected', nil, 0) or 'nothing'
    end):join(200) }
    assert.same({ 'nothing', 'nothing' }, found)
  end)

  it('takes over from a root that was killed', function()
    local lines = trees.lines([[
      local parent = ipc.getpid()
      local pids, wait = processes(1, function() LocalhostTree(1, 2, parent, { timeout = 100 }) end)
      while not ipc.__meeting_find(parent, '', nil, 60) do end
      os.execute('kill -9 ' .. pids[1])
      ipc.waitpid(pids[1])
      local _, again = processes(2, function(i)
        return (LocalhostTree(i, 2, parent).allReduce(i, 'sum'))
      end)
      again()
    ]])
    assert.same({ '1 ok 3', '2 ok 3' }, lines)
  end)

  it('refuses a second root under the same parent, unless it has a key of its own', function()
    local errors = trees.values(2, function(tree)
      tree.barrier()
      local e = 'not the root'
      if tree.nodeIndex == 1 then
        local _
        _, e = pcall(require 'ipc.LocalhostTree', 1, 2, { key = 'twice', timeout = 1 })
      end
      tree.barrier()
      return e
    end, { key = 'twice' })
    assert.equal('state', ipc.errcode(errors[1]))
    assert.matches('another tree of the same parent process is alive', errors[1], 1, true)
    -- Two trees at once, under two keys.
    local sums = { ipc.map(4, function(id)
      local tree = require 'ipc.LocalhostTree'((id + 1 - (id + 1) % 2) / 2, 2, { key = id % 2 })
      local sum = tree.allReduce(id, 'sum')
      tree.barrier()
      tree.close()
      return sum
    end):join(200) }
    assert.same({ 4, 6, 4, 6 }, sums)
  end)

  it('lets a refused node wait for the next root of its own', function()
    local results = { ipc.map(4, function(stage, id)
      local ipc = require 'libipc' -- luacheck: ignore 431
      local LocalhostTree = require 'ipc.LocalhostTree' -- luacheck: ignore 431
      local function reached(n)
        while stage:get() < n do ipc.sleep(0.005) end
      end
      -- 1 and 2 make a tree; 3, which is node 2 as well, comes while it lives; 4 is the root of the next.
      if id >= 3 then reached(1) end
      local tree
      if id == 4 then
        repeat
          local ok, t = pcall(LocalhostTree, 1, 2, { key = 'next' })
          assert(ok or tostring(t):find('another tree of the same parent process is alive', 1, true), t)
          if ok then tree = t end
        until ok
      else
        if id == 3 then
          -- It looks a second time when the root that it found is none of its own: so it has met the first tree.
          local find, looks = ipc.__meeting_find, 0
          ipc.__meeting_find = function(...) -- luacheck: ignore 122
            looks = looks + 1
            if looks == 2 then stage:set(2) end
            return find(...)
          end
        end
        tree = LocalhostTree(({ 1, 2, 2 })[id], 2, { key = 'next' })
      end
      if id == 1 then stage:set(1) end
      local sum = tree.allReduce(1, 'sum')
      if id <= 2 then reached(2) end
      tree.barrier()
      tree.close()
      return sum
    end, ipc.atomic(0)):join(200) }
    assert.same({ 2, 2, 2, 2 }, results)
  end)

  it('forms one tree after the other under one parent', function()
    local sums = { ipc.map(3, function(id)
      local total = 0
      for _ = 1, 5 do
        local tree = require 'ipc.LocalhostTree'(id, 3, { key = 'again' })
        total = total + tree.allReduce(id, 'sum')
        tree.close()
      end
      return total
    end):join(200) }
    assert.same({ 30, 30, 30 }, sums)
  end)
end)

describe('NullTree', function()
  it('has every operation of the other trees', function()
    local names = trees.values(2, function(tree)
      local list = {}
      for name, value in pairs(tree) do list[#list + 1] = name .. ' ' .. type(value) end
      table.sort(list)
      return table.concat(list, ', ')
    end)
    local own = {}
    for name, value in pairs(NullTree()) do own[#own + 1] = name .. ' ' .. type(value) end
    table.sort(own)
    assert.equal(names[1], table.concat(own, ', '))
    assert.equal(names[2], names[1])
  end)

  it('gives back what it is given', function()
    local tree = NullTree()
    assert.equal(1, tree.nodeIndex)
    assert.equal(1, tree.numNodes)
    assert.same({ 5, 1 }, { tree.allReduce(5) })
    local t = { 1, { 2 } }
    local same, n = tree.allReduce(t, function() error 'never called' end)
    assert.equal(t, same)
    assert.equal(1, n)
    assert.same({ 7, 1 }, { tree.allReduce(7, 'mean') })
    -- Also to a node that has run out of steps: what it passes is the result, and it is alone.
    local none, nodes = tree.allReduce(nil, function() end, function() end)
    assert.same({ nil, 1 }, { none, nodes })
    assert.same({ 7, 1 }, { tree.allReduce(7, 'mean', true) })
    assert.equal(t, tree.scatter(t))
    assert.same({ 9, 1 }, { tree.allReduce(9, { timeout = 5 }) })
    tree.barrier()
    tree.close()
    tree.close()
    assert.equal('state', ipc.errcode(support.fails(tree.allReduce, 5)))
  end)

  it('takes a colon as well as a dot', function()
    local tree = NullTree()
    assert.same({ 5, 1 }, { tree:allReduce(5, 'sum') })
    assert.equal(7, tree:scatter(7))
    tree:barrier { timeout = 5 }
    assert.same({ 2, 4 }, tree:walkTable({ 1, 2 }, function(x) return 2 * x end))
    tree:close()
    assert.equal('state', ipc.errcode(support.fails(tree.barrier, tree)))
  end)

  it('is what every constructor makes for one node', function()
    for _, tree in ipairs {
      Tree(1, 1, 2, nil, nil, '127.0.0.1', 0),
      StaticTree(1, 1, '127.0.0.1', 0, '127.0.0.1', 0),
      StaticTree(1, 1),
      Tree(1, 1),
      require 'ipc.DiscoveredTree'(1, 1),
      LocalhostTree(1, 1),
      require 'ipc.DiscoveredTree'(1, 1, '127.0.0.1', 0, print, print),
    } do
      assert.equal('ipc.Tree: node 1 of 1, open, parent none, children none', tostring(tree))
      assert.equal(3, (tree.allReduce(3, 'sum')))
    end
  end)
end)

describe('walkTable', function()
  it('visits leaves by sorted keys and puts results in their place', function()
    local seen = {}
    local t = { b = 2, a = 1, [3] = 'x', [1] = 'y', [true] = false, n = { z = 10, y = 20 } }
    local same = utils.walkTable(t, function(leaf)
      seen[#seen + 1] = tostring(leaf)
      if type(leaf) == 'number' then return leaf * 2 end
    end)
    assert.equal('y x 1 2 20 10 false', table.concat(seen, ' '))
    assert.equal(t, same)
    assert.same({ b = 4, a = 2, [3] = 'x', [1] = 'y', [true] = false, n = { z = 20, y = 40 } }, t)
  end)

  it('refuses cycles, keys that have no order, and what is no table', function()
    local cycle = {}
    cycle[1] = cycle
    assert.equal('limit', ipc.errcode(support.fails(utils.walkTable, cycle, print)))
    assert.equal('unsupported', ipc.errcode(support.fails(utils.walkTable, { [{}] = 1 }, print)))
    assert.matches('expected a table', support.fails(utils.walkTable, 5, print), 1, true)
    assert.matches('expected a function', support.fails(utils.walkTable, {}), 1, true)
  end)
end)

describe('netStats', function()
  it('prints the figures of each link and returns them', function()
    local lines = trees.lines [[
      local _, wait = processes(3, function(i)
        local tree = LocalhostTree(i, 3)
        tree.allReduce(i, 'sum')
        local printed = {}
        local real = print
        print = function(s) printed[#printed + 1] = s end
        local stats = tree.netStats()
        print = real
        tree.barrier()
        return #printed .. ' ' .. tostring(printed[1]:match '^node %d <%-> node %d') .. ' '
          .. tostring(stats[i == 1 and 2 or 1].tx.num_bytes > 0)
      end)
      wait()
    ]]
    assert.same({ '1 ok 2 node 1 <-> node 2 true', '2 ok 1 node 2 <-> node 1 true', '3 ok 1 node 3 <-> node 1 true' },
      lines)
  end)
end)
