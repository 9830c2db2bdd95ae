//! Cancelling Lua code that runs: by a count hook, which a worker sets in its own state before anything runs there.
//!
//! On 5.1 and 5.2 a hook that waits for thousands of instructions costs nothing, so every worker has it. On 5.3 and
//! later it takes up to half of the speed, so there it is for those who ask for it (`cancel = 'code'`). On LuaJIT
//! compiled code passes no hooks: there the profiler makes it stop ([`compiled`]), and the hook is set when it has; who
//! asks for it by `'code'` gets the hook from the start, and an interpreter.

use std::cell::Cell;

use mlua_sys as ffi;

use crate::bind::vm::Lua;
use crate::wait::Cancel;

#[cfg(all(feature = "luajit", target_os = "linux"))]
mod compiled;

/// Whether the hook costs nothing.
const FREE: bool = cfg!(any(feature = "lua51", feature = "lua52"));

/// Instructions between two looks.
const COUNT: std::ffi::c_int = 10_000;

const TEXT: &std::ffi::CStr = c"libipc [cancelled] this thread was cancelled by another";

thread_local! {
    /// What cancels the code of this thread; null outside of [`Armed`].
    static CANCEL: Cell<*const Cancel> = const { Cell::new(std::ptr::null()) };
}

/// Code can be cancelled; dropped, the hook is taken away, so that finalizers run in peace.
#[derive(Debug)]
pub(super) struct Armed<'a> {
    lua: Lua<'a>,
    #[cfg(all(feature = "luajit", target_os = "linux"))]
    compiled: Option<compiled::Armed>,
}

impl<'a> Armed<'a> {
    /// Lets `cancel`, which outlives the call, end the Lua code of this state: where that costs little, or if `asked`.
    pub(in crate::bind) fn new(lua: Lua<'a>, cancel: &'a Cancel, asked: bool) -> Armed<'a> {
        CANCEL.set(cancel);
        lua.state().end_all_calls(true);
        if asked || FREE {
            #[cfg(feature = "luajit")]
            // SAFETY: switches the compiler of this state off, which cannot fail for the whole engine.
            unsafe {
                luaJIT_setmode(lua.raw(), 0, 0);
            }
            // SAFETY: sets a hook in a state of this thread; raises nothing.
            unsafe { ffi::lua_sethook(lua.raw(), Some(hook), ffi::LUA_MASKCOUNT, COUNT) };
        }
        Armed {
            lua,
            #[cfg(all(feature = "luajit", target_os = "linux"))]
            compiled: if asked { None } else { compiled::Armed::new(lua, cancel) },
        }
    }
}

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        // First, since an interrupt sets the hook.
        #[cfg(all(feature = "luajit", target_os = "linux"))]
        drop(self.compiled.take());
        // SAFETY: as above.
        unsafe { ffi::lua_sethook(self.lua.raw(), None, 0, 0) };
        CANCEL.set(std::ptr::null());
        self.lua.state().end_all_calls(false);
    }
}

/// A call has raised `[cancelled]`. Where that is this thread's own end, and its code had no hook so far, it has one
/// from now on: what the error has it clean up takes less than [`COUNT`] instructions, and a loop that catches the
/// error of each call takes more. The main thread too, since each of those calls may be a coroutine's that ends with
/// it.
pub(in crate::bind) fn end_code_too(lua: Lua<'_>) {
    // SAFETY: as in `hook`.
    if FREE || cfg!(feature = "luajit") || !unsafe { CANCEL.get().as_ref() }.is_some_and(Cancel::fired) {
        return;
    }
    for l in [lua.raw(), lua.state().main.get()] {
        // SAFETY: null, the calling thread or the main one, which lives as long; looking at a hook and setting one
        // raises nothing.
        unsafe {
            if !l.is_null() && ffi::lua_gethook(l).is_none() {
                ffi::lua_sethook(l, Some(hook), ffi::LUA_MASKCOUNT, COUNT);
            }
        }
    }
}

#[cfg(feature = "luajit")]
unsafe extern "C-unwind" {
    // http://luajit.org/ext_c_api.html: mode 0 with index 0 is LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF.
    fn luaJIT_setmode(l: *mut ffi::lua_State, index: std::ffi::c_int, mode: std::ffi::c_int) -> std::ffi::c_int;
}

/// Raises in a cancelled thread.
unsafe extern "C-unwind" fn hook(l: *mut ffi::lua_State, event: *mut ffi::lua_Debug) {
    // SAFETY: CANCEL is null or what `Armed`, which is alive, was given. Lua may raise: nothing here needs dropping.
    unsafe {
        if CANCEL.get().as_ref().is_some_and(Cancel::fired) && !closing::goes_on(l, (*event).event) {
            stop_here(l);
        }
    }
}

/// Raises, and from then on at every instruction, so that code which catches errors ends too.
///
/// # Safety
/// Called where Lua may raise, with [`ffi::LUA_MINSTACK`] slots free; no value of the callers' frames needs dropping.
unsafe fn stop_here(l: *mut ffi::lua_State) {
    // SAFETY: as promised; CANCEL as in `hook`.
    unsafe {
        if let Some(cancel) = CANCEL.get().as_ref() {
            drop(cancel.hear());
        }
        ffi::lua_sethook(l, Some(hook), ffi::LUA_MASKCOUNT | closing::raised(), 1);
        ffi::luaL_where(l, 0);
        ffi::lua_pushstring(l, TEXT.as_ptr());
        ffi::lua_concat(l, 2);
        ffi::lua_error(l);
    }
}

/// Lets what an error calls on its way run to its end: `__close` metamethods, and message handlers. Without this the
/// first instruction of each would raise.
#[cfg(any(feature = "lua54", feature = "lua55"))]
mod closing {
    use std::cell::Cell;
    use std::ffi::c_int;
    use std::time::{Duration, Instant};

    use mlua_sys as ffi;

    use super::{COUNT, hook};
    use crate::sys::own_cpu_ns;

    /// How long all of them together may take: by the clock, and by what they compute, since the thread may have had no
    /// core meanwhile.
    const GRACE: Duration = Duration::from_millis(250);
    /// By the clock at the most.
    const LONGEST_GRACE: Duration = Duration::from_secs(10);

    /// A coroutine, and the depth of its stack in a function that the error calls.
    type StackPlace = (*mut ffi::lua_State, c_int);

    thread_local! {
        /// When the thread was first told to end, and for how many nanoseconds it had computed then.
        static SINCE: Cell<Option<(Instant, u64)>> = const { Cell::new(None) };
        static INSIDE: Cell<Option<StackPlace>> = const { Cell::new(None) };
    }

    /// Notes that the thread is told to end; what more to hook.
    pub(in crate::bind) fn raised() -> c_int {
        INSIDE.set(None);
        let since = SINCE.get().unwrap_or_else(|| (Instant::now(), own_cpu_ns()));
        SINCE.set(Some(since));
        if has_time(since) { ffi::LUA_MASKCALL } else { 0 }
    }

    fn has_time((since, computed): (Instant, u64)) -> bool {
        let elapsed = since.elapsed();
        elapsed < GRACE || elapsed < LONGEST_GRACE && own_cpu_ns().saturating_sub(computed) < GRACE.as_nanos() as u64
    }

    /// Whether this `event` of a cancelled thread is to pass.
    ///
    /// # Safety
    /// In a hook of `l`.
    pub(super) unsafe fn goes_on(l: *mut ffi::lua_State, event: c_int) -> bool {
        if !SINCE.get().is_some_and(has_time) {
            return false;
        }
        // SAFETY: a hook may look at the stack and set another hook.
        unsafe {
            match (event, INSIDE.get()) {
                // The instruction after a caught error comes before its next call: so this call is the error's own.
                (ffi::LUA_HOOKCALL | ffi::LUA_HOOKTAILCALL, None) => {
                    INSIDE.set(Some((l, depth(l))));
                    ffi::lua_sethook(l, Some(hook), ffi::LUA_MASKCOUNT | ffi::LUA_MASKRET, COUNT);
                    true
                }
                (ffi::LUA_HOOKRET, Some(place)) => {
                    if place == (l, depth(l)) {
                        INSIDE.set(None);
                        ffi::lua_sethook(l, Some(hook), ffi::LUA_MASKCOUNT | ffi::LUA_MASKCALL, 1);
                    }
                    true
                }
                // It may have left by an error.
                (ffi::LUA_HOOKCOUNT, Some((co, entered))) => co != l || depth(l) >= entered,
                _ => false,
            }
        }
    }

    unsafe fn depth(l: *mut ffi::lua_State) -> c_int {
        let mut n = 0;
        // SAFETY: looks at the stack only; all zeros is a valid lua_Debug.
        unsafe {
            let mut ar: ffi::lua_Debug = std::mem::zeroed();
            while ffi::lua_getstack(l, n, &mut ar) != 0 {
                n += 1;
            }
        }
        n
    }
}

/// No error calls anything on its way.
#[cfg(not(any(feature = "lua54", feature = "lua55")))]
mod closing {
    use std::ffi::c_int;

    use mlua_sys as ffi;

    pub(in crate::bind) fn raised() -> c_int {
        0
    }

    pub(super) unsafe fn goes_on(_: *mut ffi::lua_State, _: c_int) -> bool {
        false
    }
}
