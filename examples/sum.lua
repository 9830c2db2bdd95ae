-- The nodes that ipcrun starts add up their tensors:
--
--   luajit bin/ipcrun -n 4 examples/sum.lua

local ipc = require 'libipc'
local torch = require 'ipc.torch'
local tree = ipc.tree()          -- all nodes that were launched together; one alone where none were
local gradient = torch.FloatTensor(1000):fill(tree.nodeIndex)
tree.allReduce(gradient, function(a, b) return a:add(b) end)
if tree.nodeIndex == 1 then print(('%d nodes, sum %g'):format(tree.numNodes, gradient[1000])) end
tree.close()
