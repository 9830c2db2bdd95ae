//! The text of an error: whatever its value was, in words, with the stack it came from.

use std::ffi::c_int;

use mlua_sys as ffi;

use crate::bind::vm::call::{Count, Pushed, count};
use crate::bind::vm::lua::{Kind, Lua};
use crate::bind::vm::state::State;
use crate::error::Result;
use crate::lua_fn;
use crate::sys::try_bytes;

/// A message handler for `lua_pcall`, a bound function: turns the error value into a string with a traceback.
///
/// It does the least it can, since it runs where the stack is full when that was the error.
///
/// # Safety
/// Called by Lua, with the State as upvalue 1.
pub(in crate::bind) unsafe extern "C-unwind" fn handler(l: *mut ffi::lua_State) -> Count {
    // SAFETY: Lua may raise: nothing in this frame needs dropping.
    unsafe {
        if ffi::lua_type(l, 1) != ffi::LUA_TSTRING {
            keep(l);
            ffi::lua_pushvalue(l, ffi::lua_upvalueindex(1));
            ffi::lua_pushcclosure(l, lua_fn!("error", tell), 1);
            ffi::lua_pushvalue(l, 1);
            ffi::lua_call(l, 1, 1);
            ffi::lua_replace(l, 1);
        }
        ffi::lua_settop(l, 1);
        ffi::lua_pushlstring(l, c"\n".as_ptr(), 1);
        ffi::luaL_traceback(l, l, std::ptr::null(), 1);
        ffi::lua_concat(l, 3);
    }
    count(1)
}

/// Keeps the error value in slot 1 for who asks for it later, where somebody may; the place for it is there.
unsafe fn keep(l: *mut ffi::lua_State) {
    // SAFETY: upvalue 1 is the State. To put something where something is takes no memory.
    unsafe {
        let state = &*(ffi::lua_touserdata(l, ffi::lua_upvalueindex(1)) as *const State);
        if state.raised.get() != ffi::LUA_NOREF && ffi::lua_type(l, 1) > ffi::LUA_TNIL {
            ffi::lua_pushvalue(l, 1);
            ffi::lua_rawseti(l, ffi::LUA_REGISTRYINDEX, state.raised.get() as _);
            state.has_raised.set(true);
        }
    }
}

/// A text that [`handler`] made, without the `frames` C functions at the bottom of the stack, which are ours.
pub(in crate::bind) fn without_ours(mut text: &[u8], frames: usize) -> &[u8] {
    for _ in 0..frames {
        match text.iter().rposition(|b| *b == b'\n') {
            Some(at) if text[at..].starts_with(b"\n\t[C]:") => text = &text[..at],
            _ => break,
        }
    }
    text
}

/// The error value in words.
fn tell(lua: Lua<'_>) -> Result<Pushed> {
    let text = words(lua, 1);
    lua.push_bytes(&text)?;
    Ok(1)
}

/// The error value in slot `i` in words.
fn words(lua: Lua<'_>, i: c_int) -> Vec<u8> {
    match lua.kind(i) {
        Kind::None | Kind::Nil => return b"nil (the error had no value)".to_vec(),
        Kind::Table if !has_words(lua, i) => return table(lua, i, 0),
        _ => {}
    }
    let mut text = value(lua, i);
    // SAFETY: in protect everything may be called; slot 1 is the value.
    let told = lua.protect_with(i, |l| unsafe {
        ffi::luaL_tolstring(l, 1, std::ptr::null_mut());
        1
    });
    if told.is_ok() {
        if let Some(Ok(whole)) = lua.with_bytes(-1, try_bytes) {
            text = whole;
        }
    } else if lua.kind(i) == Kind::Table {
        text = table(lua, i, 0);
    }
    lua.pop(1);
    text
}

/// Whether the value has a `__tostring`.
fn has_words(lua: Lua<'_>, i: c_int) -> bool {
    let mut has = false;
    // SAFETY: in protect everything may be called; slot 1 is the value.
    let asked = lua.protect_with(i, |l| unsafe {
        has = ffi::luaL_getmetafield(l, 1, c"__tostring".as_ptr()) != 0;
        ffi::lua_pushnil(l);
        1
    });
    lua.pop(1);
    asked.is_ok() && has
}

/// How much of a table is told.
const FIELDS: usize = 20;
const DEPTH: usize = 3;
const BYTES: usize = 1000;

/// A table as one would write it: `{ code = 5, message = "no" }`.
fn table(lua: Lua<'_>, i: c_int, depth: usize) -> Vec<u8> {
    if depth == DEPTH || lua.reserve(8).is_err() {
        return b"{...}".to_vec();
    }
    let i = lua.abs(i);
    let mut fields = Vec::new();
    let mut more = false;
    let top = lua.top();
    lua.push_nil();
    // An error is the end of the telling.
    while lua.next(i).unwrap_or(false) {
        if fields.len() == FIELDS {
            more = true;
            break;
        }
        let name = lua.with_bytes(-2, |s| is_name(s).then(|| s.to_vec())).flatten();
        let key = match (lua.to_number(-2), name) {
            (Some(n), _) => format!("[{n}]").into_bytes(),
            (_, Some(name)) => name,
            _ => [b"[", &value(lua, -2)[..], b"]"].concat(),
        };
        let told = if lua.kind(-1) == Kind::Table { table(lua, -1, depth + 1) } else { value(lua, -1) };
        fields.push((lua.to_number(-2), key, told));
        lua.pop(1);
    }
    lua.set_top(top);
    // Items in their order, then fields by name.
    fields.sort_by(|a, b| match (a.0, b.0) {
        (Some(m), Some(n)) => m.total_cmp(&n),
        (m, n) => n.is_some().cmp(&m.is_some()).then_with(|| a.1.cmp(&b.1)),
    });
    let fields: Vec<Vec<u8>> = fields.into_iter().map(|(_, key, told)| [key, told].join(&b" = "[..])).collect();
    let tail: &[u8] = if more { b", ... }" } else { b" }" };
    match fields.is_empty() {
        true => b"{}".to_vec(),
        false => [b"{ ", &fields.join(&b", "[..])[..], tail].concat(),
    }
}

fn is_name(s: &[u8]) -> bool {
    s.len() <= BYTES
        && s.first().is_some_and(|b| !b.is_ascii_digit())
        && s.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

/// A value that is no table, as one would write it.
fn value(lua: Lua<'_>, i: c_int) -> Vec<u8> {
    match lua.kind(i) {
        Kind::Boolean => lua.truth(i).to_string().into_bytes(),
        Kind::Number => lua.to_number(i).unwrap_or_default().to_string().into_bytes(),
        Kind::String => {
            let quoted = lua.with_bytes(i, |s| {
                let (shown, tail) = if s.len() > BYTES { (&s[..BYTES], &b"...\""[..]) } else { (s, &b"\""[..]) };
                [b"\"", shown, tail].concat()
            });
            quoted.unwrap_or_default()
        }
        kind => kind.name().as_bytes().to_vec(),
    }
}
