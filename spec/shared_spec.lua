-- Tensors in memory that processes share.
local support = require 'spec.support'
local ipc = require 'libipc'
local torch = require 'ipc.torch'
local unpack = table.unpack or unpack -- luacheck: ignore 143

describe('a shared tensor', function()
  it('is zeros of the type and the sizes that are named', function()
    local t = ipc.sharedTensor('Float', 2, 3)
    assert.are.equal('torch.FloatTensor', ipc.type(t))
    assert.are.same({ 2, 3 }, t:size():totable())
    assert.are.equal(0, t:sum())
    assert.is_true(t:isShared() and t:isContiguous())
    local other = torch.sharedTensor('torch.LongTensor', torch.LongStorage { 4 })
    assert.is_true(other:isShared() and other:size(1) == 4)
    assert.is_true(ipc.sharedTensor 'Byte':isShared())
    assert.are.equal(300000, ipc.sharedTensor('Double', 300000):fill(1):sum())
  end)

  it('is what a tensor becomes by share, with all views of its storage', function()
    local t = torch.FloatTensor { { 1, 2 }, { 3, 4 } }
    local view = t:select(2, 1)
    assert.is_false(t:isShared())
    assert.are.equal(t, t:share())
    assert.is_true(t:isShared() and view:isShared() and torch.FloatTensor(t:storage()):isShared())
    assert.are.same({ { 1, 2 }, { 3, 4 } }, t:totable())
    view:fill(9)
    assert.are.same({ { 9, 2 }, { 9, 4 } }, t:share():totable())
    assert.is_true(torch.FloatTensor():share():isShared())
  end)

  it('cannot be resized, and its copies are not shared', function()
    local t = ipc.sharedTensor('Int', 4)
    for _, call in ipairs { function() t:resize(5) end, function() t:storage():resize(2) end } do
      local ok, e = pcall(call)
      assert.is_false(ok)
      assert.are.equal('state', ipc.errcode(e))
      assert.is_truthy(e:find('in shared memory cannot be resized', 1, true), e)
    end
    assert.are.equal(4, t:resize(2, 2):nElement())
    assert.is_false(t:clone():isShared() or (t + 1):isShared())
  end)

  it('refuses what is no type or no size, and what is past memory', function()
    for code, args in pairs { argument = { 'Complex', 2 }, limit = { 'Double', 2 ^ 40 } } do
      local ok, e = pcall(ipc.sharedTensor, unpack(args))
      assert.is_false(ok)
      assert.are.equal(code, ipc.errcode(e), e)
    end
    assert.is_false(pcall(ipc.sharedTensor, 'Float', -1))
    assert.is_false(pcall(ipc.sharedTensor))
    local t = torch.FloatTensor(4)
    local other = torch.FloatStorage(t:storage(), 2)
    for code, tensor in pairs { unsupported = torch.FloatTensor(other), state = t } do
      local ok, e = pcall(tensor.share, tensor)
      assert.is_false(ok)
      assert.are.equal(code, ipc.errcode(e), e)
    end
  end)

  it('is one for a process and the children that it forks', function()
    local small, large, moved = ipc.sharedTensor('Int', 3), ipc.sharedTensor('Int', 100000), torch.IntTensor(3):share()
    local child = ipc.fork()
    if child == 0 then
      local ok = pcall(function()
        for i, t in ipairs { small, large, moved } do t:fill(i) end
        -- Those that the child makes are its own.
        assert(ipc.sharedTensor('Int', 3):fill(7):sum() == 21)
      end)
      os.exit(ok and 0 or 1)
    end
    local ours = ipc.sharedTensor('Int', 3)
    assert.are.equal(0, ipc.waitpid(child, 60))
    assert.are.equal(3, small:sum())
    assert.are.equal(200000, large:sum())
    assert.are.equal(9, moved:sum())
    assert.are.equal(0, ours:sum())
  end)

  it('gives its memory back', function()
    local function resident()
      return tonumber(support.read '/proc/self/status':match 'RssShmem:%s*(%d+)')
    end
    local before = resident()
    for _ = 1, 50 do ipc.sharedTensor('Byte', 4 * 2 ^ 20):fill(1) collectgarbage() end
    for _ = 1, 20000 do ipc.sharedTensor('Byte', 1000):fill(1) end
    collectgarbage()
    collectgarbage()
    assert.is_true(resident() - before < 20000, resident() - before)
  end)
end)

describe('share = true', function()
  local function pair(link)
    local server, port = ipc.server { transport = link }
    local client, handle = ipc.client('127.0.0.1', port, { transport = link }), nil
    server:clients(1, function(c) handle = c end, 60)
    return server, client, handle
  end

  it('sends tensors by reference over a link that can', function()
    local server, client, handle = pair 'memory'
    local t = ipc.sharedTensor('Float', 4)
    for _, send in ipairs {
      function() client:send(t, { share = true }) return handle:recv(60) end,
      function() client:send({ t = t }, { share = true, timeout = 60 }) return server:recvAny(60).t end,
      function() server:broadcast({ t:narrow(1, 1, 2), t }, { share = true }) return client:recv(60)[2] end,
      function() server:broadcast(t, nil, { share = true, timeout = 60 }) return client:recv(60) end,
    } do
      local got = send()
      assert.is_true(got:isShared())
      got:fill(3)
      assert.are.equal(12, t:sum())
      t:zero()
      assert.are.equal(0, got:sum())
    end
    -- Not asked for, it goes by value, as any other.
    client:send(t)
    local copy = handle:recv(60)
    assert.is_false(copy:isShared())
    -- Into a tensor of the receiver's it is copied.
    t:fill(2)
    client:send(t, { share = true })
    assert.are.equal(8, handle:recv(torch.FloatTensor(4), 60):sum())
    server:close()
  end)

  it('is refused, and nothing sent, where a tensor is not shared or the link carries copies', function()
    for _, link in ipairs { 'memory', 'tcp' } do
      local server, client, handle = pair(link)
      local t = ipc.sharedTensor('Float', 4)
      local wrong = link == 'memory' and { t, torch.FloatTensor(2) } or t
      for _, send in ipairs {
        function() client:send(wrong, { share = true }) end,
        function() server:broadcast(wrong, { share = true }) end,
      } do
        local ok, e = pcall(send)
        assert.is_false(ok)
        assert.are.equal('unsupported', ipc.errcode(e), e)
        local why = link == 'memory' and 'value[2]: a tensor that does not lie in shared memory' or 'a socket carries copies'
        assert.is_truthy(e:find(why, 1, true), e)
      end
      -- What has no tensors goes anyhow.
      client:send({ 'text' }, { share = true })
      assert.are.equal('text', handle:recv(60)[1])
      assert.is_nil(client:recvAsync())
      server:close()
    end
  end)

  it('is refused under a scheduler, too', function()
    local loop = require 'spec.support.loop'
    local server, client, handle = pair 'memory'
    local t, got, e = ipc.sharedTensor('Float', 4), nil, nil
    ipc.scheduler { wait = loop.wait }
    finally(function() ipc.scheduler(nil) end)
    loop.run(function()
      client:send(t:view(2, 2):t(), { share = true })
      got = handle:recv(60)
      -- 5.1 cannot yield through pcall; what is refused does not yield.
      e = select(2, pcall(client.send, client, torch.FloatTensor(1), { share = true }))
    end)
    assert.is_true(got:fill(1):isShared())
    assert.are.equal(4, t:sum())
    assert.are.equal('unsupported', ipc.errcode(e))
    server:close()
  end)
end)
