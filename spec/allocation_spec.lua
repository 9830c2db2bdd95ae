-- The C library has no memory for libipc: the addresses of malloc and its kin in the loaded library are replaced by ones that fail at
-- the n-th request, once or from then on (tests/out_of_memory). Nothing ends the process, what fails says so, nothing is lost, and
-- afterwards all goes on. And whole programs under limits of memory.
--
-- MEMORY_SPEC=all tries every n; else some twenty of each, or, where many Luas are under test, forty that they share: what asks for
-- memory is the same core on each. They share the limits, too.
local support = require 'spec.support'
local chunks = require 'spec.support.allocations.chunks'

local every = os.getenv 'MEMORY_SPEC' == 'all'
local library = support.root .. '/target/out_of_memory.so'
local here = support.root .. '/spec/support/allocations/'

-- How many n this Lua tries, and by how much of a step they are moved.
local tries, shift = every and 1000000 or 20, 0
local builds, place = 0, 0
for build in (os.getenv 'SPEC_LUAS' or ''):gmatch '%S+' do
  if build == support.build then place = builds end
  builds = builds + 1
end
if not every and builds > 2 then tries, shift = math.ceil(40 / builds), place / builds end

local function check(r, progress)
  if r.status ~= 0 then
    error(('at %s: ended with %s\n%s%s'):format(
      support.exists(progress) and support.read(progress) or '?', r.signal or r.status, r.stdout, r.stderr), 0)
  end
end

describe('no memory from the C library', function()
  setup(function()
    if not support.exists(library) then pending 'make target/out_of_memory.so' end
  end)

  local names = {}
  for name in pairs(chunks) do names[#names + 1] = name end
  table.sort(names)

  -- Large requests alone, which the reserve does not serve; then all.
  for _, mode in ipairs { { 'once', 1, 0 }, { 'from then on', 2 ^ 50, 16385 }, { 'from then on, for small requests too', 2 ^ 50, 0 } } do
    for _, name in ipairs(names) do
      it(('%s in %s is an error and nothing else'):format(mode[1], name), function()
        local chunk, progress = support.write(support.tmpname '.chunk.lua', chunks[name]), support.tmpname '.n'
        check(support.run(support.read(here .. 'run.lua'), {
          args = { library, chunk, ('%.0f'):format(mode[2]), mode[3], ('%d'):format(tries), ('%.3f'):format(shift), progress },
          timeout = every and 1800 or 300,
        }), progress)
      end)
    end
  end

  it('lets every bound function come to its end', function()
    local progress = support.tmpname '.n'
    check(support.run(support.read(here .. 'every.lua'), { args = { library, progress }, timeout = 600 }), progress)
  end)
end)

describe('much that is asked for', function()
  -- Two of the limits on each Lua, where many are under test.
  local limits = (every or builds <= 2) and { 100, 150, 220, 300 } or place % 2 == 0 and { 100, 300 } or { 150, 220 }
  for _, megabytes in ipairs(limits) do
    it(('is an error under a limit of %d MB, and the program goes on'):format(megabytes), function()
      local limited = ('ulimit -v %d; exec %s "$0" "$@"'):format(megabytes * 1000, support.lua)
      local r = support.run(support.read(here .. 'program.lua'), { lua = 'sh -c ' .. support.quote(limited), timeout = 300 })
      assert(r.status == 0 and r.stdout:find 'all is well', ('ended with %s\n%s%s'):format(r.signal or r.status, r.stdout, r.stderr))
      assert(r.stdout:find 'a channel of integers%s+not enough memory', r.stdout)
    end)
  end
end)
