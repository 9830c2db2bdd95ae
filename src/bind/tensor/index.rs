//! `t[k]` and `t[k] = v`, for tensors and storages: numbers, positions, ranges, masks; other keys are methods.
//!
//! Stands on: args, class.

use std::ffi::c_int;

use mlua_sys as ffi;

use super::args::Numbers;
use super::class::{storage_at, tensor_at};
use crate::bind::vm::{Body, Count, Kind, Lua, Method, Pushed, at_once, c_function, enter};
use crate::err;
use crate::error::Result;
use crate::lua_fn;
use crate::tensor::{DType, Storage, Tensor, position};

pub(super) const METAMETHODS: &[Method] = &[
    ("__index", c_function(index)),
    ("__newindex", c_function(new_index)),
    ("__len", lua_fn!("#", super::shape::size)),
];

pub(super) const STORAGE_METAMETHODS: &[Method] =
    &[("__index", c_function(storage_index)), ("__newindex", c_function(storage_new_index))];

/// `t[k]`.
unsafe extern "C-unwind" fn index(l: *mut ffi::lua_State) -> Count {
    // SAFETY: Lua calls this with its own state; push_functions made it with the State as upvalue 1.
    unsafe { look_up(l, "t[…]", nth, element) }
}

/// `t[k] = v`.
unsafe extern "C-unwind" fn new_index(l: *mut ffi::lua_State) -> Count {
    // SAFETY: as in `index`.
    unsafe { put(l, "t[…] = ", set_nth, set_element) }
}

/// `s[k]`.
unsafe extern "C-unwind" fn storage_index(l: *mut ffi::lua_State) -> Count {
    // SAFETY: as in `index`.
    unsafe { look_up(l, "s[…]", nth_of_storage, storage_element) }
}

/// `s[k] = v`.
unsafe extern "C-unwind" fn storage_new_index(l: *mut ffi::lua_State) -> Count {
    // SAFETY: as in `index`.
    unsafe { put(l, "s[…] = ", set_nth_of_storage, set_storage_element) }
}

/// An `__index`: for a number what `nth` finds, for a string the method of that name, both without entering Rust
/// proper, and all else by `body`.
///
/// # Safety
/// As [`enter`].
#[inline(always)]
unsafe fn look_up(l: *mut ffi::lua_State, place: &'static str, nth: impl FnOnce(Lua<'_>) -> bool, body: Body) -> Count {
    // SAFETY: as this function's own promise.
    unsafe {
        match ffi::lua_type(l, 2) {
            ffi::LUA_TNUMBER if at_once(l, place, nth) => 1,
            ffi::LUA_TSTRING if method(l) => 1,
            _ => enter::<false>(l, place, body),
        }
    }
}

/// A `__newindex`, in the same way.
///
/// # Safety
/// As [`enter`].
#[inline(always)]
unsafe fn put(l: *mut ffi::lua_State, place: &'static str, set_nth: impl FnOnce(Lua<'_>) -> bool, body: Body) -> Count {
    // SAFETY: as this function's own promise.
    unsafe { if at_once(l, place, set_nth) { 0 } else { enter::<false>(l, place, body) } }
}

/// `t[n]` of a tensor of one dimension: the everyday case, which is to take no longer than it must.
#[inline(always)]
fn nth(lua: Lua<'_>) -> bool {
    let (Some(n), Some(tensor)) = (lua.to_integer(2), lua.peek::<Tensor>(1)) else { return false };
    let Some((storage, at)) = tensor.nth(n) else { return false };
    let Some(value) = storage.peek(at) else { return false };
    lua.push_scalar(value);
    true
}

/// `t[n] = v` of a tensor of one dimension.
#[inline(always)]
fn set_nth(lua: Lua<'_>) -> bool {
    let (Some(n), Some(value)) = (lua.to_integer(2), lua.raw_scalar(3)) else { return false };
    let Some(tensor) = lua.peek::<Tensor>(1) else { return false };
    let Some((storage, at)) = tensor.nth(n) else { return false };
    storage.poke(at, value)
}

/// `s[n]`.
#[inline(always)]
fn nth_of_storage(lua: Lua<'_>) -> bool {
    let (Some(n), Some(storage)) = (lua.to_integer(2), lua.peek::<Storage>(1)) else { return false };
    let Some(value) = storage.peek((n as usize).wrapping_sub(1)) else { return false };
    lua.push_scalar(value);
    true
}

/// `s[n] = v`.
#[inline(always)]
fn set_nth_of_storage(lua: Lua<'_>) -> bool {
    let (Some(n), Some(value)) = (lua.to_integer(2), lua.raw_scalar(3)) else { return false };
    lua.peek::<Storage>(1).is_some_and(|storage| storage.poke((n as usize).wrapping_sub(1), value))
}

/// Pushes the field of the metatable that slot 2 names.
///
/// # Safety
/// Slots 1 and 2 are the arguments of an `__index`, the second a string.
unsafe fn method(l: *mut ffi::lua_State) -> bool {
    // SAFETY: a raw read of a table raises nothing.
    unsafe {
        if ffi::lua_getmetatable(l, 1) == 0 {
            return false;
        }
        ffi::lua_pushvalue(l, 2);
        ffi::lua_rawget(l, -2);
        true
    }
}

/// `t[n]`, `t[LongStorage]`, `t[{…}]`, `t[mask]`.
fn element(lua: Lua<'_>) -> Result<Pushed> {
    let tensor = lua.tensor(1)?;
    match key(lua, &tensor, 2)? {
        Indexed::Element(at) => {
            lua.push_scalar(held(&tensor)?.get(at)?);
            Ok(1)
        }
        Indexed::View(view) => lua.give(view),
        Indexed::Mask(mask) => lua.give(tensor.masked_select(&mask)?),
        Indexed::None => {
            lua.push_nil();
            Ok(1)
        }
    }
}

/// `t[k] = v`: a number everywhere, or a tensor's elements.
fn set_element(lua: Lua<'_>) -> Result<Pushed> {
    let tensor = lua.tensor(1)?;
    let place = key(lua, &tensor, 2)?;
    if let Some(value) = lua.to_scalar(3) {
        match place {
            Indexed::Element(at) => held(&tensor)?.put(at, value)?,
            Indexed::View(view) => view.fill(value)?,
            Indexed::Mask(mask) => tensor.masked_fill(&mask, value)?,
            Indexed::None => return Err(lua.expected(2, "index")),
        }
    } else if let Some(source) = tensor_at(lua, 3) {
        match place {
            Indexed::Element(at) if source.numel() == 1 => {
                held(&tensor)?.put(at, source.get(&vec![0; source.ndim()])?)?;
            }
            Indexed::Element(_) => return Err(err!(Argument, "expected a number or a tensor of one element")),
            Indexed::View(view) => view.copy_from(&source)?,
            Indexed::Mask(mask) => tensor.masked_copy(&mask, &source)?,
            Indexed::None => return Err(lua.expected(2, "index")),
        }
    } else {
        return Err(lua.expected(3, "number or tensor as the new value"));
    }
    Ok(0)
}

/// What a key means.
enum Indexed {
    /// The element at this place of the storage.
    Element(usize),
    /// A part of the tensor.
    View(Tensor),
    /// Wherever this is not 0.
    Mask(Tensor),
    /// Nothing: the key is of no use here (a method that does not exist).
    None,
}

fn key(lua: Lua<'_>, tensor: &Tensor, i: c_int) -> Result<Indexed> {
    match lua.kind(i) {
        Kind::Number => one(lua, tensor, i),
        Kind::Table => ranges(lua, tensor, i),
        Kind::Userdata => {
            if let Some(mask) = tensor_at(lua, i) {
                if mask.dtype() != DType::Byte {
                    return Err(lua.expected(i, "torch.ByteTensor as a mask"));
                }
                return Ok(Indexed::Mask(mask));
            }
            match storage_at(lua, i) {
                Some(storage) if storage.dtype() == DType::Long => {
                    let numbers = lua.numbers(i)?;
                    at(tensor, &numbers).map(Indexed::Element)
                }
                _ => Err(lua.expected(i, "index")),
            }
        }
        Kind::String => Ok(Indexed::None),
        _ => Err(lua.expected(i, "index: a number, a table, a LongStorage or a ByteTensor")),
    }
}

/// The storage of a tensor that has elements.
fn held(tensor: &Tensor) -> Result<&Storage> {
    tensor.storage().ok_or_else(|| err!(State, "a tensor without a storage"))
}

/// The place in the storage of the element at these positions, one a dimension, from 1.
fn at(tensor: &Tensor, numbers: &Numbers) -> Result<usize> {
    if numbers.len() != tensor.ndim() || numbers.is_empty() {
        return Err(err!(Argument, "expected {} indices, got {}", tensor.ndim(), numbers.len()));
    }
    let mut place = tensor.offset();
    for (d, &n) in numbers.iter().enumerate() {
        place += position(n, tensor.sizes()[d], d)? * tensor.strides()[d] as usize;
    }
    Ok(place)
}

/// A number: an element of a tensor of one dimension, else a slice along the first.
fn one(lua: Lua<'_>, tensor: &Tensor, i: c_int) -> Result<Indexed> {
    if tensor.ndim() == 0 {
        return Err(err!(Argument, "index {} is out of range: the tensor is empty", lua.number(i)?));
    }
    let place = position(lua.integer(i)?, tensor.sizes()[0], 0)?;
    if tensor.ndim() == 1 {
        Ok(Indexed::Element(tensor.offset() + place * tensor.strides()[0] as usize))
    } else {
        Ok(Indexed::View(tensor.select(0, place)?))
    }
}

/// `{2, {1, 3}, {}}`: a position takes its dimension away, a range keeps it, an empty one is all of it.
fn ranges(lua: Lua<'_>, tensor: &Tensor, i: c_int) -> Result<Indexed> {
    let table = lua.abs(i);
    let count = lua.raw_len(table);
    if count > tensor.ndim() {
        return Err(err!(Argument, "expected at most {} indices, got {count}", tensor.ndim()));
    }
    let mut view = tensor.clone();
    let mut dim = 0;
    for n in 1..=count {
        let kind = lua.raw_get_index(table, n as i64);
        match kind {
            Kind::Number => {
                let place = position(integer(lua, -1)?, view.sizes()[dim], n - 1)?;
                if view.ndim() == 1 {
                    // No dimension is left: an element.
                    return Ok(Indexed::Element(view.offset() + place * view.strides()[0] as usize));
                }
                view = view.select(dim, place)?;
            }
            Kind::Table => {
                let inner = lua.abs(-1);
                let length = lua.raw_len(inner);
                if length > 2 {
                    return Err(err!(Argument, "index {n}: expected a range of two numbers, got {length}"));
                }
                if length > 0 {
                    lua.raw_get_index(inner, 1);
                    lua.raw_get_index(inner, length as i64);
                    let (from, to) = (integer(lua, -2)?, integer(lua, -1)?);
                    lua.pop(2);
                    let size = view.sizes()[dim];
                    let (start, end) = (position(from, size, n - 1)?, position(to, size, n - 1)?);
                    if end < start {
                        return Err(err!(Argument, "index {n}: range {from} to {to} ends before it starts"));
                    }
                    view = view.narrow(dim, start, end - start + 1)?;
                }
                dim += 1;
            }
            _ => return Err(err!(Argument, "index {n}: expected a number or a table, got {}", lua.describe(-1))),
        }
        lua.pop(1);
    }
    Ok(Indexed::View(view))
}

fn integer(lua: Lua<'_>, i: c_int) -> Result<i64> {
    lua.to_integer(i).ok_or_else(|| err!(Argument, "expected an integer as an index, got {}", lua.describe(i)))
}

/// The position, from 0, of a storage's element that slot 2 names.
fn storage_position(lua: Lua<'_>, len: usize) -> Result<usize> {
    match lua.to_integer(2) {
        Some(n) if n >= 1 && n as u64 <= len as u64 => Ok(n as usize - 1),
        Some(n) => Err(err!(Argument, "index {n} is out of range: the storage has {len} elements")),
        None => Err(lua.expected(2, "integer as an index")),
    }
}

fn storage_element(lua: Lua<'_>) -> Result<Pushed> {
    let storage = lua.storage(1)?;
    lua.push_scalar(storage.get(storage_position(lua, storage.len())?)?);
    Ok(1)
}

fn set_storage_element(lua: Lua<'_>) -> Result<Pushed> {
    let storage = lua.storage(1)?;
    let at = storage_position(lua, storage.len())?;
    storage.put(at, lua.scalar(3)?)?;
    Ok(0)
}
