-- allReduce of a float tensor over processes of this host, against what its bytes cost at the least on bare sockets:
-- each node but the root sends its tensor up and gets the sum back.
local ipc = require 'libipc'
local torch = require 'ipc.torch'
local bare = require 'benches.bare'

-- Seconds to send n bytes to another process and get n back.
local function there_and_back(report, n)
  local listener, port = bare.listen()
  local pid = ipc.fork()
  if pid == 0 then
    local fd, p = bare.connect(port), bare.buffer(n)
    while bare.recv(fd, p, n) do bare.send(fd, p, n) end
    os.exit(0)
  end
  local fd, p = bare.accept(listener), bare.buffer(n)
  local took = report.time(function()
    bare.send(fd, p, n)
    bare.recv(fd, p, n)
  end, 5)
  bare.close(fd)
  bare.close(listener)
  ipc.waitpid(pid)
  return took
end

-- Seconds a call, the median on node 1.
local function all_reduce(report, nodes, elements)
  local calls = math.max(5, math.min(300, math.floor(2e7 / elements)))
  local key = ('bench %d %d'):format(nodes, elements)
  local function run(index)
    local tree = require 'ipc.LocalhostTree'(index, nodes, index == 1 and ipc.getpid() or ipc.getppid(), { key = key })
    local t = torch.FloatTensor(elements):fill(1)
    local times = {}
    for i = 1, calls do
      local start = ipc.clock()
      tree.allReduce(t, function(a, b) return a:add(b) end)
      times[i] = ipc.clock() - start
      t:fill(1)
    end
    tree.close()
    return report.median(times)
  end
  local pids = {}
  for index = 2, nodes do
    local pid = ipc.fork()
    if pid == 0 then
      local ok, e = pcall(run, index)
      if not ok then io.stderr:write(tostring(e), '\n') end
      os.exit(ok and 0 or 1)
    end
    pids[#pids + 1] = pid
  end
  local took = run(1)
  for _, pid in ipairs(pids) do assert(ipc.waitpid(pid) == 0, 'a node failed') end
  return took
end

return function(report)
  for _, nodes in ipairs { 2, 4 } do
    for _, size in ipairs { { '1K', 1e3 }, { '100K', 1e5 }, { '1M', 1e6 }, { '10M', 1e7 } } do
      local limit = there_and_back(report, 4 * size[2])
      local took = all_reduce(report, nodes, size[2])
      -- On two cores four nodes share what two have to themselves. What small ones cost is not the bytes.
      local goal = size[2] >= 1e6 and (nodes == 2 and '<= 2' or '<= 6') or nil
      local what = ('allReduce of %s floats, %d processes'):format(size[1], nodes)
      report.compare(what, took, limit, 'bare sockets, there and back', goal)
    end
  end
end
