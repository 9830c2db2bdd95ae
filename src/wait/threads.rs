//! What each thread waits for, and since when: for a report of it.
//!
//! A thread that has slept for a moment says so in a slot of its own, whose lock nobody else takes but a report.
//! Nothing is said before: calls that find what they want at once, or are woken soon, pay nothing.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{Deadline, Owner, SHORT_NAP, Wait};
use crate::sys::{
    ForkHook, Lock, SetOnce, at_fork, at_thread_end, fork_generation, getpid, gettid, monotonic_ns, this_thread_name,
};

/// What a call is for, as far as its caller knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose {
    /// The call as its user knows it: `workqueue:read`.
    pub place: &'static str,
    /// What tells the object that it is a method of from others; 0 where there is none.
    pub object: usize,
}

/// A thread, as a report shows it.
#[derive(Clone, Debug)]
pub struct ThreadState {
    /// Its name: `main`, `loader 3`.
    pub name: String,
    /// Its number in the operating system.
    pub id: u64,
    /// What it waits for.
    pub waits: Option<Waits>,
    /// Whether it is one of our own, in which nothing of Lua runs.
    pub background: bool,
}

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// For what.
    pub purpose: Purpose,
    /// Since when, on the clock of [`monotonic_ns`].
    pub since: u64,
    /// Whether it has no time-out.
    pub for_ever: bool,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    name: String,
    id: u64,
    /// Whose code runs in this thread; 0: nobody's.
    owner: AtomicU64,
    background: AtomicBool,
    waits: Lock<Option<Waits>>,
}

thread_local! {
    /// Without a destructor, for which the C library would take memory: [`hide_thread`] leaves nothing there.
    static MINE: RefCell<Option<ManuallyDrop<Arc<Slot>>>> = const { RefCell::new(None) };
}

fn slots() -> &'static Lock<Vec<Weak<Slot>>> {
    static SLOTS: SetOnce<Lock<Vec<Weak<Slot>>>> = SetOnce::new();
    SLOTS.get_or_init(Lock::default)
}

/// The slot of this thread, made at the first call; `None` where it cannot be taken back when the thread ends.
fn mine() -> Option<Arc<Slot>> {
    MINE.with(|mine| {
        let mut mine = mine.try_borrow_mut().ok()?;
        match &*mine {
            // One from before a fork names a thread of the parent.
            Some(slot) if slot.generation == fork_generation() => {}
            before => {
                if !at_thread_end(hide_thread) {
                    return None;
                }
                let id = gettid();
                let name = match before {
                    // The child goes on under the name of the thread that forked.
                    Some(slot) => slot.name.clone(),
                    None if id == getpid() as u64 => "main".into(),
                    None => this_thread_name(),
                };
                let slot = Arc::new(Slot {
                    generation: fork_generation(),
                    name,
                    id,
                    owner: AtomicU64::new(before.as_ref().map_or(0, |slot| slot.owner.load(Ordering::Relaxed))),
                    background: AtomicBool::new(false),
                    waits: Lock::new(None),
                });
                let mut slots = slots().lock();
                slots.retain(|slot| slot.strong_count() > 0);
                // Where there is no memory for it, reports do not have this thread.
                if slots.try_reserve(1).is_ok() {
                    slots.push(Arc::downgrade(&slot));
                }
                drop(slots);
                drop(mine.replace(ManuallyDrop::new(slot)).map(ManuallyDrop::into_inner));
            }
        }
        mine.as_deref().cloned()
    })
}

/// Uses this layer's thread-locals, for which the C library takes memory at the first use, and ends the process where
/// it has none: for a thread that is about to take work.
pub fn prepare_thread() {
    MINE.with(|_| ());
}

/// Has this thread in reports from now on, for as long as it lives.
pub fn show_thread() {
    mine();
}

/// Takes this thread, which is about to end, out of reports: before anybody hears of its end.
pub fn hide_thread() {
    let slot = MINE.with(|mine| mine.try_borrow_mut().ok().and_then(|mut mine| mine.take()));
    drop(slot.map(ManuallyDrop::into_inner));
}

/// As [`show_thread`], for one of our own.
pub fn show_background_thread() {
    if let Some(slot) = mine() {
        slot.background.store(true, Ordering::Relaxed);
    }
}

/// The Lua state in the thread that forked this process, as a number: the only one that came through. 0: none.
static CAME_THROUGH: AtomicU64 = AtomicU64::new(0);

/// Whether the state `owner`, from before a fork, is in the child: the one whose thread forked.
pub fn came_through_fork(owner: u64) -> bool {
    CAME_THROUGH.load(Ordering::Relaxed) == owner
}

fn note_who_comes_through() {
    let owner =
        MINE.with(|mine| mine.try_borrow().ok().and_then(|mine| Some(mine.as_ref()?.owner.load(Ordering::Relaxed))));
    CAME_THROUGH.store(owner.unwrap_or(0), Ordering::Relaxed);
}

/// As [`show_thread`], for one in which the Lua state `owner` runs.
pub fn show_thread_of(owner: Owner) {
    static HOOK: ForkHook = ForkHook { prepare: || (), parent: || (), child: note_who_comes_through };
    at_fork(&HOOK);
    if let Some(slot) = mine() {
        slot.owner.store(owner.number(), Ordering::Relaxed);
    }
}

fn each_slot(mut look: impl FnMut(&Slot)) {
    let here = fork_generation();
    let mut found = Vec::new();
    {
        let slots = slots().lock();
        // Reports and names of threads do without where there is no memory.
        if found.try_reserve(slots.len()).is_ok() {
            found.extend(slots.iter().filter_map(Weak::upgrade));
        }
    }
    found.iter().filter(|slot| slot.generation == here).for_each(|slot| look(slot));
}

/// The name of the thread in which the Lua state with the number `owner` runs.
pub fn thread_of(owner: u64) -> Option<String> {
    let mut name = None;
    each_slot(|slot| {
        if slot.owner.load(Ordering::Relaxed) == owner {
            name = Some(slot.name.clone());
        }
    });
    name
}

/// Since when, on the clock of [`monotonic_ns`], the Lua state with the number `owner` waits without a time-out.
pub fn waits_for_ever(owner: u64) -> Option<u64> {
    let mut since = None;
    each_slot(|slot| {
        if slot.owner.load(Ordering::Relaxed) == owner {
            since = slot.waits.lock().filter(|waits| waits.for_ever).map(|waits| waits.since);
        }
    });
    since
}

/// All threads that take part, by their numbers.
pub fn threads() -> Vec<ThreadState> {
    let mut all = Vec::new();
    each_slot(|slot| {
        let background = slot.background.load(Ordering::Relaxed);
        all.push(ThreadState { name: slot.name.clone(), id: slot.id, waits: *slot.waits.lock(), background });
    });
    all.sort_by_key(|thread| thread.id);
    all
}

/// While it lives, this thread is shown to wait. Made where a thread goes to sleep, or around several sleeps that are
/// one to the caller: the outer one counts.
#[derive(Debug)]
pub struct Asleep {
    slot: Arc<Slot>,
    before: Option<Waits>,
}

impl Asleep {
    /// Says what this thread waits for; `None` where that is not known.
    pub fn new(wait: &Wait) -> Option<Asleep> {
        let purpose = wait.interrupt.purpose()?;
        let slot = mine()?;
        let mut waits = slot.waits.lock();
        let before = *waits;
        if before.is_none_or(|outer| outer.purpose != purpose) {
            let for_ever = wait.deadline == Deadline::NEVER;
            *waits = Some(Waits { purpose, since: monotonic_ns(), for_ever });
        }
        drop(waits);
        Some(Asleep { slot, before })
    }
}

impl Drop for Asleep {
    fn drop(&mut self) {
        *self.slot.waits.lock() = self.before;
    }
}

/// A sleep in naps. Where they have time-outs the first is short, and only a thread that sleeps on after it is shown to
/// wait.
#[derive(Debug)]
pub(super) struct Backoff {
    first: bool,
    shown: Option<Asleep>,
}

impl Backoff {
    /// Before the first nap.
    pub fn new() -> Backoff {
        Backoff { first: true, shown: None }
    }

    /// About to take the next nap: how long it may be. A time-out takes the system longer than this thread takes to say
    /// what it waits for, so one that needs no time-out otherwise says so at once.
    pub fn longest(&mut self, wait: &Wait) -> Duration {
        if self.first && wait.needs_time_out() {
            return SHORT_NAP;
        }
        self.goes_on(wait);
        Duration::MAX
    }

    /// After a nap, before another one.
    pub fn goes_on(&mut self, wait: &Wait) {
        if self.first {
            self.first = false;
            self.shown = Asleep::new(wait);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Cancel, Deadline, EventCount, Interrupt, sleep};
    use super::*;
    use crate::error::Result;
    use crate::sys::fork_for_tests;

    struct Named<'a>(Purpose, &'a Cancel);

    impl Interrupt for Named<'_> {
        fn on_signal(&self) -> Result<()> {
            Ok(())
        }
        fn cancel(&self) -> Option<&Cancel> {
            Some(self.1)
        }
        fn purpose(&self) -> Option<Purpose> {
            Some(self.0)
        }
    }

    fn seen(name: &str) -> Option<ThreadState> {
        threads().into_iter().find(|thread| thread.name == name)
    }

    #[test]
    fn a_sleeping_thread_says_what_it_waits_for_and_a_running_one_nothing() {
        let cancel = Cancel::new();
        let purpose = Purpose { place: "thing:read", object: 7 };
        let owner = Owner::new();
        std::thread::scope(|s| {
            let its = &cancel;
            std::thread::Builder::new()
                .name("sleeper".into())
                .spawn_scoped(s, move || {
                    show_thread_of(owner);
                    let first = Named(Purpose { place: "thing:write", object: 0 }, its);
                    let wait = Wait { deadline: Deadline::NEVER, interrupt: &first };
                    // Around a sleep, the outer one counts.
                    let outer = Asleep::new(&wait);
                    let since = seen("sleeper").unwrap().waits.unwrap().since;
                    sleep(&wait.sooner(Deadline::after(0.001))).unwrap();
                    assert_eq!(seen("sleeper").unwrap().waits.unwrap().since, since);
                    drop(outer);
                    assert!(seen("sleeper").unwrap().waits.is_none());
                    let second = Named(purpose, its);
                    let wait = Wait { deadline: Deadline::NEVER, interrupt: &second };
                    EventCount::new().wait_until(&wait, || None::<()>).unwrap_err();
                    assert!(seen("sleeper").unwrap().waits.is_none());
                    hide_thread();
                })
                .unwrap();
            let waits = loop {
                match seen("sleeper").and_then(|thread| thread.waits) {
                    Some(waits) if waits.purpose == purpose => break waits,
                    _ => std::thread::yield_now(),
                }
            };
            assert!(waits.since <= monotonic_ns());
            assert_eq!(thread_of(owner.number()).as_deref(), Some("sleeper"));
            // The child of a fork does not show it: it is not there.
            assert_eq!(fork_for_tests(|| seen("sleeper").is_none()), 0);
            cancel.fire();
        });
        assert!(seen("sleeper").is_none());
        assert!(thread_of(owner.number()).is_none());
    }
}
