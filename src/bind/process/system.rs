//! `ipc.fork` and its kin: processes, threads, clocks, cores.

use crate::bind::vm::{Lua, Method, Pushed};
use crate::err;
use crate::error::Result;
use crate::lua_fn;
use crate::sys;
use crate::try_fn;
use crate::wait::{Deadline, sleep, wait_pid};

/// What the module offers of this.
pub(in crate::bind) const FUNCTIONS: &[Method] = &[
    ("fork", lua_fn!("ipc.fork", fork)),
    ("waitpid", lua_fn!("ipc.waitpid", waitpid)),
    ("getpid", lua_fn!("ipc.getpid", getpid)),
    ("getppid", lua_fn!("ipc.getppid", getppid)),
    ("gettid", lua_fn!("ipc.gettid", gettid)),
    ("isOSX", lua_fn!("ipc.isOSX", is_osx)),
    ("isDevel", lua_fn!("ipc.isDevel", is_devel)),
    ("sleep", lua_fn!("ipc.sleep", nap)),
    ("clock", lua_fn!("ipc.clock", clock)),
    ("cpus", lua_fn!("ipc.cpus", cpus)),
];

/// What yields under a scheduler.
pub(in crate::bind) const NON_BLOCKING: &[Method] =
    &[("sleep", try_fn!("ipc.sleep", nap)), ("waitpid", try_fn!("ipc.waitpid", waitpid))];

/// `ipc.fork()` → the child's id; 0 in the child.
fn fork(lua: Lua<'_>) -> Result<Pushed> {
    let pid = if cfg!(feature = "luajit") { sys::fork_with_unwinder() } else { sys::fork() }?;
    lua.push_integer(pid.into());
    Ok(1)
}

/// `ipc.waitpid(pid, [timeout])` → exit code, and the signal's name where one ended it.
fn waitpid(lua: Lua<'_>) -> Result<Pushed> {
    // 0 and negative numbers mean other things to the system.
    let pid = lua.integer_in(1, 1..=i32::MAX.into())? as i32;
    let wait = lua.timeout(2, None)?;
    let Some(exit) = wait_pid(pid, &lua.wait(wait))? else {
        return Err(err!(Timeout, "process {pid} has not ended in time"));
    };
    lua.push_integer(exit.code.into());
    match exit.signal {
        Some(name) => lua.push_string(&name)?,
        None => return Ok(1),
    }
    Ok(2)
}

/// `ipc.getpid()`
fn getpid(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_integer(sys::getpid().into());
    Ok(1)
}

/// `ipc.getppid()`
fn getppid(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_integer(sys::getppid().into());
    Ok(1)
}

/// `ipc.gettid()`: the thread's number in the operating system.
fn gettid(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_integer(sys::gettid().cast_signed());
    Ok(1)
}

/// `ipc.isOSX()`
fn is_osx(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_boolean(cfg!(target_os = "macos"));
    Ok(1)
}

/// `ipc.isDevel()`: whether the library was built for its developers, with assertions.
fn is_devel(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_boolean(cfg!(debug_assertions));
    Ok(1)
}

/// `ipc.sleep(seconds)`
fn nap(lua: Lua<'_>) -> Result<Pushed> {
    let seconds = lua.wait_seconds(1)?;
    sleep(&lua.wait(Deadline::after(seconds)))?;
    Ok(0)
}

/// `ipc.clock()` → seconds of a clock that never jumps.
fn clock(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_number(sys::monotonic_ns() as f64 / 1e9);
    Ok(1)
}

/// `ipc.cpus()` → how many cores this process may use.
fn cpus(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_integer(i64::try_from(sys::cpus()).unwrap_or(i64::MAX));
    Ok(1)
}
