//! A worker of a pool: one Lua state, one task after the other.

use std::collections::HashMap;
use std::ffi::c_int;

use mlua_sys as ffi;

use super::FEW_BYTES;
use crate::bind::codec::{RESULTS_OF_POOL, Route};
use crate::bind::threads::worker::{self, Setup, call_init, failure, keep_raised_values, raised_value, said};
use crate::bind::vm::{Kind, Lua, collect, raised};
use crate::error::Result;
use crate::sync::{Failure, Order, Outcome, Task, TaskSource};
use crate::sys::{check_memory, try_bytes};
use crate::wait::Deadline;
use crate::wire::Message;

/// How long a worker has nothing to do, in seconds, before it collects its garbage: what tasks were handed is then let
/// go.
const IDLE: f64 = 0.02;

/// How many functions a worker keeps loaded.
const KNOWN: usize = 64;

/// What every worker of a pool starts with.
#[derive(Debug)]
pub(super) struct Plan {
    /// nil, a function or a string.
    pub(super) init: Message,
    pub(super) route: Route,
    pub(super) setup: Setup,
}

impl Plan {
    /// A worker's whole life.
    pub(super) fn run(&self, source: &TaskSource) -> std::result::Result<(), Failure> {
        worker::run(&self.setup, &source.cancel, &mut |lua, handler| {
            let desk = Desk { lua, handler, route: self.route, known: HashMap::new() };
            lua.decode_values_shared(&self.init, self.route).map_err(|e| said("cannot read its init:", e))?;
            call_init(lua, handler + 1, handler)?;
            lua.set_top(handler);
            keep_raised_values(lua)?;
            source.ready();
            desk.serve(source)
        })
    }
}

/// A worker's Lua state, between two tasks.
struct Desk<'a> {
    lua: Lua<'a>,
    handler: c_int,
    route: Route,
    /// Functions that were here before, by their bytes. Loaded anew each time, LuaJIT would compile them anew each
    /// time, too.
    known: HashMap<Box<[u8]>, Known>,
}

/// References to a function and to the list of its upvalues, as they came.
#[derive(Clone, Copy)]
struct Known {
    function: c_int,
    upvalues: c_int,
}

impl Desk<'_> {
    fn serve(mut self, source: &TaskSource) -> Result<()> {
        let lua = self.lua;
        let mut clean = true;
        loop {
            let deadline = if clean { Deadline::NEVER } else { Deadline::after(IDLE) };
            match source.next(&lua.at("ipc.pool").wait(deadline))? {
                Order::Leave => return Ok(()),
                Order::Idle => {
                    collect(lua);
                    clean = true;
                }
                Order::Run(task) => {
                    clean = false;
                    let (outcome, raised) = match self.perform(task) {
                        Ok(results) => (Outcome::Done(results), None),
                        Err(e) => (Outcome::Failed(failure(lua, e).into()), raised_value(lua, self.route)),
                    };
                    lua.set_top(self.handler);
                    lua.collect_if_due();
                    if source.check().is_err() {
                        return end_child(lua, outcome);
                    }
                    if !source.settle(outcome, raised) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Decodes, calls, encodes.
    fn perform(&mut self, mut task: Task) -> Result<Message> {
        let (lua, base) = (self.lua, self.handler);
        let unreadable = |e| said("cannot read its function and arguments:", e);
        let mut values = lua.decode_values(&mut task.values, self.route).map_err(unreadable)?;
        lua.reserve(8)?;
        if let Some(bytes) = task.function {
            self.push_function(bytes).map_err(unreadable)?;
            lua.insert(base + 1);
            values += 1;
        }
        drop(task.values);
        lua.call_traced(values as c_int - 1, ffi::LUA_MULTRET, self.handler)?;
        let mut results = Message::default();
        results.bytes.try_reserve_exact(FEW_BYTES)?;
        lua.at(RESULTS_OF_POOL)
            .encode_top(lua.top() - base, &mut results, self.route)
            .map_err(|e| said("cannot return its results:", e))?;
        // Results wait until they are taken: those of many tasks must not live on the allocator's reserve.
        check_memory()?;
        Ok(results)
    }

    /// Pushes the function that `bytes` say.
    fn push_function(&mut self, bytes: Box<[u8]>) -> Result<()> {
        let lua = self.lua;
        if let Some(known) = self.known.get(&bytes) {
            lua.push_reference(known.function);
            renew(lua, known.upvalues);
            return Ok(());
        }
        let mut message = Message { bytes: try_bytes(&bytes)?, ..Message::default() };
        lua.decode(&mut message, Route::THREAD)?;
        debug_assert_eq!(lua.kind(-1), Kind::Function);
        if self.known.len() == KNOWN {
            for (_, known) in self.known.drain() {
                lua.unreference(known.function);
                lua.unreference(known.upvalues);
            }
        }
        let upvalues = keep_upvalues(lua)?;
        lua.push_value(-1);
        let function = lua.reference()?;
        self.known.insert(bytes, Known { function, upvalues });
        Ok(())
    }
}

/// A reference to a list of the upvalues of the function on top.
fn keep_upvalues(lua: Lua<'_>) -> Result<c_int> {
    lua.new_table(0, 0)?;
    for n in 1.. {
        // SAFETY: raises nothing, and pushes nothing where there is no such upvalue.
        if unsafe { ffi::lua_getupvalue(lua.raw(), -2, n) }.is_null() {
            break;
        }
        lua.raw_set_index(-2, n.into())?;
    }
    lua.reference()
}

/// Has the function on top be as it came, whatever its last call assigned: to its upvalues, modules and standard
/// functions, or for its globals. One in C, which came by its name, is everybody's here, with an environment of its own
/// on 5.1.
fn renew(lua: Lua<'_>, upvalues: c_int) {
    // SAFETY: looks at a slot.
    if unsafe { ffi::lua_iscfunction(lua.raw(), -1) } != 0 {
        return;
    }
    lua.push_reference(upvalues);
    for n in 1.. {
        lua.raw_get_index(-1, n.into());
        // SAFETY: raises nothing, and pops nothing where there is no such upvalue.
        if unsafe { ffi::lua_setupvalue(lua.raw(), -3, n) }.is_null() {
            break;
        }
    }
    lua.pop(2);
    #[cfg(any(feature = "luajit", feature = "lua51"))]
    // SAFETY: the function is on top; neither raises.
    unsafe {
        ffi::lua_pushvalue(lua.raw(), ffi::LUA_GLOBALSINDEX);
        ffi::lua_setfenv(lua.raw(), -2);
    }
}

/// A task has forked, and this is the child: it ends as its task did.
fn end_child(lua: Lua<'_>, outcome: Outcome) -> Result<()> {
    match outcome {
        Outcome::Done(_) => Ok(()),
        Outcome::Failed(failure) => {
            lua.push_bytes(failure.fetch())?;
            Err(raised())
        }
        Outcome::Cancelled(text) => {
            lua.push_bytes(&text)?;
            Err(raised())
        }
    }
}
