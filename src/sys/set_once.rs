//! A value that is set once, by the thread that comes first.
//!
//! Unlike `std::sync::OnceLock` nobody ever waits for another to make the value: those who race make one each, and one
//! of them is kept. So a fork in the midst of it leaves the child nothing to wait for in vain.

use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A place for a value that never changes once it is there.
pub struct SetOnce<T> {
    value: AtomicPtr<T>,
}

// SAFETY: what is set in one thread is read, and may be dropped, in another.
unsafe impl<T: Send + Sync> Sync for SetOnce<T> {}
// SAFETY: it owns the value.
unsafe impl<T: Send> Send for SetOnce<T> {}

impl<T> SetOnce<T> {
    /// Nothing is set yet.
    pub const fn new() -> SetOnce<T> {
        SetOnce { value: AtomicPtr::new(ptr::null_mut()) }
    }

    /// The value, if it is set.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // SAFETY: null, or from the box that `set` put here, which stays as long as `self`.
        unsafe { self.value.load(Ordering::Acquire).as_ref() }
    }

    /// The value, if it is set, where nobody else can have it.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        // SAFETY: as in `get`; `self` is borrowed mutably.
        unsafe { self.value.get_mut().as_mut() }
    }

    /// Sets it; gives `value` back where another one is set already.
    pub fn set(&self, value: T) -> Result<(), T> {
        if self.get().is_some() {
            return Err(value);
        }
        let new = Box::into_raw(Box::new(value));
        match self.value.compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            // SAFETY: made from a box just above, and nobody else has seen it.
            Err(_) => Err(*unsafe { Box::from_raw(new) }),
        }
    }

    /// The value; where none is set, first what `make` gives. Another thread may call its own `make` at the same time:
    /// it is to have no effects that matter when the result is dropped.
    #[inline]
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        match self.get() {
            Some(value) => value,
            None => self.init(make()),
        }
    }

    #[cold]
    fn init(&self, value: T) -> &T {
        drop(self.set(value));
        // SAFETY: set, by this thread or another, to a box that stays as long as `self`.
        unsafe { &*self.value.load(Ordering::Acquire) }
    }
}

impl<T> Drop for SetOnce<T> {
    fn drop(&mut self) {
        let value = *self.value.get_mut();
        if !value.is_null() {
            // SAFETY: from a box, and nobody can see it any more.
            drop(unsafe { Box::from_raw(value) });
        }
    }
}

impl<T> Default for SetOnce<T> {
    fn default() -> Self {
        SetOnce::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for SetOnce<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SetOnce").field(&self.get()).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::fork::tests::in_child;
    use super::*;
    use std::sync::Arc;

    #[test]
    fn the_first_value_stays() {
        let place = SetOnce::new();
        assert_eq!(place.get(), None);
        assert_eq!(place.set(1), Ok(()));
        assert_eq!((place.set(2), *place.get_or_init(|| 3)), (Err(2), 1));
        assert_eq!(*SetOnce::new().get_or_init(|| 4), 4);
    }

    #[test]
    fn all_who_race_get_the_same_and_the_others_are_dropped() {
        let value = Arc::new(());
        for _ in 0..200 {
            let place = SetOnce::new();
            std::thread::scope(|s| {
                let racers = [(); 4].map(|()| s.spawn(|| ptr::from_ref(place.get_or_init(|| value.clone())).addr()));
                let seen = racers.map(|r| r.join().unwrap());
                assert!(seen.iter().all(|at| *at == seen[0]));
            });
            assert_eq!(Arc::strong_count(&value), 2);
        }
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn the_child_of_a_fork_waits_for_nobody() {
        let place = SetOnce::new();
        let code = std::sync::atomic::AtomicI32::new(-1);
        // The fork comes while another thread makes the value.
        place.get_or_init(|| {
            std::thread::scope(|s| {
                s.spawn(|| code.store(in_child(|| *place.get_or_init(|| 1) == 1), Ordering::Relaxed));
            });
            2
        });
        assert_eq!((code.into_inner(), place.get()), (0, Some(&2)));
    }
}
