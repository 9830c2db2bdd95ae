//! How a stream receives: when it looks at the socket, when it sleeps there, and what a fault becomes. Imports its
//! parent's siblings `counters`, `socket_handle` and `receive`.

use std::os::fd::RawFd;

use super::super::Target;
use super::super::counters::Moves;
use super::super::receive::{Fault, Receiver, Step};
use super::super::socket_handle::InUse;
use super::Stream;
use crate::err;
use crate::error::{Code, Error, Result};
use crate::sys::socket::Empty;
use crate::sys::{monotonic_ns, pausing_pays};
use crate::wait::{Interest, SpinBudget, TimedMutexGuard, Wait, sleep_on_fd};
use crate::wire::Message;

/// Who receives has this.
#[derive(Debug)]
pub(super) struct Rx {
    receiver: Receiver,
    ended: Option<Error>,
    /// Why a message was skipped that came during a send: for the next receive.
    skipped: Option<Error>,
    /// There was no memory for what is to come: the socket may have nothing more to show, and a receive would say so.
    short: bool,
}

/// What a send that waits has found to receive meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ahead {
    /// Nothing whole as yet: more may come.
    Partial,
    /// A message, or an error, that waits for the next receive.
    Kept,
    /// Another call is receiving.
    Busy,
}

impl Rx {
    pub fn new(receiver: Receiver) -> Rx {
        Rx { receiver, ended: None, skipped: None, short: false }
    }

    /// Whether something waits for the next receive that a send has found.
    fn is_kept(&self) -> bool {
        self.ended.is_some() || self.skipped.is_some() || self.short || self.receiver.is_whole()
    }

    /// See [`Connection::unfilled`](super::super::Connection::unfilled).
    pub fn unfilled(&self) -> usize {
        self.receiver.unfilled()
    }

    /// Whether the next receive has something to say without a look at the socket.
    pub fn is_ready(&self) -> bool {
        self.ended.is_some() || self.skipped.is_some() || self.short || self.receiver.is_ready()
    }
}

impl Stream {
    /// Turns a fault of the receiver into the error to raise, and remembers it if it is the end.
    fn fault(&self, rx: &mut Rx, fault: Fault) -> Error {
        let error = match fault {
            Fault::Message(e) | Fault::Memory(e) => return e,
            _ if !self.socket.is_open() => self.socket.why(),
            Fault::End(middle) => {
                let how =
                    if middle { "closed the connection in the middle of a message" } else { "closed the connection" };
                err!(Closed, "{} {how}", self.socket.peer())
            }
            Fault::Stream(e) if e.code() == Code::Closed => self.gone(e.what()),
            Fault::Stream(e) => {
                let what = format!("{}; the connection to {} is closed", e.what(), self.socket.peer());
                Error::new(e.code(), "", what)
            }
        };
        rx.ended = Some(error.clone());
        rx.receiver.finish();
        let _ = self.cause.set(error.clone());
        // Sends then know, too. For them it is closed, whatever was wrong with what came.
        self.cut_socket(err!(Closed, "{}", error.what()));
        error
    }

    /// One look at the socket.
    fn advance(&self, rx: &mut Rx, into: Option<Target<'_>>, fd: RawFd, empty: Empty) -> Result<Step> {
        let driven = rx.receiver.drive(fd, into, empty);
        rx.short = matches!(driven, Err(Fault::Memory(_)));
        driven.map_err(|fault| self.fault(rx, fault))
    }

    /// Why nothing can be received any more, if so; else the descriptor, kept open.
    fn enter_rx(&self, rx: &Rx) -> Result<InUse<'_>> {
        match &rx.ended {
            Some(e) if self.socket.is_ours() => Err(e.clone()),
            _ => self.socket.enter(),
        }
    }

    fn receive(&self, rx: &mut Rx, into: Option<Target<'_>>, out: &mut Message, wait: Option<&Wait>) -> Result<bool> {
        if let Some(e) = rx.skipped.take() {
            return Err(e);
        }
        let inside = self.enter_rx(rx)?;
        let fd = inside.fd();
        let mut budget = None;
        let mut slept = false;
        loop {
            // Closed here by another thread: the socket itself may not show it.
            if !self.socket.is_open() {
                return Err(self.fault(rx, Fault::End(false)));
            }
            // With another core that is free the answer may come any moment. With none it cannot before this thread
            // sleeps, which it had better do in the system call that brings the answer: first, and not for long.
            let block = !slept && wait.is_some_and(|wait| wait.may_block() && !pausing_pays());
            let empty = if block { Empty::Block } else { Empty::Return };
            if self.advance(rx, into, fd, empty)? == Step::Whole {
                rx.receiver.hand_out(into, out)?;
                self.received.message();
                return Ok(true);
            }
            let Some(wait) = wait else { return Ok(false) };
            if block {
                slept = true;
                wait.look_up()?;
            } else if slept || !budget.get_or_insert_with(SpinBudget::new).look_again(wait) {
                if !self.sleep(fd, wait)? {
                    return Ok(false);
                }
                (budget, slept) = (None, false);
            }
        }
    }

    /// Waits until there is something to read, or the connection is closed; false when the deadline passes.
    fn sleep(&self, fd: RawFd, wait: &Wait) -> Result<bool> {
        // A call that is tried again sleeps on a descriptor of the connection.
        if self.socket.may_linger() && wait.interrupt.non_blocking().is_none() {
            self.sleeper.sleep(fd, || self.socket.is_open(), wait)
        } else {
            sleep_on_fd(fd, Interest::Read, wait)
        }
    }

    /// `waited`: nanoseconds that the caller took to get its turn.
    pub(super) fn receive_counted(
        &self,
        mut rx: TimedMutexGuard<'_, Rx>,
        into: Option<Target<'_>>,
        out: &mut Message,
        wait: Option<&Wait>,
        waited: u64,
    ) -> Result<bool> {
        let began = monotonic_ns();
        let got = self.receive(&mut rx, into, out, wait);
        self.count(&mut rx, monotonic_ns() - began, waited);
        let tell = !matches!(got, Ok(false));
        self.leave(rx, tell);
        got
    }

    /// For a send that waits for room, since the peer may be waiting for the same: receives up to one whole message,
    /// and keeps it for the next receive. Never waits.
    pub(super) fn receive_ahead(&self, fd: RawFd) -> Ahead {
        let Some(mut rx) = self.rx.try_lock() else { return Ahead::Busy };
        if rx.is_kept() {
            return Ahead::Kept;
        }
        let began = monotonic_ns();
        let ahead = match rx.receiver.drive(fd, None, Empty::Return) {
            Ok(Step::Blocked) => Ahead::Partial,
            Ok(Step::Whole) => Ahead::Kept,
            Err(Fault::Message(e)) => {
                rx.skipped = Some(e);
                Ahead::Kept
            }
            // The next receive says so, if there is no more memory by then.
            Err(Fault::Memory(_)) => {
                rx.short = true;
                Ahead::Kept
            }
            Err(fault) => {
                self.fault(&mut rx, fault);
                Ahead::Kept
            }
        };
        self.count(&mut rx, monotonic_ns() - began, 0);
        self.leave(rx, ahead == Ahead::Kept);
        ahead
    }

    /// Counts what was received in `spent` nanoseconds.
    fn count(&self, rx: &mut Rx, spent: u64, waited: u64) {
        let counts = std::mem::take(&mut rx.receiver.counts);
        self.received.moved(&Moves {
            bytes: counts.bytes,
            regions: counts.regions,
            system_calls: counts.system_calls,
            system_ns: spent,
            total_ns: waited + spent,
        });
    }

    /// Gives the turn back. Who waits for something to receive hears of what is here and not in the socket; `tell`:
    /// those that watch many, too.
    fn leave(&self, rx: TimedMutexGuard<'_, Rx>, tell: bool) {
        let followed = self.ready.get().map(|ready| self.follow(ready, &rx)).is_some();
        let tell = tell && rx.is_ready();
        drop(rx);
        if !followed {
            self.follow_if_made();
        }
        if tell {
            self.told.tell();
        }
    }
}
