//! `ipc.pool`: warm workers, and the tasks that are submitted to them.

mod list;
mod work;

use std::ffi::c_int;
use std::sync::Arc;

use self::work::Plan;
use crate::bind::codec::Route;
use crate::bind::threads::batch;
use crate::bind::threads::future;
use crate::bind::threads::map::{cancel_code, push_init, split_number};
use crate::bind::threads::worker::{STACK, Setup};
use crate::bind::vm::{Class, ClassInfo, Kind, Lua, Method, Pushed};
use crate::error::{Code, Error, Result, words};
use crate::lua_fn;
use crate::sync::{Batch, Pool, Task, Terms};
use crate::sys::cpus;
use crate::sys::try_bytes;
use crate::text;
use crate::try_fn;
use crate::wire::{Attachment, Message, Object, downcast};

/// What the module offers of this.
pub(in crate::bind) const FUNCTIONS: &[Method] = &[("pool", lua_fn!("ipc.pool", pool))];

/// The class `ipc.pool`.
pub(in crate::bind) static INFO: ClassInfo = ClassInfo::of::<PoolHandle>("ipc.pool", METHODS, &[]);

const METHODS: &[Method] = &[
    ("submit", lua_fn!("pool:submit", submit)),
    ("map", lua_fn!("pool:map", list::map)),
    ("each", lua_fn!("pool:each", list::each)),
    ("batch", lua_fn!("pool:batch", batch)),
    ("cancel", lua_fn!("pool:cancel", cancel)),
    ("close", lua_fn!("pool:close", close)),
];

/// What yields under a scheduler.
pub(in crate::bind) const NON_BLOCKING: &[Method] = &[
    ("map", try_fn!("pool:map", list::try_map)),
    ("each", try_fn!("pool:each", list::advance)),
    ("close", try_fn!("pool:close", close)),
];

/// One Lua state's hold on a pool.
#[derive(Debug)]
struct PoolHandle(Arc<Pool>);

impl Class for PoolHandle {
    fn info() -> &'static ClassInfo {
        &INFO
    }

    fn describe(&self) -> String {
        text!("{}", self.0)
    }

    fn attach(&self) -> Option<Attachment> {
        Some(Attachment::Object(self.0.clone()))
    }

    fn adopt(_: Lua<'_>, object: Arc<dyn Object>) -> Option<Self> {
        downcast(object).map(PoolHandle)
    }
}

/// `ipc.pool([n], [{init=, upvalues=, name=, cancel=}])`
fn pool(lua: Lua<'_>) -> Result<Pushed> {
    let (count, options) = match lua.kind(1) {
        Kind::None | Kind::Nil => (cpus(), 2),
        Kind::Table => (cpus(), 1),
        _ => (lua.integer_in(1, 1..=i64::from(u32::MAX))? as usize, 2),
    };
    let options = lua.options(options, &["init", "upvalues", "name", "cancel"])?;
    let upvalues = options.boolean("upvalues")?.unwrap_or(false);
    let route = route(upvalues);
    let name = options.bytes("name")?.unwrap_or_else(|| INFO.name.into());
    let setup = Setup::new(lua, cancel_code(options)?)?;
    push_init(lua, options)?;
    let mut init = Message::default();
    lua.encode_values(lua.top(), 1, &mut init, route).map_err(|e| renamed(e, |_| "option 'init'".into()))?;
    let plan = Plan { init, route, setup };
    let terms = Terms { name, count, stack: STACK, upvalues };
    lua.push_object(PoolHandle(Arc::new(Pool::start(terms, move |source| plan.run(source))?)))?;
    Ok(1)
}

/// The pool in slot 1.
fn this(lua: Lua<'_>) -> Result<Arc<Pool>> {
    Ok(lua.object::<PoolHandle>(1)?.0.clone())
}

/// What arguments and results of a task take, mostly.
const FEW_BYTES: usize = 64;

/// The function in slot `first` and its arguments, which are all values above it, as a task.
pub(super) fn task(lua: Lua<'_>, first: c_int, upvalues: bool) -> Result<Task> {
    let function = function(lua, first, upvalues)?;
    task_of(lua, first, upvalues, function)
}

/// The same where the [`function`] in that slot is known.
pub(super) fn task_of(lua: Lua<'_>, first: c_int, upvalues: bool, function: Option<Box<[u8]>>) -> Result<Task> {
    let route = route(upvalues);
    let count = lua.top() - first;
    let mut values = Message::default();
    // Enough for most, in one piece.
    values.bytes.try_reserve_exact(FEW_BYTES)?;
    if function.is_some() {
        lua.encode_values(first + 1, count, &mut values, route)
            .map_err(|e| renamed(e, |n| format!("argument #{}", n + 1)))?;
    } else {
        // With upvalues: what the function and its arguments share stays shared.
        let name = |n| if n == 1 { "the function".into() } else { format!("argument #{n}") };
        lua.encode_values(first, count + 1, &mut values, route).map_err(|e| renamed(e, name))?;
    }
    let (ledger, owner) = (Some(lua.state().account.ledger()), lua.state().owner().number());
    Ok(Task { function, values, ledger, owner })
}

fn route(upvalues: bool) -> Route {
    if upvalues { Route::THREAD_UPVALUES } else { Route::THREAD }
}

/// The bytes of the function in slot `i` if it has no state: no upvalues but those that go by name, and no attachments.
pub(in crate::bind) fn function(lua: Lua<'_>, i: c_int, upvalues: bool) -> Result<Option<Box<[u8]>>> {
    lua.check(i, Kind::Function)?;
    let mut message = lua.state().take_message();
    let bytes = lua.encode(i, &mut message, Route::THREAD).and_then(|()| {
        message.attachments.is_empty().then(|| try_bytes(&message.bytes).map(Vec::into_boxed_slice)).transpose()
    });
    lua.state().keep_message(message);
    match bytes {
        // It has upvalues, which may travel.
        Err(_) if upvalues => Ok(None),
        Err(e) => Err(renamed(e, |_| "the function".into())),
        found => found,
    }
}

/// The codec counts values from 1; `name` is what their user calls them.
fn renamed(e: Error, name: impl Fn(usize) -> String) -> Error {
    if e.code() == Code::Raised {
        return e;
    }
    let Some(rest) = e.what().strip_prefix("value") else { return e };
    let (number, rest) = rest.strip_prefix(' ').map_or((1, rest), split_number);
    Error::new(e.code(), "", words(format_args!("{}{rest}", name(number))))
}

/// `p:submit(fn, ...)` → future
fn submit(lua: Lua<'_>) -> Result<Pushed> {
    let pool = this(lua)?;
    let task = task(lua, 2, pool.terms().upvalues)?;
    lua.push_object(future::FutureHandle(pool.submit(task)?))?;
    Ok(1)
}

/// `p:batch()` → a batch
fn batch(lua: Lua<'_>) -> Result<Pushed> {
    let pool = this(lua)?;
    lua.push_object(batch::BatchHandle(Arc::new(Batch::new(pool))))?;
    Ok(1)
}

/// `p:cancel()`: drops what is queued, ends what runs, and takes no more.
fn cancel(lua: Lua<'_>) -> Result<Pushed> {
    this(lua)?.cancel()?;
    Ok(0)
}

/// `p:close([timeout])`: takes no more tasks, and waits until all have ended.
fn close(lua: Lua<'_>) -> Result<Pushed> {
    let pool = this(lua)?;
    let deadline = lua.timeout(2, None)?;
    pool.close(&lua.wait(deadline))?;
    Ok(0)
}
