-- Stands in for LuaSocket on Lua 5.5, for which Debian has none: IPv4 as the specs use it, with its results.
local host = require 'host'
local socket = { _VERSION = 'stand-in', gettime = host.now, sleep = host.sleep }

local Socket = {}
Socket.__index = Socket
Socket.__gc = function(s) s:close() end
Socket.__close = Socket.__gc

local function wrap(fd, kind) return setmetatable({ fd = fd, kind = kind, seconds = -1, buffer = '' }, Socket) end

function socket.bind(address, port)
  local fd, why = host.listen(address == '*' and '0.0.0.0' or address, math.tointeger(port))
  if not fd then return nil, why:lower() end
  return wrap(fd, 'server')
end

function socket.connect(address, port)
  local fd, why = host.connect(address, math.tointeger(port))
  if not fd then return nil, why:lower() end
  return wrap(fd, 'client')
end
socket.connect4 = socket.connect

-- A socket that is yet to take its address. All of them may take an address again at once (reuseaddr).
function socket.tcp4() return wrap(nil, 'master') end

function Socket:bind(address, port)
  local why
  self.fd, why = host.bind(address, math.tointeger(port))
  if not self.fd then return nil, why:lower() end
  return 1
end

function Socket:__tostring() return ('tcp{%s}: %s'):format(self.kind, self.fd or 'closed') end

function Socket:settimeout(seconds)
  self.seconds = seconds or -1
  return 1
end

-- true once the socket is ready, or nil and 'timeout'; the time of one call counts as a whole.
local function ready(s, writing, stop)
  local left = stop and math.max(0, stop - host.monotonic()) or -1
  if host.wait(s.fd, writing, left) then return true end
  return nil, 'timeout'
end

local function deadline(s) return s.seconds >= 0 and host.monotonic() + s.seconds or nil end

function Socket:accept()
  if not self.fd then return nil, 'closed' end
  local ok, why = ready(self, false, deadline(self))
  if not ok then return nil, why end
  local fd, reason = host.accept(self.fd)
  if not fd then return nil, reason end
  return wrap(fd, 'client')
end

-- The index of the last byte sent; or nil, why, that index.
function Socket:send(data, first, last)
  if not self.fd then return nil, 'closed', 0 end
  data = tostring(data)
  if first and first < 0 then first = #data + first + 1 end
  first, last = math.max(first or 1, 1), last or #data
  if last < 0 then last = #data + last + 1 end
  data = data:sub(1, last)
  local stop = deadline(self)
  while first <= #data do
    local ok, why = ready(self, true, stop)
    if not ok then return nil, why, first - 1 end
    local sent, reason = host.send(self.fd, data, first)
    if not sent and reason ~= 'timeout' then return nil, 'closed', first - 1 end
    first = first + (sent or 0)
  end
  return #data
end

-- One read into the buffer: true, or nil and why.
local function fill(s, stop)
  local ok, why = ready(s, false, stop)
  if not ok then return nil, why end
  local bytes, reason = host.receive(s.fd)
  if not bytes then return reason == 'timeout' or nil, 'closed' end
  if bytes == '' then return nil, 'closed' end
  s.buffer = s.buffer .. bytes
  return true
end

local function take(s, n)
  local bytes = s.buffer:sub(1, n)
  s.buffer = s.buffer:sub(n + 1)
  return bytes
end

-- '*l' (the default), '*a' or a number of bytes, after `prefix`; or nil, why, what came.
function Socket:receive(pattern, prefix)
  prefix = prefix or ''
  if not self.fd then return nil, 'closed', prefix end
  pattern = type(pattern) == 'string' and pattern:gsub('^%*', '') or pattern or 'l'
  local stop = deadline(self)
  if type(pattern) == 'number' then pattern = pattern - #prefix end
  while true do
    if pattern == 'l' then
      local line_end = self.buffer:find('\n', 1, true)
      if line_end then return prefix .. take(self, line_end):gsub('[\r\n]', '') end
    elseif type(pattern) == 'number' and #self.buffer >= pattern then
      return prefix .. take(self, pattern)
    end
    local ok, why = fill(self, stop)
    if not ok then
      local rest = prefix .. take(self, #self.buffer)
      if pattern == 'a' and why == 'closed' then return rest end
      return nil, why, rest
    end
  end
end

local function name(s, of_peer)
  if not s.fd then return nil, 'closed' end
  local address, port = host.address(s.fd, of_peer)
  if not address then return nil, port end
  return address, tostring(port), 'inet'
end

function Socket:getsockname() return name(self, false) end
function Socket:getpeername() return name(self, true) end

function socket.udp() return wrap(nil, 'udp') end

-- Of a UDP socket.
function Socket:setpeername(address, port)
  local why
  self.fd, why = host.udp(address, math.tointeger(port))
  if not self.fd then return nil, why:lower() end
  return 1
end

function Socket:shutdown(how)
  if not self.fd then return nil, 'closed' end
  host.shutdown(self.fd, ({ receive = 0, send = 1 })[how] or 2)
  return 1
end

function Socket:close()
  if self.fd then host.close(self.fd) end
  self.fd = nil
  return 1
end

function Socket:getfd() return self.fd or -1 end
function Socket:setoption() return (self.fd or self.kind == 'master') and 1 end

return socket
