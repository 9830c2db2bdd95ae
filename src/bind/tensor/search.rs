//! How `require 'torch'` and `require 'sys'` find what this library has in their place.
//!
//! Stands on: module.

use std::ffi::{c_char, c_int};

use mlua_sys as ffi;

use super::module::open;
use crate::bind::vm::{Lua, Pushed};
use crate::err;
use crate::error::{Lossy, Result};
use crate::lua_fn;
use crate::sys::env_var;

/// What the searcher finds: the module, which also becomes the global `torch` as the real one does.
fn load(lua: Lua<'_>) -> Result<Pushed> {
    open(lua)?;
    lua.push_value(-1);
    lua.set_global("torch")?;
    Ok(1)
}

/// `require 'sys'`, where nothing else provides it: `require 'ipc.sys'`.
fn load_sys(lua: Lua<'_>) -> Result<Pushed> {
    lua.require("ipc.sys")?;
    Ok(1)
}

/// Who is `torch`: what `IPC_TORCH` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// These tensors where nothing else is.
    Last,
    /// These tensors, whatever else is installed.
    Ours,
    /// Torch7, or nobody.
    Torch7,
}

impl Choice {
    fn read() -> Result<Choice> {
        match env_var("IPC_TORCH").unwrap_or_default().as_encoded_bytes() {
            b"" => Ok(Choice::Last),
            b"builtin" => Ok(Choice::Ours),
            b"torch7" => Ok(Choice::Torch7),
            other => Err(err!(Argument, "IPC_TORCH: expected builtin or torch7, got '{}'", Lossy(other))),
        }
    }
}

/// One of `package.searchers`: knows `torch` and `sys`, for when nothing before it does.
fn searcher(lua: Lua<'_>) -> Result<Pushed> {
    match lua.argument_bytes(1) {
        Some(b"torch") if Choice::read()? != Choice::Torch7 => lua.push_function(lua_fn!("require 'torch'", load))?,
        Some(b"sys") => lua.push_function(lua_fn!("require 'sys'", load_sys))?,
        _ => lua.push_nil(),
    }
    Ok(1)
}

/// One before all others: knows `torch` where that is to be ours.
fn first_searcher(lua: Lua<'_>) -> Result<Pushed> {
    match lua.argument_bytes(1) {
        Some(b"torch") if Choice::read()? == Choice::Ours => lua.push_function(lua_fn!("require 'torch'", load))?,
        _ => lua.push_nil(),
    }
    Ok(1)
}

/// Puts [`searcher`] at the end of `package.searchers` (`package.loaders` on 5.1), and [`first_searcher`] before all
/// others if there may be something for it to find. A sandbox without `package` goes without.
pub fn install(lua: Lua<'_>) -> Result<()> {
    if env_var("IPC_TORCH").is_some() {
        install_at(lua, lua_fn!("require 'torch'", first_searcher), true)?;
    }
    install_at(lua, lua_fn!("require 'torch'", searcher), false)
}

fn install_at(lua: Lua<'_>, searcher: ffi::lua_CFunction, first: bool) -> Result<()> {
    lua.push_function(searcher)?;
    // SAFETY: in protect everything may be called; slot 1 is the searcher.
    lua.protect(1, 0, |l| unsafe {
        let get = |l: *mut ffi::lua_State, i: c_int, name: &[u8]| {
            ffi::lua_pushlstring(l, name.as_ptr() as *const c_char, name.len());
            ffi::lua_rawget(l, i);
            ffi::lua_type(l, -1) == ffi::LUA_TTABLE
        };
        ffi::lua_pushglobaltable(l);
        if !get(l, 2, b"package") {
            return 0;
        }
        if !get(l, 3, b"searchers") && !get(l, 3, b"loaders") {
            return 0;
        }
        let end = ffi::lua_rawlen(l, -1) as c_int + 1;
        for i in (2..=end).rev().take_while(|_| first) {
            ffi::lua_rawgeti(l, -1, (i - 1) as _);
            ffi::lua_rawseti(l, -2, i as _);
        }
        ffi::lua_pushvalue(l, 1);
        ffi::lua_rawseti(l, -2, (if first { 1 } else { end }) as _);
        0
    })
}
