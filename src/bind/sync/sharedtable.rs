//! `ipc.sharedtable`: a table that threads share. A key of it is data, so what it can do besides stands in the module's
//! table `ipc.sharedtable`, which is called to make one. Puts its parts together: `convert` for keys and values, `fill`
//! for the table that one starts with; and writes numbers as its sibling `atomic` does.

mod convert;
mod fill;

use std::ffi::c_int;
use std::sync::Arc;

use self::convert::{key, push, push_key, push_last, value, written_key};
use crate::bind::sync::atomic;
use crate::bind::vm::{Class, ClassInfo, Kind, Lua, Method, Pushed, add_maker};
use crate::err;
use crate::error::Result;
use crate::lua_fn;
use crate::sync::{Cursor, KeyRef, Table, Value};
use crate::sys::try_push;
use crate::text;
use crate::wait::Deadline;
use crate::wire::{Attachment, Object, downcast};

/// What the module offers of this, besides what `install` adds.
pub(in crate::bind) const FUNCTIONS: &[Method] = &[("sharedtable_size", lua_fn!("ipc.sharedtable_size", size))];

/// The class `ipc.sharedtable`.
pub(in crate::bind) static INFO: ClassInfo = ClassInfo::of::<SharedTable>("ipc.sharedtable", &[], METAMETHODS);

/// About what a key with a small value takes in a table, in bytes.
const ENTRY: usize = 64;

/// What `pairs` walks with. Nobody has use for its class: it has no name among ours and does not travel.
static WALK: ClassInfo = ClassInfo::of::<PairsWalk>("pairs of ipc.sharedtable", &[], &[]);

const METAMETHODS: &[Method] = &[
    ("__index", lua_fn!("sharedtable[key]", index)),
    ("__newindex", lua_fn!("sharedtable[key] = value", new_index)),
    ("__len", lua_fn!("#sharedtable", length)),
    ("__eq", lua_fn!("sharedtable == sharedtable", equal)),
    ("__pairs", lua_fn!("pairs", pairs)),
];

/// The fields of `ipc.sharedtable`.
const FIELDS: &[Method] = &[
    ("update", lua_fn!("ipc.sharedtable.update", update)),
    ("incr", lua_fn!("ipc.sharedtable.incr", incr)),
    ("cas", lua_fn!("ipc.sharedtable.cas", cas)),
    ("keys", lua_fn!("ipc.sharedtable.keys", keys)),
    ("pairs", lua_fn!("ipc.sharedtable.pairs", pairs)),
    ("kbytes", lua_fn!("ipc.sharedtable.kbytes", size)),
];

/// One Lua state's hold on a shared table.
#[derive(Debug)]
pub struct SharedTable(Arc<Table>);

impl Class for SharedTable {
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
        downcast(object).map(SharedTable)
    }
}

/// A walk of `pairs`.
#[derive(Debug)]
struct PairsWalk {
    table: Arc<Table>,
    cursor: Cursor,
}

impl Class for PairsWalk {
    fn info() -> &'static ClassInfo {
        &WALK
    }
}

/// Puts `ipc.sharedtable` into the module's table, on top.
pub(in crate::bind) fn install(lua: Lua<'_>) -> Result<()> {
    lua.new_table(0, FIELDS.len() as c_int)?;
    for (name, function) in FIELDS {
        lua.push_function(*function)?;
        lua.raw_set_field(-2, name)?;
    }
    add_maker(lua, "sharedtable", lua_fn!("ipc.sharedtable", create))
}

/// `ipc.sharedtable([tbl], [move])`
fn create(lua: Lua<'_>) -> Result<Pushed> {
    // The table that was called.
    lua.drop_self();
    let moved = lua.truth(2);
    let mut table = Table::new();
    if !lua.is_nil(1) {
        lua.check(1, Kind::Table)?;
        fill::fill(lua, &mut table, moved)?;
    }
    lua.push_object(SharedTable(Arc::new(table)))?;
    Ok(1)
}

/// The table in slot 1; held on to, for what may run Lua meanwhile.
fn this(lua: Lua<'_>) -> Result<Arc<Table>> {
    Ok(lua.object::<SharedTable>(1)?.0.clone())
}

/// `t[k]`
fn index(lua: Lua<'_>) -> Result<Pushed> {
    let table = lua.object::<SharedTable>(1)?;
    let found = key(lua, 2)?.and_then(|key| table.0.get(key));
    // Decoding may run Lua code, which may do anything to the handle.
    drop(table);
    push_last(lua, found)?;
    Ok(1)
}

/// `t[k] = v`
fn new_index(lua: Lua<'_>) -> Result<Pushed> {
    let key = written_key(lua, 2)?;
    let table = match lua.kind(3) {
        // What is plain runs no Lua code on its way.
        Kind::Nil | Kind::Boolean | Kind::Number => {
            let table = lua.object::<SharedTable>(1)?;
            not_updating(lua, &table.0, key)?;
            table.0.set(key, value(lua, 3)?)?;
            lua.wrote::<SharedTable>(1, ENTRY);
            return Ok(0);
        }
        _ => this(lua)?,
    };
    not_updating(lua, &table, key)?;
    put(lua, &table, key, value(lua, 3)?)?;
    Ok(0)
}

/// Sets a key of the table in slot 1.
fn put(lua: Lua<'_>, table: &Table, key: KeyRef<'_>, value: Option<Value>) -> Result<()> {
    let bytes = ENTRY + value.as_ref().map_or(0, Value::heap);
    table.set(key, value)?;
    lua.wrote::<SharedTable>(1, bytes);
    Ok(())
}

/// `#t`: how many keys there are, of whatever kind.
fn length(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_integer(lua.object::<SharedTable>(1)?.0.len() as i64);
    Ok(1)
}

/// `t == u`: whether both are handles on one table.
fn equal(lua: Lua<'_>) -> Result<Pushed> {
    let both = lua.is_object::<SharedTable>(1) && lua.is_object::<SharedTable>(2);
    let same = both && Arc::ptr_eq(&lua.object::<SharedTable>(1)?.0, &lua.object::<SharedTable>(2)?.0);
    lua.push_boolean(same);
    Ok(1)
}

/// `ipc.sharedtable.pairs(t)` → the three values of a for loop.
fn pairs(lua: Lua<'_>) -> Result<Pushed> {
    let table = this(lua)?;
    lua.push_function(lua_fn!("pairs", step))?;
    lua.push_object(PairsWalk { table, cursor: Cursor::default() })?;
    lua.push_nil();
    Ok(3)
}

/// One step of `pairs`: the next key and its value, or nil.
fn step(lua: Lua<'_>) -> Result<Pushed> {
    let next = {
        let mut walk = lua.object_mut::<PairsWalk>(1)?;
        let PairsWalk { table, cursor } = &mut *walk;
        cursor.next(table)?
    };
    let Some((key, value)) = next else {
        lua.push_nil();
        return Ok(1);
    };
    push_key(lua, key.borrow())?;
    push_last(lua, Some(value))?;
    Ok(2)
}

/// `ipc.sharedtable.keys(t)` → a list of the keys, in no order.
fn keys(lua: Lua<'_>) -> Result<Pushed> {
    let table = this(lua)?;
    lua.new_table(table.len().min(1 << 20) as c_int, 0)?;
    let (mut cursor, mut count) = (Cursor::default(), 0);
    while let Some(key) = cursor.next_key(&table)? {
        count += 1;
        push_key(lua, key.borrow())?;
        lua.raw_set_index(-2, count)?;
    }
    Ok(1)
}

/// `ipc.sharedtable.kbytes(t)`, `ipc.sharedtable_size(t)` → KB held.
fn size(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_number(lua.object::<SharedTable>(1)?.0.bytes() as f64 / 1024.0);
    Ok(1)
}

/// `ipc.sharedtable.incr(t, k, [n])` → the sum.
fn incr(lua: Lua<'_>) -> Result<Pushed> {
    let table = lua.object::<SharedTable>(1)?;
    let key = written_key(lua, 2)?;
    let n = lua.optional(3, atomic::number)?.unwrap_or(atomic::whole(1));
    not_updating(lua, &table.0, key)?;
    atomic::push(lua, table.0.add(key, n)?);
    Ok(1)
}

/// `ipc.sharedtable.cas(t, k, old, new)` → true if `t[k]` was `old` and now is `new`, else false and what it is.
fn cas(lua: Lua<'_>) -> Result<Pushed> {
    let table = this(lua)?;
    let key = written_key(lua, 2)?;
    for slot in [3, 4] {
        if lua.kind(slot) == Kind::None {
            return Err(lua.expected(slot, "value or nil"));
        }
    }
    not_updating(lua, &table, key)?;
    let old = value(lua, 3)?;
    if let Some(copied) = old.as_ref().filter(|old| !old.is_comparable()) {
        return Err(lua.bad_value(
            3,
            format_args!(
                "expected something to compare with, got {}: it is copied in and out, so no two are the same (update \
                 can change one in one step)",
                copied.kind()
            ),
        ));
    }
    let new = value(lua, 4)?;
    let bytes = ENTRY + new.as_ref().map_or(0, Value::heap);
    match table.cas(key, old.as_ref(), new)? {
        Ok(()) => {
            lua.wrote::<SharedTable>(1, bytes);
            lua.push_boolean(true);
            Ok(1)
        }
        Err(there) => {
            lua.push_boolean(false);
            push_last(lua, there)?;
            Ok(2)
        }
    }
}

/// `ipc.sharedtable.update(t, k, fn)` → what `fn` made of the value.
fn update(lua: Lua<'_>) -> Result<Pushed> {
    let table = this(lua)?;
    let key = written_key(lua, 2)?;
    if lua.kind(3) != Kind::Function {
        return Err(lua.expected(3, "a function"));
    }
    not_updating(lua, &table, key)?;
    let _updating = Updating::new(lua, &table, key)?;
    let mut bytes = 0;
    table.update(key, |old| {
        lua.wait(Deadline::NEVER).check()?;
        lua.set_top(3);
        lua.push_value(3);
        push(lua, old)?;
        lua.call(1, 1)?;
        let new = value(lua, 4)?;
        bytes = ENTRY + new.as_ref().map_or(0, Value::heap);
        Ok(new)
    })?;
    lua.wrote::<SharedTable>(1, bytes);
    Ok(1)
}

/// While it lives, an update of one key runs in this state.
struct Updating<'a>(Lua<'a>);

impl<'a> Updating<'a> {
    fn new(lua: Lua<'a>, table: &Arc<Table>, key: KeyRef<'_>) -> Result<Self> {
        let key = key.keep()?;
        try_push(&mut lua.state().updating.borrow_mut(), (Arc::as_ptr(table).addr(), key))?;
        Ok(Updating(lua))
    }
}

impl Drop for Updating<'_> {
    fn drop(&mut self) {
        self.0.state().updating.borrow_mut().pop();
    }
}

/// `[state]` inside the function of an update of this very key: its update would see a write each time and never end.
#[inline]
fn not_updating(lua: Lua<'_>, table: &Arc<Table>, key: KeyRef<'_>) -> Result<()> {
    let updating = lua.state().updating.borrow();
    if updating.is_empty() || !updating.iter().any(|(t, k)| *t == Arc::as_ptr(table).addr() && k.borrow() == key) {
        return Ok(());
    }
    Err(err!(
        State,
        "the function of an update may not write the key {key}, which it updates: return the value instead"
    ))
}
