//! `ipc.scheduler`: in a coroutine, calls that would sleep let other coroutines run instead.
//!
//! A bound function cannot yield from within: there are frames of Rust below it, and 5.1 cannot yield through C at all.
//! So while a scheduler is set, the methods that may sleep are replaced, in the tables of this Lua state, by functions
//! in Lua (`scheduler.lua`) that try the call, hand the descriptor that it would have slept on to the scheduler, and
//! try again. Without a scheduler nothing is replaced, and costs nothing.
//!
//! A class takes part by a list of its methods made with [`try_fn!`](crate::try_fn), entered in [`NON_BLOCKING`]. Such
//! a method waits through [`Lua::wait`], before it changes anything; or through [`Lua::on_own_thread`], or keeps what
//! it did in the state of the [`NonBlockingCall`].

use std::cell::RefCell;
use std::ffi::c_int;
use std::rc::Rc;

use crate::bind::call::{Body, Pushed};
use crate::bind::lua::{Kind, Lua, raised};
use crate::bind::object::{Class, ClassInfo, Method};

use crate::bind::{
    batch, channel, client, events, flock, future, map, mutex, pool, process, select, server, system, workqueue,
};
use crate::err;
use crate::error::{Code, Result};
use crate::lua_fn;
use crate::wait::{FdPool, Interest, NonBlockingCall};

/// The tries of every class.
const NON_BLOCKING: &[(&ClassInfo, &[Method])] = &[
    (&workqueue::INFO, workqueue::NON_BLOCKING),
    (&channel::INFO, channel::NON_BLOCKING),
    (&mutex::INFO, mutex::NON_BLOCKING),
    (&map::INFO, map::NON_BLOCKING),
    (&future::INFO, future::NON_BLOCKING),
    (&batch::INFO, batch::NON_BLOCKING),
    (&pool::INFO, pool::NON_BLOCKING),
    (&process::INFO, process::NON_BLOCKING),
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

/// Makes a function that tries the body of another: `try_fn!("workqueue:read", read)`. It is given the token of the
/// call's first try, or nil, before the arguments, and gives true and the results; or false, the token, a descriptor,
/// what to poll it for, and for how long.
#[macro_export]
macro_rules! try_fn {
    ($place:expr, $body:path) => {{
        fn try_call(lua: $crate::bind::lua::Lua<'_>) -> $crate::error::Result<$crate::bind::call::Pushed> {
            $crate::bind::scheduler::try_call(lua, $body)
        }
        $crate::lua_fn!($place, try_call)
    }};
}

/// What a call keeps between its tries.
pub(super) struct Token(Rc<NonBlockingCall>);

static TOKEN: ClassInfo = ClassInfo::of::<Token>("ipc.scheduler.token", &[], &[]);

impl Class for Token {
    fn info() -> &'static ClassInfo {
        &TOKEN
    }
}

/// See [`try_fn!`](crate::try_fn).
pub(super) fn try_call(lua: Lua<'_>, body: Body) -> Result<Pushed> {
    let non_blocking = if lua.is_nil(1) {
        Rc::new(NonBlockingCall::new(descriptors(lua).borrow().clone()))
    } else {
        lua.object::<Token>(1)?.0.clone()
    };
    lua.remove(1);
    non_blocking.begin();
    let trying = lua.trying(&non_blocking);
    let result = body(trying);
    if result.as_ref().err().is_none_or(|e| e.code() != Code::WouldBlock) {
        non_blocking.end();
    }
    match result {
        Ok(count) => {
            // A string that is the last result is pushed at the very end.
            let pushed = count - Pushed::from(lua.state().last.is_due());
            lua.reserve(1)?;
            lua.push_boolean(true);
            lua.insert(lua.top() - pushed as c_int);
            Ok(count + 1)
        }
        Err(e) if e.code() == Code::WouldBlock => {
            let Some(blocker) = non_blocking.lasting_blocker() else {
                return Err(err!(State, "a try that waits for nothing"));
            };
            lua.set_top(0);
            lua.push_boolean(false);
            lua.push_object(Token(non_blocking))?;
            lua.push_integer(blocker.fd.into());
            lua.push_string(if blocker.interest == Interest::Write { "write" } else { "read" })?;
            match blocker.until.remaining() {
                Some(left) => lua.push_number(left.as_secs_f64()),
                None => lua.push_nil(),
            }
            Ok(5)
        }
        // Told as the caller's, one function further away.
        Err(e) if e.code() != Code::Raised => {
            trying.push_error(e);
            Err(raised())
        }
        Err(e) => Err(e),
    }
}

/// Where the calls of this state have the descriptors from that they hand to the scheduler.
fn descriptors(lua: Lua<'_>) -> Rc<RefCell<Rc<FdPool>>> {
    lua.state().extra(Rc::default)
}

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
pub(super) fn install(lua: Lua<'_>) -> Result<()> {
    lua.push_value(-1);
    lua.push_closure(lua_fn!("ipc.scheduler", scheduler), 1)?;
    lua.raw_set_field(-2, "scheduler")
}
