-- What the benchmarks share: timing, medians, and the table of results.
local ipc = require 'libipc'

local report = { rows = {} }

--- Seconds that each call of f takes: the median of `rounds`, each long enough to be measured.
function report.time(f, rounds, seconds)
  rounds, seconds = rounds or 7, seconds or 0.05
  local n = 1
  while true do
    local start = ipc.clock()
    for _ = 1, n do f() end
    local took = ipc.clock() - start
    if took >= seconds / 2 then
      n = math.max(1, math.ceil(n * seconds / took))
      break
    end
    n = n * 4
  end
  local times = {}
  for i = 1, rounds do
    local start = ipc.clock()
    for _ = 1, n do f() end
    times[i] = (ipc.clock() - start) / n
  end
  return report.median(times)
end

function report.median(list)
  table.sort(list)
  return list[math.floor((#list + 1) / 2)]
end

--- The medians of several contestants, measured in turns so that a slow moment hits all of them.
---@param contestants table<string, fun(): number> each returns what it measured, once
---@return table<string, number>
function report.turns(contestants, rounds)
  local measured = {}
  for name in pairs(contestants) do measured[name] = {} end
  for _ = 1, rounds or 7 do
    for name, f in pairs(contestants) do table.insert(measured[name], f()) end
  end
  for name, list in pairs(measured) do measured[name] = report.median(list) end
  return measured
end

local units = { { 1, 's' }, { 1e-3, 'ms' }, { 1e-6, 'µs' }, { 1e-9, 'ns' } }

--- A duration in words.
function report.duration(s)
  for _, u in ipairs(units) do
    if s >= u[1] then return ('%.3g %s'):format(s / u[1], u[2]) end
  end
  return ('%.3g ns'):format(s * 1e9)
end

--- A rate in words.
function report.rate(n)
  if n >= 1e9 then return ('%.3g G/s'):format(n / 1e9) end
  if n >= 1e6 then return ('%.3g M/s'):format(n / 1e6) end
  return ('%.3g k/s'):format(n / 1e3)
end

--- `what`, and that it ran on one core.
local function placed(what) return report.one_core and what .. ', one core' or what end

--- Adds a row. `ratio`: ours to the peer's or the limit; `goal`: what the ratio has to be, '<= 1.3' or '>= 0.8'; nil
--- for a row that only informs.
function report.row(row)
  row.what = placed(row.what)
  if row.goal then
    local sign, bound = row.goal:match '^([<>]=) ([%d.]+)$'
    bound = tonumber(bound)
    if sign == '<=' then row.met = row.ratio <= bound else row.met = row.ratio >= bound end
  end
  table.insert(report.rows, row)
  io.stderr:write(('  %-7s %-8s %s\n'):format(('%.2f'):format(row.ratio), row.goal or '', row.what))
end

--- A row about seconds: ours against another's or a limit.
function report.compare(what, ours, theirs, who, goal)
  report.row {
    what = what, ratio = ours / theirs, goal = goal,
    detail = report.duration(ours) .. ' against ' .. report.duration(theirs) .. ' (' .. who .. ')',
  }
end

--- A row about things a second: ours against another's or a limit.
function report.compare_rate(what, ours, theirs, who, goal)
  report.row {
    what = what, ratio = ours / theirs, goal = goal,
    detail = report.rate(ours) .. ' against ' .. report.rate(theirs) .. ' (' .. who .. ')',
  }
end

function report.print()
  print '  ratio  goal     met  what'
  for _, r in ipairs(report.rows) do
    local met = r.goal and (r.met and 'yes' or 'NO') or ''
    print(('%7.2f  %-8s %-4s %s: %s'):format(r.ratio, r.goal or '', met, r.what, r.detail))
  end
end

return report
