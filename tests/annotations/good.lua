-- Uses the whole API as it is meant: a language server finds nothing to say about it. Never run.
local ipc = require 'libipc'
local torch = require 'ipc.torch'

assert(ipc == require 'ipc' and torch == require 'torch')
print(ipc._VERSION, ipc.type(ipc.mutex()), ipc.errcode 'libipc [io] x', ipc.report().threads[1].name)

-- Values.
local Point = {}
ipc.register('Point', Point, { peers = true })
local bytes = ipc.marshal({ 1, 2 }):bytes()
print(#bytes, ipc.unmarshal(bytes, { functions = true }))

-- Client and server.
local server, port = ipc.server('127.0.0.1', 0, { secret = 's', max_message = 1e6, timeout = 2.5 })
local client = ipc.client(port, { secret = 's', connect_timeout = 5, encrypt = true, functions = false })
local other = ipc.client('127.0.0.1', port + 1)
print(server:clients(1, function(c) c:id(c:id() + 1) end, 5))
for _, handle in ipairs(server:clients()) do handle:tag('a') end
client:send({ 1, 2, three = 3 }, { timeout = 1, more = true })
client:send('x', 2.5)
other:close()
local filled = client:recv(torch.FloatTensor(2), 1)
local value, from, reason = server:recvAny('a', { gone = true, timeout = 1 })
print(filled, value, from and from:address(), reason, server:broadcast('bye', 'a', { timeout = 1 }))
print(client:netStats().tx.num_bytes, server:netStats().transports.tcp, client:netStats().rx['NETWORK MB/s'])

-- Threads.
local map = ipc.map(2, function(a, id) return a + id end, 1)
print(map:join(5))
local named = ipc.map { threads = 2, fn = print, args = { 1, n = 2 }, upvalues = true, name = 'x', cancel = 'code' }
for id, a in named:results(1) do print(id, a) end
ipc.map_extended(1, 'x = 1', function() end):join()
local pool = ipc.pool(2, { init = function() end, upvalues = true, name = 'p' })
print(ipc.pool { name = 'q' }:submit(print):get(), pool:map(tostring, { 1, 2 }, { timeout = 1 }).n)
for i, r in pool:each(tostring, { 1 }, 1) do print(i, r) end
local number, future = pool:batch():submit(print)
print(number, future:done())

local task = require 'ipc.BackgroundTask'(function(n) return n end, 1)
local tasks = require 'ipc.BackgroundTaskPool'(2, { closeOnLastTask = true, onProgress = function(done, total)
  print(done / total)
end })
print(task.getResult(1), tasks.getResult(tasks.addTask(print)), tasks.isDone(1, true))

-- What threads share.
local q, creator = ipc.workqueue { name = 'q', capacity = 2, timeout = 1 }
q:write(1, creator)
print(ipc.workqueue('q'):read(true), q:tryread { timeout = 0 }, q:pending())
local channel = ipc.channel { capacity = 2, timeout = false }
local status, item = channel:read(1)
if status == ipc.channel.DRAINED then print(item, #channel) end
for each in channel:items() do print(each) end
local mutex = ipc.mutex { timeout = 1 }
print(mutex:with(function(a) return a end, 1), mutex:trylock(), ipc.atomic(1):cas(1, 2))
local shared = ipc.sharedtable({ a = 1 }, true)
shared.b, shared[1], shared[true] = 2, 'x', { 1 }
print(shared.a, shared.b + 1, #shared, ipc.sharedtable.incr(shared, 'a'), ipc.sharedtable_size(shared))
for k, v in ipc.sharedtable.pairs(shared) do print(k, v) end

-- Waiting.
local ready, index = ipc.select({ channel, q, client, { channel, 'write' }, ipc.after(1), ipc.fd(0) }, 1)
print(ready, index, ipc.every(1):read(1), (channel:fd('write')))
ipc.scheduler { wait = function(fd, mode, timeout) coroutine.yield(fd, mode, timeout) end }
ipc.scheduler()

-- Trees.
local LocalhostTree = require 'ipc.LocalhostTree'
local tree = LocalhostTree(1, 2, nil, { key = 'x', timeout = 60 })
local _ = { LocalhostTree(1, 2, { key = 'y' }),
  require 'ipc.StaticTree'(1, 2, 'a', 4000, 'b', '4001', { secret = 's' }),
  require 'ipc.DiscoveredTree'(1, 2, 'a', 0, function(host, at) print(host, at) end, nil, { base = 4 }),
  require 'ipc.Tree'(nil, 2, 2, nil, client, '127.0.0.1', 0), require 'ipc.NullTree'(), ipc.tree { nodes = 4 } }
print(tree.allReduce(torch.FloatTensor(2), function(a, b) return a:add(b) end, function(v) return v:zero() end))
print(tree.allReduce(1, 'sum', true), tree.allReduce({ 1 }, 'mean', { timeout = 3 }), tree.scatter({ 1 }, 4))
tree.walkTable({ 1 }, function(leaf) return leaf + 1 end)
tree.barrier(3)
print(tree.netStats()[2].tx.num_bytes, tree.nodeIndex, tree.numNodes, tree.gpu)

-- Processes.
local process = ipc.spawn { file = 'cat', args = { '-n', 1 }, env = { LANG = 'C', HOME = false }, stdin = io.stdin,
  stderr = 'stdout', group = true, keep = 1024 }
process:stdin('x')
print(process:stdout('*all', 1), process:wait('TERM', 2), process:kill(9), ipc.waitpid(ipc.fork(), 1))
local lock = ipc.flock('/tmp/x', true)
if lock then lock:write(lock:read()) end
ipc.sleep(0.5)

-- Tensors.
local t = torch.FloatTensor(2, 3):fill(1)
t[1][2] = 5
t[{ {}, 3 }] = 0
t[{ 1, { 1, 2 } }] = t[2]:narrow(1, 1, 2)
t[torch.ByteTensor(2, 3):fill(1)] = 3
print(t[1][2] + 1, t[1]:sum(), t[{ 1, 2 }] * 2, (t + 1) * t:t() / 2 - t ^ 2 % 3, #t, -t, t:size(1) + 1, t:size()[1])
t[2]:copy(t[1])
local storage = t:storage()
storage[1] = storage[2] + #storage
torch.save('/tmp/t.t7', { t }, 'binary', { functions = true })
print(torch.sum(t), torch.add(t, 1):max(2), torch.load('/tmp/t.t7')[1]:equal(t))
