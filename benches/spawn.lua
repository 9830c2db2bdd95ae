-- Starting a program and waiting for it, against posix_spawn and waitpid; reading much of what one writes, against read on
-- a bare pipe.
local ffi = require 'ffi'
local ipc = require 'libipc'
require 'benches.bare'

ffi.cdef [[
int posix_spawn(int *, const char *, const void *, const void *, char *const *, char *const *);
int posix_spawn_file_actions_init(void *);
int posix_spawn_file_actions_adddup2(void *, int, int);
int posix_spawn_file_actions_destroy(void *);
int waitpid(int, int *, int);
int pipe2(int *, int);
extern char **environ;
]]

local C = ffi.C
local O_CLOEXEC = 0x80000

-- Starts `words`, with stdout as descriptor `out` if that is given.
local function start(words, out)
  local argv = ffi.new('char *[?]', #words + 1)
  for i, word in ipairs(words) do argv[i - 1] = ffi.cast('char *', word) end
  local actions = out and ffi.new 'char[128]'
  if actions then
    C.posix_spawn_file_actions_init(actions)
    C.posix_spawn_file_actions_adddup2(actions, out, 1)
  end
  local pid = ffi.new 'int[1]'
  assert(C.posix_spawn(pid, words[1], actions, nil, argv, C.environ) == 0)
  if actions then C.posix_spawn_file_actions_destroy(actions) end
  return pid[0]
end

local function finish(pid) assert(C.waitpid(pid, nil, 0) == pid) end

return function(report)
  local times = report.turns({
    bare = function()
      return report.time(function() finish(start { '/bin/true' }) end, 1, 0.1)
    end,
    ours = function()
      return report.time(function()
        ipc.spawn({ file = '/bin/true', stdin = 'inherit', stdout = 'inherit' }):wait()
      end, 1, 0.1)
    end,
    pipes = function()
      return report.time(function() ipc.spawn({ file = '/bin/true' }):wait() end, 1, 0.1)
    end,
  }, 11)
  report.compare('spawn and wait of /bin/true', times.ours, times.bare, 'posix_spawn and waitpid', '<= 1.1')
  report.compare('spawn and wait of /bin/true, with pipes', times.pipes, times.bare, 'posix_spawn and waitpid, without')

  local bytes, chunk = 1e9, 65536
  local words = { '/usr/bin/head', '-c', tostring(bytes), '/dev/zero' }
  local function rate(read)
    local since, got = ipc.clock(), 0
    for n in read do got = got + n end
    assert(got == bytes)
    return bytes / (ipc.clock() - since)
  end
  local rates = report.turns({
    bare = function()
      local ends, buffer = ffi.new 'int[2]', ffi.new('char[?]', chunk)
      assert(C.pipe2(ends, O_CLOEXEC) == 0)
      local pid = start(words, ends[1])
      C.close(ends[1])
      local found = rate(function()
        local n = tonumber(C.read(ends[0], buffer, chunk))
        return n > 0 and n or nil
      end)
      C.close(ends[0])
      finish(pid)
      return found
    end,
    ours = function()
      local p = ipc.spawn { file = words[1], args = { words[2], words[3], words[4] } }
      local found = rate(function()
        local s = p:stdout(chunk)
        return s and #s
      end)
      p:wait()
      return found
    end,
  }, 5)
  report.compare_rate('reading 1 GB that a program writes', rates.ours, rates.bare, 'read on a bare pipe, not kept', '>= 0.9')
end
