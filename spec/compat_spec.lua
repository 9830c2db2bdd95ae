-- What scripts of the Torch era pass and call, beyond what the specs of each part show.
-- luacheck: ignore 431 512 (what goes to a thread has the same name there; one step of a loop is what is tried)
local support = require 'spec.support'
local ipc = require 'libipc'

local function count(...) return select('#', ...), ... end

describe('errors', function()
  local where = '^[^\n]-compat_spec%.lua:%d+: libipc %['

  it('of what is written in Lua carry the line of the call', function()
    local torch, cmd, sys = require 'ipc.torch', require 'ipc.torch'.CmdLine(), require 'ipc.sys'
    assert.equal(1, torch.FloatTensor(1):nElement()) -- now its name is taken
    for name, call in pairs {
      ['an option of ipc.tree'] = function() local _ = ipc.tree { node = 4 } end,
      ['a number of nodes'] = function() local _ = ipc.tree { nodes = 4 } end,
      ['an argument of ipc.tree'] = function() local _ = ipc.tree(5) end,
      ['torch.CmdLine'] = function() local _ = torch.CmdLine(5) end,
      ['cmd:option'] = function() cmd:option() end,
      ['cmd:parse'] = function() local _ = cmd:parse 'x' end,
      ['cmd:addTime'] = function() cmd:addTime('n', 5) end,
      ['torch.class of nothing'] = function() local _ = torch.class() end,
      ['torch.class in no table'] = function() local _ = torch.class 'No.Such' end,
      ['torch.class of a name that is taken'] = function() local _ = torch.class('torch.FloatTensor', {}) end,
      ['sys.sleep'] = function() sys.sleep(-1) end,
      ['sys.execute'] = function() local _ = sys.execute() end,
    } do
      assert.matches(where, support.fails(call), name)
    end
    -- Out of the library's own calls, too: nobody is there.
    local port = support.free_port()
    local said = support.check([[
      local ok, e = pcall(function() local tree = require 'libipc'.tree { timeout = 0.2 } return tree end)
      print(ok, e)
    ]], { env = { IPC_NODE = '1', IPC_NODES = '2', IPC_ROOT = '127.0.0.1:' .. port } })
    assert.matches('libipc [timeout]', said, 1, true)
    assert.is_nil(said:find('launch.lua', 1, true), said)
  end)
end)

describe('arguments of old scripts', function()
  it('may be strings that hold a number, and fractions are cut off', function()
    assert.equal(2, (count(ipc.map('2', function() return 1 end):join())))
    assert.equal(2, (count(ipc.map(5 / 2, function() return 1 end):join())))
    assert.equal(3, (count(ipc.map_extended('0x3', nil, function() return 1 end):join())))
    ipc.workqueue('compat spec', 16.5, '3'):close()
    ipc.mutex():barrier('1')
    ipc.mutex():barrier(1.9)
    ipc.sleep '0'
    local m = ipc.marshal(23, false, 100.5, '7')
    assert.equal(23, m:read())
    for _, bad in ipairs { 'two', '', -1, '-1', 0 / 0, 1 / 0, 1e10, {} } do
      assert.equal('argument', ipc.errcode(support.fails(ipc.map, bad, print)))
    end
  end)

  it('are shown where they are bad numbers', function()
    local cases = {
      { ipc.map, 'got -1', -1, print },
      { ipc.map, 'got -2', '-2', print },
      { ipc.map, 'got 1e300', 1e300, print },
      { ipc.sleep, 'got -0.5', -0.5 },
      { ipc.flock, 'got -3', support.tmpname(), -3 },
      { ipc.flock, 'got NaN', support.tmpname(), 0 / 0 },
      { ipc.flock, 'got -4', support.tmpname(), { timeout = -4 } },
      { ipc.channel, 'got 0', { capacity = 0 } },
      { ipc.channel, 'got 1.5', { capacity = 1.5 } },
      { ipc.channel, 'got -1', { timeout = -1 } },
      { ipc.pool, 'got 0', 0 },
      { ipc.server, 'got 70000', 70000 },
      { require 'ipc.LocalhostTree', 'got 2.5', 2.5, 3 },
      { require 'ipc.LocalhostTree', 'got -7', 1, 3, { timeout = -7 } },
    }
    for _, case in ipairs(cases) do
      local e = support.fails(case[1], case[3], case[4], case[5])
      assert.equal('argument', ipc.errcode(e), e)
      assert.equal(case[2], e:sub(-#case[2]), e)
    end
  end)

  it('may be anything where a boolean is expected', function()
    local up = 5
    assert.equal(5, ipc.marshal(function() return up end, 10, 10):read()())
    local t = { 1, 2 }
    assert.equal(2, #ipc.sharedtable(t, 1))
    assert.is_nil(next(t))
  end)

  it('may be numbers where a name is expected', function()
    local q, creator = ipc.workqueue(7)
    local same, second = ipc.workqueue '7'
    assert.same({ 1, 0 }, { creator, second })
    same:close()
    q:close()
  end)

  it('may be no items at all', function()
    local q, c = ipc.workqueue(), ipc.channel()
    q:write()
    q:writeup()
    assert.equal(ipc.channel.OPEN, c:write())
    assert.same({ 0, 0, 0 }, { #c, q:pending() })
    c:close()
    assert.equal(ipc.channel.DRAINED, c:write())
  end)

  it('tell clients by numbers of any form, and where they come from by their host alone', function()
    local server, port = ipc.server('127.0.0.1', '0')
    local clients = { ipc.client(tostring(port)), ipc.client('127.0.0.1', tostring(port)) }
    local visited = server:clients('2', function(c)
      assert.equal('127.0.0.1', (c:address()))
      assert.equal(3, c:id '3')
      assert.equal(2, c:id(2.5))
      assert.equal('5', c:tag(5))
    end)
    assert.equal(2, visited)
    assert.equal(2, server:clients(function() end, nil, 1))
    assert.equal(2, server:clients(function() end, '5'))
    for _, c in ipairs(clients) do c:close() end
    server:close()
  end)
end)

describe('ipc.sharedtable', function()
  it('is called as a function, and tells its size by kbytes', function()
    assert.is_truthy(type(ipc.sharedtable) == 'function' or getmetatable(ipc.sharedtable).__call)
    local t = ipc.sharedtable { ('x'):rep(100000) }
    assert.is_true(ipc.sharedtable.kbytes(t) > 90)
    assert.equal(ipc.sharedtable_size(t), ipc.sharedtable.kbytes(t))
  end)
end)

describe('a timeout', function()
  -- Every call that can block, with a function that makes it and takes what stands in the timeout's place.
  local function calls()
    local server, port = ipc.server()
    local client = ipc.client(port)
    local handle
    server:clients(1, function(c) handle = c end)
    local q, c, m = ipc.workqueue(), ipc.channel(), ipc.mutex()
    local map = ipc.map(1, function(c) c:read() end, c)
    local pool = ipc.pool(1)
    local future = pool:submit(function(c) c:read() end, c)
    local batch = pool:batch()
    batch:submit(type, 1)
    local process = ipc.spawn { file = 'sleep', args = { 1000 } }
    local file = support.tmpname()
    local lock = ipc.flock(file)
    local timer = ipc.after(1000)
    local list = {
      ['map:join'] = function(t) return map:join(t) end,
      ['map:results'] = function(t) for _ in map:results(t) do return end end,
      ['pool:map'] = function(t) return pool:map(type, { 1 }, t) end,
      ['pool:each'] = function(t) for _ in pool:each(type, { 1 }, t) do return end end,
      ['future:get'] = function(t) return future:get(t) end,
      ['batch:next'] = function(t) return batch:next(t) end,
      ['batch:results'] = function(t) for _ in batch:results(t) do return end end,
      ['workqueue:read'] = function(t) return q:read(t) end,
      ['workqueue:tryread'] = function(t) return q:tryread(t) end,
      ['channel:read'] = function(t) return select(2, c:read(t)) end,
      ['channel:tryread'] = function(t) return c:tryread(t) end,
      ['channel:items'] = function(t) for item in c:items(t) do return item end end,
      ['mutex:barrier'] = function(t) return m:barrier(2, t) end,
      ['flock'] = function(t) return ipc.flock(file, t) end,
      ['select'] = function(t) return ipc.select({ c }, t) end,
      ['timer:read'] = function(t) return timer:read(t) end,
      ['process:wait'] = function(t) return process:wait(nil, t) end,
      ['process:stdout'] = function(t) return process:stdout('*line', t) end,
      ['waitpid'] = function(t) return ipc.waitpid(process:pid(), t) end,
      ['client:recv'] = function(t) return client:recv(nil, t) end,
      ['client:tryrecv'] = function(t) return client:tryrecv(t) end,
      ['handle:recv'] = function(t) return handle:recv(nil, t) end,
      ['server:clients'] = function(t) return server:clients(5, print, t) end,
      ['server:recvAny'] = function(t) return server:recvAny(nil, t) end,
      ['server:tryrecvAny'] = function(t) return server:tryrecvAny(nil, t) end,
    }
    -- Those that are over at once.
    local done = {
      ['mutex:lock'] = function(t) return m:lock(t) end,
      ['mutex:trylock'] = function(t) return m:trylock(t) end,
      ['client:send'] = function(t) return client:send(1, t) end,
      ['server:broadcast'] = function(t) return server:broadcast(1, nil, t) end,
      ['server:broadcast, without a tag'] = function(t) return server:broadcast(1, t) end,
      ['workqueue:drain'] = function(t) return q:drain(t) end,
      ['pool:close'] = function(t) return ipc.pool(1):close(t == true and 60 or t) end,
    }
    return list, done, { lock, process, server, client, handle }
  end

  it('is a number, a boolean or a table with one, in every call that can block', function()
    local list, done = calls()
    for name, call in pairs(list) do
      for _, given in ipairs { 0.001, true, { timeout = 0.001 }, { timeout = true } } do
        local ok, e = pcall(call, given)
        assert(not ok and ipc.errcode(e) == 'timeout' or ok and not e, name .. ': ' .. tostring(e))
      end
    end
    for name, call in pairs(done) do
      for _, given in ipairs { 1, true, false, { timeout = 1 }, { timeout = false }, {}, math.huge } do
        local ok, e = pcall(call, given)
        assert(ok, name .. ': ' .. tostring(e))
      end
    end
  end)

  it('is nothing else', function()
    local list, done = calls()
    for _, some in ipairs { list, done } do
      for name, call in pairs(some) do
        for _, bad in ipairs { -1, 0 / 0, { timeout = -1 }, { timeout = '1' }, { tiemout = 1 }, print } do
          local e = support.fails(call, bad)
          assert.equal('argument', ipc.errcode(e), name .. ': ' .. tostring(e))
        end
      end
    end
    for _, name in ipairs { 'map:join', 'workqueue:read', 'channel:read', 'mutex:barrier', 'future:get', 'pool:map' } do
      assert.equal('argument', ipc.errcode(support.fails(list[name], '1')), name)
    end
    assert.equal('argument', ipc.errcode(support.fails(done['mutex:lock'], '1')))
  end)

  it('that a queue or a channel is made with is that of reads and drains too', function()
    local q, c = ipc.workqueue { timeout = 0.001 }, ipc.channel { timeout = 0.001 }
    assert.is_nil(q:read())
    q:write 'a question'
    assert.equal('timeout', ipc.errcode(support.fails(q.drain, q)))
    assert.same({ ipc.channel.OPEN, 1 }, { c:read(), (count(c:read())) })
    for _ in c:items() do error 'there is none' end
    -- Handed to another thread, it goes along; what a call is given counts more.
    local ready = ipc.channel()
    local m = ipc.map(1, function(c, ready) -- luacheck: ignore 431
      local first = select('#', c:read())
      ready:write 'ready'
      return first, select('#', c:read(false))
    end, c, ready)
    assert.same({ true, 'ready' }, { ready:tryread(60) })
    ipc.sleep(0.01)
    c:write 'item'
    assert.same({ 1, 2 }, { m:join() })
    -- For ever, whatever the default of the queue that is there already.
    local owner = ipc.workqueue { name = 'compat timeouts', timeout = 0.001 }
    assert.is_nil(owner:read())
    local other = ipc.map(1, function()
      local q = require 'libipc'.workqueue { name = 'compat timeouts', timeout = false } -- luacheck: ignore 431
      local item = q:read()
      q:write(item)
    end)
    owner:write 'answer me'
    assert.equal('answer me', owner:read(60))
    other:join()
    owner:close()
  end)
end)
