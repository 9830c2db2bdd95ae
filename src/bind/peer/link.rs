//! What a client and a server's handle of one have in common: sending and receiving. And the options of a link.

use std::cell::Cell;
use std::ffi::c_int;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::bind::codec::Route;
use crate::bind::tensor::{storage_at, tensor_at};
use crate::bind::vm::{Class, Kind, Lua, Pushed};
use crate::err;
use crate::error::{Code, Error, Lossy, Result};
use crate::peer::{self, ServerAddress, TransportChoice};
use crate::transport::{Connection, Parcel, Secret, Target, Ticket, Traffic};
use crate::wait::{self, Deadline, Source, Wait, Way};
use crate::wire::Message;

/// A class whose objects talk to one peer.
pub(in crate::bind) trait Link: Class {
    /// The link, and the time-out of calls that are given none.
    fn link(&self) -> (&Arc<dyn Connection>, Option<f64>);
}

/// The link of slot 1, cloned out so that a finalizer may run meanwhile.
fn this<T: Link>(lua: Lua<'_>) -> Result<(Arc<dyn Connection>, Option<f64>)> {
    let object = lua.object::<T>(1)?;
    let (connection, timeout) = object.link();
    Ok((connection.clone(), timeout))
}

/// `c:send(v, [timeout])`. In a table with the time-out `more` may say that another message follows at once, and
/// `share` that tensors are to go by reference.
pub(in crate::bind) fn send<T: Link>(lua: Lua<'_>) -> Result<Pushed> {
    let (connection, timeout) = this::<T>(lua)?;
    let (deadline, more, share) = match lua.kind(3) {
        Kind::Table => {
            let given = lua.options(3, &["timeout", "more", "share"])?;
            let is_set = |name| given.boolean(name).map(|set| set.unwrap_or(false));
            (Deadline::within(given.timeout("timeout", timeout)?), is_set("more")?, is_set("share")?)
        }
        _ => (lua.timeout(3, timeout)?, false, false),
    };
    let encoded = |lua: Lua<'_>| {
        let mut message = lua.state().take_message();
        lua.encode(2, &mut message, Route::peer(connection.functions()))?;
        (message.more, message.share) = (more, share);
        Ok::<_, Error>(message)
    };
    if let Some(non_blocking) = lua.non_blocking() {
        let outgoing = non_blocking.state(|| Outgoing::new(&connection, *encoded(lua.sleeping())?))?;
        return outgoing.drive(&lua.wait(deadline)).map(|()| 0);
    }
    let mut message = encoded(lua)?;
    let bytes = message.weight();
    connection.send(&mut message, &lua.wait(deadline))?;
    lua.wrote::<T>(1, bytes);
    lua.state().keep_message(message);
    Ok(0)
}

/// A message that a coroutine sends: what the call keeps between its tries.
struct Outgoing {
    connection: Arc<dyn Connection>,
    parcel: Arc<Parcel>,
    ticket: Cell<Option<Ticket>>,
}

impl Outgoing {
    fn new(connection: &Arc<dyn Connection>, message: Message) -> Result<Outgoing> {
        Ok(Outgoing {
            connection: connection.clone(),
            parcel: Arc::new(Parcel::new(message)?),
            ticket: Cell::default(),
        })
    }

    fn drive(&self, wait: &Wait) -> Result<()> {
        let mut ticket = self.ticket.take();
        let sent = self.connection.send_parcel(&self.parcel, &mut ticket, wait);
        self.ticket.set(ticket.filter(|_| sent.is_err()));
        sent
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.connection.give_up(ticket);
        }
    }
}

/// `c:recv([into], [timeout])`
pub(super) fn recv<T: Link>(lua: Lua<'_>) -> Result<Pushed> {
    let (connection, timeout) = this::<T>(lua)?;
    let (tensor, storage) = (tensor_at(lua, 2), storage_at(lua, 2));
    let into = match (&tensor, &storage) {
        (Some(t), _) => Some(Target::Tensor(t)),
        (None, Some(s)) => Some(Target::Storage(s)),
        (None, None) => None,
    };
    let deadline = match (into, lua.kind(2)) {
        (Some(_), _) | (None, Kind::None | Kind::Nil) => lua.timeout(3, timeout)?,
        (None, Kind::Number | Kind::Boolean | Kind::Table) => {
            lua.no_more(3)?;
            lua.timeout(2, timeout)?
        }
        (None, _) => return Err(lua.expected(2, "a tensor, a storage or a number of seconds")),
    };
    let mut message = lua.state().take_message();
    on_its_own(lua, &connection, connection.recv(into, &mut message, &lua.wait(deadline)))?;
    if into.is_some() {
        lua.push_value(2);
        lua.state().keep_message(message);
    } else {
        lua.decode_last(message, Route::peer(connection.functions()), |message| connection.put_back(message))?;
    }
    Ok(1)
}

/// A try that would sleep on the socket sleeps on the descriptor of the connection instead, which outlives a close and
/// tells of it.
fn on_its_own<T>(lua: Lua<'_>, connection: &Arc<dyn Connection>, done: Result<T>) -> Result<T> {
    match (done, lua.non_blocking()) {
        (Err(e), Some(non_blocking)) if e.code() == Code::WouldBlock => {
            let on_socket = non_blocking
                .blocker()
                .is_some_and(|blocker| matches!(connection.socket(), Ok(Some(own)) if own.fd() == blocker.fd));
            if on_socket {
                non_blocking.instead(connection.fd()?);
            }
            Err(e)
        }
        (done, _) => done,
    }
}

/// Makes the message the last result and says so, if there is one.
fn take(lua: Lua<'_>, connection: &Arc<dyn Connection>, deadline: Option<Deadline>) -> Result<bool> {
    let mut message = lua.state().take_message();
    let found = match deadline {
        Some(deadline) => on_its_own(lua, connection, connection.recv_before(None, &mut message, &lua.wait(deadline)))?,
        None => {
            lua.wait(Deadline::NEVER).check()?;
            connection.try_recv(&mut message)?
        }
    };
    if found {
        lua.decode_last(message, Route::peer(connection.functions()), |message| connection.put_back(message))?;
    } else {
        lua.state().keep_message(message);
    }
    Ok(found)
}

/// `c:recvAsync()` → the message, nil where no whole one has come.
pub(super) fn recv_async<T: Link>(lua: Lua<'_>) -> Result<Pushed> {
    let (connection, _) = this::<T>(lua)?;
    if !take(lua, &connection, None)? {
        lua.push_nil();
    }
    Ok(1)
}

/// `c:tryrecv([timeout])` → true and the message, or false.
pub(super) fn tryrecv<T: Link>(lua: Lua<'_>) -> Result<Pushed> {
    let (connection, _) = this::<T>(lua)?;
    let deadline = match lua.kind(2) {
        Kind::None | Kind::Nil => None,
        _ => Some(lua.timeout(2, Some(0.0))?),
    };
    lua.set_top(1);
    lua.push_boolean(true);
    if take(lua, &connection, deadline)? {
        return Ok(2);
    }
    lua.push_boolean(false);
    Ok(1)
}

/// `c:close()`
pub(in crate::bind) fn close<T: Link>(lua: Lua<'_>) -> Result<Pushed> {
    this::<T>(lua)?.0.close();
    Ok(0)
}

/// `c:address()` → where the peer is.
pub(in crate::bind) fn address<T: Link>(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_string(this::<T>(lua)?.0.peer())?;
    Ok(1)
}

/// How a link is waited for: until it has something to receive, or room for what is sent.
pub(in crate::bind) fn source<T: Link>(link: &T, way: Way) -> Box<dyn Source> {
    source_of(link.link().0, way)
}

fn source_of(connection: &Arc<dyn Connection>, way: Way) -> Box<dyn Source> {
    let connection = connection.clone();
    // What the socket has, only the system knows.
    match way {
        Way::Read => wait::source(connection, |c| c.is_ready().then_some(true), |c| c.fd()),
        Way::Write => wait::source(connection, |c| (!c.is_open()).then_some(true), |c| c.room_fd()),
    }
}

/// `c:netStats()`
pub(super) fn net_stats<T: Link>(lua: Lua<'_>) -> Result<Pushed> {
    let stats = this::<T>(lua)?.0.stats();
    push_traffic(lua, &stats.tx, &stats.rx)?;
    lua.push_string(stats.transport)?;
    lua.raw_set_field(-2, "transport")?;
    Ok(1)
}

/// Pushes a table of both directions' figures.
pub(super) fn push_traffic(lua: Lua<'_>, tx: &Traffic, rx: &Traffic) -> Result<()> {
    lua.new_table(0, 3)?;
    for (name, t) in [("tx", tx), ("rx", rx)] {
        let speed = if t.system_seconds > 0.0 { t.bytes as f64 / 1e6 / t.system_seconds } else { 0.0 };
        lua.new_table(0, 11)?;
        for (field, value) in [
            ("num_bytes", t.bytes as f64),
            ("num_regions", t.regions as f64),
            ("num_calls", t.calls as f64),
            ("num_system_calls", t.system_calls as f64),
            ("total_seconds", t.total_seconds),
            ("system_seconds", t.system_seconds),
            ("cuda_sync_seconds", 0.0),
            ("cudacliser_profile_seconds", 0.0),
            ("cuda_ipc_bytes", 0.0),
            ("NETWORK MB/s", speed),
            ("CUDA IPC MB/s", 0.0),
        ] {
            if field.starts_with("num_") || field == "cuda_ipc_bytes" {
                lua.push_integer(value as i64);
            } else {
                lua.push_number(value);
            }
            lua.raw_set_field(-2, field)?;
        }
        lua.raw_set_field(-2, name)?;
    }
    Ok(())
}

/// Where to listen or to connect, and how, as `ipc.server` and `ipc.client` take it: `([host], [port], [options])`.
pub(super) struct Given {
    /// Where.
    pub place: ServerAddress,
    /// How.
    pub options: peer::Options,
    /// The time-out of calls that are given none.
    pub timeout: Option<f64>,
}

const KNOWN: &[&str] = &[
    "secret",
    "encrypt",
    "insecure",
    "max_message",
    "max_tensor_bytes",
    "functions",
    "connect_timeout",
    "timeout",
    "transport",
];

impl Given {
    /// Reads the arguments from slot 1 on. `least_port`: 0 where the system may choose one.
    pub fn read(lua: Lua<'_>, least_port: u16) -> Result<Given> {
        // A lone number is a port, also as a string.
        let lone = matches!(lua.kind(2), Kind::None | Kind::Nil | Kind::Table);
        let digits = lua.argument_bytes(1).is_some_and(|s| !s.is_empty() && s.iter().all(u8::is_ascii_digit));
        let (host, port, options) = match lua.kind(1) {
            Kind::Table => (None, None, 1),
            Kind::Number => (None, Some(1), 2),
            Kind::String if lone && digits => (None, Some(1), 2),
            _ => {
                let host = lua.optional(1, Lua::bytes)?;
                match lua.kind(2) {
                    Kind::Table => (host, None, 2),
                    _ => (host, Some(2), 3),
                }
            }
        };
        let host = host.unwrap_or(b"127.0.0.1");
        // A socket in the file system has none: `ipc.server` says 0.
        let least_port = if host.starts_with(b"unix:") { 0 } else { least_port };
        let port = match port {
            Some(i) => lua.optional(i, |lua, i| read_port(lua, i, least_port))?,
            None => None,
        };
        let Some(port) = port.or((least_port == 0).then_some(0)) else {
            return Err(lua.expected(if lua.kind(1) == Kind::String { 2 } else { 1 }, "a port"));
        };
        let place = ServerAddress::new(host, port).map_err(|e| lua.bad_value(1, e.what()))?;
        if !lua.is_nil(options + 1) {
            return Err(lua.bad_value(options + 1, "the options come last: nothing follows them"));
        }
        let (options, timeout) = read_options(lua, options)?;
        Ok(Given { place, options, timeout })
    }
}

fn read_port(lua: Lua<'_>, i: c_int, least: u16) -> Result<u16> {
    let port = match lua.kind(i) {
        Kind::String => lua.str(i)?.trim().parse().map_err(|_| lua.expected(i, "a port"))?,
        Kind::Number => lua.whole(i)?,
        _ => return Err(lua.expected(i, "a port")),
    };
    let fits = u16::try_from(port).ok().filter(|p| *p >= least);
    fits.ok_or_else(|| lua.bad_value(i, format_args!("expected a port from {least} to 65535, got {port}")))
}

fn read_options(lua: Lua<'_>, i: c_int) -> Result<(peer::Options, Option<f64>)> {
    let given = lua.options(i, KNOWN)?;
    let mut options = peer::Options::from_env()?;
    if let Some(secret) = given.bytes("secret")?.map(Zeroizing::new) {
        if secret.is_empty() {
            return Err(err!(Argument, "option 'secret': expected a string that is not empty"));
        }
        options.secret = Some(Secret::new(&secret));
    }
    options.encrypt = given.boolean("encrypt")?.or(options.encrypt);
    options.insecure = given.boolean("insecure")?.unwrap_or(options.insecure);
    options.functions = given.boolean("functions")?.unwrap_or(options.functions);
    if let Some(n) = given.integer("max_message", 1)? {
        options.max_message = n.cast_unsigned();
    }
    if let Some(n) = given.integer("max_tensor_bytes", 0)? {
        options.max_tensor_bytes = Some(n.cast_unsigned());
    }
    options.connect_timeout = given.timeout("connect_timeout", Some(options.connect_timeout))?.unwrap_or(f64::INFINITY);
    if let Some(name) = given.bytes("transport")? {
        let names = TransportChoice::NAMES;
        options.transport = TransportChoice::named(&name)
            .ok_or_else(|| err!(Argument, "option 'transport': expected {names}, got '{}'", Lossy(&name)))?;
    }
    options.check()?;
    Ok((options, given.timeout("timeout", None)?))
}
