//! The reductions: sums, products, extremes, moments, norms, truth.
//!
//! Floats are summed in `f64` and integers in `i64`, as Torch7 does. The extreme of elements with a NaN among them is
//! NaN.
//!
//! Imports its sibling `fold`.

use super::fold::{LANES, Reduction};
use crate::tensor::data::dtype::convert;
use crate::tensor::data::number::Number;

/// What sums of `C` add up in.
pub(in crate::tensor) type Wide<C> = <C as Number>::Wide;

/// The sum.
pub(in crate::tensor) struct Sum;

impl<C: Number> Reduction<C> for Sum {
    const LANES: usize = LANES;
    type Acc = Wide<C>;
    fn start(&self) -> Wide<C> {
        Wide::<C>::default()
    }
    #[inline(always)]
    fn step(&self, acc: Wide<C>, v: C, _: usize) -> Wide<C> {
        acc.add(convert(v))
    }
    #[inline(always)]
    fn join(&self, a: Wide<C>, b: Wide<C>) -> Wide<C> {
        a.add(b)
    }
}

/// The product.
pub(in crate::tensor) struct Prod;

impl<C: Number> Reduction<C> for Prod {
    type Acc = Wide<C>;
    fn start(&self) -> Wide<C> {
        Wide::<C>::from_i64(1)
    }
    #[inline(always)]
    fn step(&self, acc: Wide<C>, v: C, _: usize) -> Wide<C> {
        acc.mul(convert(v))
    }
    #[inline(always)]
    fn join(&self, a: Wide<C>, b: Wide<C>) -> Wide<C> {
        a.mul(b)
    }
}

/// The largest element, or the smallest, without its place.
pub(in crate::tensor) struct Extreme<const MAX: bool>;

impl<C: Number, const MAX: bool> Reduction<C> for Extreme<MAX> {
    const LANES: usize = LANES;
    type Acc = C;
    fn start(&self) -> C {
        if MAX { C::LEAST } else { C::MOST }
    }
    #[inline(always)]
    fn step(&self, acc: C, v: C, _: usize) -> C {
        if MAX { v.larger(acc) } else { v.smaller(acc) }
    }
    #[inline(always)]
    fn join(&self, a: C, b: C) -> C {
        if MAX { a.larger(b) } else { a.smaller(b) }
    }
}

/// The largest element of a line, or the smallest, with its place: the first of equal ones, the first NaN before all.
pub(in crate::tensor) struct ArgExtreme<const MAX: bool>;

impl<const MAX: bool> ArgExtreme<MAX> {
    /// The place of the extreme, from 0.
    pub(in crate::tensor) fn found(at: usize) -> usize {
        if at == usize::MAX { 0 } else { at }
    }

    /// Whether `v` at `at` comes before `w` at `wat`.
    #[inline(always)]
    fn wins<C: Number>(v: C, at: usize, w: C, wat: usize) -> bool {
        match (v.is_nan(), w.is_nan()) {
            (true, true) => at < wat,
            (true, false) => true,
            (false, true) => false,
            _ if v == w => at < wat,
            _ => (v > w) == MAX,
        }
    }
}

// `!(v <= w)` is meant: it holds for NaN.
#[allow(clippy::neg_cmp_op_on_partial_ord)]
impl<C: Number, const MAX: bool> Reduction<C> for ArgExtreme<MAX> {
    type Acc = (C, usize);
    fn start(&self) -> Self::Acc {
        // A place past all others: it stays only when all elements equal the starting value (see `found`).
        (if MAX { C::LEAST } else { C::MOST }, usize::MAX)
    }
    #[inline(always)]
    fn step(&self, acc: Self::Acc, v: C, at: usize) -> Self::Acc {
        // Rarely true, so that most elements cost one comparison: a better one, or a NaN on either side.
        let maybe = if MAX { !(v <= acc.0) } else { !(v >= acc.0) };
        if maybe && Self::wins(v, at, acc.0, acc.1) { (v, at) } else { acc }
    }
    #[inline(always)]
    fn join(&self, a: Self::Acc, b: Self::Acc) -> Self::Acc {
        if Self::wins(b.0, b.1, a.0, a.1) { b } else { a }
    }
}

/// Count, mean and sum of squared differences from it (Welford; parts are joined as Chan has it).
pub(in crate::tensor) struct Moments;

impl<C: Number> Reduction<C> for Moments {
    type Acc = (f64, f64, f64);
    fn start(&self) -> Self::Acc {
        (0.0, 0.0, 0.0)
    }
    #[inline(always)]
    fn step(&self, (n, mean, m2): Self::Acc, v: C, _: usize) -> Self::Acc {
        let (n, d) = (n + 1.0, v.to_f64() - mean);
        let mean = mean + d / n;
        (n, mean, m2 + d * (v.to_f64() - mean))
    }
    #[inline(always)]
    fn join(&self, a: Self::Acc, b: Self::Acc) -> Self::Acc {
        if a.0 == 0.0 || b.0 == 0.0 {
            return if a.0 == 0.0 { b } else { a };
        }
        let (n, d) = (a.0 + b.0, b.1 - a.1);
        (n, a.1 + d * b.0 / n, a.2 + b.2 + d * d * a.0 * b.0 / n)
    }
}

/// The sum of squares.
pub(in crate::tensor) struct Squares;

impl<C: Number> Reduction<C> for Squares {
    const LANES: usize = LANES;
    type Acc = f64;
    fn start(&self) -> f64 {
        0.0
    }
    #[inline(always)]
    fn step(&self, acc: f64, v: C, _: usize) -> f64 {
        acc + v.to_f64() * v.to_f64()
    }
    #[inline(always)]
    fn join(&self, a: f64, b: f64) -> f64 {
        a + b
    }
}

/// `sum |x|^p`: the count of non-zeros for p = 0, the largest for p = ∞.
pub(in crate::tensor) struct Norm(pub f64);

impl Norm {
    /// The norm of what was reduced.
    pub(in crate::tensor) fn finish(&self, acc: f64) -> f64 {
        match self.0 {
            0.0 | 1.0 | f64::INFINITY => acc,
            p => acc.powf(1.0 / p),
        }
    }
}

impl<C: Number> Reduction<C> for Norm {
    type Acc = f64;
    fn start(&self) -> f64 {
        0.0
    }
    #[inline(always)]
    fn step(&self, acc: f64, v: C, _: usize) -> f64 {
        let v = v.to_f64().abs();
        match self.0 {
            1.0 => acc + v,
            0.0 => acc + f64::from(u8::from(v != 0.0)),
            f64::INFINITY => acc.larger(v),
            p => acc + v.powf(p),
        }
    }
    #[inline(always)]
    fn join(&self, a: f64, b: f64) -> f64 {
        if self.0 == f64::INFINITY { a.larger(b) } else { a + b }
    }
}

/// Whether all elements are non-zero, and whether any is.
pub(in crate::tensor) struct Truth;

impl<C: Number> Reduction<C> for Truth {
    type Acc = (bool, bool);
    fn start(&self) -> (bool, bool) {
        (true, false)
    }
    #[inline(always)]
    fn step(&self, (all, any): (bool, bool), v: C, _: usize) -> (bool, bool) {
        let is = v != C::default();
        (all & is, any | is)
    }
    #[inline(always)]
    fn join(&self, a: (bool, bool), b: (bool, bool)) -> (bool, bool) {
        (a.0 & b.0, a.1 | b.1)
    }
}
