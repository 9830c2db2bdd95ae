//! Connecting: goes on trying until somebody answers, says hello, and comes back with a connection over the link that
//! the two chose. Imports its siblings `hello`, `log` and `options`.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::hello::{Agreed, Calling, Ends, Incoming, No, Packet};
use super::log;
use super::options::{Options, ServerAddress};
use crate::err;
use crate::error::{Error, Result};
use crate::sys::socket::{self, Address, Empty, Moved, Region};
use crate::sys::{Fd, fork_generation};
use crate::transport::Connection;
use crate::wait::{Deadline, Interest, Offloaded, Wait, poll_fd, sleep};

/// Pauses between attempts, in seconds: the first, and the longest.
const PAUSES: (f64, f64) = (0.001, 0.25);
/// Where a name has several addresses, none of them may use up the time of the others.
const EACH: f64 = 5.0;

/// How long one attempt waits for a place in the queue of a Unix socket: in the system, where signals are not seen.
const IN_LINE: Duration = Duration::from_millis(10);

/// Connects to `place`, where a server may yet have to start.
pub fn dial(place: &ServerAddress, options: &Options, wait: &Wait) -> Result<Arc<dyn Connection>> {
    options.check_place(place)?;
    let dialing = || -> Result<RefCell<Dialing>> {
        let until = wait.deadline.min(Deadline::after(options.connect_timeout));
        Ok(RefCell::new(Dialing::new(place.clone(), options.clone(), until)))
    };
    // A call that is tried goes on where its last try ended.
    let dialing = match wait.interrupt.non_blocking() {
        Some(non_blocking) => non_blocking.state(dialing)?,
        None => Rc::new(dialing()?),
    };
    let mut dialing = dialing.try_borrow_mut().map_err(|_| err!(State, "a connection is being made by this call"))?;
    if dialing.generation != fork_generation() {
        return Err(err!(State, "this call was begun before the fork, and goes on in the parent process only"));
    }
    dialing.go_on(wait)
}

/// A connection that is being made, as far as it has come.
struct Dialing {
    place: ServerAddress,
    options: Options,
    began: Instant,
    until: Deadline,
    generation: u32,
    stage: Stage,
    addresses: Vec<Address>,
    /// Which address is tried next.
    next: usize,
    /// Seconds to pause after all were tried.
    pause: f64,
    last: Option<io::Error>,
}

/// What it waits for.
enum Stage {
    Start,
    /// The addresses of a name.
    Lookup(Lookup),
    /// A socket that is to be connected by then.
    Connecting(Fd, Deadline),
    /// The answer to our hello.
    Hello(Box<Handshake>),
    /// The time to try all addresses again.
    Pausing(Deadline),
    /// To try the next address.
    Next,
}

impl Dialing {
    fn new(place: ServerAddress, options: Options, until: Deadline) -> Dialing {
        Dialing {
            place,
            options,
            began: Instant::now(),
            until,
            generation: fork_generation(),
            stage: Stage::Start,
            addresses: Vec::new(),
            next: 0,
            pause: PAUSES.0,
            last: None,
        }
    }

    /// Goes on until there is a connection or time is over. An error that ends a try leaves the stage as it is.
    fn go_on(&mut self, wait: &Wait) -> Result<Arc<dyn Connection>> {
        let wait = wait.sooner(self.until);
        loop {
            match &mut self.stage {
                Stage::Start => match &self.place {
                    ServerAddress::Unix(path) => {
                        self.addresses = vec![Address::Unix(path.clone())];
                        self.stage = Stage::Next;
                    }
                    ServerAddress::Host(host, port) => self.stage = Stage::Lookup(Lookup::begin(host, *port)?),
                },
                Stage::Lookup(lookup) => {
                    self.addresses = lookup.wait(&wait)?.into_iter().map(Address::Tcp).collect();
                    self.stage = Stage::Next;
                }
                Stage::Next => match self.addresses.get(self.next) {
                    Some(address) => {
                        let many = self.addresses.len() > 1;
                        let until = if many { wait.deadline.min(Deadline::after(EACH)) } else { wait.deadline };
                        // A connect that blocks gets the next free place in the queue; one that does not block would
                        // always come too late.
                        let connecting = if self.is_queue_full() && wait.interrupt.non_blocking().is_none() {
                            socket::connect_in_line(address, IN_LINE)
                        } else {
                            socket::connect(address)
                        };
                        match connecting {
                            Ok(fd) => self.stage = Stage::Connecting(fd, until),
                            Err(e) => {
                                let e = again(&self.place, e)?;
                                self.failed(e);
                            }
                        }
                    }
                    None if wait.deadline.remaining().is_some_and(|left| left.is_zero()) => return Err(self.too_late()),
                    None => {
                        self.next = 0;
                        let pause = if self.is_queue_full() { PAUSES.0 } else { self.pause };
                        self.stage = Stage::Pausing(Deadline::after(pause).min(wait.deadline));
                        self.pause = (self.pause * 1.6).min(PAUSES.1);
                    }
                },
                Stage::Connecting(fd, until) => {
                    let ready = poll_fd(fd.as_raw_fd(), Interest::Write, &wait.sooner(*until))?;
                    let until = *until;
                    let Stage::Connecting(fd, _) = std::mem::replace(&mut self.stage, Stage::Next) else { continue };
                    if !ready {
                        self.failed(ErrorKind::TimedOut.into());
                        continue;
                    }
                    match Handshake::begin(fd, &self.addresses[self.next], &self.place, &self.options, until)? {
                        Ok(handshake) => self.stage = Stage::Hello(Box::new(handshake)),
                        Err(e) => self.failed(e),
                    }
                }
                Stage::Hello(handshake) => {
                    let ended = handshake.go_on(&self.place, &wait)?;
                    let Stage::Hello(handshake) = std::mem::replace(&mut self.stage, Stage::Next) else { continue };
                    match ended {
                        Ok(agreed) => return handshake.connection(&self.place, agreed),
                        Err(e) => self.failed(e),
                    }
                }
                Stage::Pausing(until) => {
                    if !until.expired() {
                        sleep(&wait.sooner(*until))?;
                    }
                    self.stage = Stage::Next;
                }
            }
        }
    }

    /// An attempt with the next address gave no connection.
    fn failed(&mut self, e: io::Error) {
        self.next += 1;
        self.stage = Stage::Next;
        // An attempt that only ran out of time says less than what an earlier one was told.
        if self.last.is_some() && e.kind() == ErrorKind::TimedOut && self.until.expired() {
            return;
        }
        // Once, not for every attempt that meets the same.
        if self.last.as_ref().is_none_or(|last| last.kind() != e.kind()) {
            log::debug(format_args!("client to {}: an attempt failed: {e}", self.place));
        }
        self.last = Some(e);
    }

    /// Whether the last attempt met a Unix socket whose server is there, and has a full queue.
    fn is_queue_full(&self) -> bool {
        self.last.as_ref().is_some_and(|e| e.kind() == ErrorKind::WouldBlock)
    }

    fn too_late(&mut self) -> Error {
        let after = self.began.elapsed().as_secs_f64();
        let why = self.last.take().map_or(String::new(), |e| match e.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::NotFound => format!("nobody listens there: {e}; "),
            _ => format!("{e}; "),
        });
        err!(Timeout, "no connection to {} in {after:.3} s ({why}connect_timeout =)", self.place)
    }
}

/// The hello over a socket, as far as it has come.
struct Handshake {
    fd: Fd,
    address: Address,
    until: Deadline,
    /// Until the server has answered.
    calling: Option<Calling>,
    /// Since then.
    agreed: Option<Agreed>,
    /// What is to be sent, from `sent` on.
    out: Vec<u8>,
    sent: usize,
    incoming: Incoming,
}

impl Handshake {
    /// What follows when a socket has been connected, or has failed to be.
    fn begin(
        fd: Fd,
        address: &Address,
        place: &ServerAddress,
        options: &Options,
        until: Deadline,
    ) -> Result<std::result::Result<Handshake, io::Error>> {
        // A connect to a port of our own range may meet itself there, when nobody listens.
        let own = socket::local_address(&fd);
        let met = socket::take_error(&fd).and_then(|()| match (address, &own) {
            (Address::Tcp(a), Ok(Address::Tcp(b))) if a == b => Err(ErrorKind::ConnectionRefused.into()),
            _ => socket::peer_address(&fd),
        });
        let peer = match met {
            Ok(peer) => peer,
            // The other end has gone already.
            Err(e) if e.kind() == ErrorKind::NotConnected => {
                return again(place, ErrorKind::ConnectionReset.into()).map(Err);
            }
            Err(e) => return again(place, e).map(Err),
        };
        let Ok(ends) = own.and_then(|own| Ends::of(&fd, own, peer)) else {
            return again(place, ErrorKind::ConnectionReset.into()).map(Err);
        };
        let (calling, out) = Calling::begin(options, &ends).map_err(|e| at(place, e))?;
        Ok(Ok(Handshake {
            fd,
            address: address.clone(),
            until,
            calling: Some(calling),
            agreed: None,
            out,
            sent: 0,
            incoming: Incoming::new(),
        }))
    }

    /// Goes on until both ends agree, or nothing comes of it. An error that ends a try leaves it as it is.
    fn go_on(&mut self, place: &ServerAddress, wait: &Wait) -> Result<std::result::Result<Agreed, io::Error>> {
        match self.hello(&wait.sooner(self.until)) {
            Ok(agreed) => Ok(Ok(agreed)),
            Err(Trouble::Line(e)) => again(place, e).map(Err),
            Err(Trouble::Refused(no)) => {
                // So that the server can say why nobody came. It need not get there.
                (self.out, self.sent) = (no.tell, 0);
                let _ = self.push();
                Err(at(place, no.why))
            }
            Err(Trouble::Ended(e)) => Err(e),
        }
    }

    fn hello(&mut self, wait: &Wait) -> std::result::Result<Agreed, Trouble> {
        loop {
            while !self.push().map_err(Trouble::Line)? {
                self.ready(Interest::Write, wait)?;
            }
            if let Some(agreed) = self.agreed.take() {
                return Ok(agreed);
            }
            let answer = self.answer(wait)?;
            let Some(calling) = self.calling.take() else {
                return Err(Trouble::Ended(err!(State, "this handshake is over")));
            };
            let (agreed, last) = calling.answered(&answer).map_err(Trouble::Refused)?;
            (self.agreed, self.out, self.sent) = (Some(agreed), last, 0);
        }
    }

    fn answer(&mut self, wait: &Wait) -> std::result::Result<Packet, Trouble> {
        loop {
            let space = self.incoming.space();
            let region = Region::new(space.as_mut_ptr(), space.len());
            // SAFETY: the rest of a buffer that is borrowed mutably.
            match unsafe { socket::receive(self.fd.as_raw_fd(), &[region], Empty::Return) }.map_err(Trouble::Line)? {
                Moved::Bytes(n) => {
                    if let Some(packet) = self.incoming.came(n).map_err(Trouble::Refused)? {
                        return Ok(packet);
                    }
                }
                Moved::Blocked => self.ready(Interest::Read, wait)?,
                Moved::End if self.incoming.is_short() => {
                    let what = "it took the connection and closed it without a word, as a libipc of version 1 of the \
                                protocol does";
                    return Err(Trouble::Line(io::Error::new(ErrorKind::UnexpectedEof, what)));
                }
                Moved::End => return Err(Trouble::Line(ErrorKind::UnexpectedEof.into())),
            }
        }
    }

    /// Sends what there is room for; whether that was all.
    fn push(&mut self) -> io::Result<bool> {
        while self.sent < self.out.len() {
            // SAFETY: a slice.
            match unsafe { socket::send(self.fd.as_raw_fd(), &[Region::of(&self.out[self.sent..])], false) }? {
                Moved::Bytes(n) => self.sent += n,
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    fn ready(&self, interest: Interest, wait: &Wait) -> std::result::Result<(), Trouble> {
        if poll_fd(self.fd.as_raw_fd(), interest, wait).map_err(Trouble::Ended)? {
            return Ok(());
        }
        let what = if self.incoming.is_begun() {
            "it took the connection, and its answer did not come to an end"
        } else {
            "it took the connection and did not answer"
        };
        Err(Trouble::Line(io::Error::new(ErrorKind::TimedOut, what)))
    }

    /// The connection that was agreed on.
    fn connection(self, place: &ServerAddress, agreed: Agreed) -> Result<Arc<dyn Connection>> {
        log::linked(format_args!("client to {place}"), &self.address, &agreed);
        agreed.chosen.connection(self.fd, &self.address, place.to_string(), agreed.policy, agreed.keys)
    }
}

/// Why a hello did not come to its end.
enum Trouble {
    /// The line broke or time ran out: another attempt may fare better.
    Line(io::Error),
    /// The other end, or this one, said no.
    Refused(No),
    /// The wait was ended, or this is a try that does not wait.
    Ended(Error),
}

/// An error, with the server that it is about.
fn at(place: &ServerAddress, e: Error) -> Error {
    Error::new(e.code(), "", format!("{place}: {}", e.what()))
}

/// `e` itself, if a server that starts later could answer where there was that now.
fn again(place: &ServerAddress, e: io::Error) -> Result<io::Error> {
    use ErrorKind::*;
    match e.kind() {
        ConnectionRefused | NotFound | ConnectionReset | ConnectionAborted | BrokenPipe | TimedOut
        | HostUnreachable | NetworkUnreachable | NetworkDown | UnexpectedEof | WouldBlock | AddrNotAvailable => Ok(e),
        _ => Err(err!(Io, "connecting to {place}: {e}").caused_by(&e)),
    }
}

/// The addresses of a host.
pub(super) fn resolve(host: &str, port: u16, wait: &Wait) -> Result<Vec<SocketAddr>> {
    Lookup::begin(host, port)?.wait(wait)
}

/// The look-up of a host's addresses. That of a name runs on a helper thread, since the system's resolver cannot be
/// interrupted.
struct Lookup {
    host: String,
    call: std::result::Result<SocketAddr, Offloaded<Vec<SocketAddr>>>,
}

impl Lookup {
    fn begin(host: &str, port: u16) -> Result<Lookup> {
        let call = match socket::literal(host) {
            Some(ip) => Ok(SocketAddr::new(ip, port)),
            None => {
                let name = host.to_owned();
                Err(Offloaded::begin(Deadline::NEVER, move |_| match socket::resolve(&name, port) {
                    Ok(list) if !list.is_empty() => Ok(list),
                    Ok(_) => Err(err!(Io, "the host '{name}' has no address")),
                    Err(e) => Err(err!(Io, "the host '{name}' does not resolve: {e}")),
                })?)
            }
        };
        Ok(Lookup { host: host.into(), call })
    }

    fn wait(&self, wait: &Wait) -> Result<Vec<SocketAddr>> {
        match &self.call {
            Ok(literal) => Ok(vec![*literal]),
            Err(call) => call
                .wait(wait)?
                .unwrap_or_else(|| Err(err!(Timeout, "the name '{}' was not resolved in the given time", self.host))),
        }
    }
}
