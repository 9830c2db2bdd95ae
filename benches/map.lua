-- Starting and joining a thread with a Lua state of its own.
local ipc = require 'libipc'
local ffi = require 'ffi'

ffi.cdef [[
void *luaL_newstate(void);
void luaL_openlibs(void *);
void lua_close(void *);
]]

-- A state with the standard libraries, by itself: what any thread of LuaJIT costs at least.
local function bare()
  local state = ffi.C.luaL_newstate()
  ffi.C.luaL_openlibs(state)
  ffi.C.lua_close(state)
end

return function(report)
  local took, lua, many = {}, {}, {}
  for i = 1, 7 do
    took[i] = report.time(function() ipc.map(1, function() end):join() end, 3)
    lua[i] = report.time(bare, 3)
    many[i] = report.time(function() ipc.map(100, function() end):join() end, 1)
  end
  took, lua, many = report.median(took), report.median(lua), report.median(many)
  report.compare('map(1) and join', took, 100e-6, 'limit', '<= 1')
  report.compare('map(1) and join', took, lua, 'a bare state of LuaJIT, opened and closed')
  report.compare('map(100) and join', many, 100 * took, '100 times map(1)', '<= 1.5')
end
