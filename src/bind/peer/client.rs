//! `ipc.client`: a connection to a server.

use std::sync::Arc;

use crate::bind::peer::link::{self, Given, Link};
use crate::bind::vm::{Class, ClassInfo, FD, Lua, Method, Pushed};
use crate::error::Result;
use crate::lua_fn;
use crate::peer::dial;
use crate::transport::Connection;
use crate::try_fn;
use crate::wait::{Deadline, Source, Way};
use crate::wire::{Attachment, Object, downcast};

/// What the module offers of this.
pub(in crate::bind) const FUNCTIONS: &[Method] = &[("client", lua_fn!("ipc.client", client))];

/// The class `ipc.client`.
pub(in crate::bind) static INFO: ClassInfo = ClassInfo::of::<Client>("ipc.client", METHODS, &[]);

const METHODS: &[Method] = &[
    ("send", lua_fn!("client:send", link::send::<Client>)),
    ("recv", lua_fn!("client:recv", link::recv::<Client>)),
    ("recvAsync", lua_fn!("client:recvAsync", link::recv_async::<Client>)),
    ("tryrecv", lua_fn!("client:tryrecv", link::tryrecv::<Client>)),
    ("address", lua_fn!("client:address", link::address::<Client>)),
    ("netStats", lua_fn!("client:netStats", link::net_stats::<Client>)),
    FD,
    ("close", lua_fn!("client:close", link::close::<Client>)),
];

/// The function that yields under a scheduler.
pub(in crate::bind) const NON_BLOCKING_FUNCTIONS: &[Method] = &[("client", try_fn!("ipc.client", client))];

/// What yields under a scheduler.
pub(in crate::bind) const NON_BLOCKING: &[Method] = &[
    ("send", try_fn!("client:send", link::send::<Client>)),
    ("recv", try_fn!("client:recv", link::recv::<Client>)),
    ("tryrecv", try_fn!("client:tryrecv", link::tryrecv::<Client>)),
];

/// What a client counts for where garbage is measured, in bytes: buffers here and in the system; and descriptors are
/// scarce.
const WEIGHT: usize = 128 << 10;

/// What threads share of a client.
#[derive(Debug)]
struct ClientObject {
    connection: Arc<dyn Connection>,
    timeout: Option<f64>,
}

impl Object for ClientObject {
    fn class(&self) -> &'static str {
        INFO.name
    }

    fn state(&self) -> String {
        let connection = &self.connection;
        let state = if connection.is_open() { "open" } else { "closed" };
        format!("{state}, to {} over {}", connection.peer(), connection.stats().transport)
    }

    fn weight(&self) -> usize {
        WEIGHT.saturating_add(self.connection.unread())
    }
}

/// A handle of it.
struct Client(Arc<ClientObject>);

impl Class for Client {
    fn info() -> &'static ClassInfo {
        &INFO
    }

    fn describe(&self) -> String {
        format!("ipc.client: {}", self.0.state())
    }

    fn attach(&self) -> Option<Attachment> {
        Some(Attachment::Object(self.0.clone()))
    }

    fn source(&self, way: Way) -> Result<Option<Box<dyn Source>>> {
        Ok(Some(link::source(self, way)))
    }

    fn adopt(_: Lua<'_>, object: Arc<dyn Object>) -> Option<Self> {
        downcast(object).map(Client)
    }
}

impl Link for Client {
    fn link(&self) -> (&Arc<dyn Connection>, Option<f64>) {
        (&self.0.connection, self.0.timeout)
    }
}

/// `ipc.client([host = '127.0.0.1'], port, [opts])`
fn client(lua: Lua<'_>) -> Result<Pushed> {
    let Given { place, options, timeout } = Given::read(lua, 1)?;
    let connection = dial(&place, &options, &lua.wait(Deadline::NEVER))?;
    lua.push_object(Client(Arc::new(ClientObject { connection, timeout })))?;
    Ok(1)
}
