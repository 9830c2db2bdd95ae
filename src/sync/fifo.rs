//! A queue that waits: messages in order, with a place to sleep at either end. Work queues have two, a channel one.
//!
//! Whether it is closed is its user's affair, since a work queue is closed for some and open for others: every call is
//! told by a closure, which must neither block nor lock.

mod room;

use std::os::fd::RawFd;

use self::room::Rooms;
use crate::err;
use crate::error::{Error, Result};
use crate::wait::{EventCount, Wait};
use crate::wire::{Message, Push, Queue};

/// What a queue or a channel is made with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// How many items it holds at most (a work queue: questions, and answers); any number where absent.
    pub capacity: Option<u64>,
    /// Seconds that a call waits which is told no time, for ever where absent.
    pub timeout: Option<f64>,
}

/// What came of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pop {
    /// The message is an item.
    Item,
    /// Closed, and nothing is left.
    Closed,
    /// Time ran out.
    Nothing,
}

/// The messages, and who waits for them or for room.
pub(super) struct Fifo {
    queue: Queue,
    /// Notified when there is something to read.
    pub items: EventCount,
    /// Notified when there is room: one of its waiters for each item that was taken.
    pub room: EventCount,
    /// The writers that need room for several items at once.
    rooms: Rooms,
}

impl Fifo {
    pub fn new(capacity: Option<u64>) -> Fifo {
        Fifo { queue: Queue::new(capacity), items: EventCount::new(), room: EventCount::new(), rooms: Rooms::default() }
    }

    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Writes all of `items` or none, at once; `[limit]` where they never fit.
    pub fn write_now(&self, items: &mut [Message], closed: impl Fn() -> bool) -> Result<Push> {
        let count = items.len();
        if closed() {
            return Ok(Push::Closed);
        }
        if count == 0 {
            return Ok(Push::Done);
        }
        match self.queue.push_all(items) {
            Push::Done => {
                self.items.notify(u32::try_from(count).unwrap_or(u32::MAX));
                self.items.refresh(|| !self.queue.is_empty() || closed());
                self.room.refresh(|| self.has_room(&closed));
                Ok(Push::Done)
            }
            Push::Full if count as u64 > self.capacity() => Err(err!(
                Limit,
                "{count} items at once never fit into a capacity of {}; write them in parts",
                self.capacity()
            )),
            Push::NoMemory => Err(Error::no_memory()),
            refused => Ok(refused),
        }
    }

    /// As [`Fifo::write_now`], but waits for room: never [`Push::Full`]. `[timeout]` leaves `items` as they were.
    pub fn write(&self, items: &mut [Message], wait: &Wait, closed: impl Fn() -> bool) -> Result<Push> {
        wait.check()?;
        match self.write_now(items, &closed)? {
            Push::Full => {}
            done => return Ok(done),
        }
        let count = items.len() as u64;
        // All who wait for one event count can use the same room, so one wake-up is enough for all of them. What a call
        // that is tried leaves behind is told of every change.
        let many = (count > 1 && wait.interrupt.non_blocking().is_none()).then(|| self.rooms.enter(count));
        let room = many.as_ref().map_or(&self.room, |many| many.changed());
        let look = || {
            if self.queue.is_full(count) && !closed() {
                return None;
            }
            match self.write_now(items, &closed) {
                Ok(Push::Full) => None,
                done => Some(done),
            }
        };
        let done = room.wait_to_take(wait, look, || !self.queue.is_full(1) || closed())?;
        done.unwrap_or_else(|| {
            Err(err!(
                Timeout,
                "it is full ({} of {} items) and nobody read any in time",
                self.queue.len(),
                self.capacity()
            ))
        })
    }

    /// Takes the next item into `out`, which is left empty when there is none.
    pub fn read(&self, out: &mut Message, wait: &Wait, closed: impl Fn() -> bool) -> Result<Pop> {
        out.clear();
        let pop = |out: &mut Message| !self.queue.is_empty() && self.queue.pop(out);
        let look = || {
            if pop(out) {
                return Some(Pop::Item);
            }
            // Once more: what was written before it was closed is to be read.
            closed().then(|| if pop(out) { Pop::Item } else { Pop::Closed })
        };
        let found = self.items.wait_to_take(wait, look, || !self.queue.is_empty() || closed())?;
        self.items.refresh(|| !self.queue.is_empty() || closed());
        if found == Some(Pop::Item) && self.queue.capacity().is_some() {
            self.room.notify_one();
            // Behind the fence of that notification.
            self.rooms.notify(|count| !self.queue.is_full(count));
            self.room.refresh(|| self.has_room(&closed));
        }
        Ok(found.unwrap_or(Pop::Nothing))
    }

    /// Takes back an item that was read, for the next who reads.
    pub fn put_back(&self, item: Message, closed: impl Fn() -> bool) {
        self.queue.put_back(item);
        self.items.notify_one();
        self.items.refresh(|| self.is_readable(closed));
    }

    /// After it was closed to its readers, or opened again: none goes on waiting in vain.
    pub fn changed_for_readers(&self, closed: impl Fn() -> bool) {
        self.items.notify_all();
        self.items.refresh(|| self.is_readable(closed));
    }

    /// After it was closed to its writers, or opened again: none goes on waiting in vain.
    pub fn changed_for_writers(&self, closed: impl Fn() -> bool) {
        self.notify_writers();
        self.room.refresh(|| self.has_room(closed));
    }

    /// Has every writer that waits look again.
    pub fn notify_writers(&self) {
        self.room.notify_all();
        self.rooms.notify_all();
    }

    /// A descriptor that polls readable while a read would not wait.
    pub fn read_fd(&self, closed: impl Fn() -> bool) -> Result<RawFd> {
        self.items.fd(|| self.is_readable(closed))
    }

    /// Whether a read would not wait.
    pub fn is_readable(&self, closed: impl Fn() -> bool) -> bool {
        !self.queue.is_empty() || closed()
    }

    /// A descriptor that polls readable while a write of one item would not wait.
    pub fn write_fd(&self, closed: impl Fn() -> bool) -> Result<RawFd> {
        self.room.fd(|| self.has_room(closed))
    }

    /// Whether a write of one item would not wait.
    pub fn has_room(&self, closed: impl Fn() -> bool) -> bool {
        !self.queue.is_full(1) || closed()
    }

    #[cfg(test)]
    pub fn has_waiting_writers(&self) -> bool {
        self.rooms.any()
    }

    fn capacity(&self) -> u64 {
        self.queue.capacity().unwrap_or(u64::MAX)
    }
}
