//! Where elements lie in a storage: sizes, strides and an offset, all in elements and all checked, since they come from
//! users, files and peers.

use smallvec::SmallVec;

use crate::err;
use crate::error::Result;

/// Sizes of dimensions; up to four without an allocation.
pub type Sizes = SmallVec<[usize; 4]>;

/// Strides of dimensions, never negative; up to four without an allocation.
pub type Strides = SmallVec<[isize; 4]>;

/// The most elements that anything may have: byte counts of all types stay within `isize`.
pub const MAX_ELEMENTS: usize = isize::MAX as usize / 8;

/// The shape of a view and its place in a storage.
///
/// As in Torch7 there is no dimension of size 0: what has no elements has no dimensions either, and a stride of 0
/// repeats an element. A layout that exists has an element count and a last position that fit [`MAX_ELEMENTS`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    sizes: Sizes,
    strides: Strides,
    offset: usize,
}

impl Layout {
    /// A view of nothing.
    pub fn empty() -> Layout {
        Layout::default()
    }

    /// Elements one after the other, the last dimension fastest. A size of 0 anywhere gives the empty layout.
    pub fn contiguous(sizes: &[usize]) -> Result<Layout> {
        Layout::new(0, sizes, None)
    }

    /// A view from `offset` on. A negative stride, as in Torch7, stands for what it would be if the dimension were
    /// contiguous with those after it.
    pub fn new(offset: usize, sizes: &[usize], strides: Option<&[isize]>) -> Result<Layout> {
        if let Some(s) = strides
            && s.len() != sizes.len()
        {
            return Err(err!(
                Argument,
                "expected as many strides as sizes, got {} strides for {} sizes",
                s.len(),
                sizes.len()
            ));
        }
        if sizes.is_empty() || sizes.contains(&0) {
            return if offset <= MAX_ELEMENTS {
                Ok(Layout { offset, ..Layout::default() })
            } else {
                Err(too_large(sizes))
            };
        }
        count(sizes)?;
        let mut layout =
            Layout { sizes: Sizes::from_slice(sizes), strides: Strides::from_elem(1, sizes.len()), offset };
        let mut natural = 1usize;
        for d in (0..sizes.len()).rev() {
            let stride = match strides.map(|s| s[d]) {
                Some(s) if s >= 0 => s as usize,
                _ => natural,
            };
            if stride > MAX_ELEMENTS {
                return Err(too_large(sizes));
            }
            layout.strides[d] = stride as isize;
            // Past the largest storage this is only an error if a dimension with more than one element uses it, which
            // `end` below finds out.
            natural = sizes[d].saturating_mul(stride).min(MAX_ELEMENTS);
        }
        layout.checked_end().ok_or_else(|| too_large(sizes))?;
        Ok(layout)
    }

    /// The sizes of the dimensions.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// How far apart neighbours in a dimension lie, in elements.
    pub fn strides(&self) -> &[isize] {
        &self.strides
    }

    /// The position of the first element in the storage.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The number of dimensions.
    pub fn ndim(&self) -> usize {
        self.sizes.len()
    }

    /// The number of elements; 0 without dimensions.
    pub fn numel(&self) -> usize {
        if self.sizes.is_empty() { 0 } else { self.sizes.iter().product() }
    }

    /// Elements a storage must have to hold this view.
    pub fn end(&self) -> usize {
        self.checked_end().unwrap_or(usize::MAX)
    }

    fn checked_end(&self) -> Option<usize> {
        if self.sizes.is_empty() {
            return Some(self.offset);
        }
        let mut last = self.offset;
        for (&n, &s) in self.sizes.iter().zip(&self.strides) {
            last = last.checked_add((n - 1).checked_mul(s as usize)?)?;
        }
        (last < MAX_ELEMENTS).then(|| last + 1)
    }

    /// Whether the elements lie one after the other without gaps, in order.
    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        for (&n, &s) in self.sizes.iter().zip(&self.strides).rev() {
            if n != 1 {
                if s as usize != expected {
                    return false;
                }
                expected *= n;
            }
        }
        true
    }

    /// The same shape with other strides and offset, which the caller computed from this layout's own.
    pub(in crate::tensor) fn with(offset: usize, sizes: Sizes, strides: Strides) -> Layout {
        debug_assert_eq!(sizes.len(), strides.len());
        Layout { sizes, strides, offset }
    }
}

/// The number of elements of these sizes (0 for no sizes), or an error when nothing could hold them.
pub fn count(sizes: &[usize]) -> Result<usize> {
    if sizes.is_empty() || sizes.contains(&0) {
        return Ok(0);
    }
    let product = sizes.iter().try_fold(1usize, |n, &s| n.checked_mul(s));
    product.filter(|&n| n <= MAX_ELEMENTS).ok_or_else(|| too_large(sizes))
}

/// `2x3x4`, as Torch writes sizes; `empty` for none.
pub fn describe(sizes: &[usize]) -> String {
    if sizes.is_empty() {
        return "empty".to_owned();
    }
    sizes.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

fn too_large(sizes: &[usize]) -> crate::error::Error {
    err!(Limit, "a tensor of size {} reaches past what memory can hold", describe(sizes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::Code;

    #[test]
    fn the_last_dimension_is_fastest() {
        let l = Layout::contiguous(&[2, 3, 4]).unwrap();
        assert_eq!((l.strides(), l.numel(), l.end()), (&[12, 4, 1][..], 24, 24));
        assert!(l.is_contiguous());
    }

    #[test]
    fn a_size_of_zero_leaves_no_dimensions() {
        let l = Layout::contiguous(&[3, 0, 2]).unwrap();
        assert_eq!((l.ndim(), l.numel()), (0, 0));
    }

    #[test]
    fn sizes_that_overflow_are_an_error() {
        for sizes in [&[1 << 62][..], &[1 << 32, 1 << 32], &[usize::MAX], &[usize::MAX, usize::MAX, 3]] {
            assert_eq!(Layout::contiguous(sizes).unwrap_err().code(), Code::Limit);
        }
        assert!(Layout::new(usize::MAX, &[1], None).is_err());
        assert!(Layout::new(usize::MAX, &[], None).is_err());
        assert!(Layout::new(0, &[1 << 40, 2], Some(&[1 << 40, 1])).is_err());
        assert!(Layout::new(0, &[2, 2], Some(&[isize::MAX, 1])).is_err());
    }

    #[test]
    fn a_repeated_element_takes_one_place() {
        let l = Layout::new(5, &[1000, 2], Some(&[0, 1])).unwrap();
        assert_eq!((l.numel(), l.end(), l.is_contiguous()), (2000, 7, false));
    }

    #[test]
    fn a_negative_stride_means_contiguous() {
        let l = Layout::new(0, &[2, 3], Some(&[-1, 2])).unwrap();
        assert_eq!(l.strides(), [6, 2]);
    }

    #[test]
    fn a_dimension_of_one_never_breaks_contiguity() {
        assert!(Layout::new(0, &[2, 1, 3], Some(&[3, 77, 1])).unwrap().is_contiguous());
    }
}
