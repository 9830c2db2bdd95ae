//! Looking again and again before going to sleep. Imports its sibling `load`.

use super::load::{Looking, pausing_pays};

/// Pauses in all before the first yield, and between two looks at the condition: each look takes the line away from the
/// one who is writing it, and looking seldom lets items arrive in runs.
const PAUSES: usize = 256;
const PAUSES_A_LOOK: usize = 32;
/// Yields follow for so many nanoseconds: less than a sleep and a wake-up cost.
const YIELDING: u64 = 50_000;

/// The pace of one wait: pauses while the other thread can run beside us, then yields. On a machine that is busy
/// neither.
///
/// ```ignore
/// let mut spin = Spin::new();
/// while spin.again() { if ready() { return } }
/// sleep();
/// ```
#[derive(Debug)]
pub struct Spin {
    looks: usize,
    /// While it yields.
    yielding: Option<Looking>,
}

impl Spin {
    /// Of a thread that has looked once.
    pub fn new() -> Spin {
        Spin { looks: if pausing_pays() { PAUSES / PAUSES_A_LOOK } else { 0 }, yielding: None }
    }

    /// Waits a little; whether to look once more, or to go to sleep.
    pub fn again(&mut self) -> bool {
        if self.looks > 0 {
            self.looks -= 1;
            (0..PAUSES_A_LOOK).for_each(|_| std::hint::spin_loop());
            return true;
        }
        if self.yielding.is_none() {
            self.yielding = Looking::begin();
        }
        self.yielding.as_ref().is_some_and(|looking| looking.elapsed() < YIELDING && looking.yield_core())
    }
}

impl Default for Spin {
    fn default() -> Self {
        Spin::new()
    }
}
