//! How much a connection has carried, for `netStats()`.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Traffic;

/// Statistics of one direction; written by the thread that has its turn, read by anyone.
#[derive(Debug, Default)]
pub(super) struct Counters {
    bytes: AtomicU64,
    regions: AtomicU64,
    calls: AtomicU64,
    system_calls: AtomicU64,
    total_ns: AtomicU64,
    system_ns: AtomicU64,
}

/// What one call has moved.
pub(super) struct Moves {
    pub bytes: u64,
    pub regions: u64,
    pub system_calls: u64,
    /// Nanoseconds in the system, waiting included.
    pub system_ns: u64,
    /// Nanoseconds in all.
    pub total_ns: u64,
}

impl Counters {
    /// Counts a message.
    pub fn message(&self) {
        bump(&self.calls, 1);
    }

    /// Counts what was moved for one, or for a part of one.
    pub fn moved(&self, moves: &Moves) {
        bump(&self.bytes, moves.bytes);
        bump(&self.regions, moves.regions);
        bump(&self.system_calls, moves.system_calls);
        bump(&self.system_ns, moves.system_ns);
        bump(&self.total_ns, moves.total_ns);
    }

    /// All so far.
    pub fn read(&self) -> Traffic {
        let seconds = |n: &AtomicU64| n.load(Ordering::Relaxed) as f64 / 1e9;
        Traffic {
            bytes: self.bytes.load(Ordering::Relaxed),
            regions: self.regions.load(Ordering::Relaxed),
            calls: self.calls.load(Ordering::Relaxed),
            system_calls: self.system_calls.load(Ordering::Relaxed),
            total_seconds: seconds(&self.total_ns),
            system_seconds: seconds(&self.system_ns),
        }
    }
}

fn bump(counter: &AtomicU64, by: u64) {
    // One writer at a time, so no read-modify-write is needed.
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}
