//! A lock whose holder may block: taken with the caller's deadline, given up by signals and cancels like every other
//! wait. One direction of a connection or of a pipe is behind such. Imports its sibling `signal`.

use std::cell::UnsafeCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{Signal, Wait};
use crate::err;
use crate::error::{Error, Result};

/// A value that one call at a time may use; its holder may block.
#[derive(Default)]
pub struct Turn<T> {
    taken: AtomicBool,
    /// The thread that has it ([`this_thread`]); 0 while nobody has.
    holder: AtomicUsize,
    freed: Signal,
    value: UnsafeCell<T>,
}

/// A number that no other thread has while this one lives.
fn this_thread() -> usize {
    thread_local!(static SELF: u8 = const { 0 });
    SELF.try_with(|own| std::ptr::from_ref(own).addr()).unwrap_or(0)
}

// SAFETY: the value is reached only through a `Held`, of which there is one at a time (`taken`, acquired and released).
unsafe impl<T: Send> Sync for Turn<T> {}

impl<T> Turn<T> {
    /// `value`, which nobody uses yet.
    pub fn new(value: T) -> Self {
        Turn {
            taken: AtomicBool::new(false),
            holder: AtomicUsize::new(0),
            freed: Signal::new(),
            value: UnsafeCell::new(value),
        }
    }

    /// The turn, unless somebody has it.
    #[inline]
    pub fn try_take(&self) -> Option<Held<'_, T>> {
        let free = self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        free.then(|| {
            self.holder.store(this_thread(), Ordering::Relaxed);
            Held(self)
        })
    }

    /// Waits for the turn; `None` when time runs out. `[state]` at once where this thread has it itself: a signal
    /// handler's hook or a finalizer that runs in the middle of a call would wait for its own caller.
    #[inline]
    pub fn take(&self, wait: &Wait) -> Result<Option<Held<'_, T>>> {
        match self.try_take() {
            Some(held) => Ok(Some(held)),
            None if self.is_mine() => Err(Self::in_use()),
            None => self.freed.wait_until(wait, || self.try_take()),
        }
    }

    /// Whether the calling thread has the turn.
    pub fn is_mine(&self) -> bool {
        // Another thread's number, or an old one of this thread, cannot be read as this thread's: it wrote 0 when it
        // was done.
        self.holder.load(Ordering::Relaxed) == this_thread()
    }

    /// The error for a call from within the call that has the turn.
    #[cold]
    pub fn in_use() -> Error {
        err!(
            State,
            "this thread is in the middle of another call on the same end; a hook or finalizer that runs inside of it \
             cannot wait for it"
        )
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
        self.0.holder.store(0, Ordering::Relaxed);
        self.0.taken.store(false, Ordering::Release);
        self.0.freed.notify_one();
    }
}
