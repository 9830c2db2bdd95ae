-- Given what may sleep, a list of {table, name, try}: returns a function that sets the scheduler's wait, nil for none.
-- scheduler.rs says why.
local tries = ...
local huge, unpack, coroutine = math.huge, table.unpack or unpack, coroutine

local yieldable = coroutine.isyieldable or function()
  local co, main = coroutine.running()
  return co and not main
end

local function pack(...) return {n = select('#', ...), ...} end

local function yielding(original, try, wait)
  return function(...)
    if not yieldable() then return original(...) end
    local result = pack(try(nil, ...))
    while not result[1] do
      wait(result[3], result[4], result[5])
      result = pack(try(result[2], ...))
    end
    return unpack(result, 2, result.n)
  end
end

-- An iterator's calls yield where its reads do.
local function yielding_items(original)
  return function(self, timeout)
    local each = original(self, timeout)
    if not yieldable() then return each end
    return function()
      local found, item = self:tryread(timeout or huge)
      if found and item == nil then
        error('libipc [state] channel:items: an item is nil, which a for loop takes for its end', 2)
      end
      if found then return item end
    end
  end
end

-- Of methods that make an iterator: how a step of it is made from a try.
local iterators = {
  -- A step is given the state of the loop.
  each = function(step) return step end,
  -- A step is given what the method was.
  results = function(step, ...)
    local given = pack(...)
    return function() return step(unpack(given, 1, given.n)) end
  end,
}

local function yielding_iterator(original, try, wait, from)
  return function(...)
    local each, state = original(...)
    if not yieldable() then return each, state end
    return from(yielding(each, try, wait), ...), state
  end
end

local replaced = {}

return function(wait)
  for _, r in ipairs(replaced) do
    -- The program that has replaced it since knows why.
    if r.table[r.name] == r.by then r.table[r.name] = r.original end
  end
  replaced = {}
  if not wait then return end
  local function replace(t, name, by)
    replaced[#replaced + 1] = {table = t, name = name, original = t[name], by = by}
    t[name] = by
  end
  for _, try in ipairs(tries) do
    local t, name, call = try[1], try[2], try[3]
    local original, from = t[name], iterators[name]
    if original then
      replace(t, name, from and yielding_iterator(original, call, wait, from) or yielding(original, call, wait))
    end
    if t.items and name == 'read' then replace(t, 'items', yielding_items(t.items)) end
  end
end
