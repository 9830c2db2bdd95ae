//! A Lua module for the tests: runs a chunk in a Lua state of its own, whose allocator fails at the n-th call.
//!
//! ```lua
//! local memory = require 'out_of_memory'
//! local outcome, message, calls, bytes, blocks = memory.run(source, n, failures)
//! ```
//!
//! The chunk gets a function: `local arm = ...`; `arm(true)` starts the count of allocations, `arm(false)` ends it. The
//! n-th, and as many after it as `failures` says, get no memory. Lua 5.2 and later collect garbage at a first failure
//! and try again: one failure is a collection there, two are an error. What comes back: `'ok'` or `'error'` and its
//! text, how many allocations were counted, and how much memory of the state is left after it was closed.
//!
//! Beside that it makes the C library's memory run out for a library that is loaded ([`native`]):
//!
//! ```lua
//! memory.patch 'libipc.so'             -- once, when it is loaded: how many addresses were replaced
//! memory.plan(n, failures, least)      -- which requests fail, of those of at least so many bytes
//! memory.arm(true)                     -- begins the count; memory.arm(false) ends it: how many requests there were
//! ```
//!
//! One build serves every Lua: it uses only what all of them have, and looks up the rest. Freed memory is overwritten,
//! and memory that grows always moves, so that code that kept a pointer is found out.

mod native;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

/// An opaque `lua_State`.
pub enum State {}
type Function = unsafe extern "C-unwind" fn(*mut State) -> isize;
type Allocator = unsafe extern "C" fn(*mut c_void, *mut c_void, usize, usize) -> *mut c_void;

unsafe extern "C-unwind" {
    // 5.5 takes a seed as well; the others do not look at it.
    fn lua_newstate(allocator: Allocator, data: *mut c_void, seed: u32) -> *mut State;
    fn lua_close(l: *mut State);
    fn lua_atpanic(l: *mut State, panic: Function) -> *const c_void;
    fn lua_tolstring(l: *mut State, i: c_int, length: *mut usize) -> *const c_char;
    fn lua_toboolean(l: *mut State, i: c_int) -> c_int;
    fn lua_touserdata(l: *mut State, i: c_int) -> *mut c_void;
    fn lua_pushlightuserdata(l: *mut State, p: *mut c_void);
    fn lua_pushlstring(l: *mut State, s: *const c_char, n: usize);
    fn lua_pushnumber(l: *mut State, n: f64);
    fn lua_pushcclosure(l: *mut State, f: Function, n: c_int);
    fn lua_createtable(l: *mut State, array: c_int, hash: c_int);
    fn lua_setfield(l: *mut State, i: c_int, name: *const c_char);
    fn luaL_loadstring(l: *mut State, source: *const c_char) -> c_int;
    fn luaL_checklstring(l: *mut State, i: c_int, length: *mut usize) -> *const c_char;
    fn luaL_checknumber(l: *mut State, i: c_int) -> f64;
}

unsafe extern "C" {
    fn malloc(n: usize) -> *mut c_void;
    fn free(p: *mut c_void);
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// What the allocator knows.
struct Memory {
    armed: bool,
    calls: u64,
    fail_at: u64,
    failures: u64,
    bytes: isize,
    blocks: isize,
}

/// `lua_Alloc`: fails where it is told to, and only when asked for more than there was.
unsafe extern "C" fn allocate(data: *mut c_void, old: *mut c_void, old_size: usize, size: usize) -> *mut c_void {
    // Without a block the old size is the kind of the new object.
    let old_size = if old.is_null() { 0 } else { old_size };
    // SAFETY: `data` is run's Memory, which outlives the state; Lua hands back blocks of ours with their sizes.
    unsafe {
        let memory = &mut *(data as *mut Memory);
        if size > old_size && memory.armed {
            memory.calls += 1;
            if memory.calls >= memory.fail_at && memory.calls - memory.fail_at < memory.failures {
                return ptr::null_mut();
            }
        }
        let new = if size == 0 { ptr::null_mut() } else { malloc(size) };
        if size > 0 {
            if new.is_null() {
                return new;
            }
            memory.blocks += 1;
            ptr::copy_nonoverlapping(old as *const u8, new as *mut u8, old_size.min(size));
        }
        if !old.is_null() {
            memory.blocks -= 1;
            ptr::write_bytes(old as *mut u8, 0xA5, old_size);
            free(old);
        }
        memory.bytes += size as isize - old_size as isize;
        new
    }
}

/// A function that only some Luas have.
fn look_up(name: &CStr) -> *mut c_void {
    // SAFETY: a null handle searches what the program has loaded, in the usual order.
    unsafe { dlsym(ptr::null_mut(), name.as_ptr()) }
}

unsafe fn open_libraries(l: *mut State) {
    // SAFETY: these are the two functions' types.
    unsafe {
        let all = look_up(c"luaL_openlibs");
        if !all.is_null() {
            std::mem::transmute::<*mut c_void, unsafe extern "C-unwind" fn(*mut State)>(all)(l);
            return;
        }
        let some = look_up(c"luaL_openselectedlibs");
        std::mem::transmute::<*mut c_void, unsafe extern "C-unwind" fn(*mut State, c_int, c_int)>(some)(l, -1, 0);
    }
}

unsafe fn protected_call(l: *mut State, arguments: c_int) -> c_int {
    type New = unsafe extern "C-unwind" fn(*mut State, c_int, c_int, c_int, isize, *const c_void) -> c_int;
    type Old = unsafe extern "C-unwind" fn(*mut State, c_int, c_int, c_int) -> c_int;
    // SAFETY: these are the two functions' types.
    unsafe {
        let new = look_up(c"lua_pcallk");
        if !new.is_null() {
            return std::mem::transmute::<*mut c_void, New>(new)(l, arguments, 0, 0, 0, ptr::null());
        }
        std::mem::transmute::<*mut c_void, Old>(look_up(c"lua_pcall"))(l, arguments, 0, 0)
    }
}

/// An error outside all protected calls: what the tests look for, besides crashes. Lua aborts the process next.
unsafe extern "C-unwind" fn panicked(l: *mut State) -> isize {
    // SAFETY: slot -1 is the error; a string is read as it is.
    let text = unsafe {
        let text = lua_tolstring(l, -1, ptr::null_mut());
        if text.is_null() { c"no text" } else { CStr::from_ptr(text) }
    };
    eprintln!("PANIC: unprotected error: {}", text.to_string_lossy());
    0
}

/// `arm(on)`, for the chunk.
unsafe extern "C-unwind" fn arm(l: *mut State) -> isize {
    // SAFETY: upvalue 1 is run's Memory. The pseudo-index differs: LUA_REGISTRYINDEX - 1, LUA_GLOBALSINDEX - 1 on 5.1.
    unsafe {
        let memory = lua_touserdata(l, upvalue()) as *mut Memory;
        (*memory).armed = lua_toboolean(l, 1) != 0;
    }
    0
}

/// The pseudo-index of a function's first upvalue.
fn upvalue() -> c_int {
    if look_up(c"lua_pcallk").is_null() {
        -10002 - 1
    } else if look_up(c"luaL_openselectedlibs").is_null() {
        -1000000 - 1000 - 1
    } else {
        -(c_int::MAX / 2 + 1000) - 1
    }
}

/// `run(source, n, failures)`
unsafe extern "C-unwind" fn run(l: *mut State) -> isize {
    // SAFETY: nothing in this frame needs dropping when an argument is wrong. The new state is this thread's alone; its
    // memory is not armed while anything is called outside a protected call.
    unsafe {
        let source = luaL_checklstring(l, 1, ptr::null_mut());
        let fail_at = luaL_checknumber(l, 2) as u64;
        let failures = luaL_checknumber(l, 3) as u64;
        let mut memory = Memory { armed: false, calls: 0, fail_at, failures, bytes: 0, blocks: 0 };
        let data: *mut c_void = (&raw mut memory).cast();
        let inner = lua_newstate(allocate, data, 1);
        if inner.is_null() {
            lua_pushlstring(l, c"no state".as_ptr(), 8);
            return 1;
        }
        lua_atpanic(inner, panicked);
        open_libraries(inner);
        let mut status = luaL_loadstring(inner, source);
        if status == 0 {
            lua_pushlightuserdata(inner, data);
            lua_pushcclosure(inner, arm, 1);
            status = protected_call(inner, 1);
        }
        let outcome = if status == 0 { c"ok" } else { c"error" };
        lua_pushlstring(l, outcome.as_ptr(), outcome.count_bytes());
        let mut length = 0;
        let text = if status == 0 { ptr::null() } else { lua_tolstring(inner, -1, &mut length) };
        if text.is_null() {
            lua_pushlstring(l, c"".as_ptr(), 0);
        } else {
            lua_pushlstring(l, text, length);
        }
        // Finalizers run while memory may still be out.
        lua_close(inner);
        let Memory { calls, bytes, blocks, .. } = ptr::read_volatile(&raw const memory);
        lua_pushnumber(l, calls as f64);
        lua_pushnumber(l, bytes as f64);
        lua_pushnumber(l, blocks as f64);
        5
    }
}

/// `patch(library)`
unsafe extern "C-unwind" fn patch(l: *mut State) -> isize {
    // SAFETY: Lua's strings end in a NUL.
    unsafe {
        let library = luaL_checklstring(l, 1, ptr::null_mut());
        lua_pushnumber(l, native::patch(CStr::from_ptr(library)) as f64);
    }
    1
}

/// `plan(n, failures, least)`
unsafe extern "C-unwind" fn plan(l: *mut State) -> isize {
    // SAFETY: reads arguments.
    unsafe {
        let (at, failures) = (luaL_checknumber(l, 1), luaL_checknumber(l, 2));
        native::plan(at as u64, failures as u64, luaL_checknumber(l, 3) as usize);
    }
    0
}

/// `arm(on)`
unsafe extern "C-unwind" fn arm_native(l: *mut State) -> isize {
    // SAFETY: reads an argument, pushes a number.
    unsafe {
        let on = lua_toboolean(l, 1) != 0;
        lua_pushnumber(l, native::arm(on) as f64);
    }
    1
}

/// `require 'out_of_memory'`
///
/// # Safety
/// Called by Lua.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn luaopen_out_of_memory(l: *mut State) -> isize {
    // SAFETY: a C function has free slots.
    unsafe {
        lua_createtable(l, 0, 4);
        let functions: [(Function, &CStr); 4] =
            [(run, c"run"), (patch, c"patch"), (plan, c"plan"), (arm_native, c"arm")];
        for (function, name) in functions {
            lua_pushcclosure(l, function, 0);
            lua_setfield(l, -2, name.as_ptr());
        }
    }
    1
}
