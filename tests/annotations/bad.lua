-- Misuses the API once in each line that ends in a comment `-- !`: a language server has to say so of each of them, and
-- of no other. Never run.
local ipc = require 'libipc'
local torch = require 'ipc.torch'

-- Options that there are not, and options of a wrong type.
local server = ipc.server('127.0.0.1', 0, { secrets = 's' }) -- !
local client = ipc.client(4000, { connect_timeout = 'soon' }) -- !
client:send(1, { timeout = 1, mor = true }) -- !
print(server:recvAny({ gon = true })) -- !
print(ipc.channel { capasity = 2 }) -- !
print(ipc.channel { capacity = 'two' }) -- !
print(ipc.workqueue { nam = 'q' }) -- !
print(ipc.map { thread = 2, fn = print }) -- !
print(ipc.map { threads = 2 }) -- !
print(ipc.pool(2, { upvalue = true })) -- !
print(ipc.mutex { timeouts = 1 }) -- !
print(ipc.spawn { file = 'cat', arguments = {} }) -- !
print(ipc.spawn { args = {} }) -- !
print(ipc.unmarshal('', { function_ = true })) -- !
ipc.register('x', {}, { peer = true }) -- !
ipc.scheduler { waits = print } -- !
print(require 'ipc.LocalhostTree'(1, 2, nil, { keys = 'x' })) -- !
print(require 'ipc.StaticTree'(1, 2, 'a', 1, 'b', 2, { timeout = 'x' })) -- !
print(require 'ipc.BackgroundTaskPool'(2, { onprogress = print })) -- !
print(ipc.tree { node = 4 }) -- !
torch.save('x', 1, 'binary', { function_ = true }) -- !

-- Wrong types of arguments.
client:send(1, 'soon') -- !
print(ipc.map('two', print)) -- !
print(ipc.select(1)) -- !
print(ipc.flock(1)) -- !
ipc.sleep('long') -- !
print(require 'ipc.LocalhostTree'('one', 2)) -- !
print(require 'ipc.BackgroundTask'(1)) -- !

-- Fields and methods that there are not.
print(ipc.chanel()) -- !
print(ipc.channel.OPENED) -- !
print(ipc.channel():reed()) -- !
print(client:receive()) -- !
print(client:netStats().tx.bytes) -- !
print(ipc.report().thread) -- !
print(require 'ipc.NullTree'().allreduce(1)) -- !
print(ipc.sharedtable.increase({}, 'a')) -- !
print(torch.FloatTensor(2):summ()) -- !

-- Elements.
local t = torch.FloatTensor(2)
t[1] = 'one' -- !
t[1] = { 1 } -- !
t:storage()[1] = 'one' -- !
