//! Elements one by one, in row-major order: for what is neither arithmetic nor fast.
//!
//! Imports its siblings `dtype`, `layout` and `view`.

use super::dtype::Element;
use super::layout::Layout;
use super::view::Tensor;
use crate::error::Result;

/// The places of a layout's elements in its storage, in row-major order.
#[derive(Clone, Debug)]
pub struct Places {
    layout: Layout,
    /// The position of the next element in each dimension.
    at: Vec<usize>,
    place: usize,
    left: usize,
}

impl Layout {
    /// Where the elements lie in the storage, in row-major order.
    pub fn places(&self) -> Places {
        Places { at: vec![0; self.ndim()], place: self.offset(), left: self.numel(), layout: self.clone() }
    }
}

impl Iterator for Places {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let place = self.place;
        for d in (0..self.at.len()).rev() {
            let (size, stride) = (self.layout.sizes()[d], self.layout.strides()[d] as usize);
            self.at[d] += 1;
            if self.at[d] < size {
                self.place += stride;
                break;
            }
            self.at[d] = 0;
            self.place -= (size - 1) * stride;
        }
        Some(place)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Places {}

/// Replaces every element by what `f` makes of it, in row-major order. An element that a stride of 0 repeats is met
/// each time.
pub(in crate::tensor) fn each<T: Element>(tensor: &Tensor, mut f: impl FnMut(T) -> T) -> Result<()> {
    assert_eq!(tensor.dtype(), T::DTYPE, "each was called for another element type");
    if tensor.numel() == 0 {
        return Ok(());
    }
    let operand = tensor.operand()?;
    let first = operand.first.cast::<T>();
    let offset = tensor.offset();
    for place in tensor.layout().places() {
        // SAFETY: the operand was proved to hold every place of its layout; `first` is the one at the offset.
        unsafe {
            let at = first.add(place - offset);
            *at = f(*at);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn places_follow_the_strides_in_row_major_order() {
        let l = Layout::new(5, &[2, 3], Some(&[1, 10])).unwrap();
        assert_eq!(l.places().collect::<Vec<_>>(), [5, 15, 25, 6, 16, 26]);
        assert_eq!(Layout::new(2, &[3], Some(&[0])).unwrap().places().collect::<Vec<_>>(), [2, 2, 2]);
        assert_eq!(Layout::empty().places().count(), 0);
    }

    #[test]
    fn each_element_is_replaced_where_it_lies() {
        let t = Tensor::from_slice(&[1i32, 2, 3, 4]).unwrap().view(&[2, 2]).unwrap();
        let mut n = 0;
        each::<i32>(&t.t().unwrap(), |v| {
            n += 10;
            v + n
        })
        .unwrap();
        assert_eq!(t.to_vec::<i32>().unwrap(), [11, 32, 23, 44]);
    }
}
