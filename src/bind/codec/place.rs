//! Metatables, classes and modules without a name of their own: by the place where they are found.
//!
//! Between threads such a table travels as the way to it from a loaded module: the module itself, a field of it, a
//! field of such a field, or an upvalue of a function of the module. The receiver loads the module and goes the same
//! way. Of several places the one with the shortest way counts, then the first by name; the globals are the last module
//! to be looked through.
//!
//! A place is looked for once: each Lua state keeps a table of those that were found, with weak keys, and goes the way
//! again before it believes them.
//!
//! Everything here runs inside `Lua::protect`, as in `encode`.

mod search;

use std::ffi::{CStr, c_char, c_int};
use std::fmt;

use mlua_sys as ffi;

pub(super) use self::search::Reach;
use self::search::search;
use super::encode::string_at;
use super::function::push_loaded;
use crate::bind::vm::State;
use crate::error::{Lossy, Name, Result};
use crate::sys::env_var;
use crate::wire::{Decoder, Token};
use crate::{err, text};

/// Slots of the Lua stack that are made here, and that a search takes.
const ROOM: c_int = 24;

/// Which tables are surely no loaded modules, by their addresses: asked of each table with a function in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filter([u64; 8]);

impl Filter {
    /// Of the modules that are loaded now.
    pub(super) unsafe fn of_loaded(l: *mut ffi::lua_State) -> Filter {
        let mut filter = Filter([0; 8]);
        // SAFETY: as the module says.
        unsafe {
            let top = ffi::lua_gettop(l);
            push_loaded(l);
            ffi::lua_pushnil(l);
            while ffi::lua_next(l, top + 1) != 0 {
                filter.add(ffi::lua_topointer(l, -1).addr());
                ffi::lua_settop(l, -2);
            }
            ffi::lua_settop(l, top);
        }
        filter
    }

    fn bit(address: usize) -> (usize, u64) {
        let bit = (address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 55;
        ((bit >> 6) as usize, 1 << (bit & 63))
    }

    fn add(&mut self, address: usize) {
        let (word, bit) = Filter::bit(address);
        self.0[word] |= bit;
    }

    /// Whether a module may be at `address`.
    pub(super) fn may_have(&self, address: usize) -> bool {
        let (word, bit) = Filter::bit(address);
        self.0[word] & bit != 0
    }
}

/// Pushes the place of the value in slot `i` as a string (a prelude, then what a message has of it); false, and nothing
/// is pushed, without one. `buffer` is for its bytes.
pub(super) unsafe fn push(
    l: *mut ffi::lua_State,
    state: &State,
    i: c_int,
    reach: Reach,
    buffer: &mut Vec<u8>,
) -> Result<bool> {
    // SAFETY: as the module says.
    unsafe {
        if push_known(l, state, i) {
            return Ok(true);
        }
        if !search(l, state, i, reach, buffer)? {
            return Ok(false);
        }
        ffi::lua_pushlstring(l, buffer.as_ptr() as *const c_char, buffer.len());
        keep(l, state, i);
        Ok(true)
    }
}

/// As [`push`], of a place that was found before and still is one.
pub(super) unsafe fn push_known(l: *mut ffi::lua_State, state: &State, i: c_int) -> bool {
    // SAFETY: as the module says.
    unsafe {
        let top = ffi::lua_gettop(l);
        if state.places.get() == ffi::LUA_NOREF || ffi::lua_checkstack(l, ROOM) == 0 {
            return false;
        }
        push_kept(l, state, i);
        if ffi::lua_type(l, -1) == ffi::LUA_TSTRING
            && let Ok(mut place) = Decoder::new(string_at(l, top + 1))
            && let Ok(Token::String(module)) = place.token()
        {
            push_loaded(l);
            ffi::lua_pushlstring(l, module.as_ptr() as *const c_char, module.len());
            ffi::lua_rawget(l, -2);
            if follow(l, &mut place).is_ok_and(|there| there) && ffi::lua_rawequal(l, -1, i) != 0 {
                ffi::lua_settop(l, top + 1);
                return true;
            }
        }
        ffi::lua_settop(l, top);
        false
    }
}

/// Replaces the module on top by what the steps that come next lead to; false where there is no such thing.
pub(super) unsafe fn follow(l: *mut ffi::lua_State, place: &mut Decoder<'_>) -> Result<bool> {
    let malformed = || err!(Protocol, "a malformed place");
    // SAFETY: as the module says.
    unsafe {
        let Token::Array(steps) = place.token()? else { return Err(malformed()) };
        for _ in 0..steps {
            match place.token()? {
                Token::String(field) => {
                    if ffi::lua_type(l, -1) != ffi::LUA_TTABLE {
                        return Ok(false);
                    }
                    ffi::lua_pushlstring(l, field.as_ptr() as *const c_char, field.len());
                    ffi::lua_rawget(l, -2);
                }
                Token::Array(2) => {
                    let Token::Integer(n) = place.token()? else { return Err(malformed()) };
                    let Token::String(name) = place.token()? else { return Err(malformed()) };
                    // A function has 255 upvalues at the most.
                    let n = u8::try_from(n).map_err(|_| malformed())?;
                    if ffi::lua_type(l, -1) != ffi::LUA_TFUNCTION || ffi::lua_iscfunction(l, -1) != 0 {
                        return Ok(false);
                    }
                    let there = ffi::lua_getupvalue(l, -1, n.into());
                    if there.is_null() || CStr::from_ptr(there).to_bytes() != name {
                        return Ok(false);
                    }
                }
                _ => return Err(malformed()),
            }
            ffi::lua_replace(l, -2);
        }
        Ok(true)
    }
}

/// Pushes what is kept of the value in slot `i`: its place, false if it travels without, or nil. There is a table of
/// places.
unsafe fn push_kept(l: *mut ffi::lua_State, state: &State, i: c_int) {
    // SAFETY: as the module says.
    unsafe {
        ffi::lua_rawgeti(l, ffi::LUA_REGISTRYINDEX, state.places.get() as _);
        ffi::lua_pushvalue(l, i);
        ffi::lua_rawget(l, -2);
        ffi::lua_replace(l, -2);
    }
}

/// Keeps what is on top, which stays there, of the value in slot `i`.
unsafe fn keep(l: *mut ffi::lua_State, state: &State, i: c_int) {
    // SAFETY: as the module says; three slots more than the callers have at the most.
    unsafe {
        let top = ffi::lua_gettop(l);
        ffi::lua_checkstack(l, 4);
        if state.places.get() == ffi::LUA_NOREF {
            ffi::lua_createtable(l, 0, 0);
            ffi::lua_createtable(l, 0, 1);
            ffi::lua_pushlstring(l, c"k".as_ptr(), 1);
            ffi::lua_setfield(l, -2, c"__mode".as_ptr());
            ffi::lua_setmetatable(l, -2);
            state.places.set(state.references.add(l));
        }
        ffi::lua_rawgeti(l, ffi::LUA_REGISTRYINDEX, state.places.get() as _);
        ffi::lua_pushvalue(l, i);
        ffi::lua_pushvalue(l, top);
        ffi::lua_rawset(l, -3);
        ffi::lua_settop(l, top);
    }
}

/// Whether tables with the metatable in slot `i` travel without it.
pub(super) unsafe fn is_dropped(l: *mut ffi::lua_State, state: &State, i: c_int) -> bool {
    if !state.drops_metatables.get() {
        return false;
    }
    // SAFETY: as the module says.
    unsafe {
        push_kept(l, state, i);
        let dropped = ffi::lua_type(l, -1) == ffi::LUA_TBOOLEAN;
        ffi::lua_settop(l, -2);
        dropped
    }
}

/// From now on tables with the metatable in slot `i` travel without it, or with it again.
pub(in crate::bind) unsafe fn set_dropped(l: *mut ffi::lua_State, state: &State, i: c_int, dropped: bool) {
    // SAFETY: as the module says.
    unsafe {
        if !dropped && !state.drops_metatables.get() {
            return;
        }
        if dropped {
            ffi::lua_pushboolean(l, 0);
        } else {
            ffi::lua_pushnil(l);
        }
        keep(l, state, i);
        ffi::lua_settop(l, -2);
        state.drops_metatables.set(true);
    }
}

/// Whether the environment says that metatables without a name or place are left behind.
pub(super) fn drops_all() -> Result<bool> {
    match env_var("IPC_METATABLES").unwrap_or_default().as_encoded_bytes() {
        b"" => Ok(false),
        b"drop" => Ok(true),
        other => {
            let other = Lossy(other);
            Err(err!(Argument, "the environment's IPC_METATABLES is '{other}': expected 'drop' or nothing"))
        }
    }
}

/// A place that takes more bytes in words is not told to its end.
const LONG: usize = 500;

/// A place in words: `module.field`, `upvalue mt of module.new`.
#[derive(Clone, Debug)]
pub(super) struct Words<'a>(pub Decoder<'a>);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut place = self.0.clone();
        let mut way = match place.token() {
            Ok(Token::String(module)) => text!("{}", Name(module)),
            _ => return f.write_str("?"),
        };
        let Ok(Token::Array(steps)) = place.token() else { return f.write_str("?") };
        for _ in 0..steps {
            if way.len() > LONG {
                way += " …";
                break;
            }
            match place.token() {
                Ok(Token::String(field)) => way += &text!(".{}", Name(field)),
                Ok(Token::Array(2)) => {
                    let (Ok(_), Ok(Token::String(name))) = (place.token(), place.token()) else { break };
                    way = text!("upvalue {} of {way}", Name(name));
                }
                _ => break,
            }
        }
        f.write_str(&way)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::wire::Encoder;

    #[test]
    fn a_filter_has_all_that_it_was_given() {
        let mut filter = Filter([0; 8]);
        let address = |n: usize| 0x7f00_0000_0000 + 64 * n;
        (0..50).for_each(|n| filter.add(address(n)));
        assert!((0..50).all(|n| filter.may_have(address(n))));
        assert!((50..1000).filter(|n| filter.may_have(address(*n))).count() < 300);
    }

    #[test]
    fn a_place_has_words() {
        let mut bytes = Vec::new();
        let mut out = Encoder::new(&mut bytes);
        assert!(out.string(b"resty.foo"));
        let steps = out.open_table();
        assert!(out.string(b"new"));
        let step = out.open_table();
        out.integer(2);
        assert!(out.string(b"mt"));
        out.close_array(step, 2);
        out.close_array(steps, 2);
        assert_eq!(Words(Decoder::new(&bytes).unwrap()).to_string(), "upvalue mt of resty.foo.new");
    }
}
