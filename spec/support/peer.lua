-- A peer made by hand, from doc/wire.md and doc/security.md alone: for messages that no libipc would send.
local support = require 'spec.support'

local peer = {}

local function little(n, bytes)
  local s = {}
  for i = 1, bytes do
    s[i] = string.char(n % 256)
    n = math.floor(n / 256)
  end
  return table.concat(s)
end
peer.little = little

-- MessagePack of what a hello needs.
local function pack(v)
  if type(v) == 'boolean' then return v and '\195' or '\194' end
  if type(v) == 'string' then return '\217' .. string.char(#v) .. v end
  if type(v) == 'number' then return '\206' .. little(v, 4):reverse() end
  local s = { '\220' .. string.char(0, #v) }
  for _, x in ipairs(v) do s[#s + 1] = pack(x) end
  return table.concat(s)
end

local id = {}
for i = 1, 16 do id[i] = i end

-- A packet of the hello.
function peer.packet(kind, body) return 'LIBIPC\1' .. string.char(kind) .. little(#body, 4) .. body end

-- The body of a hello.
function peer.hello()
  local fields = {
    { 'version', 'spec' }, { 'process', id }, { 'boot', 'none' }, { 'pid', 1 }, { 'uid', 0 }, { 'little_endian', true },
    { 'capabilities', {} }, { 'functions', true }, { 'encrypt', false }, { 'max_message', 2 ^ 30 }, { 'nonce', id },
  }
  local s = { string.char(128 + #fields) }
  for _, field in ipairs(fields) do s[#s + 1] = pack(field[1]) .. pack(field[2]) end
  return table.concat(s)
end

-- Reads a packet: kind and body.
function peer.answer(socket)
  local head = assert(socket:receive(12))
  assert(head:sub(1, 7) == 'LIBIPC\1', 'no hello')
  local a, b, c, d = head:byte(9, 12)
  local n = a + 256 * (b + 256 * (c + 256 * d))
  return head:byte(8), n > 0 and assert(socket:receive(n)) or ''
end

-- A LuaSocket that has said hello to the server at `port`.
function peer.client(port)
  local socket = support.connect(port)
  socket:setoption('tcp-nodelay', true)
  assert(socket:send(peer.packet(1, peer.hello())))
  local kind = peer.answer(socket)
  assert(kind == 3, 'the server answered with ' .. kind)
  return socket
end

-- A frame: message bytes, then what floats() or others made.
function peer.frame(bytes, attachment)
  local descriptor, data = '', ''
  if attachment then descriptor, data = attachment[1], attachment[2] end
  return '\1\0\0\0' .. little(#descriptor, 4) .. little(#bytes, 8) .. bytes .. descriptor .. data
end

-- The message that is a string; the one that is its only attachment.
function peer.string(s) return '\16\219' .. little(#s, 4):reverse() .. s end
peer.lone = '\16\214\2\0\0\0\0'

-- Values by hand: a short string, an extension of code `code`, a table of a class, a function or (without `field`) a module by
-- name; `value` makes a message of one.
function peer.str(s) return '\217' .. string.char(#s) .. s end
function peer.ext(code, body) return '\200' .. little(#body, 2):reverse() .. string.char(code) .. body end
function peer.class(name, fields) return peer.ext(4, peer.str(name) .. (fields or '\128')) end
function peer.named(module, field) return peer.ext(6, peer.str(module) .. (field and peer.str(field) or '\192')) end
function peer.value(bytes, flags) return string.char(16 + (flags or 0)) .. bytes end

-- A FloatTensor of whole numbers from 1 to 4.
function peer.floats(list)
  local bits = { '\0\0\128\63', '\0\0\0\64', '\0\0\64\64', '\0\0\128\64' }
  local data = {}
  for i, n in ipairs(list) do data[i] = bits[n] end
  return { '\1\6\1\0' .. little(#list, 8), table.concat(data) }
end

return peer
