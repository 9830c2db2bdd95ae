//! The path to the culprit, in the words of Lua: `value.layers[3].state`.

use std::ffi::{CStr, c_int};

use mlua::ffi;

use super::string_at;
use crate::error::Error;
use crate::wire::field_path;

/// The error with the path to its culprit in front: `value.layers[3].state: …`.
pub(super) fn placed(e: Error, path: &[String]) -> Error {
    const SHOWN: usize = 8;
    let mut text = String::new();
    for (i, part) in path.iter().rev().enumerate() {
        match i {
            _ if i < SHOWN || i + 2 > path.len() => text.push_str(part),
            SHOWN => text.push('…'),
            _ => {}
        }
    }
    Error::new(e.code(), "", format!("{text}: {}", e.what()))
}

/// The key in slot `i` as a part of a path: `.name`, `[3]`, `[true]`, `[a table]`.
pub(super) unsafe fn key_path(l: *mut ffi::lua_State, i: c_int) -> String {
    // SAFETY: reads a slot; numbers are not converted in place.
    unsafe {
        match ffi::lua_type(l, i) {
            ffi::LUA_TSTRING => field_path(string_at(l, i)),
            ffi::LUA_TNUMBER => format!("[{}]", ffi::lua_tonumber(l, i)),
            ffi::LUA_TBOOLEAN => format!("[{}]", ffi::lua_toboolean(l, i) != 0),
            t => format!("[a {}]", CStr::from_ptr(ffi::lua_typename(l, t)).to_string_lossy()),
        }
    }
}
