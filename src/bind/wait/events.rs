//! What others make happen, to wait for beside our own objects: `ipc.fd`, `ipc.after`, `ipc.every`.

use std::os::fd::RawFd;
use std::sync::Arc;

use crate::bind::vm::{Class, ClassInfo, FD, Lua, Method, Pushed};
use crate::error::Result;
use crate::lua_fn;
use crate::sync::Timer;
use crate::sys;
use crate::text;
use crate::try_fn;
use crate::wait::{Interest, Source, Way, source, source_for};
use crate::wire::{Attachment, Object, downcast};

/// What the module offers of this.
pub(in crate::bind) const FUNCTIONS: &[Method] =
    &[("fd", lua_fn!("ipc.fd", fd)), ("after", lua_fn!("ipc.after", after)), ("every", lua_fn!("ipc.every", every))];

/// The class `ipc.fd`.
pub(in crate::bind) static DESCRIPTOR: ClassInfo = ClassInfo::of::<Foreign>("ipc.fd", &[FD], &[]);

/// The class `ipc.timer`.
pub(in crate::bind) static TIMER: ClassInfo = ClassInfo::of::<TimerHandle>("ipc.timer", METHODS, &[]);

const METHODS: &[Method] = &[("read", lua_fn!("timer:read", read)), FD, ("close", lua_fn!("timer:close", close))];

/// What yields under a scheduler.
pub(in crate::bind) const NON_BLOCKING: &[Method] = &[("read", try_fn!("timer:read", read))];

/// A descriptor that somebody else owns.
#[derive(Debug)]
struct SharedFd(RawFd);

impl Object for SharedFd {
    fn class(&self) -> &'static str {
        DESCRIPTOR.name
    }

    fn state(&self) -> String {
        text!("{}", self.0)
    }
}

struct Foreign(Arc<SharedFd>);

impl Class for Foreign {
    fn info() -> &'static ClassInfo {
        &DESCRIPTOR
    }

    fn describe(&self) -> String {
        format!("ipc.fd: {}", self.0.state())
    }

    fn attach(&self) -> Option<Attachment> {
        Some(Attachment::Object(self.0.clone()))
    }

    fn source(&self, way: Way) -> Result<Option<Box<dyn Source>>> {
        let interest = if way == Way::Write { Interest::Write } else { Interest::Read };
        Ok(Some(source_for(interest, self.0.0, |_| None, |fd| Ok(*fd))))
    }

    fn adopt(_: Lua<'_>, object: Arc<dyn Object>) -> Option<Self> {
        downcast(object).map(Foreign)
    }
}

/// `ipc.fd(n)`: a descriptor of another library, to be waited for.
fn fd(lua: Lua<'_>) -> Result<Pushed> {
    let n = lua.integer_in(1, 0..=i64::from(i32::MAX))? as RawFd;
    if !sys::is_open(n) {
        return Err(lua.bad_value(1, format_args!("descriptor {n} is not open")));
    }
    lua.push_object(Foreign(Arc::new(SharedFd(n))))?;
    Ok(1)
}

struct TimerHandle(Arc<Timer>);

impl Class for TimerHandle {
    fn info() -> &'static ClassInfo {
        &TIMER
    }

    fn describe(&self) -> String {
        text!("{}", self.0)
    }

    fn attach(&self) -> Option<Attachment> {
        Some(Attachment::Object(self.0.clone()))
    }

    fn source(&self, way: Way) -> Result<Option<Box<dyn Source>>> {
        let timer = self.0.clone();
        Ok((way == Way::Read).then(|| source(timer, |t| Some(t.is_ready()), |t| t.fd())))
    }

    fn adopt(_: Lua<'_>, object: Arc<dyn Object>) -> Option<Self> {
        downcast(object).map(TimerHandle)
    }
}

/// `ipc.after(seconds)` → a timer that is ready once.
fn after(lua: Lua<'_>) -> Result<Pushed> {
    let seconds = lua.wait_seconds(1)?;
    lua.push_object(TimerHandle(Arc::new(Timer::after(seconds))))?;
    Ok(1)
}

/// `ipc.every(seconds)` → a timer that is ready again and again.
fn every(lua: Lua<'_>) -> Result<Pushed> {
    let seconds = lua.wait_seconds(1)?;
    if seconds == 0.0 {
        return Err(lua.bad_value(1, "expected more than 0 seconds, got 0"));
    }
    lua.push_object(TimerHandle(Arc::new(Timer::every(seconds))))?;
    Ok(1)
}

/// `t:read([timeout])` → how often it has ticked since the last read; nil where it did not in time.
fn read(lua: Lua<'_>) -> Result<Pushed> {
    let timer = lua.object::<TimerHandle>(1)?.0.clone();
    match timer.read(&lua.wait(lua.timeout(2, None)?))? {
        Some(count) => lua.push_integer(count.cast_signed()),
        None => lua.push_nil(),
    }
    Ok(1)
}

/// `t:close()`
fn close(lua: Lua<'_>) -> Result<Pushed> {
    lua.object::<TimerHandle>(1)?.0.close();
    Ok(0)
}
