//! "Something changed, look again": an eventcount, with a descriptor for those who select.
//!
//! The condition itself lives elsewhere (a queue's index, a flag) and is read by the waiter's own closure. A waiter
//! says that it waits, looks, and only then sleeps; a notifier changes the condition, then looks whether anyone waits.
//! Each has a full fence between its two steps, so at least one sees the other: no wake-up is lost.
//!
//! Of several waiters one is on its way at a time: it calls the next when it has found something and more has come
//! meanwhile. So all who wait with `notify_one` or `notify` wait for the same: what one does not find is there for none
//! of them.
//!
//! Before it sleeps a waiter looks again for a while, but where others sleep only one does, and counts as woken: the
//! threads that have something to do need the cores.
//!
//! A caller that tries (`non_blocking`) leaves an event, which the next change sets.
//!
//! The child of a fork starts without waiters: those that are counted, woken or looking are its parent's. Only the
//! thread that forked may be among them, from within a wait; it counts itself anew.
//!
//! Imports its siblings `fd_pool` and `non_blocking` (through [`Wait`]), `park` and `threads`.

use std::os::fd::RawFd;
// Not the models' atomic: nothing forks there.
use std::sync::atomic::AtomicU32 as Generation;
use std::sync::{Arc, Weak};

use super::park::{Parked, park};
use super::threads::Backoff;
use super::{PooledEvent, Wait};
use crate::error::Result;
use crate::sys::atomic::{AtomicU32, Ordering, fence};
use crate::sys::{Event, Lock, Scope, Spin, fork_generation, futex_wake};

/// In `state`: somebody asked for the descriptor.
const HAS_FD: u32 = 1 << 31;
/// In `state`: callers that try are to be told of the next change.
const WATCHED: u32 = 1 << 30;
/// In `state`: a waiter was woken and nobody has looked since. It may be long on its way, where there are more threads
/// than cores, and a system call for each change meanwhile would cost more than the changes.
const CALLED: u32 = 1 << 29;
/// In `state`, with [`CALLED`]: there were more changes, for which nobody was woken. Who answers the call and finds
/// something calls the next with the same word, until one finds nothing.
const MORE: u32 = 1 << 28;
/// In `state`: while others sleep, one more looks before it does. It finds what comes without being woken.
const LOOKS: u32 = 1 << 27;
/// The rest of `state` counts the waiters.
const WAITERS: u32 = LOOKS - 1;

/// A place to wait for a condition that other threads make true.
#[derive(Debug)]
pub struct EventCount {
    /// Counts notifications that somebody may have waited for; what sleepers sleep on.
    epoch: AtomicU32,
    state: AtomicU32,
    /// Of which process `state` tells, as [`fork_generation`] has it; changed under `level`.
    generation: Generation,
    level: Lock<Level>,
}

/// The descriptor, and whether it is set.
#[derive(Debug, Default)]
struct Level {
    event: Option<Event>,
    set: bool,
    /// Of callers that try: set, and forgotten, at the next change. Those that have given up are gone.
    watchers: Vec<Weak<PooledEvent>>,
}

impl Default for EventCount {
    fn default() -> Self {
        EventCount::new()
    }
}

impl EventCount {
    /// Nobody waits yet.
    pub fn new() -> EventCount {
        EventCount {
            epoch: AtomicU32::new(0),
            state: AtomicU32::new(0),
            generation: Generation::new(fork_generation()),
            level: Lock::default(),
        }
    }

    /// Before a waiter enters itself in `state`: the waiters of the process that forked this one are not here.
    #[inline]
    fn settle(&self) {
        if self.generation.load(Ordering::Acquire) != fork_generation() {
            self.start_over();
        }
    }

    #[cold]
    fn start_over(&self) {
        let _level = self.level.lock();
        if self.generation.load(Ordering::Relaxed) != fork_generation() {
            self.state.fetch_and(HAS_FD | WATCHED, Ordering::SeqCst);
            self.generation.store(fork_generation(), Ordering::Release);
        }
    }

    /// After a change that one waiter can use: wakes one. Nearly free when nobody waits.
    #[inline]
    pub fn notify_one(&self) {
        self.notify(1);
    }

    /// After a change that everybody should see: wakes all.
    #[inline]
    pub fn notify_all(&self) {
        fence(Ordering::SeqCst);
        if self.is_awaited() {
            self.wake(u32::MAX);
            self.tell();
        }
    }

    /// After a change that `count` waiters can use.
    #[inline]
    pub fn notify(&self, count: u32) {
        fence(Ordering::SeqCst);
        if self.is_awaited() {
            self.call(count, 0);
        }
    }

    /// Whether anybody waits; right after a `notify` of another one, whose fence serves for this look too.
    #[inline]
    pub fn is_awaited(&self) -> bool {
        self.state.load(Ordering::Relaxed) & !HAS_FD != 0
    }

    /// Wakes `count`, or leaves word for the one who is on its way already. `word` goes to the one that is woken:
    /// nothing, or [`MORE`].
    #[cold]
    fn call(&self, count: u32, word: u32) {
        let mut state = self.state.load(Ordering::Relaxed);
        while state & WAITERS != 0 {
            let next = state | if state & CALLED == 0 { CALLED | word } else { MORE };
            if next == state {
                break;
            }
            match self.state.compare_exchange_weak(state, next, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => {
                    // Who looks finds the first by itself.
                    let count = if state & LOOKS == 0 { count } else { count - 1 };
                    if state & CALLED == 0 && count > 0 {
                        self.wake(count);
                    }
                    break;
                }
                Err(now) => state = now,
            }
        }
        self.tell();
    }

    fn wake(&self, count: u32) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        futex_wake(&self.epoch, count, Scope::Private);
    }

    /// Tells the callers that try.
    fn tell(&self) {
        if self.state.load(Ordering::Relaxed) & WATCHED != 0 {
            let mut level = self.level.lock();
            self.state.fetch_and(!WATCHED, Ordering::SeqCst);
            let watchers = std::mem::take(&mut level.watchers);
            drop(level);
            watchers.iter().filter_map(Weak::upgrade).for_each(|event| event.set());
        }
    }

    /// Has `event` set at the next change.
    fn watch(&self, event: &Arc<PooledEvent>) {
        let mut level = self.level.lock();
        level.watchers.retain(|known| known.strong_count() > 0 && !std::ptr::eq(known.as_ptr(), Arc::as_ptr(event)));
        level.watchers.push(Arc::downgrade(event));
        self.state.fetch_or(WATCHED, Ordering::SeqCst);
    }

    #[cfg(test)]
    pub(super) fn watchers(&self) -> usize {
        self.level.lock().watchers.len()
    }

    /// Waits until `look` returns something, which is looked for at once, also when the deadline is past; `None` when
    /// time runs out. Several threads may wait; `look` runs without any lock of this layer and must not block.
    pub fn wait_until<T>(&self, wait: &Wait, look: impl FnMut() -> Option<T>) -> Result<Option<T>> {
        self.wait_to_take(wait, look, || true)
    }

    /// As [`wait_until`](EventCount::wait_until), for a `take` that leaves less for the others. `more` says whether
    /// there is anything left: who has taken the last calls nobody.
    pub fn wait_to_take<T>(
        &self,
        wait: &Wait,
        mut look: impl FnMut() -> Option<T>,
        more: impl Fn() -> bool,
    ) -> Result<Option<T>> {
        wait.check()?;
        if let Some(found) = look() {
            return Ok(Some(found));
        }
        if wait.deadline.expired() {
            return Ok(None);
        }
        if let Some(non_blocking) = wait.interrupt.non_blocking() {
            self.watch(&non_blocking.event()?);
            // The other half of the fence in `notify`.
            fence(Ordering::SeqCst);
            return match look() {
                None => Err(non_blocking.would_block_on_event(wait.deadline)),
                found => Ok(found),
            };
        }
        let mut waiting = match Looker::new(self) {
            Some(mut looker) => {
                let found = spin(wait, &mut || {
                    looker.answer();
                    look()
                });
                if found.is_some() {
                    looker.leaves(more);
                    return Ok(found);
                }
                looker.sleeps()
            }
            None => Waiting::new(self),
        };
        let mut asleep = Backoff::new();
        loop {
            let key = self.epoch.load(Ordering::SeqCst);
            // After the epoch is read: a call that comes later changes it, and this thread does not sleep.
            waiting.answer();
            if let Some(found) = look() {
                waiting.pass_on &= more();
                return Ok(Some(found));
            }
            match park(&self.epoch, key, wait, asleep.longest(wait)) {
                Ok(Parked::Awake) => asleep.goes_on(wait),
                Ok(Parked::OutOfTime) => return Ok(None),
                Err(e) => {
                    // The wake-up that we leave with may have been meant for what another waiter can use.
                    waiting.answer();
                    waiting.pass_on = true;
                    return Err(e);
                }
            }
        }
    }

    /// A descriptor that polls readable while the condition holds, made on the first request; `ready` says whether it
    /// holds. From then on every change must be followed by [`EventCount::refresh`]. It lives as long as the event
    /// count; after a fork the child gets another one by asking again.
    pub fn fd(&self, ready: impl FnOnce() -> bool) -> Result<RawFd> {
        let mut spare = None;
        let fd = loop {
            {
                let mut level = self.level.lock();
                match (&level.event, spare.take()) {
                    (Some(event), _) if event.is_ours() => break event.fd()?,
                    (_, Some(event)) => {
                        level.event = Some(event);
                        level.set = false;
                        self.state.fetch_or(HAS_FD, Ordering::SeqCst);
                        continue;
                    }
                    _ => {}
                }
            }
            spare = Some(Event::new()?);
        };
        fence(Ordering::SeqCst);
        self.refresh(ready);
        Ok(fd)
    }

    /// After a change: brings the descriptor up to date, if there is one. A change that makes the condition true is
    /// notified first (that has the fence); one that makes it false may leave the descriptor readable by mistake for a
    /// moment, so a look that finds nothing refreshes too.
    ///
    /// `ready` runs under a lock and must neither block nor lock.
    #[inline]
    pub fn refresh(&self, ready: impl FnOnce() -> bool) {
        if self.state.load(Ordering::Relaxed) & HAS_FD != 0 {
            self.set_level(ready);
        }
    }

    #[cold]
    fn set_level(&self, ready: impl FnOnce() -> bool) {
        let mut level = self.level.lock();
        // Read under the lock: the thread that changed the condition last comes here after that, and sees all changes.
        let ready = ready();
        if ready != level.set {
            if let Some(event) = &level.event {
                if ready { event.set() } else { event.clear() }
            }
            level.set = ready;
        }
    }
}

/// The first stage.
fn spin<T>(wait: &Wait, look: &mut impl FnMut() -> Option<T>) -> Option<T> {
    let mut spin = Spin::new();
    while spin.again() {
        if let found @ Some(_) = look() {
            return found;
        }
        if wait.deadline.expired() {
            return None;
        }
    }
    None
}

/// A waiter that looks before it sleeps. Where nobody sleeps any number may, and nothing is said of them.
struct Looker<'a> {
    events: &'a EventCount,
    counted: bool,
    /// Whether another is to be woken when this one has found something.
    pass_on: bool,
}

impl<'a> Looker<'a> {
    /// `None` where others sleep already and another looks or is on its way.
    fn new(events: &'a EventCount) -> Option<Self> {
        events.settle();
        let mut state = events.state.load(Ordering::Relaxed);
        while state & WAITERS != 0 {
            if state & (LOOKS | CALLED) != 0 {
                return None;
            }
            match events.state.compare_exchange_weak(state, state | LOOKS, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return Some(Looker { events, counted: true, pass_on: false }),
                Err(now) => state = now,
            }
        }
        Some(Looker { events, counted: false, pass_on: false })
    }

    /// About to look: answers the call for which nobody was woken. What comes after it may not be found by this look.
    fn answer(&mut self) {
        if self.counted && self.events.state.load(Ordering::Relaxed) & CALLED != 0 {
            self.pass_on = self.events.state.fetch_and(!(CALLED | MORE), Ordering::SeqCst) & MORE != 0;
        }
    }

    /// Has found nothing. A call since the last answer is answered by the look before the sleep.
    fn sleeps(mut self) -> Waiting<'a> {
        let looks = if std::mem::take(&mut self.counted) { LOOKS } else { 0 };
        // In one step: it is never neither.
        self.events.state.fetch_sub(looks.wrapping_sub(1), Ordering::SeqCst);
        Waiting { events: self.events, generation: fork_generation(), pass_on: false }
    }
}

impl Looker<'_> {
    /// Has found something. A call since the last answer is for those who sleep, if there is `more`: what it was for
    /// may be what was found. Who calls later finds nobody who looks, and wakes one.
    fn leaves(&mut self, more: impl FnOnce() -> bool) {
        if std::mem::take(&mut self.counted) {
            let before = self.events.state.fetch_and(!(LOOKS | CALLED | MORE), Ordering::SeqCst);
            if (self.pass_on || before & CALLED != 0) && more() {
                self.events.call(1, MORE);
            }
        }
    }
}

impl Drop for Looker<'_> {
    /// After a panic, too.
    fn drop(&mut self) {
        self.leaves(|| true);
    }
}

/// A waiter that may sleep.
struct Waiting<'a> {
    events: &'a EventCount,
    /// The process in which it is counted.
    generation: u32,
    /// Whether another is to be woken when this one leaves.
    pass_on: bool,
}

impl<'a> Waiting<'a> {
    fn new(events: &'a EventCount) -> Self {
        events.settle();
        events.state.fetch_add(1, Ordering::SeqCst);
        Waiting { events, generation: fork_generation(), pass_on: false }
    }

    /// Whether this thread has not forked since it was counted. An interruption may run Lua, which may fork.
    fn is_here(&self) -> bool {
        self.generation == fork_generation()
    }

    /// About to look: answers the call, if there was one, be it for this waiter or another. What it was for is found by
    /// this look.
    fn answer(&mut self) {
        if !self.is_here() {
            *self = Waiting::new(self.events);
        }
        let called = self.events.state.load(Ordering::Relaxed) & CALLED != 0;
        self.pass_on = called && self.events.state.fetch_and(!(CALLED | MORE), Ordering::SeqCst) & MORE != 0;
        // The other half of the fence in `notify`.
        fence(Ordering::SeqCst);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_here() {
            return;
        }
        // A call since the last answer is for others, asleep or about to be; the last waiter takes it along.
        let leave = |state| Some(if state & WAITERS == 1 { (state - 1) & !(CALLED | MORE) } else { state - 1 });
        let before = self.events.state.fetch_update(Ordering::SeqCst, Ordering::Relaxed, leave);
        if self.pass_on && before.is_ok_and(|state| state & WAITERS > 1) {
            self.events.call(1, MORE);
        }
    }
}

#[cfg(test)]
// By its path: the models include this file from elsewhere.
#[path = "event_count/tests.rs"]
mod tests;
