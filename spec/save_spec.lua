-- `torch.save` replaces a file as a whole: it is the old one until the new one is there.
local support = require 'spec.support'
local ipc = require 'libipc'
local torch = require 'ipc.torch'

-- Calls f with the path of a new folder, which is removed afterwards.
local function in_folder(f)
  local folder = support.tmpdir()
  local ok, e = pcall(f, folder)
  os.execute('chmod -R u+w ' .. folder .. '; rm -rf ' .. folder)
  assert(ok, e)
end

local function names(folder) return support.sh('ls -A ' .. folder) end
local function mode(path) return support.sh('stat -c %a ' .. path) end

local refused = { epoch = 42, big = string.rep('x', 200000), state = coroutine.create(function() end) }

describe('torch.save', function()
  it('leaves the file as it was when a value is refused, and nothing beside it', function()
    in_folder(function(folder)
      local path = folder .. '/a.t7'
      torch.save(path, { epoch = 41 })
      for _, form in ipairs { 'binary', 'ascii' } do
        assert.matches('libipc %[unsupported%].*state', support.fails(torch.save, path, refused, form))
      end
      assert.equal(41, torch.load(path).epoch)
      assert.matches('libipc %[unsupported%]', support.fails(torch.save, folder .. '/new.t7', refused))
      assert.equal('a.t7', names(folder))
    end)
  end)

  it('leaves the file as it was when the disk takes no more, and nothing beside it', function()
    in_folder(function(folder)
      local path = folder .. '/a.t7'
      torch.save(path, { epoch = 41 })
      support.write(folder .. '/script.lua', [[
        local torch = require 'ipc.torch'
        print(pcall(torch.save, arg[1], { epoch = 42, t = torch.zeros(100000) }))
      ]])
      -- The shell's limit of a file's size stands for a full disk: a write fails in the middle.
      local out = support.sh(("trap '' XFSZ; ulimit -f 64; %s %s/script.lua %s 2>&1"):format(
        support.lua, folder, path))
      assert.matches('false%s+libipc %[io%] torch.save: .*write: File too large', out)
      assert.equal(41, torch.load(path).epoch)
      assert.equal('a.t7\nscript.lua', names(folder))
    end)
  end)

  it('keeps the permissions of the file before, and gives new ones the usual', function()
    in_folder(function(folder)
      local path = folder .. '/a.t7'
      torch.save(path, 1)
      support.write(folder .. '/b', '')
      assert.equal(mode(folder .. '/b'), mode(path))
      for _, bits in ipairs { '600', '640', '666' } do
        support.sh(('chmod %s %s'):format(bits, path))
        torch.save(path, 2)
        assert.equal(bits, mode(path))
      end
    end)
  end)

  it('replaces what a symbolic link leads to, and keeps the link', function()
    in_folder(function(folder)
      support.sh(('mkdir %s/in; ln -s in/target %s/second; ln -s second %s/first'):format(folder, folder, folder))
      for epoch = 1, 2 do
        torch.save(folder .. '/first', { epoch = epoch })
        assert.equal(epoch, torch.load(folder .. '/in/target').epoch)
        assert.equal('second', support.sh(('readlink %s/first'):format(folder)))
      end
      assert.matches('libipc %[unsupported%]', support.fails(torch.save, folder .. '/first', refused))
      assert.equal(2, torch.load(folder .. '/first').epoch)
      assert.equal('target', names(folder .. '/in'))
    end)
  end)

  it('writes devices, pipes and open files in place', function()
    in_folder(function(folder)
      torch.save('/dev/null', { 1 })
      assert.equal('c', support.sh 'stat -c %A /dev/null':sub(1, 1))
      support.sh(('mkfifo %s/pipe'):format(folder))
      os.execute(('cat %s/pipe > %s/copy &'):format(folder, folder))
      torch.save(folder .. '/pipe', { epoch = 7 })
      support.eventually(function()
        local ok, value = pcall(torch.load, folder .. '/copy')
        return ok and value.epoch == 7
      end)
      assert.equal('p', support.sh(('stat -c %%A %s/pipe'):format(folder)):sub(1, 1))
      support.write(folder .. '/script.lua', "require 'ipc.torch'.save('/dev/stdout', { epoch = 8 })")
      -- A regular file that a shell has open as stdout goes on being that.
      support.sh(('%s %s/script.lua > %s/out'):format(support.lua, folder, folder))
      assert.equal(8, torch.load(folder .. '/out').epoch)
      assert.equal('copy\nout\npipe\nscript.lua', names(folder))
    end)
  end)

  it('refuses folders, and files that may not be written', function()
    in_folder(function(folder)
      assert.matches('libipc %[io%] torch.save: open', support.fails(torch.save, folder, 1))
      assert.matches('libipc %[io%] torch.save: open', support.fails(torch.save, folder .. '/none/a', 1))
      if support.sh 'id -u' ~= '0' then
        torch.save(folder .. '/a', 1)
        support.sh(('chmod 400 %s/a'):format(folder))
        assert.matches('libipc %[io%]', support.fails(torch.save, folder .. '/a', 2))
        support.sh(('chmod 600 %s/a; chmod 500 %s'):format(folder, folder))
        assert.matches('libipc %[unsupported%]', support.fails(torch.save, folder .. '/a', refused))
        assert.equal(1, torch.load(folder .. '/a'))
        -- No new file can be made there: the old one is written in place.
        torch.save(folder .. '/a', 'longer than before')
        torch.save(folder .. '/a', 3)
        assert.equal(3, torch.load(folder .. '/a'))
      end
      assert.equal('', (names(folder):gsub('^a$', '')))
    end)
  end)

  it('of one name by many threads do not mix, and readers find a whole file', function()
    in_folder(function(folder)
      local path = folder .. '/a.t7'
      torch.save(path, { thread = 0, torch.zeros(20000) })
      local done = ipc.atomic(0)
      local writers = ipc.map(4, function(name, n, counter, id)
        local load = require 'ipc.torch'
        local ok, e = pcall(function()
          for _ = 1, n do load.save(name, { thread = id, load.DoubleTensor(20000):fill(id) }) end
        end)
        counter:add(1)
        assert(ok, e)
      end, path, 40, done)
      local read = 0
      repeat
        local v = torch.load(path)
        assert.equal(v.thread, v[1]:min())
        assert.equal(v.thread, v[1]:max())
        read = read + 1
      until done:get() == 4
      writers:join()
      assert(read > 1)
      assert.equal('a.t7', names(folder))
    end)
  end)
end)
