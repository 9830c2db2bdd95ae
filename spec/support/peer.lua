-- A peer made by hand, from doc/wire.md and doc/security.md alone: for messages that no libipc would send.
local blake2s = require 'spec.support.blake2s'
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

-- MessagePack of what a hello needs. { bin = bytes } is bytes.
local NIL = {}
local function pack(v)
  if v == NIL then return '\192' end
  if type(v) == 'boolean' then return v and '\195' or '\194' end
  if type(v) == 'string' then return '\217' .. string.char(#v) .. v end
  if type(v) == 'number' then return '\206' .. little(v, 4):reverse() end
  if v.bin then return '\196' .. string.char(#v.bin) .. v.bin end
  local s = { '\220' .. string.char(0, #v) }
  for _, x in ipairs(v) do s[#s + 1] = pack(x) end
  return table.concat(s)
end

local id = { bin = ('i'):rep(16) }

-- A packet of the hello, of version 2 unless told otherwise.
function peer.packet(kind, body, version)
  return 'LIBIPC' .. string.char(version or 2, kind) .. little(#body, 4) .. body
end

-- The cookie that the servers of this process use: the first that they look for, which this spec's runner made room for.
function peer.cookie() return support.read(os.getenv 'IPC_RUNTIME_DIR' .. '/cookie') end

function peer.cookie_id(cookie) return blake2s('libipc cookie 2\0' .. cookie):sub(1, 16) end

-- The body of a hello: what is usual, but for the fields in `changes` (false: without it).
function peer.hello(changes)
  changes = changes or {}
  local fields = {
    { 'version', 'spec' }, { 'process', id }, { 'boot', '' }, { 'pid', 1 }, { 'uid', 0 }, { 'little_endian', true },
    { 'dtypes', { 1, 2, 3, 4, 5, 6, 7, 8, 9 } }, { 'functions', true }, { 'encrypt', NIL }, { 'demands', false },
    { 'max_message', 2 ^ 30 }, { 'max_tensor_bytes', NIL }, { 'max_tensors', 65536 }, { 'nonce', id }, { 'cookies', false },
  }
  local s, n = {}, 0
  for _, field in ipairs(fields) do
    local value = field[2]
    if changes[field[1]] ~= nil then value = changes[field[1]] end
    if value ~= false or type(field[2]) == 'boolean' and field[1] ~= 'cookies' then
      n = n + 1
      s[n] = pack(field[1]) .. pack(value)
    end
  end
  return string.char(128 + n) .. table.concat(s)
end

-- Reads a packet: kind, body, all of it.
function peer.answer(socket, version)
  local head = assert(socket:receive(12))
  assert(head:sub(1, 7) == 'LIBIPC' .. string.char(version or 2), 'no hello')
  local a, b, c, d = head:byte(9, 12)
  local n = a + 256 * (b + 256 * (c + 256 * d))
  local body = n > 0 and assert(socket:receive(n)) or ''
  return head:byte(8), body, head .. body
end

-- What a proof is over besides the packets: the client's address and port, then the server's.
function peer.addresses(socket)
  local function bytes(ip, port)
    local a, b, c, d = ip:match '^(%d+)%.(%d+)%.(%d+)%.(%d+)$'
    return ('\0'):rep(10) .. '\255\255' .. string.char(a, b, c, d) .. little(tonumber(port), 2):reverse()
  end
  local ip, port = socket:getsockname()
  local there, at = socket:getpeername()
  return bytes(ip, port) .. bytes(there, at)
end

-- Says hello over a LuaSocket as doc/wire.md has it, with the proof of the cookie: kind and body of the answer. `changes` are
-- those of peer.hello, `cookie` is to be used in place of the right one.
function peer.greet(socket, changes, cookie)
  cookie = cookie or peer.cookie()
  local fields = { cookies = { { bin = peer.cookie_id(cookie) } } }
  for name, value in pairs(changes or {}) do fields[name] = value end
  local hello = peer.packet(1, peer.hello(fields))
  assert(socket:send(hello))
  local kind, body, welcome = peer.answer(socket)
  if kind ~= 3 then return kind, body end
  local confirm = '\128' -- an empty map: nothing chosen but this socket
  -- Where a cookie was chosen, the server's proof ends the welcome.
  if body:find('\166cookie\196\16', 1, true) then
    local addresses = peer.addresses(socket)
    local proof = blake2s('libipc server 2\0' .. hello .. welcome:sub(1, -33) .. addresses, cookie)
    assert(proof == welcome:sub(-32), 'the server does not prove the cookie')
    confirm = peer.packet(6, confirm .. ('\0'):rep(32)):sub(1, -33)
    confirm = confirm .. blake2s('libipc client 2\0' .. hello .. welcome .. addresses .. confirm, cookie)
  else
    confirm = peer.packet(6, confirm)
  end
  assert(socket:send(confirm))
  return kind, body
end

-- A LuaSocket that has said hello to the server at `port`.
function peer.client(port, changes)
  local socket = support.connect(port)
  socket:setoption('tcp-nodelay', true)
  local kind, body = peer.greet(socket, changes)
  assert(kind == 3, 'the server answered with ' .. kind .. ': ' .. body)
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
