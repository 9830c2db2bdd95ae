//! Calls that are made by a coroutine: where they would sleep they end, and say what they would have slept on.
//!
//! Such a call is tried, its caller waits for the descriptor in its own way (another coroutine runs meanwhile), and it
//! is tried again. So it must be one that an error leaves as if it had never begun: the same holds for cancels and
//! interrupts. One that cannot be so keeps what it has done in [`NonBlockingCall::state`].
//!
//! Imports its siblings `deadline`, `poll` and `fd_pool`.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;

use super::Deadline;
use super::fd_pool::{FdPool, PooledEvent, PooledSet, Watched};
use super::poll::Interest;
use crate::error::{Code, Error, Result};
use crate::sys::Fd;

/// One call through all its tries.
#[derive(Debug)]
pub struct NonBlockingCall {
    /// When the call gives up, fixed by its first try.
    deadline: Cell<Option<Deadline>>,
    blocker: Cell<Option<Blocker>>,
    /// Set by what the last try would have slept on, where that is no descriptor.
    event: RefCell<Option<Arc<PooledEvent>>>,
    /// What it sleeps on, where nobody else may keep that open.
    kept: RefCell<Vec<Arc<Fd>>>,
    /// Where it would have slept on several, or a descriptor is to outlive what it sleeps on.
    set: RefCell<Option<Rc<PooledSet>>>,
    /// Where events and sets come from.
    pool: Rc<FdPool>,
    /// What the call has done so far.
    state: RefCell<Option<Rc<dyn Any>>>,
}

/// What to wait for before the next try.
#[derive(Clone, Copy, Debug)]
pub struct Blocker {
    /// The descriptor. It lives until the next try.
    pub fd: RawFd,
    /// What to poll it for.
    pub interest: Interest,
    /// When to try again at the latest.
    pub until: Deadline,
}

impl NonBlockingCall {
    /// One whose descriptors are of `pool`.
    pub fn new(pool: Rc<FdPool>) -> NonBlockingCall {
        NonBlockingCall {
            deadline: Cell::default(),
            blocker: Cell::default(),
            event: RefCell::default(),
            kept: RefCell::default(),
            set: RefCell::default(),
            state: RefCell::default(),
            pool,
        }
    }

    /// Begins a try.
    pub fn begin(&self) {
        self.blocker.set(None);
        if let Some(event) = &*self.event.borrow() {
            event.clear();
        }
        // Before what it watches is closed.
        *self.set.borrow_mut() = None;
        self.kept.borrow_mut().clear();
    }

    /// What the call keeps between its tries, one thing only, and drops when it ends or is given up: what `make` gave
    /// the first try that asked.
    pub fn state<S: 'static, E>(
        &self,
        make: impl FnOnce() -> std::result::Result<S, E>,
    ) -> std::result::Result<Rc<S>, E> {
        let known = self.state.borrow().clone();
        if let Some(state) = known.and_then(|state| state.downcast().ok()) {
            return Ok(state);
        }
        let state = Rc::new(make()?);
        *self.state.borrow_mut() = Some(state.clone());
        Ok(state)
    }

    /// The deadline of the call: `given` at the first try, and what that was at all others.
    pub fn deadline(&self, given: Deadline) -> Deadline {
        let fixed = self.deadline.get().unwrap_or(given);
        self.deadline.set(Some(fixed));
        fixed
    }

    /// What the try that ended with [`Code::WouldBlock`] would have slept on.
    pub fn blocker(&self) -> Option<Blocker> {
        self.blocker.get()
    }

    /// The same for a scheduler, which may keep the descriptor: one of the pool. Where descriptors have run out it is
    /// that of [`blocker`](Self::blocker) itself.
    pub fn lasting_blocker(&self) -> Option<Blocker> {
        let blocker = self.blocker.get()?;
        let is_own = self.event.borrow().as_ref().is_some_and(|event| event.fd().is_ok_and(|fd| fd == blocker.fd))
            || self.set.borrow().as_ref().is_some_and(|set| set.fd().is_ok_and(|fd| fd == blocker.fd));
        if is_own {
            return Some(blocker);
        }
        let lasting = self.watch(&[(blocker.fd, blocker.interest.events())]);
        Some(lasting.map_or(blocker, |fd| Blocker { fd, interest: Interest::Read, ..blocker }))
    }

    /// Sleeps on `fd`, to be read, in place of what it would sleep on now.
    pub fn instead(&self, fd: RawFd) {
        self.blocker.set(self.blocker.get().map(|blocker| Blocker { fd, interest: Interest::Read, ..blocker }));
    }

    /// The call has ended: what it kept goes, and its descriptors are for the next call, though its caller may hold on
    /// to this for a while: until a collector of garbage comes to it.
    pub fn end(&self) {
        let state = self.state.borrow_mut().take();
        drop(state);
        // Before what it watches is closed.
        let set = self.set.borrow_mut().take();
        drop(set);
        self.kept.borrow_mut().clear();
        if let Some(event) = self.event.borrow_mut().take() {
            self.pool.put_back(&event);
        }
    }

    /// Keeps a descriptor open until the next try.
    pub fn keep(&self, fd: Arc<Fd>) {
        let mut kept = self.kept.borrow_mut();
        if !kept.iter().any(|known| Arc::ptr_eq(known, &fd)) {
            kept.push(fd);
        }
    }

    /// The event that wakes the caller, cleared when the try began.
    pub(super) fn event(&self) -> Result<Arc<PooledEvent>> {
        let known = self.event.borrow().as_ref().filter(|event| event.is_ours()).cloned();
        if let Some(event) = known {
            return Ok(event);
        }
        let event = Arc::new(self.pool.event()?);
        event.clear();
        *self.event.borrow_mut() = Some(event.clone());
        Ok(event)
    }

    /// The error that ends a try which would sleep on `fd`.
    pub(super) fn would_block(&self, fd: RawFd, interest: Interest, until: Deadline) -> Error {
        self.blocker.set(Some(Blocker { fd, interest, until }));
        Error::new(Code::WouldBlock, "", "this call would wait")
    }

    /// As [`would_block`](Self::would_block), on an event of its own.
    pub(super) fn would_block_on_event(&self, until: Deadline) -> Error {
        match self.event().and_then(|event| event.fd()) {
            Ok(fd) => self.would_block(fd, Interest::Read, until),
            Err(e) => e,
        }
    }

    /// As [`would_block`](Self::would_block), on any of `fds`.
    pub(super) fn would_block_on(&self, fds: &[libc::pollfd], until: Deadline) -> Error {
        let mut used = Vec::new();
        if used.try_reserve_exact(fds.len()).is_err() {
            return Error::no_memory();
        }
        used.extend(fds.iter().filter(|f| f.fd >= 0).map(|f| (f.fd, f.events)));
        // The same descriptor may be there for reading and for writing.
        used.sort_unstable();
        used.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 |= next.1;
            }
            same
        });
        match used[..] {
            [] => self.would_block_on_event(until),
            [(fd, libc::POLLIN)] => self.would_block(fd, Interest::Read, until),
            [(fd, libc::POLLOUT)] => self.would_block(fd, Interest::Write, until),
            _ => match self.watch(&used) {
                Ok(fd) => self.would_block(fd, Interest::Read, until),
                Err(e) => e,
            },
        }
    }

    /// A descriptor that is readable while one of `fds` is ready, until the next try.
    fn watch(&self, fds: &[Watched]) -> Result<RawFd> {
        let set = self.pool.watch(fds)?;
        let fd = set.fd();
        *self.set.borrow_mut() = Some(set);
        fd
    }
}

impl Default for NonBlockingCall {
    fn default() -> Self {
        NonBlockingCall::new(Rc::default())
    }
}

impl Drop for NonBlockingCall {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Candidate, EventCount, Interrupt, Wait, poll_fd, select, sleep, source};
    use super::*;
    use crate::sys::Event;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn the_next_call_has_the_descriptors_of_one_that_has_ended() {
        let pool = Rc::new(FdPool::default());
        let (first, next) = (NonBlockingCall::new(pool.clone()), NonBlockingCall::new(pool));
        let awaited = Event::new().unwrap();
        let of = |call: &NonBlockingCall| {
            let set = call.watch(&[(awaited.fd().unwrap(), libc::POLLIN)]).unwrap();
            (call.event().unwrap().fd().unwrap(), set)
        };
        let fds = of(&first);
        first.end();
        assert_eq!(of(&next), fds);
        // What it still may hold is nobody's.
        drop(first);
        assert!(next.event().unwrap().fd().is_ok());
    }

    /// A caller that tries.
    #[derive(Default)]
    pub struct Coroutine(pub NonBlockingCall);

    impl Interrupt for Coroutine {
        fn on_signal(&self) -> Result<()> {
            Ok(())
        }
        fn non_blocking(&self) -> Option<&NonBlockingCall> {
            Some(&self.0)
        }
    }

    impl Coroutine {
        /// Begins a try.
        pub fn wait(&self, seconds: f64) -> Wait<'_> {
            self.0.begin();
            Wait { deadline: self.0.deadline(Deadline::after(seconds)), interrupt: self }
        }

        /// What a try that ended with `error` would have slept on.
        pub fn blocker(&self, error: Error) -> Blocker {
            assert_eq!(error.code(), Code::WouldBlock);
            self.0.blocker().unwrap()
        }
    }

    fn is_ready(blocker: Blocker) -> bool {
        poll_fd(blocker.fd, blocker.interest, &Wait::until(Deadline::now())).unwrap()
    }

    #[test]
    fn a_try_of_a_signal_ends_at_once_and_its_descriptor_tells_of_the_change() {
        let (changes, up, who) = (EventCount::new(), AtomicBool::new(false), Coroutine::default());
        let look = || up.load(Ordering::SeqCst).then_some(7);
        for _ in 0..3 {
            let blocker = who.blocker(changes.wait_until(&who.wait(60.0), look).unwrap_err());
            assert!(!is_ready(blocker));
            // Another's change.
            changes.notify_one();
            assert!(is_ready(blocker));
        }
        let blocker = who.blocker(changes.wait_until(&who.wait(60.0), look).unwrap_err());
        up.store(true, Ordering::SeqCst);
        changes.notify_one();
        assert!(is_ready(blocker));
        assert_eq!(changes.wait_until(&who.wait(60.0), look).unwrap(), Some(7));
    }

    #[test]
    fn the_deadline_is_that_of_the_first_try() {
        let (changes, who) = (EventCount::new(), Coroutine::default());
        let blocker = who.blocker(changes.wait_until(&who.wait(0.001), || None::<()>).unwrap_err());
        assert!(blocker.until.remaining().is_some());
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert_eq!(changes.wait_until(&who.wait(60.0), || None::<()>).unwrap(), None);
        assert!(sleep(&who.wait(60.0)).is_ok());
    }

    #[test]
    fn what_is_given_up_leaves_nothing_behind() {
        let changes = EventCount::new();
        for _ in 0..100 {
            let who = Coroutine::default();
            who.blocker(changes.wait_until(&who.wait(60.0), || None::<()>).unwrap_err());
        }
        assert!(changes.watchers() <= 1, "{}", changes.watchers());
        changes.notify_all();
        assert_eq!(changes.watchers(), 0);
        assert!(!changes.is_awaited());
    }

    #[test]
    fn a_sleep_is_only_a_deadline() {
        let who = Coroutine::default();
        let blocker = who.blocker(sleep(&who.wait(0.001)).unwrap_err());
        assert!(!is_ready(blocker));
        std::thread::sleep(std::time::Duration::from_millis(2));
        sleep(&who.wait(0.001)).unwrap();
    }

    #[test]
    fn a_try_of_descriptors_names_the_one_or_a_set_of_all() {
        let who = Coroutine::default();
        let (a, b) = (Arc::new(Event::new().unwrap()), Arc::new(Event::new().unwrap()));
        let fd = a.fd().unwrap();
        let blocker = who.blocker(poll_fd(fd, Interest::Read, &who.wait(60.0)).unwrap_err());
        assert_eq!((blocker.fd, blocker.interest), (fd, Interest::Read));
        let on = |e: &Arc<Event>| Candidate { source: Some(source(e.clone(), |_| None, |e| e.fd())), rank: 0 };
        let both = [on(&a), on(&b), on(&b)];
        let blocker = who.blocker(select(&both, &who.wait(60.0)).unwrap_err());
        assert!(!is_ready(blocker));
        b.set();
        assert!(is_ready(blocker));
        assert_eq!(select(&both, &who.wait(60.0)).unwrap(), Some(1));
    }
}
