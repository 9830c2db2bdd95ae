-- The soak: 16 threads that do everything at once with everything, among them some that are cancelled in the middle; round after
-- round, each with new objects, of which nothing may be lost, and nothing left.
--
--   luajit spec/support/soak/run.lua SECONDS [SEED]
--
-- What the threads do is in spec/support/soak/parts.lua. Prints its seed, a line a minute, and at the end `clean`; ends with 1 and a
-- report of what is stuck or left otherwise. spec/soak_spec.lua runs it for a moment, `make soak` for SOAK_MINUTES.
local ipc = require 'libipc'
local support = require 'spec.support'
local parts = require 'spec.support.soak.parts'

local seconds, seed = tonumber(arg[1]) or 60, tonumber(arg[2]) or os.time()
local STEADY, DOOMED = 10, 6
-- A watchdog: for a round to end.
local LONGEST = 120
io.stdout:write('soak: seed ', seed, '\n')
io.stdout:flush()
math.randomseed(seed)

-- What a thread does until it is told to stop, or cancelled: it returns how many steps it made.
local function work(shared, stop, doomed, first, id)
  local ipc = require 'libipc' -- luacheck: ignore 431
  local parts = require 'spec.support.soak.parts' -- luacheck: ignore 431
  math.randomseed(first + id)
  local names, bounds, total = {}, {}, 0
  for name, part in pairs(parts) do
    if not (doomed and part.steady) then names[#names + 1] = name end
  end
  table.sort(names)
  for i, name in ipairs(names) do
    total = total + parts[name].weight
    bounds[i] = total
  end
  local steps = 0
  while stop:get() == 0 do
    local at, i = math.random() * total, 1
    while bounds[i] <= at and i < #names do i = i + 1 end
    local part = parts[names[i]]
    local ok, e = pcall(part.step, shared[names[i]])
    if not ok then
      local code = ipc.errcode(e)
      if code == 'cancelled' then error(e, 0) end
      if code ~= 'timeout' and code ~= 'closed' and not (part.fine and part.fine[code]) then
        error(names[i] .. ': ' .. tostring(e), 0)
      end
    end
    steps = steps + 1
  end
  return steps
end

local function stuck(what)
  io.stdout:write('soak: ', what, '\n', tostring(ipc.report()), '\n')
  os.exit(1)
end

-- The steps of all threads, and how many of them were cancelled; an error of any of them that is no cancel is ours.
local function join(m, cancelled)
  local steps, lost = 0, 0
  while true do
    local r = { pcall(m.join, m, LONGEST) }
    if r[1] then
      for i = 2, #r do steps = steps + r[i] end
      return steps, lost
    end
    if ipc.errcode(r[2]) == 'timeout' then stuck 'threads do not end' end
    if not (cancelled and r[2]:find('[cancelled]', 1, true)) or r[2]:find('internal error', 1, true) then error(r[2], 0) end
    lost = lost + 1
  end
end

local function round(length)
  local shared, stop = {}, ipc.atomic(0)
  for name, part in pairs(parts) do shared[name] = part.make() end
  local first = math.random(2 ^ 30)
  local function start(n, name, doomed)
    return ipc.map { threads = n, name = name, fn = work, args = { shared, stop, doomed, first + (doomed and 1000 or 0) } }
  end
  local steady, doomed = start(STEADY, 'steady', false), start(DOOMED, 'doomed', true)
  local over, cancel = ipc.clock() + length, ipc.clock() + length * math.random() * 1.5
  local cancelled = false
  while ipc.clock() < over do
    for name, part in pairs(parts) do
      if part.stir then part.stir(shared[name]) end
    end
    steady:checkErrors()
    if not cancelled and ipc.clock() > cancel then
      doomed:cancel()
      cancelled = true
    end
    ipc.sleep(0.005)
  end
  stop:set(1)
  for name, part in pairs(parts) do
    if part.stop then part.stop(shared[name]) end
  end
  local steps = join(steady, false)
  local more, lost = join(doomed, cancelled)
  for name, part in pairs(parts) do
    if part.check then part.check(shared[name], lost) end
  end
  return steps + more, lost
end

-- What the process has in memory, in MB, where the system says.
local function resident()
  local file = io.open '/proc/self/statm'
  if not file then return 0 end
  local pages = select(2, file:read('*n', '*n'))
  file:close()
  return pages * 4096 / 1e6
end

local start = ipc.clock()
local rounds, steps, lost, told, base = 0, 0, 0, 0, nil
local high = 0
repeat
  local ok, made, gone = pcall(round, math.min(0.5, seconds / 2) * (0.5 + math.random()))
  if not ok then
    io.stdout:write('soak: seed ', seed, ', round ', rounds + 1, ': ', tostring(made), '\n')
    os.exit(1)
  end
  rounds, steps, lost = rounds + 1, steps + made, lost + gone
  local left, e = pcall(support.nothing_left, ipc)
  if not left then stuck(tostring(e)) end
  local now = ipc.clock() - start
  high = math.max(high, resident())
  -- The first quarter fills caches and heaps of threads.
  if not base and (now > seconds / 4) then base, high = high, 0 end
  if now - told >= 60 then
    told = now
    io.stdout:write(('soak: %.0f s, %d rounds, %d steps, %d threads cancelled, %.0f MB\n'):format(now, rounds, steps, lost, resident()))
    io.stdout:flush()
  end
until now > seconds
-- Over a minute it would show; over a moment it is noise. ThreadSanitizer keeps more and more memory of its own.
if seconds >= 60 and not support.in_tsan and high > base * 1.2 + 10 then
  io.stdout:write(('soak: memory has grown from %.0f to %.0f MB\n'):format(base, high))
  os.exit(1)
end
io.stdout:write(('soak: clean, %d rounds, %d steps, %d threads cancelled, %.0f MB\n'):format(rounds, steps, lost, resident()))
