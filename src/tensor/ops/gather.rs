//! Slices and elements picked by tensors of indices.
//!
//! Indices are LongTensors that count from 1, as everything that a user sees. All of them are checked before anything
//! is written, and once more as they are used, since other threads may write them.
//!
//! Imports its sibling `shape`.

use crate::err;
use crate::error::Result;
use crate::tensor::data::dtype::{DType, by_size};
use crate::tensor::data::layout::{Layout, describe};
use crate::tensor::data::memory::room;
use crate::tensor::data::number::Scalar;
use crate::tensor::data::view::Tensor;
use crate::tensor::kernel::walk::{walk, walk_in_order};

/// Refuses a tensor that is no LongTensor.
fn expect_indices(index: &Tensor) -> Result<()> {
    if index.dtype() == DType::Long {
        return Ok(());
    }
    Err(err!(Argument, "expected a {} as indices, got a {}", DType::Long.tensor_class(), index.dtype().tensor_class()))
}

/// An index from 1 as a position from 0; unlike a user's own index it does not count back from the end.
#[inline(always)]
fn from_one(index: i64, size: usize, dim: usize) -> Result<usize> {
    let at = (index as u64).wrapping_sub(1);
    if at < size as u64 { Ok(at as usize) } else { Err(out_of_range(index, size, dim)) }
}

#[cold]
fn out_of_range(index: i64, size: usize, dim: usize) -> crate::error::Error {
    err!(Argument, "index {index} is out of range: dimension {} has {size} elements", dim + 1)
}

/// Calls `f` with every index, in row-major order.
fn each_index(index: &Tensor, mut f: impl FnMut(i64) -> Result<()>) -> Result<()> {
    if index.numel() == 0 {
        return Ok(());
    }
    let mut outcome = Ok(());
    walk_in_order([&index.operand()?], &mut |[p], [s], n| {
        for i in 0..n as isize {
            if outcome.is_ok() {
                // SAFETY: element i of a run of a LongTensor that `walk_in_order` hands out, whose operand is held.
                outcome = f(unsafe { *p.cast::<i64>().offset(i * s) });
            }
        }
    });
    outcome
}

/// Copies slices between two tensors of one type: slice `to(k)` of `d` along `dim` is slice `from(k)` of `a`, for each
/// `k` below `count`, in this order. The sizes of both are the same but along `dim`.
///
/// # Panics
/// When the sizes or types differ, or a slice is not there.
fn copy_slices(
    d: &Tensor,
    a: &Tensor,
    dim: usize,
    count: usize,
    to: impl Fn(usize) -> usize,
    from: impl Fn(usize) -> usize,
) -> Result<()> {
    assert!(d.dtype() == a.dtype() && (0..count).all(|k| to(k) < d.sizes()[dim] && from(k) < a.sizes()[dim]));
    if count == 0 {
        return Ok(());
    }
    let (first_d, first_a) = (d.layout().narrow(dim, 0, 1)?, a.layout().narrow(dim, 0, 1)?);
    assert!(first_d.sizes() == first_a.sizes(), "slices of different sizes");
    let (step_d, step_a) = (d.strides()[dim], a.strides()[dim]);
    let (whole_d, whole_a) = (d.operand()?, a.operand()?);
    by_size!(d.dtype(), W => {
        walk([&whole_d.restricted(&first_d), &whole_a.restricted(&first_a)], &mut |[d, a], [sd, sa], n| {
            let (d, a, n) = (d.cast::<W>(), a.cast::<W>(), n as isize);
            let steps = |k: usize| (to(k) as isize * step_d, from(k) as isize * step_a);
            if n == 1 || sa > step_a {
                // Slices of one element, or elements of a line along `dim` lie closer together than those of a slice.
                for i in 0..n {
                    for k in 0..count {
                        let (down, along) = steps(k);
                        // SAFETY: element i of a run of the first slices, and its like in slices that are there: both
                        // operands hold all of their tensors.
                        unsafe { *d.offset(i * sd + down) = *a.offset(i * sa + along) }
                    }
                }
                return;
            }
            for k in 0..count {
                let (down, along) = steps(k);
                if sd == 1 && sa == 1 {
                    // SAFETY: as above, for a whole run; `copy` allows an overlap.
                    unsafe { std::ptr::copy(a.offset(along), d.offset(down), n as usize) }
                    continue;
                }
                for i in 0..n {
                    // SAFETY: as above.
                    unsafe { *d.offset(i * sd + down) = *a.offset(i * sa + along) }
                }
            }
        });
    });
    Ok(())
}

impl Tensor {
    /// The indices in `index` as positions in dimension `dim`, from 0.
    fn positions(&self, dim: usize, index: &Tensor) -> Result<Vec<usize>> {
        expect_indices(index)?;
        self.layout().check_dim(dim)?;
        if index.ndim() > 1 {
            return Err(err!(
                Argument,
                "expected indices of one dimension, got a tensor of size {}",
                describe(index.sizes())
            ));
        }
        let size = self.sizes()[dim];
        let mut positions = room(index.numel())?;
        each_index(index, |i| {
            positions.push(from_one(i, size, dim)?);
            Ok(())
        })?;
        Ok(positions)
    }

    /// The slice at position `at` of a dimension, also of the only one.
    fn slice(&self, dim: usize, at: usize) -> Result<Tensor> {
        if self.ndim() == 1 { self.narrow(dim, at, 1) } else { self.select(dim, at) }
    }

    /// This tensor, or a copy of it if it has elements in common with `other`: for what is not read in step with it.
    pub(super) fn separate_from(&self, other: &Tensor) -> Result<Tensor> {
        if self.meets(other)? { self.clone_data() } else { Ok(self.clone()) }
    }

    /// The slices of dimension `dim` that `index` names, in its order.
    pub fn index_select(&self, dim: usize, index: &Tensor) -> Result<Tensor> {
        // The slices of a vector are elements, which need no list of their places.
        if (self.ndim(), index.ndim(), dim) == (1, 1, 0) {
            return self.gather(dim, index);
        }
        let positions = self.positions(dim, index)?;
        let mut sizes = self.sizes().to_vec();
        sizes[dim] = positions.len();
        // SAFETY: all slices are written, or it is dropped.
        let out = unsafe { Tensor::unwritten(self.dtype(), &sizes)? };
        copy_slices(&out, self, dim, positions.len(), |k| k, |k| positions[k])?;
        Ok(out)
    }

    /// Copies the slices of `source` to the slices of dimension `dim` that `index` names.
    pub fn index_copy(&self, dim: usize, index: &Tensor, source: &Tensor) -> Result<()> {
        let positions = self.positions(dim, index)?;
        source.layout().check_dim(dim)?;
        if source.sizes()[dim] != positions.len() {
            return Err(err!(
                Argument,
                "expected as many slices as indices, got {} along dimension {} for {}",
                source.sizes()[dim],
                dim + 1,
                positions.len()
            ));
        }
        let alike =
            source.ndim() == self.ndim() && (0..self.ndim()).all(|d| d == dim || source.sizes()[d] == self.sizes()[d]);
        if alike && source.dtype() == self.dtype() {
            let source = source.separate_from(self)?;
            return copy_slices(self, &source, dim, positions.len(), |k| positions[k], |k| k);
        }
        // Slices of other types or shapes are converted as `copy` does it. One that is written may be still to be read.
        let source = source.separate_from(self)?;
        for (i, at) in positions.into_iter().enumerate() {
            self.slice(dim, at)?.copy_from(&source.slice(dim, i)?)?;
        }
        Ok(())
    }

    /// Sets the slices of dimension `dim` that `index` names to `value`.
    pub fn index_fill(&self, dim: usize, index: &Tensor, value: impl Into<Scalar>) -> Result<()> {
        let positions = self.positions(dim, index)?;
        let value = self.repeated(self.sizes(), value.into())?;
        copy_slices(self, &value, dim, positions.len(), |k| positions[k], |_| 0)
    }

    /// A number as a tensor of this type and of these sizes, in the memory of one element.
    fn repeated(&self, sizes: &[usize], value: Scalar) -> Result<Tensor> {
        let one = Tensor::with_sizes(self.dtype(), &[1])?;
        one.fill(value)?;
        one.expand(sizes)
    }

    /// Elements picked along a dimension: out[i][j] = self[index[i][j]][j] for dimension 0, and so on.
    pub fn gather(&self, dim: usize, index: &Tensor) -> Result<Tensor> {
        let base = self.index_base(dim, index)?;
        // SAFETY: it is dropped if an index is out of range; else all elements are written.
        let out = unsafe { Tensor::unwritten(self.dtype(), index.sizes())? };
        if index.numel() == 0 {
            return Ok(out);
        }
        let (size, step) = (self.sizes()[dim], self.strides()[dim]);
        let (a, index, d) = (self.operand()?, index.operand()?, out.operand()?);
        let mut bad = None;
        by_size!(self.dtype(), W => {
            walk([&d, &index, &a.restricted(&base)], &mut |[d, index, a], [sd, si, sa], n| {
                let (d, index, a) = (d.cast::<W>(), index.cast::<i64>(), a.cast::<W>());
                for i in 0..n as isize {
                    // SAFETY: element i of runs that `walk` hands out; the operands are held.
                    let at = unsafe { *index.offset(i * si) }.wrapping_sub(1) as usize;
                    if at < size {
                        // SAFETY: as above; `a` is the first element of a line along `dim`, which has an element `at`.
                        unsafe { *d.offset(i * sd) = *a.offset(i * sa + at as isize * step) }
                    } else {
                        bad = bad.or(Some(at.wrapping_add(1) as i64));
                    }
                }
            });
        });
        match bad {
            Some(index) => Err(out_of_range(index, size, dim)),
            None => Ok(out),
        }
    }

    /// The reverse of [`gather`](Self::gather): self[index[i][j]][j] = source[i][j].
    pub fn scatter(&self, dim: usize, index: &Tensor, source: &Tensor) -> Result<()> {
        if source.sizes() != index.sizes() {
            return Err(err!(
                Argument,
                "expected a source of the size of the indices, {}, got {}",
                describe(index.sizes()),
                describe(source.sizes())
            ));
        }
        let base = self.index_base(dim, index)?;
        let (size, step) = (self.sizes()[dim], self.strides()[dim]);
        each_index(index, |i| from_one(i, size, dim).map(drop))?;
        if index.numel() == 0 {
            return Ok(());
        }
        let source =
            if source.dtype() == self.dtype() { source.separate_from(self)? } else { source.to_dtype(self.dtype())? };
        let index = index.separate_from(self)?;
        let (d, index, a) = (self.operand()?, index.operand()?, source.operand()?);
        by_size!(self.dtype(), W => {
            // In order: of several elements for one place the last one stays.
            walk_in_order([&d.restricted(&base), &index, &a], &mut |[d, index, a], [sd, si, sa], n| {
                let (d, index, a) = (d.cast::<W>(), index.cast::<i64>(), a.cast::<W>());
                for i in 0..n as isize {
                    // SAFETY: element i of runs that `walk_in_order` hands out; the operands are held.
                    let at = unsafe { *index.offset(i * si) }.wrapping_sub(1) as usize;
                    if at < size {
                        // SAFETY: as above; `d` is the first element of a line along `dim`, which has an element `at`.
                        unsafe { *d.offset(i * sd + at as isize * step) = *a.offset(i * sa) }
                    }
                }
            });
        });
        Ok(())
    }

    /// [`scatter`](Self::scatter) of one number.
    pub fn scatter_fill(&self, dim: usize, index: &Tensor, value: impl Into<Scalar>) -> Result<()> {
        self.index_base(dim, index)?;
        if index.numel() == 0 {
            return Ok(());
        }
        self.scatter(dim, index, &self.repeated(index.sizes(), value.into())?)
    }

    /// Where the elements that `index` stands for would lie if all indices were 1: a layout of its sizes whose stride
    /// along `dim` is 0.
    fn index_base(&self, dim: usize, index: &Tensor) -> Result<Layout> {
        expect_indices(index)?;
        self.layout().check_dim(dim)?;
        let fits =
            index.ndim() == self.ndim() && (0..self.ndim()).all(|d| d == dim || index.sizes()[d] == self.sizes()[d]);
        if !fits {
            return Err(err!(
                Argument,
                "expected indices of the tensor's size {} but for dimension {}, got {}",
                describe(self.sizes()),
                dim + 1,
                describe(index.sizes())
            ));
        }
        let mut strides = self.strides().to_vec();
        strides[dim] = 0;
        Layout::new(self.offset(), index.sizes(), Some(&strides))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// 1 2 3 / 4 5 6
    fn six() -> Tensor {
        Tensor::from_slice(&[1i32, 2, 3, 4, 5, 6]).unwrap().view(&[2, 3]).unwrap()
    }

    fn longs(v: &[i64]) -> Tensor {
        Tensor::from_slice(v).unwrap()
    }

    fn values(t: &Tensor) -> Vec<i32> {
        t.to_vec().unwrap()
    }

    #[test]
    fn slices_are_picked_and_put_back_by_index() {
        let t = six();
        let picked = t.index_select(1, &longs(&[3, 1, 3])).unwrap();
        assert_eq!((picked.sizes(), values(&picked)), (&[2, 3][..], vec![3, 1, 3, 6, 4, 6]));
        t.index_copy(1, &longs(&[1]), &Tensor::from_slice(&[7i32, 8]).unwrap().view(&[2, 1]).unwrap()).unwrap();
        t.index_fill(0, &longs(&[2]), 0).unwrap();
        assert_eq!(values(&t), [7, 2, 3, 0, 0, 0]);
        for bad in [0, -1, 4, i64::MIN, i64::MAX] {
            assert!(t.index_select(1, &longs(&[bad])).is_err(), "{bad}");
        }
        assert!(t.index_select(2, &longs(&[1])).is_err() && t.index_copy(1, &longs(&[1, 2]), &t).is_err());
        let line = Tensor::from_slice(&[5i32, 6, 7]).unwrap();
        assert_eq!(values(&line.index_select(0, &longs(&[2, 2])).unwrap()), [6, 6]);
    }

    #[test]
    fn gather_and_scatter_are_each_other_s_reverse() {
        let t = six();
        let index = longs(&[3, 1, 2, 2]).view(&[2, 2]).unwrap();
        let got = t.gather(1, &index).unwrap();
        assert_eq!(values(&got), [3, 1, 5, 5]);
        let out = Tensor::with_sizes(DType::Int, &[2, 3]).unwrap();
        out.scatter(1, &index, &got).unwrap();
        assert_eq!(values(&out), [1, 0, 3, 0, 5, 0]);
        out.scatter_fill(1, &index, 9).unwrap();
        assert_eq!(values(&out), [9, 0, 9, 0, 9, 0]);
        assert!(t.gather(0, &index).is_err() && t.gather(5, &index).is_err());
        assert!(t.gather(1, &longs(&[4, 1]).view(&[2, 1]).unwrap()).is_err());
    }
}
