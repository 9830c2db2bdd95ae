//! Tables of the module that are called to make something: `ipc.channel`, `ipc.sharedtable`.

use mlua_sys as ffi;

use crate::bind::vm::lua::Lua;
use crate::error::Result;

/// Adds the table on top to the module's, below it, as field `name`, and lets `make` be called by calling it. It is a
/// loaded module too, so that it and its functions may be upvalues of functions that travel.
pub(in crate::bind) fn add_maker(lua: Lua<'_>, name: &str, make: ffi::lua_CFunction) -> Result<()> {
    lua.new_table(0, 1)?;
    lua.push_function(make)?;
    lua.raw_set_field(-2, "__call")?;
    lua.set_metatable(-2);
    lua.push_value(-1);
    lua.push_string(&format!("libipc.{name}"))?;
    // SAFETY: in protect everything may be called; slot 1 is the table, 2 its name. "_LOADED" is package.loaded on
    // every Lua there is.
    lua.protect(2, 0, |l| unsafe {
        ffi::lua_getfield(l, ffi::LUA_REGISTRYINDEX, c"_LOADED".as_ptr());
        if ffi::lua_type(l, -1) == ffi::LUA_TTABLE {
            ffi::lua_pushvalue(l, 2);
            ffi::lua_pushvalue(l, 1);
            ffi::lua_settable(l, -3);
        }
        0
    })?;
    lua.raw_set_field(-2, name)
}
