-- §10: a fork while a thread stands in the middle of a change. Apart from the other specs of forks, since it waits out the bound of the
-- library's patience, which no repeat makes worth more.
local support = require 'spec.support'

describe('fork', function()
  it('raises where a thread was stopped in the middle of a change, and nothing works in the child of another fork then', function()
    if not jit or jit.os ~= 'Linux' then return pending 'wants the FFI of LuaJIT, and ptrace' end
    local out = support.check [[
      local ffi, ipc = require 'ffi', require 'libipc'
      ffi.cdef 'int fork(void); void _exit(int); int pipe(int *); int close(int); int waitpid(int, int *, int);'
      ffi.cdef 'long read(int, void *, size_t); long write(int, const void *, size_t);'
      ffi.cdef 'long ptrace(long, long, long, long); int prctl(int, unsigned long, long, long, long);'
      local C = ffi.C
      -- It changes something all the time, and allocates nothing: its locks are ours alone.
      local q, stop = ipc.workqueue(), ipc.atomic(0)
      local busy = ipc.map(1, function(q, stop)
        local ipc = require 'libipc'
        local m = ipc.mutex()
        q:write(ipc.gettid())
        while stop:get() == 0 do
          for _ = 1, 1000 do m:lock() m:unlock() end
        end
      end, q, stop)
      local tid = q:read(60)
      -- Another process stops this thread alone, and lets it go on.
      C.prctl(0x59616d61, -1, 0, 0, 0)
      local orders, answers, byte, status = ffi.new 'int[2]', ffi.new 'int[2]', ffi.new 'char[1]', ffi.new 'int[1]'
      assert(C.pipe(orders) == 0 and C.pipe(answers) == 0)
      local tracer = C.fork()
      if tracer == 0 then
        C.close(orders[1])
        C.close(answers[0])
        while C.read(orders[0], byte, 1) == 1 do
          local done
          if byte[0] == 1 then
            -- SEIZE, INTERRUPT, and the stop itself.
            done = C.ptrace(0x4206, tid, 0, 0) == 0 and C.ptrace(0x4207, tid, 0, 0) == 0
              and C.waitpid(tid, status, 0x40000000) == tid
          else
            done = C.ptrace(17, tid, 0, 0) == 0
          end
          byte[0] = done and 1 or 0
          C.write(answers[1], byte, 1)
        end
        C._exit(0)
      end
      C.close(orders[0])
      C.close(answers[1])
      local function order(n)
        byte[0] = n
        assert(C.write(orders[1], byte, 1) == 1 and C.read(answers[0], byte, 1) == 1)
        return byte[0] == 1
      end
      local failed
      -- About one stop in a thousand finds it in the middle of one.
      for _ = 1, 20000 do
        if not order(1) then
          io.write 'not allowed'
          io.flush()
          C._exit(0)
        end
        local ok, pid = pcall(ipc.fork)
        if not ok then
          failed = pid
          break
        end
        if pid == 0 then C._exit(0) end
        assert(ipc.waitpid(pid, 60) == 0)
        order(2)
      end
      assert(failed, 'no stop found it in the middle of a change')
      assert(ipc.errcode(failed) == 'timeout' and tostring(failed):find(tid, 1, true), failed)
      -- Others fork without asking.
      local pid = C.fork()
      if pid == 0 then
        for _, f in ipairs { ipc.mutex, ipc.fork, ipc.clock, ipc.server, ipc.channel } do
          local ok, e = pcall(f)
          if ok or not tostring(e):find('[state]', 1, true) or not tostring(e):find('not by ipc.fork', 1, true) then
            io.stderr:write(tostring(e), '\n')
            C._exit(1)
          end
        end
        q, stop, busy = nil
        collectgarbage()
        os.exit(3, true)
      end
      assert(C.waitpid(pid, status, 0) == pid)
      assert(status[0] == 3 * 256, status[0])
      -- It goes on, and so does everything.
      order(2)
      pid = ipc.fork()
      if pid == 0 then
        ipc.mutex():lock()
        C._exit(4)
      end
      assert(ipc.waitpid(pid, 60) == 4)
      stop:set(1)
      busy:join()
      io.write 'told'
    ]]
    if out == 'not allowed' then return pending 'ptrace is not allowed here' end
    assert.equal('told', out)
  end)
end)
