//! Clients that have gone or were ended for what they sent, until a call has told of each.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::client::Label;
use super::{Client, Tag};
use crate::error::{Error, Result};
use crate::sys::{Event, Lock, SetOnce, SharedBytes};
use crate::transport::Ended;

/// So many are remembered where nobody asks, the last ones. Each takes less than a kilobyte, and no descriptor.
const MOST: usize = 16 << 10;

/// The clients, and the calls that wait to be told.
#[derive(Debug, Default)]
pub(super) struct Gone {
    inner: Lock<Inner>,
    /// Readable while a call that waits can be told of one.
    event: SetOnce<Event>,
}

#[derive(Debug, Default)]
struct Inner {
    list: VecDeque<Departed>,
    /// Calls that wait, by a number of their own, and the tag that each is for.
    waiting: Vec<(u64, Option<Tag>)>,
    count: u64,
    is_set: bool,
}

/// A client that has gone. Its handle, and what that holds, stays for as long as somebody else has it.
#[derive(Debug)]
struct Departed {
    client: Weak<Client>,
    number: u64,
    label: Arc<Label>,
    left: Ended,
    reason: Error,
}

impl Departed {
    fn new(client: &Arc<Client>, reason: Error) -> Departed {
        let left = Ended::new(&*client.connection, client.connection.ending().unwrap_or_else(|| reason.clone()));
        Departed { client: Arc::downgrade(client), number: client.number, label: client.label().clone(), left, reason }
    }

    /// Its handle, and why it has gone; `None` where it was closed here in the meantime.
    fn news(self) -> Option<(Arc<Client>, Error)> {
        let client = match self.client.upgrade() {
            Some(client) => client.connection.ending().is_some().then_some(client)?,
            None if self.label.closed_here.load(Ordering::SeqCst) => return None,
            None => Arc::new(Client::again(Arc::new(self.left), self.number, self.label)),
        };
        Some((client, self.reason))
    }
}

/// A call that waits to be told, until it is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    gone: Arc<Gone>,
    number: u64,
}

impl Gone {
    /// Remembers `client`, which has ended for `reason`.
    pub fn add(&self, client: &Arc<Client>, reason: Error) {
        let departed = Departed::new(client, reason);
        let mut inner = self.inner.lock();
        let forgotten = if inner.list.len() == MOST { inner.list.pop_front() } else { None };
        inner.list.push_back(departed);
        self.refresh(&mut inner);
        drop(inner);
        drop(forgotten);
    }

    /// The one that went first, of those with the tag. One that was closed here in the meantime is no news.
    pub fn take(&self, tag: Option<&[u8]>) -> Option<(Arc<Client>, Error)> {
        loop {
            let found = {
                let mut inner = self.inner.lock();
                let at = inner.list.iter().position(|departed| departed.label.has(tag))?;
                let found = inner.list.remove(at);
                self.refresh(&mut inner);
                found
            };
            if let Some(news) = found.and_then(Departed::news) {
                return Some(news);
            }
        }
    }

    /// Has the descriptor tell of those with the tag from now on.
    pub fn wait_for(self: &Arc<Gone>, tag: Option<&[u8]>) -> Result<Waiting> {
        if self.event.get().is_none() {
            let _ = self.event.set(Event::new()?);
        }
        let tag = tag.map(SharedBytes::new).transpose()?;
        let mut inner = self.inner.lock();
        inner.waiting.try_reserve(1)?;
        inner.count += 1;
        let number = inner.count;
        inner.waiting.push((number, tag));
        self.refresh(&mut inner);
        Ok(Waiting { gone: self.clone(), number })
    }

    /// One of them may have another tag.
    pub fn has_new_tag(&self) {
        self.refresh(&mut self.inner.lock());
    }

    /// Sets the event or clears it, under the lock, so that the last change decides.
    fn refresh(&self, inner: &mut Inner) {
        let awaited = |label: &Label| inner.waiting.iter().any(|(_, tag)| label.has(tag.as_deref()));
        let found = !inner.waiting.is_empty() && inner.list.iter().any(|departed| awaited(&departed.label));
        if let Some(event) = self.event.get()
            && found != inner.is_set
        {
            if found {
                event.set()
            } else {
                event.clear()
            }
            inner.is_set = found;
        }
    }
}

impl Waiting {
    /// A descriptor that polls readable while there is one to tell of.
    pub fn fd(&self) -> Result<RawFd> {
        self.gone.event.get().map_or(Ok(-1), Event::fd)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut inner = self.gone.inner.lock();
        inner.waiting.retain(|(number, _)| *number != self.number);
        self.gone.refresh(&mut inner);
    }
}
