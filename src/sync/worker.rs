//! Worker threads: a crew that is started together, cancelled together and waited for together.
//!
//! The threads are never joined in the sense of `pthread_join`, and never killed: each leaves what its job gave in its
//! slot and goes. A crew whose handle is dropped is cancelled; its threads then live as long as their jobs. When the
//! process ends, all crews are cancelled and have a fifth of a second together to end in good order.
//!
//! ```ignore
//! let crew = Crew::start("loader", 4, STACK, |seat| Ok(seat.id * 2))?;
//! crew.wait(&Wait::until(Deadline::NEVER))?;
//! assert_eq!(crew.take_results(), [(1, 2), (2, 4), (3, 6), (4, 8)]);
//! ```

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use crate::err;
use crate::error::Result;
use crate::sys::{
    Lock, SetOnce, at_exit, demote_thread, exit, fork_generation, gettid, spawn_quiet, thread_name, thread_room,
};
use crate::wait::{Cancel, Deadline, Signal, Wait, hide_thread, show_background_thread, sleep};
use crate::wire::Object;

/// How a job failed: the text that its user will see, of any bytes.
pub type Failure = Vec<u8>;

/// What a thread of a crew knows about itself.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Which of the crew's threads it is, from 1.
    pub id: usize,
    /// Cancels this thread's calls.
    pub cancel: Arc<Cancel>,
}

/// How long a thread has to end after its cancel before it is abandoned, in seconds.
const PATIENCE: f64 = 1.0;

/// How long all threads together have to end when the process does, in seconds.
const FAREWELL: f64 = 0.2;

/// Crews up to this size start without asking what the system can give.
const SURELY_FITS: usize = 256;

/// What a thread takes at the least, its Lua state included.
const FOOTPRINT: usize = 128 << 10;

const CLOSED: u32 = 0;
const OPEN: u32 = 1;
const DISMISSED: u32 = 2;

/// The part of a crew that is the same whatever its jobs give.
#[derive(Debug)]
struct Team {
    name: String,
    generation: u32,
    seats: Vec<Seat>,
    /// No job begins before the last thread was started.
    gate: AtomicU32,
    gate_moved: Signal,
    /// How many threads have not ended, nor been abandoned.
    running: AtomicUsize,
    ended: Signal,
    /// When the patience with cancelled threads ends.
    give_up: Lock<Option<Deadline>>,
    /// Whether somebody has the descriptor, and a thread of our own waits for that end.
    watched: AtomicBool,
    minded: AtomicBool,
}

impl Team {
    fn is_ours(&self) -> bool {
        self.generation == fork_generation()
    }

    /// Whether no thread runs that was not abandoned.
    fn is_over(&self) -> bool {
        self.running.load(Ordering::Acquire) == 0
    }

    fn patience_is_over(&self) -> bool {
        self.give_up.lock().is_some_and(Deadline::expired)
    }

    fn cancel(&self) {
        if self.is_over() {
            return;
        }
        self.give_up.lock().get_or_insert(Deadline::after(PATIENCE));
        self.seats.iter().for_each(|seat| seat.cancel.fire());
        // Whoever waits for the end now waits with patience.
        self.ended.notify_all();
        if let Some(then) = AFTER_CANCEL.get() {
            then();
        }
    }

    fn open(&self, how: u32) {
        self.gate.store(how, Ordering::Release);
        self.gate_moved.notify_all();
    }

    /// Waits for the gate; whether the job is to be done.
    fn enter(&self) -> bool {
        let wait = Wait::until(Deadline::NEVER);
        let look = || match self.gate.load(Ordering::Acquire) {
            CLOSED => None,
            how => Some(how == OPEN),
        };
        matches!(self.gate_moved.wait_until(&wait, look), Ok(Some(true)))
    }

    fn one_less(&self, how_many: usize) {
        if how_many > 0 {
            self.running.fetch_sub(how_many, Ordering::AcqRel);
            self.ended.notify_all();
            self.ended.refresh(|| self.is_over());
        }
    }
}

/// Where a thread leaves what its job gave.
#[derive(Debug)]
enum Slot<T> {
    Running {
        /// 0 before the thread runs.
        tid: u64,
    },
    Done(T),
    Failed(Failure),
    /// Given out, or raised.
    Taken,
}

struct Shared<T> {
    team: Team,
    slots: Lock<Slots<T>>,
}

struct Slots<T> {
    /// One a thread, in the order of the ids.
    all: Vec<Slot<T>>,
    /// The places of those that have ended, in the order in which they did; some may be taken already.
    ended: VecDeque<usize>,
}

impl<T> Shared<T> {
    /// Makes failures of those that still run when the patience with them is over. What they give when they end after all is
    /// dropped.
    fn abandon(&self) {
        if !self.team.is_ours() || !self.team.patience_is_over() {
            return;
        }
        let text = err!(
            Cancelled,
            "it has not ended {PATIENCE} s after its cancel and is abandoned: it goes on by itself, at the lowest priority"
        );
        let text = text.to_string().into_bytes();
        let mut abandoned = Vec::new();
        {
            let mut slots = self.slots.lock();
            let Slots { all, ended } = &mut *slots;
            for (index, slot) in all.iter_mut().enumerate() {
                if let Slot::Running { tid } = *slot {
                    *slot = Slot::Failed(text.clone());
                    ended.push_back(index);
                    abandoned.push(tid);
                }
            }
        }
        abandoned.iter().filter(|tid| **tid != 0).for_each(|tid| demote_thread(*tid));
        self.team.one_less(abandoned.len());
    }
}

/// What [`Crew::next`] has.
#[derive(Debug)]
pub enum NextEnd<T> {
    /// What the job of this thread gave, or how it failed.
    Ended(usize, std::result::Result<T, Failure>),
    /// Everything was given out.
    Nothing,
    /// No other thread has ended in time.
    OutOfTime,
}

/// A crew, whatever its jobs give.
trait Ending: Send + Sync {
    fn team(&self) -> &Team;
}

impl<T: Send> Ending for Shared<T> {
    fn team(&self) -> &Team {
        &self.team
    }
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("team", &self.team).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Object for Shared<T> {
    fn class(&self) -> &'static str {
        "ipc.map"
    }

    fn state(&self) -> String {
        let team = &self.team;
        let running = match team.running.load(Ordering::Acquire) {
            _ if !team.is_ours() => "of the parent process".into(),
            n => format!("{n} running"),
        };
        let count = team.seats.len();
        // Threads that were given no name are called as their class is.
        let name = if team.name == self.class() { String::new() } else { format!("'{}', ", team.name) };
        format!("{name}{count} thread{}, {running}", if count == 1 { "" } else { "s" })
    }
}

/// Threads that run one job, each with its own seat.
pub struct Crew<T> {
    shared: Arc<Shared<T>>,
}

impl<T: Send + 'static> Crew<T> {
    /// Starts `count` threads with `stack` bytes of stack each. The system knows them as `name` and their id.
    ///
    /// All start or none: where the system has no more threads to give, no job has run.
    pub fn start<J>(name: &str, count: usize, stack: usize, job: J) -> Result<Crew<T>>
    where
        J: Fn(&Seat) -> std::result::Result<T, Failure> + Send + Sync + 'static,
    {
        Crew::<T>::check_room(count)?;
        Crew::start_at(name, 1, count, stack, job)
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

    /// As [`Crew::start`], with `first` as the first thread's number in its name.
    pub(super) fn start_at<J>(name: &str, first: usize, count: usize, stack: usize, job: J) -> Result<Crew<T>>
    where
        J: Fn(&Seat) -> std::result::Result<T, Failure> + Send + Sync + 'static,
    {
        let seats = (1..=count).map(|id| Seat { id, cancel: Arc::new(Cancel::new()) }).collect();
        let team = Team {
            name: name.into(),
            generation: fork_generation(),
            seats,
            gate: AtomicU32::new(CLOSED),
            gate_moved: Signal::new(),
            running: AtomicUsize::new(0),
            ended: Signal::new(),
            give_up: Lock::new(None),
            watched: AtomicBool::new(false),
            minded: AtomicBool::new(false),
        };
        let all = (0..count).map(|_| Slot::Running { tid: 0 }).collect();
        let slots = Slots { all, ended: VecDeque::with_capacity(count) };
        let shared = Arc::new(Shared { team, slots: Lock::new(slots) });
        remember(&shared);
        let job = Arc::new(job);
        for index in 0..count {
            if count == 1 {
                shared.team.open(OPEN);
            }
            shared.team.running.fetch_add(1, Ordering::AcqRel);
            let (its, job) = (shared.clone(), job.clone());
            let started = std::thread::Builder::new()
                .name(thread_name(name, index + first))
                .stack_size(stack)
                .spawn(move || thread(its, index, job));
            if let Err(e) = started {
                shared.team.one_less(1);
                shared.team.open(DISMISSED);
                let wait = Wait::until(Deadline::after(PATIENCE));
                shared
                    .team
                    .ended
                    .wait_until(&wait, || (shared.team.running.load(Ordering::Acquire) == 0).then_some(()))?;
                return Err(err!(
                    Limit,
                    "the system starts no more than {index} of {count} threads ({e}); none of them has run"
                ));
            }
        }
        shared.team.open(OPEN);
        Ok(Crew { shared })
    }

    /// How many threads there were at the start.
    pub fn count(&self) -> usize {
        self.shared.team.seats.len()
    }

    /// The name it was started under.
    pub fn name(&self) -> &str {
        &self.shared.team.name
    }

    /// The crew as it is in reports: there as long as its handle or one of its threads.
    pub fn object(&self) -> Arc<dyn Object> {
        self.shared.clone()
    }

    /// How many threads still run; those that were abandoned are not counted.
    pub fn running(&self) -> usize {
        self.shared.team.running.load(Ordering::Acquire)
    }

    /// How many failures nobody has taken yet.
    pub fn failed(&self) -> usize {
        self.shared.slots.lock().all.iter().filter(|slot| matches!(slot, Slot::Failed(_))).count()
    }

    /// `[state]` in the child of a fork, which has none of these threads.
    pub fn check(&self) -> Result<()> {
        if self.shared.team.is_ours() {
            return Ok(());
        }
        Err(err!(State, "these threads belong to the process that forked this one; start new ones here"))
    }

    /// Waits until all threads have ended; false when the time ran out. Threads that have not ended a second after their
    /// cancel are abandoned: they count as failed.
    pub fn wait(&self, wait: &Wait) -> Result<bool> {
        let team = &self.shared.team;
        let ended = self.wait_for(wait, || (team.running.load(Ordering::Acquire) == 0).then_some(()))?;
        Ok(ended.is_some())
    }

    /// Waits for the next thread that ends, and takes what it leaves; it then counts no more. Threads that are abandoned have
    /// ended.
    pub fn next(&self, wait: &Wait) -> Result<NextEnd<T>> {
        let next = self.wait_for(wait, || {
            let mut slots = self.shared.slots.lock();
            while let Some(index) = slots.ended.pop_front() {
                match std::mem::replace(&mut slots.all[index], Slot::Taken) {
                    Slot::Done(result) => return Some(NextEnd::Ended(index + 1, Ok(result))),
                    Slot::Failed(text) => return Some(NextEnd::Ended(index + 1, Err(text))),
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
        let team = &self.shared.team;
        loop {
            let give_up = *team.give_up.lock();
            let until = give_up.map_or(*wait, |limit| wait.sooner(limit));
            let found = team.ended.wait_until(&until, || match look() {
                Some(found) => Some(Some(found)),
                // Cancelled while we wait: look at the clock again.
                None => (give_up.is_none() && team.give_up.lock().is_some()).then_some(None),
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

    /// Whether [`Crew::wait`] would not wait.
    pub fn has_ended(&self) -> bool {
        let team = &self.shared.team;
        !team.is_ours() || team.is_over() || team.patience_is_over()
    }

    /// A descriptor that polls readable once all threads have ended; `[state]` in the child of a fork.
    pub fn fd(&self) -> Result<RawFd> {
        self.check()?;
        self.shared.team.watched.store(true, Ordering::SeqCst);
        let fd = self.shared.team.ended.fd(|| self.shared.team.is_over())?;
        self.abandon_in_time();
        Ok(fd)
    }

    /// Takes the failure of the first thread that has failed: its id and the text. That thread then counts no more.
    pub fn take_failure(&self) -> Option<(usize, Failure)> {
        let mut slots = self.shared.slots.lock();
        let index = slots.all.iter().position(|slot| matches!(slot, Slot::Failed(_)))?;
        match std::mem::replace(&mut slots.all[index], Slot::Taken) {
            Slot::Failed(text) => Some((index + 1, text)),
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
        if self.shared.team.is_ours() {
            self.shared.team.cancel();
            self.abandon_in_time();
        }
    }

    /// Whoever sleeps on the descriptor learns that threads were abandoned from nobody but us.
    fn abandon_in_time(&self) {
        let team = &self.shared.team;
        let Some(limit) = *team.give_up.lock() else { return };
        if team.is_over() || !team.watched.load(Ordering::SeqCst) || team.minded.swap(true, Ordering::SeqCst) {
            return;
        }
        let crew = Arc::downgrade(&self.shared);
        let minded = spawn_quiet("ipc-patience", move || {
            show_background_thread();
            let _ = sleep(&Wait::until(limit));
            if let Some(crew) = crew.upgrade() {
                crew.abandon();
            }
        });
        team.minded.store(minded.is_ok(), Ordering::SeqCst);
    }
}

impl<T> Drop for Crew<T> {
    /// Cancels, and waits for nothing: this may be a collector of garbage.
    fn drop(&mut self) {
        if self.shared.team.is_ours() {
            self.shared.team.cancel();
        }
    }
}

impl<T> fmt::Debug for Crew<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew").field("team", &self.shared.team).finish_non_exhaustive()
    }
}

/// The whole life of one thread.
fn thread<T, J>(shared: Arc<Shared<T>>, index: usize, job: Arc<J>)
where
    J: Fn(&Seat) -> std::result::Result<T, Failure>,
{
    let team = &shared.team;
    TEAM.set(team);
    if !team.enter() {
        return team.one_less(1);
    }
    if let Slot::Running { tid } = &mut shared.slots.lock().all[index] {
        *tid = gettid();
    }
    let seat = &team.seats[index];
    let result = catch_unwind(AssertUnwindSafe(|| job(seat)))
        .unwrap_or_else(|_| Err(err!(State, "internal error in a worker, please report it").to_string().into_bytes()));
    // What only the job held is gone before anybody hears that this thread has ended.
    drop(job);
    hide_thread();
    if !team.is_ours() {
        end_child(result.err());
    }
    let mut left = match result {
        result if !seat.cancel.fired() => result.map_or_else(Slot::Failed, Slot::Done),
        result => Slot::Failed(cancelled(result.err())),
    };
    {
        let mut slots = shared.slots.lock();
        if !matches!(slots.all[index], Slot::Running { .. }) {
            return;
        }
        std::mem::swap(&mut slots.all[index], &mut left);
        slots.ended.push_back(index);
    }
    team.one_less(1);
}

/// What is told of a thread that still ran when it was cancelled, however it ended.
fn cancelled(failure: Option<Failure>) -> Failure {
    const MARK: &[u8] = b"[cancelled]";
    let (mut text, failure) = match failure {
        Some(failure) if failure.windows(MARK.len()).any(|w| w == MARK) => return failure,
        Some(failure) => (err!(Cancelled, "it was cancelled, and then failed: ").to_string().into_bytes(), failure),
        None => (err!(Cancelled, "it was cancelled while it ran").to_string().into_bytes(), Vec::new()),
    };
    text.extend(failure);
    text
}

/// A job forked, and this is the child, whose only thread now has nobody to tell how it ended.
fn end_child(failure: Option<Failure>) -> ! {
    if let Some(text) = &failure {
        eprintln!("{}", String::from_utf8_lossy(text));
    }
    exit(i32::from(failure.is_some()))
}

thread_local! {
    /// The team that this thread works in.
    static TEAM: Cell<*const Team> = const { Cell::new(std::ptr::null()) };
}

/// What a job's surroundings do about cancelled threads that call nothing of ours.
static AFTER_CANCEL: SetOnce<fn()> = SetOnce::new();

/// From now on `then` runs after each cancel of a crew: in the thread that cancels, which may be a collector of garbage or
/// the end of the process.
pub fn after_cancel(then: fn()) {
    AFTER_CANCEL.get_or_init(|| then);
}

/// Every crew that may have running threads.
static CREWS: SetOnce<Lock<Crews>> = SetOnce::new();

#[derive(Default)]
struct Crews {
    known: Vec<Weak<dyn Ending>>,
    /// Whether [`farewell`] runs at the end of the process.
    at_exit: bool,
}

fn remember<T: Send + 'static>(shared: &Arc<Shared<T>>) {
    let crew: Arc<dyn Ending> = shared.clone();
    let mut crews = CREWS.get_or_init(Lock::default).lock();
    if !crews.at_exit {
        at_exit(farewell);
        crews.at_exit = true;
    }
    crews.known.retain(|known| known.strong_count() > 0);
    crews.known.push(Arc::downgrade(&crew));
}

/// The process ends: threads that are blocked in our calls end in good order, the others run until they are gone.
extern "C" fn farewell() {
    let _ = catch_unwind(|| {
        let Some(crews) = CREWS.get() else { return };
        let crews: Vec<_> = crews.lock().known.iter().filter_map(Weak::upgrade).collect();
        let teams = || crews.iter().map(|crew| crew.team()).filter(|team| team.is_ours());
        teams().for_each(Team::cancel);
        let wait = Wait::until(Deadline::after(FAREWELL));
        for team in teams() {
            // One of the threads may be the one that ends the process.
            let own = TEAM.try_with(Cell::get).is_ok_and(|mine| std::ptr::eq(mine, team));
            let rest = || (team.running.load(Ordering::Acquire) <= usize::from(own)).then_some(());
            let _ = team.ended.wait_until(&wait, rest);
        }
        // Dropped by whoever still runs, if at all.
        std::mem::forget(crews);
    });
}

#[cfg(test)]
mod tests;
