-- Every snippet of README.md and of the pages in doc/ runs as printed, on the Lua under test.
--
-- A ```lua block is a script. A ```text block right after it is what it prints: compared line by line, where `…` stands
-- for any text within a line, and for any number of lines on a line of its own. A ```console block holds commands after
-- `$ ` and what they print; in it `luajit` is the Lua under test. A ```sh block is not run: CI shows those.
local support = require 'spec.support'

local pages = { 'README.md' }
for page in support.sh(('cd %s && ls doc/*.md'):format(support.quote(support.root))):gmatch '%S+' do
  pages[#pages + 1] = page
end

local function blocks(page)
  local found, at, open = {}, 0, nil
  for line in (support.read(support.root .. '/' .. page) .. '\n'):gmatch '(.-)\n' do
    at = at + 1
    local fence = line:match '^```(.*)$'
    if fence and not open then
      open = { kind = fence, line = at, lines = {} }
    elseif fence then
      open.text = table.concat(open.lines, '\n')
      found[#found + 1], open = open, nil
    elseif open then
      open.lines[#open.lines + 1] = line
    end
  end
  return found
end

local function lines_of(s)
  local lines = {}
  for line in (s:gsub('\n$', '') .. '\n'):gmatch '(.-)\n' do lines[#lines + 1] = (line:gsub('%s+$', '')) end
  return lines
end

-- Whether `line` is `expected`, `…` being anything.
local function same(line, expected)
  local pattern = expected:gsub('…', '\1'):gsub('[%^%$%(%)%%%.%[%]%*%+%-%?]', '%%%0'):gsub('\1', '.*')
  return line:match('^' .. pattern .. '$') ~= nil
end

local function fits(got, want, i, j)
  i, j = i or 1, j or 1
  if j > #want then return i > #got end
  if want[j] == '…' then
    for k = i, #got + 1 do
      if fits(got, want, k, j + 1) then return true end
    end
    return false
  end
  return i <= #got and same(got[i], want[j]) and fits(got, want, i + 1, j + 1)
end

local function compare(got, want)
  if not fits(lines_of(got), lines_of(want)) then
    error('it printed\n' .. got .. '\nand the page says\n' .. want, 0)
  end
end

-- A folder in which `luajit` and `lua` are the Lua under test.
local function commands()
  local dir = support.tmpdir()
  for _, name in ipairs { 'luajit', 'lua' } do
    support.write(dir .. '/' .. name, ('#!/bin/sh\nexec %s "$@"\n'):format(support.sh('command -v ' .. support.lua)))
  end
  os.execute('chmod +x ' .. dir .. '/*')
  return dir
end

-- What runs this snippet: what it starts with, past the lines that all start with.
local function title(block)
  for _, line in ipairs(block.lines) do
    if not line:match '^local [%w_, ]+ = require' and line ~= '' then return line end
  end
  return block.lines[1] or 'nothing'
end

-- A library of others that the snippet wants and this Lua has not.
local function missing(block)
  for _, name in ipairs { 'luv', 'cqueues' } do
    if block.text:find(("require '%s'"):format(name), 1, true) and not pcall(require, name) then return name end
  end
end

local function run_lua(block, expected)
  local r = support.run(block.text, { cwd = support.tmpdir() })
  local ending = ('line %d: it ended with %s\n%s%s'):format(block.line, r.signal or r.status, r.stdout, r.stderr)
  assert(r.status == 0, ending)
  assert.equal('', r.stderr)
  if expected then compare(r.stdout, expected) end
end

local function run_commands(block)
  local path = commands() .. ':' .. os.getenv 'PATH'
  local script, want = { 'cd ' .. support.quote(support.root), 'PATH=' .. support.quote(path) }, {}
  for _, line in ipairs(block.lines) do
    local command = line:match '^%$ (.*)'
    if command then script[#script + 1] = command .. ' 2>&1 || exit 1' else want[#want + 1] = line end
  end
  local file = support.write(support.tmpname '.sh', table.concat(script, '\n'))
  local out = support.sh('timeout 200 bash ' .. file .. '; echo "status $?"')
  local printed, status = out:match '^(.-)\n?status (%d+)$'
  assert(status == '0', ('line %d: status %s\n%s'):format(block.line, status, printed))
  if #want > 0 then compare(printed, table.concat(want, '\n')) end
end

for _, page in ipairs(pages) do
  describe(page, function()
    it('names only files that exist', function()
      local folder = page:match '^.*/' or ''
      local absent = {}
      for target in support.read(support.root .. '/' .. page):gmatch '%]%(([^)#]+)' do
        if not target:match '^%a+:' and not support.exists(support.root .. '/' .. folder .. target) then
          absent[#absent + 1] = target
        end
      end
      assert(#absent == 0, table.concat(absent, ', '))
    end)

    if page:find '^doc/' and page ~= 'doc/index.md' then
      it('leads to all the others', function()
        assert(support.read(support.root .. '/' .. page):find('](index.md)', 1, true), 'no link to index.md')
      end)
    end

    if not support.exists(support.root .. '/' .. page) then return end
    local all = blocks(page)
    for i, block in ipairs(all) do
      local after = all[i + 1]
      local follows = after and after.kind == 'text' and after.line == block.line + #block.lines + 3
      if block.kind == 'lua' then
        it('runs as printed: ' .. title(block), function()
          local other = missing(block)
          if other then return pending(other .. ' is not installed for this Lua') end
          run_lua(block, follows and after.text)
        end)
      elseif block.kind == 'console' then
        it('runs as printed: ' .. title(block), function() run_commands(block) end)
      end
    end
  end)
end

it('README.md has a snippet for each part', function()
  local count = 0
  for _, block in ipairs(blocks 'README.md') do
    if block.kind == 'lua' then count = count + 1 end
  end
  assert.is_true(count >= 6)
end)
