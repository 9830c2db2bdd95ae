--- `torch.CmdLine`: the parser of command lines that Torch's scripts use. See doc/tensor.md.
---
---     local cmd = torch.CmdLine()
---     cmd:text('Trains a network')
---     cmd:argument('-data', 'the file to train on')
---     cmd:option('-rate', 0.1, 'the learning rate')
---     cmd:option('-quick', false, 'only a few steps')
---     local opt = cmd:parse(arg)             -- opt.data, opt.rate, opt.quick

local utils = require 'ipc.utils'

local place = 'torch.CmdLine'

local CmdLine = {}
CmdLine.__index = CmdLine
CmdLine.__typename = 'torch.CmdLine'

local function check(method, position, value, expected)
   return utils.check(place .. ':' .. method, position, value, expected)
end

local function plain(name) return (name:gsub('^%-+', '')) end

--- Nothing of a user's command line is our error: this ends the program as a wrong one does.
local function refuse(self, arguments, what, ...)
   io.stderr:write(what:format(...), '\n\n')
   self:help(arguments, io.stderr)
   os.exit(1)
end

--- One more line of the help.
local function add(self, entry)
   self.entries[#self.entries + 1] = entry
   return entry
end

--- A line of text in the help.
function CmdLine:text(text)
   add(self, { text = check('text', 1, text, 'string|nil') or '' })
end

--- An argument that has to be there, in this order; `kind` is the type of its value: 'string' (the default), 'number'
--- or 'boolean'.
function CmdLine:argument(name, help, kind)
   check('argument', 1, name, 'string')
   check('argument', 2, help, 'string|nil')
   local entry = add(self, { name = name, help = help, kind = check('argument', 3, kind, 'string|nil') or 'string' })
   self.arguments[#self.arguments + 1] = entry
end

--- An option; its default says of which type it is, unless `kind` does. One that is a boolean takes no value and
--- turns its default into the opposite.
function CmdLine:option(name, default, help, kind)
   check('option', 1, name, 'string')
   check('option', 3, help, 'string|nil')
   check('option', 4, kind, 'string|nil')
   kind = kind or default ~= nil and type(default) or 'string'
   local entry = add(self, { name = name, help = help, kind = kind, default = default, option = true })
   self.options[name] = entry
   -- With two dashes as well, as programs elsewhere have it.
   local long = '--' .. plain(name)
   self.options[long] = self.options[long] or entry
end

--- The values when nothing is given.
function CmdLine:default()
   local params = {}
   for _, entry in ipairs(self.entries) do
      if entry.option then params[plain(entry.name)] = entry.default end
   end
   return params
end

--- What `text` means for `entry`.
local function read(self, arguments, entry, text)
   if entry.kind == 'number' then
      local value = tonumber(text)
      if not value then refuse(self, arguments, 'expected a number for %s, got %s', entry.name, text) end
      return value
   elseif entry.kind == 'boolean' then
      if text == 'true' or text == '1' then return true end
      if text == 'false' or text == '0' then return false end
      refuse(self, arguments, 'expected true or false for %s, got %s', entry.name, text)
   end
   return text
end

--- Reads the list of words `arguments`, by default those of the program: a table of the values by name, without dashes.
--- `-help` prints the help and ends the program; a word that fits nothing ends it with 1.
function CmdLine:parse(arguments)
   arguments = check('parse', 1, arguments, 'table|nil') or rawget(_G, 'arg') or {}
   local params, given, i = self:default(), 0, 1
   while i <= #arguments do
      local word = tostring(arguments[i])
      local entry = self.options[word]
      if not entry and (word == '-help' or word == '--help' or word == '-h') then
         self:help(arguments)
         os.exit(0)
      elseif entry and entry.kind == 'boolean' then
         params[plain(entry.name)] = not entry.default
      elseif entry then
         i = i + 1
         if arguments[i] == nil then refuse(self, arguments, 'a value is missing after %s', word) end
         params[plain(entry.name)] = read(self, arguments, entry, tostring(arguments[i]))
      else
         given = given + 1
         entry = self.arguments[given]
         if not entry then
            refuse(self, arguments, word:find '^%-' and 'there is no option %s' or 'too many arguments: %s', word)
         end
         params[plain(entry.name)] = read(self, arguments, entry, word)
      end
      i = i + 1
   end
   if given < #self.arguments then
      refuse(self, arguments, 'the argument %s is missing', self.arguments[given + 1].name)
   end
   return params
end

--- Prints what there is to give. `out`: a file, by default the standard output.
function CmdLine:help(arguments, out)
   out = out or io.stdout
   local program = arguments and arguments[0] or rawget(_G, 'arg') and _G.arg[0]
   out:write('Usage: ', program and program .. ' ' or '', next(self.options) and '[options]' or '')
   for _, entry in ipairs(self.arguments) do out:write(' <', plain(entry.name), '>') end
   out:write('\n')
   local widest = 0
   for _, entry in ipairs(self.entries) do
      if entry.name then widest = math.max(widest, #entry.name) end
   end
   for _, entry in ipairs(self.entries) do
      if entry.text then
         out:write(entry.text, '\n')
      else
         local default = entry.default ~= nil and (' [%s]'):format(tostring(entry.default)) or ''
         out:write(('  %-' .. widest .. 's %s%s\n'):format(entry.name, entry.help or '', default))
      end
   end
end

local function word(value)
   if type(value) == 'boolean' then return value and 't' or 'f' end
   return tostring(value)
end

--- A name for an experiment: `prefix`, and each option of `params` that has not its default and is not in `ignore` (a
--- set of names): `prefix,quick=t,rate=0.5`.
function CmdLine:string(prefix, params, ignore)
   check('string', 1, prefix, 'string')
   check('string', 2, params, 'table')
   ignore = check('string', 3, ignore, 'table|nil') or {}
   local default, names = self:default(), {}
   for name, value in pairs(params) do
      if not ignore[name] and value ~= default[name] then names[#names + 1] = name end
   end
   table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
   local parts = { prefix }
   for _, name in ipairs(names) do
      parts[#parts + 1] = tostring(name) .. self.keySeparator .. word(params[name])
   end
   return table.concat(parts, self.argSeparator)
end

--- From now on each line that is logged begins with `[name time]`; `format` is os.date's.
function CmdLine:addTime(name, format)
   self.time = { name = check('addTime', 1, name, 'string|nil') or '',
      format = check('addTime', 2, format, 'string|nil') or '%Y-%m-%d %H:%M:%S' }
end

--- From now on what is logged is not printed as well.
function CmdLine:silent() self.isSilent = true end

local function stamp(self)
   if not self.time then return '' end
   local name = self.time.name
   return ('[%s%s]: '):format(name ~= '' and name .. ' ' or '', os.date(self.time.format))
end

--- From now on `print` writes into the file `name` (a path, or an open file) too, which begins with `params`.
function CmdLine:log(name, params)
   local file = name
   if type(name) == 'string' then
      local why
      file, why = io.open(name, 'w')
      if not file then utils.raise('io', place .. ':log', 'cannot open the log %s', why) end
   elseif io.type(name) ~= 'file' then
      check('log', 1, name, 'string')
   end
   check('log', 2, params, 'table|nil')
   file:setvbuf 'line'
   local printed = _G.print
   function _G.print(...)
      local words = {}
      for i = 1, select('#', ...) do words[i] = tostring((select(i, ...))) end
      local before = stamp(self)
      file:write(before, table.concat(words, '\t'), '\n')
      if self.isSilent then return end
      if before ~= '' then io.stdout:write(before) end
      printed(...)
   end
   file:write(('[program started on %s]\n[command line arguments]\n'):format(os.date()))
   local names = {}
   for key in pairs(params or {}) do names[#names + 1] = key end
   table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
   for _, key in ipairs(names) do file:write(tostring(key), '\t', tostring(params[key]), '\n') end
   file:write '[----------------------]\n'
end

-- What is given wrong is told with the line of the user's call.
for _, name in ipairs { 'text', 'argument', 'option', 'parse', 'string', 'addTime', 'log' } do
   CmdLine[name] = utils.api(CmdLine[name])
end

--- `torch.CmdLine([argSeparator = ','], [keySeparator = '='])`; the two stand in what `string` makes.
return utils.api(function(argSeparator, keySeparator)
   return setmetatable({
      argSeparator = utils.check(place, 1, argSeparator, 'string|nil') or ',',
      keySeparator = utils.check(place, 2, keySeparator, 'string|nil') or '=',
      entries = {},
      arguments = {},
      options = {},
   }, CmdLine)
end, 1, nil, 1) -- `torch.CmdLine` itself stands between
