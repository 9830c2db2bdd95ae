//! What a shared table starts with: the keys and values of a plain one. Imports its sibling `convert`.

use super::convert::{push, push_key, value, with_written_key};
use crate::bind::vm::{Kind, Lua, collect};
use crate::err;
use crate::error::{Code, Error, Result};
use crate::sync::{KeyRef, Table};
use crate::sys::check_memory;

/// Copies the fields of the table in slot 1 to `table`, metamethods aside; when `moved`, each is taken out as it goes.
/// After an error all that were taken out are back, as copies.
pub(super) fn fill(lua: Lua<'_>, table: &mut Table, moved: bool) -> Result<()> {
    let done = copy(lua, table, moved);
    if done.is_err() && moved {
        put_back(lua, table);
    }
    done
}

fn copy(lua: Lua<'_>, table: &Table, moved: bool) -> Result<()> {
    lua.set_top(1);
    lua.push_nil();
    while lua.next(1)? {
        // Slot 2 is the key, 3 the value.
        if !matches!(lua.kind(2), Kind::String | Kind::Number | Kind::Boolean) {
            let got = lua.describe(2);
            return Err(err!(
                Argument,
                "argument #1: expected strings, numbers and booleans as keys of the table, found a {got}"
            ));
        }
        // Many small values must not live on the allocator's reserve.
        check_memory()?;
        with_written_key(lua, 2, |key| table.set(key, value(lua, 3).map_err(|e| under(key, e))?))?;
        if moved {
            lua.push_value(2);
            lua.push_nil();
            // A field that is there is set to nil, which a traversal allows.
            lua.raw_set(1)?;
        }
        lua.set_top(2);
    }
    lua.set_top(1);
    Ok(())
}

/// The error with the key in its path: `value.layers[3].state`.
fn under(key: KeyRef<'_>, e: Error) -> Error {
    match e.what().strip_prefix("value") {
        Some(rest) if e.code() != Code::Raised => Error::new(e.code(), "", format!("value{key}{rest}")),
        _ => e,
    }
}

/// Takes everything out of `table` again, into the table in slot 1. The memory that it takes is there as garbage, if
/// nowhere else: the values that went.
fn put_back(lua: Lua<'_>, table: &mut Table) {
    let top = lua.top();
    table.drain(|key, value| {
        let put = || {
            push_key(lua, key.borrow())?;
            push(lua, Some(value.clone()))?;
            lua.raw_set(1)
        };
        for _ in 0..2 {
            let done = put();
            lua.set_top(top);
            if done.is_ok() || !collect(lua) {
                return;
            }
        }
    });
}
