//! Copies and conversions: `copy`, `clone`, `type`, `float` and its kin, `totable`, `apply`, `map`, `data`.
//!
//! Stands on: args, class, construct.

use std::ffi::c_int;

use super::args::MAX_NESTING;
use super::class::{class_name, push_storage, tensor_at};
use crate::bind::vm::{Kind, Lua, Method, Pushed};
use crate::dtypes;
use crate::err;
use crate::error::Result;
use crate::lua_fn;
use crate::tensor::{DType, Places, Storage, Tensor};

super::bound! { METHODS, FUNCTIONS:
    "clone" => clone,
    "copy" => copy,
    "fill" => fill,
    "zero" => zero,
    "typeAs" => type_as,
    "totable" => to_table,
    "apply" => apply,
    "map" => map,
    "map2" => map2,
    "data" => data,
}

macro_rules! conversions {
    ($($(#[$doc:meta])* $name:ident $lower:literal = $code:literal, $rust:ty, $c:literal => $compute:ident;)*) => {
        super::bound! { CONVERSIONS, CONVERSION_FUNCTIONS: $($lower => to::<$code>,)* }
    };
}
dtypes!([conversions]);

/// Not a function as well: `torch.type` is another one.
pub(super) const TYPE: &[Method] = &[("type", lua_fn!("tensor:type", type_of))];

fn clone(lua: Lua<'_>) -> Result<Pushed> {
    lua.give(lua.tensor(1)?.clone_data()?)
}

/// `t:copy(other)`: as many elements, of any type and sizes; or a storage's.
fn copy(lua: Lua<'_>) -> Result<Pushed> {
    lua.tensor(1)?.copy_from(&*lua.tensor_ref(2)?)?;
    lua.push_value(1);
    Ok(1)
}

fn fill(lua: Lua<'_>) -> Result<Pushed> {
    let tensor = lua.tensor(1)?;
    tensor.fill(lua.scalar(2)?)?;
    lua.push_value(1);
    Ok(1)
}

fn zero(lua: Lua<'_>) -> Result<Pushed> {
    lua.tensor(1)?.zero()?;
    lua.push_value(1);
    Ok(1)
}

/// Pushes the tensor of slot 1 as one of `dtype`: itself if it is.
fn convert(lua: Lua<'_>, dtype: DType) -> Result<Pushed> {
    let tensor = lua.tensor(1)?;
    if tensor.dtype() == dtype {
        lua.push_value(1);
        return Ok(1);
    }
    lua.give(tensor.to_dtype(dtype)?)
}

fn to<const CODE: u8>(lua: Lua<'_>) -> Result<Pushed> {
    convert(lua, DType::from_code(CODE).ok_or_else(|| err!(State, "no element type has code {CODE}"))?)
}

/// `t:type([name])`: the type's name, or the tensor as one of that type.
fn type_of(lua: Lua<'_>) -> Result<Pushed> {
    if lua.is_nil(2) {
        lua.push_string(lua.tensor_ref(1)?.dtype().tensor_class())?;
        return Ok(1);
    }
    let dtype = lua.dtype(2)?;
    convert(lua, dtype)
}

fn type_as(lua: Lua<'_>) -> Result<Pushed> {
    match tensor_at(lua, 2) {
        Some(other) => convert(lua, other.dtype()),
        None => match class_name(lua, 2) {
            Some(name) => convert(lua, DType::parse(name)?),
            None => Err(lua.expected(2, "torch.Tensor")),
        },
    }
}

/// `t:totable()`: nested tables of numbers.
fn to_table(lua: Lua<'_>) -> Result<Pushed> {
    let tensor = lua.tensor(1)?;
    if tensor.ndim() > MAX_NESTING {
        return Err(err!(Limit, "a tensor of {} dimensions has no table: {MAX_NESTING} is the most", tensor.ndim()));
    }
    lua.reserve(tensor.ndim() as c_int + 8)?;
    let mut places = tensor.layout().places();
    match tensor.storage() {
        Some(storage) => nested(lua, storage, tensor.sizes(), &mut places)?,
        None => lua.new_table(0, 0)?,
    }
    Ok(1)
}

fn nested(lua: Lua<'_>, storage: &Storage, sizes: &[usize], places: &mut Places) -> Result<()> {
    let n = sizes.first().copied().unwrap_or(0);
    lua.new_table(n.min(1 << 26) as c_int, 0)?;
    for i in 1..=n as i64 {
        if sizes.len() > 1 {
            nested(lua, storage, &sizes[1..], places)?;
        } else {
            lua.push_scalar(storage.get(places.next().unwrap_or(usize::MAX))?);
        }
        lua.raw_set_index(-2, i)?;
    }
    Ok(())
}

/// `t:apply(f)`: every element becomes `f(element)`, unless that is nil.
fn apply(lua: Lua<'_>) -> Result<Pushed> {
    each(lua, &[])
}

/// `t:map(other, f)`: every element becomes `f(element, other's element)`, unless that is nil.
fn map(lua: Lua<'_>) -> Result<Pushed> {
    each(lua, &[2])
}

/// `t:map2(a, b, f)`
fn map2(lua: Lua<'_>) -> Result<Pushed> {
    each(lua, &[2, 3])
}

/// Calls the function after the `others` for each element. The function may do anything, also to the tensors: every
/// access is checked anew.
fn each(lua: Lua<'_>, others: &[c_int]) -> Result<Pushed> {
    let tensor = lua.tensor(1)?;
    let function = others.len() as c_int + 2;
    let mut sources: Vec<(Storage, Places)> = Vec::new();
    for &i in others {
        let other = lua.tensor(i)?;
        if other.numel() != tensor.numel() {
            return Err(lua.bad_value(
                i,
                format_args!("expected a tensor of {} elements, got {}", tensor.numel(), other.numel()),
            ));
        }
        let other = other.apart_from(&tensor)?;
        if let Some(s) = other.storage() {
            sources.push((s.clone(), other.layout().places()));
        }
    }
    // Some tables and userdata can be called.
    if !matches!(lua.kind(function), Kind::Function | Kind::Table | Kind::Userdata) {
        return Err(lua.expected(function, "function"));
    }
    if let Some(storage) = tensor.storage() {
        for place in tensor.layout().places() {
            lua.push_value(function);
            lua.push_scalar(storage.get(place)?);
            for (storage, places) in &mut sources {
                lua.push_scalar(storage.get(places.next().unwrap_or(usize::MAX))?);
            }
            lua.call(1 + others.len() as c_int, 1)?;
            match lua.to_scalar(-1) {
                Some(value) => storage.put(place, value)?,
                None if lua.kind(-1) == Kind::Nil => {}
                None => {
                    return Err(err!(Argument, "expected a number or nil from the function, got {}", lua.describe(-1)));
                }
            }
            lua.pop(1);
        }
    }
    lua.push_value(1);
    Ok(1)
}

/// `t:data([as number])`: an FFI pointer to the first element. It stays good while the tensor does and nobody resizes
/// its storage.
fn data(lua: Lua<'_>) -> Result<Pushed> {
    let tensor = lua.tensor(1)?;
    match tensor.storage() {
        Some(storage) if tensor.numel() > 0 => {
            // C code checks no position: all that the tensor has must be there.
            tensor.check_storage()?;
            pointer(lua, storage, tensor.offset(), lua.truth(2))
        }
        _ => {
            lua.push_nil();
            Ok(1)
        }
    }
}

/// Pushes an FFI pointer to the element at `at`, or its address as an integer of C's.
pub fn pointer(lua: Lua<'_>, storage: &Storage, at: usize, address: bool) -> Result<Pushed> {
    if !cfg!(feature = "luajit") {
        return Err(err!(Unsupported, "pointers to elements are cdata, which only LuaJIT has; read elements by index"));
    }
    // No light userdata: LuaJIT for arm64 has only 47 bits of an address in one. Numbers have 53, and addresses 48.
    lua.anchored("torch.pointer", |lua| {
        lua.load(
            "ipc.torch",
            "local ffi = require 'ffi' return function(name, address) return ffi.cast(name, ffi.cast('uintptr_t', \
             address)) end",
        )?;
        lua.call(0, 1)
    })?;
    let dtype = storage.dtype();
    let pointer = if address { "intptr_t".to_owned() } else { format!("{} *", dtype.c_type()) };
    lua.push_string(&pointer)?;
    let address = storage.span()?.as_ptr() as usize + at * dtype.size();
    lua.push_number(address as f64);
    lua.call(2, 1)?;
    Ok(1)
}

/// `t:storage():…` conversions share the tensor's: a storage as a tensor of one dimension.
pub fn storage_as(lua: Lua<'_>, storage: &Storage, dtype: DType) -> Result<Pushed> {
    let copy = Tensor::of_storage(storage)?.to_dtype(dtype)?;
    match copy.storage() {
        Some(s) => push_storage(lua, s.clone())?,
        None => push_storage(lua, Storage::new(dtype, 0)?)?,
    }
    Ok(1)
}
