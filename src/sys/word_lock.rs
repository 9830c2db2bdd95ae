//! A lock that is one word: spins, yields, then sleeps in a futex. What [`Lock`](super::Lock) is made of.
//!
//! Imports its siblings `atomic`, `clock`, `futex` and `load`.

use std::time::Duration;

use super::atomic::{AtomicU32, Ordering};
use super::{Looking, Scope, futex_wait, futex_wake, spare_core};

/// Nobody has it.
pub const FREE: u32 = 0;
const HELD: u32 = 1;
/// Held, and somebody may sleep.
const WANTED: u32 = 2;

/// Yields before a sleep.
const YIELDS: usize = 4;

/// Takes the lock if it is free at once.
#[inline]
pub fn try_lock(word: &AtomicU32) -> bool {
    word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
}

/// Takes the lock; waits its turn.
#[inline]
pub fn lock(word: &AtomicU32) {
    if !try_lock(word) {
        lock_slowly(word);
    }
}

#[cold]
fn lock_slowly(word: &AtomicU32) {
    let pauses = if spare_core() { 100 } else { 0 };
    for _ in 0..pauses {
        std::hint::spin_loop();
        if word.load(Ordering::Relaxed) == FREE && try_lock(word) {
            return;
        }
    }
    if let Some(looking) = Looking::begin() {
        for _ in 0..YIELDS {
            let prompt = looking.yield_core();
            if word.load(Ordering::Relaxed) == FREE && try_lock(word) {
                return;
            }
            if !prompt {
                break;
            }
        }
    }
    // WANTED also where nobody sleeps any more: one wake-up too many, never one too few.
    while word.swap(WANTED, Ordering::Acquire) != FREE {
        futex_wait(word, WANTED, Some(Duration::from_secs(1)), Scope::Private);
    }
}

/// Gives the lock back; the caller has it.
#[inline]
pub fn unlock(word: &AtomicU32) {
    if word.swap(FREE, Ordering::Release) == WANTED {
        futex_wake(word, 1, Scope::Private);
    }
}
