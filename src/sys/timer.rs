//! A descriptor that becomes readable at a moment: a timerfd, on Linux. Imports its sibling `fd`.

use std::os::fd::RawFd;

use super::fd::Fd;
use crate::error::{Error, Result};

/// An alarm on the clock of [`monotonic_ns`](super::monotonic_ns). Any thread may set it.
#[derive(Debug)]
pub struct Alarm {
    fd: Fd,
}

#[cfg(target_os = "linux")]
impl Alarm {
    /// One that is not set.
    pub fn new() -> Result<Alarm> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: takes two numbers and touches no memory of ours.
        let fd = Fd::open("timerfd_create", || unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })?;
        Ok(Alarm { fd })
    }

    /// Unreadable from now on, and readable from `at` nanoseconds on; `None`: never.
    pub fn set(&self, at: Option<u64>) -> Result<()> {
        // All zeros would take the alarm away, which is what `None` asks for.
        let at = at.map_or(0, |at| at.max(1));
        let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let value = libc::timespec { tv_sec: (at / 1_000_000_000) as _, tv_nsec: (at % 1_000_000_000) as _ };
        let time = libc::itimerspec { it_interval: zero, it_value: value };
        // SAFETY: `time` is valid through the call; the old setting is not asked for.
        match unsafe { libc::timerfd_settime(self.fd.check()?, libc::TFD_TIMER_ABSTIME, &time, std::ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(Error::os("", "timerfd_settime")),
        }
    }
}

/// Elsewhere a kqueue will do the same; there is none yet.
#[cfg(not(target_os = "linux"))]
impl Alarm {
    /// An error.
    pub fn new() -> Result<Alarm> {
        Err(crate::err!(Unsupported, "a descriptor for a time needs a timerfd, which only Linux has"))
    }

    /// Never called.
    pub fn set(&self, _at: Option<u64>) -> Result<()> {
        Ok(())
    }
}

impl Alarm {
    /// The descriptor to poll for reading; users never read it themselves. `[state]` in a forked child.
    pub fn fd(&self) -> Result<RawFd> {
        self.fd.check()
    }

    /// Whether it was made in this process.
    pub fn is_ours(&self) -> bool {
        self.fd.is_ours()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{monotonic_ns, poll};
    use super::*;
    use crate::sys::Polled;
    use std::time::Duration;

    #[test]
    fn it_is_readable_from_its_moment_on_until_it_is_set_anew() {
        let alarm = Alarm::new().unwrap();
        let look = |ms| {
            let mut fds = [libc::pollfd { fd: alarm.fd().unwrap(), events: libc::POLLIN, revents: 0 }];
            poll(&mut fds, Some(Duration::from_millis(ms))).unwrap() == Polled::Ready(1)
        };
        assert!(!look(0));
        alarm.set(Some(monotonic_ns() + 1_000_000)).unwrap();
        assert!(look(60_000));
        alarm.set(Some(monotonic_ns() + 3_600_000_000_000)).unwrap();
        assert!(!look(0));
        // Long past.
        alarm.set(Some(0)).unwrap();
        assert!(look(60_000));
        alarm.set(None).unwrap();
        assert!(!look(0));
    }
}
