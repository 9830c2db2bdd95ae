//! Cancelling compiled loops of LuaJIT, which pass no hooks: by the checks of its profiler, which traces do carry.
//!
//! A worker's state compiles under the profiler's mode `l`: each trace then looks at one bit of its state's hook mask,
//! at every line. A cancelled worker that computes is interrupted: in a signal's handler, in its own thread, it sets
//! that bit and a count hook. The trace ends at its next check, and the interpreter raises at its next instruction.
//!
//! Any number of workers can be asked at once, and one that does not come out of a C function or a finalizer keeps
//! nothing from the others. What makes this sound:
//!
//! - The handler does what the interpreters' own handler of Ctrl-C does (`lua_sethook`), and what LuaJIT's handler of
//!   SIGPROF does, which sets the same bit. No state is changed by another thread.
//! - Where a state keeps its hook mask is found by a test of how LuaJIT behaves ([`probe`]), before the first worker is
//!   asked.
//! - Where the bit is set, the interpreter calls the callback of the profile, which is one for the process. It is
//!   [`callback`] as long as a state of ours, the dummy, has the profile; so it has it while anybody is asked. Its
//!   timer never fires.
//! - To have it for a short while only, the request is taken back after [`ASKED_FOR`], and made again after a pause.
//!   The count hook stays: code that comes back from C to the interpreter ends at once.
//! - To ask for the checks in traces is to ask for a profile. LuaJIT notes the mode also of a state that asks while
//!   another has the profile, as the dummy does.
//! - A program that profiles itself is left alone: its workers' loops are then not ended, but abandoned.
//!
//! `request` is what happens in the worker's thread, `board` who is asked when, by the one thread that does.

mod board;
mod probe;
mod request;

use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::rc::Rc;

use mlua_sys as ffi;

use self::board::{board, man};
use self::request::{Request, callback};
use crate::bind::vm::Lua;
use crate::wait::Cancel;

type Callback = unsafe extern "C-unwind" fn(*mut c_void, *mut ffi::lua_State, c_int, c_int);

unsafe extern "C-unwind" {
    // https://luajit.org/ext_profiler.html
    fn luaJIT_profile_start(l: *mut ffi::lua_State, mode: *const c_char, callback: Callback, data: *mut c_void);
    fn luaJIT_profile_stop(l: *mut ffi::lua_State);
}

/// Checks at each line of a trace.
const BY_LINE: &std::ffi::CStr = c"l";

/// Kept by a state whose thread may be interrupted, and dropped when that state closes: `os.exit` may close it while
/// [`Armed`] is still there, and an interrupt would then write to freed memory.
struct AtClose;

impl Drop for AtClose {
    fn drop(&mut self) {
        Request::leave();
    }
}

/// The traces of this thread's state carry checks, and a cancel ends them.
#[derive(Debug)]
pub(super) struct Armed {
    id: u64,
}

impl Armed {
    /// For the state of this thread, to be ended by `cancel`, which outlives this. `None` where LuaJIT is not as it is
    /// known here, or somebody profiles.
    pub(super) fn new(lua: Lua<'_>, cancel: &Cancel) -> Option<Armed> {
        if probe::is_switched_off() {
            return None;
        }
        // States are made and closed without the lock: a fork would wait for it.
        // SAFETY: makes a state, or gives null; it is used here alone until it is the board's.
        let mut spare = if board().lock().dummy.is_null() { unsafe { ffi::luaL_newstate() } } else { ptr::null_mut() };
        if !spare.is_null() {
            // SAFETY: as above.
            unsafe { probe::look(spare) };
        }
        lua.state().extra(|| Rc::new(AtClose));
        let armed = Armed::enter(lua, cancel, &mut spare);
        if !spare.is_null() {
            // SAFETY: nobody else knows of it.
            unsafe { ffi::lua_close(spare) };
        }
        if armed.is_some() && cancel.fired() {
            man();
        }
        armed
    }

    /// The part under the lock; takes `spare` for the dummy, if there is none.
    fn enter(lua: Lua<'_>, cancel: &Cancel, spare: &mut *mut ffi::lua_State) -> Option<Armed> {
        let mut board = board().lock();
        board.refresh();
        if board.dummy.is_null() {
            board.dummy = std::mem::replace(spare, ptr::null_mut());
        }
        if board.dummy.is_null() || !board.hold() {
            return None;
        }
        // SAFETY: the dummy has the profile, and this is the thread of the other state.
        let mask = unsafe { probe::mask_of(lua.raw(), board.dummy) };
        let armed = mask.map(|mask| {
            // SAFETY: the dummy has the profile: what another state asks for is noted in that state alone, which is
            // this thread's.
            unsafe { luaJIT_profile_start(lua.raw(), BY_LINE.as_ptr(), callback, ptr::null_mut()) };
            Armed { id: board.add(cancel, Request::enter(lua.raw(), mask)) }
        });
        board.release();
        armed
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        Request::leave();
        let mut board = board().lock();
        board.refresh();
        board.remove(self.id);
    }
}
