//! Storages: `torch.FloatStorage` and its kin. Their class and constructors are the tensors' (`class`, `construct`).

use std::ffi::c_int;

use super::{pointer, push_storage, storage_as, storage_at};
use crate::bind::vm::{Lua, Method, Pushed};
use crate::dtypes;
use crate::err;
use crate::error::Result;
use crate::lua_fn;
use crate::tensor::{DType, Storage, Tensor};

macro_rules! methods {
    ($list:ident: $($name:literal => $body:path,)*) => {
        /// What a storage can do.
        pub const $list: &[Method] = &[$(($name, lua_fn!(concat!("storage:", $name), $body)),)*];
    };
}

methods! { METHODS:
    "size" => size,
    "elementSize" => element_size,
    "resize" => resize,
    "fill" => fill,
    "copy" => copy,
    "clone" => clone,
    "totable" => to_table,
    "string" => string,
    "data" => data,
    "type" => type_of,
    "new" => new,
}

macro_rules! conversions {
    ($($(#[$doc:meta])* $name:ident $lower:literal = $code:literal, $rust:ty, $c:literal => $compute:ident;)*) => {
        methods! { CONVERSIONS: $($lower => to::<$code>,)* }
    };
}
dtypes!([conversions]);

/// What the metatable itself has.
pub const METAMETHODS: &[Method] = &[("__len", lua_fn!("#", length))];

/// The storage of slot 1 is the result.
fn itself(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_value(1);
    Ok(1)
}

fn length(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_integer(lua.storage(1)?.len() as i64);
    Ok(1)
}

/// `s:size()`
fn size(lua: Lua<'_>) -> Result<Pushed> {
    length(lua)
}

fn element_size(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_integer(lua.storage(1)?.dtype().size() as i64);
    Ok(1)
}

fn resize(lua: Lua<'_>) -> Result<Pushed> {
    lua.storage(1)?.resize(lua.count(2)?)?;
    lua.recharge::<Storage>(1);
    itself(lua)
}

fn fill(lua: Lua<'_>) -> Result<Pushed> {
    Tensor::of_storage(&lua.storage(1)?)?.fill(lua.scalar(2)?)?;
    itself(lua)
}

/// `s:copy(other)`: a storage of any type, as long.
fn copy(lua: Lua<'_>) -> Result<Pushed> {
    let other = storage_at(lua, 2).ok_or_else(|| lua.expected(2, "torch.Storage"))?;
    Tensor::of_storage(&lua.storage(1)?)?.copy_from(&Tensor::of_storage(&other)?)?;
    itself(lua)
}

fn clone(lua: Lua<'_>) -> Result<Pushed> {
    let storage = lua.storage(1)?;
    storage_as(lua, &storage, storage.dtype())
}

fn to_table(lua: Lua<'_>) -> Result<Pushed> {
    let storage = lua.storage(1)?;
    lua.new_table(storage.len().min(1 << 26) as c_int, 0)?;
    for at in 0..storage.len() {
        lua.push_scalar(storage.get(at)?);
        lua.raw_set_index(-2, at as i64 + 1)?;
    }
    Ok(1)
}

/// `s:string([text])`: the bytes of a Byte or Char storage; with a text, makes it hold that text and returns it itself.
fn string(lua: Lua<'_>) -> Result<Pushed> {
    let storage = lua.storage(1)?;
    if storage.dtype().size() != 1 {
        return Err(err!(
            Argument,
            "expected a torch.ByteStorage or torch.CharStorage as self, got a {}",
            storage.dtype().storage_class()
        ));
    }
    if lua.is_nil(2) {
        // A copy: another thread may write these bytes while Lua makes its string of them.
        lua.push_bytes(&storage.span()?.copied()?)?;
        return Ok(1);
    }
    let text = lua.bytes(2)?;
    storage.resize(text.len())?;
    lua.recharge::<Storage>(1);
    let span = storage.span()?;
    if span.len() >= text.len() {
        span.write(0, text);
    }
    itself(lua)
}

/// `s:data([as number])`: an FFI pointer to the first element.
fn data(lua: Lua<'_>) -> Result<Pushed> {
    let storage = lua.storage(1)?;
    pointer(lua, &storage, 0, lua.truth(2))
}

/// `s:type([name])`: the type's name, or a copy of that type.
fn type_of(lua: Lua<'_>) -> Result<Pushed> {
    let storage = lua.storage(1)?;
    if lua.is_nil(2) {
        lua.push_string(storage.dtype().storage_class())?;
        return Ok(1);
    }
    convert(lua, lua.dtype(2)?)
}

fn convert(lua: Lua<'_>, dtype: DType) -> Result<Pushed> {
    let storage = lua.storage(1)?;
    if storage.dtype() == dtype { itself(lua) } else { storage_as(lua, &storage, dtype) }
}

fn to<const CODE: u8>(lua: Lua<'_>) -> Result<Pushed> {
    convert(lua, DType::from_code(CODE).ok_or_else(|| err!(State, "no element type has code {CODE}"))?)
}

/// `s:new(…)`: as the constructor of the storage's own type.
fn new(lua: Lua<'_>) -> Result<Pushed> {
    let dtype = lua.storage(1)?.dtype();
    push_storage(lua, crate::bind::tensor::new_storage(lua, 2, dtype)?)?;
    Ok(1)
}
