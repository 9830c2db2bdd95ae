//! Lua's own files (`io.open`, `io.stderr`), as descriptors.

use std::ffi::c_int;

use mlua_sys as ffi;

use crate::bind::vm::{Kind, Lua};
use crate::error::Result;

/// What every Lua has at the start of a file's userdata.
#[repr(C)]
struct Stream {
    file: *mut libc::FILE,
    /// Only from 5.2 on, where a closed file has none; before, `file` is null then.
    #[cfg(not(any(feature = "lua51", feature = "luajit")))]
    close: Option<ffi::lua_CFunction>,
}

impl Stream {
    #[cfg(any(feature = "lua51", feature = "luajit"))]
    fn is_open(&self) -> bool {
        !self.file.is_null()
    }

    #[cfg(not(any(feature = "lua51", feature = "luajit")))]
    fn is_open(&self) -> bool {
        self.close.is_some() && !self.file.is_null()
    }
}

/// The descriptor of the open Lua file in slot `i`, with what Lua wrote to it so far written out; `None` for anything
/// else.
pub(super) fn file_at(lua: Lua<'_>, i: c_int) -> Result<Option<c_int>> {
    if lua.kind(i) != Kind::Userdata || lua.raw_len(i) < size_of::<Stream>() {
        return Ok(None);
    }
    let mut is_file = false;
    lua.push_value(i);
    // SAFETY: in protect everything may be called; slot 1 is the userdata.
    lua.protect(1, 0, |l| unsafe {
        ffi::lua_getfield(l, ffi::LUA_REGISTRYINDEX, c"FILE*".as_ptr());
        is_file = ffi::lua_getmetatable(l, 1) != 0 && ffi::lua_rawequal(l, -1, -2) != 0;
        0
    })?;
    if !is_file {
        return Ok(None);
    }
    // SAFETY: the metatable of Lua's files says that this is one, and it was seen to be large enough; the slot keeps
    // it.
    let stream = unsafe { &*(ffi::lua_touserdata(lua.raw(), i) as *const Stream) };
    if !stream.is_open() {
        return Ok(None);
    }
    // SAFETY: the file is open: only this Lua state, whose call this is, could close it.
    let fd = unsafe {
        libc::fflush(stream.file);
        libc::fileno(stream.file)
    };
    Ok((fd >= 0).then_some(fd))
}
