--- `BackgroundTaskPool(size, [opts])`: tasks that `size` threads do beside this one, and their results. Its functions
--- are called with a dot. Options: `closeOnLastTask`, `upvalues`, `onProgress(done, total)`. See doc/background.md.

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
   local running, ended = {}, {}
   -- The ids of the latter in the order in which they ended, from `first` to `last`; between them some that are gone.
   local order, first, last = {}, 1, 0

   --- Takes note of the next task that ends, if one does in time.
   local function notice(timeout)
      local id, future = utils.call(batch.next, batch, timeout)
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

   --- Calls `fn(...)` in one of the threads, as soon as one is free; the number of the task, from 1.
   pool.addTask = utils.api(function(fn, ...)
      utils.check(place .. '.addTask', 1, fn, 'function')
      local id, future = utils.call(batch.submit, batch, fn, ...)
      running[id] = future
      total = total + 1
      return id
   end)

   --- Whether there is a task whose result was not taken yet.
   function pool.hasTask() return next(running) ~= nil or next(ended) ~= nil end

   local function checkId(where, id)
      utils.check(where, 1, id, 'number')
      if not running[id] and not ended[id] then
         utils.raise('state', where, 'there is no task %s, or its result was taken', tostring(id))
      end
   end

   --- Whether task `id` has ended, or all have. `block`: waits for that, for ever (true) or for so many seconds.
   pool.isDone = utils.api(function(id, block)
      local where = place .. '.isDone'
      if id ~= nil then checkId(where, id) end
      utils.check(where, 2, block, 'boolean|number|nil')
      local function isDone()
         if id == nil then return next(running) == nil end
         return running[id] == nil
      end
      catchUp()
      if block then
         local stop = block ~= true and ipc.clock() + block or nil
         while not isDone() do
            if not notice(stop and math.max(0, stop - ipc.clock())) then break end
         end
      end
      return isDone()
   end)

   --- Waits for task `id`, or for the next one that ends, and takes its result: returns all that it returned, or raises
   --- its error with the traceback.
   pool.getResult = utils.api(function(id, timeout)
      local where = place .. '.getResult'
      utils.check(where, 2, timeout, 'number|nil')
      if id ~= nil then checkId(where, id) end
      local stop = timeout and ipc.clock() + timeout
      catchUp()
      local found = id or oldest()
      while not (found and ended[found]) do
         if not pool.hasTask() then
            utils.raise('state', where, 'there is no task whose result could be taken; see hasTask()')
         end
         if not notice(stop and math.max(0, stop - ipc.clock())) then
            utils.raise('timeout', where, 'no result came in %s s', timeout)
         end
         found = id or oldest()
      end
      local future = ended[found]
      ended[found] = nil
      oldest() -- lets go of the gaps
      if closeOnLastTask and not pool.hasTask() then pool.close() end
      return utils.call(future.get, future)
   end, '*')

   --- Takes no more tasks and waits until all have ended, for so many seconds at most. Their results stay.
   pool.close = utils.api(function(timeout)
      utils.call(workers.close, workers, timeout)
      catchUp()
   end)

   --- Drops the tasks that wait, ends those that run, and takes no more. The result of each is then an error that says
   --- so.
   pool.cancel = utils.api(function() utils.call(workers.cancel, workers) end)

   return setmetatable(pool, {
      __tostring = function() return 'ipc.BackgroundTaskPool' .. tostring(workers):match(': .*') end,
   })
end)
