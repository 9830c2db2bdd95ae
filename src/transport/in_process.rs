//! A connection between two threads of one process: a message moves from one to the other as it is, but for its
//! tensors, of which the receiver gets a copy as of the call, or, with `share`, the very ones.
//! What goes over a socket goes here, and what is refused there is refused here. `direction` is one way of it. Imports
//! its siblings `counters`, `describe`, `frame`, `place`,
//! `policy`, `send` and, through `direction`, `told`.

mod direction;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use self::direction::{Direction, Got, weigh};
use super::counters::{Counters, Moves};
use super::describe::Sharing;
use super::place::deliver;
use super::policy::{Carries, Policy};
use super::send::Parcel;
use super::{Connection, InUse, Sending, Stats, Target, Ticket};
use crate::err;
use crate::error::{Code, Error, Result};
use crate::sys::{SetOnce, fork_generation, monotonic_ns, try_extend};
use crate::wait::{TimedMutex, TimedMutexGuard, Wait};
use crate::wire::{Attachment, Message, Push};

/// One of the two ends of a connection that nobody has taken yet. Dropped so, it has ended for the other.
#[derive(Debug)]
pub struct InProcessEnd {
    out: Arc<Direction>,
    incoming: Arc<Direction>,
    generation: u32,
}

impl InProcessEnd {
    /// Both ends of a new one.
    pub fn pair() -> (InProcessEnd, InProcessEnd) {
        let (one, other) = (Arc::new(Direction::new()), Arc::new(Direction::new()));
        let generation = fork_generation();
        (
            InProcessEnd { out: one.clone(), incoming: other.clone(), generation },
            InProcessEnd { out: other, incoming: one, generation },
        )
    }

    fn is_ours(&self) -> bool {
        self.generation == fork_generation()
    }

    /// Nothing goes either way any more; what came before can still be received at the other end.
    fn close(&self) {
        if self.is_ours() {
            self.out.close();
            self.incoming.close();
            self.incoming.clear();
        }
    }
}

impl Drop for InProcessEnd {
    fn drop(&mut self) {
        self.close();
    }
}

/// An end in use.
#[derive(Debug)]
pub struct InProcess {
    end: InProcessEnd,
    peer: String,
    policy: Policy,
    /// Whose turn it is to send, and to receive.
    sending: TimedMutex<()>,
    receiving: TimedMutex<()>,
    sent: Counters,
    received: Counters,
    /// Calls are over here: it was closed, or a receive has found the end of what the peer sent.
    over: AtomicBool,
    /// Why, for the calls that come later.
    why: SetOnce<Error>,
    /// What ended it, where that was not a call of `close`.
    cause: SetOnce<Error>,
    closed_here: AtomicBool,
}

impl InProcess {
    /// `peer` names the other end in errors.
    pub fn new(end: InProcessEnd, peer: String, policy: Policy) -> InProcess {
        InProcess {
            end,
            peer,
            policy,
            sending: TimedMutex::default(),
            receiving: TimedMutex::default(),
            sent: Counters::default(),
            received: Counters::default(),
            over: AtomicBool::new(false),
            why: SetOnce::new(),
            cause: SetOnce::new(),
            closed_here: AtomicBool::new(false),
        }
    }

    /// Whether this is the process that made it.
    #[inline]
    fn check_process(&self) -> Result<()> {
        if self.end.is_ours() {
            return Ok(());
        }
        Err(err!(
            State,
            "the connection to {} was opened before the fork and belongs to the parent process; connect anew here",
            self.peer
        ))
    }

    /// Whether calls may go on here; the error says why not.
    #[inline]
    fn check(&self) -> Result<()> {
        self.check_process()?;
        if self.over.load(Ordering::Acquire) { Err(self.why()) } else { Ok(()) }
    }

    fn why(&self) -> Error {
        self.why.get().cloned().unwrap_or_else(|| err!(Closed, "the connection to {} is closed", self.peer))
    }

    /// Ends it, for the reason given unless it has ended.
    fn finish(&self, why: Error) {
        if !self.end.is_ours() {
            return;
        }
        let _ = self.why.set(why);
        self.over.store(true, Ordering::Release);
        self.end.close();
    }

    /// The peer has gone, and left nothing.
    fn found_end(&self) -> Error {
        let error = err!(Closed, "{} closed the connection", self.peer);
        if !self.over.load(Ordering::Acquire) {
            let _ = self.cause.set(error.clone());
        }
        self.finish(error);
        self.why()
    }

    /// The peer takes nothing any more; what it sent before can still be received.
    fn gone(&self) -> Error {
        if self.over.load(Ordering::Acquire) {
            return self.why();
        }
        err!(Closed, "{} is gone: it closed the connection", self.peer)
    }

    /// What the tensors of `message` share, and how much it weighs; refused where the peer would not take it.
    fn weigh(&self, message: &Message) -> Result<(Option<Sharing>, u64)> {
        let copies = !message.attachments.is_empty() && !message.share;
        let sharing = if copies { Some(Sharing::of(message)?) } else { None };
        let bytes = sharing.as_ref().map_or((0, 0), |sharing| sharing.bytes(message));
        self.policy.refuse(message, bytes, &self.peer, Carries::References)?;
        Ok((sharing, weigh(message, bytes.0)))
    }

    /// Sends what is attached to `message` with the bytes of `moved`, once there is room. Where it does not go, `moved`
    /// has its bytes as before.
    fn send_parts(
        &self,
        message: &Message,
        sharing: Option<&Sharing>,
        moved: &mut Message,
        call: Call<'_>,
    ) -> Result<()> {
        let Some(_turn) = self.sending.lock(call.wait)? else {
            return Err(err!(Timeout, "another thread went on sending to {} for the given time", self.peer));
        };
        if !self.end.out.wait_for_room(call.weight, &self.end.incoming, call.wait)? {
            return Err(err!(Timeout, "{} did not take the message in the given time", self.peer));
        }
        self.put(message, sharing, moved, call.weight, call.began)
    }

    /// As above, with the turn, and where there is room.
    fn put(
        &self,
        message: &Message,
        sharing: Option<&Sharing>,
        moved: &mut Message,
        weight: u64,
        began: u64,
    ) -> Result<()> {
        self.check()?;
        moved.functions = message.functions;
        moved.attachments = match sharing {
            Some(sharing) => sharing.copied(message)?,
            None => references(message)?,
        };
        match self.end.out.push(moved, weight) {
            Push::Done => {}
            Push::NoMemory | Push::Full => return Err(Error::no_memory()),
            Push::Closed => return Err(self.gone()),
        }
        self.sent.message();
        self.sent.moved(&moves(weight, message.attachments.len(), began));
        Ok(())
    }

    /// Gives the turn to receive back, which has a fence.
    fn leave(&self, turn: TimedMutexGuard<'_, ()>) {
        drop(turn);
        self.end.incoming.tell_again();
    }

    /// With the turn: the next message; false where there is none, and `wait` is none or over.
    fn receive(&self, into: Option<Target<'_>>, out: &mut Message, wait: Option<&Wait>, began: u64) -> Result<bool> {
        let got = match wait {
            Some(wait) => self.end.incoming.pop_before(out, wait)?,
            None => self.end.incoming.pop(out),
        };
        match got {
            Got::Nothing => return Ok(false),
            Got::End => return Err(self.found_end()),
            Got::Message => {}
        }
        let weight = self.end.incoming.took(out);
        self.received.message();
        self.received.moved(&moves(weight, out.attachments.len(), began));
        if let Some(target) = into {
            deliver(out, target)?;
        }
        Ok(true)
    }
}

/// A message with so many attachments, in a call that began then.
fn moves(bytes: u64, attachments: usize, began: u64) -> Moves {
    Moves { bytes, regions: 1 + attachments as u64, system_calls: 0, system_ns: 0, total_ns: monotonic_ns() - began }
}

impl Connection for InProcess {
    fn send(&self, message: &mut Message, wait: &Wait) -> Result<()> {
        let began = monotonic_ns();
        self.check()?;
        let (sharing, weight) = self.weigh(message)?;
        let mut moved = Message { bytes: std::mem::take(&mut message.bytes), ..Message::default() };
        let sent = self.send_parts(message, sharing.as_ref(), &mut moved, Call { weight, began, wait });
        // As they were where they did not go; else the memory of few, for the next.
        message.bytes = moved.bytes;
        sent
    }

    fn try_send(&self, parcel: &Arc<Parcel>, ticket: &mut Option<Ticket>) -> Result<Sending> {
        if ticket.is_some() {
            return Ok(Sending::Sent);
        }
        let began = monotonic_ns();
        self.check()?;
        let message = parcel.message();
        let (sharing, weight) = self.weigh(message)?;
        let Some(_turn) = self.sending.try_lock() else {
            return if self.sending.is_mine() { Err(TimedMutex::<()>::in_use()) } else { Ok(Sending::Busy) };
        };
        if !self.end.out.has_room(weight) {
            self.end.out.wants(weight);
            return Ok(Sending::Blocked);
        }
        self.put(message, sharing.as_ref(), &mut bytes_of(message)?, weight, began)?;
        *ticket = Some(Ticket::WHOLE);
        Ok(Sending::Sent)
    }

    fn send_parcel(&self, parcel: &Arc<Parcel>, ticket: &mut Option<Ticket>, wait: &Wait) -> Result<()> {
        if ticket.is_some() {
            return Ok(());
        }
        let began = monotonic_ns();
        self.check()?;
        let message = parcel.message();
        let (sharing, weight) = self.weigh(message)?;
        self.send_parts(message, sharing.as_ref(), &mut bytes_of(message)?, Call { weight, began, wait })?;
        *ticket = Some(Ticket::WHOLE);
        Ok(())
    }

    fn give_up(&self, _: Ticket) {
        // What has a ticket has gone whole.
    }

    fn recv_before(&self, into: Option<Target<'_>>, out: &mut Message, wait: &Wait) -> Result<bool> {
        let began = monotonic_ns();
        self.check()?;
        let Some(turn) = self.receiving.lock(wait)? else { return Ok(false) };
        let received = self.check().and_then(|()| self.receive(into, out, Some(wait), began));
        self.leave(turn);
        received
    }

    fn try_recv(&self, out: &mut Message) -> Result<bool> {
        let began = monotonic_ns();
        self.check()?;
        // Once more behind a fence: who gives the turn back later sees what this thread was told of.
        let turn = self.receiving.try_lock().or_else(|| {
            fence(Ordering::SeqCst);
            self.receiving.try_lock()
        });
        let Some(turn) = turn else {
            return if self.receiving.is_mine() { Err(TimedMutex::<()>::in_use()) } else { Ok(false) };
        };
        let received = self.check().and_then(|()| self.receive(None, out, None, began));
        self.leave(turn);
        received
    }

    fn put_back(&self, message: Message) {
        // Closed meanwhile, it has let go of what nobody will receive.
        if self.is_open() {
            self.end.incoming.put_back(message);
        }
    }

    fn close(&self) {
        self.closed_here.store(true, Ordering::SeqCst);
        self.finish(err!(Closed, "the connection to {} is closed", self.peer));
    }

    fn end(&self, reason: Error) {
        if self.is_open() {
            let _ = self.cause.set(reason.clone());
        }
        self.finish(Error::new(Code::Closed, "", reason.what().to_string()));
    }

    fn ending(&self) -> Option<Error> {
        if self.is_open() || self.closed_here.load(Ordering::SeqCst) {
            return None;
        }
        Some(self.cause.get().cloned().unwrap_or_else(|| self.why()))
    }

    fn is_open(&self) -> bool {
        self.end.is_ours() && !self.over.load(Ordering::Acquire)
    }

    fn on_arrival(&self, told: Box<dyn Fn() + Send + Sync>) {
        self.end.incoming.tell(told);
    }

    fn is_ready(&self) -> bool {
        !self.is_open() || self.end.incoming.is_ready()
    }

    fn has_gone(&self) -> bool {
        self.is_open() && self.end.incoming.has_ended()
    }

    fn unfilled(&self) -> usize {
        0
    }

    fn unread(&self) -> usize {
        let unread = self.end.out.unread().saturating_add(self.end.incoming.unread());
        usize::try_from(unread).unwrap_or(usize::MAX)
    }

    fn socket(&self) -> Result<Option<InUse<'_>>> {
        self.check().map(|()| None)
    }

    fn fd(&self) -> Result<RawFd> {
        self.check_process()?;
        self.end.incoming.read_fd()
    }

    fn room_fd(&self) -> Result<RawFd> {
        self.check_process()?;
        self.end.out.room_fd()
    }

    fn peer(&self) -> &str {
        &self.peer
    }

    fn functions(&self) -> bool {
        self.policy.functions
    }

    fn stats(&self) -> Stats {
        Stats { tx: self.sent.read(), rx: self.received.read(), transport: "memory" }
    }
}

/// What every way of sending needs to know.
#[derive(Clone, Copy)]
struct Call<'a> {
    /// Of the message.
    weight: u64,
    began: u64,
    wait: &'a Wait<'a>,
}

/// What is attached to `message`, by reference: it goes so, or there is nothing.
fn references(message: &Message) -> Result<Vec<Attachment>> {
    let mut all = Vec::new();
    all.try_reserve_exact(message.attachments.len())?;
    all.extend(message.attachments.iter().filter_map(|attachment| match attachment {
        Attachment::Tensor(t) => Some(Attachment::Tensor(t.clone())),
        Attachment::Storage(s) => Some(Attachment::Storage(s.clone())),
        Attachment::Object(_) | Attachment::Foreign(_) => None,
    }));
    Ok(all)
}

/// A message with the bytes of `message`, which others are to get, too.
fn bytes_of(message: &Message) -> Result<Message> {
    let mut bytes = Vec::new();
    try_extend(&mut bytes, &message.bytes)?;
    Ok(Message { bytes, ..Message::default() })
}
