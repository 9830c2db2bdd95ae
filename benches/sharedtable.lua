-- Shared tables, mutexes and atomic numbers: how many steps a second, alone and with two threads.
local ipc = require 'libipc'

local N = 1000000

-- Sets or gets of one thread or several at a time, each on keys of its own, in all of them together, a second.
-- `apart`: each in a table of its own, where nothing is shared but the machine.
local function steps(threads, what, apart)
  local start, tables = ipc.mutex(), {}
  for id = 1, threads do tables[id] = apart and ipc.sharedtable() or tables[1] or ipc.sharedtable() end
  local times = { ipc.map(threads, function(all, gate, count, n, doing, id)
    local clock, table_ = require('libipc').clock, all[id]
    local base = id * 1000
    for i = 1, 100 do table_[base + i] = i end
    gate:barrier(n)
    local began = clock()
    if doing == 'set' then
      for _ = 1, count / 100 do
        for i = 1, 100 do table_[base + i] = i end
      end
    else
      local sum = 0
      for _ = 1, count / 100 do
        for i = 1, 100 do sum = sum + table_[base + i] end
      end
      assert(sum == count / 100 * 5050)
    end
    return clock() - began
  end, tables, start, N, threads, what):join() }
  local slowest = 0
  for _, took in ipairs(times) do slowest = math.max(slowest, took) end
  return threads * N / slowest
end

-- Pairs of calls a second, of each mutex by code of its own: LuaJIT would compile what they share for one of them.
local pairs_of_calls = [[
  local m, clock, n = ...
  local start = clock()
  for _ = 1, n do
    m:%s()
    m:%s()
  end
  return n / (clock() - start)
]]

local function calls(m, one, other)
  local code = loadstring(pairs_of_calls:format(one, other))
  return function() return code(m, ipc.clock, N) end
end

return function(report)
  for _, what in ipairs { 'set', 'get' } do
    local rates = report.turns({
      one = function() return steps(1, what) end,
      two = function() return steps(2, what) end,
      apart = function() return steps(2, what, true) end,
    }, 7)
    local done = 'shared table, numbers ' .. what
    report.compare_rate(done, rates.one, 8e6, 'limit', '>= 1')
    report.compare_rate(done .. ' by two threads', rates.two, rates.one, 'by one', '>= 1.6')
    report.compare_rate(done .. ' by two threads', rates.two, rates.apart, 'by two in tables of their own')
  end
  local t = ipc.sharedtable()
  local function rate(f)
    return 1000 / report.time(function()
      for i = 1, 1000 do f(i) end
    end)
  end
  local value = { x = 1, y = 2.5, name = 'hello' }
  t.value, t.text = value, ('x'):rep(1024)
  report.compare_rate('shared table, small tables set', rate(function() t.value = value end), 1.7e6, 'limit', '>= 1')
  report.compare_rate('shared table, small tables got', rate(function() return t.value end), 1.7e6, 'limit')
  report.compare_rate('shared table, 1 KB strings got', rate(function() return t.text end), 1.7e6, 'limit')
  local incr = ipc.sharedtable.incr
  report.compare_rate('shared table, incr', rate(function() incr(t, 'n') end), 8e6, 'limit', '>= 1')
  local bare = require 'bench_peer'.mutex()
  local taken = report.turns({
    ours = calls(ipc.mutex(), 'lock', 'unlock'),
    bare = calls(bare, 'lock', 'unlock'),
    nothing = calls(bare, 'nothing', 'nothing'),
  }, 7)
  local what = 'mutex, lock and unlock alone'
  report.compare_rate(what, taken.ours, 24e6, 'limit', '>= 1')
  report.compare_rate(what, taken.ours, taken.bare, 'a recursive mutex of pthreads, bound in C')
  report.compare_rate(what, taken.ours, taken.nothing, 'two methods in C that do nothing')
end
