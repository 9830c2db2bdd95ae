//! Waiting on many: `ipc.select`.
//!
//! A class takes part by [`Class::source`](crate::bind::vm::Class::source).

use std::cell::Cell;
use std::rc::Rc;

use crate::bind::vm::{Kind, Lua, Method, Pushed, WAITABLE, WAYS, ready_at, refusal, served_at, source_at};
use crate::err;
use crate::error::{Error, Result};
use crate::lua_fn;
use crate::sys::check_memory;
use crate::try_fn;
use crate::wait::{Candidate, Deadline, Way, select};

/// What the module offers of this.
pub(in crate::bind) const FUNCTIONS: &[Method] = &[("select", lua_fn!("ipc.select", select_first))];

/// What yields under a scheduler.
pub(in crate::bind) const NON_BLOCKING: &[Method] = &[("select", try_fn!("ipc.select", select_first))];

/// Counts the results of `ipc.select` in one Lua state: what was returned longest ago goes first.
#[derive(Clone)]
struct Turns(Rc<Cell<u32>>);

impl Turns {
    fn of(lua: Lua<'_>) -> Turns {
        lua.state().extra(|| Turns(Rc::new(Cell::new(1))))
    }

    /// Lower for what was served longer ago, 0 for what never was; also when the count has wrapped.
    fn rank(&self, served: u32) -> u32 {
        let age = self.0.get().wrapping_sub(served);
        if served == 0 { 0 } else { u32::MAX - age }
    }

    fn serve(&self, served: &Cell<u32>) {
        served.set(self.0.get());
        self.0.set(self.0.get().wrapping_add(1).max(1));
    }
}

/// Pushes the object of entry `index` of the list in slot 1, `obj` or `{obj, way}`, and says how it is waited for.
fn push_entry(lua: Lua<'_>, index: i64) -> Result<Way> {
    let mut way = Way::Read;
    if lua.raw_get_index(1, index) == Kind::Table {
        let entry = lua.top();
        if lua.raw_get_index(entry, 2) != Kind::Nil {
            let named = lua.with_str(-1, |name| WAYS.iter().find(|(n, _)| *n == name)).flatten();
            way = match named {
                Some((_, way)) => *way,
                None => return Err(wrong(lua, index, "'read' or 'write' in its second place")),
            };
        }
        lua.raw_get_index(entry, 1);
    }
    Ok(way)
}

/// The error for entry `index`, of which the wrong part is on top.
fn wrong(lua: Lua<'_>, index: i64, expected: &str) -> Error {
    err!(Argument, "argument #1, entry {index}: expected {expected}, got {}", lua.describe(-1))
}

/// `ipc.select({a, b, {c, 'write'}}, [timeout])` → the first that is ready, its index; nil when none was in time.
fn select_first(lua: Lua<'_>) -> Result<Pushed> {
    lua.check(1, Kind::Table)?;
    let deadline = lua.timeout(2, None)?;
    lua.set_top(2);
    let count = lua.raw_len(1);
    if count == 0 && deadline == Deadline::NEVER {
        return Err(lua.bad_value(1, "an empty list is never ready; give a time-out, or something to wait for"));
    }
    let turns = Turns::of(lua);
    if let Some(found) = look(lua, count as i64, &turns)? {
        return serve(lua, found, &turns);
    }
    // Not by its length, which may be anything in a table with holes: the first of them ends the list with an error.
    let mut candidates = Vec::new();
    for index in 1..=count as i64 {
        let way = push_entry(lua, index)?;
        let Some(info) = lua.class_info(-1) else { return Err(wrong(lua, index, WAITABLE)) };
        let source = match source_at(lua, -1, info, way) {
            Ok(Some(source)) => Some(source),
            Ok(None) => {
                let what = refusal(info, way);
                return Err(err!(Argument, "argument #1, entry {index}: {}", what.what()));
            }
            // Closed: the call on it that follows says so.
            Err(_) => None,
        };
        check_memory()?;
        candidates.try_reserve(1)?;
        candidates.push(Candidate { source, rank: turns.rank(served_at(lua, -1, way).get()) });
        lua.set_top(2);
    }
    let Some(found) = select(&candidates, &lua.wait(deadline))? else {
        lua.push_nil();
        return Ok(1);
    };
    // Signal handlers may have changed the list meanwhile.
    serve(lua, found as i64 + 1, &turns)
}

/// Returns entry `index`, whose turn it was.
fn serve(lua: Lua<'_>, index: i64, turns: &Turns) -> Result<Pushed> {
    let way = push_entry(lua, index)?;
    if lua.class_info(-1).is_some() {
        turns.serve(served_at(lua, -1, way));
    }
    lua.push_integer(index);
    Ok(2)
}

/// The entry to choose where one is ready and all can tell by themselves: nothing is made for any of them. Nor is
/// anything refused here.
fn look(lua: Lua<'_>, count: i64, turns: &Turns) -> Result<Option<i64>> {
    let mut best = None;
    for index in 1..=count {
        let way = push_entry(lua, index)?;
        let ready = lua.class_info(-1).and_then(|info| ready_at(lua, -1, info, way));
        match ready {
            None => {
                lua.set_top(2);
                return Ok(None);
            }
            Some(false) => {}
            Some(true) => {
                let rank = turns.rank(served_at(lua, -1, way).get());
                if best.is_none_or(|(lowest, _)| rank < lowest) {
                    best = Some((rank, index));
                }
            }
        }
        lua.set_top(2);
    }
    if best.is_some() {
        lua.wait(Deadline::NEVER).check()?;
    }
    Ok(best.map(|(_, index)| index))
}
