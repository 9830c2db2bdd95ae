-- Waiting on many: ipc.select over channels against a bare poll(2) of as many eventfds, by LuaJIT's FFI.
local ffi = require 'ffi'
local ipc = require 'libipc'

ffi.cdef [[
  struct bench_pollfd { int fd; short events, revents; };
  int poll(struct bench_pollfd *fds, unsigned long count, int timeout);
  int eventfd(unsigned int initial, int flags);
  int close(int fd);
  ssize_t read(int fd, void *buffer, size_t count);
  ssize_t write(int fd, const void *buffer, size_t count);
]]

local word = ffi.new 'uint64_t[1]'

-- Writes to one of them, waits for it, reads it: the same on both sides. The one that is ready is the last of the list.
local function ours(count)
  local list = {}
  for i = 1, count do list[i] = ipc.channel() end
  local last = list[count]
  return function()
    last:write(1)
    assert(ipc.select(list) == last)
    last:read()
  end
end

local function bare(count)
  local fds = ffi.new('struct bench_pollfd[?]', count)
  for i = 0, count - 1 do
    fds[i].fd = ffi.C.eventfd(0, 0)
    assert(fds[i].fd >= 0)
    fds[i].events = 1
  end
  local last = fds[count - 1].fd
  return function()
    word[0] = 1
    ffi.C.write(last, word, 8)
    assert(ffi.C.poll(fds, count, -1) == 1)
    -- As a program would, to know which.
    local found
    for i = 0, count - 1 do if fds[i].revents ~= 0 then found = fds[i].fd break end end
    assert(found == last)
    ffi.C.read(last, word, 8)
  end, function() for i = 0, count - 1 do ffi.C.close(fds[i].fd) end end
end

return function(report)
  for _, count in ipairs {2, 1000} do
    local peer, close = bare(count)
    local mine = ours(count)
    local took = report.turns({
      ours = function() return report.time(mine, 1) end,
      bare = function() return report.time(peer, 1) end,
    }, 5)
    close()
    report.compare(('select over %d channels, the last of which is ready: write, wait, read'):format(count),
      took.ours, took.bare, 'poll(2) of as many eventfds')
  end
end
