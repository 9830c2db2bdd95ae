//! Reductions: of all elements to a number, or along a dimension to a tensor; sorting; running sums.
//!
//! Stands on: args, class.

use std::ffi::c_int;

use super::args::{Target, result};
use super::class::push;
use crate::bind::vm::{Kind, Lua, Pushed};
use crate::err;
use crate::error::Result;
use crate::tensor::{DType, Scalar, Tensor};

super::bound! { METHODS, FUNCTIONS:
    "sum" => sum,
    "prod" => prod,
    "mean" => mean,
    "max" => max,
    "min" => min,
    "var" => var,
    "std" => std,
    "norm" => norm,
    "dist" => dist,
    "all" => all,
    "any" => any,
    "cumsum" => cumsum,
    "cumprod" => cumprod,
    "sort" => sort,
    "median" => median,
    "mode" => mode,
    "kthvalue" => kth_value,
    "topk" => top_k,
    "equal" => equal,
    "trace" => trace,
    "diag" => diag,
    "tril" => tril,
    "triu" => triu,
}

/// How many tensors the arguments begin with.
fn leading(lua: Lua<'_>) -> c_int {
    (1..=lua.top()).take_while(|&i| lua.is_tensor(i)).count() as c_int
}

/// The source of `[res,] src, …`: where the result goes, the source, the slot after it. `self` of a method is the
/// source.
fn source(lua: Lua<'_>) -> Result<(Target, Tensor, c_int)> {
    match leading(lua) {
        2 => Ok((Target::Slot(1), lua.tensor(2)?, 3)),
        _ => Ok((Target::New, lua.tensor(1)?, 2)),
    }
}

/// Pushes `value`, or the target made to hold it.
fn give(lua: Lua<'_>, target: Target, value: Tensor) -> Result<()> {
    match target {
        Target::New => push(lua, value),
        Target::Slot(_) => result(lua, target, value.dtype(), value.sizes())?.copy_from(&value),
    }
}

/// `t:f()`: a number. `[res,] t, dim`: a tensor.
fn reduced(
    lua: Lua<'_>,
    whole: impl Fn(&Tensor) -> Result<Scalar>,
    along: impl Fn(&Tensor, usize) -> Result<Tensor>,
) -> Result<Pushed> {
    let (target, tensor, i) = source(lua)?;
    match lua.optional_dimension(i, tensor.ndim())? {
        Some(dim) => give(lua, target, along(&tensor, dim)?)?,
        None => lua.push_scalar(whole(&tensor)?),
    }
    Ok(1)
}

fn sum(lua: Lua<'_>) -> Result<Pushed> {
    reduced(lua, Tensor::sum, Tensor::sum_dim)
}

fn prod(lua: Lua<'_>) -> Result<Pushed> {
    reduced(lua, Tensor::prod, Tensor::prod_dim)
}

fn mean(lua: Lua<'_>) -> Result<Pushed> {
    reduced(lua, |t| t.mean().map(Scalar::Float), Tensor::mean_dim)
}

/// The pair of targets of `[values, indices,] src, …`, the source, and the slot after it.
fn pair(lua: Lua<'_>) -> Result<([Target; 2], Tensor, c_int)> {
    match leading(lua) {
        ..=1 => Ok(([Target::New; 2], lua.tensor(1)?, 2)),
        2 => Ok(([Target::Slot(1), Target::New], lua.tensor(2)?, 3)),
        _ => Ok(([Target::Slot(1), Target::Slot(2)], lua.tensor(3)?, 4)),
    }
}

/// Pushes values and indices.
fn give_pair(lua: Lua<'_>, targets: [Target; 2], (values, indices): (Tensor, Tensor)) -> Result<Pushed> {
    give(lua, targets[0], values)?;
    give(lua, targets[1], indices)?;
    Ok(2)
}

fn extreme(
    lua: Lua<'_>,
    whole: impl Fn(&Tensor) -> Result<Scalar>,
    along: impl Fn(&Tensor, usize) -> Result<(Tensor, Tensor)>,
) -> Result<Pushed> {
    let (targets, tensor, i) = pair(lua)?;
    match lua.optional_dimension(i, tensor.ndim())? {
        Some(dim) => give_pair(lua, targets, along(&tensor, dim)?),
        None => {
            lua.push_scalar(whole(&tensor)?);
            Ok(1)
        }
    }
}

fn max(lua: Lua<'_>) -> Result<Pushed> {
    extreme(lua, Tensor::max, Tensor::max_dim)
}

fn min(lua: Lua<'_>) -> Result<Pushed> {
    extreme(lua, Tensor::min, Tensor::min_dim)
}

/// `t:var([dim,] [biased])`: divided by n − 1, or by n when biased.
fn spread(
    lua: Lua<'_>,
    whole: impl Fn(&Tensor, bool) -> Result<f64>,
    along: impl Fn(&Tensor, usize, bool) -> Result<Tensor>,
) -> Result<Pushed> {
    let (target, tensor, i) = source(lua)?;
    if lua.kind(i) == Kind::Number {
        let dim = lua.dimension(i, tensor.ndim())?;
        give(lua, target, along(&tensor, dim, lua.truth(i + 1))?)?;
    } else {
        lua.push_number(whole(&tensor, lua.truth(i))?);
    }
    Ok(1)
}

fn var(lua: Lua<'_>) -> Result<Pushed> {
    spread(lua, Tensor::var, Tensor::var_dim)
}

fn std(lua: Lua<'_>) -> Result<Pushed> {
    spread(lua, Tensor::std, Tensor::std_dim)
}

/// `t:norm([p, [dim]])`
fn norm(lua: Lua<'_>) -> Result<Pushed> {
    let (target, tensor, i) = source(lua)?;
    let p = lua.optional(i, Lua::number)?.unwrap_or(2.0);
    match lua.optional_dimension(i + 1, tensor.ndim())? {
        Some(dim) => give(lua, target, tensor.norm_dim(p, dim)?)?,
        None => lua.push_number(tensor.norm(p)?),
    }
    Ok(1)
}

/// `a:dist(b, [p])`: the norm of the difference.
fn dist(lua: Lua<'_>) -> Result<Pushed> {
    let (a, b) = (lua.tensor(1)?, lua.tensor(2)?);
    let p = lua.optional(3, Lua::number)?.unwrap_or(2.0);
    lua.push_number(a.dist(&b, p)?);
    Ok(1)
}

fn bytes(lua: Lua<'_>) -> Result<Tensor> {
    let tensor = lua.tensor(1)?;
    if tensor.dtype() == DType::Byte { Ok(tensor) } else { Err(lua.expected(1, "torch.ByteTensor")) }
}

fn all(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_boolean(bytes(lua)?.all()?);
    Ok(1)
}

fn any(lua: Lua<'_>) -> Result<Pushed> {
    lua.push_boolean(bytes(lua)?.any()?);
    Ok(1)
}

/// `[res,] t, [dim]`: the first dimension when none is given.
fn running(lua: Lua<'_>, along: fn(&Tensor, usize) -> Result<Tensor>) -> Result<Pushed> {
    let (target, tensor, i) = source(lua)?;
    let dim = lua.optional_dimension(i, tensor.ndim())?.unwrap_or(0);
    give(lua, target, along(&tensor, dim)?)?;
    Ok(1)
}

fn cumsum(lua: Lua<'_>) -> Result<Pushed> {
    running(lua, Tensor::cumsum)
}

fn cumprod(lua: Lua<'_>) -> Result<Pushed> {
    running(lua, Tensor::cumprod)
}

/// The dimension in slot `i`, or the last one.
fn last_or(lua: Lua<'_>, i: c_int, tensor: &Tensor) -> Result<usize> {
    match lua.optional_dimension(i, tensor.ndim())? {
        Some(dim) => Ok(dim),
        None => tensor.ndim().checked_sub(1).ok_or_else(|| err!(Argument, "expected a tensor with elements")),
    }
}

/// `[values, indices,] t, [dim,] [descending]`: along the last dimension when none is given.
fn sort(lua: Lua<'_>) -> Result<Pushed> {
    let (targets, tensor, i) = pair(lua)?;
    let flag_first = lua.kind(i) == Kind::Boolean;
    let dim = if flag_first { tensor.ndim().saturating_sub(1) } else { last_or(lua, i, &tensor)? };
    let descending = lua.truth(if flag_first { i } else { i + 1 });
    give_pair(lua, targets, tensor.sort(dim, descending)?)
}

/// The slice at position `at` of the sorted tensor, its dimension kept.
fn nth(tensor: &Tensor, dim: usize, at: usize) -> Result<(Tensor, Tensor)> {
    let (values, indices) = tensor.sort(dim, false)?;
    Ok((values.narrow(dim, at, 1)?.clone_data()?, indices.narrow(dim, at, 1)?.clone_data()?))
}

/// `t:median([dim])`: the lower of the middle ones along the last dimension, or another, with their indices.
fn median(lua: Lua<'_>) -> Result<Pushed> {
    let (targets, tensor, i) = pair(lua)?;
    let dim = last_or(lua, i, &tensor)?;
    give_pair(lua, targets, nth(&tensor, dim, (tensor.sizes()[dim] - 1) / 2)?)
}

/// `t:mode([dim])`: the most frequent elements along the last dimension, or another, with their indices.
fn mode(lua: Lua<'_>) -> Result<Pushed> {
    let (targets, tensor, i) = pair(lua)?;
    let dim = last_or(lua, i, &tensor)?;
    give_pair(lua, targets, tensor.mode(dim)?)
}

/// `t:kthvalue(k, [dim])`: the k-th smallest, with its index.
fn kth_value(lua: Lua<'_>) -> Result<Pushed> {
    let (targets, tensor, i) = pair(lua)?;
    let dim = last_or(lua, i + 1, &tensor)?;
    let k = lua.integer_in(i, 1..=tensor.sizes()[dim] as i64)? as usize;
    give_pair(lua, targets, nth(&tensor, dim, k - 1)?)
}

/// `t:topk([k,] [dim,] [largest], [sorted])`: the k smallest, or the largest, with their indices.
fn top_k(lua: Lua<'_>) -> Result<Pushed> {
    let (targets, tensor, i) = pair(lua)?;
    let dim = last_or(lua, i + 1, &tensor)?;
    let k = lua.optional(i, |lua, i| lua.integer_in(i, 1..=tensor.sizes()[dim] as i64))?.unwrap_or(1) as usize;
    let (values, indices) = tensor.sort(dim, lua.truth(i + 2))?;
    let first = |t: Tensor| t.narrow(dim, 0, k)?.clone_data();
    give_pair(lua, targets, (first(values)?, first(indices)?))
}

/// `a:equal(b)`: same sizes, same elements.
fn equal(lua: Lua<'_>) -> Result<Pushed> {
    let (a, b) = (lua.tensor(1)?, lua.tensor(2)?);
    let same = a.same_size(&b) && {
        let differ = Tensor::with_sizes(DType::Byte, a.sizes())?;
        differ.compare(crate::tensor::Compare::Ne, &a, &b)?;
        !differ.any()?
    };
    lua.push_boolean(same);
    Ok(1)
}

fn matrix(tensor: &Tensor) -> Result<(usize, usize)> {
    match *tensor.sizes() {
        [rows, columns] => Ok((rows, columns)),
        _ => Err(err!(Argument, "expected a matrix, got a tensor of size {}", crate::tensor::describe(tensor.sizes()))),
    }
}

fn trace(lua: Lua<'_>) -> Result<Pushed> {
    let tensor = lua.tensor(1)?;
    lua.push_scalar(tensor.diagonal(0)?.sum()?);
    Ok(1)
}

/// `[res,] t, [k]`: the diagonal of a matrix, or a matrix with this diagonal.
fn diag(lua: Lua<'_>) -> Result<Pushed> {
    let (target, tensor, i) = source(lua)?;
    let k = lua.optional(i, |lua, i| lua.integer_in(i, -(1 << 32)..=1 << 32))?.unwrap_or(0);
    let out = if tensor.ndim() == 1 {
        let n = tensor.numel() + k.unsigned_abs() as usize;
        let out = Tensor::with_sizes(tensor.dtype(), &[n, n])?;
        out.diagonal(k)?.copy_from(&tensor)?;
        out
    } else {
        tensor.diagonal(k)?.clone_data()?
    };
    give(lua, target, out)?;
    Ok(1)
}

/// `[res,] t, [k]`: a copy with zeros beyond diagonal `k`.
fn triangle(lua: Lua<'_>, keep: fn(i64, i64) -> bool) -> Result<Pushed> {
    let (target, tensor, i) = source(lua)?;
    let k = lua.optional(i, |lua, i| lua.integer_in(i, -(1 << 32)..=1 << 32))?.unwrap_or(0);
    let (rows, columns) = matrix(&tensor)?;
    let out = tensor.clone_data()?;
    if let Some(storage) = out.storage() {
        for at in 0..rows * columns {
            if !keep((at % columns) as i64 - (at / columns) as i64, k) {
                storage.put(at, 0)?;
            }
        }
    }
    give(lua, target, out)?;
    Ok(1)
}

fn tril(lua: Lua<'_>) -> Result<Pushed> {
    triangle(lua, |d, k| d <= k)
}

fn triu(lua: Lua<'_>) -> Result<Pushed> {
    triangle(lua, |d, k| d >= k)
}
