-- How fast processes of this host reduce a tensor:
--
--   luajit examples/allreduce.lua --nodes 4 --size 1000000 --iterations 20 --verify
--
-- Options: --nodes 4  --size 1000000 (elements of a FloatTensor)  --iterations 20  --base 2 (children of a node)
--          --op sum (by name; `function` takes a Lua function)  --verify (checks every element of every result)
--
-- MB/s: bytes of the tensor a second, per node.

local here = arg[0]:match '^(.*)/' or '.'
package.path = here .. '/?.lua;' .. package.path

local ipc = require 'libipc'
local torch = require 'ipc.torch'
local options = require 'arguments'(
  { nodes = 4, size = 1000000, iterations = 20, base = 2, op = 'sum', verify = false }, arg)

local function add(a, b) return a:add(b) end

local function node(index)
  local tree = require 'ipc.LocalhostTree'(index, options.nodes, { base = options.base })
  local op = options.op == 'function' and add or options.op
  local n = tree.numNodes
  local expected = ({ mean = (n + 1) / 2, max = n, min = 1 })[options.op] or n * (n + 1) / 2
  local value = torch.FloatTensor(options.size)
  local seconds = {}
  for i = 1, options.iterations + 1 do -- the first round makes the room that the others use again
    value:fill(tree.nodeIndex)
    tree.barrier()
    local since = ipc.clock()
    local _, contributors = tree.allReduce(value, op)
    if i > 1 then seconds[i - 1] = ipc.clock() - since end
    assert(contributors == n, 'somebody did not contribute')
    if options.verify then
      assert(value:min() == expected and value:max() == expected, ('expected %g everywhere'):format(expected))
    end
  end
  table.sort(seconds)
  local median = seconds[math.ceil(#seconds / 2)]
  if tree.nodeIndex == 1 then
    print(('%d nodes, %d floats, %s: %.0f us, %.0f MB/s%s'):format(tree.numNodes, options.size, options.op,
      median * 1e6, options.size * 4 / median / 1e6, options.verify and ', every result verified' or ''))
  end
  tree.close()
end

io.stdout:setvbuf 'line'
local children = {}
for index = 1, options.nodes do
  local pid = ipc.fork()
  if pid == 0 then
    local ok, e = xpcall(function() node(index) end, debug.traceback)
    if not ok then io.stderr:write(e, '\n') end
    os.exit(ok and 0 or 1)
  end
  children[index] = pid
end
local ok = true
for _, pid in ipairs(children) do ok = ipc.waitpid(pid) == 0 and ok end
os.exit(ok and 0 or 1)
