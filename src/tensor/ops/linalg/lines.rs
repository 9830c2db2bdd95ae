//! Sums of products along lines, which `dot` and products of a matrix and a vector are made of.
//!
//! Imports nothing of its parent.

use crate::tensor::data::dtype::{Element, convert};
use crate::tensor::data::number::Number;
use crate::tensor::kernel::vector::vectorised;

/// What products add up in.
pub(super) type Wide<T> = <<T as Element>::Compute as Number>::Wide;

/// Products that are added up side by side: four AVX2 registers of f32.
const LANES: usize = 32;

/// After so many products the lanes' sums go into the wide type: sums of 32 lose little, and adding them up in the
/// elements' own type takes half of the time.
const BLOCK: usize = 32 * LANES;

vectorised! {
    /// The sum of the products of two lines of `n` elements, added up in several lanes of the wide type.
    ///
    /// # Safety
    /// `n` elements from each pointer on, its stride apart, lie in memory that is held.
    pub(super) unsafe fn dot_line<T: Element>(
        n: usize, a: *const T, down_a: isize, b: *const T, down_b: isize
    ) -> Wide<T> {
        let mut lanes = [Wide::<T>::default(); LANES];
        let whole = n / LANES * LANES;
        if down_a == 1 && down_b == 1 {
            for block in (0..whole).step_by(BLOCK) {
                let mut short = [T::Compute::default(); LANES];
                for i in (block..whole.min(block + BLOCK)).step_by(LANES) {
                    for (j, sum) in short.iter_mut().enumerate() {
                        // SAFETY: i + j < whole <= n.
                        let (x, y) = unsafe { (*a.add(i + j), *b.add(i + j)) };
                        *sum = sum.add(x.load().mul(y.load()));
                    }
                }
                for (lane, sum) in lanes.iter_mut().zip(short) {
                    *lane = lane.add(convert(sum));
                }
            }
        } else {
            for i in (0..whole).step_by(LANES) {
                for (j, lane) in lanes.iter_mut().enumerate() {
                    let at = (i + j) as isize;
                    // SAFETY: i + j < whole <= n.
                    let (x, y) = unsafe { (*a.offset(at * down_a), *b.offset(at * down_b)) };
                    *lane = lane.add(convert::<_, Wide<T>>(x.load()).mul(convert(y.load())));
                }
            }
        }
        for i in whole..n {
            // SAFETY: i < n.
            let (x, y) = unsafe { (*a.offset(i as isize * down_a), *b.offset(i as isize * down_b)) };
            lanes[i - whole] = lanes[i - whole].add(convert::<_, Wide<T>>(x.load()).mul(convert(y.load())));
        }
        let mut width = LANES;
        while width > 1 {
            width /= 2;
            for j in 0..width {
                lanes[j] = lanes[j].add(lanes[j + width]);
            }
        }
        lanes[0]
    }
}

/// Lines that are read side by side: the processor fetches several streams from memory faster than one.
pub(super) const ROWS: usize = 4;

vectorised! {
    /// As [`dot_line`], of a vector and of each of several lines, `down` apart; `L` lanes for each. All their elements
    /// lie one after the other.
    ///
    /// # Safety
    /// All lines and the vector, `n` elements each, lie in memory that is held.
    pub(super) unsafe fn dot_rows<T: Element; const L: usize>(
        n: usize, a: *const T, down: isize, x: *const T
    ) -> [Wide<T>; ROWS] {
        let mut lanes = [[Wide::<T>::default(); L]; ROWS];
        let whole = n / L * L;
        for block in (0..whole).step_by(32 * L) {
            let mut short = [[T::Compute::default(); L]; ROWS];
            for i in (block..whole.min(block + 32 * L)).step_by(L) {
                let mut v = [T::Compute::default(); L];
                for (j, v) in v.iter_mut().enumerate() {
                    // SAFETY: i + j < whole <= n.
                    *v = unsafe { *x.add(i + j) }.load();
                }
                for (row, sums) in short.iter_mut().enumerate() {
                    for (j, sum) in sums.iter_mut().enumerate() {
                        // SAFETY: as above, of one of the lines.
                        *sum = sum.add(unsafe { *a.offset(row as isize * down).add(i + j) }.load().mul(v[j]));
                    }
                }
            }
            for (lanes, short) in lanes.iter_mut().zip(short) {
                for (lane, sum) in lanes.iter_mut().zip(short) {
                    *lane = lane.add(convert(sum));
                }
            }
        }
        let mut sums = [Wide::<T>::default(); ROWS];
        for (row, (sum, lanes)) in sums.iter_mut().zip(lanes).enumerate() {
            *sum = lanes.into_iter().fold(*sum, |sum, lane| sum.add(lane));
            for i in whole..n {
                // SAFETY: i < n.
                let (a, x) = unsafe { (*a.offset(row as isize * down).add(i), *x.add(i)) };
                *sum = sum.add(convert::<_, Wide<T>>(a.load()).mul(convert(x.load())));
            }
        }
        sums
    }
}

vectorised! {
    /// Adds `v` times each element of a line, its elements `s` apart, to a sum each.
    ///
    /// # Safety
    /// As many elements as there are sums lie in memory that is held.
    pub(super) unsafe fn add_line<T: Element>(sums: &mut [Wide<T>], line: *const T, s: isize, v: Wide<T>) -> () {
        if s == 1 {
            for (i, sum) in sums.iter_mut().enumerate() {
                // SAFETY: an element for each sum.
                *sum = sum.add(convert::<_, Wide<T>>(unsafe { *line.add(i) }.load()).mul(v));
            }
        } else {
            for (i, sum) in sums.iter_mut().enumerate() {
                // SAFETY: an element for each sum.
                *sum = sum.add(convert::<_, Wide<T>>(unsafe { *line.offset(i as isize * s) }.load()).mul(v));
            }
        }
    }
}
