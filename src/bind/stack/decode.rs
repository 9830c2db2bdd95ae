//! From a message onto the Lua stack.
//!
//! Every function here that takes a raw state runs inside `Lua::protect`: Lua may raise, and the frame must then hold nothing to drop.

use std::ffi::{c_char, c_int};

use mlua::ffi;

use super::{Failure, Go, Route, Stop, VM, descend, function, vm_name};
use crate::bind::last::push_string;
use crate::bind::lua::{Lua, no_room, raised};
use crate::bind::module::CLASSES;
use crate::bind::{class, tensor};
use crate::err;
use crate::error::{Code, Error, Result};
use crate::wire::{Attachment, Common, Decoder, Token, ext};

/// Where attachments come from.
#[derive(Debug)]
pub(super) enum Attachments<'m> {
    /// The message is read once: they are taken out.
    Moved(Vec<Attachment>),
    /// The message may be read again: they are copied, by reference.
    Shared(&'m [Attachment]),
}

struct Walk<'w> {
    lua: Lua<'w>,
    bytes: Decoder<'w>,
    attachments: Attachments<'w>,
    route: Route,
    /// The slot of a table of all objects by number + 1; 0 when the message has no references.
    objects: c_int,
    count: u32,
    /// Upvalues by number: the function's number and the upvalue's index in it.
    cells: Vec<(u32, c_int)>,
    depth: usize,
    failure: Option<Failure>,
}

/// Pushes what `bytes` say: one value, or all of a message of several. Returns how many.
pub(super) fn walk(
    lua: Lua<'_>,
    bytes: &[u8],
    attachments: Attachments<'_>,
    route: Route,
    many: bool,
) -> Result<c_int> {
    let bytes = Decoder::new(bytes)?;
    if many != (bytes.flags() & ext::MANY != 0) {
        return Err(err!(
            Protocol,
            "a message of {} value where another was expected",
            if many { "one" } else { "many" }
        ));
    }
    let mut walk =
        Walk { lua, bytes, attachments, route, objects: 0, count: 0, cells: Vec::new(), depth: 0, failure: None };
    let mut count = 1;
    if many {
        let Token::Array(n) = walk.bytes.token()? else {
            return Err(err!(Protocol, "a message of many values does not begin with their number"));
        };
        count = n as c_int;
        lua.reserve(count)?;
    }
    let base = lua.top();
    lua.protect(0, ffi::LUA_MULTRET, |l| {
        // SAFETY: this runs under pcall, and no frame of the walk holds anything to drop across a call that may raise.
        match unsafe { walk.values(l, count) } {
            Ok(()) => count,
            Err(Stop) => c_int::from(matches!(walk.failure, Some(Failure::Raised))),
        }
    })?;
    match walk.failure.take() {
        None => Ok(count),
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

impl<'w> Walk<'w> {
    #[cold]
    fn fail(&mut self, e: Error) -> Stop {
        self.failure = Some(if e.code() == Code::Raised { Failure::Raised } else { Failure::Ours(e) });
        Stop
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
                Token::Array(n) => {
                    self.begin(l, n, 0)?;
                    self.items(l, n)?;
                    self.depth -= 1;
                }
                Token::Map(n) => {
                    self.begin(l, 0, n)?;
                    self.pairs(l, n)?;
                    self.depth -= 1;
                }
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
        return crate::bind::cdata::push(self.lua, signed, bits).map_err(|e| self.fail(e));
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
        unsafe { descend(l, self.depth) }.map_err(|e| self.fail(e))
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
        // A count is what a stranger says: room for more is made as the items come.
        const AHEAD: u32 = 1 << 16;
        // SAFETY: as the module says.
        unsafe {
            self.enter(l)?;
            ffi::lua_createtable(l, items.min(AHEAD) as c_int, pairs.min(AHEAD) as c_int);
            self.remember(l);
        }
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
                    if number >= self.count || self.objects == 0 {
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
                    self.enter(l)?;
                    self.value(l)?;
                    if ffi::lua_type(l, -1) != ffi::LUA_TTABLE {
                        return Err(self.malformed("class"));
                    }
                    if !class::push_metatable(l, name) {
                        return Err(self.fail(class::unknown(name)));
                    }
                    ffi::lua_setmetatable(l, -2);
                    self.depth -= 1;
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

    #[cold]
    fn malformed(&mut self, what: &str) -> Stop {
        self.fail(err!(Protocol, "a malformed {what}"))
    }

    fn numbered(&mut self, n: u32) -> std::result::Result<u32, Stop> {
        self.bytes.numbered(n).map_err(|e| self.fail(e))
    }

    /// Pushes attachment `number`.
    unsafe fn attachment(&mut self, l: *mut ffi::lua_State, number: u32) -> Go {
        let lua = self.lua;
        let i = number as usize;
        let pushed = match &mut self.attachments {
            Attachments::Moved(list) => match list.get_mut(i) {
                None => None,
                Some(Attachment::Tensor(t)) => Some(tensor::push(lua, t.clone())),
                Some(Attachment::Storage(s)) => Some(tensor::push_storage(lua, s.clone())),
                Some(Attachment::Object(o)) => Some(adopt(lua, o.clone())),
                Some(Attachment::Foreign(f)) => {
                    // The reference passes over to the new userdata: whoever drops the message must not give it back.
                    // SAFETY: as the module says.
                    let owned = unsafe { class::push_foreign(l, f.class.as_bytes(), f.pointer) };
                    if owned {
                        f.release = |_, _| ();
                        // SAFETY: as the module says.
                        unsafe {
                            ffi::lua_pushlstring(l, f.class.as_ptr() as *const c_char, f.class.len());
                            class::reclaim(l, ffi::lua_gettop(l));
                            ffi::lua_settop(l, -2);
                        }
                    }
                    Some(if owned { Ok(()) } else { Err(class::unknown(f.class.as_bytes())) })
                }
            },
            Attachments::Shared(list) => match list.get(i) {
                None => None,
                Some(Attachment::Tensor(t)) => Some(tensor::push(lua, t.clone())),
                Some(Attachment::Storage(s)) => Some(tensor::push_storage(lua, s.clone())),
                Some(Attachment::Object(o)) => Some(adopt(lua, o.clone())),
                // SAFETY: as the module says.
                Some(Attachment::Foreign(f)) => Some(match unsafe { class::push_retained(l, f) } {
                    true => Ok(()),
                    false => Err(class::unknown(f.class.as_bytes())),
                }),
            },
        };
        match pushed {
            Some(Ok(())) => Ok(()),
            Some(Err(e)) => Err(self.fail(e)),
            None => Err(self.fail(err!(Protocol, "attachment {number} is missing"))),
        }
    }

    /// Pushes a function: bytecode and upvalues.
    unsafe fn function(&mut self, l: *mut ffi::lua_State) -> Go {
        // SAFETY: as the module says.
        unsafe {
            if !self.route.functions {
                return Err(self.fail(err!(
                    Unsupported,
                    "a Lua function arrived, which was not asked for (functions = true): bytecode is code"
                )));
            }
            let Token::Integer(vm) = self.token()? else { return Err(self.malformed("function")) };
            if vm != VM {
                let (theirs, ours) = (vm_name(vm), vm_name(VM));
                return Err(self.fail(err!(Unsupported, "a function compiled by {theirs} arrived, but this is {ours}")));
            }
            let Token::Binary(code) = self.token()? else { return Err(self.malformed("function")) };
            let p = code.as_ptr() as *const c_char;
            if ffi::luaL_loadbufferx(l, p, code.len(), c"=bytecode".as_ptr(), c"b".as_ptr()) != ffi::LUA_OK {
                return Err(self.fail(raised()));
            }
            let slot = ffi::lua_gettop(l);
            let number = self.count;
            self.remember(l);
            let Token::Array(upvalues) = self.token()? else { return Err(self.malformed("function")) };
            for n in 1..=upvalues as c_int {
                self.upvalue(l, slot, number, n)?;
            }
            Ok(())
        }
    }

    /// Sets upvalue `n` of function `number` in `slot`.
    unsafe fn upvalue(&mut self, l: *mut ffi::lua_State, slot: c_int, number: u32, n: c_int) -> Go {
        // SAFETY: as the module says.
        unsafe {
            let here = self.bytes.clone();
            if let Token::Extension(ext::CELL, length) = self.token()? {
                let cell = self.numbered(length)? as usize;
                let Some(&(other, m)) = self.cells.get(cell) else { return Err(self.malformed("shared upvalue")) };
                return self.join(l, slot, n, other, m);
            }
            self.bytes = here;
            self.cells.push((number, n));
            self.value(l)?;
            // Replaced even if it is `_ENV`, which loading has set: the sender's order counts.
            if ffi::lua_setupvalue(l, slot, n).is_null() {
                return Err(self.malformed("function"));
            }
            Ok(())
        }
    }

    /// Makes upvalue `n` of the function in `slot` the same variable as upvalue `m` of function `other`.
    #[cfg_attr(feature = "lua51", allow(unused_variables))]
    unsafe fn join(&mut self, l: *mut ffi::lua_State, slot: c_int, n: c_int, other: u32, m: c_int) -> Go {
        #[cfg(not(feature = "lua51"))]
        // SAFETY: both functions are Lua functions made here, and their upvalues are checked to exist.
        unsafe {
            ffi::lua_rawgeti(l, self.objects, (other + 1) as _);
            let there = ffi::lua_gettop(l);
            for (function, index) in [(slot, n), (there, m)] {
                if ffi::lua_getupvalue(l, function, index).is_null() {
                    return Err(self.malformed("shared upvalue"));
                }
            }
            super::upvalue_join(l, slot, n, there, m);
            ffi::lua_settop(l, there - 1);
            Ok(())
        }
        #[cfg(feature = "lua51")]
        Err(self.fail(err!(Unsupported, "closures that share an upvalue arrived, which Lua 5.1 cannot make")))
    }

    /// Pushes a module or a function of it.
    unsafe fn name(&mut self, l: *mut ffi::lua_State) -> Go {
        // SAFETY: as the module says.
        unsafe {
            let Token::String(module) = self.token()? else { return Err(self.malformed("name")) };
            let field = match self.token()? {
                Token::String(field) => Some(field),
                Token::Nil => None,
                _ => return Err(self.malformed("name")),
            };
            let standard = function::STANDARD.iter().any(|s| s.to_bytes() == module);
            if !(self.route.functions || standard && field.is_some()) {
                let module = String::from_utf8_lossy(module).into_owned();
                return Err(self.fail(err!(
                    Unsupported,
                    "module '{module}' arrived by name, which was not asked for (functions = true)"
                )));
            }
            // What is loaded is taken as it is, `_G` among it; anything else is required.
            function::push_loaded(l);
            ffi::lua_pushlstring(l, module.as_ptr() as *const c_char, module.len());
            ffi::lua_pushvalue(l, -1);
            ffi::lua_rawget(l, -3);
            if ffi::lua_type(l, -1) == ffi::LUA_TNIL {
                ffi::lua_getglobal(l, c"require".as_ptr());
                ffi::lua_pushvalue(l, -3);
                ffi::lua_call(l, 1, 1);
                ffi::lua_replace(l, -2);
            }
            ffi::lua_replace(l, -3);
            ffi::lua_settop(l, -2);
            let Some(field) = field else { return Ok(()) };
            if ffi::lua_type(l, -1) == ffi::LUA_TTABLE {
                ffi::lua_pushlstring(l, field.as_ptr() as *const c_char, field.len());
                ffi::lua_rawget(l, -2);
                ffi::lua_replace(l, -2);
            }
            if ffi::lua_type(l, -1) != ffi::LUA_TFUNCTION {
                let name = [module, field].map(String::from_utf8_lossy).join(".");
                return Err(
                    self.fail(err!(Unsupported, "function {name} arrived by name, but this Lua has none of that name"))
                );
            }
            Ok(())
        }
    }
}

/// Pushes a string.
#[inline]
unsafe fn push_bytes(l: *mut ffi::lua_State, s: &[u8]) {
    // SAFETY: as the module says.
    unsafe { push_string(l, s.as_ptr(), s.len()) }
}

/// Pushes an object of ours.
fn adopt(lua: Lua<'_>, object: std::sync::Arc<dyn crate::wire::Object>) -> Result<()> {
    let class = object.class();
    for info in CLASSES {
        if info.name == class && (info.adopt)(lua, object.clone())? {
            return Ok(());
        }
    }
    Err(err!(Unsupported, "{class} cannot arrive here"))
}
