-- The benchmarks of the Lua API: luajit benches/all.lua [NAME ...]. Every row is a ratio to a named peer or limit
-- that ran in the same process a moment before or after; the median of several rounds. benches/run calls it twice: on
-- all cores, and pinned to one (ONE_CORE=1), where a round trip costs two context switches and nobody gains by
-- spinning.
local report = require 'benches.report'

report.one_core = os.getenv 'ONE_CORE' == '1'
local all = {
  'codec', 'map', 'pool', 'workqueue', 'channel', 'sharedtable', 'flock', 'select', 'spawn', 'sockets', 'links', 'tensors', 'allreduce',
  'kernels', 'busy',
}
if report.one_core then all = { 'workqueue', 'channel', 'sockets', 'links' } end
local wanted = #arg > 0 and arg or all
for _, name in ipairs(wanted) do
  io.stderr:write('running ', name, report.one_core and ' on one core' or '', ' …\n')
  require('benches.' .. name)(report)
end
report.print()
