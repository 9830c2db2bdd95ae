//! Between element types and the three that arithmetic is done in.
//!
//! Kernels are compiled for `i64`, `f32` and `f64` alone. Elements of the other six types are converted into a buffer
//! that lies in the cache, a chunk at a time, computed on there and stored back: a third of the code, and for small
//! types the vector instructions that their own loops would not have had.
//!
//! Imports its sibling `vector`.

use std::mem::MaybeUninit;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::vector::vectorised;
use crate::dispatch;
use crate::tensor::data::dtype::{DType, Element};

/// Elements converted at a time: 4 KB of the widest.
pub(in crate::tensor) const CHUNK: usize = 512;

/// Room for a chunk of any compute type.
#[repr(align(64))]
pub(super) struct Chunk(MaybeUninit<[u64; CHUNK]>);

impl Chunk {
    pub(in crate::tensor) fn new() -> Chunk {
        Chunk(MaybeUninit::uninit())
    }

    pub(in crate::tensor) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }
}

/// Converts `n` elements, a stride apart, to numbers side by side; or numbers side by side to elements, a stride apart.
pub(super) type Transfer = unsafe fn(elements: *mut u8, stride: isize, numbers: *mut u8, n: usize);

/// How elements of `dtype` become numbers of its compute type. Both ends lie in memory that is held, and do not
/// overlap.
pub(super) fn loader(dtype: DType) -> Transfer {
    match dtype {
        DType::Half => load_halves,
        _ => dispatch!(dtype, T => load_run::<T> as Transfer),
    }
}

/// How numbers of the compute type of `dtype` become its elements.
pub(super) fn storer(dtype: DType) -> Transfer {
    match dtype {
        DType::Half => store_halves,
        _ => dispatch!(dtype, T => store_run::<T> as Transfer),
    }
}

/// [`load_run`] for half precision: the crate `half` has instructions of several processors for many at a time, and
/// asks which there are once for all of them. It takes slices, so elements that others may write are copied first.
///
/// # Safety
/// `n` elements, `s` apart, and `n` numbers lie in memory that is held.
unsafe fn load_halves(p: *mut u8, s: isize, q: *mut u8, n: usize) {
    let (p, q) = (p.cast::<f16>(), q.cast::<f32>());
    let (mut elements, mut numbers) = ([f16::ZERO; CHUNK], [0f32; CHUNK]);
    for start in (0..n).step_by(CHUNK) {
        let m = CHUNK.min(n - start);
        // SAFETY: the next m of the n elements.
        unsafe { copy_strided(p.wrapping_offset(start as isize * s), s, elements.as_mut_ptr(), 1, m) }
        elements[..m].convert_to_f32_slice(&mut numbers[..m]);
        // SAFETY: the next m of the n numbers.
        unsafe { std::ptr::copy_nonoverlapping(numbers.as_ptr(), q.add(start), m) }
    }
}

/// [`store_run`] for half precision.
///
/// # Safety
/// `n` elements, `s` apart, and `n` numbers lie in memory that is held.
unsafe fn store_halves(p: *mut u8, s: isize, q: *mut u8, n: usize) {
    let (p, q) = (p.cast::<f16>(), q.cast::<f32>());
    let (mut elements, mut numbers) = ([f16::ZERO; CHUNK], [0f32; CHUNK]);
    for start in (0..n).step_by(CHUNK) {
        let m = CHUNK.min(n - start);
        // SAFETY: the next m of the n numbers.
        unsafe { std::ptr::copy_nonoverlapping(q.add(start), numbers.as_mut_ptr(), m) }
        elements[..m].convert_from_f32_slice(&numbers[..m]);
        // SAFETY: the next m of the n elements.
        unsafe { copy_strided(elements.as_mut_ptr(), 1, p.wrapping_offset(start as isize * s), s, m) }
    }
}

/// Copies `n` elements, `sa` apart, to `n` others, `sd` apart.
///
/// # Safety
/// Both lie in memory that is held, and do not overlap.
#[inline(always)]
unsafe fn copy_strided<T: Copy>(a: *const T, sa: isize, d: *mut T, sd: isize, n: usize) {
    if sa == 1 && sd == 1 {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(a, d, n) }
    } else {
        for i in 0..n as isize {
            // SAFETY: within the n elements.
            unsafe { *d.offset(i * sd) = *a.offset(i * sa) }
        }
    }
}

vectorised! {
    /// # Safety
    /// `n` elements of type `T`, `s` apart, and `n` numbers of its compute type lie in memory that is held.
    unsafe fn load_run<T: Element>(p: *mut u8, s: isize, q: *mut u8, n: usize) -> () {
        let (p, q, n) = (p.cast::<T>(), q.cast::<T::Compute>(), n as isize);
        if s == 1 {
            for i in 0..n {
                // SAFETY: within the n elements.
                unsafe { *q.offset(i) = (*p.offset(i)).load() }
            }
        } else {
            for i in 0..n {
                // SAFETY: within the n elements.
                unsafe { *q.offset(i) = (*p.offset(i * s)).load() }
            }
        }
    }
}

vectorised! {
    /// # Safety
    /// `n` elements of type `T`, `s` apart, and `n` numbers of its compute type lie in memory that is held.
    unsafe fn store_run<T: Element>(p: *mut u8, s: isize, q: *mut u8, n: usize) -> () {
        let (p, q, n) = (p.cast::<T>(), q.cast::<T::Compute>(), n as isize);
        if s == 1 {
            for i in 0..n {
                // SAFETY: within the n elements.
                unsafe { *p.offset(i) = T::store(*q.offset(i)) }
            }
        } else {
            for i in 0..n {
                // SAFETY: within the n elements.
                unsafe { *p.offset(i * s) = T::store(*q.offset(i)) }
            }
        }
    }
}
