//! Functions that make tensors: `zeros`, `ones`, `range`, `eye`, `cat` and their kin. As methods they fill their
//! `self`, resized.
//!
//! Stands on: args, class, construct.

use std::ffi::c_int;

use super::args::{Target, result};

use super::class::tensor_at;
use super::construct::{default_type, target_and_sizes};
use crate::bind::vm::{Kind, Lua, Pushed};
use crate::error::Result;
use crate::sys::{check_memory, try_collect, try_push};
use crate::tensor::{Binary, DType, Tensor};

super::bound! { METHODS, FUNCTIONS:
    "zeros" => zeros,
    "ones" => ones,
    "range" => range,
    "linspace" => linspace,
    "logspace" => logspace,
    "eye" => eye,
    "cat" => cat,
}

fn filled(lua: Lua<'_>, value: i64) -> Result<Pushed> {
    let (target, dtype, sizes) = target_and_sizes(lua)?;
    let tensor = result(lua, target, dtype, &sizes)?;
    tensor.fill(value)?;
    Ok(1)
}

/// `torch.zeros([res,] sizes…)`
fn zeros(lua: Lua<'_>) -> Result<Pushed> {
    filled(lua, 0)
}

/// `torch.ones([res,] sizes…)`
fn ones(lua: Lua<'_>) -> Result<Pushed> {
    filled(lua, 1)
}

/// `[res,]`: where the result goes, its type, and the slot of the first argument proper.
fn target(lua: Lua<'_>) -> (Target, DType, c_int) {
    match tensor_at(lua, 1) {
        Some(t) => (Target::Slot(1), t.dtype(), 2),
        None => (Target::New, default_type(lua), 1),
    }
}

/// Pushes `made`, or the target made to hold it.
fn give(lua: Lua<'_>, target: Target, made: Tensor) -> Result<Pushed> {
    match target {
        Target::New => lua.give(made),
        Target::Slot(_) => {
            result(lua, target, made.dtype(), made.sizes())?.copy_from(&made)?;
            Ok(1)
        }
    }
}

/// [`give`] of a sequence: a target of as many elements takes them in its own shape, whatever it views.
fn give_sequence(lua: Lua<'_>, target: Target, made: Tensor) -> Result<Pushed> {
    if let Target::Slot(i) = target {
        let tensor = lua.tensor(i)?;
        if tensor.numel() == made.numel() {
            tensor.copy_from(&made)?;
            lua.push_value(i);
            return Ok(1);
        }
    }
    give(lua, target, made)
}

/// `torch.range([res,] from, to, [step])`, `to` included.
fn range(lua: Lua<'_>) -> Result<Pushed> {
    let (target, dtype, i) = target(lua);
    let step = lua.optional(i + 2, Lua::number)?.unwrap_or(1.0);
    give_sequence(lua, target, Tensor::range(dtype, lua.number(i)?, lua.number(i + 1)?, step)?)
}

/// `torch.linspace([res,] from, to, [n])`
fn linspace(lua: Lua<'_>) -> Result<Pushed> {
    let (target, dtype, i) = target(lua);
    let n = lua.optional(i + 2, Lua::count)?.unwrap_or(100);
    give_sequence(lua, target, Tensor::linspace(dtype, lua.number(i)?, lua.number(i + 1)?, n)?)
}

/// `torch.logspace([res,] from, to, [n])`: powers of ten.
fn logspace(lua: Lua<'_>) -> Result<Pushed> {
    let (target, dtype, i) = target(lua);
    let n = lua.optional(i + 2, Lua::count)?.unwrap_or(100);
    let exponents = Tensor::linspace(DType::Double, lua.number(i)?, lua.number(i + 1)?, n)?;
    exponents.scalar_binary(Binary::Pow, 10, &exponents)?;
    give_sequence(lua, target, exponents.to_dtype(dtype)?)
}

/// `torch.eye([res,] rows, [columns])`
fn eye(lua: Lua<'_>) -> Result<Pushed> {
    let (target, dtype, i) = target(lua);
    let rows = lua.count(i)?;
    let columns = lua.optional(i + 1, Lua::count)?.unwrap_or(rows);
    give(lua, target, Tensor::eye(dtype, rows, columns)?)
}

/// `torch.cat([res,] a, b, [dim])`, `torch.cat([res,] {a, b, …}, [dim])`: along the last dimension when none is given.
fn cat(lua: Lua<'_>) -> Result<Pushed> {
    let top = lua.top();
    let tensors_in_front = (1..=top).take_while(|&i| lua.is_tensor(i)).count() as c_int;
    let mut parts = Vec::new();
    let (target, rest) = if lua.kind(tensors_in_front + 1) == Kind::Table {
        let table = tensors_in_front + 1;
        for n in 1..=lua.raw_len(table) as i64 {
            lua.raw_get_index(table, n);
            let part = tensor_at(lua, -1);
            let part = part.ok_or_else(|| {
                lua.bad_value(table, format_args!("item {n}: expected a torch.Tensor, got {}", lua.describe(-1)))
            });
            check_memory()?;
            try_push(&mut parts, part?)?;
            lua.pop(1);
        }
        match tensors_in_front {
            0 => (Target::New, table + 1),
            1 => (Target::Slot(1), table + 1),
            _ => return Err(lua.expected(2, "table of tensors")),
        }
    } else {
        let (target, first) = match tensors_in_front {
            2 => (Target::New, 1),
            3 => (Target::Slot(1), 2),
            n => return Err(lua.expected(n + 1, "torch.Tensor or a table of tensors")),
        };
        parts.extend([lua.tensor(first)?, lua.tensor(first + 1)?]);
        (target, first + 2)
    };
    let parts: Vec<&Tensor> = try_collect(&parts)?;
    let ndim = parts.iter().map(|t| t.ndim()).max().unwrap_or(0);
    let dim = match lua.optional(rest, |lua, i| lua.integer_in(i, 1..=1 << 20))? {
        Some(dim) => dim as usize - 1,
        None => ndim.saturating_sub(1),
    };
    give(lua, target, Tensor::cat(&parts, dim)?)
}
