-- A program that asks for more memory than there is, in many ways, and goes on. Run under a limit (ulimit -v).
-- luacheck: ignore 241 (lists that keep what is made)
local ipc = require 'libipc'
local torch = require 'ipc.torch'
local path = os.tmpname()

-- A call that must come through in the end: the first after a shortage says so, whatever it is, and threads in the background may
-- yet have to let go of theirs, on a machine that has no core for them.
local function insist(f, ...)
  local stop = os.time() + 100
  while true do
    local ok, a, b = pcall(f, ...)
    if ok then return a, b end
    if os.time() > stop then error(a, 0) end
    collectgarbage()
    pcall(ipc.sleep, 0.02)
  end
end

local function step(name, f)
  local ok, e = pcall(f)
  collectgarbage()
  collectgarbage()
  pcall(ipc.cpus)
  e = tostring(e)
  if ok then
    print(name, 'came to its end')
  elseif e:find('not enough memory', 1, true) or e:find('[limit]', 1, true) then
    print(name, 'not enough memory')
  else
    print(name, 'ANOTHER ERROR', e)
    os.exit(1)
  end
end

local text = ('x'):rep(1000)

step('a channel of integers', function()
  local c = ipc.channel()
  local ok, e = pcall(function() while true do c:write(1) end end)
  assert(not ok)
  local n = #c
  local _, v = insist(c.read, c)
  assert(v == 1 and #c == n - 1, 'what was written is there')
  c:close()
  error(e, 0)
end)

step('a work queue of strings', function()
  local q = ipc.workqueue()
  while true do q:write(text) end
end)

step('the output of a process', function()
  ipc.spawn { file = 'cat', args = { '/dev/zero' } }:stdout '*all'
end)

step('the message of a long table', function()
  local t = {}
  for i = 1, 3e6 do t[i] = i end
  ipc.marshal(t)
end)

for _, make in ipairs { 'channel', 'mutex', 'atomic', 'workqueue', 'sharedtable' } do
  step('many of ipc.' .. make, function()
    local all = {}
    for i = 1, 1e6 do all[i] = ipc[make](make == 'sharedtable' and {} or nil) end
  end)
end

step('many timers', function()
  local all = {}
  for i = 1, 1e6 do all[i] = ipc.after(1000) end
end)

step('tasks that wait for a worker', function()
  local p = ipc.pool(1)
  p:submit(function() require 'libipc'.sleep(1000) end)
  local ok, e = pcall(function() while true do p:submit(function() end, text) end end)
  insist(p.cancel, p)
  if not ok then error(e, 0) end
end)

step('tasks of a batch', function()
  local p = ipc.pool(1)
  local b = p:batch()
  local ok, e = pcall(function() while true do b:submit(type, text) end end)
  insist(p.cancel, p)
  if not ok then error(e, 0) end
end)

step('a thread that returns much', function()
  ipc.map(1, function() return ('x'):rep(2 ^ 30) end):join()
end)

step('tensors', function()
  local all = {}
  while true do all[#all + 1] = torch.FloatTensor(1e5) end
end)

step('a tensor of one piece', function() torch.DoubleTensor(1e9) end)

step('the entries of a shared table', function()
  local t = ipc.sharedtable {}
  for i = 1, 1e9 do t[text .. i] = i end
end)

step('a file that announces a long string', function()
  local f = assert(io.open(path, 'wb'))
  -- A record of a string: its type, its length.
  f:write('\2\0\0\0', '\255\255\255\127')
  f:seek('set', 2 ^ 31 + 100)
  f:write 'x'
  f:close()
  torch.load(path)
end)
os.remove(path)

step('a message to a client', function()
  local server, port = ipc.server()
  local client = ipc.client(port)
  server:clients(1, function(c)
    client:send 'small'
    assert(c:recv() == 'small')
    for n = 20, 30 do
      local s = ('x'):rep(2 ^ 10):rep(2 ^ (n - 10))
      pcall(client.send, client, s, 0)
    end
  end)
end)

local c = insist(ipc.channel)
insist(c.write, c, 'all is well')
local _, v = insist(c.read, c)
print(v)
os.exit(0, true)
