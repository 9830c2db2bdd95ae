//! A lock whose holder may block: taken with the caller's deadline, given up by signals and cancels like every other wait.
//! One direction of a connection or of a pipe is behind such. Imports its sibling `signal`.

use std::cell::UnsafeCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Signal, Wait};
use crate::error::Result;

/// A value that one call at a time may use; its holder may block.
#[derive(Default)]
pub struct Turn<T> {
    taken: AtomicBool,
    freed: Signal,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through a `Held`, of which there is one at a time (`taken`, acquired and released).
unsafe impl<T: Send> Sync for Turn<T> {}

impl<T> Turn<T> {
    /// `value`, which nobody uses yet.
    pub fn new(value: T) -> Self {
        Turn { taken: AtomicBool::new(false), freed: Signal::new(), value: UnsafeCell::new(value) }
    }

    /// The turn, unless somebody has it.
    #[inline]
    pub fn try_take(&self) -> Option<Held<'_, T>> {
        let free = self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        free.then(|| Held(self))
    }

    /// Waits for the turn; `None` when time runs out.
    #[inline]
    pub fn take(&self, wait: &Wait) -> Result<Option<Held<'_, T>>> {
        match self.try_take() {
            Some(held) => Ok(Some(held)),
            None => self.freed.wait_until(wait, || self.try_take()),
        }
    }
}

impl<T> fmt::Debug for Turn<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Turn({})", if self.taken.load(Ordering::Relaxed) { "taken" } else { "free" })
    }
}

/// The turn, until it is dropped.
pub struct Held<'a, T>(&'a Turn<T>);

impl<T: fmt::Debug> fmt::Debug for Held<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&**self).finish()
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: this is the one `Held` of the turn.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this is the one `Held` of the turn, borrowed mutably.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        self.0.taken.store(false, Ordering::Release);
        self.0.freed.notify_one();
    }
}
