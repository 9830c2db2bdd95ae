//! A lock for short critical sections that readers share, and that fork knows about.
//!
//! As [`Lock`](super::Lock) in all but that: held for a bounded time, waited for without a deadline, and both inside a
//! critical section. A reader that finds no writer adds one number to a word and goes on, whatever other readers do. A
//! writer that waits holds back new readers, so that a stream of them does not keep it out for ever.
//!
//! Imports its siblings `critical`, `futex`, `clock` and `load`.

use std::cell::UnsafeCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::clock::spare_core;
use super::critical::Critical;
use super::futex::{Scope, futex_wait, futex_wake};
use super::load::Looking;

/// A writer holds it.
const WRITTEN: u32 = 1 << 31;
/// A writer waits: no new readers.
const WANTED: u32 = 1 << 30;
/// The rest of the word counts readers, those among them who are about to step back.
const READERS: u32 = WANTED - 1;

/// Threads of one kind that sleep.
struct Sleepers {
    /// How many there are, or are about to.
    count: AtomicU32,
    /// Changes when one of them, or all, should look again.
    moved: AtomicU32,
}

impl Sleepers {
    const fn new() -> Sleepers {
        Sleepers { count: AtomicU32::new(0), moved: AtomicU32::new(0) }
    }

    #[inline]
    fn any(&self) -> bool {
        self.count.load(Ordering::SeqCst) != 0
    }

    #[cold]
    fn wake(&self, how_many: u32) {
        self.moved.fetch_add(1, Ordering::SeqCst);
        futex_wake(&self.moved, how_many, Scope::Private);
    }
}

struct Raw {
    word: AtomicU32,
    readers: Sleepers,
    writers: Sleepers,
    /// How many of the readers that a writer woke have yet to come in: the last one closes the door behind it where
    /// writers wait. So both take turns: all readers that slept, then one writer.
    coming: AtomicU32,
}

impl Raw {
    const fn new() -> Raw {
        Raw { word: AtomicU32::new(0), readers: Sleepers::new(), writers: Sleepers::new(), coming: AtomicU32::new(0) }
    }

    #[inline]
    fn read(&self) {
        if !self.try_read() {
            self.read_later();
        }
    }

    #[cold]
    fn read_later(&self) {
        let take = |raw: &Raw| raw.word.load(Ordering::SeqCst) & (WRITTEN | WANTED) == 0 && raw.try_read();
        if self.wait(&self.readers, take) {
            self.came_in();
        }
    }

    /// A reader that slept has the lock.
    #[cold]
    fn came_in(&self) {
        let coming = self.coming.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        // While this thread reads, no writer that slept can have taken the lock: each that is counted asks for it
        // still.
        if coming.is_ok_and(|n| n == 1) && self.writers.any() {
            self.word.fetch_or(WANTED, Ordering::SeqCst);
        }
    }

    #[inline]
    fn try_read(&self) -> bool {
        if self.word.fetch_add(1, Ordering::SeqCst) & (WRITTEN | WANTED) == 0 {
            return true;
        }
        // Stepping back may be what a writer waits for.
        self.end_read();
        false
    }

    #[inline]
    fn end_read(&self) {
        // SeqCst here and in `wait`: either the one who leaves sees the sleeper, or that one sees the word without him.
        let left = self.word.fetch_sub(1, Ordering::SeqCst) - 1;
        if left & READERS == 0 && self.writers.any() {
            self.writers.wake(1);
        }
    }

    #[inline]
    fn write(&self) {
        if self.word.compare_exchange(0, WRITTEN, Ordering::SeqCst, Ordering::Relaxed).is_err() {
            self.wait(&self.writers, Raw::take);
        }
    }

    /// Takes the lock if nobody has it, or says that it is wanted.
    fn take(&self) -> bool {
        let word = self.word.load(Ordering::SeqCst);
        if word & (WRITTEN | READERS) == 0 {
            // Other writers that wait ask for it again when they look next.
            return self.word.compare_exchange(word, WRITTEN, Ordering::SeqCst, Ordering::Relaxed).is_ok();
        }
        if word & WANTED == 0 {
            self.word.fetch_or(WANTED, Ordering::SeqCst);
        }
        false
    }

    #[inline]
    fn end_write(&self) {
        self.word.fetch_and(!WRITTEN, Ordering::SeqCst);
        if self.readers.any() {
            self.let_readers_in();
        } else if self.writers.any() {
            self.writers.wake(1);
        }
    }

    /// After a writer: the readers that sleep come before the writers that do.
    #[cold]
    fn let_readers_in(&self) {
        self.coming.store(self.readers.count.load(Ordering::SeqCst), Ordering::SeqCst);
        // A writer that is awake says so again; who sleeps is woken by the last reader that leaves.
        self.word.fetch_and(!WANTED, Ordering::SeqCst);
        self.readers.wake(u32::MAX);
    }

    /// Waits until `take` succeeds; whether it had to sleep.
    #[cold]
    fn wait(&self, sleepers: &Sleepers, take: fn(&Raw) -> bool) -> bool {
        let spins = if spare_core() { 100 } else { 0 };
        for _ in 0..spins {
            std::hint::spin_loop();
            if take(self) {
                return false;
            }
        }
        if let Some(looking) = Looking::begin() {
            for _ in 0..4 {
                let prompt = looking.yield_core();
                if take(self) {
                    return false;
                }
                if !prompt {
                    break;
                }
            }
        }
        sleepers.count.fetch_add(1, Ordering::SeqCst);
        loop {
            let moved = sleepers.moved.load(Ordering::SeqCst);
            if take(self) {
                break;
            }
            futex_wait(&sleepers.moved, moved, Some(Duration::from_secs(1)), Scope::Private);
        }
        sleepers.count.fetch_sub(1, Ordering::SeqCst);
        true
    }
}

/// A value behind a lock that readers share, on cache lines of its own.
// 128 as in `Lock`.
#[repr(align(128))]
pub struct RwLock<T> {
    raw: Raw,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through guards only: by one thread at a time to change it, by several to read it.
unsafe impl<T: Send + Sync> Sync for RwLock<T> {}
// SAFETY: owning the lock is owning the value.
unsafe impl<T: Send> Send for RwLock<T> {}

impl<T> RwLock<T> {
    /// `value`, unlocked.
    pub const fn new(value: T) -> RwLock<T> {
        RwLock { raw: Raw::new(), value: UnsafeCell::new(value) }
    }

    /// The right to read, beside other readers. Not to be asked for twice by one thread: a writer may want in between.
    #[inline(always)]
    pub fn read(&self) -> ReadGuard<'_, T> {
        let section = Critical::enter();
        self.raw.read();
        ReadGuard { lock: self, _section: section }
    }

    /// The right to change the value.
    #[inline]
    pub fn write(&self) -> WriteGuard<'_, T> {
        let section = Critical::enter();
        self.raw.write();
        WriteGuard { lock: self, _section: section }
    }

    /// The value, where nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        RwLock::new(T::default())
    }
}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.raw.word.load(Ordering::Relaxed);
        f.debug_struct("RwLock")
            .field("written", &(word & WRITTEN != 0))
            .field("readers", &(word & READERS))
            .finish_non_exhaustive()
    }
}

/// The right to read the value of a [`RwLock`]; dropped, it is given back.
pub struct ReadGuard<'a, T> {
    lock: &'a RwLock<T>,
    _section: Critical,
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: while the guard counts as a reader, nobody changes the value.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.raw.end_read();
    }
}

impl<T> fmt::Debug for ReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadGuard")
    }
}

/// The right to change the value of a [`RwLock`]; dropped, it is given back.
pub struct WriteGuard<'a, T> {
    lock: &'a RwLock<T>,
    _section: Critical,
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock alone.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock alone.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.raw.end_write();
    }
}

impl<T> fmt::Debug for WriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WriteGuard")
    }
}

#[cfg(test)]
mod tests;
