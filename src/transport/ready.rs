//! A descriptor for those who select. Imports its sibling `line`.

use std::os::fd::RawFd;

use super::line::Line;
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
    /// One that polls readable while the socket of `line` has something to read or room to write, or has ended.
    pub fn new(line: &Line, interest: Interest) -> Result<Ready> {
        if !line.is_ours() {
            // The error that says so.
            line.enter()?;
        }
        let ready = Ready { set: WatchSet::new()?, event: Event::new()? };
        ready.set.add(ready.event.fd()?, 0)?;
        let write = interest == Interest::Write;
        match line.enter() {
            Ok(inside) => ready.set.add_for(inside.fd(), 1, !write, write)?,
            Err(_) => ready.event.set(),
        }
        Ok(ready)
    }

    /// Polls readable from now on.
    pub fn set(&self) {
        self.event.set();
    }

    /// Polls readable if `found`, else while the socket does, or once it has ended.
    pub fn follow(&self, found: bool, line: &Line) {
        if found {
            return self.event.set();
        }
        self.event.clear();
        // Closed between the look and the clearing: the thread that closes sets it after closing.
        if !line.is_open() {
            self.event.set();
        }
    }

    /// The descriptor itself.
    pub fn fd(&self) -> Result<RawFd> {
        self.set.fd()
    }
}
