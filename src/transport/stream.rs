//! A connection over a stream socket, as doc/stream.md describes it. Imports its siblings `counters`, `policy`,
//! `put_back`, `ready`, `receive`, `secure`, `send`, `sleeper`, `socket_handle` and `told`.

mod receiving;
mod sending;

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Weak};

use self::receiving::Rx;
use self::sending::Tx;
use super::counters::Counters;
use super::policy::Policy;
use super::put_back::PutBack;
use super::ready::Ready;
use super::receive::Receiver;
use super::secure::Keys;
use super::send::{Parcel, Sender};
use super::sleeper::Sleeper;
use super::socket_handle::{InUse, SocketHandle};
use super::told::Told;
use super::{Connection, Sending, Stats, Target, Ticket};
use crate::err;
use crate::error::{Code, Error, Result};
use crate::sys::socket::{self, Address};
use crate::sys::{Fd, SetOnce, WatchSet, monotonic_ns};
use crate::wait::{Interest, SHORT_NAP, TimedMutex, Wait};
use crate::wire::Message;

/// A TCP or Unix socket as a connection.
#[derive(Debug)]
pub struct Stream {
    socket: SocketHandle,
    policy: Policy,
    transport: &'static str,
    tx: TimedMutex<Tx>,
    /// The number of the last message that its sender gave up.
    given_up: AtomicU64,
    /// The number of the last message that has gone out whole: they go in order.
    finished: AtomicU64,
    rx: TimedMutex<Rx>,
    put_back: PutBack,
    sent: Counters,
    received: Counters,
    ready: SetOnce<Ready>,
    room: SetOnce<Ready>,
    /// For a send that is tried again when there is room or something to receive.
    both: SetOnce<Ready>,
    told: Told,
    /// For a receive that sleeps on a socket that a close may not shut down.
    sleeper: Sleeper,
    /// What ended it, where that was not a call of `close`.
    cause: SetOnce<Error>,
    closed_here: AtomicBool,
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
            socket: SocketHandle::new(fd, peer, transport == "tcp")?,
            policy,
            transport,
            tx: TimedMutex::new(Tx::new(sender)),
            given_up: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            rx: TimedMutex::new(Rx::new(Receiver::new(policy.takes, policy.functions, opener))),
            put_back: PutBack::default(),
            sent: Counters::default(),
            received: Counters::default(),
            ready: SetOnce::new(),
            room: SetOnce::new(),
            both: SetOnce::new(),
            told: Told::default(),
            sleeper: Sleeper::default(),
            cause: SetOnce::new(),
            closed_here: AtomicBool::new(false),
        })
    }

    /// Ends it for the reason given. What was sent still arrives.
    fn end_socket(&self, reason: Error) {
        self.socket.end(reason);
        self.wake_all();
    }

    /// As [`end_socket`](Self::end_socket), for a peer that takes nothing any more, or has broken the rules.
    fn cut_socket(&self, reason: Error) {
        self.socket.cut(reason);
        self.wake_all();
    }

    /// Wakes those who sleep on the descriptor: a closed socket leaves the set without a sign, and one that lingers
    /// stays in it.
    fn wake_all(&self) {
        self.sleeper.wake();
        for ready in [&self.ready, &self.room, &self.both].into_iter().filter_map(SetOnce::get) {
            ready.set();
        }
    }

    /// The descriptor of `slot`, made where there is none; for room to write, or for something to read.
    fn made<'a>(&self, slot: &'a SetOnce<Ready>, interest: Interest) -> Result<&'a Ready> {
        match slot.get() {
            Some(ready) => Ok(ready),
            None => Ready::new(&self.socket, interest).map(|ready| slot.get_or_init(|| ready)),
        }
    }

    /// A descriptor that polls readable while there is room to write, and with `Both` something to read, or the end.
    fn room_or(&self, interest: Interest) -> Result<RawFd> {
        let slot = if interest == Interest::Both { &self.both } else { &self.room };
        let ready = self.made(slot, interest)?;
        // Closed before it was there to be set.
        if !self.is_open() {
            ready.set();
        }
        ready.fd()
    }

    /// Brings the descriptor for readers up to date.
    fn follow(&self, ready: &Ready, rx: &Rx) {
        ready.follow(rx.is_ready() || self.put_back.any(), &self.socket);
    }

    /// Who asks for the descriptor while another receives cannot bring it up to date, and that one may not have seen
    /// it: each looks again for what the other has done, behind a fence (a turn that is given back has one).
    #[inline]
    fn follow_if_made(&self) {
        if let Some(ready) = self.ready.get()
            && let Some(rx) = self.rx.try_lock()
        {
            self.follow(ready, &rx);
        }
    }

    /// Receives a message that was put back, if there is one and nobody has closed the connection here.
    #[inline]
    fn take_back(&self, into: Option<Target<'_>>, out: &mut Message) -> Result<bool> {
        if !self.put_back.any() || self.closed_here.load(Ordering::SeqCst) {
            return Ok(false);
        }
        let taken = self.put_back.receive(into, out);
        self.follow_if_made();
        // Of what lies behind it in the read-ahead, too.
        if self.is_ready() {
            self.told.tell();
        }
        taken
    }

    fn gone(&self, how: &str) -> Error {
        err!(Closed, "{} is gone: {how}", self.socket.peer())
    }
}

impl Connection for Stream {
    fn send(&self, message: &mut Message, wait: &Wait) -> Result<()> {
        self.send_whole(message, wait)
    }

    fn try_send(&self, parcel: &Arc<Parcel>, ticket: &mut Option<Ticket>) -> Result<Sending> {
        self.send_some(parcel, ticket)
    }

    fn send_parcel(&self, parcel: &Arc<Parcel>, ticket: &mut Option<Ticket>, wait: &Wait) -> Result<()> {
        self.send_or_wait(parcel, ticket, wait)
    }

    fn give_up(&self, ticket: Ticket) {
        self.give_up_sending(ticket)
    }

    fn recv_before(&self, into: Option<Target<'_>>, out: &mut Message, wait: &Wait) -> Result<bool> {
        if !self.socket.is_ours() {
            self.socket.enter()?;
        }
        if self.take_back(into, out)? {
            return Ok(true);
        }
        if let Some(rx) = self.rx.try_lock() {
            return self.receive_counted(rx, into, out, Some(wait), 0);
        }
        let began = monotonic_ns();
        let Some(rx) = self.rx.lock(wait)? else { return Ok(false) };
        self.receive_counted(rx, into, out, Some(wait), monotonic_ns() - began)
    }

    fn try_recv(&self, out: &mut Message) -> Result<bool> {
        if !self.socket.is_ours() {
            self.socket.enter()?;
        }
        if self.take_back(None, out)? {
            return Ok(true);
        }
        let Some(rx) = self.rx.try_lock() else {
            return if self.rx.is_mine() { Err(TimedMutex::<Rx>::in_use()) } else { Ok(false) };
        };
        self.receive_counted(rx, None, out, None, 0)
    }

    fn put_back(&self, message: Message) {
        self.put_back.put(message);
        if let Some(ready) = self.ready.get() {
            ready.set();
        }
        self.told.tell();
    }

    fn close(&self) {
        self.closed_here.store(true, Ordering::SeqCst);
        self.end_socket(err!(Closed, "the connection to {} is closed", self.socket.peer()));
        self.told.tell();
    }

    fn end(&self, reason: Error) {
        if self.socket.is_open() {
            let _ = self.cause.set(reason.clone());
        }
        self.end_socket(Error::new(Code::Closed, "", reason.what().to_string()));
        self.told.tell();
    }

    fn ending(&self) -> Option<Error> {
        if self.socket.is_open() || self.closed_here.load(Ordering::SeqCst) {
            return None;
        }
        Some(self.cause.get().cloned().unwrap_or_else(|| self.socket.why()))
    }

    fn is_open(&self) -> bool {
        self.socket.is_open()
    }

    fn on_arrival(&self, told: Box<dyn Fn() + Send + Sync>) {
        self.told.set(told);
    }

    fn is_ready(&self) -> bool {
        // While another thread receives, that one will find it.
        !self.is_open() || self.put_back.any() || self.rx.try_lock().is_some_and(|rx| rx.is_ready())
    }

    fn unfilled(&self) -> usize {
        self.rx.try_lock().map_or(0, |rx| rx.unfilled())
    }

    fn has_gone(&self) -> bool {
        !self.is_ready() && self.socket.enter().map_or(true, |own| socket::is_at_end(own.fd()))
    }

    fn unread(&self) -> usize {
        // What was read ahead is little.
        0
    }

    fn socket(&self) -> Result<Option<InUse<'_>>> {
        self.socket.enter().map(Some)
    }

    fn watched_by(&self, set: Weak<WatchSet>) {
        self.socket.watched_by(set)
    }

    fn fd(&self) -> Result<RawFd> {
        let ready = self.made(&self.ready, Interest::Read)?;
        fence(Ordering::SeqCst);
        self.follow_if_made();
        ready.fd()
    }

    fn room_fd(&self) -> Result<RawFd> {
        self.room_or(Interest::Write)
    }

    fn peer(&self) -> &str {
        self.socket.peer()
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
