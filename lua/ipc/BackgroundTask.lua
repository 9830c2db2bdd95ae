--- `BackgroundTask(fn, ...)`: calls `fn(...)` in a thread beside this one. Any number of them run at a time; for a
--- bounded number there is ipc.BackgroundTaskPool. See doc/background.md.

local ipc = require 'libipc'
local utils = require 'ipc.utils'

return utils.api(function(fn, ...)
   utils.check('BackgroundTask', 1, fn, 'function')
   local pool = utils.call(ipc.pool, 1, { name = 'task' })
   local ok, future = pcall(pool.submit, pool, fn, ...)
   -- There will be no other task: the worker goes home when this one is done.
   utils.try(pool.close, pool, 0)
   if not ok then
      future = utils.reworded(future, ', or ipc%.pool%b()', '')
      error(utils.reworded(future, '^(libipc %b[]) pool:submit', '%1 BackgroundTask'), 0)
   end

   local task = {}
   local owner = { task }

   --- Whether the task has ended, however it did.
   function task.isDone() return future:done() end

   --- Waits for the end of the task; returns all that it returned, or raises its error with the traceback.
   task.getResult = utils.api(function(timeout)
      return utils.callAs('BackgroundTask.getResult', future.get, future, timeout)
   end, '*', owner)

   --- Ends the task; false if it had ended before. Its result is then an error that says so.
   task.cancel = utils.api(function() return utils.callAs('BackgroundTask.cancel', future.cancel, future) end)

   return setmetatable(task, {
      __tostring = function() return 'ipc.BackgroundTask' .. tostring(future):match(': .*') end,
   })
end)
