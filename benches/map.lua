-- Starting and joining a thread with a Lua state of its own.
local ipc = require 'libipc'

return function(report)
  local took = report.time(function() ipc.map(1, function() end):join() end, 11)
  report.compare('map(1) and join', took, 0.4e-3, 'limit', '<= 1')
  local many = report.time(function() ipc.map(100, function() end):join() end, 5)
  report.compare('map(100) and join', many, 100 * took, '100 times map(1)', '<= 1.5')
end
