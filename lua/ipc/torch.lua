-- Tensors: the real torch7 where it is installed, else those of this library, with the same names. IPC_TORCH=builtin or
-- torch7 chooses.
require 'libipc'

local chosen = os and os.getenv and os.getenv 'IPC_TORCH' or ''
local torch
if chosen == 'builtin' then
  torch = require 'libipc.torch'
  if not package.loaded.torch then require 'torch' end
else
  -- libipc adds a searcher behind all others: it finds `torch` when nothing else does, and raises where IPC_TORCH is
  -- wrong.
  local ok, found = pcall(require, 'torch')
  if not ok and chosen ~= '' then error(found, 0) end
  -- A torch7 that is installed but does not load (built for another Lua, say).
  torch = ok and found or require 'libipc.torch'
end
if not rawget(_G, 'torch') then _G.torch = torch end
return torch
