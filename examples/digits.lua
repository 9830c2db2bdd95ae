-- Trains a classifier of handwritten digits with several processes that sum their gradients:
--
--   luajit bin/ipcrun -n 4 examples/digits.lua
--   luajit examples/digits.lua --nodes 4
--
-- The first way is that of a script which is launched; the second one shows that a script can start its nodes itself.
--
-- Options: --nodes 4 --epochs 20 --batch 32 --rate 0.4 --momentum 0.9 --seed 1
--
-- Every node holds a share of the training rows. In each step it takes the rows of the batch that it holds, computes
-- their gradient, and allReduce gives every node the sum; so all take the same step. At the end the nodes compare their
-- parameters through the tree, and the root trains once more alone, with all rows, to see that the result is the same
-- but for the rounding of sums in another order. Exits with 1 if anything is not as it should be.

local here = arg[0]:match '^(.*)/' or '.'
package.path = here .. '/?.lua;' .. package.path

local ipc = require 'libipc'
local torch = require 'ipc.torch'
local unpack = table.unpack or unpack -- luacheck: ignore 143
local options = require 'arguments'({ nodes = 4, epochs = 20, batch = 32, rate = 0.4, momentum = 0.9, seed = 1 }, arg)

local pixels, classes, tests = 64, 10, 360
local accuracyWanted = 0.95
local differenceAllowed = 1e-3 -- floats have 7 digits; sums of 32 terms in another order, some 900 steps

-- ---- the data ---------------------------------------------------------------------------------------------

-- The same numbers on every Lua and every machine.
local function generator(seed)
  local x = seed
  return function(n)
    x = x * 16807 % 2147483647
    return x % n + 1
  end
end

local function permutation(n, random)
  local order = {}
  for i = 1, n do order[i] = i end
  for i = n, 2, -1 do
    local j = random(i)
    order[i], order[j] = order[j], order[i]
  end
  return order
end

local function read(path)
  local rows = {}
  for line in io.lines(path) do
    local row = {}
    for number in line:gmatch '%d+' do row[#row + 1] = tonumber(number) end
    rows[#rows + 1] = row
  end
  return rows
end

-- Inputs, targets (a 1 in the column of the digit) and labels of the rows.
local function tensors(rows)
  local set = {
    x = torch.FloatTensor(#rows, pixels),
    target = torch.FloatTensor(#rows, classes):zero(),
    label = torch.LongTensor(#rows, 1),
  }
  for i, row in ipairs(rows) do
    set.x[i]:copy(torch.FloatTensor({ unpack(row, 1, pixels) }):div(16))
    set.target[i][row[pixels + 1] + 1] = 1
    set.label[i][1] = row[pixels + 1] + 1
  end
  return set
end

-- A fixed split; the training rows that node `index` of `count` holds, and by which number the others know them.
local function load(index, count)
  local rows = read(here .. '/data/digits.csv')
  local order = permutation(#rows, generator(1))
  local test, mine, held = {}, {}, {}
  for i, row in ipairs(order) do
    if i <= tests then
      test[i] = rows[row]
    elseif (i - tests - 1) % count == index - 1 then
      mine[#mine + 1] = rows[row]
      held[i - tests] = #mine
    end
  end
  return tensors(mine), held, #rows - tests, tensors(test)
end

-- ---- the model: softmax regression ------------------------------------------------------------------------

local function views(flat)
  local n = pixels * classes
  return flat:narrow(1, 1, n):view(pixels, classes), flat:narrow(1, n + 1, classes):view(1, classes)
end

-- The probabilities of each class, row by row, and the class that has most.
local function predict(parameters, x)
  local weight, bias = views(parameters)
  local p = torch.mm(x, weight)
  p:add(bias:expandAs(p))
  local most, which = p:max(2)
  p:add(-1, most:expandAs(p)):exp()
  return p:cdiv(p:sum(2):expandAs(p)), which
end

-- Adds up loss, hits and gradient of the first `n` rows.
local function learn(parameters, gradient, batch, n)
  local x, target = batch.x:narrow(1, 1, n), batch.target:narrow(1, 1, n)
  local p, which = predict(parameters, x)
  local hits = which:eq(batch.label:narrow(1, 1, n)):sum()
  local loss = -torch.log(torch.add(p, 1e-12)):cmul(target):sum()
  local weight, bias = views(gradient)
  p:add(-1, target)
  weight:copy(torch.mm(x:t(), p))
  bias:copy(p:sum(1))
  return loss, hits
end

-- ---- training ---------------------------------------------------------------------------------------------

local function train(tree, report)
  local rows, held, total, test = load(tree.nodeIndex, tree.numNodes)
  local parameters = torch.FloatTensor(pixels * classes + classes):zero()
  local velocity, gradient = parameters:clone(), parameters:clone()
  local batch = tensors {}
  batch.x:resize(options.batch, pixels)
  batch.target:resize(options.batch, classes)
  batch.label:resize(options.batch, 1)
  local random = generator(options.seed)
  local began = ipc.clock()
  for epoch = 1, options.epochs do
    local since = ipc.clock()
    local order = permutation(total, random)
    local rate = options.rate * (1 - (epoch - 1) / options.epochs) -- smaller steps towards the end
    local loss, hits = 0, 0
    for first = 1, total, options.batch do
      local last = math.min(first + options.batch - 1, total)
      local n = 0
      for i = first, last do
        local row = held[order[i]]
        if row then
          n = n + 1
          for part, tensor in pairs(batch) do tensor[n]:copy(rows[part][row]) end
        end
      end
      local sums = { gradient = gradient:zero(), loss = 0, hits = 0 }
      if n > 0 then sums.loss, sums.hits = learn(parameters, gradient, batch, n) end
      tree.allReduce(sums, 'sum')
      velocity:mul(options.momentum):add(1 / (last - first + 1), gradient)
      parameters:add(-rate, velocity)
      loss, hits = loss + sums.loss, hits + sums.hits
    end
    if report then
      local now = ipc.clock()
      print(('epoch %2d/%d  loss %.4f  accuracy %5.2f %%  %7.0f samples/s  %.0f s left'):format(epoch, options.epochs,
        loss / total, 100 * hits / total, total / (now - since), (now - began) / epoch * (options.epochs - epoch)))
    end
  end
  local _, which = predict(parameters, test.x)
  return parameters, which:eq(test.label):sum() / tests
end

-- Every bit of them, as text.
local function text(tensor)
  local numbers = {}
  for i = 1, tensor:nElement() do numbers[i] = ('%.17g'):format(tensor[i]) end
  return table.concat(numbers, ' ')
end

local function node(tree)
  local root = tree.nodeIndex == 1
  local parameters, accuracy = train(tree, root)
  local mine = text(parameters)
  local common = tree.allReduce(mine, function(a, b) return a == b and a or 'different' end)
  local same = common == mine
  local ok = same and accuracy >= accuracyWanted
  if root then
    print(('test accuracy %.2f %% (%.0f %% wanted)'):format(100 * accuracy, 100 * accuracyWanted))
    print(('the parameters of the %d nodes %s'):format(tree.numNodes,
      same and 'are the same to the last bit' or 'DIFFER'))
    local alone = train(require 'ipc.NullTree'())
    local difference = torch.abs(alone - parameters):max()
    local agree = difference <= differenceAllowed
    print(('one process alone on the same data: parameters %s, largest difference %.3g'):format(
      agree and 'agree' or 'DO NOT AGREE', difference))
    ok = ok and agree
  end
  tree.close()
  return ok
end

io.stdout:setvbuf 'line'
if os.getenv 'IPC_NODES' then os.exit(node(ipc.tree()) and 0 or 1) end -- ipcrun's

local children = {}
for index = 1, options.nodes do
  local pid = ipc.fork()
  if pid == 0 then os.exit(node(require 'ipc.LocalhostTree'(index, options.nodes)) and 0 or 1) end
  children[index] = pid
end
local ok = true
for index, pid in ipairs(children) do
  local code = ipc.waitpid(pid)
  if code ~= 0 then
    io.stderr:write(('node %d ended with %s\n'):format(index, tostring(code)))
    ok = false
  end
end
os.exit(ok and 0 or 1)
