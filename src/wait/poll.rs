//! Waiting for descriptors. Imports its siblings `park` and `threads`.

use std::os::fd::RawFd;
use std::time::Duration;

use super::Wait;
use super::threads::Backoff;
use crate::err;
use crate::error::Result;
use crate::sys::{Looking, Polled, poll, spare_core};

/// What to wait for on a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Something to read, a connection to accept, or the end.
    Read,
    /// Room to write, or an error.
    Write,
    /// Either.
    Both,
}

impl Interest {
    pub(super) fn events(self) -> i16 {
        match self {
            Interest::Read => libc::POLLIN,
            Interest::Write => libc::POLLOUT,
            Interest::Both => libc::POLLIN | libc::POLLOUT,
        }
    }
}

/// One descriptor of several that are waited for.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// The descriptor; a negative one is passed over.
    pub fd: RawFd,
    /// What to wait for.
    pub interest: Interest,
    /// Set by [`poll_many`]: whether it is ready (or at its end, or in error: a call on it will not block).
    pub ready: bool,
}

impl Watch {
    /// `fd`, not yet known to be ready.
    pub fn new(fd: RawFd, interest: Interest) -> Watch {
        Watch { fd, interest, ready: false }
    }
}

/// How often an answer that is on its way is looked for before the thread goes to sleep, where another core can be
/// working on it.
const TRIES: usize = 50;
/// With more descriptors than these a look costs too much to be repeated.
const FEW: usize = 8;

/// How often to look again before going to sleep.
#[derive(Debug)]
pub struct SpinBudget {
    tries: usize,
    looking: Option<Looking>,
}

impl SpinBudget {
    /// As much as there is: none where no other core can be working on the answer.
    pub fn new() -> SpinBudget {
        SpinBudget { tries: if spare_core() { TRIES } else { 0 }, looking: None }
    }

    /// Whether to look once more. The one who answers may have been put on this very core: it has been let run.
    pub fn look_again(&mut self, wait: &Wait) -> bool {
        if self.tries == 0 || wait.deadline.expired() || wait.interrupt.non_blocking().is_some() {
            return false;
        }
        if self.looking.is_none() {
            self.looking = Looking::begin();
        }
        let Some(looking) = &self.looking else { return false };
        self.tries -= 1;
        if !looking.yield_core() {
            // What was late may have brought the answer: one look more.
            self.tries = 0;
        }
        true
    }
}

impl Default for SpinBudget {
    fn default() -> Self {
        SpinBudget::new()
    }
}

/// As [`poll_fd`], for a caller that has looked often enough: goes to sleep at once.
pub fn sleep_on_fd(fd: RawFd, interest: Interest, wait: &Wait) -> Result<bool> {
    let mut fds = [entry(fd, interest.events()), entry(-1, libc::POLLIN)];
    Ok(sleep_for(&mut fds, wait)? > 0)
}

/// As [`sleep_on_fd`], until `other` is readable at the latest.
pub fn sleep_on_fd_or(fd: RawFd, interest: Interest, other: RawFd, wait: &Wait) -> Result<bool> {
    let mut fds = [entry(fd, interest.events()), entry(other, libc::POLLIN), entry(-1, libc::POLLIN)];
    Ok(sleep_for(&mut fds, wait)? > 0)
}

/// Waits until `fd` is ready (true) or the deadline has passed (false). Ends of file and errors count as ready: the
/// call that follows reports them.
pub fn poll_fd(fd: RawFd, interest: Interest, wait: &Wait) -> Result<bool> {
    let mut fds = [entry(fd, interest.events()), entry(-1, libc::POLLIN)];
    Ok(wait_for(&mut fds, wait)? > 0)
}

/// Waits until at least one of `watches` is ready, and marks those that are; returns how many, 0 when the deadline has
/// passed.
pub fn poll_many(watches: &mut [Watch], wait: &Wait) -> Result<usize> {
    poll_by(wait_for, watches, wait)
}

/// As [`poll_many`], for a caller that has looked often enough: goes to sleep at once.
pub fn sleep_on_many(watches: &mut [Watch], wait: &Wait) -> Result<usize> {
    poll_by(sleep_for, watches, wait)
}

fn poll_by(
    wait_on: fn(&mut [libc::pollfd], &Wait) -> Result<usize>,
    watches: &mut [Watch],
    wait: &Wait,
) -> Result<usize> {
    let mut fds = Vec::new();
    fds.try_reserve_exact(watches.len() + 1)?;
    fds.extend(watches.iter().map(|w| entry(w.fd, w.interest.events())));
    fds.push(entry(-1, libc::POLLIN));
    let ready = wait_on(&mut fds, wait)?;
    for (watch, fd) in watches.iter_mut().zip(&fds) {
        watch.ready = fd.revents != 0;
    }
    Ok(ready)
}

pub(super) fn entry(fd: RawFd, events: i16) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

/// The last entry is the place for the cancel descriptor.
fn wait_for(fds: &mut [libc::pollfd], wait: &Wait) -> Result<usize> {
    wait.check()?;
    let users = fds.len() - 1;
    if users <= FEW {
        // The caller found nothing a moment ago.
        let mut budget = SpinBudget::new();
        while budget.look_again(wait) {
            if let Polled::Ready(n) = poll(&mut fds[..users], Some(Duration::ZERO))? {
                return checked(fds, n);
            }
        }
    }
    sleep_for(fds, wait)
}

fn sleep_for(fds: &mut [libc::pollfd], wait: &Wait) -> Result<usize> {
    let mut asleep = Backoff::new();
    loop {
        match nap_on(fds, wait, asleep.longest(wait))? {
            Woken::OutOfTime => return Ok(0),
            Woken::Nothing => asleep.goes_on(wait),
            Woken::Ready => {
                let users = &fds[..fds.len() - 1];
                return checked(fds, users.iter().filter(|f| f.revents != 0).count());
            }
        }
    }
}

/// Why a nap ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// At least one descriptor is ready.
    Ready,
    /// The deadline is past, and none is.
    OutOfTime,
    /// Neither: it was long enough, or a signal came.
    Nothing,
}

/// Sleeps until one of `fds` is ready, but no longer than a nap, nor than `longest`. The last entry is the place for
/// the cancel descriptor.
pub(super) fn nap_on(fds: &mut [libc::pollfd], wait: &Wait, longest: Duration) -> Result<Woken> {
    wait.check()?;
    let cancel = fds.len() - 1;
    if let Some(non_blocking) = wait.interrupt.non_blocking() {
        return match poll(fds, Some(Duration::ZERO))? {
            Polled::Ready(_) => Ok(Woken::Ready),
            _ if wait.deadline.expired() => Ok(Woken::OutOfTime),
            _ => Err(non_blocking.would_block_on(fds, wait.deadline)),
        };
    }
    if let Some(token) = wait.interrupt.cancel() {
        fds[cancel].fd = token.fd()?;
    }
    let nap = wait.nap().min(longest);
    match poll(fds, (nap != Duration::MAX).then_some(nap))? {
        Polled::TimedOut if wait.deadline.expired() => Ok(Woken::OutOfTime),
        Polled::TimedOut | Polled::Interrupted => {
            wait.interrupt.on_signal()?;
            wait.check()?;
            Ok(Woken::Nothing)
        }
        Polled::Ready(n) => {
            wait.check()?;
            Ok(if n > usize::from(fds[cancel].revents != 0) { Woken::Ready } else { Woken::Nothing })
        }
    }
}

fn checked(fds: &[libc::pollfd], ready: usize) -> Result<usize> {
    match fds.iter().find(|f| f.revents & libc::POLLNVAL != 0) {
        Some(f) => Err(err!(State, "descriptor {} is closed", f.fd)),
        None => Ok(ready),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Cancel, Deadline};
    use super::*;
    use crate::error::Code;
    use crate::sys::Event;

    #[test]
    fn a_descriptor_is_ready_or_time_runs_out() {
        let event = Event::new().unwrap();
        let fd = event.fd().unwrap();
        assert!(!poll_fd(fd, Interest::Read, &Wait::until(Deadline::after(0.001))).unwrap());
        assert!(poll_fd(fd, Interest::Write, &Wait::until(Deadline::NEVER)).unwrap());
        event.set();
        assert!(poll_fd(fd, Interest::Read, &Wait::until(Deadline::now())).unwrap());
        event.clear();
        assert!(!poll_fd(fd, Interest::Read, &Wait::until(Deadline::now())).unwrap());
    }

    #[test]
    fn the_ready_ones_of_many_are_marked() {
        let (a, b) = (Event::new().unwrap(), Event::new().unwrap());
        b.set();
        let mut both = [
            Watch::new(a.fd().unwrap(), Interest::Read),
            Watch::new(b.fd().unwrap(), Interest::Read),
            Watch::new(-1, Interest::Read),
        ];
        assert_eq!(poll_many(&mut both, &Wait::until(Deadline::NEVER)).unwrap(), 1);
        assert_eq!(both.map(|w| w.ready), [false, true, false]);
    }

    #[test]
    fn a_cancel_ends_a_poll_and_every_later_one() {
        let event = Event::new().unwrap();
        let fd = event.fd().unwrap();
        let who = Cancel::new();
        std::thread::scope(|s| {
            s.spawn(|| {
                let wait = Wait { deadline: Deadline::NEVER, interrupt: &who };
                assert_eq!(poll_fd(fd, Interest::Read, &wait).unwrap_err().code(), Code::Cancelled);
            });
            who.fire();
        });
        event.set();
        let wait = Wait { deadline: Deadline::NEVER, interrupt: &who };
        assert_eq!(poll_fd(fd, Interest::Read, &wait).unwrap_err().code(), Code::Cancelled);
    }

    #[test]
    fn a_closed_descriptor_is_an_error() {
        let e = poll_fd(1 << 20, Interest::Read, &Wait::until(Deadline::NEVER)).unwrap_err();
        assert_eq!(e.code(), Code::State);
    }

    #[test]
    fn who_was_told_to_end_may_clean_up_by_the_clock_and_then_by_what_it_computes() {
        const GRACE: u64 = 250_000_000;
        let cancel = Cancel::new();
        assert!(cancel.check_all(|| GRACE).is_ok());
        cancel.fire();
        assert!(cancel.check_all(|| 0).is_err(), "it is told first");
        assert!(cancel.check_all(|| GRACE).is_ok());
        std::thread::sleep(Duration::from_nanos(GRACE));
        assert!(cancel.check_all(|| GRACE - 1).is_ok());
        assert!(cancel.check_all(|| GRACE).is_err());
    }
}
