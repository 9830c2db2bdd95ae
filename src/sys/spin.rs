//! Looking again and again before going to sleep. Imports its sibling `clock`.

use std::time::{Duration, Instant};

use super::clock::spare_core;

/// Pauses in all before the first yield, and between two looks at the condition: each look takes the line away from the
/// one who is writing it, and looking seldom lets items arrive in runs.
const PAUSES: usize = 256;
const PAUSES_A_LOOK: usize = 32;
/// Yields follow for so long: less than a sleep and a wake-up cost.
const YIELDING: Duration = Duration::from_micros(50);

/// The pace of one wait: pauses while the other thread can run beside us, then yields.
///
/// ```ignore
/// let mut spin = Spin::new();
/// while spin.again() { if ready() { return } }
/// sleep();
/// ```
#[derive(Debug)]
pub struct Spin {
    looks: usize,
    /// When the yields began.
    yielding: Option<Instant>,
}

impl Spin {
    /// Of a thread that has looked once.
    pub fn new() -> Spin {
        Spin { looks: if spare_core() { PAUSES / PAUSES_A_LOOK } else { 0 }, yielding: None }
    }

    /// Waits a little; whether to look once more, or to go to sleep.
    pub fn again(&mut self) -> bool {
        if self.looks > 0 {
            self.looks -= 1;
            (0..PAUSES_A_LOOK).for_each(|_| std::hint::spin_loop());
            return true;
        }
        match self.yielding {
            None => self.yielding = Some(Instant::now()),
            Some(since) if since.elapsed() >= YIELDING => return false,
            Some(_) => {}
        }
        std::thread::yield_now();
        true
    }
}

impl Default for Spin {
    fn default() -> Self {
        Spin::new()
    }
}
