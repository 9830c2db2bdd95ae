//! Clients that have gone or were ended for what they sent, until a call has told of each.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;

use super::{Client, Tag};
use crate::error::{Error, Result};
use crate::sys::{Event, Lock, SetOnce, SharedBytes};

/// So many are remembered where nobody asks, the last ones. Each takes about a kilobyte: its connection has let go of
/// its buffers.
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
    list: VecDeque<(Arc<Client>, Error)>,
    /// Calls that wait, by a number of their own, and the tag that each is for.
    waiting: Vec<(u64, Option<Tag>)>,
    count: u64,
    is_set: bool,
}

/// A call that waits to be told, until it is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    gone: Arc<Gone>,
    number: u64,
}

impl Gone {
    /// Remembers `client`, which has ended for `reason`.
    pub fn add(&self, client: Arc<Client>, reason: Error) {
        let mut inner = self.inner.lock();
        let forgotten = if inner.list.len() == MOST { inner.list.pop_front() } else { None };
        inner.list.push_back((client, reason));
        self.refresh(&mut inner);
        drop(inner);
        drop(forgotten);
    }

    /// The one that went first, of those with the tag. One that was closed here in the meantime is no news.
    pub fn take(&self, tag: Option<&[u8]>) -> Option<(Arc<Client>, Error)> {
        let mut inner = self.inner.lock();
        loop {
            let at = inner.list.iter().position(|(client, _)| client.has(tag))?;
            let found = inner.list.remove(at);
            self.refresh(&mut inner);
            if found.as_ref().is_some_and(|(client, _)| client.connection.ending().is_some()) {
                return found;
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

    /// Sets the event or clears it, under the lock, so that the last change decides.
    fn refresh(&self, inner: &mut Inner) {
        let awaited = |client: &Client| inner.waiting.iter().any(|(_, tag)| client.has(tag.as_deref()));
        let found = !inner.waiting.is_empty() && inner.list.iter().any(|(client, _)| awaited(client));
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
