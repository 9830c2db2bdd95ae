//! Warm workers and the queue of tasks that they serve.
//!
//! What a worker does with a task is the business of the code that makes the pool: it is given a [`Bench`], from which
//! it takes one task after the other. Each worker is a [`Crew`] of its own, so that the task in its hands can be ended:
//! a worker that is dismissed ends with its task, and another takes its place. The successor first waits until its
//! predecessor has ended or was abandoned, so there are never more at work than the pool has seats, and a future is
//! settled only when its task touches nothing any more.
//!
//! Nobody ends the threads of a pool whose last handle is gone: they do what was submitted, then leave.
//!
//! This file is the half of those who submit; `hub` is what all share, `bench` the workers' half. Imports its siblings
//! `batch`, `future` and `worker`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::batch::Finished;
use super::worker::THREAD_WEIGHT;
use super::{Crew, Failure, Future, Outcome, Task};
use crate::err;
use crate::error::{Lossy, Result};
use crate::sys::{check_memory, close_later};
use crate::text;
use crate::wait::Wait;
use crate::wire::Object;

mod bench;
mod hub;
#[cfg(test)]
mod tests;

pub use bench::{Bench, Order};
pub(super) use hub::Hub;
use hub::{NEVER_RAN, STARTING};

/// A worker's whole life, but for its start and its end: an error before [`Bench::ready`] breaks the pool.
type Work = dyn Fn(&Bench) -> std::result::Result<(), Failure> + Send + Sync;

/// A handle of a pool, shared by all who may submit to it. When the last is dropped the pool is closed, and not waited
/// for.
pub struct Pool(Arc<Hub>);

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
    /// Starts the workers.
    pub fn start<W>(terms: Terms, work: W) -> Result<Pool>
    where
        W: Fn(&Bench) -> std::result::Result<(), Failure> + Send + Sync + 'static,
    {
        let count = terms.count;
        Crew::<()>::check_room(count)?;
        // Dropped on the way out, it sends those home that have started.
        let pool = Pool(Hub::new(terms, Box::new(work)));
        for id in 1..=count {
            pool.0.employ(id, None)?;
        }
        Ok(pool)
    }

    /// `[state]` in the child of a fork, which has none of the workers.
    pub fn check(&self) -> Result<()> {
        self.0.check()
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
        let hub = &self.0;
        hub.check()?;
        let future = {
            let mut books = hub.books.lock();
            if hub.closed.load(Ordering::SeqCst) {
                return Err(err!(Closed, "the pool is closed and takes no more tasks"));
            }
            if let Some(text) = &books.broken {
                return Err(err!(Worker, "{}", Lossy(text)));
            }
            // What is made here is small: a task that does not end should not have taken the last of the reserve.
            check_memory()?;
            books.last += 1;
            let number = books.last;
            let future = Arc::new(Future::new(number, hub.clone(), &task, batch));
            books.queue.insert(number, (task, future.clone()));
            hub.queued.store(books.queue.len(), Ordering::SeqCst);
            future
        };
        hub.moved.notify_one();
        Ok(future)
    }

    /// Takes no more tasks, and waits until all that were submitted have ended, and the workers with them; `[timeout]`
    /// leaves it closed and the rest at work.
    pub fn close(&self, wait: &Wait) -> Result<()> {
        let hub = &self.0;
        hub.check()?;
        if hub.employs_us() {
            return Err(err!(State, "a task cannot wait for the end of the pool that runs it"));
        }
        hub.shut();
        loop {
            let threads = hub.books.lock().threads.clone();
            if threads.is_empty() {
                return Ok(());
            }
            for worker in &threads {
                let ended = worker.crew.get().map_or(Ok(false), |crew| crew.wait(wait))?;
                if !ended && wait.deadline.expired() {
                    let (waiting, running) = hub.tasks();
                    return Err(err!(Timeout, "{running} of its tasks still run, and {waiting} wait for their turn"));
                }
            }
            // Meanwhile a cancel may have put others in their place.
            hub.tidy();
        }
    }

    /// Takes no more tasks, drops what is queued and ends what runs. Waits for nothing.
    pub fn cancel(&self) -> Result<()> {
        let hub = &self.0;
        hub.check()?;
        hub.shut();
        self.withdraw(|_| true);
        let (current, starting): (Vec<_>, Vec<_>) = {
            let books = hub.books.lock();
            let current = books.posts.iter().filter_map(|post| post.current.clone()).collect();
            // What they do there may take its time.
            let starting = books.posts.iter().filter(|post| post.worker.is(STARTING));
            (current, starting.map(|post| post.worker.clone()).collect())
        };
        for future in current {
            hub.cancel(&future)?;
        }
        starting.iter().filter_map(|worker| worker.crew.get()).for_each(Crew::cancel);
        Ok(())
    }

    /// Takes those tasks out of the queue whose futures are `wanted`.
    pub(super) fn withdraw(&self, wanted: impl Fn(&Future) -> bool) {
        let hub = &self.0;
        if hub.check().is_err() {
            return;
        }
        let out = {
            let mut books = hub.books.lock();
            let (out, rest) = std::mem::take(&mut books.queue).into_iter().partition(|(_, (_, f))| wanted(f));
            books.queue = rest;
            hub.queued.store(books.queue.len(), Ordering::SeqCst);
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
        }
    }
}

impl Pool {
    /// `open, 4 workers, 2 tasks running, 10 queued`
    fn described(&self) -> String {
        let hub = &self.0;
        let (queued, running) = hub.tasks();
        let (workers, broken) = {
            let books = hub.books.lock();
            (books.posts.len(), books.broken.is_some())
        };
        let plural = |n| if n == 1 { "" } else { "s" };
        let state = match (broken, hub.closed.load(Ordering::SeqCst)) {
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
