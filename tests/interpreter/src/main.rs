//! `lua` as the specs need it: the standalone program of Lua's manual (§7) without its interactive mode.
//!
//! `lua [-e CODE] [-l MODULE] [-W] [-E] [-v] [--] [SCRIPT [ARGS]]`; `-` or nothing reads the script from stdin. The
//! entry is C's `main`, not Rust's: that one ignores SIGPIPE and takes SIGSEGV, which would hide what libipc does.
//!
//! Lua raises errors by jumping over frames, so nothing in this file holds a value that needs dropping.
#![no_main]

mod host;

use std::ffi::{CStr, c_char, c_int};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use mlua_sys as ffi;

/// The program's name in messages.
const PROGRAM: &CStr = c"lua";

/// The state that SIGINT interrupts.
static RUNNING: AtomicPtr<ffi::lua_State> = AtomicPtr::new(ptr::null_mut());

/// The arguments of the process.
#[derive(Clone, Copy)]
struct Arguments {
    count: usize,
    words: *const *const c_char,
}

impl Arguments {
    /// Word `i`, or nothing past the last.
    fn get(self, i: usize) -> Option<&'static CStr> {
        // SAFETY: `main` got `count` words, which live as long as the process.
        (i < self.count).then(|| unsafe { CStr::from_ptr(*self.words.add(i)) })
    }
}

/// C's entry.
///
/// # Safety
/// Called by the C runtime.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let arguments = Arguments { count: argc as usize, words: argv };
    // SAFETY: a new state, used by this thread only; `run` runs under pcall.
    unsafe {
        let l = ffi::luaL_newstate();
        if l.is_null() {
            say(c"cannot create state: not enough memory");
            return libc::EXIT_FAILURE;
        }
        // As lua.c: no collection before the libraries are there.
        ffi::lua_gc(l, ffi::LUA_GCSTOP);
        ffi::lua_pushcfunction(l, run);
        ffi::lua_pushlightuserdata(l, (&raw const arguments).cast_mut().cast());
        let status = ffi::lua_pcall(l, 1, 1, 0);
        let good = report(l, status) && ffi::lua_toboolean(l, -1) != 0;
        ffi::lua_close(l);
        if good { libc::EXIT_SUCCESS } else { libc::EXIT_FAILURE }
    }
}

/// Writes `lua: message` to stderr.
fn say(message: &CStr) {
    // SAFETY: plain output of strings that end in NUL.
    unsafe {
        for part in [PROGRAM, c": ", message, c"\n"] {
            libc::write(2, part.as_ptr().cast(), part.count_bytes());
        }
    }
}

/// Prints the error on top of the stack, if `status` says there is one.
///
/// # Safety
/// `l` is a live state.
unsafe fn report(l: *mut ffi::lua_State, status: c_int) -> bool {
    if status == ffi::LUA_OK {
        return true;
    }
    // SAFETY: the message is a string while it is on the stack.
    unsafe {
        let message = ffi::lua_tostring(l, -1);
        say(if message.is_null() { c"(error message not a string)" } else { CStr::from_ptr(message) });
        ffi::lua_pop(l, 1);
    }
    false
}

/// Everything, protected: pushes whether it went well.
unsafe extern "C-unwind" fn run(l: *mut ffi::lua_State) -> c_int {
    // SAFETY: slot 1 is main's light userdata; nothing in this frame needs dropping.
    unsafe {
        let arguments = *(ffi::lua_touserdata(l, 1) as *const Arguments);
        let mut script = 1;
        let mut bare = false;
        let mut version = false;
        while let Some(word) = arguments.get(script) {
            match word.to_bytes() {
                b"--" => {
                    script += 1;
                    break;
                }
                b"-" => break,
                b"-E" => bare = true,
                b"-W" => {}
                b"-v" => version = true,
                b"-e" | b"-l" => {
                    script += 1;
                    if arguments.get(script).is_none() {
                        return usage(l, word);
                    }
                }
                [b'-', b'e' | b'l', _, ..] => {}
                [b'-', ..] => return usage(l, word),
                _ => break,
            }
            script += 1;
        }
        if version {
            ffi::luaL_loadstring(l, c"print(_VERSION .. ' (for tests)')".as_ptr());
        }
        if bare {
            ffi::lua_pushboolean(l, 1);
            ffi::lua_setfield(l, ffi::LUA_REGISTRYINDEX, c"LUA_NOENV".as_ptr());
        }
        ffi::luaL_openlibs(l);
        host::preload(l);
        if version {
            ffi::lua_call(l, 0, 0);
        }
        push_arg(l, arguments, script);
        ffi::lua_gc(l, ffi::LUA_GCRESTART);
        ffi::lua_gc(l, ffi::LUA_GCGEN);
        let good = (bare || initialise(l)) && options(l, arguments, script);
        let good = good && (version && arguments.get(script).is_none() || run_script(l, arguments, script));
        ffi::lua_pushboolean(l, good as c_int);
        1
    }
}

/// Says how to call it; pushes false.
unsafe fn usage(l: *mut ffi::lua_State, word: &CStr) -> c_int {
    say(word);
    say(c"is no option here; usage: lua [-e CODE] [-l MODULE] [-W] [-E] [-v] [--] [SCRIPT [ARGS]]");
    // SAFETY: one free slot is enough.
    unsafe { ffi::lua_pushboolean(l, 0) };
    1
}

/// The global `arg`: the script at 0, its arguments after it, what stood before it at negative indices.
unsafe fn push_arg(l: *mut ffi::lua_State, arguments: Arguments, script: usize) {
    let zero = if script < arguments.count { script } else { 0 };
    // SAFETY: a fresh table on a stack with room.
    unsafe {
        ffi::lua_createtable(l, (arguments.count - zero) as c_int, zero as c_int + 1);
        for i in 0..arguments.count {
            ffi::lua_pushstring(l, *arguments.words.add(i));
            ffi::lua_rawseti(l, -2, i as ffi::lua_Integer - zero as ffi::lua_Integer);
        }
        ffi::lua_setglobal(l, c"arg".as_ptr());
    }
}

/// Runs what LUA_INIT holds: code, or `@` and a file's name.
unsafe fn initialise(l: *mut ffi::lua_State) -> bool {
    // SAFETY: getenv's string is used before anything could change it.
    unsafe {
        for name in [c"LUA_INIT_5_5", c"LUA_INIT"] {
            let code = libc::getenv(name.as_ptr());
            if code.is_null() {
                continue;
            }
            let status = if *code == b'@' as c_char {
                ffi::luaL_loadfile(l, code.add(1))
            } else {
                ffi::luaL_loadbuffer(l, code, libc::strlen(code), c"=LUA_INIT".as_ptr())
            };
            return finish(l, status, 0, 0);
        }
    }
    true
}

/// Does what `-e`, `-l` and `-W` say, in order.
unsafe fn options(l: *mut ffi::lua_State, arguments: Arguments, script: usize) -> bool {
    let mut i = 1;
    while let Some(word) = arguments.get(i).filter(|_| i < script) {
        let bytes = word.to_bytes();
        let letter = bytes.get(1).copied();
        // SAFETY: the words live as long as the process.
        unsafe {
            if bytes == b"-W" {
                ffi::lua_warning(l, c"@on".as_ptr(), 0);
            } else if letter == Some(b'e') || letter == Some(b'l') {
                let mut value = word.as_ptr().add(2);
                if bytes.len() == 2 {
                    i += 1;
                    value = *arguments.words.add(i);
                }
                let good = if letter == Some(b'e') {
                    let status = ffi::luaL_loadbuffer(l, value, libc::strlen(value), c"=(command line)".as_ptr());
                    finish(l, status, 0, 0)
                } else {
                    require(l, value)
                };
                if !good {
                    return false;
                }
            }
        }
        i += 1;
    }
    true
}

/// `-l [global=]module`
unsafe fn require(l: *mut ffi::lua_State, value: *const c_char) -> bool {
    // SAFETY: value ends in NUL; both strings are on the stack while they are used.
    unsafe {
        let equals = libc::strchr(value, b'=' as c_int);
        let module = if equals.is_null() { value } else { equals.add(1) };
        if equals.is_null() {
            // As lua.c: a suffix after a hyphen is no part of the global's name.
            let hyphen = libc::strchr(value, b'-' as c_int);
            let end = if hyphen.is_null() { libc::strlen(value) } else { hyphen.offset_from(value) as usize };
            ffi::lua_pushlstring(l, value, end);
        } else {
            ffi::lua_pushlstring(l, value, equals.offset_from(value) as usize);
        }
        let name = ffi::lua_tostring(l, -1);
        ffi::lua_getglobal(l, c"require".as_ptr());
        ffi::lua_pushstring(l, module);
        if !finish(l, ffi::LUA_OK, 1, 1) {
            return false;
        }
        ffi::lua_setglobal(l, name);
        ffi::lua_pop(l, 1);
    }
    true
}

/// Runs the script, or stdin; `-e` and the like without a script run nothing more.
unsafe fn run_script(l: *mut ffi::lua_State, arguments: Arguments, script: usize) -> bool {
    // SAFETY: the words live as long as the process; the stack has room for the arguments, or luaL_checkstack raises.
    unsafe {
        let path = match arguments.get(script) {
            None if script > 1 => return true,
            None => ptr::null(),
            Some(word) if word.to_bytes() == b"-" => ptr::null(),
            Some(word) => word.as_ptr(),
        };
        let status = ffi::luaL_loadfile(l, path);
        let mut count = 0;
        if status == ffi::LUA_OK {
            count = arguments.count.saturating_sub(script + 1) as c_int;
            ffi::luaL_checkstack(l, count + 3, c"too many arguments to script".as_ptr());
            for i in 0..count as usize {
                ffi::lua_pushstring(l, *arguments.words.add(script + 1 + i));
            }
        }
        finish(l, status, count, 0)
    }
}

/// Calls the function below the topmost `count` values, if loading it gave LUA_OK; reports what goes wrong.
unsafe fn finish(l: *mut ffi::lua_State, mut status: c_int, count: c_int, results: c_int) -> bool {
    // SAFETY: the function and its arguments are on the stack.
    unsafe {
        if status == ffi::LUA_OK {
            let base = ffi::lua_gettop(l) - count;
            ffi::lua_pushcfunction(l, explain);
            ffi::lua_insert(l, base);
            RUNNING.store(l, Ordering::SeqCst);
            on_interrupt(interrupted as *const () as usize);
            status = ffi::lua_pcall(l, count, results, base);
            on_interrupt(libc::SIG_DFL);
            ffi::lua_remove(l, base);
        }
        report(l, status)
    }
}

/// The message handler: a traceback after the message.
unsafe extern "C-unwind" fn explain(l: *mut ffi::lua_State) -> c_int {
    // SAFETY: slot 1 is the error value.
    unsafe {
        let mut message = ffi::lua_tostring(l, 1);
        if message.is_null() {
            if ffi::luaL_callmeta(l, 1, c"__tostring".as_ptr()) != 0 && ffi::lua_type(l, -1) == ffi::LUA_TSTRING {
                return 1;
            }
            let kind = ffi::lua_typename(l, ffi::lua_type(l, 1));
            message = ffi::lua_pushfstring(l, c"(error object is a %s value)".as_ptr(), kind);
        }
        ffi::luaL_traceback(l, l, message, 1);
    }
    1
}

/// Sets what SIGINT does; as lua.c, so that it ends system calls (no SA_RESTART).
fn on_interrupt(action: usize) {
    // SAFETY: the handler does only what a signal handler may: sigaction and lua_sethook.
    unsafe {
        let mut what: libc::sigaction = std::mem::zeroed();
        what.sa_sigaction = action;
        libc::sigemptyset(&mut what.sa_mask);
        libc::sigaction(libc::SIGINT, &what, ptr::null_mut());
    }
}

/// SIGINT: a second one kills; this one raises at the next instruction.
extern "C" fn interrupted(_signal: c_int) {
    on_interrupt(libc::SIG_DFL);
    let flags = ffi::LUA_MASKCALL | ffi::LUA_MASKRET | ffi::LUA_MASKLINE | ffi::LUA_MASKCOUNT;
    // SAFETY: Lua allows lua_sethook in a signal handler.
    unsafe { ffi::lua_sethook(RUNNING.load(Ordering::SeqCst), Some(stop), flags, 1) };
}

unsafe extern "C-unwind" fn stop(l: *mut ffi::lua_State, _: *mut ffi::lua_Debug) {
    // SAFETY: as lua.c does; nothing in this frame needs dropping.
    unsafe {
        ffi::lua_sethook(l, None, 0, 0);
        ffi::luaL_error(l, c"interrupted!".as_ptr());
    }
}
