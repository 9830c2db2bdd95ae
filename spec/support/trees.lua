-- Nodes of a tree for specs: as threads of this process, or as processes forked from a new interpreter.
local ipc = require 'libipc'
local support = require 'spec.support'

local trees = {}

local made = 0

-- Runs `body(tree, i)` on `n` nodes, each a thread with a LocalhostTree of its own; `options` are the tree's. Returns
-- for each node a table: ok, then what body returned or the error. Bodies are copied: no upvalues; what they share, an
-- atomic number say, comes as `shared`, their third argument.
function trees.threads(n, body, options, shared)
  made = made + 1
  local all = {}
  for key, value in pairs(options or {}) do all[key] = value end
  all.key = all.key or 'spec' .. made
  return {
    ipc.map(n, function(count, f, opts, given, id)
      local tree = require 'ipc.LocalhostTree'(id, count, opts)
      local results = { pcall(f, tree, id, given) }
      tree.close()
      return results
    end, n, body, all, shared):join(200),
  }
end

-- As `threads`, but every node has to end well: the first result of each.
function trees.values(n, body, options)
  local values = {}
  for i, results in ipairs(trees.threads(n, body, options)) do
    if not results[1] then error(('node %d: %s'):format(i, tostring(results[2])), 2) end
    values[i] = results[2]
  end
  return values
end

-- As `threads`, but every node has to fail: the errors.
function trees.errors(n, body, options, shared)
  local errors = {}
  for i, results in ipairs(trees.threads(n, body, options, shared)) do
    if results[1] then error(('node %d ended well, with %s'):format(i, tostring(results[2])), 2) end
    errors[i] = tostring(results[2])
  end
  return errors
end

local prelude = [[
local ipc = require 'libipc'
local LocalhostTree = require 'ipc.LocalhostTree'
-- Forks a process for each of 1 … n that runs body(i) and then ends; what it returns is printed by the parent, in order.
local function processes(n, body)
  local names, pids = {}, {}
  for i = 1, n do
    names[i] = os.tmpname()
    local pid = ipc.fork()
    if pid == 0 then
      local ok, text = pcall(body, i)
      local file = io.open(names[i], 'w')
      file:write(ok and 'ok ' or 'error ', tostring(text))
      file:close()
      os.exit(0)
    end
    pids[i] = pid
  end
  return pids, function()
    for i = 1, n do
      ipc.waitpid(pids[i])
      local file = io.open(names[i])
      print(i .. ' ' .. file:read '*a')
      file:close()
      os.remove(names[i])
    end
  end
end
]]

-- Runs `code` in a new interpreter, with `processes(n, body)` → pids, wait; returns the lines printed.
function trees.lines(code, options)
  local lines = {}
  for line in support.check(prelude .. code, options):gmatch '[^\n]+' do lines[#lines + 1] = line end
  return lines
end

return trees
