//! Sorting along a dimension.
//!
//! Stands on: copy, dtype, fold, number, view.

use super::dtype::DType;
use super::fold::each_line;
use super::memory::room;
use super::number::Number;
use super::view::Tensor;
use crate::dispatch;
use crate::error::Result;

fn sort<C: Number>(t: &Tensor, dim: usize, descending: bool) -> Result<(Tensor, Tensor)> {
    t.layout().check_dim(dim)?;
    let values = t.clone_data()?;
    let places = Tensor::with_sizes(DType::Long, t.sizes())?;
    // What is sorted are integers that order as the elements do, each with its place. No two pairs are equal, so that
    // equal elements keep their order.
    let mut keys: Vec<(u64, usize)> = room(t.sizes()[dim])?;
    let mut sorted: Vec<C> = room(t.sizes()[dim])?;
    each_line::<C>(&values, Some(&places), dim, &mut |line, places| {
        keys.clear();
        keys.extend(line.iter().enumerate().map(|(k, v)| (if descending { !v.key() } else { v.key() }, k)));
        keys.sort_unstable();
        sorted.clear();
        sorted.extend(keys.iter().map(|&(_, k)| line[k]));
        line.copy_from_slice(&sorted);
        places.iter_mut().zip(&keys).for_each(|(place, &(_, k))| *place = k as i64 + 1);
    })?;
    Ok((values, places))
}

impl Tensor {
    /// The elements sorted along a dimension, and for each its place before, from 1, as a LongTensor. Equal elements
    /// keep their order; NaN counts as the largest.
    pub fn sort(&self, dim: usize, descending: bool) -> Result<(Tensor, Tensor)> {
        dispatch!(self.dtype(), compute C => sort::<C>(self, dim, descending))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_are_sorted_with_their_former_places() {
        let t = Tensor::from_slice(&[3.0f32, 1.0, 2.0, 1.0, 5.0, 4.0]).unwrap().view(&[2, 3]).unwrap();
        let (v, i) = t.sort(1, false).unwrap();
        assert_eq!(v.to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0, 1.0, 4.0, 5.0]);
        assert_eq!(i.to_vec::<i64>().unwrap(), [2, 3, 1, 1, 3, 2]);
        let (v, i) = t.t().unwrap().sort(1, true).unwrap();
        assert_eq!(v.to_vec::<f32>().unwrap(), [3.0, 1.0, 5.0, 1.0, 4.0, 2.0]);
        assert_eq!(i.to_vec::<i64>().unwrap(), [1, 2, 2, 1, 2, 1]);
        assert!(t.sort(2, false).is_err());
        assert!(Tensor::new(DType::Float).sort(0, false).is_err());
    }

    #[test]
    fn equal_elements_keep_their_order_and_nan_is_largest() {
        let t = Tensor::from_slice(&[f64::NAN, 1.0, f64::INFINITY, 1.0]).unwrap();
        let (v, i) = t.sort(0, false).unwrap();
        assert_eq!(i.to_vec::<i64>().unwrap(), [2, 4, 3, 1]);
        assert!(v.to_vec::<f64>().unwrap()[3].is_nan());
        assert_eq!(t.sort(0, true).unwrap().1.to_vec::<i64>().unwrap(), [1, 3, 2, 4]);
    }
}
