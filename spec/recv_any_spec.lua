-- §2, §12: whatever one client sends, the server goes on with the others; and it can be told who has gone.
local support = require 'spec.support'
local peer = require 'spec.support.peer'
local ipc = require 'libipc'

local fails = support.fails
local named, value, frame = peer.named, peer.value, peer.frame

local Angry = setmetatable({}, { __index = function() error 'met' end })
Angry.__index, Angry.__tostring, Angry.__eq = function() error 'met' end, function() error 'met' end, function() error 'met' end
ipc.register('recv_any.Angry', Angry)

-- What a server takes from nobody, as it goes over the wire, each with the code that it is refused with.
local nonsense = {
  ['no value'] = { frame '\16\193', 'protocol' },
  ['nothing'] = { frame '', 'protocol' },
  ['another version'] = { frame '\240\192', 'protocol' },
  ['two values'] = { frame '\16\1\1', 'protocol' },
  ['many values'] = { frame '\20\145\1', 'protocol' },
  ['an attachment that is not there'] = { frame '\16\214\2\0\0\0\9', 'protocol' },
  ['more items than bytes'] = { frame '\16\221\255\255\255\255', 'protocol' },
  ['nil as a key'] = { frame '\16\129\192\1', 'protocol' },
  ['2,000 arrays'] = { frame('\16' .. ('\145'):rep(2000) .. '\192'), 'limit' },
  ['an unknown class'] = { frame(value(peer.class 'recv_any.nowhere')), 'unsupported' },
  ['a class on nothing'] = { frame(value(peer.ext(4, peer.str 'recv_any.Angry'))), 'protocol' },
  ['an unknown function'] = { frame(value(named('string', 'nothing'))), 'unsupported' },
  ['a function'] = { frame(value(named('os', 'execute'))), 'unsupported' },
  ['a module'] = { frame(value(named 'recv_any.nowhere')), 'unsupported' },
  ['bytecode'] = { frame('\18' .. peer.ext(5, '\1\196\4\27LJ\2\144')), 'unsupported' },
  ['a frame that says functions'] = { '\1\1' .. frame(value '\192'):sub(3), 'unsupported' },
  ['no frame'] = { ('\170\85'):rep(100), 'protocol' },
  ['too much'] = { '\1\0\0\0' .. peer.little(0, 4) .. peer.little(2 ^ 40, 8), 'limit' },
  ['a tensor of 2^64 bytes'] = {
    '\1\0\0\0' .. peer.little(12, 4) .. peer.little(7, 8) .. peer.lone .. '\1\6\1\0' .. peer.little(2 ^ 62, 8), 'protocol',
  },
}

local function count(t)
  local n = 0
  for _ in pairs(t) do n = n + 1 end
  return n
end

-- A server, its port, and for each kind of nonsense a client made by hand that has sent it.
local function besieged(options)
  local server, port = ipc.server('127.0.0.1', 0, options or {})
  local strangers = {}
  for what, case in pairs(nonsense) do
    local raw = peer.client(port)
    raw:send(case[1])
    strangers[what] = raw
  end
  return server, port, strangers
end

-- All strangers' connections have been ended.
local function all_ended(strangers)
  for what, raw in pairs(strangers) do
    -- What it was told before does not matter.
    local _, how = raw:receive '*a'
    assert.not_equal('timeout', how, what)
    raw:close()
  end
end

describe('recvAny among clients that send nonsense', function()
  it('raises nothing, ends those and counts them, and goes on with the others', function()
    local server, port, strangers = besieged()
    local honest = ipc.client(port)
    for i = 1, 3 do honest:send(i) end
    for i = 1, 3 do
      local v, c, reason = server:recvAny(nil, 60)
      assert.equal(i, v)
      assert.equal('ipc.server.client', ipc.type(c))
      assert.is_nil(reason)
    end
    support.eventually(function()
      assert.equal('timeout', ipc.errcode(fails(server.recvAny, server, 0.01)))
      return server:netStats().num_rejected == count(nonsense)
    end)
    all_ended(strangers)
    assert.equal(1, #server:clients())
    honest:send 'quit'
    assert.equal('quit', (server:recvAny(nil, 60)))
    server:close()
  end)

  it('does the same where functions are asked for, of those that this Lua lacks', function()
    local server, port = ipc.server('127.0.0.1', 0, { functions = true })
    package.preload['recv_any.fails'] = function() error 'on purpose' end
    local strangers = {}
    for i, bytes in ipairs {
      named('string', 'nothing'), named 'recv_any.nowhere', named('recv_any.nowhere', 'f'), named 'recv_any.fails',
      named('recv_any.fails', 'f'), peer.class 'recv_any.nowhere', peer.ext(5, '\99\196\1x\144'),
    } do
      strangers[i] = peer.client(port)
      strangers[i]:send(frame(value(bytes)))
    end
    support.eventually(function()
      assert.is_false((server:tryrecvAny(0.01)))
      return server:netStats().num_rejected == #strangers
    end)
    all_ended(strangers)
    local honest = ipc.client('127.0.0.1', port, { functions = true })
    honest:send(print)
    assert.equal(print, (server:recvAny(nil, 60)))
    server:close()
  end)

  it('does the same in a tryrecvAny, in a select, and under a scheduler', function()
    local server, port, strangers = besieged()
    local honest = ipc.client(port)
    honest:send(nil)
    local found, v, c
    repeat
      assert.equal(server, (ipc.select({ server }, 60)))
      found, v, c = server:tryrecvAny()
    until found
    assert.is_nil(v)
    assert.equal('ipc.server.client', ipc.type(c))
    support.eventually(function()
      server:tryrecvAny()
      return server:netStats().num_rejected == count(nonsense)
    end)
    all_ended(strangers)
    assert.equal(1, select('#', server:tryrecvAny()))
    assert.is_false((server:tryrecvAny(nil, true)))
    assert.is_false((server:tryrecvAny { timeout = 0 }))
    server:close()

    server, port, strangers = besieged()
    honest = ipc.client(port)
    honest:send 'quit'
    local loop = require 'spec.support.loop'
    ipc.scheduler { wait = loop.wait }
    local got, told = nil, 0
    loop.run(function()
      while not got or told < count(nonsense) do
        local v_, c_, reason = server:recvAny(nil, { gone = true, timeout = 60 })
        if reason then told = told + 1 else got = c_ and v_ end
      end
    end)
    ipc.scheduler(nil)
    assert.equal('quit', got)
    all_ended(strangers)
    server:close()
  end)

  it('raises in a receive from the connection itself, as ever', function()
    local server, port = ipc.server()
    for what, case in pairs(nonsense) do
      local raw, h = peer.client(port), nil
      server:clients(1, function(c) h = c end, 60)
      raw:send(case[1])
      local e = fails(h.recv, h, 60)
      assert.equal(case[2], ipc.errcode(e), what .. ': ' .. e)
      h:close()
      raw:close()
    end
    server:close()
  end)

  it('is told in the log', function()
    local r = support.run([[
      package.path = arg[1] .. '/?.lua;' .. package.path
      local peer = require 'spec.support.peer'
      local ipc = require 'libipc'
      local server, port = ipc.server()
      local raw = peer.client(port)
      raw:send(peer.frame '\16\193')
      local _, c, reason = server:recvAny(nil, { gone = true, timeout = 60 })
      local host, port = c:address()
      print(host .. ':' .. port, reason)
    ]], { env = { IPC_LOG = 'info' }, args = { support.root } })
    assert.equal(0, r.status, r.stderr)
    local address, reason = r.stdout:match '^(%S+)\t(.*)\n$'
    assert.equal('protocol', ipc.errcode(reason))
    assert.matches(('server ended client %s: [protocol] '):format(address), r.stderr, nil, true)
  end)
end)

describe('recvAny with gone', function()
  -- A server with n clients, their handles with ids and tags.
  local function stage(n)
    local server, port = ipc.server()
    local clients, handles = {}, {}
    for i = 1, n do
      clients[i] = ipc.client(port)
      server:clients(i, function(c) handles[i] = handles[i] or c end, 60)
      server:clients(function(c)
        local known = false
        for k = 1, i - 1 do known = known or handles[k] == c end
        if not known then handles[i] = c end
      end)
      handles[i]:id(i)
      handles[i]:tag('tag ' .. i)
    end
    return server, clients, handles, port
  end
  local asked = { gone = true, timeout = 60 }
  local function nothing_more(server, tag)
    assert.equal('timeout', ipc.errcode(fails(server.recvAny, server, tag, { gone = true, timeout = 0.02 })))
  end

  it('tells of each client that has gone, once, and its handle still answers', function()
    local server, clients, handles = stage(3)
    local address = handles[2]:address()
    clients[2]:send 'last words'
    clients[2]:close()
    assert.same({ 'last words', handles[2] }, { server:recvAny(nil, asked) })
    local v, c, reason = server:recvAny(nil, asked)
    assert.is_nil(v)
    assert.equal(handles[2], c)
    assert.equal('closed', ipc.errcode(reason))
    assert.matches(address, reason, nil, true)
    assert.same({ 2, 'tag 2', address }, { c:id(), c:tag(), (c:address()) })
    assert.matches('^ipc%.server%.client: closed, ', tostring(c))
    assert.equal('table', type(c:netStats().rx))
    nothing_more(server)
    -- Without the option it is no news.
    clients[1]:close()
    assert.equal('timeout', ipc.errcode(fails(server.recvAny, server, 0.05)))
    -- But it is not lost for who asks.
    assert.equal(handles[1], (select(2, server:recvAny(nil, asked))))
    nothing_more(server)
    server:close()
  end)

  it('tells of those who were ended for what they sent, with the reason', function()
    local server, port, strangers = besieged()
    local codes = {}
    for _ = 1, count(nonsense) do
      local v, c, reason = server:recvAny(nil, asked)
      assert.is_nil(v)
      assert.is_string(c:address())
      codes[#codes + 1] = ipc.errcode(reason)
    end
    local expected = {}
    for _, case in pairs(nonsense) do expected[#expected + 1] = case[2] end
    table.sort(codes)
    table.sort(expected)
    assert.same(expected, codes)
    nothing_more(server)
    all_ended(strangers)
    local honest = ipc.client(port)
    honest:send(nil)
    assert.equal(2, select('#', server:recvAny(nil, asked)))
    server:close()
  end)

  it('tells those who ask for a tag of clients with that tag', function()
    local server, clients, handles = stage(3)
    clients[1]:close()
    clients[3]:close()
    assert.equal(handles[3], (select(2, server:recvAny('tag 3', asked))))
    nothing_more(server, 'tag 3')
    nothing_more(server, 'tag 2')
    assert.equal(handles[1], (select(2, server:recvAny(nil, asked))))
    server:close()
  end)

  it('keeps no descriptor of clients that have gone, though their handles were waited for', function()
    local server, port = ipc.server()
    local function descriptors() return tonumber(support.sh('ls /proc/' .. ipc.getpid() .. '/fd | wc -l')) end
    local function come_and_go(n)
      for i = 1, n do
        local c = ipc.client(port)
        c:send(i)
        local _, h = server:recvAny(60)
        h:id(i)
        h:tag('nr ' .. i)
        h:fd()
        ipc.select({ { h, 'write' } }, 0)
        c:close()
      end
      support.eventually(function()
        assert(not server:tryrecvAny())
        collectgarbage()
        collectgarbage()
        return #server:clients() == 0
      end)
    end
    come_and_go(3)
    local before
    support.eventually(function()
      local n = descriptors()
      before, n = n, before
      return n == before
    end)
    come_and_go(40)
    support.eventually(function() return descriptors() <= before + 3 end)
    -- They are told of all the same, by handles that answer.
    for n = 1, 43 do
      local i = n > 3 and n - 3 or n
      local v, h, reason = server:recvAny(nil, { gone = true, timeout = 60 })
      assert.is_nil(v)
      assert.equal(i, h:id())
      assert.equal('nr ' .. i, h:tag())
      assert.equal('127.0.0.1', (h:address()))
      assert.equal('closed', ipc.errcode(reason))
      assert.equal('closed', ipc.errcode(fails(h.recv, h)))
      assert.equal('closed', ipc.errcode(fails(h.send, h, 1)))
      assert.equal(h, (ipc.select({ h }, 60)))
      assert.equal(1, h:netStats().rx.num_calls)
    end
    assert.is_false((server:tryrecvAny()))
    server:close()
  end)

  it('does not tell of clients that were closed here', function()
    local server, clients, handles = stage(4)
    handles[1]:close()
    nothing_more(server)
    -- Noticed by a receive, and closed then.
    clients[2]:close()
    assert.equal('closed', ipc.errcode(fails(handles[2].recv, handles[2], 60)))
    handles[2]:close()
    -- Noticed by a call that did not ask, and closed then.
    clients[3]:close()
    assert.equal('timeout', ipc.errcode(fails(server.recvAny, server, 0.05)))
    handles[3]:close()
    nothing_more(server)
    assert.equal(1, #server:clients())
    server:close()
  end)

  it('tells of clients whose end another call noticed', function()
    local server, clients, handles = stage(2)
    clients[1]:close()
    assert.equal('closed', ipc.errcode(fails(handles[1].recv, handles[1], 60)))
    clients[2]:close()
    support.eventually(function()
      pcall(server.broadcast, server, 'x', nil, 60)
      return not pcall(handles[2].recv, handles[2], 0.1) and #server:clients() == 0
    end)
    local found = {}
    for _ = 1, 2 do found[#found + 1] = select(2, server:recvAny(nil, asked)):id() end
    table.sort(found)
    assert.same({ 1, 2 }, found)
    nothing_more(server)
    server:close()
  end)

  it('tells each of many threads of others, and none twice', function()
    local server, clients = stage(40)
    local m = ipc.map(4, function(shared)
      local lib, told = require 'libipc', {}
      while true do
        local v, c, reason = shared:recvAny(nil, { gone = true, timeout = 60 })
        if v == 'stop' then return table.concat(told, ' ') end
        if reason then told[#told + 1] = ('%d'):format(c:id()) end
        assert(lib)
      end
    end, server)
    for _, c in ipairs(clients) do c:close() end
    support.eventually(function() return #server:clients() == 0 end)
    local stops = {}
    local _, port = server:address():match '^(.*):(%d+)$'
    ipc.sleep(0.2)
    for i = 1, 4 do
      stops[i] = ipc.client(port)
      stops[i]:send 'stop'
    end
    local seen, n = {}, 0
    for _, list in ipairs { m:join(60) } do
      for id in list:gmatch '%d+' do
        assert.is_nil(seen[id])
        seen[id], n = true, n + 1
      end
    end
    assert.equal(40, n)
    server:close()
  end)

  it('takes options that are checked', function()
    local server = ipc.server()
    for _, wrong in ipairs { { gone = 1 }, { went = true }, { timeout = -1 }, { timeout = 'x' } } do
      for _, arguments in ipairs { { wrong }, { nil, wrong } } do
        assert.equal('argument', ipc.errcode(fails(server.recvAny, server, arguments[1], arguments[2])))
      end
    end
    assert.equal('argument', ipc.errcode(fails(server.tryrecvAny, server, nil, { gone = true })))
    server:close()
  end)
end)

describe('clients', function()
  it('gives a list of handles where there is no function, in the order of a visit', function()
    local server, port = ipc.server()
    assert.same({}, server:clients())
    local clients = {}
    for i = 1, 3 do clients[i] = ipc.client(port) end
    local ids = { 2, 3, 1 }
    server:clients(3, function(c) c:id(table.remove(ids, 1)) end, 60)
    local function order(...)
      local list = {}
      for i, c in ipairs(server:clients(...)) do list[i] = c:id() end
      return table.concat(list, ' ')
    end
    assert.equal('1 2 3', order())
    assert.equal('3 2 1', order(nil, true))
    assert.equal('3 2 1', order(nil, 1))
    server:clients(function(c) if c:id() > 1 then c:tag 'late' end end)
    assert.equal('2 3', order(nil, 'late'))
    assert.equal('3 2', order(nil, 'late', true))
    assert.equal('', order(nil, 'nobody'))
    for _, c in ipairs(clients) do c:close() end
    server:close()
  end)

  it('has one rule for time-outs: false is for ever whatever the default, a string never is one', function()
    local server, port = ipc.server('127.0.0.1', 0, { timeout = 0.01 })
    local client = ipc.client('127.0.0.1', port, { timeout = 0.01 })
    local h
    server:clients(1, function(c) h = c end, 60)
    local calls = {
      function(...) return server:recvAny(...) end, function(...) return server:recvAny(nil, ...) end,
      function(...) return h:recv(...) end, function(...) return server:tryrecvAny(...) end,
      function(...) return h:tryrecv(...) end, function(...) return server:tryrecvAny(nil, ...) end,
    }
    for _, forever in ipairs { false, math.huge, { timeout = math.huge }, { timeout = false } } do
      local m = ipc.map(1, function(c, n)
        local lib = require 'libipc'
        for i = 1, n do
          lib.sleep(0.03)
          c:send(i)
          c:recv(60)
        end
      end, client, #calls)
      for i, call in ipairs(calls) do
        local a, b = call(forever)
        assert.equal(i, a == true and b or a)
        h:send 'next'
      end
      m:join()
    end
    for i, call in ipairs(calls) do
      for _, wrong in ipairs { -1, 0 / 0, { timeout = -1 }, { timeout = '1' }, print } do
        assert.equal('argument', ipc.errcode(fails(call, wrong)), i)
      end
      for _, now in ipairs { true, 0, { timeout = 0 }, { timeout = true } } do
        local ok, found = pcall(call, now)
        assert.is_true(not ok and ipc.errcode(found) == 'timeout' or found == false)
      end
    end
    for _, wrong in ipairs { '1', -1, 0 / 0 } do
      assert.equal('argument', ipc.errcode(fails(server.recvAny, server, 'tag', wrong)))
      assert.equal('argument', ipc.errcode(fails(h.send, h, 1, wrong)))
      assert.equal('argument', ipc.errcode(fails(server.broadcast, server, 1, nil, wrong)))
      assert.equal('argument', ipc.errcode(fails(server.clients, server, 9, print, wrong)))
    end
    assert.equal('timeout', ipc.errcode(fails(server.clients, server, 2, print)))
    server:close()
  end)
end)

describe('the meeting of a tree', function()
  it('turns away whoever sends nonsense while the nodes meet', function()
    local server, port, strangers = besieged()
    local function stranger(bytes)
      local raw = peer.client(port)
      raw:send(frame(bytes))
      strangers[#strangers + 1] = raw
    end
    -- Values, but none of a node.
    local join = peer.str 'join'
    stranger(value '\192')
    stranger(value(join))
    stranger(value '\144')
    stranger(value('\147' .. join .. '\192\7'))
    stranger(value('\147' .. join .. '\203\127\248\0\0\0\0\0\0\2'))
    stranger(value('\147' .. join .. '\144\144'))
    stranger(value('\147' .. join .. peer.class 'recv_any.Angry' .. peer.class 'recv_any.Angry'))
    stranger(value(peer.class 'recv_any.Angry'))
    stranger(value('\145' .. peer.class 'recv_any.Angry'))
    local function add(a, b) return a + b end
    local root = ipc.map(1, function(shared, at, reduce)
      local tree = require 'ipc.Tree'(1, 2, 2, shared, nil, '127.0.0.1', at, { timeout = 60 })
      local sum = tree.allReduce(1, reduce)
      tree.close()
      return sum
    end, server, port, add)
    all_ended(strangers)
    local tree = require 'ipc.Tree'(2, 2, 2, nil, ipc.client(port), '127.0.0.1', port, { timeout = 60 })
    assert.equal(3, (tree.allReduce(2, add)))
    assert.equal(3, root:join())
    tree.close()
    server:close()
  end)
end)

describe('a hook in the middle of a receive', function()
  it('finds its connection usable, or gets state at once', function()
    local out = support.check([[
      local ipc = require 'libipc'
      local server, port = ipc.server()
      local client = ipc.client(port)
      local h
      server:clients(1, function(c) h = c end, 60)
      local inside, seen, sent = false, {}, 0
      local function note(ok, e) seen[ok and 'fine' or ipc.errcode(e) or e] = true end
      local function hook()
        if inside then return end
        inside = true
        note(pcall(client.recv, client, 0.01))
        note(pcall(client.tryrecv, client, 0.01))
        note(pcall(client.recvAsync, client))
        -- The other direction is free.
        if sent == 0 then client:send 'from the hook' end
        sent = sent + 1
        inside = false
      end
      debug.sethook(hook, 'c')
      local ok, e = pcall(client.recv, client, 2)
      debug.sethook()
      assert(not ok and ipc.errcode(e) == 'timeout', e)
      assert(seen.state, 'no hook ran inside')
      assert(h:recv(60) == 'from the hook')
      -- A receive of the server's that finds the connection busy with this very thread does not spin.
      seen = {}
      local function other()
        if inside then return end
        inside = true
        note(pcall(server.recvAny, server, 0.01))
        note(pcall(server.tryrecvAny, server, nil, 0.01))
        inside = false
      end
      debug.sethook(other, 'c')
      ok, e = pcall(h.recv, h, 2)
      debug.sethook()
      assert(not ok and ipc.errcode(e) == 'timeout', e)
      client:send 'in step'
      assert(h:recv(60) == 'in step')
      h:send 'in step'
      assert(client:recv(60) == 'in step')
      io.write 'fine'
    ]], { timeout = 120 })
    assert.equal('fine', out)
  end)

  it('hears of a client that gets its tag while it waits, and of what that had sent', function()
    local server, port = ipc.server()
    local client, late, handle = ipc.client(port), ipc.client(port), nil
    client:send 'early'
    server:clients(1, function(c) handle = c end, 60)
    local m = ipc.map { threads = 2, args = { server }, fn = function(s, id)
      return (s:recvAny(id == 1 and 'work' or nil, id == 1 and { timeout = 60 } or nil))
    end }
    -- Both wait; the second has the message already, and is to wait for the next.
    assert.equal('early', select(2, m:results(60)()))
    local sleeps = ipc.map(1, function(s) return (s:recvAny('work', 60)) end, server)
    client:send 'before the tag'
    server:clients(2, function() end, 60)
    -- Looked at, and left for somebody who asks for it.
    assert.equal('timeout', ipc.errcode(fails(server.recvAny, server, 'none', 0.05)))
    handle:tag 'work'
    local first
    support.eventually(function() first = m:poll() == 0 or sleeps:poll() == 0 return first end)
    client:send 'after it'
    local got = { select(2, m:results(60)()), (sleeps:join(60)) }
    table.sort(got)
    assert.same({ 'after it', 'before the tag' }, got)
    -- Of one that gets it when it has gone, too.
    local told = ipc.map(1, function(s)
      local v, c, reason = s:recvAny('gone', { gone = true, timeout = 60 })
      return v, c ~= nil, reason
    end, server)
    local other
    server:clients(function(c) other = c ~= handle and c or other end)
    late:close()
    support.eventually(function()
      server:broadcast('x', nil, 60)
      return #server:clients() == 1
    end)
    other:tag 'gone'
    local v, is_there, reason = told:join(60)
    assert.same({ nil, true, 'closed' }, { v, is_there, ipc.errcode(reason) })
    server:close()
  end)

  it('hears of a tag under a scheduler', function()
    local loop = require 'spec.support.loop'
    local server, port = ipc.server()
    local client, handle = ipc.client(port), nil
    client:send 'early'
    server:clients(1, function(c) handle = c end, 60)
    assert.equal('timeout', ipc.errcode(fails(server.recvAny, server, 'work', 0.05)))
    ipc.scheduler { wait = loop.wait }
    local got
    loop.run(function() got = server:recvAny 'work' end, function() handle:tag 'work' end)
    ipc.scheduler(nil)
    assert.equal('early', got)
    server:close()
  end)
end)
