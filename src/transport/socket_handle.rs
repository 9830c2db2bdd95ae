//! The descriptor of a connection and who is using it: closing shuts it down and wakes everyone; the number is given
//! back when the last call has left.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::err;
use crate::error::{Error, Result};
use crate::sys::{Fd, Lock, SetOnce, socket};

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
}

impl SocketHandle {
    pub fn new(fd: Fd, peer: String) -> Result<SocketHandle> {
        let raw = fd.check()?;
        Ok(SocketHandle {
            users: AtomicU32::new(0),
            fd: Lock::new(Some(fd)),
            raw,
            generation: crate::sys::fork_generation(),
            peer,
            reason: SetOnce::new(),
        })
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

    /// Ends it for the reason given, unless it has ended.
    pub fn end(&self, reason: Error) {
        let _ = self.reason.set(reason);
        self.close();
    }

    /// Ends it: blocked calls wake up and find the end of the stream.
    pub fn close(&self) {
        if !self.is_ours() {
            return;
        }
        let inside = self.enter_anyhow();
        if self.users.fetch_or(CLOSED, Ordering::AcqRel) & CLOSED == 0 {
            socket::shutdown(self.raw);
        }
        drop(inside);
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
            let fd = self.socket.fd.lock().take();
            drop(fd);
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
        let socket = SocketHandle::new(a, "b".into()).unwrap();
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
