-- Four workers take questions from a queue as they get to them; the answers come back to the one that made the queue:
--
--   luajit examples/workqueue.lua

local ipc = require 'libipc'

local queue = ipc.workqueue 'words'

local workers = ipc.map(4, function(id)
  local ipc = require 'libipc' -- luacheck: ignore 431
  local queue = ipc.workqueue 'words' -- luacheck: ignore 431
  local done = 0
  while true do
    local question = queue:read()
    if not question then break end
    queue:write { worker = id, word = question.word, length = #question.word }
    done = done + 1
  end
  return done
end)

local words = {}
for word in ('the quick brown fox jumps over the lazy dog'):gmatch '%a+' do words[#words + 1] = word end

for _, word in ipairs(words) do queue:write { word = word } end
local letters = 0
for _ = 1, #words do letters = letters + queue:read().length end
for _ = 1, 4 do queue:write(false) end -- nothing more to do
local done = 0
for _, n in ipairs { workers:join() } do done = done + n end
queue:close()

assert(done == #words)
print(('%d words with %d letters, counted by four workers'):format(done, letters))
