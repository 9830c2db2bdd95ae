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

/// Lines up to this length are sorted by comparing.
const SHORT: usize = 2048;

fn sort<C: Number>(t: &Tensor, dim: usize, descending: bool) -> Result<(Tensor, Tensor)> {
    t.layout().check_dim(dim)?;
    let n = t.sizes()[dim];
    let values = t.clone_data()?;
    let places = Tensor::with_sizes(DType::Long, t.sizes())?;
    let mut sorted: Vec<C> = room(n)?;
    // What is sorted are integers that order as the elements do, each with its place. No two pairs are equal, so that
    // equal elements keep their order.
    if t.dtype().size() <= 4 && u32::try_from(n).is_ok() {
        let (mut keys, mut spare): (Vec<u64>, Vec<u64>) = (room(n)?, room(if n > SHORT { n } else { 0 })?);
        each_line::<C>(&values, Some(&places), dim, &mut |line, places| {
            let turned = if descending { u32::MAX } else { 0 };
            keys.clear();
            keys.extend(line.iter().enumerate().map(|(k, v)| u64::from(v.short_key() ^ turned) << 32 | k as u64));
            if n > SHORT {
                sort_by_digits(&mut keys, &mut spare)
            } else {
                keys.sort_unstable()
            }
            rearrange(line, places, &mut sorted, keys.iter().map(|&key| key as u32 as usize));
        })?;
    } else {
        let mut keys: Vec<(u64, usize)> = room(n)?;
        each_line::<C>(&values, Some(&places), dim, &mut |line, places| {
            keys.clear();
            keys.extend(line.iter().enumerate().map(|(k, v)| (if descending { !v.key() } else { v.key() }, k)));
            keys.sort_unstable();
            rearrange(line, places, &mut sorted, keys.iter().map(|&(_, k)| k));
        })?;
    }
    Ok((values, places))
}

/// Puts the elements of a line into this order, and says where each was, from 1.
fn rearrange<C: Copy>(line: &mut [C], places: &mut [i64], sorted: &mut Vec<C>, order: impl Iterator<Item = usize>) {
    sorted.clear();
    sorted.extend(order.zip(places).map(|(k, place)| {
        *place = k as i64 + 1;
        line[k]
    }));
    line.copy_from_slice(sorted);
}

/// Sorts by the upper 32 bits; equal ones keep their order. Four passes, each by a byte, the lowest first: each deals
/// the keys out to the places of their byte, which the counts give. `spare` has room for as many keys.
fn sort_by_digits(keys: &mut Vec<u64>, spare: &mut Vec<u64>) {
    let digit = |key: u64, pass: usize| (key >> (32 + 8 * pass)) as usize & 0xff;
    let mut counts = [[0usize; 256]; 4];
    for &key in keys.iter() {
        for (pass, counts) in counts.iter_mut().enumerate() {
            counts[digit(key, pass)] += 1;
        }
    }
    spare.resize(keys.len(), 0);
    for (pass, counts) in counts.iter_mut().enumerate() {
        if counts.contains(&keys.len()) {
            continue;
        }
        let mut start = 0;
        for count in counts.iter_mut() {
            start += std::mem::replace(count, start);
        }
        for &key in keys.iter() {
            let next = &mut counts[digit(key, pass)];
            spare[*next] = key;
            *next += 1;
        }
        std::mem::swap(keys, spare);
    }
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
