//! What is left of a connection that has ended: who was at the other end, and why it ended. It holds no descriptor,
//! until one is asked for, and no memory worth mentioning.

use std::os::fd::RawFd;
use std::sync::Arc;

use super::{Connection, InUse, Parcel, Sending, Stats, Target, Ticket};
use crate::error::{Error, Result};
use crate::sys::{Event, SetOnce};
use crate::wait::Wait;
use crate::wire::Message;

/// Stands in the place of a connection that has ended.
#[derive(Debug)]
pub struct Ended {
    peer: String,
    reason: Error,
    stats: Stats,
    /// Always readable.
    event: SetOnce<Event>,
}

impl Ended {
    /// In the place of `connection`, which ended for `reason`.
    pub fn new(connection: &dyn Connection, reason: Error) -> Ended {
        Ended { peer: connection.peer().into(), reason, stats: connection.stats(), event: SetOnce::new() }
    }

    fn readable(&self) -> Result<RawFd> {
        if self.event.get().is_none() {
            let event = Event::new()?;
            event.set();
            let _ = self.event.set(event);
        }
        self.event.get().map_or(Ok(-1), Event::fd)
    }
}

impl Connection for Ended {
    fn send(&self, _: &mut Message, _: &Wait) -> Result<()> {
        Err(self.reason.clone())
    }

    fn try_send(&self, _: &Arc<Parcel>, _: &mut Option<Ticket>) -> Result<Sending> {
        Err(self.reason.clone())
    }

    fn send_parcel(&self, _: &Arc<Parcel>, _: &mut Option<Ticket>, _: &Wait) -> Result<()> {
        Err(self.reason.clone())
    }

    fn give_up(&self, _: Ticket) {}

    fn recv_before(&self, _: Option<Target<'_>>, _: &mut Message, _: &Wait) -> Result<bool> {
        Err(self.reason.clone())
    }

    fn try_recv(&self, _: &mut Message) -> Result<bool> {
        Err(self.reason.clone())
    }

    fn put_back(&self, _: Message) {}

    fn close(&self) {}

    fn end(&self, _: Error) {}

    fn ending(&self) -> Option<Error> {
        Some(self.reason.clone())
    }

    fn is_open(&self) -> bool {
        false
    }

    fn on_arrival(&self, _: Box<dyn Fn() + Send + Sync>) {}

    fn is_ready(&self) -> bool {
        true
    }

    fn unfilled(&self) -> usize {
        0
    }

    fn has_gone(&self) -> bool {
        true
    }

    fn unread(&self) -> usize {
        0
    }

    fn socket(&self) -> Result<Option<InUse<'_>>> {
        Err(self.reason.clone())
    }

    fn fd(&self) -> Result<RawFd> {
        self.readable()
    }

    fn room_fd(&self) -> Result<RawFd> {
        self.readable()
    }

    fn peer(&self) -> &str {
        &self.peer
    }

    fn functions(&self) -> bool {
        false
    }

    fn stats(&self) -> Stats {
        self.stats
    }
}
