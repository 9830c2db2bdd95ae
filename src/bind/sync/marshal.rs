//! `ipc.marshal`: a value turned into a message once and read any number of times, by any thread; and the way to and
//! from bytes.

use std::sync::Arc;

use crate::bind::codec::Route;
use crate::bind::vm::{Class, ClassInfo, Lua, Method, Pushed};
use crate::err;
use crate::error::Result;
use crate::lua_fn;
use crate::sys::try_bytes;
use crate::transport;
use crate::wire::{Attachment, Message, Object, downcast, drop_deferred};

/// What the module offers of this.
pub(in crate::bind) const FUNCTIONS: &[Method] =
    &[("marshal", lua_fn!("ipc.marshal", marshal)), ("unmarshal", lua_fn!("ipc.unmarshal", unmarshal))];

/// The class `ipc.marshal`.
pub(in crate::bind) static INFO: ClassInfo = ClassInfo::of::<Marshal>("ipc.marshal", METHODS, &[]);

const METHODS: &[Method] = &[
    ("read", lua_fn!("marshal:read", read)),
    ("bytes", lua_fn!("marshal:bytes", bytes)),
    ("close", lua_fn!("marshal:close", close)),
];

/// A message that is read, never written.
#[derive(Debug)]
struct Marshalled(Message);

impl Drop for Marshalled {
    fn drop(&mut self) {
        drop_deferred(std::mem::take(&mut self.0.attachments));
    }
}

impl Object for Marshalled {
    fn class(&self) -> &'static str {
        INFO.name
    }

    fn state(&self) -> String {
        format!("{} bytes", self.0.bytes.len())
    }

    fn weight(&self) -> usize {
        size_of::<Marshalled>() + self.0.bytes.capacity()
    }
}

/// A handle on a marshalled value; `None` once closed.
#[derive(Debug)]
pub struct Marshal(Option<Arc<Marshalled>>);

impl Class for Marshal {
    fn info() -> &'static ClassInfo {
        &INFO
    }

    fn describe(&self) -> String {
        match &self.0 {
            Some(m) => format!("ipc.marshal: {}", m.state()),
            None => "ipc.marshal: closed".into(),
        }
    }

    fn attach(&self) -> Option<Attachment> {
        self.0.clone().map(|m| Attachment::Object(m))
    }

    fn adopt(_: Lua<'_>, object: Arc<dyn Object>) -> Option<Self> {
        downcast(object).map(|m| Marshal(Some(m)))
    }
}

impl Marshal {
    fn open(&self) -> Result<Arc<Marshalled>> {
        self.0.clone().ok_or_else(|| err!(Closed, "this handle is closed"))
    }
}

/// `ipc.marshal(v, [upvalues], [size], [increment])`: the last two are taken for the sake of old scripts; memory grows
/// by itself.
fn marshal(lua: Lua<'_>) -> Result<Pushed> {
    if lua.is_nil(1) {
        return Err(lua.bad_value(1, "expected a value, got nil"));
    }
    let upvalues = lua.truth(2);
    for slot in [3, 4] {
        lua.optional(slot, |lua, i| lua.whole_in(i, 0..=i64::MAX))?;
    }
    let mut message = Message::default();
    lua.encode(1, &mut message, if upvalues { Route::THREAD_UPVALUES } else { Route::THREAD })?;
    // A copy, where there is memory for one, that is as long as it has to be; to make a block smaller may fail as well.
    if message.bytes.len() < message.bytes.capacity()
        && let Ok(bytes) = try_bytes(&message.bytes)
    {
        message.bytes = bytes;
    }
    lua.push_object(Marshal(Some(Arc::new(Marshalled(message)))))?;
    Ok(1)
}

/// `m:read()` → the value, anew each time.
fn read(lua: Lua<'_>) -> Result<Pushed> {
    let m = lua.object::<Marshal>(1)?.open()?;
    lua.decode_last_shared(&m.0, m.clone(), Route::THREAD_UPVALUES)?;
    Ok(1)
}

/// `m:bytes()` → the wire form; tensors as they are now.
fn bytes(lua: Lua<'_>) -> Result<Pushed> {
    let m = lua.object::<Marshal>(1)?.open()?;
    lua.push_bytes(&transport::serialize(&m.0)?)?;
    Ok(1)
}

/// `m:close()`: this handle lets go.
fn close(lua: Lua<'_>) -> Result<Pushed> {
    lua.object_mut::<Marshal>(1)?.0 = None;
    lua.recharge::<Marshal>(1);
    Ok(0)
}

/// `ipc.unmarshal(s, [{functions = true}])` → the value in the wire form `s`.
fn unmarshal(lua: Lua<'_>) -> Result<Pushed> {
    let bytes = lua.bytes(1)?;
    let functions = lua.options(2, &["functions"])?.boolean("functions")?.unwrap_or(false);
    let mut message = transport::deserialize(bytes)?;
    lua.decode(&mut message, Route::peer(functions))?;
    Ok(1)
}
