//! Connecting: goes on trying until somebody answers, says hello, and comes back with a connection over the best link.
//! Imports its siblings `hello`, `log` and `options`.
//!
//! For now the link is the socket that the two ends met on. A link in memory, within a process or a host, is tried here
//! after the hello, before the socket is settled for.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::hello::{Agreed, Calling, Ends, Incoming, No, Packet};
use super::log;
use super::options::{Options, ServerAddress};
use crate::err;
use crate::error::{Error, Result};
use crate::sys::socket::{self, Address, Empty, Moved, Region};
use crate::sys::{Fd, fork_generation};
use crate::transport::{Connection, Stream};
use crate::wait::{Deadline, Interest, Offloaded, Wait, poll_fd, sleep};

/// Pauses between attempts, in seconds: the first, and the longest.
const PAUSES: (f64, f64) = (0.001, 0.25);
/// Where a name has several addresses, none of them may use up the time of the others.
const EACH: f64 = 5.0;

/// Connects to `place`, where a server may yet have to start.
pub fn dial(place: &ServerAddress, options: &Options, wait: &Wait) -> Result<Arc<dyn Connection>> {
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
    /// The answer to our hello, which a helper thread waits for.
    Hello(Offloaded<Tried>),
    /// The time to try all addresses again.
    Pausing(Deadline),
    /// To try the next address.
    Next,
}

/// What came of an attempt. The error is one that another attempt may not have.
type Tried = std::result::Result<Arc<dyn Connection>, io::Error>;

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
            match &self.stage {
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
                        match socket::connect(address) {
                            Ok(fd) => self.stage = Stage::Connecting(fd, until),
                            Err(e) => {
                                let tried = again(&self.place, e)?;
                                self.tried(tried);
                            }
                        }
                    }
                    None if wait.deadline.remaining().is_some_and(|left| left.is_zero()) => return Err(self.too_late()),
                    None => {
                        self.next = 0;
                        self.stage = Stage::Pausing(Deadline::after(self.pause).min(wait.deadline));
                        self.pause = (self.pause * 1.6).min(PAUSES.1);
                    }
                },
                Stage::Connecting(fd, until) => {
                    let ready = poll_fd(fd.as_raw_fd(), Interest::Write, &wait.sooner(*until))?;
                    let until = *until;
                    let Stage::Connecting(fd, _) = std::mem::replace(&mut self.stage, Stage::Next) else { continue };
                    let address = self.addresses[self.next].clone();
                    let (place, options) = (self.place.clone(), self.options.clone());
                    let shake_hands = move |wait: &Wait| met(fd, &address, &place, &options, wait);
                    let tried = if !ready {
                        Err(ErrorKind::TimedOut.into())
                    } else if wait.interrupt.non_blocking().is_some() {
                        self.stage = Stage::Hello(Offloaded::begin(until, shake_hands)?);
                        continue;
                    } else {
                        shake_hands(&wait.sooner(until))?
                    };
                    if let Ok(connection) = tried {
                        return Ok(connection);
                    }
                    self.tried(tried);
                }
                Stage::Hello(call) => {
                    // The call knows itself when its time is over.
                    let ended = call.wait(&Wait { deadline: Deadline::NEVER, ..wait })?;
                    self.stage = Stage::Next;
                    let tried = ended.unwrap_or_else(|| Ok(Err(ErrorKind::TimedOut.into())))?;
                    if let Ok(connection) = tried {
                        return Ok(connection);
                    }
                    self.tried(tried);
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
    fn tried(&mut self, tried: Tried) {
        self.next += 1;
        self.stage = Stage::Next;
        match tried {
            // An attempt that only ran out of time says less than what an earlier one was told.
            Err(e) if self.last.is_some() && e.kind() == ErrorKind::TimedOut && self.until.expired() => {}
            Err(e) => {
                // Once, not for every attempt that meets the same.
                if self.last.as_ref().is_none_or(|last| last.kind() != e.kind()) {
                    log::debug(format_args!("client to {}: an attempt failed: {e}", self.place));
                }
                self.last = Some(e);
            }
            Ok(_) => {}
        }
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

/// What follows when a socket has been connected, or has failed to be: says hello.
fn met(fd: Fd, address: &Address, place: &ServerAddress, options: &Options, wait: &Wait) -> Result<Tried> {
    // A connect to a port of our own range may meet itself there, when nobody listens.
    let own = socket::local_address(&fd);
    let met = socket::take_error(&fd).and_then(|()| match (address, &own) {
        (Address::Tcp(a), Ok(Address::Tcp(b))) if a == b => Err(ErrorKind::ConnectionRefused.into()),
        _ => socket::peer_address(&fd),
    });
    let peer = match met {
        Ok(peer) => peer,
        // The other end has gone already.
        Err(e) if e.kind() == ErrorKind::NotConnected => return again(place, ErrorKind::ConnectionReset.into()),
        Err(e) => return again(place, e),
    };
    let Ok(ends) = own.and_then(|own| Ends::of(&fd, own, peer)) else {
        return again(place, ErrorKind::ConnectionReset.into());
    };
    let mut link = Blocking { fd: &fd, wait };
    let agreed = match link.hello(options, &ends) {
        Ok(agreed) => agreed,
        Err(Trouble::Line(e)) => return again(place, e),
        Err(Trouble::Told(No { why: e, .. })) => {
            let what = format!("{place}: {}", e.what());
            return Err(Error::new(e.code(), "", what));
        }
    };
    log::linked(format_args!("client to {place}"), address, &agreed);
    Ok(Ok(Arc::new(Stream::new(fd, address, place.to_string(), agreed.policy, agreed.keys)?)))
}

/// Whether a server that starts later could answer where now there was `e`.
fn again<T>(place: &ServerAddress, e: io::Error) -> Result<std::result::Result<T, io::Error>> {
    use ErrorKind::*;
    match e.kind() {
        ConnectionRefused | NotFound | ConnectionReset | ConnectionAborted | BrokenPipe | TimedOut
        | HostUnreachable | NetworkUnreachable | NetworkDown | UnexpectedEof | WouldBlock | AddrNotAvailable => {
            Ok(Err(e))
        }
        _ => Err(err!(Io, "connecting to {place}: {e}").caused_by(&e)),
    }
}

/// Why a hello did not come to its end.
enum Trouble {
    /// The line broke or time ran out: another attempt may fare better.
    Line(io::Error),
    /// The other end, this one, or the user, said no.
    Told(No),
}

impl<E: Into<No>> From<E> for Trouble {
    fn from(e: E) -> Self {
        Trouble::Told(e.into())
    }
}

struct Blocking<'a> {
    fd: &'a Fd,
    wait: &'a Wait<'a>,
}

impl Blocking<'_> {
    fn hello(&mut self, options: &Options, ends: &Ends) -> std::result::Result<Agreed, Trouble> {
        let (calling, first) = Calling::begin(options, ends)?;
        self.write(&first)?;
        let done = self.answer().and_then(|answer| Ok(calling.answered(&answer)?));
        match done {
            Ok((agreed, last)) => {
                self.write(&last)?;
                Ok(agreed)
            }
            Err(Trouble::Told(no)) => {
                // So that the server can say why nobody came. It need not get there.
                let _ = self.write(&no.tell);
                Err(Trouble::Told(no))
            }
            Err(trouble) => Err(trouble),
        }
    }

    fn answer(&self) -> std::result::Result<Packet, Trouble> {
        let mut incoming = Incoming::new();
        loop {
            let space = incoming.space();
            let region = Region::new(space.as_mut_ptr(), space.len());
            // SAFETY: the rest of a buffer that is borrowed mutably.
            match unsafe { socket::receive(self.fd.as_raw_fd(), &[region], Empty::Return) }.map_err(Trouble::Line)? {
                Moved::Bytes(n) => {
                    if let Some(packet) = incoming.came(n)? {
                        return Ok(packet);
                    }
                }
                Moved::Blocked => self.ready(Interest::Read)?,
                Moved::End if incoming.is_short() => {
                    let what = "it took the connection and closed it without a word, as a libipc of version 1 of the \
                                protocol does";
                    return Err(Trouble::Line(io::Error::new(ErrorKind::UnexpectedEof, what)));
                }
                Moved::End => return Err(Trouble::Line(ErrorKind::UnexpectedEof.into())),
            }
        }
    }

    fn write(&self, mut bytes: &[u8]) -> std::result::Result<(), Trouble> {
        while !bytes.is_empty() {
            // SAFETY: a slice.
            match unsafe { socket::send(self.fd.as_raw_fd(), &[Region::of(bytes)], false) }.map_err(Trouble::Line)? {
                Moved::Bytes(n) => bytes = &bytes[n..],
                _ => self.ready(Interest::Write)?,
            }
        }
        Ok(())
    }

    fn ready(&self, interest: Interest) -> std::result::Result<(), Trouble> {
        if poll_fd(self.fd.as_raw_fd(), interest, self.wait)? {
            return Ok(());
        }
        Err(Trouble::Line(io::Error::new(ErrorKind::TimedOut, "it took the connection and did not answer")))
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
