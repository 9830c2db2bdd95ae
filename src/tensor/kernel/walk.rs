//! How kernels go over strided views: several operands with equally many elements, in runs along which each has one
//! stride.

use smallvec::SmallVec;

use crate::tensor::data::layout::Layout;
use crate::tensor::data::overlap::repeats;
use crate::tensor::data::view::Operand;

/// Calls `run(pointers, strides, n)` for stretches of elements until all are covered: in each, operand `i` has its next
/// `n` elements at `pointers[i]`, `strides[i]` elements apart.
///
/// Operands have equally many elements; their shapes may differ, elements then correspond in row-major order, as Torch
/// has it. With equal shapes the order of elements is free, and follows the memory of the first operand, unless two of
/// that one's elements may lie in one place: then it is the row-major order, in which the last one stays.
///
/// Every address handed out lies within its operand: the layouts were checked against the memory when the [`Operand`]s
/// were made. The erased `run` keeps this walk out of the code that is compiled per element type.
pub(in crate::tensor) fn walk<const N: usize>(
    operands: [&Operand<'_>; N],
    run: &mut dyn FnMut([*mut u8; N], [isize; N], usize),
) {
    let equal = operands.iter().all(|o| o.layout.sizes() == operands[0].layout.sizes());
    walk_as(operands, equal && !repeats(operands[0].layout), run);
}

/// [`walk`], always in row-major order.
pub(in crate::tensor) fn walk_in_order<const N: usize>(
    operands: [&Operand<'_>; N],
    run: &mut dyn FnMut([*mut u8; N], [isize; N], usize),
) {
    walk_as(operands, false, run);
}

/// [`walk`]; when the order is `free`, in the order of the first operand's memory.
fn walk_as<const N: usize>(
    operands: [&Operand<'_>; N],
    free: bool,
    run: &mut dyn FnMut([*mut u8; N], [isize; N], usize),
) {
    let total = operands[0].layout.numel();
    debug_assert!(operands.iter().all(|o| o.layout.numel() == total), "operands of different element counts");
    if operands.iter().all(|o| o.layout.is_contiguous()) {
        return run(operands.map(|o| o.first), [1; N], total);
    }
    let mut at = operands.map(|o| Odometer::new(o.first, o.item));
    if free {
        // A total order of dimensions by how far apart elements lie in the first operand, then in the others.
        let mut order: SmallVec<[usize; 8]> = (0..operands[0].layout.ndim()).collect();
        order.sort_by(|&a, &b| {
            let strides = |d: usize| operands.map(|o| o.layout.strides()[d]);
            strides(b).cmp(&strides(a))
        });
        for (odometer, operand) in at.iter_mut().zip(operands) {
            odometer.dimensions(operand.layout, order.iter().copied());
        }
    } else {
        for (odometer, operand) in at.iter_mut().zip(operands) {
            odometer.dimensions(operand.layout, 0..operand.layout.ndim());
        }
    }
    let mut left = total;
    while left > 0 {
        let n = at.iter().map(Odometer::run).min().unwrap_or(left).min(left);
        run(at.each_ref().map(|o| o.ptr), at.each_ref().map(Odometer::stride), n);
        left -= n;
        if left > 0 {
            at.iter_mut().for_each(|o| o.advance(n));
        }
    }
}

/// One operand's position: a counter per dimension, the fastest last.
struct Odometer {
    ptr: *mut u8,
    item: isize,
    dims: SmallVec<[Dim; 4]>,
}

#[derive(Clone, Copy)]
struct Dim {
    size: usize,
    stride: isize,
    at: usize,
}

impl Odometer {
    fn new(ptr: *mut u8, item: usize) -> Odometer {
        Odometer { ptr, item: item as isize, dims: SmallVec::new() }
    }

    /// Takes over the dimensions in this order; those that continue each other in memory become one.
    fn dimensions(&mut self, layout: &Layout, order: impl Iterator<Item = usize>) {
        for d in order {
            let (size, stride) = (layout.sizes()[d], layout.strides()[d]);
            if size == 1 {
                continue;
            }
            match self.dims.last_mut() {
                Some(outer) if outer.stride == size as isize * stride => {
                    *outer = Dim { size: outer.size * size, stride, at: 0 };
                }
                _ => self.dims.push(Dim { size, stride, at: 0 }),
            }
        }
        if self.dims.is_empty() {
            self.dims.push(Dim { size: 1, stride: 1, at: 0 });
        }
    }

    /// Elements left along the fastest dimension.
    fn run(&self) -> usize {
        self.dims.last().map_or(1, |d| d.size - d.at)
    }

    fn stride(&self) -> isize {
        self.dims.last().map_or(1, |d| d.stride)
    }

    /// Goes on by `n` ≤ [`run`](Self::run) elements. The pointer wraps instead of offsetting: between two dimensions it
    /// may stand outside the memory for a moment, where it is not used.
    fn advance(&mut self, n: usize) {
        let mut step = n;
        for d in self.dims.iter_mut().rev() {
            d.at += step;
            self.ptr = self.ptr.wrapping_offset(step as isize * d.stride * self.item);
            if d.at < d.size {
                return;
            }
            self.ptr = self.ptr.wrapping_offset(-(d.size as isize * d.stride * self.item));
            d.at = 0;
            step = 1;
        }
    }
}
