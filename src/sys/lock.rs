//! A lock for short critical sections, that fork knows about.
//!
//! It may only be held for a bounded time: its holder never blocks, allocates
//! little, runs no Lua and drops no user's values; so it is waited for without a deadline.
//!
//! A fork takes every lock of the process first (as `malloc` does with its own), so the child never finds one held by a
//! thread that does not exist there, nor data half changed. Therefore a lock lives on the heap and is registered; make
//! it once an object, not once a call. Imports its siblings `word_lock`, `fork` and `fd`; `rwlock` beside it has its locks in
//! the same register.

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::fd;
use super::fork::{ForkHook, at_fork};
use super::word_lock::{self, FREE};

/// A lock that forks take and give back.
pub(super) trait ForkLock {
    /// Takes it if it is free at once.
    fn try_hold(&self) -> bool;
    /// Gives back what `try_hold` took.
    fn give(&self);
    /// Makes it free, in the child: whoever held it or waited for it is not there.
    fn forget(&self);
    /// Where it stands in the register; guarded by the register's lock.
    fn slot(&self) -> &AtomicUsize;
}

struct Raw {
    word: AtomicU32,
    slot: AtomicUsize,
}

impl Raw {
    const fn new() -> Raw {
        Raw { word: AtomicU32::new(FREE), slot: AtomicUsize::new(0) }
    }

    fn try_lock(&self) -> bool {
        word_lock::try_lock(&self.word)
    }

    #[inline]
    fn lock(&self) {
        word_lock::lock(&self.word);
    }

    #[inline]
    fn unlock(&self) {
        word_lock::unlock(&self.word);
    }
}

impl ForkLock for Raw {
    fn try_hold(&self) -> bool {
        self.try_lock()
    }

    fn give(&self) {
        self.unlock();
    }

    fn forget(&self) {
        self.word.store(FREE, Ordering::Release);
    }

    fn slot(&self) -> &AtomicUsize {
        &self.slot
    }
}

/// All locks of the process.
pub(super) struct Register {
    raw: Raw,
    locks: UnsafeCell<Vec<*const dyn ForkLock>>,
}

// SAFETY: the list is only touched under `raw`, and what it points to is all atomics.
unsafe impl Sync for Register {}

pub(super) static REGISTER: Register = Register { raw: Raw::new(), locks: UnsafeCell::new(Vec::new()) };
static HOOK: ForkHook = ForkHook { prepare, parent, child };

thread_local! {
    /// Whether this thread's fork holds all the locks.
    static HOLDS_ALL: Cell<bool> = const { Cell::new(false) };
}

impl Register {
    /// From now on forks take `lock`, whose address must not change until it is removed.
    pub fn add(&self, lock: &(dyn ForkLock + 'static)) {
        // Locks before descriptors: who holds a lock may drop a descriptor, but not the other way round.
        fd::hook();
        at_fork(&HOOK);
        self.raw.lock();
        // SAFETY: under `self.raw`.
        let locks = unsafe { &mut *self.locks.get() };
        lock.slot().store(locks.len(), Ordering::Relaxed);
        locks.push(lock);
        self.raw.unlock();
    }

    /// Forks leave `lock` alone from now on; for before its memory goes.
    pub fn remove(&self, lock: &dyn ForkLock) {
        self.raw.lock();
        // SAFETY: under `self.raw`.
        let locks = unsafe { &mut *self.locks.get() };
        let slot = lock.slot().load(Ordering::Relaxed);
        locks.swap_remove(slot);
        if let Some(&moved) = locks.get(slot) {
            // SAFETY: what stands in the list is alive: `remove` runs before a lock's memory goes.
            unsafe { &*moved }.slot().store(slot, Ordering::Relaxed);
        }
        self.raw.unlock();
    }

    /// Takes the register and every lock in it; all or nothing.
    fn try_hold_all(&self) -> bool {
        if !self.raw.try_lock() {
            return false;
        }
        // SAFETY: under `self.raw`; the locks in the list are alive.
        let locks = unsafe { &*self.locks.get() };
        for (i, &lock) in locks.iter().enumerate() {
            // SAFETY: as above.
            if !(0..64).any(|_| unsafe { &*lock }.try_hold()) {
                // SAFETY: as above.
                locks[..i].iter().for_each(|&l| unsafe { &*l }.give());
                self.raw.unlock();
                return false;
            }
        }
        true
    }
}

fn prepare() {
    // A holder may itself want the register (a lock made or dropped while another is held), so nothing is kept while
    // waiting. The bound is for a holder that was stopped; its lock is then free in the child all the same.
    let give_up = Instant::now() + Duration::from_secs(5);
    let held = loop {
        if REGISTER.try_hold_all() {
            break true;
        }
        if Instant::now() > give_up {
            break false;
        }
        std::thread::yield_now();
    };
    let _ = HOLDS_ALL.try_with(|h| h.set(held));
}

fn parent() {
    if HOLDS_ALL.try_with(|h| h.replace(false)).unwrap_or(false) {
        // SAFETY: `prepare` of this thread took the register and all locks in it.
        unsafe { &*REGISTER.locks.get() }.iter().for_each(|&l| unsafe { &*l }.give());
        REGISTER.raw.unlock();
    }
}

fn child() {
    let _ = HOLDS_ALL.try_with(|h| h.set(false));
    // SAFETY: the child has this thread alone, so nobody else touches the list.
    for &lock in unsafe { &*REGISTER.locks.get() } {
        // SAFETY: what stands in the list is alive.
        unsafe { &*lock }.forget();
    }
    REGISTER.raw.word.store(FREE, Ordering::Release);
}

/// A value behind a lock, on cache lines of its own.
pub struct Lock<T: ?Sized> {
    inner: Box<Inner<T>>,
}

// 128: neighbouring lines are fetched in pairs on x86-64, and arm64 has lines of 128 bytes.
#[repr(align(128))]
struct Inner<T: ?Sized> {
    raw: Raw,
    value: UnsafeCell<T>,
}

// SAFETY: the value is only reached through a `Guard`, which one thread at a time has.
unsafe impl<T: Send + ?Sized> Sync for Lock<T> {}
// SAFETY: owning the lock is owning the value.
unsafe impl<T: Send + ?Sized> Send for Lock<T> {}

impl<T> Lock<T> {
    /// `value`, unlocked.
    pub fn new(value: T) -> Lock<T> {
        let inner = Box::new(Inner { raw: Raw::new(), value: UnsafeCell::new(value) });
        REGISTER.add(&inner.raw);
        Lock { inner }
    }
}

impl<T: ?Sized> Lock<T> {
    /// Takes the lock; waits its turn, which is short by contract.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        self.inner.raw.lock();
        Guard { inner: &self.inner }
    }

    /// Takes the lock if it is free at once.
    #[inline]
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        self.inner.raw.try_lock().then(|| Guard { inner: &self.inner })
    }

    /// The value, where nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.value.get_mut()
    }
}

impl<T: ?Sized> Drop for Lock<T> {
    fn drop(&mut self) {
        REGISTER.remove(&self.inner.raw);
    }
}

impl<T: Default> Default for Lock<T> {
    fn default() -> Self {
        Lock::new(T::default())
    }
}

impl<T: ?Sized> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.inner.raw.word.load(Ordering::Relaxed) != FREE;
        f.debug_struct("Lock").field("held", &held).finish_non_exhaustive()
    }
}

/// The right to the value of a [`Lock`]; dropped, it gives the lock back.
pub struct Guard<'a, T: ?Sized> {
    inner: &'a Inner<T>,
}

impl<T: ?Sized> Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock.
        unsafe { &*self.inner.value.get() }
    }
}

impl<T: ?Sized> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock.
        unsafe { &mut *self.inner.value.get() }
    }
}

impl<T: ?Sized> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.inner.raw.unlock();
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
                    // Locks come and go meanwhile.
                    drop(Lock::new(0u8));
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
