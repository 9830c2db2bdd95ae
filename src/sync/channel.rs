//! A FIFO between any number of writers and readers, open until somebody closes it.
//!
//! What was written before the close is read by somebody; only then is anybody told that the channel is drained.
//! Imports its sibling `fifo`.

use std::fmt;
use std::mem::ManuallyDrop;
use std::os::fd::RawFd;
use std::sync::Arc;

use super::fifo::{Fifo, Limits, Pop};
use crate::error::Result;
use crate::text;
use crate::wait::Wait;
use crate::wire::{Handles, Inside, Message, Object, Push, leave};

/// How far a channel has come; it only goes on, never back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// It takes items.
    Open,
    /// It takes no more; there are some left to read.
    Closed,
    /// It takes no more, and every item was read.
    Drained,
}

/// The channel itself, shared by all who hold it.
pub struct Channel {
    fifo: Fifo,
    limits: Limits,
    handles: Handles,
}

impl Channel {
    /// An open and empty one.
    pub fn new(limits: Limits) -> Channel {
        Channel { fifo: Fifo::new(limits.capacity), limits, handles: Handles::default() }
    }

    /// How far it has come.
    pub fn status(&self) -> Status {
        match (self.is_closed(), self.fifo.queue().is_empty()) {
            (false, _) => Status::Open,
            (true, false) => Status::Closed,
            (true, true) => Status::Drained,
        }
    }

    fn is_closed(&self) -> bool {
        self.fifo.queue().is_closed()
    }

    /// How many items wait to be read.
    pub fn len(&self) -> u64 {
        self.fifo.queue().len()
    }

    /// Whether nothing waits to be read.
    pub fn is_empty(&self) -> bool {
        self.fifo.queue().is_empty()
    }

    /// How many seconds a call waits that is told no time; for ever where absent.
    pub fn timeout(&self) -> Option<f64> {
        self.limits.timeout
    }

    /// Writes all of `items` with no other's in between, or none: [`Status::Open`] if they were written, else how far
    /// the closed channel has come, and `items` are as they were. Waits for room in a full one, until it is closed;
    /// `[timeout]` leaves all as it was.
    pub fn write(&self, items: &mut [Message], wait: &Wait) -> Result<Status> {
        let push = self.fifo.write(items, wait, || self.is_closed())?;
        Ok(if push == Push::Done { Status::Open } else { self.status() })
    }

    /// As [`Channel::write`], at once: whether they were written, and how far the channel has come.
    pub fn write_now(&self, items: &mut [Message]) -> Result<(bool, Status)> {
        Ok(match self.fifo.write_now(items, || self.is_closed())? {
            Push::Done => (true, Status::Open),
            Push::Full => (false, Status::Open),
            Push::Closed | Push::NoMemory => (false, self.status()),
        })
    }

    /// Takes the next item into `out`, which is left empty where there is none: whether there was one, and how far the
    /// channel has come. Without an item that is [`Status::Open`] when time ran out, else [`Status::Drained`].
    pub fn read(&self, out: &mut Message, wait: &Wait) -> Result<(bool, Status)> {
        Ok(match self.fifo.read(out, wait, || self.is_closed())? {
            Pop::Item if self.is_closed() => (true, Status::Closed),
            Pop::Item => (true, Status::Open),
            Pop::Nothing => (false, Status::Open),
            Pop::Closed => (false, Status::Drained),
        })
    }

    /// Takes back an item that [`Channel::read`] gave and that there is no memory for now: it is the next to be read. A
    /// drained channel then is not, nor one that is full any fuller than by one.
    pub fn put_back(&self, item: Message) {
        self.fifo.put_back(item, || self.is_closed());
    }

    /// Takes no more items from now on; blocked calls end. Twice is fine.
    pub fn close(&self) {
        self.fifo.queue().close();
        self.fifo.changed_for_readers(|| self.is_closed());
        self.fifo.changed_for_writers(|| self.is_closed());
    }

    /// A descriptor that polls readable while a read would not wait.
    pub fn read_fd(&self) -> Result<RawFd> {
        self.fifo.read_fd(|| self.is_closed())
    }

    /// Whether a read would not wait.
    pub fn readable(&self) -> bool {
        self.fifo.is_readable(|| self.is_closed())
    }

    /// A descriptor that polls readable while a write of one item would not wait.
    pub fn write_fd(&self) -> Result<RawFd> {
        self.fifo.write_fd(|| self.is_closed())
    }

    /// Whether a write of one item would not wait.
    pub fn writable(&self) -> bool {
        self.fifo.has_room(|| self.is_closed())
    }
}

impl fmt::Display for Channel {
    /// `ipc.channel: open, 3 items`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ipc.channel: {}", self.state())
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("status", &self.status()).field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Object for Channel {
    fn class(&self) -> &'static str {
        "ipc.channel"
    }

    fn state(&self) -> String {
        let count = self.len();
        let items = format_args!("{count} item{}", if count == 1 { "" } else { "s" }).to_string();
        match self.status() {
            Status::Open => text!("open, {items}"),
            Status::Closed => text!("closed, {items} left"),
            Status::Drained => "drained".into(),
        }
    }

    fn weight(&self) -> usize {
        size_of::<Channel>() + self.fifo.queue().bytes()
    }

    fn inside(&self) -> Option<Inside<'_>> {
        Some(Inside { handles: &self.handles, queues: [Some(self.fifo.queue()), None] })
    }
}

/// One Lua state's hold on a channel.
#[derive(Debug)]
pub struct ChannelHandle(ManuallyDrop<Arc<Channel>>);

impl ChannelHandle {
    /// A hold on `channel`.
    pub fn new(channel: Arc<Channel>) -> ChannelHandle {
        channel.handles.enter();
        ChannelHandle(ManuallyDrop::new(channel))
    }

    /// The channel.
    pub fn channel(&self) -> &Arc<Channel> {
        &self.0
    }
}

impl Drop for ChannelHandle {
    fn drop(&mut self) {
        // SAFETY: taken once, and the handle is gone after this.
        let channel = unsafe { ManuallyDrop::take(&mut self.0) };
        leave(channel);
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
