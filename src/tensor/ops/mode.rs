//! The most frequent elements along a dimension.
//!
//! Imports its siblings `shape` and `sort`.

use crate::dispatch;
use crate::error::Result;
use crate::sys::try_push;
use crate::tensor::data::dtype::Element;
use crate::tensor::data::storage::Storage;
use crate::tensor::data::view::Tensor;

fn mode<T: Element>(t: &Tensor, dim: usize) -> Result<(Tensor, Tensor)> {
    let (sorted, places) = t.sort(dim, false)?;
    let last = t.ndim() - 1;
    let sorted_lines = sorted.transpose(dim, last)?;
    let mut sizes = sorted_lines.sizes().to_vec();
    let n = std::mem::replace(&mut sizes[last], 1);
    let (elements, places) = (sorted_lines.to_vec::<T>()?, places.transpose(dim, last)?.to_vec::<i64>()?);
    let (mut values, mut indices) = (Vec::new(), Vec::new());
    for (line, places) in elements.chunks_exact(n).zip(places.chunks_exact(n)) {
        // Equal elements stand together, in the order of their places: a longer run wins, of equally long ones the
        // first.
        let (mut best, mut at, mut run) = (0, 0, 0);
        for k in 0..n {
            run = if k > 0 && line[k] == line[k - 1] { run + 1 } else { 1 };
            if run > best {
                (best, at) = (run, k);
            }
        }
        try_push(&mut values, line[at])?;
        try_push(&mut indices, places[at])?;
    }
    let back = |storage: Storage| Tensor::from_storage(&storage, 0, &sizes, None)?.transpose(dim, last)?.clone_data();
    Ok((back(Storage::from_slice(&values)?)?, back(Storage::from_slice(&indices)?)?))
}

impl Tensor {
    /// The most frequent elements along a dimension, of several the smallest, and the places of their last appearances,
    /// from 1, as a LongTensor. No NaN equals another.
    pub fn mode(&self, dim: usize) -> Result<(Tensor, Tensor)> {
        self.layout().check_dim(dim)?;
        dispatch!(self.dtype(), T => mode::<T>(self, dim))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_most_frequent_element_is_found_along_each_dimension() {
        let t = Tensor::from_slice(&[1i32, 2, 2, 3, 2, 3, 3, 3]).unwrap().view(&[2, 4]).unwrap();
        let (values, places) = t.mode(1).unwrap();
        assert_eq!((values.sizes(), values.to_vec::<i32>().unwrap()), (&[2, 1][..], vec![2, 3]));
        assert_eq!(places.to_vec::<i64>().unwrap(), [3, 4]);
        let (values, places) = t.mode(0).unwrap();
        assert_eq!((values.sizes(), values.to_vec::<i32>().unwrap()), (&[1, 4][..], vec![1, 2, 2, 3]));
        assert_eq!(places.to_vec::<i64>().unwrap(), [1, 1, 1, 2]);
        assert!(t.mode(2).is_err());
    }
}
