//! Warm workers and the queue of tasks that they serve.
//!
//! What a worker does with a task is the business of whoever makes the pool: it is given a [`Bench`], from which it takes
//! one task after the other. Each worker is a [`Crew`] of its own, so that the task in its hands can be ended: a worker
//! that is dismissed ends with its task, and another takes its place. The successor first waits until its predecessor has
//! ended or was abandoned, so there are never more at work than the pool has seats, and a future is settled only when its
//! task touches nothing any more.
//!
//! Nobody ends the threads of a pool whose last handle is gone: they do what was submitted, then leave.
//!
//! Imports its siblings `batch`, `future` and `worker`.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use super::batch::Finished;
use super::{Crew, Failure, Future, Outcome, Seat, Task};
use crate::err;
use crate::error::Result;
use crate::sys::{Lock, SetOnce, fork_generation};
use crate::wait::{Cancel, Deadline, Signal, Wait};
use crate::wire::Object;

/// A worker's whole life, but for its start and its end: an error before [`Bench::ready`] breaks the pool.
type Work = dyn Fn(&Bench) -> std::result::Result<(), Failure> + Send + Sync;

/// A handle of a pool, shared by all who may submit to it. When the last is dropped the pool is closed, and not waited for.
pub struct Pool(Arc<Hub>);

/// What workers, futures and handles of a pool share.
pub(super) struct Hub {
    generation: u32,
    terms: Terms,
    work: Box<Work>,
    books: Lock<Books>,
    /// How many tasks are queued: read without the lock by those who look for one.
    queued: AtomicUsize,
    closed: AtomicBool,
    /// There is a task, or none will come any more.
    moved: Signal,
    /// Some future was settled.
    pub(super) finished: Signal,
}

#[derive(Default)]
struct Books {
    /// The number of the last task.
    last: u64,
    queue: BTreeMap<u64, (Task, Arc<Future>)>,
    posts: Vec<Post>,
    /// Threads that may still run: those of the posts, and those that have left theirs.
    threads: Vec<Arc<Worker>>,
    /// Why no worker can start.
    broken: Option<Failure>,
}

/// A worker at work.
struct Post {
    worker: Arc<Worker>,
    /// The task in its hands.
    current: Option<Arc<Future>>,
    /// Its task was cancelled, and it ends.
    dismissed: bool,
}

/// One worker.
struct Worker {
    /// From 1; a successor has its predecessor's.
    id: usize,
    /// Set right after its thread has started.
    crew: SetOnce<Crew<()>>,
    progress: AtomicU32,
}

/// It may wait for its predecessor.
const COMING: u32 = 0;
/// It does what comes before [`Bench::ready`].
const STARTING: u32 = 1;
const READY: u32 = 2;

impl Worker {
    fn is(&self, progress: u32) -> bool {
        self.progress.load(Ordering::SeqCst) == progress
    }
}

thread_local! {
    /// The pool that this thread works for; only compared.
    static EMPLOYER: Cell<*const Hub> = const { Cell::new(std::ptr::null()) };
}

/// What a pool is made with.
#[derive(Clone, Debug)]
pub struct Terms {
    /// What the system knows the workers by, with a number.
    pub name: String,
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
        let hub = Arc::new(Hub {
            generation: fork_generation(),
            terms,
            work: Box::new(work),
            books: Lock::default(),
            queued: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            moved: Signal::new(),
            finished: Signal::new(),
        });
        // Dropped on the way out, it sends those home that have started.
        let pool = Pool(hub);
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
                return Err(err!(Worker, "{}", String::from_utf8_lossy(text)));
            }
            books.last += 1;
            let number = books.last;
            let future = Arc::new(Future::new(number, hub.clone(), batch));
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
        if EMPLOYER.try_with(Cell::get).is_ok_and(|own| std::ptr::eq(own, Arc::as_ptr(hub))) {
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
            self.0.shut();
        }
    }
}

const NEVER_RAN: &str = "before it ran";
const CANCELLED: &str = "while it ran";

impl Hub {
    pub(super) fn check(&self) -> Result<()> {
        if self.generation == fork_generation() {
            return Ok(());
        }
        Err(err!(State, "the workers belong to the process that forked this one; make a new pool here"))
    }

    fn shut(&self) {
        {
            // Under the lock: what is submitted is in the queue before this, or refused.
            let _books = self.books.lock();
            self.closed.store(true, Ordering::SeqCst);
        }
        self.moved.notify_all();
    }

    pub(super) fn is_queued(&self, number: u64) -> bool {
        self.books.lock().queue.contains_key(&number)
    }

    /// How many tasks wait, and how many run.
    fn tasks(&self) -> (usize, usize) {
        let books = self.books.lock();
        (books.queue.len(), books.posts.iter().filter(|post| post.current.is_some()).count())
    }

    /// Forgets threads that have ended.
    fn tidy(&self) {
        let ended = |worker: &Arc<Worker>| worker.crew.get().is_some_and(|crew| crew.running() == 0);
        let gone: Vec<_> = {
            let mut books = self.books.lock();
            let (gone, rest) = std::mem::take(&mut books.threads).into_iter().partition(ended);
            books.threads = rest;
            gone
        };
        drop(gone);
    }

    /// Starts a worker, in the place of `predecessor` if there is one.
    fn employ(self: &Arc<Self>, id: usize, predecessor: Option<Arc<Worker>>) -> Result<()> {
        self.tidy();
        let worker = Arc::new(Worker { id, crew: SetOnce::new(), progress: AtomicU32::new(COMING) });
        {
            let mut books = self.books.lock();
            books.posts.push(Post { worker: worker.clone(), current: None, dismissed: false });
            books.threads.push(worker.clone());
        }
        let (hub, its, gone) = (self.clone(), worker.clone(), Lock::new(predecessor));
        let started = Crew::start_at(&self.terms.name, id, 1, self.terms.stack, move |seat| {
            let predecessor = gone.lock().take();
            hub.serve(&its, predecessor, seat)
        });
        match started {
            Ok(crew) => {
                let _ = worker.crew.set(crew);
                // It takes no task before this is known.
                self.moved.notify_all();
                Ok(())
            }
            Err(e) => {
                let mut books = self.books.lock();
                books.posts.retain(|post| !Arc::ptr_eq(&post.worker, &worker));
                books.threads.retain(|known| !Arc::ptr_eq(known, &worker));
                Err(e)
            }
        }
    }

    /// The whole life of a worker's thread.
    fn serve(
        self: &Arc<Self>,
        worker: &Arc<Worker>,
        predecessor: Option<Arc<Worker>>,
        seat: &Seat,
    ) -> std::result::Result<(), Failure> {
        EMPLOYER.set(Arc::as_ptr(self));
        let bench = Bench { hub: self.clone(), worker: worker.clone(), cancel: seat.cancel.clone() };
        if let Some(predecessor) = predecessor {
            self.bury(&predecessor, &seat.cancel);
        }
        // Before the look: whoever ends the pool after it finds a worker that starts, and breaks in.
        worker.progress.store(STARTING, Ordering::SeqCst);
        if self.is_over() {
            return Ok(());
        }
        let result = (self.work)(&bench);
        if let Err(text) = &result
            && worker.is(STARTING)
            && self.check().is_ok()
        {
            self.break_down(text);
        }
        result
    }

    /// Waits until `worker`, which was dismissed, has ended, or its time to do so is over; then its task has ended too.
    fn bury(&self, worker: &Arc<Worker>, cancel: &Cancel) {
        let Some(crew) = worker.crew.get() else { return };
        let _ = crew.wait(&Wait { deadline: Deadline::NEVER, interrupt: &Cancelled(cancel) });
        if let Some(future) = self.leave(worker).and_then(|post| post.current) {
            let text = crew.take_failure().map_or_else(Vec::new, |(_, text)| text);
            let text = String::from_utf8_lossy(&text);
            let why = text.strip_prefix("libipc [cancelled] ").unwrap_or("this thread was cancelled too");
            future.settle(Outcome::Cancelled(format!("{CANCELLED}; {why}").into()));
        }
    }

    /// Takes `worker` off the list, if it still is on it.
    fn leave(&self, worker: &Arc<Worker>) -> Option<Post> {
        let mut books = self.books.lock();
        let at = books.posts.iter().position(|post| Arc::ptr_eq(&post.worker, worker))?;
        Some(books.posts.swap_remove(at))
    }

    /// Whether there is nothing left to do for workers.
    fn is_over(&self) -> bool {
        // In this order: nothing is queued once it is closed.
        self.closed.load(Ordering::SeqCst) && self.queued.load(Ordering::SeqCst) == 0
    }

    /// No worker can work: all that is queued fails with `text`, as does all that is submitted from now on.
    fn break_down(&self, text: &[u8]) {
        let text = [b"the pool has no workers: ", text].concat();
        let queue = {
            let mut books = self.books.lock();
            books.broken.get_or_insert_with(|| text.clone());
            self.queued.store(0, Ordering::SeqCst);
            std::mem::take(&mut books.queue)
        };
        for (_, future) in queue.into_values() {
            future.settle(Outcome::Failed(text.clone()));
        }
    }

    pub(super) fn cancel(self: &Arc<Self>, future: &Future) -> Result<bool> {
        let (queued, running) = {
            let mut books = self.books.lock();
            let queued = books.queue.remove(&future.number);
            self.queued.store(books.queue.len(), Ordering::SeqCst);
            let is_its = |post: &&mut Post| post.current.as_ref().is_some_and(|f| f.number == future.number);
            let running = match books.posts.iter_mut().find(is_its) {
                Some(post) if post.dismissed => return Ok(true),
                Some(post) => {
                    post.dismissed = true;
                    Some(post.worker.clone())
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
        if let Some(crew) = worker.crew.get() {
            crew.cancel();
        }
        if let Err(e) = self.employ(worker.id, Some(worker.clone())) {
            self.without_successor(&worker, &e.to_string());
        }
        Ok(true)
    }

    /// The system gives no thread for a successor.
    fn without_successor(&self, worker: &Arc<Worker>, why: &str) {
        if let Some(future) = self.leave(worker).and_then(|post| post.current) {
            let text = format!("{CANCELLED}, and nobody could take its worker's place: {why}");
            future.settle(Outcome::Cancelled(text.into()));
        }
        if self.books.lock().posts.is_empty() {
            self.break_down(why.as_bytes());
        }
    }
}

/// Breaks into a worker that waits for its predecessor.
struct Cancelled<'a>(&'a Cancel);

impl crate::wait::Interrupt for Cancelled<'_> {
    fn on_signal(&self) -> Result<()> {
        Ok(())
    }
    fn cancel(&self) -> Option<&Cancel> {
        Some(self.0)
    }
}

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

    /// The task has ended with `outcome`. Whether the worker goes on: not where its task was cancelled.
    pub fn settle(&self, outcome: Outcome) -> bool {
        let (future, dismissed) = {
            let mut books = self.hub.books.lock();
            let Some(post) = books.posts.iter_mut().find(|post| Arc::ptr_eq(&post.worker, &self.worker)) else {
                return false;
            };
            (post.current.take(), post.dismissed)
        };
        if let Some(future) = future {
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
            future.settle(Outcome::Failed(b"internal error in a worker, please report it".to_vec()));
        }
        // One that ends for no reason is replaced.
        let lost = !post.dismissed && !self.cancel.fired() && self.worker.is(READY);
        if lost
            && !hub.is_over()
            && let Err(e) = hub.employ(self.worker.id, None)
        {
            hub.without_successor(&self.worker, &e.to_string());
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
        format!(
            "{state}, {workers} worker{}, {running} task{} running, {queued} queued",
            plural(workers),
            plural(running)
        )
    }

    /// Its name, if it was given one.
    fn name(&self) -> Option<&str> {
        Some(self.0.terms.name.as_str()).filter(|name| *name != "ipc.pool")
    }
}

impl Object for Pool {
    fn class(&self) -> &'static str {
        "ipc.pool"
    }

    fn state(&self) -> String {
        let name = self.name().map(|name| format!("'{name}', ")).unwrap_or_default();
        name + &self.described()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("name", &self.0.terms.name).field("tasks", &self.0.tasks()).finish_non_exhaustive()
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

#[cfg(test)]
mod tests;
