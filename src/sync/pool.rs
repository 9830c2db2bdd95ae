//! Warm workers and the queue of tasks that they serve.
//!
//! What a worker does with a task is the business of the code that makes the pool: it is given a [`TaskSource`], from
//! which it takes one task after the other. Each worker is a [`ThreadGroup`] of its own, so that the task in its hands
//! can be ended: a worker that is dismissed ends with its task, and another takes its place. The successor first waits
//! until its predecessor has ended or was abandoned, so there are never more at work than the pool was made with, and a
//! future is settled only when its task touches nothing any more.
//!
//! Nobody ends the threads of a pool whose last handle is gone: they do what was submitted, then leave.
//!
//! This file is the half of those who submit; `state` is what all share, `task_source` the workers' half. Imports its
//! siblings `batch`, `future` and `worker`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::batch::Finished;
use super::worker::THREAD_WEIGHT;
use super::{Failure, Future, Outcome, Task, ThreadGroup};
use crate::err;
use crate::error::{Error, Lossy, Result, words};
use crate::sys::{check_memory, close_later};
use crate::text;
use crate::wait::Wait;
use crate::wire::Object;

mod state;
mod task_source;
#[cfg(test)]
mod tests;

pub(super) use state::PoolState;
use state::{NEVER_RAN, STARTING};
pub use task_source::{Order, TaskSource};

/// A worker's whole life, but for its start and its end: an error before [`TaskSource::ready`] breaks the pool.
type Work = dyn Fn(&TaskSource) -> std::result::Result<(), Failure> + Send + Sync;

/// A handle of a pool, shared by all who may submit to it. When the last is dropped the pool is closed, and not waited
/// for.
pub struct Pool(Arc<PoolState>);

/// What a pool is made with.
#[derive(Clone, Debug)]
pub struct Terms {
    /// What the system knows the workers by, with a number.
    pub name: Vec<u8>,
    /// How many workers there are.
    pub count: usize,
    /// Bytes of stack for each.
    pub stack: usize,
    /// Whether functions take their upvalues along: for those who make tasks and results.
    pub upvalues: bool,
}

impl Pool {
    /// Starts the workers: all or none. Where the system has too few threads to give, those that have started are gone
    /// before the error is there.
    pub fn start<W>(terms: Terms, work: W) -> Result<Pool>
    where
        W: Fn(&TaskSource) -> std::result::Result<(), Failure> + Send + Sync + 'static,
    {
        let count = terms.count;
        ThreadGroup::<()>::check_room(count)?;
        let pool = Pool(PoolState::new(terms, Box::new(work))?);
        for id in 1..=count {
            if let Err(e) = pool.0.start_worker(id, None) {
                pool.0.dismiss_all();
                let text =
                    words(format_args!("{} of {count} workers could start, and none has run: {}", id - 1, e.what()));
                return Err(Error::new(e.code(), "", text));
            }
        }
        pool.0.begin();
        Ok(pool)
    }

    /// `[state]` in the child of a fork, which has none of the workers.
    pub fn check(&self) -> Result<()> {
        self.0.check()
    }

    pub(super) fn state(&self) -> Arc<PoolState> {
        self.0.clone()
    }

    /// What it was made with.
    pub fn terms(&self) -> &Terms {
        &self.0.terms
    }

    /// Puts a task into the queue.
    pub fn submit(&self, task: Task) -> Result<Arc<Future>> {
        self.submit_to(task, None)
    }

    pub(super) fn submit_to(&self, task: Task, batch: Option<(Weak<Finished>, u64)>) -> Result<Arc<Future>> {
        let pool = &self.0;
        pool.check()?;
        if !pool.closed.load(Ordering::SeqCst) {
            pool.refill()?;
        }
        let future = {
            let mut queue = pool.queue.lock();
            if pool.closed.load(Ordering::SeqCst) {
                return Err(err!(Closed, "the pool is closed and takes no more tasks"));
            }
            if let Some(text) = &queue.broken {
                return Err(err!(Worker, "{}", Lossy(text)));
            }
            // What is made here is small: a task that does not end should not have taken the last of the reserve.
            check_memory()?;
            queue.last += 1;
            let number = queue.last;
            let future = Arc::new(Future::new(number, pool.clone(), &task, batch));
            queue.tasks.insert(number, (task, future.clone()));
            pool.queued.store(queue.tasks.len(), Ordering::SeqCst);
            future
        };
        pool.moved.notify_one();
        Ok(future)
    }

    /// Takes no more tasks, and waits until all that were submitted have ended, and the workers with them; `[timeout]`
    /// leaves it closed and the rest at work.
    pub fn close(&self, wait: &Wait) -> Result<()> {
        let pool = &self.0;
        pool.check()?;
        if pool.has_this_thread() {
            return Err(err!(State, "a task cannot wait for the end of the pool that runs it"));
        }
        pool.shut();
        loop {
            if pool.is_stranded() {
                pool.refill()?;
            }
            let threads = pool.queue.lock().threads.clone();
            if threads.is_empty() {
                return Ok(());
            }
            for worker in &threads {
                let ended = worker.group.get().map_or(Ok(false), |group| group.wait(wait))?;
                if !ended && wait.deadline.expired() {
                    let (waiting, running) = pool.tasks();
                    return Err(err!(Timeout, "{running} of its tasks still run, and {waiting} wait for their turn"));
                }
            }
            // Meanwhile a cancel may have put others in their place.
            pool.tidy();
        }
    }

    /// Takes no more tasks, drops what is queued and ends what runs. Waits for nothing.
    pub fn cancel(&self) -> Result<()> {
        let pool = &self.0;
        pool.check()?;
        pool.shut();
        self.withdraw(|_| true);
        let (current, starting): (Vec<_>, Vec<_>) = {
            let queue = pool.queue.lock();
            let current = queue.slots.iter().filter_map(|slot| slot.current.clone()).collect();
            // What they do there may take its time.
            let starting = queue.slots.iter().filter(|slot| slot.worker.is(STARTING));
            (current, starting.map(|slot| slot.worker.clone()).collect())
        };
        for future in current {
            pool.cancel(&future)?;
        }
        starting.iter().filter_map(|worker| worker.group.get()).for_each(ThreadGroup::cancel);
        Ok(())
    }

    /// Takes those tasks out of the queue whose futures are `wanted`.
    pub(super) fn withdraw(&self, wanted: impl Fn(&Future) -> bool) {
        let pool = &self.0;
        if pool.check().is_err() {
            return;
        }
        let out = {
            let mut queue = pool.queue.lock();
            let (out, rest) = std::mem::take(&mut queue.tasks).into_iter().partition(|(_, (_, f))| wanted(f));
            queue.tasks = rest;
            pool.queued.store(queue.tasks.len(), Ordering::SeqCst);
            let out: BTreeMap<_, _> = out;
            out
        };
        for (_, future) in out.into_values() {
            future.settle(Outcome::Cancelled(NEVER_RAN.into()));
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.0.check().is_ok() {
            close_later();
            self.0.shut();
            // Nobody may come who starts a worker for what is queued.
            if self.0.is_stranded()
                && let Err(e) = self.0.refill()
            {
                self.0.break_down(e.what().as_bytes());
            }
        }
    }
}

impl Pool {
    /// `open, 4 workers, 2 tasks running, 10 queued`
    fn described(&self) -> String {
        let pool = &self.0;
        let (queued, running) = pool.tasks();
        let (workers, broken) = {
            let queue = pool.queue.lock();
            (queue.slots.len(), queue.broken.is_some())
        };
        let plural = |n| if n == 1 { "" } else { "s" };
        let state = match (broken, pool.closed.load(Ordering::SeqCst)) {
            (true, _) => "broken",
            (false, true) => "closed",
            (false, false) => "open",
        };
        text!(
            "{state}, {workers} worker{}, {running} task{} running, {queued} queued",
            plural(workers),
            plural(running)
        )
    }

    /// Its name, if it was given one.
    fn name(&self) -> Option<Lossy<'_>> {
        Some(self.0.terms.name.as_slice()).filter(|name| *name != b"ipc.pool").map(Lossy)
    }
}

impl Object for Pool {
    fn class(&self) -> &'static str {
        "ipc.pool"
    }

    fn state(&self) -> String {
        let name = self.name().map(|name| text!("'{name}', ")).unwrap_or_default();
        name + &self.described()
    }

    fn weight(&self) -> usize {
        self.0.terms.count * THREAD_WEIGHT
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &Lossy(&self.0.terms.name))
            .field("tasks", &self.0.tasks())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Pool {
    /// `ipc.pool 'loader': open, 4 workers, 2 tasks running, 10 queued`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ipc.pool")?;
        if let Some(name) = self.name() {
            write!(f, " '{name}'")?;
        }
        write!(f, ": {}", self.described())
    }
}
