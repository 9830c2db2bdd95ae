-- spec/contract.md lists each promise of the API with the spec that shows it. Here: every spec named there exists, and
-- no promise is without one.
--
-- A line is `- PROMISE — spec/FILE_spec.lua: "NAME"`, one or more of `spec/FILE_spec.lua: "NAME"` joined by `; `, where
-- NAME is the text of an `it(...)` of that file. `— TODO` marks a promise that nothing shows yet.
local support = require 'spec.support'

local function promises()
  local found, section = {}, '?'
  local at = 0
  for line in (support.read(support.root .. '/spec/contract.md') .. '\n'):gmatch '(.-)\n' do
    at = at + 1
    section = line:match '^## (.*)' or section
    local text = line:match '^%- (.*)'
    if text then
      local promise, shown = text:match '^(.*) — (.*)$'
      found[#found + 1] = { line = at, section = section, promise = promise or text, shown = shown }
    end
  end
  return found
end

-- The names of a spec file's tests, as written: it 'x', it "x", it('x', …), it([[x]], …).
local files = {}
local function names_of(file)
  if files[file] == nil then
    local names = false
    if support.exists(support.root .. '/' .. file) then
      names = {}
      local text = support.read(support.root .. '/' .. file)
      for quote, rest in text:gmatch '%f[%w_]it%s*%(*%s*(["\'])([^\n]*)' do
        -- Up to the first quote that is not escaped.
        local name, i = {}, 1
        while i <= #rest do
          local c = rest:sub(i, i)
          if c == quote then break end
          if c == '\\' then
            i = i + 1
            c = rest:sub(i, i)
          end
          name[#name + 1] = c
          i = i + 1
        end
        -- The fixed part of a name that is put together: `it('takes ' .. what, …)`.
        names[(table.concat(name):gsub('%s+$', ''))] = true
      end
      for name in text:gmatch '%f[%w_]it%s*%(*%s*%[%[(.-)%]%]' do names[name] = true end
    end
    files[file] = names
  end
  return files[file]
end

describe('spec/contract.md', function()
  it('names only specs that exist', function()
    local wrong = {}
    for _, p in ipairs(promises()) do
      if not p.shown then
        wrong[#wrong + 1] = ('line %d: no ` — ` in it'):format(p.line)
      elseif p.shown ~= 'TODO' then
        local rest = p.shown
        while rest do
          local file, name, tail = rest:match '^(spec/[%w_]+_spec%.lua): "(.-)"(.*)$'
          local names = file and names_of(file)
          if not file or tail ~= '' and not tail:match '^; ' then
            wrong[#wrong + 1] = ('line %d: not `spec/x_spec.lua: "name"`: %s'):format(p.line, rest)
          elseif not names then
            wrong[#wrong + 1] = ('line %d: there is no %s'):format(p.line, file)
          elseif not names[name] then
            wrong[#wrong + 1] = ('line %d: %s has no test "%s"'):format(p.line, file, name)
          end
          rest = tail and tail:match '^; (.*)$'
        end
      end
    end
    assert(#wrong == 0, '\n' .. table.concat(wrong, '\n'))
  end)

  it('has a spec for every promise', function()
    local bare = {}
    for _, p in ipairs(promises()) do
      if p.shown == 'TODO' then bare[#bare + 1] = ('line %d, %s: %s'):format(p.line, p.section, p.promise) end
    end
    assert(#bare == 0, '\n' .. table.concat(bare, '\n'))
  end)

  it('is not empty', function() assert.is_true(#promises() > 100) end)
end)
