//! The Lua states of threads: made, filled, used and closed by the thread itself.
//!
//! A [`Setup`] is what of the parent's surroundings a thread shall find; [`run`] is a thread's whole job. What a map
//! and a pool do in such a state stands with them.

use std::cell::Cell;
use std::ffi::{c_char, c_int};
use std::sync::Arc;

use mlua_sys as ffi;

use crate::bind::codec::Route;
use crate::bind::tensor;
use crate::bind::threads::cancel;
use crate::bind::vm::traceback;
use crate::bind::vm::{Count, Kind, Library, Lua, Pushed, c_function, count, push_bound, raised};
use crate::err;
use crate::error::{Code, Error, Result, words};
use crate::lua_fn;
use crate::sync::Failure;
use crate::sys::{memory_is_short, try_bytes};
use crate::wait::Cancel;
use crate::wire::{Message, drop_deferred};

/// The stack of a thread. Lua's own limit of 200 nested C calls, each with a buffer of 8 KB (`string.gsub` that calls
/// back), wants 2 MB.
pub(super) const STACK: usize = 4 << 20;

/// Tensors under either name: loaded in a thread if the parent had them.
const TENSORS: [&str; 2] = ["torch", "ipc.torch"];

/// What threads start with.
#[derive(Debug)]
pub(in crate::bind) struct Setup {
    /// Whether a cancel shall end code that runs also where that costs speed.
    cancel_code: bool,
    library: &'static Library,
    surroundings: Surroundings,
}

/// What a thread inherits of its parent's Lua state.
#[derive(Debug, Default)]
struct Surroundings {
    path: Option<Vec<u8>>,
    cpath: Option<Vec<u8>>,
    /// Names under which tensors are loaded, and whether it is the library's own that are.
    modules: Vec<(&'static str, bool)>,
}

impl Setup {
    /// The surroundings of `lua`.
    pub(in crate::bind) fn new(lua: Lua<'_>, cancel_code: bool) -> Result<Setup> {
        Ok(Setup { cancel_code, library: lua.state().library, surroundings: Surroundings::of(lua)? })
    }
}

impl Surroundings {
    fn of(lua: Lua<'_>) -> Result<Surroundings> {
        // SAFETY: in protect everything may be called.
        lua.protect(0, 1, |l| unsafe {
            ffi::lua_getfield(l, ffi::LUA_REGISTRYINDEX, LOADED.as_ptr());
            1
        })?;
        let loaded = lua.top();
        let mut found = Surroundings::default();
        if lua.kind(loaded) == Kind::Table {
            for name in TENSORS {
                if lua.raw_get_field(loaded, name)? != Kind::Nil && lua.truth(-1) {
                    let own = lua.kind(-1) == Kind::Table && lua.raw_get_field(-1, "_ipc")? == Kind::Boolean;
                    lua.set_top(loaded + 1);
                    found.modules.push((name, own));
                }
                lua.pop(1);
            }
            if lua.raw_get_field(loaded, "package")? == Kind::Table {
                let field = |name| -> Result<Option<Vec<u8>>> {
                    lua.raw_get_field(loaded + 1, name)?;
                    let bytes = lua.with_bytes(-1, <[u8]>::to_vec);
                    lua.pop(1);
                    Ok(bytes)
                };
                found.path = field("path")?;
                found.cpath = field("cpath")?;
            }
            lua.pop(1);
        }
        lua.pop(1);
        Ok(found)
    }
}

/// Where the registry keeps `package.loaded`.
const LOADED: &std::ffi::CStr = c"_LOADED";

/// What a thread does in its Lua state; given the slot of the handler for [`Lua::call_traced`].
type Work<'a> = dyn FnMut(Lua<'_>, c_int) -> Result<()> + 'a;

/// One thread's job, for the C functions that do it.
struct Run<'a> {
    setup: &'a Setup,
    cancel: &'a Arc<Cancel>,
    work: &'a mut Work<'a>,
    outcome: Option<std::result::Result<(), Failure>>,
}

thread_local! {
    /// The job that this thread is about to do; null before and after.
    static RUN: Cell<*mut Run<'static>> = const { Cell::new(std::ptr::null_mut()) };
}

/// Does a thread's job: makes a Lua state, does `work` in it, and closes it. `cancel` ends its calls.
pub(in crate::bind) fn run<'a>(
    setup: &'a Setup,
    cancel: &'a Arc<Cancel>,
    work: &'a mut Work<'a>,
) -> std::result::Result<(), Failure> {
    let mut run = Run { setup, cancel, work, outcome: None };
    // SAFETY: the state is made, used and closed by this thread alone. `run` outlives it, and is reached through RUN
    // only by the functions that run under `boot`.
    let status = unsafe {
        let l = ffi::luaL_newstate();
        if l.is_null() {
            return Err(err!(Limit, "not enough memory for a Lua state").to_string().into_bytes());
        }
        RUN.set((&raw mut run).cast());
        let status = enter(l);
        RUN.set(std::ptr::null_mut());
        let status = if status == ffi::LUA_OK { Ok(()) } else { Err(string_on_top(l)) };
        ffi::lua_close(l);
        status
    };
    match (run.outcome, status) {
        (Some(outcome), _) => outcome,
        (None, Err(text)) => Err(text),
        (None, Ok(())) => Err(err!(State, "the thread did nothing").to_string().into_bytes()),
    }
}

/// Calls `boot` in a state that is still empty; nothing may be raised outside.
#[cfg(any(feature = "lua51", feature = "luajit"))]
unsafe fn enter(l: *mut ffi::lua_State) -> c_int {
    // SAFETY: pushing a function allocates here, so Lua does it itself, protected.
    unsafe { ffi::lua_cpcall(l, c_function(boot), std::ptr::null_mut()) }
}

/// Calls `boot` in a state that is still empty; nothing may be raised outside.
#[cfg(not(any(feature = "lua51", feature = "luajit")))]
unsafe fn enter(l: *mut ffi::lua_State) -> c_int {
    // SAFETY: a function without upvalues is pushed without memory.
    unsafe {
        ffi::lua_pushcclosure(l, c_function(boot), 0);
        ffi::lua_pcall(l, 0, 0, 0)
    }
}

/// The string on top of the stack, for an error that no handler saw (out of memory).
unsafe fn string_on_top(l: *mut ffi::lua_State) -> Vec<u8> {
    // SAFETY: a string is read as it is, without memory.
    unsafe {
        if ffi::lua_type(l, -1) != ffi::LUA_TSTRING {
            return b"an error without words".to_vec();
        }
        let mut n = 0;
        let p = ffi::lua_tolstring(l, -1, &mut n);
        kept(std::slice::from_raw_parts(p as *const u8, n))
    }
}

/// Makes an empty state what a mapped function finds, and calls it.
unsafe extern "C-unwind" fn boot(l: *mut ffi::lua_State) -> Count {
    let run = RUN.get();
    if run.is_null() {
        // Somebody got hold of this function through the debug library.
        return count(0);
    }
    // SAFETY: called under pcall, with nothing to drop in this frame; RUN is set, so the Run is there and nobody else
    // uses it.
    unsafe {
        let Setup { library, surroundings, .. } = (*run).setup;
        ffi::luaL_openlibs(l);
        ffi::lua_getfield(l, ffi::LUA_REGISTRYINDEX, LOADED.as_ptr());
        ffi::lua_getfield(l, -1, c"package".as_ptr());
        for (name, value) in [(c"path", &surroundings.path), (c"cpath", &surroundings.cpath)] {
            if let Some(value) = value {
                ffi::lua_pushlstring(l, value.as_ptr() as *const c_char, value.len());
                ffi::lua_setfield(l, -2, name.as_ptr());
            }
        }
        ffi::lua_settop(l, -2);
        ffi::lua_pushcclosure(l, library.open, 0);
        ffi::lua_pushstring(l, c"libipc".as_ptr());
        ffi::lua_call(l, 1, 1);
        for name in [c"libipc", c"ipc"] {
            ffi::lua_pushvalue(l, -1);
            ffi::lua_setfield(l, -3, name.as_ptr());
        }
        ffi::lua_settop(l, 0);
        push_bound(l, library, lua_fn!("ipc.map", work));
        ffi::lua_call(l, 0, 0);
    }
    count(0)
}

/// The part of the job that is Rust: leaves the outcome in the Run.
fn work(lua: Lua<'_>) -> Result<Pushed> {
    let run = RUN.replace(std::ptr::null_mut());
    if run.is_null() {
        return Err(err!(State, "this function is not for calling"));
    }
    // SAFETY: RUN was set, so `run` of this thread waits for us, and taking the pointer made us its only user.
    let run = unsafe { &mut *run };
    lua.state().set_cancel(run.cancel.clone());
    let _armed = cancel::Armed::new(lua, run.cancel, run.setup.cancel_code);
    run.outcome = Some(begin(lua, run).map_err(|e| failure(lua, e)));
    Ok(0)
}

/// Does the work, once what it wants is loaded.
fn begin(lua: Lua<'_>, run: &mut Run<'_>) -> Result<()> {
    lua.push_function(c_function(traceback::handler))?;
    let handler = lua.top();
    load_tensors(lua, &run.setup.surroundings.modules, handler)?;
    (run.work)(lua, handler)
}

/// A copy of a text, or words in its place where there is no memory for one.
fn kept(text: &[u8]) -> Failure {
    try_bytes(text).unwrap_or_else(|_| b"not enough memory for the text of an error".to_vec())
}

/// What is told of an error: of one that Lua raised, its text lies on top of the stack.
pub(in crate::bind) fn failure(lua: Lua<'_>, e: Error) -> Failure {
    // No text at all stands for a want of memory: there may be many tasks to fail, and each text would take some more
    // of it.
    if memory_is_short() {
        return Failure::new();
    }
    match e.code() {
        // The frames of `boot` and `work` lie below.
        Code::Raised => lua
            .with_bytes(-1, |text| kept(traceback::without_ours(text, 2)))
            .unwrap_or_else(|| kept(traceback::without_ours(b"an error without words", 2))),
        _ => words(format_args!("{e}")).into_owned().into_bytes(),
    }
}

/// From now on the handler of errors keeps values that are no strings, for [`raised_value`].
pub(super) fn keep_raised_values(lua: Lua<'_>) -> Result<()> {
    lua.push_boolean(false);
    lua.state().raised.set(lua.reference()?);
    Ok(())
}

/// The error value that the handler has kept of the last call, if it can travel.
pub(super) fn raised_value(lua: Lua<'_>, route: Route) -> Option<Message> {
    let state = lua.state();
    if !state.has_raised.replace(false) || memory_is_short() {
        return None;
    }
    let top = lua.top();
    lua.push_reference(state.raised.get());
    let mut message = Message::default();
    let travels = lua.encode_values(top + 1, 1, &mut message, route).is_ok();
    lua.set_top(top);
    lua.push_boolean(false);
    // SAFETY: to put something where something is takes no memory.
    unsafe { ffi::lua_rawseti(lua.raw(), ffi::LUA_REGISTRYINDEX, state.raised.get() as _) };
    if travels {
        return Some(message);
    }
    drop_deferred(message.attachments);
    None
}

/// Calls the init in slot `init`: a function, a string of Lua, or nil.
pub(super) fn call_init(lua: Lua<'_>, init: c_int, handler: c_int) -> Result<()> {
    match lua.kind(init) {
        Kind::Nil => return Ok(()),
        // `load` leaves the slot as it is.
        Kind::String => lua.with_bytes(init, |source| load(lua, source)).unwrap_or(Ok(()))?,
        _ => lua.push_value(init),
    }
    lua.call_traced(0, 0, handler)
}

/// An error of the codec, told from the thread's side.
pub(in crate::bind) fn said(what: &str, e: Error) -> Error {
    match e.code() {
        Code::Raised => raised(),
        code => Error::new(code, "", words(format_args!("{what} {}", e.what()))),
    }
}

/// Pushes the function of a chunk given as a string.
fn load(lua: Lua<'_>, source: &[u8]) -> Result<()> {
    let mut status = ffi::LUA_OK;
    // SAFETY: in protect everything may be called.
    lua.protect(0, 1, |l| unsafe {
        let (s, n) = (source.as_ptr() as *const c_char, source.len());
        status = ffi::luaL_loadbufferx(l, s, n, c"=init".as_ptr(), c"t".as_ptr());
        1
    })?;
    if status == ffi::LUA_OK { Ok(()) } else { Err(raised()) }
}

/// Loads what the parent had of tensors, and sees that `torch` is a global. The library's own are looked for nowhere,
/// and made when they are used.
fn load_tensors(lua: Lua<'_>, modules: &[(&'static str, bool)], handler: c_int) -> Result<()> {
    for &(name, own) in modules {
        if own {
            tensor::open_later(lua)?;
            set_loaded(lua, name)?;
        } else {
            lua.get_global("require")?;
            lua.push_string(name)?;
            lua.call_traced(1, 1, handler)?;
        }
        if lua.get_global("torch")? == Kind::Nil {
            lua.pop(1);
            lua.set_global("torch")?;
        } else {
            lua.pop(2);
        }
    }
    Ok(())
}

/// Makes the value on top, which stays there, what `require(name)` gives.
fn set_loaded(lua: Lua<'_>, name: &str) -> Result<()> {
    lua.push_value(-1);
    // SAFETY: in protect everything may be called; slot 1 is the value. `_LOADED` is a table unless the debug library
    // was at work, in which case Lua raises.
    lua.protect(1, 0, |l| unsafe {
        ffi::lua_getfield(l, ffi::LUA_REGISTRYINDEX, LOADED.as_ptr());
        ffi::lua_pushlstring(l, name.as_ptr() as *const c_char, name.len());
        ffi::lua_pushvalue(l, 1);
        ffi::lua_settable(l, -3);
        0
    })
}
