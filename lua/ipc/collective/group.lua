--- A node's place in the tree, and how its calls end together with everybody else's, for better or worse.
---
--- Every collective is one sweep up the tree and one down it; each message carries the number of the call, the
--- operation and the signature of the value, so that calls that do not match fail instead of mixing. A node waits for
--- one neighbour at a time, but looks at the others ten times a second: a node that notices a failure tells its
--- neighbours and the root, the root tells all, and from then on the tree is broken until it is closed.

local ipc = require 'libipc'
local leaves = require 'ipc.collective.leaves'
local utils = require 'ipc.utils'

local Group = {}
Group.__index = Group

-- No wait is longer than this without a look at the other neighbours.
local slice = 0.1

--- A failure on its way to the border of the call: `text` for all nodes; `raw` is what this node's own caller gets,
--- if not that.
local Failure = {}
Failure.__index = Failure
Failure.__tostring = function(self) return self.text end

--- Node `index` of `count`. `parent` and `children` (by ascending index) are links of the tree; `control` are others
--- over which failures are told: to the root, or the root's to all nodes that are not its children.
function Group.new(spec)
   local self = setmetatable({
      index = spec.index,
      count = spec.count,
      parent = spec.parent,
      children = spec.children or {},
      control = spec.control or {},
      timeout = spec.timeout, -- of calls that name none
      limit = spec.timeout, -- of the call in progress
      deadline = spec.deadline or math.huge, -- while the tree is formed: of all waits together
      state = 'open',
      sequence = 0,
      scratches = {},
   }, Group)
   self.links = {}
   for _, link in ipairs { self.parent } do self.links[#self.links + 1] = link end
   for _, link in ipairs(self.children) do self.links[#self.links + 1] = link end
   self.needed = #self.links -- the first so many links are the tree's; the others only carry failures
   for _, link in ipairs(self.control) do self.links[#self.links + 1] = link end
   return self
end

--- Ends the call in progress on every node, with `code` and a text that names the node.
function Group.fail(_, code, what, ...)
   if select('#', ...) > 0 then what = what:format(...) end
   error(setmetatable({ code = code, text = what }, Failure), 0)
end

--- The same, while this node's own caller gets `raw`.
function Group.failOwn(_, raw, code, what, ...)
   error(setmetatable({ code = code, text = what:format(...), raw = raw }, Failure), 0)
end

--- Another node told that the tree is broken.
local function told(message)
   local code, text = tostring(message[2]), message[3]
   -- What is no code of ours comes from no node of ours.
   if not ipc.errcode(('libipc [%s] '):format(code)) then code = 'protocol' end
   if type(text) ~= 'string' then text = 'a node sent an error without words' end
   error(setmetatable({ code = code, text = text }, Failure), 0)
end

local function name(self)
   return self.call and ('%s (call %d of this tree)'):format(self.call, self.sequence) or 'forming the tree'
end

function Group:lost(link)
   -- It may have said why before it went, or somebody else may know.
   for _ = 1, 3 do
      for _, other in ipairs(self.links) do
         local message = other:look()
         if message and message[1] == 'error' then told(message) end
         if message and message[1] == 'close' and other == link then self:left(link) end
      end
      ipc.sleep(0.02)
   end
   self:fail('closed', 'node %d ended or lost its connection (%s), noticed by node %d in %s', link.index,
      link.gone or link.deaf, self.index, name(self))
end

function Group:left(link)
   self:fail('closed', 'node %d closed its tree, noticed by node %d in %s', link.index, self.index, name(self))
end

--- Looks at every link but `except`: failures that were told, nodes that are gone.
function Group:lookAround(except)
   for i, link in ipairs(self.links) do
      if link ~= except then
         local message = link:look()
         if message then
            if message[1] == 'error' then told(message) end
            if message[1] == 'close' and i <= self.needed then self:left(link) end
            if i > self.needed then link.inbox = nil end
         elseif link.gone and i <= self.needed then
            self:lost(link)
         end
      end
   end
end

--- How long `link` may be silent. The node that waits for the culprit itself is to notice first, and to say who it is:
--- one that says that it waits for somebody else has longer, the more nodes are in between.
local function patience(self, link)
   local more = math.min(5, self.limit / 4)
   if not self.call then return link.leaf and self.limit or self.limit + more end
   return self.limit + more * (1 - 0.5 ^ link:distance(self.sequence))
end

--- Tells the other neighbours that this node waits too: once for each that it waits for, and again when that one says
--- so.
local function announce(self, awaited)
   if not self.call then return end
   local count, first = 0, self.announced ~= awaited
   self.announced = awaited
   for i = 1, self.needed do
      if self.links[i].news then count = count + 1 end
   end
   local message = { 'here', self.sequence, awaited:distance(self.sequence) + 1 }
   for i = 1, self.needed do
      local link = self.links[i]
      -- Not back to where the news came from.
      local others = link.news and count - 1 or count
      if link ~= awaited and (first or others > 0) then utils.try(link.send, link, message, 1) end
   end
   for i = 1, self.needed do self.links[i].news = false end
end

--- A message of `link` lies in the place of a tensor.
function Group:instead(link, what)
   local message = link.inbox
   if message[1] == 'error' then told(message) end
   if message[1] == 'close' then self:left(link) end
   self:fail('protocol', "node %d sent '%s' where node %d expected its %s (%s)", link.index, tostring(message[1]),
      self.index, what, name(self))
end

local function waitFor(self, link, attempt, what)
   local since = self.started or ipc.clock()
   local pause = math.min(0.02, self.limit)
   local halfway = self.call and self.limit / 2 or math.huge
   while true do
      local result = attempt(math.min(pause, math.max(self.deadline - ipc.clock(), 0)))
      if result then return result end
      if link.inbox then self:instead(link, what) end
      if link.gone then self:lost(link) end
      self:lookAround(link)
      announce(self, link)
      local now = ipc.clock()
      local passed, limit = now - math.max(since, link.heard), patience(self, link)
      if passed >= halfway then
         halfway = math.huge
         -- One that waits itself is not to blame; the node that waits for that one tells of it.
         if link.waits ~= self.sequence then
            utils.tell('node %d has waited %g s for the %s of node %d in %s, and waits as long again', self.index,
               self.limit / 2, what, link.index, name(self))
         end
      end
      if passed >= limit or now >= self.deadline then
         link.silent = true
         self:fail('timeout', 'node %d was silent for %.4g s while node %d waited for its %s in %s', link.index,
            math.min(self.limit, passed), self.index, what, name(self))
      end
      pause = math.min(slice, math.max(limit - passed, 0))
   end
end

--- The next message of `link`, while looking around.
function Group:await(link, what)
   local message = waitFor(self, link, function(seconds) return link:poll(seconds) end, what)
   if message[1] == 'error' then told(message) end
   if message[1] == 'close' then self:left(link) end
   return message
end

--- While the tree is formed: the next message of `link`, which has to be a `kind`.
function Group:expect(link, kind)
   local message = self:await(link, "'" .. kind .. "'")
   if message[1] ~= kind then
      self:fail('protocol', "node %d sent '%s' where node %d expected '%s' (%s)", link.index,
         tostring(message[1]), self.index,
         kind, name(self))
   end
   return message
end

--- Receives into `tensor`, while looking around. It is on its way, and may take as long again.
function Group:fill(link, tensor)
   link.heard = ipc.clock()
   waitFor(self, link, function(seconds) return link:fill(tensor, seconds) end, 'tensor')
end

--- Receives what follows a header: tensors into the leaves that are tensors; the others are in `values`, in order.
function Group:fillLeaves(link, list, values)
   local plain = 0
   for i = 1, list.count do
      if list.tensor[i] then
         self:fill(link, list.value[i])
      else
         plain = plain + 1
         leaves.set(list, i, values[plain])
      end
   end
end

--- A new tensor from `link`, likewise.
function Group:receive(link)
   link.heard = ipc.clock()
   return waitFor(self, link, function(seconds) return link:receive(seconds) end, 'tensor')
end

--- The error `e` of a header whose `n`-th plain leaf cannot travel, which says where that stands in the header, with
--- the leaf's own path in `list`.
local function atLeaf(self, e, list)
   local paths = {}
   for i = 1, list.count do
      if not list.tensor[i] then paths[#paths + 1] = list.path[i] and 'value.' .. list.path[i] or 'value' end
   end
   return utils.reworded(e, '[%w.]+:send: value%[%d%]%[(%d+)%]', function(n)
      return ('tree.%s: %s'):format(self.call:match '^%w+', paths[tonumber(n)] or 'value')
   end)
end

--- Sends `message` (a table of the tree's, or a tensor) to `link`; `more`: another one follows at once. `list`: whose
--- leaves the message holds.
function Group:send(link, message, more, list)
   local limit = math.min(self.limit, math.max(self.deadline - ipc.clock(), 0))
   local ok, sent = pcall(link.send, link, message, limit, more)
   if not ok then
      if utils.errcode(sent) == 'timeout' then
         link.silent = true
         self:fail('timeout', 'node %d took nothing for %g s while node %d sent to it in %s', link.index, self.limit,
            self.index, name(self))
      end
      if list then sent = atLeaf(self, sent, list) end
      self:failOwn(sent, 'worker', 'node %d could not send its part of %s: %s', self.index, name(self),
         utils.cause(sent))
   end
   if not sent then self:lost(link) end
   link.heard = ipc.clock() -- from now on it owes an answer
end

--- Sends those of `values` that are tensors to `link`, which a header has told of them.
function Group:sendTensors(link, list, values)
   local left = list.tensors
   for i = 1, list.count do
      if list.tensor[i] then
         left = left - 1
         self:send(link, values[i], left > 0)
      end
   end
   link.promised = false
end

--- The header of this call for `link`; a signature that the other end has already seen is not sent again. `promised`:
--- tensors follow it; `more`: at once.
function Group:sendHeader(link, direction, list, rest, promised, more)
   link.promised = promised
   rest[1], rest[2], rest[3] = direction, self.sequence, self.call
   if list then
      rest[4] = list.signature == link.signatureSent or list.signature
      link.signatureSent = list.signature
   else
      rest[4] = false
   end
   self:send(link, rest, more, list)
end

--- Waits for the header of this call from `link` and holds it against ours.
function Group:header(link, direction, list)
   local message = self:await(link, direction == 'up' and 'part' or 'result')
   local call, sequence, signature = message[3], message[2], message[4]
   -- Tensors that follow a result are on their way already, and are to be taken even where this call fails: a node that
   -- sends them hears of nothing meanwhile.
   if message[1] == 'down' then link.owed = message[8] or 0 end
   if message[1] ~= direction or sequence ~= self.sequence or call ~= self.call then
      self:fail('mismatch', 'node %d called %s where node %d called %s (call %d of this tree)', link.index,
         call, self.index,
         self.call, self.sequence)
   end
   if signature == true then
      signature = link.signatureGot
   elseif signature then
      link.signatureGot = signature
   end
   if list and list.signature and signature and signature ~= list.signature then
      local i, theirs, ours = leaves.difference(signature, list.signature)
      self:fail('mismatch', 'node %d called %s with %s as leaf %d where node %d has %s (call %d of this tree)',
         link.index,
         self.call, theirs, i, self.index, ours, self.sequence)
   end
   message[4] = signature
   return message
end

--- A tensor of the same type and sizes as `tensor`, kept from round to round under `role`.
function Group:scratch(role, about, tensor)
   local name_ = role .. ' ' .. about
   local kept = self.scratches[name_]
   if not kept then
      kept = { tensor = tensor:clone() }
      self.scratches[name_] = kept
   end
   kept.used = self.sequence
   return kept.tensor
end

--- Lets go of those that many calls have not used: sizes may change all the time.
local function tidy(self)
   if self.sequence % 64 ~= 0 then return end
   for name_, kept in pairs(self.scratches) do
      if kept.used <= self.sequence - 64 then self.scratches[name_] = nil end
   end
end

--- What a neighbour is still sending is read and thrown away: it learns of the failure once it is through. One of which
--- nothing comes for so many seconds is left alone: it may be the one that failed, and this node's caller waits.
local function drain(link, seconds)
   local now = ipc.clock()
   local deadline, idle, bytes = now + 5, now, link:bytes()
   while link.owed > 0 and not link.gone and not link.silent and now < deadline do
      local ok, e = pcall(link.connection.recv, link.connection, math.min(slice, seconds))
      if ok and type(e) == 'table' then return end -- its own failure: nothing follows
      if ok then
         link.owed = link.owed - 1
      elseif utils.errcode(e) ~= 'timeout' then
         return
      end
      now = ipc.clock()
      local came = link:bytes()
      if came ~= bytes then
         idle, bytes = now, came
      elseif now - idle >= seconds then
         return
      end
   end
end

--- Breaks the tree because of `e`, tells everyone and raises what this node's caller is to see.
function Group:breakDown(place, e, called)
   local failure = e
   if getmetatable(e) ~= Failure then
      failure = { code = utils.errcode(e) or 'worker', raw = e,
         text = ('node %d failed in %s: %s'):format(self.index, called, utils.what(e)) }
   end
   self.state, self.why = 'broken', failure.text
   for _, link in ipairs(self.links) do
      -- Who waits for a tensor loses the first message that comes in its place.
      local seconds = link.silent and 0 or 1
      for _ = 1, link.promised and 2 or 1 do
         pcall(link.send, link, { 'error', failure.code, failure.text }, seconds)
      end
   end
   for _, link in ipairs(self.links) do drain(link, math.min(1, self.limit / 4)) end
   if failure.raw ~= nil then error(failure.raw, 0) end
   utils.raise(failure.code, place, '%s', failure.text)
end

--- One collective call: `body(group, …)` with everything that it needs to fail on all nodes together. `detail` (which
--- reduction) has to be the same on all nodes as `operation` has; `limit` is how long a neighbour may be silent.
function Group:within(limit, operation, detail, body, ...)
   local place = 'tree.' .. operation
   if self.state == 'closed' then utils.raise('state', place, 'the tree is closed') end
   if self.state == 'broken' then
      utils.raise('state', place, 'the tree is broken, close it: %s', self.why)
   end
   if self.call then utils.raise('state', place, '%s is still running on this tree', self.call) end
   self.sequence, self.limit = self.sequence + 1, limit
   self.started, self.announced = ipc.clock(), nil
   self.call = detail and ('%s by %s'):format(operation, detail) or operation
   local ok, a, b = pcall(body, self, ...)
   local called = name(self)
   self.call, self.started = nil, nil
   if ok then
      tidy(self)
      return a, b
   end
   self:breakDown(place, a, called)
end

--- What a call is to begin with, `look(group, …)`. The other nodes wait for one whose value is refused: where `look`
--- raises, the call ends on all of them.
function Group:prepare(limit, operation, detail, look, ...)
   local ok, result = pcall(look, self, ...)
   if ok then return result end
   self:within(limit, operation, detail, function() error(result, 0) end)
end

--- Forms the tree: `body()`, and on failure everything in `opened` is closed and all nodes are told.
function Group:form(place, body, opened)
   local ok, result = pcall(body)
   if ok then return result end
   for _, connection in ipairs(opened or {}) do pcall(connection.close, connection) end
   self:breakDown(place, result, name(self))
end

--- Tells the neighbours and lets go of everything.
function Group:close()
   if self.state == 'closed' then return false end
   for i = 1, self.needed do pcall(self.links[i].send, self.links[i], { 'close' }, 1) end
   self.state = 'closed'
   self.scratches, self.last = {}, nil
   return true
end

return Group
