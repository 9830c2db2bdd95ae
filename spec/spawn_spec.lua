-- §10: ipc.spawn.
-- luacheck: ignore 431 (what goes to a thread has the same name there)
local support = require 'spec.support'
local ipc = require 'libipc'

local function code(f, ...) return ipc.errcode(support.fails(f, ...)) end

-- A shell that runs `script`, with further options.
local function sh(script, options)
  options = options or {}
  options.file, options.args = 'sh', { '-c', script }
  return ipc.spawn(options)
end

-- All that a program with these options writes to stdout.
local function output(options)
  local p = ipc.spawn(options)
  local s = p:stdout '*all'
  p:wait()
  return s
end

-- The state of process `pid` in one letter (Z: ended, and nobody was told); nil when it is gone.
local function state(pid)
  local f = io.open(('/proc/%d/stat'):format(pid))
  if not f then return nil end
  local text = f:read '*a' -- nil where it ended after it was opened
  f:close()
  return text and text:match '%) (%a)'
end

local function is_gone(pid) return state(pid) == nil end

describe('spawn', function()
  it('starts a program, with numbers in its arguments as strings', function()
    assert.equal('a b,12,0.5,\n', output { file = 'sh', args = { '-c', 'IFS=,; echo "$*,"', 0, 'a b', 12, 0.5 } })
    assert.equal('no arguments 0\n', output { file = 'sh', args = { '-c', 'echo no arguments $#' } })
  end)

  it('gives a process with its number, that runs or has ended', function()
    local p = ipc.spawn { file = 'cat' }
    assert.equal('ipc.spawn', ipc.type(p))
    assert.is_true(p:running())
    assert.equal('S', support.eventually(function() return state(p:pid()) == 'S' and 'S' end))
    assert.equal(('ipc.spawn: cat, process %d, running'):format(p:pid()), tostring(p))
    assert.equal(0, p:wait())
    assert.is_false(p:running())
    assert.equal(('ipc.spawn: cat, process %d, ended with 0'):format(p:pid()), tostring(p))
  end)

  it('replaces the environment by a list, and adds to it from a map', function()
    assert.equal('A=1\nB=two=2\n', output { file = '/usr/bin/env', env = { 'A=1', 'B=two=2' } })
    local all = output { file = '/usr/bin/env', env = { SPAWN_A = 'x y', SPAWN_B = 7, PATH = '/bin', SPEC_LUA = false } }
    local lines = '\n' .. all
    assert.is_truthy(lines:find('\nSPAWN_A=x y\n', 1, true) and lines:find('\nSPAWN_B=7\n', 1, true), all)
    assert.is_truthy(lines:find('\nPATH=/bin\n', 1, true), all)
    assert.is_truthy(not lines:find '\nSPEC_LUA=' and os.getenv 'SPEC_LUA', 'false takes away')
    assert.equal(select(2, lines:gsub('\nPATH=', '')), 1)
    assert.is_truthy(output({ file = '/usr/bin/env', env = {} }):find 'PATH=')
  end)

  it('starts it in the folder that it is told', function()
    local dir = support.tmpdir()
    assert.equal(support.sh('cd ' .. dir .. ' && pwd -P') .. '\n', output { file = 'sh', args = { '-c', 'pwd -P' }, cwd = dir })
  end)

  it('names a program that is missing, and a folder', function()
    if support.in_valgrind then return pending 'valgrind copies the memory that a new child should share, to tell of errors' end
    local e = support.fails(ipc.spawn, { file = 'no-such-program' })
    assert.equal('io', ipc.errcode(e))
    assert.is_truthy(e:find("cannot start 'no-such-program'", 1, true), e)
    e = support.fails(ipc.spawn, { file = './no/such program' })
    assert.is_truthy(e:find('./no/such program', 1, true), e)
    e = support.fails(ipc.spawn, { file = 'true', cwd = '/no/such/folder' })
    assert.is_truthy(e:find("'/no/such/folder' (cwd)", 1, true), e)
    local plain = support.write(support.tmpname(), 'not a program')
    assert.is_truthy(support.fails(ipc.spawn, { file = plain }):find(plain, 1, true))
  end)

  it('refuses what it cannot pass on, by name', function()
    for _, case in ipairs {
      { {}, "'file'" }, { { file = 1 }, "'file'" }, { { file = '' }, "'file'" }, { { file = 'a\0b' }, "'file'.*NUL" },
      { { file = 'true', args = 'x' }, "'args': expected a table" },
      { { file = 'true', args = { 'x', {} } }, 'args%[2%]: expected a string or a number, got table' },
      { { file = 'true', args = { true } }, 'args%[1%]' }, { { file = 'true', args = { 'a\0b' } }, 'args%[1%]' },
      { { file = 'true', env = { 'novalue' } }, "env%[1%]: expected 'NAME=value', got 'novalue'" },
      { { file = 'true', env = { 'A=1', B = '2' } }, "'B'" }, { { file = 'true', env = { ['A=B'] = '2' } }, "'A=B'" },
      { { file = 'true', env = { A = true } }, 'env.A' }, { { file = 'true', env = 'A=1' }, "'env'" },
      { { file = 'true', stdin = {} }, "'stdin': expected 'pipe'" }, { { file = 'true', stdout = -1 }, "'stdout'" },
      { { file = 'true', stdout = 12345 }, 'stdout: descriptor 12345' }, { { file = 'true', stderr = 1.5 }, "'stderr'" },
      { { file = 'true', cwd = 5 }, "'cwd'" }, { { file = 'true', group = 1 }, "'group'" }, { { file = 'true', what = 1 }, "'what'" },
    } do
      local e = support.fails(ipc.spawn, case[1])
      assert.equal('argument', ipc.errcode(e), e)
      assert.matches(case[2], e)
    end
    local e = support.fails(ipc.spawn, 'true')
    assert.is_truthy(e:find('expected a table', 1, true), e)
    e = support.fails(ipc.spawn, { file = 'true', stdin = '/no/such/file' })
    assert.is_truthy(ipc.errcode(e) == 'io' and e:find("stdin: cannot open '/no/such/file'", 1, true), e)
  end)
end)

describe('the streams of a process', function()
  it('are a pipe in, a pipe out, and our own stderr', function()
    local r = support.run [[
      local ipc = require 'libipc'
      local p = ipc.spawn { file = 'sh', args = { '-c', 'cat; echo to stderr >&2' } }
      p:stdin 'to stdout'
      p:stdin()
      print(p:stdout '*all', p:wait())
    ]]
    assert.equal('to stdout\t0\n', r.stdout)
    assert.equal('to stderr\n', r.stderr)
  end)

  it('give lines, all, or so many bytes, and nil at the end', function()
    local p = sh [[printf 'one\n\ntwo\r\nthree']]
    assert.same({ 'one', '', 'two\r', 'three' }, { p:stdout(), p:stdout '*line', p:stdout 'l', p:stdout '*l' })
    assert.is_nil(p:stdout())
    assert.is_nil(p:stdout '*all')
    assert.is_nil(p:stdout(10))

    p = sh [[printf 'one\ntwo\nthree']]
    assert.same({ 'one\n', 'two\nthree' }, { p:stdout '*L', p:stdout '*all' })
    assert.is_nil(p:stdout '*all')

    p = sh [[printf 12345]]
    p:wait()
    assert.same({ '123', '45' }, { p:stdout(3), p:stdout(1e9) })
    assert.is_nil(p:stdout(1))

    -- All of nothing is the end.
    p = ipc.spawn { file = 'true' }
    assert.is_nil(p:stdout '*all')
    assert.is_nil(p:stdout '*all')

    p = ipc.spawn { file = 'cat' }
    p:stdin('a\0b\n', 5)
    p:stdin(42)
    p:stdin()
    assert.same({ 'a\0b', '42' }, { p:stdout(), p:stdout() })
  end)

  it('give a line as soon as it is there', function()
    local p = ipc.spawn { file = 'cat' }
    for i = 1, 20 do
      p:stdin(('line %d\n'):format(i))
      assert.equal('line ' .. i, p:stdout('*line', 60))
    end
    assert.equal(0, p:wait())
  end)

  it('can be files, descriptors, ours, nothing, or one and the same', function()
    local path, log = support.write(support.tmpname(), 'from a file'), support.tmpname()
    assert.equal(0, ipc.spawn { file = 'cat', stdin = path, stdout = log }:wait())
    assert.equal('from a file', support.read(log))
    local f = assert(io.open(log, 'a'))
    f:write ', before' -- not written out yet
    assert.equal(0, sh('printf ", after"', { stdout = f, stdin = 'null' }):wait())
    f:close()
    assert.equal('from a file, before, after', support.read(log))
    assert.equal('argument', code(ipc.spawn, { file = 'true', stdout = f }))
    assert.equal('out\nerr\n', output { file = 'sh', args = { '-c', 'echo out; echo err >&2' }, stderr = 'stdout' })
    assert.is_nil((output { file = 'sh', args = { '-c', 'cat' }, stdin = 'null', stderr = 'null' }))
    local p = sh('echo err >&2', { stderr = 'pipe', stdout = 'null' })
    assert.equal('err', p:stderr())
    assert.is_nil(p:stderr())
    assert.equal('state', code(p.stdout, p))
    assert.equal('state', code(p.stdoutFileId, p))
    p:wait()

    local r = support.run [[
      local ipc = require 'libipc'
      ipc.spawn { file = 'sh', args = { '-c', 'echo 1; echo 2 >&2' }, stdout = 2, stderr = 1, stdin = 'inherit' }:wait()
      local p = ipc.spawn { file = 'cat', stdin = 'inherit', stdout = 'inherit' }
      print(pcall(p.stdin, p, 'x'))
      p:wait()
    ]]
    assert.matches('^2\nfalse\t.*libipc %[state%] spawn:stdin: stdin of process %d+ is not a pipe', r.stdout)
    assert.equal('1\n', r.stderr)
  end)

  it('make a pipeline by their descriptors', function()
    local first = sh 'for i in 3 1 2; do echo $i; done'
    local second = ipc.spawn { file = 'sort', stdin = first:stdoutFileId() }
    assert.equal('1\n2\n3\n', second:stdout '*all')
    assert.equal(0, second:wait())
    assert.equal(0, first:wait())
    assert.is_nil(first:stdoutFileId())
  end)

  it('never stand still because another one is full', function()
    local big = ('x'):rep(300000) .. '\n'
    -- It writes before it reads, and to both.
    local p = sh('head -c 300000 /dev/zero >&2; cat; head -c 300000 /dev/zero >&2; echo end', { stderr = 'pipe' })
    p:stdin(big)
    p:stdin()
    assert.equal(#big - 1, #p:stdout())
    assert.equal('end', p:stdout())
    assert.equal(0, p:wait())
    assert.equal(600000, #p:stderr '*all')
  end)

  it('carry megabytes of any bytes', function()
    local bytes = {}
    for i = 0, 255 do bytes[#bytes + 1] = string.char(i) end
    local big = table.concat(bytes):rep(4096)
    local p = ipc.spawn { file = 'cat' }
    p:stdin(big)
    p:stdin()
    assert.is_true(p:stdout '*all' == big)
    p:wait()
    p = ipc.spawn { file = 'head', args = { '-c', 5000000, '/dev/zero' } }
    local n = 0
    for chunk in function() return p:stdout(65536) end do n = n + #chunk end
    assert.equal(5000000, n)
  end)

  it('stop waiting in time, and go on with what had come', function()
    local p = sh 'printf ab; cat'
    assert.equal('timeout', code(p.stdout, p, '*line', 0.01))
    assert.equal('timeout', code(p.stdout, p, { timeout = 0.01 }))
    assert.equal('timeout', code(p.stdout, p, '*all', true))
    p:stdin 'cd\n'
    assert.equal('abcd', p:stdout('*line', 60))
    p:wait()

    p = ipc.spawn { file = 'sleep', args = { 100 } }
    local e = support.fails(p.stdin, p, ('x'):rep(1000000), 0.01)
    assert.equal('timeout', ipc.errcode(e))
    assert.matches('took %d+ of 1000000 bytes', e)
    assert.equal('timeout', code(p.stdin, p, ('x'):rep(1000000), { timeout = 0 }))
    p:wait 'KILL'
  end)

  it('raise closed when the process reads no more, and never a SIGPIPE', function()
    local out = support.check [[
      local ipc = require 'libipc'
      local p = ipc.spawn { file = 'true' }
      while p:running() do ipc.sleep(0.001) end
      print(ipc.errcode(select(2, pcall(p.stdin, p, 'x'))))
      print(ipc.errcode(select(2, pcall(p.stdin, p, 'x'))))
      p:stdin()
      p:stdin()
      -- One that ends in the middle of a write.
      p = ipc.spawn { file = 'head', args = { '-c', 100000 } }
      print(ipc.errcode(select(2, pcall(p.stdin, p, ('x'):rep(10000000)))), p:wait())
      p = ipc.spawn { file = 'cat' }
      p:stdin()
      print(ipc.errcode(select(2, pcall(p.stdin, p, 'x'))), p:wait())
    ]]
    assert.equal('closed\nclosed\nclosed\t0\nclosed\t0\n', out)
  end)
end)

describe('wait', function()
  it('closes stdin, empties the pipes, and gives the exit code, as often as asked', function()
    local p = sh('cat >/dev/null; head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; exit 7', { stderr = 'pipe' })
    assert.same({ 7 }, { p:wait() })
    assert.same({ 7 }, { p:wait() })
    assert.same({ 7 }, { p:wait('TERM', 0) })
    assert.equal(300000, #p:stdout '*all')
    assert.equal(300000, #p:stderr '*all')
    assert.is_nil(p:stdout())
  end)

  it('gives 0 after a signal of ours, else 128 + n and the name', function()
    for _, signal in ipairs { 15, 9, 'TERM', 'SIGKILL', 'int' } do
      assert.same({ 0 }, { ipc.spawn { file = 'sleep', args = { 100 } }:wait(signal) })
    end
    local p = ipc.spawn { file = 'sleep', args = { 100 } }
    assert.is_true(p:kill 'USR1')
    assert.same({ 0 }, { p:wait() })
    assert.is_false(p:kill())
    for name, n in pairs { KILL = 9, TERM = 15, SEGV = 11 } do
      assert.same({ 128 + n, 'SIG' .. name }, { sh('kill -' .. name .. ' $$'):wait() })
    end
    -- An exit code that looks like one is one; and who handles our signal ends as it likes.
    assert.same({ 137 }, { sh 'exit 137':wait() })
    p = sh "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done"
    assert.equal('ready', p:stdout())
    assert.same({ 5 }, { p:wait 'TERM' })
    -- Killed by another before we sent anything.
    p = ipc.spawn { file = 'sleep', args = { 100 } }
    os.execute('kill -9 ' .. p:pid())
    support.eventually(function() return state(p:pid()) == 'Z' end)
    assert.same({ 137, 'SIGKILL' }, { p:wait 'KILL' })
  end)

  it('stops waiting in time, and can be asked again', function()
    local p = ipc.spawn { file = 'sleep', args = { 100 } }
    assert.equal('timeout', code(p.wait, p, nil, 0.02))
    assert.equal('timeout', code(p.wait, p, { timeout = 0 }))
    assert.equal('timeout', code(p.wait, p, 'CONT', { timeout = 0.01 }))
    assert.is_true(p:running())
    assert.same({ 0 }, { p:wait('KILL', 60) })
    for _, signal in ipairs { 'NONE', 0, 65, 1.5, '' } do assert.equal('argument', code(p.wait, p, signal)) end
    assert.equal('argument', code(p.kill, p, 'NONE'))
    for _, amount in ipairs { '*x', 0, -1, 1.5, true } do assert.equal('argument', code(p.stdout, p, amount)) end
    assert.equal('argument', code(p.stdin, p, true))
    assert.equal('argument', code(p.stdout, p, '*all', 'soon'))
  end)

  it('does not wait for what a process leaves behind with its pipes', function()
    local p = sh 'sleep 100 & echo $!'
    local left = p:stdout()
    assert.equal(0, p:wait(nil, 60))
    assert.equal('timeout', code(p.stdout, p, '*line', 0.01))
    os.execute('kill ' .. left)
    assert.is_nil(p:stdout('*line', 60))
  end)

  it('says so when the end was told to somebody else', function()
    local p = sh 'exit 3'
    assert.equal(3, ipc.waitpid(p:pid()))
    assert.equal('state', code(p.wait, p))
    assert.is_false(p:running())
    assert.is_false(p:kill 'KILL')
  end)

  it('is the moment that ipc.select and fd() tell of', function()
    local p, q = ipc.spawn { file = 'cat' }, ipc.spawn { file = 'cat' }
    local has_pidfd, fd, poll = pcall(p.fd, p)
    if not has_pidfd and ipc.errcode(fd) == 'unsupported' then return pending 'this system has no pidfd' end
    assert.same({ 'number', 'read' }, { type(fd), poll })
    assert.equal('argument', code(p.fd, p, 'write'))
    assert.is_nil(ipc.select({ p, q }, 0))
    assert.is_nil(ipc.select({ p, q }, 0.01))
    q:stdin()
    assert.same({ q, 2 }, { ipc.select({ p, q }, 60) })
    assert.equal(0, q:wait())
    assert.same({ q, 2 }, { ipc.select { p, q } })
    assert.same({ q, 1 }, { ipc.select { q } })
    p:wait()
    assert.equal('read', select(2, p:fd()))
  end)
end)

describe('what nobody reads', function()
  local script = 'head -c 300000 /dev/zero >&2; echo done'

  it('is kept up to a bound while another stream is read, and is told of past it', function()
    local p = ipc.spawn { file = 'sh', args = { '-c', script }, stderr = 'pipe', keep = 100000 }
    assert.equal('done', p:stdout())
    local e = support.fails(p.stderr, p, '*all')
    assert.equal('limit', ipc.errcode(e))
    assert.matches('100000 bytes', e)
    assert.equal(0, p:wait())
    p = ipc.spawn { file = 'sh', args = { '-c', script }, stderr = 'pipe', keep = 300000 }
    assert.equal('done', p:stdout())
    assert.equal(300000, #p:stderr '*all')
    assert.equal(0, p:wait())
  end)

  it('is kept up to a bound while stdin is written and the end is waited for', function()
    local p = ipc.spawn { file = 'cat', keep = 100000 }
    p:stdin(('x'):rep(1e6))
    assert.equal(0, p:wait())
    assert.equal('limit', ipc.errcode(support.fails(p.stdout, p, '*all')))
    p = ipc.spawn { file = 'cat', keep = 0 }
    p:stdin 'text'
    p:stdin()
    assert.equal('text', p:stdout '*all')
  end)

  it('is 64 MiB if nothing is said', function()
    local p = ipc.spawn { file = 'sh', args = { '-c', 'head -c 70000000 /dev/zero >&2; echo done' }, stderr = 'pipe' }
    assert.equal('done', p:stdout())
    assert.equal('limit', ipc.errcode(support.fails(p.stderr, p, '*all')))
    for _, keep in ipairs { -1, 1.5, 'x' } do
      assert.equal('argument', ipc.errcode(support.fails(ipc.spawn, { file = 'true', keep = keep })))
    end
  end)
end)

describe('a child process', function()
  it('has no descriptor but its three streams, also when threads start many at once', function()
    local kept = assert(io.open(support.lua:match '^/' and support.lua or '/dev/null')) -- not close-on-exec
    local server = ipc.server()
    local lists = { ipc.map(3, function()
      local ipc = require 'libipc'
      local lists = {}
      for i = 1, 12 do
        local f = assert(io.open '/dev/null')
        local p = ipc.spawn { file = 'sh', args = { '-c', 'echo /proc/$$/fd/*' } }
        lists[i] = p:stdout('*all'):gsub('/proc/%d+/fd/', '')
        assert(p:wait() == 0)
        f:close()
      end
      return (table.concat(lists))
    end):join() }
    -- 3 is the folder that the shell reads.
    for _, list in ipairs(lists) do assert.equal(('0 1 2 3\n'):rep(12), list) end
    server:close()
    kept:close()
  end)

  it('starts with no signal blocked, and with SIGPIPE as usual', function()
    local masks = output { file = 'grep', args = { '-E', 'SigBlk|SigIgn', '/proc/self/status' } }
    local thread = ipc.map(1, function()
      return require('libipc').spawn({ file = 'grep', args = { '-E', 'SigBlk|SigIgn', '/proc/self/status' } }):stdout '*all'
    end):join()
    assert.equal(masks, thread)
    assert.matches('SigBlk:%s*0+\n', masks)
    local ignored = tonumber(masks:match('SigIgn:%s*(%x+)'):sub(-8), 16)
    assert.equal(0, math.floor(ignored / 2 ^ 12) % 2, 'SIGPIPE')
  end)

  it('is one of a thousand, started and waited for at once', function()
    local out = support.check([[
      local ipc = require 'libipc'
      local all = {}
      for i = 1, 1000 do all[i] = ipc.spawn { file = 'true', stdin = 'null', stdout = i % 2 == 0 and 'pipe' or 'null' } end
      for i = 1, 1000 do assert(all[i]:wait() == 0) end
      print 'all'
    ]])
    assert.equal('all\n', out)
  end)

  it('is ended and heard of when its handle is collected', function()
    local pids = {}
    for i = 1, 20 do pids[i] = ipc.spawn({ file = 'sleep', args = { 100 } }):pid() end
    -- One that does not care does not hold up the collector.
    local p = sh "trap '' TERM; echo ready; exec sleep 100"
    p:stdout()
    local stubborn = p:pid()
    p = nil -- luacheck: ignore 311
    local start = ipc.clock()
    collectgarbage()
    collectgarbage()
    assert.is_true(ipc.clock() - start < 30)
    for _, pid in ipairs(pids) do support.eventually(function() return is_gone(pid) end) end
    assert.is_false(is_gone(stubborn))
    -- Whoever waits for it is seen.
    support.eventually(function()
      for _, thread in ipairs(ipc.report().threads) do
        if thread.name == 'libipc reaper' then return thread.background end
      end
    end)
    os.execute('kill -9 ' .. stubborn)
    support.eventually(function() return is_gone(stubborn) end)
  end)

  it('does not hold up the end of the program', function()
    local out = support.check [[
      local ipc = require 'libipc'
      local p = ipc.spawn { file = 'sleep', args = { 100 } }
      io.write(p:pid())
      os.exit(0, true)
    ]]
    -- Where the state was closed it has got a SIGTERM.
    os.execute(('kill %s 2>/dev/null'):format(out))
    support.eventually(function() return is_gone(tonumber(out)) or state(tonumber(out)) == 'Z' end)
  end)

  it('goes to another thread by reference', function()
    local p = ipc.spawn { file = 'cat' }
    local m = ipc.map(1, function(p) return p:stdout(), p:wait() end, p)
    p:stdin 'hello\n'
    assert.same({ 'hello', 0 }, { m:join() })
    assert.same({ 0 }, { p:wait() })
  end)

  it('lets one thread read while another waits for it', function()
    local p = sh 'i=0; while [ $i -lt 200 ]; do echo $i; i=$((i+1)); done'
    local m = ipc.map(1, function(p) return p:wait() end, p)
    for i = 0, 199 do assert.equal(tostring(i), p:stdout()) end
    assert.is_nil(p:stdout())
    assert.equal(0, (m:join()))
  end)

  it('belongs to the process that started it, not to that one\'s forks', function()
    local p = ipc.spawn { file = 'cat' }
    local pid = ipc.fork()
    if pid == 0 then
      local ok = true
      for _, name in ipairs { 'wait', 'kill', 'stdin', 'stdout', 'running', 'fd' } do
        ok = ok and ipc.errcode(select(2, pcall(p[name], p))) == 'state'
      end
      p = nil
      collectgarbage()
      local q = ipc.spawn { file = 'echo', args = { 'from the child' } }
      ok = ok and q:stdout() == 'from the child' and q:wait() == 0
      os.exit(ok and 0 or 1)
    end
    assert.equal(0, ipc.waitpid(pid, 60))
    p:stdin 'still here'
    p:stdin()
    assert.equal('still here', p:stdout())
    assert.equal(0, p:wait())
  end)

  it('with a group of its own is signalled with all of its children', function()
    local p = sh('sleep 100 & echo $!; wait', { group = true })
    local grandchild = tonumber(p:stdout())
    p:wait 'KILL'
    support.eventually(function() return is_gone(grandchild) or state(grandchild) == 'Z' end)
  end)

  it('can be cancelled in a wait, a read and a write', function()
    local m = ipc.map(3, function(id)
      local ipc = require 'libipc'
      local p = ipc.spawn { file = 'sleep', args = { 100 } }
      if id == 1 then p:wait() end
      if id == 2 then p:stdout() end
      p:stdin(('x'):rep(1000000))
    end)
    ipc.sleep(0.05)
    m:cancel()
    for _ = 1, 3 do assert.matches('%[cancelled%]', support.fails(m.join, m, 60)) end
  end)
end)
