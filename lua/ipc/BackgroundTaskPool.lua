--- `BackgroundTaskPool(size, [opts])`: tasks that `size` threads do beside this one, and their results. Its functions
--- are called with a dot or a colon. Options: `closeOnLastTask`, `upvalues`, `onProgress(done, total)`. See
--- doc/background.md.

local ipc = require 'libipc'
local utils = require 'ipc.utils'

local place = 'BackgroundTaskPool'

local known = { 'closeOnLastTask', 'upvalues', 'onProgress' }
local kinds = { closeOnLastTask = 'boolean', upvalues = 'boolean', onProgress = 'function' }

local function checkOptions(options)
   utils.checkOptions(place, 2, options, known)
   for name, value in pairs(options or {}) do
      if type(value) ~= kinds[name] then
         utils.raise('argument', place, "option '%s': expected a %s, got %s", name, kinds[name], type(value))
      end
   end
   return options or {}
end

return utils.api(function(size, options)
   utils.checkIndex(place, 1, size, 1, math.huge)
   options = checkOptions(options)
   local onProgress, closeOnLastTask = options.onProgress, options.closeOnLastTask
   local workers = utils.call(ipc.pool, size, { name = 'tasks', upvalues = options.upvalues })
   local batch = workers:batch()

   local total, done = 0, 0
   -- Futures by id: of tasks that nobody has seen end, and of those that have ended and whose results are still here.
   -- Of an id up to `total` that is in neither the result was taken.
   local running, ended = {}, {}
   -- The ids of the latter in the order in which they ended, from `first` to `last`; between them some that are gone.
   local order, first, last = {}, 1, 0

   --- Takes note of the next task that ends, if one does in time.
   local function notice(timeout)
      local id, future = utils.call(ipc.__next, batch, timeout)
      if not id then return false end
      running[id], ended[id] = nil, future
      last = last + 1
      order[last] = id
      done = done + 1
      if onProgress then onProgress(done, total) end
      return true
   end

   --- Takes note of all that have ended until now.
   local function catchUp()
      while notice(0) do end
   end

   --- The one that ended first of those whose results are still here.
   local function oldest()
      while order[first] and not ended[order[first]] do
         order[first] = nil
         first = first + 1
      end
      return order[first]
   end

   local pool = {}
   local owner = { pool }

   --- Calls `fn(...)` in one of the threads, as soon as one is free; the number of the task, from 1.
   pool.addTask = utils.api(function(fn, ...)
      utils.check(place .. '.addTask', 1, fn, 'function')
      local ok, id, future = pcall(batch.submit, batch, fn, ...)
      if not ok then
         id = utils.reworded(id, 'ipc%.pool%(n,', place .. '(n,')
         error(utils.reworded(id, '^(libipc %b[]) batch:submit', '%1 ' .. place .. '.addTask'), 0)
      end
      running[id] = future
      total = total + 1
      return id
   end, 1, owner)

   --- Whether a task is unfinished.
   pool.hasTask = utils.api(function()
      catchUp()
      return next(running) ~= nil
   end, 1, owner)

   --- Whether task `id` has ended (one whose result was taken has), or all have. `block`: waits for that, for ever
   --- (true) or for so many seconds.
   pool.isDone = utils.api(function(id, block)
      local where = place .. '.isDone'
      utils.check(where, 1, id, 'number|nil')
      if type(block) == 'table' then block = utils.callTimeout(where, 2, block, math.huge) end
      utils.check(where, 2, block, 'boolean|number|nil')
      if type(block) == 'number' then utils.seconds(where, 2, block) end
      local function isDone()
         if id == nil then return next(running) == nil end
         return running[id] == nil
      end
      if block == math.huge then block = true end
      catchUp()
      if block then
         local stop = block ~= true and ipc.clock() + block or nil
         while not isDone() do
            if not notice(stop and math.max(0, stop - ipc.clock())) then break end
         end
      end
      return isDone()
   end, 1, owner)

   --- Waits for task `id`, or for the next one that ends, and takes its result: returns all that it returned, or raises
   --- its error with the traceback. Nothing for an id whose result was taken, or that no task has.
   pool.getResult = utils.api(function(id, timeout)
      local where = place .. '.getResult'
      utils.check(where, 1, id, 'number|nil')
      timeout = utils.callTimeout(where, 2, timeout, math.huge)
      local stop = ipc.clock() + timeout
      catchUp()
      if id ~= nil and not running[id] and not ended[id] then return end
      local found = id or oldest()
      while not (found and ended[found]) do
         if next(running) == nil then
            utils.raise('state', where, 'there is no task whose result could be taken')
         end
         if not notice(math.max(0, stop - ipc.clock())) then
            utils.raise('timeout', where, 'no result came in %g s', timeout)
         end
         found = id or oldest()
      end
      local future = ended[found]
      ended[found] = nil
      oldest() -- lets go of the gaps
      if closeOnLastTask and next(running) == nil and next(ended) == nil then pool.close() end
      return utils.callAs(where, future.get, future)
   end, '*', owner)

   --- Takes no more tasks and waits until all have ended, for so many seconds at most. Their results stay.
   pool.close = utils.api(function(timeout)
      utils.callAs(place .. '.close', workers.close, workers, timeout)
      catchUp()
   end, 1, owner)

   --- Drops the tasks that wait, ends those that run, and takes no more. The result of each is then an error that says
   --- so.
   pool.cancel = utils.api(function() utils.callAs(place .. '.cancel', workers.cancel, workers) end)

   return setmetatable(pool, {
      __tostring = function() return 'ipc.BackgroundTaskPool' .. tostring(workers):match(': .*') end,
   })
end)
