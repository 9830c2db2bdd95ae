//! From Lua into Rust and back: how a bound function is entered, and how it fails.
//!
//! Lua raises errors by jumping over frames, Rust by unwinding through them; neither may cross the other. So a bound
//! function is three frames:
//!
//! 1. `entry`, an `extern "C-unwind"` function made by [`lua_fn!`](crate::lua_fn), and [`enter`]: nothing in them needs
//!    dropping, so `lua_error` may leave from here.
//! 2. `catch_unwind`: a panic stops here and becomes an error.
//! 3. the body, `fn(Lua) -> Result<Pushed>`: ordinary Rust. Through [`Lua`] it reads the stack directly, and does
//!    everything that Lua may refuse (allocations included) under `lua_pcall`.

use std::cell::Cell;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mlua_sys as ffi;

use crate::bind::vm::account::collect;
use crate::bind::vm::lua::{Lua, WITHOUT_SELF};
use crate::bind::vm::state::State;
use crate::err;
use crate::error::{Code, Error, Result};
use crate::sync::another_thread_ends_process;
use crate::sys::{Torn, closes_soon, is_torn, memory_is_short, own_cpu_ns, settle_shortage};
use crate::wait::{Deadline, Interrupt, Wait, sleep};

/// How many results a body has pushed. As wide as a pointer, so that a `Result` of it comes back in two registers: one
/// of an `int` passes through memory, is written there by halves and read whole, for which the processor waits as long
/// as for the call.
pub type Pushed = isize;

/// A bound function's body: the arguments are on the stack from 1; it pushes results and says how many.
pub type Body = fn(Lua<'_>) -> Result<Pushed>;

/// Makes a C function of a [`Body`]: `lua_fn!("client:send", send)`. The place names it in errors; one with a colon is
/// a method, whose arguments are counted after `self`.
#[macro_export]
macro_rules! lua_fn {
    ($place:expr, $body:path) => {{
        unsafe extern "C-unwind" fn entry(l: *mut mlua_sys::lua_State) -> $crate::bind::vm::Count {
            const PLACE: &str = $place;
            const BODY: $crate::bind::vm::Body = $body;
            // SAFETY: Lua calls this with its own state, and the function was made with the State as upvalue 1.
            unsafe { $crate::bind::vm::enter::<{ $crate::bind::vm::may_repeat(PLACE) }>(l, PLACE, BODY) }
        }
        $crate::bind::vm::c_function(entry)
    }};
}

/// The number of results. LuaJIT (2.1 of 2022, GC64) reads 64 bits of the `int` that a C function returns, and the ABI
/// leaves the upper half undefined: rustc does put other things there. So it gets a full register.
#[cfg(feature = "luajit")]
pub type Count = usize;
/// The number of results.
#[cfg(not(feature = "luajit"))]
pub type Count = c_int;

/// `n` as a count; on LuaJIT with the upper half of the register clear.
pub fn count(n: c_int) -> Count {
    n as u32 as Count
}

/// The function as Lua declares it.
#[cfg(feature = "luajit")]
pub const fn c_function(f: unsafe extern "C-unwind" fn(*mut ffi::lua_State) -> Count) -> ffi::lua_CFunction {
    // SAFETY: the same call in every ABI we build for: an `int` is returned in the low half of the register of a
    // `usize`. Where the type of a called function is checked it would not do: build.rs refuses such builds.
    unsafe { std::mem::transmute(f) }
}

/// The function as Lua declares it.
#[cfg(not(feature = "luajit"))]
pub const fn c_function(f: unsafe extern "C-unwind" fn(*mut ffi::lua_State) -> Count) -> ffi::lua_CFunction {
    f
}

/// Whether a call of this name that found memory or descriptors [short](Error::shortage) may be made again: functions
/// of the module and of tensors, and `fd` of whatever has it. What waits for others, or hands them something, may have
/// changed more than it can tell.
pub const fn may_repeat(place: &str) -> bool {
    begins(place, "ipc.")
        || begins(place, "torch.")
        || begins(place, "tensor:")
        || begins(place, "storage:")
        || begins(place, "object:")
}

const fn begins(text: &str, start: &str) -> bool {
    let (text, start) = (text.as_bytes(), start.as_bytes());
    let mut i = 0;
    while i < start.len() {
        if i == text.len() || text[i] != start[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Runs `body` and raises what it returns as an error. `REPEAT`: as [`may_repeat`] has it.
///
/// # Safety
/// `l` is the state that is calling, and upvalue 1 of the running function is libipc's `State`.
pub unsafe fn enter<const REPEAT: bool>(l: *mut ffi::lua_State, place: &'static str, body: Body) -> Count {
    // SAFETY: as this function's own promise. No value in this frame needs dropping when lua_error leaves it.
    unsafe {
        let state = ffi::lua_touserdata(l, ffi::lua_upvalueindex(1)) as *const State;
        if (*state).account.is_due() {
            // Between two calls: no frame of ours holds anything, and the arguments lie on the stack.
            collect(Lua::new(l, &*state, place));
        }
        let count = run::<REPEAT>(l, state, place, body);
        if count >= 0 {
            (*state).last.push(l, |message| (*state).keep_message(message));
            return count as Count;
        }
        ffi::lua_error(l)
    }
}

/// Tries the short form of a function that takes some nanoseconds, ahead of [`enter`], where nothing is to be minded
/// but its arguments. It waits for nothing, takes no memory and has no error: where it says that it is not done, having
/// left the stack as it was, `enter` is to do it all.
///
/// # Safety
/// As [`enter`].
#[inline(always)]
pub unsafe fn at_once(l: *mut ffi::lua_State, place: &'static str, body: impl FnOnce(Lua<'_>) -> bool) -> bool {
    // SAFETY: the State userdata is an upvalue of the running function, which keeps it alive.
    let state = unsafe { &*(ffi::lua_touserdata(l, ffi::lua_upvalueindex(1)) as *const State) };
    if is_torn() || memory_is_short() || state.account.is_due() || state.cancelled().is_some() {
        return false;
    }
    // SAFETY: as this function's own promise. After a panic `enter` comes to the same one, and tells it.
    catch_unwind(AssertUnwindSafe(|| body(unsafe { Lua::new(l, state, place) }))).unwrap_or(false)
}

/// The part of [`enter`] with values that need dropping: afterwards the error, if any, is on the stack and -1 returned.
///
/// # Safety
/// As [`enter`].
#[inline(always)]
unsafe fn run<const REPEAT: bool>(
    l: *mut ffi::lua_State,
    state: *const State,
    place: &'static str,
    body: Body,
) -> Pushed {
    // SAFETY: the State userdata is an upvalue of the running function, which keeps it alive.
    let lua = unsafe { Lua::new(l, &*state, place) };
    if is_torn() {
        return fail(lua, torn());
    }
    if memory_is_short() && !gives_back(place) {
        return out_of_memory(lua);
    }
    if let Some(cancel) = lua.state().cancelled()
        && !gives_back(place)
        && let Err(e) = cancel.check_all(computed_since_cancel)
    {
        // Be it one that never waits: 5.3 and later have no other way to end a loop of such calls.
        return fail(lua, e);
    }
    let before = if REPEAT { lua.state().arguments.replace(lua.top()) } else { 0 };
    let result = match catch_unwind(AssertUnwindSafe(|| body(lua))) {
        Ok(Ok(count)) => count,
        Ok(Err(e)) if REPEAT && e.is_shortage() => repeat(lua, body, e),
        Ok(Err(e)) => fail(lua, e),
        Err(panic) => fail(lua, bug(place, panic)),
    };
    if REPEAT {
        lua.state().arguments.set(before);
    }
    result
}

/// How long, in seconds, a call that was short of descriptors waits before each of its further tries, where something
/// was let go of lately whose descriptors threads in the background close: they may have to wait for a core.
const PAUSES: [f64; 8] = [0.0, 0.001, 0.01, 0.05, 0.2, 0.5, 1.0, 2.0];

/// For how many nanoseconds this thread, which was cancelled, has computed since this was first asked.
#[cold]
fn computed_since_cancel() -> u64 {
    thread_local! {
        static FIRST: Cell<u64> = const { Cell::new(0) };
    }
    let now = own_cpu_ns().max(1);
    if FIRST.get() == 0 {
        FIRST.set(now);
    }
    now - FIRST.get()
}

/// Memory or descriptors ran out, and garbage may hold some: collects it and calls `body` again, if its arguments are
/// there.
#[cold]
#[inline(never)]
fn repeat(lua: Lua<'_>, body: Body, mut e: Error) -> Pushed {
    for pause in PAUSES {
        let arguments = lua.state().arguments.get();
        let (count, dropped) = (arguments & !WITHOUT_SELF, arguments & WITHOUT_SELF != 0);
        if arguments < 0 || lua.top() < count {
            break;
        }
        lua.set_top(count);
        if pause == 0.0 {
            if !collect(lua) {
                break;
            }
        } else if e.code() != Code::Io || !closes_soon() {
            break;
        } else if let Err(e) = sleep(&lua.wait(Deadline::after(pause))) {
            return fail(lua, e);
        }
        if dropped {
            // Nobody looks at it but to drop it.
            lua.push_nil();
            lua.insert(1);
        }
        lua.state().arguments.set(count + c_int::from(dropped));
        match catch_unwind(AssertUnwindSafe(|| body(lua))) {
            Ok(Ok(count)) => return count,
            Ok(Err(again)) if again.is_shortage() => e = again,
            Ok(Err(other)) => return fail(lua, other),
            Err(panic) => return fail(lua, bug(lua.place(), panic)),
        }
    }
    fail(lua, e)
}

/// How long an error waits, in seconds, for the end of the process that another thread has begun.
const LONGEST_END: f64 = 10.0;

#[cold]
#[inline(never)]
fn fail(lua: Lua<'_>, e: Error) -> Pushed {
    if e.code() == Code::Cancelled {
        (lua.state().library.cancelled)(lua);
    }
    if another_thread_ends_process() && lua.takes_signals() {
        // The error is of its doing: raised here, it would have this thread go on, or end the process with another
        // code.
        _ = sleep(&Wait::until(Deadline::after(LONGEST_END)));
    }
    if e.code() != Code::Raised {
        lua.push_error(e);
    }
    -1
}

/// What every call raises in the child of a fork that came in the middle of a change.
fn torn() -> Error {
    err!(
        State,
        "this process was forked, not by ipc.fork, while another thread of its parent was changing what threads share, \
         and did not come to the end of it in time; that may be half changed here, so nothing of libipc works in this \
         process"
    )
}

/// Whether the function at `place` lets go of something, or looks at an error, and so goes on where memory has run out
/// and in a thread that was cancelled.
fn gives_back(place: &str) -> bool {
    let name = place.rsplit([':', '.']).next().unwrap_or_default();
    matches!(name, "close" | "unlock" | "cancel" | "withdraw" | "errcode" | "type")
}

/// The calls before this one have used the allocator's reserve: nothing more is begun before the program knows.
#[cold]
#[inline(never)]
fn out_of_memory(lua: Lua<'_>) -> Pushed {
    let pushed = fail(lua, Error::no_memory());
    settle_shortage();
    pushed
}

/// The error that a panic becomes.
pub fn bug(place: &'static str, panic: Box<dyn std::any::Any + Send>) -> Error {
    if panic.is::<Torn>() {
        return torn().at(place);
    }
    let what = panic
        .downcast_ref::<&str>()
        .map(|s| s.to_string())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".into());
    Error::new(Code::State, place, format!("internal error, please report it: {what}"))
}
