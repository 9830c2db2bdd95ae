--- What the Lua parts of libipc share: errors in the library's form, argument checks, options, walks over tables.

local utils = {}

--- What it takes to be `libipc [code] place: what`; the line of the user's call is put before it at the border
--- (`api`).
function utils.message(code, place, what, ...)
   if select('#', ...) > 0 then what = what:format(...) end
   return ('libipc [%s] %s: %s'):format(code, place, what)
end

function utils.raise(code, place, what, ...)
   error(utils.message(code, place, what, ...), 0)
end

--- One line on stderr, for the user who runs the program; `IPC_LOG=off` silences it.
function utils.tell(what, ...)
   require 'libipc'.__tell(what:format(...))
end

--- The code of an error of ours (`'timeout'`, …), whatever stands around it; nil for any other error.
function utils.errcode(e)
   return type(e) == 'string' and e:match('libipc %[(%l+)%]') or nil
end

--- Whether it says that there was no memory, or no room on a stack.
function utils.lacksMemory(e)
   return e == 'not enough memory' or utils.errcode(e) == 'limit'
end

--- `f(...)`, of which an error of ours does no harm: true, or false and that error. Any other is raised on, so that a
--- Ctrl-C is not lost: the interpreter raises it once.
function utils.try(f, ...)
   local ok, e = pcall(f, ...)
   if not ok and not utils.errcode(e) then error(e, 0) end
   return ok, e
end

--- The error `e` with `pattern` in its text replaced: what it advises is there under another name.
function utils.reworded(e, pattern, by)
   return type(e) == 'string' and e:gsub(pattern, by) or e
end

--- What an error says, without `file:line:` and `libipc [code]` before it.
function utils.cause(e)
   e = tostring(e)
   return e:match('libipc %[%l+%] (.*)') or e
end

--- The same, without the place either.
function utils.what(e)
   e = tostring(e)
   return e:match('libipc %[%l+%] [^:]+: (.*)') or e
end

local function article(word)
   return (word:find('^[aeiou]') and 'an ' or 'a ') .. word
end

local function wrong(place, position, expected, got)
   utils.raise('argument', place, 'argument #%d: expected %s, got %s', position, expected, got)
end

--- Argument `position` has to be of one of the types in `expected` (words separated by `|`; `nil` allows none).
function utils.check(place, position, value, expected)
   local given = type(value)
   for word in expected:gmatch('[^|]+') do
      if given == word then return value end
   end
   local words = {}
   for word in expected:gmatch('[^|]+') do
      words[#words + 1] = word == 'nil' and 'nil' or article(word)
   end
   return wrong(place, position, table.concat(words, ' or '), given)
end

--- Argument `position` has to be a whole number from `low` to `high`.
function utils.checkIndex(place, position, value, low, high)
   utils.check(place, position, value, 'number')
   if value ~= math.floor(value) or value < low or value > high then
      local range = high == math.huge and ('%d or more'):format(low) or ('from %d to %d'):format(low, high)
      wrong(place, position, 'a whole number ' .. range, tostring(value))
   end
   return value
end

--- Argument `position` has to be nil or a table whose keys are all in the list `known`.
function utils.checkOptions(place, position, options, known)
   utils.check(place, position, options, 'table|nil')
   for key in pairs(options or {}) do
      local found = false
      for _, name in ipairs(known) do found = found or name == key end
      if not found then
         utils.raise('argument', place, 'argument #%d: unknown option %s; known are %s', position,
            type(key) == 'string' and ("'%s'"):format(key) or tostring(key), table.concat(known, ', '))
      end
   end
end

--- A timeout in seconds, math.huge for ever, of what a user gave as one: a number, or a boolean, of which true is 0 and
--- false for ever. Nothing where it is nil.
function utils.seconds(place, position, given)
   if given == nil then return nil end
   if type(given) == 'boolean' then return given and 0 or math.huge end
   if type(given) ~= 'number' then
      wrong(place, position, 'a number of seconds or a boolean as timeout', type(given))
   end
   if given < 0 or given ~= given then wrong(place, position, 'a timeout of 0 or more seconds', tostring(given)) end
   return given
end

--- Seconds from `options.timeout`, else `default`, else from the environment's IPC_TIMEOUT, else half an hour.
function utils.timeout(place, position, options, default)
   local seconds = options and utils.seconds(place, position, options.timeout)
   if seconds == nil then seconds = default end
   if seconds ~= nil then return seconds end
   local text = os.getenv('IPC_TIMEOUT')
   if not text or text == '' then return 1800 end
   if text == 'none' then return math.huge end
   seconds = tonumber(text)
   if not seconds or seconds < 0 or seconds ~= seconds then
      utils.raise('argument', place,
         "the environment's IPC_TIMEOUT is %q: expected a number of seconds, or none for ever", text)
   end
   return seconds
end

--- Seconds that one call was given in a timeout's place: a number, a boolean or `{timeout = …}`; else `default`.
function utils.callTimeout(place, position, given, default)
   if type(given) == 'number' or type(given) == 'boolean' then
      return utils.seconds(place, position, given)
   end
   if type(given) ~= 'table' and given ~= nil then
      wrong(place, position, 'a table, a number of seconds or a boolean', type(given))
   end
   utils.checkOptions(place, position, given, { 'timeout' })
   local seconds = given and utils.seconds(place, position, given.timeout)
   if seconds == nil then return default end
   return seconds
end

--- `f(...)`, whose errors are raised on as they are, without a position in this library's files.
function utils.call(f, ...)
   local function pass(ok, ...)
      if not ok then error((...), 0) end
      return ...
   end
   return pass(pcall(f, ...))
end

--- The same; `place` is the name of the call in errors of `f`, which knows itself under another.
function utils.callAs(place, f, ...)
   local function pass(ok, ...)
      if not ok then error(utils.reworded((...), '^(libipc %b[]) [^ ]+: ', '%1 ' .. place .. ': '), 0) end
      return ...
   end
   return pass(pcall(f, ...))
end

-- Where the files of this library lie, with `/` at the end; nothing where Lua does not say.
local folder = debug and debug.getinfo(1, 'S').source:match '^@(.*[/\\])[^/\\]*$'

--- Whether `file` is one of this library's, as Lua shortens names in errors.
local function isOurs(file)
   if not folder then return false end
   local tail = file:match '^%.%.%.(.*)$'
   if not tail then return file:sub(1, #folder) == folder end
   return tail:find('[/\\]ipc[/\\][%w/\\]+%.lua$') ~= nil
end

--- An error of ours without a position in this library's files; nil for any other.
local function unplaced(e)
   if type(e) ~= 'string' then return nil end
   if e:find '^libipc %[' then return e end
   local file, rest = e:match '^([^\n]-):%d+: (libipc %[.*)$'
   return file and isOurs(file) and rest or nil
end

-- 5.1 counts a call at the end of another as a level of its own.
local tailCalls = _VERSION == 'Lua 5.1' and not rawget(_G, 'jit') and 1 or 0

--- The call as its user sees it: errors of ours get the line of the caller, all others pass unchanged.
--- `results` is how many values come back: 1, 2, or '*' for all. `owner[1]` is the object that the function belongs to:
--- a first argument that is this very object, as a colon passes it, is dropped. `between`: how many functions stand
--- between the user's call and this one; none if it is absent.
function utils.api(inner, results, owner, between)
   if owner then
      local plain = inner
      inner = function(...)
         if owner[1] ~= nil and rawequal((...), owner[1]) then return plain(select(2, ...)) end
         return plain(...)
      end
   end
   local level = 3 + (between or 0)
   local function raise(e, further)
      local ours = unplaced(e)
      error(ours or e, ours and level + (further or 0) or 0)
   end
   if results == '*' then
      -- Nothing here wants memory once there are results: they would be lost.
      local function pass(ok, ...)
         if not ok then raise((...), tailCalls) end
         return ...
      end
      return function(...) return pass(pcall(inner, ...)) end
   end
   return function(...)
      local ok, a, b = pcall(inner, ...)
      if not ok then raise(a) end
      if results == 2 then return a, b end
      return a
   end
end

local rank = { number = 1, string = 2, boolean = 3 }

local function before(a, b)
   local x, y = type(a), type(b)
   if x ~= y then return rank[x] < rank[y] end
   if x == 'boolean' then return not a and b end
   return a < b
end

--- The keys of `t` in the order that every node agrees on: numbers, strings, booleans, each ascending.
function utils.sortedKeys(t, place)
   local keys = {}
   for key in pairs(t) do
      if not rank[type(key)] then
         utils.raise('unsupported', place or 'tree.walkTable',
            'the key %s: tables that are walked have numbers, strings and booleans as keys, which all nodes sort alike',
            tostring(key))
      end
      keys[#keys + 1] = key
   end
   table.sort(keys, before)
   return keys
end

local deepest = 1000

--- Calls `visit(holder, key, leaf, path)` for each value in `t` that is not a table, keys sorted; `path` says where the
--- holder stands: `''`, `'layers.2.'`.
function utils.eachLeaf(t, visit, place, depth, path)
   depth, path = depth or 1, path or ''
   if depth > deepest then
      utils.raise('limit', place or 'tree.walkTable',
         'tables nested more than %d deep, or a table inside itself', deepest)
   end
   for _, key in ipairs(utils.sortedKeys(t, place)) do
      local value = t[key]
      if type(value) == 'table' then
         utils.eachLeaf(value, visit, place, depth + 1, path .. tostring(key) .. '.')
      else
         visit(t, key, value, path)
      end
   end
end

--- Calls `f(leaf)` for each leaf of the nested table `t`, keys sorted; a result that is not nil takes the leaf's
--- place.
function utils.walkTable(t, f)
   utils.check('tree.walkTable', 1, t, 'table')
   utils.check('tree.walkTable', 2, f, 'function')
   utils.eachLeaf(t, function(holder, key, leaf)
      local new = f(leaf)
      if new ~= nil then holder[key] = new end
   end)
   return t
end

--- 32 hexadecimal digits that nobody can guess.
function utils.token()
   local file = io.open('/dev/urandom', 'rb')
   if not file then utils.raise('io', 'tree', 'cannot open /dev/urandom, from which the tree takes its token') end
   local bytes = file:read(16)
   file:close()
   return (bytes:gsub('.', function(c) return ('%02x'):format(c:byte()) end))
end

return utils
