//! A connection over a stream socket, as doc/stream.md describes it. Imports its siblings `counters`, `line`,
//! `policy`, `ready`, `receive`, `secure` and `send`.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use super::counters::{Counters, Moves};
use super::line::Line;
use super::policy::Policy;
use super::ready::Ready;
use super::receive::{Fault, Receiver, Step};
use super::secure::{IDLE, Keys};
use super::send::{Failed, Parcel, Pieces, Progress, Sender, lay_out, push};
use super::{Connection, Sending, Stats, Target, Ticket};
use crate::err;
use crate::error::{Code, Error, Result};
use crate::sys::socket::{self, Address, Empty};
use crate::sys::{Fd, SetOnce, monotonic_ns, pausing_pays};
use crate::wait::{Deadline, Held, Interest, Patience, SHORT_NAP, Turn, Wait, poll_fd, sleep_on_fd};
use crate::wire::Message;

/// A TCP or Unix socket as a connection.
#[derive(Debug)]
pub struct Stream {
    line: Line,
    policy: Policy,
    transport: &'static str,
    tx: Turn<Tx>,
    /// The number of the last message that its sender gave up.
    given_up: AtomicU64,
    rx: Turn<Rx>,
    sent: Counters,
    received: Counters,
    ready: SetOnce<Ready>,
    room: SetOnce<Ready>,
    told: SetOnce<ReadAhead>,
    /// What ended it, where that was not a call of `close`.
    cause: SetOnce<Error>,
    closed_here: AtomicBool,
}

#[derive(Debug)]
struct Tx {
    sender: Sender,
    ended: Option<Error>,
    /// A message that has begun to go out, and goes on with whoever comes next.
    pending: Option<Pending>,
    /// The last number given to one, and the last that has gone out whole: they go in order.
    tickets: u64,
    finished: u64,
}

/// A message on its way. It belongs to the connection, so that no call has to stay for it.
#[derive(Debug)]
struct Pending {
    parcel: Arc<Parcel>,
    progress: Progress,
    ticket: u64,
}

#[derive(Debug)]
struct Rx {
    receiver: Receiver,
    ended: Option<Error>,
}

/// Whom to tell of messages that were read ahead.
struct ReadAhead(Box<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for ReadAhead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadAhead")
    }
}

impl Stream {
    /// A connection over a connected socket, after the hello; `peer` names the other end in errors. With keys
    /// everything is encrypted.
    pub fn new(fd: Fd, address: &Address, peer: String, policy: Policy, keys: Option<Keys>) -> Result<Stream> {
        let transport = match address {
            Address::Tcp(_) => "tcp",
            Address::Unix(_) => "unix",
        };
        let (sealer, opener) = keys.map(Keys::split).unzip();
        let sender = Sender { sealer, ..Sender::default() };
        socket::let_block(&fd, SHORT_NAP).map_err(|e| Error::io("", "setsockopt", &e))?;
        Ok(Stream {
            line: Line::new(fd, peer)?,
            policy,
            transport,
            tx: Turn::new(Tx { sender, ended: None, pending: None, tickets: 0, finished: 0 }),
            given_up: AtomicU64::new(0),
            rx: Turn::new(Rx { receiver: Receiver::new(policy.takes, policy.functions, opener), ended: None }),
            sent: Counters::default(),
            received: Counters::default(),
            ready: SetOnce::new(),
            room: SetOnce::new(),
            told: SetOnce::new(),
            cause: SetOnce::new(),
            closed_here: AtomicBool::new(false),
        })
    }

    /// Moves everything, waiting where the socket is full.
    fn push(&self, tx: &mut Tx, pieces: Pieces<'_>, progress: &mut Progress, fd: RawFd, wait: &Wait) -> Result<()> {
        loop {
            match push(tx.sender.sealer.as_mut(), fd, pieces, progress) {
                Ok(true) => return Ok(()),
                Ok(false) => self.wait_for_room(fd, wait)?,
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
                tx.finished = pending.ticket;
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
        let Some(mut pending) = tx.pending.take_if(|p| p.ticket == given_up || !self.line.is_open()) else { return };
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
            self.line.peer()
        );
        if tx.ended.is_none() {
            tx.ended = Some(err!(Closed, "{what}"));
            self.end(err!(Closed, "{what}"));
        }
        what
    }

    fn wait_for_room(&self, fd: RawFd, wait: &Wait) -> Result<()> {
        if poll_fd(fd, Interest::Write, wait)? {
            return Ok(());
        }
        Err(err!(Timeout, "{} did not take the whole message in the given time", self.line.peer()))
    }

    /// The socket takes nothing any more. What the peer sent before can still be received.
    fn send_failed(&self, tx: &mut Tx, cause: std::io::Error) -> Error {
        let error = if self.line.is_open() { self.gone(&cause.to_string()) } else { self.line.why() };
        tx.ended = Some(error.clone());
        error
    }

    /// Ends it for the reason given, and wakes those who sleep on the descriptor: a closed socket leaves the set
    /// without a sign.
    fn end_line(&self, reason: Error) {
        self.line.end(reason);
        for ready in [&self.ready, &self.room].into_iter().filter_map(SetOnce::get) {
            ready.set();
        }
    }

    /// Tells whoever asked that there is something to hear which the socket does not show.
    fn tell(&self) {
        if let Some(told) = self.told.get() {
            (told.0)();
        }
    }

    /// The descriptor of `slot`, made where there is none; for room to write, or for something to read.
    fn made<'a>(&self, slot: &'a SetOnce<Ready>, interest: Interest) -> Result<&'a Ready> {
        match slot.get() {
            Some(ready) => Ok(ready),
            None => Ready::new(&self.line, interest).map(|ready| slot.get_or_init(|| ready)),
        }
    }

    /// Brings the descriptor for readers up to date.
    fn follow(&self, ready: &Ready, rx: &Rx) {
        ready.follow(rx.ended.is_some() || rx.receiver.is_ready(), &self.line);
    }

    /// Who asks for the descriptor while another receives cannot bring it up to date, and that one may not have seen
    /// it: each looks again for what the other has done, behind a fence (a turn that is given back has one).
    #[inline]
    fn follow_if_made(&self) {
        if let Some(ready) = self.ready.get()
            && let Some(rx) = self.rx.try_take()
        {
            self.follow(ready, &rx);
        }
    }

    fn gone(&self, how: &str) -> Error {
        err!(Closed, "{} is gone: {how}", self.line.peer())
    }

    /// Turns a fault of the receiver into the error to raise, and remembers it if it is the end.
    fn fault(&self, rx: &mut Rx, fault: Fault) -> Error {
        let error = match fault {
            Fault::Message(e) | Fault::Memory(e) => return e,
            _ if !self.line.is_open() => self.line.why(),
            Fault::End(middle) => {
                let how =
                    if middle { "closed the connection in the middle of a message" } else { "closed the connection" };
                err!(Closed, "{} {how}", self.line.peer())
            }
            Fault::Stream(e) if e.code() == Code::Closed => self.gone(e.what()),
            Fault::Stream(e) => {
                let what = format!("{}; the connection to {} is closed", e.what(), self.line.peer());
                Error::new(e.code(), "", what)
            }
        };
        rx.ended = Some(error.clone());
        rx.receiver.finish();
        let _ = self.cause.set(error.clone());
        // Sends then know, too. For them it is closed, whatever was wrong with what came.
        self.end_line(err!(Closed, "{}", error.what()));
        error
    }

    /// One look at the socket.
    fn advance(&self, rx: &mut Rx, into: Option<Target<'_>>, fd: RawFd, empty: Empty) -> Result<Step> {
        match rx.receiver.drive(fd, into, empty) {
            Ok(step) => Ok(step),
            Err(fault) => Err(self.fault(rx, fault)),
        }
    }

    /// Why nothing can be received any more, if so; else the descriptor, kept open.
    fn enter_rx(&self, rx: &Rx) -> Result<super::line::Inside<'_>> {
        match &rx.ended {
            Some(e) if self.line.is_ours() => Err(e.clone()),
            _ => self.line.enter(),
        }
    }

    fn receive(&self, rx: &mut Rx, into: Option<Target<'_>>, out: &mut Message, wait: Option<&Wait>) -> Result<bool> {
        let inside = self.enter_rx(rx)?;
        let fd = inside.fd();
        let mut patience = None;
        let mut slept = false;
        loop {
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
            } else if slept || !patience.get_or_insert_with(Patience::new).look_again(wait) {
                if !sleep_on_fd(fd, Interest::Read, wait)? {
                    return Ok(false);
                }
                (patience, slept) = (None, false);
            }
        }
    }

    /// `waited`: nanoseconds that the caller took to get its turn.
    fn receive_counted(
        &self,
        mut rx: Held<'_, Rx>,
        into: Option<Target<'_>>,
        out: &mut Message,
        wait: Option<&Wait>,
        waited: u64,
    ) -> Result<bool> {
        let began = monotonic_ns();
        let got = self.receive(&mut rx, into, out, wait);
        let counts = std::mem::take(&mut rx.receiver.counts);
        let spent = monotonic_ns() - began;
        self.received.moved(&Moves {
            bytes: counts.bytes,
            regions: counts.regions,
            system_calls: counts.system_calls,
            system_ns: spent,
            total_ns: waited + spent,
        });
        let followed = self.ready.get().map(|ready| self.follow(ready, &rx)).is_some();
        let tell = !matches!(got, Ok(false)) && (rx.ended.is_some() || rx.receiver.is_ready());
        drop(rx);
        if !followed {
            self.follow_if_made();
        }
        if tell {
            self.tell();
        }
        got
    }
}

impl Connection for Stream {
    fn send(&self, message: &Message, wait: &Wait) -> Result<()> {
        let began = monotonic_ns();
        let inside = self.line.enter()?;
        self.policy.refuse(message, self.line.peer())?;
        let free = self.tx.try_take();
        let at_once = free.as_ref().is_some_and(|tx| tx.pending.is_none());
        let Some(mut tx) = (if free.is_some() { free } else { self.tx.take(wait)? }) else {
            return Err(err!(Timeout, "another thread went on sending to {} for the given time", self.line.peer()));
        };
        if let Some(e) = &tx.ended {
            return Err(e.clone());
        }
        // What another call has begun goes first.
        while !self.push_pending(&mut tx, inside.fd())? {
            let room = self.wait_for_room(inside.fd(), wait);
            self.settle(&mut tx);
            room?;
        }
        // Taken out, so that both the scratch memory and the rest can be used.
        let mut scratch = std::mem::take(&mut tx.sender.scratch);
        let layout = lay_out(message, &mut scratch);
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

    fn try_send(&self, parcel: &Arc<Parcel>, ticket: &mut Option<Ticket>) -> Result<Sending> {
        let inside = self.line.enter()?;
        if ticket.is_none() {
            self.policy.refuse(parcel.message(), self.line.peer())?;
        }
        let Some(mut tx) = self.tx.try_take() else {
            return if self.tx.is_mine() { Err(Turn::<Tx>::in_use()) } else { Ok(Sending::Busy) };
        };
        if let Some(e) = &tx.ended {
            return Err(e.clone());
        }
        loop {
            if ticket.is_some_and(|Ticket(number)| number <= tx.finished) {
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

    fn give_up(&self, ticket: Ticket) {
        self.given_up.store(ticket.0, Ordering::SeqCst);
        // Whoever is sending on it now does this when done; one who is just leaving has left in a moment.
        if let Ok(Some(mut tx)) = self.tx.take(&Wait::until(Deadline::after(0.1))) {
            self.settle(&mut tx);
        }
    }

    fn recv_before(&self, into: Option<Target<'_>>, out: &mut Message, wait: &Wait) -> Result<bool> {
        if !self.line.is_ours() {
            self.line.enter()?;
        }
        if let Some(rx) = self.rx.try_take() {
            return self.receive_counted(rx, into, out, Some(wait), 0);
        }
        let began = monotonic_ns();
        let Some(rx) = self.rx.take(wait)? else { return Ok(false) };
        self.receive_counted(rx, into, out, Some(wait), monotonic_ns() - began)
    }

    fn try_recv(&self, out: &mut Message) -> Result<bool> {
        if !self.line.is_ours() {
            self.line.enter()?;
        }
        let Some(rx) = self.rx.try_take() else {
            return if self.rx.is_mine() { Err(Turn::<Rx>::in_use()) } else { Ok(false) };
        };
        self.receive_counted(rx, None, out, None, 0)
    }

    fn close(&self) {
        self.closed_here.store(true, Ordering::SeqCst);
        self.end_line(err!(Closed, "the connection to {} is closed", self.line.peer()));
        self.tell();
    }

    fn end(&self, reason: Error) {
        if self.line.is_open() {
            let _ = self.cause.set(reason.clone());
        }
        self.end_line(Error::new(Code::Closed, "", reason.what().to_string()));
        self.tell();
    }

    fn ending(&self) -> Option<Error> {
        if self.line.is_open() || self.closed_here.load(Ordering::SeqCst) {
            return None;
        }
        Some(self.cause.get().cloned().unwrap_or_else(|| self.line.why()))
    }

    fn is_open(&self) -> bool {
        self.line.is_open()
    }

    fn on_read_ahead(&self, told: Box<dyn Fn() + Send + Sync>) {
        let _ = self.told.set(ReadAhead(told));
    }

    fn is_ready(&self) -> bool {
        // While another thread receives, that one will find it.
        !self.is_open() || self.rx.try_take().is_some_and(|rx| rx.ended.is_some() || rx.receiver.is_ready())
    }

    fn socket(&self) -> Result<RawFd> {
        Ok(self.line.enter()?.fd())
    }

    fn fd(&self) -> Result<RawFd> {
        let ready = self.made(&self.ready, Interest::Read)?;
        fence(Ordering::SeqCst);
        self.follow_if_made();
        ready.fd()
    }

    fn room_fd(&self) -> Result<RawFd> {
        let room = self.made(&self.room, Interest::Write)?;
        if !self.is_open() {
            room.set();
        }
        room.fd()
    }

    fn peer(&self) -> &str {
        self.line.peer()
    }

    fn functions(&self) -> bool {
        self.policy.functions
    }

    fn stats(&self) -> Stats {
        Stats { tx: self.sent.read(), rx: self.received.read(), transport: self.transport }
    }
}

/// For the fuzzer: receives arbitrary bytes as frames, until they end.
#[cfg(feature = "fuzzing")]
pub fn fuzz_frames(bytes: &[u8]) {
    // What a socket takes at once; more would block.
    let bytes = &bytes[..bytes.len().min(16 << 10)];
    let Ok((from, to)) = socket::pair() else { return };
    let takes = super::Limits { message: 1 << 16, tensor_bytes: 1 << 20, tensors: 100 };
    let policy = Policy { takes, ..Policy::default() };
    let Ok(stream) = Stream::new(to, &Address::Unix(Default::default()), "fuzz".into(), policy, None) else { return };
    // SAFETY: a slice.
    let _ = unsafe { socket::send(std::os::fd::AsRawFd::as_raw_fd(&from), &[socket::Region::of(bytes)], false) };
    drop(from);
    let mut out = Message::default();
    loop {
        match stream.recv(None, &mut out, &Wait::until(crate::wait::Deadline::NEVER)) {
            Ok(()) => {}
            Err(e) if e.code() == Code::Unsupported => {}
            Err(_) => return,
        }
    }
}
