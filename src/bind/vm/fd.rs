//! `obj:fd()` of everything that can be waited for.
//!
//! A class takes part by [`Class::source`](crate::bind::vm::object::Class::source) and by [`FD`] in its list of
//! methods.

use std::ffi::c_int;

use crate::bind::vm::call::Pushed;
use crate::bind::vm::lua::Lua;
use crate::bind::vm::object::{ClassInfo, Method, source_at};
use crate::err;
use crate::error::{Error, Result};
use crate::lua_fn;
use crate::wait::{Interest, Way};

/// The method of every class that can be waited for.
pub(in crate::bind) const FD: Method = ("fd", lua_fn!("object:fd", fd));

/// Every way as the user says it.
pub(in crate::bind) const WAYS: &[(&str, Way)] = &[("read", Way::Read), ("write", Way::Write)];

/// The way that slot `i` names: reading where it names none.
fn way_at(lua: Lua<'_>, i: c_int) -> Result<Way> {
    match lua.optional(i, Lua::str)? {
        None => Ok(Way::Read),
        Some(name) => WAYS
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, way)| *way)
            .ok_or_else(|| lua.bad_value(i, format_args!("expected 'read' or 'write', got '{name}'"))),
    }
}

/// `obj:fd(['read'|'write'])` → a descriptor, and what to poll it for.
fn fd(lua: Lua<'_>) -> Result<Pushed> {
    let way = way_at(lua, 2)?;
    let Some(info) = lua.class_info(1) else {
        return Err(err!(Argument, "expected {WAITABLE} as self, got {}", lua.describe(1)));
    };
    let Some(source) = source_at(lua, 1, info, way)? else { return Err(refusal(info, way)) };
    let (fd, interest) = source.watch()?;
    lua.push_integer(fd.into());
    lua.push_string(if interest == Interest::Write { "write" } else { "read" })?;
    Ok(2)
}

/// What is expected where something else was given.
pub(in crate::bind) const WAITABLE: &str = "something that can be waited for";

/// The error for an object that cannot be waited for like that.
pub(in crate::bind) fn refusal(info: &ClassInfo, way: Way) -> Error {
    let what = if way == Way::Write { "room to write" } else { "something to read" };
    err!(Argument, "{} cannot be waited for until it has {what}", info.name)
}
