-- Four threads count the words of a text into one table, and note who found the longest:
--
--   luajit examples/sharedtable.lua

local ipc = require 'libipc'

local text = {
  'the quick brown fox jumps over the lazy dog', 'a quick fox is a happy fox',
  'the dog sleeps and the fox jumps', 'over and over the extraordinary fox jumps',
}
local counts, best = ipc.sharedtable(), ipc.sharedtable()

ipc.map(#text, function(text, counts, best, id) -- luacheck: ignore 431
  local shared = require('libipc').sharedtable
  for word in text[id]:gmatch '%a+' do
    shared.incr(counts, word)
    shared.update(best, 'longest', function(longest)
      if longest and #longest.word >= #word then return longest end
      return { word = word, thread = id }
    end)
  end
end, text, counts, best):join()

local words = ipc.sharedtable.keys(counts)
table.sort(words, function(a, b) return counts[a] > counts[b] or counts[a] == counts[b] and a < b end)
for i = 1, 3 do print(words[i], counts[words[i]]) end
print(('%d words, the longest %s, found by thread %d'):format(#counts, best.longest.word, best.longest.thread))
assert(counts.fox == 5 and #counts == 14)
