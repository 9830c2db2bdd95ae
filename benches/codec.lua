-- Turning values into bytes and back, against the other ways LuaJIT has.
local ipc = require 'libipc'

local function peers()
  local list = {}
  local ok, buffer = pcall(require, 'string.buffer')
  if ok then list['string.buffer'] = { buffer.encode, buffer.decode } end
  local cjson
  ok, cjson = pcall(require, 'cjson')
  if ok then list.cjson = { cjson.encode, cjson.decode } end
  local messagepack
  ok, messagepack = pcall(require, 'MessagePack')
  if ok then list.MessagePack = { messagepack.pack, messagepack.unpack } end
  return list
end

local function record(i)
  return { id = i, name = 'record ' .. i, tags = { 'a', 'b' }, position = { x = i + 0.5, y = -i }, ok = true }
end

return function(report)
  local records = {}
  for i = 1, 10000 do records[i] = record(i) end
  local numbers = {}
  for i = 1, 10000 do numbers[i] = i * 1.5 end
  local values = {
    { 'a small table', { x = 1, y = 2.5, name = 'hello', list = { 1, 2, 3 } }, 500e-9, 500e-9 },
    { 'a 1 KB string', ('x'):rep(1024), 100e-9, 100e-9 },
    { '10,000 nested records', records, 10e-3, 15e-3 },
    { '10,000 numbers', numbers },
  }
  for _, v in ipairs(values) do
    local what, value, encode_limit, decode_limit = v[1], v[2], v[3], v[4]
    -- A write into a full queue turns the value into bytes, in memory it has, and then finds no room.
    local message = ipc.marshal(value)
    local queue = ipc.workqueue { capacity = 1 }
    queue:write(true)
    local encode = report.time(function() return queue:trywrite(value) end)
    local decode = report.time(function() return message:read() end)
    if encode_limit then
      report.compare('encode ' .. what, encode, encode_limit, 'limit', '<= 1')
      report.compare('decode ' .. what, decode, decode_limit, 'limit', '<= 1')
    end
    for name, peer in pairs(peers()) do
      local bytes = peer[1](value)
      report.compare('encode ' .. what, encode, report.time(function() return peer[1](value) end), name)
      report.compare('decode ' .. what, decode, report.time(function() return peer[2](bytes) end), name)
    end
  end
end
