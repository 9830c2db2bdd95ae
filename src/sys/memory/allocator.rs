//! The library's allocator: the system's, and the reserve where that has no memory. Imports its sibling `reserve`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::reserve::{self, LARGEST};
use crate::error::{Error, Result};

/// What the crate allocates with.
#[derive(Debug)]
pub struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Set when the reserve was needed.
static SHORT: AtomicBool = AtomicBool::new(false);

static PREPARED: AtomicBool = AtomicBool::new(false);

// SAFETY: memory comes from the system's allocator or from the reserve, and goes back to where it came from, which is
// told by its address. Neither unwinds.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let block = unsafe { System.alloc(layout) };
        if block.is_null() { from_reserve(layout) } else { block }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe {
            if reserve::may_have(block) && give_back(block) {
                return;
            }
            System.dealloc(block, layout);
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let block = unsafe { System.alloc_zeroed(layout) };
        if !block.is_null() {
            return block;
        }
        let block = from_reserve(layout);
        if !block.is_null() {
            // SAFETY: the block has room for the layout.
            unsafe { ptr::write_bytes(block, 0, layout.size()) };
        }
        block
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe {
            if !reserve::may_have(block) {
                let new = System.realloc(block, layout, size);
                if !new.is_null() {
                    return new;
                }
            }
            move_block(block, layout, size)
        }
    }
}

/// A block of the reserve, if the request is small.
#[cold]
#[inline(never)]
fn from_reserve(layout: Layout) -> *mut u8 {
    /// How often the system is asked again when the reserve has nothing left, a millisecond apart. Others may let go of
    /// memory meanwhile; the alternative is the end of the process.
    const TRIES: usize = 1000;
    if layout.size() > LARGEST {
        return lent(layout);
    }
    SHORT.store(true, Ordering::Relaxed);
    for _ in 0..TRIES {
        let block = reserve::take(layout);
        if !block.is_null() {
            return block;
        }
        std::thread::sleep(Duration::from_millis(1));
        // SAFETY: the layout is the caller's, and not empty.
        let block = unsafe { System.alloc(layout) };
        if !block.is_null() {
            return block;
        }
    }
    ptr::null_mut()
}

/// The alignment of blocks that are kept for another's code.
const LOAN_ALIGN: usize = 64;

thread_local! {
    /// A block that is kept for a request that may not fail, and its size.
    static LOAN: Cell<(*mut u8, usize)> = const { Cell::new((ptr::null_mut(), 0)) };
}

/// The block that [`with_block`] keeps, if there is one in this thread and it is large enough.
fn lent(layout: Layout) -> *mut u8 {
    LOAN.with(|loan| match loan.get() {
        (block, size) if layout.size() <= size && layout.align() <= LOAN_ALIGN => {
            loan.set((ptr::null_mut(), 0));
            block
        }
        _ => ptr::null_mut(),
    })
}

/// Runs `f`, code of another crate that asks for one block of at most `bytes` and ends the process where there is none:
/// here that is an error, since a block is allocated before, and given to `f` if the system has no other. Not nested.
pub fn with_block<R>(bytes: usize, f: impl FnOnce() -> R) -> Result<R> {
    struct Unused(Layout);
    impl Drop for Unused {
        fn drop(&mut self) {
            let (block, _) = LOAN.replace((ptr::null_mut(), 0));
            if !block.is_null() {
                // SAFETY: allocated below with this layout, and nobody has taken it.
                unsafe { System.dealloc(block, self.0) };
            }
        }
    }
    let layout = Layout::from_size_align(bytes.max(1), LOAN_ALIGN).map_err(|_| Error::no_memory())?;
    // SAFETY: the layout is not empty.
    let block = unsafe { System.alloc(layout) };
    if block.is_null() {
        return Err(Error::no_memory());
    }
    LOAN.set((block, bytes));
    // The one that takes the block gives it back to the system, which is where it is from: the system's `free` asks for
    // no layout.
    let _unused = Unused(layout);
    Ok(f())
}

/// Gives `block` back if it is one of the reserve's.
///
/// # Safety
/// Nobody uses the block any more.
#[cold]
#[inline(never)]
unsafe fn give_back(block: *mut u8) -> bool {
    match reserve::arena_of(block) {
        // SAFETY: as promised; the arena has it, so it was taken from there.
        Some(arena) => unsafe {
            arena.give_back(block);
            true
        },
        None => false,
    }
}

/// A block of `size` bytes with the content of `block`, which is given back.
///
/// # Safety
/// As of `GlobalAlloc::realloc`.
#[cold]
#[inline(never)]
unsafe fn move_block(block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
    // SAFETY: as the caller promises; the new block is another one, with room for what is copied.
    unsafe {
        if reserve::may_have(block) && reserve::arena_of(block).is_none() {
            let new = System.realloc(block, layout, size);
            if !new.is_null() {
                return new;
            }
        }
        let new = ALLOCATOR.alloc(Layout::from_size_align_unchecked(size, layout.align()));
        if !new.is_null() {
            ptr::copy_nonoverlapping(block, new, layout.size().min(size));
            ALLOCATOR.dealloc(block, layout);
        }
        new
    }
}

/// Whether the reserve was needed and no call has raised for it yet.
#[inline(always)]
pub fn memory_is_short() -> bool {
    SHORT.load(Ordering::Relaxed)
}

/// [`Error::no_memory`] if the reserve was needed: for loops that make something small in each round.
#[inline]
pub fn check_memory() -> Result<()> {
    if memory_is_short() { Err(Error::no_memory()) } else { Ok(()) }
}

/// For a call that has just raised [`Error::no_memory`]: the next ones may go on, unless more than half of the reserve
/// is in use and the system has no memory for more of it.
#[cold]
#[inline(never)]
pub fn settle_shortage() {
    if reserve::is_well_filled() || reserve::refill() {
        SHORT.store(false, Ordering::Relaxed);
    }
}

/// For those who take and drop blocks of some megabytes over and over, before the first of them. The collector of a Lua
/// state drops many at once, and glibc gives what lies free at the end of its heap back to the system: the next ones
/// cost a page fault for each 4 KB, several times what the work on them costs (adding two tensors of 400 KB: 320 µs
/// instead of 70). glibc keeps twice the size of the largest mapped block that was ever freed, at most 32 MB: so one of
/// that size is taken and freed, untouched.
#[inline]
pub fn keep_freed_memory() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if !DONE.load(Ordering::Relaxed) && !DONE.swap(true, Ordering::Relaxed) {
        // SAFETY: a layout that is not empty; the block is freed as it came, and it does not matter whether there was
        // any.
        unsafe {
            let layout = Layout::from_size_align_unchecked((32 << 20) - (64 << 10), 16);
            let block = std::hint::black_box(System.alloc(layout));
            if !block.is_null() {
                System.dealloc(block, layout);
            }
        }
    }
}

/// Fills the reserve: when the library is loaded.
pub fn prepare_memory() {
    if !PREPARED.swap(true, Ordering::Relaxed) {
        reserve::fill();
    }
}
