-- Plain system calls by LuaJIT's FFI: the limit that sockets are measured against. Blocking TCP over loopback, as
-- short as C would write it.
local ffi = require 'ffi'

ffi.cdef [[
typedef struct { uint16_t family, port; uint32_t address; uint8_t zero[8]; } bare_address;
int socket(int, int, int);
int bind(int, const void *, uint32_t);
int listen(int, int);
int accept(int, void *, uint32_t *);
int connect(int, const void *, uint32_t);
int getsockname(int, void *, uint32_t *);
int setsockopt(int, int, int, const void *, uint32_t);
ssize_t send(int, const void *, size_t, int);
ssize_t recv(int, void *, size_t, int);
ssize_t read(int, void *, size_t);
ssize_t write(int, const void *, size_t);
int close(int);
]]

local C = ffi.C
local MSG_WAITALL, IPPROTO_TCP, TCP_NODELAY = 0x100, 6, 1
local bare = {}

local function check(n)
  if n < 0 then error('errno ' .. ffi.errno(), 3) end
  return tonumber(n)
end

local function no_delay(fd)
  C.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, ffi.new('int[1]', 1), 4)
  return fd
end

--- A listening socket on loopback and its port (in network order).
function bare.listen()
  local fd = check(C.socket(2, 1, 0))
  local address = ffi.new 'bare_address'
  address.family, address.address = 2, 0x0100007f
  check(C.bind(fd, address, 16))
  check(C.listen(fd, 8))
  check(C.getsockname(fd, address, ffi.new('uint32_t[1]', 16)))
  return fd, address.port
end

function bare.accept(fd) return no_delay(check(C.accept(fd, nil, nil))) end

function bare.connect(port)
  local fd = check(C.socket(2, 1, 0))
  local address = ffi.new 'bare_address'
  address.family, address.address, address.port = 2, 0x0100007f, port
  check(C.connect(fd, address, 16))
  return no_delay(fd)
end

function bare.send(fd, p, n)
  local done = 0
  while done < n do done = done + check(C.send(fd, ffi.cast('const char *', p) + done, n - done, 0)) end
end

function bare.recv(fd, p, n)
  local done = 0
  while done < n do
    local got = check(C.recv(fd, ffi.cast('char *', p) + done, n - done, MSG_WAITALL))
    if got == 0 then return false end
    done = done + got
  end
  return true
end

function bare.close(fd) C.close(fd) end

function bare.buffer(n) return ffi.new('char[?]', n) end

return bare
