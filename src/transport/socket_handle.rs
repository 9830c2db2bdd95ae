//! The descriptor of a connection and who is using it: closing shuts it down and wakes everyone; the number is given
//! back when the last call has left, or when the peer has what was sent. Imports its sibling `linger`.

use std::os::fd::RawFd;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::linger::linger;

use crate::err;
use crate::error::{Error, Result};
use crate::sys::{Fd, Lock, SetOnce, WatchSet, socket};

const CLOSED: u32 = 1 << 31;

/// A socket that calls enter and leave.
#[derive(Debug)]
pub(super) struct SocketHandle {
    /// [`CLOSED`], and the number of calls inside.
    users: AtomicU32,
    fd: Lock<Option<Fd>>,
    raw: RawFd,
    generation: u32,
    peer: String,
    reason: SetOnce<Error>,
    /// The system drops what was sent and is on its way when the socket is closed at the wrong moment: it is TCP.
    may_linger: bool,
    /// The socket stays open behind a connection that is closed.
    lingers: AtomicBool,
    /// A set that it is in, and would stay in for as long as it is open.
    watched_by: SetOnce<Weak<WatchSet>>,
}

impl SocketHandle {
    /// `may_linger`: closing it keeps it open until the peer has what was sent.
    pub fn new(fd: Fd, peer: String, may_linger: bool) -> Result<SocketHandle> {
        let raw = fd.check()?;
        Ok(SocketHandle {
            users: AtomicU32::new(0),
            fd: Lock::new(Some(fd)),
            raw,
            generation: crate::sys::fork_generation(),
            peer,
            reason: SetOnce::new(),
            may_linger,
            lingers: AtomicBool::new(false),
            watched_by: SetOnce::new(),
        })
    }

    /// Whether a close may not be able to wake a receive that sleeps on the socket alone.
    pub fn may_linger(&self) -> bool {
        self.may_linger
    }

    /// The set, of those that have nothing else to tell of the end, that it is to leave when it is closed.
    pub fn watched_by(&self, set: Weak<WatchSet>) {
        let _ = self.watched_by.set(set);
    }

    /// The name of the other end.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// Whether it was made by this process.
    pub fn is_ours(&self) -> bool {
        self.generation == crate::sys::fork_generation()
    }

    /// Whether nobody has closed it.
    pub fn is_open(&self) -> bool {
        self.is_ours() && self.users.load(Ordering::Acquire) & CLOSED == 0
    }

    /// Keeps the descriptor open until the result is dropped.
    #[inline]
    pub fn enter(&self) -> Result<InUse<'_>> {
        if !self.is_ours() {
            return Err(err!(
                State,
                "the connection to {} was opened before the fork and belongs to the parent process; connect anew here",
                self.peer
            ));
        }
        let inside = self.enter_anyhow();
        if inside.was_closed { Err(self.why()) } else { Ok(inside) }
    }

    fn enter_anyhow(&self) -> InUse<'_> {
        let was = self.users.fetch_add(1, Ordering::Acquire);
        InUse { socket: self, was_closed: was & CLOSED != 0 }
    }

    /// Why it is closed.
    pub fn why(&self) -> Error {
        match self.reason.get() {
            Some(e) => e.clone(),
            None => err!(Closed, "the connection to {} is closed", self.peer),
        }
    }

    /// Ends it for the reason given, unless it has ended. What was sent still arrives.
    pub fn end(&self, reason: Error) {
        let _ = self.reason.set(reason);
        self.close();
    }

    /// As [`end`](Self::end), where nobody is there to take what was sent, or is owed it.
    pub fn cut(&self, reason: Error) {
        let _ = self.reason.set(reason);
        self.close_by(|| socket::shutdown(self.raw));
    }

    /// Ends it: blocked calls wake up and find the end of the stream, but for those that wait to read a socket that
    /// lingers.
    pub fn close(&self) {
        self.close_by(|| {
            if !self.may_linger {
                return socket::shutdown(self.raw);
            }
            // From here on nothing is added to what was sent, so that it can be counted.
            socket::stop_sending(self.raw);
            if socket::unconfirmed(self.raw) > 0 && !socket::is_at_end(self.raw) {
                // What a peer sends to an end that is shut down for reading has the system drop all.
                self.lingers.store(true, Ordering::Relaxed);
            } else {
                socket::shutdown(self.raw);
            }
        });
    }

    fn close_by(&self, shut: impl FnOnce()) {
        if !self.is_ours() {
            return;
        }
        // The last call to leave comes after `shut`.
        let inside = self.enter_anyhow();
        if self.users.fetch_or(CLOSED, Ordering::AcqRel) & CLOSED == 0 {
            shut();
        }
        drop(inside);
    }

    /// The last call has left.
    #[cold]
    fn give_back(&self) {
        let Some(fd) = self.fd.lock().take() else { return };
        if self.lingers.load(Ordering::Relaxed) {
            if let Some(set) = self.watched_by.get().and_then(Weak::upgrade) {
                set.remove(self.raw);
            }
            linger(fd);
        }
    }
}

impl Drop for SocketHandle {
    fn drop(&mut self) {
        // Lets the peer know even where a child process still holds a copy of the descriptor.
        self.close();
    }
}

/// A call is using the descriptor: it stays open until this is dropped.
#[derive(Debug)]
pub struct InUse<'a> {
    socket: &'a SocketHandle,
    was_closed: bool,
}

impl InUse<'_> {
    /// The descriptor.
    pub fn fd(&self) -> RawFd {
        self.socket.raw
    }
}

impl Drop for InUse<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.socket.users.fetch_sub(1, Ordering::AcqRel) == CLOSED | 1 {
            self.socket.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::Code;

    #[test]
    fn the_descriptor_lives_until_the_last_call_has_left() {
        let (a, _b) = socket::pair().unwrap();
        let socket = SocketHandle::new(a, "b".into(), false).unwrap();
        let inside = socket.enter().unwrap();
        socket.close();
        socket.close();
        assert!(socket.fd.lock().is_some());
        assert_eq!(socket.enter().unwrap_err().code(), Code::Closed);
        drop(inside);
        assert!(socket.fd.lock().is_none());
        assert_eq!(socket.enter().unwrap_err().code(), Code::Closed);
    }
}
