-- Runs a chunk while the library gets no memory from the C library: at its n-th request for n = 1, 2, 3 …, until it runs through.
--
--   lua run.lua LIBRARY CHUNK FAILURES LEAST TRIES SHIFT PROGRESS
--
-- Some TRIES of these n: the first, and then every k-th, moved by SHIFT (0 to 1) of a step. The chunk gets `arm`: requests count,
-- and fail, between `arm(true)` and `arm(false)`. What it raises must say that there was not enough memory; afterwards it must run
-- through. PROGRESS is a file that holds the n that was tried last.
local library, chunk_file, failures, least, tries, shift, progress = ...
failures, least, tries, shift = tonumber(failures), tonumber(least), tonumber(tries), tonumber(shift)
local ipc = require 'libipc'
require 'ipc.torch'
local memory = assert(package.loadlib(library, 'luaopen_out_of_memory'))()
assert(memory.patch 'libipc.so' > 0, 'the library imports no allocator')
local chunk = assert(loadfile(chunk_file))

local at = assert(io.open(progress, 'wb'))
local function attempt(n)
  at:seek 'set'
  at:write(('%-9d'):format(n))
  at:flush()
  memory.plan(n, failures, least)
  local ok, e = pcall(chunk, memory.arm)
  local count = memory.arm(false)
  -- Twice: what the first finds may hold more. Then a call that hears of the shortage, and that it is over.
  collectgarbage()
  collectgarbage()
  pcall(ipc.cpus)
  return ok, e, count
end

local function said(e)
  e = tostring(e)
  return e:find('not enough memory', 1, true) or e:find('[limit]', 1, true) or e:find('the pool has no workers', 1, true)
    -- A message for which the other end, which is this process too, has no memory ends its connection.
    or e:find('[timeout] server:recvAny', 1, true) or e:find('[closed]', 1, true)
end

local bad = 0
local function complain(n, what, e)
  bad = bad + 1
  print(('request %d: %s: %s'):format(n, what, tostring(e)))
  if bad == 5 then os.exit(1) end
end

local ok, e, count = attempt(2 ^ 50)
if not ok then
  complain(0, 'the chunk fails with all the memory it wants', e)
  os.exit(1)
end
local step = math.max(1, math.floor(count / tries))
local first = 1 + math.floor(step * shift)
local places = first > 1 and { 1 } or {}
for n = first, count, step do places[#places + 1] = n end
for i, n in ipairs(places) do
  ok, e = attempt(n)
  if not ok and not said(e) then complain(n, 'another error', e) end
  if i % 8 == 1 then
    ok, e = attempt(2 ^ 50)
    if not ok then complain(n, 'it fails afterwards', e) end
  end
end
ok, e = attempt(2 ^ 50)
if not ok then complain(0, 'it fails afterwards', e) end
print(('%d requests'):format(count))
os.exit(bad == 0 and 0 or 1)
