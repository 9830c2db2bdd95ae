//! What lies ready for a Lua state that does not know of it yet: results of threads, tasks and their like.
//!
//! The state that will have them holds a handle that was made when they were not there. So a thread that leaves a
//! result enters its size in the ledger of that state, and takes it out again when the result goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that lie ready for one Lua state.
#[derive(Debug, Default)]
pub struct Ledger(AtomicUsize);

impl Ledger {
    /// An empty one.
    pub const fn new() -> Ledger {
        Ledger(AtomicUsize::new(0))
    }

    /// How many there are.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// An entry in a ledger; dropped, it is taken out.
#[derive(Debug)]
pub struct Entry {
    ledger: Arc<Ledger>,
    bytes: usize,
}

impl Entry {
    /// Enters `bytes`.
    pub fn new(ledger: &Arc<Ledger>, bytes: usize) -> Entry {
        ledger.0.fetch_add(bytes, Ordering::Relaxed);
        Entry { ledger: ledger.clone(), bytes }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.ledger.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_counts_while_it_lives() {
        let ledger = Arc::default();
        let (a, b) = (Entry::new(&ledger, 100), Entry::new(&ledger, 10));
        assert_eq!(ledger.bytes(), 110);
        drop(a);
        assert_eq!(ledger.bytes(), 10);
        drop(b);
        assert_eq!(ledger.bytes(), 0);
    }
}
