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

   local total, done, taken, following = 0, 0, 0, 1
   -- How many tasks there were, have ended and were taken, and the id of the next. Tasks by id until they are taken:
   -- { id, future, ended, later }. Those that have ended are a list as well, in the order in which they did: `later` is
   -- the next after one, and `first` the last that was taken with all before it. A task has all of this from the start:
   -- where there is no memory when it ends, it is not lost.
   local tasks = {}
   local first = { later = false }
   local last = first

   --- Takes note of the next task that ends, if one does in time.
   local function notice(timeout)
      -- Nothing that may want memory comes between the call and the note.
      local ok, id = pcall(ipc.__next, batch, timeout)
      if not ok then error(id, 0) end
      if not id then return false end
      local task = tasks[id]
      task.ended = true
      last.later = task
      last = task
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
      while first.later and not tasks[first.later.id] do first = first.later end
      return first.later
   end

   local pool = {}
   local owner = { pool }

   --- Calls `fn(...)` in one of the threads, as soon as one is free; the number of the task, from 1.
   pool.addTask = utils.api(function(fn, ...)
      utils.check(place .. '.addTask', 1, fn, 'function')
      local task = { id = following, future = false, ended = false, later = false }
      tasks[following] = task
      local ok, id, future = pcall(batch.submit, batch, fn, ...)
      if not ok or id ~= following then tasks[following] = nil end
      if not ok then
         id = utils.reworded(id, 'ipc%.pool%(n,', place .. '(n,')
         error(utils.reworded(id, '^(libipc %b[]) batch:submit', '%1 ' .. place .. '.addTask'), 0)
      end
      -- One that could not be submitted may have had the number.
      if id ~= following then tasks[id] = task end
      task.id, task.future, following = id, future, id + 1
      total = total + 1
      return id
   end, 1, owner)

   --- Whether a task is unfinished.
   pool.hasTask = utils.api(function()
      catchUp()
      return done < total
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
         if id == nil then return done == total end
         return not tasks[id] or tasks[id].ended
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
      if id ~= nil and not tasks[id] then return end
      local task = id and tasks[id] or oldest()
      while not (task and task.ended) do
         if done == total then
            utils.raise('state', where, 'there is no task whose result could be taken')
         end
         if not notice(math.max(0, stop - ipc.clock())) then
            utils.raise('timeout', where, 'no result came in %g s', timeout)
         end
         task = task or oldest()
      end
      local function pass(ok, ...)
         -- What cannot be read here now, for want of memory, stays.
         if ok or not utils.lacksMemory((...)) then
            tasks[task.id], task.future = nil, false
            taken = taken + 1
            oldest() -- lets go of the gaps
            if closeOnLastTask and taken == total then pool.close() end
         end
         if not ok then error(utils.reworded((...), '^(libipc %b[]) [^ ]+: ', '%1 ' .. where .. ': '), 0) end
         return ...
      end
      return pass(pcall(task.future.get, task.future))
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
