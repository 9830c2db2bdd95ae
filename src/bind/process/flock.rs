//! `ipc.flock`: a file that one holder at a time has, over threads and processes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::bind::vm::{Class, ClassInfo, Kind, Lua, Method, Pushed};
use crate::error::Result;
use crate::lua_fn;
use crate::sys::FileLock;
use crate::sys::try_bytes;
use crate::text;
use crate::try_fn;
use crate::wait::flock as flock_at;
use crate::wire::{Attachment, Object, downcast};

/// What the module offers of this.
pub(in crate::bind) const FUNCTIONS: &[Method] = &[("flock", lua_fn!("ipc.flock", flock))];

/// The function that yields under a scheduler.
pub(in crate::bind) const NON_BLOCKING_FUNCTIONS: &[Method] = &[("flock", try_fn!("ipc.flock", flock))];

/// The class `ipc.flock`.
pub(in crate::bind) static INFO: ClassInfo = ClassInfo::of::<FlockHandle>("ipc.flock", METHODS, &[]);

const METHODS: &[Method] = &[
    ("read", lua_fn!("flock:read", read)),
    ("write", lua_fn!("flock:write", write)),
    ("close", lua_fn!("flock:close", close)),
];

/// What threads share of a lock.
#[derive(Debug)]
struct SharedLock(FileLock);

impl Object for SharedLock {
    fn class(&self) -> &'static str {
        INFO.name
    }

    fn state(&self) -> String {
        self.0.state()
    }
}

/// A handle of it.
struct FlockHandle(Arc<SharedLock>);

impl Class for FlockHandle {
    fn info() -> &'static ClassInfo {
        &INFO
    }

    fn describe(&self) -> String {
        let lock = &self.0.0;
        text!("ipc.flock: {}", lock.state())
    }

    fn attach(&self) -> Option<Attachment> {
        Some(Attachment::Object(self.0.clone()))
    }

    fn adopt(_: Lua<'_>, object: Arc<dyn Object>) -> Option<Self> {
        downcast(object).map(FlockHandle)
    }
}

/// `ipc.flock(path, [nonblock|timeout])` → the lock, nil where it was not to be had. With `true` no file is made.
fn flock(lua: Lua<'_>) -> Result<Pushed> {
    let path = PathBuf::from(OsString::from_vec(try_bytes(lua.bytes(1)?)?));
    let deadline = lua.timeout(2, None)?;
    let create = lua.kind(2) != Kind::Boolean || !lua.truth(2);
    match flock_at(&path, create, &lua.wait(deadline))? {
        Some(lock) => lua.push_object(FlockHandle(Arc::new(SharedLock(lock))))?,
        None => lua.push_nil(),
    }
    Ok(1)
}

/// The lock in slot 1, held beyond any finalizer that Lua runs meanwhile.
fn this(lua: Lua<'_>) -> Result<Arc<SharedLock>> {
    Ok(lua.object::<FlockHandle>(1)?.0.clone())
}

/// `lock:read()` → all that is in the file.
fn read(lua: Lua<'_>) -> Result<Pushed> {
    let bytes = this(lua)?.0.read()?;
    lua.push_bytes(&bytes)?;
    Ok(1)
}

/// `lock:write(s)`: replaces what is in the file.
fn write(lua: Lua<'_>) -> Result<Pushed> {
    let lock = this(lua)?;
    lock.0.write(lua.bytes(2)?)?;
    Ok(0)
}

/// `lock:close()`: frees it.
fn close(lua: Lua<'_>) -> Result<Pushed> {
    this(lua)?.0.close();
    Ok(0)
}
