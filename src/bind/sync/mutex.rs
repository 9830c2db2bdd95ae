//! `ipc.mutex`: a recursive lock that threads share, and a barrier.

use std::sync::Arc;

use crate::bind::vm::{Class, ClassInfo, Kind, Lua, Method, Pushed};
use crate::err;
use crate::error::{Error, Result};
use crate::lua_fn;
use crate::sync::{Mutex, MutexHandle};
use crate::text;
use crate::try_fn;
use crate::wait::{Deadline, Owner};
use crate::wire::{Attachment, Object, downcast};

/// What the module offers of this.
pub(in crate::bind) const FUNCTIONS: &[Method] = &[("mutex", lua_fn!("ipc.mutex", mutex))];

/// The class `ipc.mutex`.
pub(in crate::bind) static INFO: ClassInfo = ClassInfo::of::<MutexHandle>("ipc.mutex", METHODS, &[]);

const METHODS: &[Method] = &[
    ("lock", lua_fn!("mutex:lock", lock)),
    ("trylock", lua_fn!("mutex:trylock", trylock)),
    ("unlock", lua_fn!("mutex:unlock", unlock)),
    ("barrier", lua_fn!("mutex:barrier", barrier)),
    ("with", lua_fn!("mutex:with", with)),
];

/// What yields under a scheduler.
pub(in crate::bind) const NON_BLOCKING: &[Method] = &[
    ("lock", try_fn!("mutex:lock", lock)),
    ("trylock", try_fn!("mutex:trylock", trylock)),
    ("barrier", try_fn!("mutex:barrier", barrier)),
    ("with", try_fn!("mutex:with", with)),
];

impl Class for MutexHandle {
    fn info() -> &'static ClassInfo {
        &INFO
    }

    fn describe(&self) -> String {
        text!("{}", self)
    }

    fn attach(&self) -> Option<Attachment> {
        Some(Attachment::Object(self.mutex().clone()))
    }

    fn adopt(lua: Lua<'_>, object: Arc<dyn Object>) -> Option<Self> {
        downcast(object).map(|mutex| MutexHandle::new(mutex, lua.state().owner()))
    }
}

/// The mutex in slot 1, and who asks. The handle is let go: a blocked call may run Lua, which may close things.
fn this(lua: Lua<'_>) -> Result<(Arc<Mutex>, Owner)> {
    let handle = lua.object::<MutexHandle>(1)?;
    Ok((handle.mutex().clone(), handle.by()))
}

/// `ipc.mutex([{timeout=}])`
fn mutex(lua: Lua<'_>) -> Result<Pushed> {
    let timeout = lua.options(1, &["timeout"])?.timeout("timeout", None)?;
    lua.push_object(MutexHandle::new(Arc::new(Mutex::new(timeout)), lua.state().owner()))?;
    Ok(1)
}

/// Takes the mutex in slot 1, and asks it something when it has; `None` when time runs out.
#[inline]
fn take<T>(
    lua: Lua<'_>,
    deadline: impl FnOnce(&Mutex) -> Result<Deadline>,
    ask: impl Fn(&Mutex) -> T,
) -> Result<Option<T>> {
    let wait = {
        // A free one without a count of its holders, which would cost as much as the lock.
        let handle = lua.object::<MutexHandle>(1)?;
        let wait = lua.wait(deadline(handle.mutex())?);
        wait.check()?;
        if handle.mutex().try_lock(handle.by())? {
            return Ok(Some(ask(handle.mutex())));
        }
        wait
    };
    let (mutex, by) = this(lua)?;
    Ok(mutex.lock(by, &wait)?.then(|| ask(&mutex)))
}

#[cold]
fn out_of_time() -> Error {
    err!(Timeout, "another thread holds the mutex and did not unlock it in time")
}

/// Pushes how the holder before left the mutex, if it did not unlock it; says how many results that is.
#[inline]
fn push_how_it_was_left(lua: Lua<'_>, left: Option<String>) -> Result<Pushed> {
    match left {
        None => Ok(0),
        Some(how) => lua.push_string(&how).map(|()| 1),
    }
}

/// `m:lock([timeout])` → nothing; or how the holder before left it, if it did not unlock it.
fn lock(lua: Lua<'_>) -> Result<Pushed> {
    let left = take(lua, |mutex| lua.timeout(2, mutex.timeout()), Mutex::owner_died)?.ok_or_else(out_of_time)?;
    push_how_it_was_left(lua, left)
}

/// `m:trylock([timeout])` → whether it was taken; and if so, how it was left, as `lock`.
fn trylock(lua: Lua<'_>) -> Result<Pushed> {
    let taken = take(lua, |_| lua.timeout(2, Some(0.0)), Mutex::owner_died)?;
    lua.push_boolean(taken.is_some());
    Ok(1 + push_how_it_was_left(lua, taken.flatten())?)
}

/// `m:unlock()`
fn unlock(lua: Lua<'_>) -> Result<Pushed> {
    let handle = lua.object::<MutexHandle>(1)?;
    handle.mutex().unlock(handle.by())?;
    Ok(0)
}

/// `m:barrier(n, [timeout])`
fn barrier(lua: Lua<'_>) -> Result<Pushed> {
    let (mutex, by) = this(lua)?;
    let n = lua.whole_in(2, 1..=1 << 31)? as u32;
    let deadline = lua.timeout(3, mutex.timeout())?;
    mutex.barrier().wait(by, n, &lua.wait(deadline))?;
    Ok(0)
}

/// `m:with(fn, ...)` → what `fn(...)` returns; the mutex is locked meanwhile, and unlocked however `fn` ends.
fn with(lua: Lua<'_>) -> Result<Pushed> {
    let (mutex, by) = this(lua)?;
    if lua.kind(2) != Kind::Function {
        return Err(lua.expected(2, "a function"));
    }
    take(lua, |mutex| Ok(Deadline::within(mutex.timeout())), |_| ())?.ok_or_else(out_of_time)?;
    // The stack is: self, function, arguments.
    let result = lua.call(lua.top() - 2, mlua_sys::LUA_MULTRET);
    let unlocked = mutex.unlock(by);
    result?;
    unlocked?;
    Ok(lua.top() as Pushed - 1)
}
