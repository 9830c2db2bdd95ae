//! Objects that threads of one process find by name.

use std::collections::HashMap;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Weak};

use crate::error::Result;
use crate::sys::try_bytes;
use crate::sys::{Lock, fork_generation};

/// A register of names for objects of one kind: a `static`. It keeps nothing alive: a name is free again once its last
/// holder has let go. A forked child starts with an empty one.
#[derive(Debug)]
pub struct Names<T> {
    table: AtomicPtr<Table<T>>,
}

#[derive(Debug)]
struct Table<T> {
    generation: u32,
    /// The table of the process that this one was forked from: left as it is, but not lost to leak checkers.
    _before: *const Table<T>,
    names: Lock<HashMap<Box<[u8]>, Weak<T>>>,
}

// SAFETY: the raw pointer of a table is never followed; its names are behind a lock.
unsafe impl<T: Send + Sync> Sync for Names<T> {}

impl<T> Names<T> {
    /// An empty register.
    #[allow(clippy::new_without_default)] // It is only ever a `static`.
    pub const fn new() -> Names<T> {
        Names { table: AtomicPtr::new(ptr::null_mut()) }
    }

    fn table(&self) -> &Table<T> {
        let generation = fork_generation();
        let mut at = self.table.load(Ordering::Acquire);
        loop {
            // SAFETY: null, or a table that was leaked below.
            if let Some(table) = unsafe { at.as_ref() }
                && table.generation == generation
            {
                return table;
            }
            // The parent's table stays behind, untouched: what it names belongs to the parent.
            let new = Box::into_raw(Box::new(Table { generation, _before: at, names: Lock::default() }));
            match self.table.compare_exchange(at, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => at = new,
                Err(there) => {
                    // SAFETY: `new` came from `Box::into_raw` just above and nobody else has seen it.
                    drop(unsafe { Box::from_raw(new) });
                    at = there;
                }
            }
        }
    }

    /// The object called `name`, and whether `make` made it just now.
    pub fn open(&self, name: &[u8], make: impl FnOnce() -> Result<T>) -> Result<(Arc<T>, bool)> {
        let names = &self.table().names;
        if let Some(found) = names.lock().get(name).and_then(Weak::upgrade) {
            return Ok((found, false));
        }
        // Made outside the lock, and dropped outside it where another thread was faster.
        let (made, key) = (Arc::new(make()?), try_bytes(name)?.into_boxed_slice());
        let mut guard = names.lock();
        if let Some(found) = guard.get(name).and_then(Weak::upgrade) {
            drop(guard);
            return Ok((found, false));
        }
        if let Err(e) = guard.try_reserve(1) {
            drop(guard);
            return Err(e.into());
        }
        guard.insert(key, Arc::downgrade(&made));
        drop(guard);
        Ok((made, true))
    }

    /// Forgets `name` if it still means `object`; for the object's `drop`.
    pub fn forget(&self, name: &[u8], object: *const T) {
        let mut names = self.table().names.lock();
        if names.get(name).is_some_and(|weak| ptr::eq(weak.as_ptr(), object)) {
            names.remove(name);
        }
    }
}
