//! A storage: elements of one type in a row, shared by every tensor that views them, in any thread.
//!
//! Imports its siblings `dtype`, `layout` and `memory`.

use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use super::dtype::{DType, Element};
use super::layout::MAX_ELEMENTS;
use super::memory::{Memory, Span};
use crate::err;
use crate::error::Result;

/// A handle on memory of elements of one type; a clone is another handle on the same.
///
/// [`resize`](Self::resize) puts other memory in the place of the old, which lives until its last [`Span`] is dropped.
/// The hand-over is lock-free, so that a fork in the middle of one leaves the child a storage that works.
#[derive(Clone)]
pub struct Storage {
    inner: Arc<Inner>,
}

struct Inner {
    dtype: DType,
    memory: ArcSwap<Memory>,
}

impl Storage {
    /// `len` zeros, or a `[limit]` error when there is no memory for them.
    pub fn new(dtype: DType, len: usize) -> Result<Storage> {
        Ok(Storage::from_memory(dtype, Memory::heap(bytes_for(dtype, len)?)?))
    }

    /// As [`new`](Self::new), of whatever lies there.
    ///
    /// # Safety
    /// All elements are written before any is read.
    pub(in crate::tensor) unsafe fn unwritten(dtype: DType, len: usize) -> Result<Storage> {
        // SAFETY: the caller's promise.
        Ok(Storage::from_memory(dtype, unsafe { Memory::unwritten(bytes_for(dtype, len)?)? }))
    }

    /// `len` zeros in [shared memory](Memory::shared).
    pub fn shared(dtype: DType, len: usize) -> Result<Storage> {
        Ok(Storage::from_memory(dtype, Memory::shared(bytes_for(dtype, len)?)?))
    }

    /// The elements that lie in `memory`.
    pub fn from_memory(dtype: DType, memory: Memory) -> Storage {
        Storage { inner: Arc::new(Inner { dtype, memory: ArcSwap::from_pointee(memory) }) }
    }

    /// A copy of these elements.
    pub fn from_slice<T: Element>(elements: &[T]) -> Result<Storage> {
        let storage = Storage::new(T::DTYPE, elements.len())?;
        // SAFETY: elements are plain numbers without padding, so they may be read as bytes.
        let bytes = unsafe { std::slice::from_raw_parts(elements.as_ptr().cast(), size_of_val(elements)) };
        storage.span()?.write(0, bytes);
        Ok(storage)
    }

    /// A view of `len` of these elements from `from` on: another storage, of the same memory. It cannot be resized, and
    /// keeps the memory that there is now when this one is.
    pub fn view(&self, from: usize, len: usize) -> Result<Storage> {
        let item = self.dtype().size();
        let part = from.checked_mul(item).zip(len.checked_mul(item));
        let memory = part.and_then(|(start, len)| Memory::part(self.inner.memory.load_full(), start, len));
        memory.map(|memory| Storage::from_memory(self.dtype(), memory)).ok_or_else(|| {
            err!(
                Argument,
                "expected a part of the {} elements of a {}, got {len} from element {} on",
                self.len(),
                self.dtype().storage_class(),
                from.saturating_add(1)
            )
        })
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.inner.dtype
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.inner.memory.load().size() / self.dtype().size()
    }

    /// The size of its memory in bytes.
    pub fn bytes(&self) -> usize {
        self.inner.memory.load().size()
    }

    /// The bytes that it keeps from being given back: of a view those of the whole memory.
    pub fn kept_bytes(&self) -> usize {
        self.inner.memory.load().kept()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Which storage this is: equal for all handles of one, different for any two that exist at the same time.
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.inner) as usize
    }

    /// Whether both are handles of one storage.
    pub fn same(&self, other: &Storage) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// All the bytes as they are now. An error for memory that the processor can't reach.
    #[inline]
    pub fn span(&self) -> Result<Span> {
        Ok(Span::new(self.inner.memory.load_full()))
    }

    /// The memory as it is now, for one quick look (a span may be kept, this may not).
    #[inline]
    pub(in crate::tensor) fn held(&self) -> Guard<Arc<Memory>> {
        self.inner.memory.load()
    }

    /// Makes room for exactly `len` elements; those that fit keep their values, new ones are zero.
    ///
    /// Views that then reach past the end raise `[state]` when they are used. Writes that another thread makes
    /// meanwhile may be lost, as with any resize under a writer.
    pub fn resize(&self, len: usize) -> Result<()> {
        let bytes = bytes_for(self.dtype(), len)?;
        let old = self.inner.memory.load_full();
        if old.size() == bytes {
            return Ok(());
        }
        if old.is_shared() {
            let (class, len_now) = (self.dtype().storage_class(), self.len());
            return Err(err!(State, "a {class} of {len_now} elements in shared memory cannot be resized to {len}"));
        }
        if !old.replaceable() {
            return Err(err!(
                State,
                "a {} of {} elements that belong to another storage or library cannot be resized to {len}",
                self.dtype().storage_class(),
                self.len()
            ));
        }
        let new = Span::new(Arc::new(Memory::heap(bytes)?));
        let kept = old.size().min(bytes);
        // SAFETY: both are valid for `kept` bytes while `old` and `new` live, and `new` is memory that nobody else has.
        unsafe { std::ptr::copy_nonoverlapping(old.host().as_ptr(), new.as_ptr(), kept) }
        self.inner.memory.store(new.into_memory());
        Ok(())
    }

    /// Whether processes share its memory.
    pub fn is_shared(&self) -> bool {
        self.inner.memory.load().is_shared()
    }

    /// Moves the elements to [shared memory](Memory::shared), if they are not there; all handles and views follow.
    ///
    /// Nobody may write them meanwhile: what another thread writes may be lost. `[unsupported]` for memory that another
    /// storage or library has as well, `[state]` where one that views this, or a call of another thread, has it now.
    pub fn share(&self) -> Result<()> {
        let old = self.inner.memory.load_full();
        if old.is_shared() {
            return Ok(());
        }
        if !old.replaceable() {
            return Err(err!(
                Unsupported,
                "a {} of {} elements that belong to another storage or library cannot be moved to shared memory; share a \
                 copy",
                self.dtype().storage_class(),
                self.len()
            ));
        }
        // Here, and in the storage itself.
        if Arc::strong_count(&old) > 2 {
            return Err(err!(
                State,
                "a {} of {} elements cannot be moved to shared memory while another storage views it, or another thread \
                 uses it",
                self.dtype().storage_class(),
                self.len()
            ));
        }
        let new = Span::new(Arc::new(Memory::shared(old.size())?));
        // SAFETY: both are valid for so many bytes while `old` and `new` live, and `new` is memory that nobody else
        // has.
        unsafe { std::ptr::copy_nonoverlapping(old.host().as_ptr(), new.as_ptr(), old.size()) }
        self.inner.memory.store(new.into_memory());
        Ok(())
    }

    /// At least `len` elements: grows when there are fewer.
    pub fn reserve(&self, len: usize) -> Result<()> {
        if self.len() < len { self.resize(len) } else { Ok(()) }
    }
}

fn bytes_for(dtype: DType, len: usize) -> Result<usize> {
    if len > MAX_ELEMENTS {
        return Err(err!(Limit, "a {} of {len} elements is past what memory can hold", dtype.storage_class()));
    }
    Ok(len * dtype.size())
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}, {:?})", self.dtype().storage_class(), self.len(), self.inner.memory.load())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::Code;

    #[test]
    fn clones_are_one_storage() {
        let a = Storage::new(DType::Float, 3).unwrap();
        let b = a.clone();
        b.resize(10).unwrap();
        assert_eq!((a.len(), a.id()), (10, b.id()));
        assert!(!a.same(&Storage::new(DType::Float, 3).unwrap()));
    }

    #[test]
    fn a_resize_keeps_what_fits_and_zeroes_the_rest() {
        let s = Storage::from_slice(&[1i32, 2, 3]).unwrap();
        s.resize(2).unwrap();
        s.resize(4).unwrap();
        assert_eq!(s.span().unwrap().to_vec(), [1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_view_is_of_the_same_elements() {
        let s = Storage::from_slice(&[1i32, 2, 3, 4, 5]).unwrap();
        let v = s.view(1, 3).unwrap();
        v.put(0, 7).unwrap();
        s.put(3, 8).unwrap();
        assert_eq!((s.get(1).unwrap().to_i64(), v.get(2).unwrap().to_i64(), v.len()), (7, 8, 3));
        assert_eq!((v.bytes(), v.kept_bytes(), v.view(1, 1).unwrap().get(0).unwrap().to_i64()), (12, 20, 3));
        assert_eq!(v.resize(4).unwrap_err().code(), Code::State);
        s.resize(1).unwrap();
        assert_eq!(v.get(2).unwrap().to_i64(), 8);
        for (from, len) in [(5, 0), (0, 5)] {
            assert!(Storage::from_slice(&[0u8; 5]).unwrap().view(from, len).is_ok());
        }
        for (from, len) in [(6, 0), (0, 6), (usize::MAX, 2), (2, usize::MAX)] {
            assert!(Storage::from_slice(&[0i64; 5]).unwrap().view(from, len).is_err());
        }
    }

    #[test]
    fn shared_elements_stay_where_all_handles_are() {
        let s = Storage::from_slice(&[1i32, 2, 3]).unwrap();
        let other = s.clone();
        assert!(!s.is_shared());
        s.share().unwrap();
        s.share().unwrap();
        other.put(1, 7).unwrap();
        assert!(other.is_shared() && s.get(1).unwrap().to_i64() == 7 && s.get(2).unwrap().to_i64() == 3);
        let view = s.view(1, 2).unwrap();
        assert!(view.is_shared() && view.share().is_ok());
        assert_eq!(s.resize(4).unwrap_err().code(), Code::State);
        assert!(s.resize(3).is_ok());
        let made = Storage::shared(DType::Double, 1000).unwrap();
        assert!(made.is_shared() && made.span().unwrap().to_vec().iter().all(|b| *b == 0));
        let whole = Storage::from_slice(&[1u8, 2]).unwrap();
        let part = whole.view(0, 1).unwrap();
        assert_eq!(part.share().unwrap_err().code(), Code::Unsupported);
        assert_eq!(whole.share().unwrap_err().code(), Code::State);
        drop(part);
        let span = whole.span().unwrap();
        assert_eq!(whole.share().unwrap_err().code(), Code::State);
        drop(span);
        whole.share().unwrap();
        assert_eq!(Storage::shared(DType::Double, 1 << 59).unwrap_err().code(), Code::Limit);
    }

    #[test]
    fn a_span_outlives_a_resize() {
        let s = Storage::from_slice(&[7u8; 5]).unwrap();
        let span = s.span().unwrap();
        s.resize(0).unwrap();
        assert_eq!(span.to_vec(), [7; 5]);
        assert!(s.is_empty());
    }

    #[test]
    fn sizes_past_memory_are_an_error() {
        for len in [usize::MAX, 1 << 62, 1 << 60] {
            assert_eq!(Storage::new(DType::Double, len).unwrap_err().code(), Code::Limit);
        }
    }

    #[test]
    fn threads_may_resize_and_write_at_once() {
        let s = Storage::new(DType::Byte, 100).unwrap();
        std::thread::scope(|scope| {
            for t in 0..3u8 {
                let s = s.clone();
                scope.spawn(move || {
                    for i in 0..2000usize {
                        if t == 0 {
                            s.resize(i % 200).unwrap();
                        } else {
                            let span = s.span().unwrap();
                            span.write(0, &vec![t; span.len()]);
                        }
                    }
                });
            }
        });
    }
}
