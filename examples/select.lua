-- A small server that does four things at once in one thread: clients, jobs done by other threads, a heartbeat, an end.
--
--   luajit examples/select.lua
--
-- It stops by itself after a second.
local ipc = require 'libipc'

local server, port = ipc.server()
local jobs, results = ipc.channel(), ipc.channel()
local beat, stop = ipc.every(0.2), ipc.after(1)

-- Two workers, and three clients that ask for squares, each in a thread of its own.
local workers = ipc.map(2, function(todo, done)
  for job in todo:items() do done:write {client = job.client, answer = job.n * job.n} end
end, jobs, results)

local clients = ipc.map(3, function(at, id)
  local lib = require 'libipc'
  local client, sum = lib.client(at), 0
  for n = 1, 100 do
    client:send(n * id)
    sum = sum + client:recv()
  end
  return sum
end, port)

local handles, beats, answered = {}, 0, 0
while true do
  local ready = ipc.select {server, results, beat, stop}
  if ready == server then
    -- It may be that a client has left, or half a message: then there is nothing yet.
    local found, n, client = server:tryrecvAny()
    if found then
      handles[#handles + 1] = client
      jobs:write {client = #handles, n = n}
    end
  elseif ready == results then
    local _, result = results:read()
    handles[result.client]:send(result.answer)
    answered = answered + 1
  elseif ready == beat then
    beats = beats + beat:read()
  else
    break
  end
end

jobs:close()
workers:join()
print(('%d answers, %d heartbeats'):format(answered, beats))
print('sums of squares:', clients:join())
