-- Lets Lua 5.5 load busted, and what it needs, from the packages made for 5.4. Their one breach of 5.5's rules is that
-- they assign to a loop's variable, which is constant now: such a loop gets `local k = k` behind its `do`.
local folder = '/usr/share/lua/5.4/'

-- The line with that variable shadowed, if it starts a loop over it.
local function shadow(line, name)
  local names = line:match '%f[%w_]for%s+([%w_,%s]-)%s+in%s' or line:match '%f[%w_]for%s+([%w_]+)%s*='
  if not names or not (',' .. names:gsub('%s', '') .. ','):find(',' .. name .. ',', 1, true) then return nil end
  local head, rest = line:match '^(.-for.-%f[%w_]do%f[^%w_])(.*)$'
  return head and ('%s local %s = %s;%s'):format(head, name, name, rest)
end

local function load_old(path)
  local lines = {}
  for line in io.lines(path) do lines[#lines + 1] = line end
  while true do
    local chunk, why = load(table.concat(lines, '\n'), '@' .. path)
    if chunk then return chunk end
    local number, name = why:match ":(%d+): attempt to assign to const variable '([%w_]+)'"
    local i, changed = tonumber(number), nil
    while i and i > 0 and not changed do
      changed = shadow(lines[i], name)
      if changed then lines[i] = changed end
      i = i - 1
    end
    if not changed then error(why, 0) end
  end
end

table.insert(package.searchers, function(module)
  local path, why = package.searchpath(module, folder .. '?.lua;' .. folder .. '?/init.lua')
  if not path then return why end
  return load_old(path), path
end)
