//! The table that `require 'libipc'` returns, and what a Lua state needs before it.

use std::ffi::{c_char, c_int};

use mlua_sys as ffi;

use crate::bind::atomic;
use crate::bind::batch;
use crate::bind::call::{Count, Pushed, c_function, count};
use crate::bind::channel;
use crate::bind::class;
use crate::bind::client;
use crate::bind::events;
use crate::bind::flock;
use crate::bind::future;
use crate::bind::host;
use crate::bind::launch;
use crate::bind::lua::Lua;
use crate::bind::map;
use crate::bind::marshal;
use crate::bind::meeting;
use crate::bind::mutex;
use crate::bind::object::{ClassInfo, Method, class_at};
use crate::bind::pool;
use crate::bind::process;
use crate::bind::report;
use crate::bind::scheduler;
use crate::bind::select;
use crate::bind::server;
use crate::bind::sharedtable;
use crate::bind::state::State;
use crate::bind::system;
use crate::bind::tensor;
use crate::bind::workqueue;
use crate::error::{Code, Result};
use crate::lua_fn;
use crate::sys::{has_room_for_thread_locals, prepare_memory, tell_panics};
use crate::wait::show_thread_of;

/// The functions of the module.
const FUNCTIONS: &[&[Method]] = &[
    &[("type", lua_fn!("ipc.type", type_of)), ("errcode", lua_fn!("ipc.errcode", errcode))],
    class::FUNCTIONS,
    marshal::FUNCTIONS,
    mutex::FUNCTIONS,
    atomic::FUNCTIONS,
    sharedtable::FUNCTIONS,
    system::FUNCTIONS,
    flock::FUNCTIONS,
    report::FUNCTIONS,
    process::FUNCTIONS,
    launch::FUNCTIONS,
    workqueue::FUNCTIONS,
    map::FUNCTIONS,
    pool::FUNCTIONS,
    batch::FUNCTIONS,
    meeting::FUNCTIONS,
    client::FUNCTIONS,
    server::FUNCTIONS,
    select::FUNCTIONS,
    events::FUNCTIONS,
];

/// Every class whose objects Lua can hold.
pub(super) const CLASSES: &[&ClassInfo] = &[
    &marshal::INFO,
    &atomic::INFO,
    &flock::INFO,
    &mutex::INFO,
    &sharedtable::INFO,
    &workqueue::INFO,
    &channel::INFO,
    &map::INFO,
    &pool::INFO,
    &batch::INFO,
    &future::INFO,
    &meeting::INFO,
    &process::INFO,
    &launch::INFO,
    &client::INFO,
    &server::INFO,
    &server::handle::INFO,
    &events::FD,
    &events::TIMER,
    &tensor::TENSOR,
    &tensor::STORAGE,
];

/// Adds the table on top to the module's, below it, as field `name`, and lets `make` be called by calling it. It is a
/// loaded module too, so that it and its functions may be upvalues of functions that travel.
pub(super) fn add_maker(lua: Lua<'_>, name: &str, make: ffi::lua_CFunction) -> Result<()> {
    lua.new_table(0, 1)?;
    lua.push_function(make)?;
    lua.raw_set_field(-2, "__call")?;
    lua.set_metatable(-2);
    lua.push_value(-1);
    lua.push_string(&format!("libipc.{name}"))?;
    // SAFETY: in protect everything may be called; slot 1 is the table, 2 its name. "_LOADED" is package.loaded on
    // every Lua there is.
    lua.protect(2, 0, |l| unsafe {
        ffi::lua_getfield(l, ffi::LUA_REGISTRYINDEX, c"_LOADED".as_ptr());
        if ffi::lua_type(l, -1) == ffi::LUA_TTABLE {
            ffi::lua_pushvalue(l, 2);
            ffi::lua_pushvalue(l, 1);
            ffi::lua_settable(l, -3);
        }
        0
    })?;
    lua.raw_set_field(-2, name)
}

/// Where the registry keeps the State: one a Lua state, however often the module is opened.
const STATE: &std::ffi::CStr = c"libipc.state";

/// `require 'libipc'`.
///
/// # Safety
/// Called by Lua with its own state.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn luaopen_libipc(l: *mut ffi::lua_State) -> c_int {
    // SAFETY: nothing in this frame needs dropping, so Lua may raise from anywhere in it.
    unsafe {
        host::check(l);
        prepare_memory();
        // This thread's first uses of them, while it is known that there is memory.
        if !has_room_for_thread_locals() {
            ffi::luaL_error(l, c"libipc [limit] require 'libipc': not enough memory".as_ptr());
        }
        crate::wait::prepare_thread();
        crate::wire::prepare_thread();
        push_state(l);
        ffi::lua_pushcclosure(l, lua_fn!("require 'libipc'", open), 1);
        ffi::lua_call(l, 0, 1);
        1
    }
}

/// Pushes the State of `l`, made at the first call.
///
/// # Safety
/// Called by Lua with its own state; no value of the callers' frames needs dropping.
pub(super) unsafe fn push_state(l: *mut ffi::lua_State) {
    // SAFETY: as promised, Lua may raise; the State is written into its userdata before anything can.
    unsafe {
        ffi::lua_getfield(l, ffi::LUA_REGISTRYINDEX, STATE.as_ptr());
        if ffi::lua_type(l, -1) == ffi::LUA_TUSERDATA {
            return;
        }
        ffi::lua_settop(l, -2);
        let state = ffi::lua_newuserdata(l, size_of::<State>()) as *mut State;
        const { assert!(align_of::<State>() <= 8, "Lua aligns userdata to 8 bytes") };
        state.write(State::new());
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

/// Pushes a bound function, with the State of `l` as its upvalue.
///
/// # Safety
/// As [`push_state`].
pub(super) unsafe fn push_bound(l: *mut ffi::lua_State, f: ffi::lua_CFunction) {
    // SAFETY: as promised.
    unsafe {
        push_state(l);
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

/// Builds the module's table.
fn open(lua: Lua<'_>) -> Result<Pushed> {
    tell_panics();
    lua.new_table(0, 64)?;
    for (name, function) in FUNCTIONS.iter().copied().flatten() {
        lua.push_function(*function)?;
        lua.raw_set_field(-2, name)?;
    }
    lua.push_string(concat!("libipc ", env!("CARGO_PKG_VERSION")))?;
    lua.raw_set_field(-2, "_VERSION")?;
    channel::install(lua)?;
    sharedtable::install(lua)?;
    scheduler::install(lua)?;
    tensor::install(lua)?;
    Ok(1)
}

/// The class of the object in slot `i`, if it is one of ours.
pub fn class_of(lua: Lua<'_>, i: c_int) -> Option<&'static str> {
    if let Some(name) = tensor::class_name(lua, i) {
        return Some(name);
    }
    class_at(lua, i, CLASSES).map(|info| info.name)
}

/// `ipc.type(x)`: the class of an object of ours, else `type(x)`.
fn type_of(lua: Lua<'_>) -> Result<Pushed> {
    if lua.top() == 0 {
        return Err(lua.expected(1, "value"));
    }
    let name = lua.describe(1);
    lua.push_string(&name)?;
    Ok(1)
}

/// `ipc.errcode(e)`: the code in the text of one of our errors, wherever in it the text begins.
fn errcode(lua: Lua<'_>) -> Result<Pushed> {
    let text = lua.argument_bytes(1).unwrap_or_default();
    match code_in(text) {
        Some(code) => lua.push_string(code)?,
        None => lua.push_nil(),
    }
    Ok(1)
}

/// The code of the first `libipc [code]` in `text`.
fn code_in(text: &[u8]) -> Option<&str> {
    const MARK: &[u8] = b"libipc [";
    let start = text.windows(MARK.len()).position(|w| w == MARK)? + MARK.len();
    let length = text[start..].iter().position(|b| *b == b']')?;
    std::str::from_utf8(&text[start..start + length]).ok().filter(|name| Code::ALL.iter().any(|c| c.name() == *name))
}
