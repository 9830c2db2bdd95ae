-- BLAKE2s-256 with an optional key (RFC 7693), for peers made by hand: `blake2s(text, [key])` → 32 bytes. Slow and simple.
local floor, byte, char = math.floor, string.byte, string.char

local TWO32 = 2 ^ 32

-- The exclusive or of two numbers below 2^32, by what this Lua has for it.
local xor
if rawget(_G, 'jit') then
  local bxor = require('bit').bxor
  xor = function(a, b) return bxor(a, b) % TWO32 end
elseif rawget(_G, 'bit32') then
  xor = rawget(_G, 'bit32').bxor
elseif math.type then
  local native = load 'return function(a, b) return a ~ b end'()
  xor = function(a, b) return native(floor(a), floor(b)) end
else
  local bytes = {}
  for a = 0, 255 do
    bytes[a] = {}
    for b = 0, 255 do
      local n, x, y, bit = 0, a, b, 1
      while x + y > 0 do
        if x % 2 ~= y % 2 then n = n + bit end
        x, y, bit = floor(x / 2), floor(y / 2), bit * 2
      end
      bytes[a][b] = n
    end
  end
  xor = function(a, b)
    local n, unit = 0, 1
    for _ = 1, 4 do
      local x, y = a % 256, b % 256
      n = n + bytes[x][y] * unit
      a, b, unit = (a - x) / 256, (b - y) / 256, unit * 256
    end
    return n
  end
end

local function rotate(n, bits) -- to the right
  local low = n % 2 ^ bits
  return (n - low) / 2 ^ bits + low * 2 ^ (32 - bits)
end

local IV = { 0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19 }
local SIGMA = {}
for row in ([[
  0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15/14 10 4 8 9 15 13 6 1 12 0 2 11 7 5 3/11 8 12 0 5 2 15 13 10 14 3 6 7 1 9 4/
  7 9 3 1 13 12 11 14 2 6 5 10 4 0 15 8/9 0 5 7 2 4 10 15 14 1 11 12 6 8 3 13/2 12 6 10 0 11 8 3 4 13 7 5 15 14 1 9/
  12 5 1 15 14 13 4 10 0 7 6 3 9 2 8 11/13 11 7 14 12 1 3 9 5 0 15 4 8 6 2 10/6 15 14 9 11 3 0 8 12 2 13 7 1 4 10 5/
  10 2 8 4 7 6 1 5 15 11 9 14 3 12 13 0/]]):gmatch '([^/]*)/' do
  local list = {}
  for n in row:gmatch '%d+' do list[#list + 1] = tonumber(n) end
  SIGMA[#SIGMA + 1] = list
end

local function compress(h, block, count, last)
  local m, v = {}, {}
  for i = 1, 16 do
    local a, b, c, d = byte(block, 4 * i - 3, 4 * i)
    m[i] = a + 256 * (b + 256 * (c + 256 * d))
  end
  for i = 1, 8 do v[i], v[i + 8] = h[i], IV[i] end
  v[13] = xor(v[13], count)
  if last then v[15] = TWO32 - 1 - v[15] end
  local function mix(a, b, c, d, x, y)
    v[a] = (v[a] + v[b] + x) % TWO32
    v[d] = rotate(xor(v[d], v[a]), 16)
    v[c] = (v[c] + v[d]) % TWO32
    v[b] = rotate(xor(v[b], v[c]), 12)
    v[a] = (v[a] + v[b] + y) % TWO32
    v[d] = rotate(xor(v[d], v[a]), 8)
    v[c] = (v[c] + v[d]) % TWO32
    v[b] = rotate(xor(v[b], v[c]), 7)
  end
  for round = 1, 10 do
    local s = SIGMA[round]
    local function at(i) return m[s[i] + 1] end
    mix(1, 5, 9, 13, at(1), at(2))
    mix(2, 6, 10, 14, at(3), at(4))
    mix(3, 7, 11, 15, at(5), at(6))
    mix(4, 8, 12, 16, at(7), at(8))
    mix(1, 6, 11, 16, at(9), at(10))
    mix(2, 7, 12, 13, at(11), at(12))
    mix(3, 8, 9, 14, at(13), at(14))
    mix(4, 5, 10, 15, at(15), at(16))
  end
  for i = 1, 8 do h[i] = xor(xor(h[i], v[i]), v[i + 8]) end
end

return function(text, key)
  key = key or ''
  local h = {}
  for i = 1, 8 do h[i] = IV[i] end
  h[1] = xor(h[1], 0x01010000 + #key * 256 + 32)
  if #key > 0 then text = key .. ('\0'):rep(64 - #key) .. text end
  local blocks = math.max(1, math.ceil(#text / 64))
  for n = 1, blocks do
    local block = text:sub(64 * n - 63, 64 * n)
    local last = n == blocks
    compress(h, block .. ('\0'):rep(64 - #block), last and #text or 64 * n, last)
  end
  local out = {}
  for i = 1, 8 do
    local n = h[i]
    for j = 1, 4 do
      out[4 * i - 4 + j] = char(floor(n % 256))
      n = floor(n / 256)
    end
  end
  return table.concat(out)
end
