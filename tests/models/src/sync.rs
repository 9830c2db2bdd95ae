//! As src/sync: writers that wait for room, of one item or of several. What is in the queue is counted only.

#[path = "../../../src/sync/fifo/room.rs"]
mod room;

use room::Rooms;

use crate::sys::atomic::{AtomicU64, Ordering};
use crate::wait::{Deadline, EventCount, Wait};

/// A queue that counts how many items fit, with those who wait for room as the one in src/sync/fifo.rs has them.
#[derive(Debug, Default)]
pub struct Fifo {
    free: AtomicU64,
    room: EventCount,
    rooms: Rooms,
}

impl Fifo {
    /// A full one.
    pub fn full() -> Fifo {
        Fifo::default()
    }

    /// Takes an item: there is room for one more.
    pub fn take(&self) {
        self.free.fetch_add(1, Ordering::Relaxed);
        self.room.notify_one();
        self.rooms.notify(|count| self.free.load(Ordering::Relaxed) >= count);
    }

    /// Writes `count` items once there is room for all.
    pub fn write(&self, count: u64) {
        let many = (count > 1).then(|| self.rooms.enter(count));
        let room = many.as_ref().map_or(&self.room, |many| many.changed());
        let fits = || {
            let less = |free: u64| free.checked_sub(count);
            self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok()
        };
        let written = room.wait_until(&Wait::until(Deadline::NEVER), fits);
        assert!(matches!(written, Ok(Some(_))));
    }
}
