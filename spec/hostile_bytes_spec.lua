-- §1, §8: bytes that nobody vouches for. Whole messages, changed at random, are read back: each is a value or an error.
-- HOSTILE_BYTES sets how many are tried, HOSTILE_SEED which ones.
local support = require 'spec.support'

local tries = os.getenv 'HOSTILE_BYTES' or '20000'

-- In an interpreter of its own, since what is looked for may end it; the bytes being read stand in a file then.
local driver = [==[
local seed, tries, file = ...
local ipc = require 'libipc'
local torch = require 'ipc.torch'
math.randomseed(tonumber(seed))
local random, char, concat = math.random, string.char, table.concat

local Point = {}
ipc.register('hostile.Point', Point)
local shared = { 1, 2 }
local cycle = { shared, shared }
cycle.self = cycle
local Found = { __index = print }
package.loaded.hostile = { Found = Found }
local deep = {}
local t = deep
for i = 1, 200 do t.x = { i } t = t.x end
local long = {}
for i = 1, 300 do long[i] = i * 1.5 end

local function bytes(v) return ipc.marshal(v):bytes() end
local corpus = {
  bytes(1), bytes(-7), bytes(2^53), bytes(2^70), bytes(1.5), bytes(true), bytes 'text', bytes(('x'):rep(300)),
  bytes(('y'):rep(70000)), bytes {}, bytes { 1, 'two', { three = 3 } }, bytes { [1] = 1, [3] = 3, [2.5] = true },
  bytes(cycle), bytes(deep), bytes(long), bytes { print, string.format, ipc.marshal },
  bytes { setmetatable({ x = 1 }, Point), setmetatable({ y = { 2 } }, Point) },
  bytes { [{ 'key' }] = { 'value' }, [false] = 0 }, bytes { setmetatable({ 1 }, Found), setmetatable({ 2 }, Found), Found },
  bytes(torch.FloatTensor { 1, 2, 3 }), bytes { torch.LongStorage { 7 }, { t = torch.range(1, 6):resize(2, 3):t() }, 'end' },
  bytes { torch.ByteTensor(), torch.ByteTensor(300):zero() },
}
if math.maxinteger then corpus[#corpus + 1] = bytes { math.maxinteger, math.mininteger } end
if jit then corpus[#corpus + 1] = bytes { loadstring('return 1LL, 2ULL')() } end

-- Bytes that mean something: kinds, lengths at their ends, codes of extensions.
local telling = {
  '\0', '\1', '\127', '\128', '\143', '\144', '\159', '\160', '\191', '\192', '\193', '\194', '\195', '\196', '\197', '\198',
  '\199', '\200', '\201', '\202', '\203', '\204', '\205', '\206', '\207', '\208', '\209', '\210', '\211', '\212', '\213',
  '\214', '\215', '\216', '\217', '\218', '\219', '\220', '\221', '\222', '\223', '\224', '\255', '\255\255\255\255',
  '\0\0\0\0', '\127\255\255\255', '\0\0\0\1', '\0\1\0\0',
}

local function changed(s)
  for _ = 1, random(1, 4) do
    local at = random(0, #s)
    -- The ends of a message say most.
    if random() < 0.5 then at = random(0, math.min(#s, 12)) end
    local what = random(7)
    if what == 1 then
      s = s:sub(1, at) .. char(random(0, 255)) .. s:sub(at + 2)
    elseif what == 2 then
      s = s:sub(1, at) .. telling[random(#telling)] .. s:sub(at + 2)
    elseif what == 3 then
      s = s:sub(1, at) .. telling[random(#telling)] .. s:sub(at + 1)
    elseif what == 4 then
      s = s:sub(1, at) .. s:sub(at + random(1, 8))
    elseif what == 5 then
      s = s:sub(1, at)
    elseif what == 6 then
      local other = corpus[random(#corpus)]
      s = s:sub(1, at) .. other:sub(random(1, math.min(#other, 20)))
    else
      s = s:sub(1, at) .. s:sub(math.max(1, at - random(0, 16)))
    end
  end
  return s
end

local f = assert(io.open(file, 'wb'))
local values = 0
for _ = 1, tonumber(tries) do
  local s = changed(corpus[random(#corpus)])
  f:seek 'set'
  f:write(('%-12d'):format(#s), s:sub(1, 4096))
  f:flush()
  local ok, v = pcall(ipc.unmarshal, s)
  if ok then
    values = values + 1
    -- What was taken can be sent again, or is refused in words.
    local again, e = pcall(ipc.marshal, v)
    if not again and not ipc.errcode(e) then error('marshal of what came: ' .. tostring(e)) end
  elseif not ipc.errcode(v) and not tostring(v):find('not enough memory', 1, true) then
    error('neither a value nor an error of ours: ' .. tostring(v))
  end
end
assert(values > 0, 'the changes leave nothing whole')
print(values)
]==]

describe('unmarshal of hostile bytes', function()
  it('makes no room for what counts the same bytes again and again', function()
    local out = support.check [[
      local ipc = require 'libipc'
      -- Maps, one in the other, each of which says that 65,536 pairs follow.
      local levels = ('\1\223\0\1\0\0'):rep(900)
      local ok, e = pcall(ipc.unmarshal, '\16' .. levels:sub(2) .. ('\1'):rep(140000))
      assert(not ok and ipc.errcode(e), e)
      io.write(io.open '/proc/self/status':read '*a':match 'VmHWM:%s*(%d+) kB')
    ]]
    assert.is_true(tonumber(out) < 300 * 1024, out .. ' kB')
  end)

  it('gives a value or an error, and nothing else', function()
    local file = support.tmpname '.bytes'
    local seed = os.getenv 'HOSTILE_SEED' or '1'
    local r = support.run(driver, { args = { seed, tries, file }, timeout = 3600 })
    if r.status ~= 0 then
      local last = support.exists(file) and support.read(file) or ''
      local hex = last:sub(13, 12 + math.min(tonumber(last:sub(1, 12)) or 0, 200)):gsub('.', function(c)
        return ('%02x '):format(c:byte())
      end)
      error(('HOSTILE_SEED=%s: ended with %s\n%s%s\nthe last bytes: %s'):format(
        seed, r.signal or r.status, r.stdout, r.stderr, hex), 0)
    end
  end)

  it('are refused where the prelude says that what they hold is not there', function()
    local ipc = require 'libipc'
    -- A table that holds itself; and bit 1, which says that there is code, is not bit 0.
    local holds_itself = '\146\1\214\1\0\0\0\0'
    for prelude, is_fine in pairs { [0x10] = false, [0x11] = true, [0x12] = false, [0x13] = true } do
      local ok, v = pcall(ipc.unmarshal, string.char(prelude) .. holds_itself)
      assert.equal(is_fine, ok)
      if ok then assert.equal(v, v[2]) else assert.equal('protocol', ipc.errcode(v)) end
    end
  end)
end)
