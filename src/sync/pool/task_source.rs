//! The workers' half of a pool. Imports its sibling `state`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::state::{CANCELLED, PoolState, READY, Worker};
use crate::error::Result;
use crate::sync::{Outcome, Task};
use crate::text;
use crate::wait::{Cancel, Wait};
use crate::wire::Message;

/// Where a worker takes its tasks from. Dropped with a task in its hands, it fails that task.
pub struct TaskSource {
    pool: Arc<PoolState>,
    worker: Arc<Worker>,
    /// Cancels the worker's calls.
    pub cancel: Arc<Cancel>,
}

impl fmt::Debug for TaskSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskSource").field("worker", &self.worker.id).finish_non_exhaustive()
    }
}

/// What a worker is to do next.
#[derive(Debug)]
pub enum Order {
    /// This task; [`TaskSource::settle`] is to follow.
    Run(Task),
    /// Nothing came in time.
    Idle,
    /// Go home.
    Leave,
}

impl TaskSource {
    /// For the thread of `worker`, whose calls `cancel` ends.
    pub(super) fn new(pool: Arc<PoolState>, worker: Arc<Worker>, cancel: Arc<Cancel>) -> TaskSource {
        TaskSource { pool, worker, cancel }
    }

    /// The worker has started well.
    pub fn ready(&self) {
        self.worker.progress.store(READY, Ordering::SeqCst);
    }

    /// `[state]` where a task has forked and this is the child.
    pub fn check(&self) -> Result<()> {
        self.pool.check()
    }

    /// Waits for a task.
    pub fn next(&self, wait: &Wait) -> Result<Order> {
        let pool = &*self.pool;
        let look = || {
            if pool.queued.load(Ordering::SeqCst) == 0 {
                return pool.is_over().then_some(Order::Leave);
            }
            self.worker.group.get()?;
            let mut queue = pool.queue.lock();
            let Some(at) = queue.slots.iter().position(|slot| Arc::ptr_eq(&slot.worker, &self.worker)) else {
                return Some(Order::Leave);
            };
            let Some((_, (task, future))) = queue.tasks.pop_first() else {
                // Another took the last one; that there will be no more was told before.
                return pool.is_over().then_some(Order::Leave);
            };
            pool.queued.store(queue.tasks.len(), Ordering::SeqCst);
            queue.slots[at].current = Some(future);
            Some(Order::Run(task))
        };
        let more = || pool.queued.load(Ordering::SeqCst) > 0 || pool.is_over();
        let order = pool.moved.wait_to_take(wait, look, more)?;
        Ok(order.unwrap_or(Order::Idle))
    }

    /// The task has ended with `outcome`, and has `raised` a value that can travel. Whether the worker goes on: not
    /// where its task was cancelled.
    pub fn settle(&self, outcome: Outcome, raised: Option<Message>) -> bool {
        let (future, dismissed) = {
            let mut queue = self.pool.queue.lock();
            let Some(slot) = queue.slots.iter_mut().find(|slot| Arc::ptr_eq(&slot.worker, &self.worker)) else {
                return false;
            };
            (slot.current.take(), slot.dismissed)
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

impl Drop for TaskSource {
    fn drop(&mut self) {
        if self.pool.check().is_err() {
            return;
        }
        let pool = &self.pool;
        let Some(slot) = pool.leave(&self.worker) else { return };
        if let Some(future) = slot.current {
            future.settle(Outcome::Failed(b"internal error in a worker, please report it".to_vec().into()));
        }
        // One that ends for no reason is replaced.
        let lost = !slot.dismissed && !self.cancel.fired() && self.worker.is(READY);
        if lost
            && !pool.is_over()
            && let Err(e) = pool.start_worker(self.worker.id, None)
        {
            pool.without_successor(&self.worker, &text!("{e}"));
        }
    }
}
