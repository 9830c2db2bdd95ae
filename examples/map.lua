-- Counts primes with four threads, each with a Lua of its own, and compares with one:
--
--   luajit examples/map.lua

local ipc = require 'libipc'

local function primes(limit, threads, id)
  local count = 0
  for n = id + 1, limit, threads do
    local prime = n > 1
    for d = 2, math.floor(math.sqrt(n)) do
      if n % d == 0 then
        prime = false
        break
      end
    end
    if prime then count = count + 1 end
  end
  return count
end

local limit = 500000
local since = ipc.clock()
local alone = primes(limit, 1, 1)
local one = ipc.clock() - since

since = ipc.clock()
local counts = { ipc.map(4, primes, limit, 4):join() } -- each thread's results, one after the other
local sum = 0
for _, count in ipairs(counts) do sum = sum + count end
local four = ipc.clock() - since

assert(sum == alone, 'the threads found other primes')
print(('%d primes below %d: %.2f s with one thread, %.2f s with four on %d cores'):format(sum, limit, one, four,
  ipc.cpus()))
