-- The helpers that the other specs stand on.
local support = require 'spec.support'

describe('spec.support', function()
  it('runs a chunk in an interpreter of its own and captures what it did', function()
    local r = support.run [[
      io.stdout:write('out\n')
      io.stderr:write('err\n')
      os.exit(3)
    ]]
    assert.equal(3, r.status)
    assert.is_nil(r.signal)
    assert.equal('out\n', r.stdout)
    assert.equal('err\n', r.stderr)
  end)

  it('runs the same Lua as the spec', function()
    local r = support.run "io.write(_VERSION, jit and ' jit' or '')"
    assert.equal(_VERSION .. (jit and ' jit' or ''), r.stdout)
  end)

  it('passes arguments and environment', function()
    local opts = { args = { "a 'quoted' word" }, env = { GREETING = 'hi' } }
    local r = support.run("io.write(arg[1], os.getenv 'GREETING')", opts)
    assert.equal("a 'quoted' wordhi", r.stdout)
  end)

  it('names the signal that ended a chunk', function()
    local r = support.run [[
      os.execute('kill -KILL $PPID')
      os.execute('sleep 5')
    ]]
    assert.equal('KILL', r.signal)
  end)

  it('ends a chunk that hangs, and says so', function()
    local r = support.run('while true do end', { timeout = 0.3 })
    assert.is_true(r.timed_out)
  end)

  it('runs a chunk in the background, to be waited for or killed', function()
    local p = support.start [[ while true do end ]]
    p:kill 'KILL'
    local r = p:wait()
    assert.equal('KILL', r.signal)
    p = support.start [[ print 'done' ]]
    assert.equal('done\n', p:wait().stdout)
  end)

  it('gives folders of their own, and ports that are free', function()
    local a, b = support.tmpdir(), support.tmpdir()
    assert.not_equal(a, b)
    support.write(a .. '/x', 'text')
    assert.equal('text', support.read(a .. '/x'))
    assert.is_true(support.free_port() > 0)
  end)
end)
