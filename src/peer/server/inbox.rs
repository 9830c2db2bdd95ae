//! Clients that have something to receive of which no socket tells: a whole message that was read ahead, or that came
//! over memory.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::Client;
use crate::error::Result;
use crate::sys::Lock;
use crate::wait::EventCount;

/// Their numbers, each once, in the order in which they will be asked. It has a descriptor that is readable while there
/// are any.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    entries: Lock<VecDeque<Entry>>,
    count: AtomicUsize,
    changed: EventCount,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    /// That the client has an entry.
    listed: Arc<AtomicBool>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.listed.store(false, Ordering::SeqCst);
    }
}

impl Inbox {
    /// Has `client` enter itself from now on, no matter who receives from it.
    pub fn hear(self: &Arc<Inbox>, client: &Client) {
        let (inbox, number, listed) = (Arc::downgrade(self), client.number, Arc::new(AtomicBool::new(false)));
        let muted = client.muted.clone();
        client.connection.on_arrival(Box::new(move || {
            if !muted.load(Ordering::SeqCst)
                && let Some(inbox) = inbox.upgrade()
                && !listed.swap(true, Ordering::SeqCst)
            {
                inbox.change(|entries| entries.push_back(Entry { number, listed: listed.clone() }));
            }
        }));
    }

    /// The next one.
    pub fn pop(&self) -> Option<u64> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        self.change(|entries| entries.pop_front()).map(|entry| entry.number)
    }

    /// Whether there is one for which `holds`; the others are forgotten.
    pub fn any(&self, holds: impl Fn(u64) -> bool) -> bool {
        if self.count.load(Ordering::SeqCst) == 0 {
            return false;
        }
        self.change(|entries| {
            entries.retain(|entry| holds(entry.number));
            !entries.is_empty()
        })
    }

    fn change<T>(&self, f: impl FnOnce(&mut VecDeque<Entry>) -> T) -> T {
        let mut entries = self.entries.lock();
        let result = f(&mut entries);
        self.count.store(entries.len(), Ordering::SeqCst);
        drop(entries);
        self.changed.notify_one();
        self.changed.refresh(|| self.count.load(Ordering::SeqCst) > 0);
        result
    }

    /// A descriptor that polls readable while there is one.
    pub fn fd(&self) -> Result<RawFd> {
        self.changed.fd(|| self.count.load(Ordering::SeqCst) > 0)
    }
}
