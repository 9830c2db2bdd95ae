//! What workers, futures and handles of a pool share: the queue, and who works on what. Imports its sibling
//! `task_source`.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use super::task_source::TaskSource;
use super::{Terms, Work};
use crate::err;
use crate::error::{Lossy, Result};
use crate::sync::worker::PATIENCE;
use crate::sync::{Failure, Future, Outcome, Task, ThreadGroup, WorkerContext};
use crate::sys::{Lock, SetOnce, fork_generation, try_bytes, try_extend};
use crate::text;
use crate::wait::{Cancel, Deadline, EventCount, Wait};

pub(super) const NEVER_RAN: &str = "before it ran";
pub(super) const CANCELLED: &str = "while it ran";

/// What workers, futures and handles of a pool share.
pub struct PoolState {
    generation: u32,
    pub terms: Terms,
    work: Box<Work>,
    pub queue: Lock<Queue>,
    /// How many tasks are queued: read without the lock by those who look for one.
    pub queued: AtomicUsize,
    pub closed: AtomicBool,
    /// There is a task, or none will come any more.
    pub moved: EventCount,
    /// How many workers are missing: read without the lock by those who submit.
    missing: AtomicUsize,
    /// All are: what is queued waits for somebody who starts one.
    stranded: AtomicBool,
    /// Held by who starts workers that are missing.
    refilling: Lock<()>,
    /// Whether all workers have started, or those that have are to go home: no worker begins before that.
    open: AtomicBool,
    opened: EventCount,
}

/// What is to be done, and who does it; under the lock.
#[derive(Default)]
pub struct Queue {
    /// The number of the last task.
    pub last: u64,
    pub tasks: BTreeMap<u64, (Task, Arc<Future>)>,
    pub slots: Vec<WorkerSlot>,
    /// Threads that may still run: those of the slots, and those that have left theirs.
    pub threads: Vec<Arc<Worker>>,
    /// Why no worker can start.
    pub broken: Option<Failure>,
    /// Workers that have left, for whose successors the system gave no thread.
    missing: Vec<Arc<Worker>>,
}

/// A worker at work.
pub struct WorkerSlot {
    pub worker: Arc<Worker>,
    /// The task in its hands.
    pub current: Option<Arc<Future>>,
    /// Its task was cancelled, and it ends.
    pub dismissed: bool,
}

/// One worker.
pub struct Worker {
    /// From 1; a successor has its predecessor's.
    pub id: usize,
    /// Set right after its thread has started.
    pub group: SetOnce<ThreadGroup<()>>,
    pub progress: AtomicU32,
}

/// It may wait for its predecessor.
const COMING: u32 = 0;
/// It does what comes before [`TaskSource::ready`].
pub(super) const STARTING: u32 = 1;
/// It takes tasks.
pub(super) const READY: u32 = 2;

impl Worker {
    /// Whether that is how far it has come.
    pub fn is(&self, progress: u32) -> bool {
        self.progress.load(Ordering::SeqCst) == progress
    }
}

thread_local! {
    /// The pool whose worker this thread is; only compared.
    static OWN_POOL: Cell<*const PoolState> = const { Cell::new(std::ptr::null()) };
}

impl PoolState {
    /// No worker has started yet.
    pub fn new(terms: Terms, work: Box<Work>) -> Result<Arc<PoolState>> {
        let mut queue = Queue::default();
        // All may be: who leaves must not need memory for that.
        queue.missing.try_reserve_exact(terms.count)?;
        Ok(Arc::new(PoolState {
            generation: fork_generation(),
            terms,
            work,
            queue: Lock::new(queue),
            queued: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            moved: EventCount::new(),
            missing: AtomicUsize::new(0),
            stranded: AtomicBool::new(false),
            refilling: Lock::default(),
            open: AtomicBool::new(false),
            opened: EventCount::new(),
        }))
    }

    /// All workers have started: they go to work.
    pub fn begin(&self) {
        self.open.store(true, Ordering::SeqCst);
        self.opened.notify_all();
    }

    /// The system gave too few threads: those that have started go home. Waits for that.
    pub fn dismiss_all(&self) {
        self.shut();
        self.begin();
        let wait = Wait::until(Deadline::after(PATIENCE));
        let threads = self.queue.lock().threads.clone();
        for group in threads.iter().filter_map(|worker| worker.group.get()) {
            // One that takes longer ends by itself.
            let _ = group.wait(&wait);
        }
    }

    /// Whether this thread is one of its workers.
    pub fn has_this_thread(&self) -> bool {
        OWN_POOL.try_with(Cell::get).is_ok_and(|own| std::ptr::eq(own, self))
    }

    /// `[state]` in the child of a fork, which has none of the workers.
    pub fn check(&self) -> Result<()> {
        if self.generation == fork_generation() {
            return Ok(());
        }
        Err(err!(State, "the workers belong to the process that forked this one; make a new pool here"))
    }

    /// Takes no more tasks.
    pub fn shut(&self) {
        {
            // Under the lock: what is submitted is in the queue before this, or refused.
            let _queue = self.queue.lock();
            self.closed.store(true, Ordering::SeqCst);
        }
        self.moved.notify_all();
    }

    /// Whether this task waits for a worker.
    pub fn is_queued(&self, number: u64) -> bool {
        self.queue.lock().tasks.contains_key(&number)
    }

    /// How many tasks wait, and how many run.
    pub fn tasks(&self) -> (usize, usize) {
        let queue = self.queue.lock();
        (queue.tasks.len(), queue.slots.iter().filter(|slot| slot.current.is_some()).count())
    }

    /// Forgets threads that have ended.
    pub fn tidy(&self) {
        let ended = |worker: &Arc<Worker>| worker.group.get().is_some_and(|group| group.running() == 0);
        let gone: Vec<_> = {
            let mut queue = self.queue.lock();
            let (gone, rest) = std::mem::take(&mut queue.threads).into_iter().partition(ended);
            queue.threads = rest;
            gone
        };
        drop(gone);
    }

    /// Starts a worker, in the place of `predecessor` if there is one.
    pub fn start_worker(self: &Arc<Self>, id: usize, predecessor: Option<Arc<Worker>>) -> Result<()> {
        self.tidy();
        let worker = Arc::new(Worker { id, group: SetOnce::new(), progress: AtomicU32::new(COMING) });
        {
            let mut queue = self.queue.lock();
            queue.slots.try_reserve(1)?;
            queue.threads.try_reserve(1)?;
            queue.slots.push(WorkerSlot { worker: worker.clone(), current: None, dismissed: false });
            queue.threads.push(worker.clone());
        }
        let (pool, its, gone) = (self.clone(), worker.clone(), Lock::new(predecessor));
        let started = ThreadGroup::start_at(0, &self.terms.name, id, 1, self.terms.stack, move |context| {
            let predecessor = gone.lock().take();
            pool.serve(&its, predecessor, context)
        });
        match started {
            Ok(group) => {
                let _ = worker.group.set(group);
                // It takes no task before this is known.
                self.moved.notify_all();
                Ok(())
            }
            Err(e) => {
                let mut queue = self.queue.lock();
                queue.slots.retain(|slot| !Arc::ptr_eq(&slot.worker, &worker));
                queue.threads.retain(|known| !Arc::ptr_eq(known, &worker));
                Err(e)
            }
        }
    }

    /// The whole life of a worker's thread.
    fn serve(
        self: &Arc<Self>,
        worker: &Arc<Worker>,
        predecessor: Option<Arc<Worker>>,
        context: &WorkerContext,
    ) -> std::result::Result<(), Failure> {
        OWN_POOL.set(Arc::as_ptr(self));
        let source = TaskSource::new(self.clone(), worker.clone(), context.cancel.clone());
        if let Some(predecessor) = predecessor {
            self.reap(&predecessor, &context.cancel);
        }
        let wait = Wait { deadline: Deadline::NEVER, interrupt: &Cancelled(&context.cancel) };
        let open = self.opened.wait_until(&wait, || self.open.load(Ordering::SeqCst).then_some(()));
        if open.is_err() {
            // The process ends.
            return Ok(());
        }
        // Before the look: a thread that ends the pool after it finds a worker that starts, and breaks in.
        worker.progress.store(STARTING, Ordering::SeqCst);
        if self.is_over() {
            return Ok(());
        }
        let result = (self.work)(&source);
        if let Err(text) = &result
            && worker.is(STARTING)
            && self.check().is_ok()
        {
            self.break_down(text);
        }
        result
    }

    /// Waits until `worker`, which was dismissed, has ended, or its time to do so is over; then its task has ended too.
    fn reap(&self, worker: &Arc<Worker>, cancel: &Cancel) {
        let Some(group) = worker.group.get() else { return };
        let _ = group.wait(&Wait { deadline: Deadline::NEVER, interrupt: &Cancelled(cancel) });
        if let Some(future) = self.leave(worker).and_then(|slot| slot.current) {
            let text = group.take_failure().map_or_else(Vec::new, |(_, text)| text);
            let why = text.strip_prefix(b"libipc [cancelled] ").unwrap_or(b"this thread was cancelled too");
            future.settle(Outcome::Cancelled(text!("{CANCELLED}; {}", Lossy(why)).into()));
        }
    }

    /// Takes `worker` off the list, if it still is on it.
    pub fn leave(&self, worker: &Arc<Worker>) -> Option<WorkerSlot> {
        let mut queue = self.queue.lock();
        let at = queue.slots.iter().position(|slot| Arc::ptr_eq(&slot.worker, worker))?;
        Some(queue.slots.swap_remove(at))
    }

    /// Whether there is nothing left to do for workers.
    pub fn is_over(&self) -> bool {
        // In this order: nothing is queued once it is closed.
        self.closed.load(Ordering::SeqCst) && self.queued.load(Ordering::SeqCst) == 0
    }

    /// No worker can work: all that is queued fails with `text`, as does all that is submitted from now on.
    pub fn break_down(&self, text: &[u8]) {
        let mut whole = b"the pool has no workers: ".to_vec();
        // Without memory for both, the first half says what matters.
        let _ = try_extend(&mut whole, text);
        let text = whole;
        let tasks = {
            let mut queue = self.queue.lock();
            queue.broken.get_or_insert_with(|| try_bytes(&text).unwrap_or_default());
            self.queued.store(0, Ordering::SeqCst);
            std::mem::take(&mut queue.tasks)
        };
        for (_, future) in tasks.into_values() {
            future.settle(Outcome::Failed(try_bytes(&text).unwrap_or_default().into()));
        }
    }

    /// Takes this task out of the queue, or dismisses the worker that has it; false where it has ended.
    pub fn cancel(self: &Arc<Self>, future: &Future) -> Result<bool> {
        let (queued, running) = {
            let mut queue = self.queue.lock();
            let queued = queue.tasks.remove(&future.number);
            self.queued.store(queue.tasks.len(), Ordering::SeqCst);
            let is_its = |slot: &&mut WorkerSlot| slot.current.as_ref().is_some_and(|f| f.number == future.number);
            let running = match queue.slots.iter_mut().find(is_its) {
                Some(slot) if slot.dismissed => return Ok(true),
                Some(slot) => {
                    slot.dismissed = true;
                    Some(slot.worker.clone())
                }
                None => None,
            };
            (queued, running)
        };
        if let Some((_, future)) = queued {
            future.settle(Outcome::Cancelled(NEVER_RAN.into()));
            return Ok(true);
        }
        let Some(worker) = running else { return Ok(false) };
        if let Some(group) = worker.group.get() {
            group.cancel();
        }
        if let Err(e) = self.start_worker(worker.id, Some(worker.clone())) {
            self.without_successor(&worker, &text!("{e}"));
        }
        Ok(true)
    }

    /// The system gives no thread for a successor. What is queued waits for the others, or where there are none for
    /// who starts one.
    pub fn without_successor(&self, worker: &Arc<Worker>, why: &str) {
        if let Some(future) = self.leave(worker).and_then(|slot| slot.current) {
            let text = text!("{CANCELLED}, and nobody could take its worker's place: {why}");
            future.settle(Outcome::Cancelled(text.into()));
        }
        self.is_missing(worker.clone());
    }

    /// No thread could be had for the successor of `worker`.
    fn is_missing(&self, worker: Arc<Worker>) {
        {
            let mut queue = self.queue.lock();
            queue.missing.push(worker);
            self.missing.store(queue.missing.len(), Ordering::SeqCst);
        }
        self.count_workers();
    }

    /// After a worker has come or gone: those who wait for what is queued hear whether there is anybody to do it.
    fn count_workers(&self) {
        let futures: Vec<_> = {
            let queue = self.queue.lock();
            let stranded = queue.slots.is_empty() && !queue.missing.is_empty();
            if self.stranded.swap(stranded, Ordering::SeqCst) == stranded {
                return;
            }
            queue.tasks.values().map(|(_, future)| future.clone()).collect()
        };
        futures.iter().for_each(|future| future.look_again());
    }

    /// Whether tasks are queued, and no worker is left for them.
    pub fn is_stranded(&self) -> bool {
        self.stranded.load(Ordering::SeqCst) && self.queued.load(Ordering::SeqCst) > 0
    }

    /// Starts the workers that are missing, as far as the system gives threads; `[limit]` where there is none at all.
    pub fn refill(self: &Arc<Self>) -> Result<()> {
        if self.missing.load(Ordering::SeqCst) == 0 && !self.stranded.load(Ordering::SeqCst) {
            return Ok(());
        }
        // One thread at a time: who comes second sees what the first could do.
        let _refilling = self.refilling.lock();
        while let Some(worker) = self.take_missing() {
            // It waits until its predecessor has ended: never more are at work than the pool was made with.
            if let Err(e) = self.start_worker(worker.id, Some(worker.clone())) {
                self.is_missing(worker);
                if self.stranded.load(Ordering::SeqCst) {
                    return Err(err!(Limit, "the pool has no worker left, and none can start: {}", e.what()));
                }
                return Ok(());
            }
            self.count_workers();
        }
        Ok(())
    }

    fn take_missing(&self) -> Option<Arc<Worker>> {
        let mut queue = self.queue.lock();
        if queue.broken.is_some() || self.is_over() {
            return None;
        }
        let worker = queue.missing.pop();
        self.missing.store(queue.missing.len(), Ordering::SeqCst);
        worker
    }
}

/// Breaks into a worker that waits for its predecessor, or for the others.
struct Cancelled<'a>(&'a Cancel);

impl crate::wait::Interrupt for Cancelled<'_> {
    fn on_signal(&self) -> Result<()> {
        Ok(())
    }
    fn cancel(&self) -> Option<&Cancel> {
        Some(self.0)
    }
}
