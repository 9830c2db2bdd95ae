-- Makes the manual from the annotations: luajit doc/manual.lua lua/library/ipc.lua > doc/api.md (`make doc`).
--
-- Text above a function is its description; `---@param`, `---@return` and `---@field` lines become lists; `-- ## Title`
-- lines become headings, and a class starts a heading of its own: one above `local NAME = {}` for its methods, one that
-- an empty line follows (options, records) for its fields.

local path = assert(arg[1], 'usage: manual.lua ANNOTATIONS')
local out = {}
local function say(...) out[#out + 1] = table.concat { ... } end

say '# The API'
say ''
say('<!-- Made from ', path, ' by `make doc`; change it there. -->')
say ''
say 'Optional arguments have a `?`. Time-outs are in seconds; without one a call waits for ever, if nothing else is'
say "said. Errors are strings with `libipc [code]` at their start, after Lua's `file:line:`; `ipc.errcode` finds the"
say 'code.'

local class_of = {}
local class, base, alias
local text, params, returns, fields, overloads = {}, {}, {}, {}, {}

local function reset() text, params, returns, fields, overloads = {}, {}, {}, {}, {} end

-- `fun(a: b): c text`, `table<a, b> text`, `string|nil text`: the type ends at the first space outside brackets that
-- does not follow `:` or `,`.
local function split(s)
  local depth, last = 0, ''
  for i = 1, #s do
    local c = s:sub(i, i)
    if c:match '[(<{%[]' then depth = depth + 1 end
    if c:match '[)>}%]]' then depth = depth - 1 end
    if c == ' ' and depth == 0 and not last:match '[:,|]' then return s:sub(1, i - 1), s:sub(i + 1) end
    if c ~= ' ' then last = c end
  end
  return s, ''
end

local function item(name, rest)
  local kind, words = split(rest)
  say('- `', name, '`: `', kind, '`', words ~= '' and ' — ' .. words:gsub('^#%s*', '') or '')
end

local function signature(owner, separator, name, arguments)
  local optional = {}
  for _, p in ipairs(params) do
    local n, mark = p:match '^([%w_.]+)(%??)'
    if mark == '?' then optional[n] = true end
  end
  local shown = {}
  for a in arguments:gmatch '[%w_.]+' do shown[#shown + 1] = a .. (optional[a] and '?' or '') end
  return owner .. separator .. name .. '(' .. table.concat(shown, ', ') .. ')'
end

local function describe()
  for _, line in ipairs(text) do say(line) end
  if #params + #returns > 0 then say '' end
  for _, p in ipairs(params) do
    local name, rest = p:match '^([%w_.]+%??)%s+(.*)$'
    item(name, rest)
  end
  for _, r in ipairs(returns) do
    local kind, words = split(r)
    say('- returns `', kind, '`', words ~= '' and ' — ' .. words:gsub('^#%s*', '') or '')
  end
  for _, o in ipairs(overloads) do say('- also `', o, '`') end
end

-- The heading of a class, what it is, and its fields.
local function describeClass(marks)
  say ''
  say(marks, ' `', class, '`')
  say ''
  describe()
  if base then say('It has the fields of `', base, '`, and:') end
  if #fields > 0 then say '' end
  for _, f in ipairs(fields) do
    local n, r = f:match '^([%w_]+%??)%s+(.*)$'
    if not n then n, r = f:match '^%[([^%]]+)%]%s+(.*)$' end
    if n then item(n, r) end
  end
  class, base = nil, nil
  reset()
end

for line in io.lines(path) do
  local title = line:match '^%-%- ## (.*)'
  local tag, rest = line:match '^%-%-%-@(%w+)%s*(.*)$'
  local words = line:match '^%-%-%- ?(.*)$'
  local variable = line:match '^local ([%w_]+) = {}'
  local owner, separator, name, arguments = line:match '^function ([%w_]+)([.:])([%w_]+)%((.-)%)'
  if title then
    say ''
    say('## ', title)
  elseif tag == 'class' then
    class, base = rest:gsub('^%b()%s*', ''):match '^([%w_.]+):?%s*([%w_.]*)'
    if base == '' or base == 'table' then base = nil end
  elseif tag == 'alias' then
    alias = rest
  elseif tag == 'param' then
    params[#params + 1] = rest
  elseif tag == 'return' then
    returns[#returns + 1] = rest
  elseif tag == 'field' then
    fields[#fields + 1] = rest
  elseif tag == 'overload' then
    overloads[#overloads + 1] = rest
  elseif tag then -- luacheck: ignore 542
    -- Others are for the language server alone.
  elseif words then
    text[#text + 1] = words
  elseif variable and class then
    class_of[variable] = class
    describeClass '##'
  elseif owner then
    local shown = class_of[owner] or owner
    say ''
    say('### `', signature(separator == ':' and owner or shown, separator, name, arguments), '`')
    say ''
    describe()
    reset()
  elseif line:match '^%s*$' then
    -- One without a type on its line lists names, for the language server alone.
    local called, kind = (alias or ''):match '^(%S+)%s+(.*)$'
    if called then
      say ''
      say('### `', called, '`')
      say ''
      describe()
      say ''
      say('Is `', kind, '`.')
    elseif class then
      describeClass '###'
    end
    alias = nil
    reset()
  end
end

say ''
say('[All pages](index.md)')
io.write(table.concat(out, '\n'), '\n')
