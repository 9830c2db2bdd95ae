//! Arguments of tensor functions: sizes, dimensions, positions, numbers; and where a result goes.
//!
//! Stands on: class.

use std::ffi::c_int;

use smallvec::SmallVec;

use super::class::{push, storage_at};
use crate::bind::vm::{Kind, Lua};
use crate::err;
use crate::error::{Error, Result};
use crate::tensor::{DType, Scalar, Tensor, dimension, position};

/// Sizes as a user gives them; −1 and its like are the callee's business.
pub type Numbers = SmallVec<[i64; 4]>;

/// Sizes of dimensions.
pub type Sizes = SmallVec<[usize; 4]>;

/// More dimensions than this are refused where something is nested as deeply.
pub(super) const MAX_NESTING: usize = 200;

fn too_many(lua: Lua<'_>, i: c_int, n: usize) -> Error {
    lua.bad_value(i, format_args!("expected at most 256 numbers, got {n}"))
}

/// An empty list with room for `n` numbers.
fn numbers_for(n: usize) -> Result<Numbers> {
    let mut numbers = Numbers::new();
    numbers.try_reserve(n).map_err(|_| Error::no_memory())?;
    Ok(numbers)
}

impl<'a> Lua<'a> {
    /// The number in slot `i`, an integer where it is one.
    pub fn to_scalar(self, i: c_int) -> Option<Scalar> {
        if self.kind(i) != Kind::Number {
            return None;
        }
        match self.to_integer(i) {
            // −0 is a float, whatever it looks like.
            Some(0) => self.to_number(i).map(|n| if n.is_sign_negative() { Scalar::Float(n) } else { Scalar::Int(0) }),
            Some(n) => Some(Scalar::Int(n)),
            None => self.to_number(i).map(Scalar::Float),
        }
    }

    /// The number in slot `i` as its Lua holds it: for elements, which do not tell 3 from 3.0.
    #[inline(always)]
    pub fn raw_scalar(self, i: c_int) -> Option<Scalar> {
        if self.kind(i) != Kind::Number {
            return None;
        }
        #[cfg(any(feature = "lua53", feature = "lua54", feature = "lua55"))]
        if self.is_integer(i) {
            return self.to_integer(i).map(Scalar::Int);
        }
        self.to_number(i).map(Scalar::Float)
    }

    /// The number in slot `i`.
    pub fn scalar(self, i: c_int) -> Result<Scalar> {
        self.to_scalar(i).ok_or_else(|| self.expected(i, "number"))
    }

    /// Pushes an element: an integer where the Lua has them and the type is integral.
    pub fn push_scalar(self, value: Scalar) {
        match value {
            Scalar::Int(n) => self.push_integer(n),
            Scalar::Float(n) => self.push_number(n),
        }
    }

    /// The dimension in slot `i`, counted from 0.
    pub fn dimension(self, i: c_int, ndim: usize) -> Result<usize> {
        let dim = self.integer(i)?;
        dimension(dim, ndim).map_err(|e| self.bad_value(i, e.what()))
    }

    /// The dimension in slot `i`, if one is given.
    pub fn optional_dimension(self, i: c_int, ndim: usize) -> Result<Option<usize>> {
        self.optional(i, |lua, i| lua.dimension(i, ndim))
    }

    /// The position in slot `i` within dimension `dim` of `tensor`, counted from 0.
    pub fn position(self, i: c_int, tensor: &Tensor, dim: usize) -> Result<usize> {
        let size = tensor.sizes().get(dim).copied().unwrap_or(0);
        position(self.integer(i)?, size, dim).map_err(|e| self.bad_value(i, e.what()))
    }

    /// A count in slot `i`: 0 or more.
    pub fn count(self, i: c_int) -> Result<usize> {
        let n = self.integer(i)?;
        usize::try_from(n).map_err(|_| self.bad_value(i, format_args!("expected 0 or more, got {n}")))
    }

    /// The integers from slot `i` on: all numbers up to the last argument, a LongStorage, a LongTensor's sizes, or a
    /// table.
    pub fn numbers(self, i: c_int) -> Result<Numbers> {
        /// More sizes than anybody has; what is made of them is then small.
        const MOST: usize = 256;
        let most = |n: usize| if n <= MOST { Ok(n) } else { Err(too_many(self, i, n)) };
        if let Some(storage) = storage_at(self, i) {
            if storage.dtype() != DType::Long {
                return Err(self.expected(i, "torch.LongStorage or numbers"));
            }
            let mut out = numbers_for(most(storage.len())?)?;
            for at in 0..storage.len() {
                out.push(storage.get(at)?.to_i64());
            }
            return Ok(out);
        }
        if self.kind(i) == Kind::Table {
            let table = self.abs(i);
            let mut out = numbers_for(most(self.raw_len(table))?)?;
            for n in 1..=self.raw_len(table) as i64 {
                self.raw_get_index(table, n);
                let value = self.to_integer(-1);
                let kind = self.kind(-1);
                self.pop(1);
                out.push(value.ok_or_else(|| {
                    self.bad_value(i, format_args!("expected a table of integers, got a {} in it", kind.name()))
                })?);
            }
            return Ok(out);
        }
        if self.kind(i) != Kind::Number {
            return Err(self.expected(i, "torch.LongStorage or numbers"));
        }
        let mut out = numbers_for(usize::try_from(self.top() - i + 1).unwrap_or_default())?;
        for i in i..=self.top() {
            out.push(self.integer(i)?);
        }
        Ok(out)
    }

    /// The sizes from slot `i` on, in any of the forms of [`Lua::numbers`].
    pub fn sizes(self, i: c_int) -> Result<Sizes> {
        let numbers = self.numbers(i)?;
        let mut out = Sizes::new();
        out.try_reserve(numbers.len()).map_err(|_| Error::no_memory())?;
        for &n in &numbers {
            out.push(size(self, i, n)?);
        }
        Ok(out)
    }

    /// The element type named in slot `i` (`float`, `torch.FloatTensor`).
    pub fn dtype(self, i: c_int) -> Result<DType> {
        let name = self.bytes(i)?;
        DType::parse(std::str::from_utf8(name).unwrap_or("?")).map_err(|e| self.bad_value(i, e.what()))
    }

    /// Whether slot `i` holds a tensor.
    pub fn is_tensor(self, i: c_int) -> bool {
        self.is_object::<Tensor>(i)
    }
}

/// A size as a number of elements.
pub(super) fn size(lua: Lua<'_>, i: c_int, n: i64) -> Result<usize> {
    usize::try_from(n).map_err(|_| lua.bad_value(i, format_args!("size {n} is negative")))
}

/// Where the result of `[res,] src, …` goes, as Torch7 has it: a method writes to its `self`, a function to a new
/// tensor or to a first tensor beyond those that it needs.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// The tensor in this slot.
    Slot(c_int),
    /// A new one.
    New,
}

/// The arguments of an operation with a result: target, source, and where the other arguments begin.
#[derive(Debug)]
pub struct Form {
    pub target: Target,
    pub src: Tensor,
    pub rest: c_int,
}

impl Form {
    /// Reads `[res,] src, rest…`, where `rest` are the last `count` arguments. The place tells methods from functions.
    pub fn read(lua: Lua<'_>, count: c_int) -> Result<Form> {
        let lead = lua.top() - count;
        let method = lua.place().contains(':');
        match lead {
            ..=0 => Err(lua.expected(lua.top() + 1, "torch.Tensor or a number")),
            1 => {
                let src = lua.tensor(1)?;
                Ok(Form { target: if method { Target::Slot(1) } else { Target::New }, src, rest: 2 })
            }
            2 => {
                lua.tensor(1)?;
                Ok(Form { target: Target::Slot(1), src: lua.tensor(2)?, rest: 3 })
            }
            _ => Err(err!(Argument, "expected at most {} arguments, got {}", count + 2, lua.top())),
        }
    }

    /// Pushes the result: of the source's sizes, of type `dtype`.
    pub fn result(&self, lua: Lua<'_>, dtype: DType) -> Result<Tensor> {
        result(lua, self.target, dtype, self.src.sizes())
    }
}

/// Pushes the tensor that takes a result of these sizes: a new one, or the target resized to them.
pub(super) fn result(lua: Lua<'_>, target: Target, dtype: DType, sizes: &[usize]) -> Result<Tensor> {
    match target {
        Target::New => {
            let tensor = Tensor::with_sizes(dtype, sizes)?;
            push(lua, tensor.clone())?;
            Ok(tensor)
        }
        Target::Slot(i) => {
            lua.push_value(i);
            let mut at = lua.tensor_mut(i)?;
            if at.dtype() != dtype {
                drop(at);
                return Err(lua.expected(i, &format!("{} for the result", dtype.tensor_class())));
            }
            at.resize(sizes)?;
            let tensor = at.clone();
            drop(at);
            lua.recharge::<Tensor>(i);
            Ok(tensor)
        }
    }
}
