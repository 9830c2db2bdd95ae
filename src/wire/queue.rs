//! A FIFO of messages between threads: what work queues and channels stand on.
//!
//! Two locks, one for the writers and one for the readers, each on cache lines of its own with a cached copy of the
//! other side's count, so that a writer and a reader rarely touch the same line. The queue itself never waits: see
//! `sync` for what blocks on it. Neither lock is ever held while a message is dropped.
//!
//! Imports its siblings `queue_chunk`, which holds the messages, and `deferred_drop`.

use std::fmt;
use std::sync::atomic;

use super::deferred_drop::drop_deferred;
use super::queue_chunk::{Cursor, Spare, chain};
use super::{Attachment, Message};
use crate::sys::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sys::{Guard, Lock};

/// What became of messages that were to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Push {
    /// They are in the queue.
    Done,
    /// They do not fit now; the queue and the messages are as they were.
    Full,
    /// The queue takes no more; the messages are as they were.
    Closed,
    /// There is no memory for them; the queue and the messages are as they were.
    NoMemory,
}

/// A FIFO of messages, any number of writers and readers.
///
/// ```
/// use ipc::wire::{Message, Push, Queue};
/// let queue = Queue::new(None);
/// let mut message = Message::default();
/// message.bytes.push(7);
/// assert_eq!(queue.push_all(std::slice::from_mut(&mut message)), Push::Done);
/// assert!(queue.pop(&mut message));
/// assert_eq!(message.bytes, [7]);
/// assert!(!queue.pop(&mut message));
/// ```
pub struct Queue {
    writer: Lock<Writer>,
    reader: Lock<Reader>,
    /// Messages ever written; stored under the writers' lock.
    written: PaddedCounts,
    /// Messages ever taken; stored under the readers' lock.
    taken: PaddedCounts,
    /// Set under the writers' lock.
    closed: AtomicBool,
    capacity: u64,
    spare: Spare,
    /// How many messages have objects of ours attached; changed under the writers' and the readers' lock.
    objects: AtomicU64,
}

/// What one end tells the other, on cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct PaddedCounts {
    /// How many messages.
    count: AtomicU64,
    /// How many bytes they had. Nothing is decided by it, so the models need not know: it is the standard library's
    /// atomic.
    bytes: atomic::AtomicU64,
}

struct Writer {
    cursor: Cursor,
    written: u64,
    bytes: u64,
    /// `taken`, as last seen.
    taken: u64,
}

struct Reader {
    cursor: Cursor,
    /// What was put back, the next to be read last; the messages in the chain come after them.
    returned: Vec<Message>,
    taken: u64,
    bytes: u64,
    /// `written`, as last seen.
    written: u64,
}

impl Queue {
    /// An empty one that holds up to `capacity` messages, or any number.
    pub fn new(capacity: Option<u64>) -> Queue {
        let (writer, reader) = chain();
        Queue {
            writer: Lock::new(Writer { cursor: writer, written: 0, bytes: 0, taken: 0 }),
            reader: Lock::new(Reader { cursor: reader, returned: Vec::new(), taken: 0, bytes: 0, written: 0 }),
            written: PaddedCounts::default(),
            taken: PaddedCounts::default(),
            closed: AtomicBool::new(false),
            capacity: capacity.unwrap_or(u64::MAX),
            spare: Spare::default(),
            objects: AtomicU64::new(0),
        }
    }

    /// Writes all of `messages`, one after the other with no other's in between, or none. Those written are left empty;
    /// short ones keep their memory for the next.
    pub fn push_all(&self, messages: &mut [Message]) -> Push {
        let mut guard = self.writer.lock();
        let writer = &mut *guard;
        if self.closed.load(Ordering::Relaxed) {
            return Push::Closed;
        }
        let after = writer.written + messages.len() as u64;
        if after - writer.taken > self.capacity {
            writer.taken = self.taken.count.load(Ordering::Acquire);
            if after - writer.taken > self.capacity {
                return Push::Full;
            }
        }
        // SAFETY: the lock makes us the only writer, and `spare` belongs to this chain.
        if !unsafe { writer.cursor.make_room(messages, &self.spare) } {
            return Push::NoMemory;
        }
        for message in messages {
            if has_objects(message) {
                self.objects.fetch_add(1, Ordering::Relaxed);
            }
            writer.bytes += message.bytes.len() as u64;
            // SAFETY: the lock makes us the only writer, and there is room for all of them.
            unsafe { writer.cursor.put(message) };
        }
        writer.written = after;
        self.written.bytes.store(writer.bytes, atomic::Ordering::Relaxed);
        self.written.count.store(after, Ordering::Release);
        Push::Done
    }

    /// Takes the oldest message into `out` (whose memory is reused); false if there is none, and `out` is then empty.
    pub fn pop(&self, out: &mut Message) -> bool {
        // What `out` held is dropped before the lock is taken.
        out.clear();
        let mut guard = self.reader.lock();
        let reader = &mut *guard;
        if reader.taken == reader.written {
            reader.written = self.written.count.load(Ordering::Acquire);
            if reader.taken == reader.written {
                return false;
            }
        }
        match reader.returned.pop() {
            Some(message) => *out = message,
            // SAFETY: the lock makes us the only reader, and a published message is left.
            None => unsafe { reader.cursor.take(out, &self.spare) },
        }
        reader.taken += 1;
        reader.bytes += out.bytes.len() as u64;
        self.taken.bytes.store(reader.bytes, atomic::Ordering::Relaxed);
        self.taken.count.store(reader.taken, Ordering::Release);
        if has_objects(out) {
            self.objects.fetch_sub(1, Ordering::Relaxed);
        }
        true
    }

    /// Takes back a message that was popped and that its reader can do nothing with now: it is the next to be read. The
    /// queue may then hold one more than its capacity.
    pub fn put_back(&self, message: Message) {
        let mut reader = self.reader.lock();
        if has_objects(&message) {
            self.objects.fetch_add(1, Ordering::Relaxed);
        }
        reader.taken -= 1;
        reader.bytes -= message.bytes.len() as u64;
        self.taken.bytes.store(reader.bytes, atomic::Ordering::Relaxed);
        self.taken.count.store(reader.taken, Ordering::Release);
        // A few words, which the allocator's reserve has where the system has none.
        reader.returned.push(message);
    }

    /// Whether there is nothing to read; without a lock.
    #[inline]
    pub fn is_empty(&self) -> bool {
        // In this order: `taken` cannot overtake a `written` that is read after it, whatever is put back.
        let taken = self.taken.count.load(Ordering::Acquire);
        self.written.count.load(Ordering::Acquire) == taken
    }

    /// How many messages wait to be read: so many did at one moment, if others write and read meanwhile.
    pub fn len(&self) -> u64 {
        let mut taken = self.taken.count.load(Ordering::Acquire);
        loop {
            let written = self.written.count.load(Ordering::Acquire);
            let still = self.taken.count.load(Ordering::Acquire);
            if still == taken {
                return written - taken;
            }
            taken = still;
        }
    }

    /// How many messages were ever written.
    pub fn written(&self) -> u64 {
        self.written.count.load(Ordering::Acquire)
    }

    /// How many bytes the messages have that wait to be read, about; what is attached to them is not counted.
    pub fn bytes(&self) -> usize {
        let taken = self.taken.bytes.load(atomic::Ordering::Relaxed);
        let written = self.written.bytes.load(atomic::Ordering::Relaxed);
        usize::try_from(written.saturating_sub(taken)).unwrap_or(usize::MAX)
    }

    /// How many messages it holds at most.
    pub fn capacity(&self) -> Option<u64> {
        (self.capacity != u64::MAX).then_some(self.capacity)
    }

    /// Whether `count` more would not fit now.
    pub fn is_full(&self, count: u64) -> bool {
        self.len().saturating_add(count) > self.capacity
    }

    /// Takes no more messages from now on: once this returns, what was written is all that ever will be.
    pub fn close(&self) {
        let _writer = self.writer.lock();
        self.closed.store(true, Ordering::Release);
    }

    /// Whether [`Queue::close`] was called.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Drops what has not been read.
    pub fn clear(&self) {
        let mut message = Message::default();
        while self.pop(&mut message) {
            if !message.attachments.is_empty() {
                drop_deferred(std::mem::take(&mut message.attachments));
            }
        }
    }

    /// Whether a message that waits has objects of ours attached; without a lock.
    pub(super) fn holds_objects(&self) -> bool {
        self.objects.load(Ordering::Relaxed) > 0
    }

    /// Keeps the queue as it is while the answer lives. A thread that holds several must be the only one to do so.
    pub(super) fn hold(&self) -> QueueGuard<'_> {
        QueueGuard { writer: self.writer.lock(), reader: self.reader.lock() }
    }
}

#[inline]
fn has_objects(message: &Message) -> bool {
    !message.attachments.is_empty() && message.attachments.iter().any(|a| matches!(a, Attachment::Object(_)))
}

/// A queue that stays as it is.
pub(super) struct QueueGuard<'q> {
    writer: Guard<'q, Writer>,
    reader: Guard<'q, Reader>,
}

impl QueueGuard<'_> {
    /// Shows what is attached to the messages that wait, as long as `see` wants more.
    pub fn look(&self, mut see: impl FnMut(&Attachment) -> bool) {
        let Reader { cursor, returned, taken, .. } = &*self.reader;
        if !returned.iter().flat_map(|message| &message.attachments).all(&mut see) {
            return;
        }
        // SAFETY: under both locks nobody writes or takes, and so many were published and never taken.
        unsafe { cursor.look(self.writer.written - taken - returned.len() as u64, see) }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.clear();
        // SAFETY: nobody else has the queue any more, and it is empty.
        unsafe { self.reader.get_mut().cursor.free() };
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("len", &self.len()).field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

#[cfg(test)]
// By its path: the models include this file from elsewhere.
#[path = "queue/tests.rs"]
mod tests;
