//! What a Lua state gets before anything of ours is called in it: its [`State`].

use std::ffi::{c_char, c_int};

use mlua_sys as ffi;

use crate::bind::vm::call::{Count, c_function, count};
use crate::bind::vm::library::Library;
use crate::bind::vm::state::State;
use crate::wait::show_thread_of;

/// Where the registry keeps the State: one a Lua state, however often the module is opened.
const STATE: &std::ffi::CStr = c"libipc.state";

/// Pushes the State of `l`, made at the first call.
///
/// # Safety
/// Called by Lua with its own state; no value of the callers' frames needs dropping.
unsafe fn push_state(l: *mut ffi::lua_State, library: &'static Library) {
    // SAFETY: as promised, Lua may raise; the State is written into its userdata before anything can.
    unsafe {
        ffi::lua_getfield(l, ffi::LUA_REGISTRYINDEX, STATE.as_ptr());
        if ffi::lua_type(l, -1) == ffi::LUA_TUSERDATA {
            return;
        }
        ffi::lua_settop(l, -2);
        let state = ffi::lua_newuserdata(l, size_of::<State>()) as *mut State;
        const { assert!(align_of::<State>() <= 8, "Lua aligns userdata to 8 bytes") };
        state.write(State::new(library));
        show_thread_of((*state).owner());
        if ffi::lua_pushthread(l) != 0 {
            (*state).main.set(l);
        }
        ffi::lua_settop(l, -2);
        ffi::lua_createtable(l, 0, 1);
        ffi::lua_pushcclosure(l, close_state, 0);
        ffi::lua_setfield(l, -2, c"__gc".as_ptr());
        ffi::lua_setmetatable(l, -2);

        ffi::lua_pushvalue(l, -1);
        ffi::lua_pushcclosure(l, c_function(run_job), 1);
        (*state).protected.set((*state).references.add(l));
        let empty = b"return";
        ffi::luaL_loadbufferx(l, empty.as_ptr() as *const c_char, empty.len(), c"=libipc".as_ptr(), c"t".as_ptr());
        (*state).empty.set((*state).references.add(l));
        ffi::lua_pushglobaltable(l);
        (*state).globals.set((*state).references.add(l));

        ffi::lua_pushvalue(l, -1);
        ffi::lua_setfield(l, ffi::LUA_REGISTRYINDEX, STATE.as_ptr());
    }
}

/// Pushes a function made by [`lua_fn!`](crate::lua_fn), with the State of `l` as its upvalue.
///
/// # Safety
/// As [`push_state`].
pub(in crate::bind) unsafe fn push_bound(l: *mut ffi::lua_State, library: &'static Library, f: ffi::lua_CFunction) {
    // SAFETY: as promised.
    unsafe {
        push_state(l, library);
        ffi::lua_pushcclosure(l, f, 1);
    }
}

/// The finalizer of the State: called once, when the Lua state closes.
unsafe extern "C-unwind" fn close_state(l: *mut ffi::lua_State) -> c_int {
    // SAFETY: slot 1 is the State userdata. Its memory stays until the Lua state is gone.
    unsafe {
        let state = ffi::lua_touserdata(l, 1) as *const State;
        if !state.is_null() {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (*state).close()));
        }
    }
    0
}

/// The one C function that `Lua::protect` calls: runs the job that the State holds.
unsafe extern "C-unwind" fn run_job(l: *mut ffi::lua_State) -> Count {
    // SAFETY: upvalue 1 is the State; the job's data waits in the frame that called pcall.
    let n = unsafe {
        let state = ffi::lua_touserdata(l, ffi::lua_upvalueindex(1)) as *const State;
        match (*state).job.take() {
            Some((call, data)) => call(data, l),
            None => 0,
        }
    };
    count(n)
}
