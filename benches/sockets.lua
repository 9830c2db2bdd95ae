-- Round trips of small messages between two processes over TCP, against bare blocking sockets that carry as many bytes;
-- alone, and beside programs that take every core.
local ipc = require 'libipc'
local bare = require 'benches.bare'

-- The other process: echoes what comes on both kinds of connection until they end.
local function echo_bare(port, n)
  local fd, p = bare.connect(port), bare.buffer(n)
  while bare.recv(fd, p, n) do bare.send(fd, p, n) end
end

local function echo_ours(port)
  local client = ipc.client(port)
  while true do
    local ok, v = pcall(client.recv, client)
    if not ok then return end
    client:send(v)
  end
end

local function in_child(f, ...)
  local pid = ipc.fork()
  if pid == 0 then
    local ok, e = pcall(f, ...)
    if not ok then io.stderr:write(tostring(e), '\n') end
    os.exit(ok and 0 or 1)
  end
  return pid
end

return function(report)
  for _, case in ipairs {
    { 'a small table', { x = 1, y = 2.5, name = 'hello', list = { 1, 2, 3 } } },
    { 'a 1 KB string', ('x'):rep(1024) },
  } do
    local what, value = case[1], case[2]
    local n = #ipc.marshal(value):bytes() + 16
    local listener, bare_port = bare.listen()
    local other = in_child(echo_bare, bare_port, n)
    local fd, p = bare.accept(listener), bare.buffer(n)

    -- The child is forked before the server is made: it must not hold what the server opened.
    local server, port
    local ready = bare.buffer(2)
    local pid = ipc.fork()
    if pid == 0 then
      bare.close(fd)
      local back = bare.connect(bare_port)
      bare.recv(back, ready, 2)
      local bytes = require('ffi').string(ready, 2)
      echo_ours(bytes:byte(1) * 256 + bytes:byte(2))
      os.exit(0)
    end
    server, port = ipc.server()
    local back = bare.accept(listener)
    require('ffi').copy(ready, string.char(math.floor(port / 256), port % 256), 2)
    bare.send(back, ready, 2)
    local peer
    server:clients(1, function(c) peer = c end)

    local contenders = {
      bare = function()
        return report.time(function()
          bare.send(fd, p, n)
          bare.recv(fd, p, n)
        end, 1, 0.1)
      end,
      ours = function()
        return report.time(function()
          peer:send(value)
          return peer:recv()
        end, 1, 0.1)
      end,
    }
    local times = report.turns(contenders, 11)
    report.compare('round trip of ' .. what .. ' over TCP', times.ours, times.bare, 'bare blocking sockets', '<= 1.3')
    if not report.one_core then
      local loops = {}
      for i = 1, 4 do loops[i] = ipc.spawn { file = 'luajit', args = { '-e', 'while true do end' } } end
      ipc.sleep(0.1)
      times = report.turns(contenders, 5)
      for _, loop in ipairs(loops) do loop:wait(9) end
      report.compare('round trip of ' .. what .. ' over TCP beside four endless loops', times.ours, times.bare,
        'bare blocking sockets', '<= 1.2')
    end
    server:close()
    bare.close(fd)
    bare.close(back)
    bare.close(listener)
    ipc.waitpid(other)
    ipc.waitpid(pid)
  end
end
