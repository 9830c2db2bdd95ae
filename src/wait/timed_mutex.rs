//! A lock whose holder may block. It is taken with the caller's deadline, and a signal or a cancel ends the wait for
//! it. Such a lock guards each direction of a connection and each pipe of a child. Imports its sibling `event_count`.

use std::cell::UnsafeCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{EventCount, Wait};
use crate::err;
use crate::error::{Error, Result};

/// A value that one call at a time may use; its holder may block.
#[derive(Default)]
pub struct TimedMutex<T> {
    taken: AtomicBool,
    /// The thread that holds it ([`this_thread`]); 0 while nobody has.
    holder: AtomicUsize,
    freed: EventCount,
    value: UnsafeCell<T>,
}

/// A number that no other thread has while this one lives.
fn this_thread() -> usize {
    thread_local!(static SELF: u8 = const { 0 });
    SELF.try_with(|own| std::ptr::from_ref(own).addr()).unwrap_or(0)
}

// SAFETY: the value is reached only through a `TimedMutexGuard`, of which there is one at a time (`taken`, acquired and
// released).
unsafe impl<T: Send> Sync for TimedMutex<T> {}

impl<T> TimedMutex<T> {
    /// `value`, which nobody uses yet.
    pub fn new(value: T) -> Self {
        TimedMutex {
            taken: AtomicBool::new(false),
            holder: AtomicUsize::new(0),
            freed: EventCount::new(),
            value: UnsafeCell::new(value),
        }
    }

    /// Takes the lock, unless somebody has it.
    #[inline]
    pub fn try_lock(&self) -> Option<TimedMutexGuard<'_, T>> {
        let free = self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        free.then(|| {
            self.holder.store(this_thread(), Ordering::Relaxed);
            TimedMutexGuard(self)
        })
    }

    /// Waits for the lock; `None` when time runs out. `[state]` at once where this thread has it itself: a signal
    /// handler's hook or a finalizer that runs in the middle of a call would wait for its own caller.
    #[inline]
    pub fn lock(&self, wait: &Wait) -> Result<Option<TimedMutexGuard<'_, T>>> {
        match self.try_lock() {
            Some(guard) => Ok(Some(guard)),
            None if self.is_mine() => Err(Self::in_use()),
            None => self.freed.wait_until(wait, || self.try_lock()),
        }
    }

    /// Whether the calling thread holds the lock.
    pub fn is_mine(&self) -> bool {
        // Another thread's number, or an old one of this thread, cannot be read as this thread's: it wrote 0 when it
        // was done.
        self.holder.load(Ordering::Relaxed) == this_thread()
    }

    /// The error for a call from within the call that holds the lock.
    #[cold]
    pub fn in_use() -> Error {
        err!(
            State,
            "this thread is in the middle of another call on the same end; a hook or finalizer that runs inside of it \
             cannot wait for it"
        )
    }
}

impl<T> fmt::Debug for TimedMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimedMutex({})", if self.taken.load(Ordering::Relaxed) { "taken" } else { "free" })
    }
}

/// Holds the lock of a [`TimedMutex`] until it is dropped.
pub struct TimedMutexGuard<'a, T>(&'a TimedMutex<T>);

impl<T: fmt::Debug> fmt::Debug for TimedMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TimedMutexGuard").field(&**self).finish()
    }
}

impl<T> Deref for TimedMutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: this is the one `TimedMutexGuard` of the lock.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for TimedMutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this is the one `TimedMutexGuard` of the lock, borrowed mutably.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for TimedMutexGuard<'_, T> {
    fn drop(&mut self) {
        self.0.holder.store(0, Ordering::Relaxed);
        self.0.taken.store(false, Ordering::Release);
        self.0.freed.notify_one();
    }
}
