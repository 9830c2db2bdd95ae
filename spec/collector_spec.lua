-- Lua's collector is told of the memory behind handles, each state of what it made or received.
local support = require 'spec.support'

-- In a child: `peak()` is how many MB its memory has grown at the most since the start, `mark` makes garbage that counts its end
-- in `ended`, and natural collections come late, so that those that are seen are ours.
local prelude = [[
  local ipc = require 'libipc'
  local torch = require 'ipc.torch'
  local function highest()
    for line in io.lines '/proc/self/status' do
      local kb = line:match 'VmHWM:%s*(%d+)'
      if kb then return kb / 1024 end
    end
  end
  local ended, on_end = 0, nil
  local function mark()
    local function finish() ended = ended + 1 if on_end then on_end() end end
    if newproxy then
      getmetatable(newproxy(true)).__gc = finish
    else
      setmetatable({}, { __gc = finish })
    end
  end
  local function late()
    if _VERSION >= 'Lua 5.4' then collectgarbage 'incremental' end
    if _VERSION == 'Lua 5.5' then
      collectgarbage('param', 'pause', 1000)
    else
      collectgarbage('setpause', 1000)
    end
    collectgarbage()
  end
  local text = ('x'):rep(1e6)
  local lowest = highest()
  local function peak() return highest() - lowest end
]]

local function check(code, opts) return support.check(prelude .. code, opts) end

-- Growth in MB where `code` has made and dropped 400 MB.
local function bounded(code)
  if support.in_tsan or support.in_valgrind then pending 'the tools hold memory back' end
  check(code .. [[
    local grown = peak()
    assert(grown < 200, ('grew by %.0f MB'):format(grown))
  ]])
end

describe('memory behind garbage is bounded', function()
  it('of tensors', function()
    bounded [[ for _ = 1, 400 do torch.FloatTensor(250000):fill(1) end ]]
  end)

  it('of tensors that are resized, and of storages', function()
    bounded [[
      for _ = 1, 150 do torch.FloatTensor():resize(250000):fill(1) end
      for _ = 1, 150 do torch.FloatStorage():resize(250000):fill(1) end
      for _ = 1, 150 do torch.add(torch.FloatTensor(), torch.FloatTensor(250000):fill(1), 1) end
    ]]
  end)

  it('of tensors in several threads, by thread', function()
    bounded [[
      ipc.map(4, function()
        local torch = require 'ipc.torch'
        for _ = 1, 200 do torch.FloatTensor(250000):fill(1) end
      end):join()
    ]]
  end)

  it('of messages over memory that nobody receives', function()
    bounded [[
      local long = ('y'):rep(7e6)
      for _ = 1, 60 do
        local server, port = ipc.server { transport = 'memory' }
        ipc.client(port, { transport = 'memory' }):send(long)
      end
    ]]
  end)

  it('of tensors that another thread has made', function()
    bounded [[
      local c = ipc.channel { capacity = 4 }
      local m = ipc.map(1, function(c)
        local torch = require 'ipc.torch'
        for _ = 1, 400 do c:write(torch.FloatTensor(250000):fill(1)) end
        c:close()
      end, c)
      for t in c:items() do assert(t[1] == 1) end
      m:join()
    ]]
  end)

  it('of tensors that come from a peer', function()
    bounded [[
      local server, port = ipc.server()
      local m = ipc.map(1, function(port)
        local torch = require 'ipc.torch'
        local client = require 'libipc'.client(port)
        local t = torch.FloatTensor(250000):fill(1)
        for _ = 1, 400 do client:send(t) end
      end, port)
      server:clients(1, function(c) for _ = 1, 400 do assert(c:recv()[1] == 1) end end)
      m:join()
    ]]
  end)

  it('of marshals', function() bounded [[ for _ = 1, 400 do ipc.marshal { text } end ]] end)

  it('of channels and work queues with unread messages', function()
    bounded [[
      for _ = 1, 200 do ipc.channel():write(text) ipc.workqueue():write(text) end
      for _ = 1, 200 do
        local c = ipc.channel()
        for _ = 1, 1000 do c:write(('y'):rep(1000)) end
      end
    ]]
  end)

  it('of shared tables', function()
    bounded [[
      for _ = 1, 200 do ipc.sharedtable { text } end
      for _ = 1, 200 do ipc.sharedtable().x = text end
    ]]
  end)

  it('of futures whose results nobody took', function()
    bounded [[
      local p = ipc.pool(1)
      for _ = 1, 400 do
        local f = p:submit(function() return ('x'):rep(1000):rep(1000) end)
        while not f:done() do ipc.sleep(0.0005) end
      end
      p:close()
    ]]
  end)

  it('of maps that nobody joined', function()
    bounded [[
      for _ = 1, 100 do
        local m = ipc.map(1, function() return ('x'):rep(2000):rep(2000) end)
        while m:poll() > 0 do ipc.sleep(0.0005) end
      end
    ]]
  end)

  it('of what the tasks of a pool were handed', function()
    bounded [[
      local p = ipc.pool(1)
      local t = torch.FloatTensor(250000)
      for _ = 1, 400 do p:submit(function(t) return t:clone():fill(2) end, t):get() end
      p:close()
    ]]
  end)

  it('of views, which are not charged again', function()
    check [[
      late()
      local t = torch.FloatTensor(1e6)
      mark()
      for i = 1, 1000 do assert(t:narrow(1, i, 10):size(1) == 10 and t:storage():size() == 1e6) end
      assert(ended == 0, 'views of one storage are no reason to collect')
      for _ = 1, 30 do torch.FloatTensor(1e6) end
      assert(ended == 1)
    ]]
  end)
end)

describe('a collection', function()
  it('does not come for what was closed, or was read by others', function()
    check [[
      late()
      mark()
      for _ = 1, 200 do ipc.marshal(text):close() end
      -- Another thread reads: here its strings would be Lua's own reason.
      local c, back = ipc.channel { capacity = 1 }, ipc.channel()
      ipc.map(1, function(c, back) for _ in c:items() do back:write(true) end end, c, back)
      for _ = 1, 100 do c:write(text) back:read() end
      c:close()
      assert(ended == 0)
    ]]
  end)

  it('never begins inside the walk of the codec', function()
    check [[
      late()
      local class = {}
      local inside = false
      function class.metatablename()
        inside = true
        for _ = 1, 30 do torch.FloatTensor(1e6) end
        inside = false
        return 'collector.class'
      end
      class.__index = class
      on_end = function() assert(not inside, 'collected in the middle of a walk') end
      mark()
      ipc.marshal { setmetatable({}, class), 1 }
      assert(ended == 0)
      torch.FloatTensor(1)
      assert(ended == 1, 'it comes right afterwards')
    ]]
  end)

  it('never begins inside a finalizer that it runs', function()
    check [[
      late()
      local depth, deepest, calls = 0, 0, 0
      on_end = function()
        depth = depth + 1
        deepest = math.max(depth, deepest)
        calls = calls + 1
        for _ = 1, 2 do torch.FloatTensor(1e6) end
        if calls < 500 then mark() end
        depth = depth - 1
      end
      for _ = 1, 20 do mark() end
      for _ = 1, 100 do torch.FloatTensor(1e6) end
      assert(calls > 20 and deepest == 1, ('%d calls, %d deep'):format(calls, deepest))
    ]]
  end)

  it('leaves a collector that was stopped as it is', function()
    -- 5.1 and LuaJIT do not tell that it was.
    if support.is_51 then pending 'this Lua does not say whether its collector is stopped' end
    check [[
      late()
      collectgarbage 'stop'
      mark()
      for _ = 1, 50 do torch.FloatTensor(1e6) end
      assert(ended == 0 and not collectgarbage 'isrunning')
      collectgarbage 'restart'
      for _ = 1, 20 do torch.FloatTensor(1e6) end
      assert(ended == 1 and collectgarbage 'isrunning')
    ]]
  end)

  it('keeps what finalizers raise from the call that began it', function()
    check [[
      late()
      local n = 0
      on_end = function() n = n + 1 error 'from a finalizer' end
      local c = ipc.channel()
      for i = 1, 100 do
        mark()
        c:write(i)
        torch.FloatTensor(1e6)
        assert(select(2, c:read()) == i)
      end
      assert(n >= 50)
    ]]
  end)

  it('keeps the generational mode', function()
    if not (_VERSION == 'Lua 5.4' or _VERSION == 'Lua 5.5') then pending 'this Lua has no such mode' end
    bounded [[
      collectgarbage 'generational'
      for _ = 1, 400 do torch.FloatTensor(250000):fill(1) end
      assert(collectgarbage 'incremental' == 'generational')
    ]]
  end)
end)

describe('before an error for want of', function()
  it('memory garbage is collected and the call repeated', function()
    if support.in_tsan or support.in_valgrind then pending 'the tools need address space of their own' end
    -- 200 MB that stay, 150 MB that are garbage, 150 MB: one too many.
    local limited = ("sh -c 'ulimit -v %d; exec \"$0\" \"$@\"' "):format(560000) .. support.lua
    check([[
      late()
      local stays = torch.ByteTensor(200e6)
      for _ = 1, 10 do torch.ByteTensor(150e6) end
      for _ = 1, 10 do assert(torch.ByteTensor(10):resize(150e6):size(1) == 150e6) end
      mark()
      local ok, e = pcall(torch.ByteTensor, 4e9)
      assert(not ok and ipc.errcode(e) == 'limit' and ended == 1, e)
      assert(stays:size(1) == 200e6)
    ]], { lua = limited })
  end)

  it('descriptors garbage is collected and the call repeated', function()
    local limited = "sh -c 'ulimit -n 40; exec \"$0\" \"$@\"' " .. support.lua
    check([[
      late()
      local path = os.tmpname()
      for i = 1, 100 do
        ipc.server()
        ipc.spawn { file = 'true' }
        ipc.flock(path .. i)
        ipc.select({ ipc.channel() }, 0)
        os.remove(path .. i)
      end
      os.remove(path)
      local kept = {}
      local ok, e = pcall(function() for i = 1, 100 do kept[i] = ipc.server() end end)
      assert(not ok and ipc.errcode(e) == 'io', e)
    ]], { lua = limited })
  end)

  it('descriptors nothing is waited for where nothing was let go of', function()
    local limited = "sh -c 'ulimit -n 40; exec \"$0\" \"$@\"' " .. support.lua
    check([[
      local path, held, began = os.tmpname(), {}, ipc.clock()
      collectgarbage()
      collectgarbage()
      while true do
        local file = io.open(path)
        if not file then break end
        held[#held + 1] = file
      end
      -- A watchdog: to wait for others would take each of them seconds.
      for _ = 1, 20 do
        local ok, e = pcall(ipc.flock, path, 0)
        assert(not ok and ipc.errcode(e) == 'io', e)
      end
      assert(ipc.clock() - began < 40)
      held[1]:close()
      os.remove(path)
    ]], { lua = limited })
  end)
end)
