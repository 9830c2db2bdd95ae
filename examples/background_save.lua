-- Trains while the model of the epoch before is being saved in the background:
--
--   luajit examples/background_save.lua
--
-- Options: --epochs 5 --size 1000000 --path FILE (default: a temporary one, removed at the end)

local here = arg[0]:match '^(.*)/' or '.'
package.path = here .. '/?.lua;' .. package.path

local ipc = require 'libipc'
local torch = require 'ipc.torch'
local BackgroundTask = require 'ipc.BackgroundTask'
local options = require 'arguments'({ epochs = 5, size = 1000000, path = '' }, arg)

local path = options.path ~= '' and options.path or os.tmpname()

-- Runs in a thread of its own. First under another name: a program that reads `path` finds a whole model, always.
local function save(file, model)
  local torch = require 'ipc.torch' -- luacheck: ignore 431
  torch.save(file .. '.new', model)
  assert(os.rename(file .. '.new', file))
  return model.epoch
end

-- A model that gets better: its parameters go half of the way to their goal in each step.
local parameters = torch.FloatTensor(options.size):zero()
local goal = torch.FloatTensor(options.size):fill(1)
local function train()
  for _ = 1, 4 do parameters:add(0.5, goal - parameters) end
end

local saving
local waited, since = 0, ipc.clock()
for epoch = 1, options.epochs do
  train()
  if saving then
    local before = ipc.clock()
    print(('epoch %d is saved'):format(saving.getResult())) -- an error in the thread would be raised here
    waited = waited + ipc.clock() - before
  end
  -- Tensors go to a thread by reference: what is saved is a copy, so that training can go on in the original.
  saving = BackgroundTask(save, path, { epoch = epoch, parameters = parameters:clone() })
end
print(('epoch %d is saved'):format(saving.getResult()))

local saved = torch.load(path)
assert(saved.epoch == options.epochs and (saved.parameters - parameters):abs():max() == 0)
if options.path == '' then os.remove(path) end
print(('%d epochs in %.2f s, of which %.2f s were spent waiting for the disk'):format(options.epochs,
  ipc.clock() - since, waited))
