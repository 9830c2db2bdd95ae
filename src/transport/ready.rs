//! A descriptor for those who select. Imports its sibling `socket_handle`.

use std::os::fd::RawFd;

use super::socket_handle::SocketHandle;
use crate::error::Result;
use crate::sys::{Event, WatchSet};
use crate::wait::Interest;

/// It watches the socket, and an event that stands for what was read ahead, or for the end.
#[derive(Debug)]
pub(super) struct Ready {
    set: WatchSet,
    event: Event,
}

impl Ready {
    /// One that polls readable while the connection of `socket` has something to read, room to write, or either, or has
    /// ended.
    pub fn new(socket: &SocketHandle, interest: Interest) -> Result<Ready> {
        if !socket.is_ours() {
            // The error that says so.
            socket.enter()?;
        }
        let ready = Ready { set: WatchSet::new()?, event: Event::new()? };
        ready.set.add(ready.event.fd()?, 0)?;
        let (read, write) = (interest != Interest::Write, interest != Interest::Read);
        match socket.enter() {
            Ok(inside) => ready.set.add_for(inside.fd(), 1, read, write)?,
            Err(_) => ready.event.set(),
        }
        Ok(ready)
    }

    /// Polls readable from now on.
    pub fn set(&self) {
        self.event.set();
    }

    /// Polls readable if `found`, else while the socket does, or once it has ended.
    pub fn follow(&self, found: bool, socket: &SocketHandle) {
        if found {
            return self.event.set();
        }
        self.event.clear();
        // Closed between the look and the clearing: the thread that closes sets it after closing.
        if !socket.is_open() {
            self.event.set();
        }
    }

    /// The descriptor itself.
    pub fn fd(&self) -> Result<RawFd> {
        self.set.fd()
    }
}
