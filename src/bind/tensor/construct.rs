//! Constructors: `torch.FloatTensor(…)`, `torch.LongStorage(…)`, and the forms that `set` and `resize` share with them.
//!
//! Stands on: args, class, file.

use std::ffi::c_int;

use super::args::{MAX_NESTING, Numbers, Sizes, Target, size};
use super::class::{push_storage, storage_at, tensor_at};
use super::context::Context;
use super::file::path_at;
use crate::bind::vm::{Kind, Lua, Pushed};
use crate::err;
use crate::error::Result;
use crate::tensor::{DType, Storage, Tensor};

super::bound! { METHODS, _FUNCTIONS:
    "new" => new,
}

/// `torch.FloatTensor(…)`, the arguments from slot `i` on: nothing, a tensor, sizes, `LongStorage[, LongStorage
/// strides]`, `storage[, offset[, sizes[, strides]]]`, nested tables.
pub(super) fn tensor(lua: Lua<'_>, i: c_int, dtype: DType) -> Result<Tensor> {
    match lua.kind(i) {
        Kind::Table => from_table(lua, i, dtype),
        _ => view(lua, i, dtype),
    }
}

/// The forms without tables: what `set` takes too.
pub(super) fn view(lua: Lua<'_>, i: c_int, dtype: DType) -> Result<Tensor> {
    if lua.is_nil(i) {
        return Ok(Tensor::new(dtype));
    }
    if let Some(tensor) = tensor_at(lua, i) {
        if tensor.dtype() != dtype {
            return Err(lua.expected(i, dtype.tensor_class()));
        }
        return Ok(tensor);
    }
    match storage_at(lua, i) {
        Some(storage) if storage.dtype() == dtype => over(lua, i, &storage),
        _ => {
            let (sizes, strides) = shape(lua, i)?;
            match strides {
                None => Tensor::with_sizes(dtype, &sizes),
                Some(strides) => Tensor::from_storage(&Storage::new(dtype, 0)?, 0, &sizes, Some(&strides)),
            }
        }
    }
}

/// `storage[, offset[, sizes[, strides]]]` or `storage, offset, size1, stride1, size2, stride2, …`.
fn over(lua: Lua<'_>, i: c_int, storage: &Storage) -> Result<Tensor> {
    if lua.is_nil(i + 1) {
        return Tensor::of_storage(storage);
    }
    let offset = lua.integer(i + 1)?;
    let offset = usize::try_from(offset.wrapping_sub(1))
        .map_err(|_| lua.bad_value(i + 1, format_args!("expected an offset of 1 or more, got {offset}")))?;
    if lua.is_nil(i + 2) {
        let left = storage.len().saturating_sub(offset);
        return Tensor::from_storage(storage, offset, &[left], None);
    }
    let (sizes, strides) = if storage_at(lua, i + 2).is_some() || lua.kind(i + 2) == Kind::Table {
        shape(lua, i + 2)?
    } else {
        let numbers = lua.numbers(i + 2)?;
        let sizes = numbers.iter().step_by(2).map(|&n| size(lua, i + 2, n)).collect::<Result<Sizes>>()?;
        let mut strides: Vec<isize> = numbers.iter().skip(1).step_by(2).map(|&n| n as isize).collect();
        strides.resize(sizes.len(), -1);
        (sizes, Some(strides))
    };
    Tensor::from_storage(storage, offset, &sizes, strides.as_deref())
}

/// Sizes from slot `i` on, and strides if they come as a second LongStorage.
pub(super) fn shape(lua: Lua<'_>, i: c_int) -> Result<(Sizes, Option<Vec<isize>>)> {
    let sizes = lua.sizes(i)?;
    let strides = if lua.kind(i) != Kind::Number && !lua.is_nil(i + 1) {
        Some(lua.numbers(i + 1)?.iter().map(|&n| n as isize).collect())
    } else {
        None
    };
    Ok((sizes, strides))
}

/// A tensor of the numbers in nested tables, which must all be equally long at each depth.
fn from_table(lua: Lua<'_>, i: c_int, dtype: DType) -> Result<Tensor> {
    let table = lua.abs(i);
    let mut sizes = Sizes::new();
    // Down the first items: they say the sizes.
    lua.reserve(MAX_NESTING as c_int + 4)?;
    lua.push_value(table);
    loop {
        match lua.kind(-1) {
            Kind::Table if sizes.len() == MAX_NESTING => {
                return Err(err!(Limit, "a table nested more than {MAX_NESTING} deep"));
            }
            Kind::Table => {
                let n = lua.raw_len(-1);
                sizes.push(n);
                if n == 0 {
                    break;
                }
                lua.raw_get_index(-1, 1);
            }
            Kind::Number => break,
            _ => {
                return Err(
                    lua.bad_value(i, format_args!("expected a table of numbers, got a {} in it", lua.describe(-1)))
                );
            }
        }
    }
    let empty = sizes.last() == Some(&0);
    lua.pop(sizes.len() as c_int + c_int::from(!empty));
    if empty {
        if sizes.len() > 1 {
            return Err(lua.bad_value(i, "expected tables of numbers, got an empty one among them"));
        }
        return Ok(Tensor::new(dtype));
    }
    let tensor = Tensor::with_sizes(dtype, &sizes)?;
    if let Some(storage) = tensor.storage() {
        let mut at = 0;
        lua.push_value(table);
        fill(lua, i, storage, &sizes, &mut at)?;
        lua.pop(1);
    }
    Ok(tensor)
}

/// Copies the table on top of the stack to the storage from `at` on.
fn fill(lua: Lua<'_>, i: c_int, storage: &Storage, sizes: &[usize], at: &mut usize) -> Result<()> {
    if lua.kind(-1) != Kind::Table || lua.raw_len(-1) != sizes[0] {
        let got = match lua.kind(-1) {
            Kind::Table => format!("one of {}", lua.raw_len(-1)),
            _ => format!("a {}", lua.describe(-1)),
        };
        return Err(lua.bad_value(i, format_args!("expected tables of equal lengths ({} items), got {got}", sizes[0])));
    }
    for n in 1..=sizes[0] as i64 {
        lua.raw_get_index(-1, n);
        if sizes.len() > 1 {
            fill(lua, i, storage, &sizes[1..], at)?;
        } else {
            let value = lua.to_scalar(-1);
            let value = value.ok_or_else(|| {
                lua.bad_value(i, format_args!("expected a table of numbers, got a {} in it", lua.describe(-1)))
            })?;
            storage.put(*at, value)?;
            *at += 1;
        }
        lua.pop(1);
    }
    Ok(())
}

/// The elements that are in a file, `file[, shared = false[, size]]`, as they lie in memory. Torch maps it; what is
/// written to a mapping that is not shared does not reach the file, so a copy serves.
fn from_file(lua: Lua<'_>, i: c_int, dtype: DType) -> Result<Storage> {
    if lua.truth(i + 1) {
        return Err(err!(Unsupported, "a storage that maps a file and shares it; read it, and write it back"));
    }
    let path = path_at(lua, i)?;
    let size = lua.optional(i + 2, Lua::count)?;
    Storage::from_file(path, dtype, size)
}

/// `torch.FloatStorage(…)`: nothing, a size, a table of numbers, a storage of the same type to view, a file to read.
pub fn storage(lua: Lua<'_>, i: c_int, dtype: DType) -> Result<Storage> {
    match lua.kind(i) {
        Kind::None | Kind::Nil => Storage::new(dtype, 0),
        Kind::Number if !lua.is_nil(i + 1) => {
            Err(err!(Unsupported, "memory at an address is not taken; make a storage and copy to its data()"))
        }
        Kind::Number => Storage::new(dtype, lua.count(i)?),
        Kind::Table => {
            let table = lua.abs(i);
            let storage = Storage::new(dtype, lua.raw_len(table))?;
            let mut at = 0;
            lua.push_value(table);
            fill(lua, i, &storage, &[storage.len()], &mut at)?;
            lua.pop(1);
            Ok(storage)
        }
        Kind::String => from_file(lua, i, dtype),
        _ => match storage_at(lua, i) {
            // Its own memory, from the offset on.
            Some(other) if other.dtype() == dtype => {
                let from = lua.optional(i + 1, |lua, i| lua.integer_in(i, 1..=other.len() as i64 + 1))?;
                let from = from.map_or(0, |from| from as usize - 1);
                let most = other.len() - from;
                let n = lua.optional(i + 2, |lua, i| lua.integer_in(i, 0..=most as i64))?;
                other.view(from, n.map_or(most, |n| n as usize))
            }
            _ => Err(lua.expected(i, "size, table or storage")),
        },
    }
}

/// `t:new(…)`: as the constructor of the tensor's own type.
fn new(lua: Lua<'_>) -> Result<Pushed> {
    let dtype = lua.tensor_ref(1)?.dtype();
    lua.give(tensor(lua, 2, dtype)?)
}

/// What `torch.Tensor` and the functions that make tensors make.
pub(super) fn default_type(lua: Lua<'_>) -> DType {
    Context::of(lua).default_type.get()
}

/// Sizes for a function that makes a tensor, and where it goes: `[res,] sizes…`.
pub(super) fn target_and_sizes(lua: Lua<'_>) -> Result<(Target, DType, Sizes)> {
    match tensor_at(lua, 1) {
        Some(t) => Ok((Target::Slot(1), t.dtype(), lua.sizes(2)?)),
        None => Ok((Target::New, default_type(lua), lua.sizes(1)?)),
    }
}

/// Pushes `numbers` as a LongStorage, which sizes and strides are.
pub(super) fn give_numbers(lua: Lua<'_>, numbers: impl Iterator<Item = i64>) -> Result<Pushed> {
    let numbers: Numbers = numbers.collect();
    push_storage(lua, Storage::from_slice(&numbers)?)?;
    Ok(1)
}
