-- What the specs share: other interpreters, processes, files, raw sockets.
--
--   local support = require 'spec.support'
--   local r = support.run([[ error 'no' ]], { timeout = 5, env = { A = 'b' }, args = { 'x' } })
--   r.status, r.signal, r.stdout, r.stderr, r.timed_out
--
-- `run` waits; `start` returns at once a process with `pid`, `wait([seconds])` → r, `kill(signal)`, `output()`.
-- Everything is written in a folder that spec/run removes.
local support = {}

-- The interpreter that runs this spec, the root of the project, and the name of the build (`lua54`).
support.lua = os.getenv 'SPEC_LUA' or arg and arg[-1] or 'lua'
support.root = os.getenv 'SPEC_ROOT' or '.'
support.build = os.getenv 'SPEC_TAG' or (jit and 'luajit' or 'lua' .. _VERSION:match('%d.%d'):gsub('%.', ''))
support.is_luajit = rawget(_G, 'jit') ~= nil
support.has_integers = math.type ~= nil
support.in_tsan = os.getenv 'TSAN_OPTIONS' ~= nil
support.in_valgrind = (os.getenv 'SPEC_WRAP' or ''):find 'valgrind' ~= nil
-- 5.1 in its two forms lacks _ENV, __pairs, __len of tables and goto (LuaJIT has goto).
support.is_51 = _VERSION == 'Lua 5.1'

local unpack = table.unpack or unpack -- luacheck: ignore 143

function support.quote(s) return "'" .. tostring(s):gsub("'", "'\\''") .. "'" end

function support.read(path)
  local f = assert(io.open(path, 'rb'))
  local s = f:read '*a'
  f:close()
  return s
end

function support.write(path, s)
  local f = assert(io.open(path, 'wb'))
  f:write(s)
  f:close()
  return path
end

function support.exists(path)
  local f = io.open(path, 'rb')
  if f then f:close() end
  return f ~= nil
end

local function capture(command)
  local p = assert(io.popen(command))
  local s = p:read '*a'
  p:close()
  return s
end

-- What a shell command prints, without the newline at its end.
function support.sh(command) return (capture(command):gsub('\n$', '')) end

local made = 0
function support.tmpname(suffix)
  made = made + 1
  if not support.scratch then support.scratch = support.sh 'mktemp -d' end
  return support.scratch .. '/' .. made .. (suffix or '')
end

function support.tmpdir()
  local dir = support.tmpname '.d'
  assert(support.sh('mkdir ' .. support.quote(dir) .. ' && echo made') == 'made')
  return dir
end

function support.sleep(seconds) os.execute('sleep ' .. seconds) end

-- Calls f until it returns something true; that, or an error after `seconds` (a watchdog, not a measure).
function support.eventually(f, seconds)
  local socket = require 'socket'
  seconds = seconds or 120
  local stop = socket.gettime() + seconds
  while true do
    local v = f()
    if v then return v end
    if socket.gettime() > stop then error('did not happen in ' .. seconds .. ' s', 2) end
    socket.sleep(0.01)
  end
end

-- Fails unless every object of ipc is gone, and every thread but this one and those in the background, once all handles were
-- closed or let go: a check for leaks at the end of a program.
function support.nothing_left(ipc)
  local report
  local ok = pcall(support.eventually, function()
    -- Compiled code holds functions that it has called, the iterators of objects among them.
    if support.is_luajit then require 'jit'.flush() end
    collectgarbage()
    collectgarbage()
    report = ipc.report()
    local threads = 0
    for _, t in ipairs(report.threads) do threads = threads + (t.background and 0 or 1) end
    return #report.objects == 0 and threads == 1
  end, 30)
  if not ok then error('something is left: ' .. tostring(report), 2) end
end

-- ---- processes ------------------------------------------------------------------------------------------------------

local Process = {}
Process.__index = Process

local function command_of(code, opts)
  local words = {}
  for name, value in pairs(opts.env or {}) do words[#words + 1] = name .. '=' .. support.quote(value) end
  table.sort(words)
  if #words > 0 then table.insert(words, 1, 'env') end
  words[#words + 1] = opts.lua or support.lua
  for _, option in ipairs(opts.options or {}) do words[#words + 1] = support.quote(option) end
  words[#words + 1] = opts.file or support.write(support.tmpname '.lua', code)
  for _, a in ipairs(opts.args or {}) do words[#words + 1] = support.quote(a) end
  return table.concat(words, ' ')
end

-- Starts `code` (or opts.file) in a new interpreter. opts: args, env, stdin (text), lua, options (of the interpreter),
-- timeout (seconds, default 120: a watchdog), cwd.
function support.start(code, opts)
  opts = opts or {}
  local base = support.tmpname()
  local stdin = opts.stdin and support.write(base .. '.in', opts.stdin) or '/dev/null'
  -- exec: the pid written is the interpreter's own.
  local inner = ('echo $$ >%s.pid.new; mv %s.pid.new %s.pid; exec '):format(base, base, base) .. command_of(code, opts)
  local script = ('cd %s || exit 126\n'):format(support.quote(opts.cwd or '.'))
    .. ('sh -c %s <%s >%s.out 2>%s.err &\n'):format(support.quote(inner), stdin, base, base)
    .. 'child=$!\n'
    -- The watchdog: its sleep goes with it, so that nothing is left behind.
    .. ("(trap 'kill $!; exit' TERM; sleep %s & wait $!; : >%s.late; kill -KILL $child) >/dev/null 2>&1 &\n")
      :format(opts.timeout or 120, base)
    .. 'dog=$!\n'
    .. 'wait $child 2>/dev/null\n'
    .. 'status=$?\n'
    .. 'kill $dog 2>/dev/null; wait $dog 2>/dev/null\n'
    .. ('echo $status >%s.end.new; mv %s.end.new %s.end\n'):format(base, base, base)
  support.write(base .. '.sh', script)
  os.execute(('bash %s.sh >/dev/null 2>&1 </dev/null &'):format(base))
  local pid = support.eventually(function()
    if support.exists(base .. '.pid') then return tonumber(support.read(base .. '.pid')) end
    return support.exists(base .. '.end') and -1
  end)
  return setmetatable({ base = base, pid = pid }, Process)
end

function Process:kill(signal) os.execute(('kill -%s %d 2>/dev/null'):format(signal or 'TERM', self.pid)) end

-- What it has written so far: stdout, stderr.
function Process:output() return support.read(self.base .. '.out'), support.read(self.base .. '.err') end

function Process:running() return not support.exists(self.base .. '.end') end

function Process:wait(seconds)
  support.eventually(function() return not self:running() end, seconds or 200)
  local status = tonumber(support.read(self.base .. '.end'))
  local r = { pid = self.pid, status = status, timed_out = support.exists(self.base .. '.late') }
  r.stdout, r.stderr = self:output()
  if status > 128 then r.signal = support.sh('kill -l ' .. (status - 128)) end
  return r
end

-- Runs `code` in a new interpreter, to its end.
function support.run(code, opts) return support.start(code, opts):wait((opts and opts.timeout or 120) + 60) end

-- run, for a chunk that should end well: its stdout, or an error with everything it said.
function support.check(code, opts)
  local r = support.run(code, opts)
  if r.status ~= 0 then
    error(('the chunk ended with %s\n%s%s'):format(r.signal or r.status, r.stdout, r.stderr), 2)
  end
  return r.stdout
end

-- The command of an interpreter that has one core: nothing in it spins, and it blocks in other places.
function support.on_one_core()
  local allowed = support.read '/proc/self/status':match 'Cpus_allowed_list:%s*(%d+)'
  return ('taskset -c %s %s'):format(allowed, support.lua)
end

-- ---- sockets --------------------------------------------------------------------------------------------------------

local reserved = {}

-- A port on which nobody listens at any address, and which the system gives to nobody else while this spec runs: sockets hold
-- it that do not listen. Servers of ours may take it all the same, since they set SO_REUSEADDR.
function support.free_port()
  local socket = require 'socket'
  local function hold(make, address, port)
    local holder = make and make()
    if not holder then return true end -- no IPv6 here
    assert(holder:setoption('reuseaddr', true))
    if not holder:bind(address, port) then return false end
    reserved[#reserved + 1] = holder
    return holder
  end
  for _ = 1, 100 do
    local _, port = assert(hold(socket.tcp4, '0.0.0.0', 0)):getsockname()
    -- Somebody may have it at an address of the other kind.
    if hold(socket.tcp6, '::', tonumber(port)) then return tonumber(port) end
  end
  error 'no port is free at all addresses'
end

-- Whether all that was sent to `port` has come to the other end; true where the system does not say.
function support.delivered(port)
  local file = io.open '/proc/net/tcp'
  if not file then return true end
  local text = file:read '*a'
  file:close()
  local queued = ('^%%s*%%d+: %%x+:%%x+ %%x+:%04X %%x+ (%%x+):'):format(port)
  for line in text:gmatch '[^\n]+' do
    local bytes = line:match(queued)
    if bytes and tonumber(bytes, 16) > 0 then return false end
  end
  return true
end

-- Calls f(1), f(2), … up to f(tries), until one raises nothing; the last one's error is raised. For what depends on a time
-- that the library itself measures: f waits longer each time, and a pause of the machine spoils one of them at most.
function support.retry(tries, f)
  for n = 1, tries - 1 do
    if pcall(f, n) then return end
  end
  f(tries)
end

-- A bare TCP connection (a LuaSocket object: send, receive, settimeout, close), for peers that misbehave.
function support.connect(port, host)
  local s = assert(require('socket').connect(host or '127.0.0.1', port))
  s:settimeout(60)
  return s
end

-- The values of f(...), and the error as a string: ok, error text.
function support.fails(f, ...)
  local r = { pcall(f, ...) }
  if r[1] then error('expected an error, got ' .. #r - 1 .. ' values: ' .. tostring((unpack(r, 2))), 2) end
  return r[2]
end

return support
