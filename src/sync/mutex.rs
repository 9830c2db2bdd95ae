//! A recursive lock that Lua states hold, with a barrier beside it.
//!
//! Held for as long as Lua code likes, so it is waited for with a deadline; its holder is a Lua state, and when that
//! state dies the lock is free again. What it guards may be half changed then, so the next holder can learn of it, as
//! with the robust mutexes of POSIX (`EOWNERDEAD`). Imports its sibling `barrier`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::Barrier;
use crate::err;
use crate::error::Result;
use crate::sys::{Lock, fork_generation};
use crate::text;
use crate::wait::{EventCount, Owner, Wait, came_through_fork, thread_of};
use crate::wire::Object;

/// The lock, shared by its handles.
#[derive(Default)]
pub struct Mutex {
    /// 0: free; else the holder's number and, in the top 16 bits, the process in which it took the lock.
    holder: AtomicU64,
    /// How often the holder has locked it; only the holder touches it.
    depth: AtomicU32,
    free: EventCount,
    barrier: Barrier,
    /// Whether `death` says something. Only who holds the lock, or takes it from the dead, touches it.
    has_died: AtomicBool,
    /// How the last holder ended, if it did not unlock the lock.
    death: Lock<Option<String>>,
    /// How many handles each state has.
    handles: Lock<Vec<(Owner, u32)>>,
    /// Seconds that a call waits that is told no time.
    timeout: Option<f64>,
}

const NUMBER: u64 = (1 << 48) - 1;

fn word(by: Owner) -> u64 {
    u64::from(fork_generation()) << 48 | (by.number() & NUMBER)
}

/// Whether who put `there` took the lock before a fork, and is not in the child.
fn is_gone(there: u64) -> bool {
    there >> 48 != u64::from(fork_generation()) & 0xffff && !came_through_fork(there & NUMBER)
}

impl Mutex {
    /// A free one. `timeout`: how many seconds a call waits that is told no time; for ever where absent.
    pub fn new(timeout: Option<f64>) -> Mutex {
        Mutex { timeout, ..Mutex::default() }
    }

    /// How many seconds a call waits that is told no time; for ever where absent.
    pub fn timeout(&self) -> Option<f64> {
        self.timeout
    }

    /// Takes the lock for `by`, once more if it holds it already; false when time runs out.
    pub fn lock(&self, by: Owner, wait: &Wait) -> Result<bool> {
        wait.check()?;
        if self.try_lock(by)? {
            return Ok(true);
        }
        Ok(self.free.wait_until(wait, || self.try_take(by).then_some(()))?.is_some())
    }

    /// As [`Mutex::lock`], without waiting.
    pub fn try_lock(&self, by: Owner) -> Result<bool> {
        if self.is_held_by(by) {
            let depth = self.depth.load(Ordering::Relaxed);
            let deeper = depth.checked_add(1).ok_or_else(|| err!(Limit, "locked {depth} times already"))?;
            self.depth.store(deeper, Ordering::Relaxed);
            return Ok(true);
        }
        Ok(self.try_take(by))
    }

    fn try_take(&self, by: Owner) -> bool {
        let there = self.holder.load(Ordering::Relaxed);
        let free = there == 0 || is_gone(there);
        if free && self.holder.compare_exchange(there, word(by), Ordering::Acquire, Ordering::Relaxed).is_ok() {
            self.depth.store(1, Ordering::Relaxed);
            if there != 0 {
                self.note_death("the thread that held the mutex is not in this child of a fork".into());
            }
            return true;
        }
        false
    }

    /// Notes how the last holder ended. The caller holds the lock.
    #[cold]
    fn note_death(&self, how: String) {
        let old = self.death.lock().replace(how);
        self.has_died.store(true, Ordering::Relaxed);
        drop(old);
    }

    /// For the caller that has just taken the lock: how the holder before left it, if it did not unlock it. Told once.
    #[inline]
    pub fn owner_died(&self) -> Option<String> {
        if !self.has_died.load(Ordering::Relaxed) {
            return None;
        }
        self.has_died.store(false, Ordering::Relaxed);
        self.death.lock().take()
    }

    /// Whether `by` holds the lock, be it from before a fork that `by` came through.
    pub fn is_held_by(&self, by: Owner) -> bool {
        self.holder.load(Ordering::Relaxed) & NUMBER == by.number() & NUMBER
    }

    /// Whether anybody of this process holds it.
    pub fn is_held(&self) -> bool {
        self.holder.load(Ordering::Relaxed) != 0
    }

    /// Undoes one [`Mutex::lock`] of `by`; `[state]` if it does not hold the lock.
    pub fn unlock(&self, by: Owner) -> Result<()> {
        if !self.is_held_by(by) {
            let whose = if self.is_held() { "another thread holds it" } else { "nobody holds it" };
            return Err(err!(State, "this thread does not hold the mutex: {whose}"));
        }
        let depth = self.depth.load(Ordering::Relaxed) - 1;
        self.depth.store(depth, Ordering::Relaxed);
        if depth == 0 {
            self.release();
        }
        Ok(())
    }

    fn release(&self) {
        self.holder.store(0, Ordering::Release);
        self.free.notify_one();
    }

    /// The meeting point that goes with the mutex.
    pub fn barrier(&self) -> &Barrier {
        &self.barrier
    }

    fn enter(&self, by: Owner) {
        let mut handles = self.handles.lock();
        match handles.iter_mut().find(|(who, _)| *who == by) {
            Some((_, count)) => *count += 1,
            None => handles.push((by, 1)),
        }
    }

    /// The last handle of the state that holds the lock is gone, so it could never unlock: released.
    fn leave(&self, by: Owner) {
        let mut handles = self.handles.lock();
        let Some(at) = handles.iter().position(|(who, _)| *who == by) else { return };
        handles[at].1 -= 1;
        if handles[at].1 == 0 {
            handles.swap_remove(at);
            drop(handles);
            if self.is_held_by(by) {
                let who = thread_of(by.number()).map_or("a thread".into(), |name| text!("thread '{name}'"));
                self.note_death(text!("{who} ended, or let go of the mutex, without unlocking it"));
                self.release();
            }
        }
    }
}

impl fmt::Debug for Mutex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").field("holder", &(self.holder.load(Ordering::Relaxed) & NUMBER)).finish_non_exhaustive()
    }
}

impl Object for Mutex {
    fn class(&self) -> &'static str {
        "ipc.mutex"
    }

    fn state(&self) -> String {
        match self.holder.load(Ordering::Relaxed) {
            0 => "unlocked".into(),
            holder => match thread_of(holder & NUMBER) {
                Some(name) => text!("locked by thread '{name}'"),
                None if is_gone(holder) => "unlocked".into(),
                None => "locked".into(),
            },
        }
    }
}

/// One Lua state's hold on a mutex: the object in Lua, not the lock. When the state's last one goes, so does its lock.
#[derive(Debug)]
pub struct MutexHandle {
    mutex: Arc<Mutex>,
    by: Owner,
}

impl MutexHandle {
    /// A handle for `by`.
    pub fn new(mutex: Arc<Mutex>, by: Owner) -> MutexHandle {
        mutex.enter(by);
        MutexHandle { mutex, by }
    }

    /// The mutex.
    pub fn mutex(&self) -> &Arc<Mutex> {
        &self.mutex
    }

    /// Whose handle it is.
    pub fn by(&self) -> Owner {
        self.by
    }
}

impl Drop for MutexHandle {
    fn drop(&mut self) {
        self.mutex.leave(self.by);
    }
}

impl fmt::Display for MutexHandle {
    /// `ipc.mutex: locked by this thread`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match () {
            () if self.mutex.is_held_by(self.by) => "locked by this thread",
            () if self.mutex.is_held() => "locked by another thread",
            () => "unlocked",
        };
        write!(f, "ipc.mutex: {state}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::Code;
    use crate::wait::{Deadline, show_thread_of};
    use std::cell::UnsafeCell;
    use std::thread::scope;

    fn forever() -> Wait<'static> {
        Wait::until(Deadline::NEVER)
    }

    #[test]
    fn it_is_recursive_and_only_its_holder_unlocks() {
        let (mutex, me, other) = (Mutex::new(None), Owner::new(), Owner::new());
        assert_eq!(mutex.unlock(me).unwrap_err().code(), Code::State);
        assert!(mutex.lock(me, &forever()).unwrap() && mutex.try_lock(me).unwrap());
        assert!(!mutex.try_lock(other).unwrap());
        assert!(!mutex.lock(other, &Wait::until(Deadline::after(0.001))).unwrap());
        assert_eq!(mutex.unlock(other).unwrap_err().code(), Code::State);
        mutex.unlock(me).unwrap();
        assert!(!mutex.try_lock(other).unwrap(), "locked twice, unlocked once");
        mutex.unlock(me).unwrap();
        assert!(mutex.try_lock(other).unwrap());
        assert_eq!(mutex.unlock(me).unwrap_err().code(), Code::State);
    }

    #[test]
    fn two_threads_are_never_inside_at_once() {
        struct Count(UnsafeCell<u64>);
        // SAFETY: only touched under the mutex of the test, which is what the test is about.
        unsafe impl Sync for Count {}
        let (mutex, count) = (Mutex::new(None), Count(UnsafeCell::new(0)));
        let count = &count;
        scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    let me = Owner::new();
                    for _ in 0..10_000 {
                        mutex.lock(me, &forever()).unwrap();
                        // SAFETY: as above.
                        unsafe { *count.0.get() += 1 };
                        mutex.unlock(me).unwrap();
                    }
                });
            }
        });
        // SAFETY: the threads have ended.
        assert_eq!(unsafe { *count.0.get() }, 40_000);
    }

    #[test]
    fn it_is_free_again_when_the_state_that_held_it_is_gone() {
        let mutex = Arc::new(Mutex::new(None));
        let me = Owner::new();
        scope(|s| {
            let (one, two) = (MutexHandle::new(mutex.clone(), me), MutexHandle::new(mutex.clone(), me));
            mutex.lock(me, &forever()).unwrap();
            drop(one);
            assert!(!mutex.try_lock(Owner::new()).unwrap(), "the state has another handle");
            s.spawn(|| assert!(mutex.lock(Owner::new(), &forever()).unwrap()));
            drop(two);
        });
    }

    #[test]
    fn the_next_holder_learns_once_how_it_was_left() {
        let mutex = Arc::new(Mutex::new(None));
        let (dies, heir, other) = (Owner::new(), Owner::new(), Owner::new());
        mutex.lock(dies, &forever()).unwrap();
        assert_eq!(mutex.owner_died(), None);
        let handle = MutexHandle::new(mutex.clone(), dies);
        drop(handle);
        assert!(mutex.try_lock(heir).unwrap());
        assert_eq!(mutex.owner_died().unwrap(), "a thread ended, or let go of the mutex, without unlocking it");
        assert_eq!(mutex.owner_died(), None);
        mutex.unlock(heir).unwrap();
        assert!(mutex.try_lock(other).unwrap());
        assert_eq!(mutex.owner_died(), None);
    }

    #[test]
    fn a_forked_child_keeps_its_own_lock_and_takes_that_of_a_thread_that_is_not_there() {
        use crate::sys::fork_for_tests as in_child;
        let (mutex, me, other) = (Mutex::new(None), Owner::new(), Owner::new());
        mutex.lock(other, &forever()).unwrap();
        let taken =
            || mutex.lock(me, &forever()).unwrap() && mutex.owner_died().is_some() && !mutex.try_lock(other).unwrap();
        assert_eq!(in_child(taken), 0);
        assert!(!mutex.try_lock(me).unwrap(), "in the parent it is still held");
        mutex.unlock(other).unwrap();
        mutex.lock(me, &forever()).unwrap();
        show_thread_of(me);
        let mine = || mutex.try_lock(me).unwrap() && mutex.unlock(me).is_ok();
        let locked = || !mutex.try_lock(Owner::new()).unwrap() && mutex.state() != "unlocked";
        let free = || mutex.unlock(me).is_ok() && mutex.try_lock(Owner::new()).unwrap();
        assert_eq!(in_child(|| locked() && mine() && locked() && free() && mutex.owner_died().is_none()), 0);
    }
}
