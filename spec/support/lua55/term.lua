-- Stands in for lua-term on Lua 5.5: whether the output is a terminal, and no colours.
local host = require 'host'
local plain = setmetatable({}, { __index = function() return function(s) return s or '' end end })

local function isatty(file) return host.isatty(file == io.stdin and 0 or file == io.stdout and 1 or 2) end

return { isatty = isatty, colors = plain }
