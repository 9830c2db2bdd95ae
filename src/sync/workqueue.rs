//! Two FIFOs between an owner, who writes questions and reads answers, and everyone else.
//!
//! A queue is open while its owner, the Lua state that made it, has a handle of it. Others find it by name or are
//! handed it. Imports its siblings `fifo` and `names`.

use std::fmt;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Names;
use super::fifo::{Fifo, Limits, Pop};
use crate::err;
use crate::error::{Lossy, Result};
use crate::sys::try_bytes;
use crate::text;
use crate::wait::{EventCount, Owner, Wait};
use crate::wire::{Handles, Inside, Message, Object, Push, leave};

/// The queue itself, shared by its handles.
pub struct WorkQueue {
    name: Option<Box<[u8]>>,
    owner: Owner,
    questions: Fifo,
    answers: Fifo,
    /// Notified when every question has its answer, or never can have.
    drained: EventCount,
    /// How many handles the owner has; 0: closed.
    owners: AtomicU32,
    handles: Handles,
    limits: Limits,
}

static NAMES: Names<WorkQueue> = Names::new();

impl WorkQueue {
    /// A handle for `by` of the queue called `name`, and whether this call made it, with `limits`. `by` owns what it
    /// made. `[mismatch]` if the queue is there with another capacity than the one asked for; the time-out is the
    /// handle's own, where one is asked for.
    pub fn open(name: &[u8], limits: Limits, by: Owner) -> Result<(WorkQueueHandle, bool)> {
        let (queue, made) = NAMES.open(name, || Ok(WorkQueue::make(Some(try_bytes(name)?.into()), limits, by)))?;
        if made {
            // A new one is born with its owner's first handle: nobody ever sees it closed.
            return Ok((WorkQueueHandle::counted(queue, by), made));
        }
        if limits.capacity.is_some() && limits.capacity != queue.limits.capacity {
            let has = queue.limits.capacity.map_or("no limit".to_owned(), |n| text!("a capacity of {n}"));
            let wanted = limits.capacity.unwrap_or_default();
            return Err(err!(
                Mismatch,
                "the queue '{}' is open already with {has}, and here {wanted} is asked for",
                Lossy(name)
            ));
        }
        let mut handle = WorkQueueHandle::new(queue, by);
        handle.timeout = limits.timeout.or(handle.timeout);
        Ok((handle, made))
    }

    /// A handle for its owner `by` of a new queue without a name.
    pub fn nameless(limits: Limits, by: Owner) -> WorkQueueHandle {
        WorkQueueHandle::counted(Arc::new(WorkQueue::make(None, limits, by)), by)
    }

    fn make(name: Option<Box<[u8]>>, limits: Limits, owner: Owner) -> WorkQueue {
        WorkQueue {
            name,
            owner,
            questions: Fifo::new(limits.capacity),
            answers: Fifo::new(limits.capacity),
            drained: EventCount::new(),
            owners: AtomicU32::new(1),
            handles: Handles::default(),
            limits,
        }
    }

    /// Whether the owner has closed its last handle.
    pub fn is_closed(&self) -> bool {
        self.owners.load(Ordering::SeqCst) == 0
    }

    /// How many questions and answers wait to be read.
    pub fn pending(&self) -> (u64, u64) {
        (self.questions.queue().len(), self.answers.queue().len())
    }

    fn ways(&self, by: Owner) -> (&Fifo, &Fifo) {
        if by == self.owner { (&self.questions, &self.answers) } else { (&self.answers, &self.questions) }
    }

    /// Whether `by` has to do with a closed queue. To its owner it is open as long as the owner can ask.
    fn closed_to(&self, by: Owner) -> bool {
        by != self.owner && self.is_closed()
    }

    /// Writes all of `items` or none. Waits for room in a full queue; `[timeout]` leaves queue and items as they were.
    /// What another than the owner writes into a closed queue is dropped.
    pub fn write(&self, by: Owner, items: &mut [Message], wait: &Wait) -> Result<()> {
        let push = self.ways(by).0.write(items, wait, || self.closed_to(by))?;
        self.written(by, items, push);
        Ok(())
    }

    /// As [`WorkQueue::write`], false at once where there is no room.
    pub fn write_now(&self, by: Owner, items: &mut [Message]) -> Result<bool> {
        let push = self.ways(by).0.write_now(items, || self.closed_to(by))?;
        self.written(by, items, push);
        Ok(push != Push::Full)
    }

    fn written(&self, by: Owner, items: &mut [Message], push: Push) {
        match push {
            // The write of the items had the fence for this look.
            Push::Done if by != self.owner && self.drained.is_awaited() && self.settled().is_some() => {
                self.drained.notify_all();
            }
            Push::Closed => items.iter_mut().for_each(Message::clear),
            Push::Done | Push::Full | Push::NoMemory => {}
        }
    }

    /// Takes the next item for `by` into `out`, which is left empty when there is none: false when time runs out,
    /// `[closed]` when the owner has closed and nothing is left.
    pub fn read(&self, by: Owner, out: &mut Message, wait: &Wait) -> Result<bool> {
        match self.ways(by).1.read(out, wait, || self.closed_to(by))? {
            Pop::Item => Ok(true),
            Pop::Nothing => Ok(false),
            Pop::Closed => Err(err!(Closed, "the owner of the queue has closed it, and nothing is left to read")),
        }
    }

    /// Takes back an item that [`WorkQueue::read`] gave to `by` and that there is no memory for now: it is the next to
    /// be read.
    pub fn put_back(&self, by: Owner, item: Message) {
        self.ways(by).1.put_back(item, || self.closed_to(by));
    }

    /// Waits until as many answers were written as questions: those in workers' hands included. Only for the owner.
    pub fn drain(&self, by: Owner, wait: &Wait) -> Result<()> {
        if by != self.owner {
            return Err(err!(State, "only the owner of a queue, the thread that made it, can drain it"));
        }
        match self.drained.wait_until(wait, || self.settled())? {
            Some(result) => result,
            None => {
                let (questions, answers) = (self.questions.queue().written(), self.answers.queue().written());
                Err(err!(Timeout, "{} of {questions} questions have no answer yet", questions.saturating_sub(answers)))
            }
        }
    }

    /// Whether a drain is over.
    fn settled(&self) -> Option<Result<()>> {
        let (questions, answers) = (self.questions.queue().written(), self.answers.queue().written());
        if answers >= questions {
            return Some(Ok(()));
        }
        // The owner, who alone could make room, is the one who waits.
        self.answers.queue().is_full(1).then(|| {
            Err(err!(
                State,
                "the answers fill the queue (capacity {}) and {} more are to come; read them instead",
                self.answers.queue().len(),
                questions - answers
            ))
        })
    }

    /// A descriptor that polls readable while `by` can read without waiting.
    pub fn read_fd(&self, by: Owner) -> Result<RawFd> {
        self.ways(by).1.read_fd(|| self.closed_to(by))
    }

    /// Whether `by` can read without waiting.
    pub fn readable(&self, by: Owner) -> bool {
        self.ways(by).1.is_readable(|| self.closed_to(by))
    }

    /// A descriptor that polls readable while `by` can write an item without waiting.
    pub fn write_fd(&self, by: Owner) -> Result<RawFd> {
        self.ways(by).0.write_fd(|| self.closed_to(by))
    }

    /// Whether `by` can write an item without waiting.
    pub fn writable(&self, by: Owner) -> bool {
        self.ways(by).0.has_room(|| self.closed_to(by))
    }

    /// `open, 3 questions, 0 answers`
    fn described(&self, closed: bool) -> String {
        let (questions, answers) = self.pending();
        let plural = |n| if n == 1 { "" } else { "s" };
        text!(
            "{}, {questions} question{}, {answers} answer{}",
            if closed { "closed by its owner" } else { "open" },
            plural(questions),
            plural(answers)
        )
    }

    fn enter(&self, by: Owner) {
        if by == self.owner && self.owners.fetch_add(1, Ordering::SeqCst) == 0 {
            self.changed();
        }
    }

    fn leave(&self, by: Owner) {
        if by == self.owner && self.owners.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.changed();
        }
    }

    /// Has everyone who waits look again: a coroutine of the state may wait by a handle that another has closed.
    fn wake_all(&self) {
        for fifo in [&self.questions, &self.answers] {
            fifo.items.notify_all();
            fifo.notify_writers();
        }
        self.drained.notify_all();
    }

    /// After it was closed to all but its owner, or opened again.
    fn changed(&self) {
        self.questions.changed_for_readers(|| self.is_closed());
        self.answers.changed_for_writers(|| self.is_closed());
    }
}

impl Drop for WorkQueue {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            NAMES.forget(name, self);
        }
    }
}

impl fmt::Debug for WorkQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkQueue")
            .field("name", &self.name.as_deref().map(Lossy))
            .field("owner", &self.owner)
            .field("closed", &self.is_closed())
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}

impl Object for WorkQueue {
    fn class(&self) -> &'static str {
        "ipc.workqueue"
    }

    fn state(&self) -> String {
        let state = self.described(self.is_closed());
        self.name.as_ref().map_or(state.clone(), |name| text!("'{}', {state}", Lossy(name)))
    }

    fn weight(&self) -> usize {
        size_of::<WorkQueue>() + self.questions.queue().bytes() + self.answers.queue().bytes()
    }

    fn inside(&self) -> Option<Inside<'_>> {
        let queues = [Some(self.questions.queue()), Some(self.answers.queue())];
        Some(Inside { handles: &self.handles, queues })
    }
}

/// One Lua state's hold on a queue.
#[derive(Debug)]
pub struct WorkQueueHandle {
    queue: Option<Arc<WorkQueue>>,
    by: Owner,
    /// Seconds that a write through it waits for room.
    timeout: Option<f64>,
}

impl WorkQueueHandle {
    /// A handle for `by` of a queue that it was handed.
    pub fn new(queue: Arc<WorkQueue>, by: Owner) -> WorkQueueHandle {
        queue.enter(by);
        WorkQueueHandle::counted(queue, by)
    }

    /// A handle that counts already among its owner's, if it is one of those: a new queue is born with the first.
    fn counted(queue: Arc<WorkQueue>, by: Owner) -> WorkQueueHandle {
        queue.handles.enter();
        let timeout = queue.limits.timeout;
        WorkQueueHandle { queue: Some(queue), by, timeout }
    }

    /// The queue, `[closed]` after [`WorkQueueHandle::close`].
    pub fn queue(&self) -> Result<&Arc<WorkQueue>> {
        self.queue.as_ref().ok_or_else(|| err!(Closed, "this handle of the queue is closed"))
    }

    /// Whose handle it is.
    pub fn by(&self) -> Owner {
        self.by
    }

    /// How many seconds a call on this handle waits that is told no time; for ever where absent.
    pub fn timeout(&self) -> Option<f64> {
        self.timeout
    }

    /// Lets go; twice is fine. The owner's last handle closes the queue.
    pub fn close(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.leave(self.by);
            queue.wake_all();
            leave(queue);
        }
    }
}

impl Drop for WorkQueueHandle {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Display for WorkQueueHandle {
    /// `ipc.workqueue 'jobs': open, 3 questions, 0 answers`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ipc.workqueue")?;
        let Some(queue) = &self.queue else { return f.write_str(": closed") };
        if let Some(name) = &queue.name {
            write!(f, " '{}'", Lossy(name))?;
        }
        write!(f, ": {}", queue.described(queue.closed_to(self.by)))
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
