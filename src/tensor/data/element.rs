//! Single elements: reading and writing one by its position.
//!
//! Imports its siblings `dtype`, `layout`, `number`, `storage` and `view`.

use super::dtype::{Element, from_scalar, to_scalar};
use super::layout;
use super::number::Scalar;
use super::storage::Storage;
use super::view::Tensor;
use crate::dispatch;
use crate::err;
use crate::error::{Error, Result};

impl Storage {
    /// The element at `at`, from 0, if it is there: as [`get`](Self::get), without words for why not.
    #[inline(always)]
    pub fn peek(&self, at: usize) -> Option<Scalar> {
        let memory = self.held();
        dispatch!(self.dtype(), T => {
            if at >= memory.size() / size_of::<T>() {
                return None;
            }
            // SAFETY: element `at` lies in the memory, which is held; any bytes are an element.
            let v = unsafe { *memory.host().as_ptr().cast::<T>().add(at) };
            Some(to_scalar(v.load()))
        })
    }

    /// Sets the element at `at`, from 0, and says whether it is there.
    #[inline(always)]
    pub fn poke(&self, at: usize, value: Scalar) -> bool {
        let memory = self.held();
        dispatch!(self.dtype(), T => {
            if at >= memory.size() / size_of::<T>() {
                return false;
            }
            // SAFETY: element `at` lies in the memory, which is held.
            unsafe { *memory.host().as_ptr().cast::<T>().add(at) = T::store(from_scalar::<T>(value)) }
        });
        true
    }

    /// The element at `at`, from 0.
    pub fn get(&self, at: usize) -> Result<Scalar> {
        self.peek(at).ok_or_else(|| self.beyond(at))
    }

    /// Sets the element at `at`, from 0.
    pub fn put(&self, at: usize, value: impl Into<Scalar>) -> Result<()> {
        if self.poke(at, value.into()) { Ok(()) } else { Err(self.beyond(at)) }
    }

    /// Positions are checked where they come from, against sizes: the storage was made smaller since.
    #[cold]
    fn beyond(&self, at: usize) -> Error {
        err!(
            State,
            "element {} of a {}, which was resized to {}",
            at.saturating_add(1),
            self.dtype().storage_class(),
            self.len()
        )
    }
}

impl Tensor {
    /// Where in which storage the element of a tensor of one dimension lies that a user's `n` means, from 1 on or back
    /// from −1, if it is there.
    #[inline(always)]
    pub fn nth(&self, n: i64) -> Option<(&Storage, usize)> {
        let ([size], [stride]) = (self.sizes(), self.strides()) else { return None };
        let at = (if n > 0 { n - 1 } else { *size as i64 + n }) as usize;
        // A layout's last element is not past what memory can hold, so nothing wraps.
        (at < *size)
            .then(|| self.offset() + at * *stride as usize)
            .zip(self.storage())
            .map(|(at, storage)| (storage, at))
    }

    /// The element at these positions, one per dimension, from 0.
    pub fn get(&self, at: &[usize]) -> Result<Scalar> {
        let (storage, at) = self.place(at)?;
        storage.get(at)
    }

    /// Sets the element at these positions, one per dimension, from 0.
    pub fn put(&self, at: &[usize], value: impl Into<Scalar>) -> Result<()> {
        let (storage, at) = self.place(at)?;
        storage.put(at, value)
    }

    /// The storage, and where in it the element at these positions lies.
    fn place(&self, at: &[usize]) -> Result<(&Storage, usize)> {
        if at.len() != self.ndim() || at.is_empty() {
            return Err(err!(
                Argument,
                "expected {} indices for a tensor of size {}, got {}",
                self.ndim(),
                layout::describe(self.sizes()),
                at.len()
            ));
        }
        let mut place = self.offset();
        for (d, &i) in at.iter().enumerate() {
            let size = self.sizes()[d];
            if i >= size {
                return Err(err!(
                    Argument,
                    "index {} is out of range: dimension {} has {size} elements",
                    i.saturating_add(1),
                    d + 1
                ));
            }
            place += i * self.strides()[d] as usize;
        }
        match self.storage() {
            Some(s) => Ok((s, place)),
            None => Err(err!(State, "a tensor without a storage")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::Code;
    use crate::tensor::DType;

    #[test]
    fn elements_are_read_and_written_by_position() {
        for dtype in DType::ALL {
            let t = Tensor::with_sizes(dtype, &[2, 3]).unwrap();
            t.put(&[1, 2], 5).unwrap();
            assert_eq!(t.t().unwrap().get(&[2, 1]).unwrap().to_f64(), 5.0);
            assert_eq!(t.get(&[0, 0]).unwrap().to_i64(), 0);
        }
    }

    #[test]
    fn long_integers_pass_exactly() {
        let t = Tensor::with_sizes(DType::Long, &[1]).unwrap();
        t.put(&[0], i64::MAX).unwrap();
        assert_eq!(t.get(&[0]).unwrap(), Scalar::Int(i64::MAX));
    }

    #[test]
    fn positions_past_the_end_are_errors() {
        let t = Tensor::with_sizes(DType::Float, &[2, 3]).unwrap();
        for at in [&[2, 0][..], &[0, 3], &[usize::MAX, 0], &[0], &[0, 0, 0], &[]] {
            assert!(t.get(at).is_err() && t.put(at, 1.0).is_err(), "{at:?}");
        }
        let e = t.get(&[0, 3]).unwrap_err();
        assert_eq!(e.what(), "index 4 is out of range: dimension 2 has 3 elements");
        t.storage().unwrap().resize(1).unwrap();
        assert_eq!(t.get(&[1, 2]).unwrap_err().code(), Code::State);
        assert!(Tensor::new(DType::Float).get(&[]).is_err());
    }
}
