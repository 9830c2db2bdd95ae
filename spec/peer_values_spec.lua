-- §1, §2, §8: what a peer may have this Lua do by the values that it sends: name a class that is known here and runs nothing by
-- itself, and nothing more unless it was asked for.
local support = require 'spec.support'
local peer = require 'spec.support.peer'
local ipc = require 'libipc'
local torch = require 'ipc.torch'

local fails = support.fails
local str, class, named, value = peer.str, peer.class, peer.named, peer.value

-- A server, a client of it made by hand, the server's handle, and a client of ours with its handle.
local function stage(options, theirs)
  local server, port = ipc.server('127.0.0.1', 0, options or {})
  local raw = peer.client(port)
  local h, other
  server:clients(1, function(c) h = c end, 60)
  local client = ipc.client('127.0.0.1', port, theirs or options or {})
  server:clients(2, function(c) if c ~= h then other = c end end, 60)
  return { server = server, raw = raw, h = h, client = client, other = other }
end

-- The error that a receive of these bytes raises; the connection stays in step.
local function refused(s, bytes)
  s.raw:send(peer.frame(bytes))
  local e = fails(s.h.recv, s.h, 60)
  s.raw:send(peer.frame(peer.string 'in step'))
  assert.equal('in step', s.h:recv(60))
  return e
end

local function taken(s, bytes)
  s.raw:send(peer.frame(bytes))
  return s.h:recv(60)
end

local names = 0
-- A class of a new name.
local function new_class(fields, options)
  names = names + 1
  local mt = fields or {}
  local name = 'peer_values.' .. names
  ipc.register(name, mt, options)
  return name, mt
end

local function collect()
  for _ = 1, 3 do collectgarbage() end
end

describe('a function on a peer route', function()
  local others = { print, string.format, ipc.marshal, function() return 1 end, function() return string.rep end }

  it('is neither sent nor accepted unless both ends ask for it, by name as little as in bytecode', function()
    for _, case in ipairs { { true, true }, { true, false }, { false, true }, { false, false } } do
      local s = stage({ functions = case[1] }, { functions = case[2] })
      for _, pair in ipairs { { s.client, s.other }, { s.other, s.client } } do
        for _, f in ipairs(others) do
          if case[1] and case[2] then
            pair[1]:send { deep = { f } }
            assert.equal('function', type(pair[2]:recv(60).deep[1]))
          else
            local e = fails(pair[1].send, pair[1], { deep = { f } })
            assert.equal('unsupported', ipc.errcode(e))
            assert.matches('value%.deep%[1%]: .*function', e)
            assert.matches('functions = true', e, nil, true)
            assert.matches('IPC_FUNCTIONS=1', e, nil, true)
          end
        end
        pair[1]:send 'in step'
        assert.equal('in step', pair[2]:recv(60))
      end
      s.server:close()
    end
  end)

  it('named by a peer that was never asked is refused, and no module is loaded for it', function()
    local s, loaded = stage(), 0
    package.preload['peer_values.evil'] = function() loaded = loaded + 1 return { f = print } end
    for _, bytes in ipairs {
      named('os', 'execute'), named('_G', 'print'), named 'string', named 'peer_values.evil', named('peer_values.evil', 'f'), named '_G',
    } do
      for _, whole in ipairs { value(bytes), value('\145' .. bytes), value('\129' .. str 'x' .. bytes) } do
        local e = refused(s, whole)
        assert.equal('unsupported', ipc.errcode(e))
        assert.matches('functions = true', e, nil, true)
        assert.equal('unsupported', ipc.errcode(fails(ipc.unmarshal, whole)))
      end
    end
    assert.equal(0, loaded)
    assert.equal(1, #{ ipc.unmarshal(value(named('peer_values.evil', 'f')), { functions = true }) })
    assert.equal(1, loaded)
    package.preload['peer_values.evil'], package.loaded['peer_values.evil'] = nil, nil
    s.server:close()
  end)

  it('that cannot be had here is an error of ours, whatever loading it raised', function()
    local s = stage { functions = true }
    package.preload['peer_values.raises'] = function() error { 'a table' } end
    package.preload['peer_values.fails'] = function() error 'on purpose' end
    for bytes, words in pairs {
      [named 'peer_values.nowhere'] = 'peer_values.nowhere', [named('string', 'nothing')] = 'string.nothing',
      [named 'peer_values.raises'] = 'does not load', [named 'peer_values.fails'] = 'on purpose',
    } do
      local e = refused(s, value(bytes))
      assert.equal('unsupported', ipc.errcode(e))
      assert.matches(words, e, nil, true)
    end
    s.server:close()
  end)

  it('keeps a broadcast from those who did not ask', function()
    local server, port = ipc.server('127.0.0.1', 0, { functions = true })
    local with, without = ipc.client('127.0.0.1', port, { functions = true }), ipc.client(port)
    server:clients(2, function() end, 60)
    for _, f in ipairs(others) do
      pcall(server.broadcast, server, { f }, nil, 60)
      assert.equal('function', type(with:recv(60)[1]))
    end
    pcall(server.broadcast, server, 'last')
    assert.equal('last', without:recv(60))
    server:close()
  end)
end)

describe('a class from a peer', function()
  it('is one that is known here already; none is looked for', function()
    local s = stage()
    package.preload['peer_values.module'] = function() error 'loaded' end
    for _, name in ipairs { 'peer_values.module', 'no such class', '_LOADED', '_PRELOAD', 'FILE*', '_IO_output', '' } do
      local e = refused(s, value(class(name)))
      assert.equal('unsupported', ipc.errcode(e))
      assert.matches(("class '%s'"):format(name), e, nil, true)
    end
    package.preload['peer_values.module'] = nil
    local name, mt = new_class()
    mt.__index = mt
    assert.equal(mt, getmetatable(taken(s, value(class(name)))))
    s.server:close()
  end)

  it('is told of in few words and on one line, whatever its name', function()
    local function long(s) return '\219' .. peer.little(#s, 4):reverse() .. s end
    local function ext(code, body) return '\201' .. peer.little(#body, 4):reverse() .. string.char(code) .. body end
    local s = stage { functions = true }
    local name = '\27[31mX\nlibipc 1: FORGED\r\0' .. ('y'):rep(100000)
    local bytes = {
      ext(4, long(name) .. '\128'), ext(6, long(name) .. '\192'), ext(6, str 'string' .. long(name)),
      ext(6, long(name) .. long(name)),
    }
    for i, b in ipairs(bytes) do
      local e = refused(s, value(b))
      assert.equal('unsupported', ipc.errcode(e), i)
      assert.is_true(#e < 1500, #e)
      assert.is_nil(e:find '[%z\27\r\n]', e)
    end
    -- In recvAny each ends its connection; the reasons that nobody asks for are as short.
    s.raw:send(peer.frame(value(bytes[1])))
    local none, handle, reason = s.server:recvAny { gone = true, timeout = 60 }
    assert.is_true(none == nil and handle == s.h and #reason < 1500, reason)
    s.server:close()
  end)

  it('has no finalizer, unless it was registered for peers', function()
    local s, ran = stage(), 0
    local function finalize() ran = ran + 1 end
    torch.class('PeerValuesTorch')
    local registry = debug.getregistry()
    local late = {}
    ipc.register('peer_values.late', late)
    registry['peer_values.named'] = { metatablename = function() return 'peer_values.named' end, __gc = finalize }
    registry['peer_values.inherits'] = { __gc = finalize, __index = { metatablename = function() return 'peer_values.inherits' end } }
    registry['peer_values.lent'] = { metatablename = function() return 'peer_values.lent' end, retain = finalize }
    local cases = {
      ['PeerValuesTorch'] = registry['PeerValuesTorch'], ['peer_values.late'] = late,
      ['peer_values.named'] = registry['peer_values.named'], ['peer_values.inherits'] = registry['peer_values.inherits'],
      ['peer_values.lent'] = registry['peer_values.lent'],
    }
    -- A field that is not nil counts: what it holds may be replaced after the object was made.
    for _, fields in ipairs { { __gc = finalize }, { __close = finalize }, { __gc = true }, { __gc = false }, { __close = false } } do
      local name, mt = new_class(fields)
      cases[name] = mt
    end
    local before = taken(s, value('\146' .. class 'PeerValuesTorch' .. class 'peer_values.late'))
    assert.equal(late, getmetatable(before[2]))
    late.__gc, cases['PeerValuesTorch'].__gc = finalize, finalize
    before = nil -- luacheck: ignore 311
    collect()
    for name, mt in pairs(cases) do
      local whole = value('\145' .. class(name, '\129' .. str 'f' .. '\1'))
      for _, e in ipairs { refused(s, whole), fails(ipc.unmarshal, whole), fails(ipc.unmarshal, whole, { functions = true }) } do
        assert.equal('unsupported', ipc.errcode(e))
        assert.matches(name, e, nil, true)
        assert.matches('{peers = true}', e, nil, true)
      end
      collect()
      assert.equal(0, ran, name)
      -- Between threads it is as it was.
      assert.equal(mt, getmetatable(ipc.marshal(setmetatable({}, mt)):read()))
      collect()
      ran = 0
      if mt.__close then mt.__close = finalize end
      if mt.__gc ~= nil then mt.__gc = finalize end
      if not name:find('named', 1, true) and not name:find('inherits', 1, true) and not name:find('lent', 1, true) then
        ipc.register(name, mt, { peers = true })
        assert.equal(mt, getmetatable(taken(s, whole)[1]))
        assert.equal(mt, getmetatable(ipc.unmarshal(whole)[1]))
        -- Once more without the option changes nothing; false takes it back.
        ipc.register(name, mt)
        assert.equal(mt, getmetatable(taken(s, whole)[1]))
        ipc.register(name, mt, { peers = false })
        assert.equal('unsupported', ipc.errcode(refused(s, whole)))
        collect()
        ran = 0
      end
    end
    _G.PeerValuesTorch = nil
    s.server:close()
  end)

  it('is not that of a tensor, a storage or another userdata of torch', function()
    local s = stage()
    for _, name in ipairs { 'torch.FloatTensor', 'torch.LongStorage', 'torch.DoubleTensor' } do
      assert.equal('unsupported', ipc.errcode(refused(s, value(class(name)))))
    end
    s.server:close()
  end)

  it('goes to those who have registered it for peers from any sender', function()
    local s = stage()
    local name, mt = new_class({ __gc = function() end }, { peers = true })
    for _, pair in ipairs { { s.client, s.other }, { s.other, s.client } } do
      pair[1]:send { setmetatable({ 5 }, mt) }
      local got = pair[2]:recv(60)[1]
      assert.equal(mt, getmetatable(got))
      assert.equal(5, got[1])
    end
    ipc.register(name, mt, { peers = false })
    s.client:send { setmetatable({ 5 }, mt) }
    assert.equal('unsupported', ipc.errcode(fails(s.other.recv, s.other, 60)))
    s.server:close()
  end)

  it('meets none of its metamethods while it is built', function()
    local s = stage()
    local function never() error 'met' end
    local name, mt = new_class {
      __index = never, __newindex = never, __len = never, __eq = never, __call = never, __pairs = never, __tostring = never,
      __metatable = 'locked', __mode = 'k', __name = 'x',
    }
    -- The same table once more, and a table that is its own field.
    local cyclic = value('\147' .. class(name, '\130' .. str 'a' .. '\1' .. str 'me' .. '\214\1\0\0\0\1') .. '\214\1\0\0\0\1\3', 1)
    local list = taken(s, cyclic)
    assert.equal(3, list[3])
    assert.is_true(rawequal(list[1], list[2]))
    assert.equal(1, rawget(list[1], 'a'))
    assert.is_true(rawequal(list[1], rawget(list[1], 'me')))
    assert.equal(mt, debug.getmetatable(list[1]))
    s.server:close()
  end)

  it('goes on a table that came with it, once, and on nothing else', function()
    local s = stage { functions = true }
    local name, mt = new_class()
    local ref = '\214\1\0\0\0\1'
    for what, bytes in pairs {
      ['a table before'] = value('\146\144' .. class(name, ref), 1),
      ['the table around'] = value('\145' .. class(name, '\214\1\0\0\0\0'), 1),
      ['a class around'] = value(class(name, class(name))),
      ['a module'] = value(class(name, named('string'))),
      ['the globals'] = value(class(name, named '_G')),
      ['a function'] = value(class(name, named('_G', 'print'))),
      ['a number'] = value(class(name, '\1')),
      ['nothing'] = value(peer.ext(4, str(name))),
    } do
      assert.equal('protocol', ipc.errcode(refused(s, bytes)), what)
      assert.equal('protocol', ipc.errcode(fails(ipc.unmarshal, bytes, { functions = true })), what)
    end
    assert.is_nil(getmetatable(_G))
    assert.is_nil(getmetatable(string))
    -- Lists, maps and tables with both.
    for _, fields in ipairs { '\144', '\128', '\146\1\2', '\129\192', peer.ext(3, '\145\1\129' .. str 'k' .. '\2') } do
      if fields ~= '\129\192' then assert.equal(mt, getmetatable(taken(s, value(class(name, fields))))) end
    end
    s.server:close()
  end)

  it('may be as deep as it may be written', function()
    local s = stage()
    local _, mt = new_class()
    local function list(n)
      local l
      for i = 1, n do l = setmetatable({ i, next = l }, mt) end
      return l
    end
    local function depth(l)
      local n = 0
      while l do
        assert.equal(mt, getmetatable(l))
        n, l = n + 1, l.next
      end
      return n
    end
    for _, n in ipairs { 500, 501, 999, 1000 } do
      assert.equal(n, depth(ipc.marshal(list(n)):read()))
      assert.equal(n, depth(ipc.unmarshal(ipc.marshal(list(n)):bytes())))
      s.client:send(list(n))
      assert.equal(n, depth(s.other:recv(60)))
    end
    assert.equal('limit', ipc.errcode(fails(ipc.marshal, list(1001))))
    assert.equal('limit', ipc.errcode(fails(s.client.send, s.client, list(1001))))
    s.server:close()
  end)

  it('is registered with options that are checked', function()
    local mt = {}
    assert.equal(mt, ipc.register('peer_values.checked', mt, { peers = true }))
    for _, wrong in ipairs { { peers = 1 }, { peer = true }, { 'peers' }, true, 'peers' } do
      local e = fails(ipc.register, 'peer_values.checked', mt, wrong)
      assert.equal('argument', ipc.errcode(e), e)
    end
  end)
end)
