-- busted, in the interpreter that runs this file (Debian's own `busted` command starts another).
if _VERSION == 'Lua 5.5' then require 'rocks' end
require 'busted.runner'({ standalone = false })
