//! Descriptors of ours, and the table of those that the child of a fork closes.
//!
//! A peer learns of our death by the end of its socket; a forked child that still holds a copy would hide it. So every
//! descriptor of this library stands in a table, and the child closes them all (it never shuts them down: that would
//! reach through to the parent). The table is a bitmap of atomics, since the child may take no lock. Opening and
//! closing happens inside a critical section, which a fork waits for, so that no descriptor is open and not in the
//! table when it happens.
//!
//! Imports its siblings `fork`, `critical` and `clock`.

use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use super::clock::monotonic_ns;
use super::critical::Critical;
use super::fork::{ForkHook, at_fork, fork_generation};
use crate::error::{Error, Result};

const WORDS: usize = 1024;
const CHUNK: usize = WORDS * 64;
/// Together 2^30 descriptors, what Linux allows at most; the array takes no memory until it is touched.
const CHUNKS: usize = 1 << 14;

type Words = [AtomicU64; WORDS];
static TABLE: [AtomicPtr<Words>; CHUNKS] = [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS];

static HOOK: ForkHook = ForkHook { prepare: || (), parent: || (), child };

fn child() {
    for (c, chunk) in TABLE.iter().enumerate() {
        // SAFETY: null, or a chunk that `words` leaked.
        let Some(words) = (unsafe { chunk.load(Ordering::Acquire).as_ref() }) else { continue };
        for (w, word) in words.iter().enumerate() {
            let mut bits = word.swap(0, Ordering::Relaxed);
            while bits != 0 {
                let fd = c * CHUNK + w * 64 + bits.trailing_zeros() as usize;
                // SAFETY: the descriptor is ours and stands in the table; every `Fd` of an earlier generation knows
                // that it no longer owns it.
                unsafe { libc::close(fd as RawFd) };
                bits &= bits - 1;
            }
        }
    }
}

fn word(fd: RawFd, make: bool) -> Option<(&'static AtomicU64, u64)> {
    let n = usize::try_from(fd).ok()?;
    let slot = TABLE.get(n / CHUNK)?;
    let mut chunk = slot.load(Ordering::Acquire);
    if chunk.is_null() {
        if !make {
            return None;
        }
        let new = Box::into_raw(Box::new([const { AtomicU64::new(0) }; WORDS]));
        chunk = match slot.compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => new,
            Err(there) => {
                // SAFETY: `new` came from `Box::into_raw` just above and nobody else has seen it.
                drop(unsafe { Box::from_raw(new) });
                there
            }
        };
    }
    // SAFETY: chunks are leaked, so a pointer found in the table stays valid.
    let words = unsafe { &*chunk };
    Some((&words[n % CHUNK / 64], 1 << (n % 64)))
}

/// Enters an open descriptor that something else owns (a runtime's socket) into the table of those that a forked child
/// closes. Call it inside [`opening`], or a fork in between misses it.
pub fn track_fd(fd: RawFd) {
    at_fork(&HOOK);
    if let Some((word, bit)) = word(fd, true) {
        word.fetch_or(bit, Ordering::Relaxed);
    }
}

/// Takes a descriptor out of the table; before it is closed, or it may already be another's.
pub fn forget_fd(fd: RawFd) {
    if let Some((word, bit)) = word(fd, false) {
        word.fetch_and(!bit, Ordering::Relaxed);
    }
}

/// Runs `f`, which opens, tracks, forgets or closes descriptors and does not block, while no fork can happen.
pub fn opening<T>(f: impl FnOnce() -> T) -> T {
    let _section = Critical::enter();
    f()
}

/// How long a thread in the background may take to close what it is to close, in nanoseconds.
const CLOSING: u64 = 4_000_000_000;

/// When descriptors were last left to a thread in the background to close, on the clock of [`monotonic_ns`]; 0: never.
static LEFT: AtomicU64 = AtomicU64::new(0);

/// Says that a thread in the background is to close descriptors: who is short of them waits for it.
pub fn close_later() {
    LEFT.store(monotonic_ns().max(1), Ordering::Relaxed);
}

/// Whether a thread in the background may be about to close descriptors.
pub fn closes_soon() -> bool {
    let left = LEFT.load(Ordering::Relaxed);
    left != 0 && monotonic_ns().saturating_sub(left) < CLOSING
}

/// Whether `fd` is an open descriptor of this process, no matter what owns it.
pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD touches no memory.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// A descriptor that this process owns: closed when dropped, and closed in a forked child at the fork.
#[derive(Debug)]
pub struct Fd {
    raw: RawFd,
    generation: u32,
}

impl Fd {
    /// Runs `open`, a system call that returns a descriptor or −1 (with close-on-exec asked for), and owns the result.
    /// `call` names it in the error.
    pub fn open(call: &str, open: impl FnOnce() -> RawFd) -> Result<Fd> {
        opening(|| {
            let raw = open();
            if raw < 0 {
                return Err(Error::os("", call));
            }
            Ok(Fd::own(raw))
        })
    }

    /// Owns `raw`, which is open and belongs to nobody else. Call it inside [`opening`].
    pub fn own(raw: RawFd) -> Fd {
        track_fd(raw);
        Fd { raw, generation: fork_generation() }
    }

    /// Gives the descriptor away, still open and no longer in the table; −1 where it belongs to another process.
    pub fn into_raw(self) -> RawFd {
        let raw = if self.is_ours() { self.raw } else { -1 };
        if raw >= 0 {
            forget_fd(raw);
        }
        std::mem::forget(self);
        raw
    }

    /// Whether it was opened by this process, and not by one that this one was forked from.
    pub fn is_ours(&self) -> bool {
        self.generation == fork_generation()
    }

    /// The descriptor, or `[state]` in a forked child, where it is closed.
    pub fn check(&self) -> Result<RawFd> {
        if self.is_ours() {
            return Ok(self.raw);
        }
        Err(crate::err!(State, "this was opened before the fork and belongs to the parent process; open it anew here"))
    }
}

impl AsRawFd for Fd {
    /// The number, also where it is no longer ours: [`Fd::check`] says.
    fn as_raw_fd(&self) -> RawFd {
        self.raw
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        if self.is_ours() {
            opening(|| {
                forget_fd(self.raw);
                // SAFETY: we own the descriptor and it was opened in this process.
                unsafe { libc::close(self.raw) };
            });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::fork::tests::in_child;
    use super::*;

    fn pipe() -> (Fd, Fd) {
        let mut ends = [0; 2];
        // SAFETY: `ends` has room for two descriptors.
        assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
        (Fd::own(ends[0]), Fd::own(ends[1]))
    }

    #[test]
    fn a_forked_child_closes_our_descriptors_and_the_parent_keeps_them() {
        let (r, w) = pipe();
        assert_eq!(in_child(|| !is_open(r.raw) && !is_open(w.raw) && r.check().is_err()), 0);
        assert!(is_open(r.raw) && is_open(w.raw));
        assert_eq!(r.check().unwrap(), r.raw);
    }

    #[test]
    fn dropping_an_inherited_handle_closes_nothing() {
        let (r, _w) = pipe();
        let raw = r.raw;
        let code = in_child(move || {
            // SAFETY: opens a plain file; the number is free again after the child handler closed it.
            let other = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY) };
            // SAFETY: both are numbers of this process.
            unsafe { libc::dup2(other, raw) };
            drop(r);
            is_open(raw)
        });
        assert_eq!(code, 0);
    }

    #[test]
    fn a_closed_descriptor_leaves_the_table() {
        let (r, _w) = pipe();
        let raw = r.raw;
        let (word, bit) = word(raw, false).unwrap();
        assert_ne!(word.load(Ordering::Relaxed) & bit, 0);
        // Out of the table, still open.
        let given = r.into_raw();
        assert_eq!(word.load(Ordering::Relaxed) & bit, 0);
        assert!(is_open(given));
        // SAFETY: `into_raw` made it ours to close.
        unsafe { libc::close(given) };
    }

    #[test]
    fn a_descriptor_may_be_dropped_while_another_is_opened() {
        let (outer, _w) = pipe();
        std::thread::scope(|s| {
            s.spawn(|| (0..20).for_each(|_| assert_eq!(in_child(|| true), 0)));
            for _ in 0..200 {
                opening(|| drop(pipe()));
            }
        });
        assert!(is_open(outer.raw));
    }

    #[test]
    fn a_failed_open_says_which_call() {
        // SAFETY: a path that does not exist.
        let e = Fd::open("open", || unsafe { libc::open(c"/nowhere/at/all".as_ptr(), libc::O_RDONLY) }).unwrap_err();
        assert!(e.to_string().contains("open: "), "{e}");
    }
}
