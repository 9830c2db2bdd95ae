//! Memory that a process shares with the children it forks afterwards: the system zeroes it, and takes it back when the
//! last process that has it has let go or died.
//!
//! Large blocks are mapped each by itself. Small ones are cut from slabs, since a process may have some 65,000 mappings
//! and a page is the least of them. What was cut off is never cut off again: a child may still read it. The child cuts
//! from slabs of its own.

use std::ptr::{self, NonNull};
use std::sync::Arc;

use crate::sys::{Lock, SetOnce, fork_generation};

/// Blocks start at a multiple of this many bytes.
const ALIGN: usize = 64;

/// Blocks of up to so many bytes are cut from a slab.
const SMALL: usize = 16 << 10;

/// How long a slab is.
const SLAB: usize = 256 << 10;

/// A mapping, until the last block in it is dropped.
#[derive(Debug)]
struct Mapping {
    at: NonNull<u8>,
    len: usize,
}

// SAFETY: an address of plain bytes that stays valid until the drop, wherever that happens.
unsafe impl Send for Mapping {}
// SAFETY: as above; it gives out addresses only.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(len: usize) -> Option<Mapping> {
        // SAFETY: a new mapping, at an address of the system's choice.
        let at = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED { None } else { NonNull::new(at.cast()).map(|at| Mapping { at, len }) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped with this length, and unmapped once.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.len) };
    }
}

/// Zeros in shared memory, as they are made; given back when it is dropped.
#[derive(Debug)]
pub struct SharedBlock {
    data: NonNull<u8>,
    _of: Option<Arc<Mapping>>,
}

// SAFETY: as of the mapping that it keeps.
unsafe impl Send for SharedBlock {}
// SAFETY: as above.
unsafe impl Sync for SharedBlock {}

impl SharedBlock {
    /// `len` bytes, or `None` where the system has no memory, or no mapping, for them.
    pub fn new(len: usize) -> Option<SharedBlock> {
        if len == 0 {
            return Some(SharedBlock { data: NonNull::<Aligned>::dangling().cast(), _of: None });
        }
        if len <= SMALL {
            return cut(len.next_multiple_of(ALIGN));
        }
        let mapping = Arc::new(Mapping::new(len)?);
        Some(SharedBlock { data: mapping.at, _of: Some(mapping) })
    }

    /// The first byte.
    pub fn data(&self) -> NonNull<u8> {
        self.data
    }
}

/// A type of `ALIGN`, for the address of nothing.
#[repr(align(64))]
struct Aligned;

/// The slab that blocks are cut from, and how much of it is gone.
struct Slab {
    mapping: Arc<Mapping>,
    used: usize,
    generation: u32,
}

fn cut(len: usize) -> Option<SharedBlock> {
    static CURRENT: SetOnce<Lock<Option<Slab>>> = SetOnce::new();
    let mut current = CURRENT.get_or_init(Lock::default).lock();
    let fits = |slab: &&mut Slab| slab.generation == fork_generation() && slab.used + len <= SLAB;
    let slab = match current.as_mut().filter(fits) {
        Some(slab) => slab,
        None => {
            let mapping = Arc::new(Mapping::new(SLAB)?);
            current.insert(Slab { mapping, used: 0, generation: fork_generation() })
        }
    };
    // SAFETY: the slab is longer than that.
    let data = unsafe { slab.mapping.at.add(slab.used) };
    slab.used += len;
    Some(SharedBlock { data, _of: Some(slab.mapping.clone()) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn bytes(block: &SharedBlock, len: usize) -> Vec<u8> {
        // SAFETY: so long it is.
        unsafe { std::slice::from_raw_parts(block.data().as_ptr(), len).to_vec() }
    }

    #[test]
    fn blocks_are_zeroed_aligned_and_apart() {
        let lens = [1, 63, 64, 65, 4096, SMALL, SMALL + 1, 1 << 20];
        let blocks: Vec<_> = (0..40).map(|i| (SharedBlock::new(lens[i % 8]).unwrap(), lens[i % 8])).collect();
        for (i, (block, len)) in blocks.iter().enumerate() {
            assert_eq!(block.data().as_ptr() as usize % ALIGN, 0);
            assert!(bytes(block, *len).iter().all(|b| *b == 0));
            // SAFETY: so long it is.
            unsafe { ptr::write_bytes(block.data().as_ptr(), i as u8 + 1, *len) };
        }
        for (i, (block, len)) in blocks.iter().enumerate() {
            assert!(bytes(block, *len).iter().all(|b| *b == i as u8 + 1));
        }
    }

    #[test]
    fn what_is_past_memory_is_not_to_be_had() {
        assert!(SharedBlock::new(0).is_some());
        assert!(SharedBlock::new(1 << 62).is_none());
    }

    #[test]
    fn a_child_sees_what_the_parent_writes_and_takes_blocks_of_its_own() {
        let (small, large) = (SharedBlock::new(8).unwrap(), SharedBlock::new(1 << 20).unwrap());
        // SAFETY: the child writes to memory and ends, nothing else.
        match unsafe { libc::fork() } {
            0 => {
                for block in [&small, &large] {
                    // SAFETY: they are longer than that.
                    unsafe { *block.data().as_ptr() = 7 };
                }
                // SAFETY: runs nothing of this process.
                unsafe { libc::_exit(0) }
            }
            child => {
                let mut status = 1;
                // SAFETY: our own child.
                assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                assert_eq!(status, 0);
                assert_eq!((bytes(&small, 2), bytes(&large, 2)), (vec![7, 0], vec![7, 0]));
            }
        }
    }
}
