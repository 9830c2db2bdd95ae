//! How a stream sends: a call that stays for its message, and one that leaves it to the next caller. Imports its
//! sibling `receiving`, and its parent's siblings `counters`, `describe`, `secure` and `send`.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::counters::Moves;
use super::super::describe::Sharing;
use super::super::policy::Carries;
use super::super::secure::IDLE;
use super::super::send::{Failed, Parcel, Pieces, Progress, Sender, lay_out, push};
use super::super::{Connection, Sending, Ticket};
use super::Stream;
use super::receiving::Ahead;
use crate::err;
use crate::error::{Code, Error, Result};
use crate::sys::monotonic_ns;
use crate::wait::{Deadline, Interest, TimedMutex, Wait, poll_fd};
use crate::wire::Message;

/// After how many seconds a send that waits looks again whether it has to receive: at first, and at most.
const PAUSES: (f64, f64) = (0.05, 10.0);

/// Who sends has this.
#[derive(Debug)]
pub(super) struct Tx {
    sender: Sender,
    ended: Option<Error>,
    /// A message that has begun to go out, and goes on with the next caller.
    pending: Option<Pending>,
    /// The last number given to one.
    tickets: u64,
}

/// A message on its way. It belongs to the connection, so that no call has to stay for it.
#[derive(Debug)]
struct Pending {
    parcel: Arc<Parcel>,
    progress: Progress,
    ticket: u64,
}

impl Tx {
    pub fn new(sender: Sender) -> Tx {
        Tx { sender, ended: None, pending: None, tickets: 0 }
    }
}

impl Stream {
    /// [`Connection::send`].
    pub(super) fn send_whole(&self, message: &Message, wait: &Wait) -> Result<()> {
        let began = monotonic_ns();
        let inside = self.socket.enter()?;
        // Most messages have no tensors.
        let sharing = if message.attachments.is_empty() { None } else { Some(Sharing::of(message)?) };
        let bytes = sharing.as_ref().map_or((0, 0), |sharing| sharing.bytes(message));
        self.policy.refuse(message, bytes, self.socket.peer(), Carries::Copies)?;
        let free = self.tx.try_lock();
        let at_once = free.as_ref().is_some_and(|tx| tx.pending.is_none());
        let Some(mut tx) = (if free.is_some() { free } else { self.tx.lock(wait)? }) else {
            return Err(self.others_sent());
        };
        if let Some(e) = &tx.ended {
            return Err(e.clone());
        }
        // What another call has begun goes first.
        let mut pause = PAUSES.0;
        while !self.push_pending(&mut tx, inside.fd())? {
            let room = self.wait_for_room(inside.fd(), wait, &mut pause);
            self.settle(&mut tx);
            room?;
        }
        // Taken out, so that both the scratch memory and the rest can be used.
        let mut scratch = std::mem::take(&mut tx.sender.scratch);
        let layout = lay_out(message, sharing.as_ref(), &mut scratch);
        let sent = layout.and_then(|layout| {
            // Without tensors there was nothing to lay out that a clock could see.
            let laid_out = if at_once && message.attachments.is_empty() { began } else { monotonic_ns() };
            let pieces = Pieces { scratch: &scratch, message, layout: &layout };
            let mut progress = Progress::default();
            let done = self.push(&mut tx, pieces, &mut progress, inside.fd(), wait);
            let now = monotonic_ns();
            self.sent.message();
            self.sent.moved(&Moves {
                bytes: progress.bytes,
                regions: pieces.regions(),
                system_calls: progress.system_calls,
                system_ns: now - laid_out,
                total_ns: now - began,
            });
            let Err(e) = done else { return Ok(()) };
            if !progress.moved {
                progress.take_back(tx.sender.sealer.as_mut());
            } else if tx.ended.is_none() {
                let what = self.broken_off(&mut tx);
                if e.code() == Code::Timeout {
                    return Err(Error::new(e.code(), "", format!("{}; {what}", e.what())));
                }
            }
            Err(e)
        });
        // A message of very many tensors needed memory for their descriptors, which an idle connection does not keep.
        if scratch.capacity() <= IDLE {
            tx.sender.scratch = scratch;
        }
        sent
    }

    /// [`Connection::try_send`].
    pub(super) fn send_some(&self, parcel: &Arc<Parcel>, ticket: &mut Option<Ticket>) -> Result<Sending> {
        // By another call, maybe; the connection may have ended since.
        if self.is_out(*ticket) {
            return Ok(Sending::Sent);
        }
        let inside = self.socket.enter()?;
        if ticket.is_none() {
            self.policy.refuse(parcel.message(), parcel.tensor_bytes(), self.socket.peer(), Carries::Copies)?;
        }
        let Some(mut tx) = self.tx.try_lock() else {
            return if self.tx.is_mine() { Err(TimedMutex::<Tx>::in_use()) } else { Ok(Sending::Busy) };
        };
        if let Some(e) = &tx.ended {
            return Err(e.clone());
        }
        loop {
            if self.is_out(*ticket) {
                return Ok(Sending::Sent);
            }
            // Another's, if it came first.
            if !self.push_pending(&mut tx, inside.fd())? {
                return Ok(Sending::Blocked);
            }
            if ticket.is_none() {
                tx.tickets += 1;
                *ticket = Some(Ticket(tx.tickets));
                tx.pending =
                    Some(Pending { parcel: parcel.clone(), progress: Progress::default(), ticket: tx.tickets });
            }
        }
    }

    /// [`Connection::send_parcel`].
    pub(super) fn send_or_wait(&self, parcel: &Arc<Parcel>, ticket: &mut Option<Ticket>, wait: &Wait) -> Result<()> {
        let mut pause = PAUSES.0;
        loop {
            let room = match self.send_some(parcel, ticket)? {
                Sending::Sent => return Ok(()),
                Sending::Busy => match self.tx.lock(wait)? {
                    Some(_) => continue,
                    None => Err(self.others_sent()),
                },
                Sending::Blocked => self.socket.enter().and_then(|at| self.wait_for_room(at.fd(), wait, &mut pause)),
            };
            match (room, *ticket) {
                (Ok(()), _) => {}
                (Err(e), Some(given)) if e.code() != Code::WouldBlock => {
                    *ticket = None;
                    self.give_up_sending(given);
                    let what = self.ending().map_or_else(String::new, |ending| format!("; {}", ending.what()));
                    return Err(if e.code() == Code::Timeout {
                        Error::new(e.code(), "", format!("{}{what}", e.what()))
                    } else {
                        e
                    });
                }
                (Err(e), _) => return Err(e),
            }
        }
    }

    /// Whether the message of `ticket` is out.
    fn is_out(&self, ticket: Option<Ticket>) -> bool {
        ticket.is_some_and(|Ticket(number)| number <= self.finished.load(Ordering::SeqCst))
    }

    fn others_sent(&self) -> Error {
        err!(Timeout, "another thread went on sending to {} for the given time", self.socket.peer())
    }

    /// [`Connection::give_up`].
    pub(super) fn give_up_sending(&self, ticket: Ticket) {
        self.given_up.store(ticket.0, Ordering::SeqCst);
        // A thread that is sending on it now does this when done; one who is just leaving has left in a moment.
        if let Ok(Some(mut tx)) = self.tx.lock(&Wait::until(Deadline::after(0.1))) {
            self.settle(&mut tx);
        }
    }

    /// Moves everything, waiting where the socket is full.
    fn push(&self, tx: &mut Tx, pieces: Pieces<'_>, progress: &mut Progress, fd: RawFd, wait: &Wait) -> Result<()> {
        let mut pause = PAUSES.0;
        loop {
            match push(tx.sender.sealer.as_mut(), fd, pieces, progress) {
                Ok(true) => return Ok(()),
                Ok(false) => self.wait_for_room(fd, wait, &mut pause)?,
                Err(Failed::Socket(e)) => return Err(self.send_failed(tx, e)),
                Err(Failed::Here(e)) => return Err(e),
            }
        }
    }

    /// Moves on what another call has begun, as far as the socket takes it: true when nothing of it is left.
    fn push_pending(&self, tx: &mut Tx, fd: RawFd) -> Result<bool> {
        self.settle(tx);
        let Some(pending) = &mut tx.pending else { return tx.ended.clone().map_or(Ok(true), Err) };
        let began = monotonic_ns();
        let (bytes, calls) = (pending.progress.bytes, pending.progress.system_calls);
        let pieces = pending.parcel.pieces();
        let done = push(tx.sender.sealer.as_mut(), fd, pieces, &mut pending.progress);
        let spent = monotonic_ns() - began;
        self.sent.moved(&Moves {
            bytes: pending.progress.bytes - bytes,
            regions: if matches!(done, Ok(true)) { pieces.regions() } else { 0 },
            system_calls: pending.progress.system_calls - calls,
            system_ns: spent,
            total_ns: spent,
        });
        match done {
            Ok(false) => Ok(false),
            Ok(true) => {
                self.sent.message();
                self.finished.store(pending.ticket, Ordering::SeqCst);
                tx.pending = None;
                Ok(true)
            }
            Err(failed) => {
                let moved = pending.progress.moved;
                tx.pending = None;
                match failed {
                    Failed::Socket(e) => Err(self.send_failed(tx, e)),
                    Failed::Here(e) => {
                        if moved {
                            self.broken_off(tx);
                        }
                        Err(e)
                    }
                }
            }
        }
    }

    /// Lets go of a message that its sender has given up: as if it had never begun, or, after the first byte, with the
    /// connection.
    fn settle(&self, tx: &mut Tx) {
        let given_up = self.given_up.load(Ordering::SeqCst);
        let Some(mut pending) = tx.pending.take_if(|p| p.ticket == given_up || !self.socket.is_open()) else { return };
        if pending.progress.moved {
            self.broken_off(tx);
        } else {
            pending.progress.take_back(tx.sender.sealer.as_mut());
        }
    }

    /// A message ended in the middle, so that nothing can follow it. Says so.
    fn broken_off(&self, tx: &mut Tx) -> String {
        let what = format!(
            "a send to {} was broken off in the middle of a message, which closed the connection",
            self.socket.peer()
        );
        if tx.ended.is_none() {
            tx.ended = Some(err!(Closed, "{what}"));
            self.end(err!(Closed, "{what}"));
        }
        what
    }

    /// Waits until the socket may take more. What comes meanwhile is received, up to one whole message: the peer may be
    /// waiting for its own send. Where another call receives, that one may leave before this one has room: then this
    /// looks again after `pause`, which grows.
    fn wait_for_room(&self, fd: RawFd, wait: &Wait, pause: &mut f64) -> Result<()> {
        loop {
            let ready = if self.receive_ahead(fd) == Ahead::Partial {
                self.poll_room(fd, Interest::Both, wait)?
            } else {
                let ready = self.poll_room(fd, Interest::Write, &wait.sooner(Deadline::after(*pause)))?;
                *pause = (*pause * 2.0).min(PAUSES.1);
                ready
            };
            if ready {
                return Ok(());
            }
            if wait.deadline.expired() {
                return Err(err!(Timeout, "{} did not take the whole message in the given time", self.socket.peer()));
            }
        }
    }

    /// As [`poll_fd`]. A call that is tried again sleeps on a descriptor of the connection instead: a socket that is
    /// closed here leaves every set without a sign.
    fn poll_room(&self, fd: RawFd, interest: Interest, wait: &Wait) -> Result<bool> {
        let polled = poll_fd(fd, interest, wait);
        if let (Err(e), Some(non_blocking)) = (&polled, wait.interrupt.non_blocking())
            && e.code() == Code::WouldBlock
        {
            non_blocking.instead(self.room_or(interest)?);
        }
        polled
    }

    /// The socket takes nothing any more. What the peer sent before can still be received.
    fn send_failed(&self, tx: &mut Tx, cause: std::io::Error) -> Error {
        let error = if self.socket.is_open() { self.gone(&cause.to_string()) } else { self.socket.why() };
        tx.ended = Some(error.clone());
        error
    }
}
