//! How messages get across to another peer: the contract of a [`Connection`], and its kinds.
//!
//! | file | kind |
//! |---|---|
//! | `in_process` | memory, between two threads of one process |
//! | `stream` | a TCP or Unix socket (doc/stream.md), with or without encryption (`secure`) |
//! | `linger` | a TCP socket that is closed and still sends |
//! | `ended` | what is left of one that has ended |
//!
//! A link in shared memory takes its place beside them.

use std::fmt;
use std::os::fd::RawFd;
use std::sync::{Arc, Weak};

use crate::err;
use crate::error::{Error, Result};
use crate::sys::WatchSet;
use crate::tensor::{Storage, Tensor};
use crate::wait::Wait;
use crate::wire::Message;

mod counters;
mod describe;
mod descriptor;
mod ended;
mod frame;
mod in_process;
mod linger;
mod place;
mod policy;
mod put_back;
mod read_buffer;
mod ready;
mod receive;
mod secure;
mod send;
mod serialize;
mod sleeper;
mod socket_handle;
mod stream;
#[cfg(test)]
mod tests;
mod told;

pub use ended::Ended;
pub use in_process::{InProcess, InProcessEnd};
pub use policy::{Limits, Policy};
pub use secure::{Handshake, Keys, Role, Secret};
pub use send::Parcel;
pub use serialize::{deserialize, serialize};
pub use socket_handle::InUse;
pub use stream::Stream;
#[cfg(feature = "fuzzing")]
pub use stream::fuzz_frames;

/// A message of up to so many bytes, for which there is no memory, is no fault of its sender: there is none for
/// anybody's.
pub const SMALL_MESSAGE: usize = 64 << 10;

/// A link to one peer: whole messages, in order, both ways. Any number of threads may use it at a time.
pub trait Connection: Send + Sync + fmt::Debug {
    /// Sends a message. An error before the first byte has moved changes nothing; one after it closes the connection.
    /// `[timeout]` when the deadline passes. While it waits for room it receives, up to one whole message, which is
    /// kept for the next receive. The bytes of a message that was sent may be gone; its attachments stay.
    fn send(&self, message: &mut Message, wait: &Wait) -> Result<()>;

    /// Moves on with sending `parcel` as far as is possible without waiting; the first call begins it and sets
    /// `ticket`, which the calls after it take. It belongs to the connection then: every call that sends moves it on
    /// first. A caller that does not stay until it has gone has to [`give_up`](Self::give_up).
    fn try_send(&self, parcel: &Arc<Parcel>, ticket: &mut Option<Ticket>) -> Result<Sending>;

    /// As [`try_send`](Self::try_send), until all has gone. Where the wait ends first with an error, the message is
    /// given up; a call that would wait and may not (see [`Wait`]) is made again with the same `ticket`.
    fn send_parcel(&self, parcel: &Arc<Parcel>, ticket: &mut Option<Ticket>, wait: &Wait) -> Result<()>;

    /// Gives a message up that has begun with `ticket`: it is taken back, or, when a byte of it has moved, closes the
    /// connection.
    fn give_up(&self, ticket: Ticket);

    /// Receives the next message into `out`; false when the deadline passes first, and then the part of it that has
    /// come is kept for the next receive. With `into` the message has to be one tensor or storage that fits, and its
    /// data goes there.
    fn recv_before(&self, into: Option<Target<'_>>, out: &mut Message, wait: &Wait) -> Result<bool>;

    /// As [`recv_before`](Self::recv_before) without waiting for anything: neither for the rest of a message nor for
    /// another thread's receive.
    fn try_recv(&self, out: &mut Message) -> Result<bool>;

    /// As [`recv_before`](Self::recv_before), with `[timeout]` when the deadline passes.
    fn recv(&self, into: Option<Target<'_>>, out: &mut Message, wait: &Wait) -> Result<()> {
        if self.recv_before(into, out, wait)? {
            return Ok(());
        }
        Err(err!(Timeout, "no whole message came from {} in the given time", self.peer()))
    }

    /// Takes back a message that was received without `into`, and that there is no memory for now: the next receive
    /// gets it.
    fn put_back(&self, message: Message);

    /// Ends the connection: calls blocked on it, and all later ones, raise `[closed]`. Twice is fine.
    fn close(&self);

    /// As [`close`](Self::close), for what the peer sent or failed to take: [`ending`](Self::ending) says so.
    fn end(&self, reason: Error);

    /// Why it has ended: the peer is gone, or what it sent was refused. `None` while it is open, and when it was closed
    /// here.
    fn ending(&self) -> Option<Error>;

    /// Whether neither end has closed it, as far as is known here.
    fn is_open(&self) -> bool;

    /// Calls `told` whenever there is something to receive of which no socket tells, and when the connection has ended:
    /// after every receive that leaves a whole message in the read buffer; over memory for every message, and at once
    /// if there is one. Only the first one given is.
    fn on_arrival(&self, told: Box<dyn Fn() + Send + Sync>);

    /// Whether a receive would not wait, as far as can be told without asking the socket: a whole message lies in the
    /// read-ahead, or there will never be another.
    fn is_ready(&self) -> bool;

    /// How many bytes of memory the tensor that is awaited has taken, or would take, that its sender has announced and
    /// not filled.
    fn unfilled(&self) -> usize;

    /// Whether the peer of an open connection has gone and left nothing to receive, by a look.
    fn has_gone(&self) -> bool;

    /// How many bytes of messages wait in this process's memory to be received, here or by the peer.
    fn unread(&self) -> usize;

    /// The socket itself, where there is one, for a set that watches many ([`on_arrival`](Self::on_arrival) tells what
    /// it does not show). It stays open until the result is dropped, no matter who closes the connection.
    fn socket(&self) -> Result<Option<InUse<'_>>>;

    /// Has the socket, if there is one, leave `set`, which watches it, when the connection has ended and the last call
    /// has left: it may stay open behind the connection. Only the first set given is left so.
    fn watched_by(&self, set: Weak<WatchSet>) {
        drop(set);
    }

    /// A descriptor that polls readable while a receive would find something: made on the first request.
    fn fd(&self) -> Result<RawFd>;

    /// A descriptor that polls readable while a send would find room, or the end: made on the first request.
    fn room_fd(&self) -> Result<RawFd>;

    /// The address of the peer.
    fn peer(&self) -> &str;

    /// Whether functions may be sent and received: both ends asked for it.
    fn functions(&self) -> bool;

    /// What has gone over it.
    fn stats(&self) -> Stats;
}

/// How far [`Connection::try_send`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// All has gone.
    Sent,
    /// The socket takes no more now: poll it for room.
    Blocked,
    /// Another thread is sending now.
    Busy,
}

/// The number of a message that [`Connection::try_send`] has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

impl Ticket {
    /// Of one that went whole at once.
    const WHOLE: Ticket = Ticket(0);
}

/// Where the data of a received tensor or storage is to go.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// A tensor of any strides.
    Tensor(&'a Tensor),
    /// A storage.
    Storage(&'a Storage),
}

/// What one direction has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Bytes, headers included.
    pub bytes: u64,
    /// Stretches of memory that were sent or received.
    pub regions: u64,
    /// Messages.
    pub calls: u64,
    /// Calls to the operating system that move bytes.
    pub system_calls: u64,
    /// Time inside sends or receives.
    pub total_seconds: f64,
    /// That part of it that passed in the operating system, waiting included.
    pub system_seconds: f64,
}

impl Traffic {
    /// Adds what another connection has carried.
    pub fn add(&mut self, other: &Traffic) {
        self.bytes += other.bytes;
        self.regions += other.regions;
        self.calls += other.calls;
        self.system_calls += other.system_calls;
        self.total_seconds += other.total_seconds;
        self.system_seconds += other.system_seconds;
    }
}

/// What a connection has carried, and over what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stats {
    /// Sent.
    pub tx: Traffic,
    /// Received.
    pub rx: Traffic,
    /// The kind of link: `memory`, `tcp`, `unix`.
    pub transport: &'static str,
}
