-- busted's output for spec/run: a line as each test starts and ends, so that a crash or a hang can name its test, and
-- `#totals PASSED FAILED SKIPPED` at the end. Lines that start with `FAIL` or are indented are for people.
return function()
  local busted = require 'busted'
  local handler = require 'busted.outputHandlers.base'()

  local function line(...)
    io.stdout:write(...)
    io.stdout:write('\n')
    io.stdout:flush()
  end

  local function explain(t)
    local message = t.message
    if type(message) ~= 'string' then message = require('pl.pretty').write(message) end
    local where = t.element.trace and t.element.trace.short_src
    line('FAIL ', t.name, where and ('   ' .. where .. ':' .. t.element.trace.currentline) or '')
    line('    ', (message:gsub('\n', '\n    ')))
    if t.isError and t.trace and t.trace.traceback then
      line('    ', (t.trace.traceback:gsub('^\n', ''):gsub('\n', '\n    ')))
    end
  end

  busted.subscribe({ 'test', 'start' }, function(element)
    line('#running ', handler.getFullName(element))
    return nil, true
  end, { predicate = handler.cancelOnPending })

  busted.subscribe({ 'test', 'end' }, function(element, _, status)
    local name = handler.getFullName(element)
    if status == 'success' then
      line('ok ', name)
    elseif status == 'pending' then
      local reason = handler.pendings[#handler.pendings].message or 'no reason given'
      -- Without the position that error() put before it.
      line('skip ', name, ': ', (tostring(reason):gsub('^[^\n]-:%-?%d+: ', '')))
    elseif status == 'failure' then
      explain(handler.failures[#handler.failures])
    else
      explain(handler.errors[#handler.errors])
    end
    return nil, true
  end, { predicate = handler.cancelOnPending })

  -- Outside a test: a spec file that does not load, a hook that fails.
  busted.subscribe({ 'error' }, function(element)
    if element.descriptor ~= 'it' then explain(handler.errors[#handler.errors]) end
    return nil, true
  end)
  busted.subscribe({ 'failure' }, function(element)
    if element.descriptor ~= 'it' then explain(handler.errors[#handler.errors]) end
    return nil, true
  end)

  busted.subscribe({ 'suite', 'end' }, function()
    local failed = handler.failuresCount + handler.errorsCount
    line(('#totals %d %d %d'):format(handler.successesCount, failed, handler.pendingsCount))
    return nil, true
  end)

  return handler
end
