//! A FIFO of messages between threads: what work queues and channels stand on.
//!
//! Two locks, one for the writers and one for the readers, each on cache lines of its own with a cached copy of the
//! other side's count, so that a writer and a reader rarely touch the same line. The queue itself never waits: see
//! `sync` for what blocks on it. Neither lock is ever held while a message is dropped.
//!
//! Imports its siblings `queue_chunk`, which holds the messages, and `release`.

use std::fmt;

use super::queue_chunk::{Cursor, Spare, chain};
use super::release::release;
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
    written: Apart<AtomicU64>,
    /// Messages ever taken; stored under the readers' lock.
    taken: Apart<AtomicU64>,
    /// Set under the writers' lock.
    closed: AtomicBool,
    capacity: u64,
    spare: Spare,
    /// How many messages have objects of ours attached; changed under the writers' and the readers' lock.
    objects: AtomicU64,
}

/// On cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Apart<T>(T);

struct Writer {
    cursor: Cursor,
    written: u64,
    /// `taken`, as last seen.
    taken: u64,
}

struct Reader {
    cursor: Cursor,
    taken: u64,
    /// `written`, as last seen.
    written: u64,
}

impl Queue {
    /// An empty one that holds up to `capacity` messages, or any number.
    pub fn new(capacity: Option<u64>) -> Queue {
        let (writer, reader) = chain();
        Queue {
            writer: Lock::new(Writer { cursor: writer, written: 0, taken: 0 }),
            reader: Lock::new(Reader { cursor: reader, taken: 0, written: 0 }),
            written: Apart::default(),
            taken: Apart::default(),
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
            writer.taken = self.taken.0.load(Ordering::Acquire);
            if after - writer.taken > self.capacity {
                return Push::Full;
            }
        }
        for message in messages {
            if has_objects(message) {
                self.objects.fetch_add(1, Ordering::Relaxed);
            }
            // SAFETY: the lock makes us the only writer, and `spare` belongs to this chain.
            unsafe { writer.cursor.put(message, &self.spare) };
        }
        writer.written = after;
        self.written.0.store(after, Ordering::Release);
        Push::Done
    }

    /// Takes the oldest message into `out` (whose memory is reused); false if there is none, and `out` is then empty.
    pub fn pop(&self, out: &mut Message) -> bool {
        // What `out` held is dropped before the lock is taken.
        out.clear();
        let mut guard = self.reader.lock();
        let reader = &mut *guard;
        if reader.taken == reader.written {
            reader.written = self.written.0.load(Ordering::Acquire);
            if reader.taken == reader.written {
                return false;
            }
        }
        // SAFETY: the lock makes us the only reader, and a published message is left.
        unsafe { reader.cursor.take(out, &self.spare) };
        reader.taken += 1;
        self.taken.0.store(reader.taken, Ordering::Release);
        if has_objects(out) {
            self.objects.fetch_sub(1, Ordering::Relaxed);
        }
        true
    }

    /// Whether there is nothing to read; without a lock.
    #[inline]
    pub fn is_empty(&self) -> bool {
        // In this order: `taken` cannot overtake a `written` that is read after it.
        let taken = self.taken.0.load(Ordering::Acquire);
        self.written.0.load(Ordering::Acquire) == taken
    }

    /// How many messages wait to be read: so many did at one moment, if others write and read meanwhile.
    pub fn len(&self) -> u64 {
        let mut taken = self.taken.0.load(Ordering::Acquire);
        loop {
            let written = self.written.0.load(Ordering::Acquire);
            let still = self.taken.0.load(Ordering::Acquire);
            if still == taken {
                return written - taken;
            }
            taken = still;
        }
    }

    /// How many messages were ever written.
    pub fn written(&self) -> u64 {
        self.written.0.load(Ordering::Acquire)
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
                release(std::mem::take(&mut message.attachments));
            }
        }
    }

    /// Whether a message that waits has objects of ours attached; without a lock.
    pub(super) fn holds_objects(&self) -> bool {
        self.objects.load(Ordering::Relaxed) > 0
    }

    /// Keeps the queue as it is while the answer lives. Whoever holds several must be the only one to do so.
    pub(super) fn hold(&self) -> Held<'_> {
        Held { writer: self.writer.lock(), reader: self.reader.lock() }
    }
}

#[inline]
fn has_objects(message: &Message) -> bool {
    !message.attachments.is_empty() && message.attachments.iter().any(|a| matches!(a, Attachment::Object(_)))
}

/// A queue that stays as it is.
pub(super) struct Held<'q> {
    writer: Guard<'q, Writer>,
    reader: Guard<'q, Reader>,
}

impl Held<'_> {
    /// Shows what is attached to the messages that wait, as long as `see` wants more.
    pub fn look(&self, see: impl FnMut(&Attachment) -> bool) {
        // SAFETY: under both locks nobody writes or takes, and so many were published.
        unsafe { self.reader.cursor.look(self.writer.written - self.reader.taken, see) }
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Attachment, Foreign, Object};
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    #[derive(Debug)]
    struct Counted(Arc<AtomicUsize>);

    impl Counted {
        fn attach(alive: &Arc<AtomicUsize>) -> Attachment {
            alive.fetch_add(1, Ordering::SeqCst);
            Attachment::Object(Arc::new(Counted(alive.clone())))
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    impl Object for Counted {
        fn class(&self) -> &'static str {
            "counted"
        }
    }

    fn message(bytes: &[u8]) -> Message {
        Message { bytes: bytes.to_vec(), ..Message::default() }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Write messages of (length, attachments, functions).
        Push(Vec<(usize, usize, bool)>),
        Pop(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let length = prop_oneof![8 => 0usize..40, 2 => 40usize..3000, 1 => 8100usize..20_000];
        let item = (length, prop_oneof![4 => Just(0usize), 1 => 1usize..4], any::<bool>());
        prop::collection::vec(
            prop_oneof![
                3 => prop::collection::vec(item, 0..8).prop_map(Step::Push),
                2 => (1usize..12).prop_map(Step::Pop),
            ],
            0..200,
        )
    }

    proptest! {
        #[test]
        fn it_holds_what_a_deque_would(steps in steps(), capacity in prop::option::of(0u64..50)) {
            let alive = Arc::new(AtomicUsize::new(0));
            let queue = Queue::new(capacity);
            let mut model = VecDeque::new();
            let (mut out, mut serial) = (Message::default(), 0u8);
            for step in steps {
                match step {
                    Step::Push(items) => {
                        let mut messages = Vec::new();
                        let mut expected = Vec::new();
                        for (len, attached, functions) in items {
                            serial = serial.wrapping_add(1);
                            let bytes = vec![serial; len];
                            let attachments = (0..attached).map(|_| Counted::attach(&alive)).collect();
                            messages.push(Message { bytes: bytes.clone(), attachments, functions });
                            expected.push((bytes, attached, functions));
                        }
                        let fits = model.len() + expected.len() <= capacity.unwrap_or(u64::MAX) as usize;
                        match queue.push_all(&mut messages) {
                            Push::Done => {
                                prop_assert!(fits);
                                prop_assert!(messages.iter().all(|m| m.bytes.is_empty() && m.attachments.is_empty()));
                                model.extend(expected);
                            }
                            Push::Full => {
                                prop_assert!(!fits);
                                let left: Vec<_> = messages.iter().map(|m| m.bytes.clone()).collect();
                                prop_assert_eq!(left, expected.into_iter().map(|e| e.0).collect::<Vec<_>>());
                            }
                            Push::Closed => prop_assert!(false),
                        }
                    }
                    Step::Pop(times) => {
                        for _ in 0..times {
                            prop_assert_eq!(queue.is_empty(), model.is_empty());
                            let popped = queue.pop(&mut out);
                            let got = popped.then(|| (out.bytes.clone(), out.attachments.len(), out.functions));
                            prop_assert_eq!(got, model.pop_front());
                        }
                    }
                }
                prop_assert_eq!(queue.len(), model.len() as u64);
            }
            drop(out);
            let held: usize = model.iter().map(|m| m.1).sum();
            prop_assert_eq!(alive.load(Ordering::SeqCst), held);
            drop(queue);
            prop_assert_eq!(alive.load(Ordering::SeqCst), 0, "unread messages release what they hold");
        }
    }

    #[test]
    fn an_unread_foreign_pointer_is_given_back() {
        static GIVEN: AtomicUsize = AtomicUsize::new(0);
        let queue = Queue::new(None);
        let foreign =
            Foreign { class: "x".into(), pointer: 42, release: |_, p| _ = GIVEN.fetch_add(p, Ordering::SeqCst) };
        let mut m = message(b"a");
        m.attachments.push(Attachment::Foreign(foreign));
        assert_eq!(queue.push_all(&mut [m]), Push::Done);
        drop(queue);
        assert_eq!(GIVEN.load(Ordering::SeqCst), 42);
    }

    #[test]
    fn a_closed_queue_takes_no_more_and_keeps_what_it_has() {
        let queue = Queue::new(None);
        assert_eq!(queue.push_all(&mut [message(b"a")]), Push::Done);
        queue.close();
        let mut refused = [message(b"b")];
        assert_eq!(queue.push_all(&mut refused), Push::Closed);
        assert_eq!(refused[0].bytes, b"b");
        let mut out = Message::default();
        assert!(queue.pop(&mut out) && out.bytes == b"a");
        assert!(!queue.pop(&mut out));
    }

    /// Each message: the writer's number, its count, and filler of a length that follows from them.
    fn stress(writers: u64, readers: usize, each: u64, capacity: Option<u64>) {
        let alive = Arc::new(AtomicUsize::new(0));
        let queue = Queue::new(capacity);
        let left = AtomicU64::new(writers * each);
        let seen = std::thread::scope(|s| {
            for w in 0..writers {
                let (queue, alive) = (&queue, &alive);
                s.spawn(move || {
                    let mut pair = [Message::default(), Message::default()];
                    for i in (0..each).step_by(2) {
                        for (m, n) in pair.iter_mut().zip(i..) {
                            m.bytes.extend(w.to_ne_bytes());
                            m.bytes.extend(n.to_ne_bytes());
                            m.bytes.resize(16 + if n % 500 == 0 { 9000 } else { n as usize % 50 }, w as u8);
                            if n % 100 == 0 {
                                m.attachments.push(Counted::attach(alive));
                            }
                        }
                        while queue.push_all(&mut pair) != Push::Done {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            let readers: Vec<_> = (0..readers)
                .map(|_| {
                    s.spawn(|| {
                        let (mut out, mut seen) = (Message::default(), vec![Vec::new(); writers as usize]);
                        while left.load(Ordering::SeqCst) > 0 {
                            assert!(queue.len() <= capacity.unwrap_or(u64::MAX));
                            if queue.pop(&mut out) {
                                left.fetch_sub(1, Ordering::SeqCst);
                                let number = |at: usize| u64::from_ne_bytes(out.bytes[at..at + 8].try_into().unwrap());
                                let (w, n) = (number(0), number(8));
                                assert!(out.bytes[16..].iter().all(|&b| b == w as u8));
                                assert_eq!(out.attachments.len(), usize::from(n % 100 == 0));
                                seen[w as usize].push(n);
                            } else {
                                std::thread::yield_now();
                            }
                        }
                        seen
                    })
                })
                .collect();
            readers.into_iter().map(|r| r.join().unwrap()).collect::<Vec<_>>()
        });
        for w in 0..writers as usize {
            let mut all: Vec<u64> = Vec::new();
            for reader in &seen {
                assert!(reader[w].is_sorted(), "each reader sees a writer's messages in order");
                all.extend(&reader[w]);
            }
            all.sort_unstable();
            assert!(all.into_iter().eq(0..each), "nothing lost, nothing doubled");
        }
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn one_writer_one_reader_lose_nothing() {
        stress(1, 1, 60_000, None);
    }

    #[test]
    fn many_writers_and_readers_keep_the_order_of_each_writer() {
        stress(3, 3, 20_000, None);
    }

    #[test]
    fn a_small_capacity_loses_nothing_either() {
        stress(2, 2, 5_000, Some(3));
    }
}
