//! A lock for short critical sections, that fork knows about.
//!
//! It may only be held for a bounded time: its holder never blocks, allocates
//! little, runs no Lua and drops no user's values; so it is waited for without a deadline.
//!
//! It is held, and waited for, inside a critical section ([`Critical`]), and a fork waits for those: the child never
//! finds it held by a thread that does not exist there, nor data half changed. It is made without an allocation, and a
//! `static` can be one. Imports its siblings `word_lock` and `critical`.

use std::cell::UnsafeCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};

use super::critical::Critical;
use super::word_lock::{self, FREE};

/// A value behind a lock, on cache lines of its own.
// 128: neighbouring lines are fetched in pairs on x86-64, and arm64 has lines of 128 bytes.
#[repr(align(128))]
pub struct Lock<T: ?Sized> {
    word: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is only reached through a `Guard`, which one thread at a time has.
unsafe impl<T: Send + ?Sized> Sync for Lock<T> {}
// SAFETY: owning the lock is owning the value.
unsafe impl<T: Send + ?Sized> Send for Lock<T> {}

impl<T> Lock<T> {
    /// `value`, unlocked.
    pub const fn new(value: T) -> Lock<T> {
        Lock { word: AtomicU32::new(FREE), value: UnsafeCell::new(value) }
    }
}

impl<T: ?Sized> Lock<T> {
    /// Takes the lock; waits its turn, which is short by contract.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        let section = Critical::enter();
        word_lock::lock(&self.word);
        Guard { lock: self, _section: section }
    }

    /// Takes the lock if it is free at once.
    #[inline]
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        let section = Critical::enter();
        word_lock::try_lock(&self.word).then(|| Guard { lock: self, _section: section })
    }

    /// The value, where nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: Default> Default for Lock<T> {
    fn default() -> Self {
        Lock::new(T::default())
    }
}

impl<T: ?Sized> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.word.load(Ordering::Relaxed) != FREE;
        f.debug_struct("Lock").field("held", &held).finish_non_exhaustive()
    }
}

/// The right to the value of a [`Lock`]; dropped, in the same thread, it gives the lock back.
pub struct Guard<'a, T: ?Sized> {
    lock: &'a Lock<T>,
    /// Ends after the lock is given back: see `Drop`, which runs before the fields are dropped.
    _section: Critical,
}

impl<T: ?Sized> Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        word_lock::unlock(&self.lock.word);
    }
}

impl<T: ?Sized> fmt::Debug for Guard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

#[cfg(test)]
mod tests {
    use super::super::fork::tests::in_child;
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn increments_under_the_lock_are_not_lost() {
        let lock = Lock::new(0u64);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| (0..20_000).for_each(|_| *lock.lock() += 1));
            }
        });
        assert_eq!(*lock.lock(), 80_000);
    }

    #[test]
    fn a_held_lock_is_not_taken_twice() {
        let lock = Lock::new(());
        let guard = lock.lock();
        assert!(lock.try_lock().is_none());
        drop(guard);
        assert!(lock.try_lock().is_some());
    }

    #[test]
    fn a_child_finds_no_lock_held_and_no_value_half_changed() {
        let pair = Lock::new((0u64, 0u64));
        let stop = AtomicBool::new(false);
        std::thread::scope(|s| {
            s.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let mut p = pair.lock();
                    p.0 += 1;
                    std::hint::black_box(&mut p);
                    p.1 += 1;
                    drop(p);
                }
            });
            for _ in 0..50 {
                let code = in_child(|| {
                    let p = pair.lock();
                    p.0 == p.1
                });
                if code != 0 {
                    stop.store(true, Ordering::Relaxed);
                }
                assert_eq!(code, 0);
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}
