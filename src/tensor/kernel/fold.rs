//! Reducing elements to fewer: the whole tensor to one value, or every line along a dimension to one element.
//!
//! What is reduced is a [`Reduction`]; the loops here are written once for all of them. They reduce into several lanes
//! at once, which are joined at the end: that is what lets the compiler use vector registers, and it makes sums more
//! exact. The order depends on sizes and strides alone, so results repeat.
//!
//! Imports its siblings `map`, `convert`, `vector` and `walk`.

use super::convert::{CHUNK, Chunk, Transfer, loader, storer};
use super::map::{First, over};
use super::vector::vectorised;
use super::walk::walk;
use crate::error::Result;
use crate::tensor::data::memory::room;
use crate::tensor::data::number::Number;
use crate::tensor::data::view::Tensor;

/// A way to reduce numbers of the compute type `C`.
pub(in crate::tensor) trait Reduction<C: Number> {
    /// How many lanes to reduce in, a power of two up to [`LANES`]: more than one where vector registers can take it.
    const LANES: usize = 1;
    /// What has been reduced so far.
    type Acc: Copy;
    /// Nothing reduced yet.
    fn start(&self) -> Self::Acc;
    /// One more element, the `at`-th of its line.
    fn step(&self, acc: Self::Acc, v: C, at: usize) -> Self::Acc;
    /// Two parts, the elements of `a` mostly before those of `b`.
    fn join(&self, a: Self::Acc, b: Self::Acc) -> Self::Acc;
}

/// The most elements reduced side by side: four AVX2 registers of f64.
pub(in crate::tensor) const LANES: usize = 16;

/// Lines reduced side by side when the reduced dimension is not the one whose elements are neighbours.
const BLOCK: usize = 64;

vectorised! {
    /// Reduces a run of `n` elements `s` apart, the first of which is the `from`-th of its line.
    ///
    /// # Safety
    /// These elements lie in memory that is held.
    unsafe fn reduce_run<C: Number, R: Reduction<C>>(p: *const C, s: isize, n: usize, from: usize, r: &R) -> R::Acc {
        let mut lanes = [r.start(); LANES];
        let whole = n / R::LANES * R::LANES;
        if s == 1 {
            for i in (0..whole).step_by(R::LANES) {
                for (j, lane) in lanes[..R::LANES].iter_mut().enumerate() {
                    // SAFETY: i + j < whole <= n.
                    *lane = r.step(*lane, unsafe { *p.add(i + j) }, from + i + j);
                }
            }
        } else {
            for i in (0..whole).step_by(R::LANES) {
                for (j, lane) in lanes[..R::LANES].iter_mut().enumerate() {
                    // SAFETY: i + j < whole <= n.
                    *lane = r.step(*lane, unsafe { *p.offset((i + j) as isize * s) }, from + i + j);
                }
            }
        }
        for i in whole..n {
            // SAFETY: i < n.
            lanes[i - whole] = r.step(lanes[i - whole], unsafe { *p.offset(i as isize * s) }, from + i);
        }
        let mut width = R::LANES;
        while width > 1 {
            width /= 2;
            for j in 0..width {
                lanes[j] = r.join(lanes[j], lanes[j + width]);
            }
        }
        lanes[0]
    }
}

vectorised! {
    /// One more element of each of the lines: the `k`-th, side by side at `row`.
    ///
    /// # Safety
    /// As many elements as there are accumulators lie in memory that is held.
    unsafe fn reduce_row<C: Number, R: Reduction<C>>(row: *const C, k: usize, acc: &mut [R::Acc], r: &R) -> () {
        for (j, a) in acc.iter_mut().enumerate() {
            // SAFETY: one for each accumulator.
            *a = r.step(*a, unsafe { *row.add(j) }, k);
        }
    }
}

/// Where lines lie in memory, and how their elements are converted to `C` if they are not of that type.
struct Lines {
    item: isize,
    len: usize,
    stride: isize,
    load: Option<Transfer>,
}

impl Lines {
    fn at(&self, p: *mut u8, elements: isize) -> *mut u8 {
        p.wrapping_offset(elements * self.item)
    }

    /// Reduces the line that starts at `p`.
    ///
    /// # Safety
    /// The line lies in memory that is held.
    unsafe fn reduce_line<C: Number, R: Reduction<C>>(&self, p: *mut u8, chunk: &mut Chunk, r: &R) -> R::Acc {
        let Some(load) = self.load else {
            // SAFETY: the caller's promise.
            return unsafe { reduce_run(p.cast::<C>(), self.stride, self.len, 0, r) };
        };
        let mut acc = r.start();
        for done in (0..self.len).step_by(CHUNK) {
            let (m, chunk) = (CHUNK.min(self.len - done), chunk.as_mut_ptr());
            // SAFETY: m elements of the line, and room for a chunk, which then holds m numbers.
            acc = r.join(acc, unsafe {
                load(self.at(p, done as isize * self.stride), self.stride, chunk, m);
                reduce_run(chunk.cast::<C>(), 1, m, done, r)
            });
        }
        acc
    }

    /// Reduces lines that start side by side at `p`, as many as there are accumulators (no more than CHUNK).
    ///
    /// # Safety
    /// The lines lie in memory that is held.
    unsafe fn reduce_block<C: Number, R: Reduction<C>>(
        &self,
        p: *mut u8,
        acc: &mut [R::Acc],
        chunk: &mut Chunk,
        r: &R,
    ) {
        for k in 0..self.len {
            let mut row = self.at(p, k as isize * self.stride);
            // SAFETY: an element of each line, in memory that is held or in the chunk.
            unsafe {
                if let Some(load) = self.load {
                    load(row, 1, chunk.as_mut_ptr(), acc.len());
                    row = chunk.as_mut_ptr();
                }
                reduce_row(row.cast::<C>(), k, acc, r);
            }
        }
    }
}

/// Reduces all elements, in no particular order (`at` counts within a run).
pub(in crate::tensor) fn reduce<C: Number, R: Reduction<C>>(t: &Tensor, r: &R) -> Result<R::Acc> {
    let mut acc = r.start();
    over([t], [C::DTYPE], First::Read, &mut |[p], [s], n| {
        // SAFETY: `over` hands out memory that is held, of elements of this type.
        acc = r.join(acc, unsafe { reduce_run::<C, R>(p.cast(), s, n, 0, r) });
    })?;
    Ok(acc)
}

/// Reduces every line along `dim` to an element of `out`, and to one of `places` if there is such a LongTensor. Both
/// have the sizes of `t` with `dim` of size 1 (see [`reduced_sizes`]), and `out` has its type.
pub(in crate::tensor) fn reduce_dim<C: Number, R: Reduction<C>>(
    t: &Tensor,
    dim: usize,
    out: &Tensor,
    places: Option<&Tensor>,
    r: &R,
    finish: impl Fn(R::Acc) -> (C, i64),
) -> Result<()> {
    let own = t.dtype() == C::DTYPE;
    let lines = Lines {
        item: t.dtype().size() as isize,
        len: t.sizes().get(dim).copied().unwrap_or(0),
        stride: t.strides().get(dim).copied().unwrap_or(0),
        load: (!own).then(|| loader(t.dtype())),
    };
    let (store, item) = (storer(out.dtype()), out.dtype().size() as isize);
    let mut chunk = Chunk::new();
    starts(t, dim, [out, places.unwrap_or(out)], &mut |[a, b, p], [sa, sb, s], m| {
        for i in (0..m).step_by(BLOCK) {
            let (width, i) = (BLOCK.min(m - i), i as isize);
            let mut acc = [r.start(); BLOCK];
            let acc = &mut acc[..width];
            let p = lines.at(p, i * s);
            if s == 1 && lines.stride != 1 && width > 1 {
                // SAFETY: lines of a view that `starts` holds in memory.
                unsafe { lines.reduce_block::<C, R>(p, acc, &mut chunk, r) }
            } else {
                for (j, acc) in acc.iter_mut().enumerate() {
                    // SAFETY: a line of a view that `starts` holds in memory.
                    *acc = unsafe { lines.reduce_line::<C, R>(lines.at(p, j as isize * s), &mut chunk, r) };
                }
            }
            let mut values = [C::default(); BLOCK];
            for (j, acc) in acc.iter().enumerate() {
                let (value, place) = finish(*acc);
                values[j] = value;
                if places.is_some() {
                    // SAFETY: an element of `places`, a LongTensor that `starts` holds in memory.
                    unsafe { *b.cast::<i64>().wrapping_offset((i + j as isize) * sb) = place }
                }
            }
            // SAFETY: `width` elements of `out`, and as many numbers of its compute type.
            unsafe { store(a.wrapping_offset(i * sa * item), sa, values.as_mut_ptr().cast(), width) }
        }
    })
}

/// Calls `run` as [`walk`] does for two outputs and the first elements of all lines of `t` along `dim`. The whole of
/// `t` is proved to lie in memory that is held meanwhile.
fn starts(
    t: &Tensor,
    dim: usize,
    out: [&Tensor; 2],
    run: &mut dyn FnMut([*mut u8; 3], [isize; 3], usize),
) -> Result<()> {
    let first = t.layout().narrow(dim, 0, 1)?;
    let whole = t.operand()?;
    assert!(out.iter().all(|o| o.numel() == first.numel()), "an output of another size than what is reduced into it");
    walk([&out[0].operand()?, &out[1].operand()?, &whole.restricted(&first)], run);
    Ok(())
}

/// The sizes of what a reduction of `t` along `dim` gives: that dimension stays, with size 1.
pub(in crate::tensor) fn reduced_sizes(t: &Tensor, dim: usize) -> Result<Vec<usize>> {
    t.layout().check_dim(dim)?;
    let mut sizes = t.sizes().to_vec();
    sizes[dim] = 1;
    Ok(sizes)
}

/// Loads every line along `dim` of `a` as numbers of its compute type `C`, has `line` change them, and stores them in
/// `a` again.
pub(in crate::tensor) fn each_line<C: Number>(a: &Tensor, dim: usize, line: &mut dyn FnMut(&mut [C])) -> Result<()> {
    assert!(a.dtype().compute() == C::DTYPE);
    let (load, store) = (loader(a.dtype()), storer(a.dtype()));
    let first = a.layout().narrow(dim, 0, 1)?;
    let (n, stride) = (a.sizes()[dim], a.strides()[dim]);
    let whole = a.operand()?;
    let mut numbers = room(n)?;
    numbers.resize(n, C::default());
    walk([&whole.restricted(&first)], &mut |[p], [s], m| {
        for i in 0..m as isize {
            let p = p.wrapping_offset(i * s * whole.item as isize);
            // SAFETY: a line of `a`, which is held, and as many numbers.
            unsafe { load(p, stride, numbers.as_mut_ptr().cast(), n) }
            line(&mut numbers);
            // SAFETY: as above.
            unsafe { store(p, stride, numbers.as_mut_ptr().cast(), n) }
        }
    });
    Ok(())
}
