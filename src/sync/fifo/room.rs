//! Writers that need room for several items at once.
//!
//! One item that is taken makes room for a writer of one, and perhaps for none that has more. So the writers of each
//! number of items wait for a changed of their own: whichever of them is woken can use what every one of them waits
//! for.

use std::sync::Arc;

use crate::sys::Lock;
use crate::sys::atomic::{AtomicU32, Ordering, fence};
use crate::wait::EventCount;

/// The writers that wait for room for more than one item, by how many they have.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    /// How many there are; changed under the lock of the list.
    waiting: AtomicU32,
    list: Lock<Vec<Room>>,
}

/// Those with equally many items.
#[derive(Debug)]
struct Room {
    count: u64,
    waiting: u32,
    changed: Arc<EventCount>,
}

impl Rooms {
    /// Takes part as a writer of `count` items until the answer is dropped.
    pub fn enter(&self, count: u64) -> Many<'_> {
        let mut list = self.list.lock();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let at = list.iter().position(|room| room.count == count).unwrap_or_else(|| {
            list.push(Room { count, waiting: 0, changed: Arc::new(EventCount::new()) });
            list.len() - 1
        });
        list[at].waiting += 1;
        let changed = list[at].changed.clone();
        // Before it sleeps on the changed a writer looks once more, behind a fence: the other half of the one before
        // `notify`.
        Many { rooms: self, count, changed }
    }

    /// After a change, with a fence behind it: wakes one writer of each number for which there is room now, as `fits`
    /// says.
    #[inline]
    pub fn notify(&self, fits: impl Fn(u64) -> bool) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            let list = self.list.lock();
            list.iter().filter(|room| fits(room.count)).for_each(|room| room.changed.notify_one());
        }
    }

    #[cfg(test)]
    pub fn any(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// After a change that every writer should see.
    pub fn notify_all(&self) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.list.lock().iter().for_each(|room| room.changed.notify_all());
        }
    }
}

/// One writer's place among those with equally many items.
#[derive(Debug)]
pub(super) struct Many<'a> {
    rooms: &'a Rooms,
    count: u64,
    changed: Arc<EventCount>,
}

impl Many<'_> {
    /// What is notified when there may be room for its items.
    pub fn changed(&self) -> &EventCount {
        &self.changed
    }
}

impl Drop for Many<'_> {
    fn drop(&mut self) {
        let mut unused = None;
        let mut list = self.rooms.list.lock();
        if let Some(at) = list.iter().position(|room| room.count == self.count) {
            list[at].waiting -= 1;
            if list[at].waiting == 0 {
                unused = Some(list.swap_remove(at));
            }
        }
        self.rooms.waiting.fetch_sub(1, Ordering::SeqCst);
        drop(list);
        drop(unused);
    }
}
