-- The kernels of tensors, against numpy on one thread in a process beside: in turns, by the processor's time, so that what
-- else runs on the machine counts little. benches/run says which Python has numpy (NUMPY_PYTHON).
local ipc = require 'libipc'
local torch = require 'ipc.torch'

return function(report)
  local python = os.getenv 'NUMPY_PYTHON'
  if not python then
    io.stderr:write('  skipped: ', os.getenv 'NUMPY_MISSING' or 'NUMPY_PYTHON names no Python with numpy', '\n')
    return
  end
  local numpy = ipc.spawn { file = python, args = { 'benches/kernels.py' } }
  local version = assert(numpy:stdout(), 'numpy did not start')

  local N = 4000000
  local a, b, c = torch.FloatTensor(N):uniform(), torch.FloatTensor(N):uniform(), torch.FloatTensor(N)
  local m, mo = torch.FloatTensor(1024, 1024):uniform(), torch.FloatTensor(1024, 1024)
  local big, v, vo = torch.FloatTensor(2048, 2048):uniform(), torch.FloatTensor(2048):uniform(), torch.FloatTensor(2048)
  local index, mask = torch.LongTensor(1000000):random(1, N), b:gt(0.5)
  local line, half = b:narrow(1, 1, 1000000), torch.HalfTensor(N):fill(1)

  for _, case in ipairs {
    { 'add', 'add two tensors of 4M floats', function() a:add(b) end },
    { 'sum', 'sum of 4M floats', function() a:sum() end },
    { 'exp', 'exp of 4M floats', function() c:exp(b) end, 2 },
    { 'tanh', 'tanh of 4M floats', function() c:tanh(b) end },
    { 'dot', 'dot of 4M floats', function() b:dot(b) end },
    { 'mv', 'mv of 2048x2048 floats', function() vo:mv(big, v) end },
    { 'mm', 'mm of 1024x1024 floats', function() mo:mm(m, m) end },
    { 'transpose', 'contiguous of a transposed 2048x2048', function() big:t():contiguous() end },
    { 'index', '1M of 4M floats by index', function() a:index(1, index) end },
    { 'mask', 'half of 4M floats by a mask', function() b:maskedSelect(mask) end },
    { 'sort', 'sort 1M floats (ours with their places)', function() torch.sort(line) end, 2 },
    { 'normal', '4M normal floats', function() c:normal() end, 2 },
    { 'half', 'add two tensors of 4M half floats', function() half:add(half) end },
  } do
    local name, what, f, goal = case[1], case[2], case[3], case[4] or 1.2
    f()
    local times = report.turns({
      ours = function()
        local start = os.clock()
        f()
        return os.clock() - start
      end,
      theirs = function()
        numpy:stdin(name .. '\n')
        return tonumber(numpy:stdout())
      end,
    }, 11)
    report.compare(what, times.ours, times.theirs, version, '<= ' .. goal)
  end
  numpy:wait()
end
