//! `pool:map` and `pool:each`: one function over the items of a list, a bounded number of them on their way at a time.

use std::cell::{OnceCell, RefCell};
use std::ffi::c_int;
use std::sync::Arc;

use super::{function, task_of, this};
use crate::bind::threads::batch;
use crate::bind::threads::future::push_outcome;
use crate::bind::vm::{Kind, Lua, Pushed};
use crate::err;
use crate::error::{Code, Error, Result, words};
use crate::lua_fn;
use crate::sync::{Batch, Future, Next, Outcome};
use crate::sys::{try_bytes, try_push};
use crate::wait::Deadline;

/// How many items are on their way for each worker: one in its hands, and enough to go on with while the caller is
/// busy.
const AHEAD: usize = 4;

/// One iteration over a list.
struct ListCall {
    batch: Arc<Batch>,
    /// How many items the list has.
    count: i64,
    /// The bytes of the function, where all items can share them.
    function: OnceCell<Option<Box<[u8]>>>,
}

impl ListCall {
    /// Over the list in slot 3, with the function in slot 2.
    fn begin(lua: Lua<'_>) -> Result<ListCall> {
        let pool = this(lua)?;
        lua.check(2, Kind::Function)?;
        lua.check(3, Kind::Table)?;
        lua.timeout(4, None)?;
        lua.set_top(4);
        lua.raw_get_field(3, "n")?;
        let count = lua.to_integer(-1).unwrap_or(lua.raw_len(3) as i64);
        lua.pop(1);
        Ok(ListCall { batch: Arc::new(Batch::new(pool)), count, function: OnceCell::new() })
    }

    /// Pushes the table that will hold the results; its `n` says how many there are, since any of them may be nil.
    fn push_results(&self, lua: Lua<'_>) -> Result<()> {
        lua.new_table(self.count.clamp(0, 1 << 20) as c_int, 1)?;
        lua.push_integer(self.count.max(0));
        lua.raw_set_field(-2, "n")
    }

    /// Submits items while there are some and there is room; the function is in slot `f`, the list in the next.
    fn feed(&self, lua: Lua<'_>, f: c_int) -> Result<()> {
        let terms = self.batch.pool().terms();
        let room = (terms.count * AHEAD) as u64;
        while self.batch.pending() < room {
            let item = self.batch.submitted().cast_signed() + 1;
            if item > self.count {
                break;
            }
            let top = lua.top();
            lua.push_value(f);
            lua.raw_get_index(f + 1, item);
            let function = self.function(lua, f)?;
            let task = task_of(lua, top + 1, terms.upvalues, function).map_err(|e| about(e, item))?;
            lua.set_top(top);
            self.batch.submit(task)?;
        }
        Ok(())
    }

    /// The bytes of the function in slot `f`, taken once: it is the same for all items.
    fn function(&self, lua: Lua<'_>, f: c_int) -> Result<Option<Box<[u8]>>> {
        if self.function.get().is_none() {
            // Nobody else sets it.
            _ = self.function.set(function(lua, f, self.batch.pool().terms().upvalues)?);
        }
        let known = self.function.get().and_then(|known| known.as_deref());
        Ok(known.map(try_bytes).transpose()?.map(Vec::into_boxed_slice))
    }

    /// Waits for the next item that is done.
    fn next(&self, lua: Lua<'_>, deadline: Deadline) -> Result<Option<Done>> {
        match self.batch.next(&lua.wait(deadline))? {
            Next::Nothing => Ok(None),
            Next::OutOfTime => {
                let done = self.batch.submitted() - self.batch.pending();
                Err(err!(Timeout, "{done} of {} items are done", self.count))
            }
            Next::Future((number, future)) => Ok(Some(Done { item: number.cast_signed(), future })),
        }
    }

    /// Waits for the next item that is done and pushes what its task returned: its number, and how many values.
    fn take(&self, lua: Lua<'_>, deadline: Deadline) -> Result<Option<(i64, Pushed)>> {
        let done = self.next(lua, deadline)?;
        done.map(|done| Ok((done.item, self.push(lua, &done)?))).transpose()
    }

    /// Pushes what a task returned; the error of one stands for those of all.
    fn push(&self, lua: Lua<'_>, done: &Done) -> Result<Pushed> {
        done.push(lua).inspect_err(|_| self.batch.give_up())
    }

    /// `result`, and where it is an error none of the items that wait is begun any more; a try that comes again is
    /// none.
    fn or_withdraw<T>(&self, result: Result<T>) -> Result<T> {
        if result.as_ref().is_err_and(|e| e.code() != Code::WouldBlock) {
            self.batch.withdraw();
        }
        result
    }
}

/// An item whose task has ended.
struct Done {
    item: i64,
    future: Arc<Future>,
}

impl Done {
    /// Pushes what the task returned, and says how many values that is; an error where it failed.
    fn push(&self, lua: Lua<'_>) -> Result<Pushed> {
        let outcome = self.future.outcome().ok_or_else(|| err!(State, "a future without an outcome"))?;
        push_outcome(lua, &self.future, outcome, format_args!(" of item {}", self.item))
    }

    /// Sets the first of the values in the table in slot `results`.
    fn set(&self, lua: Lua<'_>, call: &ListCall, results: c_int) -> Result<()> {
        if call.push(lua, self)? > 0 {
            lua.set_top(results + 1);
            lua.raw_set_index(results, self.item)?;
        }
        Ok(())
    }
}

/// The codec's error about the argument of an item's task.
fn about(e: Error, item: i64) -> Error {
    match e.what().strip_prefix("argument #2") {
        Some(rest) => Error::new(e.code(), "", words(format_args!("item {item}{rest}"))),
        None => e,
    }
}

/// `p:map(fn, list, [timeout])` → the first result of each, in the order of the list, and `n`, how many there are.
pub(super) fn map(lua: Lua<'_>) -> Result<Pushed> {
    let call = ListCall::begin(lua)?;
    let deadline = lua.timeout(4, None)?;
    call.push_results(lua)?;
    call.or_withdraw(collect(lua, &call, deadline))?;
    Ok(1)
}

/// Fills the table on top.
fn collect(lua: Lua<'_>, call: &ListCall, deadline: Deadline) -> Result<()> {
    let results = lua.top();
    loop {
        call.feed(lua, 2)?;
        let Some(done) = call.next(lua, deadline)? else { return Ok(()) };
        done.set(lua, call, results)?;
    }
}

/// A `map` between its tries. The results stay where they are until it has all of them.
struct Mapping {
    call: ListCall,
    done: RefCell<Vec<Done>>,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.call.batch.withdraw();
    }
}

/// A try of `p:map`.
pub(super) fn try_map(lua: Lua<'_>) -> Result<Pushed> {
    let Some(non_blocking) = lua.non_blocking() else { return map(lua) };
    let mapping =
        non_blocking.state(|| Ok::<_, Error>(Mapping { call: ListCall::begin(lua)?, done: RefCell::default() }))?;
    lua.set_top(4);
    let deadline = lua.timeout(4, None)?;
    loop {
        mapping.call.feed(lua, 2)?;
        let Some(done) = mapping.call.next(lua, deadline)? else { break };
        // What failed is told at once.
        if matches!(done.future.outcome(), Some(Outcome::Done(_))) {
            try_push(&mut mapping.done.borrow_mut(), done)?;
        } else {
            mapping.call.push(lua, &done)?;
        }
    }
    let all = mapping.done.take();
    mapping.call.push_results(lua)?;
    let results = lua.top();
    all.iter().try_for_each(|done| done.set(lua, &mapping.call, results))?;
    Ok(1)
}

/// Where the state of an iteration keeps its parts.
const FUNCTION: i64 = 1;
const LIST: i64 = 2;
const BATCH: i64 = 3;
const COUNT: i64 = 4;
const TIMEOUT: i64 = 5;

/// `p:each(fn, list, [timeout])` → what `for` wants: an iterator over numbers and all results, and its state.
pub(super) fn each(lua: Lua<'_>) -> Result<Pushed> {
    let call = ListCall::begin(lua)?;
    lua.push_function(lua_fn!("pool:each", advance))?;
    lua.new_table(5, 0)?;
    let state = lua.top();
    lua.push_object(batch::BatchHandle(call.batch.clone()))?;
    lua.raw_set_index(state, BATCH)?;
    lua.push_integer(call.count);
    lua.raw_set_index(state, COUNT)?;
    for (slot, part) in [(2, FUNCTION), (3, LIST), (4, TIMEOUT)] {
        lua.push_value(slot);
        lua.raw_set_index(state, part)?;
    }
    Ok(2)
}

/// The next step of a `for`; the state is in slot 1.
pub(super) fn advance(lua: Lua<'_>) -> Result<Pushed> {
    lua.check(1, Kind::Table)?;
    lua.set_top(1);
    for part in [FUNCTION, LIST, TIMEOUT, COUNT, BATCH] {
        lua.raw_get_index(1, part);
    }
    let batch = lua.object::<batch::BatchHandle>(6)?.0.clone();
    let call = ListCall { batch, count: lua.integer(5)?, function: OnceCell::new() };
    lua.check(3, Kind::Table)?;
    call.or_withdraw(call.feed(lua, 2))?;
    let deadline = lua.timeout(4, None)?;
    // In place of the batch, so that the results follow it.
    lua.push_nil();
    lua.replace(6);
    match call.or_withdraw(call.take(lua, deadline))? {
        None => Ok(1),
        Some((item, values)) => {
            lua.push_integer(item);
            lua.replace(6);
            Ok(values + 1)
        }
    }
}
