//! The workers' half of a pool. Imports its sibling `hub`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::hub::{CANCELLED, Hub, READY, Worker};
use crate::error::Result;
use crate::sync::{Outcome, Task};
use crate::text;
use crate::wait::{Cancel, Wait};
use crate::wire::Message;

/// Where a worker takes its tasks from. Dropped with a task in its hands, it fails that task.
pub struct Bench {
    hub: Arc<Hub>,
    worker: Arc<Worker>,
    /// Cancels the worker's calls.
    pub cancel: Arc<Cancel>,
}

impl fmt::Debug for Bench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bench").field("worker", &self.worker.id).finish_non_exhaustive()
    }
}

/// What a worker is to do next.
#[derive(Debug)]
pub enum Order {
    /// This task; [`Bench::settle`] is to follow.
    Run(Task),
    /// Nothing came in time.
    Idle,
    /// Go home.
    Leave,
}

impl Bench {
    /// For the thread of `worker`, whose calls `cancel` ends.
    pub(super) fn new(hub: Arc<Hub>, worker: Arc<Worker>, cancel: Arc<Cancel>) -> Bench {
        Bench { hub, worker, cancel }
    }

    /// The worker has started well.
    pub fn ready(&self) {
        self.worker.progress.store(READY, Ordering::SeqCst);
    }

    /// `[state]` where a task has forked and this is the child.
    pub fn check(&self) -> Result<()> {
        self.hub.check()
    }

    /// Waits for a task.
    pub fn next(&self, wait: &Wait) -> Result<Order> {
        let hub = &*self.hub;
        let order = hub.moved.wait_until(wait, || {
            if hub.queued.load(Ordering::SeqCst) == 0 {
                return hub.is_over().then_some(Order::Leave);
            }
            self.worker.crew.get()?;
            let mut books = hub.books.lock();
            let Some(at) = books.posts.iter().position(|post| Arc::ptr_eq(&post.worker, &self.worker)) else {
                return Some(Order::Leave);
            };
            let Some((_, (task, future))) = books.queue.pop_first() else {
                // Another took the last one; that there will be no more was told before.
                return hub.is_over().then_some(Order::Leave);
            };
            hub.queued.store(books.queue.len(), Ordering::SeqCst);
            books.posts[at].current = Some(future);
            Some(Order::Run(task))
        })?;
        Ok(order.unwrap_or(Order::Idle))
    }

    /// The task has ended with `outcome`, and has `raised` a value that can travel. Whether the worker goes on: not
    /// where its task was cancelled.
    pub fn settle(&self, outcome: Outcome, raised: Option<Message>) -> bool {
        let (future, dismissed) = {
            let mut books = self.hub.books.lock();
            let Some(post) = books.posts.iter_mut().find(|post| Arc::ptr_eq(&post.worker, &self.worker)) else {
                return false;
            };
            (post.current.take(), post.dismissed)
        };
        if let Some(future) = future {
            if let Some(value) = raised.filter(|_| !dismissed) {
                future.keep_raised(value);
            }
            future.settle(if dismissed { Outcome::Cancelled(CANCELLED.into()) } else { outcome });
        }
        !dismissed
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if self.hub.check().is_err() {
            return;
        }
        let hub = &self.hub;
        let Some(post) = hub.leave(&self.worker) else { return };
        if let Some(future) = post.current {
            future.settle(Outcome::Failed(b"internal error in a worker, please report it".to_vec().into()));
        }
        // One that ends for no reason is replaced.
        let lost = !post.dismissed && !self.cancel.fired() && self.worker.is(READY);
        if lost
            && !hub.is_over()
            && let Err(e) = hub.employ(self.worker.id, None)
        {
            hub.without_successor(&self.worker, &text!("{e}"));
        }
    }
}
