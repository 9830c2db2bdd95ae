-- A program whose threads wait in every call that can (spec/support/blocked.lua; Ctrl-C has a file of its own).
local support = require 'spec.support'
local threads = require 'spec.support.blocked'.threads()

describe('while threads wait in every call that can', function()
  it('a cancel ends each of them', function()
    support.check(threads .. [[
      m:cancel()
      while m:poll() > 0 do ipc.sleep(0.001) end
      for _ = 1, #list do
        local ok, e = pcall(m.join, m)
        assert(not ok and e:find('[cancelled]', 1, true) and not e:find 'abandoned', e)
      end
    ]])
  end)

  it('the program ends with its own code', function()
    for code, status in pairs { [''] = 0, ["error 'oh no'"] = 1, ['os.exit(3)'] = 3, ['os.exit(4, true)'] = 4 } do
      local r = support.run(threads .. code)
      assert.is_false(r.timed_out)
      assert.same({ status = status }, { status = r.status, signal = r.signal }, code .. ': ' .. r.stderr)
    end
  end)

  it('a signal kills the program, and nothing is left behind', function()
    for _, signal in ipairs { 'TERM', 'KILL' } do
      local p = support.start(threads .. 'io.write "ready" io.flush() m:join()')
      support.eventually(function() return p:output() == 'ready' or not p:running() end)
      p:kill(signal)
      local r = p:wait()
      assert.same({ signal, 'ready' }, { r.signal, r.stdout }, r.stderr)
    end
  end)
end)
