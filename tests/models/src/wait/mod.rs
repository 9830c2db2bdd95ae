//! As src/wait: its event count, its way into the futex, its cancel; without time, descriptors and reports.

#[path = "../../../../src/wait/cancel.rs"]
mod cancel;
#[path = "../../../../src/wait/deadline.rs"]
mod deadline;
#[path = "../../../../src/wait/event_count.rs"]
mod event_count;
#[path = "../../../../src/wait/park.rs"]
mod park;

pub use cancel::Cancel;
pub use deadline::Deadline;
pub use event_count::EventCount;

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
/// No descriptors, no pool of them.
use crate::sys::Event as PooledEvent;

/// As in src/wait.
pub trait Interrupt {
    /// No signals arrive here.
    fn on_signal(&self) -> Result<()>;
    /// The token that cancels this thread's calls, if there is one.
    fn cancel(&self) -> Option<&Cancel> {
        None
    }
    /// Nobody tries.
    fn non_blocking(&self) -> Option<&NonBlockingCall> {
        None
    }
}

/// Nobody tries.
#[derive(Debug)]
pub enum NonBlockingCall {}

#[allow(missing_docs)]
impl NonBlockingCall {
    pub fn event(&self) -> Result<Arc<PooledEvent>> {
        match *self {}
    }
    pub fn would_block_on_event(&self, _: Deadline) -> Error {
        match *self {}
    }
}

const LONGEST_NAP: Duration = Duration::MAX;

struct Uninterrupted;

impl Interrupt for Uninterrupted {
    fn on_signal(&self) -> Result<()> {
        Ok(())
    }
}

/// As in src/wait.
#[derive(Clone, Copy)]
pub struct Wait<'a> {
    /// Models wait for ever.
    pub deadline: Deadline,
    /// Who may break in.
    pub interrupt: &'a dyn Interrupt,
}

impl std::fmt::Debug for Wait<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wait")
    }
}

impl Wait<'static> {
    /// With nothing that breaks in.
    pub fn until(deadline: Deadline) -> Self {
        Wait { deadline, interrupt: &Uninterrupted }
    }
}

impl Wait<'_> {
    fn nap(&self) -> Duration {
        LONGEST_NAP
    }

    fn check(&self) -> Result<()> {
        self.interrupt.cancel().map_or(Ok(()), Cancel::check)
    }
}

/// Nobody reports.
struct Asleep;

impl Asleep {
    fn new(_: &Wait) -> Asleep {
        Asleep
    }
}

/// Nobody reports.
mod threads {
    use super::{Duration, LONGEST_NAP, Wait};

    pub(super) struct Backoff;

    impl Backoff {
        pub(super) fn new() -> Backoff {
            Backoff
        }
        pub(super) fn longest(&mut self, _: &Wait) -> Duration {
            LONGEST_NAP
        }
        pub(super) fn goes_on(&mut self, _: &Wait) {}
    }
}
