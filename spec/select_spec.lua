-- Waiting on many: ipc.select, obj:fd().
local ipc = require 'libipc'

local function queue() return (ipc.workqueue()) end

describe('ipc.select', function()
  it('returns the object that is ready and its index, nil when none was in time', function()
    local a, b = queue(), queue()
    assert.is_nil(ipc.select({a, b}, 0))
    assert.is_nil(ipc.select({a, b}, 0.002))
    local m = ipc.map(1, function(q) q:write('answer') end, b)
    local found, index = ipc.select {a, b}
    assert.are.equal(b, found)
    assert.are.equal(2, index)
    assert.are.equal('answer', b:read(0))
    m:join()
  end)

  it('waits for queues, maps, servers and clients alike', function()
    local q, m = queue(), ipc.map(1, function(q) q:read() end, queue())
    local server, port = ipc.server()
    local client, handle = ipc.client(port)
    assert.are.equal(server, (ipc.select {q, m, server, client}))
    server:clients(1, function(c) handle = c end)
    assert.is_nil(ipc.select({q, m, server, client, handle}, 0))
    handle:send 'x'
    assert.are.equal(client, (ipc.select {q, m, server, client, handle}))
    assert.are.equal('x', client:recv())
    m:cancel()
    assert.are.equal(m, (ipc.select {q, m, server, client, handle}))
    assert.has_error(function() m:join() end)
  end)

  it('names the entry that is wrong', function()
    local q = queue()
    for list, words in pairs {
      [{q, 3}] = 'entry 2: expected something that can be waited for, got number',
      [{q, {q, 'x'}}] = "entry 2: expected 'read' or 'write' in its second place, got string",
      [{q, q, ipc.mutex()}] = 'entry 3: ipc.mutex cannot be waited for',
      [{{ipc.map(0, print), 'write'}}] = 'entry 1: ipc.map cannot be waited for until it has room to write',
    } do
      local ok, e = pcall(ipc.select, list)
      assert.is_false(ok)
      assert.is_truthy(e:find('[argument] ipc.select: argument #1, ' .. words, 1, true), e)
    end
  end)
end)

describe('obj:fd()', function()
  it('is a descriptor and what to poll it for', function()
    local q = queue()
    local fd, poll = q:fd()
    assert.are.equal('number', type(fd))
    assert.are.equal('read', poll)
    assert.are.equal(fd, (q:fd()))
    assert.are_not.equal(fd, (q:fd 'write'))
    local server, port = ipc.server()
    local client = ipc.client(port)
    assert.are.same({'read', 'write'}, {select(2, client:fd()), select(2, client:fd 'write')})
    assert.are.equal('read', select(2, server:fd()))
    assert.are.equal('read', select(2, ipc.map(0, print):fd()))
  end)
end)
