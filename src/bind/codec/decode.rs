//! From a message onto the Lua stack.
//!
//! Every function here that takes a raw state runs inside `Lua::protect`: Lua may raise, and the frame must then hold
//! nothing to drop.

mod attachment;
mod function;

use std::ffi::c_int;

use mlua_sys as ffi;

use super::{Failure, Go, Route, Stop, descend};
use crate::bind::codec::class;
use crate::bind::vm::{Lua, Pushed, no_room, push_string, raised};
use crate::err;
use crate::error::{Code, Error, Result};
use crate::sys::try_push;
use crate::wire::{Attachment, Common, Decoder, Token, ext};

/// Where attachments come from.
#[derive(Debug)]
pub(super) enum Attachments<'m> {
    /// The message is read once: what counts the references of another library's is taken out.
    Moved(&'m mut [Attachment]),
    /// The message may be read again: they are copied, by reference.
    Shared(&'m [Attachment]),
}

struct DecodeWalk<'w> {
    lua: Lua<'w>,
    bytes: Decoder<'w>,
    attachments: Attachments<'w>,
    route: Route,
    /// The slot of a table of all objects by number + 1; 0 when the message has no references.
    objects: c_int,
    count: u32,
    /// The numbers of the objects that are places.
    places: Vec<u32>,
    /// Upvalues by number: the function's number and the upvalue's index in it.
    cells: Vec<(u32, c_int)>,
    depth: usize,
    /// For how many items tables may still be made large in advance. A count is what a stranger says, and one in the
    /// other may count the same bytes; all items of a message that keeps its word have a byte each.
    ahead: u32,
    failure: Option<Failure>,
}

/// Pushes what `bytes` say: one value, or all of a message of several. Returns how many.
pub(super) fn walk(
    lua: Lua<'_>,
    bytes: &[u8],
    attachments: Attachments<'_>,
    route: Route,
    many: bool,
) -> Result<Pushed> {
    let bytes = Decoder::new(bytes)?;
    if many != (bytes.flags() & ext::MANY != 0) {
        return Err(err!(
            Protocol,
            "a message of {} value where another was expected",
            if many { "one" } else { "many" }
        ));
    }
    let ahead = u32::try_from(bytes.remaining()).unwrap_or(u32::MAX);
    let mut walk = DecodeWalk {
        lua,
        bytes,
        attachments,
        route,
        objects: 0,
        count: 0,
        places: Vec::new(),
        cells: Vec::new(),
        depth: 0,
        ahead,
        failure: None,
    };
    let mut count = 1;
    if many {
        let Token::Array(n) = walk.bytes.token()? else {
            return Err(err!(Protocol, "a message of many values does not begin with their number"));
        };
        count = n as c_int;
        lua.reserve(count)?;
    }
    let base = lua.top();
    let _walking = lua.state().account.walk();
    lua.protect(0, ffi::LUA_MULTRET, |l| {
        // SAFETY: this runs under pcall, and no frame of the walk holds anything to drop across a call that may raise.
        match unsafe { walk.values(l, count) } {
            Ok(()) => count,
            Err(Stop) => c_int::from(matches!(walk.failure, Some(Failure::Raised))),
        }
    })?;
    match walk.failure.take() {
        None => Ok(count as Pushed),
        Some(Failure::Raised) => Err(raised()),
        Some(Failure::Ours(e)) => {
            lua.set_top(base);
            Err(e)
        }
    }
}

/// What [`plain`] did with a message.
pub(super) enum Plain<'m> {
    /// Pushed its value.
    Pushed,
    /// Nothing: its value is this string.
    String(&'m [u8]),
    /// Nothing: its value takes a walk.
    Other,
}

/// Pushes the value of a message that is nil, a boolean, or a number that fits: no walk is needed, and no `lua_pcall`.
#[inline]
pub(super) fn plain<'m>(lua: Lua<'_>, bytes: &'m [u8]) -> Plain<'m> {
    let Ok(mut bytes) = Decoder::new(bytes) else { return Plain::Other };
    if bytes.flags() != 0 {
        return Plain::Other;
    }
    if let Some(s) = bytes.last_string() {
        return Plain::String(s);
    }
    match bytes.token() {
        _ if bytes.remaining() != 0 => return Plain::Other,
        Ok(Token::Nil) => lua.push_nil(),
        Ok(Token::Boolean(b)) => lua.push_boolean(b),
        Ok(Token::Float(n)) => lua.push_number(n),
        Ok(Token::Integer(n)) if fits(n) => lua.push_integer(n),
        _ => return Plain::Other,
    }
    Plain::Pushed
}

/// Whether this Lua has a number for `n`.
fn fits(n: i64) -> bool {
    cfg!(any(feature = "lua53", feature = "lua54", feature = "lua55")) || n.unsigned_abs() <= ext::MAX_EXACT as u64
}

impl<'w> DecodeWalk<'w> {
    #[cold]
    fn fail(&mut self, e: Error) -> Stop {
        self.failure = Some(if e.code() == Code::Raised { Failure::Raised } else { Failure::Ours(e) });
        Stop
    }

    /// Whether the prelude says so: then objects are numbered, as they are where there is code.
    fn has_references(&self) -> bool {
        self.bytes.flags() & ext::HAS_REFS != 0
    }

    fn token(&mut self) -> std::result::Result<Token<'w>, Stop> {
        self.bytes.token().map_err(|e| self.fail(e))
    }

    unsafe fn values(&mut self, l: *mut ffi::lua_State, count: c_int) -> Go {
        // SAFETY: as the module says.
        unsafe {
            // A C function has 20 slots, which is enough for a value and a level of tables.
            if count > 1 && ffi::lua_checkstack(l, count + 20) == 0 {
                return Err(self.fail(no_room(count)));
            }
            if self.bytes.flags() & (ext::HAS_REFS | ext::HAS_CODE) != 0 {
                ffi::lua_createtable(l, 0, 0);
                self.objects = ffi::lua_gettop(l);
            }
            for _ in 0..count {
                self.value(l)?;
            }
            self.bytes.finish().map_err(|e| self.fail(e))
        }
    }

    /// Pushes the next value.
    #[inline(always)]
    unsafe fn value(&mut self, l: *mut ffi::lua_State) -> Go {
        // SAFETY: as the module says.
        unsafe {
            match self.bytes.common() {
                Some(Common::Small(n)) => ffi::lua_pushinteger(l, n.into()),
                Some(Common::Float(n)) => ffi::lua_pushnumber(l, n),
                Some(Common::String(s)) => push_bytes(l, s),
                None => return self.any(l),
            }
            Ok(())
        }
    }

    /// Pushes the next value, whatever it is.
    #[inline(never)]
    unsafe fn any(&mut self, l: *mut ffi::lua_State) -> Go {
        // SAFETY: as the module says.
        unsafe {
            match self.token()? {
                Token::Nil => ffi::lua_pushnil(l),
                Token::Boolean(b) => ffi::lua_pushboolean(l, b as c_int),
                Token::Integer(n) => return self.integer(l, n),
                Token::Unsigned(n) => return self.unsigned(l, n),
                Token::Float(n) => ffi::lua_pushnumber(l, n),
                Token::String(s) | Token::Binary(s) => push_bytes(l, s),
                Token::Array(n) => return self.array(l, n),
                Token::Map(n) => return self.map(l, n),
                Token::Extension(code, n) => return self.extension(l, code, n),
            }
            Ok(())
        }
    }

    unsafe fn integer(&mut self, l: *mut ffi::lua_State, n: i64) -> Go {
        if fits(n) {
            // SAFETY: as the module says.
            unsafe { ffi::lua_pushinteger(l, n as ffi::lua_Integer) };
            return Ok(());
        }
        self.boxed(true, n as u64)
    }

    unsafe fn unsigned(&mut self, _: *mut ffi::lua_State, n: u64) -> Go {
        self.boxed(false, n)
    }

    /// Pushes a 64-bit integer that fits no number of this Lua.
    fn boxed(&mut self, signed: bool, bits: u64) -> Go {
        #[cfg(feature = "luajit")]
        return crate::bind::vm::cdata::push(self.lua, signed, bits).map_err(|e| self.fail(e));
        #[cfg(not(feature = "luajit"))]
        {
            let n = if signed { (bits as i64).to_string() } else { bits.to_string() };
            Err(self.fail(err!(Unsupported, "the integer {n} arrived, which this Lua cannot hold exactly")))
        }
    }

    /// Pushes an integer that was boxed at the sender: boxed here where there are boxes, else plain.
    unsafe fn unboxed(&mut self, l: *mut ffi::lua_State, signed: bool, bits: u64) -> Go {
        if cfg!(feature = "luajit") {
            return self.boxed(signed, bits);
        }
        let n = if signed { Ok(bits as i64) } else { i64::try_from(bits) };
        match n {
            // SAFETY: as the module says.
            Ok(n) => unsafe { self.integer(l, n) },
            Err(_) => self.boxed(false, bits),
        }
    }

    /// Goes one level down.
    unsafe fn enter(&mut self, l: *mut ffi::lua_State) -> Go {
        self.depth += 1;
        // SAFETY: as the module says.
        unsafe { descend(self.lua, l, self.depth) }.map_err(|e| self.fail(e))
    }

    /// Remembers the object on top under the next number.
    unsafe fn remember(&mut self, l: *mut ffi::lua_State) {
        self.count += 1;
        if self.objects != 0 {
            // SAFETY: as the module says.
            unsafe {
                ffi::lua_pushvalue(l, -1);
                ffi::lua_rawseti(l, self.objects, self.count as _);
            }
        }
    }

    /// Pushes a new table, which is an object.
    unsafe fn begin(&mut self, l: *mut ffi::lua_State, items: u32, pairs: u32) -> Go {
        // Room for more is made as the items come.
        const AHEAD: u32 = 1 << 16;
        let most = self.ahead.min(AHEAD);
        let (items, pairs) = (items.min(most), pairs.min(most));
        self.ahead -= items.max(pairs);
        // SAFETY: as the module says.
        unsafe {
            self.enter(l)?;
            ffi::lua_createtable(l, items as c_int, pairs as c_int);
            self.remember(l);
        }
        Ok(())
    }

    /// Pushes a table of the next `n` values.
    unsafe fn array(&mut self, l: *mut ffi::lua_State, n: u32) -> Go {
        // SAFETY: as the module says.
        unsafe {
            self.begin(l, n, 0)?;
            self.items(l, n)?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// Pushes a table of the next `n` keys and values.
    unsafe fn map(&mut self, l: *mut ffi::lua_State, n: u32) -> Go {
        // SAFETY: as the module says.
        unsafe {
            self.begin(l, 0, n)?;
            self.pairs(l, n)?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// Puts the next `n` values into the table on top.
    unsafe fn items(&mut self, l: *mut ffi::lua_State, n: u32) -> Go {
        // SAFETY: as the module says.
        unsafe {
            for i in 1..=n {
                self.value(l)?;
                ffi::lua_rawseti(l, -2, i as _);
            }
        }
        Ok(())
    }

    /// Puts the next `n` keys and values into the table on top.
    unsafe fn pairs(&mut self, l: *mut ffi::lua_State, n: u32) -> Go {
        // SAFETY: as the module says.
        unsafe {
            for _ in 0..n {
                if let Some(name) = self.bytes.short_string() {
                    push_bytes(l, name);
                } else {
                    self.value(l)?;
                    let kind = ffi::lua_type(l, -1);
                    if kind == ffi::LUA_TNIL || kind == ffi::LUA_TNUMBER && ffi::lua_tonumber(l, -1).is_nan() {
                        return Err(self.fail(err!(Protocol, "a table with nil or NaN as a key")));
                    }
                }
                self.value(l)?;
                ffi::lua_rawset(l, -3);
            }
        }
        Ok(())
    }

    unsafe fn extension(&mut self, l: *mut ffi::lua_State, code: i8, n: u32) -> Go {
        // SAFETY: as the module says.
        unsafe {
            let left = self.bytes.remaining() - n as usize;
            match code {
                ext::REF => {
                    let number = self.numbered(n)?;
                    if number >= self.count || !self.has_references() {
                        return Err(self.fail(err!(Protocol, "a reference to object {number}, which has not come yet")));
                    }
                    ffi::lua_rawgeti(l, self.objects, (number + 1) as _);
                }
                ext::ATTACHMENT => {
                    let number = self.numbered(n)?;
                    self.attachment(l, number)?;
                    self.remember(l);
                }
                ext::MIXED => {
                    let Token::Array(items) = self.token()? else { return Err(self.malformed("table")) };
                    self.begin(l, items, 0)?;
                    self.items(l, items)?;
                    let Token::Map(pairs) = self.token()? else { return Err(self.malformed("table")) };
                    self.pairs(l, pairs)?;
                    self.depth -= 1;
                }
                ext::CLASS => {
                    let Token::String(name) = self.token()? else { return Err(self.malformed("class")) };
                    self.table_of_class(l)?;
                    if !class::push_metatable(l, name) {
                        return Err(self.fail(class::unknown(name)));
                    }
                    if self.route.peer
                        && let Some(field) = class::forbidden_to_peers(self.lua, l)
                    {
                        return Err(self.fail(class::not_for_peers(name, field)));
                    }
                    ffi::lua_setmetatable(l, -2);
                }
                ext::FOUND => {
                    self.place(l)?;
                    self.remember(l);
                    try_push(&mut self.places, self.count - 1).map_err(|e| self.fail(e))?;
                }
                ext::OF_FOUND => {
                    self.table_of_class(l)?;
                    match self.token()? {
                        Token::Extension(ext::FOUND, n) => self.extension(l, ext::FOUND, n)?,
                        Token::Extension(ext::REF, n) => {
                            let number = self.numbered(n)?;
                            // No other table of the message becomes a metatable.
                            if !self.places.contains(&number) || !self.has_references() {
                                return Err(self.malformed("class"));
                            }
                            ffi::lua_rawgeti(l, self.objects, (number + 1) as _);
                        }
                        _ => return Err(self.malformed("class")),
                    }
                    if self.route.peer
                        && let Some(field) = class::forbidden_to_peers(self.lua, l)
                    {
                        return Err(self.fail(class::nameless_not_for_peers(field)));
                    }
                    ffi::lua_setmetatable(l, -2);
                }
                ext::FUNCTION => {
                    self.enter(l)?;
                    self.function(l)?;
                    self.depth -= 1;
                }
                ext::NAME => self.name(l)?,
                ext::INT64 | ext::UINT64 => {
                    let bits = self.bytes.boxed(n).map_err(|e| self.fail(e))?;
                    self.unboxed(l, code == ext::INT64, bits)?;
                }
                _ => return Err(self.fail(err!(Protocol, "an extension with unknown code {code}"))),
            }
            if self.bytes.remaining() != left {
                return Err(self.fail(err!(Protocol, "an extension with code {code} does not end where it said")));
            }
            Ok(())
        }
    }

    /// Pushes the table of a class: in its own bytes and nothing else. Metatables go on what this message makes, never
    /// on a table that was there before; and so a level of classes is one level, as the writer counts.
    unsafe fn table_of_class(&mut self, l: *mut ffi::lua_State) -> Go {
        // SAFETY: as the module says.
        unsafe {
            match self.token()? {
                Token::Array(n) => self.array(l, n),
                Token::Map(n) => self.map(l, n),
                Token::Extension(ext::MIXED, n) => self.extension(l, ext::MIXED, n),
                _ => Err(self.malformed("class")),
            }
        }
    }

    #[cold]
    fn malformed(&mut self, what: &str) -> Stop {
        self.fail(err!(Protocol, "a malformed {what}"))
    }

    fn numbered(&mut self, n: u32) -> std::result::Result<u32, Stop> {
        self.bytes.numbered(n).map_err(|e| self.fail(e))
    }
}

/// Pushes a string.
#[inline]
unsafe fn push_bytes(l: *mut ffi::lua_State, s: &[u8]) {
    // SAFETY: as the module says.
    unsafe { push_string(l, s.as_ptr(), s.len()) }
}
