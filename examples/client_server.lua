-- One server, three clients in processes of their own; numbers out, squares back, then a tensor:
--
--   luajit examples/client_server.lua

local ipc = require 'libipc'
local torch = require 'ipc.torch'

local clients = 3
local server, port = ipc.server()

local children = {}
for n = 1, clients do
  children[n] = ipc.fork()
  if children[n] == 0 then
    local client = ipc.client(port)
    client:send { name = 'client ' .. n, numbers = { n, n * 10 } }
    local answer = client:recv()
    local tensor = client:recv(torch.FloatTensor(4)) -- received in place
    assert(answer.squares[1] == n * n and answer.squares[2] == n * n * 100)
    assert(tensor:sum() == 4 * n)
    client:close()
    os.exit(0)
  end
end

server:clients(clients, function(client)
  local question = client:recv()
  local squares = {}
  for i, number in ipairs(question.numbers) do squares[i] = number * number end
  client:send { squares = squares }
  client:send(torch.FloatTensor(4):fill(question.numbers[1]))
  print(('%s sent %d and %d'):format(question.name, question.numbers[1], question.numbers[2]))
end)

for _, pid in ipairs(children) do assert(ipc.waitpid(pid) == 0) end
server:close()
print(('%d clients have their answers'):format(clients))
