//! The codec between the Lua stack and a message: one walk, no tree of values in between.
//!
//! Both directions run in three frames: the call that owns the buffers; `lua_pcall`; the walk, whose frames hold
//! nothing that needs dropping when Lua raises (out of memory, an error in a `metatablename`). What went wrong is
//! written into the outer frame, with the path to the culprit.
//!
//! This file is what both directions share; `calls` is what the binding calls, `class` knows metatables by name.

mod calls;
pub mod class;
mod decode;
mod encode;
mod function;
mod place;
mod seen;

#[cfg(feature = "luajit")]
use std::ffi::{c_int, c_void};

use crate::bind::vm::depth;
use crate::bind::vm::{Lua, no_room, raised};
use crate::err;
use crate::error::{Error, Result};
use crate::wire::ext;

pub(super) use encode::string_at;
pub(super) use function::{RESULTS_OF_MAP, RESULTS_OF_POOL};
pub(super) use place::set_dropped;

/// What a route lets through.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The message may leave the process: no objects, no foreign userdata.
    pub peer: bool,
    /// Lua functions may cross.
    pub functions: bool,
    /// Lua functions may take their upvalues along.
    pub upvalues: bool,
}

impl Route {
    /// Between threads: everything but upvalues.
    pub const THREAD: Route = Route { peer: false, functions: true, upvalues: false };
    /// Between threads, upvalues too.
    pub const THREAD_UPVALUES: Route = Route { peer: false, functions: true, upvalues: true };
    /// To a peer; functions only if both ends asked for them.
    pub const fn peer(functions: bool) -> Route {
        Route { peer: true, functions, upvalues: false }
    }
}

/// What a walk found wrong: kept outside the protected frames.
#[derive(Debug)]
enum Failure {
    /// An error of ours.
    Ours(Error),
    /// The error value is on top of the Lua stack.
    Raised,
}

/// Whether a walk may go on; the failure is in its `failure`.
type Go = std::result::Result<(), Stop>;

/// The walk ends here; why stands in its `failure`.
#[derive(Clone, Copy, Debug)]
struct Stop;

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        match failure {
            Failure::Ours(e) => e,
            Failure::Raised => raised(),
        }
    }
}

/// The Lua that this library runs on, as bytecode is tagged: it loads nowhere else.
const VM: i64 = if cfg!(feature = "luajit") {
    1
} else if cfg!(feature = "lua51") {
    51
} else if cfg!(feature = "lua52") {
    52
} else if cfg!(feature = "lua53") {
    53
} else if cfg!(feature = "lua54") {
    54
} else {
    55
};

/// A tag of bytecode in words.
fn vm_name(tag: i64) -> String {
    match tag {
        1 => "LuaJIT".into(),
        51..=99 => format!("Lua {}.{}", tag / 10, tag % 10),
        _ => format!("an unknown Lua ({tag})"),
    }
}

/// Room on the Lua stack is made for so many levels at a time. MAX_DEPTH is a multiple, so the limit is noticed on
/// time.
const LEVELS: usize = 8;
const _: () = assert!(ext::MAX_DEPTH.is_multiple_of(LEVELS));

/// The slots that so many levels take: key, value, and what looking at a metatable or an upvalue needs.
const ROOM: std::ffi::c_int = LEVELS as std::ffi::c_int * 4 + 12;

/// Makes room for a walk that goes down to `depth`, or refuses; nearly free but at every eighth level.
///
/// # Safety
/// Runs inside `Lua::protect`, in a frame that holds nothing to drop: 5.1 may raise here for want of memory.
#[inline]
unsafe fn descend(lua: Lua<'_>, l: *mut mlua_sys::lua_State, depth: usize) -> Result<()> {
    if depth % LEVELS != 1 {
        return Ok(());
    }
    if !lua.state().depth.has_room() {
        return Err(depth::too_deep());
    }
    if depth > ext::MAX_DEPTH {
        return Err(too_deep());
    }
    // SAFETY: as promised.
    if unsafe { mlua_sys::lua_checkstack(l, ROOM) } == 0 {
        return Err(no_room(ROOM));
    }
    Ok(())
}

/// The error for nesting past the limit.
fn too_deep() -> Error {
    err!(Limit, "nested deeper than {} levels", ext::MAX_DEPTH)
}

/// Whether `e` is the error for nesting past the limit, the one `[limit]` of a walk that is not a want of memory.
pub fn is_too_deep(e: &Error) -> bool {
    e.code() == crate::error::Code::Limit && e.what() == too_deep().what()
}

/// `lua_upvalueid`, which LuaJIT has too.
#[cfg(all(not(feature = "lua51"), not(feature = "luajit")))]
use mlua_sys::{lua_upvalueid as upvalue_id, lua_upvaluejoin as upvalue_join};

#[cfg(feature = "luajit")]
unsafe extern "C-unwind" {
    // Since LuaJIT 2.0: http://luajit.org/extensions.html#lua52
    #[link_name = "lua_upvalueid"]
    fn upvalue_id(l: *mut mlua_sys::lua_State, function: c_int, n: c_int) -> *mut c_void;
    #[link_name = "lua_upvaluejoin"]
    fn upvalue_join(l: *mut mlua_sys::lua_State, function: c_int, n: c_int, other: c_int, m: c_int);
}
