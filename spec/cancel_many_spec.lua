-- §3: far more threads than cores are cancelled at once. Apart from the other specs of cancels, since it keeps every core busy.
local support = require 'spec.support'

describe('many busy threads', function()
  it('all end, and none is abandoned', function()
    local count = (support.in_tsan or support.in_valgrind) and 20 or 300
    support.check(([[
      local ipc = require 'libipc'
      local how = (_VERSION == 'Lua 5.1' or _VERSION == 'Lua 5.2') and 'calls' or 'code'
      local function loop(begun) begun:add(1) while true do end end
      local begun = ipc.atomic(0)
      local m = ipc.map { threads = %d, cancel = how, args = { begun }, fn = loop }
      -- That all have begun takes long: each waits for a core among the others.
      while begun:get() < %d / 10 do ipc.sleep(0.01) end
      ipc.sleep(0.3)
      m:cancel()
      for _ = 1, %d do
        local ok, e = pcall(m.join, m)
        assert(not ok and e:find('[cancelled]', 1, true) and not e:find('abandoned', 1, true), e)
      end
      assert(m:poll() == 0)
    ]]):format(count, count, count))
  end)
end)
