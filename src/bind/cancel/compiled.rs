//! Cancelling compiled loops of LuaJIT, which pass no hooks: by the checks of its profiler, which traces do carry.
//!
//! A worker's state compiles under the profiler's mode `l`: each trace then looks at one bit of its state's hook mask, at every
//! line. A cancelled worker that computes is nudged: in a signal's handler, in its own thread, it sets that bit and a count
//! hook. The trace ends at its next check, and the interpreter raises at its next instruction.
//!
//! Any number of workers can be asked at once, and one that does not come out of a C function or a finalizer keeps nothing from
//! the others. What makes this sound:
//!
//! - The handler does what the interpreters' own handler of Ctrl-C does (`lua_sethook`), and what LuaJIT's handler of SIGPROF
//!   does, which sets the same bit. No state is changed by another thread.
//! - Where a state keeps its hook mask is found by a test of how LuaJIT behaves ([`probe`]), before the first worker is asked.
//! - Where the bit is set, the interpreter calls the callback of the profile, which is one for the process. It is [`callback`]
//!   as long as a state of ours, the dummy, has the profile; so it has it while anybody is asked. Its timer never fires.
//! - To have it for a short while only, the request is taken back after [`ASKED_FOR`], and made again after a pause. The count
//!   hook stays: code that comes back from C to the interpreter ends at once.
//! - To ask for the checks in traces is to ask for a profile. LuaJIT notes the mode also of a state that asks while another
//!   has the profile, as the dummy does.
//! - A program that profiles itself is left alone: its workers' loops are then not ended, but abandoned.

mod probe;

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use mlua::ffi;

use super::{hook, stop_here};
use crate::bind::lua::Lua;
use crate::sync::{after_cancel, cancel_waits_for_core};
use crate::sys::{Lock, Nudges, SetOnce, Sigprof, ThreadHandle, fork_generation, sigprof, spawn_quiet};
use crate::wait::Cancel;

type Callback = unsafe extern "C-unwind" fn(*mut c_void, *mut ffi::lua_State, c_int, c_int);

unsafe extern "C-unwind" {
    // https://luajit.org/ext_profiler.html
    fn luaJIT_profile_start(l: *mut ffi::lua_State, mode: *const c_char, callback: Callback, data: *mut c_void);
    fn luaJIT_profile_stop(l: *mut ffi::lua_State);
}

/// A profile whose timer fires after 23 days of computing.
const SILENT: &std::ffi::CStr = c"i2000000000";
/// Checks at each line of a trace.
const BY_LINE: &std::ffi::CStr = c"l";

/// What a worker is to do when it is nudged.
const NOTHING: u8 = 0;
const ASK: u8 = 1;
const TAKE_BACK: u8 = 2;

/// What a nudge finds in its thread: shared with the thread that nudges.
struct Request {
    state: *mut ffi::lua_State,
    /// The hook mask of the state.
    mask: *mut u8,
    order: AtomicU8,
    /// Whether the handler has run since the last nudge.
    seen: AtomicBool,
    /// Whether the bit may be set.
    asked: AtomicBool,
}

// SAFETY: state and mask are used by the worker's own thread alone; the rest is atomic.
unsafe impl Send for Request {}
// SAFETY: as above.
unsafe impl Sync for Request {}

thread_local! {
    /// Null in threads that are no workers.
    static REQUEST: AtomicPtr<Request> = const { AtomicPtr::new(ptr::null_mut()) };
    /// Keeps it alive.
    static OWN: Cell<Option<Arc<Request>>> = const { Cell::new(None) };
}

/// In a cancelled worker, at any place: does what a signal's handler may.
fn nudged() {
    REQUEST.with(|request| {
        // SAFETY: it is there until it is taken out of REQUEST, by this thread.
        let Some(request) = (unsafe { request.load(Ordering::Acquire).as_ref() }) else { return };
        match request.order.load(Ordering::Acquire) {
            ASK => request.ask(),
            TAKE_BACK => request.take_back(),
            _ => return,
        }
        request.seen.store(true, Ordering::Release);
    });
}

impl Request {
    fn mask(&self) -> u8 {
        // SAFETY: the state is open, and this is its thread.
        unsafe { self.mask.read_volatile() }
    }

    fn set_mask(&self, mask: u8) {
        // SAFETY: as above.
        unsafe { self.mask.write_volatile(mask) }
    }

    /// Makes the interpreter look at the mask, and raise at its next instruction.
    fn set_hook(&self) {
        // SAFETY: the state of this thread; a hook may be set by a signal's handler.
        unsafe { ffi::lua_sethook(self.state, Some(hook), ffi::LUA_MASKCOUNT, 1) };
    }

    /// In the handler: ends the trace, or what the interpreter runs. Not within a finalizer, nor where the profiler's callback
    /// runs or has raised.
    fn ask(&self) {
        let mask = self.mask();
        if mask & (probe::FINALIZER | probe::CALLBACK) != 0 {
            return;
        }
        self.asked.store(true, Ordering::Release);
        self.set_mask(mask | probe::PROFILE);
        self.set_hook();
    }

    /// Clears the bit. Within a finalizer LuaJIT keeps it elsewhere, and sets it again afterwards.
    fn take_back(&self) {
        let mask = self.mask();
        if mask & probe::FINALIZER != 0 || !self.asked.load(Ordering::Acquire) {
            return;
        }
        self.set_mask(mask & !probe::PROFILE);
        self.set_hook();
        self.asked.store(false, Ordering::Release);
    }
}

/// In the cancelled worker, between two instructions: what follows is as in a hook.
unsafe extern "C-unwind" fn callback(_: *mut c_void, l: *mut ffi::lua_State, _: c_int, _: c_int) {
    // SAFETY: as in `nudged`. LuaJIT has cleared the bit. Nothing in this frame needs dropping; the profiler lets its callback
    // raise as a hook may.
    unsafe {
        let Some(request) = REQUEST.with(|request| request.load(Ordering::Acquire)).as_ref() else { return };
        request.asked.store(false, Ordering::Release);
        if ffi::lua_checkstack(l, ffi::LUA_MINSTACK) != 0 {
            stop_here(l);
        }
    }
}

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
    /// Whether it has ever heard of anything: it has had a core since its cancel.
    has_run: bool,
    /// How long to wait before it is asked again: longer each time.
    pause: Duration,
}

// SAFETY: `cancel` is followed, and the thread nudged, only under the lock of the board, from which the worker takes
// itself before either goes.
unsafe impl Send for Worker {}

/// First, code that goes on after a cancelled call may end by itself.
const GRACE: Duration = Duration::from_millis(10);
/// So long the bit stays set in a worker that does not come to a check.
const ASKED_FOR: Duration = Duration::from_millis(50);
/// So long a nudge may be on its way to a thread that waits for a core.
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
    }

    /// Tells it to do `order`.
    fn tell(&mut self, order: u8, now: Instant) {
        (self.since, self.heard) = (Some(now), false);
        self.request.seen.store(false, Ordering::Release);
        self.request.order.store(order, Ordering::Release);
        // SAFETY: the worker is on the board, so its thread has not ended.
        unsafe { self.thread.nudge() };
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
            (self.since, self.heard, self.has_run) = (Some(now), true, true);
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

    /// Whether it was told, and has had no core since: it is not to be given up for that.
    fn waits_for_core(&self) -> bool {
        !self.has_run && !self.heard && self.request.order.load(Ordering::Acquire) != NOTHING
    }

    /// Whether the profile must stay ours on its account.
    fn is_asked(&self) -> bool {
        self.request.order.load(Ordering::Acquire) != NOTHING || self.request.asked.load(Ordering::Acquire)
    }
}

/// The workers that may have to be nudged.
struct Board {
    generation: u32,
    workers: Vec<Worker>,
    /// Has the profile while a worker asks for its checks, and while one is asked to end; null until the first worker.
    dummy: *mut ffi::lua_State,
    /// Whether it has it.
    holds: bool,
    last_id: u64,
    /// Whether a thread nudges.
    manned: bool,
}

// SAFETY: the dummy state is used under the lock of the board only.
unsafe impl Send for Board {}

fn board() -> &'static Lock<Board> {
    static BOARD: SetOnce<Lock<Board>> = SetOnce::new();
    BOARD.get_or_init(|| {
        after_cancel(man);
        Lock::new(Board {
            generation: fork_generation(),
            workers: Vec::new(),
            dummy: ptr::null_mut(),
            holds: false,
            last_id: 0,
            manned: false,
        })
    })
}

impl Board {
    /// In the child of a fork there are none of these threads.
    fn refresh(&mut self) {
        let generation = fork_generation();
        if self.generation != generation {
            (self.generation, self.manned) = (generation, false);
            self.workers.clear();
            self.let_go();
        }
    }

    /// Whether the dummy has the profile, which it takes if nobody has it.
    fn hold(&mut self) -> bool {
        if !self.holds && matches!(sigprof(), Sigprof::Free) {
            // SAFETY: the dummy is used under the lock only.
            unsafe { luaJIT_profile_start(self.dummy, SILENT.as_ptr(), callback, ptr::null_mut()) };
            self.holds = true;
        }
        self.holds
    }

    /// Gives the profile back, if nobody is asked.
    fn let_go(&mut self) {
        if self.holds && !self.workers.iter().any(Worker::is_asked) {
            // SAFETY: the dummy is used under the lock only, and runs nothing.
            unsafe { luaJIT_profile_stop(self.dummy) };
            self.holds = false;
        }
    }

    /// The cancelled workers that may be asked if they compute.
    fn candidates(&mut self, now: Instant) -> Vec<(u64, ThreadHandle)> {
        let mut found = Vec::new();
        for worker in self.workers.iter_mut().filter(|worker| worker.is_due()) {
            if worker.since.is_none() {
                (worker.since, worker.pause) = (Some(now), GRACE);
            } else if worker.may_be_asked(now) {
                found.push((worker.id, worker.thread));
            }
        }
        found
    }

    /// Asks those of `computing` that have not ended meanwhile, and goes on with the others.
    fn nudge(&mut self, computing: &[u64], now: Instant) {
        for worker in self.workers.iter_mut() {
            worker.go_on(now);
        }
        if self.workers.iter().any(Worker::waits_for_core) {
            cancel_waits_for_core();
        }
        if !computing.is_empty() && self.hold() {
            for worker in self.workers.iter_mut().filter(|worker| computing.contains(&worker.id)) {
                worker.tell(ASK, now);
            }
        }
        self.let_go();
    }
}

/// After a cancel: sees that somebody nudges.
fn man() {
    {
        let mut board = board().lock();
        board.refresh();
        if board.manned || !board.workers.iter().any(Worker::is_due) {
            return;
        }
        board.manned = true;
    }
    if spawn_quiet("ipc cancel", keep_nudging).is_err() {
        board().lock().manned = false;
    }
}

/// Between two looks: short while workers end, longer for those who do not come out of C.
const LOOKS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

fn keep_nudging() {
    let mut nudges = None;
    let (mut pause, mut last) = (LOOKS.0, 0);
    loop {
        // Files are read, and handlers set, without the lock: a fork would wait for it.
        let candidates = board().lock().candidates(Instant::now());
        if nudges.is_none() && !candidates.is_empty() {
            nudges = Nudges::begin(nudged);
        }
        let refused = nudges.is_none() && !candidates.is_empty();
        let computes = |(id, thread): &(u64, ThreadHandle)| (!refused && thread.computes()).then_some(*id);
        let computing: Vec<u64> = candidates.iter().filter_map(computes).collect();
        let left = {
            let mut board = board().lock();
            board.nudge(&computing, Instant::now());
            let left = board.workers.iter().filter(|worker| worker.is_due()).count();
            if left == 0 || refused {
                // The handler goes before another thread can put its own there.
                drop(nudges);
                board.manned = false;
                return;
            }
            left
        };
        pause = if left == last { (pause + pause / 100).min(LOOKS.1) } else { LOOKS.0 };
        last = left;
        std::thread::sleep(pause);
    }
}

/// The traces of this thread's state carry checks, and a cancel ends them.
#[derive(Debug)]
pub(super) struct Armed {
    id: u64,
}

impl Armed {
    /// For the state of this thread, to be ended by `cancel`, which outlives this. `None` where LuaJIT is not as it is known
    /// here, or somebody profiles.
    pub(super) fn new(lua: Lua<'_>, cancel: &Cancel) -> Option<Armed> {
        if probe::is_switched_off() {
            return None;
        }
        // States are made and closed without the lock: a fork would wait for it.
        // SAFETY: makes a state, or gives null; it is used here alone until it is the board's.
        let mut spare = if board().lock().dummy.is_null() { unsafe { ffi::luaL_newstate() } } else { ptr::null_mut() };
        if !spare.is_null() {
            // SAFETY: as above.
            unsafe { probe::look(spare) };
        }
        let armed = Armed::enter(lua, cancel, &mut spare);
        if !spare.is_null() {
            // SAFETY: nobody else knows of it.
            unsafe { ffi::lua_close(spare) };
        }
        if armed.is_some() && cancel.fired() {
            man();
        }
        armed
    }

    /// The part under the lock; takes `spare` for the dummy, if there is none.
    fn enter(lua: Lua<'_>, cancel: &Cancel, spare: &mut *mut ffi::lua_State) -> Option<Armed> {
        let mut board = board().lock();
        board.refresh();
        if board.dummy.is_null() {
            board.dummy = std::mem::replace(spare, ptr::null_mut());
        }
        if board.dummy.is_null() || !board.hold() {
            return None;
        }
        // SAFETY: the dummy has the profile, and this is the thread of the other state.
        let mask = unsafe { probe::mask_of(lua.raw(), board.dummy) };
        let armed = mask.map(|mask| {
            // SAFETY: the dummy has the profile: what another state asks for is noted in that state alone, which is this thread's.
            unsafe { luaJIT_profile_start(lua.raw(), BY_LINE.as_ptr(), callback, ptr::null_mut()) };
            board.last_id += 1;
            let request = Arc::new(Request {
                state: lua.raw(),
                mask,
                order: AtomicU8::new(NOTHING),
                seen: AtomicBool::new(false),
                asked: AtomicBool::new(false),
            });
            REQUEST.with(|own| own.store(Arc::as_ptr(&request).cast_mut(), Ordering::Release));
            OWN.set(Some(request.clone()));
            let (id, thread) = (board.last_id, ThreadHandle::current());
            board.workers.push(Worker {
                id,
                thread,
                cancel,
                request,
                since: None,
                heard: false,
                has_run: false,
                pause: GRACE,
            });
            Armed { id }
        });
        board.let_go();
        armed
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        // A nudge from here on does nothing.
        REQUEST.with(|own| own.store(ptr::null_mut(), Ordering::Release));
        if let Some(request) = OWN.take() {
            request.set_mask(request.mask() & !probe::PROFILE);
            request.order.store(NOTHING, Ordering::Release);
            request.asked.store(false, Ordering::Release);
        }
        let mut board = board().lock();
        board.refresh();
        board.workers.retain(|worker| worker.id != self.id);
        board.let_go();
    }
}
