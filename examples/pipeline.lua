-- A pipeline: three stages in threads of their own, joined by channels. Each stage reads until the channel before it is
-- drained, then closes the one after it; the small capacities keep a fast stage from running ahead of a slow one.
--
--   luajit examples/pipeline.lua

-- luacheck: ignore 431 (what goes to a thread has the same name there)
local ipc = require 'libipc'

local lines = ipc.channel { capacity = 8 }
local words = ipc.channel { capacity = 32 }
local counts = ipc.channel()

-- Stage 1, one thread: lines of text.
local read = ipc.map(1, function(lines)
  local text = { 'the quick brown fox', 'jumps over the lazy dog', 'and the dog sleeps on' }
  for i = 1, 3000 do lines:write(text[i % #text + 1]) end
  lines:close()
end, lines)

-- Stage 2, two threads that share the work: words, all of a line in one write.
local split = ipc.map(2, function(lines, words)
  for line in lines:items() do
    local found = {}
    for word in line:gmatch '%a+' do found[#found + 1] = word end
    words:write((table.unpack or unpack)(found)) -- luacheck: ignore 143
  end
end, lines, words)

-- Stage 3, two threads: how often each word came, told once at the end.
local count = ipc.map(2, function(words, counts)
  local n = {}
  for word in words:items() do n[word] = (n[word] or 0) + 1 end
  counts:write(n)
end, words, counts)

read:join()
split:join() -- both: then nobody writes words any more
words:close()
count:join()
counts:close()

local total, all = {}, 0
for n in counts:items() do
  for word, times in pairs(n) do
    total[word] = (total[word] or 0) + times
    all = all + times
  end
end

assert(all == 14000 and total.the == 3000, 'lost or doubled on the way')
print(('%d words, "the" %d times, through %s'):format(all, total.the, tostring(words)))
