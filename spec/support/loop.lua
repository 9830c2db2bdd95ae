-- A scheduler for coroutines in forty lines: what each of them waits for is waited for by ipc.select.
local ipc = require 'libipc'

local loop = {}

local waiting = {} -- coroutine → {fd, mode, until}

function loop.wait(fd, mode, timeout)
  coroutine.yield {fd, mode, timeout and ipc.clock() + timeout or math.huge}
end

local function step(co, ...)
  local ok, wants = coroutine.resume(co, ...)
  if not ok then error(tostring(wants) .. '\n' .. debug.traceback(co), 0) end
  waiting[co] = coroutine.status(co) == 'suspended' and wants or nil
end

--- Runs the functions as coroutines until all have ended; returns how often one of them yielded.
function loop.run(...)
  local yields = 0
  waiting = {}
  for _, task in ipairs {...} do step(coroutine.create(task)) end
  while next(waiting) do
    local list, of, first = {}, {}, math.huge
    for co, wants in pairs(waiting) do
      yields = yields + 1
      list[#list + 1] = {ipc.fd(wants[1]), wants[2]}
      of[#list] = co
      first = math.min(first, wants[3])
    end
    local _, index = ipc.select(list, math.max(0, first - ipc.clock()))
    if index then step(of[index]) end
    -- All that are due, once each: where a step takes longer than one of them waits, that one would go on alone.
    local due, now = {}, ipc.clock()
    for co, wants in pairs(waiting) do
      if wants[3] <= now then due[#due + 1] = co end
    end
    for _, co in ipairs(due) do step(co) end
  end
  return yields
end

return loop
