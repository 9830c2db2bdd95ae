-- §13: bin/ipcrun and ipc.tree() on one host.
local support = require 'spec.support'
local ipc = require 'libipc'

local ipcrun = support.root .. '/bin/ipcrun'

-- Runs `script` under ipcrun. options: n (2), words (more for the command line), args (of the script), and support.start's.
local function start(script, options)
  options = options or {}
  local words = { '-n', tostring(options.n or 2) }
  for _, word in ipairs(options.words or {}) do words[#words + 1] = word end
  words[#words + 1] = support.write(support.tmpname '.lua', "local ipc = require 'libipc' " .. script)
  for _, word in ipairs(options.args or {}) do words[#words + 1] = word end
  return support.start(nil, { file = ipcrun, args = words, env = options.env, lua = options.lua, timeout = options.timeout })
end

local function run(script, options) return start(script, options):wait() end

-- The lines of a text, sorted: nodes write when they like.
local function sorted(text)
  local lines = {}
  for line in text:gmatch '[^\n]+' do lines[#lines + 1] = line end
  table.sort(lines)
  return table.concat(lines, '\n')
end

local function is_gone(pid)
  local f = io.open(('/proc/%d/stat'):format(pid))
  if not f then return true end
  local text = f:read '*a'
  f:close()
  return text:match '%) (%a)' == 'Z'
end

-- The processes of the nodes, which write `pid N`.
local function pids(p, n)
  local found
  support.eventually(function()
    found = {}
    for pid in p:output():gmatch 'pid (%d+)\n' do found[#found + 1] = tonumber(pid) end
    return #found == n or not p:running()
  end)
  assert.equal(n, #found)
  return found
end

describe('ipcrun', function()
  it('starts nodes with the Lua that runs it, and tells each who it is', function()
    local r = run([[
      local version = rawget(_G, 'jit') and jit.version or _VERSION
      print(version, os.getenv 'IPC_NODE', os.getenv 'IPC_NODES', os.getenv 'IPC_ROOT':match '^127.0.0.1:%d+$' ~= nil,
        #os.getenv 'IPC_SECRET', ..., arg[1], #arg, arg[0]:match '%.lua$', arg[-1])
    ]], { n = 3, args = { 'a b', '-n', '5' } })
    local version = support.is_luajit and rawget(_G, 'jit').version or _VERSION
    local expected = {}
    for i = 1, 3 do
      expected[i] = table.concat({ ('[%d] %s'):format(i, version), i, 3, 'true', 32, 'a b', 'a b', 3, '.lua', support.lua }, '\t')
    end
    -- `...` in the middle of a list is its first value.
    assert.equal(table.concat(expected, '\n'), sorted(r.stdout))
    assert.equal('', r.stderr)
    assert.equal(0, r.status)
  end)

  it('passes on every line whole, with its node before it, as soon as it is written', function()
    local p = start([[
      for i = 1, 50 do
        io.stdout:write(('x'):rep(i * 100), ' ') io.stdout:flush()
        io.stdout:write(i, '\n')
        io.stderr:write('e', i, '\n')
      end
      io.write 'no newline at the end'
      io.flush()
      if os.getenv 'IPC_NODE' == '1' then ipc.sleep(200) end
    ]], { n = 4 })
    local pattern = '\n%[1%] x+ 50\n'
    support.eventually(function() return ('\n' .. p:output()):find(pattern) end)
    assert.is_true(p:running())
    support.eventually(function() return select(2, p:output():gsub('no newline at the end\n', '')) == 3 end)
    p:kill 'TERM'
    local r = p:wait()
    assert.equal(143, r.status)
    local seen = {}
    for line in r.stdout:gmatch '([^\n]*)\n' do
      local node, n = line:match '^%[([1-4])%] x+ (%d+)$'
      if node then
        assert.equal((seen[node] or 0) + 1, tonumber(n))
        assert.equal(n * 100 + 5 + #n, #line)
        seen[node] = tonumber(n)
      else
        assert.matches('^%[[1-4]%] no newline at the end$', line)
      end
    end
    assert.same({ ['1'] = 50, ['2'] = 50, ['3'] = 50, ['4'] = 50 }, seen)
    for line in r.stderr:gmatch '([^\n]*)\n' do assert.matches('^%[[1-4]%] e%d+$', line) end
    assert.equal(200, select(2, r.stderr:gsub('\n', '')))
  end)

  it('ends all when one fails, names it, and ends with its code', function()
    local go = support.tmpname '.go'
    local p = start([[
      print('pid ' .. ipc.getpid())
      if os.getenv 'IPC_NODE' ~= '2' then ipc.sleep(200) end
      while not io.open(arg[1]) do ipc.sleep(0.01) end
      for i = 1, 30 do print('line', i) end
      io.stderr:write 'it went wrong\n'
      os.exit(7)
    ]], { n = 3, args = { go } })
    local all = pids(p, 3)
    support.write(go, '')
    local r = p:wait()
    assert.equal(7, r.status)
    assert.is_false(r.timed_out)
    assert.is_truthy(r.stderr:find('\nipcrun: node 2 of 3 ended with code 7; ', 1, true), r.stderr)
    -- Each line that it wrote stands there once.
    for text, line in pairs { ['[2] line\t30\n'] = r.stdout, ['[2] it went wrong\n'] = r.stderr } do
      local _, times = line:gsub(text:gsub('%p', '%%%0'), '')
      assert.equal(1, times, line)
    end
    assert.is_nil(r.stderr:find('line\t30', 1, true))
    for _, pid in ipairs(all) do support.eventually(function() return is_gone(pid) end) end
  end)

  it('names the signal that killed a node, and ends with 128 + n', function()
    local r = run [[
      if os.getenv 'IPC_NODE' == '1' then os.execute('kill -9 ' .. ipc.getpid()) end
      ipc.sleep(200)
    ]]
    assert.equal(137, r.status)
    assert.is_truthy(r.stderr:find('ipcrun: node 1 of 2 ended with SIGKILL', 1, true), r.stderr)
  end)

  it('blames the node that failed, not those that noticed', function()
    local r = run([[
      local tree = ipc.tree()
      tree.barrier()
      if tree.nodeIndex == 3 then os.exit(9) end
      tree.allReduce(1, 'sum')
    ]], { n = 3 })
    assert.equal(9, r.status, r.stderr)
    assert.is_truthy(r.stderr:find('ipcrun: node 3 of 3 ended with code 9', 1, true), r.stderr)
  end)

  it('kills the nodes that do not end when they are told to', function()
    local p = start([[ print('pid ' .. ipc.getpid()) ipc.sleep(200) ]],
      { lua = [[sh -c 'trap "" TERM; exec "$@"' x ]] .. support.lua })
    local nodes = pids(p, 2)
    p:kill 'TERM'
    support.sleep(0.05)
    for _, pid in ipairs(nodes) do assert.is_false(is_gone(pid)) end
    -- For the second time; and again, since two that come before it looks are one.
    support.eventually(function()
      p:kill 'TERM'
      return not p:running()
    end)
    assert.equal(143, p:wait().status)
    for _, pid in ipairs(nodes) do support.eventually(function() return is_gone(pid) end) end
  end)

  it('passes signals on, and ends as they say', function()
    local codes = { INT = 130, TERM = 143, HUP = 129 }
    -- Under nohup these specs are started with SIGHUP, the lowest bit, ignored.
    if support.read '/proc/self/status':match 'SigIgn:%s*%x*[13579bdf]\n' then codes.HUP = nil end
    for name, code in pairs(codes) do
      local p = start [[ print('pid ' .. ipc.getpid()) ipc.sleep(200) ]]
      local nodes = pids(p, 2)
      p:kill(name)
      local r = p:wait()
      assert.is_false(r.timed_out)
      assert.equal(code, r.status)
      for _, pid in ipairs(nodes) do assert.is_true(is_gone(pid)) end
      if name == 'INT' then assert.is_truthy(r.stderr:find('interrupted!', 1, true), r.stderr) end
    end
  end)

  it('has failed when a signal that it passed on has killed a node', function()
    local p = start [[ print('pid ' .. ipc.getpid()) ipc.sleep(200) ]]
    pids(p, 2)
    p:kill 'USR1'
    local r = p:wait()
    assert.equal(138, r.status)
    assert.is_truthy(r.stderr:find('ended with SIGUSR1', 1, true), r.stderr)
  end)

  it('goes on after a hang-up that is ignored', function()
    local go = support.tmpname '.go'
    local p = start([[
      print('pid ' .. ipc.getpid())
      while not io.open(arg[1]) do ipc.sleep(0.01) end
    ]], { lua = [[sh -c 'trap "" HUP; exec "$@"' x ]] .. support.lua, args = { go } })
    pids(p, 2)
    p:kill 'HUP'
    support.sleep(0.05)
    support.write(go, '')
    assert.equal(0, p:wait().status)
  end)

  it('hears how its nodes ended where it was started with SIGCHLD ignored', function()
    local p = start("print 'well'", { lua = [[sh -c 'trap "" CHLD; exec "$@"' x ]] .. support.lua })
    local r = p:wait()
    assert.same({ 0, '' }, { r.status, r.stderr })
  end)

  it('passes on what has no end of line, if it is very long', function()
    local r = run([[
      if os.getenv 'IPC_NODE' == '1' then
        for _ = 1, 3 do io.write(('x'):rep(2 ^ 20)) io.flush() end
        local p = io.open(arg[1], 'w')
        p:close()
        print 'the end'
      else
        while not io.open(arg[1]) do ipc.sleep(0.01) end
      end
    ]], { args = { support.tmpname '.go' } })
    assert.equal(0, r.status)
    local n, length = 0, 0
    for line in r.stdout:gmatch '([^\n]*)\n' do
      n, length = n + 1, length + #line - 4
      assert.matches('^%[1%] ', line:sub(1, 4))
    end
    assert.is_true(n >= 2, n .. ' lines')
    assert.equal(3 * 2 ^ 20 + 7, length)
  end)

  it('leaves no node behind when it is killed itself, not even one that ignores SIGTERM', function()
    local p = start([[ print('pid ' .. ipc.getpid()) ipc.sleep(200) ]],
      { lua = [[sh -c 'trap "" TERM; exec "$@"' x ]] .. support.lua })
    local nodes = pids(p, 2)
    p:kill 'KILL'
    assert.equal('KILL', p:wait().signal)
    for _, pid in ipairs(nodes) do support.eventually(function() return is_gone(pid) end) end
  end)

  it('ends all when nobody reads its output any more', function()
    local code = support.write(support.tmpname '.lua', "while true do print(('x'):rep(1000)) end")
    local out = support.sh(('%s %s -n 2 %s 2>/dev/null | head -n 1 | cut -c 4-6')
      :format(support.lua, ipcrun, code))
    assert.equal(' xx', out)
  end)

  it('ends all when its output cannot be written, and says why', function()
    if not support.exists '/dev/full' then return pending 'there is no /dev/full here' end
    local code = support.write(support.tmpname '.lua', "while true do print(('x'):rep(1000)) end")
    local out = support.sh(('%s %s -n 2 %s 2>&1 >/dev/full | grep ^ipcrun')
      :format(support.lua, ipcrun, code))
    assert.matches('^ipcrun: cannot pass on what the nodes write: No space left on device', out)
  end)

  it('says what is wrong with its command line', function()
    for _, case in ipairs {
      { '', 'which script%?' }, { '-n 2', 'which script%?' }, { '-n x y.lua', "number of nodes.*'x'" }, { '-n 0 y.lua', "'0'" },
      { '--hosts a:2,b:2 y.lua', 'cannot be started yet' }, { '--what y.lua', 'unknown option %-%-what' },
      { '-n 1000000000 y.lua', 'this machine starts no 1000000000 nodes' },
      { '-n 2 /no/such/script.lua', "'/no/such/script.lua'" },
    } do
      local out = support.sh(('%s %s %s 2>&1; echo $?'):format(support.lua, ipcrun, case[1]))
      assert.matches('^ipcrun: .*' .. case[2], out)
      assert.matches('\n2$', out)
    end
    assert.matches('^usage: ipcrun', support.sh(('%s %s --help'):format(support.lua, ipcrun)))
    local r = run('error "on purpose"', { n = 1 })
    assert.equal(1, r.status)
    assert.is_truthy(r.stderr:find('on purpose', 1, true))
  end)
end)

describe('ipc.tree', function()
  -- What the launchers set; `is_refused` by the words that follow.
  local launchers = {
    { { SLURM_PROCID = 0, SLURM_NTASKS = 4, SLURM_STEP_NUM_TASKS = 4 }, 'SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=4' },
    { { SLURM_PROCID = 0, SLURM_NTASKS = 1, SLURM_STEP_NUM_TASKS = 1 } },
    { { SLURM_JOB_ID = 7, SLURM_NTASKS = 4 }, 'SLURM_NTASKS=4, as under Slurm, and not SLURM_PROCID' },
    { { OMPI_COMM_WORLD_RANK = 1, OMPI_COMM_WORLD_SIZE = 2, PMIX_RANK = 1 }, 'OMPI_COMM_WORLD_SIZE=2' },
    { { OMPI_COMM_WORLD_RANK = 0, OMPI_COMM_WORLD_SIZE = 1, PMIX_RANK = 0 } },
    { { PMIX_RANK = 0 }, 'PMIX_RANK=0' },
    { { PMI_RANK = 0, PMI_SIZE = 2 }, 'PMI_RANK=0 PMI_SIZE=2' },
    { { RANK = 0, WORLD_SIZE = 8, MASTER_ADDR = 'localhost', MASTER_PORT = 29500 }, 'torchrun has started 8 nodes' },
    { { RANK = 0 }, 'RANK=0' },
    { { WORLD_SIZE = 2 }, 'WORLD_SIZE=2' },
    { { RANK = 5, WORLD_SIZE = 2 }, 'RANK=5 WORLD_SIZE=2' },
    { { RANK = 'x', WORLD_SIZE = 2 }, 'RANK=x' },
    { { RANK = 0, WORLD_SIZE = 1 } },
    { { OMPI_COMM_WORLD_RANK = 0, OMPI_COMM_WORLD_SIZE = 1, SLURM_PROCID = 2, SLURM_NTASKS = 4 }, 'SLURM_NTASKS=4' },
    { { IPC_TREE = 'alone' }, 'IPC_TREE=alone', 'argument' },
    { { IPC_TREE = '', RANK = '' } },
  }
  local program = [[
    local ipc = require 'libipc'
    local tree = ipc.tree()
    print(tree.nodeIndex, tree.numNodes)
  ]]

  for _, case in ipairs(launchers) do
    local words = {}
    for name, value in pairs(case[1]) do words[#words + 1] = name .. '=' .. value end
    table.sort(words)
    words = table.concat(words, ' ')
    if not case[2] then
      it(('is alone where a launcher says so: %s'):format(words), function()
        assert.equal('1\t1\n', support.check(program, { env = case[1] }))
      end)
    else it(('is never silently alone where the environment has %s'):format(words), function()
      local r = support.run(program, { env = case[1] })
      assert.equal(1, r.status, r.stdout)
      local head = ('libipc [%s] ipc.tree: '):format(case[3] or 'state')
      assert.is_truthy(r.stderr:find(head, 1, true) and r.stderr:find(case[2], 1, true), r.stderr)
      if case[3] then return end
      -- Every refusal names the way out, which works.
      assert.is_truthy(r.stderr:find('IPC_TREE=none', 1, true), r.stderr)
      case[1].IPC_TREE = 'none'
      assert.equal('1\t1\n', support.check(program, { env = case[1] }))
    end) end
  end

  it('has as many nodes as are asked for, or is an error', function()
    local e = support.fails(ipc.tree, { nodes = 4 })
    assert.equal('state', ipc.errcode(e))
    assert.matches('expected 4 nodes, there is one: start them by ipcrun -n 4', e, 1, true)
    assert.equal(1, ipc.tree { nodes = 1 }.numNodes)
    assert.equal('argument', ipc.errcode(support.fails(ipc.tree, { nodes = 'four' })))
    local r = run [[ ipc.tree { nodes = 2 } print(pcall(ipc.tree, { nodes = 3 })) ]]
    assert.equal(2, select(2, r.stdout:gsub('%[state%] ipc.tree: expected 3 nodes, there are 2', '')), r.stdout .. r.stderr)
  end)

  it('joins the nodes that ipcrun started, as often as it is called', function()
    local r = run([[
      local lines = {}
      for round = 1, 2 do
        local tree = ipc.tree { base = round }
        assert(tree.nodeIndex == tonumber(os.getenv 'IPC_NODE') and tree.numNodes == 3)
        local sum, n = tree.allReduce(tree.nodeIndex, 'sum')
        lines[round] = ('%d from %d, here %d, gpu %s'):format(sum, n, tree.localIndex, tostring(tree.gpu))
        tree.close()
      end
      print(table.concat(lines, '; '))
    ]], { n = 3, env = { CUDA_VISIBLE_DEVICES = '0,5' } })
    local expected = {}
    for i = 1, 3 do
      local line = ('6 from 3, here %d, gpu %d'):format(i, (i - 1) % 2 + 1)
      expected[i] = ('[%d] '):format(i) .. line .. '; ' .. line
    end
    assert.equal(table.concat(expected, '\n'), sorted(r.stdout), r.stderr)
    assert.equal(0, r.status)
  end)

  it('keeps runs at the same time apart', function()
    local a, b = start [[ local t = ipc.tree() print(t.allReduce(1, 'sum')) t.close() ]],
      start([[ local t = ipc.tree() print(t.allReduce(10, 'sum')) t.close() ]], { n = 3 })
    assert.equal('[1] 2\t2\n[2] 2\t2', sorted(a:wait().stdout))
    assert.equal('[1] 30\t3\n[2] 30\t3\n[3] 30\t3', sorted(b:wait().stdout))
  end)

  it('lets in nobody without the secret', function()
    local r = run [[
      if os.getenv 'IPC_NODE' == '2' then return end
      local host, port = os.getenv 'IPC_ROOT':match '(.*):(%d+)'
      local ok, e = pcall(ipc.client, host, port, { secret = 'another', encrypt = false, connect_timeout = 5 })
      print(ipc.errcode(e))
    ]]
    assert.equal('[1] auth\n', r.stdout)
  end)

  it('is one lone node where nothing was launched', function()
    local out = support.check([[
      local ipc = require 'libipc'
      local tree = ipc.tree()
      print(tree.nodeIndex, tree.numNodes, tree.localIndex, tree.gpu, tree.allReduce(5, 'sum'))
    ]], { env = { CUDA_VISIBLE_DEVICES = '' } })
    assert.equal('1\t1\t1\tnil\t5\t1\n', out)
  end)

  it('says what is wrong with its surroundings', function()
    for _, case in ipairs {
      { { IPC_NODE = 'x', IPC_NODES = '2', IPC_ROOT = 'a:1' }, 'IPC_NODE=x' },
      { { IPC_NODE = '3', IPC_NODES = '2', IPC_ROOT = 'a:1' }, 'IPC_NODE=3: expected a whole number from 1 to 2' },
      { { IPC_NODE = '1', IPC_NODES = '2' }, 'IPC_ROOT=nil' }, { { IPC_NODES = '2', IPC_ROOT = 'a:1' }, 'IPC_NODE=nil' },
    } do
      local r = support.run("require 'libipc'.tree()", { env = case[1] })
      assert.equal(1, r.status)
      assert.is_truthy(r.stderr:find('libipc [state] ipc.tree: ', 1, true) and r.stderr:find(case[2], 1, true), r.stderr)
    end
    local r = support.run("require 'libipc'.tree(5)")
    assert.is_truthy(r.stderr:find('expected a table', 1, true), r.stderr)
  end)
end)
