//! What an interrupt does, in the worker's own thread: in a signal's handler, and in the callback of the profile.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, Ordering};

use mlua_sys as ffi;

use super::super::{hook, stop_here};
use super::probe;

/// What a worker is to do when it is interrupted.
pub(super) const NOTHING: u8 = 0;
pub(super) const ASK: u8 = 1;
pub(super) const TAKE_BACK: u8 = 2;

/// What an interrupt finds in its thread: shared with the thread that interrupts.
pub(super) struct Request {
    state: *mut ffi::lua_State,
    /// The hook mask of the state.
    mask: *mut u8,
    pub order: AtomicU8,
    /// Whether the handler has run since the last interrupt.
    pub seen: AtomicBool,
    /// Whether the bit may be set.
    pub asked: AtomicBool,
}

// SAFETY: state and mask are used by the worker's own thread alone; the rest is atomic.
unsafe impl Send for Request {}
// SAFETY: as above.
unsafe impl Sync for Request {}

thread_local! {
    /// A reference, as [`Arc::into_raw`] gives it; null in threads that are no workers. It has no destructor: the C
    /// library would take memory to note that down, and end the process where there is none.
    static REQUEST: AtomicPtr<Request> = const { AtomicPtr::new(ptr::null_mut()) };
}

/// In a cancelled worker, at any place: does what a signal's handler may.
pub(super) fn interrupted() {
    REQUEST.with(|request| {
        // SAFETY: it is there until it is taken out of REQUEST, by this thread.
        let Some(request) = (unsafe { request.load(Ordering::Acquire).as_ref() }) else { return };
        match request.order.load(Ordering::Acquire) {
            ASK => request.ask(),
            TAKE_BACK => request.take_back(),
            _ => return,
        }
        request.seen.store(true, Ordering::Release);
    });
}

impl Request {
    /// For the state of this thread, whose hook mask is there: interrupts find it from now on.
    pub fn enter(state: *mut ffi::lua_State, mask: *mut u8) -> Arc<Request> {
        let request = Arc::new(Request {
            state,
            mask,
            order: AtomicU8::new(NOTHING),
            seen: AtomicBool::new(false),
            asked: AtomicBool::new(false),
        });
        let own = Arc::into_raw(request.clone()).cast_mut();
        REQUEST.with(|slot| slot.store(own, Ordering::Release));
        request
    }

    /// An interrupt of this thread does nothing from here on, and what the last one asked for is taken back.
    pub fn leave() {
        let own = REQUEST.with(|slot| slot.swap(ptr::null_mut(), Ordering::AcqRel));
        if own.is_null() {
            return;
        }
        // SAFETY: `enter` put this reference there, and nobody else takes it out.
        let request = unsafe { Arc::from_raw(own) };
        request.set_mask(request.mask() & !probe::PROFILE);
        request.order.store(NOTHING, Ordering::Release);
        request.asked.store(false, Ordering::Release);
    }

    fn mask(&self) -> u8 {
        // SAFETY: the state is open, and this is its thread.
        unsafe { self.mask.read_volatile() }
    }

    fn set_mask(&self, mask: u8) {
        // SAFETY: as above.
        unsafe { self.mask.write_volatile(mask) }
    }

    /// Makes the interpreter look at the mask, and raise at its next instruction.
    fn set_hook(&self) {
        // SAFETY: the state of this thread; a hook may be set by a signal's handler.
        unsafe { ffi::lua_sethook(self.state, Some(hook), ffi::LUA_MASKCOUNT, 1) };
    }

    /// In the handler: ends the trace, or what the interpreter runs. Not within a finalizer, nor where the profiler's
    /// callback runs or has raised.
    fn ask(&self) {
        let mask = self.mask();
        if mask & (probe::FINALIZER | probe::CALLBACK) != 0 {
            return;
        }
        self.asked.store(true, Ordering::Release);
        self.set_mask(mask | probe::PROFILE);
        self.set_hook();
    }

    /// Clears the bit. Within a finalizer LuaJIT keeps it elsewhere, and sets it again afterwards.
    fn take_back(&self) {
        let mask = self.mask();
        if mask & probe::FINALIZER != 0 || !self.asked.load(Ordering::Acquire) {
            return;
        }
        self.set_mask(mask & !probe::PROFILE);
        self.set_hook();
        self.asked.store(false, Ordering::Release);
    }
}

/// In the cancelled worker, between two instructions: what follows is as in a hook.
pub(super) unsafe extern "C-unwind" fn callback(_: *mut c_void, l: *mut ffi::lua_State, _: c_int, _: c_int) {
    // SAFETY: as in `interrupted`. LuaJIT has cleared the bit. Nothing in this frame needs dropping; the profiler lets
    // its callback raise as a hook may.
    unsafe {
        let Some(request) = REQUEST.with(|request| request.load(Ordering::Acquire)).as_ref() else { return };
        request.asked.store(false, Ordering::Release);
        if ffi::lua_checkstack(l, ffi::LUA_MINSTACK) != 0 {
            stop_here(l);
        }
    }
}
