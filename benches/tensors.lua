-- Tensors from process to process over TCP, against a bare write and read of as many bytes. Each is answered by one
-- byte or boolean, so that the clock stops when the receiver has it.
local ipc = require 'libipc'
local torch = require 'ipc.torch'
local bare = require 'benches.bare'

return function(report)
  for _, case in ipairs {
    { '4 KB', 1e3 },
    { '400 KB', 1e5, '>= 0.8' },
    { '4 MB', 1e6, '>= 0.8' },
    { '40 MB', 1e7, '>= 0.8' },
    { '400 MB', 1e8, '>= 0.8' },
  } do
    local what, elements, goal = case[1], case[2], case[3]
    local n = 4 * elements
    local listener, bare_port = bare.listen()
    local pid = ipc.fork()
    if pid == 0 then
      local fd, p, word = bare.connect(bare_port), bare.buffer(n), bare.buffer(8)
      bare.recv(fd, word, 8)
      local client = ipc.client(tonumber(require('ffi').string(word, 5)))
      local t = torch.FloatTensor(elements)
      while bare.recv(fd, word, 1) do
        if word[0] == 0 then
          bare.recv(fd, p, n)
          bare.send(fd, word, 1)
        else
          client:recv(t)
          client:send(true)
        end
      end
      os.exit(0)
    end
    local fd, p, word = bare.accept(listener), bare.buffer(n), bare.buffer(8)
    local server, port = ipc.server()
    require('ffi').copy(word, ('%05d   '):format(port), 8)
    bare.send(fd, word, 8)
    local peer
    server:clients(1, function(c) peer = c end)
    local t = torch.FloatTensor(elements):fill(1)

    local rounds = elements >= 1e8 and 3 or 7
    local times = report.turns({
      bare = function()
        return report.time(function()
          word[0] = 0
          bare.send(fd, word, 1)
          bare.send(fd, p, n)
          bare.recv(fd, word, 1)
        end, 1, 0.1)
      end,
      ours = function()
        return report.time(function()
          word[0] = 1
          bare.send(fd, word, 1)
          peer:send(t)
          peer:recv()
        end, 1, 0.1)
      end,
    }, rounds)
    what = 'a tensor of ' .. what .. ' over TCP, bytes'
    report.compare_rate(what, n / times.ours, n / times.bare, 'bare write and read', goal)
    bare.close(fd)
    bare.close(listener)
    server:close()
    ipc.waitpid(pid)
  end
end
