//! Cancelling Lua code that runs: a count hook that a worker sets in its own state before anything runs there.
//!
//! On 5.1 and 5.2 a hook that waits for thousands of instructions costs nothing, so every worker has it. On 5.3 and later it takes up
//! to half of the speed, and on LuaJIT compiled code passes no hooks at all, so there it is for those who ask for it
//! (`cancel = 'code'`): LuaJIT then interprets.

use std::cell::Cell;

use mlua::ffi;

use crate::bind::lua::Lua;
use crate::wait::Cancel;

/// Whether the hook costs nothing.
pub(super) const FREE: bool = cfg!(any(feature = "lua51", feature = "lua52"));

/// Instructions between two looks.
const COUNT: std::ffi::c_int = 10_000;

const TEXT: &std::ffi::CStr = c"libipc [cancelled] this thread was cancelled by another";

thread_local! {
    /// What cancels the code of this thread; null outside of [`Armed`].
    static CANCEL: Cell<*const Cancel> = const { Cell::new(std::ptr::null()) };
}

/// The hook is set; dropped, it is taken away, so that finalizers run in peace.
#[derive(Debug)]
pub(super) struct Armed<'a> {
    lua: Lua<'a>,
}

impl<'a> Armed<'a> {
    /// Lets `cancel`, which outlives the call, end the Lua code of this state.
    pub(super) fn new(lua: Lua<'a>, cancel: &'a Cancel) -> Armed<'a> {
        CANCEL.set(cancel);
        #[cfg(feature = "luajit")]
        // SAFETY: switches the compiler of this state off, which cannot fail for the whole engine.
        unsafe {
            luaJIT_setmode(lua.raw(), 0, 0);
        }
        // SAFETY: sets a hook in a state of this thread; raises nothing.
        unsafe { ffi::lua_sethook(lua.raw(), Some(hook), ffi::LUA_MASKCOUNT, COUNT) };
        Armed { lua }
    }
}

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { ffi::lua_sethook(self.lua.raw(), None, 0, 0) };
        CANCEL.set(std::ptr::null());
    }
}

#[cfg(feature = "luajit")]
unsafe extern "C-unwind" {
    // http://luajit.org/ext_c_api.html: mode 0 with index 0 is LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF.
    fn luaJIT_setmode(l: *mut ffi::lua_State, index: std::ffi::c_int, mode: std::ffi::c_int) -> std::ffi::c_int;
}

/// Raises in a cancelled thread: and from then on at every instruction, so that code which catches errors ends too.
unsafe extern "C-unwind" fn hook(l: *mut ffi::lua_State, _: *mut ffi::lua_Debug) {
    // SAFETY: CANCEL is null or what `Armed`, which is alive, was given. Lua may raise: nothing here needs dropping.
    unsafe {
        if !CANCEL.get().as_ref().is_some_and(Cancel::fired) {
            return;
        }
        ffi::lua_sethook(l, Some(hook), ffi::LUA_MASKCOUNT, 1);
        ffi::luaL_where(l, 0);
        ffi::lua_pushstring(l, TEXT.as_ptr());
        ffi::lua_concat(l, 2);
        ffi::lua_error(l);
    }
}
