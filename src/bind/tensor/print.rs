//! `tostring(t)` and `print(t)`: as Torch writes them.
//!
//! Stands on: class.

use crate::bind::vm::{Lua, Method, Pushed};
use crate::error::Result;
use crate::lua_fn;
use crate::tensor::{format_storage, format_tensor};

pub(super) const METAMETHODS: &[Method] = &[("__tostring", lua_fn!("tostring", tensor))];
pub(super) const STORAGE_METAMETHODS: &[Method] = &[("__tostring", lua_fn!("tostring", storage))];

fn tensor(lua: Lua<'_>) -> Result<Pushed> {
    let tensor = lua.tensor(1)?;
    lua.push_string(&format_tensor(&tensor)?)?;
    Ok(1)
}

fn storage(lua: Lua<'_>) -> Result<Pushed> {
    let storage = lua.storage(1)?;
    lua.push_string(&format_storage(&storage)?)?;
    Ok(1)
}
