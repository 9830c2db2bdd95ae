//! Tasks of a pool whose futures are taken in the order in which they end.
//!
//! Imports its siblings `future` and `pool`.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::pool::PoolState;
use super::{Future, Pool, Task};
use crate::error::Result;
use crate::sys::Lock;
use crate::wait::{EventCount, Wait};
use crate::wire::Object;

/// A future and its number in the batch.
pub type Numbered = (u64, Arc<Future>);

/// As many threads may be between the look for room and their number.
const BETWEEN: usize = 256;

/// The next of a batch.
#[derive(Debug)]
pub enum Next {
    /// One that has ended.
    Future(Numbered),
    /// None ended in time.
    OutOfTime,
    /// All that were submitted have been taken.
    Nothing,
}

/// Where the futures of a batch go when they are settled.
pub(super) struct Finished {
    pool: Arc<PoolState>,
    futures: Lock<VecDeque<Numbered>>,
    arrived: EventCount,
    /// How many were submitted, have ended, and were taken.
    submitted: AtomicU64,
    ended: AtomicU64,
    taken: AtomicU64,
    /// Nobody will take what is left.
    given_up: Arc<AtomicBool>,
}

impl Finished {
    /// One of its tasks has ended.
    pub(super) fn push(&self, number: u64, future: Arc<Future>) {
        self.futures.lock().push_back((number, future));
        self.ended.fetch_add(1, Ordering::SeqCst);
        self.arrived.notify_one();
        self.refresh();
    }

    /// Whether nobody will take what is left; lives longer than the batch.
    pub(super) fn given_up(&self) -> Arc<AtomicBool> {
        self.given_up.clone()
    }

    /// As [`Future::look_again`].
    pub(super) fn look_again(&self) {
        self.arrived.notify_all();
        self.refresh();
    }

    fn pending(&self) -> u64 {
        self.submitted.load(Ordering::SeqCst).saturating_sub(self.taken.load(Ordering::SeqCst))
    }

    /// Whether there is nothing to wait for, or nobody is left to do what is.
    fn is_ready(&self) -> bool {
        self.has_next() || self.pool.is_stranded()
    }

    /// Whether one has ended, or there is none.
    fn has_next(&self) -> bool {
        self.ended.load(Ordering::SeqCst) > self.taken.load(Ordering::SeqCst) || self.pending() == 0
    }

    fn refresh(&self) {
        self.arrived.refresh(|| self.is_ready());
    }

    /// What the next call gets, if it gets it now.
    fn take(&self) -> Option<Next> {
        if !self.has_next() {
            return None;
        }
        let next = self.futures.lock().pop_front();
        match next {
            Some(next) => {
                self.one_less();
                Some(Next::Future(next))
            }
            None => (self.pending() == 0).then_some(Next::Nothing),
        }
    }

    fn one_less(&self) {
        self.taken.fetch_add(1, Ordering::SeqCst);
        if self.pending() == 0 {
            // Others that wait have nothing to wait for any more.
            self.arrived.notify_all();
        }
        self.refresh();
    }
}

/// A batch of one pool's tasks; any thread may submit to it and take from it.
pub struct Batch {
    pool: Arc<Pool>,
    finished: Arc<Finished>,
}

impl Batch {
    /// An empty one.
    pub fn new(pool: Arc<Pool>) -> Batch {
        let finished = Finished {
            pool: pool.state(),
            futures: Lock::default(),
            arrived: EventCount::new(),
            submitted: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            given_up: Arc::default(),
        };
        Batch { pool, finished: Arc::new(finished) }
    }

    /// The pool.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Submits a task to the pool; its number in this batch, from 1, and its future.
    pub fn submit(&self, task: Task) -> Result<Numbered> {
        // A place for each that was submitted and not taken yet, since a worker that has ended a task cannot fail.
        {
            let mut futures = self.finished.futures.lock();
            let untaken = usize::try_from(self.finished.pending()).unwrap_or(usize::MAX);
            let room = untaken.saturating_add(BETWEEN).saturating_sub(futures.len());
            futures.try_reserve(room)?;
        }
        let number = self.finished.submitted.fetch_add(1, Ordering::SeqCst) + 1;
        let future = self.pool.submit_to(task, Some((Arc::downgrade(&self.finished), number)));
        if future.is_err() {
            self.finished.ended.fetch_add(1, Ordering::SeqCst);
            self.finished.one_less();
        }
        self.finished.refresh();
        future.map(|future| (number, future))
    }

    /// How many were submitted.
    pub fn submitted(&self) -> u64 {
        self.finished.submitted.load(Ordering::SeqCst)
    }

    /// How many were submitted and not taken yet.
    pub fn pending(&self) -> u64 {
        self.finished.pending()
    }

    /// `[state]` in the child of a fork, where only what had ended before can be taken.
    pub fn check(&self) -> Result<()> {
        if self.is_ready() { Ok(()) } else { self.pool.check() }
    }

    /// Takes the next future that has ended.
    pub fn next(&self, wait: &Wait) -> Result<Next> {
        self.check()?;
        let finished = &self.finished;
        loop {
            if !finished.has_next() && finished.pool.is_stranded() {
                finished.pool.refill()?;
            }
            let look = || finished.take().map(Some).or_else(|| finished.pool.is_stranded().then_some(None));
            match finished.arrived.wait_until(wait, look)? {
                Some(Some(next)) => return Ok(next),
                // Nobody is left to do what this waits for.
                Some(None) => {}
                None => return Ok(Next::OutOfTime),
            }
        }
    }

    /// Takes back one that [`Batch::next`] gave: it is the next again.
    pub fn put_back(&self, ended: Numbered) {
        let finished = &self.finished;
        finished.futures.lock().push_front(ended);
        finished.taken.fetch_sub(1, Ordering::SeqCst);
        finished.arrived.notify_one();
        finished.refresh();
    }

    /// Takes those of its tasks that have not begun out of the pool's queue.
    pub fn withdraw(&self) {
        self.pool.withdraw(|future| future.is_of(&self.finished));
    }

    /// One of its tasks has failed, and that was raised for all of them: the errors of the others are not told.
    pub fn give_up(&self) {
        self.finished.given_up.store(true, Ordering::SeqCst);
        for (_, future) in self.finished.futures.lock().iter() {
            if let Some(outcome) = future.outcome() {
                outcome.forgive();
            }
        }
    }

    /// Whether [`Batch::next`] would return at once.
    pub fn is_ready(&self) -> bool {
        self.finished.is_ready()
    }

    /// A descriptor that polls readable while [`Batch::next`] would return at once.
    pub fn fd(&self) -> Result<RawFd> {
        self.finished.arrived.fd(|| self.is_ready())
    }
}

impl Object for Batch {
    fn class(&self) -> &'static str {
        "ipc.batch"
    }

    fn state(&self) -> String {
        let n = self.pending();
        format!("{n} task{} to take", if n == 1 { "" } else { "s" })
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("pending", &self.pending()).finish_non_exhaustive()
    }
}

impl fmt::Display for Batch {
    /// `ipc.batch: 3 tasks to take`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ipc.batch: {}", self.state())
    }
}
