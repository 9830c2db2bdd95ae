//! Worker threads: a group that is started together, cancelled together and waited for together.
//!
//! The threads are never joined in the sense of `pthread_join`, and never killed: each leaves what its job gave in its
//! slot and goes. A group whose handle is dropped is cancelled; its threads then live as long as their jobs. When the
//! process ends, all groups are cancelled and have a fifth of a second together to end in good order.
//!
//! This file is the handle; `state` is what handle and threads share, `thread` the life of one, `shutdown` the end of
//! the process.
//!
//! ```ignore
//! let group = ThreadGroup::start("loader", 4, STACK, |context| Ok(context.id * 2))?;
//! group.wait(&Wait::until(Deadline::NEVER))?;
//! assert_eq!(group.take_results(), [(1, 2), (2, 4), (3, 6), (4, 8)]);
//! ```

use std::fmt;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::err;
use crate::error::Result;
use crate::sys::{check_memory, close_later, spawn_quiet, start_thread, thread_name, thread_room};
use crate::wait::{Cancel, Deadline, Wait, show_background_thread, sleep};
use crate::wire::Object;

mod shutdown;
mod state;
#[cfg(test)]
mod tests;
mod thread;

pub use shutdown::another_thread_ends_process;
use shutdown::remember;
pub(super) use state::PATIENCE;
pub use state::after_cancel;
use state::{DISMISSED, GroupState, OPEN, Shared, Slot};
use thread::work;

/// How a job failed: the text that its user will see, of any bytes.
pub type Failure = Vec<u8>;

/// What a thread of a group knows about itself.
#[derive(Clone, Debug)]
pub struct WorkerContext {
    /// Which of the group's threads it is, from 1.
    pub id: usize,
    /// Cancels this thread's calls.
    pub cancel: Arc<Cancel>,
}

/// Groups up to this size start without asking what the system can give.
const SURELY_FITS: usize = 256;

/// What a thread takes at the least, its Lua state included.
const FOOTPRINT: usize = 128 << 10;

/// What a thread counts for where garbage is measured: that, and what it loads.
pub(super) const THREAD_WEIGHT: usize = 4 * FOOTPRINT;

/// What [`ThreadGroup::next`] has.
#[derive(Debug)]
pub enum NextEnd<T> {
    /// What the job of this thread gave, or how it failed.
    Ended(usize, std::result::Result<T, Failure>),
    /// Everything was given out.
    Nothing,
    /// No other thread has ended in time.
    OutOfTime,
}

/// Those threads that have started end before they do anything; waits for that.
fn dismiss(state: &GroupState) -> Result<()> {
    state.open(DISMISSED);
    let wait = Wait::until(Deadline::after(PATIENCE));
    state.ended.wait_until(&wait, || (state.running.load(Ordering::Acquire) == 0).then_some(())).map(drop)
}

/// Threads that run one job, each with its own context.
pub struct ThreadGroup<T> {
    shared: Arc<Shared<T>>,
}

impl<T: Send + 'static> ThreadGroup<T> {
    /// Starts `count` threads with `stack` bytes of stack each. The system knows them as `name` and their id.
    ///
    /// All start or none: where the system has no more threads to give, no job has run.
    pub fn start<J>(name: impl AsRef<[u8]>, count: usize, stack: usize, job: J) -> Result<ThreadGroup<T>>
    where
        J: Fn(&WorkerContext) -> std::result::Result<T, Failure> + Send + Sync + 'static,
    {
        ThreadGroup::start_for(0, name, count, stack, job)
    }

    /// As [`ThreadGroup::start`], for the Lua state with the number `owner`: failures of jobs are told on stderr unless
    /// they are taken.
    pub fn start_for<J>(
        owner: u64,
        name: impl AsRef<[u8]>,
        count: usize,
        stack: usize,
        job: J,
    ) -> Result<ThreadGroup<T>>
    where
        J: Fn(&WorkerContext) -> std::result::Result<T, Failure> + Send + Sync + 'static,
    {
        ThreadGroup::<T>::check_room(count)?;
        ThreadGroup::start_at(owner, name, 1, count, stack, job)
    }

    /// `[limit]` where the system could not carry `count` threads more.
    pub fn check_room(count: usize) -> Result<()> {
        if count > SURELY_FITS {
            let room = thread_room(FOOTPRINT);
            if count > room {
                return Err(err!(
                    Limit,
                    "{count} threads are more than this system can carry now (about {room}: memory, vm.max_map_count)"
                ));
            }
        }
        Ok(())
    }

    /// As [`ThreadGroup::start`], with `first` as the first thread's number in its name.
    pub(super) fn start_at<J>(
        owner: u64,
        name: impl AsRef<[u8]>,
        first: usize,
        count: usize,
        stack: usize,
        job: J,
    ) -> Result<ThreadGroup<T>>
    where
        J: Fn(&WorkerContext) -> std::result::Result<T, Failure> + Send + Sync + 'static,
    {
        let name = name.as_ref();
        let shared = Shared::new(name, owner, count)?;
        remember(&shared)?;
        let job = Arc::new(job);
        for index in 0..count {
            // A thread takes some small things before it runs: many must not live on the allocator's reserve.
            if let Err(e) = check_memory() {
                dismiss(&shared.state)?;
                return Err(e);
            }
            if count == 1 {
                shared.state.open(OPEN);
            }
            shared.state.running.fetch_add(1, Ordering::AcqRel);
            let (its, job) = (shared.clone(), job.clone());
            let started = start_thread(&thread_name(name, index + first), stack, move || work(its, index, job));
            if let Err(e) = started {
                shared.state.one_less(1);
                dismiss(&shared.state)?;
                // Who starts many one by one knows how many there are.
                return Err(match count {
                    1 => err!(Limit, "the system starts no more threads ({e})"),
                    _ => err!(
                        Limit,
                        "the system starts no more than {index} of {count} threads ({e}); none of them has run"
                    ),
                });
            }
        }
        shared.state.open(OPEN);
        Ok(ThreadGroup { shared })
    }

    /// How many threads there were at the start.
    pub fn count(&self) -> usize {
        self.shared.state.contexts.len()
    }

    /// The name it was started under, in words.
    pub fn name(&self) -> &str {
        &self.shared.state.name
    }

    /// The group as it is in reports: there as long as its handle or one of its threads.
    pub fn object(&self) -> Arc<dyn Object> {
        self.shared.clone()
    }

    /// How many threads still run; those that were abandoned are not counted.
    pub fn running(&self) -> usize {
        self.shared.state.running.load(Ordering::Acquire)
    }

    /// How many failures nobody has taken yet.
    pub fn failed(&self) -> usize {
        self.shared.slots.lock().all.iter().filter(|slot| matches!(slot, Slot::Failed(_))).count()
    }

    /// `[state]` in the child of a fork, which has none of these threads.
    pub fn check(&self) -> Result<()> {
        if self.shared.state.is_ours() {
            return Ok(());
        }
        Err(err!(State, "these threads belong to the process that forked this one; start new ones here"))
    }

    /// Waits until all threads have ended; false when the time ran out. Threads that have not ended a second after
    /// their cancel are abandoned: they count as failed.
    pub fn wait(&self, wait: &Wait) -> Result<bool> {
        let state = &self.shared.state;
        let ended = self.wait_for(wait, || (state.running.load(Ordering::Acquire) == 0).then_some(()))?;
        Ok(ended.is_some())
    }

    /// Waits for the next thread that ends, and takes what it leaves; it then counts no more. Threads that are
    /// abandoned have ended.
    pub fn next(&self, wait: &Wait) -> Result<NextEnd<T>> {
        let next = self.wait_for(wait, || {
            let mut slots = self.shared.slots.lock();
            while let Some(index) = slots.ended.pop_front() {
                match std::mem::replace(&mut slots.all[index], Slot::Taken) {
                    Slot::Done(result) => return Some(NextEnd::Ended(index + 1, Ok(result))),
                    Slot::Failed(failure) => return Some(NextEnd::Ended(index + 1, Err(failure.take()))),
                    other => slots.all[index] = other,
                }
            }
            let running = slots.all.iter().any(|slot| matches!(slot, Slot::Running { .. }));
            (!running).then_some(NextEnd::Nothing)
        })?;
        Ok(next.unwrap_or(NextEnd::OutOfTime))
    }

    /// Waits until `look` finds something; `None` when the time runs out. Looks again when threads were abandoned.
    fn wait_for<R>(&self, wait: &Wait, mut look: impl FnMut() -> Option<R>) -> Result<Option<R>> {
        self.check()?;
        let state = &self.shared.state;
        loop {
            let give_up = state.give_up();
            let until = give_up.map_or(*wait, |limit| wait.sooner(limit));
            let found = state.ended.wait_until(&until, || match look() {
                Some(found) => Some(Some(found)),
                // Cancelled while we wait: look at the clock again.
                None => (give_up.is_none() && state.give_up().is_some()).then_some(None),
            })?;
            match found {
                Some(found @ Some(_)) => return Ok(found),
                Some(None) => {}
                // Abandoned, or ended just now: there is something to find.
                None if give_up.is_some_and(Deadline::expired) => self.shared.abandon(),
                None => return Ok(None),
            }
        }
    }

    /// Whether [`ThreadGroup::wait`] would not wait.
    pub fn has_ended(&self) -> bool {
        self.shared.abandon();
        let state = &self.shared.state;
        !state.is_ours() || state.is_over()
    }

    /// A descriptor that polls readable once all threads have ended; `[state]` in the child of a fork.
    pub fn fd(&self) -> Result<RawFd> {
        self.check()?;
        self.shared.state.watched.store(true, Ordering::SeqCst);
        let fd = self.shared.state.ended.fd(|| self.shared.state.is_over())?;
        self.abandon_in_time();
        Ok(fd)
    }

    /// Takes the failure of the first thread that has failed: its id and the text. That thread then counts no more.
    pub fn take_failure(&self) -> Option<(usize, Failure)> {
        let mut slots = self.shared.slots.lock();
        let index = slots.all.iter().position(|slot| matches!(slot, Slot::Failed(_)))?;
        match std::mem::replace(&mut slots.all[index], Slot::Taken) {
            Slot::Failed(failure) => Some((index + 1, failure.take())),
            other => {
                slots.all[index] = other;
                None
            }
        }
    }

    /// Takes what the jobs gave, in the order of the ids.
    pub fn take_results(&self) -> Vec<(usize, T)> {
        let mut slots = self.shared.slots.lock();
        let done = slots.all.iter_mut().enumerate().filter(|(_, slot)| matches!(slot, Slot::Done(_)));
        let taken = done.map(|(index, slot)| (index + 1, std::mem::replace(slot, Slot::Taken)));
        taken.filter_map(|(id, slot)| if let Slot::Done(result) = slot { Some((id, result)) } else { None }).collect()
    }

    /// Gives results back that were taken, for the next who asks.
    pub fn put_back(&self, results: impl IntoIterator<Item = (usize, T)>) {
        let mut slots = self.shared.slots.lock();
        for (id, result) in results {
            slots.all[id - 1] = Slot::Done(result);
            slots.ended.push_back(id - 1);
        }
    }

    /// Cancels the calls of all threads that still run. Returns at once.
    pub fn cancel(&self) {
        if self.shared.state.is_ours() {
            // With what the states of its threads hold.
            close_later();
            self.shared.cancel();
            self.abandon_in_time();
        }
    }

    /// A thread that sleeps on the descriptor learns that threads were abandoned from nobody but us.
    fn abandon_in_time(&self) {
        let state = &self.shared.state;
        if state.give_up().is_none()
            || state.is_over()
            || !state.watched.load(Ordering::SeqCst)
            || state.minded.swap(true, Ordering::SeqCst)
        {
            return;
        }
        let group = Arc::downgrade(&self.shared);
        let minded = spawn_quiet("ipc-patience", move || {
            show_background_thread();
            // It lasts longer while others end.
            while let Some(shared) = group.upgrade() {
                shared.abandon();
                let limit = shared.state.give_up().filter(|_| !shared.state.is_over());
                drop(shared);
                let Some(limit) = limit else { return };
                let _ = sleep(&Wait::until(limit));
            }
        });
        state.minded.store(minded.is_ok(), Ordering::SeqCst);
    }
}

impl<T> Drop for ThreadGroup<T> {
    /// Cancels, and waits for nothing: this may be a collector of garbage.
    fn drop(&mut self) {
        if self.shared.state.is_ours() {
            // With what the states of its threads hold.
            close_later();
            self.shared.cancel();
        }
    }
}

impl<T> fmt::Debug for ThreadGroup<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadGroup").field("state", &self.shared.state).finish_non_exhaustive()
    }
}
