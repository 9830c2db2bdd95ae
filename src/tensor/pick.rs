//! Elements picked by masks and by tensors of indices.
//!
//! Masks are ByteTensors, indices LongTensors that count from 1, as everything that a user sees.
//!
//! Stands on: copy, element, elements, layout, memory, overlap, shape, view.

use super::dtype::DType;
use super::layout::{Layout, describe};
use super::memory::{more_room, room};
use super::number::Scalar;
use super::shape::position;
use super::storage::Storage;
use super::view::Tensor;
use crate::err;
use crate::error::Result;

/// The storage of a tensor that has elements.
fn held(tensor: &Tensor) -> Result<&Storage> {
    tensor.storage().ok_or_else(|| err!(State, "a tensor without a storage"))
}

fn expect(tensor: &Tensor, dtype: DType, what: &str) -> Result<()> {
    if tensor.dtype() == dtype {
        return Ok(());
    }
    Err(err!(Argument, "expected a {} as {what}, got a {}", dtype.tensor_class(), tensor.dtype().tensor_class()))
}

impl Tensor {
    /// The places in the storage of the elements where `mask` is not 0.
    fn chosen(&self, mask: &Tensor) -> Result<Vec<usize>> {
        expect(mask, DType::Byte, "a mask")?;
        if mask.numel() != self.numel() {
            return Err(err!(
                Argument,
                "expected a mask of {} elements (size {}), got {} (size {})",
                self.numel(),
                describe(self.sizes()),
                mask.numel(),
                describe(mask.sizes())
            ));
        }
        let bytes = mask.to_vec::<u8>()?;
        let mut chosen = room(bytes.iter().filter(|b| **b != 0).count())?;
        chosen.extend(self.layout().places().zip(bytes).filter(|(_, b)| *b != 0).map(|(place, _)| place));
        Ok(chosen)
    }

    /// The elements where `mask` is not 0, in one dimension.
    pub fn masked_select(&self, mask: &Tensor) -> Result<Tensor> {
        let chosen = self.chosen(mask)?;
        let out = Tensor::with_sizes(self.dtype(), &[chosen.len()])?;
        for (i, place) in chosen.into_iter().enumerate() {
            held(&out)?.put(i, held(self)?.get(place)?)?;
        }
        Ok(out)
    }

    /// Sets the elements where `mask` is not 0 to `value`.
    pub fn masked_fill(&self, mask: &Tensor, value: impl Into<Scalar>) -> Result<()> {
        let value = value.into();
        self.chosen(mask)?.into_iter().try_for_each(|place| held(self)?.put(place, value))
    }

    /// Sets the elements where `mask` is not 0 to the first elements of `source`, one after the other.
    pub fn masked_copy(&self, mask: &Tensor, source: &Tensor) -> Result<()> {
        let chosen = self.chosen(mask)?;
        if source.numel() < chosen.len() {
            return Err(err!(
                Argument,
                "expected at least {} elements for as many places in the mask, got {}",
                chosen.len(),
                source.numel()
            ));
        }
        // A copy: the two may overlap.
        let source = source.clone_data()?;
        for (i, place) in chosen.into_iter().enumerate() {
            held(self)?.put(place, held(&source)?.get(i)?)?;
        }
        Ok(())
    }

    /// The positions, from 1, of the elements that are not 0: a row each, or nothing.
    pub fn nonzero(&self) -> Result<Tensor> {
        let mut found: Vec<i64> = Vec::new();
        for (n, place) in self.layout().places().enumerate() {
            if held(self)?.get(place)?.to_f64() == 0.0 {
                continue;
            }
            let start = found.len();
            more_room(&mut found, self.ndim())?;
            let mut rest = n;
            for &size in self.sizes().iter().rev() {
                found.push((rest % size) as i64 + 1);
                rest /= size;
            }
            found[start..].reverse();
        }
        if found.is_empty() {
            return Ok(Tensor::new(DType::Long));
        }
        let rows = found.len() / self.ndim();
        Tensor::from_storage(&Storage::from_slice(&found)?, 0, &[rows, self.ndim()], None)
    }

    /// The indices in `index` as positions in dimension `dim`, from 0.
    fn positions(&self, dim: usize, index: &Tensor) -> Result<Vec<usize>> {
        expect(index, DType::Long, "indices")?;
        self.layout().check_dim(dim)?;
        if index.ndim() > 1 {
            return Err(err!(
                Argument,
                "expected indices of one dimension, got a tensor of size {}",
                describe(index.sizes())
            ));
        }
        let indices = index.to_vec::<i64>()?;
        let mut positions = room(indices.len())?;
        for i in indices {
            positions.push(from_one(i, self.sizes()[dim], dim)?);
        }
        Ok(positions)
    }

    /// The slice at position `at` of a dimension, also of the only one.
    fn slice(&self, dim: usize, at: usize) -> Result<Tensor> {
        if self.ndim() == 1 { self.narrow(dim, at, 1) } else { self.select(dim, at) }
    }

    /// The slices of dimension `dim` that `index` names, in its order.
    pub fn index_select(&self, dim: usize, index: &Tensor) -> Result<Tensor> {
        let positions = self.positions(dim, index)?;
        let mut sizes = self.sizes().to_vec();
        sizes[dim] = positions.len();
        let out = Tensor::with_sizes(self.dtype(), &sizes)?;
        for (i, at) in positions.into_iter().enumerate() {
            out.slice(dim, i)?.copy_from(&self.slice(dim, at)?)?;
        }
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
        // A slice that is written may be one that is still to be read.
        let source = if self.meets(source)? { source.clone_data()? } else { source.clone() };
        for (i, at) in positions.into_iter().enumerate() {
            self.slice(dim, at)?.copy_from(&source.slice(dim, i)?)?;
        }
        Ok(())
    }

    /// Sets the slices of dimension `dim` that `index` names to `value`.
    pub fn index_fill(&self, dim: usize, index: &Tensor, value: impl Into<Scalar>) -> Result<()> {
        let value = value.into();
        self.positions(dim, index)?.into_iter().try_for_each(|at| self.slice(dim, at)?.fill(value))
    }

    /// Elements picked along a dimension: out[i][j] = self[index[i][j]][j] for dimension 0, and so on.
    pub fn gather(&self, dim: usize, index: &Tensor) -> Result<Tensor> {
        let out = Tensor::with_sizes(self.dtype(), index.sizes())?;
        let pairs = self.paired(dim, index)?;
        for (i, place) in pairs.into_iter().enumerate() {
            held(&out)?.put(i, held(self)?.get(place)?)?;
        }
        Ok(out)
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
        let source = source.clone_data()?;
        for (i, place) in self.paired(dim, index)?.into_iter().enumerate() {
            held(self)?.put(place, held(&source)?.get(i)?)?;
        }
        Ok(())
    }

    /// [`scatter`](Self::scatter) of one number.
    pub fn scatter_fill(&self, dim: usize, index: &Tensor, value: impl Into<Scalar>) -> Result<()> {
        let value = value.into();
        self.paired(dim, index)?.into_iter().try_for_each(|place| held(self)?.put(place, value))
    }

    /// For each element of `index` the place in this storage that it stands for along `dim`.
    fn paired(&self, dim: usize, index: &Tensor) -> Result<Vec<usize>> {
        expect(index, DType::Long, "indices")?;
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
        // Where the element would lie if its index were 1: a layout of the index's sizes whose stride along `dim` is 0.
        let mut strides = self.strides().to_vec();
        strides[dim] = 0;
        let base = Layout::new(self.offset(), index.sizes(), Some(&strides))?;
        let step = self.strides()[dim] as usize;
        let indices = index.to_vec::<i64>()?;
        let mut places = room(indices.len())?;
        for (place, i) in base.places().zip(indices) {
            places.push(place + step * from_one(i, self.sizes()[dim], dim)?);
        }
        Ok(places)
    }
}

/// An index from 1 as a position from 0; unlike a user's own index it does not count back from the end.
fn from_one(index: i64, size: usize, dim: usize) -> Result<usize> {
    position(if index < 0 { 0 } else { index }, size, dim)
        .map_err(|_| err!(Argument, "index {index} is out of range: dimension {} has {size} elements", dim + 1))
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
    fn masks_choose_elements_in_row_major_order() {
        let mask = Tensor::from_slice(&[1u8, 0, 7, 0, 0, 1]).unwrap();
        let t = six();
        assert_eq!(values(&t.masked_select(&mask).unwrap()), [1, 3, 6]);
        t.masked_fill(&mask, 9).unwrap();
        assert_eq!(values(&t), [9, 2, 9, 4, 5, 9]);
        t.masked_copy(&mask, &Tensor::from_slice(&[10i32, 20, 30, 40]).unwrap()).unwrap();
        assert_eq!(values(&t), [10, 2, 20, 4, 5, 30]);
        assert!(t.masked_copy(&mask, &Tensor::from_slice(&[10i32]).unwrap()).is_err());
        assert!(t.masked_select(&Tensor::from_slice(&[1u8]).unwrap()).is_err());
        assert!(t.masked_select(&t).is_err());
        let none = Tensor::with_sizes(DType::Byte, &[6]).unwrap();
        assert_eq!(t.masked_select(&none).unwrap().numel(), 0);
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

    #[test]
    fn nonzero_lists_positions() {
        let t = Tensor::from_slice(&[0i32, 5, 0, 0, 0, 6]).unwrap().view(&[2, 3]).unwrap();
        assert_eq!(t.nonzero().unwrap().to_vec::<i64>().unwrap(), [1, 2, 2, 3]);
        assert_eq!(Tensor::new(DType::Int).nonzero().unwrap().numel(), 0);
    }
}
