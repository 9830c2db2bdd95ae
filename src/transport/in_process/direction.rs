//! One way of a connection in memory: the messages that wait, and who waits for them or for room.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};

use super::super::frame::HEADER;
use super::super::told::Told;
use crate::error::Result;
use crate::sys::Lock;
use crate::wait::{EventCount, Wait};
use crate::wire::{Message, Push, Queue};

/// From here on a sender waits, in bytes of the frames that the messages would be: twice of what every link takes
/// unread, so that small messages, whose frames are mostly header, come to that, too.
const ROOM: u64 = 8 << 20;

/// In `ahead`: the receiver waits in a send of its own, and lets one message in beyond that, since the sender may be
/// waiting for it.
const OFFERED: u8 = 1;
/// In `ahead`: such a message is in.
const TAKEN: u8 = 2;

/// What goes from one end to the other.
#[derive(Debug)]
pub(super) struct Direction {
    queue: Queue,
    /// How much the messages with tensors weigh, in order: what those share is not to be told from them.
    weights: Lock<VecDeque<u64>>,
    /// Bytes of the messages that wait, and of one that is just going in.
    unread: AtomicU64,
    ahead: AtomicU8,
    /// How large the message is that found no room, where its sender may have gone to poll the descriptor.
    wanted: AtomicU64,
    arrived: EventCount,
    room: EventCount,
    told: Told,
}

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Got {
    Message,
    /// Nothing now.
    Nothing,
    /// Nothing, and nothing will come.
    End,
}

/// For the sender, who has the turn.
impl Direction {
    pub fn new() -> Direction {
        Direction {
            queue: Queue::new(None),
            weights: Lock::default(),
            unread: AtomicU64::new(0),
            ahead: AtomicU8::new(0),
            wanted: AtomicU64::new(0),
            arrived: EventCount::new(),
            room: EventCount::new(),
            told: Told::default(),
        }
    }

    /// Whether a message of `weight` may go in now, or will never be able to.
    pub fn has_room(&self, weight: u64) -> bool {
        let unread = self.unread.load(Ordering::SeqCst);
        unread == 0
            || unread.saturating_add(weight) <= ROOM
            || self.ahead.load(Ordering::SeqCst) == OFFERED
            || self.queue.is_closed()
    }

    /// There was no room for `weight`: the descriptor tells when there is.
    pub fn wants(&self, weight: u64) {
        self.wanted.fetch_max(weight, Ordering::SeqCst);
        self.refresh_room();
    }

    /// Waits for room for `weight`; false when the deadline passes. `incoming`, the other way of the same connection,
    /// lets one message in meanwhile.
    pub fn wait_for_room(&self, weight: u64, incoming: &Direction, wait: &Wait) -> Result<bool> {
        let look = || self.has_room(weight).then_some(());
        if look().is_some() {
            return Ok(true);
        }
        incoming.offer();
        let found = self.room.wait_until(wait, look);
        // A call that is tried again lets the offer stand until then.
        if found.is_ok() || wait.interrupt.non_blocking().is_none() {
            incoming.withdraw();
        }
        found.map(|found| found.is_some())
    }

    /// Puts in a message of `weight` that there is room for. Where it does not go in, it is as it was.
    pub fn push(&self, message: &mut Message, weight: u64) -> Push {
        let is_plain = message.attachments.is_empty();
        if !is_plain && try_push_back(&mut self.weights.lock(), weight).is_err() {
            return Push::NoMemory;
        }
        let before = self.unread.fetch_add(weight, Ordering::SeqCst);
        let push = self.queue.push_all(std::slice::from_mut(message));
        if push != Push::Done {
            self.unread.fetch_sub(weight, Ordering::SeqCst);
            if !is_plain {
                self.weights.lock().pop_back();
            }
            return push;
        }
        if before != 0 && before.saturating_add(weight) > ROOM {
            let _ = self.ahead.compare_exchange(OFFERED, TAKEN, Ordering::SeqCst, Ordering::SeqCst);
        }
        self.wanted.store(0, Ordering::SeqCst);
        self.arrived.notify_one();
        self.arrived.refresh(|| self.is_ready());
        self.told.tell();
        push
    }

    /// A descriptor that polls readable while there is room.
    pub fn room_fd(&self) -> Result<RawFd> {
        self.room.fd(|| self.has_wanted_room())
    }

    fn has_wanted_room(&self) -> bool {
        self.has_room(self.wanted.load(Ordering::SeqCst))
    }

    fn refresh_room(&self) {
        self.room.refresh(|| self.has_wanted_room());
    }
}

/// For the receiver, who has the turn.
impl Direction {
    /// The next message, without waiting.
    pub fn pop(&self, out: &mut Message) -> Got {
        if self.queue.pop(out) {
            return Got::Message;
        }
        if !self.queue.is_closed() {
            return Got::Nothing;
        }
        // Once more: what was sent before the end is to be received.
        if self.queue.pop(out) { Got::Message } else { Got::End }
    }

    /// The next message, waited for.
    pub fn pop_before(&self, out: &mut Message, wait: &Wait) -> Result<Got> {
        let look = || match self.pop(out) {
            Got::Nothing => None,
            got => Some(got),
        };
        Ok(self.arrived.wait_until(wait, look)?.unwrap_or(Got::Nothing))
    }

    /// `message` was popped: makes room, and returns how much it weighed.
    pub fn took(&self, message: &Message) -> u64 {
        let known = if message.attachments.is_empty() { None } else { self.weights.lock().pop_front() };
        let weight = known.unwrap_or_else(|| weigh(message, 0));
        let left = self.unread.fetch_sub(weight, Ordering::SeqCst) - weight;
        if left <= ROOM {
            let _ = self.ahead.compare_exchange(TAKEN, 0, Ordering::SeqCst, Ordering::SeqCst);
        }
        self.arrived.refresh(|| self.is_ready());
        self.room.notify_one();
        self.refresh_room();
        weight
    }

    /// Takes back a message that was popped: it is the next to be received.
    pub fn put_back(&self, message: Message) {
        let mut weight = weigh(&message, 0);
        if !message.attachments.is_empty() {
            weight = message.weight() as u64;
            // There is room: see `try_push_back`.
            self.weights.lock().push_front(weight);
        }
        self.unread.fetch_add(weight, Ordering::SeqCst);
        self.queue.put_back(message);
        self.arrived.notify_one();
        self.arrived.refresh(|| self.is_ready());
        self.told.tell();
    }

    /// After the turn was given back: who was told of a message meanwhile may have found the turn taken, and who was
    /// told of several has been told once.
    pub fn tell_again(&self) {
        if self.is_ready() {
            self.told.tell();
        }
    }

    /// Lets one message in beyond the bound.
    fn offer(&self) {
        if self.ahead.compare_exchange(0, OFFERED, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.room.notify_one();
            self.refresh_room();
        }
    }

    /// Does not let it in any more, if none has come.
    fn withdraw(&self) {
        if self.ahead.compare_exchange(OFFERED, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.refresh_room();
        }
    }

    /// Whether a receive would not wait.
    pub fn is_ready(&self) -> bool {
        !self.queue.is_empty() || self.queue.is_closed()
    }

    /// Whether nothing waits and nothing will come.
    pub fn has_ended(&self) -> bool {
        self.queue.is_closed() && self.queue.is_empty()
    }

    /// A descriptor that polls readable while a receive would not wait.
    pub fn read_fd(&self) -> Result<RawFd> {
        self.arrived.fd(|| self.is_ready())
    }

    /// Has `told` called for each message from now on and at the end, and now if there is one.
    pub fn tell(&self, told: Box<dyn Fn() + Send + Sync>) {
        self.told.set(told);
        // A sender puts its message in before it looks whom to tell; here it is the other way round.
        fence(Ordering::SeqCst);
        self.tell_again();
    }
}

/// For either.
impl Direction {
    /// Takes nothing any more, and has all who wait look.
    pub fn close(&self) {
        self.queue.close();
        self.arrived.notify_all();
        self.arrived.refresh(|| self.is_ready());
        self.room.notify_all();
        self.refresh_room();
        self.told.tell();
    }

    /// Bytes that wait.
    pub fn unread(&self) -> u64 {
        self.unread.load(Ordering::Relaxed)
    }

    /// Lets go of what nobody will receive.
    pub fn clear(&self) {
        self.queue.clear();
    }
}

/// How many bytes the frame of a message would have, but for descriptors, whose tensors have so many bytes of data.
pub(super) fn weigh(message: &Message, data: u64) -> u64 {
    data.saturating_add((HEADER + message.bytes.len()) as u64)
}

fn try_push_back(weights: &mut VecDeque<u64>, weight: u64) -> Result<()> {
    // And for those that are put back, which must not fail: by more threads at once than there are hardly ever.
    weights.try_reserve(1 + 64)?;
    weights.push_back(weight);
    Ok(())
}
