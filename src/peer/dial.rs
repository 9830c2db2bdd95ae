//! Connecting: goes on trying until somebody answers, says hello, and comes back with a connection over the best link. Imports its siblings `hello`,
//! `log` and `options`.
//!
//! For now the link is the socket that the two ends met on. A link in memory, within a process or a host, is tried here
//! after the hello, before the socket is settled for.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use super::hello::{Agreed, Calling, Ends, HEAD, No, Packet};
use super::log;
use super::options::{Options, Place};
use crate::err;
use crate::error::{Error, Result};
use crate::sys::socket::{self, Address, Empty, Moved, Region};
use crate::sys::{Fd, Lock, spawn_quiet};
use crate::transport::{Connection, Stream};
use crate::wait::{Deadline, Interest, Signal, Wait, poll_fd, sleep};

/// Pauses between attempts, in seconds: the first, and the longest.
const PAUSES: (f64, f64) = (0.001, 0.25);
/// Where a name has several addresses, none of them may use up the time of the others.
const EACH: f64 = 5.0;

/// Connects to `place`, where a server may yet have to start.
pub fn dial(place: &Place, options: &Options, wait: &Wait) -> Result<Arc<dyn Connection>> {
    let began = std::time::Instant::now();
    let wait = wait.sooner(Deadline::after(options.connect_timeout));
    let addresses = match place {
        Place::Unix(path) => vec![Address::Unix(path.clone())],
        Place::Host(host, port) => resolve(host, *port, &wait)?.into_iter().map(Address::Tcp).collect(),
    };
    let mut pause = PAUSES.0;
    let mut last: Option<io::Error> = None;
    loop {
        for address in &addresses {
            let bounded = if addresses.len() > 1 { wait.sooner(Deadline::after(EACH)) } else { wait };
            match attempt(address, place, options, &bounded)? {
                Ok(connection) => return Ok(connection),
                // An attempt that only ran out of time says less than what an earlier one was told.
                Err(e) if last.is_some() && e.kind() == ErrorKind::TimedOut && wait.deadline.expired() => {}
                Err(e) => {
                    // Once, not for every attempt that meets the same.
                    if last.as_ref().is_none_or(|last| last.kind() != e.kind()) {
                        log::debug(format_args!("client to {place}: an attempt failed: {e}"));
                    }
                    last = Some(e);
                }
            }
        }
        let left = wait.deadline.remaining();
        if left.is_some_and(|left| left.is_zero()) {
            let after = began.elapsed().as_secs_f64();
            let why = last.map_or(String::new(), |e| match e.kind() {
                ErrorKind::ConnectionRefused | ErrorKind::NotFound => format!("nobody listens there: {e}; "),
                _ => format!("{e}; "),
            });
            return Err(err!(Timeout, "no connection to {place} in {after:.3} s ({why}connect_timeout =)"));
        }
        sleep(&wait.sooner(Deadline::after(pause)))?;
        pause = (pause * 1.6).min(PAUSES.1);
    }
}

/// One attempt. The inner error is one that another attempt may not have.
fn attempt(
    address: &Address,
    place: &Place,
    options: &Options,
    wait: &Wait,
) -> Result<std::result::Result<Arc<dyn Connection>, io::Error>> {
    let fd = match socket::connect(address) {
        Ok(fd) => fd,
        Err(e) => return again(place, e),
    };
    if !poll_fd(fd.as_raw_fd(), Interest::Write, wait)? {
        return Ok(Err(ErrorKind::TimedOut.into()));
    }
    // A connect to a port of our own range may meet itself there, when nobody listens.
    let met = socket::take_error(&fd).and_then(|()| match (address, socket::local_address(&fd)) {
        (Address::Tcp(a), Ok(Address::Tcp(b))) if *a == b => Err(ErrorKind::ConnectionRefused.into()),
        _ => Ok(()),
    });
    if let Err(e) = met {
        return again(place, e);
    }
    let ends = match Ends::of(&fd) {
        Ok(ends) => ends,
        // The other end has gone already.
        Err(_) => return again(place, ErrorKind::ConnectionReset.into()),
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
fn again<T>(place: &Place, e: io::Error) -> Result<std::result::Result<T, io::Error>> {
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
        let mut head = [0; HEAD];
        self.read(&mut head).map_err(|trouble| match trouble {
            Trouble::Line(e) if e.kind() == ErrorKind::UnexpectedEof => {
                let what = "it took the connection and closed it without a word, as a libipc of version 1 of the protocol does";
                Trouble::Line(io::Error::new(ErrorKind::UnexpectedEof, what))
            }
            other => other,
        })?;
        let mut packet = Packet::begin(&head)?;
        self.read(packet.body_mut())?;
        Ok(packet)
    }

    fn write(&self, mut bytes: &[u8]) -> std::result::Result<(), Trouble> {
        while !bytes.is_empty() {
            // SAFETY: a slice.
            match unsafe { socket::send(self.fd.as_raw_fd(), &[Region::of(bytes)]) }.map_err(Trouble::Line)? {
                Moved::Bytes(n) => bytes = &bytes[n..],
                _ => self.ready(Interest::Write)?,
            }
        }
        Ok(())
    }

    fn read(&self, mut into: &mut [u8]) -> std::result::Result<(), Trouble> {
        while !into.is_empty() {
            let region = Region::new(into.as_mut_ptr(), into.len());
            // SAFETY: the rest of a buffer that is borrowed mutably.
            match unsafe { socket::receive(self.fd.as_raw_fd(), &[region], Empty::Return) }.map_err(Trouble::Line)? {
                Moved::Bytes(n) => into = &mut into[n..],
                Moved::Blocked => self.ready(Interest::Read)?,
                Moved::End => return Err(Trouble::Line(ErrorKind::UnexpectedEof.into())),
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

/// The addresses of a host. A name is looked up by a thread of its own, since the system's resolver cannot be interrupted.
pub(super) fn resolve(host: &str, port: u16, wait: &Wait) -> Result<Vec<SocketAddr>> {
    if let Some(ip) = socket::literal(host) {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    type Found = io::Result<Vec<SocketAddr>>;
    let shared: Arc<(Signal, Lock<Option<Found>>)> = Arc::default();
    let (asked, name) = (shared.clone(), host.to_owned());
    spawn_quiet("ipc-resolve", move || {
        let found = socket::resolve(&name, port);
        *asked.1.lock() = Some(found);
        asked.0.notify_all();
    })?;
    let found = shared.0.wait_until(wait, || shared.1.lock().take())?;
    match found {
        None => Err(err!(Timeout, "the name '{host}' was not resolved in the given time")),
        Some(Ok(list)) if !list.is_empty() => Ok(list),
        Some(Ok(_)) => Err(err!(Io, "the host '{host}' has no address")),
        Some(Err(e)) => Err(err!(Io, "the host '{host}' does not resolve: {e}")),
    }
}
