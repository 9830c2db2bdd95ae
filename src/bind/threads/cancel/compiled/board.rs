//! Who is asked to end, and when: the workers that can be, and the thread that interrupts them.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mlua_sys as ffi;

use super::request::{ASK, NOTHING, Request, TAKE_BACK, callback, interrupted};
use super::{luaJIT_profile_start, luaJIT_profile_stop};
use crate::sync::after_cancel;
use crate::sys::{Lock, SetOnce, Sigprof, ThreadHandle, ThreadInterrupts, fork_generation, sigprof, spawn_quiet};
use crate::wait::Cancel;

/// A profile whose timer fires after 23 days of computing.
const SILENT: &std::ffi::CStr = c"i2000000000";
/// A worker whose traces carry checks.
struct Worker {
    id: u64,
    thread: ThreadHandle,
    cancel: *const Cancel,
    request: Arc<Request>,
    /// When it was last told something, or was seen to have heard of it; before its cancel, nothing.
    since: Option<Instant>,
    /// Whether it was seen to have heard of what it was told.
    heard: bool,
    /// How long to wait before it is asked again: longer each time.
    pause: Duration,
    /// For how many nanoseconds it has to have computed before it is asked for the first time.
    grace: u64,
}

// SAFETY: `cancel` is followed, and the thread interrupted, only under the lock of the board, from which the worker
// takes itself before either goes.
unsafe impl Send for Worker {}

/// First, code that goes on after a cancelled call may end by itself.
const GRACE: Duration = Duration::from_millis(10);
/// So long the bit stays set in a worker that does not come to a check.
const ASKED_FOR: Duration = Duration::from_millis(50);
/// So long an interrupt may be on its way to a thread that waits for a core.
const ON_ITS_WAY: Duration = Duration::from_secs(2);
/// The pauses before a worker is asked again: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(200));

impl Worker {
    fn is_due(&self) -> bool {
        // SAFETY: the worker is on the board.
        unsafe { &*self.cancel }.fired()
    }

    /// Whether it may be asked, if it computes.
    fn may_be_asked(&self, now: Instant) -> bool {
        self.request.order.load(Ordering::Acquire) == NOTHING
            && self.since.is_some_and(|since| now.duration_since(since) >= self.pause)
            && self.thread.cpu_ns() >= self.grace
    }

    /// Tells it to do `order`.
    fn tell(&mut self, order: u8, now: Instant) {
        (self.since, self.heard) = (Some(now), false);
        self.request.seen.store(false, Ordering::Release);
        self.request.order.store(order, Ordering::Release);
        // SAFETY: the worker is on the board, so its thread has not ended.
        unsafe { self.thread.interrupt() };
    }

    /// Leaves it alone for a while.
    fn rest(&mut self, now: Instant) {
        self.request.order.store(NOTHING, Ordering::Release);
        self.since = Some(now);
        self.pause = (self.pause * 2).clamp(PAUSES.0, PAUSES.1);
    }

    /// Goes on with what it was told.
    fn go_on(&mut self, now: Instant) {
        if !self.heard && self.request.seen.load(Ordering::Acquire) {
            (self.since, self.heard) = (Some(now), true);
        }
        let waited = self.since.map_or(Duration::ZERO, |since| now.duration_since(since));
        let asked = self.request.asked.load(Ordering::Acquire);
        match self.request.order.load(Ordering::Acquire) {
            NOTHING => {}
            // It waits for a core.
            _ if !self.heard && waited < ON_ITS_WAY => {}
            ASK if !asked => self.rest(now),
            ASK if waited >= ASKED_FOR => self.tell(TAKE_BACK, now),
            TAKE_BACK if !asked => self.rest(now),
            // It is in a finalizer, or still has not heard of it.
            TAKE_BACK if waited >= ASKED_FOR => self.tell(TAKE_BACK, now),
            _ => {}
        }
    }

    /// Whether the profile must stay ours on its account.
    fn is_asked(&self) -> bool {
        self.request.order.load(Ordering::Acquire) != NOTHING || self.request.asked.load(Ordering::Acquire)
    }
}

/// The workers that may have to be interrupted.
pub(super) struct Board {
    generation: u32,
    workers: Vec<Worker>,
    /// Has the profile while a worker asks for its checks, and while one is asked to end; null until the first worker.
    pub dummy: *mut ffi::lua_State,
    /// Whether it has it.
    holds: bool,
    last_id: u64,
    /// Whether a thread interrupts.
    watched: bool,
}

// SAFETY: the dummy state is used under the lock of the board only.
unsafe impl Send for Board {}

pub(super) fn board() -> &'static Lock<Board> {
    static BOARD: SetOnce<Lock<Board>> = SetOnce::new();
    BOARD.get_or_init(|| {
        after_cancel(man);
        Lock::new(Board {
            generation: fork_generation(),
            workers: Vec::new(),
            dummy: ptr::null_mut(),
            holds: false,
            last_id: 0,
            watched: false,
        })
    })
}

impl Board {
    /// In the child of a fork there are none of these threads.
    pub fn refresh(&mut self) {
        let generation = fork_generation();
        if self.generation != generation {
            (self.generation, self.watched) = (generation, false);
            self.workers.clear();
            self.release();
        }
    }

    /// Whether the dummy has the profile, which it takes if nobody has it.
    pub fn hold(&mut self) -> bool {
        if !self.holds && matches!(sigprof(), Sigprof::Free) {
            // SAFETY: the dummy is used under the lock only.
            unsafe { luaJIT_profile_start(self.dummy, SILENT.as_ptr(), callback, ptr::null_mut()) };
            self.holds = true;
        }
        self.holds
    }

    /// Gives the profile back, if nobody is asked.
    pub fn release(&mut self) {
        if self.holds && !self.workers.iter().any(Worker::is_asked) {
            // SAFETY: the dummy is used under the lock only, and runs nothing.
            unsafe { luaJIT_profile_stop(self.dummy) };
            self.holds = false;
        }
    }

    /// Has a worker of this thread, which `cancel` ends, interrupted by `request`; the number by which it is removed.
    pub fn add(&mut self, cancel: *const Cancel, request: Arc<Request>) -> u64 {
        self.last_id += 1;
        self.workers.push(Worker {
            id: self.last_id,
            thread: ThreadHandle::current(),
            cancel,
            request,
            since: None,
            heard: false,
            pause: GRACE,
            grace: 0,
        });
        self.last_id
    }

    /// The worker is interrupted no more.
    pub fn remove(&mut self, id: u64) {
        self.workers.retain(|worker| worker.id != id);
        self.release();
    }

    /// The cancelled workers that may be asked if they compute.
    fn candidates(&mut self, now: Instant) -> Vec<(u64, ThreadHandle)> {
        let mut found = Vec::new();
        for worker in self.workers.iter_mut().filter(|worker| worker.is_due()) {
            if worker.since.is_none() {
                (worker.since, worker.pause) = (Some(now), GRACE);
                // Where it waits for a core, or has just been woken, it has not begun to end by itself.
                worker.grace = worker.thread.cpu_ns().saturating_add(GRACE.as_nanos() as u64);
            } else if worker.may_be_asked(now) {
                found.push((worker.id, worker.thread));
            }
        }
        found
    }

    /// Goes on with those that were asked.
    fn go_on(&mut self, now: Instant) {
        for worker in self.workers.iter_mut() {
            worker.go_on(now);
        }
        self.release();
    }

    /// Asks those of `computing` that have not ended meanwhile.
    fn interrupt(&mut self, computing: &[u64], now: Instant) {
        if !computing.is_empty() && self.hold() {
            for worker in self.workers.iter_mut().filter(|worker| computing.contains(&worker.id)) {
                worker.tell(ASK, now);
            }
        }
    }
}

/// After a cancel: sees that somebody interrupts.
pub(super) fn man() {
    {
        let mut board = board().lock();
        board.refresh();
        if board.watched || !board.workers.iter().any(Worker::is_due) {
            return;
        }
        board.watched = true;
    }
    if spawn_quiet("ipc cancel", keep_interrupting).is_err() {
        board().lock().watched = false;
    }
}

/// So many are looked at before those of them that compute are asked.
const AT_ONCE: usize = 16;
/// Between two looks: short while workers end, longer for those who do not come out of C.
const LOOKS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

fn keep_interrupting() {
    let mut interrupts = None;
    let (mut pause, mut last) = (LOOKS.0, 0);
    loop {
        // Files are read, and handlers set, without the lock: a fork would wait for it.
        let candidates = board().lock().candidates(Instant::now());
        if interrupts.is_none() && !candidates.is_empty() {
            interrupts = ThreadInterrupts::begin(interrupted);
        }
        let refused = interrupts.is_none() && !candidates.is_empty();
        let computes = |(id, thread): &(u64, ThreadHandle)| (!refused && thread.computes()).then_some(*id);
        // Where hundreds compute, looking at all of them takes long: the first may end, and leave their core,
        // meanwhile.
        for few in candidates.chunks(AT_ONCE) {
            let computing: Vec<u64> = few.iter().filter_map(computes).collect();
            board().lock().interrupt(&computing, Instant::now());
        }
        let left = {
            let mut board = board().lock();
            board.go_on(Instant::now());
            let left = board.workers.iter().filter(|worker| worker.is_due()).count();
            if left == 0 || refused {
                // The handler goes before another thread can put its own there.
                drop(interrupts);
                board.watched = false;
                return;
            }
            left
        };
        pause = if left == last { (pause + pause / 100).min(LOOKS.1) } else { LOOKS.0 };
        last = left;
        std::thread::sleep(pause);
    }
}
