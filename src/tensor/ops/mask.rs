//! Elements picked by masks, and the positions of those that are not 0.
//!
//! Masks are ByteTensors. Elements of mask and tensor correspond in row-major order, whatever their sizes.
//!
//! Imports its sibling `gather`.

use crate::dispatch;
use crate::err;
use crate::error::Result;
use crate::tensor::data::dtype::{DType, Element, by_size, from_scalar};
use crate::tensor::data::layout::describe;
use crate::tensor::data::memory::more_room;
use crate::tensor::data::number::Scalar;
use crate::tensor::data::storage::Storage;
use crate::tensor::data::view::Tensor;
use crate::tensor::kernel::walk::walk_in_order;

/// Elements gathered before they are written: they take 4 KB at most.
const CHUNK: usize = 512;

impl Tensor {
    /// Refuses what is no mask for this tensor.
    fn check_mask(&self, mask: &Tensor) -> Result<()> {
        if mask.dtype() != DType::Byte {
            return Err(err!(
                Argument,
                "expected a {} as a mask, got a {}",
                DType::Byte.tensor_class(),
                mask.dtype().tensor_class()
            ));
        }
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
        Ok(())
    }

    /// How many elements are not 0, of a ByteTensor.
    fn count_chosen(&self) -> Result<usize> {
        if self.numel() == 0 {
            return Ok(0);
        }
        let mut count = 0;
        walk_in_order([&self.operand()?], &mut |[p], [s], n| {
            // SAFETY: element i of a run of bytes that `walk_in_order` hands out, whose operand is held.
            let chosen = |i: usize| usize::from(unsafe { *p.offset(i as isize * s) } != 0);
            // Counted in bytes, so that the compiler adds many at a time.
            for start in (0..n).step_by(128) {
                let end = n.min(start + 128);
                count += usize::from((start..end).fold(0u8, |sum, i| sum + chosen(i) as u8));
            }
        });
        Ok(count)
    }

    /// The elements where `mask` is not 0, in one dimension.
    pub fn masked_select(&self, mask: &Tensor) -> Result<Tensor> {
        self.check_mask(mask)?;
        let count = mask.count_chosen()?;
        let out = Tensor::with_sizes(self.dtype(), &[count])?;
        if count == 0 {
            return Ok(out);
        }
        let (a, mask, d) = (self.operand()?, mask.operand()?, out.operand()?);
        by_size!(self.dtype(), W => {
            let mut written = 0;
            walk_in_order([&a, &mask], &mut |[a, mask], [sa, sm], n| {
                let (a, d) = (a.cast::<W>(), d.first.cast::<W>());
                let mut chunk = [W::default(); CHUNK];
                for start in (0..n).step_by(CHUNK) {
                    let mut found = 0;
                    // Every element is put into the chunk, and stays if it is chosen: no branch to guess.
                    for i in start as isize..n.min(start + CHUNK) as isize {
                        // SAFETY: element i of runs that `walk_in_order` hands out; the operands are held.
                        let (value, chosen) = unsafe { (*a.offset(i * sa), *mask.offset(i * sm) != 0) };
                        chunk[found % CHUNK] = value;
                        found += usize::from(chosen);
                    }
                    // The mask may have changed since it was counted.
                    let found = found.min(count - written);
                    // SAFETY: `found` elements of the chunk; `out` has room for `count` elements.
                    unsafe { std::ptr::copy_nonoverlapping(chunk.as_ptr(), d.add(written), found) }
                    written += found;
                }
            });
        });
        Ok(out)
    }

    /// Sets the elements where `mask` is not 0 to `value`.
    pub fn masked_fill(&self, mask: &Tensor, value: impl Into<Scalar>) -> Result<()> {
        self.check_mask(mask)?;
        if self.numel() == 0 {
            return Ok(());
        }
        let value = value.into();
        let mask = mask.separate_from(self)?;
        let (d, mask) = (self.operand()?, mask.operand()?);
        dispatch!(self.dtype(), T => {
            let value = <T as Element>::store(from_scalar::<T>(value));
            walk_in_order([&d, &mask], &mut |[d, mask], [sd, sm], n| {
                for i in 0..n as isize {
                    // SAFETY: element i of runs that `walk_in_order` hands out; the operands are held.
                    unsafe {
                        if *mask.offset(i * sm) != 0 {
                            *d.cast::<T>().offset(i * sd) = value;
                        }
                    }
                }
            });
        });
        Ok(())
    }

    /// Sets the elements where `mask` is not 0 to the first elements of `source`, one after the other.
    pub fn masked_copy(&self, mask: &Tensor, source: &Tensor) -> Result<()> {
        self.check_mask(mask)?;
        let count = mask.count_chosen()?;
        if source.numel() < count {
            return Err(err!(
                Argument,
                "expected at least {count} elements for as many places in the mask, got {}",
                source.numel()
            ));
        }
        if count == 0 {
            return Ok(());
        }
        let source =
            if source.dtype() == self.dtype() { source.separate_from(self)? } else { source.to_dtype(self.dtype())? };
        let (source, mask) = (source.contiguous()?, mask.separate_from(self)?);
        let (d, mask, a) = (self.operand()?, mask.operand()?, source.operand()?);
        let there = source.numel();
        by_size!(self.dtype(), W => {
            let mut taken = 0;
            walk_in_order([&d, &mask], &mut |[d, mask], [sd, sm], n| {
                let (d, a) = (d.cast::<W>(), a.first.cast::<W>());
                for i in 0..n as isize {
                    // SAFETY: element i of runs that `walk_in_order` hands out; `source` is contiguous and has `there`
                    // elements; the operands are held.
                    unsafe {
                        if *mask.offset(i * sm) != 0 && taken < there {
                            *d.offset(i * sd) = *a.add(taken);
                            taken += 1;
                        }
                    }
                }
            });
        });
        Ok(())
    }

    /// The positions, from 1, of the elements that are not 0: a row each, or nothing.
    pub fn nonzero(&self) -> Result<Tensor> {
        if self.numel() == 0 {
            return Ok(Tensor::new(DType::Long));
        }
        let (operand, sizes) = (self.operand()?, self.sizes());
        let mut found: Vec<i64> = Vec::new();
        let (mut passed, mut outcome) = (0, Ok(()));
        dispatch!(self.dtype(), T => walk_in_order([&operand], &mut |[p], [s], n| {
            for i in 0..n {
                // SAFETY: element i of a run that `walk_in_order` hands out; the operand is held.
                let value = unsafe { *p.cast::<T>().offset(i as isize * s) };
                if value == T::default() || outcome.is_err() {
                    continue;
                }
                let start = found.len();
                outcome = more_room(&mut found, sizes.len());
                if outcome.is_ok() {
                    let mut rest = passed + i;
                    for &size in sizes.iter().rev() {
                        found.push((rest % size) as i64 + 1);
                        rest /= size;
                    }
                    found[start..].reverse();
                }
            }
            passed += n;
        }));
        outcome?;
        if found.is_empty() {
            return Ok(Tensor::new(DType::Long));
        }
        let rows = found.len() / self.ndim();
        Tensor::from_storage(&Storage::from_slice(&found)?, 0, &[rows, self.ndim()], None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn values(t: &Tensor) -> Vec<i32> {
        t.to_vec().unwrap()
    }

    #[test]
    fn masks_choose_elements_in_row_major_order() {
        let mask = Tensor::from_slice(&[1u8, 0, 7, 0, 0, 1]).unwrap();
        let t = Tensor::from_slice(&[1i32, 2, 3, 4, 5, 6]).unwrap().view(&[2, 3]).unwrap();
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
    fn nonzero_lists_positions() {
        let t = Tensor::from_slice(&[0i32, 5, 0, 0, 0, 6]).unwrap().view(&[2, 3]).unwrap();
        assert_eq!(t.nonzero().unwrap().to_vec::<i64>().unwrap(), [1, 2, 2, 3]);
        assert_eq!(Tensor::new(DType::Int).nonzero().unwrap().numel(), 0);
    }
}
