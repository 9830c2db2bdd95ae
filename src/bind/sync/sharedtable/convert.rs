//! Keys and values between the stack and the core. Writes numbers as `atomic` does.

use std::ffi::c_int;

use crate::bind::codec::Route;
use crate::bind::sync::atomic;
use crate::bind::vm::{Holder, Kind, Lua};
use crate::err;
use crate::error::Result;
use crate::sync::{KeyRef, Number, Short, Value};
use crate::wire::Message;

/// The key that is argument `i`; `None` for nil and NaN, which no table has.
#[inline]
pub(super) fn key(lua: Lua<'_>, i: c_int) -> Result<Option<KeyRef<'_>>> {
    Ok(match lua.kind(i) {
        Kind::String => lua.argument_bytes(i).map(KeyRef::String),
        Kind::Number => match atomic::number(lua, i)? {
            Number::Integer(n) => Some(KeyRef::Integer(n)),
            Number::Float(x) => KeyRef::float(x),
        },
        Kind::Boolean => Some(KeyRef::Boolean(lua.truth(i))),
        Kind::Nil | Kind::None => None,
        _ => return Err(lua.expected(i, "a string, a number or a boolean as the key")),
    })
}

/// As [`key`], for a write: nil and NaN are errors, as in Lua.
#[inline]
pub(super) fn written_key(lua: Lua<'_>, i: c_int) -> Result<KeyRef<'_>> {
    match key(lua, i)? {
        Some(key) => Ok(key),
        None if lua.kind(i) == Kind::Number => Err(lua.bad_value(i, "expected a key, got NaN")),
        None => Err(lua.expected(i, "a string, a number or a boolean as the key")),
    }
}

/// `read` of the key in slot `i`, which need not be an argument.
pub(super) fn with_written_key<T>(lua: Lua<'_>, i: c_int, read: impl FnOnce(KeyRef<'_>) -> Result<T>) -> Result<T> {
    if lua.kind(i) != Kind::String {
        return read(written_key(lua, i)?);
    }
    lua.with_bytes(i, |bytes| read(KeyRef::String(bytes))).unwrap_or_else(|| Err(lua.expected(i, "a string")))
}

/// What slot `i` holds, for keeping; `None` for nil. Anything but nil, booleans and numbers may run Lua code.
#[inline]
pub(super) fn value(lua: Lua<'_>, i: c_int) -> Result<Option<Value>> {
    Ok(Some(match lua.kind(i) {
        Kind::Nil => return Ok(None),
        Kind::Number => Value::Number(atomic::number(lua, i)?),
        Kind::Boolean => Value::Boolean(lua.truth(i)),
        Kind::String => match lua.with_bytes(i, Short::new).flatten() {
            Some(short) => Value::Short(short),
            None => message(lua, i)?,
        },
        _ => message(lua, i)?,
    }))
}

/// The value in slot `i` as a message of its own, no larger than it must be.
fn message(lua: Lua<'_>, i: c_int) -> Result<Value> {
    let mut scratch = lua.state().take_message();
    let done = lua.encode(i, &mut scratch, Route::THREAD).and_then(|()| kept(&mut scratch));
    lua.state().keep_message(scratch);
    done
}

fn kept(scratch: &mut Message) -> Result<Value> {
    let (mut bytes, n) = (Vec::new(), scratch.bytes.len());
    bytes.try_reserve_exact(n).map_err(|_| err!(Limit, "not enough memory for a value of {n} bytes"))?;
    bytes.extend_from_slice(&scratch.bytes);
    let attachments = std::mem::take(&mut scratch.attachments);
    Ok(Value::message(Message { bytes, attachments, functions: scratch.functions, ..Message::default() }))
}

/// Pushes a key.
pub(super) fn push_key(lua: Lua<'_>, key: KeyRef<'_>) -> Result<()> {
    match key {
        KeyRef::Integer(n) => lua.push_integer(n),
        KeyRef::Float(bits) => lua.push_number(f64::from_bits(bits)),
        KeyRef::Boolean(b) => lua.push_boolean(b),
        KeyRef::String(s) => lua.push_bytes(s)?,
    }
    Ok(())
}

/// Pushes a value, nil for none.
pub(super) fn push(lua: Lua<'_>, value: Option<Value>) -> Result<()> {
    match value {
        None => lua.push_nil(),
        Some(Value::Boolean(b)) => lua.push_boolean(b),
        Some(Value::Number(n)) => atomic::push(lua, n),
        Some(Value::Short(s)) => lua.push_bytes(s.bytes())?,
        Some(Value::Message(m)) => lua.decode_shared(&m, Route::THREAD)?,
    }
    Ok(())
}

/// As [`push`], as the last result of the running function, whose body must end with this: faster for strings.
#[inline]
pub(super) fn push_last(lua: Lua<'_>, value: Option<Value>) -> Result<()> {
    match value {
        Some(Value::Short(s)) if lua.state().last.is_free() => {
            let mut holder = lua.state().take_message();
            holder.bytes.extend_from_slice(s.bytes());
            let bytes = &raw const *holder.bytes;
            lua.state().last.leave(bytes, Holder::Message(holder));
            Ok(())
        }
        Some(Value::Message(m)) => lua.decode_last_shared(&m, m.clone(), Route::THREAD),
        other => push(lua, other),
    }
}
