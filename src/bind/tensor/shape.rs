//! What a tensor looks like, and other views of it.
//!
//! Stands on: args, class, construct.

use std::ffi::c_int;

use super::args::{Numbers, Target, result};
use super::class::{push, push_storage, tensor_at};
use super::construct;
use crate::bind::vm::{Kind, Lua, Pushed};
use crate::err;
use crate::error::Result;
use crate::tensor::{Tensor, describe};

super::bound! { METHODS, FUNCTIONS:
    "size" => size,
    "stride" => stride,
    "dim" => dim,
    "nDimension" => dim,
    "nElement" => numel,
    "numel" => numel,
    "isContiguous" => is_contiguous,
    "isSameSizeAs" => is_same_size,
    "isSize" => is_size,
    "isSetTo" => is_set_to,
    "storage" => storage,
    "storageOffset" => storage_offset,
    "elementSize" => element_size,
    "set" => set,
    "narrow" => narrow,
    "select" => select,
    "sub" => sub,
    "transpose" => transpose,
    "t" => t,
    "view" => view,
    "viewAs" => view_as,
    "reshape" => reshape,
    "resize" => resize,
    "resizeAs" => resize_as,
    "expand" => expand,
    "expandAs" => expand_as,
    "squeeze" => squeeze,
    "unsqueeze" => unsqueeze,
    "unfold" => unfold,
    "repeatTensor" => repeat,
    "permute" => permute,
    "split" => split,
    "chunk" => chunk,
    "contiguous" => contiguous,
}

/// `t:size([dim])`, `#t`: a LongStorage, or the size of one dimension.
pub(super) fn size(lua: Lua<'_>) -> Result<Pushed> {
    let tensor = lua.tensor_ref(1)?;
    // `#t` passes the tensor twice, or nil.
    if lua.place() == "#" {
        return construct::give_numbers(lua, tensor.sizes().iter().map(|&n| n as i64));
    }
    match lua.optional_dimension(2, tensor.ndim())? {
        Some(d) => {
            lua.push_integer(tensor.sizes()[d] as i64);
            Ok(1)
        }
        None => construct::give_numbers(lua, tensor.sizes().iter().map(|&n| n as i64)),
    }
}

fn stride(lua: Lua<'_>) -> Result<Pushed> {
    let tensor = lua.tensor_ref(1)?;
    match lua.optional_dimension(2, tensor.ndim())? {
        Some(d) => {
            lua.push_integer(tensor.strides()[d] as i64);
            Ok(1)
        }
        None => construct::give_numbers(lua, tensor.strides().iter().map(|&n| n as i64)),
    }
}

fn dim(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_integer(lua.tensor_ref(1)?.ndim() as i64);
    Ok(1)
}

fn numel(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_integer(lua.tensor_ref(1)?.numel() as i64);
    Ok(1)
}

fn element_size(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_integer(lua.tensor_ref(1)?.dtype().size() as i64);
    Ok(1)
}

fn is_contiguous(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_boolean(lua.tensor_ref(1)?.is_contiguous());
    Ok(1)
}

fn is_same_size(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_boolean(lua.tensor(1)?.same_size(&*lua.tensor_ref(2)?));
    Ok(1)
}

fn is_size(lua: Lua<'_>) -> Result<Pushed> {
    let same = lua.tensor(1)?.sizes().iter().map(|&n| n as i64).eq(lua.numbers(2)?);
    lua.push_boolean(same);
    Ok(1)
}

fn is_set_to(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_boolean(lua.tensor(1)?.is_set_to(&*lua.tensor_ref(2)?));
    Ok(1)
}

/// `t:storage()`; a tensor that never had elements gets an empty one.
fn storage(lua: Lua<'_>) -> Result<Pushed> {
    let storage = lua.tensor_mut(1)?.storage_or_new()?.clone();
    push_storage(lua, storage)?;
    Ok(1)
}

fn storage_offset(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_integer(lua.tensor_ref(1)?.offset() as i64 + 1);
    Ok(1)
}

/// `t:set(…)`: `t` views what the constructor of these arguments would.
fn set(lua: Lua<'_>) -> Result<Pushed> {
    let dtype = lua.tensor_ref(1)?.dtype();
    let other = construct::view(lua, 2, dtype)?;
    *lua.tensor_mut(1)? = other;
    lua.recharge::<Tensor>(1);
    itself(lua)
}

/// The tensor of slot 1 is the result.
fn itself(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_value(1);
    Ok(1)
}

/// `t:narrow(dim, from, count)`
fn narrow(lua: Lua<'_>) -> Result<Pushed> {
    let tensor = lua.tensor(1)?;
    let dim = lua.dimension(2, tensor.ndim())?;
    let from = lua.position(3, &tensor, dim)?;
    let len = lua.count(4)?;
    lua.give(tensor.narrow(dim, from, len)?)
}

/// `t:select(dim, at)`; the elements of a tensor of one dimension are numbers, `t:narrow(1, at, 1)` is a tensor.
fn select(lua: Lua<'_>) -> Result<Pushed> {
    let tensor = lua.tensor(1)?;
    let dim = lua.dimension(2, tensor.ndim())?;
    let at = lua.position(3, &tensor, dim)?;
    if tensor.ndim() == 1 {
        lua.push_scalar(tensor.get(&[at])?);
        return Ok(1);
    }
    lua.give(tensor.select(dim, at)?)
}

/// `t:sub(from1, to1, [from2, to2, …])`
fn sub(lua: Lua<'_>) -> Result<Pushed> {
    let tensor = lua.tensor(1)?;
    let numbers = (2..=lua.top()).map(|i| lua.integer(i)).collect::<Result<Vec<_>>>()?;
    if numbers.is_empty() || numbers.len() % 2 != 0 {
        return Err(err!(Argument, "expected pairs of numbers, a range for each dimension, got {}", numbers.len()));
    }
    let ranges: Vec<(i64, i64)> = numbers.chunks_exact(2).map(|p| (p[0], p[1])).collect();
    lua.give(tensor.sub(&ranges)?)
}

fn transpose(lua: Lua<'_>) -> Result<Pushed> {
    let tensor = lua.tensor(1)?;
    let (a, b) = (lua.dimension(2, tensor.ndim())?, lua.dimension(3, tensor.ndim())?);
    lua.give(tensor.transpose(a, b)?)
}

fn t(lua: Lua<'_>) -> Result<Pushed> {
    lua.give(lua.tensor(1)?.t()?)
}

/// `t:permute(3, 1, 2)`: dimension i of the result is the one named in place i.
fn permute(lua: Lua<'_>) -> Result<Pushed> {
    let tensor = lua.tensor(1)?;
    let numbers = lua.numbers(2)?;
    let order = numbers.iter().map(|&n| crate::tensor::dimension(n, tensor.ndim())).collect::<Result<Vec<_>>>()?;
    let mut left: Vec<usize> = (0..tensor.ndim()).collect();
    if order.len() != left.len() {
        return Err(err!(Argument, "expected {} dimensions, got {}", left.len(), order.len()));
    }
    let mut out = tensor;
    for (place, dim) in order.into_iter().enumerate() {
        let at = left.iter().position(|&d| d == dim);
        let at = at.filter(|&at| at >= place);
        let at = at.ok_or_else(|| err!(Argument, "dimension {} is named more than once", dim + 1))?;
        left.swap(place, at);
        out = out.transpose(place, at)?;
    }
    lua.give(out)
}

/// Views that Torch can also put into a tensor given first: `t:view([res,] src, …)`. Gives the source, where the sizes
/// begin, and the result's slot.
fn into(lua: Lua<'_>) -> Result<(Tensor, c_int, Option<c_int>)> {
    match tensor_at(lua, 2) {
        Some(src) => Ok((src, 3, Some(1))),
        None => Ok((lua.tensor(1)?, 2, None)),
    }
}

/// Puts a view into the tensor of the slot, or pushes it.
fn give_into(lua: Lua<'_>, view: Tensor, slot: Option<c_int>) -> Result<Pushed> {
    match slot {
        Some(i) => {
            lua.tensor_mut(i)?.set(&view)?;
            lua.recharge::<Tensor>(i);
            lua.push_value(i);
            Ok(1)
        }
        None => lua.give(view),
    }
}

/// Pushes a copy, or the tensor of the slot made to hold it: other views of that tensor's storage see the new elements.
fn give_copy(lua: Lua<'_>, copy: Tensor, slot: Option<c_int>) -> Result<Pushed> {
    match slot {
        Some(i) => {
            result(lua, Target::Slot(i), copy.dtype(), copy.sizes())?.copy_from(&copy)?;
            Ok(1)
        }
        None => lua.give(copy),
    }
}

/// `t:view([src,] sizes…)`; one size may be −1.
fn view(lua: Lua<'_>) -> Result<Pushed> {
    let (src, i, slot) = into(lua)?;
    give_into(lua, src.view(&lua.numbers(i)?)?, slot)
}

/// `t:viewAs([src,] template)`
fn view_as(lua: Lua<'_>) -> Result<Pushed> {
    let (src, template, slot) = if lua.is_tensor(3) { (lua.tensor(2)?, 3, Some(1)) } else { (lua.tensor(1)?, 2, None) };
    let sizes: Numbers = lua.tensor_ref(template)?.sizes().iter().map(|&n| n as i64).collect();
    give_into(lua, src.view(&sizes)?, slot)
}

/// `t:reshape([src,] sizes…)`: a copy.
fn reshape(lua: Lua<'_>) -> Result<Pushed> {
    let (src, i, slot) = into(lua)?;
    let copy = src.reshape(&lua.numbers(i)?)?;
    give_copy(lua, copy, slot)
}

fn resize(lua: Lua<'_>) -> Result<Pushed> {
    let (sizes, strides) = construct::shape(lua, 2)?;
    let mut tensor = lua.tensor_mut(1)?;
    match strides {
        None => tensor.resize(&sizes)?,
        Some(strides) => tensor.resize_strided(&sizes, &strides)?,
    }
    drop(tensor);
    lua.recharge::<Tensor>(1);
    itself(lua)
}

fn resize_as(lua: Lua<'_>) -> Result<Pushed> {
    let other = lua.tensor(2)?;
    lua.tensor_mut(1)?.resize_as(&other)?;
    lua.recharge::<Tensor>(1);
    itself(lua)
}

/// `t:expand([src,] sizes…)`; −1 keeps a size.
fn expand(lua: Lua<'_>) -> Result<Pushed> {
    let (src, i, slot) = into(lua)?;
    let numbers = lua.numbers(i)?;
    let front = numbers.len().saturating_sub(src.ndim());
    let sizes = numbers.iter().enumerate().map(|(d, &n)| {
        let own = d.checked_sub(front).and_then(|d| src.sizes().get(d));
        match (n, own) {
            (-1, Some(&own)) => Ok(own),
            _ => super::args::size(lua, i, n),
        }
    });
    let sizes = sizes.collect::<Result<Vec<_>>>()?;
    give_into(lua, src.expand(&sizes)?, slot)
}

fn expand_as(lua: Lua<'_>) -> Result<Pushed> {
    let (src, template, slot) = if lua.is_tensor(3) { (lua.tensor(2)?, 3, Some(1)) } else { (lua.tensor(1)?, 2, None) };
    let template = lua.tensor(template)?;
    give_into(lua, src.expand_as(&template)?, slot)
}

/// `t:squeeze([src,] [dim])`: what is a single element is given as a number; with `dim` only if the source has no other
/// dimension.
fn squeeze(lua: Lua<'_>) -> Result<Pushed> {
    let (src, i, slot) = into(lua)?;
    let (view, number) = match lua.optional_dimension(i, src.ndim())? {
        Some(d) => (src.squeeze_dim(d)?, src.sizes() == [1]),
        None => (src.squeeze(), src.numel() == 1),
    };
    if !number {
        return give_into(lua, view, slot);
    }
    let value = view.get(&[0])?;
    if let Some(i) = slot {
        lua.tensor_mut(i)?.set(&view)?;
        lua.recharge::<Tensor>(i);
    }
    lua.push_scalar(value);
    Ok(1)
}

fn unsqueeze(lua: Lua<'_>) -> Result<Pushed> {
    let tensor = lua.tensor(1)?;
    let dim = lua.dimension(2, tensor.ndim() + 1)?;
    lua.give(tensor.unsqueeze(dim)?)
}

/// `t:unfold(dim, size, step)`
fn unfold(lua: Lua<'_>) -> Result<Pushed> {
    let tensor = lua.tensor(1)?;
    let dim = lua.dimension(2, tensor.ndim())?;
    lua.give(tensor.unfold(dim, lua.count(3)?, lua.count(4)?)?)
}

/// `t:repeatTensor([src,] counts…)`: a copy, tiled.
fn repeat(lua: Lua<'_>) -> Result<Pushed> {
    let (src, i, slot) = into(lua)?;
    let counts = lua.sizes(i)?;
    if counts.len() < src.ndim() || src.ndim() == 0 {
        return Err(err!(
            Argument,
            "expected at least as many counts as dimensions, got {} for a tensor of size {}",
            counts.len(),
            describe(src.sizes())
        ));
    }
    let front = counts.len() - src.ndim();
    let mut own = vec![1; front];
    own.extend_from_slice(src.sizes());
    let sizes: Vec<usize> = own.iter().zip(&counts).map(|(&n, &c)| n.saturating_mul(c)).collect();
    let out = Tensor::with_sizes(src.dtype(), &sizes)?;
    if out.numel() > 0 {
        // Each dimension of the result as two: which copy, and the position in it.
        let split: Vec<i64> = counts.iter().zip(&own).flat_map(|(&c, &n)| [c as i64, n as i64]).collect();
        let wide: Vec<usize> = split.iter().map(|&n| n as usize).collect();
        let tile: Vec<i64> = own.iter().flat_map(|&n| [1, n as i64]).collect();
        out.view(&split)?.copy_from(&src.contiguous()?.view(&tile)?.expand(&wide)?)?;
    }
    give_copy(lua, out, slot)
}

/// Pushes a table of the parts of dimension `dim`, `size` elements each, the last one what is left: a new one, or the
/// one in slot `given`, emptied.
fn parts(lua: Lua<'_>, given: Option<c_int>, tensor: &Tensor, size: usize, dim: usize) -> Result<Pushed> {
    let total = tensor.sizes()[dim];
    match given {
        None => lua.new_table(total.div_ceil(size).min(1 << 20) as c_int, 0)?,
        Some(i) => {
            lua.push_nil();
            while lua.next(i)? {
                // To set a field that is there to nil is allowed meanwhile.
                lua.pop(1);
                lua.push_value(-1);
                lua.push_nil();
                lua.raw_set(i)?;
            }
            lua.push_value(i);
        }
    }
    for (n, from) in (0..total).step_by(size).enumerate() {
        push(lua, tensor.narrow(dim, from, size.min(total - from))?)?;
        lua.raw_set_index(-2, n as i64 + 1)?;
    }
    Ok(1)
}

/// The table of `[result,] tensor, count, [dim]`, the tensor, the count and the dimension, the first by default. A
/// method's table stands behind its tensor.
fn divided(lua: Lua<'_>) -> Result<(Option<c_int>, Tensor, usize, usize)> {
    let (given, at, i) = match (lua.kind(1), lua.kind(2)) {
        (Kind::Table, _) => (Some(1), 2, 3),
        (_, Kind::Table) => (Some(2), 1, 3),
        _ => (None, 1, 2),
    };
    let tensor = lua.tensor(at)?;
    let count = lua.count(i)?.max(1);
    let dim = lua.optional_dimension(i + 1, tensor.ndim())?.unwrap_or(0);
    tensor.layout().check_dim(dim)?;
    Ok((given, tensor, count, dim))
}

/// `t:split(size, [dim])`, `torch.split([result,] t, size, [dim])`
fn split(lua: Lua<'_>) -> Result<Pushed> {
    let (given, tensor, size, dim) = divided(lua)?;
    parts(lua, given, &tensor, size, dim)
}

/// `t:chunk(count, [dim])`, `torch.chunk([result,] t, count, [dim])`
fn chunk(lua: Lua<'_>) -> Result<Pushed> {
    let (given, tensor, count, dim) = divided(lua)?;
    parts(lua, given, &tensor, tensor.sizes()[dim].div_ceil(count), dim)
}

/// `t:contiguous()`: the tensor itself if it is.
fn contiguous(lua: Lua<'_>) -> Result<Pushed> {
    let tensor = lua.tensor(1)?;
    if tensor.is_contiguous() { itself(lua) } else { lua.give(tensor.clone_data()?) }
}
