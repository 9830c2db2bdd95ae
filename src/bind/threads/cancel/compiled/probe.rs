//! Where a LuaJIT state keeps its hook mask, found by what it does: the mask's address and bits are not part of
//! LuaJIT's API.
//!
//! A LuaJIT of another version than 2.1, or one that does not behave as expected, is left alone. `IPC_CANCEL=code` does
//! the same.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

use mlua_sys as ffi;

use crate::bind::vm::{Count, c_function, count};
use crate::sys::{Sigprof, sigprof};

/// Bits of the mask: the hooks that the API knows.
const EVENTS: u8 = 0x0f;
/// The profiler's callback runs, or has raised.
pub(super) const CALLBACK: u8 = 0x20;
/// A finalizer runs.
pub(super) const FINALIZER: u8 = 0x40;
/// The profiler asks for its callback: what traces look at.
pub(super) const PROFILE: u8 = 0x80;

/// The mask lies so far behind the start of a state's main thread, if this is not 0.
static OFFSET: AtomicUsize = AtomicUsize::new(UNKNOWN);
const UNKNOWN: usize = 0;
/// The offset is known, but not yet what the profiler does: the bits above it.
const UNTRIED: usize = 1 << (usize::BITS - 1);
const NOT_AS_KNOWN: usize = usize::MAX;

/// A main thread and the global state behind it are one block of memory, longer than this.
const SEARCHED: usize = 2048;

/// Whether the user does without all this.
pub(super) fn is_switched_off() -> bool {
    crate::sys::env_var("IPC_CANCEL").is_some_and(|how| how == "code")
}

/// Looks where a new state that nobody uses keeps its mask.
///
/// # Safety
/// This thread alone uses `l`, the main thread of a state.
pub(super) unsafe fn look(l: *mut ffi::lua_State) {
    if OFFSET.load(Ordering::Acquire) != UNKNOWN {
        return;
    }
    // SAFETY: as promised.
    let found = unsafe { find(l) }.map_or(NOT_AS_KNOWN, |at| at | UNTRIED);
    let _ = OFFSET.compare_exchange(UNKNOWN, found, Ordering::AcqRel, Ordering::Relaxed);
}

/// The mask of the state `l`, whose thread this is; `None` where LuaJIT is not as it is known here. `dummy` is a state
/// that has the profile.
///
/// # Safety
/// Nobody else uses `dummy` or starts a profile.
pub(super) unsafe fn mask_of(l: *mut ffi::lua_State, dummy: *mut ffi::lua_State) -> Option<*mut u8> {
    let offset = match OFFSET.load(Ordering::Acquire) {
        UNKNOWN | NOT_AS_KNOWN => return None,
        untried if untried & UNTRIED != 0 => {
            let offset = untried & !UNTRIED;
            // SAFETY: as promised; the offset was found in a state.
            let known = unsafe { profiles_as_known(dummy, offset) };
            OFFSET.store(if known { offset } else { NOT_AS_KNOWN }, Ordering::Release);
            known.then_some(offset)?
        }
        offset => offset,
    };
    // SAFETY: a slot is free; the mask lies in the block of a main thread.
    unsafe {
        let is_main = ffi::lua_pushthread(l) != 0;
        ffi::lua_settop(l, -2);
        let mask = l.cast::<u8>().add(offset);
        (is_main && *mask & !EVENTS == 0 && c_int::from(*mask) == ffi::lua_gethookmask(l)).then_some(mask)
    }
}

unsafe extern "C-unwind" fn no_hook(_: *mut ffi::lua_State, _: *mut ffi::lua_Debug) {}

/// The offset of the only byte that is the mask of hooks, whichever are set.
unsafe fn find(l: *mut ffi::lua_State) -> Option<usize> {
    const TRIED: [c_int; 8] = [0, 1, 8, 15, 2, 4, 10, 0];
    // SAFETY: the block is longer than what is read; setting a hook raises nothing.
    unsafe {
        if !is_known_version(l) {
            return None;
        }
        let block = l.cast::<u8>();
        let mut places: Vec<usize> = (1..SEARCHED).collect();
        for mask in TRIED {
            ffi::lua_sethook(l, Some(no_hook), mask, c_int::MAX);
            places.retain(|at| c_int::from(block.add(*at).read_volatile()) == mask);
        }
        let [place] = places[..] else { return None };
        let mut seen = Finalizer { mask: block.add(place), found: 0 };
        let collected = ffi::lua_cpcall(l, c_function(collect), (&raw mut seen).cast()) == ffi::LUA_OK;
        ffi::lua_settop(l, 0);
        (collected && seen.found & FINALIZER != 0 && seen.found & PROFILE == 0 && *seen.mask == 0).then_some(place)
    }
}

unsafe fn is_known_version(l: *mut ffi::lua_State) -> bool {
    unsafe extern "C-unwind" fn version(l: *mut ffi::lua_State) -> Count {
        // SAFETY: called under cpcall; slot 1 is a pointer to a number.
        unsafe {
            let found = ffi::lua_touserdata(l, 1) as *mut f64;
            ffi::lua_pushcclosure(l, ffi::luaopen_jit, 0);
            ffi::lua_pushstring(l, c"jit".as_ptr());
            ffi::lua_call(l, 1, 0);
            ffi::lua_getfield(l, ffi::LUA_GLOBALSINDEX, c"jit".as_ptr());
            ffi::lua_getfield(l, -1, c"version_num".as_ptr());
            *found = ffi::lua_tonumber(l, -1);
        }
        count(0)
    }
    let mut found = 0.0f64;
    // SAFETY: what is raised ends here.
    unsafe {
        let status = ffi::lua_cpcall(l, c_function(version), (&raw mut found).cast());
        ffi::lua_settop(l, 0);
        status == ffi::LUA_OK && (20100.0..20200.0).contains(&found)
    }
}

struct Finalizer {
    mask: *const u8,
    found: u8,
}

/// Runs a finalizer, which reads the mask.
unsafe extern "C-unwind" fn collect(l: *mut ffi::lua_State) -> Count {
    unsafe extern "C-unwind" fn finalizer(l: *mut ffi::lua_State) -> Count {
        // SAFETY: slot 1 is the userdata below, the pointer in which is good while `collect` runs.
        unsafe {
            let seen = *(ffi::lua_touserdata(l, 1) as *mut *mut Finalizer);
            (*seen).found = (*seen).mask.read_volatile();
        }
        count(0)
    }
    // SAFETY: called under cpcall; slot 1 is a pointer to a Finalizer.
    unsafe {
        let seen = ffi::lua_touserdata(l, 1);
        *(ffi::lua_newuserdata(l, size_of::<*mut c_void>()) as *mut *mut c_void) = seen;
        ffi::lua_createtable(l, 0, 1);
        ffi::lua_pushcclosure(l, c_function(finalizer), 0);
        ffi::lua_setfield(l, -2, c"__gc".as_ptr());
        ffi::lua_setmetatable(l, -2);
        ffi::lua_settop(l, 0);
        ffi::lua_gc(l, ffi::LUA_GCCOLLECT, 0);
    }
    count(0)
}

/// Whether LuaJIT's handler of SIGPROF sets the bit in the mask of the state that has the profile.
unsafe fn profiles_as_known(dummy: *mut ffi::lua_State, offset: usize) -> bool {
    let handler = match sigprof() {
        Sigprof::Taken(handler) if handler != libc::SIG_DFL && handler != libc::SIG_IGN => handler,
        _ => return false,
    };
    // SAFETY: LuaJIT has put its handler there for the dummy, which runs nothing.
    unsafe {
        let mask = dummy.cast::<u8>().add(offset);
        let before = mask.read_volatile();
        let handler = std::mem::transmute::<usize, extern "C" fn(c_int)>(handler);
        handler(libc::SIGPROF);
        let after = mask.read_volatile();
        mask.write_volatile(before);
        ffi::lua_sethook(dummy, None, 0, 0);
        before == 0 && after == PROFILE
    }
}
