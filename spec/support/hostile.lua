-- Suites of hostile peers (spec/support/hostile*.py) against a server that echoes.
local support = require 'spec.support'
local ipc = require 'libipc'

local hostile = {}

hostile.python = support.sh 'python3 -c "import hashlib; hashlib.blake2s" 2>&1 && echo there' == 'there'

-- Starts a suite of `script`; a function that says what it printed, or nil as long as it runs, and the file that it
-- prints to.
function hostile.play(script, ...)
  local out = support.tmpname()
  local path = support.quote(support.root .. '/spec/support/' .. script)
  local command = '(timeout 300 python3 -B %s %s; echo) >%s.new 2>&1 && mv %s.new %s &'
  os.execute(command:format(path, table.concat({ ... }, ' '), out, out, out))
  return function() return support.exists(out) and (support.read(out):gsub('%s+$', '')) or nil end, out .. '.new'
end

local function descriptors() return tonumber(support.sh('ls /proc/' .. ipc.getpid() .. '/fd | wc -l')) end

-- Plays `suite` of `script` against a server with `options`: it has to end well, and leave nothing.
function hostile.withstands(script, options, suite, ...)
  -- Room for a tensor that is only announced costs nothing, but under valgrind, which fills it with zeros.
  if support.in_valgrind then
    options = options or {}
    options.max_tensor_bytes = options.max_tensor_bytes or 2 ^ 26
  end
  local server, port = ipc.server('127.0.0.1', 0, options)
  local before = descriptors()
  local said = hostile.play(script, suite, port, ...)
  local result
  while not result do
    -- Nothing that they send is an error here.
    local came, v, c = server:tryrecvAny(nil, 0.02)
    if came then
      -- Its sender may have gone.
      local ok, e = pcall(c.send, c, v, 10)
      assert(ok or ipc.errcode(e) == 'closed' or ipc.errcode(e) == 'timeout', e)
    else
      result = said()
    end
  end
  if result ~= 'ok' then error(result, 2) end
  support.eventually(function()
    if server:tryrecvAny() then error('something still came', 0) end
    collectgarbage()
    return #server:clients() == 0 and descriptors() <= before
  end)
  server:close()
end

return hostile
