--- One neighbour in the tree: a connection on which messages of the tree travel.
---
--- A message is a table whose first field says what it is: a call's header (`'up'`, `'down'`), `'go'` (the receiver
--- is ready for the tensors of that call), `'here'` (the sender waits itself: in which call, and how many nodes away is
--- the one that it waits for), `'error'` (the tree is broken, and why) or `'close'`. Tensors follow their header as
--- messages of their own, so that they are received in place.

local ipc = require 'libipc'
local utils = require 'ipc.utils'

local Link = {}
Link.__index = Link

--- The link to node `index` over `connection`, a client or a server's handle of one.
---
--- `gone` says how its end was noticed, `deaf` how a send failed (what it sent before can still be received); `heard`
--- is when its silence began: when it last said that it waits, or was sent something; `news` that it has said so since
--- the flag was cleared, `waits` in which call, `far` how many nodes away it waits for somebody; `owed` is how many
--- tensors it is sending, `leaf` that it has no children; `promised` that it was told of tensors which it has not all
--- been sent; `silent` that the call failed for its silence.
function Link.new(index, connection, leaf)
   return setmetatable({ index = index, connection = connection, leaf = leaf, owed = 0, heard = 0, news = false }, Link)
end

--- What a receive that failed with `e` means: nothing yet, or that the other end is gone; anything else is raised.
local function lost(self, e)
   local code = utils.errcode(e)
   if code == 'timeout' then return end
   if code ~= 'closed' and code ~= 'io' and code ~= 'protocol' then error(e, 0) end
   self.gone = utils.cause(e)
end

--- Takes the next message if one comes within `seconds`; nil if none does, or once the other end is gone (`gone` says
--- how).
function Link:poll(seconds)
   if self.inbox then
      local message = self.inbox
      self.inbox = nil
      return message
   end
   if self.gone then return nil end
   local ok, has, message = pcall(self.connection.tryrecv, self.connection, seconds)
   if not ok then
      lost(self, has)
      return nil
   end
   if not has then return nil end
   if type(message) ~= 'table' or type(rawget(message, 1)) ~= 'string' then
      self.gone = ('it sent %s, which is no message of a tree'):format(ipc.type(message))
      return nil
   end
   if message[1] == 'here' then
      local far = tonumber(message[3])
      self.heard, self.news = ipc.clock(), true
      self.waits, self.far = message[2], far and far >= 1 and far or nil
      return self:poll(0)
   end
   return message
end

--- Looks whether a message lies ready, and keeps it for the next `poll`.
function Link:look()
   if not self.inbox then self.inbox = self:poll(0) end
   return self.inbox
end

--- How many nodes away this neighbour waits for somebody, as it said in call number `sequence`; 0: it has not said so.
function Link:distance(sequence)
   return self.waits == sequence and self.far or 0
end

--- How many bytes have come, those of a message that is not whole yet included.
function Link:bytes()
   local ok, stats = pcall(self.connection.netStats, self.connection)
   return ok and stats.rx.num_bytes
end

--- Sends one message. False when the other end is gone; raises `[timeout]` when it does not take it in time. `more`:
--- another one follows at once, so that both may travel together.
function Link:send(message, seconds, more)
   if self.gone or self.deaf then return false end
   local ok, e = pcall(self.connection.send, self.connection, message, { timeout = seconds, more = more })
   if ok then return true end
   local code = utils.errcode(e)
   if code ~= 'closed' and code ~= 'io' then error(e, 0) end
   self.deaf = utils.cause(e)
   return false
end

local function receive(self, ...)
   if self.gone then return nil end
   local ok, result = pcall(self.connection.recv, self.connection, ...)
   if ok and type(result) == 'table' then
      self.inbox = result
      return nil
   end
   if ok then
      self.owed = self.owed - 1
      return result
   end
   if utils.errcode(result) == 'mismatch' then
      -- A message came that a tensor has no room for. What says that the tree is broken comes twice then.
      self.inbox = self:poll(5)
      if not self.inbox and not self.gone then error(result, 0) end
      return nil
   end
   lost(self, result)
   return nil
end

--- Receives into `tensor` for at most `seconds`: the tensor when it is filled; nil when not yet, once the other end is
--- gone, or when a message came in its place, which lies in `inbox` then.
function Link:fill(tensor, seconds)
   return receive(self, tensor, seconds)
end

--- Receives a new tensor, likewise.
function Link:receive(seconds)
   return receive(self, seconds)
end

return Link
