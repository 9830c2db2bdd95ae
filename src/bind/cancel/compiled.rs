//! Cancelling compiled loops of LuaJIT, which pass no hooks: by its profiler, whose checks traces do carry.
//!
//! A worker's state compiles under the profiler's mode `l`: each trace then looks at one bit of its state, at every line. A
//! cancelled worker that computes is nudged; in the nudge, in its own thread, it starts a profile of its state and lets
//! LuaJIT set the bit. The trace ends, and the profiler's callback runs as a hook would: it ends the profile and raises.
//!
//! The profiler is one a process, so cancelled workers take turns ([`TURN`]), each for some microseconds. What makes this sound:
//!
//! - The timer of a profile never fires: LuaJIT's handler of SIGPROF is called by us alone, in the thread whose state has the
//!   profile, as when a signal interrupts a single-threaded program. No state is changed by another thread.
//! - Stopping a profile frees machine code, so its own thread stops it, in the callback or when it ends.
//! - To ask for the checks is to ask for a profile. LuaJIT notes the mode also of a state that asks while another has the
//!   profile: so a dummy state has it meanwhile, and nothing has to be stopped.
//! - The turn is taken in the nudge, by a thread that runs, and has computed for a while since the first ([`BUSY_FOR`]): one that
//!   is on its way to sleep in a C function of another library would keep the turn. Where that happens all the same, the
//!   others wait until it comes back.
//! - A program that profiles itself is left alone: its workers' loops are then not ended, but abandoned.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mlua::ffi;

use super::stop_here;
use crate::bind::lua::Lua;
use crate::sync::after_cancel;
use crate::sys::{
    ForkHook, Guard, Lock, Nudges, SetOnce, Sigprof, ThreadHandle, at_fork, fork_generation, sigprof, spawn_quiet,
    thread_cpu_ns,
};
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

/// Who may use the profiler: nobody, the worker of this number, or one of these.
static TURN: AtomicU64 = AtomicU64::new(FREE);
const FREE: u64 = 0;
/// A profile is being stopped, or the dummy has it.
const BUSY: u64 = u64::MAX;
/// Somebody had it when this process was forked: it cannot be stopped from here.
const LOST: u64 = u64::MAX - 1;

static HOOK: ForkHook = ForkHook {
    prepare: || (),
    parent: || (),
    child: || {
        if TURN.load(Ordering::Relaxed) != FREE {
            TURN.store(LOST, Ordering::Relaxed);
        }
    },
};

/// What a nudge finds in its thread.
struct Me {
    /// The worker's number; 0 in threads that are no workers.
    id: AtomicU64,
    state: Cell<*mut ffi::lua_State>,
    /// How long the thread had computed at its first nudge, in nanoseconds; 0 before that.
    nudged_at: Cell<u64>,
}

thread_local! {
    static ME: Me =
        const { Me { id: AtomicU64::new(0), state: Cell::new(ptr::null_mut()), nudged_at: Cell::new(0) } };
}

/// This thread as a worker: the state is set before the number, since a nudge may come between the two.
fn become_worker(id: u64, l: *mut ffi::lua_State) {
    ME.with(|me| {
        me.state.set(l);
        me.nudged_at.set(0);
        me.id.store(id, Ordering::Release);
    });
}

/// This thread's number and state.
fn me() -> (u64, *mut ffi::lua_State) {
    ME.with(|me| (me.id.load(Ordering::Acquire), me.state.get()))
}

/// How long a thread computes, in nanoseconds, before it takes the turn. To start a program and wait for it takes less.
const BUSY_FOR: u64 = 2_000_000;

/// Whether this thread has computed for [`BUSY_FOR`] since it was first nudged.
fn is_busy() -> bool {
    let now = thread_cpu_ns();
    ME.with(|me| match me.nudged_at.get() {
        0 => {
            me.nudged_at.set(now.max(1));
            false
        }
        first => now.saturating_sub(first) >= BUSY_FOR,
    })
}

/// In a cancelled worker, at any place: does what a signal's handler may. Starting a profile only fills in a static of LuaJIT's,
/// and sets the timer and the handler.
fn nudged() {
    let (id, l) = me();
    if id == 0 || !is_busy() {
        return;
    }
    match TURN.compare_exchange(FREE, id, Ordering::AcqRel, Ordering::Relaxed) {
        Ok(_) if matches!(sigprof(), Sigprof::Taken(_)) => return TURN.store(FREE, Ordering::Release),
        // SAFETY: this thread's state, and nobody has the profile.
        Ok(_) => unsafe { luaJIT_profile_start(l, SILENT.as_ptr(), callback, ptr::null_mut()) },
        // It was in the midst of a finalizer, say, when it was nudged before.
        Err(whose) if whose == id => {}
        Err(_) => return,
    }
    if let Sigprof::Taken(handler) = sigprof()
        && handler != libc::SIG_DFL
        && handler != libc::SIG_IGN
    {
        // SAFETY: LuaJIT has just put its handler there, and takes it away in this thread only.
        let handler = unsafe { std::mem::transmute::<usize, extern "C" fn(c_int)>(handler) };
        handler(libc::SIGPROF);
    }
}

/// In the cancelled worker, between two instructions: what follows is as in a hook.
unsafe extern "C-unwind" fn callback(_: *mut c_void, l: *mut ffi::lua_State, _: c_int, _: c_int) {
    let id = me().0;
    if id == 0 {
        return;
    }
    end_turn(id, l);
    // SAFETY: nothing in this frame needs dropping; the profiler lets its callback raise as a hook may.
    unsafe {
        if ffi::lua_checkstack(l, ffi::LUA_MINSTACK) != 0 {
            stop_here(l);
        }
    }
}

/// Stops the profile, if it is this worker's.
fn end_turn(id: u64, l: *mut ffi::lua_State) {
    if TURN.compare_exchange(id, BUSY, Ordering::Acquire, Ordering::Relaxed).is_ok() {
        // SAFETY: the state of this thread, which is in no trace: it is in a C function, or in the callback.
        unsafe { luaJIT_profile_stop(l) };
        TURN.store(FREE, Ordering::Release);
    }
}

/// A worker whose traces carry checks.
struct Worker {
    id: u64,
    thread: ThreadHandle,
    cancel: *const Cancel,
}

// SAFETY: `cancel` is followed, and the thread nudged, only under the lock of the board, from which the worker takes
// itself before either goes.
unsafe impl Send for Worker {}

/// The workers that may have to be nudged.
struct Board {
    generation: u32,
    workers: Vec<Worker>,
    /// Has the profile while a worker asks for its checks; null until the first does.
    dummy: *mut ffi::lua_State,
    last_id: u64,
    /// Whether a thread nudges.
    manned: bool,
}

// SAFETY: the dummy state is used under the lock of the board only.
unsafe impl Send for Board {}

fn board() -> &'static Lock<Board> {
    static BOARD: SetOnce<Lock<Board>> = SetOnce::new();
    BOARD.get_or_init(|| {
        at_fork(&HOOK);
        after_cancel(man);
        Lock::new(Board {
            generation: fork_generation(),
            workers: Vec::new(),
            dummy: ptr::null_mut(),
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
        }
    }

    /// The workers that are cancelled and have not ended.
    fn due(&self) -> impl Iterator<Item = &Worker> {
        // SAFETY: the worker is on the board.
        self.workers.iter().filter(|w| unsafe { &*w.cancel }.fired())
    }

    /// Nudges those that compute; whether there are any that shall end.
    fn nudge(&self) -> bool {
        let mut any = false;
        for worker in self.due() {
            any = true;
            if worker.thread.computes() {
                // SAFETY: the worker is on the board, so its thread has not ended.
                unsafe { worker.thread.nudge() };
            }
        }
        any
    }
}

/// After a cancel: sees that somebody nudges.
fn man() {
    {
        let mut board = board().lock();
        board.refresh();
        if board.manned || board.due().next().is_none() {
            return;
        }
        board.manned = true;
    }
    if spawn_quiet("ipc cancel", keep_nudging).is_err() {
        board().lock().manned = false;
    }
}

/// Between two nudges: short at first, longer for those who do not come out of C.
const PAUSES: (Duration, Duration) = (Duration::from_micros(500), Duration::from_millis(20));

/// First, code that goes on after a cancelled call may end by itself.
const GRACE: Duration = Duration::from_millis(10);

fn keep_nudging() {
    std::thread::sleep(GRACE);
    let nudges = Nudges::begin(nudged);
    let mut pause = PAUSES.0;
    loop {
        {
            let mut board = board().lock();
            if nudges.is_none() || !board.nudge() {
                // The handler goes before another thread can put its own there.
                drop(nudges);
                board.manned = false;
                return;
            }
        }
        std::thread::sleep(pause);
        pause = (pause + pause / 100).min(PAUSES.1);
    }
}

/// The traces of this thread's state carry checks, and a cancel ends them.
#[derive(Debug)]
pub(super) struct Armed(());

impl Armed {
    /// For the state of this thread, to be ended by `cancel`, which outlives this.
    pub(super) fn new(lua: Lua<'_>, cancel: &Cancel) -> Armed {
        let Some(mut board) = board_with_turn() else { return Armed(()) };
        if board.dummy.is_null() {
            // SAFETY: makes a state, or gives null.
            board.dummy = unsafe { ffi::luaL_newstate() };
        }
        if board.dummy.is_null() || matches!(sigprof(), Sigprof::Taken(_)) {
            TURN.store(FREE, Ordering::Release);
            return Armed(());
        }
        // SAFETY: the dummy is only used here, under the lock, and it is our turn. What a state that cannot have the profile asks for is
        // noted in that state alone, which is this thread's.
        unsafe {
            luaJIT_profile_start(board.dummy, SILENT.as_ptr(), callback, ptr::null_mut());
            luaJIT_profile_start(lua.raw(), BY_LINE.as_ptr(), callback, ptr::null_mut());
            luaJIT_profile_stop(board.dummy);
        }
        TURN.store(FREE, Ordering::Release);
        board.last_id += 1;
        let id = board.last_id;
        become_worker(id, lua.raw());
        board.workers.push(Worker { id, thread: ThreadHandle::current(), cancel });
        drop(board);
        if cancel.fired() {
            man();
        }
        Armed(())
    }
}

/// How long a worker that starts waits for the turn. Whoever has it may have to wait for a core first.
const PATIENCE: Duration = Duration::from_millis(200);

/// The board, and the turn for its dummy; `None` where the turn stays with a worker that does not come back.
fn board_with_turn() -> Option<Guard<'static, Board>> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let mut board = board().lock();
        board.refresh();
        match TURN.compare_exchange(FREE, BUSY, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return Some(board),
            Err(LOST) => return None,
            // The board is free meanwhile: others nudge the one that has the turn.
            Err(_) => drop(board),
        }
        if Instant::now() > give_up {
            return None;
        }
        std::thread::sleep(PAUSES.0 / 10);
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        let (id, l) = me();
        if id != 0 {
            // A nudge from here on does nothing.
            become_worker(0, l);
            end_turn(id, l);
            board().lock().workers.retain(|w| w.id != id);
        }
    }
}
