//! `ipc.atomic`: a number that threads share and change one at a time.

use std::ffi::c_int;
use std::sync::Arc;

#[cfg(any(feature = "lua53", feature = "lua54", feature = "lua55"))]
use crate::bind::vm::Kind;
use crate::bind::vm::{Class, ClassInfo, Lua, Method, Pushed};
use crate::error::Result;
use crate::lua_fn;
use crate::sync::{Atomic, Number};
use crate::wire::{Attachment, Object, downcast};

/// What the module offers of this.
pub(in crate::bind) const FUNCTIONS: &[Method] = &[("atomic", lua_fn!("ipc.atomic", atomic))];

/// The class `ipc.atomic`.
pub(in crate::bind) static INFO: ClassInfo = ClassInfo::of::<AtomicHandle>("ipc.atomic", METHODS, &[]);

const METHODS: &[Method] = &[
    ("get", lua_fn!("atomic:get", get)),
    ("set", lua_fn!("atomic:set", set)),
    ("add", lua_fn!("atomic:add", add)),
    ("cas", lua_fn!("atomic:cas", cas)),
];

/// One Lua state's hold on an atomic number.
#[derive(Debug)]
pub struct AtomicHandle(Arc<Atomic>);

impl Class for AtomicHandle {
    fn info() -> &'static ClassInfo {
        &INFO
    }

    fn describe(&self) -> String {
        format!("ipc.atomic: {}", self.0.get())
    }

    fn attach(&self) -> Option<Attachment> {
        Some(Attachment::Object(self.0.clone()))
    }

    fn adopt(_: Lua<'_>, object: Arc<dyn Object>) -> Option<Self> {
        downcast(object).map(AtomicHandle)
    }
}

/// The number in slot `i`, of the kind that Lua holds it as.
pub(in crate::bind) fn number(lua: Lua<'_>, i: c_int) -> Result<Number> {
    #[cfg(any(feature = "lua53", feature = "lua54", feature = "lua55"))]
    // SAFETY: reads the kind of the value in a slot; any slot is allowed.
    if lua.kind(i) == Kind::Number && unsafe { mlua_sys::lua_isinteger(lua.raw(), i) } != 0 {
        return lua.integer(i).map(Number::Integer);
    }
    lua.number(i).map(Number::Float)
}

/// Pushes a number, of its kind where Lua has both.
pub(in crate::bind) fn push(lua: Lua<'_>, n: Number) {
    match n {
        Number::Integer(n) => lua.push_integer(n),
        Number::Float(x) => lua.push_number(x),
    }
}

/// A whole number, as this Lua writes it.
pub(in crate::bind) fn whole(n: i32) -> Number {
    if cfg!(any(feature = "lua53", feature = "lua54", feature = "lua55")) {
        Number::Integer(n.into())
    } else {
        Number::Float(n.into())
    }
}

/// `ipc.atomic([n])`
fn atomic(lua: Lua<'_>) -> Result<Pushed> {
    let start = lua.optional(1, number)?.unwrap_or(whole(0));
    lua.push_object(AtomicHandle(Arc::new(Atomic::new(start))))?;
    Ok(1)
}

/// `a:get()` → the number.
fn get(lua: Lua<'_>) -> Result<Pushed> {
    push(lua, lua.object::<AtomicHandle>(1)?.0.get());
    Ok(1)
}

/// `a:set(n)` → what it held before.
fn set(lua: Lua<'_>) -> Result<Pushed> {
    let cell = lua.object::<AtomicHandle>(1)?;
    push(lua, cell.0.set(number(lua, 2)?));
    Ok(1)
}

/// `a:add(n)` → the sum.
fn add(lua: Lua<'_>) -> Result<Pushed> {
    let cell = lua.object::<AtomicHandle>(1)?;
    push(lua, cell.0.add(number(lua, 2)?));
    Ok(1)
}

/// `a:cas(old, new)` → true if it held `old` and now holds `new`, else false and what it holds.
fn cas(lua: Lua<'_>) -> Result<Pushed> {
    let cell = lua.object::<AtomicHandle>(1)?;
    let (done, now) = cell.0.cas(number(lua, 2)?, number(lua, 3)?);
    lua.push_boolean(done);
    if done {
        return Ok(1);
    }
    push(lua, now);
    Ok(2)
}
