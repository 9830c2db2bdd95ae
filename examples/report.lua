-- Two threads take two mutexes, each in its own order, and wait for each other for ever. A third one watches, sees that
-- somebody has waited for too long, and prints who waits for what, and who holds it:
--
--   luajit examples/report.lua

local ipc = require 'libipc'

local first, second = ipc.mutex(), ipc.mutex()

local stuck = ipc.map { threads = 2, name = 'friend', args = { first, second }, fn = function(a, b, id)
  local ipc = require 'libipc' -- luacheck: ignore 431
  if id == 2 then a, b = b, a end
  a:lock()
  ipc.sleep(0.1) -- meanwhile the other one takes the other
  b:lock()
end }

local watch = ipc.map { threads = 1, name = 'watch', fn = function()
  local ipc = require 'libipc' -- luacheck: ignore 431
  while true do
    ipc.sleep(0.1)
    local report = ipc.report()
    for _, thread in ipairs(report.threads) do
      if thread.waiting == 'mutex:lock' and ipc.clock() - thread.since > 0.3 then return tostring(report) end
    end
  end
end }

print((watch:join()))
stuck:cancel()
