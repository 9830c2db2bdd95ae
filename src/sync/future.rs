//! What a task of a pool will give: set once, read and waited for by any thread.
//!
//! Imports its siblings `batch`, which hears when a future of it is settled, `pool`, whose lock all its futures share,
//! `unfetched` and `worker`.

use std::fmt;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Weak};

use super::batch::Finished;
use super::pool::PoolState;
use super::unfetched::has_code;
use super::{Failure, Unfetched};
use crate::error::{Code, Lossy, Result};
use crate::sys::SetOnce;
use crate::text;
use crate::wait::{EventCount, Wait};
use crate::wire::{Entry, Ledger, Message, Object, drop_deferred};

/// What a worker is to do.
#[derive(Debug, Default)]
pub struct Task {
    /// The function's bytes, where nothing of one call is left in it for the next; else it is the first of the values.
    pub function: Option<Box<[u8]>>,
    /// Its arguments.
    pub values: Message,
    /// Of the Lua state that holds the future: results are entered there.
    pub ledger: Option<Arc<Ledger>>,
    /// The number of that state, which hears of the task's error; 0: nobody does.
    pub owner: u64,
}

/// How a task ended.
#[derive(Debug)]
pub enum Outcome {
    /// What it returned.
    Done(Message),
    /// Its error, with the traceback.
    Failed(Unfetched),
    /// It was cancelled before it ran, or while it did: when, in words.
    Cancelled(Failure),
}

impl Outcome {
    /// If it is a failure, nobody needs to be told of it any more.
    pub fn forgive(&self) {
        if let Outcome::Failed(failure) = self {
            failure.fetch();
        }
    }
}

/// Where a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Not begun.
    Queued,
    /// In a worker's hands.
    Running,
    /// It has returned.
    Done,
    /// It has raised an error.
    Failed,
    /// It was cancelled, and has ended if it ever began.
    Cancelled,
}

/// The future of one task. It has no lock of its own unless somebody waits for it: there may be a million of them.
pub struct Future {
    /// Counts the tasks of its pool: where it stands in the queue.
    pub(super) number: u64,
    pool: Arc<PoolState>,
    outcome: SetOnce<Outcome>,
    /// The value that its task raised, where that is no string and can travel.
    raised: SetOnce<Box<Message>>,
    /// Notified when the outcome is set. Made by the first who waits or asks for a descriptor.
    settled: SetOnce<Box<EventCount>>,
    /// Where its results are entered, and their entry.
    ledger: Option<Arc<Ledger>>,
    /// Who is told where it fails.
    owner: u64,
    entry: SetOnce<Entry>,
    /// The batch that it belongs to, and its number there.
    batch: Option<(Weak<Finished>, u64)>,
    /// Set once nobody will take what that batch has.
    given_up: Option<Arc<AtomicBool>>,
}

impl Future {
    pub(super) fn new(number: u64, pool: Arc<PoolState>, task: &Task, batch: Option<(Weak<Finished>, u64)>) -> Future {
        Future {
            number,
            pool,
            outcome: SetOnce::new(),
            raised: SetOnce::new(),
            settled: SetOnce::new(),
            ledger: task.ledger.clone(),
            owner: task.owner,
            entry: SetOnce::new(),
            given_up: batch.as_ref().and_then(|(batch, _)| batch.upgrade()).map(|batch| batch.given_up()),
            batch,
        }
    }

    /// Whether the task has ended, however it did.
    pub fn is_done(&self) -> bool {
        self.outcome.get().is_some()
    }

    /// How the task ended, once it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.get()
    }

    /// The value that a task which failed has raised, where that is no string and can travel.
    pub fn raised(&self) -> Option<&Message> {
        self.raised.get().map(|value| &**value)
    }

    /// Keeps what the task has raised, which is about to be settled as failed.
    pub(super) fn keep_raised(&self, value: Message) {
        // A task fails once.
        _ = self.raised.set(Box::new(value));
    }

    /// Where the task is.
    pub fn stage(&self) -> Stage {
        match self.outcome.get() {
            Some(Outcome::Done(_)) => Stage::Done,
            Some(Outcome::Failed(_)) => Stage::Failed,
            Some(Outcome::Cancelled(_)) => Stage::Cancelled,
            None if self.pool.is_queued(self.number) => Stage::Queued,
            None => Stage::Running,
        }
    }

    /// `[state]` in the child of a fork, where the task can only be done already.
    pub fn check(&self) -> Result<()> {
        if self.is_done() { Ok(()) } else { self.pool.check() }
    }

    /// Waits for the end of the task; `None` when time runs out.
    pub fn wait(&self, wait: &Wait) -> Result<Option<&Outcome>> {
        self.check()?;
        loop {
            if !self.is_done() && self.pool.is_stranded() {
                self.pool.refill()?;
            }
            if self.is_done() || wait.deadline.expired() {
                wait.check()?;
                return Ok(self.outcome.get());
            }
            let settled = self.settled();
            // The other half of the fence in `settle`: either this thread finds the outcome, or its signal is found.
            fence(Ordering::SeqCst);
            if settled.wait_until(wait, || self.is_ready().then_some(()))?.is_none() {
                return Ok(None);
            }
        }
    }

    /// Whether [`Future::wait`] has something to do: the task has ended, or nobody is left to begin it.
    pub fn is_ready(&self) -> bool {
        self.is_done() || self.pool.is_stranded()
    }

    /// The pool has lost its last worker, or has one again: who waits looks.
    pub(super) fn look_again(&self) {
        fence(Ordering::SeqCst);
        if let Some(settled) = self.settled.get() {
            settled.notify_all();
            settled.refresh(|| self.is_ready());
        }
        if let Some(batch) = self.batch.as_ref().and_then(|(batch, _)| batch.upgrade()) {
            batch.look_again();
        }
    }

    fn settled(&self) -> &EventCount {
        self.settled.get_or_init(Box::default)
    }

    /// Takes the task out of the queue, or ends it while it runs: then another worker takes the place of its. False if
    /// it had ended before.
    pub fn cancel(&self) -> Result<bool> {
        if self.is_done() {
            return Ok(false);
        }
        self.pool.check()?;
        self.pool.cancel(self)
    }

    /// A descriptor that polls readable once the task has ended, and while [`Future::is_ready`].
    pub fn fd(&self) -> Result<RawFd> {
        self.check()?;
        let settled = self.settled();
        // As in `wait`.
        fence(Ordering::SeqCst);
        settled.fd(|| self.is_ready())
    }

    /// Sets the outcome, if there is none yet, and tells all that wait.
    pub(super) fn settle(self: &Arc<Self>, outcome: Outcome) {
        let entry = match (&self.ledger, &outcome) {
            (Some(ledger), Outcome::Done(results)) => Some(Entry::new(ledger, results.weight())),
            _ => None,
        };
        let outcome = match outcome {
            Outcome::Failed(failure) if !has_code(failure.text(), Code::Cancelled) => {
                let of = || text!("task {} of {}", self.number, Lossy(&self.pool.terms.name));
                Outcome::Failed(failure.owed_to(self.owner, of))
            }
            other => other,
        };
        if let Err(second) = self.outcome.set(outcome) {
            return second.forgive();
        }
        if let Some(entry) = entry {
            // The outcome is set once, and so is this.
            _ = self.entry.set(entry);
        }
        fence(Ordering::SeqCst);
        if let Some(settled) = self.settled.get() {
            settled.notify_all();
            settled.refresh(|| true);
        }
        if let Some((batch, number)) = &self.batch
            && let Some(batch) = batch.upgrade()
        {
            batch.push(*number, self.clone());
        }
        if self.given_up.as_ref().is_some_and(|it| it.load(Ordering::SeqCst))
            && let Some(outcome) = self.outcome.get()
        {
            outcome.forgive();
        }
    }

    /// Whether it belongs to `batch`.
    pub(super) fn is_of(&self, batch: &Arc<Finished>) -> bool {
        self.batch.as_ref().is_some_and(|(own, _)| std::ptr::eq(own.as_ptr(), Arc::as_ptr(batch)))
    }
}

impl Drop for Future {
    /// A long chain of results in results is not dropped one inside the other.
    fn drop(&mut self) {
        if let Some(Outcome::Done(results)) = self.outcome.get_mut()
            && !results.attachments.is_empty()
        {
            drop_deferred(std::mem::take(&mut results.attachments));
        }
        if let Some(value) = self.raised.get_mut() {
            drop_deferred(std::mem::take(&mut value.attachments));
        }
    }
}

impl Object for Future {
    fn class(&self) -> &'static str {
        "ipc.future"
    }

    fn state(&self) -> String {
        let stage = match self.stage() {
            Stage::Queued => "queued",
            Stage::Running => "running",
            Stage::Done => "done",
            Stage::Failed => "failed",
            Stage::Cancelled => "cancelled",
        };
        stage.into()
    }
}

impl fmt::Debug for Future {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Future").field("number", &self.number).field("stage", &self.stage()).finish_non_exhaustive()
    }
}

impl fmt::Display for Future {
    /// `ipc.future: running`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ipc.future: {}", self.state())
    }
}
