//! The descriptors that the calls of coroutines hand to a scheduler.
//!
//! A loop may keep a descriptor long after the call it waited for has ended, as cqueues does. Were that closed by then,
//! or another's under the same number, the loop would fail or wake for the wrong one. So a scheduler is only ever given
//! descriptors of a pool, which lives as long as the scheduler is set: an event where the call sleeps on one, else an
//! epoll that watches what the call sleeps on, and nothing once the call goes on.
//!
//! Imports no siblings.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::RawFd;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use crate::error::Result;
use crate::sys::{Event, WatchSet, try_push};

/// A descriptor and what it is polled for: `POLLIN`, `POLLOUT` or both.
pub(super) type Watched = (RawFd, i16);

/// Those of one Lua state that no call uses now. They are closed with it, and with the last call that has one.
#[derive(Debug, Default)]
pub struct FdPool {
    events: RefCell<Vec<Arc<Event>>>,
    sets: RefCell<Vec<WatchSet>>,
    /// Sets in use that watch one descriptor. Those who wait for the same share one: the system lets few paths lead
    /// from a socket, through the epoll of its server and those of the calls, to the epoll of a loop.
    shared: RefCell<HashMap<Watched, Weak<PooledSet>>>,
}

impl FdPool {
    /// An event for one call.
    pub(super) fn event(&self) -> Result<PooledEvent> {
        loop {
            let free = self.events.borrow_mut().pop();
            return match free {
                // Left over from the process that forked this one.
                Some(event) if !event.is_ours() => continue,
                Some(event) => Ok(PooledEvent(event)),
                None => Ok(PooledEvent(Arc::new(Event::new()?))),
            };
        }
    }

    /// Takes back the event of a call that has ended.
    pub(super) fn put_back(&self, event: &PooledEvent) {
        if event.0.is_ours() {
            // Where there is no room for it, it is closed with its call.
            _ = try_push(&mut self.events.borrow_mut(), event.0.clone());
        }
    }

    /// A set that watches all of `fds`, each descriptor once. They stay open while it is held.
    pub(super) fn watch(self: &Rc<Self>, fds: &[Watched]) -> Result<Rc<PooledSet>> {
        if let [one] = fds
            && let Some(known) = self.shared.borrow().get(one).and_then(Weak::upgrade)
            // Closed meanwhile, and another's under this number: then it was not in the set.
            && (watch(known.set()?, *one).is_ok_and(|added| !added))
        {
            return Ok(known);
        }
        let mut set = PooledSet { fds: Vec::new(), set: Some(self.free_set()?), pool: self.clone() };
        set.fds.try_reserve_exact(fds.len())?;
        for &fd in fds {
            watch(set.set()?, fd)?;
            set.fds.push(fd);
        }
        let set = Rc::new(set);
        if let [one] = fds {
            let mut shared = self.shared.borrow_mut();
            shared.try_reserve(1)?;
            shared.insert(*one, Rc::downgrade(&set));
        }
        Ok(set)
    }

    fn free_set(&self) -> Result<WatchSet> {
        loop {
            let free = self.sets.borrow_mut().pop();
            return match free {
                Some(set) if set.fd().is_err() => continue,
                Some(set) => Ok(set),
                None => WatchSet::new(),
            };
        }
    }
}

/// Adds a descriptor to a set; whether it was not there.
fn watch(set: &WatchSet, (fd, events): Watched) -> Result<bool> {
    set.add_absent(fd, 0, events & libc::POLLIN != 0, events & libc::POLLOUT != 0)
}

/// The event of one call. An [`EventCount`](super::EventCount) knows callers by this, not by the event inside, which
/// the next call gets: once this call has ended, it is a dead reference there.
#[derive(Debug)]
pub(super) struct PooledEvent(Arc<Event>);

impl std::ops::Deref for PooledEvent {
    type Target = Event;
    fn deref(&self) -> &Event {
        &self.0
    }
}

/// What a call waits on, through one descriptor.
#[derive(Debug)]
pub(super) struct PooledSet {
    fds: Vec<Watched>,
    /// Taken by `drop` only.
    set: Option<WatchSet>,
    pool: Rc<FdPool>,
}

impl PooledSet {
    fn set(&self) -> Result<&WatchSet> {
        self.set.as_ref().ok_or_else(|| crate::err!(State, "a set that is gone"))
    }

    /// Readable while one of what it watches is ready. `[state]` in a forked child.
    pub fn fd(&self) -> Result<RawFd> {
        self.set()?.fd()
    }
}

impl Drop for PooledSet {
    fn drop(&mut self) {
        if let [one] = self.fds[..] {
            let mut shared = self.pool.shared.borrow_mut();
            if shared.get(&one).is_some_and(|known| std::ptr::eq(known.as_ptr(), self)) {
                shared.remove(&one);
            }
        }
        let Some(set) = self.set.take() else { return };
        let mut empty = set.fd().is_ok();
        for &(fd, _) in &self.fds {
            // What its owner closed while we waited may be open elsewhere, and tell of itself for ever.
            empty &= set.remove(fd);
        }
        if empty {
            _ = try_push(&mut self.pool.sets.borrow_mut(), set);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Deadline, Interest, Wait, poll_fd};
    use super::*;

    fn is_ready(fd: RawFd) -> bool {
        poll_fd(fd, Interest::Read, &Wait::until(Deadline::now())).unwrap()
    }

    fn to_read(event: &Event) -> Watched {
        (event.fd().unwrap(), libc::POLLIN)
    }

    #[test]
    fn a_set_outlives_its_call_and_what_it_watched() {
        let pool = Rc::new(FdPool::default());
        let event = Event::new().unwrap();
        event.set();
        let set = pool.watch(&[to_read(&event)]).unwrap();
        let fd = set.fd().unwrap();
        assert!(is_ready(fd));
        drop(set);
        assert!(!is_ready(fd));
        drop(event);
        assert!(!is_ready(fd));
        // The next call has it.
        let (a, b) = (Event::new().unwrap(), Event::new().unwrap());
        let set = pool.watch(&[to_read(&a), to_read(&b)]).unwrap();
        assert_eq!(set.fd().unwrap(), fd);
        assert!(!is_ready(fd));
        b.set();
        assert!(is_ready(fd));
    }

    #[test]
    fn those_who_wait_for_the_same_share_a_set() {
        let pool = Rc::new(FdPool::default());
        let event = Event::new().unwrap();
        let (one, two) = (pool.watch(&[to_read(&event)]).unwrap(), pool.watch(&[to_read(&event)]).unwrap());
        assert_eq!(one.fd().unwrap(), two.fd().unwrap());
        drop(one);
        event.set();
        assert!(is_ready(two.fd().unwrap()));
        drop(two);
        assert!(pool.shared.borrow().is_empty());
    }

    #[test]
    fn a_number_that_is_another_descriptor_by_now_is_watched_as_that() {
        let pool = Rc::new(FdPool::default());
        let event = Event::new().unwrap();
        let (fd, abandoned) = (to_read(&event), pool.watch(&[to_read(&event)]).unwrap());
        drop(event);
        // The lowest that is free, if no other test opens one now.
        let event = Event::new().unwrap();
        event.set();
        if to_read(&event) == fd {
            let set = pool.watch(&[fd]).unwrap();
            assert!(is_ready(set.fd().unwrap()));
        }
        drop(abandoned);
    }

    #[test]
    fn a_set_whose_descriptor_was_closed_is_not_used_again() {
        let pool = Rc::new(FdPool::default());
        let event = Event::new().unwrap();
        let set = pool.watch(&[to_read(&event)]).unwrap();
        drop(event);
        drop(set);
        assert!(pool.sets.borrow().is_empty());
    }

    #[test]
    fn many_may_wait_for_one_server_in_one_loop() {
        let pool = Rc::new(FdPool::default());
        let (event, server, of_loop) = (Event::new().unwrap(), WatchSet::new().unwrap(), WatchSet::new().unwrap());
        server.add(event.fd().unwrap(), 0).unwrap();
        let mut sets = Vec::new();
        for _ in 0..300 {
            let set = pool.watch(&[(server.fd().unwrap(), libc::POLLIN)]).unwrap();
            of_loop.add_absent(set.fd().unwrap(), 1, true, false).unwrap();
            sets.push(set);
        }
        event.set();
        assert!(is_ready(of_loop.fd().unwrap()));
    }

    #[test]
    fn an_event_goes_from_call_to_call() {
        let pool = Rc::new(FdPool::default());
        let event = pool.event().unwrap();
        let fd = event.fd().unwrap();
        pool.put_back(&event);
        drop(event);
        assert_eq!(pool.event().unwrap().fd().unwrap(), fd);
    }

    #[test]
    fn a_forked_child_has_its_own() {
        let pool = Rc::new(FdPool::default());
        let event = Event::new().unwrap();
        drop(pool.watch(&[to_read(&event)]).unwrap());
        pool.put_back(&pool.event().unwrap());
        let held = pool.watch(&[to_read(&event)]).unwrap();
        let code = crate::sys::fork_for_tests(|| {
            let (event, of_child) = (Event::new().unwrap(), pool.event().unwrap());
            let set = pool.watch(&[to_read(&event)]).unwrap();
            event.set();
            of_child.is_ours() && is_ready(set.fd().unwrap()) && held.fd().is_err()
        });
        assert_eq!(code, 0);
        event.set();
        assert!(is_ready(held.fd().unwrap()));
    }
}
