--- How the nodes of a tree find their places: the root admits them one by one, hands out the free indices and the
--- parents, and starts all at once when every link of the tree is there.
---
---     node -> root     `join` index numNodes token; later perhaps `left` seconds: it waits no longer
---     root -> node     `refuse` code text, or `place` index parent children leaves secret (leaves: which have none)
---     node -> root     `at` host port: where its children find it
---     root -> node     `links` host port: where its parent listens
---     node -> parent   `child` index secret
---     node -> root     `ready`
---     root -> node     `start`
---
--- Children of the root keep the connection that they came by as their link.

local ipc = require 'libipc'
local Group = require 'ipc.collective.group'
local Link = require 'ipc.collective.link'
local shape = require 'ipc.collective.shape'
local utils = require 'ipc.utils'

local meet = {}

local function close(connection)
   pcall(connection.close, connection)
end

--- Where a client comes from: in words, and the host alone where it is known.
local function address(connection)
   local ok, host, port = pcall(connection.address, connection)
   if not ok then return 'an unknown address' end
   if not port then return host end
   return (host:find(':', 1, true) and '[%s]:%d' or '%s:%d'):format(host, port), host
end

--- The fields of a message of kind `kind`, up to four; nothing for anything else. A stranger may send any value: none
--- of its metamethods is called.
local function fields(message, kind)
   if type(message) ~= 'table' or rawget(message, 1) ~= kind then return nil end
   return kind, rawget(message, 2), rawget(message, 3), rawget(message, 4)
end

--- A value of a stranger in words.
local function shown(value)
   if type(value) == 'number' or type(value) == 'string' then return tostring(value):sub(1, 40) end
   return 'a ' .. type(value)
end

--- Why the root cannot take this node; nil when it can.
local function objection(spec, nodes, index, count, token)
   if spec.token and not rawequal(token, spec.token) then return 'auth', 'this is the root of another tree' end
   if not rawequal(count, spec.count) then
      return 'refused', ('it wants a tree of %s nodes, the root makes one of %d'):format(shown(count), spec.count)
   end
   if not index then return nil end
   if type(index) ~= 'number' or index ~= math.floor(index) or index < 1 or index > spec.count then
      return 'refused', ('node index %s: expected a whole number from 2 to %d'):format(shown(index), spec.count)
   end
   if index == 1 then return 'refused', 'node index 1 is taken by the root' end
   if nodes[index] then
      return 'refused', ('node index %d is taken by %s'):format(index, (address(nodes[index].connection)))
   end
end

--- The next message of any client of `server`, admitting those who connect: message and handle, or nil after `seconds`.
--- A client that sends what is no message is turned away there.
local function next_(server, seconds)
   local found, message, handle = server:tryrecvAny(nil, seconds)
   if found then return message, handle end
end

-- So many of those that have not come are named.
local named = 20

--- The nodes that have not come; those that came without a number of their own will get the last ones.
local function missing(spec, nodes, joined)
   local left, names, index = spec.count - 1 - #joined, {}, 2
   while #names < left and #names < named do
      if not nodes[index] then names[#names + 1] = tostring(index) end
      index = index + 1
   end
   return table.concat(names, ', ') .. (left > named and (' and %d more'):format(left - named) or '')
end

--- A node that has joined is watched while the others are waited for.
local function watch(spec, nodes, joined)
   for _, link in ipairs(joined) do
      local kind, seconds = fields(link:look(), 'left')
      local code, how = 'closed', 'ended'
      if kind then code, how = 'timeout', ('waited %s s, its time-out, and left'):format(shown(seconds)) end
      if kind or fields(link.inbox, 'close') or link.gone then
         utils.raise(code, spec.place, 'node %s (%s) %s before all nodes had come (missing: %s)%s',
            link.index or 'without an index', (address(link.connection)), how, missing(spec, nodes, joined),
            spec.hint or '')
      end
   end
end

local function turnAway(handle, code, why)
   pcall(handle.send, handle, { 'refuse', code, why }, { timeout = 1 })
   close(handle)
end

--- Waits until every node has come; returns their links by index. `joined` collects the links as they come.
local function admit(spec, joined)
   local nodes, anonymous, refused = {}, {}, 'none'
   -- Where there is a hint at what may be wrong, it is given soon.
   local waits = math.min(spec.timeout / 2, spec.hint and 10 or math.huge)
   local halfway = ipc.clock() + waits
   while #joined < spec.count - 1 do
      local message, handle = next_(spec.server, spec:left(0.1))
      local joins, index, count, token = fields(message, 'join')
      -- What a tree before left in the same connection.
      if fields(message, 'close') then handle = nil end
      if fields(message, 'left') then
         for _, link in ipairs(joined) do
            if link.connection == handle then link.inbox = message end
         end
         handle = nil
      end
      if handle and not joins then
         close(handle)
      elseif handle then
         index = index or nil
         local code, why = objection(spec, nodes, index, count, token)
         if code then
            refused = why
            turnAway(handle, code, why)
         else
            local link = Link.new(index, handle)
            joined[#joined + 1] = link
            if index then nodes[index] = link else anonymous[#anonymous + 1] = link end
         end
      end
      -- Only when nobody comes: with a thousand nodes this is a thousand calls.
      if not handle then watch(spec, nodes, joined) end
      if #joined < spec.count - 1 and ipc.clock() >= halfway then
         halfway = math.huge
         utils.tell('%s: node 1 has waited %g s for %d of %d nodes (missing: %s), and waits %g s more%s', spec.place,
            waits, spec.count - 1 - #joined, spec.count, missing(spec, nodes, joined), spec.timeout - waits,
            spec.hint or '')
      end
      if #joined < spec.count - 1 and spec:left() == 0 then
         utils.raise('timeout', spec.place, '%d of %d nodes had not come after %g s (missing: %s; refused: %s)%s',
            spec.count - 1 - #joined, spec.count, spec.timeout, missing(spec, nodes, joined), refused, spec.hint or '')
      end
   end
   local free = 2
   for _, link in ipairs(anonymous) do
      while nodes[free] do free = free + 1 end
      nodes[free], link.index = link, free
   end
   repeat -- those who came too late, before any node has a reason to send
      local message, handle = next_(spec.server, 0)
      if handle then
         turnAway(handle, 'refused', ('all %d nodes have come'):format(spec.count))
      end
   until message == nil and handle == nil
   return nodes
end

local anyHost = { ['0.0.0.0'] = true, ['*'] = true, ['::'] = true }

--- Where others reach a node that listens at `host`: one that listens everywhere is reached where its own connection
--- comes from.
local function reachable(host, link)
   if not anyHost[host] then return host end
   local _, from = address(link.connection)
   return from or host
end

--- The root's side. Returns its group.
function meet.root(spec)
   local joined, nodes = {}, nil
   local ok, found = pcall(admit, spec, joined)
   if ok then
      nodes = found
   else
      for _, link in ipairs(joined) do
         pcall(link.send, link, { 'error', utils.errcode(found) or 'worker', utils.what(found) }, 1)
      end
      error(found, 0)
   end
   local all = {}
   for index = 2, spec.count do all[#all + 1] = nodes[index] end
   local secret = utils.token()
   local group = Group.new { index = 1, count = spec.count, children = all, timeout = spec.timeout,
      deadline = spec.deadline }
   return group:form(spec.place, function()
      local parents, children = shape(spec.place, spec.base, spec.count, spec.buildTree)
      for index = 2, spec.count do
         local leaves = {}
         for i, child in ipairs(children[index]) do leaves[i] = #children[child] == 0 end
         nodes[index].leaf = #children[index] == 0
         group:send(nodes[index], { 'place', index, parents[index], children[index], leaves, secret })
      end
      local places = {}
      for index = 2, spec.count do
         local at = group:expect(nodes[index], 'at')
         if at[2] then places[index] = { reachable(at[2], nodes[index]), at[3] } end
      end
      for index = 2, spec.count do
         local place = places[parents[index]] or {}
         group:send(nodes[index], { 'links', place[1] or false, place[2] or false })
      end
      for index = 2, spec.count do group:expect(nodes[index], 'ready') end
      for index = 2, spec.count do group:send(nodes[index], { 'start' }) end
      local near, far = {}, {}
      for index = 2, spec.count do
         local list = parents[index] == 1 and near or far
         list[#list + 1] = nodes[index]
      end
      return Group.new { index = 1, count = spec.count, children = near, control = far, timeout = spec.timeout }
   end)
end

--- A server for this node's children: where it was told to listen, or at any port there, if that one is taken.
local function listen(spec)
   local host = spec.host or '127.0.0.1'
   if spec.port and spec.port ~= 0 then
      local ok, server, port = pcall(ipc.server, host, spec.port, spec.connect)
      if ok then return server, host, port end
      if spec.fixedPort then error(server, 0) end
   end
   local server, port = ipc.server(host, 0, spec.connect)
   return server, host, port
end

--- Connects to the parent; looks at the root now and then, which may know that the parent is no more.
local function connect(spec, group, index, host, port)
   local options = {}
   for key, value in pairs(spec.connect or {}) do options[key] = value end
   while true do
      options.connect_timeout = spec:left(1)
      local ok, client = pcall(ipc.client, host, port, options)
      if ok then return client end
      local code = utils.errcode(client)
      if code ~= 'timeout' and code ~= 'refused' then error(client, 0) end
      group:lookAround()
      if spec:left() == 0 then
         group:fail('timeout', 'node %d could not reach its parent at %s:%s: %s', index, tostring(host), tostring(port),
            utils.cause(client))
      end
   end
end

--- Waits at `server` until all of `expected` (indices) have shown the secret; returns their links.
local function adopt(spec, group, server, expected, secret)
   local found, missingCount = {}, #expected
   local wanted = {}
   for _, index in ipairs(expected) do wanted[index] = true end
   while missingCount > 0 do
      local message, handle = next_(server, spec:left(0.1))
      if handle then
         local _, index, shownSecret = fields(message, 'child')
         if index and rawequal(shownSecret, secret) and wanted[index] and not found[index] then
            found[index], missingCount = Link.new(index, handle), missingCount - 1
         else
            close(handle)
         end
      end
      group:lookAround()
      if spec:left() == 0 then
         group:fail('timeout', '%d children of node %d had not come after %g s', missingCount, spec.index, spec.timeout)
      end
   end
   local links = {}
   for i, index in ipairs(expected) do links[i] = found[index] end
   return links
end

--- Every other node's side. Returns its group and what it opened for it; or nil, a code and a text when the root
--- refuses it.
---
--- `spec.still()` is asked now and then while the root is silent about us: false means that this root is none of
--- ours.
function meet.node(spec)
   local root = Link.new(1, spec.client)
   local answer
   if not root:send({ 'join', spec.index or false, spec.count, spec.token or false }, spec:left()) then
      return nil, 'closed', 'the root ended the connection: ' .. (root.gone or root.deaf)
   end
   repeat
      answer = root:poll(spec:left(0.1))
      if answer and answer[1] == 'close' then answer = nil end -- of a tree before, over the same connection
      if root.gone then return nil, 'closed', 'the root ended the connection: ' .. root.gone end
      if not answer and spec.still and not spec.still() then return nil, 'refused',
         'the root went without an answer' end
      if not answer and spec:left() == 0 then
         pcall(root.send, root, { 'left', spec.timeout }, 1)
         utils.raise('timeout', spec.place,
            'the root gave no place in the tree within %g s: not all of the %d nodes have come',
            spec.timeout, spec.count)
      end
   until answer
   if answer[1] == 'refuse' then return nil, answer[2], answer[3] end
   if answer[1] == 'error' then utils.raise(answer[2], spec.place, '%s', answer[3]) end

   local index, parent, expected, leaves, secret = answer[2], answer[3], answer[4], answer[5], answer[6]
   spec.index = index
   local opened = {}
   local group = Group.new { index = index, count = spec.count, parent = root, timeout = spec.timeout,
      deadline = spec.deadline }
   local final = group:form(spec.place, function()
      local server, host, port
      if #expected > 0 then
         server, host, port = listen(spec)
         opened[#opened + 1] = server
      end
      group:send(root, { 'at', host or false, port or false })
      local links = group:expect(root, 'links')
      local up = root
      if parent ~= 1 then
         local client = connect(spec, group, index, links[2], links[3])
         opened[#opened + 1] = client
         up = Link.new(parent, client)
         group:send(up, { 'child', index, secret })
      end
      local children = server and adopt(spec, group, server, expected, secret) or {}
      for i, child in ipairs(children) do child.leaf = leaves[i] end
      group:send(root, { 'ready' })
      group:expect(root, 'start')
      return Group.new { index = index, count = spec.count, parent = up, children = children,
         control = up ~= root and { root } or {}, timeout = spec.timeout }
   end, opened)
   return final, opened
end

return meet
