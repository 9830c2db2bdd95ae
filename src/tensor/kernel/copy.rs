//! Copies: between any types and strides, and the copies that other calls make of a tensor.
//!
//! Imports its sibling `map`.

use super::map;
use crate::dispatch;
use crate::error::Result;
use crate::tensor::data::dtype::{DType, Element, from_scalar};
use crate::tensor::data::memory::room;
use crate::tensor::data::number::Scalar;
use crate::tensor::data::view::Tensor;

impl Tensor {
    /// Copies the elements of `src` into this tensor, in row-major order: same element count, any sizes, types and
    /// strides. Values are converted as Rust's `as` does it. The two may overlap.
    pub fn copy_from(&self, src: &Tensor) -> Result<()> {
        map::same_count(self, src)?;
        if self.dtype() == src.dtype() {
            if self.same_view(src) {
                return Ok(());
            }
            if let (true, Some(d), Some(s)) = (self.numel() > 0, self.bytes(), src.bytes()) {
                // SAFETY: both spans hold all the elements; they may overlap, and `copy` minds that.
                unsafe { std::ptr::copy(s.as_ptr(), d.as_ptr(), d.len()) }
                return Ok(());
            }
            return map::copy(self, &src.apart_from(self)?);
        }
        map::convert(self, src)
    }

    /// Sets every element to `value`.
    pub fn fill(&self, value: impl Into<Scalar>) -> Result<()> {
        let value = value.into();
        dispatch!(self.dtype(), T => map::fill::<T>(self, <T as Element>::store(from_scalar::<T>(value))))
    }

    /// Sets every element to 0.
    pub fn zero(&self) -> Result<()> {
        self.fill(0)
    }

    /// A copy in a storage of its own, elements one after the other.
    pub fn clone_data(&self) -> Result<Tensor> {
        self.to_dtype(self.dtype())
    }

    /// A copy with elements of type `dtype`, in a storage of its own.
    pub fn to_dtype(&self, dtype: DType) -> Result<Tensor> {
        // SAFETY: the copy is of all elements, or is dropped.
        let copy = unsafe { Tensor::unwritten(dtype, self.sizes())? };
        copy.copy_from(self)?;
        Ok(copy)
    }

    /// This view if its elements lie one after the other, else a copy that does.
    pub fn contiguous(&self) -> Result<Tensor> {
        if self.is_contiguous() { Ok(self.clone()) } else { self.clone_data() }
    }
}

impl Tensor {
    /// A one-dimensional tensor of these elements.
    pub fn from_slice<T: Element>(elements: &[T]) -> Result<Tensor> {
        Tensor::of_storage(&crate::tensor::data::storage::Storage::from_slice(elements)?)
    }

    /// A copy of all elements in row-major order, converted to `T`.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        let converted = self.to_dtype(T::DTYPE)?;
        let mut out = room(self.numel())?;
        out.resize(self.numel(), T::default());
        if let Some(span) = converted.bytes() {
            // SAFETY: the elements of `out` are plain numbers, which any bytes are; the slice covers exactly them.
            let bytes = unsafe { std::slice::from_raw_parts_mut(out.as_mut_ptr().cast(), size_of_val(&out[..])) };
            span.read(0, bytes);
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::Code;
    use crate::tensor::Storage;

    #[test]
    fn a_copy_converts_between_all_types() {
        for d in DType::ALL {
            for s in DType::ALL {
                let src = Tensor::from_slice(&[0.0f64, 1.0, 2.0, 100.0]).unwrap().to_dtype(s).unwrap();
                assert_eq!(src.to_dtype(d).unwrap().to_vec::<f64>().unwrap(), [0.0, 1.0, 2.0, 100.0], "{s} to {d}");
            }
        }
    }

    #[test]
    fn long_integers_are_filled_exactly() {
        let t = Tensor::with_sizes(DType::Long, &[2]).unwrap();
        t.fill((1i64 << 53) + 1).unwrap();
        assert_eq!(t.to_vec::<i64>().unwrap(), [(1i64 << 53) + 1; 2]);
    }

    #[test]
    fn shapes_may_differ_when_the_count_agrees() {
        let s = Storage::from_slice(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let across = Tensor::from_storage(&s, 0, &[2, 3], Some(&[1, 2])).unwrap();
        let tall = Tensor::with_sizes(DType::Float, &[3, 2]).unwrap();
        tall.copy_from(&across).unwrap();
        assert_eq!(tall.to_vec::<f32>().unwrap(), [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
        let e = Tensor::with_sizes(DType::Float, &[5]).unwrap().copy_from(&across).unwrap_err();
        assert_eq!(e.code(), Code::Argument);
        assert!(e.what().contains("size 5") && e.what().contains("size 2x3"), "{e}");
    }

    #[test]
    fn overlapping_ranges_copy_as_if_by_way_of_a_third() {
        let s = Storage::from_slice(&[1u8, 2, 3, 4, 5]).unwrap();
        let low = Tensor::from_storage(&s, 0, &[4], None).unwrap();
        let high = Tensor::from_storage(&s, 1, &[4], None).unwrap();
        high.copy_from(&low).unwrap();
        assert_eq!(Tensor::of_storage(&s).unwrap().to_vec::<u8>().unwrap(), [1, 1, 2, 3, 4]);
    }

    #[test]
    fn a_view_past_its_storage_is_an_error_not_a_crash() {
        let t = Tensor::with_sizes(DType::Float, &[10, 10]).unwrap();
        t.storage().unwrap().resize(99).unwrap();
        let e = t.fill(1.0).unwrap_err();
        assert_eq!(e.code(), Code::State);
        assert!(e.what().contains("10x10") && e.what().contains("99"), "{e}");
        assert!(t.bytes().is_none());
        assert!(t.clone_data().is_err());
    }

    #[test]
    fn a_tensor_without_elements_copies_to_another() {
        let t = Tensor::new(DType::Float);
        t.fill(3.0).unwrap();
        t.copy_from(&Tensor::new(DType::Int)).unwrap();
        assert_eq!((t.numel(), t.clone_data().unwrap().ndim(), t.bytes().unwrap().len()), (0, 0, 0));
    }
}
