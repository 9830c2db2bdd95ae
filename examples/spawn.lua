-- Other programs as parts of this one:
--
--   luajit examples/spawn.lua

local ipc = require 'libipc'

-- A filter: written to, then read.
local sort = ipc.spawn { file = 'sort', args = { '-n' } }
for _, n in ipairs { 42, 7, 100 } do sort:stdin(n .. '\n') end
sort:stdin()
print('sorted:', (sort:stdout('*all'):gsub('\n', ' ')))
sort:wait()

-- Four at once, each with an environment of its own; their lines as they come.
local workers = {}
for i = 1, 4 do
  workers[i] = ipc.spawn {
    file = 'sh',
    args = { '-c', 'for step in 1 2 3; do echo "worker $ID, step $step"; done; exit $ID' },
    env = { ID = i },
  }
end
for _, worker in ipairs(workers) do
  for line in function() return worker:stdout() end do print(line) end
  print('ended with', worker:wait())
end

-- Errors come as text, a time-out as an error, and a signal ends what takes too long.
local broken = ipc.spawn { file = 'ls', args = { '/no/such/folder' }, stderr = 'pipe' }
print('ls says:', broken:stderr '*all')
local slow = ipc.spawn { file = 'sleep', args = { 100 } }
local ok, e = pcall(slow.wait, slow, { timeout = 0.1 })
print('in time:', ok, ipc.errcode(e))
print('after a SIGTERM:', slow:wait 'TERM')
