//! The inner loops: what is done to elements, for all types, strides and instruction sets.
//!
//! Each loop is written once, over raw pointers and strides, with a branch for elements that lie side by side, which
//! the compiler turns into vector code. It is compiled twice, for the machine's baseline and for AVX2, and the
//! processor is asked which to run; and it is compiled for the three types that are computed in (`convert` converts the
//! others). Raw pointers, because views overlap and other threads may be at the same elements (see
//! [`Span`](crate::tensor::Span)): loops read and write values one by one and the compiler itself checks for overlap
//! before it vectorises.
//!
//! Imports its siblings `convert`, `transpose`, `vector` and `walk`.

use smallvec::SmallVec;

use super::convert::{CHUNK, Chunk, loader, storer};
use super::transpose;
use super::vector::vectorised;
use super::walk::walk;
use crate::dispatch;
use crate::err;
use crate::error::Result;
use crate::tensor::data::dtype::{DType, Element, by_size, convert as convert_number};
use crate::tensor::data::layout;
use crate::tensor::data::number::Number;
use crate::tensor::data::overlap::disturbs;
use crate::tensor::data::view::{Operand, Tensor};

/// A function of `A` to `R` that loops call: spelt as a trait so that the macro's bounds stay plain paths.
pub(super) trait F1<A, R>: Fn(A) -> R {}
impl<A, R, F: Fn(A) -> R> F1<A, R> for F {}

/// A function of `A` and `B` to `R`.
pub(super) trait F2<A, B, R>: Fn(A, B) -> R {}
impl<A, B, R, F: Fn(A, B) -> R> F2<A, B, R> for F {}

vectorised! {
    /// `d = f(a)` for `p = [d, a]`, `s` their strides.
    ///
    /// # Safety
    /// `n` elements from each pointer on, its stride apart, lie in memory that is held.
    unsafe fn map_run<D: Element, A: Element, F: F1<A, D>>(p: [*mut u8; 2], s: [isize; 2], n: usize, f: &F) -> () {
        let (d, a, n) = (p[0].cast::<D>(), p[1].cast::<A>(), n as isize);
        if s == [1, 1] {
            if p[0] == p[1] {
                // In place: said by itself, since the overlap would keep the general loop from being vectorised.
                let a = d.cast::<A>();
                for i in 0..n {
                    // SAFETY: within the n elements.
                    unsafe { *d.offset(i) = f(*a.offset(i)) }
                }
            } else {
                for i in 0..n {
                    // SAFETY: within the n elements.
                    unsafe { *d.offset(i) = f(*a.offset(i)) }
                }
            }
        } else {
            for i in 0..n {
                // SAFETY: within the n elements.
                unsafe { *d.offset(i * s[0]) = f(*a.offset(i * s[1])) }
            }
        }
    }
}

vectorised! {
    /// `d = f(a, b)` for `p = [d, a, b]`, `s` their strides.
    ///
    /// # Safety
    /// `n` elements from each pointer on, its stride apart, lie in memory that is held.
    unsafe fn zip_run<D: Element, A: Element, F: F2<A, A, D>>(p: [*mut u8; 3], s: [isize; 3], n: usize, f: &F) -> () {
        let (d, a, b, n) = (p[0].cast::<D>(), p[1].cast::<A>(), p[2].cast::<A>(), n as isize);
        if s == [1, 1, 1] {
            if p[0] == p[1] {
                let a = d.cast::<A>();
                for i in 0..n {
                    // SAFETY: within the n elements.
                    unsafe { *d.offset(i) = f(*a.offset(i), *b.offset(i)) }
                }
            } else {
                for i in 0..n {
                    // SAFETY: within the n elements.
                    unsafe { *d.offset(i) = f(*a.offset(i), *b.offset(i)) }
                }
            }
        } else {
            for i in 0..n {
                // SAFETY: within the n elements.
                unsafe { *d.offset(i * s[0]) = f(*a.offset(i * s[1]), *b.offset(i * s[2])) }
            }
        }
    }
}

/// Refuses operands whose element counts differ; says both.
pub(super) fn same_count(a: &Tensor, b: &Tensor) -> Result<()> {
    if a.numel() == b.numel() {
        return Ok(());
    }
    Err(err!(
        Argument,
        "expected tensors of equally many elements, got {} elements (size {}) and {} (size {})",
        a.numel(),
        layout::describe(a.sizes()),
        b.numel(),
        layout::describe(b.sizes())
    ))
}

/// Refuses a tensor of another element type: only `copy` converts.
pub(in crate::tensor) fn check(t: &Tensor, dtype: DType) -> Result<()> {
    if t.dtype() == dtype {
        return Ok(());
    }
    Err(err!(Argument, "expected a {}, got a {}; convert it first", dtype.tensor_class(), t.dtype().tensor_class()))
}

/// What `run` does with the first of its operands: the others are read.
#[derive(Clone, Copy, PartialEq)]
pub(in crate::tensor) enum First {
    /// It is read too.
    Read,
    /// It is written, all of it, and not read.
    Written,
}

/// Checks that the tensors have equally many elements and holds their memory, then has `run` called for all of it as
/// [`walk`] does, with elements of the types in `wanted`: each the tensor's own or its compute type, to which they are
/// converted. Where writing the first would change what is read of another later, that one is copied before.
///
/// What kernels do apart from their loops is here, in code that is compiled once: hundreds of loops are made from them.
pub(in crate::tensor) fn over<const N: usize>(
    tensors: [&Tensor; N],
    wanted: [DType; N],
    first: First,
    run: &mut dyn FnMut([*mut u8; N], [isize; N], usize),
) -> Result<()> {
    for (t, wanted) in tensors.into_iter().zip(wanted) {
        same_count(tensors[0], t)?;
        assert!(t.dtype() == wanted || t.dtype().compute() == wanted, "a kernel was called for another element type");
    }
    if tensors[0].numel() == 0 {
        return Ok(());
    }
    let mut operands: SmallVec<[Operand<'_>; 4]> = SmallVec::new();
    for t in tensors {
        operands.push(t.operand()?);
    }
    let operands: [&Operand<'_>; N] = std::array::from_fn(|i| &operands[i]);
    if first == First::Written && operands[1..].iter().any(|source| disturbs(operands[0], source)) {
        // As if all sources had been copied first.
        let copies: SmallVec<[Tensor; 4]> =
            tensors[1..].iter().map(|source| source.apart_from(tensors[0])).collect::<Result<_>>()?;
        let tensors = std::array::from_fn(|i| if i == 0 { tensors[0] } else { &copies[i - 1] });
        return over(tensors, wanted, first, run);
    }
    let staged = std::array::from_fn(|i| tensors[i].dtype() != wanted[i]);
    if staged == [false; N] {
        walk(operands, run);
    } else {
        walk_staged(tensors.map(Tensor::dtype), operands, staged, first, run);
    }
    Ok(())
}

/// [`walk`] in chunks, with the operands in `staged` converted to their compute type and back.
fn walk_staged<const N: usize>(
    dtypes: [DType; N],
    operands: [&Operand<'_>; N],
    staged: [bool; N],
    first: First,
    run: &mut dyn FnMut([*mut u8; N], [isize; N], usize),
) {
    let (load, store) = (dtypes.map(loader), storer(dtypes[0]));
    let mut chunks: [Chunk; N] = std::array::from_fn(|_| Chunk::new());
    let chunks = chunks.each_mut().map(Chunk::as_mut_ptr);
    walk(operands, &mut |p, s, n| {
        for done in (0..n).step_by(CHUNK) {
            let m = CHUNK.min(n - done);
            let at: [*mut u8; N] =
                std::array::from_fn(|i| p[i].wrapping_offset(done as isize * s[i] * operands[i].item as isize));
            let (mut q, mut t) = (at, s);
            for i in (0..N).filter(|&i| staged[i]) {
                (q[i], t[i]) = (chunks[i], 1);
                if i > 0 || first == First::Read {
                    // SAFETY: `m` ≤ CHUNK elements of the run, which `walk` holds, and room for a chunk.
                    unsafe { load[i](at[i], s[i], chunks[i], m) }
                }
            }
            run(q, t, m);
            if staged[0] && first == First::Written {
                // SAFETY: as above; `run` has written the chunk.
                unsafe { store(at[0], s[0], chunks[0], m) }
            }
        }
    });
}

/// Sets every element of `d` to `v`, of its own type.
pub(in crate::tensor) fn fill<D: Element>(d: &Tensor, v: D) -> Result<()> {
    over([d], [D::DTYPE], First::Written, &mut |[p], [s], n| {
        for i in 0..n as isize {
            // SAFETY: `over` hands out memory that is held, of elements of this type.
            unsafe { *p.cast::<D>().offset(i * s) = v }
        }
    })
}

/// `d[i] = f(a[i])` for all elements, computed in `C`; `a` may be `d`.
pub(in crate::tensor) fn map<C: Number>(d: &Tensor, a: &Tensor, f: impl Fn(C) -> C) -> Result<()> {
    check(a, d.dtype())?;
    // SAFETY: `over` hands out memory that is held, of elements of this type.
    over([d, a], [C::DTYPE; 2], First::Written, &mut |p, s, n| unsafe { map_run::<C, C, _>(p, s, n, &f) })
}

/// `d[i] = f(a[i])` for all elements, computed in `f32` by a function of many numbers at a time; `a` may be `d`.
pub(in crate::tensor) fn map_many(d: &Tensor, a: &Tensor, f: fn(&mut [f32])) -> Result<()> {
    check(a, d.dtype())?;
    let (load, store) = (loader(DType::Float), storer(DType::Float));
    over([d, a], [DType::Float; 2], First::Written, &mut |p, s, n| {
        let mut numbers = [0f32; CHUNK];
        for start in (0..n).step_by(CHUNK) {
            let m = CHUNK.min(n - start);
            let at = |i: usize| p[i].wrapping_offset(start as isize * s[i] * size_of::<f32>() as isize);
            // SAFETY: the next m elements of the run, in memory that `over` holds, and as many numbers of our own.
            unsafe { load(at(1), s[1], numbers.as_mut_ptr().cast(), m) }
            f(&mut numbers[..m]);
            // SAFETY: as above.
            unsafe { store(at(0), s[0], numbers.as_mut_ptr().cast(), m) }
        }
    })
}

/// `d[i] = f(a[i], b[i])` for all elements, computed in `C`; `a` or `b` may be `d`.
pub(in crate::tensor) fn zip<C: Number>(d: &Tensor, a: &Tensor, b: &Tensor, f: impl Fn(C, C) -> C) -> Result<()> {
    check(a, d.dtype())?;
    check(b, d.dtype())?;
    // SAFETY: `over` hands out memory that is held, of elements of this type.
    over([d, a, b], [C::DTYPE; 3], First::Written, &mut |p, s, n| unsafe { zip_run::<C, C, _>(p, s, n, &f) })
}

/// `d[i] = f(a[i])` for all elements of a ByteTensor `d`.
pub(in crate::tensor) fn test<C: Number>(d: &Tensor, a: &Tensor, f: impl Fn(C) -> u8) -> Result<()> {
    // SAFETY: `over` hands out memory that is held, of elements of these types.
    over([d, a], [DType::Byte, C::DTYPE], First::Written, &mut |p, s, n| unsafe { map_run::<u8, C, _>(p, s, n, &f) })
}

/// `d[i] = f(a[i], b[i])` for all elements of a ByteTensor `d`.
pub(in crate::tensor) fn test2<C: Number>(d: &Tensor, a: &Tensor, b: &Tensor, f: impl Fn(C, C) -> u8) -> Result<()> {
    check(b, a.dtype())?;
    over([d, a, b], [DType::Byte, C::DTYPE, C::DTYPE], First::Written, &mut |p, s, n| {
        // SAFETY: `over` hands out memory that is held, of elements of these types.
        unsafe { zip_run::<u8, C, _>(p, s, n, &f) }
    })
}

/// `d[i] = f(a[i], b[i], c[i])` for all elements, computed in `C`; any of them may be `d`.
pub(in crate::tensor) fn zip3<C: Number>(d: &Tensor, [a, b, c]: [&Tensor; 3], f: impl Fn(C, C, C) -> C) -> Result<()> {
    [a, b, c].into_iter().try_for_each(|t| check(t, d.dtype()))?;
    over([d, a, b, c], [C::DTYPE; 4], First::Written, &mut |p, s, n| {
        let [d, a, b, c] = p.map(|p| p.cast::<C>());
        for i in 0..n as isize {
            // SAFETY: `over` hands out memory that is held, of elements of this type.
            unsafe { *d.offset(i * s[0]) = f(*a.offset(i * s[1]), *b.offset(i * s[2]), *c.offset(i * s[3])) }
        }
    })
}

/// `d[i] = a[i]` for all elements, which may be of two types: converted between their compute types.
pub(in crate::tensor) fn convert(d: &Tensor, a: &Tensor) -> Result<()> {
    dispatch!(d.dtype(), compute D => dispatch!(a.dtype(), compute A => {
        over([d, a], [<D as Element>::DTYPE, <A as Element>::DTYPE], First::Written, &mut |p, s, n| {
            // SAFETY: `over` hands out memory that is held, of elements of these types.
            unsafe { map_run::<D, A, _>(p, s, n, &convert_number) }
        })
    }))
}

/// Copies elements of one type, by their size alone.
pub(in crate::tensor) fn copy(d: &Tensor, a: &Tensor) -> Result<()> {
    check(a, d.dtype())?;
    if let Some(dims) = transpose::crossed(d, a)
        && !d.meets(a)?
    {
        return transpose::copy(d, a, dims);
    }
    over([d, a], [d.dtype(); 2], First::Written, &mut |p, s, n| {
        // SAFETY: `over` hands out memory that is held, of elements of this size; any bytes are a number.
        by_size!(d.dtype(), W => unsafe { copy_run::<W>(p, s, n) })
    })
}

/// `d = a` for `p = [d, a]`, `s` their strides.
///
/// # Safety
/// `n` elements from each pointer on, its stride apart, lie in memory that is held.
unsafe fn copy_run<W: Copy>(p: [*mut u8; 2], s: [isize; 2], n: usize) {
    let (d, a) = (p[0].cast::<W>(), p[1].cast::<W>());
    if s == [1, 1] {
        // SAFETY: the n elements; `copy` allows them to overlap.
        unsafe { std::ptr::copy(a, d, n) }
    } else {
        for i in 0..n as isize {
            // SAFETY: within the n elements.
            unsafe { *d.offset(i * s[0]) = *a.offset(i * s[1]) }
        }
    }
}
