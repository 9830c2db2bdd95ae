//! Critical sections: what a thread does in one, a fork never catches half done.
//!
//! Every lock of this library is held inside one, and descriptors are opened and closed inside one. A fork waits until
//! no other thread is inside, and meanwhile nobody enters; so the child finds all locks free, all data whole, and no
//! descriptor open that is not in the table. That costs a fork the same with one lock and with a million, and the locks
//! themselves are plain words. [`fork_gate`](super::fork_gate) has the protocol, and why it is sound. What this file
//! adds:
//!
//! - A thread's depth is in a record of its own, on a list that only grows; a record is used again when its thread has
//!   ended. Threads that cannot have one (there is no memory, or no key of POSIX threads) share a counter, with a
//!   fence.
//! - Sections nest: who is inside goes on whatever the gate says, since the fork waits for it anyway. So does the
//!   thread that forks, and what `pthread_atfork` handlers of others call in it. Its own depth, which is not 0 if a
//!   signal's handler forks in the middle of a section, is not waited for, and goes on in the child, where the section
//!   is ended.
//! - The wait has a bound ([`PATIENCE`]), for a thread that was stopped inside. Where it was in vain, [`quiesce`] says
//!   so, and nothing is forked. A fork by others cannot be held up: its child is *torn*, and nobody enters a critical
//!   section there ever again: entering unwinds with [`Torn`], which the binding, as it asks [`is_torn`] first, lets
//!   nobody come to.
//! - In the child the records of all other threads are free.
//!
//! A section is short: nothing in it blocks, calls Lua, or waits for what another thread does outside one.
//!
//! Imports its siblings `fork_gate`, `fork`, `futex`, `clock`, `membarrier` and `thread_end`.

use std::alloc::Layout;
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::time::Duration;

use super::clock::{gettid, monotonic_ns};
use super::fork::{ForkHook, at_fork};
use super::fork_gate::{self as gate, FENCED, FORKS, TORN};
use super::futex::{Scope, futex_wait, futex_wake};
use super::membarrier::{barrier_everywhere, register_barrier};
use super::thread_end::at_thread_end;

/// How long a fork waits for those inside, in milliseconds.
static PATIENCE: AtomicU64 = AtomicU64::new(5_000);

static GATE: AtomicU32 = AtomicU32::new(FENCED);
static HOOK: ForkHook = ForkHook { prepare, parent, child };

/// One thread's place. 128: its word is written all the time, and by that thread alone.
#[repr(align(128))]
struct Record {
    depth: AtomicU32,
    tid: AtomicU32,
    /// What tells the thread from others: where its `HERE` is. 0: nobody's.
    owner: AtomicUsize,
    /// Set before the record is on the list.
    next: *const Record,
}

/// All records; they are never freed.
static RECORDS: AtomicPtr<Record> = AtomicPtr::new(ptr::null_mut());

/// How many threads without a record are inside.
static CROWD: AtomicU32 = AtomicU32::new(0);

/// What a thread knows of itself. Without a destructor, so that it is there until the very end of the thread.
struct Here {
    record: Cell<*const Record>,
    /// How many sections it is in, if it has no record.
    crowd: Cell<u32>,
    /// How many forks of this thread are going on.
    forks: Cell<u32>,
    /// While forks of it are going on: whether all other threads are known to be outside.
    quiet: Cell<bool>,
    /// The number of a thread that did not leave in time; 0: all did.
    in_vain: Cell<u32>,
}

impl Here {
    const fn new() -> Here {
        Here {
            record: Cell::new(ptr::null()),
            crowd: Cell::new(0),
            forks: Cell::new(0),
            quiet: Cell::new(false),
            in_vain: Cell::new(0),
        }
    }
}

thread_local! {
    static HERE: Here = const { Here::new() };
}

/// Gives the record back when the thread ends.
fn return_record() {
    HERE.with(|here| {
        // SAFETY: null, or a record, which is never freed.
        if let Some(record) = unsafe { here.record.get().as_ref() } {
            debug_assert_eq!(record.depth.load(Ordering::Relaxed), 0, "a thread ends in a critical section");
            here.record.set(ptr::null());
            record.owner.store(0, Ordering::Release);
        }
    });
}

/// Being in a critical section; it ends when this is dropped, in the same thread.
#[derive(Debug)]
pub struct Critical {
    /// Null: the thread has none. A raw pointer also keeps this in its thread.
    record: *const Record,
}

impl Critical {
    /// Enters one; waits while a fork is going on.
    #[inline]
    pub fn enter() -> Critical {
        let record = HERE.with(|here| here.record.get());
        // SAFETY: null, or a record, which is never freed.
        match unsafe { record.as_ref() } {
            Some(r) if gate::enter(&GATE, &r.depth) => Critical { record },
            _ => enter_slowly(),
        }
    }
}

impl Drop for Critical {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: null, or a record, which is never freed.
        match unsafe { self.record.as_ref() } {
            Some(record) => gate::leave(&record.depth),
            None => leave_crowd(),
        }
    }
}

#[cold]
fn enter_slowly() -> Critical {
    let record = HERE.with(|here| {
        if here.record.get().is_null() {
            here.record.set(register(here));
        }
        here.record.get()
    });
    // SAFETY: null, or a record, which is never freed.
    let own = unsafe { record.as_ref() };
    loop {
        let word = GATE.load(Ordering::Acquire);
        if word & TORN != 0 {
            refuse();
        }
        let inside = HERE.with(|here| match own {
            Some(record) if here.forks.get() > 0 || gate::is_inside(&record.depth) => {
                // As far as the fork is concerned, it is inside, or it is the fork.
                record.depth.fetch_add(1, Ordering::Relaxed);
                true
            }
            Some(record) => gate::enter_fenced(&GATE, &record.depth),
            None => enter_crowd(here),
        });
        if inside {
            return Critical { record };
        }
        let word = GATE.load(Ordering::Acquire);
        if word & FORKS != 0 {
            // The bound is for a wake-up that a fork in between has lost to its child.
            futex_wait(&GATE, word, Some(Duration::from_millis(50)), Scope::Private);
        }
    }
}

fn enter_crowd(here: &Here) -> bool {
    if here.crowd.get() == 0 && here.forks.get() == 0 {
        CROWD.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if GATE.load(Ordering::Acquire) & (FORKS | TORN) != 0 {
            CROWD.fetch_sub(1, Ordering::SeqCst);
            return false;
        }
    } else if here.crowd.get() == 0 {
        CROWD.fetch_add(1, Ordering::SeqCst);
    }
    here.crowd.set(here.crowd.get() + 1);
    true
}

#[cold]
fn leave_crowd() {
    HERE.with(|here| {
        here.crowd.set(here.crowd.get() - 1);
        if here.crowd.get() == 0 {
            CROWD.fetch_sub(1, Ordering::SeqCst);
        }
    });
}

/// A record for this thread; null where it cannot have one.
fn register(here: &Here) -> *const Record {
    at_fork(&HOOK);
    let owner = ptr::from_ref(here).addr();
    if !at_thread_end(return_record) {
        return ptr::null();
    }
    let mut at = RECORDS.load(Ordering::Acquire).cast_const();
    // SAFETY: null, or a record, which is never freed.
    while let Some(record) = unsafe { at.as_ref() } {
        if record.owner.load(Ordering::Relaxed) == 0
            && record.owner.compare_exchange(0, owner, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        {
            record.tid.store(gettid() as u32, Ordering::Relaxed);
            return record;
        }
        at = record.next;
    }
    const LAYOUT: Layout = Layout::new::<Record>();
    // SAFETY: a layout that is not empty.
    let new = unsafe { std::alloc::alloc(LAYOUT) }.cast::<Record>();
    if new.is_null() {
        return new;
    }
    let mut next = RECORDS.load(Ordering::Acquire);
    loop {
        let (depth, tid) = (AtomicU32::new(0), AtomicU32::new(gettid() as u32));
        // SAFETY: allocated just above, and nobody else has seen it.
        unsafe { new.write(Record { depth, tid, owner: AtomicUsize::new(owner), next }) };
        match RECORDS.compare_exchange(next, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => break,
            Err(there) => next = there,
        }
    }
    // A fork that went through the list before this closed the gate before that: with this fence, and that of `close`,
    // the thread finds it closed.
    fence(Ordering::SeqCst);
    new
}

/// Calls `look` with each record but this thread's, until it says so.
fn others(here: &Here, mut look: impl FnMut(&Record) -> bool) {
    let own = ptr::from_ref(here).addr();
    let mut at = RECORDS.load(Ordering::SeqCst).cast_const();
    // SAFETY: null, or a record, which is never freed.
    while let Some(record) = unsafe { at.as_ref() } {
        if record.owner.load(Ordering::Relaxed) != own && !look(record) {
            return;
        }
        at = record.next;
    }
}

/// Whether other threads of this process use the library.
pub(super) fn has_company() -> bool {
    let mut found = CROWD.load(Ordering::Relaxed) > 0;
    HERE.with(|here| {
        others(here, |record| {
            found |= record.owner.load(Ordering::Relaxed) != 0;
            !found
        });
    });
    found
}

/// Before a fork. May run in a signal's handler.
fn prepare() {
    HERE.with(|here| {
        here.forks.set(here.forks.get() + 1);
        let unfenced = gate::close(&GATE);
        // `quiesce` has waited already, and nobody has entered since.
        if here.quiet.get() {
            return;
        }
        if unfenced && !barrier_everywhere() {
            // It was there before: a sandbox has taken it away. This once nothing is known for certain.
            GATE.fetch_or(FENCED, Ordering::SeqCst);
            here.in_vain.set(gettid() as u32);
            return;
        }
        here.in_vain.set(wait_for_others(here));
        here.quiet.set(here.in_vain.get() == 0);
    });
}

/// Waits until no other thread is inside; 0, or the number of one that did not leave in time.
fn wait_for_others(here: &Here) -> u32 {
    let give_up = monotonic_ns() + PATIENCE.load(Ordering::Relaxed) * 1_000_000;
    let (mut looks, mut late) = (0, 0);
    let mut outside = |is_inside: &dyn Fn() -> bool| {
        while is_inside() {
            // A section takes a moment, but its thread may have lost its core to others.
            if looks < 16 {
                std::thread::yield_now();
            } else if monotonic_ns() > give_up {
                return false;
            } else {
                std::thread::sleep(Duration::from_micros(20 << (looks / 8).min(6)));
            }
            looks += 1;
        }
        true
    };
    others(here, |record| {
        let left = outside(&|| gate::is_inside(&record.depth));
        if !left {
            late = record.tid.load(Ordering::Relaxed);
        }
        left
    });
    let own = u32::from(here.crowd.get() > 0);
    if late == 0 && !outside(&|| CROWD.load(Ordering::Acquire) > own) {
        late = u32::MAX;
    }
    late
}

/// After a fork, in the parent.
fn parent() {
    HERE.with(|here| {
        // 0: the hook came after `prepare` would have run.
        if here.forks.get() > 0 {
            here.forks.set(here.forks.get() - 1);
            here.quiet.set(here.quiet.get() && here.forks.get() > 0);
            if gate::open(&GATE) {
                futex_wake(&GATE, u32::MAX, Scope::Private);
            }
        }
    });
}

/// In the child: of all threads there is this one.
fn child() {
    HERE.with(|here| {
        others(here, |record| {
            // Only what is not so already: each write is a page of the child's own.
            if record.owner.load(Ordering::Relaxed) != 0 || gate::is_inside(&record.depth) {
                record.depth.store(0, Ordering::Relaxed);
                record.owner.store(0, Ordering::Relaxed);
            }
            true
        });
        CROWD.store(u32::from(here.crowd.get() > 0), Ordering::Relaxed);
        // SAFETY: null, or a record, which is never freed.
        if let Some(own) = unsafe { here.record.get().as_ref() } {
            own.tid.store(gettid() as u32, Ordering::Relaxed);
        }
        // A fork in a signal's handler may have interrupted another of this thread, which then goes on here.
        here.forks.set(here.forks.get().saturating_sub(1));
        here.quiet.set(here.forks.get() > 0);
        let torn = if here.in_vain.replace(0) != 0 { TORN } else { GATE.load(Ordering::Relaxed) & TORN };
        let fenced = if register_barrier() { 0 } else { FENCED };
        GATE.store(here.forks.get() | torn | fenced, Ordering::SeqCst);
    });
}

/// Nobody else is in a critical section, until this is dropped.
#[derive(Debug)]
pub(super) struct Quiet(());

/// Waits until no other thread is in a critical section. Where one does not leave it in time, its number.
pub(super) fn quiesce() -> Result<Quiet, u32> {
    at_fork(&HOOK);
    prepare();
    let quiet = Quiet(());
    match HERE.with(|here| here.in_vain.replace(0)) {
        0 => Ok(quiet),
        late => Err(late),
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        parent();
    }
}

/// Whether this process was forked, not by [`fork`](super::fork()), while another thread was changing something, and
/// that one did not come to an end in time. What threads share is then not to be looked at any more.
#[inline]
pub fn is_torn() -> bool {
    GATE.load(Ordering::Relaxed) & TORN != 0
}

/// What entering a critical section unwinds with in a torn process.
#[derive(Debug)]
pub struct Torn;

#[cold]
fn refuse() -> ! {
    if std::thread::panicking() {
        // The destructor that comes here would find half of something.
        // SAFETY: ends the process, which is a copy that nobody can use.
        unsafe { libc::_exit(70) }
    }
    // Not by `panic!`, which says on stderr that there is a bug.
    std::panic::resume_unwind(Box::new(Torn))
}

/// When the library is loaded, and before anything else of it runs: so the handlers are there before the first fork
/// that matters, and nobody has to wait for another to install them.
extern "C" fn install() {
    at_fork(&HOOK);
    if register_barrier() {
        GATE.fetch_and(!FENCED, Ordering::SeqCst);
    }
}

#[used]
#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
#[cfg_attr(not(target_os = "macos"), unsafe(link_section = ".init_array"))]
static INSTALL: extern "C" fn() = install;

#[cfg(test)]
#[path = "critical/tests.rs"]
mod tests;
