-- Tensors: the real torch7 where it is installed, else those of this library, with the same names.
require 'libipc'

-- libipc adds a searcher behind all others: it finds `torch` when nothing else does.
local ok, torch = pcall(require, 'torch')
if not ok then
  -- A torch7 that is installed but does not load (built for another Lua, say).
  torch = require 'libipc.torch'
end
if not rawget(_G, 'torch') then _G.torch = torch end
return torch
