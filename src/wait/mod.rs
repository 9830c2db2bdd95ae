//! Waiting: deadlines, parking, descriptors, interruption. Everything that blocks does it through this layer.
//!
//! A call that can block takes a [`Wait`]: when to give up, and who may break in. Nothing here sleeps without a
//! time-out, and nothing holds a lock of its caller while it sleeps.

mod cancel;
mod deadline;
mod event_count;
mod fd_pool;
mod flock;
mod non_blocking;
mod offload;
mod own_thread;
mod owner;
mod park;
mod poll;
mod process;
mod select;
mod threads;
mod timed_mutex;

pub use cancel::Cancel;
pub use deadline::Deadline;
pub use event_count::EventCount;
pub use fd_pool::FdPool;
use fd_pool::PooledEvent;
pub use flock::flock;
pub use non_blocking::{Blocker, NonBlockingCall};
pub use offload::Offloaded;
pub use own_thread::on_own_thread;
pub use owner::Owner;
pub use park::sleep;
pub use poll::{Interest, SpinBudget, Watch, poll_fd, poll_many, sleep_on_fd, sleep_on_fd_or, sleep_on_many};
pub use process::wait_pid;
pub use select::{Candidate, Source, Way, select, source, source_for};
pub use threads::{
    Asleep, Purpose, ThreadState, Waits, came_through_fork, hide_thread, prepare_thread, show_background_thread,
    show_thread, show_thread_of, thread_of, threads, waits_for_ever,
};
pub use timed_mutex::{TimedMutex, TimedMutexGuard};

use std::time::Duration;

use crate::error::Result;

/// How a blocked call may be broken into.
pub trait Interrupt {
    /// A signal arrived (`EINTR`), or may have a moment before the sleep began: also called now and then while
    /// waiting. An error ends the call with it; `Ok` goes on waiting for what is left of the time.
    /// No lock of ours is held, so Lua may run.
    fn on_signal(&self) -> Result<()>;

    /// Whether [`on_signal`](Interrupt::on_signal) has to be called for signals that arrive. Then a sleep is one of
    /// naps: between the last look and the sleep a handler may run of which nothing else tells.
    fn takes_signals(&self) -> bool {
        false
    }

    /// The token that cancels this thread's calls, if there is one.
    fn cancel(&self) -> Option<&Cancel> {
        None
    }

    /// What the call is for, asked when it goes to sleep.
    fn purpose(&self) -> Option<Purpose> {
        None
    }

    /// Where calls are to end instead of sleeping, with [`Code::WouldBlock`](crate::error::Code::WouldBlock), and leave
    /// what they would have slept on.
    fn non_blocking(&self) -> Option<&NonBlockingCall> {
        None
    }
}

/// How long a thread that takes signals sleeps at most before it looks up. Others sleep until they are woken.
pub const LONGEST_NAP: Duration = Duration::from_millis(500);

/// How long a sleep lasts at most that nothing but its own event ends: much longer than what passes between two threads
/// that talk, and short enough to keep a cancel waiting.
pub const SHORT_NAP: Duration = Duration::from_millis(10);

/// Nothing breaks in: for tests and for threads of our own.
#[derive(Clone, Copy, Debug)]
pub struct Uninterrupted;

impl Interrupt for Uninterrupted {
    fn on_signal(&self) -> Result<()> {
        Ok(())
    }
}

/// What every blocking call takes.
#[derive(Clone, Copy)]
pub struct Wait<'a> {
    /// When to give up.
    pub deadline: Deadline,
    /// Who may break in.
    pub interrupt: &'a dyn Interrupt,
}

impl std::fmt::Debug for Wait<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wait").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Wait<'static> {
    /// Until `deadline`, with nothing that breaks in.
    pub fn until(deadline: Deadline) -> Self {
        Wait { deadline, interrupt: &Uninterrupted }
    }
}

impl<'a> Wait<'a> {
    /// The same interruption with the earlier of the two deadlines.
    pub fn sooner(self, deadline: Deadline) -> Wait<'a> {
        Wait { deadline: self.deadline.min(deadline), ..self }
    }

    /// How long to sleep at most before looking up: until the deadline, but not through a signal whose handler ran
    /// between the last look and the sleep, which nothing would tell of.
    fn nap(&self) -> Duration {
        let longest = if self.interrupt.takes_signals() { LONGEST_NAP } else { Duration::MAX };
        self.deadline.remaining().map_or(longest, |left| left.min(longest))
    }

    /// Whether a sleep has to end by itself.
    fn needs_time_out(&self) -> bool {
        self.deadline != Deadline::NEVER || self.interrupt.takes_signals()
    }

    /// Whether one system call may block for [`SHORT_NAP`] in place of a look and a poll: nothing but signals ends it
    /// before, and a cancel waits for it. Afterwards [`Wait::look_up`] is to be called.
    pub fn may_block(&self) -> bool {
        self.interrupt.non_blocking().is_none() && self.deadline.remaining().is_none_or(|left| left >= SHORT_NAP)
    }

    /// After a sleep that did not end as hoped: hears of a cancel and of signals.
    pub fn look_up(&self) -> Result<()> {
        self.check()?;
        if self.interrupt.takes_signals() { self.interrupt.on_signal() } else { Ok(()) }
    }

    /// `[cancelled]` once the calls of this thread are cancelled. Blocking calls of this layer ask by themselves.
    pub fn check(&self) -> Result<()> {
        match self.interrupt.cancel() {
            Some(cancel) => cancel.check(),
            None => Ok(()),
        }
    }
}
