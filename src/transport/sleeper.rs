//! How a receive sleeps on a socket that a close does not shut down for reading, as `linger` explains: the close wakes
//! it by an event. Imports no siblings.

use std::os::fd::RawFd;

use crate::error::Result;
use crate::sys::{Event, Lock};
use crate::wait::{Deadline, Interest, Wait, sleep_on_fd, sleep_on_fd_or};

/// Events that nobody uses, none of them set. A connection has one only while a thread sleeps on it, so that thousands
/// of connections do not have twice as many descriptors.
static SPARE: Lock<Vec<Event>> = Lock::new(Vec::new());

/// So many are kept: one for each of the threads that usually sleep at a time.
const MOST_SPARE: usize = 16;

/// How long to sleep at a time where there are no descriptors left for an event, in seconds.
const NAP: f64 = 0.01;

/// The place of one connection's sleeping receive: there is one at a time.
#[derive(Debug, Default)]
pub(super) struct Sleeper {
    event: Lock<Option<Event>>,
}

impl Sleeper {
    /// Sleeps until `fd` has something to read, or [`wake`](Self::wake) is called; false when the deadline passes.
    /// `is_open` says whether the connection is, which has to change before `wake`.
    pub fn sleep(&self, fd: RawFd, is_open: impl Fn() -> bool, wait: &Wait) -> Result<bool> {
        let event = spare().map_or_else(Event::new, Ok).and_then(|event| Ok((event.fd()?, event)));
        let Ok((wakes, event)) = event else {
            let nap = wait.sooner(Deadline::after(NAP));
            return Ok(sleep_on_fd(fd, Interest::Read, &nap)? || !wait.deadline.expired());
        };
        *self.event.lock() = Some(event);
        let _leave = Leave { sleeper: self, is_open: &is_open };
        // Closed before the event was there to be set.
        if !is_open() {
            return Ok(true);
        }
        sleep_on_fd_or(fd, Interest::Read, wakes, wait)
    }

    /// Wakes the one who sleeps here.
    pub fn wake(&self) {
        if let Some(event) = &*self.event.lock() {
            event.set();
        }
    }
}

/// Takes the event away again, however the sleep ends.
struct Leave<'a> {
    sleeper: &'a Sleeper,
    is_open: &'a dyn Fn() -> bool,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let Some(event) = self.sleeper.event.lock().take() else { return };
        // One of a connection that is closed may have been set; it is not used again.
        if event.is_ours() && (self.is_open)() {
            let mut all = SPARE.lock();
            if all.len() < MOST_SPARE && all.try_reserve(1).is_ok() {
                return all.push(event);
            }
        }
        drop(event);
    }
}

/// One that is left, of this process.
fn spare() -> Option<Event> {
    loop {
        let event = SPARE.lock().pop()?;
        if event.is_ours() {
            return Some(event);
        }
    }
}
