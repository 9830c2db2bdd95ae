//! The path to the culprit, in the words of Lua: `value.layers[3].state`.

use std::ffi::{CStr, c_int};

use mlua_sys as ffi;

use super::string_at;
use crate::error::{Error, words};
use crate::text;
use crate::wire::{Parts, field_path};

/// The error with the path to its culprit in front: `value.layers[3].state: …`. There is none where there was no
/// memory for it.
pub(super) fn placed(e: Error, path: &[String]) -> Error {
    if path.is_empty() {
        return e;
    }
    Error::new(e.code(), "", words(format_args!("{}: {}", Parts(path), e.what())))
}

/// The key in slot `i` as a part of a path: `.name`, `[3]`, `[true]`, `[a table]`.
pub(super) unsafe fn key_path(l: *mut ffi::lua_State, i: c_int) -> String {
    // SAFETY: reads a slot; numbers are not converted in place.
    unsafe {
        match ffi::lua_type(l, i) {
            ffi::LUA_TSTRING => field_path(string_at(l, i)),
            ffi::LUA_TNUMBER => text!("[{}]", ffi::lua_tonumber(l, i)),
            ffi::LUA_TBOOLEAN => text!("[{}]", ffi::lua_toboolean(l, i) != 0),
            t => text!("[a {}]", CStr::from_ptr(ffi::lua_typename(l, t)).to_string_lossy()),
        }
    }
}
