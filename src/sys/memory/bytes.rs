//! Bytes that several hold, made where there is memory for them: what `Arc<[u8]>` is, but for how it is made.

use std::alloc::{Layout, alloc, dealloc};
use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};

/// The bytes follow it.
#[repr(C)]
struct Head {
    holders: AtomicUsize,
    length: usize,
}

/// Immutable bytes; a clone holds the same ones.
pub struct SharedBytes(NonNull<Head>);

// SAFETY: the bytes never change, and the count of holders is atomic.
unsafe impl Send for SharedBytes {}
// SAFETY: as above.
unsafe impl Sync for SharedBytes {}

impl SharedBytes {
    /// What it takes beside the bytes themselves.
    pub const OVERHEAD: usize = size_of::<Head>();

    /// A copy of `bytes`.
    pub fn new(bytes: &[u8]) -> Result<SharedBytes> {
        let layout = layout(bytes.len()).ok_or_else(Error::no_memory)?;
        // SAFETY: the layout is not empty; the memory has room for the head and the bytes behind it.
        unsafe {
            let head = NonNull::new(alloc(layout).cast::<Head>()).ok_or_else(Error::no_memory)?;
            head.write(Head { holders: AtomicUsize::new(1), length: bytes.len() });
            head.add(1).cast::<u8>().copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
            Ok(SharedBytes(head))
        }
    }
}

fn layout(length: usize) -> Option<Layout> {
    Layout::from_size_align(size_of::<Head>().checked_add(length)?, align_of::<Head>()).ok()
}

impl Deref for SharedBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: a holder keeps head and bytes; so many were written when it was made.
        unsafe { std::slice::from_raw_parts(self.0.add(1).cast().as_ptr(), self.0.as_ref().length) }
    }
}

impl Clone for SharedBytes {
    fn clone(&self) -> SharedBytes {
        // SAFETY: a holder keeps the head. More holders than a word counts would not fit into memory.
        unsafe { self.0.as_ref() }.holders.fetch_add(1, Ordering::Relaxed);
        SharedBytes(self.0)
    }
}

impl Drop for SharedBytes {
    fn drop(&mut self) {
        // SAFETY: a holder keeps the head; the last one has it alone, and has seen what the others did before.
        unsafe {
            if self.0.as_ref().holders.fetch_sub(1, Ordering::Release) == 1 {
                // Not a fence, which ThreadSanitizer does not follow.
                self.0.as_ref().holders.load(Ordering::Acquire);
                if let Some(layout) = layout(self.0.as_ref().length) {
                    dealloc(self.0.as_ptr().cast(), layout);
                }
            }
        }
    }
}

impl PartialEq for SharedBytes {
    fn eq(&self, other: &SharedBytes) -> bool {
        **self == **other
    }
}

impl Eq for SharedBytes {}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn holders_share_the_bytes_and_the_last_lets_go() {
        for text in [&b""[..], b"a", &[7; 100_000]] {
            let bytes = SharedBytes::new(text).unwrap();
            let others: Vec<_> = (0..4).map(|_| bytes.clone()).collect();
            let threads = others.into_iter().map(|other| {
                let text = text.to_vec();
                std::thread::spawn(move || assert_eq!(*other, text[..]))
            });
            threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!((&*bytes, &bytes), (text, &SharedBytes::new(text).unwrap()));
        }
    }
}
