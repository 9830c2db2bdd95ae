//! `ipc.server`.

pub(in crate::bind) mod handle;

use std::cell::RefCell;
use std::ffi::c_int;
use std::sync::Arc;

use self::handle::push_client;
use crate::bind::codec::Route;
use crate::bind::peer::link::{Given, push_traffic};
use crate::bind::vm::{Class, ClassInfo, FD, Kind, Lua, Method, Pushed, collect};
use crate::err;
use crate::error::{Code, Error, Lossy, Result};
use crate::lua_fn;
use crate::peer::{self, Arrival};
use crate::sys::settle_shortage;
use crate::text;
use crate::transport::{Connection, SMALL_MESSAGE};
use crate::try_fn;
use crate::wait::{Deadline, Source, Way, source};
use crate::wire::{Attachment, Message, Object, downcast};

/// What the module offers of this.
pub(in crate::bind) const FUNCTIONS: &[Method] = &[("server", lua_fn!("ipc.server", server))];

/// The class `ipc.server`.
pub(in crate::bind) static INFO: ClassInfo = ClassInfo::of::<Server>("ipc.server", METHODS, &[]);

const METHODS: &[Method] = &[
    ("clients", lua_fn!("server:clients", clients)),
    ("broadcast", lua_fn!("server:broadcast", broadcast)),
    ("recvAny", lua_fn!("server:recvAny", recv_any)),
    ("tryrecvAny", lua_fn!("server:tryrecvAny", tryrecv_any)),
    ("address", lua_fn!("server:address", address)),
    ("netStats", lua_fn!("server:netStats", net_stats)),
    FD,
    ("close", lua_fn!("server:close", close)),
];

/// What yields under a scheduler.
pub(in crate::bind) const NON_BLOCKING: &[Method] = &[
    ("clients", try_fn!("server:clients", clients)),
    ("recvAny", try_fn!("server:recvAny", recv_any)),
    ("tryrecvAny", try_fn!("server:tryrecvAny", tryrecv_any)),
    ("broadcast", try_fn!("server:broadcast", broadcast)),
];

/// What a server counts for where garbage is measured, in bytes: its clients' buffers; and descriptors are scarce.
const WEIGHT: usize = 256 << 10;

/// What threads share of a server.
#[derive(Debug)]
struct ServerObject {
    server: Arc<peer::Server>,
    functions: bool,
    timeout: Option<f64>,
}

impl Object for ServerObject {
    fn class(&self) -> &'static str {
        INFO.name
    }

    fn state(&self) -> String {
        let server = &self.server;
        if !server.is_open() {
            return format!("closed, was at {}", server.address());
        }
        let (n, s) = (server.count(), if server.count() == 1 { "" } else { "s" });
        format!("open at {}, {n} client{s}", server.address())
    }

    fn weight(&self) -> usize {
        WEIGHT
    }
}

struct Server(Arc<ServerObject>);

impl Class for Server {
    fn info() -> &'static ClassInfo {
        &INFO
    }

    fn describe(&self) -> String {
        format!("ipc.server: {}", self.0.state())
    }

    fn attach(&self) -> Option<Attachment> {
        Some(Attachment::Object(self.0.clone()))
    }

    fn source(&self, way: Way) -> Result<Option<Box<dyn Source>>> {
        let shared = self.0.clone();
        let source = || source(shared, |s| s.server.is_ready().then_some(true), |s| s.server.fd());
        Ok((way == Way::Read).then(source))
    }

    fn adopt(_: Lua<'_>, object: Arc<dyn Object>) -> Option<Self> {
        downcast(object).map(Server)
    }
}

/// `ipc.server([host = '127.0.0.1'], [port = 0], [opts])` → server, port
fn server(lua: Lua<'_>) -> Result<Pushed> {
    let given = Given::read(lua, 0)?;
    let (functions, timeout) = (given.options.functions, given.timeout);
    let server = peer::Server::listen(&given.place, given.options, &lua.wait(Deadline::NEVER))?;
    let port = server.address().port();
    lua.push_object(Server(Arc::new(ServerObject { server, functions, timeout })))?;
    lua.push_integer(port.into());
    Ok(2)
}

fn this(lua: Lua<'_>) -> Result<Arc<ServerObject>> {
    Ok(lua.object::<Server>(1)?.0.clone())
}

fn tag_at(lua: Lua<'_>, i: c_int) -> Result<Option<&[u8]>> {
    lua.optional(i, Lua::bytes)
}

/// `server:clients(n, fn, [timeout])`, `server:clients(fn, [tag], [invert])`, `server:clients(fn, [invert])` → how many
/// were visited; `server:clients()` → a list of handles
fn clients(lua: Lua<'_>) -> Result<Pushed> {
    let shared = this(lua)?;
    let (list, f) = match lua.kind(2) {
        Kind::Number | Kind::String => {
            let n = lua.whole_in(2, 0..=i64::from(u32::MAX))? as usize;
            lua.check(3, Kind::Function)?;
            let deadline = lua.timeout(4, shared.timeout)?;
            shared.server.admit(n, &lua.wait(deadline))?;
            (shared.server.clients(None, false)?, 3)
        }
        Kind::Function | Kind::Nil | Kind::None => {
            let (tag, invert) = match lua.kind(3) {
                Kind::String => (tag_at(lua, 3)?, 4),
                Kind::Nil => (None, 4),
                _ => (None, 3),
            };
            (shared.server.clients(tag, inverted(lua, invert)?)?, 2)
        }
        _ => return Err(lua.expected(2, "a number of clients or a function")),
    };
    if lua.is_nil(f) {
        return push_clients(lua, &shared, list);
    }
    let count = list.len();
    for client in list {
        lua.push_value(f);
        push_client(lua, client, shared.timeout)?;
        lua.call(1, 0)?;
    }
    lua.push_integer(count as i64);
    Ok(1)
}

/// Pushes a list of the handles.
fn push_clients(lua: Lua<'_>, shared: &ServerObject, list: Vec<Arc<peer::Client>>) -> Result<Pushed> {
    lua.new_table(list.len().min(1 << 16) as c_int, 0)?;
    for (i, client) in list.into_iter().enumerate() {
        push_client(lua, client, shared.timeout)?;
        lua.raw_set_index(-2, i as i64 + 1)?;
    }
    Ok(1)
}

/// Whether slot `i` asks for the other order: 1 or true.
fn inverted(lua: Lua<'_>, i: c_int) -> Result<bool> {
    match lua.kind(i) {
        Kind::None | Kind::Nil => Ok(false),
        Kind::Boolean => Ok(lua.truth(i)),
        Kind::Number => Ok(lua.integer(i)? != 0),
        _ => {
            Err(lua
                .expected(i, if i == 3 { "a tag, or 1 or true for the other order" } else { "a boolean or a number" }))
        }
    }
}

/// `server:broadcast(v, [tag], [timeout])` → how many took it
fn broadcast(lua: Lua<'_>) -> Result<Pushed> {
    let shared = this(lua)?;
    let (tag, i) = tag_before(lua, 3)?;
    let (deadline, share) = match lua.kind(i) {
        Kind::Table => {
            let given = lua.options(i, &["timeout", "share"])?;
            let deadline = Deadline::within(given.timeout("timeout", shared.timeout)?);
            (deadline, given.boolean("share")?.unwrap_or(false))
        }
        _ => (lua.timeout(i, shared.timeout)?, false),
    };
    let begin = || {
        let mut message = lua.state().take_message();
        // Whether each client wants functions too, its connection knows.
        lua.encode(2, &mut message, Route::peer(shared.functions))?;
        message.share = share;
        shared.server.broadcast(*message, tag)
    };
    let count = match lua.non_blocking() {
        Some(non_blocking) => {
            let kept = non_blocking.state(|| begin().map(RefCell::new))?;
            let mut broadcast = kept.try_borrow_mut().map_err(|_| err!(State, "this broadcast is running already"))?;
            broadcast.drive(&lua.wait(deadline))?
        }
        None => {
            let mut broadcast = begin()?;
            let count = broadcast.drive(&lua.wait(deadline))?;
            if let Some(message) = broadcast.into_message() {
                lua.state().keep_message(Box::new(message));
            }
            count
        }
    };
    lua.push_integer(count as i64);
    Ok(1)
}

/// `server:recvAny([tag], [timeout])` → value, client; with `{gone = true, timeout = …}` also nil, client, reason
fn recv_any(lua: Lua<'_>) -> Result<Pushed> {
    let shared = this(lua)?;
    let (tag, i) = tag_before(lua, 2)?;
    let (gone, deadline) = match lua.kind(i) {
        Kind::Table => {
            let given = lua.options(i, &["gone", "timeout"])?;
            (given.boolean("gone")?.unwrap_or(false), Deadline::within(given.timeout("timeout", shared.timeout)?))
        }
        _ => (false, lua.timeout(i, shared.timeout)?),
    };
    match receive_any(lua, &shared, tag, gone, deadline)? {
        Found::Message => Ok(2),
        Found::Gone => Ok(3),
        Found::Nothing => {
            let whom = tag.map_or(String::new(), |t| text!(" with tag '{}'", Lossy(t)));
            Err(err!(Timeout, "no client{whom} sent a whole message in the given time"))
        }
    }
}

/// `server:tryrecvAny([tag], [timeout])` → true, value, client; or false
fn tryrecv_any(lua: Lua<'_>) -> Result<Pushed> {
    let shared = this(lua)?;
    let (tag, i) = tag_before(lua, 2)?;
    let deadline = lua.timeout(i, Some(0.0))?;
    lua.push_boolean(true);
    match receive_any(lua, &shared, tag, false, deadline)? {
        Found::Nothing => lua.push_boolean(false),
        _ => return Ok(3),
    }
    Ok(1)
}

/// The tag in slot `i`, which may be left out before a time-out, and the slot of that.
fn tag_before(lua: Lua<'_>, i: c_int) -> Result<(Option<&[u8]>, c_int)> {
    match lua.kind(i) {
        Kind::Number | Kind::Boolean | Kind::Table => lua.no_more(i + 1).map(|()| (None, i)),
        _ => Ok((tag_at(lua, i)?, i + 1)),
    }
}

/// What [`receive_any`] has pushed.
enum Found {
    /// Nothing.
    Nothing,
    /// A value and the handle of who sent it.
    Message,
    /// Nil, the handle of one that has gone, and why.
    Gone,
}

fn receive_any(
    lua: Lua<'_>,
    shared: &ServerObject,
    tag: Option<&[u8]>,
    gone: bool,
    deadline: Deadline,
) -> Result<Found> {
    let base = lua.top();
    loop {
        let mut message = lua.state().take_message();
        match receive_or_shed(lua, shared, tag, gone, &mut message, deadline)? {
            None => return Ok(Found::Nothing),
            Some(Arrival::Gone(client, reason)) => {
                lua.push_nil();
                let text = reason.clone().at(lua.place()).to_string();
                push_client(lua, client.clone(), shared.timeout)
                    .and_then(|()| lua.push_string(&text))
                    .inspect_err(|_| shared.server.tell_again(&client, reason))?;
                return Ok(Found::Gone);
            }
            Some(Arrival::Message(client)) => {
                let connection = client.connection();
                if let Err(e) = push_client(lua, client.clone(), shared.timeout) {
                    connection.put_back(*message);
                    return Err(e);
                }
                match decode(lua, &**connection, message)? {
                    None => {
                        // The handle comes second.
                        lua.insert(base + 1);
                        return Ok(Found::Message);
                    }
                    Some(fault) => shared.server.reject(client, &fault),
                }
                lua.set_top(base);
            }
        }
    }
}

/// Receives the next message. Where memory has run out, garbage is collected first; then go those clients that have
/// announced tensors which take it, and have not sent them.
fn receive_or_shed(
    lua: Lua<'_>,
    shared: &ServerObject,
    tag: Option<&[u8]>,
    gone: bool,
    message: &mut Message,
    deadline: Deadline,
) -> Result<Option<Arrival>> {
    let mut collected = false;
    loop {
        match shared.server.recv_any(tag, gone, message, &lua.wait(deadline)) {
            Err(e) if e.is_shortage() && !collected => collected = true,
            Err(e) if e.is_shortage() => {
                if !shared.server.shed() {
                    return Err(e);
                }
                continue;
            }
            other => return other,
        }
        collect(lua);
    }
}

/// Decodes a message. `Ok` with an error is what its sender did wrong; any other message would have met what is raised:
/// a want of memory, Ctrl-C, an error in somebody's finalizer.
fn decode(lua: Lua<'_>, connection: &dyn Connection, mut message: Box<Message>) -> Result<Option<Error>> {
    let (base, length) = (lua.top(), message.bytes.len());
    match lua.decode_or_collect(&mut message, Route::peer(connection.functions())) {
        Ok(()) => {
            lua.state().keep_message(message);
            Ok(None)
        }
        Err(e) if !lua.lacks_memory(&e) => {
            if e.code() == Code::Raised {
                Err(e)
            } else {
                Ok(Some(e))
            }
        }
        Err(_) if length > SMALL_MESSAGE => {
            // Half a value is garbage, which the next message would meet.
            lua.set_top(base);
            collect(lua);
            settle_shortage();
            Ok(Some(err!(Limit, "there is no memory for the values in a message of {length} bytes")))
        }
        Err(e) => {
            connection.put_back(*message);
            Err(e)
        }
    }
}

/// `server:address()` → where it listens
fn address(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_string(&this(lua)?.server.address().to_string())?;
    Ok(1)
}

/// `server:netStats()`
fn net_stats(lua: Lua<'_>) -> Result<Pushed> {
    let stats = this(lua)?.server.stats()?;
    push_traffic(lua, &stats.tx, &stats.rx)?;
    lua.new_table(0, stats.transports.len() as c_int)?;
    for (kind, n) in stats.transports {
        lua.push_integer(n as i64);
        lua.raw_set_field(-2, kind)?;
    }
    lua.raw_set_field(-2, "transports")?;
    lua.push_integer(stats.rejected as i64);
    lua.raw_set_field(-2, "num_rejected")?;
    Ok(1)
}

/// `server:close()`
fn close(lua: Lua<'_>) -> Result<Pushed> {
    this(lua)?.server.close();
    Ok(0)
}
