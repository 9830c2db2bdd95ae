//! `ipc.workqueue`: questions from the thread that owns it, answers from the others.

use std::sync::Arc;

use crate::bind::codec::Route;
use crate::bind::sync::items;
use crate::bind::vm::{Class, ClassInfo, FD, Kind, Lua, Method, Pushed};
use crate::error::Result;
use crate::lua_fn;
use crate::sync::{Limits, WorkQueue, WorkQueueHandle};
use crate::sys::try_bytes;
use crate::text;
use crate::try_fn;
use crate::wait::{Deadline, Source, Way, source};
use crate::wire::{Attachment, Object, downcast};

/// What the module offers of this.
pub(in crate::bind) const FUNCTIONS: &[Method] = &[("workqueue", lua_fn!("ipc.workqueue", workqueue))];

/// The class `ipc.workqueue`.
pub(in crate::bind) static INFO: ClassInfo = ClassInfo::of::<WorkQueueHandle>("ipc.workqueue", METHODS, &[]);

const METHODS: &[Method] = &[
    ("write", lua_fn!("workqueue:write", write)),
    ("writeup", lua_fn!("workqueue:writeup", writeup)),
    ("trywrite", lua_fn!("workqueue:trywrite", trywrite)),
    ("read", lua_fn!("workqueue:read", read)),
    ("tryread", lua_fn!("workqueue:tryread", tryread)),
    ("drain", lua_fn!("workqueue:drain", drain)),
    FD,
    ("pending", lua_fn!("workqueue:pending", pending)),
    ("close", lua_fn!("workqueue:close", close)),
];

/// What yields under a scheduler.
pub(in crate::bind) const NON_BLOCKING: &[Method] = &[
    ("write", try_fn!("workqueue:write", write)),
    ("writeup", try_fn!("workqueue:writeup", writeup)),
    ("read", try_fn!("workqueue:read", read)),
    ("tryread", try_fn!("workqueue:tryread", tryread)),
    ("drain", try_fn!("workqueue:drain", drain)),
];

impl Class for WorkQueueHandle {
    fn info() -> &'static ClassInfo {
        &INFO
    }

    fn describe(&self) -> String {
        text!("{}", self)
    }

    fn attach(&self) -> Option<Attachment> {
        self.queue().ok().map(|queue| Attachment::Object(queue.clone()))
    }

    fn source(&self, way: Way) -> Result<Option<Box<dyn Source>>> {
        let it = (self.queue()?.clone(), self.by());
        Ok(Some(match way {
            Way::Read => source(it, |(q, by)| Some(q.readable(*by)), |(q, by)| q.read_fd(*by)),
            Way::Write => source(it, |(q, by)| Some(q.writable(*by)), |(q, by)| q.write_fd(*by)),
        }))
    }

    fn ready(&self, way: Way) -> Option<bool> {
        let queue = self.queue().ok()?;
        Some(if way == Way::Read { queue.readable(self.by()) } else { queue.writable(self.by()) })
    }

    fn adopt(lua: Lua<'_>, object: Arc<dyn Object>) -> Option<Self> {
        downcast(object).map(|queue| WorkQueueHandle::new(queue, lua.state().owner()))
    }
}

/// `ipc.workqueue([name], [size], [increment])` or `ipc.workqueue{name=, capacity=, timeout=}` → queue, and 1 if this
/// call made it, else 0. Size and increment are taken for the sake of old scripts; memory grows by itself.
fn workqueue(lua: Lua<'_>) -> Result<Pushed> {
    let (mut name, mut limits) = (None, Limits::default());
    match lua.kind(1) {
        Kind::Table => {
            let options = lua.options(1, &["name", "capacity", "timeout"])?;
            name = options.bytes("name")?;
            limits = items::limits(options)?;
        }
        Kind::None | Kind::Nil => {}
        Kind::String | Kind::Number => name = Some(try_bytes(lua.name_bytes(1)?)?),
        _ => return Err(lua.expected(1, "a string or a table of options")),
    }
    for slot in [2, 3] {
        lua.optional(slot, |lua, i| lua.whole_in(i, 0..=i64::MAX))?;
    }
    let owner = lua.state().owner();
    let (handle, made) = match name {
        Some(name) => WorkQueue::open(&name, limits, owner)?,
        None => (WorkQueue::nameless(limits, owner), true),
    };
    lua.push_object(handle)?;
    lua.push_integer(made.into());
    Ok(2)
}

/// Writes the arguments, each as an item of its own.
fn put(lua: Lua<'_>, route: Route) -> Result<Pushed> {
    let handle = lua.object::<WorkQueueHandle>(1)?;
    let queue = handle.queue()?;
    items::send::<WorkQueueHandle, _>(lua, route, |items| {
        queue.write(handle.by(), items, &lua.wait(Deadline::within(handle.timeout())))
    })?;
    Ok(0)
}

/// `q:write(...)`
fn write(lua: Lua<'_>) -> Result<Pushed> {
    put(lua, Route::THREAD)
}

/// `q:writeup(...)`: functions take their upvalues along.
fn writeup(lua: Lua<'_>) -> Result<Pushed> {
    put(lua, Route::THREAD_UPVALUES)
}

/// `q:trywrite(...)` → false where there is no room.
fn trywrite(lua: Lua<'_>) -> Result<Pushed> {
    let handle = lua.object::<WorkQueueHandle>(1)?;
    let queue = handle.queue()?;
    let written = items::send::<WorkQueueHandle, _>(lua, Route::THREAD, |items| queue.write_now(handle.by(), items))?;
    lua.push_boolean(written);
    Ok(1)
}

/// Makes the next item the last result, if one comes before `deadline`, and says whether.
fn get(lua: Lua<'_>, deadline: Deadline) -> Result<bool> {
    let handle = lua.object::<WorkQueueHandle>(1)?;
    let mut message = lua.state().take_message();
    let queue = handle.queue()?;
    let found = queue.read(handle.by(), &mut message, &lua.wait(deadline))?;
    if found {
        lua.decode_last(message, Route::THREAD_UPVALUES, |item| queue.put_back(handle.by(), item))?;
    } else {
        lua.state().keep_message(message);
    }
    Ok(found)
}

/// `q:read([timeout])` → the item, nil where none came.
fn read(lua: Lua<'_>) -> Result<Pushed> {
    let default = lua.object::<WorkQueueHandle>(1)?.timeout();
    if !get(lua, lua.timeout(2, default)?)? {
        lua.push_nil();
    }
    Ok(1)
}

/// `q:tryread([timeout])` → true and the item, or false.
fn tryread(lua: Lua<'_>) -> Result<Pushed> {
    let deadline = lua.timeout(2, Some(0.0))?;
    lua.set_top(1);
    lua.push_boolean(true);
    if get(lua, deadline)? {
        return Ok(2);
    }
    lua.push_boolean(false);
    Ok(1)
}

/// `q:drain([timeout])`: waits until every question has its answer.
fn drain(lua: Lua<'_>) -> Result<Pushed> {
    let handle = lua.object::<WorkQueueHandle>(1)?;
    let deadline = lua.timeout(2, handle.timeout())?;
    handle.queue()?.drain(handle.by(), &lua.wait(deadline))?;
    Ok(0)
}

/// `q:pending()` → questions and answers that wait to be read.
fn pending(lua: Lua<'_>) -> Result<Pushed> {
    let (questions, answers) = lua.object::<WorkQueueHandle>(1)?.queue()?.pending();
    lua.push_integer(questions.cast_signed());
    lua.push_integer(answers.cast_signed());
    Ok(2)
}

/// `q:close()`: this handle lets go; the owner's last one closes the queue.
fn close(lua: Lua<'_>) -> Result<Pushed> {
    lua.object_mut::<WorkQueueHandle>(1)?.close();
    Ok(0)
}
