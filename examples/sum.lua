-- The nodes that ipcrun starts add up their numbers:
--
--   luajit bin/ipcrun -n 4 examples/sum.lua

local ipc = require 'libipc'

local tree = ipc.tree() -- all nodes that were launched together; one alone where none were
local sum = tree.allReduce(tree.nodeIndex, 'sum')
if tree.nodeIndex == 1 then print(('%d nodes, sum %d'):format(tree.numNodes, sum)) end
tree.close()
