//! The kinds of memory a storage can lie in, and [`Span`], which keeps one alive while it is read or written.
//!
//! A kind is a variant of [`Memory`]: it says where its bytes are and gives them back when it is dropped. Memory of a
//! CUDA device becomes a variant here; kernels see only [`Span`].

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc};
use std::any::Any;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::err;
use crate::error::Result;
use crate::sys::{SharedBlock, ask_for_huge_pages, keep_freed_memory};

/// Elements start at a multiple of this many bytes: a cache line, and what the widest vector load wants.
pub const ALIGN: usize = 64;

/// Bytes of all [`Heap`]s and [`Shared`]s of the process.
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// How many bytes of tensors' memory the process holds: a garbage collector that sees only handles may want to know.
pub fn live_bytes() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// What backs a storage; dropping it gives the memory back.
pub enum Memory {
    /// From this process's allocator.
    Heap(Heap),
    /// Shared with the children of this process.
    Shared(Shared),
    /// Another library's, lent to us.
    Foreign(Foreign),
    /// A part of other memory.
    Part(Part),
}

/// Memory from the allocator.
#[derive(Debug)]
pub struct Heap {
    base: NonNull<u8>,
    layout: Layout,
    data: NonNull<u8>,
    len: usize,
}

/// Memory that processes share.
#[derive(Debug)]
pub struct Shared {
    block: SharedBlock,
    len: usize,
}

/// Memory that belongs to somebody else: `owner` is dropped when nobody here needs it any more.
#[derive(Debug)]
pub struct Foreign {
    data: NonNull<u8>,
    len: usize,
    _owner: Box<dyn Any + Send + Sync>,
}

/// A stretch of memory that is kept as a whole.
#[derive(Debug)]
pub struct Part {
    data: NonNull<u8>,
    len: usize,
    of: Arc<Memory>,
}

// SAFETY: all kinds are addresses of plain bytes that stay valid until the drop, wherever that happens. What
// concurrent accesses do to the bytes is argued at `Span`.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

/// Blocks of more bytes than these are mapped by glibc, at first.
const LARGE: usize = 128 << 10;

impl Memory {
    /// `len` zero bytes, or a `[limit]` error when the system has not got them. Large ones take no real memory until
    /// they are touched, then page by page, which may be huge ones.
    pub fn heap(len: usize) -> Result<Memory> {
        Memory::allocate(len, alloc_zeroed)
    }

    /// As [`heap`](Self::heap), without the zeros, which take a tenth of the time of a copy.
    ///
    /// # Safety
    /// All bytes are written before any is read.
    pub(in crate::tensor) unsafe fn unwritten(len: usize) -> Result<Memory> {
        Memory::allocate(len, alloc)
    }

    fn allocate(len: usize, allocate: unsafe fn(Layout) -> *mut u8) -> Result<Memory> {
        let none = || err!(Limit, "{len} bytes of memory are not to be had").shortage();
        if len == 0 {
            let data = NonNull::<Aligned>::dangling().cast();
            return Ok(Memory::Heap(Heap { base: data, layout: Layout::new::<()>(), data, len }));
        }
        // The allocator's natural alignment, and room to align by hand: for a larger alignment std would fill the
        // memory with zeros itself, touching every page.
        let size = len.checked_add(ALIGN - 1).ok_or_else(none)?;
        let layout = Layout::from_size_align(size, 16).map_err(|_| none())?;
        if size > LARGE {
            keep_freed_memory();
        }
        // SAFETY: the layout's size is not zero.
        let base = NonNull::new(unsafe { allocate(layout) }).ok_or_else(none)?;
        ask_for_huge_pages(base.as_ptr(), size);
        let gap = base.as_ptr().align_offset(ALIGN);
        // SAFETY: the gap is at most ALIGN - 1 bytes, which were asked for beyond `len`.
        let data = unsafe { base.add(gap) };
        LIVE.fetch_add(len, Ordering::Relaxed);
        Ok(Memory::Heap(Heap { base, layout, data, len }))
    }

    /// `len` zero bytes that children which are forked from now on share, or a `[limit]` error when the system has not
    /// got them.
    pub fn shared(len: usize) -> Result<Memory> {
        let block = SharedBlock::new(len)
            .ok_or_else(|| err!(Limit, "{len} bytes of shared memory are not to be had").shortage())?;
        LIVE.fetch_add(len, Ordering::Relaxed);
        Ok(Memory::Shared(Shared { block, len }))
    }

    /// Memory of another library.
    ///
    /// # Safety
    /// `len` bytes from `data` on may be read and written from any thread until `owner` is dropped, and `data` is
    /// aligned for the elements that will be read from it.
    pub unsafe fn foreign(data: NonNull<u8>, len: usize, owner: Box<dyn Any + Send + Sync>) -> Memory {
        Memory::Foreign(Foreign { data, len, _owner: owner })
    }

    /// `len` bytes of `of` from `start` on, unless they reach past its end.
    pub(in crate::tensor) fn part(of: Arc<Memory>, start: usize, len: usize) -> Option<Memory> {
        if start.checked_add(len)? > of.size() {
            return None;
        }
        // SAFETY: start lies within the memory, which the part keeps.
        Some(Memory::Part(Part { data: unsafe { of.host().add(start) }, len, of }))
    }

    /// The bytes that are kept: of a part those of the whole.
    pub fn kept(&self) -> usize {
        match self {
            Memory::Part(m) => m.of.kept(),
            _ => self.size(),
        }
    }

    /// The memory that this is a part of, or this.
    fn whole(&self) -> &Memory {
        match self {
            Memory::Part(m) => m.of.whole(),
            _ => self,
        }
    }

    /// The address of the first byte, for the processor.
    pub fn host(&self) -> NonNull<u8> {
        match self {
            Memory::Heap(m) => m.data,
            Memory::Shared(m) => m.block.data(),
            Memory::Foreign(m) => m.data,
            Memory::Part(m) => m.data,
        }
    }

    /// How many bytes there are.
    pub fn size(&self) -> usize {
        match self {
            Memory::Heap(m) => m.len,
            Memory::Shared(m) => m.len,
            Memory::Foreign(m) => m.len,
            Memory::Part(m) => m.len,
        }
    }

    /// Whether processes share it.
    pub fn is_shared(&self) -> bool {
        matches!(self.whole(), Memory::Shared(_))
    }

    /// Whether a storage may take other memory in place of this when it is resized.
    pub fn replaceable(&self) -> bool {
        matches!(self, Memory::Heap(_))
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        if self.len != 0 {
            LIVE.fetch_sub(self.len, Ordering::Relaxed);
            // SAFETY: `base` came from the allocator with this layout, and a Heap is dropped once.
            unsafe { dealloc(self.base.as_ptr(), self.layout) }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        LIVE.fetch_sub(self.len, Ordering::Relaxed);
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Memory::Heap(_) => "Heap",
            Memory::Shared(_) => "Shared",
            Memory::Foreign(_) => "Foreign",
            Memory::Part(_) => "Part",
        };
        write!(f, "{kind}({:p}, {} bytes)", self.host(), self.size())
    }
}

/// An empty vector with room for `n` values, or a `[limit]` error when there is no memory for them.
pub(in crate::tensor) fn room<T>(n: usize) -> Result<Vec<T>> {
    let mut v: Vec<T> = Vec::new();
    v.try_reserve_exact(n).map_err(|_| err!(Limit, "memory for {n} numbers is not to be had").shortage())?;
    ask_for_huge_pages(v.as_mut_ptr().cast(), v.capacity() * size_of::<T>());
    Ok(v)
}

/// Room for `n` values more, or a `[limit]` error when there is no memory for them.
pub(in crate::tensor) fn more_room<T>(v: &mut Vec<T>, n: usize) -> Result<()> {
    let total = v.len().saturating_add(n);
    v.try_reserve(n).map_err(|_| err!(Limit, "memory for {total} numbers is not to be had").shortage())
}

/// A type of `ALIGN`, for the address of nothing.
#[repr(align(64))]
struct Aligned;

/// Bytes of a storage that stay valid while this lives, even when the storage is resized meanwhile.
///
/// Other threads may read and write the same bytes: tensors are shared memory, and what such a race does to the
/// *values* is their users' affair, as it is in Torch. It is no danger to the program because nobody holds references
/// into the bytes: they are accessed through raw pointers, every pattern is a valid element, and no value read decides
/// an address without being checked after the read.
#[derive(Clone)]
pub struct Span {
    data: NonNull<u8>,
    len: usize,
    keep: Arc<Memory>,
}

// SAFETY: a Span is an address of plain bytes and a counted handle that keeps them; see the argument above.
unsafe impl Send for Span {}
// SAFETY: as above.
unsafe impl Sync for Span {}

impl Span {
    /// All of `memory`.
    pub(in crate::tensor) fn new(memory: Arc<Memory>) -> Span {
        Span { data: memory.host(), len: memory.size(), keep: memory }
    }

    /// No bytes at all.
    pub(in crate::tensor) fn nothing() -> Option<Span> {
        Memory::heap(0).ok().map(|m| Span::new(Arc::new(m)))
    }

    /// The memory it keeps.
    pub(super) fn into_memory(self) -> Arc<Memory> {
        self.keep
    }

    /// The first byte. Valid for reads and writes of [`len`](Self::len) bytes while this span lives.
    pub fn as_ptr(&self) -> *mut u8 {
        self.data.as_ptr()
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// `len` bytes from `start` on, unless they reach past the end.
    pub fn part(&self, start: usize, len: usize) -> Option<Span> {
        if start.checked_add(len)? > self.len {
            return None;
        }
        // SAFETY: start + len lies within the span.
        Some(Span { data: unsafe { self.data.add(start) }, len, keep: self.keep.clone() })
    }

    /// Whether both keep the same memory, or parts of it.
    pub(super) fn is_of(&self, other: &Span) -> bool {
        std::ptr::eq(self.keep.whole(), other.keep.whole())
    }

    /// `len` bytes from `address` on, of the memory that this is a part of; `None` where they reach out of it.
    pub(super) fn reaching(&self, address: usize, len: usize) -> Option<Span> {
        let whole = self.keep.whole();
        let start = address.checked_sub(whole.host().as_ptr() as usize)?;
        if start.checked_add(len)? > whole.size() {
            return None;
        }
        // SAFETY: start + len lies within the memory, which `keep` keeps whole.
        Some(Span { data: unsafe { whole.host().add(start) }, len, keep: self.keep.clone() })
    }

    /// The bytes as a slice.
    ///
    /// # Safety
    /// While the slice lives nobody writes these bytes: a system call that reads them, or memory nobody else has yet.
    pub unsafe fn as_slice(&self) -> &[u8] {
        // SAFETY: valid for `len` bytes while self lives; the caller keeps writers away.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len) }
    }

    /// Copies bytes in, from `start` on.
    ///
    /// # Panics
    /// When they reach past the end.
    pub fn write(&self, start: usize, bytes: &[u8]) {
        assert!(start.checked_add(bytes.len()).is_some_and(|end| end <= self.len), "bytes reach past the span");
        // SAFETY: checked just above; `copy` allows the two to overlap.
        unsafe { std::ptr::copy(bytes.as_ptr(), self.as_ptr().add(start), bytes.len()) }
    }

    /// Copies bytes out, from `start` on.
    ///
    /// # Panics
    /// When they reach past the end.
    pub fn read(&self, start: usize, bytes: &mut [u8]) {
        assert!(start.checked_add(bytes.len()).is_some_and(|end| end <= self.len), "bytes reach past the span");
        // SAFETY: checked just above; `copy` allows the two to overlap.
        unsafe { std::ptr::copy(self.as_ptr().add(start), bytes.as_mut_ptr(), bytes.len()) }
    }

    /// Copies the bytes of `other` in, which are as many.
    ///
    /// # Panics
    /// When they are not.
    pub fn copy_from(&self, other: &Span) {
        assert_eq!(self.len, other.len, "two spans of one length");
        // SAFETY: both are valid for so many bytes; `copy` allows the two to overlap.
        unsafe { std::ptr::copy(other.as_ptr(), self.as_ptr(), self.len) }
    }

    /// A copy of the bytes, or a `[limit]` error when there is no memory for it.
    pub fn copied(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        out.try_reserve_exact(self.len)
            .map_err(|_| err!(Limit, "{} bytes of memory are not to be had", self.len).shortage())?;
        out.resize(self.len, 0);
        self.read(0, &mut out);
        Ok(out)
    }

    /// A copy, for tests.
    #[cfg(test)]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = vec![0; self.len];
        self.read(0, &mut out);
        out
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Span({:p}, {} bytes)", self.data, self.len)
    }
}

#[cfg(test)]
mod tests;
