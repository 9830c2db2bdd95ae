//! `ipc.scheduler`: in a coroutine, calls that would sleep let other coroutines run instead.
//!
//! A bound function cannot yield from within: there are frames of Rust below it, and 5.1 cannot yield through C at all.
//! So while a scheduler is set, the methods that may sleep are replaced, in the tables of this Lua state, by functions
//! in Lua (`scheduler.lua`) that try the call, hand the descriptor that it would have slept on to the scheduler, and
//! try again. Without a scheduler nothing is replaced, and costs nothing.
//!
//! A class takes part by a list of its methods made with [`try_fn!`](crate::try_fn), entered in [`NON_BLOCKING`].

use std::ffi::c_int;

use crate::bind::peer::client;
use crate::bind::peer::server;
use crate::bind::process::flock;
use crate::bind::process::spawn;
use crate::bind::process::system;
use crate::bind::sync::channel;
use crate::bind::sync::mutex;
use crate::bind::sync::workqueue;
use crate::bind::threads::batch;
use crate::bind::threads::future;
use crate::bind::threads::map;
use crate::bind::threads::pool;
use crate::bind::vm::{ClassInfo, Kind, Lua, Method, Pushed, descriptors};
use crate::bind::wait::events;
use crate::bind::wait::select;
use crate::err;
use crate::error::Result;
use crate::lua_fn;

/// The tries of every class.
const NON_BLOCKING: &[(&ClassInfo, &[Method])] = &[
    (&workqueue::INFO, workqueue::NON_BLOCKING),
    (&channel::INFO, channel::NON_BLOCKING),
    (&mutex::INFO, mutex::NON_BLOCKING),
    (&map::INFO, map::NON_BLOCKING),
    (&future::INFO, future::NON_BLOCKING),
    (&batch::INFO, batch::NON_BLOCKING),
    (&pool::INFO, pool::NON_BLOCKING),
    (&spawn::INFO, spawn::NON_BLOCKING),
    (&client::INFO, client::NON_BLOCKING),
    (&server::INFO, server::NON_BLOCKING),
    (&server::handle::INFO, server::handle::NON_BLOCKING),
    (&events::TIMER, events::NON_BLOCKING),
];

/// The tries of functions of the module.
const NON_BLOCKING_FUNCTIONS: &[&[Method]] = &[
    select::NON_BLOCKING,
    system::NON_BLOCKING,
    client::NON_BLOCKING_FUNCTIONS,
    flock::NON_BLOCKING_FUNCTIONS,
    batch::NON_BLOCKING_FUNCTIONS,
];

/// `ipc.scheduler{wait = function(fd, mode, timeout) … end}`, `ipc.scheduler(nil)`
fn scheduler(lua: Lua<'_>) -> Result<Pushed> {
    lua.set_top(1);
    let given = lua.options(1, &["wait"])?;
    if given.push("wait")? != Kind::Function && given.given() {
        return Err(err!(Argument, "option 'wait': expected a function, got {}", lua.describe(-1)));
    }
    // The stack is: options, wait.
    lua.anchored("scheduler", |lua| {
        lua.load("libipc", include_str!("scheduler.lua"))?;
        push_tries(lua)?;
        lua.call(1, 1)
    })?;
    lua.push_value(2);
    lua.call(1, 0)?;
    // Those of the scheduler before are closed, now or with the calls that have them.
    descriptors(lua).take();
    Ok(0)
}

/// Pushes the list of what there is to replace: `{table, name, try}` each.
fn push_tries(lua: Lua<'_>) -> Result<()> {
    lua.new_table(64, 0)?;
    let list = lua.top();
    for (info, tries) in NON_BLOCKING {
        lua.push_metatable(info)?;
        lua.raw_get_field(-1, "__index")?;
        lua.remove(-2);
        push_methods(lua, list, tries)?;
    }
    for tries in NON_BLOCKING_FUNCTIONS {
        lua.push_value(MODULE);
        push_methods(lua, list, tries)?;
    }
    Ok(())
}

/// Adds the `tries` of the table on top to `list`, and pops it.
fn push_methods(lua: Lua<'_>, list: c_int, tries: &[Method]) -> Result<()> {
    for (name, function) in tries {
        lua.new_table(3, 0)?;
        lua.push_value(-2);
        lua.raw_set_index(-2, 1)?;
        lua.push_string(name)?;
        lua.raw_set_index(-2, 2)?;
        lua.push_function(*function)?;
        lua.raw_set_index(-2, 3)?;
        lua.raw_set_index(list, lua.raw_len(list) as i64 + 1)?;
    }
    lua.pop(1);
    Ok(())
}

/// Where `ipc.scheduler` keeps the module's table.
const MODULE: c_int = mlua_sys::lua_upvalueindex(2);

/// Puts `ipc.scheduler` into the module's table on top.
pub(in crate::bind) fn install(lua: Lua<'_>) -> Result<()> {
    lua.push_value(-1);
    lua.push_closure(lua_fn!("ipc.scheduler", scheduler), 1)?;
    lua.raw_set_field(-2, "scheduler")
}
