//! The reserve: blocks of a few sizes, taken and given back without a lock, so that a fork finds it whole at any
//! moment.
//!
//! It needs no memory to manage memory: a bit for each block says whether it is taken.

use std::alloc::Layout;
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// The largest request that the reserve serves. Ours are below 2 KB; the runtime that accepts connections makes a few
/// of up to 12 KB.
pub const LARGEST: usize = 16 << 10;

/// A size of blocks, and how many there are.
struct Class {
    size: usize,
    count: usize,
}

/// 1 MiB in all: for hundreds of threads that are each in the middle of a call. A call makes tens of small things; what
/// makes more than that asks `check_memory` for each. Few are above 2 KiB.
const CLASSES: [Class; 4] = [
    Class { size: 64, count: 2048 },
    Class { size: 512, count: 512 },
    Class { size: 2 << 10, count: 128 },
    Class { size: LARGEST, count: 24 },
];

const BYTES: usize = {
    let (mut bytes, mut i) = (0, 0);
    while i < CLASSES.len() {
        bytes += CLASSES[i].size * CLASSES[i].count;
        i += 1;
    }
    bytes
};

const WORDS: usize = {
    let (mut words, mut i) = (0, 0);
    while i < CLASSES.len() {
        words += CLASSES[i].count.div_ceil(64);
        i += 1;
    }
    words
};

const PAGE: usize = 4096;

/// One set of blocks. All zeros is an empty one, which is what the system gives.
#[repr(C, align(4096))]
pub(super) struct Arena {
    blocks: UnsafeCell<[u8; BYTES]>,
    /// A bit for each block: set while it is taken.
    taken: [AtomicU64; WORDS],
}

// SAFETY: a block belongs to the thread that set its bit; the rest are atomics.
unsafe impl Sync for Arena {}

impl Arena {
    pub const fn new() -> Arena {
        Arena { blocks: UnsafeCell::new([0; BYTES]), taken: [const { AtomicU64::new(0) }; WORDS] }
    }

    fn start(&self) -> *mut u8 {
        self.blocks.get().cast()
    }

    /// Whether `block` is one of its blocks.
    fn has(&self, block: *mut u8) -> bool {
        (block as usize).wrapping_sub(self.start() as usize) < BYTES
    }

    /// A block for `layout`, or null.
    pub fn take(&self, layout: Layout) -> *mut u8 {
        let (mut offset, mut first) = (0, 0);
        for Class { size, count } in CLASSES {
            // A block lies at a multiple of its size, up to a page.
            if layout.size() <= size && layout.align() <= size.min(PAGE) {
                for n in 0..count.div_ceil(64) {
                    let word = &self.taken[first + n];
                    let last = (count - n * 64).min(64);
                    let mut bits = word.load(Ordering::Relaxed);
                    while (bits.trailing_ones() as usize) < last {
                        let bit = bits.trailing_ones();
                        // Acquire: the thread that had the block before has written to it before it came back.
                        bits = word.fetch_or(1 << bit, Ordering::Acquire);
                        if bits & (1 << bit) == 0 {
                            // SAFETY: within the blocks of this size.
                            return unsafe { self.start().add(offset + (n * 64 + bit as usize) * size) };
                        }
                    }
                }
            }
            offset += size * count;
            first += count.div_ceil(64);
        }
        ptr::null_mut()
    }

    /// The class of a block's size: its index, the offset of its first block, and the index of its first word.
    fn class_of(&self, block: *mut u8) -> (usize, usize, usize) {
        let at = block as usize - self.start() as usize;
        let (mut index, mut offset, mut first) = (0, 0, 0);
        while at >= offset + CLASSES[index].size * CLASSES[index].count {
            offset += CLASSES[index].size * CLASSES[index].count;
            first += CLASSES[index].count.div_ceil(64);
            index += 1;
        }
        (index, offset, first)
    }

    /// Gives a block back.
    ///
    /// # Safety
    /// `block` came from [`Arena::take`] of this arena, and nobody uses it any more.
    pub unsafe fn give_back(&self, block: *mut u8) {
        let (index, offset, first) = self.class_of(block);
        let size = CLASSES[index].size;
        let n = (block as usize - self.start() as usize - offset) / size;
        self.taken[first + n / 64].fetch_and(!(1 << (n % 64)), Ordering::Release);
    }

    /// How many bytes of it are taken.
    #[cfg(test)]
    pub fn bytes_taken(&self) -> usize {
        let mut words = self.taken.iter();
        CLASSES
            .iter()
            .map(|class| {
                let own = words.by_ref().take(class.count.div_ceil(64));
                own.map(|word| word.load(Ordering::Relaxed).count_ones() as usize).sum::<usize>() * class.size
            })
            .sum()
    }

    /// Whether at least half of the blocks of each size are free.
    pub fn is_well_filled(&self) -> bool {
        let mut words = self.taken.iter();
        CLASSES.iter().all(|class| {
            let own = words.by_ref().take(class.count.div_ceil(64));
            2 * own.map(|word| word.load(Ordering::Relaxed).count_ones() as usize).sum::<usize>() <= class.count
        })
    }
}

/// The arena that every process has, as part of the library: there is no moment at which it could not be made.
static FIRST: Arena = Arena::new();

/// Arenas made since, when the first was in use and the system had memory again. They stay.
static MORE: [AtomicPtr<Arena>; 7] = [const { AtomicPtr::new(ptr::null_mut()) }; 7];

/// The addresses from the first to the last block of all arenas, so that most of those who give memory back look no
/// further.
static LOWEST: AtomicUsize = AtomicUsize::new(usize::MAX);
static HIGHEST: AtomicUsize = AtomicUsize::new(0);

fn arenas() -> impl Iterator<Item = &'static Arena> {
    let more = MORE.iter().map(|p| p.load(Ordering::Acquire)).take_while(|p| !p.is_null());
    // SAFETY: an arena that was made stays.
    std::iter::once(&FIRST).chain(more.map(|p| unsafe { &*p }))
}

/// A block for `layout`, which the system had no memory for; null when nothing is left that fits.
pub(super) fn take(layout: Layout) -> *mut u8 {
    for arena in arenas() {
        let block = arena.take(layout);
        if !block.is_null() {
            LOWEST.fetch_min(block as usize, Ordering::Relaxed);
            HIGHEST.fetch_max(block as usize, Ordering::Relaxed);
            return block;
        }
    }
    ptr::null_mut()
}

/// Whether `block` may be one of the reserve's: two loads and a comparison. No block is before the first was taken.
#[inline(always)]
pub(super) fn may_have(block: *mut u8) -> bool {
    // A thread that has a block has seen, with it, the bounds that it moved.
    let low = LOWEST.load(Ordering::Relaxed);
    (block as usize) >= low && (block as usize) <= HIGHEST.load(Ordering::Relaxed)
}

/// The arena that `block` is of.
pub(super) fn arena_of(block: *mut u8) -> Option<&'static Arena> {
    arenas().find(|arena| arena.has(block))
}

/// Whether at least half of one arena's worth is free, of blocks of each size: what all threads together need to finish
/// the calls they are in.
pub(super) fn is_well_filled() -> bool {
    arenas().any(Arena::is_well_filled)
}

/// Makes one more arena if the system has memory for it.
#[cfg(unix)]
pub(super) fn refill() -> bool {
    let size = size_of::<Arena>();
    // SAFETY: asks for memory at no particular place.
    let memory = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if memory == libc::MAP_FAILED {
        return false;
    }
    fault_in(memory.cast(), size);
    for slot in &MORE {
        if slot.compare_exchange(ptr::null_mut(), memory.cast(), Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return true;
        }
    }
    // SAFETY: the mapping was made above and nobody has seen it.
    unsafe { libc::munmap(memory, size) };
    false
}

/// Makes the system find memory for the reserve now, not when there is none. Called when the library is loaded.
pub(super) fn fill() {
    fault_in(FIRST.start(), size_of::<Arena>());
}

/// Has pages assigned, where the system can be asked to; elsewhere they come with the first write, as always.
fn fault_in(memory: *mut u8, size: usize) {
    #[cfg(target_os = "linux")]
    // SAFETY: changes no content; older kernels (before 5.14) answer EINVAL.
    unsafe {
        libc::madvise(memory.cast(), size, libc::MADV_POPULATE_WRITE);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (memory, size);
}
