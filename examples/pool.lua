-- A list of jobs over all cores, with a progress bar while their results come in:
--
--   luajit examples/pool.lua

local ipc = require 'libipc'

-- How many steps n takes to 1, and the longest such way up to n.
local function longest(from, to)
  local best, at = 0, from
  for start = from, to do
    local n, steps = start, 0
    while n ~= 1 do
      if n % 2 == 0 then n = n / 2 else n = 3 * n + 1 end
      steps = steps + 1
    end
    if steps > best then best, at = steps, start end
  end
  return best, at
end

local function bar(done, total)
  local full = math.floor(40 * done / total)
  io.stderr:write('\r[', ('='):rep(full), (' '):rep(40 - full), '] ', done, '/', total, done == total and '\n' or '')
end

local ranges, size = {}, 10000
for i = 1, 50 do ranges[i] = { (i - 1) * size + 1, i * size } end

local pool = ipc.pool(ipc.cpus(), { upvalues = true }) -- `job` brings `longest` along
local function job(range) return longest(range[1], range[2]) end

local best, at, done = 0, 0, 0
for _, steps, start in pool:each(job, ranges) do
  if steps > best then best, at = steps, start end
  done = done + 1
  bar(done, #ranges)
end
pool:close()

assert(best == 448 and at == 410011)
print(('%d below %d takes the most steps: %d'):format(at, #ranges * size, best))
