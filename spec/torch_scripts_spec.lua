-- §14: scripts of Torch that were run by `th`: require 'torch' as their first line, their globals, command lines.
local support = require 'spec.support'
require 'libipc'
local torch = require 'ipc.torch'

-- Where the libraries of these specs lie, in other interpreters too.
local function run(code, options) return support.run(code, options) end

describe('a script of Torch', function()
  it("may say require 'torch' in its first line, with -l libipc", function()
    local r = run([[
      require 'torch'
      print(torch.Tensor(2):fill(3):sum(), require 'sys'.uname())
    ]], { options = { '-l', 'libipc' } })
    assert.equal(0, r.status, r.stderr)
    assert.matches('^6[.0]*\tlinux\n$', r.stdout)
  end)

  it('has the globals of th with -l ipc.th', function()
    local r = run([[
      print(type(torch.Tensor), type(sys.clock), table.concat(('a,b,,c'):split ',', ' '), #('  x  y '):split())
    ]], { options = { '-l', 'ipc.th' } })
    assert.equal(0, r.status, r.stderr)
    assert.matches('^%w+\tfunction\ta b  c\t2\n$', r.stdout)
  end)

  it('finds clocks and commands in sys', function()
    local sys = require 'sys'
    assert.equal('hello', sys.execute 'echo hello')
    sys.tic()
    sys.sleep(0.01)
    assert.is_true(sys.toc() >= 0.01)
    assert.is_true(math.abs(sys.clock() - os.time()) < 5)
  end)
end)

describe('torch.CmdLine', function()
  local function made()
    local cmd = torch.CmdLine()
    cmd:text 'Trains a network'
    cmd:argument('-data', 'the file to train on')
    cmd:option('-rate', 0.1, 'the learning rate')
    cmd:option('-name', 'model', 'what it is called')
    cmd:option('-quick', false, 'only a few steps')
    return cmd
  end

  it('reads options of the types of their defaults, and arguments in their order', function()
    assert.same({ data = 'x.t7', rate = 0.1, name = 'model', quick = false }, made():parse { 'x.t7' })
    assert.same({ data = 'y', rate = 0.5, name = '-1', quick = true },
      made():parse { '-rate', '5e-1', 'y', '-name', '-1', '--quick' })
    local cmd = torch.CmdLine()
    cmd:argument('-count', 'how many', 'number')
    cmd:option('-seed', 7, 'a seed', 'number')
    assert.same({ count = 3, seed = 7 }, cmd:parse { '3' })
  end)

  it('names an experiment by what differs', function()
    local cmd = made()
    local opt = cmd:parse { 'x', '-rate', '0.5', '-quick' }
    assert.equal('run,data=x,quick=t,rate=0.5', cmd:string('run', opt))
    assert.equal('run,quick=t,rate=0.5', cmd:string('run', opt, { data = true }))
    local other = torch.CmdLine('_', ':')
    other:option('-a', 1, '')
    assert.equal('p_a:2', other:string('p', other:parse { '-a', '2' }))
  end)

  it('ends the program with the help where it is asked for, or something does not fit', function()
    local program = [[
      require 'libipc'
      local torch = require 'ipc.torch'
      local cmd = torch.CmdLine()
      cmd:text 'Trains a network'
      cmd:argument('-data', 'the file to train on')
      cmd:option('-rate', 0.1, 'the learning rate')
      cmd:parse(arg)
      print 'parsed'
    ]]
    local r = run(program, { args = { '-help' } })
    assert.equal(0, r.status)
    assert.matches('Usage: .*%[options%] <data>\nTrains a network\n%s+%-data%s+the file to train on\n'
      .. '%s+%-rate%s+the learning rate %[0.1%]\n', r.stdout)
    for words, what in pairs {
      [''] = 'the argument -data is missing', ['x -rate'] = 'a value is missing after -rate',
      ['x -rate y'] = 'expected a number for -rate, got y', ['x y'] = 'too many arguments: y',
      ['x -what'] = 'there is no option -what',
    } do
      local args = {}
      for word in words:gmatch '%S+' do args[#args + 1] = word end
      r = run(program, { args = args })
      assert.equal(1, r.status, words)
      assert.is_truthy(r.stderr:find(what, 1, true), r.stderr)
      assert.equal('', r.stdout)
    end
  end)

  it('logs what is printed', function()
    local file = support.tmpname '.log'
    local r = run([[
      require 'libipc'
      local torch = require 'ipc.torch'
      local cmd = torch.CmdLine()
      cmd:option('-rate', 0.1, 'the learning rate')
      cmd:addTime('job', 'T')
      cmd:log(arg[1], cmd:parse {})
      print('one', 2)
      cmd:silent()
      print 'not shown'
    ]], { args = { file } })
    assert.equal('[job T]: one\t2\n', r.stdout, r.stderr)
    assert.matches('^%[program started on .-%]\n.-\nrate\t0.1\n.-\n%[job T%]: one\t2\n%[job T%]: not shown\n$', support.read(file))
  end)
end)
