--- Barrier: nobody leaves before all have come.

local utils = require 'ipc.utils'

local function meet(group)
   for _, child in ipairs(group.children) do group:header(child, 'up') end
   if group.parent then
      group:sendHeader(group.parent, 'up', nil, {})
      group:header(group.parent, 'down')
   end
   for _, child in ipairs(group.children) do group:sendHeader(child, 'down', nil, {}) end
end

--- Makes `barrier([timeout | options])` for the node that `group` is.
return function(group)
   return utils.api(function(options)
      local timeout = utils.callTimeout('tree.barrier', 1, options, group.timeout)
      group:within(timeout, 'barrier', nil, meet)
   end, 1, group.owner)
end
