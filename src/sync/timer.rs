//! Something that is ready after a time, once or again and again.

use std::fmt;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::err;
use crate::error::Result;
use crate::sys::{Alarm, Lock, monotonic_ns};
use crate::wait::{Interest, Wait, poll_fd};
use crate::wire::Object;

/// Ticks once or again and again from its making on; threads share it, and each tick is taken by one of them.
///
/// It knows by the clock what is due, which is the same in a forked child, whose timer goes on as its own. The
/// descriptor is made on the first request.
#[derive(Debug)]
pub struct Timer {
    /// When the first tick is due.
    first: u64,
    /// What lies between two; `None`: there is one only.
    every: Option<u64>,
    /// How many were taken.
    taken: AtomicU64,
    closed: AtomicBool,
    alarm: Lock<Option<Alarm>>,
}

/// The longest time there is, in nanoseconds: a hundred years.
const LONGEST: f64 = 100.0 * 365.0 * 86_400.0 * 1e9;

fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9).clamp(0.0, LONGEST) as u64
}

impl Timer {
    /// Ticks once, in `seconds`.
    pub fn after(seconds: f64) -> Timer {
        Timer::new(nanoseconds(seconds), None)
    }

    /// Ticks every `seconds`, which are more than 0.
    pub fn every(seconds: f64) -> Timer {
        let period = nanoseconds(seconds).max(1);
        Timer::new(period, Some(period))
    }

    fn new(first: u64, every: Option<u64>) -> Timer {
        Timer {
            first: monotonic_ns() + first,
            every,
            taken: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            alarm: Lock::new(None),
        }
    }

    /// How many ticks there have been until `now`.
    fn due(&self, now: u64) -> u64 {
        match (now.checked_sub(self.first), self.every) {
            (None, _) => 0,
            (Some(_), None) => 1,
            (Some(past), Some(every)) => 1 + past / every,
        }
    }

    /// When the tick after the first `taken` is due; `None` where it never is.
    fn moment(&self, taken: u64) -> Option<u64> {
        match self.every {
            None => (taken == 0).then_some(self.first),
            Some(every) => self.first.checked_add(every.checked_mul(taken)?),
        }
    }

    /// Whether a read would not wait.
    pub fn is_ready(&self) -> bool {
        self.is_closed() || self.due(monotonic_ns()) > self.taken.load(Ordering::SeqCst)
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Takes the ticks that nobody has taken; 0 where there are none.
    fn take(&self) -> Result<u64> {
        let due = self.due(monotonic_ns());
        let count = due.saturating_sub(self.taken.fetch_max(due, Ordering::SeqCst));
        if count > 0 {
            self.set(&self.alarm.lock())?;
        }
        Ok(count)
    }

    /// Brings the descriptor up to date, if there is one of this process.
    fn set(&self, alarm: &Option<Alarm>) -> Result<()> {
        match alarm {
            Some(alarm) if alarm.is_ours() => {
                let next = || self.moment(self.taken.load(Ordering::SeqCst));
                alarm.set(if self.is_closed() { Some(0) } else { next() })
            }
            _ => Ok(()),
        }
    }

    /// Waits for a tick and takes all that there are: how many; `None` when the deadline passes. `[closed]` once it is
    /// closed, `[state]` where the only tick was taken.
    pub fn read(&self, wait: &Wait) -> Result<Option<u64>> {
        wait.check()?;
        loop {
            if self.is_closed() {
                return Err(err!(Closed, "this timer is closed"));
            }
            match self.take()? {
                0 => {}
                count => return Ok(Some(count)),
            }
            if self.moment(self.taken.load(Ordering::SeqCst)).is_none() {
                return Err(err!(State, "this timer has ticked once, as it should, and that was read; make a new one"));
            }
            if wait.deadline.expired() || !poll_fd(self.fd()?, Interest::Read, wait)? {
                return Ok(None);
            }
        }
    }

    /// A descriptor that polls readable while a read would not wait.
    pub fn fd(&self) -> Result<RawFd> {
        // Made before the lock is taken: making it may wait for a fork, which waits for the lock.
        let mut spare = None;
        loop {
            {
                let mut alarm = self.alarm.lock();
                match (&*alarm, spare.take()) {
                    (Some(known), _) if known.is_ours() => {
                        let fd = known.fd()?;
                        self.set(&alarm)?;
                        return Ok(fd);
                    }
                    (_, Some(made)) => {
                        *alarm = Some(made);
                        continue;
                    }
                    _ => {}
                }
            }
            spare = Some(Alarm::new()?);
        }
    }

    /// Ends it: all that wait for it are told. Twice is fine.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        // A thread that made the descriptor meanwhile set it after that.
        let _ = self.set(&self.alarm.lock());
    }
}

impl Object for Timer {
    fn class(&self) -> &'static str {
        "ipc.timer"
    }

    fn state(&self) -> String {
        let text = self.to_string();
        text.strip_prefix("ipc.timer: ").unwrap_or(&text).to_owned()
    }
}

impl fmt::Display for Timer {
    /// `ipc.timer: every 0.5 s, 3 ticks to read`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_closed() {
            return f.write_str("ipc.timer: closed");
        }
        let now = monotonic_ns();
        let ticks = self.due(now).saturating_sub(self.taken.load(Ordering::SeqCst));
        match self.every {
            Some(every) => {
                let s = if ticks == 1 { "" } else { "s" };
                write!(f, "ipc.timer: every {} s, {ticks} tick{s} to read", every as f64 / 1e9)
            }
            None if ticks > 0 => f.write_str("ipc.timer: its time has come"),
            None if self.due(now) > 0 => f.write_str("ipc.timer: was read"),
            None => write!(f, "ipc.timer: in {:.3} s", (self.first - now) as f64 / 1e9),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::Code;
    use crate::wait::Deadline;
    use proptest::prelude::*;

    fn now() -> Wait<'static> {
        Wait::until(Deadline::now())
    }

    fn forever() -> Wait<'static> {
        Wait::until(Deadline::NEVER)
    }

    #[test]
    fn it_ticks_once() {
        let timer = Timer::after(0.002);
        let fd = timer.fd().unwrap();
        assert_eq!(timer.read(&forever()).unwrap(), Some(1));
        assert!(!timer.is_ready());
        assert!(!poll_fd(fd, Interest::Read, &now()).unwrap());
        assert_eq!(timer.read(&forever()).unwrap_err().code(), Code::State);
        assert!(Timer::after(0.0).is_ready());
        let far = Timer::after(1e300);
        assert_eq!(far.read(&now()).unwrap(), None);
        assert!(!poll_fd(far.fd().unwrap(), Interest::Read, &now()).unwrap());
    }

    #[test]
    fn it_ticks_again_and_again_and_counts_what_was_missed() {
        let timer = Timer::every(0.001);
        let mut ticks = 0;
        let begin = timer.first - timer.every.unwrap();
        while ticks < 5 {
            ticks += timer.read(&forever()).unwrap().unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(4));
        assert!(poll_fd(timer.fd().unwrap(), Interest::Read, &forever()).unwrap());
        let missed = timer.read(&now()).unwrap().unwrap();
        assert!(missed >= 3, "{missed}");
        assert!(ticks + missed <= (monotonic_ns() - begin) / 1_000_000);
    }

    #[test]
    fn a_close_ends_a_read_and_is_ready() {
        let timer = Timer::every(3600.0);
        std::thread::scope(|s| {
            s.spawn(|| assert_eq!(timer.read(&forever()).unwrap_err().code(), Code::Closed));
            std::thread::sleep(std::time::Duration::from_millis(2));
            timer.close();
            timer.close();
        });
        assert!(timer.is_ready());
        assert!(poll_fd(timer.fd().unwrap(), Interest::Read, &forever()).unwrap());
    }

    #[test]
    fn the_child_of_a_fork_goes_on_with_it() {
        let timer = Timer::every(0.002);
        timer.fd().unwrap();
        assert_eq!(crate::sys::fork_for_tests(|| timer.read(&forever()).is_ok_and(|n| n.is_some())), 0);
        assert!(timer.read(&forever()).unwrap().is_some());
    }

    proptest! {
        #[test]
        fn a_tick_is_due_from_its_moment_on(first in 0..10_000u64, every in 1..500u64, taken in 0..1000u64) {
            let timer = Timer { first, ..Timer::new(0, Some(every)) };
            let moment = timer.moment(taken).unwrap();
            prop_assert!(timer.due(moment) > taken);
            prop_assert!(moment == 0 || timer.due(moment - 1) <= taken);
        }
    }
}
