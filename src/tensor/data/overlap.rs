//! Whether views meet in memory: what is written must not be read again as a source of what comes later.
//!
//! Operations behave as if their sources had been copied first. That costs a copy only where a source and the result
//! share elements and do not go over them in step; and where a result has elements that lie in one place (an expanded
//! dimension), the last one in row-major order stays.
//!
//! Imports its siblings `layout` and `view`.

use std::cmp::Reverse;

use smallvec::SmallVec;

use super::layout::Layout;
use super::view::{Operand, Tensor};
use crate::error::Result;

/// Distances that are looked at before two views count as overlapping.
const MOST_STEPS: usize = 64;

/// A dimension of both views: its stride, and how many elements each has along it.
type Step = (usize, usize, usize);

/// What is left of a layout for the question where its elements lie: dimensions of more than one element, those of the
/// largest strides first.
fn steps(layout: &Layout) -> SmallVec<[(usize, usize); 4]> {
    let dims = layout.sizes().iter().zip(layout.strides()).filter(|(n, _)| **n > 1);
    let mut steps: SmallVec<[(usize, usize); 4]> = dims.map(|(&n, &s)| (s as usize, n)).collect();
    steps.sort_by_key(|&step| Reverse(step));
    steps
}

/// Whether two elements of a view may lie in one place. (It may say so of dimensions that interlock without meeting.)
pub(in crate::tensor) fn repeats(layout: &Layout) -> bool {
    if layout.is_contiguous() {
        return false;
    }
    let mut inner = 0;
    for (stride, n) in steps(layout).into_iter().rev() {
        if stride <= inner {
            return true;
        }
        inner += stride * (n - 1);
    }
    false
}

/// Whether elements `at` places apart, of two views with these steps, can be one: whether `at` is a sum of multiples
/// of the strides, each from 1 − second to first − 1. True as well after too many tries.
fn meets(at: i128, steps: &[Step], tries: &mut usize) -> bool {
    let Some((&(stride, first, second), rest)) = steps.split_first() else { return at == 0 };
    // What the dimensions after this one can still add or take away.
    let (more, less) = rest
        .iter()
        .fold((0i128, 0i128), |(more, less), &(s, a, b)| (more + (s * (a - 1)) as i128, less + (s * (b - 1)) as i128));
    let stride = stride as i128;
    let low = (at - more).div_euclid(stride) + i128::from((at - more).rem_euclid(stride) != 0);
    let high = (at + less).div_euclid(stride);
    for k in low.max(1 - second as i128)..=high.min(first as i128 - 1) {
        *tries += 1;
        if *tries > MOST_STEPS || meets(at - k * stride, rest, tries) {
            return true;
        }
    }
    false
}

/// The dimensions of two views, by stride, the largest first; what only one of them has, the other has one element
/// along.
fn merged(mut a: &[(usize, usize)], mut b: &[(usize, usize)]) -> SmallVec<[Step; 4]> {
    let mut both = SmallVec::new();
    loop {
        let (of_a, of_b) = (a.first().copied(), b.first().copied());
        let Some(stride) = of_a.max(of_b).map(|(stride, _)| stride) else { return both };
        let take = |list: &mut &[(usize, usize)], first: Option<(usize, usize)>| match first {
            Some((s, n)) if s == stride => {
                *list = &list[1..];
                n
            }
            _ => 1,
        };
        both.push((stride, take(&mut a, of_a), take(&mut b, of_b)));
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Whether two views may have an element in common, or part of one.
pub(super) fn meet(a: &Operand<'_>, b: &Operand<'_>) -> bool {
    let bytes = |o: &Operand<'_>| (o.layout.end() - o.layout.offset()) * o.item;
    let (first, second) = (a.first as usize, b.first as usize);
    if first + bytes(a) <= second || second + bytes(b) <= first {
        return false;
    }
    let apart = second as i128 - first as i128;
    if a.item != b.item || apart % a.item as i128 != 0 {
        return true;
    }
    let apart = apart / a.item as i128;
    let (mut of_a, mut of_b) = (steps(a.layout), steps(b.layout));
    for steps in [&mut of_a, &mut of_b] {
        steps.retain(|(stride, _)| *stride > 0);
    }
    let common = of_a.iter().chain(&of_b).fold(0, |d, &(stride, _)| gcd(stride, d));
    if common > 1 && apart % common as i128 != 0 {
        return false;
    }
    let both = merged(&of_a, &of_b);
    meets(apart, &both, &mut 0)
}

/// Whether a kernel goes over both in step: each element of `a` lies where the element of `b` of the same number does.
fn in_step(a: &Operand<'_>, b: &Operand<'_>) -> bool {
    if a.first != b.first || a.item != b.item {
        return false;
    }
    if a.layout.is_contiguous() && b.layout.is_contiguous() {
        return true;
    }
    let (x, y) = (a.layout, b.layout);
    x.sizes() == y.sizes() && (0..x.ndim()).all(|d| x.sizes()[d] == 1 || x.strides()[d] == y.strides()[d])
}

/// Whether writing to `result` may change what is read from `source` later.
pub(in crate::tensor) fn disturbs(result: &Operand<'_>, source: &Operand<'_>) -> bool {
    let in_step = in_step(result, source);
    if in_step && result.layout.is_contiguous() {
        return false;
    }
    meet(result, source) && (!in_step || repeats(result.layout))
}

impl Tensor {
    /// Whether the two may have elements in common.
    pub(in crate::tensor) fn meets(&self, other: &Tensor) -> Result<bool> {
        if self.numel() == 0 || other.numel() == 0 {
            return Ok(false);
        }
        Ok(meet(&self.operand()?, &other.operand()?))
    }

    /// This tensor, or a copy of it where writing to `result` may change what is read from it later.
    pub fn apart_from(&self, result: &Tensor) -> Result<Tensor> {
        if self.numel() == 0 || result.numel() == 0 || !disturbs(&result.operand()?, &self.operand()?) {
            return Ok(self.clone());
        }
        self.clone_data()
    }
}

#[cfg(test)]
mod tests;
