//! The Lua C API as the rest of the binding uses it: reads that cannot fail, and everything else under `lua_pcall`.
//!
//! A Lua call that may raise (it allocates, or runs Lua code) must not happen inside `catch_unwind`: on LuaJIT the error is a foreign
//! exception that aborts the program, on the others it jumps over frames with values to drop. [`Lua::protect`] is the one way to
//! make such a call; a failure comes back as [`Code::Raised`] with the error value on top of the stack.

use std::ffi::{c_char, c_int, c_void};
use std::fmt;
use std::marker::PhantomData;

use mlua::ffi;

use crate::bind::state::State;
use crate::err;
use crate::error::{Code, Error, Result};
use crate::wait::{Cancel, Deadline, Interrupt, Wait};

/// The Lua state that is calling, for the length of a call. Slots are numbered as in the C API.
#[derive(Clone, Copy)]
pub struct Lua<'a> {
    l: *mut ffi::lua_State,
    state: &'a State,
    place: &'static str,
    call: PhantomData<&'a mut ()>,
}

impl fmt::Debug for Lua<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lua({})", self.place)
    }
}

/// What kind of value a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No such slot.
    None,
    /// nil
    Nil,
    /// true or false
    Boolean,
    /// a number of either kind
    Number,
    /// a string
    String,
    /// a table
    Table,
    /// a function, C or Lua
    Function,
    /// a full userdata
    Userdata,
    /// a light userdata
    Pointer,
    /// a coroutine
    Thread,
    /// LuaJIT's cdata
    Cdata,
}

impl Kind {
    /// The name Lua gives it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::None => "no value",
            Kind::Nil => "nil",
            Kind::Boolean => "boolean",
            Kind::Number => "number",
            Kind::String => "string",
            Kind::Table => "table",
            Kind::Function => "function",
            Kind::Userdata | Kind::Pointer => "userdata",
            Kind::Thread => "thread",
            Kind::Cdata => "cdata",
        }
    }
}

/// A pcall'd error value is on top of the stack.
pub(super) fn raised() -> Error {
    Error::new(Code::Raised, "", "")
}

/// The error for a Lua stack that does not grow: all but 5.1 and LuaJIT do not tell its limit from a want of memory.
pub(super) fn no_room(count: c_int) -> Error {
    err!(Limit, "no room for {count} values on the Lua stack, or not enough memory for it")
}

impl<'a> Lua<'a> {
    /// A handle on `l` for the length of a call.
    ///
    /// # Safety
    /// `l` is a live state, run by this thread, and `state` is its `State`.
    pub(super) unsafe fn new(l: *mut ffi::lua_State, state: &'a State, place: &'static str) -> Self {
        Lua { l, state, place, call: PhantomData }
    }

    /// The C API's handle.
    pub fn raw(self) -> *mut ffi::lua_State {
        self.l
    }

    /// What libipc keeps for this Lua state.
    pub fn state(self) -> &'a State {
        self.state
    }

    /// The bound function that is running, as its user knows it: `client:send`.
    pub fn place(self) -> &'static str {
        self.place
    }

    // Reading: nothing here allocates or raises.

    /// The number of slots in use.
    pub fn top(self) -> c_int {
        // SAFETY: reads the stack only.
        unsafe { ffi::lua_gettop(self.l) }
    }

    /// Drops `n` values from the top.
    pub fn pop(self, n: c_int) {
        debug_assert!(n <= self.top());
        // SAFETY: n values are there.
        unsafe { ffi::lua_settop(self.l, -n - 1) }
    }

    /// Makes `top` the number of slots; new ones hold nil. At most 20 more than the arguments.
    pub fn set_top(self, top: c_int) {
        // SAFETY: Lua leaves LUA_MINSTACK slots free above the arguments of a C function.
        unsafe { ffi::lua_settop(self.l, top) }
    }

    /// What slot `i` holds: not 0, nor one below the first.
    pub fn kind(self, i: c_int) -> Kind {
        debug_assert!(i > 0 || i < 0 && (i <= ffi::LUA_REGISTRYINDEX || -i <= self.top()));
        // SAFETY: any index of a slot, whether it is in use or not, is allowed.
        match unsafe { ffi::lua_type(self.l, i) } {
            ffi::LUA_TNIL => Kind::Nil,
            ffi::LUA_TBOOLEAN => Kind::Boolean,
            ffi::LUA_TNUMBER => Kind::Number,
            ffi::LUA_TSTRING => Kind::String,
            ffi::LUA_TTABLE => Kind::Table,
            ffi::LUA_TFUNCTION => Kind::Function,
            ffi::LUA_TUSERDATA => Kind::Userdata,
            ffi::LUA_TLIGHTUSERDATA => Kind::Pointer,
            ffi::LUA_TTHREAD => Kind::Thread,
            10 => Kind::Cdata,
            _ => Kind::None,
        }
    }

    /// Whether slot `i` holds nil or nothing.
    pub fn is_nil(self, i: c_int) -> bool {
        matches!(self.kind(i), Kind::None | Kind::Nil)
    }

    /// The truth of slot `i`.
    pub fn truth(self, i: c_int) -> bool {
        // SAFETY: any index is allowed.
        unsafe { ffi::lua_toboolean(self.l, i) != 0 }
    }

    /// The number in slot `i`; strings are not converted.
    pub fn to_number(self, i: c_int) -> Option<f64> {
        // SAFETY: converts a number to a number.
        (self.kind(i) == Kind::Number).then(|| unsafe { ffi::lua_tonumber(self.l, i) })
    }

    /// The integer in slot `i`, if it holds a number with an integral value that fits.
    pub fn to_integer(self, i: c_int) -> Option<i64> {
        if self.kind(i) != Kind::Number {
            return None;
        }
        #[cfg(any(feature = "lua53", feature = "lua54", feature = "lua55"))]
        // SAFETY: reads a number.
        unsafe {
            if ffi::lua_isinteger(self.l, i) != 0 {
                return Some(ffi::lua_tointeger(self.l, i) as i64);
            }
        }
        // SAFETY: reads a number.
        let n = unsafe { ffi::lua_tonumber(self.l, i) };
        (n.floor() == n && (-9223372036854775808.0..9223372036854775808.0).contains(&n)).then_some(n as i64)
    }

    /// The bytes of the string in slot `i`; numbers are not converted. They stay where they are while the slot holds the string, so
    /// keep arguments in their slots.
    pub fn to_bytes(self, i: c_int) -> Option<&'a [u8]> {
        if self.kind(i) != Kind::String {
            return None;
        }
        // SAFETY: for a string nothing is converted, so nothing is allocated; the pointer holds while the value is on the stack.
        unsafe {
            let mut n = 0;
            let p = ffi::lua_tolstring(self.l, i, &mut n);
            Some(std::slice::from_raw_parts(p as *const u8, n))
        }
    }

    /// The string in slot `i`, if it is UTF-8.
    pub fn to_str(self, i: c_int) -> Option<&'a str> {
        self.to_bytes(i).and_then(|b| std::str::from_utf8(b).ok())
    }

    /// Whether slots `i` and `j` hold the same value, metamethods aside.
    pub fn raw_equal(self, i: c_int, j: c_int) -> bool {
        // SAFETY: any index is allowed.
        unsafe { ffi::lua_rawequal(self.l, i, j) != 0 }
    }

    /// The length of the table, string or userdata in slot `i`, metamethods aside.
    pub fn raw_len(self, i: c_int) -> usize {
        // SAFETY: any index is allowed.
        unsafe { ffi::lua_rawlen(self.l, i) as usize }
    }

    /// Slot `i` counted from the bottom.
    pub fn abs(self, i: c_int) -> c_int {
        // SAFETY: arithmetic only.
        unsafe { ffi::lua_absindex(self.l, i) }
    }

    // Pushing what needs no memory. A C function has 20 free slots; `reserve` makes more.

    /// Pushes nil.
    pub fn push_nil(self) {
        // SAFETY: there is a free slot.
        unsafe { ffi::lua_pushnil(self.l) }
    }

    /// Pushes true or false.
    pub fn push_boolean(self, b: bool) {
        // SAFETY: there is a free slot.
        unsafe { ffi::lua_pushboolean(self.l, b as c_int) }
    }

    /// Pushes a number (a float on 5.3+).
    pub fn push_number(self, n: f64) {
        // SAFETY: there is a free slot.
        unsafe { ffi::lua_pushnumber(self.l, n) }
    }

    /// Pushes an integer; a number where Lua has no integers.
    pub fn push_integer(self, n: i64) {
        // SAFETY: there is a free slot.
        unsafe { ffi::lua_pushinteger(self.l, n as ffi::lua_Integer) }
    }

    /// Pushes what slot `i` holds.
    pub fn push_value(self, i: c_int) {
        // SAFETY: there is a free slot.
        unsafe { ffi::lua_pushvalue(self.l, i) }
    }

    /// Moves the value on top into slot `i`.
    pub fn replace(self, i: c_int) {
        // SAFETY: both slots are there.
        unsafe { ffi::lua_replace(self.l, i) }
    }

    /// Takes slot `i` out; those above move down.
    pub fn remove(self, i: c_int) {
        // SAFETY: the slot is there.
        unsafe { ffi::lua_remove(self.l, i) }
    }

    /// Moves the value on top below slot `i`.
    pub fn insert(self, i: c_int) {
        // SAFETY: the slot is there.
        unsafe { ffi::lua_insert(self.l, i) }
    }

    /// Pushes what registry reference `r` holds.
    pub fn push_reference(self, r: c_int) {
        // SAFETY: a raw read of the registry.
        unsafe {
            ffi::lua_rawgeti(self.l, ffi::LUA_REGISTRYINDEX, r as _);
        }
    }

    /// Pushes `t[n]` of the table in slot `i`, metamethods aside.
    pub fn raw_get_index(self, i: c_int, n: i64) -> Kind {
        debug_assert_eq!(self.kind(i), Kind::Table);
        // SAFETY: a raw read of a table.
        unsafe {
            ffi::lua_rawgeti(self.l, i, n as _);
        }
        self.kind(-1)
    }

    /// Replaces the key on top by the next key and its value, or pops it and says false; the table is in slot `i`.
    ///
    /// The key on top must be nil or one that came from here, and the table unchanged since.
    pub fn next(self, i: c_int) -> bool {
        // SAFETY: `lua_next` raises only for a key that is not in the table.
        unsafe { ffi::lua_next(self.l, i) != 0 }
    }

    // What Lua may refuse.

    /// Runs `job` as a C function under `lua_pcall`: it finds the topmost `args` values of the stack as its slots 1…,
    /// and the `results` topmost of its own come back.
    ///
    /// `job` may call anything of the C API. It must hold nothing that needs dropping across a call that may raise, and not panic.
    #[inline]
    pub fn protect<F>(self, args: c_int, results: c_int, job: F) -> Result<()>
    where
        F: FnMut(*mut ffi::lua_State) -> c_int,
    {
        unsafe fn call<F: FnMut(*mut ffi::lua_State) -> c_int>(job: *mut c_void, l: *mut ffi::lua_State) -> c_int {
            // SAFETY: `job` points at the F in protect's frame, which waits for us.
            unsafe { (*(job as *mut F))(l) }
        }
        let mut job = job;
        self.state.job.set(Some((call::<F>, (&raw mut job).cast())));
        // SAFETY: the function and its arguments are on the stack; pcall catches whatever is raised.
        unsafe {
            ffi::lua_rawgeti(self.l, ffi::LUA_REGISTRYINDEX, self.state.protected.get() as _);
            if args > 0 {
                ffi::lua_insert(self.l, -1 - args);
            }
            if ffi::lua_pcall(self.l, args, results, 0) == ffi::LUA_OK { Ok(()) } else { Err(raised()) }
        }
    }

    /// Calls the function below the topmost `args` values; its results replace them.
    pub fn call(self, args: c_int, results: c_int) -> Result<()> {
        // SAFETY: the function and its arguments are on the stack; pcall catches whatever is raised.
        unsafe { if ffi::lua_pcall(self.l, args, results, 0) == ffi::LUA_OK { Ok(()) } else { Err(raised()) } }
    }

    /// As [`Lua::call`], with the function in slot `handler` making the error value of what was raised.
    pub fn call_traced(self, args: c_int, results: c_int, handler: c_int) -> Result<()> {
        // SAFETY: as in `call`; slot `handler` holds a function.
        unsafe { if ffi::lua_pcall(self.l, args, results, handler) == ffi::LUA_OK { Ok(()) } else { Err(raised()) } }
    }

    /// Runs `job` as [`Lua::protect`] does, with what slot `i` holds as its slot 1; pushes one result, or the error.
    pub fn protect_with<F>(self, i: c_int, job: F) -> Result<()>
    where
        F: FnMut(*mut ffi::lua_State) -> c_int,
    {
        self.push_value(i);
        self.protect(1, 1, job)
    }

    /// Makes room for `n` more slots. There need be none free: the results of a call may have filled the stack.
    #[cfg(not(any(feature = "lua51", feature = "luajit")))]
    pub fn reserve(self, n: c_int) -> Result<()> {
        // SAFETY: raises nothing; out of memory it returns 0.
        if unsafe { ffi::lua_checkstack(self.l, n + 10) } != 0 { Ok(()) } else { Err(no_room(n)) }
    }

    /// Makes room for `n` more slots. There need be none free but those that Lua keeps for itself.
    #[cfg(any(feature = "lua51", feature = "luajit"))]
    pub fn reserve(self, n: c_int) -> Result<()> {
        // It may raise when it is out of memory.
        let mut enough = 0;
        // SAFETY: in protect everything may be called. The stack that grows is the one all C functions of the state share.
        self.protect(0, 0, |l| unsafe {
            enough = ffi::lua_checkstack(l, n + 10);
            0
        })?;
        // SAFETY: as above; the room was made, so this raises nothing.
        if enough != 0 && unsafe { ffi::lua_checkstack(self.l, n) } != 0 { Ok(()) } else { Err(no_room(n)) }
    }

    /// Pushes a string.
    pub fn push_bytes(self, bytes: &[u8]) -> Result<()> {
        // SAFETY: in protect everything may be called.
        self.protect(0, 1, |l| unsafe {
            ffi::lua_pushlstring(l, bytes.as_ptr() as *const c_char, bytes.len());
            1
        })
    }

    /// Pushes a string.
    pub fn push_string(self, s: &str) -> Result<()> {
        self.push_bytes(s.as_bytes())
    }

    /// Pushes a bound function (made by `lua_fn!`), with the State as its upvalue.
    pub fn push_function(self, f: ffi::lua_CFunction) -> Result<()> {
        // SAFETY: in protect everything may be called; its own first upvalue is the State.
        self.protect(0, 1, |l| unsafe {
            ffi::lua_pushvalue(l, ffi::lua_upvalueindex(1));
            ffi::lua_pushcclosure(l, f, 1);
            1
        })
    }

    /// Pushes a new table with room for `array` items and `hash` fields.
    pub fn new_table(self, array: c_int, hash: c_int) -> Result<()> {
        // SAFETY: in protect everything may be called.
        self.protect(0, 1, |l| unsafe {
            ffi::lua_createtable(l, array, hash);
            1
        })
    }

    /// Pushes a new userdata of `size` bytes.
    pub fn new_userdata(self, size: usize) -> Result<()> {
        // SAFETY: in protect everything may be called.
        self.protect(0, 1, |l| unsafe {
            ffi::lua_newuserdata(l, size);
            1
        })
    }

    /// Pushes `t[name]` of the table in slot `i`, metamethods aside.
    pub fn raw_get_field(self, i: c_int, name: &str) -> Result<Kind> {
        self.push_value(i);
        // SAFETY: in protect everything may be called; slot 1 is the table.
        self.protect(1, 1, |l| unsafe {
            ffi::lua_pushlstring(l, name.as_ptr() as *const c_char, name.len());
            ffi::lua_rawget(l, 1);
            1
        })?;
        Ok(self.kind(-1))
    }

    /// Pushes `v[name]` of the value in slot `i`, as Lua code would get it.
    pub fn get_field(self, i: c_int, name: &str) -> Result<Kind> {
        self.push_value(i);
        // SAFETY: in protect everything may be called; slot 1 is the value.
        self.protect(1, 1, |l| unsafe {
            ffi::lua_pushlstring(l, name.as_ptr() as *const c_char, name.len());
            ffi::lua_gettable(l, 1);
            1
        })?;
        Ok(self.kind(-1))
    }

    /// `t[name] = ` the value on top, which is popped; metamethods aside.
    pub fn raw_set_field(self, i: c_int, name: &str) -> Result<()> {
        let table = self.abs(i);
        self.push_value(table);
        // SAFETY: in protect everything may be called; slot 1 is the value, 2 the table.
        self.protect(2, 0, |l| unsafe {
            ffi::lua_pushlstring(l, name.as_ptr() as *const c_char, name.len());
            ffi::lua_pushvalue(l, 1);
            ffi::lua_rawset(l, 2);
            0
        })
    }

    /// `t[n] = ` the value on top, which is popped; metamethods aside.
    pub fn raw_set_index(self, i: c_int, n: i64) -> Result<()> {
        let table = self.abs(i);
        self.push_value(table);
        // SAFETY: in protect everything may be called; slot 1 is the value, 2 the table.
        self.protect(2, 0, |l| unsafe {
            ffi::lua_pushvalue(l, 1);
            ffi::lua_rawseti(l, 2, n as _);
            0
        })
    }

    /// `t[k] = v` of the table in slot `i`, with `v` on top and `k` below it, both popped; metamethods aside.
    pub fn raw_set(self, i: c_int) -> Result<()> {
        let table = self.abs(i);
        self.push_value(table);
        // SAFETY: in protect everything may be called; slots 1 and 2 are key and value, 3 the table.
        self.protect(3, 0, |l| unsafe {
            ffi::lua_insert(l, 1);
            ffi::lua_rawset(l, 1);
            0
        })
    }

    /// Makes the table on top, which is popped, the metatable of the table in slot `i`; it has no `__gc`.
    pub fn set_metatable(self, i: c_int) {
        debug_assert_eq!((self.kind(i), self.kind(-1)), (Kind::Table, Kind::Table));
        // SAFETY: without a finalizer to note down this allocates nothing.
        unsafe {
            ffi::lua_setmetatable(self.l, i);
        }
    }

    /// Pushes global `name`.
    pub fn get_global(self, name: &str) -> Result<Kind> {
        // SAFETY: in protect everything may be called.
        self.protect(0, 1, |l| unsafe {
            ffi::lua_pushglobaltable(l);
            ffi::lua_pushlstring(l, name.as_ptr() as *const c_char, name.len());
            ffi::lua_gettable(l, -2);
            1
        })?;
        Ok(self.kind(-1))
    }

    /// Sets global `name` to the value on top, which is popped.
    pub fn set_global(self, name: &str) -> Result<()> {
        // SAFETY: in protect everything may be called; slot 1 is the value.
        self.protect(1, 0, |l| unsafe {
            ffi::lua_pushglobaltable(l);
            ffi::lua_pushlstring(l, name.as_ptr() as *const c_char, name.len());
            ffi::lua_pushvalue(l, 1);
            ffi::lua_settable(l, -3);
            0
        })
    }

    /// Pops the value on top and gives it a registry reference.
    pub fn reference(self) -> Result<c_int> {
        let mut reference = ffi::LUA_NOREF;
        // SAFETY: in protect everything may be called; slot 1 is the value.
        self.protect(1, 0, |l| unsafe {
            reference = ffi::luaL_ref(l, ffi::LUA_REGISTRYINDEX);
            0
        })?;
        Ok(reference)
    }

    /// Gives a registry reference back.
    pub fn unreference(self, reference: c_int) {
        // SAFETY: luaL_unref writes to slots that exist: it raises nothing.
        unsafe { ffi::luaL_unref(self.l, ffi::LUA_REGISTRYINDEX, reference) }
    }

    /// Pushes the value anchored in the registry under `name`, made (pushed) by `make` at the first call in this state.
    pub fn anchored(self, name: &'static str, make: impl FnOnce(Self) -> Result<()>) -> Result<()> {
        let known = self.state.anchors.borrow().get(name).copied();
        if let Some(reference) = known {
            self.push_reference(reference);
            return Ok(());
        }
        make(self)?;
        self.push_value(-1);
        let reference = self.reference()?;
        self.state.anchors.borrow_mut().insert(name, reference);
        Ok(())
    }

    /// Loads a chunk of Lua source, pushing its function.
    pub fn load(self, name: &str, source: &str) -> Result<()> {
        let mut status = ffi::LUA_OK;
        let title = format!("={name}\0");
        // SAFETY: in protect everything may be called; title ends in a NUL.
        self.protect(0, 1, |l| unsafe {
            let (s, n) = (source.as_ptr() as *const c_char, source.len());
            status = ffi::luaL_loadbufferx(l, s, n, title.as_ptr() as *const c_char, c"t".as_ptr());
            1
        })?;
        if status == ffi::LUA_OK { Ok(()) } else { Err(raised()) }
    }

    /// Pushes `require(name)`.
    pub fn require(self, name: &str) -> Result<()> {
        self.get_global("require")?;
        self.push_string(name)?;
        self.call(1, 1)
    }

    /// Pushes the text of an error, with `file:line:` before it where Lua knows one; out of memory, Lua's own words for that.
    pub(super) fn push_error(self, e: Error) {
        self.push_error_text(e.at(self.place).to_string().as_bytes());
    }

    /// The error `libipc [code] PLACE: headTEXT`, whose text may be of any bytes.
    pub(super) fn failure(self, code: Code, head: &str, text: &[u8]) -> Error {
        let mut whole = Error::new(code, self.place, head.to_string()).to_string().into_bytes();
        whole.extend_from_slice(text);
        self.push_error_text(&whole);
        raised()
    }

    fn push_error_text(self, text: &[u8]) {
        // SAFETY: in protect everything may be called. Level 0 is the protected function, 1 the bound one, 2 its caller.
        let _ = self.protect(0, 1, |l| unsafe {
            ffi::luaL_where(l, 2);
            ffi::lua_pushlstring(l, text.as_ptr() as *const c_char, text.len());
            ffi::lua_concat(l, 2);
            1
        });
    }

    /// The interpreters' handler of Ctrl-C sets a hook, before every instruction, in the main thread of the Lua state. On
    /// PUC Lua hooks belong to threads: in a coroutine it would not run before the coroutine ends, which it may never.
    /// So it is moved here.
    fn take_interrupt_of_main(self) {
        const EVERYTHING: c_int = ffi::LUA_MASKCALL | ffi::LUA_MASKRET | ffi::LUA_MASKCOUNT;
        let main = self.state.main.get();
        if main.is_null() || main == self.l || cfg!(feature = "luajit") {
            return;
        }
        // SAFETY: the main thread lives as long as its state, and waits for this coroutine; reading and setting a hook
        // raises nothing.
        unsafe {
            let (mask, count) = (ffi::lua_gethookmask(main), ffi::lua_gethookcount(main));
            if mask & EVERYTHING == EVERYTHING && count == 1 && ffi::lua_gethook(self.l).is_none() {
                ffi::lua_sethook(self.l, ffi::lua_gethook(main), mask, count);
                ffi::lua_sethook(main, None, 0, 0);
            }
        }
    }

    /// What a blocking call waits with: until `deadline`, ended by Ctrl-C and by the cancellation of this worker.
    pub fn wait(&self, deadline: Deadline) -> Wait<'_> {
        Wait { deadline, interrupt: self }
    }
}

impl Interrupt for Lua<'_> {
    /// Calls an empty Lua function, so that a hook that a signal handler has set runs, and raises if it wants to.
    fn on_signal(&self) -> Result<()> {
        self.take_interrupt_of_main();
        self.push_reference(self.state.empty.get());
        self.call(0, 0)
    }

    fn cancel(&self) -> Option<&Cancel> {
        // SAFETY: the State holds the Arc until it closes, and it cannot close while one of its calls runs.
        self.state.cancel_ptr().map(|p| unsafe { &*p })
    }
}
