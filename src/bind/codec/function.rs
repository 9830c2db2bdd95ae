//! Functions on their way: bytecode, upvalues, and what goes by name.
//!
//! A function of a loaded module or of the standard library is known at the receiver too, so its name crosses. A Lua
//! function crosses as bytecode; its upvalues only where the route takes them along, but for modules, named functions
//! and `_ENV`, which the receiver has itself.
//!
//! Everything that takes a raw state runs inside `Lua::protect`, as in `encode`.

use std::ffi::{CStr, c_char, c_int, c_void};

use mlua_sys as ffi;

use super::encode::{EncodeWalk, string_at};
use super::{Go, VM};
use crate::err;
use crate::error::Name;
use crate::text;
use crate::wire::ext;

/// The standard libraries: their functions cross by name on every route that takes functions.
const STANDARD: &[&CStr] = &[
    c"_G",
    c"string",
    c"table",
    c"math",
    c"io",
    c"os",
    c"debug",
    c"coroutine",
    c"package",
    c"utf8",
    c"bit32",
    c"bit",
    c"jit",
    c"ffi",
    c"libipc",
    c"libipc.sharedtable",
];

/// Pushes `package.loaded`.
pub(super) unsafe fn push_loaded(l: *mut ffi::lua_State) {
    // SAFETY: as the module says. LUA_LOADED_TABLE is "_LOADED" on every Lua there is.
    unsafe {
        ffi::lua_getfield(l, ffi::LUA_REGISTRYINDEX, c"_LOADED".as_ptr());
    }
}

/// Looks for the value in slot `i` among the fields of the table on top; pushes the key (a string) if it is there.
unsafe fn push_key_of(l: *mut ffi::lua_State, i: c_int) -> bool {
    // SAFETY: as the module says.
    unsafe {
        let table = ffi::lua_gettop(l);
        ffi::lua_pushnil(l);
        while ffi::lua_next(l, table) != 0 {
            if ffi::lua_rawequal(l, -1, i) != 0 && ffi::lua_type(l, -2) == ffi::LUA_TSTRING {
                ffi::lua_settop(l, -2);
                return true;
            }
            ffi::lua_settop(l, -2);
        }
        false
    }
}

/// What stands in for the value in slot `i` by name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    Not,
    /// The module's name has been pushed.
    Module,
    /// The module's and the function's names have been pushed.
    Function,
}

/// Finds the standard function in slot `i`.
unsafe fn push_standard(l: *mut ffi::lua_State, i: c_int) -> Named {
    // SAFETY: as the module says.
    unsafe {
        let top = ffi::lua_gettop(l);
        push_loaded(l);
        for library in STANDARD {
            ffi::lua_pushlstring(l, library.as_ptr(), library.count_bytes());
            ffi::lua_pushvalue(l, -1);
            ffi::lua_rawget(l, top + 1);
            // Stack: loaded, library's name, library.
            if ffi::lua_type(l, -1) == ffi::LUA_TTABLE && push_key_of(l, i) {
                ffi::lua_replace(l, top + 3);
                ffi::lua_settop(l, top + 3);
                ffi::lua_remove(l, top + 1);
                return Named::Function;
            }
            ffi::lua_settop(l, top + 1);
        }
        ffi::lua_settop(l, top);
        Named::Not
    }
}

/// Finds the loaded module in slot `i`.
unsafe fn push_module(l: *mut ffi::lua_State, i: c_int) -> Named {
    // SAFETY: as the module says.
    unsafe {
        let top = ffi::lua_gettop(l);
        push_loaded(l);
        if push_key_of(l, i) {
            ffi::lua_remove(l, top + 1);
            return Named::Module;
        }
        ffi::lua_settop(l, top);
        Named::Not
    }
}

/// Whether the function in slot `i` has no bytecode to send: a C function, or one of LuaJIT's own.
unsafe fn is_builtin(l: *mut ffi::lua_State, i: c_int) -> bool {
    // SAFETY: as the module says.
    unsafe {
        if ffi::lua_iscfunction(l, i) != 0 {
            return true;
        }
        if cfg!(feature = "luajit") {
            let mut about: ffi::lua_Debug = std::mem::zeroed();
            ffi::lua_pushvalue(l, i);
            ffi::lua_getinfo(l, c">S".as_ptr(), &mut about);
            return CStr::from_ptr(about.source).to_bytes().starts_with(b"=[builtin");
        }
        false
    }
}

/// Writes the names that were pushed, and pops them.
unsafe fn write_name(walk: &mut EncodeWalk<'_>, l: *mut ffi::lua_State, named: Named) -> Go {
    // SAFETY: as the module says; the names are on top.
    unsafe {
        let names = if named == Named::Function { 2 } else { 1 };
        walk.has_names = true;
        let mark = walk.out.open_ext(ext::NAME);
        let mut whole = walk.out.string(string_at(l, -names));
        match named {
            Named::Function => whole &= walk.out.string(string_at(l, -1)),
            _ => walk.out.nil(),
        }
        whole &= walk.out.close_ext(mark);
        if !whole {
            return Err(walk.refused(|| err!(Limit, "a name is too long to travel")));
        }
        ffi::lua_settop(l, -1 - names);
        Ok(())
    }
}

/// Writes the function in slot `i`.
pub(super) unsafe fn encode(walk: &mut EncodeWalk<'_>, l: *mut ffi::lua_State, i: c_int) -> Go {
    // SAFETY: as the module says.
    unsafe {
        let builtin = is_builtin(l, i);
        if builtin && ffi::lua_checkstack(l, 8) == 0 {
            return Err(walk.fail(crate::bind::vm::no_room(8)));
        }
        if !walk.route.functions {
            let about = if builtin { builtin_name(l, i) } else { describe(l, i) };
            return Err(walk.fail(err!(
                Unsupported,
                "{about} cannot travel here: a function is code, by name as well as in bytecode, so both ends must ask \
                 for it (functions = true, or IPC_FUNCTIONS=1)"
            )));
        }
        if builtin {
            return match push_standard(l, i) {
                Named::Not => {
                    let name = builtin_name(l, i);
                    Err(walk.fail(err!(
                        Unsupported,
                        "{name} cannot travel: only functions written in Lua and those of the standard libraries do"
                    )))
                }
                named => write_name(walk, l, named),
            };
        }
        if walk.seen(l, i)? {
            return Ok(());
        }
        #[cfg(any(feature = "luajit", feature = "lua51"))]
        {
            ffi::lua_getfenv(l, i);
            let global = is_global(walk, l, ffi::lua_gettop(l));
            ffi::lua_settop(l, -2);
            if !global {
                return Err(leaves_sandbox(walk, l, i));
            }
        }
        walk.enter(l)?;
        walk.out.flag(ext::HAS_CODE);
        let function = walk.out.open_ext(ext::FUNCTION);
        walk.out.integer(VM);
        ffi::lua_pushvalue(l, i);
        walk.code.clear();
        let code: *mut Vec<u8> = &mut walk.code;
        let dumped = ffi::lua_dump(l, dump_writer, code.cast(), 0);
        if dumped == ffi::LUA_ERRMEM {
            // LuaJIT catches this one itself; the writer says it too.
            ffi::lua_pushstring(l, c"not enough memory".as_ptr());
            ffi::lua_error(l);
        }
        ffi::lua_settop(l, -2);
        if dumped != 0 || !walk.out.binary(&walk.code) {
            let about = describe(l, i);
            return Err(walk.refused(|| err!(Unsupported, "{about} has no bytecode that could travel")));
        }
        upvalues(walk, l, i)?;
        if !walk.out.close_ext(function) {
            return Err(walk.refused(|| err!(Limit, "a function with more than 4 GiB of upvalues cannot travel")));
        }
        walk.leave();
        Ok(())
    }
}

/// Writes the upvalues of the function in slot `i` as an array.
unsafe fn upvalues(walk: &mut EncodeWalk<'_>, l: *mut ffi::lua_State, i: c_int) -> Go {
    // SAFETY: as the module says. Names of upvalues live as long as the function.
    unsafe {
        let list = walk.out.open_table();
        let mut n = 0;
        loop {
            let name = ffi::lua_getupvalue(l, i, n + 1);
            if name.is_null() {
                break;
            }
            n += 1;
            let slot = ffi::lua_gettop(l);
            let cell = match cell_of(l, i, n).map(|cell| walk.cells.number(cell)) {
                Some(Err(e)) => return Err(walk.fail(e.into())),
                Some(Ok(number)) => number,
                None => None,
            };
            if let Some(number) = cell {
                walk.out.numbered(ext::CELL, number);
            } else if has_global_environment(walk, l, name, slot) {
                ffi::lua_pushlstring(l, c"_G".as_ptr(), 2);
                write_name(walk, l, Named::Module)?;
            } else {
                match known_by_name(l, slot) {
                    Named::Not if is_environment(name) => return Err(leaves_sandbox(walk, l, i)),
                    Named::Not if walk.route.upvalues => {
                        if walk.value(l, slot).is_err() {
                            return Err(walk.under(|| text!(": upvalue {}", CStr::from_ptr(name).to_string_lossy())));
                        }
                    }
                    Named::Not => return Err(refuse(walk, l, i, name)),
                    named => write_name(walk, l, named)?,
                }
            }
            ffi::lua_settop(l, slot - 1);
        }
        walk.out.close_array(list, n as u32);
        Ok(())
    }
}

/// Whether an upvalue of this name is the function's environment.
fn is_environment(name: *const c_char) -> bool {
    // SAFETY: the name of an upvalue.
    !cfg!(any(feature = "luajit", feature = "lua51")) && unsafe { CStr::from_ptr(name) } == c"_ENV"
}

/// Whether upvalue `name` in slot `i` is the globals; in stripped code `_ENV` has no name.
unsafe fn has_global_environment(walk: &EncodeWalk<'_>, l: *mut ffi::lua_State, name: *const c_char, i: c_int) -> bool {
    // SAFETY: as the module says.
    unsafe {
        if cfg!(any(feature = "luajit", feature = "lua51")) || ffi::lua_type(l, i) != ffi::LUA_TTABLE {
            return false;
        }
        if is_environment(name) {
            return is_global(walk, l, i);
        }
        walk.push_globals(l);
        let globals = ffi::lua_rawequal(l, -1, i) != 0;
        ffi::lua_settop(l, -2);
        globals
    }
}

/// Whether the table in slot `i` is the globals, or stands for them: it has nothing of its own, nor ever will, since it
/// passes on what is written, and gives out the globals as `_G`. Test frameworks run their tests in such a table.
unsafe fn is_global(walk: &EncodeWalk<'_>, l: *mut ffi::lua_State, i: c_int) -> bool {
    // SAFETY: as the module says; the metatable may run code of the user's.
    unsafe {
        let top = ffi::lua_gettop(l);
        walk.push_globals(l);
        let mut global = ffi::lua_rawequal(l, i, top + 1) != 0;
        if !global && ffi::luaL_getmetafield(l, i, c"__newindex".as_ptr()) != ffi::LUA_TNIL {
            ffi::lua_pushnil(l);
            if ffi::lua_next(l, i) == 0 {
                ffi::lua_getfield(l, i, c"_G".as_ptr());
                global = ffi::lua_rawequal(l, -1, top + 1) != 0;
            }
        }
        ffi::lua_settop(l, top);
        global
    }
}

/// The error for a function that would find other globals at the receiver.
#[cold]
unsafe fn leaves_sandbox(walk: &mut EncodeWalk<'_>, l: *mut ffi::lua_State, i: c_int) -> super::Stop {
    // SAFETY: as the module says.
    let about = unsafe { describe(l, i) };
    walk.fail(err!(
        Unsupported,
        "{about} has an environment of its own (setfenv, _ENV) instead of the globals, and would leave it here: define \
         it outside, and pass what it needs as arguments"
    ))
}

/// Pushes the name of the module or standard function in slot `i`.
unsafe fn known_by_name(l: *mut ffi::lua_State, i: c_int) -> Named {
    // SAFETY: as the module says.
    unsafe {
        match ffi::lua_type(l, i) {
            ffi::LUA_TTABLE | ffi::LUA_TUSERDATA => push_module(l, i),
            ffi::LUA_TFUNCTION => match push_module(l, i) {
                Named::Not if is_builtin(l, i) => push_standard(l, i),
                found => found,
            },
            _ => Named::Not,
        }
    }
}

/// What identifies upvalue `n` of the function in slot `i`; `None` where Lua does not say (5.1).
unsafe fn cell_of(l: *mut ffi::lua_State, i: c_int, n: c_int) -> Option<usize> {
    #[cfg(feature = "lua51")]
    {
        let _ = (l, i, n);
        None
    }
    #[cfg(not(feature = "lua51"))]
    // SAFETY: the function has an upvalue n.
    unsafe {
        Some(super::upvalue_id(l, i, n) as usize)
    }
}

/// The error for a function with upvalues on a route that takes none.
#[cold]
unsafe fn refuse(walk: &mut EncodeWalk<'_>, l: *mut ffi::lua_State, i: c_int, first: *const c_char) -> super::Stop {
    // SAFETY: as the module says.
    unsafe {
        let mut about: ffi::lua_Debug = std::mem::zeroed();
        ffi::lua_pushvalue(l, i);
        ffi::lua_getinfo(l, c">u".as_ptr(), &mut about);
        let count = about.nups;
        let first = CStr::from_ptr(first).to_string_lossy().into_owned();
        let about = describe(l, i);
        let plural = if count == 1 { "" } else { "s" };
        walk.fail(err!(
            Unsupported,
            "{about} has {count} upvalue{plural}, the first to carry is '{first}', and functions cross without them: \
             {}",
            advice(walk.place())
        ))
    }
}

/// How what a function refers to gets across by the call at `place`.
fn advice(place: &str) -> &'static str {
    let class = place.split([':', '.']).next().unwrap_or_default();
    match (class, place) {
        ("workqueue" | "channel", _) => "pass it as an argument, or writeup in the place of write",
        ("pool" | "batch", _) | (_, "ipc.pool") => "pass it as an argument, or ipc.pool(n, { upvalues = true })",
        (_, "ipc.map" | "ipc.map_extended") => "pass it as an argument, or ipc.map{ upvalues = true, ... }",
        (_, RESULTS_OF_MAP) => "return it beside the function, or ipc.map{ upvalues = true, ... }",
        (_, RESULTS_OF_POOL) => "return it beside the function, or ipc.pool(n, { upvalues = true })",
        (_, "ipc.marshal") => "pass it as an argument, or ipc.marshal(x, true), which is what writeup is to a queue",
        _ => "pass it as an argument",
    }
}

/// Where results of a map's threads are encoded.
pub const RESULTS_OF_MAP: &str = "results of ipc.map";
/// Where results of a pool's tasks are.
pub const RESULTS_OF_POOL: &str = "results of ipc.pool";

/// The function in slot `i` by where it was written: `function at file.lua:12`.
unsafe fn describe(l: *mut ffi::lua_State, i: c_int) -> String {
    // SAFETY: as the module says.
    unsafe {
        let mut about: ffi::lua_Debug = std::mem::zeroed();
        ffi::lua_pushvalue(l, i);
        ffi::lua_getinfo(l, c">S".as_ptr(), &mut about);
        let source = CStr::from_ptr(about.short_src.as_ptr()).to_string_lossy();
        text!("function at {source}:{}", about.linedefined)
    }
}

/// The C function in slot `i` by the name a loaded module has it under.
unsafe fn builtin_name(l: *mut ffi::lua_State, i: c_int) -> String {
    // SAFETY: as the module says.
    unsafe {
        let top = ffi::lua_gettop(l);
        push_loaded(l);
        ffi::lua_pushnil(l);
        while ffi::lua_next(l, top + 1) != 0 {
            if ffi::lua_type(l, -1) == ffi::LUA_TTABLE && ffi::lua_type(l, -2) == ffi::LUA_TSTRING && push_key_of(l, i)
            {
                let name = text!("{}.{}", Name(string_at(l, -3)), Name(string_at(l, -1)));
                ffi::lua_settop(l, top);
                return text!("C function {name}");
            }
            ffi::lua_settop(l, top + 2);
        }
        ffi::lua_settop(l, top);
        "a C function".into()
    }
}

/// A writer for `lua_dump`: appends to a `Vec<u8>`.
unsafe extern "C-unwind" fn dump_writer(_: *mut ffi::lua_State, p: *const c_void, n: usize, out: *mut c_void) -> c_int {
    // Lua 5.5 ends with a call that hands over nothing: no bytes at a null pointer.
    if n == 0 {
        return 0;
    }
    // SAFETY: lua_dump hands over n bytes at p; `out` is the Vec in the walk's frame.
    unsafe {
        let out = &mut *(out as *mut Vec<u8>);
        // Lua hands over a few bytes at a time.
        if out.capacity() - out.len() < n && out.try_reserve(n.max(512)).is_err() {
            return ffi::LUA_ERRMEM;
        }
        out.extend_from_slice(std::slice::from_raw_parts(p as *const u8, n));
        0
    }
}
