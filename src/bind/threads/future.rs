//! `ipc.future`: what a task of a pool will give.

use std::fmt;
use std::sync::Arc;

use crate::bind::codec::Route;
use crate::bind::vm::{Class, ClassInfo, FD, Lua, Method, Pushed, raised};
use crate::err;
use crate::error::{Code, Error, Lossy, Result, words};
use crate::lua_fn;
use crate::sync::{Future, Outcome, Stage};
use crate::text;
use crate::try_fn;
use crate::wait::{Source, Way, source};
use crate::wire::{Attachment, Message, Object, downcast};

/// The class `ipc.future`.
pub(in crate::bind) static INFO: ClassInfo = ClassInfo::of::<FutureHandle>("ipc.future", METHODS, &[]);

const METHODS: &[Method] = &[
    ("get", lua_fn!("future:get", get)),
    ("done", lua_fn!("future:done", done)),
    ("cancel", lua_fn!("future:cancel", cancel)),
    FD,
];

/// What yields under a scheduler.
pub(in crate::bind) const NON_BLOCKING: &[Method] = &[("get", try_fn!("future:get", get))];

/// One Lua state's hold on a future.
#[derive(Debug)]
pub struct FutureHandle(pub(in crate::bind) Arc<Future>);

impl Class for FutureHandle {
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
        let future = self.0.clone();
        future.check()?;
        Ok((way == Way::Read).then(|| source(future, |it| Some(it.is_ready()), |it| it.fd())))
    }

    fn adopt(_: Lua<'_>, object: Arc<dyn Object>) -> Option<Self> {
        downcast(object).map(FutureHandle)
    }
}

/// `f:get([timeout])` → all results of the task, or its error.
fn get(lua: Lua<'_>) -> Result<Pushed> {
    let future = lua.object::<FutureHandle>(1)?.0.clone();
    let deadline = lua.timeout(2, None)?;
    match future.wait(&lua.wait(deadline))? {
        Some(outcome) => push_outcome(lua, &future, outcome, format_args!("")),
        None if future.stage() == Stage::Queued => Err(err!(Timeout, "the task still waits for a worker that is free")),
        None => Err(err!(Timeout, "the task still runs")),
    }
}

/// Pushes what a task has returned and says how many values it is, or raises what it has raised; `which` is the task,
/// where its caller has many: ` 3`. An error value that is no string is raised as it is, if it could travel.
pub(super) fn push_outcome(
    lua: Lua<'_>,
    future: &Future,
    outcome: &Outcome,
    which: fmt::Arguments<'_>,
) -> Result<Pushed> {
    if let Some(value) = future.raised() {
        let top = lua.top();
        if push_results(lua, value).is_ok() {
            if let Outcome::Failed(failure) = outcome {
                failure.fetch();
            }
            return Err(raised());
        }
        // Told in words below.
        lua.set_top(top);
    }
    match outcome {
        Outcome::Done(results) => push_results(lua, results).map_err(|e| match e.code() {
            Code::Raised => e,
            code => {
                let text = words(format_args!("the results of the task{which} cannot be read here: {}", e.what()));
                Error::new(code, "", text)
            }
        }),
        Outcome::Failed(failure) => Err(lua.failure(Code::Worker, &text!("the task{which} failed: "), failure.fetch())),
        Outcome::Cancelled(how) => Err(err!(Cancelled, "the task{which} was cancelled {}", Lossy(how))),
    }
}

fn push_results(lua: Lua<'_>, results: &Message) -> Result<Pushed> {
    lua.reserve(20)?;
    lua.decode_values_shared(results, Route::THREAD_UPVALUES)
}

/// `f:done()` → whether the task has ended, however it did.
fn done(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_boolean(lua.object::<FutureHandle>(1)?.0.is_done());
    Ok(1)
}

/// `f:cancel()` → false if the task had ended before.
fn cancel(lua: Lua<'_>) -> Result<Pushed> {
    let future = lua.object::<FutureHandle>(1)?.0.clone();
    lua.push_boolean(future.cancel()?);
    Ok(1)
}
