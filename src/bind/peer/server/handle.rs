//! A server's handle of one client.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::bind::peer::link::{self, Link};
use crate::bind::vm::{Class, ClassInfo, FD, Kind, Lua, Method, Pushed};
use crate::error::{Lossy, Result};
use crate::lua_fn;
use crate::peer;
use crate::sys::SharedBytes;
use crate::text;
use crate::transport::Connection;
use crate::try_fn;
use crate::wait::{Source, Way};
use crate::wire::{Attachment, Object, downcast};

/// The class of the handles.
pub(in crate::bind) static INFO: ClassInfo = ClassInfo::of::<Client>("ipc.server.client", METHODS, METAMETHODS);

const METHODS: &[Method] = &[
    ("send", lua_fn!("client:send", link::send::<Client>)),
    ("recv", lua_fn!("client:recv", link::recv::<Client>)),
    ("recvAsync", lua_fn!("client:recvAsync", link::recv_async::<Client>)),
    ("tryrecv", lua_fn!("client:tryrecv", link::tryrecv::<Client>)),
    ("id", lua_fn!("client:id", id)),
    ("tag", lua_fn!("client:tag", tag)),
    ("address", lua_fn!("client:address", address)),
    ("netStats", lua_fn!("client:netStats", link::net_stats::<Client>)),
    FD,
    ("close", lua_fn!("client:close", link::close::<Client>)),
];

/// What yields under a scheduler.
pub(in crate::bind) const NON_BLOCKING: &[Method] = &[
    ("send", try_fn!("client:send", link::send::<Client>)),
    ("recv", try_fn!("client:recv", link::recv::<Client>)),
    ("tryrecv", try_fn!("client:tryrecv", link::tryrecv::<Client>)),
];

const METAMETHODS: &[Method] = &[("__eq", lua_fn!("==", equal))];

/// What threads share of a handle.
#[derive(Debug)]
struct ClientObject {
    client: Arc<peer::Client>,
    timeout: Option<f64>,
}

impl Object for ClientObject {
    fn class(&self) -> &'static str {
        INFO.name
    }

    fn state(&self) -> String {
        let client = &self.client;
        let state = if client.connection().is_open() { "open" } else { "closed" };
        let text = format!("{state}, {}, id {}", client.connection().peer(), client.id());
        if let Some(tag) = client.tag() {
            return text!("{text}, tag '{}'", Lossy(&tag));
        }
        text
    }

    fn weight(&self) -> usize {
        self.client.connection().unread()
    }
}

/// A handle of a client.
struct Client(Arc<ClientObject>);

impl Class for Client {
    fn info() -> &'static ClassInfo {
        &INFO
    }

    fn describe(&self) -> String {
        format!("ipc.server.client: {}", self.0.state())
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
        (self.0.client.connection(), self.0.timeout)
    }
}

/// Pushes the handle of `client`: the same userdata each time, so that it can be a key of a table. `timeout` is the
/// server's.
pub(super) fn push_client(lua: Lua<'_>, client: Arc<peer::Client>, timeout: Option<f64>) -> Result<()> {
    lua.anchored("clients of servers", |lua| {
        lua.new_table(0, 0)?;
        lua.new_table(0, 1)?;
        lua.push_string("v")?;
        lua.raw_set_field(-2, "__mode")?;
        lua.set_metatable(-2);
        Ok(())
    })?;
    let serial = client.serial();
    if lua.raw_get_index(-1, serial) != Kind::Userdata {
        lua.pop(1);
        lua.push_object(Client(Arc::new(ClientObject { client, timeout })))?;
        lua.push_value(-1);
        lua.raw_set_index(-3, serial)?;
    }
    // The stack is: table, handle.
    lua.remove(-2);
    Ok(())
}

/// `c:address()` → the host that it comes from, and the port; of a Unix socket its path alone.
fn address(lua: Lua<'_>) -> Result<Pushed> {
    let client = lua.object::<Client>(1)?.0.client.clone();
    let peer = client.connection().peer();
    match peer.parse::<SocketAddr>() {
        Ok(address) => {
            lua.push_string(&address.ip().to_string())?;
            lua.push_integer(address.port().into());
            Ok(2)
        }
        Err(_) => lua.push_string(peer).map(|()| 1),
    }
}

/// `c:id([n])` → the number by which clients are visited
fn id(lua: Lua<'_>) -> Result<Pushed> {
    let client = lua.object::<Client>(1)?.0.client.clone();
    if let Some(n) = lua.optional(2, Lua::whole)? {
        client.set_id(n);
    }
    lua.push_integer(client.id());
    Ok(1)
}

/// `c:tag([s])` → the tag by which calls choose clients, nil where there is none
fn tag(lua: Lua<'_>) -> Result<Pushed> {
    let client = lua.object::<Client>(1)?.0.client.clone();
    if let Some(tag) = lua.optional(2, Lua::name_bytes)? {
        client.set_tag(Some(SharedBytes::new(tag)?));
    }
    match client.tag() {
        Some(tag) => lua.push_bytes(&tag)?,
        None => lua.push_nil(),
    }
    Ok(1)
}

/// Handles that came to a thread by different ways are equal if their client is.
fn equal(lua: Lua<'_>) -> Result<Pushed> {
    let same = match (lua.object::<Client>(1), lua.object::<Client>(2)) {
        (Ok(a), Ok(b)) => Arc::ptr_eq(&a.0.client, &b.0.client),
        _ => false,
    };
    lua.push_boolean(same);
    Ok(1)
}
