-- §3: cancels beside threads that cannot be ended. What cannot be ended runs in another process, which ends it.
local support = require 'spec.support'

-- A chunk that starts with what these programs share. `cancelled(m)` cancels m, whose threads have all begun, and says how they ended.
local function program(chunk)
  return [[
    local ipc = require 'libipc'
    local how = (_VERSION == 'Lua 5.1' or _VERSION == 'Lua 5.2') and 'calls' or 'code'
    local function until_true(f) while not f() do ipc.sleep(0.01) end end
    local function start(fn, ...)
      local begun = ipc.atomic(0)
      local m = ipc.map { threads = 1, fn = fn, cancel = how, args = { begun, ... } }
      until_true(function() return begun:get() > 0 end)
      return m
    end
    local function cancelled(m)
      m:cancel()
      local ok, e = pcall(m.join, m)
      assert(not ok and e:find('[cancelled]', 1, true), e)
      return e:find('abandoned', 1, true) and 'abandoned' or 'ended'
    end
    local function loop(begun) begun:add(1) while true do end end
    local function is(wanted, got) if wanted ~= got then error(('%s expected, got %s'):format(wanted, got), 2) end end
  ]] .. chunk .. "\nio.write 'done'"
end

-- What no cancel ends.
local ENDLESS = {
  ['a C function'] = "begun:add(1) return (('x'):rep(1e5)):find '.-.-.-.-y'",
}
if support.is_luajit then
  ENDLESS['a finalizer'] = [[
    local p = newproxy(true)
    getmetatable(p).__gc = function() begun:add(1) while true do end end
    p = nil
    collectgarbage() collectgarbage()]]
  ENDLESS['a finalizer with a compiled loop'] = [[
    local function spin(n) local x = 0 for i = 1, n do x = x + i % 7 end return x end
    for _ = 1, 100 do spin(1000) end
    local p = newproxy(true)
    getmetatable(p).__gc = function() begun:add(1) spin(1e15) end
    p = nil
    collectgarbage() collectgarbage()]]
end

describe('beside a thread that cannot be ended', function()
  for name, body in pairs(ENDLESS) do
    it('others can be: ' .. name, function()
      support.check(program(([[
        is('abandoned', cancelled(start(function(begun) %s end)))
        for _ = 1, 3 do is('ended', cancelled(start(loop))) end
        -- It is tried again and again meanwhile, and so it is after its time.
        local m = start(function(begun) %s end)
        m:cancel()
        for _ = 1, 3 do is('ended', cancelled(start(loop))) end
      ]]):format(body, body)))
    end)
  end

  it('a fork is prompt, and its child cancels threads of its own', function()
    support.check(program [[
      is('abandoned', cancelled(start(function(begun) begun:add(1) return (('x'):rep(1e5)):find '.-.-.-.-y' end)))
      for _ = 1, 5 do
        local pid = ipc.fork()
        if pid == 0 then
          is('ended', cancelled(start(loop)))
          os.exit(0)
        end
        is(0, ipc.waitpid(pid))
        is('ended', cancelled(start(loop)))
      end
    ]])
  end)

  it('the program can profile', function()
    if not support.is_luajit then return end
    support.check(program [[
      local profile, samples = require 'jit.profile', 0
      is('abandoned', cancelled(start(function(begun) begun:add(1) return (('x'):rep(1e5)):find '.-.-.-.-y' end)))
      -- LuaJIT starts no profile in a moment in which we have it, and does not tell.
      until_true(function()
        profile.start('i1', function() samples = samples + 1 end)
        local stop = ipc.clock() + 0.05
        while ipc.clock() < stop do end
        profile.stop()
        return samples > 0
      end)
      is('ended', cancelled(start(loop)))
    ]])
  end)
end)

describe('an abandoned thread', function()
  it('runs at the lowest priority, and no other does', function()
    support.check(program [[
      local function policy(tid)
        local f = io.open(('/proc/self/task/%d/stat'):format(tid))
        if not f then return 'gone' end
        local fields, n = f:read '*a':gsub('^.*%) ', ''), 2
        f:close()
        for word in fields:gmatch '%S+' do
          n = n + 1
          if n == 41 then return tonumber(word) end
        end
      end
      local tid = ipc.atomic(0)
      local m = start(function(begun, tid)
        tid:set(require 'libipc'.gettid())
        begun:add(1)
        return (('x'):rep(1e5)):find '.-.-.-.-y'
      end, tid)
      is(0, policy(tid:get()))
      is('abandoned', cancelled(m))
      is(5, policy(tid:get()))
      is(0, policy(ipc.gettid()))
    ]])
  end)

  it('is ended when its C function returns', function()
    local go = support.tmpname()
    support.check(program(([[
      local ended = ipc.atomic(0)
      local m = start(function(begun, ended)
        -- It is told when the state closes.
        if newproxy then
          kept = newproxy(true)
          getmetatable(kept).__gc = function() ended:add(1) end
        else
          kept = setmetatable({}, { __gc = function() ended:add(1) end })
        end
        begun:add(1)
        os.execute 'while [ ! -e %s ]; do sleep 0.05; done'
        while true do end
      end, ended)
      is('abandoned', cancelled(m))
      is(0, ended:get())
      io.open('%s', 'w'):close()
      until_true(function() return ended:get() == 1 end)
    ]]):format(go, go)))
  end)
end)

describe('IPC_CANCEL=code', function()
  it('leaves compiled loops of LuaJIT to those who ask for it', function()
    if not support.is_luajit then return end
    support.check(program [[
      is('abandoned', cancelled(start(loop)))
      how = 'code'
      is('ended', cancelled(start(loop)))
    ]], { env = { IPC_CANCEL = 'code' } })
  end)
end)

describe('a cancelled thread', function()
  it('ends at its next call, whatever that is', function()
    support.check([[
      local ipc = require 'libipc'
      local calls = {
        clock = 'ipc.clock()', getpid = 'ipc.getpid()', cpus = 'ipc.cpus()', channel = 'ipc.channel()', mutex = 'ipc.mutex()',
        marshal = 'ipc.marshal { 1 }', report = 'ipc.report()', text = 'tostring(c)',
        write = 'c:write(1) c:read(0)', add = 'a:add(1)', set = 's.x = 1', get = 'x = s.x',
        read = 'm:read()', tensor = 't:add(1)', element = 't[1] = 2', stats = 'server:netStats()', after = 'ipc.after(1)',
      }
      for name, call in pairs(calls) do
        local begun = ipc.atomic(0)
        local m = ipc.map(1, function(begun, call)
          local ipc, torch = require 'libipc', require 'ipc.torch'
          c, a, s, m = ipc.channel(), ipc.atomic(0), ipc.sharedtable {}, ipc.marshal { 1 }
          t, server = torch.FloatTensor(3), ipc.server()
          _G.ipc = ipc
          local f = (loadstring or load)(call)
          f()
          begun:add(1)
          while true do f() end
        end, begun, call)
        while begun:get() == 0 do ipc.sleep(0.001) end
        m:cancel()
        local ok, e = pcall(m.join, m)
        assert(not ok and e:find('[cancelled]', 1, true) and not e:find 'abandoned', name .. ': ' .. tostring(e))
      end
    ]])
  end)

  it('ends also where it catches the error of each call, in coroutines too', function()
    support.check [[
      local ipc = require 'libipc'
      local function catching(begun)
        local ipc = require 'libipc'
        begun:add(1)
        while true do pcall(ipc.sleep, 10) end
      end
      local function resuming(begun)
        local ipc = require 'libipc'
        begun:add(1)
        while true do coroutine.resume(coroutine.create(function() ipc.sleep(10) end)) end
      end
      for _, fn in ipairs { catching, resuming } do
        local begun = ipc.atomic(0)
        local m = ipc.map { threads = 2, args = { begun }, fn = fn }
        while begun:get() < 2 do ipc.sleep(0.001) end
        m:cancel()
        local ok, e = pcall(m.join, m)
        assert(not ok and e:find('[cancelled]', 1, true) and not e:find('abandoned', 1, true), e)
      end
    ]]
  end)

  it('can still let go of what it holds and look at its error', function()
    support.check([[
      local ipc = require 'libipc'
      local lock, told, begun = ipc.mutex(), ipc.channel(), ipc.atomic(0)
      local m = ipc.map(1, function(lock, told, begun)
        local ipc = require 'libipc'
        lock:lock()
        begun:add(1)
        local ok, e = pcall(function() ipc.channel():read() end)
        assert(ipc.errcode(e) == 'cancelled')
        lock:unlock()
        told:close()
        error(e, 0)
      end, lock, told, begun)
      while begun:get() == 0 do ipc.sleep(0.001) end
      m:cancel()
      assert(select(2, pcall(m.join, m)):find('[cancelled]', 1, true))
      assert(lock:trylock() ~= false and told:closed())
    ]])
  end)
end)
