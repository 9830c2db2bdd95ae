---@meta ipc

-- Everything public of libipc, annotated for the Lua language server (LuaLS): the manual (doc/api.md) is made from
-- this file, and spec/annotations_spec.lua compares it with what the module exports, both ways.
--
-- How to add to it: a class is `---@class ipc.NAME` over `local NAME = {}`, its methods are `function
-- NAME:method(...) end` (written with a colon, or with a dot where it is called with one), below the class. Above each:
-- what it does, then `---@param` and `---@return` lines. A table of options is a class `---@class (exact)
-- ipc.NAMEOptions: table<'a'|'b', any>` with a field for each option, followed by an empty line; by the keys of that
-- table a language server knows an option that there is not. Time-outs are in seconds everywhere; a parameter that
-- takes one is an `ipc.timeout`. Programs that are checked against all this are in tests/annotations/.

--- Parallel computing for Lua: threads, processes, message passing and collectives over tensors.
---@class ipc
---@field _VERSION string the version, as `libipc 0.1.0`
---@field channel ipc.channel.statuses makes a channel when it is called, and holds the statuses
---@field sharedtable ipc.sharedtable.module makes a shared table when it is called, and holds its functions
local ipc = {}

-- ## Conventions

--- A time-out: a number of seconds; true is 0, false is for ever; or `{ timeout = … }`.
---@alias ipc.timeout number|boolean|ipc.CallOptions

--- What a call takes in the place of its time-out.
---@class (exact) ipc.CallOptions: table<'timeout', any>
---@field timeout? number|boolean seconds; true is 0, false is for ever

--- What kind of value `x` is: `'ipc.channel'`, `'torch.FloatTensor'`, …, or `type(x)`.
---@param x any
---@return string
function ipc.type(x) end

--- A tensor of zeros in memory that this process shares with the children it forks from now on, and that goes to other
--- threads of the process by reference also over clients and servers, where `share = true` asks for it. It cannot be
--- resized.
---@param type string `'Float'`, `'torch.FloatTensor'`
---@param ... integer|torch.Storage|integer[] its sizes
---@return torch.Tensor
function ipc.sharedTensor(type, ...) end

--- The code of an error that pcall caught: `'timeout'`, `'closed'`, `'refused'`, `'protocol'`, `'mismatch'`,
--- `'unsupported'`, `'limit'`, `'auth'`, `'cancelled'`, `'state'`, `'argument'`, `'io'`, `'cuda'` or `'worker'`; nil
--- for an error that is not ours. A position or a traceback around the error does not matter.
---@param e any
---@return string?
function ipc.errcode(e) end

--- What is alive, and what each thread waits for: the first thing to print when something seems stuck. `tostring` makes
--- it readable. Any thread can have it at any time; nothing is stopped for it.
---@return ipc.Report
function ipc.report() end

--- An object in a report.
---@class (exact) ipc.Report.Object
---@field id integer its number
---@field class string as `ipc.type` says it
---@field state string as `tostring` says it

--- A thread in a report.
---@class (exact) ipc.Report.Thread
---@field name string
---@field id integer the operating system's number of it
---@field waiting? string the call that it sleeps in
---@field object? integer the `id` of the object that this is a method of
---@field since? number since when it sleeps, on the clock of `ipc.clock()`
---@field background? boolean true: it is one of the library's own

--- What `ipc.report` returns.
---@class ipc.Report
---@field process integer the number of the process
---@field objects ipc.Report.Object[] every object that lives, oldest first
---@field threads ipc.Report.Thread[] every thread
---@field tensor_bytes integer the memory of all tensors
local report = {}

-- ## Values

--- Options of `ipc.register`.
---@class (exact) ipc.RegisterOptions: table<'peers', any>
---@field peers? boolean true: tables from other processes may take the metatable though it has `__gc` or `__close`

--- Options of what reads values that may hold functions: bytecode is code.
---@class (exact) ipc.CodeOptions: table<'functions', any>
---@field functions? boolean true: functions are accepted

--- Gives a metatable a name, so that tables with it travel: they arrive with the metatable that the receiver
--- registered under the same name. Torch's classes have their names already. From another process no table takes a
--- metatable with `__gc` or `__close` unless that was registered with `{ peers = true }` (`{ peers = false }` takes it
--- back). Between threads no name is needed where a loaded module leads to the metatable. `false` for a name: tables
--- with it travel without it.
---@param name string|false
---@param metatable table
---@param options? ipc.RegisterOptions
---@return table metatable
function ipc.register(name, metatable, options) end

--- Turns a value into a message that can be read any number of times, in any thread: `ipc.marshal(v):read()` is a deep
--- copy. Tensors and objects of ipc are kept by reference.
---@param value any anything but nil
---@param upvalues? any let functions take their upvalues along
---@param size? integer taken for the sake of old scripts
---@param increment? integer likewise
---@return ipc.marshal
function ipc.marshal(value, upvalues, size, increment) end

--- The value in bytes that `marshal:bytes()` or another MessagePack writer made. They may come from anywhere: what is
--- no value is an error.
---@param bytes string
---@param options? ipc.CodeOptions
---@return any
function ipc.unmarshal(bytes, options) end

--- A value turned into a message: goes to other threads by reference.
---@class ipc.marshal
local marshal = {}

--- The value, anew at each call.
---@return any
function marshal:read() end

--- The wire form, for a file or another process. Tensors and storages are in it as they are now; objects of ipc have no
--- such form, and are refused with the path to them.
---@return string
function marshal:bytes() end

--- Lets go of the message; others who hold it keep it.
function marshal:close() end

-- ## Client–server

---@alias ipc.ConnectionOption
---| 'secret'
---| 'encrypt'
---| 'insecure'
---| 'max_message'
---| 'max_tensor_bytes'
---| 'functions'
---| 'connect_timeout'
---| 'timeout'
---| 'transport'

--- Over what two ends talk: what is best for both (memory between threads of one process, else the socket that they met
--- on), or one kind alone. One that cannot be is `[unsupported]`.
---@alias ipc.Transport
---| 'auto'
---| 'memory'
---| 'unix'
---| 'tcp'

--- Options of `ipc.server` and `ipc.client`. The environment gives defaults: `IPC_SECRET`, `IPC_INSECURE=1`,
--- `IPC_FUNCTIONS=1`, `IPC_TRANSPORT=tcp`; `IPC_LOG=info` or `debug` tells on stderr over which link each connection
--- goes.
---@class (exact) ipc.ConnectionOptions: table<ipc.ConnectionOption, any>
---@field secret? string both ends must have the same one
---@field encrypt? boolean with a secret, connections are encrypted unless both ends say false; true requires a secret
---@field insecure? boolean true: a peer that proves nothing is taken if it is `insecure`, too
---@field max_message? number bytes of a message without its tensors' data; 1 GiB
---@field max_tensor_bytes? number bytes of tensors' data in a message; 1 GiB from a peer that proved nothing, else any
---@field functions? boolean true: functions may be sent and received, if both ends say so
---@field connect_timeout? number|boolean how many seconds a client tries; 300
---@field timeout? number|boolean how many seconds a call waits that is told no time; for ever
---@field transport? ipc.Transport which link to use; `'auto'`

--- Options of `send`.
---@class (exact) ipc.SendOptions: table<'timeout'|'more'|'share', any>
---@field timeout? number|boolean seconds
---@field more? boolean true: another message follows at once; over TCP both may then leave together
---@field share? boolean true: tensors go by reference, all of them in shared memory, or nothing does (`[unsupported]`)

--- Options of `broadcast`.
---@class (exact) ipc.BroadcastOptions: table<'timeout'|'share', any>
---@field timeout? number|boolean seconds
---@field share? boolean true: tensors go by reference, all of them in shared memory

--- Options of `recvAny`.
---@class (exact) ipc.RecvAnyOptions: table<'timeout'|'gone', any>
---@field timeout? number|boolean seconds
---@field gone? boolean true: clients that have gone are told

--- Listens at `host` and `port` and takes connections in the background from then on. `ipc.server(port)` listens at
--- 127.0.0.1; port 0, the default, is any free one. `host` is an address, a name, `'*'` (every IPv4 address) or
--- `'unix:/path'`. The options stand last, in place of whatever is left out.
---@param host? string|number|ipc.ConnectionOptions
---@param port? number|string|ipc.ConnectionOptions
---@param options? ipc.ConnectionOptions
---@return ipc.server server
---@return integer port the real one; 0 for a Unix socket
function ipc.server(host, port, options) end

--- Connects to a server, which may start later: tries again, with growing pauses, until option `connect_timeout` (300
--- seconds) is over. A host that does not resolve fails at once. `ipc.client(port)` connects to 127.0.0.1.
---@param host string|number
---@param port? number|string|ipc.ConnectionOptions
---@param options? ipc.ConnectionOptions
---@return ipc.client
function ipc.client(host, port, options) end

--- What went one way over a connection.
---@class (exact) ipc.DirectionStats
---@field num_bytes integer
---@field num_regions integer
---@field num_calls integer
---@field num_system_calls integer
---@field total_seconds number
---@field system_seconds number
---@field cuda_sync_seconds number
---@field cudacliser_profile_seconds number
---@field cuda_ipc_bytes integer
---@field ['NETWORK MB/s'] number
---@field ['CUDA IPC MB/s'] number

--- What a connection has carried.
---@class (exact) ipc.ConnectionStats
---@field tx ipc.DirectionStats what was sent
---@field rx ipc.DirectionStats what was received
---@field transport string the kind of link: `'memory'`, `'tcp'`, `'unix'`

--- What all connections of a server have carried together.
---@class (exact) ipc.ServerStats
---@field tx ipc.DirectionStats what was sent
---@field rx ipc.DirectionStats what was received
---@field transports table<string, integer> how many clients are connected over each kind of link
---@field num_rejected integer how many clients were ended for what they sent

--- What clients connect to.
---@class ipc.server
local server = {}

--- `server:clients(n, fn, [timeout])` admits clients in order of arrival until n are in, never more, then calls
--- `fn(client)` for each that is admitted. `server:clients(fn, [tag], [invert])` visits those that are admitted, with
--- that tag if one is given. They are visited by ascending id (with `invert` true or 1 by descending id), equal ids in
--- order of arrival. Returns how many were visited. Without a function it returns a list of their handles:
--- `server:clients()`, `server:clients(nil, [tag], [invert])`.
---@param n integer|fun(client: ipc.server.client): ...
---@param fn? string|boolean|integer|fun(client: ipc.server.client): ...
---@param timeout? ipc.timeout seconds
---@return integer visited
---@overload fun(self: ipc.server): ipc.server.client[]
---@overload fun(self: ipc.server, none: nil, tag?: string, invert?: boolean|integer): ipc.server.client[]
function server:clients(n, fn, timeout) end

--- Sends `value`, encoded once, to the admitted clients, or to those with the tag, to all at once: a slow one keeps
--- none of the others waiting. Returns how many took it. A client that has gone is passed over (`recvAny` with `gone`
--- tells of it), and so is one that does not accept such a message, which is an error only where no client does. When
--- time runs out before all have it, `[timeout]` says how many have not; one in the middle of the message is closed.
---@param value any
---@param tag? string|ipc.BroadcastOptions
---@param timeout? number|boolean|ipc.BroadcastOptions seconds; may stand in the first place
---@return integer reached
function server:broadcast(value, tag, timeout) end

--- The next whole message of any client, or of those with the tag, and the client. Clients take turns. Clients that
--- have connected, or do so meanwhile, are admitted. Nothing that a client sends makes this raise: a message that is
--- malformed, or that this end does not accept, ends the connection of its sender (`num_rejected` of `netStats` counts
--- them, `IPC_LOG` tells), and a client that has gone is forgotten. With `{ gone = true, timeout = n }` both are told,
--- once: `nil, client, reason`. A message never has a third result.
---@param tag? string|number|boolean|ipc.RecvAnyOptions
---@param timeout? number|boolean|ipc.RecvAnyOptions seconds, or options; may stand in the first place
---@return any value
---@return ipc.server.client client
---@return string? reason why the client has gone; there is no value then
function server:recvAny(tag, timeout) end

--- As `recvAny`, and raises no `[timeout]`: true, the value and the client, or false.
---@param tag? string|ipc.timeout
---@param timeout? ipc.timeout seconds; nothing is 0; may stand in the first place
---@return boolean found
---@return any value
---@return ipc.server.client? client
function server:tryrecvAny(tag, timeout) end

--- Where it listens: `127.0.0.1:40000`, `unix:/path`.
---@return string
function server:address() end

--- What all clients have carried together, those that have gone included.
---@return ipc.ServerStats
function server:netStats() end

--- A descriptor that polls readable while somebody connects or a client has sent something, and what to poll it for:
--- for the loops of luv, cqueues and their like. Do not read from it.
---@param way? 'read'
---@return integer fd
---@return 'read' poll
function server:fd(way) end

--- Ends the server and the connections of its clients.
function server:close() end

--- A server's handle of one client; good until it is closed, also after the callback that got it.
---@class ipc.server.client
local handle = {}

--- Sends a value: tables, tensors and all, by value. `[timeout]` before its first byte has left changes nothing; after
--- it, the connection is closed. While it waits for room it receives, up to one whole message, which the next receive
--- gives. Tensors that have elements in common arrive sharing them. In a table, `more = true` beside `timeout` says
--- that another message follows at once: over TCP both may then leave together, and wake the receiver once; and
--- `share = true` that tensors go by reference, which takes shared memory (`ipc.sharedTensor`) and a link that can.
---@param value any
---@param timeout? number|boolean|ipc.SendOptions seconds
function handle:send(value, timeout) end

--- Receives the next message. With a tensor or storage in the first place, fills that and returns it: the message must
--- be one of its type and sizes, else it is lost and `[mismatch]` raised. A number in the first place is the time-out;
--- when time runs out, a part that has come is kept for the next call.
---@param into? torch.Tensor|torch.Storage|ipc.timeout
---@param timeout? ipc.timeout seconds
---@return any
function handle:recv(into, timeout) end

--- The next message if it is there, whole; nil if not. Never waits.
---@return any
function handle:recvAsync() end

--- As `recv`, and tells a nil message from none; raises no `[timeout]`.
---@param timeout? ipc.timeout seconds; nothing is 0
---@return boolean found
---@return any value
function handle:tryrecv(timeout) end

--- The number by which clients are visited, 0 at first; with an argument, sets it.
---@param n? integer
---@return integer
function handle:id(n) end

--- The tag by which calls choose clients, nil at first; with an argument, sets it.
---@param tag? string|number
---@return string?
function handle:tag(tag) end

--- Where the client comes from: its host (`127.0.0.1`), and its port; of a Unix socket `unix:` and its path alone.
---@return string host
---@return integer? port
function handle:address() end

--- What the connection has carried.
---@return ipc.ConnectionStats
function handle:netStats() end

--- A descriptor for the loops of luv, cqueues and their like, and what to poll it for: ready while there is something
--- to receive (with `'write'`: while there is room to write). Do not read from it.
---@param way? 'read'|'write'
---@return integer fd
---@return 'read'|'write' poll
function handle:fd(way) end

--- Ends the connection: calls blocked on it, in any thread, and all later ones raise `[closed]`, at both ends.
function handle:close() end

--- A connection to a server.
---@class ipc.client
local client = {}

--- As `send` of a server's client.
---@param value any
---@param timeout? number|boolean|ipc.SendOptions seconds
function client:send(value, timeout) end

--- As `recv` of a server's client.
---@param into? torch.Tensor|torch.Storage|ipc.timeout
---@param timeout? ipc.timeout seconds
---@return any
function client:recv(into, timeout) end

--- As `recvAsync` of a server's client.
---@return any
function client:recvAsync() end

--- As `tryrecv` of a server's client.
---@param timeout? ipc.timeout seconds; nothing is 0
---@return boolean found
---@return any value
function client:tryrecv(timeout) end

--- Where the server is, as it was given: `127.0.0.1:40000`.
---@return string
function client:address() end

--- As `netStats` of a server's client.
---@return ipc.ConnectionStats
function client:netStats() end

--- A descriptor for the loops of luv, cqueues and their like, and what to poll it for: ready while there is something
--- to receive (with `'write'`: while there is room to write). Do not read from it.
---@param way? 'read'|'write'
---@return integer fd
---@return 'read'|'write' poll
function client:fd(way) end

--- Ends the connection, as `close` of a server's client.
function client:close() end

-- ## map

--- Threads that run one function, each in a Lua state of its own. Collected, it cancels them.
---@class ipc.map
local map = {}

--- Options of `ipc.map`.
---@class (exact) ipc.MapOptions: table<'threads'|'fn'|'args'|'upvalues'|'init'|'name'|'cancel', any>
---@field threads? integer how many; `ipc.cpus()`
---@field fn function
---@field args? table a list, which `n` counts where it has nils
---@field upvalues? boolean true: functions bring their upvalues along
---@field init? function|string runs first in each thread, as in `map_extended`
---@field name? string of the threads
---@field cancel? 'calls'|'code' `'code'`: a cancel ends code that calls nothing also where that costs speed

--- Calls `fn(..., id)` in each of `n` new threads, `id` being 1 to n. Each has a clean Lua with the standard
--- libraries and `libipc`; the function and its arguments are copied there. `ipc.map { threads = n, fn = f, args = {
--- … } }` is the other form.
---@param n integer|ipc.MapOptions
---@param fn? function
---@param ... any
---@return ipc.map
function ipc.map(n, fn, ...) end

--- As `ipc.map`; first each thread calls `init`, a function or a string of Lua, without arguments.
---@param n integer
---@param init function|string|nil
---@param fn function
---@param ... any
---@return ipc.map
function ipc.map_extended(n, init, fn, ...) end

--- Waits until all threads have ended, and returns all results of thread 1, then of thread 2, … Raises `[worker]`
--- with the error and traceback of the first thread that failed; called again, it goes on with the next failure, or
--- the results of the others. `[timeout]` changes nothing. Once the results are given out it returns nothing.
---@param timeout? ipc.timeout seconds
---@return any ...
function map:join(timeout) end

--- For `for id, ... in m:results() do`: the id and the results of each thread, in the order in which they end; a step
--- that takes longer than `timeout` raises `[timeout]`. The failure of a thread is raised as `[worker]`; call `results`
--- again to go on. What was given or raised is left out of `join`.
---@param timeout? ipc.timeout seconds
---@return fun(): integer?, any ...
function map:results(timeout) end

--- Raises the error of a thread that has already failed, without waiting; `join` then leaves that thread out.
function map:checkErrors() end

--- How many threads still run.
---@return integer
function map:poll() end

--- Ends the threads: their blocked and their further ipc calls raise `[cancelled]`, and so does Lua code that runs, on
--- LuaJIT, 5.1 and 5.2, or where `cancel = 'code'` asked for it. For a quarter of a second after the first such error
--- calls that give something away without waiting (`trywrite`, `send`) still work, to clean up. Returns at once;
--- `join` then raises an error that contains `[cancelled]`.
function map:cancel() end

--- A descriptor that polls readable while all threads have ended, so that `join` would not wait, and what to poll it
--- for: for the loops of luv, cqueues and their like. Do not read from it.
---@param way? 'read'
---@return integer fd
---@return 'read' poll
function map:fd(way) end

-- ## pool

--- Options of `ipc.pool`.
---@class (exact) ipc.PoolOptions: table<'init'|'upvalues'|'name'|'cancel', any>
---@field init? function|string runs first in each worker
---@field upvalues? boolean true: functions take their upvalues along
---@field name? string of the threads
---@field cancel? 'calls'|'code' as in `ipc.map`

--- Warm workers: `n` threads, each with a Lua state of its own, that do one task after the other. The options may
--- stand in the first place.
---@param n? integer|ipc.PoolOptions how many; `ipc.cpus()`
---@param options? ipc.PoolOptions
---@return ipc.pool
function ipc.pool(n, options) end

--- Workers and the tasks that wait for them. Any thread that is handed it may submit. Collected, it is closed and
--- not waited for: what was submitted is done.
---@class ipc.pool
local pool = {}

--- Has `fn(...)` called by a worker as soon as one is free, in order of submission. Never waits. Values that cannot
--- travel are refused here, with their path.
---@param fn function
---@param ... any
---@return ipc.future
function pool:submit(fn, ...) end

--- Calls `fn(item)` in the workers for each item of the list (`list.n` counts it where it has nils), and returns
--- the first result of each, in the order of the list, with their number in `n`, since any may be nil. A bounded
--- number are on their way at a time. The first error that is met is raised, and items that wait are not begun;
--- likewise when time runs out.
---@param fn function
---@param list table
---@param timeout? ipc.timeout seconds, for all
---@return table results
function pool:map(fn, list, timeout) end

--- `for i, r in pool:each(fn, list) do`: as `map`, but gives the number of each item and all results of its call as
--- soon as it is done, in whatever order that is.
---@param fn function
---@param list table
---@param timeout? ipc.timeout seconds, for each step
---@return function iterator
---@return table state
function pool:each(fn, list, timeout) end

--- A batch, empty at first: tasks of this pool whose futures are taken in the order in which they end.
---@return ipc.batch
function pool:batch() end

--- Takes no more tasks, drops those that wait, and ends those that run; their futures say so. Waits for nothing.
function pool:cancel() end

--- Takes no more tasks, and waits until all that were submitted have ended, and the workers with them. `[timeout]`
--- leaves it closed and the rest at work; call it again to wait on.
---@param timeout? ipc.timeout seconds
function pool:close(timeout) end

--- What a task will give. It may be handed to other threads, and asked again and again.
---@class ipc.future
local future = {}

--- Waits for the task, and returns all that it returned. Raises `[worker]` with its error and the traceback in the
--- worker, `[cancelled]` if it was cancelled, `[timeout]` if it is not done in time, which changes nothing.
---@param timeout? ipc.timeout seconds
---@return any ...
function future:get(timeout) end

--- Whether the task has ended, however it did.
---@return boolean
function future:done() end

--- Cancels the task. One that waits never runs. One that runs is ended as `map:cancel` ends a thread, and another
--- worker takes the place of its; the future is done once the task has ended, or was abandoned a second later.
--- False if it had ended before. Returns at once.
---@return boolean cancelled
function future:cancel() end

--- A descriptor that polls readable once the task has ended, and what to poll it for: for the loops of luv, cqueues and
--- their like. Do not read from it.
---@param way? 'read'
---@return integer fd
---@return 'read' poll
function future:fd(way) end

--- Tasks of a pool whose futures are taken in the order in which they end; any thread may submit and take. `#batch`
--- is `batch:pending()`.
---@class ipc.batch
local batch = {}

--- As `pool:submit`.
---@param fn function
---@param ... any
---@return integer number of the task in this batch, from 1
---@return ipc.future future
function batch:submit(fn, ...) end

--- Takes the next future of a task that has ended. Nil when all are taken, and when none ends in time.
---@param timeout? ipc.timeout seconds
---@return integer? number
---@return ipc.future? future
function batch:next(timeout) end

--- `for number, future in batch:results([timeout]) do`: the tasks as they end, until all are taken. `[timeout]` when
--- none ends in time.
---@param timeout? ipc.timeout seconds for each
---@return fun(): integer?, ipc.future?
function batch:results(timeout) end

--- How many were submitted and not taken yet.
---@return integer
function batch:pending() end

--- A descriptor that polls readable while `next` would not wait, and what to poll it for: for the loops of luv, cqueues
--- and their like. Do not read from it.
---@param way? 'read'
---@return integer fd
---@return 'read' poll
function batch:fd(way) end

--- A function that runs in a thread beside this one: `require 'ipc.BackgroundTask'(fn, ...)`. Its functions are
--- called with a dot.
---@class ipc.BackgroundTask
local backgroundTask = {}

--- Whether the task has ended, however it did.
---@return boolean
function backgroundTask.isDone() end

--- Waits for the task, and returns all that it returned; raises its error with the traceback. May be called again.
---@param timeout? ipc.timeout seconds
---@return any ...
function backgroundTask.getResult(timeout) end

--- Ends the task, as `future:cancel` does; its result is then an error that says so.
---@return boolean cancelled false if it had ended before
function backgroundTask.cancel() end

--- Options of `ipc.BackgroundTaskPool`.
---@class (exact) ipc.BackgroundTaskPoolOptions: table<'closeOnLastTask'|'upvalues'|'onProgress', any>
---@field closeOnLastTask? boolean true: close the pool when no task is left whose result was not taken
---@field upvalues? boolean true: functions take their upvalues along
---@field onProgress? fun(done: integer, total: integer) called in this thread when a task has ended

--- Tasks that a bounded number of threads do beside this one: `require 'ipc.BackgroundTaskPool'(size, [opts])`. Its
--- functions are called with a dot, or with a colon.
---@class ipc.BackgroundTaskPool
local backgroundTaskPool = {}

--- Has `fn(...)` called as soon as a thread is free.
---@param fn function
---@param ... any
---@return integer id from 1 on
function backgroundTaskPool.addTask(fn, ...) end

--- Whether a task is unfinished.
---@return boolean
function backgroundTaskPool.hasTask() end

--- Whether task `id` has ended (one whose result was taken has), or without an id all have. With `block` it waits for
--- that: for ever (true), or so many seconds.
---@param id? integer
---@param block? ipc.timeout here true is for ever
---@return boolean
function backgroundTaskPool.isDone(id, block) end

--- Takes the result of task `id`, or without an id of the one that ended first of those that are left: waits for
--- it, and returns all that the task returned or raises its error with the traceback. A result is taken once; then, and
--- of an id that no task has, there is nothing.
---@param id? integer
---@param timeout? ipc.timeout seconds
---@return any ...
function backgroundTaskPool.getResult(id, timeout) end

--- Takes no more tasks, and waits until all have ended. Their results stay.
---@param timeout? ipc.timeout seconds
function backgroundTaskPool.close(timeout) end

--- Takes no more tasks, drops those that wait and ends those that run; the result of each is then an error that
--- says so.
function backgroundTaskPool.cancel() end

-- ## workqueue

--- Options of `ipc.workqueue`.
---@class (exact) ipc.WorkqueueOptions: table<'name'|'capacity'|'timeout', any>
---@field name? string
---@field capacity? integer how many questions, and how many answers, it holds; `write` waits while it is full
---@field timeout? number|boolean how many seconds a call waits that is told no time; for ever

--- A queue between one thread, its owner, and any number of others: the owner writes questions and reads answers, the
--- others read questions and write answers. `creator` is 1 for the caller that made the queue, and so owns it, 0 for
--- one that found it by its name; a queue without a name travels as a value. `size` and `increment` are taken for the
--- sake of old scripts; memory grows by itself.
---@param name? string|ipc.WorkqueueOptions
---@param size? integer
---@param increment? integer
---@return ipc.workqueue queue
---@return integer creator
function ipc.workqueue(name, size, increment) end

--- A handle of a work queue.
---@class ipc.workqueue
local workqueue = {}

--- Writes each argument as an item of its own, all or none. In a full queue it waits for room; `[timeout]` leaves the
--- queue as it was. What another thread than the owner writes after the owner has closed is dropped.
---@param ... any
function workqueue:write(...) end

--- As `write`, and functions take the values of their upvalues along.
---@param ... any
function workqueue:writeup(...) end

--- As `write`, but never waits: false, and nothing written, where there is no room.
---@param ... any
---@return boolean written
function workqueue:trywrite(...) end

--- The next item; nil when none came in time. `[closed]` once the owner has closed and nothing is left.
---@param timeout? ipc.timeout seconds; `true` is 0, nothing is for ever
---@return any item
function workqueue:read(timeout) end

--- As `read`, and tells a nil item from none.
---@param timeout? ipc.timeout seconds; nothing is 0
---@return boolean found
---@return any item
function workqueue:tryread(timeout) end

--- Waits until as many answers were written as questions, those in workers' hands included. Only for the owner.
---@param timeout? ipc.timeout seconds
function workqueue:drain(timeout) end

--- How many items wait to be read.
---@return integer questions
---@return integer answers
function workqueue:pending() end

--- A descriptor for the loops of luv, cqueues and their like, and what to poll it for: ready while there is something
--- to read, or the queue is closed (with `'write'`: while there is room to write). Do not read from it.
---@param way? 'read'|'write'
---@return integer fd
---@return 'read'|'write' poll
function workqueue:fd(way) end

--- Lets go of this handle. When the owner's last one is closed or collected, so is the queue.
function workqueue:close() end

-- ## channel

--- Options of `ipc.channel`.
---@class (exact) ipc.ChannelOptions: table<'capacity'|'timeout', any>
---@field capacity? integer how many items it holds; `write` waits while it is full
---@field timeout? number|boolean how many seconds a call waits that is told no time; for ever

--- A FIFO from any number of writers to any number of readers, which travels to other threads as a value.
---@param options? ipc.ChannelOptions
---@return ipc.channel
function ipc.channel(options) end

--- How far a channel has come, as its methods tell it: fields of `ipc.channel`.
---@class ipc.channel.statuses
---@field OPEN integer it takes items
---@field CLOSED integer it takes no more, and some are left to read
---@field DRAINED integer it takes no more, and all were read
---@overload fun(options?: ipc.ChannelOptions): ipc.channel
local statuses = {}

--- A channel; `#c` is how many items wait to be read.
---@class ipc.channel
---@operator len: integer
local channel = {}

--- Writes each argument as an item of its own, all or none, with no other writer's in between. OPEN: they were
--- written. CLOSED or DRAINED: the channel was closed, and none was. In a full channel it waits for room, until that
--- comes or the channel is closed; `[timeout]` leaves the channel as it was.
---@param ... any
---@return integer status
function channel:write(...) end

--- As `write`, and functions take their upvalues along.
---@param ... any
---@return integer status
function channel:writeup(...) end

--- As `write`, without waiting.
---@param ... any
---@return boolean written
---@return integer? status where they were not written: OPEN if there was no room
function channel:trywrite(...) end

--- The next item, after the status: OPEN, or CLOSED for what is left after the close. Without an item the status comes
--- alone: DRAINED if none will come any more, OPEN if none came in time.
---@param timeout? ipc.timeout seconds; true is 0
---@return integer status
---@return any item
function channel:read(timeout) end

--- True and the next item, or false and the status.
---@param timeout? ipc.timeout seconds; nothing is 0
---@return boolean found
---@return any item or the status
function channel:tryread(timeout) end

--- `for item in c:items() do`: each item until the channel is drained, or, with a time-out, until none came for so
--- long. A nil item is `[state]`: a loop cannot tell it from its end.
---@param timeout? ipc.timeout seconds; true is 0
---@return fun(): any
function channel:items(timeout) end

--- How many items wait to be read; `#c` is the same.
---@return integer
function channel:num_items() end

--- A descriptor for the loops of luv, cqueues and their like, and what to poll it for: ready while there is something
--- to read, or the channel is closed (with `'write'`: while there is room to write). Do not read from it.
---@param way? 'read'|'write'
---@return integer fd
---@return 'read'|'write' poll
function channel:fd(way) end

--- Closes the channel, for all who hold it: writes are refused from now on, blocked ones included, and readers get what
--- is left, then DRAINED. Twice is fine.
function channel:close() end

--- Whether the channel was closed.
---@return boolean
function channel:closed() end

--- Whether the channel was closed and every item was read.
---@return boolean
function channel:drained() end

-- ## mutex

--- Options of `ipc.mutex`.
---@class (exact) ipc.MutexOptions: table<'timeout', any>
---@field timeout? number|boolean how many seconds a call waits that is told no time, `with` among them; for ever

--- A recursive lock for threads, with a barrier beside it. It belongs to the Lua state that locks it: its coroutines
--- share it, and when the state ends it is free again; the next one to lock it is told.
---@param options? ipc.MutexOptions
---@return ipc.mutex
function ipc.mutex(options) end

--- A mutex.
---@class ipc.mutex
local mutex = {}

--- Waits until the mutex is free and takes it; `[timeout]` when it is not free in time. Locked n times, it takes n
--- unlocks. Returns nothing, unless the thread that held it before ended without unlocking it: then this caller has the
--- lock, and is told, once, that what it guards may be half changed.
---@param timeout? ipc.timeout seconds
---@return string? left who ended with the mutex locked
function mutex:lock(timeout) end

--- Takes the mutex if it is free, or becomes so in time.
---@param timeout? ipc.timeout seconds; nothing is 0
---@return boolean taken
---@return string? left as `lock` returns it
function mutex:trylock(timeout) end

--- Undoes one `lock`; `[state]` if this thread does not hold the mutex.
function mutex:unlock() end

--- Returns once `n` callers are here; then the next round begins. Has nothing to do with who holds the lock. Callers
--- that disagree about `n` all get `[mismatch]`; one that gets `[timeout]` no longer counts.
---@param n integer
---@param timeout? ipc.timeout seconds
function mutex:barrier(n, timeout) end

--- Calls `fn(...)` with the mutex locked and returns what it returns; unlocks it however `fn` ends.
---@param fn function
---@param ... any
---@return any ...
function mutex:with(fn, ...) end

--- A number that threads share: each call on it happens at once.
---@param n? number what it holds at first; 0
---@return ipc.atomic
function ipc.atomic(n) end

--- An atomic number.
---@class ipc.atomic
local atomic = {}

--- What it holds.
---@return number
function atomic:get() end

--- Makes it hold `n`.
---@param n number
---@return number before what it held until now
function atomic:set(n) end

--- Adds `n`.
---@param n number
---@return number sum what it holds now
function atomic:add(n) end

--- Makes it hold `new` if it holds `old`.
---@param old number
---@param new number
---@return boolean done
---@return number? held what it holds instead, where not done
function atomic:cas(old, new) end

-- ## Waiting on many

--- Waits until one of the objects is ready: a call on it then goes on without waiting, or reports at once that it is
--- closed. Of several that are ready the one comes first that `select` has not returned for the longest time. Another
--- thread may have been faster by the time of the call that follows: `tryread` and `tryrecv` do not wait.
---@param list any[] the objects; `{object, 'write'}` for one that is to have room to write
---@param timeout? ipc.timeout seconds; `true`: only look
---@return any object nil when none was ready in time
---@return integer? index its place in the list
function ipc.select(list, timeout) end

--- A descriptor that somebody else owns (a socket of another library, a pipe), to be waited for beside our objects. It
--- is not read, written or closed here; one that was closed counts as ready.
---@param n integer
---@return ipc.fd
function ipc.fd(n) end

--- A timer that ticks once.
---@param seconds number 0 or more
---@return ipc.timer
function ipc.after(seconds) end

--- A timer that ticks again and again.
---@param seconds number more than 0
---@return ipc.timer
function ipc.every(seconds) end

--- Options of `ipc.scheduler`.
---@class (exact) ipc.SchedulerOptions: table<'wait', any>
---@field wait async fun(fd: integer, mode: 'read'|'write', timeout?: number) yields until it is ready or time is over

--- In coroutines, from now on, calls of the library that would block call `wait` in place of it, which is to yield
--- until the descriptor is ready or the time is over; then they try again. The descriptor stays open until the next
--- call of this function, so that a loop may keep it. doc/select.md says which calls. Nil: no more. The main coroutine
--- blocks as ever. It is for this Lua state alone.
---@param options? ipc.SchedulerOptions
function ipc.scheduler(options) end

--- A descriptor of somebody else, from `ipc.fd`.
---@class ipc.fd
local descriptor = {}

--- The descriptor itself, and what to poll it for.
---@param way? 'read'|'write'
---@return integer fd
---@return 'read'|'write' poll
function descriptor:fd(way) end

--- A timer, from `ipc.after` or `ipc.every`. Threads may share it: each tick is read by one of them. In the child of a
--- fork it goes on, as the child's own.
---@class ipc.timer
local timer = {}

--- Waits for a tick and takes all that there are. One that ticks once, and was read, raises `[state]`; `[closed]` once
--- it is closed.
---@param timeout? ipc.timeout seconds
---@return integer? ticks since the last read; nil when there was none in time
function timer:read(timeout) end

--- A descriptor that polls readable while there is a tick to read, and what to poll it for: for the loops of luv,
--- cqueues and their like. Do not read from it.
---@param way? 'read'
---@return integer fd
---@return 'read' poll
function timer:fd(way) end

--- Ends it: blocked reads, and all later ones, raise `[closed]`.
function timer:close() end

-- ## sharedtable

--- A table that all threads of the process share: `t = ipc.sharedtable([tbl], [move])` makes one, with copies of the
--- fields of `tbl`; with `move` true each is taken out of `tbl` as it goes. `t[k]` and `t[k] = v` copy the value; what
--- goes between threads by reference (tensors, objects of ipc, other shared tables) is held by reference. Keys are
--- strings, numbers and booleans. `#t` counts all keys, `t == u` says whether both are the same table, and where Lua
--- has `__pairs` (5.2 and later), `pairs(t)` walks it. Its own functions are those of `ipc.sharedtable`, since `t.x` is
--- data.
---@class ipc.sharedtable
---@field [string] any what is there
---@field [number] any
---@field [boolean] any
---@operator len: integer

--- Makes shared tables, and holds their functions.
---@class ipc.sharedtable.module
---@overload fun(tbl?: table, move?: any): ipc.sharedtable
local sharedtable = {}

--- Puts `fn(t[k])` in the place of `t[k]`, in one step. No lock is held while `fn` runs: it runs again if another
--- thread wrote the key meanwhile. `fn` may use the table, but not write this key. An error in it changes nothing.
---@param t ipc.sharedtable
---@param k string|number|boolean
---@param fn fun(value: any): any
---@return any value what `fn` returned
function sharedtable.update(t, k, fn) end

--- Adds `n` to the number `t[k]` (nil is 0), in one step.
---@param t ipc.sharedtable
---@param k string|number|boolean
---@param n? number 1
---@return number sum
function sharedtable.incr(t, k, n) end

--- Makes `t[k]` `new` if it is `old`, in one step. Equal are: nil, booleans, numbers and strings as in Lua; tensors and
--- objects that are the same one. Other tables and functions are copies, so they are refused as `old`.
---@param t ipc.sharedtable
---@param k string|number|boolean
---@param old any
---@param new any
---@return boolean done
---@return any there what `t[k]` is, where not done
function sharedtable.cas(t, k, old, new) end

--- The keys, in no order.
---@param t ipc.sharedtable
---@return any[] list
function sharedtable.keys(t) end

--- `for k, v in ipc.sharedtable.pairs(t) do`, on every Lua: each key that is there all the while is met once; one that
--- comes or goes meanwhile may be met or not.
---@param t ipc.sharedtable
---@return function next
---@return userdata walk
---@return nil
function sharedtable.pairs(t) end

--- How many KB it holds, without what it refers to. The same as `ipc.sharedtable_size(t)`.
---@param t ipc.sharedtable
---@return number
function sharedtable.kbytes(t) end

--- How many KB a shared table holds, without what it refers to.
---@param t ipc.sharedtable
---@return number
function ipc.sharedtable_size(t) end

-- ## Trees

---@alias ipc.TreeOption
---| 'timeout'
---| 'base'
---| 'key'
---| 'secret'
---| 'encrypt'
---| 'insecure'
---| 'transport'
---| 'functions'
---| 'max_message'
---| 'max_tensor_bytes'

--- What the options of all trees have in common.
---@class ipc.AnyTreeOptions
---@field base? integer how many children a node has; 2
---@field key? string|number `LocalhostTree`: trees that live at the same time under one parent have different ones
---@field secret? string as in `ipc.server`
---@field encrypt? boolean as in `ipc.server`
---@field insecure? boolean as in `ipc.server`
---@field transport? ipc.Transport as in `ipc.server`
---@field functions? boolean as in `ipc.server`
---@field max_message? number as in `ipc.server`
---@field max_tensor_bytes? number as in `ipc.server`

--- Options of a tree.
---@class (exact) ipc.TreeOptions: ipc.AnyTreeOptions, table<ipc.TreeOption, any>
---@field timeout? number|boolean how many seconds a node may be silent; 1,800, or what `IPC_TIMEOUT` says

--- Options of `ipc.tree`.
---@class (exact) ipc.LaunchOptions: ipc.AnyTreeOptions, table<ipc.TreeOption|'nodes', any>
---@field timeout? number|boolean how many seconds a node may be silent; 1,800, or what `IPC_TIMEOUT` says
---@field nodes? integer how many nodes there have to be

--- The tree of all nodes that were launched together (by ipcrun), else of this one alone; the options are those of the
--- other trees. It also has `localIndex`, which of the nodes of its host this is, and `gpu`, the GPU that it may take,
--- from 1, or nil. `[state]` where a launcher's variables are set that it cannot use, or option `nodes` says another
--- number. doc/launch.md.
---@param options? ipc.LaunchOptions
---@return ipc.Tree
function ipc.tree(options) end

--- A node's place in a tree: a table whose functions are called with a dot (or a colon), by all nodes, in the same
--- order. Made by
--- `require 'ipc.LocalhostTree'(nodeIndex, numNodes, [ppid], [opts])`,
--- `require 'ipc.StaticTree'(nodeIndex, numNodes, nodeHost, nodePort, rootHost, rootPort, [opts])`,
--- `require 'ipc.DiscoveredTree'(nodeIndex, numNodes, nodeHost, nodePort, publish, query, [opts])`,
--- `require 'ipc.Tree'(nodeIndex, numNodes, base, server, client, host, port, [buildTree], [opts])` or
--- `require 'ipc.NullTree'([opts])`: doc/tree.md. When a call fails on one node, it raises on all, with the name of
--- the node.
---@class ipc.Tree
---@field nodeIndex integer this node, from 1; the root is 1
---@field numNodes integer how many there are
---@field localIndex? integer which of the nodes of its host this is, from 1; trees of `ipc.tree` have it
---@field gpu? integer the GPU that it may take, from 1; trees of `ipc.tree` have it where there is one
local tree = {}

--- Folds what the nodes bring, leaf by leaf, into one value that all get, to the same bits. Tensors are reduced in
--- place and tables filled. With `zero` this node has no more steps: it goes on taking part, contributing `zero(v, i)`
--- of each leaf, until all nodes have none, and gets the value of the round in which all did so, and 0; `value` may
--- then be nil.
--- `reduce` works in place or returns a new value; a node that is alone needs none. `zero` with a name is `true`, which
--- contributes nothing; the options may take its place.
---@param value any a number, a tensor, what `reduce` takes, or nested tables of these
---@param reduce? (fun(a: any, b: any): any)|'sum'|'mean'|'max'|'min'|'prod'
---@param zero? (fun(v: any, i: integer): any)|boolean|ipc.CallOptions
---@param opts? ipc.timeout
---@return any value
---@return integer contributors
function tree.allReduce(value, reduce, zero, opts) end

--- The root's value on every node, in place where this node passes a value of the same form.
---@param value any
---@param opts? ipc.timeout
---@return any value
function tree.scatter(value, opts) end

--- Returns when all nodes have called it.
---@param timeout? ipc.timeout how many seconds a node may be silent
function tree.barrier(timeout) end

--- Calls `f(leaf)` for each leaf of nested tables, keys sorted: numbers, strings, booleans. A result that is not nil
--- takes the leaf's place.
---@param t table
---@param f fun(leaf: any): any
---@return table t
function tree.walkTable(t, f) end

--- Prints what went over each link of this node, and returns it by node index.
---@return table<integer, ipc.ConnectionStats> stats
function tree.netStats() end

--- Lets go of what the tree opened, and not of what it was handed; the other nodes' further calls raise `[closed]`.
function tree.close() end

-- ## Processes

--- Where a standard stream of a program goes: `'pipe'`, `'inherit'`, `'null'`, a path, a descriptor, a file of Lua's.
---@alias ipc.stdio string|integer|userdata|file*

--- Options of `ipc.spawn`.
---@class (exact) ipc.SpawnOptions: table<'file'|'args'|'env'|'cwd'|'stdin'|'stdout'|'stderr'|'group'|'keep', any>
---@field file string a path, or a name that is looked up along `PATH`
---@field args? (string|number)[]
---@field env? table a list of `'NAME=value'` replaces the environment; values by name are added, false removes one
---@field cwd? string where it starts
---@field stdin? ipc.stdio `'pipe'`
---@field stdout? ipc.stdio `'pipe'`
---@field stderr? ipc.stdio `'inherit'`; `'stdout'`: where stdout goes
---@field group? boolean true: it leads a process group, which signals then go to
---@field keep? number bytes of a stream kept while nobody reads it; 64 MiB, past which a read raises `[limit]`

--- Starts a program. Collected while it runs, it gets a SIGTERM. doc/spawn.md.
---@param options ipc.SpawnOptions
---@return ipc.spawn
function ipc.spawn(options) end

--- A program that was started.
---@class ipc.spawn
local process = {}

--- Its process id.
---@return integer
function process:pid() end

--- Whether it runs.
---@return boolean
function process:running() end

--- Sends `signal` if one is given, closes stdin, and empties the pipes until the process ends. Its end is told as often
--- as it is asked for. `[timeout]` leaves it running, with its stdin closed.
---@param signal? integer|string|ipc.CallOptions a number, or a name as `'TERM'`
---@param timeout? ipc.timeout seconds
---@return integer code its exit code; 0 if a signal that was sent through this object ended it; 128 + n for another one
---@return string? signal the name of that other signal, as `SIGKILL`
function process:wait(signal, timeout) end

--- Sends a signal.
---@param signal? integer|string SIGTERM if it is not given
---@return boolean ran false when it had ended already
function process:kill(signal) end

--- Writes all of `s`; without it, closes the pipe. `[closed]` when nobody reads it any more; `[timeout]` says how much
--- was taken.
---@param s? string|number
---@param timeout? ipc.timeout seconds
function process:stdin(s, timeout) end

--- Reads what the process writes: `'*line'`, or nothing, the next line without its newline (`'*L'` with it); `'*all'`
--- until the end; a number, one read of up to so many bytes. What had come when time runs out stays for the next read.
---@param what? '*line'|'*L'|'*all'|integer|ipc.CallOptions
---@param timeout? ipc.timeout seconds
---@return string? text nil at the end
function process:stdout(what, timeout) end

--- As `stdout`, of a process that was started with `stderr = 'pipe'`.
---@param what? '*line'|'*L'|'*all'|integer|ipc.CallOptions
---@param timeout? ipc.timeout seconds
---@return string? text nil at the end
function process:stderr(what, timeout) end

--- The descriptor of the pipe from its stdout, for poll or as another one's stdin; nil after its end. Waits
--- until no other thread reads.
---@param timeout? ipc.timeout seconds
---@return integer?
function process:stdoutFileId(timeout) end

--- As `stdoutFileId`.
---@param timeout? ipc.timeout seconds
---@return integer?
function process:stderrFileId(timeout) end

--- A descriptor that polls readable once the process has ended, for schedulers. Do not read from it.
---@param way? 'read'
---@return integer fd
---@return 'read' poll
function process:fd(way) end

--- Forks this process: 0 in the child. The child has this thread alone; it can use every part of the library afresh,
--- and goes on with queues, mutexes and tensors as its own. Connections stay the parent's.
---@return integer pid
function ipc.fork() end

--- Waits for a child to end. Its end is told once.
---@param pid integer
---@param timeout? ipc.timeout seconds; `[timeout]` when it runs on
---@return integer code its exit code; 128 + n if signal n ended it
---@return string? signal the name of that signal, as `SIGKILL`
function ipc.waitpid(pid, timeout) end

--- The number of this process.
---@return integer
function ipc.getpid() end

--- The number of this process's parent.
---@return integer
function ipc.getppid() end

--- The operating system's number of this thread.
---@return integer
function ipc.gettid() end

--- Whether this is macOS.
---@return boolean
function ipc.isOSX() end

--- Whether the library was built with assertions, for those who work on it.
---@return boolean
function ipc.isDevel() end

--- Does nothing for so long. Ctrl-C ends it.
---@param seconds number
function ipc.sleep(seconds) end

--- Seconds of a clock that never jumps, to nanoseconds; its zero means nothing.
---@return number
function ipc.clock() end

--- How many cores this process may use: its affinity and its cgroup's quota counted.
---@return integer
function ipc.cpus() end

--- Locks the file at `path`: one holder at a time has it, of all threads and processes. The file is made if it is
--- missing (for its owner only); with `true` for the time-out, which does not wait, it never is. nil where the lock was
--- not to be had.
---@param path string
---@param timeout? ipc.timeout seconds
---@return ipc.flock? lock
function ipc.flock(path, timeout) end

--- The lock of a file. It is free once it is closed or collected, or its process has died.
---@class ipc.flock
local flock = {}

--- All that is in the file.
---@return string
function flock:read() end

--- Puts `s` in place of what is in the file.
---@param s string
function flock:write(s) end

--- Frees the lock.
function flock:close() end

return ipc
