std = 'max'
max_line_length = 120
codes = true
cache = false
-- Torch's global; the launcher's arguments.
read_globals = { 'torch' }
files['spec'] = { std = 'max+busted', max_line_length = 140 }
files['benches'] = { max_line_length = 145 }
-- Annotations name things and do nothing.
files['lua/library'] = { ignore = { '131', '211', '212', '213', '241', '221' } }
files['lua/library/ipc/th.lua'] = { globals = { 'torch', 'sys' }, allow_defined = true }
files['lua/ipc/th.lua'] = { globals = { 'torch', 'sys' }, allow_defined = true }
files['lua/ipc/torch.lua'] = { globals = { 'torch' } }
