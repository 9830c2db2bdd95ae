-- A moment of the soak that `make soak` runs for minutes: everything at once, from 16 threads, some of them cancelled.
local support = require 'spec.support'

describe('16 threads that use everything at once', function()
  it('lose nothing, leave nothing and hang nowhere, cancelled or not', function()
    local out = support.check('', { file = support.root .. '/spec/support/soak/run.lua', args = { 1.2 } })
    assert.matches('^soak: seed %d+\n', out)
    assert.matches('soak: clean, %d+ rounds, %d+ steps, %d+ threads cancelled', out)
  end)
end)
