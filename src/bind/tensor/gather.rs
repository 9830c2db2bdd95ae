//! Elements picked by masks and by LongTensors of indices.
//!
//! Stands on: args, class.

use std::ffi::c_int;

use super::args::{Target, result};
use super::class::tensor_at;
use crate::bind::vm::{Kind, Lua, Pushed};
use crate::error::Result;
use crate::tensor::Tensor;

super::bound! { METHODS, FUNCTIONS:
    "index" => index,
    "indexCopy" => index_copy,
    "indexFill" => index_fill,
    "gather" => gather,
    "scatter" => scatter,
    "maskedSelect" => masked_select,
    "maskedFill" => masked_fill,
    "maskedCopy" => masked_copy,
    "nonzero" => nonzero,
}

/// Pushes `value`, or the target made to hold it. Nobody may look at an argument meanwhile: it may be the target.
fn give(lua: Lua<'_>, target: Target, value: Tensor) -> Result<Pushed> {
    match target {
        Target::New => lua.give(value),
        Target::Slot(_) => {
            result(lua, target, value.dtype(), value.sizes())?.copy_from(&value)?;
            Ok(1)
        }
    }
}

/// The tensor of slot 1 is the result.
fn itself(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_value(1);
    Ok(1)
}

/// The target and the source of `[res,] src, …`, and the slot after them.
fn source(lua: Lua<'_>, another: bool) -> Result<(Target, Tensor, c_int)> {
    if another { Ok((Target::Slot(1), lua.tensor(2)?, 3)) } else { Ok((Target::New, lua.tensor(1)?, 2)) }
}

/// `t:index(dim, indices)`, `res:index(src, dim, indices)`
fn index(lua: Lua<'_>) -> Result<Pushed> {
    let (target, src, i) = source(lua, lua.is_tensor(2))?;
    let dim = lua.dimension(i, src.ndim())?;
    let picked = src.index_select(dim, &lua.tensor(i + 1)?)?;
    give(lua, target, picked)
}

/// `t:indexCopy(dim, indices, src)`
fn index_copy(lua: Lua<'_>) -> Result<Pushed> {
    let tensor = lua.tensor(1)?;
    let dim = lua.dimension(2, tensor.ndim())?;
    tensor.index_copy(dim, &*lua.tensor_ref(3)?, &*lua.tensor_ref(4)?)?;
    itself(lua)
}

/// `t:indexFill(dim, indices, value)`
fn index_fill(lua: Lua<'_>) -> Result<Pushed> {
    let tensor = lua.tensor(1)?;
    let dim = lua.dimension(2, tensor.ndim())?;
    let value = lua.scalar(4)?;
    tensor.index_fill(dim, &*lua.tensor_ref(3)?, value)?;
    itself(lua)
}

/// `t:gather(dim, indices)`, `res:gather(src, dim, indices)`
fn gather(lua: Lua<'_>) -> Result<Pushed> {
    let (target, src, i) = source(lua, lua.is_tensor(2))?;
    let dim = lua.dimension(i, src.ndim())?;
    let gathered = src.gather(dim, &lua.tensor(i + 1)?)?;
    give(lua, target, gathered)
}

/// `t:scatter(dim, indices, src | value)`
fn scatter(lua: Lua<'_>) -> Result<Pushed> {
    let tensor = lua.tensor(1)?;
    let dim = lua.dimension(2, tensor.ndim())?;
    let indices = lua.tensor(3)?;
    match tensor_at(lua, 4) {
        Some(src) => tensor.scatter(dim, &indices, &src)?,
        None => tensor.scatter_fill(dim, &indices, lua.scalar(4)?)?,
    }
    itself(lua)
}

/// `t:maskedSelect(mask)`, `res:maskedSelect(src, mask)`
fn masked_select(lua: Lua<'_>) -> Result<Pushed> {
    let (target, src, i) = source(lua, lua.kind(3) == Kind::Userdata)?;
    let selected = src.masked_select(&lua.tensor(i)?)?;
    give(lua, target, selected)
}

/// `t:maskedFill(mask, value)`
fn masked_fill(lua: Lua<'_>) -> Result<Pushed> {
    let tensor = lua.tensor(1)?;
    let value = lua.scalar(3)?;
    tensor.masked_fill(&*lua.tensor_ref(2)?, value)?;
    itself(lua)
}

/// `t:maskedCopy(mask, src)`
fn masked_copy(lua: Lua<'_>) -> Result<Pushed> {
    let tensor = lua.tensor(1)?;
    tensor.masked_copy(&*lua.tensor_ref(2)?, &*lua.tensor_ref(3)?)?;
    itself(lua)
}

/// `t:nonzero()`, `t.nonzero(res, t)`: a LongTensor with a row of positions for each element that is not 0.
fn nonzero(lua: Lua<'_>) -> Result<Pushed> {
    let (target, src, _) = source(lua, lua.is_tensor(2))?;
    let found = src.nonzero()?;
    give(lua, target, found)
}
