//! From the Lua stack into a message.
//!
//! Every function here that takes a raw state runs inside `Lua::protect`: Lua may raise, and the frame must then hold
//! nothing to drop.

mod attachment;
mod elsewhere;
mod path;

use std::ffi::c_int;

use mlua_sys as ffi;

use self::path::{key_path, placed};
use super::place::Filter;
use super::seen::{self, Seen};
use super::{Failure, Go, Route, Stop, descend, function};
use crate::bind::codec::class;
use crate::bind::vm::{Lua, raised};
use crate::err;
use crate::error::{Error, Result};
use crate::wire::{Attachment, Encoder, Message, ext};

/// So many values may be pushed above the arguments of a bound function, and what it pushed itself, without asking.
pub(super) const FREE_SLOTS: c_int = 4;

/// A walk over values: what is written and what was seen.
pub(super) struct EncodeWalk<'w> {
    lua: Lua<'w>,
    pub(super) out: Encoder<'w>,
    attachments: &'w mut Vec<Attachment>,
    /// Bytecode on its way; here, so that Lua may raise while it is written.
    pub(super) code: Vec<u8>,
    pub(super) route: Route,
    /// Tables, functions and attachments, by address.
    objects: Seen,
    /// Upvalues, by their identity.
    pub(super) cells: Seen,
    /// Whether a function or a module goes by name.
    pub(super) has_names: bool,
    /// The numbers of the objects that are places.
    places: Vec<u32>,
    /// Which tables are no modules; made at first need.
    modules: Option<Filter>,
    /// The walk has stopped at a table that has a place, which lies on top.
    has_place: bool,
    depth: usize,
    /// Whether nothing protects this walk: see [`bare_walk`].
    bare: bool,
    failure: Option<Failure>,
    /// The way to the culprit, from the inside out.
    path: Vec<String>,
}

/// Encodes `count` values from slot `first` on; as one array of values when `many`.
pub(super) fn walk(
    lua: Lua<'_>,
    first: c_int,
    count: c_int,
    many: bool,
    message: &mut Message,
    route: Route,
) -> Result<()> {
    if count == 1 && !many && bare_walk(lua, first, message, route) {
        return Ok(());
    }
    if count > FREE_SLOTS {
        lua.reserve(count)?;
    }
    for i in first..first + count {
        lua.push_value(i);
    }
    walk_top(lua, count, many, message, route)
}

/// As [`walk`], of the topmost `count` values, which are taken off the stack.
pub(super) fn walk_top(lua: Lua<'_>, count: c_int, many: bool, message: &mut Message, route: Route) -> Result<()> {
    let mut walk = EncodeWalk::new(lua, message, route);
    let _walking = lua.state().account.walk();
    let done = lua.protect(count, 1, |l| {
        // SAFETY: this runs under pcall, and no frame of the walk holds anything to drop across a call that may raise.
        let _ = unsafe { walk.values(l, count, many) };
        // The one result is an error that lies on top, or the nil that pcall puts in its place: there may be no value
        // here.
        c_int::from(matches!(walk.failure, Some(Failure::Raised)))
    });
    done?;
    match walk.failure.take() {
        Some(Failure::Raised) => Err(raised()),
        Some(Failure::Ours(e)) => {
            lua.pop(1);
            Err(placed(e, &walk.path))
        }
        None => {
            lua.pop(1);
            let has_names = walk.has_names;
            message.functions = has_names || message.bytes.first().is_some_and(|b| b & ext::HAS_CODE != 0);
            Ok(())
        }
    }
}

/// A walk outside of `lua_pcall` opens at most so many tables, since what it did is lost when it meets something else.
const BARE_TABLES: u32 = seen::FEW as u32 - 1;
/// It goes down no deeper than this: each level takes two slots or three of the 20 that a C function has.
const BARE_DEPTH: usize = 4;

/// Encodes the value in slot `i` without `lua_pcall`, whose price is a good part of a small message's, and says whether
/// it could.
///
/// To look through plain tables that hold tables, strings, numbers and booleans takes no memory of Lua's and calls
/// nothing of it, so nothing raises.
fn bare_walk(lua: Lua<'_>, i: c_int, message: &mut Message, route: Route) -> bool {
    let top = lua.top();
    let mut walk = EncodeWalk::new(lua, message, route);
    walk.bare = true;
    // SAFETY: slot i is in use. `bare` keeps the walk from whatever may raise.
    let done = unsafe { walk.value(lua.raw(), i) }.is_ok() && !walk.out.out_of_memory();
    if !done {
        lua.set_top(top);
        message.clear();
    }
    done
}

/// Writes the number in slot `i`.
#[inline(always)]
pub(super) fn number(l: *mut ffi::lua_State, i: c_int, out: &mut Encoder<'_>) {
    // SAFETY: slot i holds a number; reading it raises nothing.
    unsafe {
        #[cfg(any(feature = "lua53", feature = "lua54", feature = "lua55"))]
        if ffi::lua_isinteger(l, i) != 0 {
            out.integer(ffi::lua_tointeger(l, i) as i64);
        } else {
            out.float(ffi::lua_tonumber(l, i));
        }
        #[cfg(not(any(feature = "lua53", feature = "lua54", feature = "lua55")))]
        out.number(ffi::lua_tonumber(l, i));
    }
}

impl<'w> EncodeWalk<'w> {
    fn new(lua: Lua<'w>, message: &'w mut Message, route: Route) -> Self {
        EncodeWalk {
            lua,
            out: Encoder::new(&mut message.bytes),
            attachments: &mut message.attachments,
            code: Vec::new(),
            route,
            objects: Seen::new(),
            cells: Seen::new(),
            has_names: false,
            places: Vec::new(),
            modules: None,
            has_place: false,
            depth: 0,
            bare: false,
            failure: None,
            path: Vec::new(),
        }
    }

    /// Pushes the globals of this Lua.
    pub(super) unsafe fn push_globals(&self, l: *mut ffi::lua_State) {
        // SAFETY: a raw read of the registry.
        unsafe {
            ffi::lua_rawgeti(l, ffi::LUA_REGISTRYINDEX, self.lua.state().globals.get() as _);
        }
    }

    /// Ends the walk with an error of ours.
    #[cold]
    pub(super) fn fail(&mut self, e: Error) -> Stop {
        self.failure = Some(Failure::Ours(e));
        Stop
    }

    /// Ends the walk where the encoder refused something: for want of memory, or for `another` reason.
    #[cold]
    pub(super) fn refused(&mut self, another: impl FnOnce() -> Error) -> Stop {
        let e = if self.out.out_of_memory() { Error::no_memory() } else { another() };
        self.fail(e)
    }

    /// Whether all that was written has found memory.
    #[inline]
    pub(super) fn whole(&mut self) -> Go {
        if self.out.out_of_memory() { Err(self.fail(Error::no_memory())) } else { Ok(()) }
    }

    /// The bound function that sends the value.
    pub(super) fn place(&self) -> &'static str {
        self.lua.place()
    }

    /// Ends the walk with what a protected call left on the stack, or with its error.
    #[cold]
    fn fail_with(&mut self, e: Error) -> Stop {
        if e.code() == crate::error::Code::Raised {
            self.failure = Some(Failure::Raised);
            return Stop;
        }
        self.fail(e)
    }

    /// Adds a part to the path of a failure that is on its way up.
    #[cold]
    pub(super) fn under(&mut self, part: impl FnOnce() -> String) -> Stop {
        // Where there is no memory for a part, the path is shorter.
        if !self.bare && self.path.try_reserve(1).is_ok() {
            self.path.push(part());
        }
        Stop
    }

    /// The values in slots 1 to `count`.
    unsafe fn values(&mut self, l: *mut ffi::lua_State, count: c_int, many: bool) -> Go {
        // SAFETY: as the module says.
        unsafe {
            let list = many.then(|| self.out.open_table());
            for i in 1..=count {
                if self.value(l, i).is_err() {
                    return Err(self.under(|| if many { format!("value {i}") } else { "value".into() }));
                }
            }
            if let Some(list) = list {
                self.out.flag(ext::MANY);
                self.out.close_array(list, count as u32);
            }
            self.whole()
        }
    }

    /// The value in slot `i`, counted from the bottom.
    #[inline]
    pub(super) unsafe fn value(&mut self, l: *mut ffi::lua_State, i: c_int) -> Go {
        // SAFETY: as the module says.
        unsafe { self.value_as(l, i, ffi::lua_type(l, i)) }
    }

    /// The value in slot `i`, which is known to be of Lua's type `kind`: each question to Lua costs.
    #[inline]
    unsafe fn value_as(&mut self, l: *mut ffi::lua_State, i: c_int, kind: c_int) -> Go {
        // SAFETY: as the module says.
        unsafe {
            match kind {
                ffi::LUA_TNUMBER => number(l, i, &mut self.out),
                ffi::LUA_TSTRING => {
                    let bytes = known_string(l, i);
                    if !self.out.string(bytes) {
                        return Err(
                            self.refused(|| err!(Limit, "a string of {} bytes is too long to travel", bytes.len()))
                        );
                    }
                }
                _ => return self.any(l, i, kind),
            }
            Ok(())
        }
    }

    /// The value in slot `i`, neither a number nor a string: those are written without a call.
    #[inline(never)]
    unsafe fn any(&mut self, l: *mut ffi::lua_State, i: c_int, kind: c_int) -> Go {
        // SAFETY: as the module says.
        unsafe {
            match kind {
                ffi::LUA_TNIL => self.out.nil(),
                ffi::LUA_TBOOLEAN => self.out.boolean(ffi::lua_toboolean(l, i) != 0),
                ffi::LUA_TTABLE => return self.table(l, i),
                _ if self.bare => return Err(Stop),
                ffi::LUA_TFUNCTION => return function::encode(self, l, i),
                ffi::LUA_TUSERDATA => return self.userdata(l, i),
                10 => return self.cdata(l, i),
                ffi::LUA_TTHREAD => return Err(self.fail(err!(Unsupported, "a coroutine cannot travel"))),
                _ => return Err(self.fail(err!(Unsupported, "a light userdata cannot travel"))),
            }
            Ok(())
        }
    }

    /// Numbers the object in slot `i`; true if it was there before, and a reference has been written.
    pub(super) unsafe fn seen(&mut self, l: *mut ffi::lua_State, i: c_int) -> std::result::Result<bool, Stop> {
        // SAFETY: reads an address.
        let address = unsafe { ffi::lua_topointer(l, i) } as usize;
        match self.objects.number(address) {
            Ok(Some(n)) => {
                self.out.flag(ext::HAS_REFS);
                self.out.numbered(ext::REF, n);
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(e) => Err(self.fail(e.into())),
        }
    }

    /// Goes one level down: room on both stacks.
    pub(super) unsafe fn enter(&mut self, l: *mut ffi::lua_State) -> Go {
        self.depth += 1;
        if self.bare {
            let enough = self.depth <= BARE_DEPTH && self.objects.count() <= BARE_TABLES;
            return if enough { Ok(()) } else { Err(Stop) };
        }
        // SAFETY: as the module says.
        unsafe { descend(self.lua, l, self.depth) }.map_err(|e| self.fail(e))
    }

    /// Comes up again.
    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    unsafe fn table(&mut self, l: *mut ffi::lua_State, t: c_int) -> Go {
        // SAFETY: as the module says.
        unsafe {
            if self.seen(l, t)? {
                return Ok(());
            }
            if ffi::lua_getmetatable(l, t) != 0 {
                return if self.bare { Err(Stop) } else { self.with_metatable(l, t) };
            }
            self.plain(l, t)
        }
    }

    /// A table without a metatable, or without regard to it.
    unsafe fn plain(&mut self, l: *mut ffi::lua_State, t: c_int) -> Go {
        // SAFETY: as the module says.
        unsafe {
            let before = self.mark(ffi::lua_gettop(l));
            self.enter(l)?;
            if self.fields(l, t, before.top, false).is_err() {
                return self.elsewhere(l, t, before);
            }
            self.leave();
            Ok(())
        }
    }

    /// A table with the metatable on top.
    #[inline(never)]
    unsafe fn with_metatable(&mut self, l: *mut ffi::lua_State, t: c_int) -> Go {
        // SAFETY: as the module says.
        unsafe {
            let metatable = ffi::lua_gettop(l);
            if self.drops(l, metatable) {
                ffi::lua_settop(l, metatable - 1);
                return self.plain(l, t);
            }
            // Leaves the class's name on the stack.
            if class::push_name(l, t) {
                self.enter(l)?;
                let class = self.out.open_ext(ext::CLASS);
                let named = self.out.string(string_at(l, -1));
                ffi::lua_settop(l, metatable - 1);
                self.fields(l, t, metatable - 1, true)?;
                if !named || !self.out.close_ext(class) {
                    return Err(self.refused(too_long));
                }
                self.leave();
                return Ok(());
            }
            self.nameless(l, t, metatable)
        }
    }

    /// What a table holds, in one pass: as an array while the keys come as 1, 2, 3 …; then as a map. `top` is the
    /// stack's. A function in it may say that it is a module or a class, and travels as its place, unless that was
    /// asked `already`.
    unsafe fn fields(&mut self, l: *mut ffi::lua_State, t: c_int, top: c_int, mut already: bool) -> Go {
        // SAFETY: as the module says.
        unsafe {
            debug_assert_eq!(top, ffi::lua_gettop(l));
            let key = top + 1;
            let value = key + 1;
            let table = self.out.open_table();
            let mut items = 0u32;
            ffi::lua_pushnil(l);
            let mut more = ffi::lua_next(l, t) != 0;
            let mut kind = ffi::LUA_TNIL;
            while more {
                kind = ffi::lua_type(l, key);
                if !is_index(l, key, kind, items + 1) {
                    break;
                }
                items += 1;
                let its = ffi::lua_type(l, value);
                if its == ffi::LUA_TFUNCTION && !already {
                    already = true;
                    self.stop_at_place(l, t)?;
                }
                if self.value_as(l, value, its).is_err() {
                    return Err(self.under(|| format!("[{items}]")));
                }
                ffi::lua_settop(l, key);
                more = ffi::lua_next(l, t) != 0;
            }
            if !more {
                self.out.close_array(table, items);
                return self.whole();
            }
            let mixed = if items > 0 {
                Some(self.out.begin_mixed(table, items))
            } else {
                self.out.begin_map(table);
                None
            };
            let mut pairs = 0u32;
            while more {
                pairs += 1;
                if self.value_as(l, key, kind).is_err() {
                    return Err(self.under(|| format!("[key {}]", key_path(l, key))));
                }
                let its = ffi::lua_type(l, value);
                if its == ffi::LUA_TFUNCTION && !already {
                    already = true;
                    self.stop_at_place(l, t)?;
                }
                if self.value_as(l, value, its).is_err() {
                    return Err(self.under(|| key_path(l, key)));
                }
                ffi::lua_settop(l, key);
                more = ffi::lua_next(l, t) != 0;
                if more {
                    kind = ffi::lua_type(l, key);
                }
            }
            match mixed {
                None => self.out.close_map(table, pairs),
                Some(marks) => {
                    if !self.out.close_mixed(marks, pairs) {
                        return Err(self.refused(too_long));
                    }
                }
            }
            self.whole()
        }
    }
}

/// The error for more bytes than a header can say.
fn too_long() -> Error {
    err!(Limit, "a table of more than 4 GiB cannot travel")
}

/// Whether the key in slot `i`, of Lua's type `kind`, is the integer `n`.
#[inline]
unsafe fn is_index(l: *mut ffi::lua_State, i: c_int, kind: c_int, n: u32) -> bool {
    // SAFETY: reads a slot.
    unsafe {
        if kind != ffi::LUA_TNUMBER {
            return false;
        }
        #[cfg(any(feature = "lua53", feature = "lua54", feature = "lua55"))]
        return ffi::lua_isinteger(l, i) != 0 && ffi::lua_tointeger(l, i) as i64 == n as i64;
        #[cfg(not(any(feature = "lua53", feature = "lua54", feature = "lua55")))]
        return ffi::lua_tonumber(l, i) == n as f64;
    }
}

/// The bytes of the string in slot `i`, for as long as it is there.
pub(in crate::bind) unsafe fn string_at<'s>(l: *mut ffi::lua_State, i: c_int) -> &'s [u8] {
    // SAFETY: for a string, nothing is converted; for anything else the pointer is null.
    unsafe { if ffi::lua_type(l, i) == ffi::LUA_TSTRING { known_string(l, i) } else { b"" } }
}

/// The bytes of slot `i`, which holds a string.
#[inline]
pub(super) unsafe fn known_string<'s>(l: *mut ffi::lua_State, i: c_int) -> &'s [u8] {
    // SAFETY: a string is not converted, so its bytes stay where they are.
    unsafe {
        let mut n = 0;
        let p = ffi::lua_tolstring(l, i, &mut n);
        std::slice::from_raw_parts(p as *const u8, n)
    }
}
