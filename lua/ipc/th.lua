--- The globals of the interpreter `th`, for scripts that were run by it: `luajit -l ipc.th script.lua`.
---
--- `torch` and `sys`; `string.split` by a separator; from Penlight, where it is installed, `lapp`, `tablex`, `stringx`.

require 'libipc'

if not rawget(_G, 'torch') then _G.torch = require 'ipc.torch' end
if not rawget(_G, 'sys') then _G.sys = require 'sys' end
for _, name in ipairs { 'lapp', 'tablex', 'stringx' } do
   local found, module = pcall(require, 'pl.' .. name)
   if found and not rawget(_G, name) then _G[name] = module end
end

if not rawget(string, 'split') then
   --- The parts of `text` between separators, as they are: no pattern. By default the words between white space.
   function string.split(text, separator) -- luacheck: ignore 142
      local parts = {}
      if not separator or separator == '' then
         for word in text:gmatch '%S+' do parts[#parts + 1] = word end
         return parts
      end
      local from = 1
      while true do
         local first, last = text:find(separator, from, true)
         parts[#parts + 1] = text:sub(from, first and first - 1)
         if not first then return parts end
         from = last + 1
      end
   end
end

return _G.torch
