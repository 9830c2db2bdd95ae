//! The Lua C API as the rest of the binding uses it: reads that cannot fail, and everything else under `lua_pcall`.
//!
//! A Lua call that may raise (it allocates, or runs Lua code) must not happen inside `catch_unwind`: on LuaJIT the
//! error is a foreign exception that aborts the program, on the others it jumps over frames with values to drop.
//! [`Lua::protect`] is the one way to make such a call; a failure comes back as [`Code::Raised`] with the error value
//! on top of the stack.

use std::ffi::c_int;
use std::fmt;
use std::marker::PhantomData;

use mlua_sys as ffi;

use crate::bind::vm::object::identity_at;
use crate::bind::vm::state::State;
use crate::err;
use crate::error::{Code, Error, Result};
use crate::wait::{Cancel, Deadline, Interrupt, NonBlockingCall, Purpose, Wait, on_own_thread};

/// The Lua state that is calling, for the length of a call. Slots are numbered as in the C API.
#[derive(Clone, Copy)]
pub struct Lua<'a> {
    l: *mut ffi::lua_State,
    state: &'a State,
    place: &'static str,
    non_blocking: Option<&'a NonBlockingCall>,
    call: PhantomData<&'a mut ()>,
}

impl fmt::Debug for Lua<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lua({})", self.place)
    }
}

/// In `State::arguments`, beside their number: what was called has been dropped from below them.
pub(super) const WITHOUT_SELF: c_int = 1 << 24;

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
pub(in crate::bind) fn raised() -> Error {
    Error::new(Code::Raised, "", "")
}

/// The error for a Lua stack that does not grow: all but 5.1 and LuaJIT do not tell its limit from a want of memory.
pub(in crate::bind) fn no_room(count: c_int) -> Error {
    err!(Limit, "no room for {count} values on the Lua stack, or not enough memory for it")
}

impl<'a> Lua<'a> {
    /// A handle on `l` for the length of a call.
    ///
    /// # Safety
    /// `l` is a live state, run by this thread, and `state` is its `State`.
    pub(in crate::bind) unsafe fn new(l: *mut ffi::lua_State, state: &'a State, place: &'static str) -> Self {
        Lua { l, state, place, non_blocking: None, call: PhantomData }
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

    /// The same state, at another place: for what a thread waits for in reports.
    pub(in crate::bind) fn at(self, place: &'static str) -> Self {
        Lua { place, ..self }
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
        if top < self.state.arguments.get() {
            self.state.arguments.set(-1);
        }
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
        if self.is_integer(i) {
            // SAFETY: reads a number.
            return Some(unsafe { ffi::lua_tointeger(self.l, i) } as i64);
        }
        // SAFETY: reads a number.
        let n = unsafe { ffi::lua_tonumber(self.l, i) };
        // What lies outside of the range, or is no number, becomes another one. (`floor` would be a call.)
        (n as i64 as f64 == n && n < 9223372036854775808.0).then_some(n as i64)
    }

    /// Whether slot `i` holds a number that Lua keeps as an integer.
    #[cfg(any(feature = "lua53", feature = "lua54", feature = "lua55"))]
    pub fn is_integer(self, i: c_int) -> bool {
        // SAFETY: any index is allowed.
        unsafe { ffi::lua_isinteger(self.l, i) != 0 }
    }

    /// The bytes of the string in slot `i`; numbers are not converted.
    ///
    /// # Safety
    /// The slot holds the string for as long as the bytes are used: nothing else keeps Lua's collector from freeing it.
    unsafe fn bytes_at<'s>(self, i: c_int) -> Option<&'s [u8]> {
        if self.kind(i) != Kind::String {
            return None;
        }
        // SAFETY: for a string nothing is converted, so nothing is allocated; the caller keeps the string alive.
        unsafe {
            let mut n = 0;
            let p = ffi::lua_tolstring(self.l, i, &mut n);
            Some(std::slice::from_raw_parts(p as *const u8, n))
        }
    }

    /// `read` of the bytes of the string in slot `i`; `None` for anything else, numbers included. The bytes are lent to
    /// `read` alone, which leaves the slot as it is: once the slot is popped, the collector may free them.
    pub fn with_bytes<R>(self, i: c_int, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        // SAFETY: the bytes do not leave `read`, and the slot holds the string until it returns.
        unsafe { self.bytes_at(i) }.map(read)
    }

    /// As [`with_bytes`](Lua::with_bytes), of a string of UTF-8.
    pub fn with_str<R>(self, i: c_int, read: impl FnOnce(&str) -> R) -> Option<R> {
        self.with_bytes(i, |bytes| std::str::from_utf8(bytes).ok().map(read)).flatten()
    }

    /// The bytes of the string that is argument `i`, numbers not included. Arguments stay in their slots until the
    /// bound function ends, so the bytes live as long as the call; of any other slot use
    /// [`with_bytes`](Lua::with_bytes).
    pub fn argument_bytes(self, i: c_int) -> Option<&'a [u8]> {
        debug_assert!(i > 0, "slot {i} is counted from the top: no argument");
        // SAFETY: an argument stays in its slot for the length of the call, which is `'a`.
        unsafe { self.bytes_at(i) }
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

    /// Notes that slot `i` will not hold what it did, which may be an argument of the running call.
    fn moves(self, i: c_int) {
        if i > 0 && i <= self.state.arguments.get() {
            self.state.arguments.set(-1);
        }
    }

    /// Moves the value on top into slot `i`.
    pub fn replace(self, i: c_int) {
        self.moves(i);
        // SAFETY: both slots are there.
        unsafe { ffi::lua_replace(self.l, i) }
    }

    /// Takes slot `i` out; those above move down.
    pub fn remove(self, i: c_int) {
        self.moves(i);
        // SAFETY: the slot is there.
        unsafe { ffi::lua_remove(self.l, i) }
    }

    /// Takes slot 1 out, what was called: the arguments proper follow it.
    pub fn drop_self(self) {
        let arguments = &self.state.arguments;
        if arguments.get() > 0 {
            arguments.set((arguments.get() - 1) | WITHOUT_SELF);
        }
        // SAFETY: the slot is there.
        unsafe { ffi::lua_remove(self.l, 1) }
    }

    /// Moves the value on top below slot `i`.
    pub fn insert(self, i: c_int) {
        self.moves(i);
        // SAFETY: the slot is there.
        unsafe { ffi::lua_insert(self.l, i) }
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

    /// The interpreters' handler of Ctrl-C sets a hook, before every instruction, in the main thread of the Lua state.
    /// On PUC Lua hooks belong to threads: in a coroutine it would not run before the coroutine ends, which it may
    /// never. So it is moved here.
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
        let deadline = self.non_blocking.map_or(deadline, |non_blocking| non_blocking.deadline(deadline));
        Wait { deadline, interrupt: self }
    }

    /// A call that waits until `deadline` and cannot be tried again and again: see [`on_own_thread`].
    pub(in crate::bind) fn on_own_thread<T, C>(self, deadline: Deadline, call: impl FnOnce() -> C) -> Result<T>
    where
        T: Send + 'static,
        C: FnOnce(&Wait) -> Result<T> + Send + 'static,
    {
        on_own_thread(&self.wait(deadline), call)
    }

    /// The same call as a try of `non_blocking`: it does not sleep.
    pub(super) fn trying(self, non_blocking: &'a NonBlockingCall) -> Self {
        Lua { non_blocking: Some(non_blocking), ..self }
    }

    /// The same call, which sleeps where it has to.
    pub(in crate::bind) fn sleeping(self) -> Self {
        Lua { non_blocking: None, ..self }
    }

    /// What this call is a try of, if it is one.
    pub(in crate::bind) fn non_blocking(self) -> Option<&'a NonBlockingCall> {
        self.non_blocking
    }

    /// Whether this call is a try.
    pub(in crate::bind) fn is_non_blocking(self) -> bool {
        self.non_blocking.is_some()
    }
}

impl Interrupt for Lua<'_> {
    /// Calls an empty Lua function, so that a hook that a signal handler has set runs, and raises if it wants to.
    fn on_signal(&self) -> Result<()> {
        self.take_interrupt_of_main();
        self.push_reference(self.state.empty.get());
        let called = self.call(0, 0);
        // LuaJIT's handler says where it was called: in that function, of which nobody knows.
        if called.is_err()
            && let Some(Ok(())) =
                self.with_bytes(-1, |text| text.strip_prefix(b"libipc:0: ").map(|text| self.push_bytes(text))).flatten()
        {
            self.remove(-2);
        }
        called
    }

    /// A worker's state has no handler of Ctrl-C: the interpreter's works on the state of the program.
    fn takes_signals(&self) -> bool {
        self.state.cancel_ptr().is_none()
    }

    fn cancel(&self) -> Option<&Cancel> {
        // SAFETY: the State holds the Arc until it closes, and it cannot close while one of its calls runs.
        self.state.cancel_ptr().map(|p| unsafe { &*p })
    }

    fn purpose(&self) -> Option<Purpose> {
        let object = if self.place.contains(':') { identity_at(*self, 1) } else { 0 };
        Some(Purpose { place: self.place, object })
    }

    fn non_blocking(&self) -> Option<&NonBlockingCall> {
        self.non_blocking
    }
}
