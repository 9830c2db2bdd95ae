//! Who owns a queue, holds a mutex: a Lua state, not a thread.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// The token of one Lua state, unlike any other in the process. Its coroutines share it; pools may move the state from
/// one operating-system thread to another.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner(u64);

impl Owner {
    /// A token that nobody else has.
    #[allow(clippy::new_without_default)] // Two defaults that differ would surprise.
    pub fn new() -> Owner {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Owner(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The token as a number that is not 0, for words that say "nobody" with 0.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owner({})", self.0)
    }
}
