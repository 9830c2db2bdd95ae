-- Starting and joining a thread with a Lua state of its own, beside what else starts one.
local ipc = require 'libipc'
local cqueues = require 'cqueues.thread'
local ffi = require 'ffi'
local uv = require 'luv'

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

local function with_cqueues()
  local thread, connection = cqueues.start(function() end)
  assert(thread:join())
  connection:close()
end

return function(report)
  local function timed(n, f)
    return function() return report.time(f, n) end
  end
  local times = report.turns({
    one = timed(3, function() ipc.map(1, function() end):join() end),
    hundred = timed(1, function() ipc.map(100, function() end):join() end),
    bare = timed(3, bare),
    luv = timed(3, function() uv.new_thread(function() end):join() end),
    cqueues = timed(3, with_cqueues),
  }, 7)
  report.compare('map(1) and join', times.one, 100e-6, 'limit', '<= 1')
  report.compare('map(1) and join', times.one, times.bare, 'a bare state of LuaJIT, opened and closed')
  report.compare('map(1) and join', times.one, times.luv, 'luv.new_thread')
  report.compare('map(1) and join', times.one, times.cqueues, 'cqueues.thread')
  report.compare('map(100) and join', times.hundred, 100 * times.one, '100 times map(1)', '<= 1.5')
end
