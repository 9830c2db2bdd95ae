-- Stands in for LuaFileSystem on Lua 5.5, for which Debian has none: what Penlight and busted call.
local host = require 'host'
local lfs = { _VERSION = 'stand-in' }

local kinds = {
  [1] = 'named pipe', [2] = 'char device', [4] = 'directory', [6] = 'block device', [8] = 'file', [10] = 'link',
  [12] = 'socket',
}

local function attributes(path, request, follow)
  local mode, size, modification, change, access, dev, ino = host.stat(path, follow)
  if not mode then return nil, ("cannot obtain information from file '%s': %s"):format(path, size) end
  local all = {
    mode = kinds[mode >> 12] or 'other', size = size, dev = dev, ino = ino,
    modification = modification, change = change, access = access,
  }
  if type(request) == 'string' then return all[request] end
  if type(request) ~= 'table' then return all end
  for k, v in pairs(all) do request[k] = v end
  return request
end

function lfs.attributes(path, request) return attributes(path, request, true) end
function lfs.symlinkattributes(path, request) return attributes(path, request, false) end

function lfs.dir(path)
  local names, why = host.list(path)
  if not names then error(('cannot open %s: %s'):format(path, why), 2) end
  local i = 0
  return function()
    i = i + 1
    return names[i]
  end
end

lfs.currentdir, lfs.chdir, lfs.mkdir, lfs.rmdir = host.getcwd, host.chdir, host.mkdir, host.rmdir

return lfs
