//! `ipc.batch`: tasks of a pool whose results are taken in the order in which they end.

use std::sync::Arc;

use crate::bind::threads::future;
use crate::bind::threads::pool::task;
use crate::bind::vm::{Class, ClassInfo, FD, Lua, Method, Pushed};
use crate::err;
use crate::error::Result;
use crate::lua_fn;
use crate::sync::{Batch, Next, Numbered};
use crate::text;
use crate::try_fn;
use crate::wait::{Source, Way, source};
use crate::wire::{Attachment, Object, downcast};

/// What lua/ipc/BackgroundTaskPool.lua stands on; not for users.
pub(in crate::bind) const FUNCTIONS: &[Method] = &[("__next", lua_fn!("BackgroundTaskPool", peek))];

/// What of it yields under a scheduler.
pub(in crate::bind) const NON_BLOCKING_FUNCTIONS: &[Method] = &[("__next", try_fn!("BackgroundTaskPool", peek))];

/// The class `ipc.batch`.
pub(in crate::bind) static INFO: ClassInfo =
    ClassInfo::of::<BatchHandle>("ipc.batch", METHODS, &[("__len", lua_fn!("#batch", pending))]);

const METHODS: &[Method] = &[
    ("submit", lua_fn!("batch:submit", submit)),
    ("next", lua_fn!("batch:next", next)),
    ("results", lua_fn!("batch:results", results)),
    ("pending", lua_fn!("batch:pending", pending)),
    FD,
];

/// What yields under a scheduler.
pub(in crate::bind) const NON_BLOCKING: &[Method] =
    &[("next", try_fn!("batch:next", next)), ("results", try_fn!("batch:results", step_of))];

/// One Lua state's hold on a batch.
#[derive(Debug)]
pub struct BatchHandle(pub(in crate::bind) Arc<Batch>);

impl Class for BatchHandle {
    fn info() -> &'static ClassInfo {
        &INFO
    }

    fn describe(&self) -> String {
        text!("{}", self.0)
    }

    fn attach(&self) -> Option<Attachment> {
        Some(Attachment::Object(self.0.clone()))
    }

    fn source(&self, way: Way) -> Result<Option<Box<dyn Source>>> {
        let batch = self.0.clone();
        batch.check()?;
        Ok((way == Way::Read).then(|| source(batch, |it| Some(it.is_ready()), |it| it.fd())))
    }

    fn adopt(_: Lua<'_>, object: Arc<dyn Object>) -> Option<Self> {
        downcast(object).map(BatchHandle)
    }
}

/// `b:submit(fn, ...)` → its number in the batch, and its future.
fn submit(lua: Lua<'_>) -> Result<Pushed> {
    let batch = lua.object::<BatchHandle>(1)?.0.clone();
    let task = task(lua, 2, batch.pool().terms().upvalues)?;
    let (number, future) = batch.submit(task)?;
    lua.push_integer(number.cast_signed());
    lua.push_object(future::FutureHandle(future))?;
    Ok(2)
}

/// `b:next([timeout])` → the number and the future of a task that has ended; nil where none is left, or none ended in
/// time.
fn next(lua: Lua<'_>) -> Result<Pushed> {
    next_as(lua, push)
}

/// `__next(batch, [timeout])`: as `batch:next`, but an error stays one that nobody fetched.
fn peek(lua: Lua<'_>) -> Result<Pushed> {
    next_as(lua, push_as_it_is)
}

fn next_as(lua: Lua<'_>, push: fn(Lua<'_>, &Batch, Numbered) -> Result<Pushed>) -> Result<Pushed> {
    let batch = lua.object::<BatchHandle>(1)?.0.clone();
    let deadline = lua.timeout(2, None)?;
    match batch.next(&lua.wait(deadline))? {
        Next::Future(ended) => push(lua, &batch, ended),
        Next::OutOfTime | Next::Nothing => {
            lua.push_nil();
            Ok(1)
        }
    }
}

/// `for number, future in b:results([timeout]) do`: the tasks as they end, until all have been taken.
fn results(lua: Lua<'_>) -> Result<Pushed> {
    lua.object::<BatchHandle>(1)?;
    lua.timeout(2, None)?;
    lua.push_iterator(lua_fn!("batch:results", step))?;
    Ok(1)
}

fn step(lua: Lua<'_>) -> Result<Pushed> {
    lua.given();
    step_of(lua)
}

/// One step of the loop over the batch in slot 1, with the time-out in slot 2.
fn step_of(lua: Lua<'_>) -> Result<Pushed> {
    let batch = lua.object::<BatchHandle>(1)?.0.clone();
    let deadline = lua.timeout(2, None)?;
    match batch.next(&lua.wait(deadline))? {
        Next::Future(ended) => push(lua, &batch, ended),
        Next::OutOfTime => Err(err!(Timeout, "no task ended in time, {} are still to be taken", batch.pending())),
        Next::Nothing => {
            lua.push_nil();
            Ok(1)
        }
    }
}

/// Pushes one that has ended, whose error is its taker's business from now on.
fn push(lua: Lua<'_>, batch: &Batch, ended: Numbered) -> Result<Pushed> {
    let future = ended.1.clone();
    let pushed = push_as_it_is(lua, batch, ended)?;
    if let Some(outcome) = future.outcome() {
        outcome.forgive();
    }
    Ok(pushed)
}

/// Where there is no memory for the handle, the batch has the future back.
fn push_as_it_is(lua: Lua<'_>, batch: &Batch, (number, future): Numbered) -> Result<Pushed> {
    lua.push_integer(number.cast_signed());
    if let Err(e) = lua.push_object(future::FutureHandle(future.clone())) {
        batch.put_back((number, future));
        return Err(e);
    }
    Ok(2)
}

/// `b:pending()`, `#b` → how many were submitted and not taken yet.
fn pending(lua: Lua<'_>) -> Result<Pushed> {
    let pending = lua.object::<BatchHandle>(1)?.0.pending();
    lua.push_integer(pending.cast_signed());
    Ok(1)
}
