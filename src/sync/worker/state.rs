//! What the handle and the threads of a group share: who is in it, who still runs, what each has left.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::{THREAD_WEIGHT, WorkerContext};
use crate::err;
use crate::error::{Lossy, Result};
use crate::sync::Unfetched;
use crate::sys::{
    Lock, SetOnce, check_memory, demote_thread, fork_generation, monotonic_ns, thread_computes, thread_cpu_ns,
};
use crate::text;
use crate::wait::{Cancel, Deadline, EventCount, Wait};
use crate::wire::Object;

/// How long a thread has to end after its cancel, and after the last end of another cancelled thread, before it is
/// abandoned, in seconds. A thread that computes has as much time of a core: among many, or on a busy machine, it may
/// wait long before it hears of its cancel.
pub const PATIENCE: f64 = 1.0;

/// So much of the patience was a core's, if the thread had one to itself.
const ENOUGH: f64 = 0.9 * PATIENCE;

/// However little of a core it gets, and however many others end: so long after its cancel at the most.
const MOST_PATIENCE: f64 = 60.0;

/// When a cancelled thread ended last, or was last seen to wait for a core, as [`monotonic_ns`] counts.
static LAST_END: AtomicU64 = AtomicU64::new(0);

/// The gate is closed: more threads are yet to be started.
const CLOSED: u32 = 0;
/// All were: go to work.
pub(super) const OPEN: u32 = 1;
/// The system gave too few: go home.
pub(super) const DISMISSED: u32 = 2;

fn seconds_since(ns: u64) -> f64 {
    monotonic_ns().saturating_sub(ns) as f64 / 1e9
}

/// What a job's surroundings do about cancelled threads that call nothing of ours.
static AFTER_CANCEL: SetOnce<fn()> = SetOnce::new();

/// From now on `then` runs after each cancel of a group: in the thread that cancels, which may be a collector of
/// garbage or the end of the process.
pub fn after_cancel(then: fn()) {
    AFTER_CANCEL.get_or_init(|| then);
}

/// The part of a group that is the same whatever its jobs give.
#[derive(Debug)]
pub(super) struct GroupState {
    pub name: String,
    /// The number of the Lua state that hears of failures; 0: nobody's.
    pub owner: u64,
    generation: u32,
    pub contexts: Vec<WorkerContext>,
    /// No job begins before the last thread was started.
    gate: AtomicU32,
    gate_moved: EventCount,
    /// How many threads have not ended, nor been abandoned.
    pub running: AtomicUsize,
    pub ended: EventCount,
    /// When it was cancelled, as [`monotonic_ns`] counts; 0 before that.
    cancelled_at: AtomicU64,
    /// Whether somebody has the descriptor, and a thread of our own waits for that end.
    pub watched: AtomicBool,
    pub minded: AtomicBool,
}

impl GroupState {
    /// Of `count` threads, none of which runs yet.
    pub fn new(name: &[u8], owner: u64, count: usize) -> Result<GroupState> {
        let mut contexts = Vec::new();
        contexts.try_reserve_exact(count)?;
        for id in 1..=count {
            check_memory()?;
            contexts.push(WorkerContext { id, cancel: Arc::new(Cancel::new()) });
        }
        Ok(GroupState {
            name: text!("{}", Lossy(name)),
            owner,
            generation: fork_generation(),
            contexts,
            gate: AtomicU32::new(CLOSED),
            gate_moved: EventCount::new(),
            running: AtomicUsize::new(0),
            ended: EventCount::new(),
            cancelled_at: AtomicU64::new(0),
            watched: AtomicBool::new(false),
            minded: AtomicBool::new(false),
        })
    }

    /// Whether its threads are of this process, not of the one that forked it.
    pub fn is_ours(&self) -> bool {
        self.generation == fork_generation()
    }

    /// Whether no thread runs that was not abandoned.
    pub fn is_over(&self) -> bool {
        self.running.load(Ordering::Acquire) == 0
    }

    /// Whether a thread that still runs and has had its time of a core is to be abandoned.
    fn patience_is_over(&self) -> bool {
        self.patience().is_some_and(|left| left <= 0.0)
    }

    /// How many seconds the patience with cancelled threads still lasts, unless others end; `None` before a cancel.
    fn patience(&self) -> Option<f64> {
        let since_cancel = self.since_cancel()?;
        let since_end = seconds_since(LAST_END.load(Ordering::Acquire));
        Some((PATIENCE - since_cancel.min(since_end)).min(MOST_PATIENCE - since_cancel))
    }

    /// How many seconds ago it was cancelled; `None` before.
    fn since_cancel(&self) -> Option<f64> {
        let cancelled = self.cancelled_at.load(Ordering::Acquire);
        (cancelled != 0).then(|| seconds_since(cancelled))
    }

    /// The same as a deadline.
    pub fn give_up(&self) -> Option<Deadline> {
        self.patience().map(Deadline::after)
    }

    /// A cancelled thread has ended, of whichever group.
    pub fn note_end() {
        LAST_END.fetch_max(monotonic_ns(), Ordering::AcqRel);
    }

    /// Cancels the calls of all.
    pub fn cancel(&self) {
        if self.is_over() {
            return;
        }
        let _ = self.cancelled_at.compare_exchange(0, monotonic_ns().max(1), Ordering::AcqRel, Ordering::Relaxed);
        self.contexts.iter().for_each(|context| context.cancel.fire());
        // A thread that waits for the end now waits with patience.
        self.ended.notify_all();
        if let Some(then) = AFTER_CANCEL.get() {
            then();
        }
    }

    /// Opens the gate, to the one or the other end.
    pub fn open(&self, how: u32) {
        self.gate.store(how, Ordering::Release);
        self.gate_moved.notify_all();
    }

    /// Waits for the gate; whether the job is to be done.
    pub fn enter(&self) -> bool {
        let wait = Wait::until(Deadline::NEVER);
        let look = || match self.gate.load(Ordering::Acquire) {
            CLOSED => None,
            how => Some(how == OPEN),
        };
        matches!(self.gate_moved.wait_until(&wait, look), Ok(Some(true)))
    }

    /// So many threads run no more.
    pub fn one_less(&self, how_many: usize) {
        if how_many > 0 {
            self.running.fetch_sub(how_many, Ordering::AcqRel);
            self.ended.notify_all();
            self.ended.refresh(|| self.is_over());
        }
    }
}

/// Where a thread leaves what its job gave.
#[derive(Debug)]
pub(super) enum Slot<T> {
    Running {
        /// 0 before the thread runs.
        tid: u64,
        /// How long it had computed when it was cancelled, in nanoseconds.
        computed: u64,
    },
    Done(T),
    Failed(Unfetched),
    /// Given out, or raised.
    Taken,
}

/// A group without its handle.
pub(super) struct Shared<T> {
    pub state: GroupState,
    pub slots: Lock<Slots<T>>,
}

/// What the threads have left.
pub(super) struct Slots<T> {
    /// One a thread, in the order of the ids.
    pub all: Vec<Slot<T>>,
    /// The places of those that have ended, in the order in which they did; some may be taken already.
    pub ended: VecDeque<usize>,
}

impl<T> Shared<T> {
    /// `count` threads that are yet to be started.
    pub fn new(name: &[u8], owner: u64, count: usize) -> Result<Arc<Shared<T>>> {
        let (mut all, mut ended) = (Vec::new(), VecDeque::new());
        all.try_reserve_exact(count)?;
        all.extend((0..count).map(|_| Slot::Running { tid: 0, computed: 0 }));
        // Each ends once.
        ended.try_reserve_exact(count)?;
        Ok(Arc::new(Shared { state: GroupState::new(name, owner, count)?, slots: Lock::new(Slots { all, ended }) }))
    }

    /// Cancels the calls of all.
    pub fn cancel(&self) {
        if self.state.since_cancel().is_none() {
            for slot in &mut self.slots.lock().all {
                if let Slot::Running { tid, computed } = slot {
                    *computed = thread_cpu_ns(*tid).unwrap_or(0);
                }
            }
        }
        self.state.cancel();
    }

    /// Makes failures of those that still run when the patience with them is over. What they give when they end after
    /// all is dropped.
    pub fn abandon(&self) {
        if !self.state.is_ours() || !self.state.patience_is_over() {
            return;
        }
        if self.state.since_cancel().is_some_and(|since| since < MOST_PATIENCE) && self.waits_for_core() {
            return GroupState::note_end();
        }
        let text = err!(
            Cancelled,
            "it has not ended {PATIENCE} s after its cancel and is abandoned: it goes on by itself, at the lowest \
             priority"
        );
        let text = text!("{text}").into_bytes();
        let mut abandoned = 0;
        {
            let mut slots = self.slots.lock();
            let Slots { all, ended } = &mut *slots;
            for (index, slot) in all.iter_mut().enumerate() {
                if let Slot::Running { tid, .. } = *slot {
                    // The thread is there: at its end it takes this lock to leave something in its slot.
                    if tid != 0 {
                        demote_thread(tid);
                    }
                    *slot = Slot::Failed(text.clone().into());
                    ended.push_back(index);
                    abandoned += 1;
                }
            }
        }
        self.state.one_less(abandoned);
    }

    /// Whether one of those that still run would compute if it were given a core, of which it has had little since it
    /// was cancelled.
    fn waits_for_core(&self) -> bool {
        let had_little = |slot: &Slot<T>| match *slot {
            Slot::Running { tid: 0, .. } => true,
            Slot::Running { tid, computed } => {
                let since = thread_cpu_ns(tid).map(|now| now.saturating_sub(computed) as f64 / 1e9);
                since.is_some_and(|since| since < ENOUGH) && thread_computes(tid)
            }
            _ => false,
        };
        self.slots.lock().all.iter().any(had_little)
    }
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("state", &self.state).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Object for Shared<T> {
    fn class(&self) -> &'static str {
        "ipc.map"
    }

    fn state(&self) -> String {
        let state = &self.state;
        let running = match state.running.load(Ordering::Acquire) {
            _ if !state.is_ours() => "of the parent process".into(),
            n => text!("{n} running"),
        };
        let count = state.contexts.len();
        // Threads that were given no name are called as their class is.
        let name = if state.name == self.class() { String::new() } else { text!("'{}', ", state.name) };
        text!("{name}{count} thread{}, {running}", if count == 1 { "" } else { "s" })
    }

    fn weight(&self) -> usize {
        self.state.contexts.len() * THREAD_WEIGHT
    }
}
