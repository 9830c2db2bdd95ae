//! Which Lua is loading this library: another than the one it was built for gets an error that names both.
//!
//! 5.1 and LuaJIT load each other's modules silently. Between the others the dynamic linker would stop `require` at
//! the first function that the running Lua lacks, naming only that; so all functions that not every Lua has are weak
//! references: the library loads anyway, and [`check`] speaks before any of them is called. (Weak by assembly, as
//! Rust has no stable word for it, which needs the one object file of a release build; in other builds the linker's
//! words have to do.)

use std::ffi::{CStr, c_int};

use mlua_sys as ffi;

/// The Lua that this library was built for.
pub const BUILT_FOR: &CStr = if cfg!(feature = "luajit") {
    c"LuaJIT"
} else if cfg!(feature = "lua51") {
    c"Lua 5.1"
} else if cfg!(feature = "lua52") {
    c"Lua 5.2"
} else if cfg!(feature = "lua53") {
    c"Lua 5.3"
} else if cfg!(feature = "lua54") {
    c"Lua 5.4"
} else {
    c"Lua 5.5"
};

/// A function that this Lua has and those above it in the list lack, or that newer ones dropped.
const SIGNS: &[(&CStr, &CStr)] = &[
    (c"luaJIT_setmode", c"LuaJIT"),
    (c"luaL_openselectedlibs", c"Lua 5.5"),
    (c"lua_newuserdatauv", c"Lua 5.4"),
    (c"lua_rotate", c"Lua 5.3"),
    (c"lua_callk", c"Lua 5.2"),
    (c"lua_error", c"Lua 5.1"),
];

/// The Lua that is running; None where it hides its functions from us.
fn running() -> Option<&'static CStr> {
    // SAFETY: the names end in a NUL; looking up a symbol has no effect.
    let has = |name: &CStr| unsafe { !libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()).is_null() };
    SIGNS.iter().find(|(sign, _)| has(sign)).map(|(_, name)| *name)
}

/// Raises if the running Lua is not the one that this library was built for.
///
/// # Safety
/// Called by Lua with its own state; no value of the callers' frames needs dropping.
pub(in crate::bind) unsafe fn check(l: *mut ffi::lua_State) -> c_int {
    match running() {
        Some(name) if name != BUILT_FOR => {
            let text = c"libipc [state] require 'libipc': this library was built for %s, and %s is loading it: \
                         install it for this one (make install LUA=...) or mend package.cpath";
            // SAFETY: every Lua has these two functions; the strings end in a NUL, and the caller allows raising.
            unsafe {
                ffi::lua_pushfstring(l, text.as_ptr(), BUILT_FOR.as_ptr(), name.as_ptr());
                ffi::lua_error(l)
            }
        }
        _ => 0,
    }
}

/// Declares functions as weak references.
macro_rules! weak {
    ($($name:literal)*) => {
        #[cfg(target_os = "linux")]
        std::arch::global_asm!($(concat!(".weak ", $name)),*);
    };
}

// The functions of the C API, 5.1 to 5.5 and LuaJIT, that not all of them have. One that is missing here costs only the
// words of the error.
weak! {
    "luaJIT_profile_dumpstack" "luaJIT_profile_start" "luaJIT_profile_stop" "luaJIT_setmode" "luaL_addgsub"
    "luaL_alloc" "luaL_buffinitsize" "luaL_checkversion_" "luaL_execresult" "luaL_fileresult" "luaL_getsubtable"
    "luaL_len" "luaL_loadbuffer" "luaL_loadbufferx" "luaL_loadfile" "luaL_loadfilex" "luaL_makeseed_" "luaL_openlib"
    "luaL_openlibs" "luaL_openselectedlibs" "luaL_prepbuffer" "luaL_prepbuffsize" "luaL_pushmodule"
    "luaL_pushresultsize" "luaL_register" "luaL_requiref" "luaL_setfuncs" "luaL_setmetatable" "luaL_testudata"
    "luaL_tolstring" "luaL_traceback" "luaL_typeerror" "luaL_typerror" "lua_absindex" "lua_arith" "lua_call"
    "lua_callk" "lua_closeslot" "lua_closethread" "lua_compare" "lua_copy" "lua_cpcall" "lua_equal" "lua_getctx"
    "lua_getfenv" "lua_getglobal" "lua_geti" "lua_getiuservalue" "lua_getuservalue" "lua_insert" "lua_isinteger"
    "lua_isyieldable" "lua_len" "lua_lessthan" "lua_loadx" "lua_newuserdata" "lua_newuserdatauv" "lua_numbertocstring"
    "lua_objlen" "lua_pcall" "lua_pcallk" "lua_pushexternalstring" "lua_rawgetp" "lua_rawlen" "lua_rawsetp"
    "lua_remove" "lua_replace" "lua_resetthread" "lua_rotate" "lua_setcstacklimit" "lua_setfenv" "lua_setglobal"
    "lua_seti" "lua_setiuservalue" "lua_setuservalue" "lua_setwarnf" "lua_stringtonumber" "lua_toclose"
    "lua_tointeger" "lua_tointegerx" "lua_tonumber" "lua_tonumberx" "lua_upvalueid" "lua_upvaluejoin" "lua_version"
    "lua_warning" "lua_yield" "lua_yieldk" "luaopen_jit"
}
