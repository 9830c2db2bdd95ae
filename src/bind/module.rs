//! The table that `require 'libipc'` returns, and what a Lua state needs before it.

use std::ffi::c_int;

use mlua_sys as ffi;

use crate::bind::codec::class;
use crate::bind::peer::client;
use crate::bind::peer::launch;
use crate::bind::peer::meeting;
use crate::bind::peer::server;
use crate::bind::process::flock;
use crate::bind::process::spawn;
use crate::bind::process::system;
use crate::bind::sync::atomic;
use crate::bind::sync::channel;
use crate::bind::sync::marshal;
use crate::bind::sync::mutex;
use crate::bind::sync::sharedtable;
use crate::bind::sync::workqueue;
use crate::bind::tensor;
use crate::bind::threads::batch;
use crate::bind::threads::cancel;
use crate::bind::threads::future;
use crate::bind::threads::map;
use crate::bind::threads::pool;
use crate::bind::vm::host;
use crate::bind::vm::{ClassInfo, Count, Library, Lua, Method, Pushed, count, push_bound};
use crate::bind::wait::events;
use crate::bind::wait::report;
use crate::bind::wait::scheduler;
use crate::bind::wait::select;
use crate::error::{Code, Result};
use crate::lua_fn;
use crate::sys::{has_room_for_thread_locals, prepare_memory, tell_panics};

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
    spawn::FUNCTIONS,
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
    tensor::IPC_FUNCTIONS,
];

/// Every class whose objects Lua can hold.
const CLASSES: &[&ClassInfo] = &[
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
    &spawn::INFO,
    &launch::INFO,
    &client::INFO,
    &server::INFO,
    &server::handle::INFO,
    &events::DESCRIPTOR,
    &events::TIMER,
    &tensor::TENSOR,
    &tensor::STORAGE,
];

static LIBRARY: Library = Library {
    open: luaopen_libipc,
    classes: CLASSES,
    variant: tensor::class_name,
    push_tensor: tensor::push,
    push_storage: tensor::push_storage,
    cancelled: cancel::end_code_too,
};

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
        push_bound(l, &LIBRARY, lua_fn!("require 'libipc'", open));
        ffi::lua_call(l, 0, 1);
        1
    }
}

/// `require 'libipc.torch'`: these tensors, whatever else is installed.
///
/// # Safety
/// Called by Lua with its own state.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn luaopen_libipc_torch(l: *mut ffi::lua_State) -> Count {
    // SAFETY: nothing in this frame needs dropping, so Lua may raise from anywhere in it.
    unsafe {
        push_bound(l, &LIBRARY, lua_fn!("require 'libipc.torch'", tensor::open));
        ffi::lua_call(l, 0, 1);
        count(1)
    }
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
